"""Waiting for a token: the interface of limiters, lanes, order, deadlines, and the default bucket.

`_bucket` decides when a token may be taken. This module decides which task takes it.

Tasks wait in one line per lane, each asleep on an event of its own. The first in line also holds the alarm:
one timer, set to the time of the next token. The task that the alarm wakes hands out the free tokens in
order and sets the alarm of the next. So no task polls or wakes before its turn, and a long line costs no CPU.
"""

import math
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import anyio
import sniffio
from anyio.lowlevel import RunVar, checkpoint, current_token
from attrs import define, field

from desk360_async._arguments import one_of, seconds, whole
from desk360_async._bucket import (
    LANES,
    NO_HEADERS,
    Bucket,
    End,
    Lane,
    RateLimitStatus,
    Taken,
)
from desk360_async._errors import ClientStateError, RateLimitWaitTooLong
from desk360_async._redaction import show_half_made

__all__ = [
    "LANES",
    "Lane",
    "Permit",
    "RateLimitStatus",
    "RateLimiter",
    "TokenBucket",
    "TokenPermit",
    "check_arguments",
    "check_wish",
    "default_limiter",
]


class Permit(Protocol):
    """One token, taken for one request. Call exactly one of `done`, `lost` and `unused`.

    The three methods are synchronous and never raise. Only the first call counts. If no call comes (the
    process was killed), the token comes back by itself, after the server has surely counted the request.
    """

    def done(self, status: int, headers: Mapping[str, str]) -> None:
        """Record that the answer is complete.

        Args:
            status: its HTTP status.
            headers: its headers, with lower-cased names.
        """
        ...

    def lost(self) -> None:
        """Record that the request may have left, but its end was not seen (timeout, cancellation)."""
        ...

    def unused(self) -> None:
        """Record that no byte left the process: the token is free again at once."""
        ...


class RateLimiter(Protocol):
    """Grants a client permission before each request; write your own to share a limit elsewhere."""

    async def acquire(self, lane: Lane, max_wait: float | None) -> Permit:
        """Wait for a token.

        Args:
            lane: `"interactive"` goes first; `"bulk"` (fan-outs, campaigns) takes the rest.
            max_wait: seconds; None waits as long as it takes.

        Raises:
            RateLimitWaitTooLong: no token will be free within `max_wait`; raised as soon as that is certain.
        """
        ...

    def snapshot(self) -> RateLimitStatus:
        """Return the limit's state now, without I/O."""
        ...


def check_arguments(
    limit: int, period: float, reserve: int | None, margin: float, attempt_timeout: float
) -> None:
    """Check the arguments that each limiter's constructor takes.

    Raises:
        ConfigurationError: an argument is out of bounds; the message names it and its bounds.
    """
    whole("limit", limit, least=1, most=10_000, meaning="requests per period")
    seconds("period", period, least=0.001, most=86_400)
    seconds("margin", margin, most=3600, meaning="on top of the period")
    seconds("attempt_timeout", attempt_timeout, least=0.001, most=86_400, meaning="for one request")
    if reserve is not None:
        meaning = "tokens of the limit that bulk leaves alone"
        whole("reserve", reserve, most=limit - 1, meaning=meaning)


def check_wish(lane: Lane, max_wait: float | None) -> None:
    """Check the arguments of `acquire`.

    Raises:
        ConfigurationError: there is no such lane, or `max_wait` is negative or NaN.
    """
    if lane not in LANES:
        one_of("lane", lane, LANES)
    if max_wait is not None and not max_wait >= 0:
        seconds("max_wait", max_wait)


# Called once per permit, with "done", "lost" or "unused", and the status and headers of an answer.
Ended = Callable[[Taken, End, int, Mapping[str, str]], None]


