"""The token bucket's state and its transitions: a function of (state, now, event).

No clock, no waiting, no I/O: each method takes the time, in seconds of a clock that never goes back, and the
event. Waiting for a token is the limiters' business.

The algorithm: the bucket holds `limit` tokens, and a token comes back one period, plus a margin, after its
request is *complete*. The server counts the request between its start and its completion. To count more than
`limit` requests in one period, it would need more than `limit` tokens away at once, which can't happen.
A textbook bucket that refills at limit/period lets nearly twice the limit through in its first period.

The bucket learns from the headers of answers ("Rate Limit" of the vendor's document). The functions that read
them never raise. A proxy's page may hold any `Retry-After`, so an implausible number counts as absent.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Literal, NamedTuple, Protocol, Self

from attrs import define, field, frozen

from desk360_async._redaction import show_half_made

__all__ = [
    "LANES",
    "NO_HEADERS",
    "Bucket",
    "End",
    "Lane",
    "RateLimitStatus",
    "ServerLimit",
    "StoreBusy",
    "StoreLost",
    "Taken",
    "Token",
    "Waits",
    "of_read",
    "parse_limit",
    "parse_remaining",
    "parse_reset",
    "refusal_wait",
    "retry_after",
]

Lane = Literal["interactive", "bulk"]
"""The priority of a request: "interactive" goes first, "bulk" takes the other tokens."""

End = Literal["done", "lost", "unused"]
"""How a request ended: answered ("done"), its end never seen ("lost"), or never sent ("unused")."""

LANES: tuple[Lane, Lane] = ("interactive", "bulk")
NO_HEADERS: Mapping[str, str] = {}

# How long a request whose end wasn't seen may still be under way before the server counts it.
GRACE = 30.0


# A bulk waiter that has waited for a period takes every tenth token, even if the interactive lane waits.
BULK_SHARE = 10
# Seconds for which a process's note of a wait is valid.
FRESH = 1.0
# Bulk takes at once while more than this share of the limit is free, 15 of 60 on an idle account. In
# test_lanes.py the interactive lane's 99th percentile is then 0.6 s in the first minute and 3.0 s in minutes
# 1-5; at one half it was 10.8 s and 5.1 s.
IDLE_SHARE = 0.75
# Free tokens are spread over a tenth more than the time until the next return. That took the interactive
# lane's 99th percentile from 2.1 s to 1.7 s in minutes 1-5, for 0.05 % of the rate (in 25 hours of
# test_lanes.py).
SPREAD = 1.1
# A refused process shares the limit with others, and only answers show how much is left. So for a little
# over a period the interactive lane goes at four times the even pace at most. Else the tokens that went away
# together would come back together, and overrun the limit once a period.
WARY_PACE = 4
WARY_PERIODS = 1.1
NEVER = -math.inf


class ServerLimit(NamedTuple):
    """The server's rate limit headers, from the last answer that had any ("Rate Limit").

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
        """Return the rate limit in an answer's headers; None if all three are missing or unreadable."""
        reset = headers.get("x-ratelimit-reset", "").strip(" \t")
        limit, remaining = parse_limit(headers), parse_remaining(headers)
        epoch = int(reset) if _EPOCH.fullmatch(reset) else None
        return None if limit is remaining is epoch is None else cls(limit, remaining, epoch)


@frozen(repr=False)
class RateLimitStatus:
    """The state of a limiter at one moment ("Rate Limit").

    Attributes:
        limit: requests per period; the server's own figure after two answers that name it.
        period: seconds.
        reserve: tokens that the bulk lane leaves for the interactive one.
        free: free tokens; a pause and the lanes' rules may still make a request wait.
        in_flight: requests whose end the limiter hasn't seen yet.
        waiting: number of waiting requests, by lane.
        paused_until: the end of the pause after a refusal (429), on the clock of `as_of`, or None.
        next_token: seconds until an interactive request may take a token; 0.0 if it may now.
        as_of: the event loop's time (`anyio.current_time()`) of all this.
        server: the server's own last Limit, Remaining and Reset; `client.rate_limit` fills it in.
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
    server: ServerLimit | None = None


class Taken(Protocol):
    """One of the bucket's tokens, away with a request: a `Token`, or a permit that stands for one.

    Attributes:
        number: how many tokens had been taken before this one.
        returned: how many tokens had come back when it was taken.
    """

    @property
    def number(self) -> int: ...

    @property
    def returned(self) -> int: ...


class Token(NamedTuple):
    """As `Taken`."""

    number: int
    returned: int


class Waits:
    """Which processes wait in which lane, as each has noted within the last second.

    Args:
        noted: by process and lane, the time of the last note, in seconds.
    """

    def __init__(self, noted: Mapping[tuple[str, Lane], float]) -> None:
        self.noted = dict(noted)

    def says(self, lane: Lane, now: float) -> bool:
        """Return whether a process waits in that lane; in bulk, whether its wait is overdue."""
        return any(at > now - FRESH for (_, noted), at in self.noted.items() if noted == lane)

    def note(self, process: str, lane: Lane, now: float) -> None:
        """Note that a process waits; old notes of other processes go."""
        self.noted = {key: at for key, at in self.noted.items() if at > now - FRESH}
        self.noted[process, lane] = now

    def forget(self, process: str, lane: Lane) -> None:
        """Note that a process no longer waits."""
        self.noted.pop((process, lane), None)


class StoreBusy(Exception):
    """Another process holds the store of a bucket's state; the same step may succeed later."""


