"""Who waits for a token, and what he gets: a permit that tells its limiter how the request ended."""

import math
from collections.abc import Callable, Mapping

import anyio
from attrs import define

from desk360_async._bucket import Lane, Token
from desk360_async._rate_limits import NO_HEADERS

__all__ = ["Ended", "TokenPermit", "Waiter"]

# Called once per permit, with "done", "lost" or "unused", and the status and headers of what is done.
Ended = Callable[[Token, str, int, Mapping[str, str]], None]


class TokenPermit:
    """A `Permit`; it holds the token in parts, since making a `Token` costs as much as all of this."""

    __slots__ = ("_ended", "_number", "_returned")

    def __init__(self, ended: Ended, number: int, returned: int) -> None:
        self._ended: Ended | None = ended
        self._number = number
        self._returned = returned

    def done(self, status: int, headers: Mapping[str, str]) -> None:
        """As `Permit.done`."""
        self._end("done", status, headers)

    def lost(self) -> None:
        """As `Permit.lost`."""
        self._end("lost", 0, NO_HEADERS)

    def unused(self) -> None:
        """As `Permit.unused`."""
        self._end("unused", 0, NO_HEADERS)

    def _end(self, how: str, status: int, headers: Mapping[str, str]) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(Token(self._number, self._returned), how, status, headers)


@define(eq=False)
class Waiter:
    """Someone in line. Woken by `ready`, or, while he holds the alarm, by his scope's deadline."""

    lane: Lane
    since: float
    deadline: float
    alarm: float = math.inf
    permit: TokenPermit | None = None
    problem: Exception | None = None
    ready: anyio.Event | None = None
    scope: anyio.CancelScope | None = None

    def set_alarm(self, at: float) -> None:
        """Let the scope ring at that time, or at the deadline if that comes first."""
        self.alarm = at
        if self.scope is not None:
            self.scope.deadline = min(at, self.deadline)

    def wake(self) -> None:
        """Wake him, if he sleeps already."""
        if self.ready is not None:
            self.ready.set()