@define(eq=False, repr=False)
class TokenPermit:
    """A `Permit` that is also its token: a separate `Token` would cost as much again."""

    _ended: Ended | None = field(repr=False)
    number: int
    returned: int

    def done(self, status: int, headers: Mapping[str, str]) -> None:
        """As `Permit.done`."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self, "done", status, headers)

    def lost(self) -> None:
        """As `Permit.lost`."""
        self._end("lost", 0, NO_HEADERS)

    def unused(self) -> None:
        """As `Permit.unused`."""
        self._end("unused", 0, NO_HEADERS)

    def _end(self, how: End, status: int, headers: Mapping[str, str]) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self, how, status, headers)


@define(eq=False, repr=False)
class Waiter:
    """A task in line. `ready` wakes it; while it holds the alarm, its scope's deadline wakes it too."""

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
        """Wake the task, if it sleeps already."""
        if self.ready is not None:
            self.ready.set()


# An acquire without a wait doesn't yield to the event loop. Each 32nd one does, so that a loop around
# `acquire` can't starve the other tasks.
_YIELD_EVERY = 32


async def _yield_with(permit: TokenPermit) -> TokenPermit:
    try:
        await checkpoint()
    except BaseException:
        permit.unused()
        raise
    return permit


def _is_running(loop: Any) -> bool:
    if hasattr(loop, "is_running"):
        return bool(loop.is_running())
    try:
        loop.run_sync_soon(int)  # trio's token offers no other test, and `int()` is harmless
    except RuntimeError:
        return False
    return True


