"""Virtual time: a clock that moves forward only when all tasks wait for it, and a limiter that waits on it.

The limiter is for a virtual sandbox's clients. It keeps the real bucket's rules.
"""

import heapq
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import get_args

import anyio
from anyio.lowlevel import checkpoint
from attrs import define

from desk360_async import Lane, RateLimitStatus, RateLimitWaitTooLong
from desk360_async._arguments import one_of, seconds
from desk360_async._bucket import Bucket
from desk360_async._limiter import TokenPermit

__all__ = ["VirtualBucket", "VirtualClock"]

# A sleeper moves the clock after this number of trips through the event loop, if no other task fell asleep in
# them. In these trips a task that was just started begins its sleep. So parallel waits pass in parallel.
_QUIET = 10
# Trips after which a waiter lets the processor rest (`_REST` seconds a trip).
_PATIENCE = 50
_REST = 0.001
_LANES: tuple[Lane, ...] = get_args(Lane)
_ATTEMPT = 120.0  # the most seconds that one request may take, the same as in `TokenBucket`


async def give_way(rounds: int) -> None:
    """Let other tasks run for one trip through the event loop; from round 50 on, for a millisecond."""
    if rounds < _PATIENCE:
        await checkpoint()
    else:
        await anyio.sleep(_REST)


class VirtualClock:
    """A clock in seconds that jumps: call it for the time, `advance` it, or `sleep` on it.

    Sleepers wake up in the order of their times, and no real time passes. Several threads and event loops may
    share one clock.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._wakings: list[float] = []
        self._fallen_asleep = 0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time, in seconds since the clock was made."""
        return self._now

    def __repr__(self) -> str:
        return f"<VirtualClock {self._now:g} s>"

    def advance(self, seconds: float) -> None:
        """Move the clock forward, for tests of later events.

        Args:
            seconds: how many seconds.

        Raises:
            ValueError: if seconds is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds is {seconds!r}; time goes forward only: 0 or more")
        with self._lock:
            self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until this clock has moved forward by `seconds`.

        Args:
            seconds: how many seconds.
        """
        await self.sleep_until(self._now + seconds)

    async def sleep_until(self, at: float) -> None:
        """Wait until the clock shows `at`; the clock jumps to `at` if no other sleeper's time is earlier.

        Args:
            at: seconds since the clock was made, as a call of the clock returns them.
        """
        with self._lock:
            heapq.heappush(self._wakings, at)
            self._fallen_asleep += 1
        try:
            rounds = quiet = asleep = 0
            while quiet < _QUIET or not self._reached(at):
                quiet = quiet + 1 if asleep == self._fallen_asleep else 0
                asleep = self._fallen_asleep
                await give_way(rounds)
                rounds += 1
        finally:
            with self._lock:
                self._wakings.remove(at)
                heapq.heapify(self._wakings)

    def _reached(self, at: float) -> bool:
        with self._lock:
            if at <= self._wakings[0]:
                self._now = max(self._now, at)
            return self._now >= at


@define(eq=False)
class _Waiter:
    lane: Lane
    since: float
    deadline: float


class VirtualBucket:
    """`TokenBucket` on a virtual clock: the same tokens, lanes and refusals, without real waiting.

    When no request is under way, the first waiter makes the clock jump to the time of its token. Unlike
    `TokenBucket` it serves several event loops, since an app under test runs in another thread than the test.

    Args:
        clock: the sandbox's clock.
        limit: requests per period.
        period: seconds.
    """

    def __init__(self, clock: VirtualClock, limit: int = 60, period: float = 60.0) -> None:
        margin = 0.05
        hold = Bucket.hold_of(_ATTEMPT, period, margin)
        self._clock = clock
        self._bucket = Bucket(limit, period, None, margin, hold)
        self._lock = threading.Lock()
        self._lines: dict[Lane, OrderedDict[_Waiter, None]] = {lane: OrderedDict() for lane in _LANES}

    async def acquire(self, lane: Lane, max_wait: float | None) -> TokenPermit:
        """Wait for a token, first come, first served within a lane.

        Args:
            lane: `"interactive"` or `"bulk"`.
            max_wait: the longest wait in seconds of the virtual clock; None for no maximum.

        Raises:
            RateLimitWaitTooLong: if no token is free within `max_wait`.
            ConfigurationError: if there is no such lane, or `max_wait` is negative.
        """
        one_of("lane", lane, _LANES)
        if max_wait is not None:
            seconds("max_wait", max_wait)
        await checkpoint()
        since = self._clock()
        waiter = _Waiter(lane, since, math.inf if max_wait is None else since + max_wait)
        line = self._lines[lane]
        with self._lock:
            line[waiter] = None
        try:
            rounds = 0
            while (permit := self._serve(waiter)) is None:
                await self._wait(waiter, rounds)
                rounds += 1
        finally:
            with self._lock:
                line.pop(waiter, None)
        return permit

    def _serve(self, waiter: _Waiter) -> TokenPermit | None:
        """Return a permit if it is this waiter's turn, else None.

        Raises:
            RateLimitWaitTooLong: if its turn comes after its deadline.
        """
        with self._lock:
            now, line = self._clock(), self._lines[waiter.lane]
            self._bucket.sweep(now)
            if self._turn(now) == waiter.lane and next(iter(line)) is waiter:
                del line[waiter]
                return TokenPermit(
                    lambda token, how, status, headers: self._locked(
                        partial(self._bucket.end, self._clock(), token, how, status, headers)
                    ),
                    *self._bucket.take(now, waiter.lane),
                )
            if waiter.deadline < math.inf:
                self._check_deadline(waiter, now)
        return None

    def _turn(self, now: float) -> Lane | None:
        interactive, bulk = self._lines["interactive"], self._lines["bulk"]
        since = next(iter(bulk)).since if bulk else None
        return self._bucket.turn(now, interactive=bool(interactive), bulk_since=since)

    def _check_deadline(self, waiter: _Waiter, now: float) -> None:
        ahead = list(self._lines[waiter.lane]).index(waiter)
        others = len(self._lines["interactive"]) if waiter.lane == "bulk" else 0
        at = self._bucket.forecast(now, waiter.lane, others)(others + ahead)
        if at > waiter.deadline or now >= waiter.deadline:
            raise RateLimitWaitTooLong.within(waiter.deadline - waiter.since, at - now)

    async def _wait(self, waiter: _Waiter, rounds: int) -> None:
        with self._lock:
            now = self._clock()
            # The end of a request under way may free its token sooner than the bucket assumes. So the clock
            # jumps only when no request is under way. Only the first waiter of a lane moves it.
            idle = not self._bucket.in_flight and next(iter(self._lines[waiter.lane])) is waiter
            at = self._next_turn() if idle and self._turn(now) is None else now
        if at > now:
            await self._clock.sleep_until(min(at, waiter.deadline))
        else:
            await give_way(rounds)

    def _next_turn(self) -> float:
        bulk = self._lines["bulk"]
        at = self._bucket.ready_at("bulk", next(iter(bulk)).since) if bulk else math.inf
        return min(at, self._bucket.ready_at("interactive")) if self._lines["interactive"] else at

    def _locked(self, work: Callable[[], object]) -> None:
        with self._lock:
            work()

    def snapshot(self) -> RateLimitStatus:
        """Return the limiter's state, with times of the virtual clock."""
        with self._lock:
            now = self._clock()
            self._bucket.sweep(now)
            return self._bucket.status(now, {lane: len(line) for lane, line in self._lines.items()})
