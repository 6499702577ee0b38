"""Telephone numbers: read with care, written in E.164, compared as persons.

Rulings 19 and 19a. `parse_phone` reads the number of one message. `Reader` reads the numbers of lists, with a
region and the countries' numbering plans.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from attrs import frozen

from . import _numbering
from ._errors import InvalidMessage, mask_phone

# Patterns use `fullmatch` and [0-9]: `$` accepts a final newline, and `\d` the digits of every script.
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_E164_LINES = re.compile(r"(?:\+[1-9][0-9]{6,14}\n)*")
_DASHES = "\\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
# NBSP, similar spaces and bidi marks come with text that is copied from a web page.
_BLANK = re.compile("[ \\t\u00a0\u1680\u2000-\u200f\u202a-\u202f\u205f\u2060\u2066-\u2069\u3000\ufeff]")
_FORGIVEN = re.compile(f"[{_DASHES}.()\\[\\]]")
_TRUNK_ZERO = re.compile(r"[(\[][^0-9)\]]*0[^0-9)\]]*[)\]]")
# `+905551112233.0` is a float. Without its dot it would be another person's number.
_DECIMAL = re.compile(r"[^.]*\.[0-9]{1,2}|\+?[0-9]+,[0-9]{1,2}")
_EXPONENT = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+")
# `…22 33 - 44` names an extension or a second number, and has more digits than one number.
_TAIL = re.compile(f".*[0-9][{_DASHES}][0-9]{{1,2}}")
_LONGEST_WITH_TAIL = 13
_SHOWN = 10  # characters that an error shows of a text that is no number

_TEXT = "format the column as text"
_ONE_NUMBER = "write '+' and the digits 0 to 9 of one number, and nothing else"

# Slug → words: why a text is no phone number.
PROBLEMS = {
    "character": "it has a character that phone numbers don't have",
    "country_code": "a country code doesn't start with 0",
    "decimal": "it looks like a decimal number",
    "empty": "it is empty",
    "excel": "Excel wrote a number",
    "impossible": "its country has no such number",
    "length": "it has too few or too many digits",
    "letters": "letters in it",
    "no_country_code": "it must start with '+' and the country code",
    "not_text": "it isn't text",
    "not_valid": "without its dashes, dots and brackets it is no valid number",
    "region": "it is no valid number of the region",
    "tail": "the digits after its last dash make it too long",
    "trunk_zero": "it holds '(0)'",
}


@frozen
class Problem:
    """Why a text is no phone number.

    Attributes:
        slug: a key of `PROBLEMS`.
        text: the problem in words, and often a semicolon and the fix.
    """

    slug: str
    text: str

    @classmethod
    def of(cls, slug: str, fix: str) -> "Problem":
        """Return a problem with the words of `PROBLEMS`, and its fix."""
        return cls(slug, f"{PROBLEMS[slug]}; {fix}")

    def __str__(self) -> str:
        return self.text


def parse_phone(value: object, field: str = "to") -> str:
    """Return a phone number in E.164: `+`, country code, number; 7 to 15 digits.

    Blanks, dashes, dots and brackets between groups are removed. If dashes, dots or brackets were
    removed, the number must be valid in its country's plan (if the extra `phone` is installed).

    Args:
        value: the number as text.
        field: the field's name, for the error.

    Raises:
        InvalidMessage: if the value is no such number; the message shows its last characters only.
    """
    if isinstance(value, str) and E164.fullmatch(value):
        return value
    phone, problem = _read(value)
    if problem is not None:
        raise InvalidMessage(field, f"{_show(value)} is not a phone number: {problem}")
    return phone


def parse_phones(values: Iterable[object], field: str = "phones") -> tuple[str, ...]:
    """Return phone numbers in E.164, each person once, in the order of their first appearance.

    Raises:
        InvalidMessage: if a number is wrong; the error names the first one's position, as in `phones[3]`.
    """
    unique = _Unique()
    for index, value in enumerate(values):
        # The fast path first: building the field's name costs more than the whole check.
        if not (isinstance(value, str) and E164.fullmatch(value)):
            value = parse_phone(value, f"{field}[{index}]")  # the same number, in E.164
        unique.setdefault(person_of(value) if value.startswith(_TWINS) else value, value)
    return tuple(unique.values())


def normalize_phone(text: str, *, region: str | None = None) -> str:
    """Return a phone number in E.164, by the rules of lists (rulings 19 and 19a).

    With the extra `phone`, the number must be possible in its country's numbering plan.

    Args:
        text: the number, such as "+90 555 111 22 33", without other text.
        region: two letters, such as "TR": numbers without `+` are read as dialled in it (extra `phone`).

    Raises:
        InvalidMessage: if the text is no phone number; the message holds the reason and the fix.
        ConfigurationError: if there is no such region, or the extra isn't installed.

    Example:
        ```python
        normalize_phone("0555 111 22 33", region="TR")  # '+905551112233'
        ```
    """
    return Reader(region).read(text, "phone")


class Reader:
    """Reads the phone numbers of a list.

    Args:
        region: two letters, such as "TR": numbers without `+` are read as dialled in it.

    Raises:
        ConfigurationError: if there is no such region, or the extra `phone` isn't installed.
    """

    def __init__(self, region: str | None = None) -> None:
        self._region = None if region is None else _numbering.check_region(region)
        self._plans = _numbering.is_installed()
        self._matches: dict[str, _numbering.Match] = {}  # by a number's first three digits

    def is_plain(self, text: str) -> bool:
        """Whether a text is in E.164 already, and valid in its country's plan (if plans are installed)."""
        match = self._matches.get(text[1:4])
        if match is None:
            if E164.fullmatch(text) is None:
                return False
            match = _numbering.matcher(text[1:4]) if self._plans else E164.fullmatch
            self._matches[text[1:4]] = match
        return match(text) is not None

    def are_plain(self, texts: Sequence[str]) -> bool:
        """Whether all of several texts are plain. One match checks all numbers of a country."""
        lines = "\n".join((*texts, ""))
        if lines.count("\n") == len(texts):  # no text has two lines
            if not self._plans:
                return _E164_LINES.fullmatch(lines) is not None
            if texts and self._share_a_plan(texts, lines):
                return True
        return all(map(self.is_plain, texts))

    def _share_a_plan(self, texts: Sequence[str], lines: str) -> bool:
        """Whether one country's plan has all of several texts; False is no verdict."""
        head = texts[0][1:4]
        # Both ends are compared, so that a list of many countries doesn't compile a pattern for each.
        if head != texts[-1][1:4] or not self.is_plain(texts[0]):
            return False
        return _numbering.lines_matcher(head)(lines) is not None

    def is_possible(self, text: str) -> bool:
        """Whether a text is in E.164 and certainly possible in its country's plan; it may still be invalid.

        False is no verdict: `judge` then decides.
        """
        return (
            self._plans
            and E164.fullmatch(text) is not None
            and _numbering.possible_matcher(text[1:4])(text) is not None
        )

    def is_valid(self, phone: str) -> bool:
        """Whether a number in E.164 is valid in its country's plan; true where plans aren't installed."""
        return not self._plans or is_valid(phone)

    def read(self, value: object, field: str = "phone") -> str:
        """Return a number in E.164.

        Raises:
            InvalidMessage: if the value is no phone number, or is impossible in its country's plan.
        """
        phone, problem = self.judge(value)
        if problem is not None:
            raise InvalidMessage(field, f"{_show(value)} is not a phone number: {problem}")
        return phone

    def judge(self, value: object) -> tuple[str, Problem | None]:
        """Return a number in E.164 and None, or "" and why it is no phone number."""
        phone, problem = _read(value, self._region)
        if problem is None and self._plans and not is_valid(phone):
            problems = [_numbering.problem(f"+{spelling}") for spelling in spellings_of(phone)]
            if None not in problems:
                problem = Problem("impossible", str(_numbering.problem(phone)))
        return ("", problem) if problem else (phone, None)


