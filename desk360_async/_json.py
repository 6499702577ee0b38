"""JSON from outside, read by one set of rules: the API's answers and webhooks' bodies (rulings 22 and 32a).

- A BOM is skipped. A charset other than UTF-8 is honoured; a text in an unknown charset is read as UTF-8.
- NaN and Infinity are errors, and so are more than 100 levels and more than 8 MiB.
- A lone surrogate becomes U+FFFD: no database and no log can store one.
- Of equal keys the last one counts. An integer of more than 4,299 digits stays text.

orjson (the extra `speed`) changes no result: if orjson refuses a text, the standard library reads the text
again. This module doesn't use cattrs, messages or events.
"""

# pyright: basic
# Pyright is on basic, since decoded JSON is Any throughout; mypy --strict checks the rest.

import codecs
import json
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn, TypeGuard

try:  # the extra `speed`
    from orjson import loads as _fast_loads
except ImportError:
    _fast_loads = None  # type: ignore[assignment]  # the standard library takes over

MAX_BYTES = 8 * 1024 * 1024  # no JSON answer of this API comes near it (ruling 32a)
MAX_LEVELS = 100  # the documented bodies have six; deeper values break the code that prints or walks them
MAX_INDEX = 6  # digits of a PHP list's index; a longer number is a key, such as a phone


class UnreadableJSON(ValueError):
    """The text is no JSON by this module's rules. The error's message is the reason; it quotes no content."""


# ── text to values ─────────────────────────────────────────────────────────────────────────────────────


