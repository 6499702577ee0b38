"""Telephone numbers: read forgivingly, written exactly. E.164 with `+`, and nothing else lives here."""

import re
import unicodedata
from collections.abc import Iterable

from ._errors import InvalidMessage, mask_phone

# `fullmatch` and [0-9], since `$` lets a final newline through and `\d` the digits of every script.
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
# What people and spreadsheets put inside: blanks (NBSP and its kin), dashes, dots, brackets, bidi marks.
_FORGIVEN = re.compile(
    "[ \\t\u00a0\u1680\u2000-\u200f\u202a-\u202f\u205f\u2060\u2066-\u2069\u3000\ufeff"
    "\\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d.()\\[\\]]"
)
_TRUNK_ZERO = re.compile(r"[(\[][^0-9)\]]*0[^0-9)\]]*[)\]]")


def parse_phone(value: object, field: str = "to") -> str:
    """Return a phone number in E.164: `+`, country code, number; 7 to 15 digits.

    Blanks, dashes, dots and brackets inside are forgiven and removed.

    Args:
        value: the number as somebody wrote it.
        field: the field's name, for the error.

    Raises:
        InvalidMessage: if it is anything else; the message shows its last characters only.
    """
    if not isinstance(value, str):
        raise InvalidMessage(
            field, f"a phone number is text like '+905551112233', not {type(value).__name__}"
        )
    if _E164.fullmatch(value):
        return value
    if _TRUNK_ZERO.search(value):
        raise InvalidMessage(
            field, f"{mask_phone(value)!r} holds '(0)'; leave that zero out, as one does from abroad"
        )
    bare = _FORGIVEN.sub("", value)
    if _E164.fullmatch(bare):
        return bare
    raise InvalidMessage(field, f"{mask_phone(value)!r} is not a phone number in E.164: {_explain(bare)}")


def _explain(bare: str) -> str:
    if not bare:
        return "it is empty; write '+', the country code and the number"
    if not bare.startswith("+"):
        return "it must start with '+' and the country code, like '+905551112233'"
    strange = next((c for c in bare[1:] if c not in "0123456789"), None)
    if strange is not None:
        name = unicodedata.name(strange, f"U+{ord(strange):04X}")
        return f"only the digits 0 to 9 may follow the '+', found {name}"
    if bare[1:2] == "0":
        return "a country code doesn't start with 0"
    return f"7 to 15 digits may follow the '+', found {len(bare) - 1}"


def digits_of(phone: str) -> str:
    """Return the digits alone: what two spellings of one number have in common."""
    return "".join(c for c in phone if c in "0123456789")


def parse_phones(values: Iterable[object], field: str = "phones") -> tuple[str, ...]:
    """Return phone numbers in E.164, each once, in the order of their first appearance.

    Raises:
        InvalidMessage: names the position of the first number that is none, as in `phones[3]`.
    """
    unique: dict[str, None] = {}
    for index, value in enumerate(values):
        # The fast path first: building the field's name costs more than the whole check.
        if isinstance(value, str) and _E164.fullmatch(value):
            unique[value] = None
        else:
            unique[parse_phone(value, f"{field}[{index}]")] = None
    return tuple(unique)
