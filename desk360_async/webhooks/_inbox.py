"""`SQLiteInbox` and `PostgresInbox`: events stored between the 200 and the end of their handling.

Only here is SQL. Several processes share an inbox. A row's `owner` is the receiver that has the event in
memory. In a file, the mark of a process shows its end without a clock. In PostgreSQL, a receiver is dead if
it isn't seen for its lease.
"""

import hashlib
import json
import math
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from attrs import frozen

from desk360_async import _threads
from desk360_async._arguments import require_path, seconds
from desk360_async._errors import ClientStateError, ConfigurationError
from desk360_async._phones import parse_phone, person_of
from desk360_async.webhooks._events import Event, MessageReceived, StatusUpdate
from desk360_async.webhooks._parsing import event_of, kind_of

if TYPE_CHECKING:
    import sqlite3

    from desk360_async._sqlite import SQLiteFile, Transactions

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT UNIQUE,     -- equal in all deliveries of one event; NULL if it has no id
    kind TEXT NOT NULL,
    raw TEXT,            -- NULL once handled: a customer's words are kept no longer than needed
    received_at REAL NOT NULL,
    handled_at REAL,
    error TEXT           -- the class of the last error; with handled_at, the row is a dead letter
);
CREATE INDEX IF NOT EXISTS handled ON events (handled_at) WHERE handled_at IS NOT NULL;
"""
_SHARED = """
ALTER TABLE events ADD COLUMN owner TEXT;
ALTER TABLE events ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN due_at REAL;
ALTER TABLE events ADD COLUMN handlers TEXT;
CREATE TABLE receiver (token TEXT PRIMARY KEY);
DROP INDEX IF EXISTS waiting;
CREATE INDEX unclaimed ON events (kind, id) WHERE handled_at IS NULL AND owner IS NULL;
CREATE INDEX claimed ON events (owner) WHERE handled_at IS NULL AND owner IS NOT NULL;
CREATE INDEX dead ON events (id) WHERE handled_at IS NOT NULL AND error IS NOT NULL;
UPDATE events SET key = 'status/' || key WHERE kind = 'statuses' AND key IS NOT NULL;
PRAGMA user_version = 1;
"""
_UNCLAIMED = (
    "SELECT id, kind, raw, attempts, handlers FROM events WHERE handled_at IS NULL AND owner IS NULL"
    " AND kind {} AND (due_at IS NULL OR due_at <= ?) ORDER BY kind, id LIMIT ?"
)
_TRIM_HANDLED = (
    "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE handled_at < ? AND error IS NULL LIMIT ?{})"
)
_TRIM_DEAD = (
    "DELETE FROM events WHERE id IN"
    " (SELECT id FROM events WHERE handled_at < ? AND error IS NOT NULL LIMIT ?{})"
)
_INSERT = (
    "INSERT INTO events (key, kind, raw, received_at, owner) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (key) DO NOTHING RETURNING id"
)
_HANDLED = (
    "UPDATE events SET owner = NULL, error = NULL, due_at = NULL, handlers = NULL, handled_at = ?, raw = NULL"
    " WHERE id = ?"
)
# Only this receiver's events: another receiver may own an event by now if this process seemed dead.
_FAILED = (
    "UPDATE events SET owner = NULL, error = ?, attempts = attempts + 1, due_at = ?, handlers = ?,"
    " handled_at = ? WHERE id = ? AND owner = ?"
)
_TRIMMED_AT_OPENING = 5_000  # rows
# Maximum number of old rows that each commit deletes: the first number, and the second one for each event
# that it stores. It deletes more than it adds, so the file stops growing at any rate of events. It
# deletes few, since requests wait for the commit. Without old rows this costs one look into an index.
_TRIMMED, _TRIMMED_FOR_EACH = 100, 2
_WEEK = 7 * 86_400.0
_GENERATION = 40
"""Bits of a row's number within its file; the bits above count the files that were deleted meanwhile."""
_LONGEST_KEY = 500  # characters; PostgreSQL's indexes take 2,700 bytes
_BEATS = 4  # number of times that a receiver is seen within its lease

ON_DISK = 0
"""The row of an event that was stored and not claimed, since memory has no room for it."""


