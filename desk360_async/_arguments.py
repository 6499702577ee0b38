"""Numbers and choices that callers pass: each is checked here, with one wording for its error.

A function here names no argument of its own: the caller gives the argument's name and bounds.
"""

import math
import os
import re
from collections.abc import Iterable
from typing import TypeVar

from ._errors import ConfigurationError

T = TypeVar("T")

_DIGITS = re.compile(r"[0-9]{1,18}")


def whole(
    name: str,
    value: object,
    *,
    least: int = 0,
    most: int | None = None,
    digits: bool = False,
    meaning: str = "",
) -> int:
    """Return a whole number between two bounds; True and False are no numbers.

    Args:
        name: the argument's name, for the error.
        value: the number as the caller passed it.
        least: the lowest number allowed.
        most: the highest number allowed; None means no limit.
        digits: whether text of ASCII digits is a number too, as in an environment variable.
        meaning: the argument's unit or purpose, for the error.

    Raises:
        ConfigurationError: if the value is no whole number or breaks a bound.
    """
    if digits and isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and least <= value
        and (most is None or value <= most)
    ):
        return value
    bounds = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"
    raise _refusal(name, f"a whole number {bounds}", value, meaning)


def seconds(
    name: str,
    value: object,
    *,
    least: float = 0.0,
    most: float = math.inf,
    positive: bool = False,
    meaning: str = "",
) -> float:
    """Return a number of seconds between two bounds; NaN, True and False are no numbers.

    Args:
        name: the argument's name, for the error.
        value: the number as the caller passed it.
        least: the lowest number allowed, in seconds.
        most: the highest number allowed, in seconds; `math.inf` itself allows an endless time.
        positive: whether 0 is refused.
        meaning: the argument's purpose, for the error.

    Raises:
        ConfigurationError: if the value is no number or breaks a bound.
    """
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and least <= value <= most
        and (value > 0 or not positive)
    ):
        return value
    above = "of more than 0" if positive and least <= 0 else f"of {least:g} or more"
    bounds = above if most == math.inf else f"from {least:g} to {most:g}"
    raise _refusal(name, f"a number of seconds {bounds}", value, meaning)


def one_of(name: str, value: object, choices: Iterable[T]) -> T:
    """Return one of the choices.

    Args:
        name: the argument's name, for the error.
        value: the choice as the caller passed it.
        choices: the values allowed.

    Raises:
        ConfigurationError: if the value is no choice; the message lists the choices.
    """
    allowed = tuple(choices)
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return choice
    *others, last = map(repr, allowed)
    raise _refusal(name, f"{', '.join(others)} or {last}" if others else last, value, "")


def require_path(path: str | os.PathLike[str], name: str) -> None:
    """Refuse an empty path, and SQLite's name for a store without a file.

    Raises:
        ConfigurationError: the path is empty or ":memory:".
    """
    if os.fspath(path) in ("", ":memory:"):
        message = f"{name} needs a file's path, not {os.fspath(path)!r}: it has to outlive the process"
        raise ConfigurationError(message)


def shown(value: object) -> str:
    """Return a value's repr for an error, at most 40 characters: Python refuses to write huge integers."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} characters)"


def _refusal(name: str, wanted: str, value: object, meaning: str) -> ConfigurationError:
    purpose = f" ({meaning})" if meaning else ""
    return ConfigurationError(f"{name} must be {wanted}{purpose}, got {shown(value)}")
