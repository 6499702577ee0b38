"""Four servers' ways of counting, for the limiter's tests; none of them knows anything of the client."""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from attrs import define, field


@define
class Answer:
    """An answer's status and headers."""

    status: int
    headers: dict[str, str]


class Server(Protocol):
    """A server with a limit."""

    limit: int
    period: float

    def used(self, now: float) -> int:
        """Tell how many requests count at this moment."""
        ...

    def wait(self, now: float) -> float:
        """Tell how many seconds from now the next request would be taken, where one would be refused."""
        ...

    def count(self, now: float) -> None:
        """Count one more."""
        ...


def answer(server: Server, now: float) -> Answer:
    """Count a request or refuse it, with the headers that Laravel's throttle sends."""
    used = server.used(now)
    if used >= server.limit:
        headers = {"x-ratelimit-remaining": "0", "retry-after": str(int(server.wait(now)))}
        return Answer(429, {"x-ratelimit-limit": str(server.limit)} | headers)
    server.count(now)
    remaining = server.limit - server.used(now)
    return Answer(200, {"x-ratelimit-limit": str(server.limit), "x-ratelimit-remaining": str(remaining)})


@define
class WindowFromFirstHit:
    """Laravel's: a window opens with its first request, and gives the whole limit back when it ends."""

    limit: int
    period: float
    hits: int = 0
    ends: float = -math.inf

    def used(self, now: float) -> int:
        """Count what counts."""
        return self.hits if now < self.ends else 0

    def wait(self, now: float) -> float:
        """Tell how long."""
        return self.ends - now

    def count(self, now: float) -> None:
        """Count one."""
        if now >= self.ends:
            self.hits, self.ends = 0, now + self.period
        self.hits += 1


@define
class AlignedWindow:
    """A window that begins whenever the clock shows a multiple of the period."""

    limit: int
    period: float
    hits: int = 0
    window: int = -1

    def used(self, now: float) -> int:
        """Count what counts."""
        return self.hits if int(now // self.period) == self.window else 0

    def wait(self, now: float) -> float:
        """Tell how long."""
        return (now // self.period + 1) * self.period - now

    def count(self, now: float) -> None:
        """Count one."""
        if (window := int(now // self.period)) != self.window:
            self.hits, self.window = 0, window
        self.hits += 1


@define
class SlidingLog:
    """A list of the last period's requests."""

    limit: int
    period: float
    log: deque[float] = field(factory=deque)

    def used(self, now: float) -> int:
        """Count what counts."""
        while self.log and self.log[0] <= now - self.period:
            self.log.popleft()
        return len(self.log)

    def wait(self, now: float) -> float:
        """Tell how long."""
        return self.log[0] + self.period - now

    def count(self, now: float) -> None:
        """Count one."""
        self.log.append(now)


@define
class LeakyLevel:
    """A token bucket: of size `limit`, refilled all the time."""

    limit: int
    period: float
    level: float = 0.0
    at: float = 0.0

    def used(self, now: float) -> int:
        """Count what counts."""
        self.level = max(0.0, self.level - (now - self.at) * self.limit / self.period)
        self.at = now
        # One more must fit in whole, give or take what floating point loses.
        return math.ceil(self.level - 1e-6)

    def wait(self, now: float) -> float:
        """Tell how long."""
        return (self.level - self.limit + 1) * self.period / self.limit

    def count(self, now: float) -> None:
        """Count one."""
        self.level += 1


SERVERS: tuple[Callable[[int, float], Server], ...] = (
    WindowFromFirstHit,
    AlignedWindow,
    SlidingLog,
    LeakyLevel,
)


def one_of_each(limit: int, period: float) -> list[Server]:
    """Make a server of each kind."""
    return [make(limit, period) for make in SERVERS]
