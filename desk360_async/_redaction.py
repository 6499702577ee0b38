"""Masks the key, whole phone numbers and message ids in answers and in logs.

Our own log lines never contain them. But httpx and httpcore log whole URLs at INFO and headers at DEBUG. A
program that shows these logs installs the filter.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from reprlib import recursive_repr
from typing import Any

from attrs import AttrsInstance, fields

from ._errors import mask_phone

# A shorter piece of a key could be a part of an ordinary word.
_SHORTEST_PIECE = 8
_MASK = "[key]"

_NUMBER = re.compile(r"[0-9]{7,}")
# A number with the characters that people write between digits. It is a second pass, since this pattern
# could join two neighbouring numbers.
_SPACED_NUMBER = re.compile(r"[0-9]{1,6}(?:[ ().\-\u00a0]{1,2}[0-9]+){1,12}")
# Certainly a phone: a plus (plain or escaped) and 7 to 15 digits.
_PLUS = re.compile(r"(\+|%2B|\\u002b)([1-9](?:[ ().\-\u00a0]{0,2}[0-9]){6,14})(?![0-9])", re.IGNORECASE)
# Possibly a phone: 10 to 15 digits on their own, as the vendor's webhooks write phones. The digits are no
# piece of a word, a UUID or a fraction. They are no time in seconds or milliseconds since 1970.
_BARE = re.compile(r"(?<![\w.\-])(?!1[0-9]{9}(?:[0-9]{3})?(?![0-9]))[0-9]{10,15}(?![\w\-])")
_E164 = re.compile(r"(?:\+|%2B)([1-9][0-9]{6,14})", re.IGNORECASE)
_MESSAGE_ID = re.compile(r"\b(?:gBEG|ABEG|wamid\.)[A-Za-z0-9_+/=-]{4,}")
_BEARER = re.compile(r"\b(bearer|basic)(\s+|%20)[^\s'\",;)\]}]+", re.IGNORECASE)
# A URL's user and password, up to the last "@" before the host's end.
_USERINFO = re.compile(r"(//[^\s/:@?#]*):[^\s/?#]*@")
# The user and password of a DSN. libpq allows "?" and "#" in a password, and users forget to escape "/" and
# "@". So the password ends at the last "@" before a blank. In a text that is a DSN, it may hold blanks too.
_DSN = re.compile(r"(postgres(?:ql)?://[^\s/:@]*):\S*@")
_WHOLE_DSN = re.compile(r"(\Apostgres(?:ql)?://[^/:@]*):.*@", re.DOTALL)
# A password as libpq writes it.
_PASSWORD = re.compile(r"\b(password|passfile)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE)

# Each child logger needs the filter too: a logger's filter doesn't filter the records of its children.
_LOGGERS = tuple(name + suffix for suffix in ("", "2") for name in ("httpx", "httpcore")) + tuple(
    f"httpcore{suffix}.{part}"
    for suffix in ("", "2")
    for part in ("connection", "http11", "http2", "proxy", "socks")
)


class Secret(str):
    """Text with a masked repr, as tracebacks may print local variables; formatting gives the whole text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[secret]'"


def key_pieces(key: str) -> tuple[str, ...]:
    """Return a key's runs of plain characters, to look for; JSON and HTML escape its other characters."""
    return tuple(piece for piece in re.findall(r"[A-Za-z0-9_-]+", key) if len(piece) >= _SHORTEST_PIECE)


def without(text: str, pieces: Iterable[str]) -> str:
    """Return the text with the pieces of a key masked."""
    for piece in pieces:
        text = text.replace(piece, _MASK)
    return text


def mask_phones(text: str, phones: Iterable[str]) -> str:
    """Return the text with these phones (in E.164 or digits) and all message ids cut to their last four.

    A phone is found in each spelling: without the country's code, with a 0 in front, in groups. Any other
    number that looks like a phone is cut too, since the server may name another person's phone. Short ids
    and times are kept. A bare id of 10 to 15 digits looks like a phone, so only its last four digits stay.
    """
    tails = {phone[-7:] for phone in phones}

    def mask(found: re.Match[str]) -> str:
        digits = re.sub(r"[^0-9]", "", found[0])
        return mask_phone(digits) if digits[-7:] in tails else found[0]

    if tails:
        text = _SPACED_NUMBER.sub(mask, _NUMBER.sub(mask, text))
    text = _PLUS.sub(lambda found: found[1] + mask_phone(re.sub(r"[^0-9]", "", found[2])), text)
    return mask_ids(_BARE.sub(lambda found: mask_phone(found[0]), text))