def is_valid(phone: str) -> bool:
    """Whether a number in E.164, or another spelling of it (ruling 19a), is valid in its country's plan."""
    return _numbering.is_valid(phone) or any(_numbering.is_valid(f"+{n}") for n in spellings_of(phone))


def _read(value: object, region: str | None = None) -> tuple[str, Problem | None]:
    """Return a number in E.164 and None, or "" and the problem."""
    if not isinstance(value, str):
        fix = f"; {_TEXT}" if isinstance(value, int | float) else ""
        text = f"a phone number is text like '+905551112233', not {type(value).__name__}{fix}"
        return "", Problem("not_text", text)
    text = _BLANK.sub("", value)
    problem = _spelling_problem(text)
    if problem is not None:
        return "", problem
    bare = _FORGIVEN.sub("", text)
    if E164.fullmatch(bare):
        # A number with dashes, dots or brackets must also be valid in its country's plan.
        if bare != text and _numbering.is_installed() and not is_valid(bare):
            return "", Problem.of("not_valid", _ONE_NUMBER)
        return bare, None
    if region is not None and bare and not bare.startswith("+"):
        local = _numbering.read_local(bare, region)
        return (local, None) if local else ("", Problem("region", f"{PROBLEMS['region']} {region}"))
    return "", _explain(bare)


