"""One limit for several processes: waiting for the tokens of a store that they share.

This module holds the waiting tasks of one process, the rules by which it lets other processes go first, and
its share of the limit while the store is lost. The rules of tokens are in `_bucket`. Each store has its own
module.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol, TypeVar
from uuid import uuid4

import anyio
from anyio.lowlevel import RunVar
from attrs import evolve

from desk360_async import _threads
from desk360_async._bucket import (
    GRACE,
    NO_HEADERS,
    Bucket,
    End,
    Lane,
    RateLimitStatus,
    StoreBusy,
    StoreLost,
    Taken,
    Token,
    Waits,
)
from desk360_async._errors import ConfigurationError, RateLimitWaitTooLong
from desk360_async._limiter import Permit, TokenPermit, check_arguments, check_wish
from desk360_async._observer import Notice, Observer, parse_observers
from desk360_async._redaction import show_half_made
from desk360_async._token_file import TokenFile

__all__ = ["HostLimiter", "PostgresLimiter", "SharedLimiter", "TokenStore"]

T = TypeVar("T")
Transition = Callable[[Bucket, Waits, float, float], T]

# Seconds after which a waiting interactive request is noted again; a note is valid for one second.
_REPEAT = 0.8
# Seconds until the next look if another process goes first: that process can't wake this one.
_STAND_BACK = 0.2
# Seconds until the next look while another process holds the store's lock.
_LOCKED_PAUSE = 0.02
# Seconds between two looks at the file's name, and between two tries to reach a lost store.
_CHECK_EVERY = 1.0
# Tries of the writer's thread while the store is busy; the next look writes the rest.
_WRITE_TRIES = 40
# Tokens that this process takes while the store is lost are numbered from here.
_OWN_NUMBERS = 1 << 48


class TokenStore(Protocol):
    """A bucket's state that several processes read and write."""

    @property
    def name(self) -> str:
        """Return the store's name in messages; one name is one store."""
        ...

    @property
    def identity(self) -> object:
        """Return the identity of the open store; None while it is closed."""
        ...

    def displaced(self) -> str | None:
        """Return why the name now leads to another store, or None."""
        ...

    def step(self, model: Bucket, transition: Transition[T]) -> T:
        """Run one transition on the state; the store may run it again if another process was faster."""
        ...

    def close(self) -> None:
        """Close the store; the next step opens it again."""
        ...


class _Look(NamedTuple):
    """One look at the store: a token, or the seconds until a token (`wait`) and the next look (`pause`)."""

    token: Token | None
    wait: float = 0.0
    pause: float = 0.0
    origin: object = None


class _Ended(NamedTuple):
    """A request's end that isn't in the store yet; `at` is a time of this process's clock."""

    at: float
    token: Taken
    how: End
    status: int
    headers: Mapping[str, str]
    origin: object