def phones_in(text: str) -> frozenset[str]:
    """Return the digits of the E.164 numbers in a text, percent-encoded or not."""
    return frozenset(_E164.findall(text))


def mask_ids(text: str) -> str:
    """Return the text with message ids cut, since an id decodes to the phone."""
    return _MESSAGE_ID.sub(lambda found: mask_phone(found[0]), text)


def mask_numbers(text: str) -> str:
    """Return the text with every number that may be a phone cut to its last four digits."""
    return mask_ids(_NUMBER.sub(lambda found: mask_phone(found[0]), text))


def masked_repr(value: object) -> str:
    """Return a repr with all message ids cut, and all numbers that may be phones, in groups or not."""
    return mask_numbers(_SPACED_NUMBER.sub(_mask_if_long, repr(value)))


def _or_half_made(whole: Callable[[Any], str]) -> Callable[[Any], str]:
    @wraps(whole)
    def show(value: object) -> str:
        try:
            return whole(value)
        except AttributeError:
            return f"<{type(value).__name__}, half made>"

    return show


@_or_half_made
@recursive_repr()
def _show_fields(value: AttrsInstance) -> str:
    """Return a repr as attrs makes it."""
    shown = [
        f"{each.name}={(each.repr if callable(each.repr) else repr)(getattr(value, each.name))}"
        for each in fields(type(value))
        if each.repr
    ]
    return f"{type(value).__qualname__}({', '.join(shown)})"


def show_half_made(names: Mapping[str, object]) -> None:
    """Give the classes of a module or package a repr that works before their attributes are set.

    If a constructor refuses a value, a traceback with local variables calls the repr of the half-made object.
    Before Python 3.13 an exception in a repr replaces the whole traceback.

    attrs classes with `repr=False` share one function. attrs compiles a repr for each class, which took 8 of
    the 180 ms of an import, a client and a first send.

    Args:
        names: the `globals()` of the module or package, after its last class.
    """
    home = str(names["__name__"])
    for kind in list(names.values()):
        if not isinstance(kind, type) or not kind.__module__.startswith(home):
            continue
        whole = vars(kind).get("__repr__")
        if whole is not None and not hasattr(whole, "__wrapped__"):
            setattr(kind, "__repr__", _or_half_made(whole))  # noqa: B010  # checkers forbid the assignment
        elif whole is None and "__attrs_attrs__" in vars(kind):
            setattr(kind, "__repr__", _show_fields)  # noqa: B010


def _mask_if_long(found: re.Match[str]) -> str:
    digits = re.sub(r"[^0-9]", "", found[0])
    return mask_phone(digits) if len(digits) >= 7 else found[0]


def mask_dsn(text: str) -> str:
    """Return the text with the passwords of URLs (`//user:…@`) and of `password=…` masked."""
    for pattern in (_WHOLE_DSN, _DSN, _USERINFO):
        text = pattern.sub(r"\1:[password]@", text)
    return _PASSWORD.sub(r"\1\2[password]", text)


class Redaction(logging.Filter):
    """Masks keys, anything after `Bearer`, phone numbers and message ids in log records.

    Args:
        keys: the API keys to look for.
    """

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self._pieces = [piece for key in keys for piece in (key_pieces(key) or (key,)) if piece]

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record, and return True, so that it is logged."""
        record.msg = self.clean(record.getMessage())
        record.args = ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.clean(record.exc_text)
        return True

    def clean(self, text: str) -> str:
        """Return a text with keys, the text after `Bearer`, passwords, phones and message ids masked."""
        text = _BEARER.sub(lambda found: f"{found[1]} {_MASK}", without(text, self._pieces))
        return mask_numbers(mask_dsn(text))


def redact_logs(*keys: str) -> None:
    """Install the filter on the loggers of httpx and httpcore; it replaces an earlier `Redaction`.

    Args:
        keys: the API keys to look for; the text after `Bearer` is masked anyway.
    """
    ours = Redaction(*keys)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for old in [f for f in logger.filters if isinstance(f, Redaction)]:
            logger.removeFilter(old)
        logger.addFilter(ours)


def masked_headers(headers: Mapping[str, str], pieces: Iterable[str]) -> dict[str, str]:
    """Return headers with the pieces of a key masked, since a server's debug page may echo the request."""
    pieces = tuple(pieces)
    return {name: without(value, pieces) for name, value in headers.items()}