def _spelling_problem(text: str) -> Problem | None:
    """Return the first problem with a text's characters; None if a phone number may have them."""
    if _EXPONENT.fullmatch(text):
        return Problem.of("excel", _TEXT)
    if any(c.isalpha() for c in text):
        return Problem.of("letters", _ONE_NUMBER)
    if _TRUNK_ZERO.search(text):
        return Problem.of("trunk_zero", "leave that zero out, as in a call from abroad")
    if _DECIMAL.fullmatch(text):
        return Problem.of("decimal", _TEXT)
    bare = _FORGIVEN.sub("", text)
    strange = next((c for c in bare.removeprefix("+") if c not in "0123456789"), None)
    if strange is not None:
        name = unicodedata.name(strange, f"U+{ord(strange):04X}")
        return Problem("character", f"{name} in it; {_ONE_NUMBER}")
    if _TAIL.fullmatch(text) and len(digits_of(bare)) > _LONGEST_WITH_TAIL:
        return Problem.of("tail", _ONE_NUMBER)
    return None


def _explain(bare: str) -> Problem:
    """Return why digits, with or without `+`, aren't E.164."""
    if not bare:
        return Problem.of("empty", "write '+', the country code and the number")
    if not bare.startswith("+"):
        text = (
            f"{PROBLEMS['no_country_code']}, like '+905551112233'; for local numbers name their region: "
            "normalize_phone(text, region='TR'), in the terminal --region TR"
        )
        return Problem("no_country_code", text)
    if bare[1:2] == "0":
        return Problem.of("country_code", "write the number as it is dialled from abroad")
    return Problem("length", f"7 to 15 digits may follow the '+', found {len(bare) - 1}; {_ONE_NUMBER}")


def _show(value: object) -> str:
    """Return a number's last characters. A text with fewer than five digits is no number; it is shown."""
    if not isinstance(value, str):
        return "it"
    if len(digits_of(value)) < 5 and value.isprintable():
        return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
    return repr(mask_phone(value))


class Phone(str):
    """A phone number whose repr is masked, for tracebacks and logs that print local variables.

    `str(phone)`, formatting and JSON have the whole number.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(mask_phone(str(self)))


class Phones(tuple[str, ...]):
    """Phone numbers whose repr is their count, for tracebacks and logs that print local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} phones>"


class _Unique(dict[object, str]):
    def __repr__(self) -> str:
        return f"<{len(self)} phones>"


def digits_of(phone: str) -> str:
    """Return a phone number's digits, without the characters that group them."""
    return "".join(c for c in phone if c in "0123456789")


# ── persons ────────────────────────────────────────────────────────────────────────────────────────────────

# The countries whose mobiles WhatsApp writes in two ways (ruling 19a).
_TWINS = ("+54", "+52", "+55")


def person_of(phone: str | int) -> int:
    """Return a number that is the same for every spelling of one person's phone (ruling 19a).

    WhatsApp writes the mobiles of three countries with and without one digit: in Argentina 9 after 54, in
    Mexico 1 after 52, in Brazil the ninth digit. The result lacks that digit. Use the result only to compare:
    messages go to the number as it was given.

    Args:
        phone: a number with its country code, as text or as an int. A text without digits gives 0.
    """
    number = phone if isinstance(phone, int) else int(digits_of(phone) or 0)
    head = number // 10**10
    if head in (549, 521):
        return head // 10 * 10**10 + number % 10**10
    if head // 10 == 55 and number // 10**8 % 10 == 9:
        return number // 10**9 * 10**8 + number % 10**8
    return number


def spellings_of(phone: str | int) -> tuple[int, ...]:
    """Return all spellings of one person's phone (see `person_of`): two in three countries, else one."""
    person = person_of(phone)
    head, rest = divmod(person, 10**10)
    if head in (54, 52):
        return person, (head * 10 + (9 if head == 54 else 1)) * 10**10 + rest
    if head == 55:
        area, rest = divmod(person, 10**8)
        return person, (area * 10 + 9) * 10**8 + rest
    return (person,)