class Ended(NamedTuple):
    """A row whose handlers have run.

    Attributes:
        row: the row's number.
        error: the class of the error, if a handler failed.
        due: the time of the next attempt, as `time.time()` counts; None if no attempt is due.
        handlers: the names of the handlers that failed.
    """

    row: int
    error: str | None = None
    due: float | None = None
    handlers: tuple[str, ...] = ()


@frozen
class Claimed:
    """An event that this worker has to handle.

    Attributes:
        row: the row's number.
        event: the event.
        attempts: earlier attempts that failed.
        handlers: the names of the handlers that failed then.
    """

    row: int
    event: Event
    attempts: int = 0
    handlers: tuple[str, ...] = ()


@frozen
class DeadLetter:
    """An event that was given up after its last attempt.

    Attributes:
        row: the row's number.
        event: the event.
        received_at: when it came, in seconds since 1970.
        failed_at: when it was given up, in seconds since 1970.
        attempts: attempts that failed.
        error: the class of the last error.
    """

    row: int
    event: Event
    received_at: float
    failed_at: float
    attempts: int
    error: str


class Inbox(ABC):
    """Stores events before the answer 200, and keeps them until their handlers have ended.

    See `SQLiteInbox` and `PostgresInbox`. Several processes may share an inbox, each with its own object.
    Each event is handled by one process, and repeats are recognised across all processes. The events of a
    dead process go to the others within seconds. So a crash loses no event. A handler may get an event twice
    if its process died after the handler's end and before the event was marked as handled.

    An event whose handler failed is tried again, and is kept as a dead letter after the last attempt.

    Args:
        keep: seconds for which handled events are remembered, so that repeats are recognised (≥ 0).
        retention: seconds for which dead letters are kept, with their texts (≥ 0).
    """

    _locking = ""
    """The last words of a query whose rows the same transaction changes."""

    def __init__(self, keep: float, retention: float) -> None:
        self._keep = seconds("keep", keep, meaning="the time for which repeats are recognised")
        self._retention = seconds("retention", retention, meaning="the time for which dead letters are kept")
        self._token: str | None = None  # this receiver's, while it is open
        self._is_registered = False
        self._generation = 0

    # the receiver's side -------------------------------------------------------------------------------

    async def open(self) -> list[tuple[int, Event]]:
        """Open the inbox for a receiver, and claim the events that wait, oldest first.

        Raises:
            ClientStateError: it is open already.
            ConfigurationError: it can't be opened, or the file is no inbox.
        """
        await self.enter()
        return [(found.row, found.event) for found in await self.claim(1_000_000, 1_000_000)]

    async def enter(self) -> None:
        """Open the inbox for a receiver that claims events.

        Raises:
            ClientStateError: it is open already.
            ConfigurationError: it can't be opened, or the file is no inbox.
        """
        if self._token is not None:
            raise ClientStateError(f"{self!r} is open already; give each receiver its own")
        try:
            await self._transactions().read(_look)
            self._token = await _threads.run(self._new_token)
            await self._transactions().write(self._register)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, OSError):
                raise ConfigurationError(f"{self!r} can't be opened: {error}") from error
            raise

    async def commit(
        self,
        arrived: Sequence[Event],
        ended: Sequence[tuple[Any, ...]],
        *,
        keep: Callable[[Event], bool] = lambda _: True,
    ) -> list[int | None]:
        """Store events and mark others as handled, in one transaction.

        Args:
            arrived: the events to store.
            ended: the rows to mark, as `Ended`.
            keep: returns whether this receiver claims a new event at once. Otherwise the event waits.

        Returns:
            For each event its row; `ON_DISK` for an unclaimed one, None for a repeat.

        Raises:
            ClientStateError: the inbox isn't open.
            ConfigurationError: the inbox can't be written.
        """
        self._opened()
        kept = [keep(event) for event in arrived]
        return await self._transactions().write(self._commit, arrived, kept, [Ended(*mark) for mark in ended])

    async def claim(self, messages: int, others: int) -> list[Claimed]:
        """Claim events that wait in the inbox, messages first.

        Args:
            messages: number of messages at most.
            others: number of other events at most.
        """
        self._opened()
        if not await self._transactions().read(self._anything, messages, others):
            return []
        return await self._transactions().write(self._claim, messages, others)

    @abstractmethod
    async def take_over(self) -> int:
        """Release the events of receivers that died; return the number of such receivers."""

    async def aclose(self) -> None:
        """Release the claimed events, and close the inbox; no effect if it isn't open."""
        token, self._token = self._token, None
        registered, self._is_registered = self._is_registered, False
        try:
            if token is not None and registered:
                await self._release_own(token)
        finally:
            await _threads.run(self._close)

    # dead letters --------------------------------------------------------------------------------------

    async def dead_letters(self, limit: int = 1_000) -> list[DeadLetter]:
        """Return the events that were given up, oldest first; for any process, at any time.

        Args:
            limit: number of events at most.
        """
        return await self._transactions().read(self._dead_letters, limit)

    async def retry_failed(self, *rows: int) -> int:
        """Let handlers get failed events again, dead letters too; return the number of events.

        Args:
            rows: the events' rows; without rows, all failed events.
        """
        return await self._transactions().write(self._retry_failed, rows)

    async def forget(self, phone: str) -> int:
        """Remove the content of a person's waiting events and dead letters; they count as handled then.

        Handled events have no content any more. Their ids stay until `keep` is over, so that repeats are
        recognised.

        Args:
            phone: E.164 with `+`; all spellings are removed.

        Returns:
            The number of events.

        Raises:
            InvalidMessage: if it is no phone number.
        """
        person = person_of(parse_phone(phone, "phone"))
        number = await self._transactions().write(self._forget, person)
        await self._transactions().scrub()
        return number

    async def expire(self, retention: float) -> int:
        """Delete the handled events and the dead letters that ended long ago; return their number.

        The inbox trims itself while it is used. Call this for an inbox that no receiver opens any more, or
        for the dead letters of an inbox without `retention`.

        Args:
            retention: seconds since an event's end (≥ 0).

        Raises:
            ConfigurationError: `retention` is negative or no number, or the inbox can't be written.
        """
        seconds("retention", retention, meaning="the time since an event's end")
        number = await self._transactions().write(self._expire, time.time() - retention)
        await self._transactions().scrub()
        return number

    # a subclass's store --------------------------------------------------------------------------------

    @abstractmethod
    def _transactions(self) -> "Transactions":
        """Return the file or the tables, opened at the next use."""

    @abstractmethod
    def _new_token(self) -> str:
        """Return a new name for this receiver; in a worker thread."""

    @abstractmethod
    def _close(self) -> None:
        """Close the file or the connections, and remove this process's mark; in a worker thread."""

    @abstractmethod
    def _register(self, db: Any) -> None:
        """Add this receiver to the inbox's receivers."""

    async def _release_own(self, token: str) -> None:
        await self._transactions().write(_release, [token])

    def _key(self, event: Event) -> str | None:
        return key_of(event)

    # in the worker thread ------------------------------------------------------------------------------

    def _opened(self) -> str:
        if self._token is None:
            raise ClientStateError(f"{self!r} is not open; the receiver opens it: `async with receiver:`")
        return self._token

    def _number(self, row: int) -> int:
        return self._generation << _GENERATION | row

    def _commit(
        self, db: Any, arrived: Sequence[Event], kept: Sequence[bool], ended: Sequence[Ended]
    ) -> list[int | None]:
        now, token = time.time(), self._opened()
        if not self._is_registered:
            self._register(db)
        rows: list[int | None] = []
        for event, mine in zip(arrived, kept, strict=True):
            values = (
                self._key(event), kind_of(event), json.dumps(event.raw), now, token if mine else None
            )  # fmt: skip
            found = db.execute(_INSERT, values).fetchone()
            rows.append(found and (self._number(found[0]) if mine else ON_DISK))
        self._mark(db, ended, now, token)
        self._trim(db, now, _TRIMMED_FOR_EACH * len(arrived) + _TRIMMED)
        return rows

    def _mark(self, db: Any, ended: Sequence[Ended], now: float, token: str) -> None:
        # Rows of a deleted file aren't in this one.
        marks = [mark for mark in ended if mark.row >> _GENERATION == self._generation]
        in_file = (1 << _GENERATION) - 1
        handled = [(now, mark.row & in_file) for mark in marks if mark.error is None]
        failed = [
            (
                mark.error,
                mark.due,
                _names(mark.handlers),
                None if mark.due else now,
                mark.row & in_file,
                token,
            )
            for mark in marks
            if mark.error is not None
        ]
        for statement, rows in ((_HANDLED, handled), (_FAILED, failed)):
            if rows:
                db.executemany(statement, rows)

    def _trim(self, db: Any, now: float, most: int) -> None:
        db.execute(_TRIM_HANDLED.format(self._locking), (now - self._keep, most))
        db.execute(_TRIM_DEAD.format(self._locking), (now - self._retention, most))

    def _expire(self, db: Any, before: float) -> int:
        return int(db.execute("DELETE FROM events WHERE handled_at <= ?", (before,)).rowcount)

    def _anything(self, db: Any, messages: int, others: int) -> bool:
        return any(_unclaimed(db, min(messages, 1), min(others, 1), ""))

    def _claim(self, db: Any, messages: int, others: int) -> list[Claimed]:
        token = self._opened()
        if not self._is_registered:
            self._register(db)
        found = _unclaimed(db, messages, others, self._locking)
        if found:
            db.executemany("UPDATE events SET owner = ? WHERE id = ?", [(token, row) for row, *_ in found])
        return [
            Claimed(
                row=self._number(row),
                event=event_of(kind, json.loads(raw)),
                attempts=attempts,
                handlers=tuple(json.loads(handlers or "[]")),
            )
            for row, kind, raw, attempts, handlers in found
        ]

    def _dead_letters(self, db: Any, limit: int) -> list[DeadLetter]:
        found = db.execute(
            "SELECT id, kind, raw, received_at, handled_at, attempts, error FROM events"
            " WHERE handled_at IS NOT NULL AND error IS NOT NULL AND raw IS NOT NULL ORDER BY id LIMIT ?",
            (limit,),
        )
        return [
            DeadLetter(row, event_of(kind, json.loads(raw)), received, failed, attempts, error)
            for row, kind, raw, received, failed, attempts, error in found
        ]

    def _forget(self, db: Any, person: int) -> int:
        theirs = [
            row
            for row, kind, raw in db.execute("SELECT id, kind, raw FROM events WHERE raw IS NOT NULL")
            if (found := event_of(kind, json.loads(raw)).sender) and person_of(found) == person
        ]
        if theirs:
            db.executemany(
                "UPDATE events SET raw = NULL, key = NULL, handled_at = coalesce(handled_at, ?) WHERE id = ?",
                [(time.time(), row) for row in theirs],
            )
        return len(theirs)

    def _retry_failed(self, db: Any, rows: tuple[int, ...]) -> int:
        again = (
            "UPDATE events SET handled_at = NULL, error = NULL, due_at = NULL, attempts = 0, owner = NULL"
            " WHERE error IS NOT NULL AND raw IS NOT NULL AND owner IS NULL"
        )
        if not rows:
            return int(db.execute(again).rowcount)
        return sum(db.execute(f"{again} AND id = ?", (row,)).rowcount for row in rows)


