"""Values of neighbouring types (rulings 22 and 36), as the documented type or None.

These functions take any value and never raise.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from desk360_async import _json

Raw = dict[str, Any]

# Annotated as Any, since checkers narrow JSON's values to `dict[Unknown, Unknown]` otherwise.
OBJECT: Any = dict
LIST: Any = list
MAPPING: Any = Mapping

_from_epoch = datetime.fromtimestamp
_MILLISECONDS = 100_000_000_000  # ruling 36: epoch seconds reach this in the year 5138


def items(found: Any) -> list[Any]:
    """Return the entries of an object or a list, also of PHP's ways to write a list (ruling 22)."""
    rows = found if type(found) is LIST else _json.as_rows(found)
    return [item for item in rows if item is not None and item != {}]


def text(value: object) -> str | None:
    """Return a text, or a whole number as text; any other value is None, and stays in `.raw`.

    A float is no id: beyond 64 bits orjson rounds to one, and two ids might become equal.
    """
    if type(value) is str or value is None:
        return value
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def first(*values: Any) -> Any:
    """Return the first value that isn't None, or None."""
    for value in values:
        if value is not None:
            return value
    return None


def one(value: Any) -> Raw:
    """Return an object, or the first one of a list where one object was expected; else an empty one."""
    if type(value) is OBJECT:
        found: Raw = value
        return found
    empty: Raw = {}
    return next((item for item in items(value) if isinstance(item, OBJECT)), empty) if value else empty


def moment(value: Any) -> datetime | None:
    """Return epoch seconds or milliseconds, as text or number, as a moment in UTC (ruling 36)."""
    try:
        seconds = int(value) if type(value) is str else float(value)
        if seconds > _MILLISECONDS:
            seconds /= 1000
        return _from_epoch(seconds, UTC) if seconds > 0 and value is not True else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def degrees(value: object, most: int) -> float | None:
    """Return a number from -most to most, or None."""
    if type(value) is not float:
        try:
            value = float(value) if not isinstance(value, bool) else math.nan  # type: ignore[arg-type]  # TypeError is handled
        except (TypeError, ValueError, OverflowError):
            return None
    return value if -most <= value <= most else None
