"""When a server refuses: four rules by which real servers count requests. Pure; the caller brings the time.

Which rule Desk360 uses is not documented. Laravel's is `first_hit` (measured); the others are what a client
must survive as well.
"""

from collections import deque
from math import floor
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

WindowRule: TypeAlias = Literal["first_hit", "aligned", "sliding_log", "token_bucket"]


@frozen
class Ruling:
    """What a window says of one request: how many are left, and when there is room again (None: counted)."""

    remaining: int
    retry_at: float | None = None


@define
class FirstHitWindow:
    """Laravel's throttle: a fixed window that opens with the first counted request."""

    opened: float | None = None
    count: int = 0

    def hit(self, now: float, limit: int, period: float) -> Ruling:
        """Count a request, or refuse it until the window closes."""
        if self.opened is None or now >= self.opened + period:
            self.opened, self.count = now, 0
        if self.count >= limit:
            return Ruling(0, retry_at=self.opened + period)
        self.count += 1
        return Ruling(limit - self.count)


@define
class AlignedWindow:
    """A fixed window that starts at each multiple of the period on the server's clock."""

    slot: int | None = None
    count: int = 0

    def hit(self, now: float, limit: int, period: float) -> Ruling:
        """Count a request, or refuse it until the next multiple of the period."""
        slot = floor(now / period)
        if slot != self.slot:
            self.slot, self.count = slot, 0
        if self.count >= limit:
            return Ruling(0, retry_at=(slot + 1) * period)
        self.count += 1
        return Ruling(limit - self.count)


@define
class SlidingLog:
    """No period of that length, wherever it starts, holds more than the limit."""

    times: deque[float] = Factory(deque[float])

    def hit(self, now: float, limit: int, period: float) -> Ruling:
        """Count a request, or refuse it until enough of the old ones are a period ago."""
        while self.times and self.times[0] + period <= now:
            self.times.popleft()
        if len(self.times) >= limit:
            return Ruling(0, retry_at=self.times[-limit] + period)
        self.times.append(now)
        return Ruling(limit - len(self.times))


@define
class TokenBucket:
    """`limit` tokens that trickle back at `limit / period` a second."""

    tokens: float | None = None
    filled_at: float = 0.0

    def hit(self, now: float, limit: int, period: float) -> Ruling:
        """Take a token, or refuse until one has trickled in."""
        rate = limit / period
        held = limit if self.tokens is None else self.tokens + (now - self.filled_at) * rate
        self.tokens, self.filled_at = min(held, limit), now
        if self.tokens < 1 - 1e-9:
            return Ruling(0, retry_at=now + (1 - self.tokens) / rate)
        self.tokens -= 1
        return Ruling(max(0, floor(self.tokens + 1e-9)))


Window: TypeAlias = FirstHitWindow | AlignedWindow | SlidingLog | TokenBucket

WINDOWS: dict[WindowRule, type[Window]] = {
    "first_hit": FirstHitWindow,
    "aligned": AlignedWindow,
    "sliding_log": SlidingLog,
    "token_bucket": TokenBucket,
}
