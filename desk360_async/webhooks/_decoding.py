"""Bytes or text → one JSON object, the same with orjson and without. Nothing about events lives here.

orjson is three times as fast and stricter than JSON: it refuses an escaped lone surrogate, which any
customer's telephone can produce. So what it refuses, the standard library reads once more, by our rules:
NaN and Infinity are no JSON, lone surrogates become U+FFFD (no database and no log takes them), a BOM is
skipped (ruling 32a), of two equal keys the last counts, an integer of thousands of digits stays text.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from desk360_async._errors import InvalidWebhook
from desk360_async.webhooks._events import excerpt

DEEPEST = 100
"""Levels of nesting; the documented bodies have six. Deeper ones break whoever walks or prints `.raw`."""

# As Any: checkers would narrow to `dict[Unknown, Unknown]`.
_OBJECT: Any = dict
_LIST: Any = list

try:
    import orjson
except ImportError:
    _quick: Callable[[bytes | str], Any] | None = None
else:
    _quick = orjson.loads


def decoded(body: bytes | str) -> Any:
    """Return the JSON value that `body` holds.

    Raises:
        InvalidWebhook: it holds none, or one that is nested more than 100 deep.
    """
    if _quick is not None:
        try:
            value = _quick(body)
        except ValueError:
            return _patiently(body)
    else:
        return _patiently(body)
    if isinstance(body, bytes):
        brackets = body.count(b"{") + body.count(b"[")
    else:
        brackets = body.count("{") + body.count("[")
    if brackets > DEEPEST:
        _check_depth(value)
    return value


def _patiently(body: bytes | str) -> Any:
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body.removeprefix("\ufeff")
        value = _loads(text)
        if text.count("{") + text.count("[") > DEEPEST:
            _check_depth(value)
    except RecursionError:
        raise refused(body, "it is nested too deep") from None
    except ValueError as error:
        raise refused(body, f"it is not JSON: {_reason(error)}") from None
    # A pair of escapes is a character beyond U+FFFF; only half a pair needs mending.
    halves = "\\ud" in text or "\\uD" in text or (isinstance(body, str) and not _encodes(text))
    return _mended(value) if halves else value


def _loads(text: str) -> Any:
    try:
        return _strict.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        if "digits" not in str(error):  # CPython's limit on int(); anything else is a constant such as NaN
            raise
        return _lenient.decode(text)


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return f"{error.reason} at byte {error.start}"
    return str(error)


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON number"
    raise ValueError(message)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < sys.int_info.default_max_str_digits else digits


_strict = json.JSONDecoder(parse_constant=_no_constant)
_lenient = json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer)


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise InvalidWebhook(f"the webhook's body is nested more than {DEEPEST} levels deep")


def _children(value: Any) -> list[Any]:
    if isinstance(value, _OBJECT):
        value = list(value.values())
    children: list[Any] = value if isinstance(value, _LIST) else []
    return children


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value if _encodes(value) else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, _LIST):
        return [_mended(item) for item in value]
    if isinstance(value, _OBJECT):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def refused(body: bytes | str, problem: str) -> InvalidWebhook:
    """Return the error for a body, with a short excerpt in which numbers and ids are masked."""
    start = body[:400]
    text = start.decode(errors="replace") if isinstance(start, bytes) else start
    quoted = f": {excerpt(text)}" if text else ""
    return InvalidWebhook(f"the webhook's body can't be read{quoted}; {problem}", problems=[problem])