class StoreLost(Exception):
    """The store of a bucket's state can't be written for now: a full disk, a database that restarts."""


@define(eq=False, repr=False)
class Bucket:
    """The state: which tokens are away, when the last one was taken, and until when the gate is closed.

    Attributes:
        limit: how many tokens there are; the server's header replaces it, unless `learn` is false.
        period: seconds.
        wanted_reserve: how many tokens bulk leaves for interactive; None: a sixtieth of the limit.
        margin: seconds on top of the period.
        hold: seconds after which a taken token is back by itself.
        learn: whether `X-RateLimit-Limit` changes `limit`.
        away: a heap of the times at which tokens of ended requests, or of other processes, come back.
        in_flight: token number → time at which it comes back, while its request runs; oldest first.
        gate: before this time no token is taken.
        last_grant: when a token was taken last, in either lane.
        wary_until: until this time, after a refusal, tokens are taken one by one, at a limited pace.
        grant_before: when the token before the last one was taken.
        taken: how many tokens were ever taken.
        returned: how many tokens ever came back by themselves.
        since_bulk: how many interactive tokens were taken since the last one for bulk.
        newest_answer: the number of the newest token whose answer was learned from.
        rumoured_limit: the limit in the last answer's header.
    """

    limit: int
    period: float
    wanted_reserve: int | None
    margin: float
    hold: float
    learn: bool = True
    away: list[float] = field(factory=list[float])
    in_flight: dict[int, float] = field(factory=dict[int, float])
    gate: float = NEVER
    last_grant: float = NEVER
    wary_until: float = NEVER
    grant_before: float = NEVER
    taken: int = 0
    returned: int = 0
    since_bulk: int = 0
    newest_answer: int = -1
    rumoured_limit: int | None = None

    @staticmethod
    def hold_of(attempt_timeout: float, period: float, margin: float) -> float:
        """Return the seconds after which a token comes back by itself, if its request's end isn't reported.

        Args:
            attempt_timeout: seconds that one request may take at most.
            period: seconds.
            margin: seconds on top of the period.
        """
        return attempt_timeout + GRACE + period + margin

    @property
    def free(self) -> int:
        """How many tokens are free; negative while the server's limit is lower than the tokens in use."""
        return self.limit - len(self.away) - len(self.in_flight)

    @property
    def reserve(self) -> int:
        """How many tokens bulk leaves for interactive: never all of them, or bulk would never move."""
        wanted = self.limit // 60 if self.wanted_reserve is None else self.wanted_reserve
        return min(wanted, self.limit - 1)

    @property
    def burst(self) -> int:
        """How many tokens bulk may take at once, because the account is idle."""
        free = self.free
        return min(free - int(self.limit * IDLE_SHARE), free - self.reserve)

    def sweep(self, now: float) -> None:
        """Take back the tokens whose time has come."""
        away, in_flight = self.away, self.in_flight
        while away and away[0] <= now:
            heappop(away)
            self.returned += 1
        while in_flight:
            # Each is held for the same time, so they expire in the order in which they were taken.
            if next(iter(in_flight.values())) > now:
                break
            del in_flight[next(iter(in_flight))]
            self.returned += 1

    def next_return(self) -> float:
        """When the next token comes back, if no request ends before; infinite when none is away."""
        at = self.away[0] if self.away else math.inf
        if self.in_flight:
            at = min(at, next(iter(self.in_flight.values())))
        return at

    def ready_at(self, lane: Lane, bulk_since: float = math.inf) -> float:
        """Return the time from which the lane may take a token, by the present state; call `sweep` first.

        `bulk_since` is the time at which the first bulk waiter came. While more than three quarters of the
        limit are free, bulk takes tokens at once. Below that, bulk spreads the free tokens until the next one
        is back. Else interactive requests would wait behind a burst of bulk requests.
        """
        token_at = self.gate if self.free > 0 else max(self.gate, self.next_return())
        if self.wary_until > NEVER:
            pace = self.period / self.limit / WARY_PACE
            token_at = max(token_at, min(self.wary_until, self.last_grant + pace))
        if lane == "interactive":
            return token_at
        if self.burst > 0:
            return token_at
        paced = max(self.gate, self._paced())
        if self.since_bulk >= BULK_SHARE - 1:
            return min(paced, max(token_at, bulk_since + self.period))
        return paced

    def _paced(self) -> float:
        """When bulk's pace allows the next token.

        That is the first `now` for which now - last >= (next return - now) / spare. The formula is solved
        for `now`, so that a timer that is set to the result passes the comparison when it rings. A token in
        flight returns no sooner than one period from now, even if it expires earlier.
        """
        if self.free <= self.reserve:
            return self.next_return()
        last, spare = self.last_grant, (self.free - self.reserve) / SPREAD
        spread = math.inf if self.away or self.in_flight else NEVER
        if self.away:
            spread = (self.away[0] + spare * last) / (spare + 1)
        if self.in_flight:
            spread = min(spread, last + self.period / spare)
        return max(spread, last + self.period / self.limit)

    def turn(self, now: float, *, interactive: bool, bulk_since: float | None) -> Lane | None:
        """Return the lane whose first waiter takes a token now, or None; call `sweep` first.

        Args:
            now: seconds.
            interactive: whether someone waits in that lane.
            bulk_since: since when bulk's first waiter has waited; None if the lane is empty.
        """
        if self.ready_at("interactive") > now:
            return None
        if bulk_since is not None and self.overdue(now, bulk_since):
            return "bulk"
        if interactive:
            return "interactive"
        if bulk_since is not None and self.ready_at("bulk") <= now:
            return "bulk"
        return None

    def overdue(self, now: float, bulk_since: float) -> bool:
        """Return whether bulk has a right to the next token: one in ten, after a wait of one period."""
        return self.since_bulk >= BULK_SHARE - 1 and bulk_since + self.period <= now

    def take(self, now: float, lane: Lane) -> Token:
        """Take a token. Its return time is pessimistic; the request's end can only make it earlier."""
        return Token(self.draw(now, lane), self.returned)

    def draw_if_ready(self, now: float, lane: Lane) -> int | None:
        """Sweep, and draw a token if the lane may take one. Call it only if no waiter comes first.

        Nearly all interactive requests take this path, so its steps are written out, not called.
        """
        away, in_flight = self.away, self.in_flight
        if (away and away[0] <= now) or (in_flight and in_flight[next(iter(in_flight))] <= now):
            self.sweep(now)
        if lane != "interactive" or self.wary_until > now:
            return self.draw(now, lane) if self.ready_at(lane) <= now else None
        if self.gate > now or self.limit <= len(away) + len(in_flight):
            return None
        number = self.taken
        in_flight[number] = now + self.hold
        self.taken = number + 1
        self.grant_before, self.last_grant = self.last_grant, now
        self.since_bulk += 1
        return number

    def draw(self, now: float, lane: Lane) -> int:
        """Take a token, and return only its number; this is faster than `take`."""
        number = self.taken
        self.in_flight[number] = now + self.hold
        self.taken = number + 1
        self.grant_before, self.last_grant = self.last_grant, now
        self.since_bulk = self.since_bulk + 1 if lane == "interactive" else 0
        return number

    def end(self, now: float, token: Taken, how: End, status: int, headers: Mapping[str, str]) -> bool:
        """Note how a request ended.

        Args:
            now: seconds.
            token: the request's token.
            how: "done", "lost" or "unused".
            status: the HTTP status of an answer that is "done".
            headers: its headers, with lower-cased names.

        Returns:
            Whether waiters may have to wait longer than the last forecast.
        """
        if how == "done":
            return self.done(now, token, status, headers)
        if how == "lost":
            self.lost(now, token)
        else:
            self.unused(token)
        return False

    def unused(self, token: Taken) -> None:
        """Return an unused token: no byte left the process, so it is free again at once."""
        if self.in_flight.pop(token.number, None) is not None and token.number == self.taken - 1:
            # Bulk's pace counts requests, and there was none.
            self.last_grant = self.grant_before

    def lost(self, now: float, token: Taken) -> None:
        """Note that a request's end was never seen: the server may still count it."""
        self.sweep(now)
        expiry = self.in_flight.pop(token.number, None)
        if expiry is not None:
            heappush(self.away, min(expiry, now + GRACE + self.period + self.margin))

    def done(self, now: float, token: Taken, status: int, headers: Mapping[str, str]) -> bool:
        """Note that a request is complete, and learn from its answer.

        Returns:
            Whether waiters may have to wait longer than the last forecast.
        """
        # Nearly all requests take this path, so its steps are written out, not called.
        away, in_flight = self.away, self.in_flight
        if (away and away[0] <= now) or (in_flight and in_flight[next(iter(in_flight))] <= now):
            self.sweep(now)
        # The token may have expired before; its request still ended only now, and counts from now.
        in_flight.pop(token.number, None)
        heappush(away, now + self.period + self.margin)
        limit = remaining = None
        if "x-ratelimit-limit" in headers:
            limit = _limit(headers["x-ratelimit-limit"])
        if "x-ratelimit-remaining" in headers:
            remaining = _remaining(headers["x-ratelimit-remaining"])
        worse = False
        if limit is not None and self.learn and not (limit == self.limit == self.rumoured_limit):
            worse = self._learn_limit(limit)
        if remaining is not None and token.number >= self.newest_answer:
            self.newest_answer = token.number
            # Others took none if the server has as many left as are free here, as it mostly has when alone.
            if remaining < self.limit - len(away) - len(in_flight):
                worse = self._learn_others(now, token, remaining, limit) or worse
        if status == 429 or "retry-after" in headers:
            worse = self._close(now, status, headers) or worse
        return worse

    def _learn_limit(self, limit: int) -> bool:
        # One answer may be another server's page, or a mistake. Two equal limits in a row are believed.
        believed, self.rumoured_limit = limit == self.rumoured_limit, limit
        shrinks = believed and limit < self.limit
        if believed:
            self.limit = limit
        return shrinks

    def _learn_others(self, now: float, token: Taken, remaining: int, limit: int | None) -> bool:
        """Count as taken by others the tokens that were free here but are missing at the server.

        The server counted at some moment after the token was taken. Tokens that were away at that moment may
        be back by now, so tokens that came back since then count as ours. Else a slow answer from the end of
        one window would count the next window's tokens as taken by others.
        """
        # Until a smaller limit is believed, its shortfall doesn't count as taken by others.
        whole = self.limit if limit is None or limit > self.limit else limit
        free = whole - len(self.away) - len(self.in_flight)
        others = free - (self.returned - token.returned) - remaining
        if others <= 0:
            return False
        for _ in range(others):
            heappush(self.away, now + self.period + self.margin)
        return True

    def _close(self, now: float, status: int, headers: Mapping[str, str]) -> bool:
        """Close the gate after a refusal, or after a success that asks the next requests to wait."""
        asked = "retry-after" in headers and retry_after(headers) is not None
        if status == 429:
            self.wary_until = now + WARY_PERIODS * self.period
        if status == 429 or (asked and 200 <= status < 300):
            until = now + refusal_wait(headers, period=self.period)
            if until > self.gate:
                self.gate = until
                return True
        return False

    def borrow(self, now: float, returns: Iterable[float]) -> None:
        """Take tokens for requests that another bucket or process made; `returns` is when they come back."""
        self.away.extend(returns)
        heapify(self.away)
        self.sweep(now)

    def shift(self, seconds: float) -> None:
        """Move every time in the state to another clock, which shows `seconds` more than the old one."""
        self.away[:] = [at + seconds for at in self.away]
        self.in_flight = {number: at + seconds for number, at in self.in_flight.items()}
        self.gate += seconds
        self.wary_until += seconds
        self.last_grant += seconds
        self.grant_before += seconds

    def forecast(self, now: float, lane: Lane, others: int = 0) -> Callable[[int], float]:
        """Estimate when a waiter gets a token, by the number of waiters before it.

        The estimate is a lower bound. It assumes that requests under way end at once and that no other waiter
        comes. `others` is the number of earlier waiters in the other lane, which has its own pace.
        """
        self.sweep(now)
        lap, start = self.period + self.margin, max(now, self.gate)
        kept = self.reserve if lane == "bulk" else 0
        spare, capacity = self.free - kept, self.limit - kept
        returns = sorted([*self.away, *([now + lap] * len(self.in_flight))])
        pace = self.period / self.limit if lane == "bulk" else 0.0
        paced_from = max(start - pace, self.last_grant)
        burst = max(0, self.burst)

        def at(ahead: int) -> float:
            laps, nth = divmod(ahead, capacity)
            back = start if nth < spare else max(start, returns[nth - spare])
            return max(back + laps * lap, paced_from + (ahead - others + 1 - burst) * pace)

        return at

    def status(self, now: float, waiting: Mapping[Lane, int], clock: float = 0.0) -> RateLimitStatus:
        """Return the state for the user; call `sweep` first.

        Args:
            now: seconds.
            waiting: number of waiting requests, by lane.
            clock: seconds by which the event loop's clock is ahead of the clock of `now`.
        """
        return RateLimitStatus(
            limit=self.limit,
            period=self.period,
            reserve=self.reserve,
            free=max(0, self.free),
            in_flight=len(self.in_flight),
            waiting={lane: waiting[lane] for lane in LANES},
            paused_until=self.gate + clock if self.gate > now else None,
            next_token=max(0.0, self.ready_at("interactive") - now),
            as_of=now + clock,
        )


