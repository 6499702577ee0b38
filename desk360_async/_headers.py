"""The rate limit in an answer's headers: pure functions that read, and never raise.

Each takes the headers as a mapping of lower-cased names to values. Any of them may be garbage (a proxy's
page has other ideas of `Retry-After`), so an implausible number counts as absent. Only headers belong here.

Implements "Rate Limit" of the vendor's document.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple, Self

__all__ = [
    "ServerLimit",
    "of_read",
    "parse_limit",
    "parse_remaining",
    "parse_reset",
    "refusal_wait",
    "retry_after",
]

LARGEST_LIMIT = 10_000
LONGEST_WAIT = 3600.0

# `str.isdigit` and `\d` take other scripts' digits, and `int` takes "1_0", "+1" and blanks inside.
_DIGITS = re.compile(r"[0-9]+")
_EPOCH = re.compile(r"[0-9]{1,15}")
_OF_THE_LIMIT = ("x-ratelimit-limit", "x-ratelimit-remaining")
_SIGNED = re.compile(r"-?[0-9]{1,9}")
# The standard library's reader is forgiving enough to find dates in prose; a time of day is the least.
_TIME_OF_DAY = re.compile(r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9]")
# No longer than that, so that a caller's date arithmetic can't overflow.
_FOREVER = 1e9
# A reset further off than that is no epoch in seconds, but milliseconds or a duration.
_PLAUSIBLE_RESET = 86_400.0


class ServerLimit(NamedTuple):
    """The server's own words on the rate limit, from the last answer that had any ("Rate Limit").

    Attributes:
        limit: `X-RateLimit-Limit`, requests per period, or None.
        remaining: `X-RateLimit-Remaining`, requests, or None.
        reset: `X-RateLimit-Reset`, seconds since 1970, or None; the server sends it with a refusal.
    """

    limit: int | None
    remaining: int | None
    reset: int | None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Self | None:
        """Return the words of an answer's headers; None where they are missing or unreadable."""
        reset = headers.get("x-ratelimit-reset", "").strip(" \t")
        limit, remaining = parse_limit(headers), parse_remaining(headers)
        epoch = int(reset) if _EPOCH.fullmatch(reset) else None
        return None if limit is remaining is epoch is None else cls(limit, remaining, epoch)


def of_read(headers: Mapping[str, str], limit: int) -> Mapping[str, str]:
    """Return the headers of a read's answer as far as they may speak of sends.

    The server may give reads and sends limits of their own (ruling 29). So a read's limit above ours is the
    reads' alone: it and its remainder are left out.

    Args:
        headers: the answer's headers.
        limit: requests per period that sends may make.
    """
    told = parse_limit(headers)
    if told is None or told <= limit:
        return headers
    return {name: value for name, value in headers.items() if name not in _OF_THE_LIMIT}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds the server asks us to wait.

    `Retry-After` in plain ASCII digits or as an HTTP date (read against the answer's own `Date`, so that a
    wrong clock here doesn't matter; a past date is 0.0). Only where that header is missing,
    `X-RateLimit-Reset` against `Date`. None where both are missing or unreadable.
    """
    text = headers.get("retry-after")
    if text is None:
        return parse_reset(headers)
    text = text.strip(" \t")
    if _DIGITS.fullmatch(text):
        return min(float(text), _FOREVER)
    until = _http_date(text)
    if until is None:
        return None
    now = _http_date(headers.get("date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def parse_reset(headers: Mapping[str, str]) -> float | None:
    """Read `X-RateLimit-Reset` (Unix epoch) as seconds after the answer's `Date`; None without either."""
    text = headers.get("x-ratelimit-reset", "").strip(" \t")
    now = _http_date(headers.get("date", ""))
    if now is None or not _DIGITS.fullmatch(text):
        return None
    wait = float(text) - now
    return max(0.0, wait) if abs(wait) <= _PLAUSIBLE_RESET else None


def refusal_wait(headers: Mapping[str, str], *, period: float) -> float:
    """Compute how many seconds to stay away after a 429, or after any answer with `Retry-After`.

    One second more than asked for, and two at least: the throttle counts in whole seconds and sends 0 while
    it still refuses. A whole `period` (seconds) where the header is missing; an hour at most.
    """
    asked = retry_after(headers)
    wait = period if asked is None else max(1.0, asked) + 1.0
    return min(wait, LONGEST_WAIT)


def parse_limit(headers: Mapping[str, str]) -> int | None:
    """Read `X-RateLimit-Limit` (requests per period); None unless it lies between 1 and 10,000."""
    limit = _integer(headers.get("x-ratelimit-limit", ""))
    return limit if limit is not None and 1 <= limit <= LARGEST_LIMIT else None


def parse_remaining(headers: Mapping[str, str]) -> int | None:
    """Read `X-RateLimit-Remaining` (requests); a negative number, as under concurrency, is 0."""
    remaining = _integer(headers.get("x-ratelimit-remaining", ""))
    return None if remaining is None else max(0, remaining)


# Answers repeat the same few numbers; matching one costs 0.6 us, looking it up 0.1 us.
@lru_cache(maxsize=512)
def _integer(text: str) -> int | None:
    text = text.strip(" \t")
    return int(text) if _SIGNED.fullmatch(text) else None


def _http_date(text: str) -> float | None:
    """Read an HTTP date (RFC 9110, 5.6.7) as Unix time in seconds."""
    if len(text) > 64 or not text.isascii() or not _TIME_OF_DAY.search(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        # "GMT" gives an aware datetime, asctime's form (without a zone) a naive one: both are UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