class _Spending:
    """The tokens that this process took and that aren't back yet.

    While the store is lost, they decide the process's share. A store that replaces it counts them as taken.
    """

    def __init__(self, model: Bucket) -> None:
        self.mutex = _threads.Mutex()
        self.process = os.getpid()
        self.identity: object = None
        self.bucket = evolve(model, learn=False, away=[], in_flight={}, taken=_OWN_NUMBERS)
        # Whether the store is lost, and when to try it again.
        self.alone = False
        self.retry_at = -1e18
        # Return times of tokens that the store has never seen.
        self.unwritten: list[float] = []

    def take(self, token: Token, now: float) -> None:
        """Note a token that the store gave."""
        with self.mutex:
            self.bucket.sweep(now)
            self.bucket.in_flight[token.number] = now + self.bucket.hold
            self.bucket.last_grant = now

    def end(self, ended: _Ended) -> bool:
        """Note a request's end; return whether the store gave its token."""
        own = ended.token.number >= _OWN_NUMBERS
        with self.mutex:
            self.bucket.end(ended.at, ended.token, ended.how, ended.status, ended.headers)
            if own and ended.how != "unused":
                grace = GRACE if ended.how == "lost" else 0.0
                self.unwritten.append(ended.at + grace + self.bucket.period + self.bucket.margin)
        return not own

    def returns(self, now: float) -> list[float]:
        """Return the return times of this process's tokens."""
        with self.mutex:
            self.bucket.sweep(now)
            return [*self.bucket.away, *self.bucket.in_flight.values()]

    def unknown_to_store(self, now: float) -> list[float]:
        """Return the return times of the tokens that this process took while the store was lost."""
        with self.mutex:
            flying = [at for number, at in self.bucket.in_flight.items() if number >= _OWN_NUMBERS]
            return [at for at in self.unwritten if at > now] + flying

    def go_alone(self, now: float, limit: int) -> int | None:
        """Cut the limit to a share that can't overspend; return the share, or None if it is cut already.

        The share is nine tenths of the tokens that this process holds. The last tenth leaves room for
        processes that hold no token. Each of them gets a twentieth of the limit.
        """
        with self.mutex:
            self.retry_at = now + _CHECK_EVERY
            if self.alone:
                return None
            self.alone = True
            self.bucket.sweep(now)
            held = len(self.bucket.away) + len(self.bucket.in_flight)
            self.bucket.limit = max(1, limit // 20, held * 9 // 10)
            return self.bucket.limit

    def draw(self, now: float, lane: Lane, since: float) -> tuple[Token | None, float]:
        """Take a token of the share, or return the seconds until one may be free."""
        with self.mutex:
            self.bucket.sweep(now)
            ready = self.bucket.ready_at(lane, since)
            if ready <= now:
                return self.bucket.take(now, lane), 0.0
            return None, ready - now

    def rejoin(self) -> bool:
        """Give up the share, since the store counts all tokens again; return whether there was a share."""
        with self.mutex:
            alone, self.alone = self.alone, False
            self.unwritten.clear()
            return alone


# By the file's name. A second limiter on the same file counts the first one's tokens too, since the file may
# have been deleted between them.
_spendings: dict[str, _Spending] = {}


class SharedLimiter:
    """A rate limiter whose tokens lie in a store that several processes share.

    Args:
        store: the state of the bucket.
        model: an empty bucket with this process's arguments.
        observer: gets the notices of a store that is lost, back or replaced.
    """

    def __init__(self, store: TokenStore, model: Bucket, observer: Observer) -> None:
        self._store = store
        self._model = model
        self._observer = observer
        self._known, self._known_at, self._ahead = evolve(model, away=[], in_flight={}), -1e18, 0.0
        # One task per lane holds the lane's lock and looks at the store. The others wait for the lock.
        self._first: RunVar[dict[Lane, anyio.Lock]] = RunVar("desk360_async_first_in_line")
        self._waiting: Counter[Lane] = Counter()
        self._process = 0
        self._key = ""
        self._ends: deque[_Ended] = deque()
        self._writing = False  # whether a thread is writing ends that it took from `_ends`
        self._writer: ThreadPoolExecutor | None = None
        self._check_at = -1e18
        self._spent = _Spending(model)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.name}>"

    async def acquire(self, lane: Lane = "interactive", max_wait: float | None = None) -> Permit:
        """Wait for a token. First come, first served within a lane and process.

        Args:
            lane: `"interactive"` or `"bulk"`.
            max_wait: seconds; None waits as long as it takes.

        Raises:
            RateLimitWaitTooLong: no token is free within `max_wait`; raised as soon as that is certain.
            ConfigurationError: no such lane, a negative `max_wait`, or a store that can't be used.
        """
        check_wish(lane, max_wait)
        since = _threads.monotonic()
        ahead = self._waiting[lane]
        others = self._waiting["interactive"] if lane == "bulk" else 0
        # The last look's state is safe: only an end that isn't written yet can return a token sooner.
        eta = self._known.forecast(self._known_at, lane, others)(others + ahead) - since - self._ahead
        if max_wait is not None and eta > max_wait and not (self._ends or self._writing or self._spent.alone):
            raise RateLimitWaitTooLong.within(max_wait, eta)
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
            # Without a deadline: with `max_wait=0` it would pass before the first look.
            lock.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.move_on_after(max_wait) as scope:
                await lock.acquire()
            if scope.cancelled_caught:
                raise RateLimitWaitTooLong.within(max_wait or 0.0, max(0.0, eta)) from None

    def _locks(self) -> dict[Lane, anyio.Lock]:
        try:
            return self._first.get()
        except LookupError:
            locks: dict[Lane, anyio.Lock] = {"interactive": anyio.Lock(), "bulk": anyio.Lock()}
            self._first.set(locks)
            return locks

    async def _first_in_line(self, lane: Lane, since: float, max_wait: float | None) -> Permit:
        """Look for a token until there is one; only one task per lane, loop and process does."""
        found: list[tuple[object, Token]] = []
        try:
            while True:
                try:
                    look = await _threads.run(self._look, lane, since, found)
                except StoreBusy as busy:
                    # The task waits for the lock, not the thread: deadlines and cancellation end the wait.
                    if max_wait is not None and _threads.monotonic() + _LOCKED_PAUSE > since + max_wait:
                        message = f"no token within max_wait={max_wait:g} s: {busy}"
                        raise RateLimitWaitTooLong(message, eta=max_wait + _LOCKED_PAUSE) from busy
                    await anyio.sleep(_LOCKED_PAUSE)
                    continue
                if look.token is not None:
                    return TokenPermit(partial(self._ended, look.origin), *look.token)
                if max_wait is not None and _threads.monotonic() + look.wait > since + max_wait:
                    raise RateLimitWaitTooLong.within(max_wait, look.wait)
                await anyio.sleep(max(look.pause, 0.001))
        except BaseException:
            # The task was cancelled after its thread took a token, so the token goes back.
            for origin, token in found:
                self._ended(origin, token, "unused", 0, NO_HEADERS)
            raise

    def _look(self, lane: Lane, since: float, found: list[tuple[object, Token]]) -> _Look:
        """Take a token if it is this lane's turn; in a worker thread."""
        now = _threads.monotonic()
        if self._spent.alone and now < self._spent.retry_at:
            look = self._look_alone(lane, since)
        else:
            try:
                look = self._step(partial(self._turn, lane, since))
            except StoreLost as lost:
                self._go_alone(lost)
                look = self._look_alone(lane, since)
        if look.token is not None:
            found.append((look.origin, look.token))
            if look.token.number < _OWN_NUMBERS:
                self._spent.take(look.token, _threads.monotonic())
        return look

    def _turn(
        self, lane: Lane, since: float, bucket: Bucket, waits: Waits, now: float, local: float
    ) -> _Look:
        """Take a token if it is this lane's turn: the transition of a look."""
        begun = now - (local - since)
        if lane == "interactive":
            # Bulk's note holds no start of the wait. It only shows that the wait is overdue.
            overdue = now - bucket.period if waits.says("bulk", now) else None
            turn = bucket.turn(now, interactive=True, bulk_since=overdue)
        else:
            before = self._waiting["interactive"] > 0 or waits.says("interactive", now)
            turn = bucket.turn(now, interactive=before, bulk_since=begun)
        if turn == lane:
            # More tasks of this lane wait. Their own looks come too late to hold back other processes' bulk.
            if lane == "interactive" and self._waiting[lane] > 1:
                waits.note(self._key, lane, now)
            else:
                waits.forget(self._key, lane)
            return _Look(bucket.take(now, lane), origin=self._store.identity)
        if lane == "interactive" or bucket.overdue(now, begun):
            waits.note(self._key, lane, now)
        # If a request of another process ends now, its token is back one period later at the earliest.
        again = min(bucket.ready_at(lane, begun), max(bucket.gate, now + bucket.period + bucket.margin))
        wait = again - now if again > now else _STAND_BACK
        return _Look(None, wait, min(wait, _REPEAT) if lane == "interactive" else wait)

    def _look_alone(self, lane: Lane, since: float) -> _Look:
        """Take a token of this process's own share."""
        now = _threads.monotonic()
        token, wait = self._spent.draw(now, lane, since)
        self._known, self._known_at, self._ahead = self._spent.bucket, now, 0.0
        return _Look(token, wait, min(wait, _CHECK_EVERY))

    def _step(self, transition: Transition[T]) -> T:
        """Give the store the pending ends and run a transition, in one step; in a worker thread."""
        self._settle()
        spent = self._spent
        self._writing = True
        ends: list[_Ended] = []
        with suppress(IndexError):  # another thread may be faster
            while True:
                ends.append(self._ends.popleft())

        def step(bucket: Bucket, waits: Waits, now: float, local: float) -> T:
            ahead = now - local
            if spent.identity not in (None, self._store.identity):
                bucket.borrow(now, [at + ahead for at in spent.returns(local)])
            elif spent.alone:
                bucket.borrow(now, [at + ahead for at in spent.unknown_to_store(local)])
            for end in ends:
                if end.origin == self._store.identity:
                    bucket.end(end.at + ahead, end.token, end.how, end.status, end.headers)
            result = transition(bucket, waits, now, local)
            self._known, self._known_at, self._ahead = bucket, now, ahead
            return result

        try:
            result = self._store.step(self._model, step)
        except BaseException:
            self._ends.extendleft(reversed(ends))
            raise
        finally:
            self._writing = False
        spent.identity = self._store.identity
        if spent.rejoin():
            text = f"The limiter is back at {self._store.name}."
            self._observer.notice(Notice("desk360.limiter.back", "warning", text))
        return result

    def _settle(self) -> None:
        """Begin anew in a forked child, and follow the store's name to another file."""
        if self._process != os.getpid():
            self._process, self._key = os.getpid(), uuid4().hex
            self._ends.clear()
            known = _spendings.get(self._store.name)
            if known is None or known.process != self._process:
                known = _spendings[self._store.name] = _Spending(self._model)
            self._spent = known
        now = _threads.monotonic()
        if not self._check_at <= now < self._check_at + _CHECK_EVERY:
            self._check_at = now
            if reason := self._store.displaced():
                text = f"The limiter opens {self._store.name} again: {reason}."
                self._observer.notice(Notice("desk360.limiter.reopened", "warning", text))
                self._store.close()

    def _go_alone(self, lost: StoreLost) -> None:
        """Go on with a share that can't overspend, and try the store once a second."""
        share = self._spent.go_alone(_threads.monotonic(), self._model.limit)
        if share is not None:
            period = self._model.period
            text = (
                f"The limiter allows this process {share} requests per {period:g} s until its store is "
                f"back: {lost}"
            )
            facts = {"requests": share, "period": period}
            self._observer.notice(Notice("desk360.limiter.alone", "warning", text, facts))

    def _ended(self, origin: object, token: Taken, how: End, status: int, headers: Mapping[str, str]) -> None:
        """Let a thread write a request's end. Until then, the store keeps the token for its longest time."""
        # The caller's own headers may change before the thread reads them.
        ended = _Ended(_threads.monotonic(), token, how, status, dict(headers), origin)
        if not self._spent.end(ended):
            return
        self._ends.append(ended)
        try:
            _threads.start(self._executor(), self._write)
        except RuntimeError:
            return  # the interpreter is going down, or there is no loop: the token comes back by itself

    def _write(self) -> None:
        for _ in range(_WRITE_TRIES):
            if not self._ends:
                return None
            try:
                return self._step(_change_nothing)
            except StoreBusy:
                continue  # the step has waited for the lock already
            except StoreLost as lost:
                return self._go_alone(lost)
            except ConfigurationError:
                return None  # the token comes back at its pessimistic time
        return None

    def _executor(self) -> ThreadPoolExecutor:
        if self._writer is None or self._process != os.getpid():
            self._writer = ThreadPoolExecutor(1, "desk360-limiter")
        return self._writer

    def snapshot(self) -> RateLimitStatus:
        """Return the state of the last look at the store, without I/O."""
        try:
            clock = anyio.current_time() - _threads.monotonic()
        except RuntimeError:
            clock = 0.0
        return self._known.status(self._known_at, self._waiting, clock - self._ahead)

    def allow_for(self, seconds: float) -> None:
        """Keep taken tokens for longer, for a client whose attempts may take longer than `attempt_timeout`.

        Give all processes the same `attempt_timeout`. A process cuts the time of another's token to the
        longest time that its own tokens get.

        Args:
            seconds: seconds that an attempt may take; fewer than before are ignored.
        """
        self._model.hold = max(
            self._model.hold, Bucket.hold_of(seconds, self._model.period, self._model.margin)
        )

    def seed(self, ages: Iterable[float]) -> None:
        """Ignore the ages: the store already counts earlier requests, unlike a `TokenBucket`.

        Args:
            ages: seconds since each request was complete.
        """

    def close(self) -> None:
        """Write the pending ends and close the store; the next `acquire` opens it again."""
        if self._writer is not None and self._process == os.getpid():
            self._writer.shutdown()
        self._writer = None
        self._store.close()