# ── the rate limit in an answer's headers ───────────────────────────────────────────────────────────────────


LARGEST_LIMIT = 10_000
LONGEST_WAIT = 3600.0

# `str.isdigit` and `\d` take other scripts' digits, and `int` takes "1_0", "+1" and spaces inside.
_DIGITS = re.compile(r"[0-9]+")
_EPOCH = re.compile(r"[0-9]{1,15}")
_OF_THE_LIMIT = ("x-ratelimit-limit", "x-ratelimit-remaining")
_SIGNED = re.compile(r"-?[0-9]{1,9}")
# The standard library's reader finds dates even in prose, so a date must hold a time of day.
_TIME_OF_DAY = re.compile(r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9]")
# The longest wait that is returned, in seconds, so that a caller's date arithmetic can't overflow.
_FOREVER = 1e9
# A reset that is further away than this isn't an epoch in seconds, but milliseconds or a duration.
_PLAUSIBLE_RESET = 86_400.0


def of_read(headers: Mapping[str, str], limit: int) -> Mapping[str, str]:
    """Return the headers of a read's answer, without a rate limit that holds only for reads.

    The server may limit reads and sends separately (ruling 29). A read's limit above ours holds only for
    reads, so the limit and its remainder are left out.

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

    `Retry-After` holds ASCII digits or an HTTP date. A date is compared with the answer's own `Date`, so that
    a wrong clock here doesn't matter; a past date is 0.0. Only if `Retry-After` is missing,
    `X-RateLimit-Reset` is compared with `Date`. The result is None if no header is readable.
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

    The wait is one second more than the server asked for, at least two seconds and at most an hour. The
    throttle counts in whole seconds, and sends 0 while it still refuses. Without the header, the wait is
    a whole `period` (seconds).
    """
    asked = retry_after(headers)
    wait = period if asked is None else max(1.0, asked) + 1.0
    return min(wait, LONGEST_WAIT)


def parse_limit(headers: Mapping[str, str]) -> int | None:
    """Read `X-RateLimit-Limit` (requests per period); None unless it lies between 1 and 10,000."""
    return _limit(headers.get("x-ratelimit-limit", ""))


def parse_remaining(headers: Mapping[str, str]) -> int | None:
    """Read `X-RateLimit-Remaining` (requests); a negative number, as under concurrency, is 0."""
    return _remaining(headers.get("x-ratelimit-remaining", ""))


# Answers repeat the same few numbers; matching one costs 0.6 us, looking it up 0.1 us.
@lru_cache(maxsize=64)
def _limit(text: str) -> int | None:
    limit = _integer(text)
    return limit if limit is not None and 1 <= limit <= LARGEST_LIMIT else None


@lru_cache(maxsize=512)
def _remaining(text: str) -> int | None:
    remaining = _integer(text)
    return None if remaining is None else max(0, remaining)


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


show_half_made(globals())
