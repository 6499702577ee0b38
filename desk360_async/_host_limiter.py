"""One limit for all processes of a host: waiting for the tokens of a `TokenFile`.

Here lives how the tasks of one process stand in line, and how processes stand back for each other. What a
token is stands in `_bucket`, how it is kept in `_token_file`.
"""

import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import anyio
from anyio.lowlevel import RunVar
from attrs import define

from desk360_async import _threads
from desk360_async._bucket import Bucket, Lane, Token, hold_of
from desk360_async._errors import ConfigurationError
from desk360_async._permits import TokenPermit
from desk360_async._rate_limits import (
    NO_HEADERS,
    Permit,
    RateLimitStatus,
    check_arguments,
    check_wish,
    wait_too_long,
)
from desk360_async._sqlite import FileBusy
from desk360_async._token_file import TokenFile

__all__ = ["HostLimiter"]

# Another process's wish to go first is believed for so long, and repeated before that.
_FRESH = 1.0
_REPEAT = 0.8
# How soon to look again after standing back for another process, which can't tell us when it is done.
_STAND_BACK = 0.2
# How soon to look again while another process holds the file's lock.
_LOCKED_PAUSE = 0.02


@define
class _Look:
    """What one look at the rows gave: a token, or when to look again; times as in the file."""

    token: Token | None
    again_at: float
    now: float


