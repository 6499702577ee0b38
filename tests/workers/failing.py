"""Errors with a cause."""

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def caused_by(error: E, cause: BaseException) -> E:
    """Return the error as `raise error from cause` leaves it."""
    error.__cause__ = cause
    return error