class TokenBucket:
    """The rate limiter for one process and event loop ("Rate Limit": by IP address, 60 a minute).

    A token comes back one `period` (plus `margin`) after its request is complete. So the server never sees
    more than `limit` requests in one period, whichever way it counts.

    Interactive requests take any free token. Bulk requests take tokens at once while more than three quarters
    of the limit are free. They spread the other tokens until the next one is back, and leave `reserve` tokens
    alone. So 40 bulk sends on an idle account take 35 s.

    One event loop at a time may use a bucket. Tokens in use stay in use when another loop takes over.

    Args:
        limit: requests per period, 1 to 10,000; the server's header replaces it (see `learn`).
        period: seconds.
        reserve: tokens that bulk leaves alone, 0 to `limit - 1`; None is `limit // 60`. Each one lets one
            more interactive request go at once, and takes 1/limit of the rate from bulk.
        margin: seconds on top of the period, for clocks that differ.
        attempt_timeout: maximum seconds of one request. If a request never ends, its token comes back after
            this time, plus 30 s of grace, plus a period.
        learn: whether `X-RateLimit-Limit` changes `limit`. Turn it off where several machines behind one
            address each get a part of the limit.

    Raises:
        ConfigurationError: an argument is out of bounds.
    """

    def __init__(
        self,
        limit: int = 60,
        period: float = 60.0,
        reserve: int | None = None,
        *,
        margin: float = 0.05,
        attempt_timeout: float = 120.0,
        learn: bool = True,
    ) -> None:
        check_arguments(limit, period, reserve, margin, attempt_timeout)
        # Not at the top: importing this package must not load asyncio.
        from asyncio import BaseEventLoop, get_running_loop

        self._running_loop = get_running_loop
        self._clock_of_asyncio = BaseEventLoop.time
        # Whether the loop's clock is `time.monotonic`, as that of asyncio's own loops: one reading fewer.
        self._is_monotonic = False
        self._end = self._ended
        hold = Bucket.hold_of(attempt_timeout, period, margin)
        self._bucket = Bucket(limit, period, reserve, margin, hold, learn)
        self._interactive: OrderedDict[Waiter, None] = OrderedDict()
        self._bulk: OrderedDict[Waiter, None] = OrderedDict()
        self._alarm: Waiter | None = None
        # Weak, since the default bucket is kept in a table that is keyed by its loop.
        self._home: weakref.ref[Any] | None = None
        self._born = math.inf
        self._seen = self._seen_at = time.monotonic()
        self._inherited: list[float] = []

    def __repr__(self) -> str:
        status = self.snapshot()
        return f"<TokenBucket {status.free} of {status.limit} per {status.period:g} s free>"

    async def acquire(self, lane: Lane = "interactive", max_wait: float | None = None) -> Permit:
        """Wait for a token. First come, first served within a lane, interactive before bulk.

        Args:
            lane: `"interactive"` or `"bulk"`.
            max_wait: seconds; None waits as long as it takes.

        Raises:
            RateLimitWaitTooLong: no token will be free within `max_wait`; raised as soon as that is certain.
            ClientStateError: another running event loop uses this bucket.
            ConfigurationError: there is no such lane, or `max_wait` is negative.
        """
        now = self._now()
        if lane in LANES and (max_wait is None or max_wait >= 0):
            permit = self._take_free(now, lane)
            if permit is not None:
                return permit if (permit.number + 1) % _YIELD_EVERY else await _yield_with(permit)
        return await self._stand_in_line(lane, now, max_wait)

    def acquire_nowait(self, lane: Lane = "interactive") -> Permit | None:
        """Return a token if one is free now, else None; each 32nd call returns None too.

        `acquire` then lets other tasks run, so that a loop around both methods can't starve them.

        Args:
            lane: `"interactive"` or `"bulk"`.

        Raises:
            ClientStateError: another running event loop uses this bucket.
        """
        now = self._now()
        return self._take_free(now, lane) if (self._bucket.taken + 1) % _YIELD_EVERY else None

    def _take_free(self, now: float, lane: Lane) -> TokenPermit | None:
        """Return a token if one is free and no waiter comes first."""
        bucket = self._bucket
        if self._interactive or self._bulk or (number := bucket.draw_if_ready(now, lane)) is None:
            return None
        return TokenPermit(self._end, number, bucket.returned)

    async def _stand_in_line(self, lane: Lane, now: float, max_wait: float | None) -> Permit:
        check_wish(lane, max_wait)
        waiter = Waiter(lane, now, math.inf if max_wait is None else now + max_wait)
        self._line(lane)[waiter] = None
        self._serve(now)
        if waiter.permit is None and max_wait is not None:
            # Assume the last place in the lane: counting positions is too slow with 100,000 waiters.
            at = self._foresee(now, lane, len(self._line(lane)) - 1)
            if at > waiter.deadline:
                self._leave(waiter)
                raise RateLimitWaitTooLong.within(max_wait, at - now)
        if waiter.permit is None:
            return await self._wait(waiter)
        # The request holds its token while it yields, so that no waiter overtakes it.
        return await _yield_with(waiter.permit)

    async def _wait(self, waiter: Waiter) -> Permit:
        waiter.ready = anyio.Event()
        try:
            while waiter.permit is None:
                with anyio.CancelScope(deadline=min(waiter.alarm, waiter.deadline)) as waiter.scope:
                    await waiter.ready.wait()
                if waiter.problem is not None:
                    raise waiter.problem
                if waiter.permit is None:
                    self._ring(waiter)
        except BaseException:
            self._leave(waiter)
            raise
        return waiter.permit

    def _ring(self, waiter: Waiter) -> None:
        """Hand out tokens after this waiter's alarm rang; raise if its deadline has passed."""
        now = self._now()
        if waiter is self._alarm:
            self._alarm = None
        waiter.alarm = math.inf
        self._serve(now)
        if waiter.permit is None and now >= waiter.deadline:
            # Deadlines come in the order of the line, mostly, so this stops early.
            ahead = next(n for n, other in enumerate(self._line(waiter.lane)) if other is waiter)
            at = self._foresee(now, waiter.lane, ahead)
            raise RateLimitWaitTooLong.within(waiter.deadline - waiter.since, at - now)

    def _foresee(self, now: float, lane: Lane, ahead: int) -> float:
        """Estimate when a waiter gets a token; `ahead` is the number of waiters before it in its lane."""
        others = len(self._interactive) if lane == "bulk" else 0
        return self._bucket.forecast(now, lane, others)(others + ahead)

    def _leave(self, waiter: Waiter) -> None:
        """Remove a waiter that gave up or was cancelled, and give back a token that it just got."""
        line = self._line(waiter.lane)
        if waiter.permit is not None:
            waiter.permit.unused()
        elif waiter in line:
            del line[waiter]
            if waiter is self._alarm:
                self._alarm = None
                self._pass_on()

    def _pass_on(self) -> None:
        # If the loop has ended, its waiters have ended too.
        with suppress(RuntimeError, ClientStateError):
            self._serve(self._now())

    def _serve(self, now: float) -> None:
        """Hand out the free tokens, in order, and set the alarm for the rest."""
        bucket = self._bucket
        bucket.sweep(now)
        while self._interactive or self._bulk:
            since = next(iter(self._bulk)).since if self._bulk else None
            lane = bucket.turn(now, interactive=bool(self._interactive), bulk_since=since)
            if lane is None:
                break
            waiter, _ = self._line(lane).popitem(last=False)
            waiter.permit = TokenPermit(self._end, bucket.draw(now, lane), bucket.returned)
            waiter.wake()
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Set the first waiter's alarm to the time at which a waiter may next take a token."""
        at = math.inf
        first = None
        if self._bulk:
            first = next(iter(self._bulk))
            at = self._bucket.ready_at("bulk", first.since)
        if self._interactive:
            first = next(iter(self._interactive))
            at = min(at, self._bucket.ready_at("interactive"))
        if self._alarm is not None and self._alarm is not first:
            self._alarm.set_alarm(math.inf)
        self._alarm = first
        if first is not None and first.alarm != at:
            first.set_alarm(at)

    def _line(self, lane: Lane) -> OrderedDict[Waiter, None]:
        return self._interactive if lane == "interactive" else self._bulk

    def _ended(self, token: Taken, how: End, status: int, headers: Mapping[str, str]) -> None:
        try:
            now = self._now()
        except (RuntimeError, ClientStateError):
            # Without a loop (a generator's end, another thread) there is no clock. The token then comes back
            # at its pessimistic time.
            return
        if how == "done":
            worse = self._bucket.done(now, token, status, headers)
        else:
            worse = self._bucket.end(now, token, how, status, headers)
        if self._interactive or self._bulk:
            if worse:
                self._dismiss(now)
            self._serve(now)

    def _dismiss(self, now: float) -> None:
        """Refuse the waiters that certainly can't get a token in time any more."""
        kept = 0
        for lane in LANES:
            line, at = self._line(lane), self._bucket.forecast(now, lane, kept)
            for waiter in list(line):
                if (eta := at(kept)) <= waiter.deadline:
                    kept += 1
                    continue
                del line[waiter]
                waiter.problem = RateLimitWaitTooLong.within(waiter.deadline - waiter.since, eta - now)
                waiter.wake()

    def snapshot(self) -> RateLimitStatus:
        """Return the limit's state now, without I/O; callable from any thread and outside the event loop."""
        bucket, now = self._bucket, self._present()
        bucket.sweep(now)
        return bucket.status(now, {"interactive": len(self._interactive), "bulk": len(self._bulk)})

    def allow_for(self, seconds: float) -> None:
        """Hold tokens for longer, if one attempt of a client may take longer than `attempt_timeout`.

        Args:
            seconds: seconds that an attempt may take; a smaller value than the present one is ignored.
        """
        bucket = self._bucket
        bucket.hold = max(bucket.hold, Bucket.hold_of(seconds, bucket.period, bucket.margin))

    def seed(self, ages: Iterable[float]) -> None:
        """Count requests that were made before this bucket existed, by a process that has ended since.

        Args:
            ages: for each request, how many seconds ago it was complete. Requests older than a period are
                ignored. So are requests since this bucket's first use, since the bucket has counted them.
        """
        now = self._now()
        lifetime, away = now - self._born, self._bucket.period + self._bucket.margin
        self._bucket.borrow(now, [now - age + away for age in ages if lifetime <= age < away])
        self._serve(now)

    def _now(self) -> float:
        """Return the running loop's time; if the loop is another one than last time, move to it first."""
        # `anyio.current_time()` and `current_token()`, at a fifth of the cost on asyncio.
        if sniffio.thread_local.name != "trio":
            loop: Any = self._running_loop()
            now: float = loop.time()
        else:
            loop, now = current_token().native_token, anyio.current_time()
        if self._home is None or self._home() is not loop:
            self._move(loop, now)
        # Both clocks, for use after the loop has ended; they differ if one is virtual.
        self._seen, self._seen_at = now, now if self._is_monotonic else time.monotonic()
        return now

    def _present(self) -> float:
        """Return the time on this bucket's clock; if its loop isn't running here, by the process's."""
        try:
            loop = current_token().native_token
        except RuntimeError:
            loop = None
        if loop is not None and (self._home is None or self._home() is loop):
            return anyio.current_time()
        return self._seen + time.monotonic() - self._seen_at

    def _move(self, loop: Any, now: float) -> None:
        """Continue in another event loop, whose clock may have another origin."""
        if self._home is None:
            self._born = now
        else:
            old = self._home()
            if old is not None and _is_running(old):
                raise ClientStateError(
                    "This TokenBucket is in use on another running event loop. Give each loop its own, or "
                    "share one limit between them with HostLimiter(path)."
                )
            shift = now - self._present()
            self._bucket.shift(shift)
            self._born += shift
            self._clear_lines(old)
        self._home = weakref.ref(loop)
        clock = getattr(loop, "time", None)  # trio's token has none
        self._is_monotonic = getattr(clock, "__func__", None) is self._clock_of_asyncio

    def _clear_lines(self, old: Any) -> None:
        """Remove the waiters of a loop that has ended, or that was stopped and not closed."""
        stale = [*self._interactive, *self._bulk]
        self._interactive.clear()
        self._bulk.clear()
        self._alarm = None
        if hasattr(old, "is_closed") and not old.is_closed():
            for waiter in stale:
                waiter.problem = ClientStateError("The TokenBucket went on to another event loop.")
                waiter.wake()

    def inherit(self, earlier: "TokenBucket") -> bool:
        """Count the tokens that another bucket for the same server still has in use, and keep its pause.

        Tokens that `earlier` itself inherited aren't counted again. The pause goes on from bucket to bucket.

        Returns:
            Whether a later bucket may have anything to inherit from that one.
        """
        now, loop = self._now(), earlier._home and earlier._home()
        shift = now - earlier._present()
        theirs = earlier._bucket
        own = [at + shift for at in earlier._own_returns() if at + shift > now]
        self._inherited += own
        self._bucket.borrow(now, own)
        self._bucket.limit = theirs.limit
        self._bucket.gate = max(self._bucket.gate, theirs.gate + shift)
        self._bucket.wary_until = max(self._bucket.wary_until, theirs.wary_until + shift)
        self._bucket.last_grant = max(self._bucket.last_grant, theirs.last_grant + shift)
        self._born = min(self._born, earlier._born + shift)
        return bool(own) or (loop is not None and _is_running(loop))

    def _own_returns(self) -> list[float]:
        returns = [*self._bucket.away, *self._bucket.in_flight.values()]
        return list((Counter(returns) - Counter(self._inherited)).elements())


_buckets: RunVar[dict[str, TokenBucket]] = RunVar("desk360_async_buckets")
# The buckets of this process's event loops, by host and port. The limit belongs to the IP address, and
# doesn't start anew with the next loop.
_earlier: dict[str, list[TokenBucket]] = {}


def default_limiter(host: str) -> TokenBucket:
    """Return the bucket that all clients of this event loop share, unless they are given another.

    Event loops that run at the same time don't share it; a `HostLimiter` is for them.

    Args:
        host: the server's host and port, such as `public-api.desk360.com:443`.
    """
    try:
        here = _buckets.get()
    except LookupError:
        _buckets.set(here := {})
    if host not in here:
        bucket = TokenBucket()
        bucket._now()  # binds it to this loop, so that other loops' buckets can check whether it lives
        _earlier[host] = [other for other in _earlier.get(host, ()) if bucket.inherit(other)] + [bucket]
        here[host] = bucket
    return here[host]


show_half_made(globals())