def _change_nothing(model: Bucket, waits: Waits, now: float, wall: float) -> None:
    """Do nothing in a step that only writes pending ends."""


class HostLimiter(SharedLimiter):
    """The rate limiter for all processes of a host, as in `uvicorn --workers 4` ("Rate Limit").

    The server limits each address, so processes behind one address have to share the limit. They share a
    SQLite file on a local disk: its tokens, the pause after a refusal, and the learned limit. Inside a
    process, lanes and order are exact. Between processes, bulk waits while an interactive request waits in
    another process. A killed process never overspends. Its tokens come back after `attempt_timeout`, 30 s
    and a period at most.

    While the disk is full, a process goes on with nine tenths of the tokens that it held (or a twentieth of
    the limit), logs that once, and returns to the file by itself.

    Args:
        path: the file's absolute path, the same in all processes; made where it is missing; not on a network
            drive.
        limit: requests per period, 1 to 10,000; the server's own limit replaces it (see `learn`).
        period: seconds.
        reserve: tokens that bulk leaves alone, 0 to `limit - 1`; None is `limit // 60`.
        margin: seconds on top of the period.
        attempt_timeout: seconds that one request may take at most.
        learn: whether `X-RateLimit-Limit` changes `limit`.
        observer: gets the limiter's notices; None for log lines, () for none.

    Raises:
        ConfigurationError: an argument is out of bounds; from `acquire`: the file can't be used.

    Example:
        ```python
        client = AsyncDesk360(limiter=HostLimiter("desk360-limit.db"))
        ```
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
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        check_arguments(limit, period, reserve, margin, attempt_timeout)
        model = Bucket(limit, period, reserve, margin, Bucket.hold_of(attempt_timeout, period, margin), learn)
        self.path = path
        super().__init__(TokenFile(path), model, parse_observers(observer))

    def __repr__(self) -> str:
        return f"<HostLimiter {os.fspath(self.path)}>"


class PostgresLimiter(SharedLimiter):
    """The rate limiter for hosts behind one address, which share a PostgreSQL database ("Rate Limit").

    Needs the extra `[postgres]`. While the database is away, a process goes on with nine tenths of the tokens
    that it held, logs that once, and returns by itself.

    Args:
        dsn: `postgresql://user:password@host/database`.
        egress: the name of the address from which the requests go out: the same on all hosts behind it, and
            another one for another address.
        limit: requests per period, 1 to 10,000; the server's own limit replaces it (see `learn`).
        period: seconds.
        reserve: tokens that bulk leaves alone, 0 to `limit - 1`; None is `limit // 60`.
        margin: seconds on top of the period.
        attempt_timeout: seconds that one request may take at most.
        learn: whether `X-RateLimit-Limit` changes `limit`.
        durable: whether each token waits for the database's disk. Otherwise a crash of the database may lose
            the tokens of its last second. The server then refuses some requests, and no message is lost.
        schema: the schema of the tables.
        observer: gets the limiter's notices; None for log lines, () for none.

    Raises:
        ConfigurationError: an argument is out of bounds or the extra is missing; from `acquire`: the database
            can't be used.
    """

    def __init__(
        self,
        dsn: str,
        *,
        egress: str = "default",
        limit: int = 60,
        period: float = 60.0,
        reserve: int | None = None,
        margin: float = 0.05,
        attempt_timeout: float = 120.0,
        learn: bool = True,
        durable: bool = False,
        schema: str = "desk360",
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        from desk360_async._postgres import Database
        from desk360_async._token_table import TokenTable

        check_arguments(limit, period, reserve, margin, attempt_timeout)
        if not egress or len(egress) > 200:
            raise ConfigurationError(f"egress is {egress!r}; it must be a name of 1 to 200 characters")
        model = Bucket(limit, period, reserve, margin, Bucket.hold_of(attempt_timeout, period, margin), learn)
        self.egress: str = egress
        store = TokenTable(Database(dsn, schema=schema, durable=durable), egress, durable=durable)
        super().__init__(store, model, parse_observers(observer))


show_half_made(globals())