class SQLiteInbox(Inbox):
    """Stores events in a SQLite file before the answer 200, and keeps them until their handlers have ended.

    Several processes of one host may open the file, each with a `SQLiteInbox` of its own. Each event is
    handled by one process, and repeats are recognised across all processes. The events of a dead process go
    to the others within seconds. So a crash loses no event. A handler may get an event twice if its process
    died after the handler's end and before the event was marked as handled.

    An event whose handler failed is tried again, and is kept as a dead letter after the last attempt.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: float = _WEEK,
        retention: float = math.inf,
        busy_timeout: float = 10.0,
    ) -> None:
        """Remember the path; the first use opens the file.

        Args:
            path: the file, made if it is missing, readable by its owner only.
            keep: seconds for which handled events are remembered, so that repeats are recognised (≥ 0).
            retention: seconds for which dead letters are kept, with their texts (≥ 0). By default they
                stay until a retry succeeds.
            busy_timeout: seconds to wait for another process's lock (≥ 0).

        Raises:
            ConfigurationError: `path` is no path, or a time is negative or no number.
        """
        super().__init__(keep, retention)
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise ConfigurationError(f"path must be a file's path, not {type(path).__name__}")
        require_path(path, "the inbox")
        self._path = Path(path)
        self._busy = seconds("busy_timeout", busy_timeout, meaning="the time for another process's lock")
        from desk360_async._sqlite import Presence  # loads sqlite3

        self._presence = Presence(self._path)
        self._store: SQLiteFile | None = None

    def __repr__(self) -> str:
        return f"SQLiteInbox({str(self._path)!r})"

    async def commit(
        self,
        arrived: Sequence[Event],
        ended: Sequence[tuple[Any, ...]],
        *,
        keep: Callable[[Event], bool] = lambda _: True,
    ) -> list[int | None]:
        """Store events and mark others as handled, in one transaction; see `Inbox.commit`.

        Raises:
            ConfigurationError: the file can't be written, or was deleted; the next commit makes a new one.
        """
        self._opened()
        file = self._transactions()
        if displaced := file.displaced():
            await _threads.run(file.close)
            self._generation += 1
            self._is_registered = False
            raise ConfigurationError(f"the inbox {displaced}; the next commit makes a new file")
        return await super().commit(arrived, ended, keep=keep)

    async def take_over(self) -> int:
        """Release the events of receivers whose process ended; return the number of such receivers."""
        own, file = self._opened(), self._transactions()
        tokens = await file.read(lambda db: [token for (token,) in db.execute("SELECT token FROM receiver")])
        others = [token for token in tokens if token != own]
        dead = [token for token in others if await _threads.run(self._presence.has_ended, token)]
        if dead:
            await file.write(_release, dead)
        return len(dead)

    def _transactions(self) -> "SQLiteFile":
        if self._store is None:
            from desk360_async._sqlite import SQLiteFile  # loads sqlite3

            self._store = SQLiteFile(self._path, name="the inbox", busy=self._busy, prepare=self._prepare)
        return self._store

    def _new_token(self) -> str:
        return self._presence.name

    def _close(self) -> None:
        file, self._store = self._store, None
        self._presence.leave()
        if file is not None:
            file.close()

    def _register(self, db: Any) -> None:
        db.execute("INSERT OR IGNORE INTO receiver (token) VALUES (?)", (self._opened(),))
        self._is_registered = True

    async def _release_own(self, token: str) -> None:
        if not self._transactions().displaced():
            await super()._release_own(token)

    def _forget(self, db: Any, person: int) -> int:
        db.execute("PRAGMA secure_delete = ON")
        return super()._forget(db, person)

    def _expire(self, db: Any, before: float) -> int:
        db.execute("PRAGMA secure_delete = ON")
        return super()._expire(db, before)

    def _prepare(self, db: "sqlite3.Connection") -> None:
        from desk360_async._sqlite import transaction

        with transaction(db):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > 1:
                message = f"{self!r} was written by a later desk360_async (schema {version}); upgrade"
                raise ConfigurationError(message)
            for statement in (_SCHEMA + (_SHARED if version == 0 else "")).split(";\n"):
                db.execute(statement)
            self._trim(db, time.time(), _TRIMMED_AT_OPENING)


class PostgresInbox(Inbox):
    """Keeps events in PostgreSQL until their handlers have ended, for receivers on several hosts.

    It behaves as `SQLiteInbox` does: each event is handled by one receiver, and repeats are recognised across
    all of them. A receiver that isn't seen for its lease is dead, and its events go to the others. A receiver
    that was stopped for longer (SIGSTOP, a blocked event loop) may handle an event that another one has
    handled meanwhile. The hosts' clocks must agree within seconds. Needs the extra `[postgres]`.
    """

    _locking = " FOR UPDATE SKIP LOCKED"

    def __init__(
        self,
        dsn: str,
        *,
        keep: float = _WEEK,
        retention: float = math.inf,
        lease: float = 10.0,
        schema: str = "desk360",
    ) -> None:
        """Remember the database; the first use connects.

        Args:
            dsn: `postgresql://user:password@host/database`; the password appears in no message or `repr`.
            keep: seconds for which handled events are remembered, so that repeats are recognised (≥ 0).
            retention: seconds for which dead letters are kept, with their texts (≥ 0). By default they
                stay until a retry succeeds.
            lease: seconds after which a receiver that isn't seen is dead (≥ 1).
            schema: the schema of the tables. Applications that must not share events need different schemas.

        Raises:
            ConfigurationError: `dsn` is no DSN, a time is out of bounds, or the extra is missing.
        """
        from desk360_async._postgres import Database, Tables

        super().__init__(keep, retention)
        self._lease = seconds("lease", lease, least=1.0)
        self._tables = Tables(Database(dsn, schema=schema), name="the inbox")
        self._seen = float("-inf")

    def __repr__(self) -> str:
        return f"PostgresInbox({self._tables.database.name!r})"

    async def take_over(self) -> int:
        """Show that this receiver is alive, and release dead receivers' events; return how many were dead."""
        now = anyio.current_time()
        if now < self._seen + self._lease / _BEATS:
            return 0
        # A crash of the database may forget the release; the next look repeats it.
        dead = await self._tables.write_unsynced(self._beat)
        self._seen = now
        return dead

    def _beat(self, db: Any) -> int:
        self._register(db)
        dead = db.execute(
            "DELETE FROM receiver WHERE seen < clock_timestamp() - make_interval(secs => ?) RETURNING token",
            (self._lease,),
        ).fetchall()
        if dead:
            _release(db, [token for (token,) in dead])
        return len(dead)

    def _register(self, db: Any) -> None:
        db.execute(
            "INSERT INTO receiver (token, seen) VALUES (?, clock_timestamp())"
            " ON CONFLICT (token) DO UPDATE SET seen = excluded.seen",
            (self._opened(),),
        )
        self._is_registered = True

    def _commit(
        self, db: Any, arrived: Sequence[Event], kept: Sequence[bool], ended: Sequence[Ended]
    ) -> list[int | None]:
        self._register(db)  # a receiver that seemed dead is registered again before it owns new events
        return super()._commit(db, arrived, kept, ended)

    def _claim(self, db: Any, messages: int, others: int) -> list[Claimed]:
        self._register(db)
        return super()._claim(db, messages, others)

    def _key(self, event: Event) -> str | None:
        key = key_of(event)
        if key is None or (len(key) <= _LONGEST_KEY and key.isprintable()):
            return key
        # PostgreSQL stores no NUL and no lone surrogate, and indexes no long text.
        return "hash/" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    def _transactions(self) -> "Transactions":
        return self._tables

    def _new_token(self) -> str:
        self._seen = float("-inf")
        return secrets.token_hex(8)

    def _close(self) -> None:
        self._tables.close()


