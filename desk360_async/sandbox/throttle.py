"""The limit per IP address: four rules by which servers count requests, and the headers as measured.

Desk360 doesn't document its rule. Laravel's is `first_hit` (measured); a client must survive the others too.
The windows are pure: the caller passes the time.
"""

import time
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from math import floor
from random import Random
from typing import Any, Literal, TypeAlias

from attrs import Factory, define, frozen

WindowRule: TypeAlias = Literal["first_hit", "aligned", "sliding_log", "token_bucket"]


@frozen
class Ruling:
    """A window's verdict on one request: the requests left, and when the next one fits (None: counted)."""

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

    def ends_at(self, period: float) -> float | None:
        """When the counted requests are forgotten; None where none is counted."""
        return None if self.opened is None else self.opened + period


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

    def ends_at(self, period: float) -> float | None:
        """When the counted requests are forgotten; None where none is counted."""
        return None if self.slot is None else (self.slot + 1) * period


@define
class SlidingLog:
    """The times of the counted requests: no interval as long as a period contains more than the limit."""

    times: deque[float] = Factory(deque[float])

    def hit(self, now: float, limit: int, period: float) -> Ruling:
        """Count a request, or refuse it until enough counted requests are older than a period."""
        while self.times and self.times[0] + period <= now:
            self.times.popleft()
        if len(self.times) >= limit:
            return Ruling(0, retry_at=self.times[-limit] + period)
        self.times.append(now)
        return Ruling(limit - len(self.times))

    def ends_at(self, period: float) -> float | None:
        """When the oldest counted request is forgotten; None where none is counted."""
        return self.times[0] + period if self.times else None


@define
class TokenBucket:
    """`limit` tokens, which are refilled at `limit / period` a second."""

    tokens: float | None = None
    filled_at: float = 0.0

    def hit(self, now: float, limit: int, period: float) -> Ruling:
        """Take a token, or refuse the request until a token is refilled."""
        rate = limit / period
        held = limit if self.tokens is None else self.tokens + (now - self.filled_at) * rate
        self.tokens, self.filled_at = min(held, limit), now
        if self.tokens < 1 - 1e-9:
            return Ruling(0, retry_at=now + (1 - self.tokens) / rate)
        self.tokens -= 1
        return Ruling(max(0, floor(self.tokens + 1e-9)))

    def ends_at(self, _period: float) -> float | None:
        """None: tokens come back one by one, and no window ends."""
        return None


Window: TypeAlias = FirstHitWindow | AlignedWindow | SlidingLog | TokenBucket

WINDOWS: dict[WindowRule, type[Window]] = {
    "first_hit": FirstHitWindow,
    "aligned": AlignedWindow,
    "sliding_log": SlidingLog,
    "token_bucket": TokenBucket,
}


# The zero of any clock but time.monotonic is this date, which starts a minute: 2026-01-01T00:00:00Z.
MADE_UP_EPOCH = 1_767_225_600.0


@frozen
class Verdict:
    """Whether a request was counted, and the headers that show it."""

    counted: bool
    headers: dict[str, str]


class Throttle:
    """Counts requests as Laravel's ThrottleRequests does. `limit` and `period` may change at any time.

    Attributes:
        limit: Requests a window.
        period: Length of a window in seconds.
        others: Requests a minute that others on the same IP make (at random, by the seed).
        counted: Requests of ours that were counted.
        refusals: Requests of ours that were refused with 429.
    """

    limit: int
    period: float
    others: float
    counted: int
    refusals: int

    def __init__(
        self,
        *,
        limit: int,
        period: float,
        rule: WindowRule,
        clock: Callable[[], float],
        others: float,
        seed: int,
    ) -> None:
        if limit < 1 or period <= 0 or others < 0:
            msg = f"limit {limit}, period {period}, other traffic {others}: they must be ≥ 1, > 0 and ≥ 0"
            raise ValueError(msg)
        if rule not in WINDOWS:
            msg = f"window: {rule!r} is none of {', '.join(WINDOWS)}"
            raise ValueError(msg)
        self.limit, self.period, self.others = limit, period, others
        self.rule: WindowRule = rule
        self.clock = clock
        self.epoch: float = time.time() - clock() if clock is time.monotonic else MADE_UP_EPOCH
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Clear the counts."""
        self.counted = self.refusals = 0
        self._windows: dict[str, Window] = {}
        self._dice = Random(self._seed)  # noqa: S311 - repeatable on purpose
        self._next_other: float | None = None

    def wall_time(self) -> float:
        """Seconds since 1970 on the sandbox's clock."""
        return self.epoch + self.clock()

    def count(self, ip: str) -> Verdict:
        """Count a request, or refuse it; a refused request does not count and does not lengthen the wait."""
        now = self.clock()
        self._let_others_in(ip, now)
        ruling = self._window(ip).hit(now, self.limit, self.period)
        if ruling.retry_at is None:
            self.counted += 1
            return Verdict(counted=True, headers=self._headers(ruling))
        self.refusals += 1
        return Verdict(counted=False, headers=self._headers(ruling) | self._wait_headers(ruling.retry_at))

    def spend(self, requests: int, ip: str = "127.0.0.1") -> int:
        """Let others on the same IP make `requests` requests now; return the number that was counted."""
        window, now = self._window(ip), self.clock()
        return sum(window.hit(now, self.limit, self.period).retry_at is None for _ in range(requests))

    def status(self, ip: str = "127.0.0.1") -> dict[str, Any]:
        """Return the limit of one address as the page shows it, without counting a request.

        Args:
            ip: the address.
        """
        now, window = self.clock(), self._window(ip)
        ruling = deepcopy(window).hit(now, self.limit, self.period)
        ends = window.ends_at(self.period)
        return {
            "limit": self.limit,
            "period": self.period,
            "window": self.rule,
            "used": self.limit if ruling.retry_at is not None else self.limit - ruling.remaining - 1,
            "ends": ends if ends is not None and ends > now else None,
            "counted": self.counted,
            "refusals": self.refusals,
        }

    def _window(self, ip: str) -> Window:
        return self._windows.setdefault(ip, WINDOWS[self.rule]())

    def _let_others_in(self, ip: str, now: float) -> None:
        if not self.others:
            return
        if self._next_other is None:
            self._next_other = now + self._pause()
        while self._next_other <= now:
            self._window(ip).hit(self._next_other, self.limit, self.period)
            self._next_other += self._pause()

    def _pause(self) -> float:
        return self._dice.expovariate(self.others / 60)

    def _headers(self, ruling: Ruling) -> dict[str, str]:
        return {"x-ratelimit-limit": str(self.limit), "x-ratelimit-remaining": str(ruling.remaining)}

    def _wait_headers(self, retry_at: float) -> dict[str, str]:
        # Laravel cuts both times to whole seconds and subtracts them.
        # It can therefore send 0 and still refuse (measured).
        reset, now = floor(self.epoch + retry_at), floor(self.wall_time())
        return {"retry-after": str(max(0, reset - now)), "x-ratelimit-reset": str(reset)}
