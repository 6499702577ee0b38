"""What every rate limiter has in common: the interface, what it reports, and how it checks its arguments.

Users write limiters of their own against these protocols; how ours work is not told here.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import frozen

from desk360_async._bucket import Lane
from desk360_async._errors import ConfigurationError, RateLimitWaitTooLong

__all__ = [
    "Lane",
    "Permit",
    "RateLimitStatus",
    "RateLimiter",
    "check_arguments",
    "check_wish",
    "wait_too_long",
]

LANES: tuple[Lane, Lane] = ("interactive", "bulk")
NO_HEADERS: Mapping[str, str] = {}


@frozen
class RateLimitStatus:
    """What a limiter knows at one moment ("Rate Limit").

    Attributes:
        limit: requests per period; the server's own figure once it has said it.
        period: seconds.
        reserve: how many tokens the bulk lane leaves for the interactive one.
        free: tokens that could be taken now, if it weren't for a pause and for the lanes' rules.
        in_flight: requests whose end wasn't seen yet.
        waiting: how many wait, by lane.
        paused_until: when the pause that a refusal (429) asked for ends, on the clock of `as_of`, or None.
        next_token: seconds until a token can be taken; 0.0 if one can be taken now.
        as_of: the event loop's time (`anyio.current_time()`) of all this.
    """

    limit: int
    period: float
    reserve: int
    free: int
    in_flight: int
    waiting: Mapping[Lane, int]
    paused_until: float | None
    next_token: float
    as_of: float


class Permit(Protocol):
    """One token, taken for one request; exactly one of its ends is to be called.

    They are synchronous, never raise, and only the first call counts. If none is ever called (the process
    was killed), the token comes back by itself, late enough for the request to have been counted.
    """

    def done(self, status: int, headers: Mapping[str, str]) -> None:
        """Tell that the answer is complete.

        Args:
            status: its HTTP status.
            headers: its headers, with lower-cased names.
        """
        ...

    def lost(self) -> None:
        """Tell that the request may have left, but its end was never seen (timeout, cancellation)."""
        ...

    def unused(self) -> None:
        """Tell that nothing left the process: the token is free again at once."""
        ...


class RateLimiter(Protocol):
    """What a client asks for permission before each request; write your own to share a limit elsewhere."""

    async def acquire(self, lane: Lane, max_wait: float | None) -> Permit:
        """Wait for a token.

        Args:
            lane: `"interactive"` goes first; `"bulk"` (fan-outs, campaigns) takes what is left.
            max_wait: seconds; None waits as long as it takes.

        Raises:
            RateLimitWaitTooLong: no token can be had within `max_wait`; as soon as that is certain.
        """
        ...

    def snapshot(self) -> RateLimitStatus:
        """Tell what is known now, without I/O."""
        ...


def check_arguments(
    limit: int, period: float, reserve: int | None, margin: float, attempt_timeout: float
) -> None:
    """Check what every limiter's constructor takes.

    Raises:
        ConfigurationError: an argument is out of bounds; the message names it and its bounds.
    """
    _check("limit", limit, 1, 10_000, "requests per period", whole=True)
    _check("period", period, 0.001, 86_400, "seconds")
    _check("margin", margin, 0, 3600, "seconds on top of the period")
    _check("attempt_timeout", attempt_timeout, 0.001, 86_400, "seconds that one request may take")
    if reserve is not None:
        _check("reserve", reserve, 0, limit - 1, "tokens of the limit that bulk leaves alone", whole=True)


def _check(name: str, value: Any, low: float, high: float, meaning: str, *, whole: bool = False) -> None:
    kinds = int if whole else (int, float)
    # True is an int, and not meant as one.
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        message = f"{name} is {value!r}; it must be {kind} from {low:g} to {high:g}: {meaning}"
        raise ConfigurationError(message)


def check_wish(lane: Lane, max_wait: float | None) -> None:
    """Check what `acquire` is called with.

    Raises:
        ConfigurationError: there is no such lane, or `max_wait` is negative or NaN.
    """
    if lane not in LANES:
        message = f'lane is {lane!r}; it must be "interactive" or "bulk"'
        raise ConfigurationError(message)
    if max_wait is not None and not max_wait >= 0:
        message = f"max_wait is {max_wait!r}; it must be None or seconds, 0 or more"
        raise ConfigurationError(message)


def wait_too_long(max_wait: float, eta: float) -> RateLimitWaitTooLong:
    """Make the error for a wait that can't end within `max_wait` seconds; its token is `eta` seconds away."""
    message = (
        f"no token within max_wait={max_wait:g} s: the next one for this request is about {eta:.1f} s away; "
        "allow a longer max_wait, or send less at once"
    )
    return RateLimitWaitTooLong(message, eta=eta)