def _look(_: Any) -> None:
    """Read nothing: opening is enough."""


def _release(db: Any, tokens: Sequence[str]) -> None:
    for token in tokens:
        db.execute("UPDATE events SET owner = NULL WHERE owner = ? AND handled_at IS NULL", (token,))
        db.execute("DELETE FROM receiver WHERE token = ?", (token,))


def _unclaimed(db: Any, messages: int, others: int, locking: str) -> list[tuple[Any, ...]]:
    due = time.time()
    found: list[tuple[Any, ...]] = []
    if messages:
        found += db.execute(_UNCLAIMED.format("= 'messages'") + locking, (due, messages)).fetchall()
    if others:
        found += db.execute(_UNCLAIMED.format("> 'messages'") + locking, (due, others)).fetchall()
    return found


def _names(handlers: Sequence[str]) -> str | None:
    return json.dumps(handlers) if handlers else None


def key_of(event: Event) -> str | None:
    """Return the key that an event and its repeats share (rulings 36a and 41); None without an id."""
    if not event.id:
        return None
    if isinstance(event, StatusUpdate):
        return f"status/{event.status}/{event.id}"
    if isinstance(event, MessageReceived) and event.phone is None and event.user_id:
        return f"message/{event.user_id}/{event.id}"
    return f"message/{event.id}"