class HostLimiter:
    """The rate limiter for all processes of a host, as in `uvicorn --workers 4` ("Rate Limit").

    The limit is the address's, so processes behind one address have to share it. They share a SQLite file
    on a local disk; tokens, the pause after a refusal and what was learned are everybody's. Lanes and order
    are exact inside a process; between processes, bulk stands back while another's interactive request
    waits. A process that is killed wastes its tokens for `attempt_timeout`, 30 s and a period at most, and
    never overspends.

    Args:
        path: the file, made where it is missing; not on a network drive.
        limit: requests per period, 1 to 10,000; what the server says replaces it (see `learn`).
        period: seconds.
        reserve: tokens that bulk leaves alone, 0 to `limit - 1`; None is `limit // 60`.
        margin: seconds on top of the period.
        attempt_timeout: seconds that one request may take at most.
        learn: whether `X-RateLimit-Limit` changes `limit`.

    Raises:
        ConfigurationError: an argument is out of bounds; from `acquire`: the file can't be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limit: int = 60,
        period: float = 60.0,
        reserve: int | None = None,
        margin: float = 0.05,
        attempt_timeout: float = 120.0,
        learn: bool = True,
    ) -> None:
        check_arguments(limit, period, reserve, margin, attempt_timeout)
        self._hold = hold_of(attempt_timeout, period, margin)
        self._file = TokenFile(path, lambda: Bucket(limit, period, reserve, margin, self._hold, learn))
        self._known, self._known_at = Bucket(limit, period, reserve, margin, self._hold, learn), -math.inf
        # Whoever holds his lane's lock is the first in it, and looks at the rows for all of it.
        self._first: RunVar[dict[Lane, anyio.Lock]] = RunVar("desk360_async_first_in_line")
        self._waiting: Counter[Lane] = Counter()
        self._process = 0
        self._writer: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<HostLimiter {self._file.path}>"

    async def acquire(self, lane: Lane = "interactive", max_wait: float | None = None) -> Permit:
        """Wait for a token; as `TokenBucket.acquire`.

        Args:
            lane: `"interactive"` or `"bulk"`.
            max_wait: seconds; None waits as long as it takes.

        Raises:
            RateLimitWaitTooLong: no token can be had within `max_wait`; as soon as that is certain.
            ConfigurationError: no such lane, a negative `max_wait`, or a file that can't be used.
        """
        check_wish(lane, max_wait)
        since = _threads.monotonic()
        ahead = self._waiting[lane]
        others = self._waiting["interactive"] if lane == "bulk" else 0
        # Old knowledge is no hindrance: what is away never comes back sooner than was known.
        eta = self._known.forecast(self._known_at, lane, others)(others + ahead) - since
        if max_wait is not None and eta > max_wait:
            raise wait_too_long(max_wait, eta)
        lock = self._locks()[lane]
        self._waiting[lane] += 1
        try:
            await self._stand_in_line(lock, max_wait, eta)
            try:
                return await self._first_in_line(lane, since, max_wait)
            finally:
                lock.release()
        finally:
            self._waiting[lane] -= 1

    async def _stand_in_line(self, lock: anyio.Lock, max_wait: float | None, eta: float) -> None:
        try:
            # Not under a deadline: with `max_wait=0` it would strike before the first look.
            lock.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.move_on_after(max_wait) as scope:
                await lock.acquire()
            if scope.cancelled_caught:
                raise wait_too_long(max_wait or 0.0, max(0.0, eta)) from None

    def _locks(self) -> dict[Lane, anyio.Lock]:
        try:
            return self._first.get()
        except LookupError:
            locks: dict[Lane, anyio.Lock] = {"interactive": anyio.Lock(), "bulk": anyio.Lock()}
            self._first.set(locks)
            return locks

    async def _first_in_line(self, lane: Lane, since: float, max_wait: float | None) -> Permit:
        """Look for a token until there is one; only one task per lane, loop and process does."""
        found: list[Token] = []
        try:
            while True:
                try:
                    look = await _threads.run(self._look, lane, since, found)
                except FileBusy:
                    look = _Look(None, 0.0, _threads.monotonic())
                    look.again_at = look.now + _LOCKED_PAUSE
                if look.token is not None:
                    return TokenPermit(self._ended, *look.token)
                if max_wait is not None and look.again_at > since + max_wait:
                    raise wait_too_long(max_wait, look.again_at - look.now)
                wait = max(look.again_at - look.now, 0.001)
                await anyio.sleep(min(wait, _REPEAT) if lane == "interactive" else wait)
        except BaseException:
            # Cancelled just when it was found: the thread had it, and nobody took it from there.
            for token in found:
                self._ended(token, "unused", 0, NO_HEADERS)
            raise

    def _look(self, lane: Lane, since: float, found: list[Token]) -> _Look:
        """Take a token if it is this lane's turn; in a worker thread."""
        with self._file.transaction() as (db, bucket, now):
            self._known, self._known_at = bucket, now
            if lane == "interactive":
                # Since when bulk has waited isn't told, only that it is too long.
                since_bulk = now - bucket.period if _waits(db, "bulk", now) else None
                turn = bucket.turn(now, interactive=True, bulk_since=since_bulk)
            else:
                before = self._waiting["interactive"] > 0 or _waits(db, "interactive", now)
                turn = bucket.turn(now, interactive=before, bulk_since=since)
            if turn == lane:
                found.append(token := bucket.take(now, lane))
                db.execute("DELETE FROM waiting WHERE process = ? AND lane = ?", (os.getpid(), lane))
                return _Look(token, now, now)
            if lane == "interactive" or bucket.overdue(now, since):
                db.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?)", (os.getpid(), lane, now))
            # Another process's request may end now, and its token is back a period later, not before.
            again = min(bucket.ready_at(lane, since), max(bucket.gate, now + bucket.period + bucket.margin))
            return _Look(None, again if again > now else now + _STAND_BACK, now)

    def _ended(self, token: Token, how: str, status: int, headers: Mapping[str, str]) -> None:
        """Write a request's end, without waiting for it: until then the token's return is pessimistic."""
        at = _threads.monotonic()
        said = dict(headers)  # the caller's own may change before the thread reads them

        def write() -> None:
            try:
                with self._file.transaction() as (_, bucket, now):
                    self._known, self._known_at = bucket, now
                    if how == "done":
                        bucket.done(at, token, status, said)
                    elif how == "lost":
                        bucket.lost(at, token)
                    else:
                        bucket.unused(token)
            except (ConfigurationError, FileBusy):
                return  # the token comes back at its pessimistic time

        try:
            _threads.start(self._executor(), write)
        except RuntimeError:
            return  # the interpreter is going down, or there is no loop: as above

    def _executor(self) -> ThreadPoolExecutor:
        if self._writer is None or self._process != os.getpid():
            self._writer = ThreadPoolExecutor(1, "desk360-limiter")
            self._process = os.getpid()
        return self._writer

    def snapshot(self) -> RateLimitStatus:
        """Tell what was known at the last look at the file, without I/O."""
        bucket, now = self._known, self._known_at
        try:
            clock = anyio.current_time() - _threads.monotonic()
        except RuntimeError:
            clock = 0.0
        return RateLimitStatus(
            limit=bucket.limit,
            period=bucket.period,
            reserve=bucket.reserve,
            free=max(0, bucket.free),
            in_flight=len(bucket.in_flight),
            waiting={"interactive": self._waiting["interactive"], "bulk": self._waiting["bulk"]},
            paused_until=bucket.gate + clock if bucket.gate > now else None,
            next_token=max(0.0, bucket.ready_at("interactive") - now),
            as_of=now + clock,
        )

    def allow_for(self, seconds: float) -> None:
        """Keep tokens away for longer, where a client lets one attempt take longer than `attempt_timeout`.

        Give all processes of the host the same `attempt_timeout`: each cuts what is away for longer than it
        would keep a token itself.

        Args:
            seconds: seconds that an attempt may take; less than is known already changes nothing.
        """
        self._hold = max(self._hold, hold_of(seconds, self._known.period, self._known.margin))

    def seed(self, ages: Iterable[float]) -> None:
        """Do nothing: the file remembers the requests that `TokenBucket.seed` has to be told about.

        Args:
            ages: how many seconds ago each was complete.
        """

    def close(self) -> None:
        """Write what is left to write, and close the file; the next `acquire` opens it again."""
        if self._writer is not None and self._process == os.getpid():
            self._writer.shutdown()
        self._writer = None
        self._file.close()


def _waits(db: sqlite3.Connection, lane: Lane, now: float) -> bool:
    """Say whether someone in that lane has said lately that he waits, or, of bulk, that it is overdue."""
    found = db.execute("SELECT 1 FROM waiting WHERE lane = ? AND at > ?", (lane, now - _FRESH))
    return found.fetchone() is not None