def decode(body: bytes | str, content_type: str = "") -> Any:
    """Return the value that a JSON text holds.

    Args:
        body: the whole text, at most 8 MiB.
        content_type: the header's value; its charset is honoured if `body` is bytes.

    Raises:
        UnreadableJSON: if the text is broken, too large, too deep, or not in its charset.
    """
    if len(body) > MAX_BYTES:
        raise UnreadableJSON(f"it is larger than {MAX_BYTES // 1024**2} MiB")
    if _fast_loads is not None and not (content_type and _needs_charset(content_type)):
        try:
            value = _fast_loads(body)
        except (ValueError, RecursionError):
            pass  # the standard library decides, so that the extra changes no text's meaning
        else:
            return _checked(value, body)
    try:
        if isinstance(body, str):
            return _decode_by_json(body, is_checked=False)
        return _decode_by_json(_text(body, content_type), is_checked=True)  # no charset has a lone surrogate
    except RecursionError:
        raise UnreadableJSON(f"it is nested more than {MAX_LEVELS} levels deep") from None
    except json.JSONDecodeError as error:
        raise UnreadableJSON(f"{error.msg} at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise UnreadableJSON(f"{error.reason} at byte {error.start}") from None


def decode_own(text: str) -> Any:
    """Return the value of a JSON text that this package or SQLite wrote, which needs no check."""
    return json.loads(text) if _fast_loads is None else _fast_loads(text)


def salvage(body: bytes, content_type: str = "") -> Any:
    """Return the value that a JSON text holds, with or without a PHP warning before it (ruling 32a).

    Raises:
        UnreadableJSON: if no JSON begins at the text's start or at the start of a line.
    """
    try:
        return decode(body, content_type)
    except UnreadableJSON as error:
        reason = str(error)
    for start in [m.start() for m in re.finditer(rb"^[\[{]", body, re.MULTILINE)][:4]:
        try:
            return decode(body[start:], content_type)
        except UnreadableJSON:
            continue
    raise UnreadableJSON(reason)


def text_of(body: bytes, content_type: str) -> str:
    """Return a body as readable text: in its charset if that is known, with U+FFFD for broken bytes."""
    return _text(body, content_type, "replace")


def _decode_by_json(text: str, *, is_checked: bool) -> Any:
    text = text.removeprefix("\ufeff")
    try:
        value = _strict.decode(text)
    except json.JSONDecodeError:
        raise
    except UnreadableJSON:
        raise
    except ValueError:  # CPython's limit on int()
        value = _lenient.decode(text)
    value = _checked(value, text)
    # A pair of escapes is a character beyond U+FFFF; only half a pair is replaced.
    escaped = "\\" in text and ("\\ud" in text or "\\uD" in text)  # most texts have no escape at all
    return _without_surrogates(value) if escaped or not (is_checked or is_utf8(text)) else value


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableJSON(f"{name} is no JSON number")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < sys.int_info.default_max_str_digits else digits


_strict = json.JSONDecoder(parse_constant=_refuse_constant)
_lenient = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def _checked(value: Any, body: bytes | str) -> Any:
    """Return the value if it has at most 100 levels. A text with at most 100 brackets isn't walked."""
    brackets = body.count(b"{") if isinstance(body, bytes) else body.count("{")
    if brackets <= MAX_LEVELS:  # else the second count isn't needed, which takes 2 % of a page of templates
        brackets += body.count(b"[") if isinstance(body, bytes) else body.count("[")
    if brackets > MAX_LEVELS:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(MAX_LEVELS + 1):
        # Exact classes are compared, since both decoders make these; isinstance takes three times as long.
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise UnreadableJSON(f"it is nested more than {MAX_LEVELS} levels deep")


def is_utf8(text: str) -> bool:
    """Return whether a text can be stored as UTF-8: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        if is_utf8(value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


# ── charsets ───────────────────────────────────────────────────────────────────────────────────────────

# Python has codecs that are no charsets; some need time that grows with the square of the text.
_CHARSET = re.compile(
    r"(us-)?ascii|utf[-_]?(8|16|32)([-_]?[bl]e)?|latin-?1|(iso[-_]?|windows-?|cp|koi8-|gb|big|euc-|shift_)[a-z0-9_-]+",
    re.IGNORECASE,
)


def _charset_of(content_type: str) -> str:
    found = re.search(r"charset=\"?([A-Za-z0-9._-]{1,40})", content_type, re.IGNORECASE)
    return found[1] if found else "utf-8"


@lru_cache(maxsize=64)  # a server's answers have the same few content types
def _codec_of(content_type: str) -> str | None:
    """Return the charset that a header names, or None if that is no charset's name."""
    name = _charset_of(content_type)
    return name if _CHARSET.fullmatch(name) else None


@lru_cache(maxsize=64)
def _needs_charset(content_type: str) -> bool:
    return "charset" in content_type.lower() and _charset_of(content_type).lower() not in ("utf-8", "utf8")


def _text(body: bytes, content_type: str, errors: str = "strict") -> str:
    if body.startswith(codecs.BOM_UTF8):
        return body[3:].decode(errors=errors)
    if name := _codec_of(content_type):
        try:
            return body.decode(name, errors)
        except LookupError:
            pass
    try:
        return body.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        name = _charset_of(content_type)
        raise UnreadableJSON(f"its charset {name!r} is unknown, and byte {error.start} is no UTF-8") from None


# ── lists and objects as PHP writes them ───────────────────────────────────────────────────────────────


def as_rows(value: object) -> list[Any]:
    """Return the rows of a PHP list: without holes and nulls, one object as one row, `{"data": …}` opened.

    An object with `data` and other keys is opened too, unless an `id` shows that it is a row (ruling 22).
    """
    while (
        isinstance(value, Mapping) and isinstance(value.get("data"), list | dict) and value.get("id") is None
    ):
        value = value["data"]
    if isinstance(value, Mapping) and all(map(_is_index, value)):
        value = list(value.values())  # {}, or a PHP list with holes: {"0": …, "2": …}
    rows = value if isinstance(value, list | tuple) else [value]
    return [row for row in rows if row is not None]


def _is_index(key: object) -> bool:
    return isinstance(key, str) and len(key) <= MAX_INDEX and key.isascii() and key.isdigit()


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a decoded value is an object, whose keys are text."""
    return isinstance(value, Mapping)


def as_object(value: object) -> dict[str, Any]:
    """Return an object as PHP means it: `[]` is an empty object, a list of one object is that object."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    return value if isinstance(value, dict) else {}
