"""`SQLiteInbox`: events on disk between the 200 and the end of their handling. Only here is SQL.

Several processes share one file. A row's `owner` is the worker that has the event in memory. Each worker
holds a lock on a file of its own, which the operating system takes away when the process ends: so another
worker distinguishes a dead owner from a slow one, without a clock.
"""

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import frozen

from desk360_async import _threads
from desk360_async._arguments import require_path, seconds
from desk360_async._errors import ClientStateError, ConfigurationError
from desk360_async._phones import parse_phone, person_of
from desk360_async.webhooks._events import Event, MessageReceived, StatusUpdate
from desk360_async.webhooks._parsing import event_of, kind_of

if TYPE_CHECKING:
    import sqlite3

    from desk360_async._sqlite import SQLiteFile

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
CREATE TABLE workers (token TEXT PRIMARY KEY);
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
_TRIMMED_AT_OPENING = 5_000  # rows
# Rows that each commit deletes at most, if they are old: more than it adds, so that the file stops growing
# at any rate of events, and few, since requests wait for the commit. Without old rows it costs a look into
# an index.
_TRIMMED, _TRIMMED_FOR_EACH = 100, 2
_WEEK = 7 * 86_400.0
_GENERATION = 40
"""Bits of a row's number within its file; the bits above count the files that were deleted meanwhile."""

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


class SQLiteInbox:
    """Keeps events in a SQLite file from before the 200 until their handlers have ended.

    Several processes of one host may open the file, each with a `SQLiteInbox` of its own. Each event is
    handled by one of them, and repeats are recognised across them. The events of a dead process go to the
    others within seconds. So a crash loses no event. A handler may see an event twice if its process died
    between the handler's end and its mark.

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
                stay until they are handled after all.
            busy_timeout: seconds to wait for another process's lock (≥ 0).

        Raises:
            ConfigurationError: `path` is no path, or a time is negative or no number.
        """
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise ConfigurationError(f"path must be a file's path, not {type(path).__name__}")
        require_path(path, "the inbox")
        self._path = Path(path)
        self._keep = seconds("keep", keep, meaning="the time for which repeats are recognised")
        self._retention = seconds("retention", retention, meaning="the time for which dead letters are kept")
        self._busy = seconds("busy_timeout", busy_timeout, meaning="the time for another process's lock")
        self._worker: _Worker | None = None
        self._store: SQLiteFile | None = None
        self._generation = 0

    def __repr__(self) -> str:
        return f"SQLiteInbox({str(self._path)!r})"

    # the receiver's side -------------------------------------------------------------------------------

    async def open(self) -> list[tuple[int, Event]]:
        """Open the file as a worker, and claim the events that wait, oldest first.

        Raises:
            ClientStateError: it is open already.
            ConfigurationError: the file can't be opened, or is no inbox.
        """
        await self.enter()
        return [(found.row, found.event) for found in await self.claim(1_000_000, 1_000_000)]

    async def enter(self) -> None:
        """Open the file as a worker that claims events.

        Raises:
            ClientStateError: it is open already.
            ConfigurationError: the file can't be opened, or is no inbox.
        """
        if self._worker is not None:
            raise ClientStateError(f"{self!r} is open already; give each receiver its own")
        self._worker = _Worker(self._path)
        try:
            await self._file().run(lambda _: None)
            await _threads.run(self._worker.lock)
            await self._file().write(self._register)
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
            keep: whether this worker claims a new event at once; it waits on disk otherwise.

        Returns:
            For each event its row; `ON_DISK` for an unclaimed one, None for a repeat.

        Raises:
            ClientStateError: the inbox isn't open.
            ConfigurationError: the file can't be written, or was deleted; the next commit makes a new one.
        """
        worker, file = self._opened(), self._file()
        if displaced := file.displaced():
            await _threads.run(file.close)
            self._generation += 1
            worker.registered = False
            raise ConfigurationError(f"the inbox {displaced}; the next commit makes a new file")
        kept = [keep(event) for event in arrived]
        return await file.write(self._commit, arrived, kept, [Ended(*mark) for mark in ended])

    async def claim(self, messages: int, others: int) -> list[Claimed]:
        """Claim events that wait on disk, messages first.

        Args:
            messages: number of messages at most.
            others: number of other events at most.
        """
        self._opened()
        if not await self._file().read(self._anything, messages, others):
            return []
        return await self._file().write(self._claim, messages, others)

    async def take_over(self) -> int:
        """Release the events of workers that died; return the number of such workers."""
        worker = self._opened()
        tokens = await self._file().read(
            lambda db: [token for (token,) in db.execute("SELECT token FROM workers")]
        )
        others = [token for token in tokens if token != worker.token]
        dead = [token for token in others if await _threads.run(worker.is_dead, token)]
        for token in dead:
            await self._file().write(_release, token)
            with suppress(OSError):
                await _threads.run(worker.place(token).unlink)
        return len(dead)

    async def aclose(self) -> None:
        """Release the claimed events and close the file; no effect if it isn't open."""
        worker, self._worker = self._worker, None
        file, self._store = self._store, None
        try:
            if file is not None and worker is not None and worker.registered and not file.displaced():
                await file.write(_release, worker.token)
        finally:
            if worker is not None:
                await _threads.run(worker.unlock)
            if file is not None:
                await _threads.run(file.close)

    # dead letters --------------------------------------------------------------------------------------

    async def dead_letters(self, limit: int = 1_000) -> list[DeadLetter]:
        """Return the events that were given up, oldest first; for any process, at any time.

        Args:
            limit: number of events at most.
        """
        return await self._file().read(self._dead_letters, limit)

    async def retry_failed(self, *rows: int) -> int:
        """Let failed events be handled again, dead letters among them; return their number.

        Args:
            rows: the events' rows; without rows, all that failed.
        """
        return await self._file().write(self._retry_failed, rows)

    async def forget(self, phone: str) -> int:
        """Remove a person's events that wait or are dead letters; they count as handled, without their words.

        Events that were handled have no words any more. Their ids stay until `keep` is over, so that repeats
        are recognised.

        Args:
            phone: E.164 with `+`; all spellings are removed.

        Returns:
            The number of events.

        Raises:
            InvalidMessage: if it is no phone number.
        """
        person = person_of(parse_phone(phone, "phone"))
        number = await self._file().write(self._forget, person)
        await self._file().run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return number

    async def expire(self, retention: float) -> int:
        """Delete the handled events and the dead letters that ended long ago; return their number.

        The inbox trims itself while it is used. This is for files that no receiver opens any more, and for
        dead letters of an inbox without `retention`.

        Args:
            retention: seconds since an event's end (≥ 0).

        Raises:
            ConfigurationError: `retention` is no such number, or the file can't be written.
        """
        seconds("retention", retention, meaning="the time since an event's end")
        number = await self._file().write(self._expire, time.time() - retention)
        await self._file().run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return number

    # in the worker thread ------------------------------------------------------------------------------

    def _file(self) -> "SQLiteFile":
        if self._store is None:
            from desk360_async._sqlite import SQLiteFile  # loads sqlite3

            self._store = SQLiteFile(self._path, name="the inbox", busy=self._busy, prepare=self._prepare)
        return self._store

    def _opened(self) -> "_Worker":
        if self._worker is None:
            raise ClientStateError(f"{self!r} is not open; the receiver opens it: `async with receiver:`")
        return self._worker

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

    def _register(self, db: "sqlite3.Connection") -> None:
        worker = self._opened()
        db.execute("INSERT OR IGNORE INTO workers (token) VALUES (?)", (worker.token,))
        worker.registered = True

    def _number(self, row: int) -> int:
        return self._generation << _GENERATION | row

    def _commit(
        self,
        db: "sqlite3.Connection",
        arrived: Sequence[Event],
        kept: Sequence[bool],
        ended: Sequence[Ended],
    ) -> list[int | None]:
        now, worker = time.time(), self._opened()
        if not worker.registered:
            self._register(db)
        rows: list[int | None] = []
        for event, mine in zip(arrived, kept, strict=True):
            row = _insert(db, event, worker.token if mine else None, now)
            rows.append(row and (self._number(row) if mine else ON_DISK))
        # Rows of a file that was deleted are no rows of this one.
        marks = [mark for mark in ended if mark.row >> _GENERATION == self._generation]
        in_file = (1 << _GENERATION) - 1
        db.executemany(
            "UPDATE events SET owner = NULL, error = ?2, attempts = attempts + (?2 IS NOT NULL), due_at = ?3,"
            " handlers = ?4, handled_at = iif(?3 IS NULL, ?1, NULL), raw = iif(?2 IS NULL, NULL, raw)"
            " WHERE id = ?5",
            [(now, mark.error, mark.due, _names(mark.handlers), mark.row & in_file) for mark in marks],
        )
        self._trim(db, now, _TRIMMED_FOR_EACH * len(arrived) + _TRIMMED)
        return rows

    def _trim(self, db: "sqlite3.Connection", now: float, most: int) -> None:
        db.execute(
            "DELETE FROM events WHERE id IN"
            " (SELECT id FROM events WHERE handled_at < ? AND error IS NULL LIMIT ?)",
            (now - self._keep, most),
        )
        db.execute(
            "DELETE FROM events WHERE id IN"
            " (SELECT id FROM events WHERE handled_at < ? AND error IS NOT NULL LIMIT ?)",
            (now - self._retention, most),
        )

    def _expire(self, db: "sqlite3.Connection", before: float) -> int:
        db.execute("PRAGMA secure_delete = ON")
        return db.execute("DELETE FROM events WHERE handled_at <= ?", (before,)).rowcount

    def _anything(self, db: "sqlite3.Connection", messages: int, others: int) -> bool:
        return any(_unclaimed(db, min(messages, 1), min(others, 1)))

    def _claim(self, db: "sqlite3.Connection", messages: int, others: int) -> list[Claimed]:
        worker = self._opened()
        if not worker.registered:
            self._register(db)
        found = _unclaimed(db, messages, others)
        db.executemany("UPDATE events SET owner = ? WHERE id = ?", [(worker.token, row) for row, *_ in found])
        return [
            Claimed(
                row=self._number(row),
                event=event_of(kind, json.loads(raw)),
                attempts=attempts,
                handlers=tuple(json.loads(handlers or "[]")),
            )
            for row, kind, raw, attempts, handlers in found
        ]

    def _dead_letters(self, db: "sqlite3.Connection", limit: int) -> list[DeadLetter]:
        found = db.execute(
            "SELECT id, kind, raw, received_at, handled_at, attempts, error FROM events"
            " WHERE handled_at IS NOT NULL AND error IS NOT NULL AND raw IS NOT NULL ORDER BY id LIMIT ?",
            (limit,),
        )
        return [
            DeadLetter(row, event_of(kind, json.loads(raw)), received, failed, attempts, error)
            for row, kind, raw, received, failed, attempts, error in found
        ]

    def _forget(self, db: "sqlite3.Connection", person: int) -> int:
        db.execute("PRAGMA secure_delete = ON")
        theirs = [
            row
            for row, kind, raw in db.execute("SELECT id, kind, raw FROM events WHERE raw IS NOT NULL")
            if (found := event_of(kind, json.loads(raw)).sender) and person_of(found) == person
        ]
        db.executemany(
            "UPDATE events SET raw = NULL, key = NULL, handled_at = coalesce(handled_at, ?) WHERE id = ?",
            [(time.time(), row) for row in theirs],
        )
        return len(theirs)

    def _retry_failed(self, db: "sqlite3.Connection", rows: tuple[int, ...]) -> int:
        again = (
            "UPDATE events SET handled_at = NULL, error = NULL, due_at = NULL, attempts = 0, owner = NULL"
            " WHERE error IS NOT NULL AND raw IS NOT NULL AND owner IS NULL"
        )
        if not rows:
            return db.execute(again).rowcount
        return sum(db.execute(f"{again} AND id = ?", (row,)).rowcount for row in rows)


class _Worker:
    """One process's place among those that share an inbox: a token, and a lock that ends with the process.

    The lock is SQLite's own, on an empty file: it works on every system, within a process too, and a forked
    child doesn't inherit it.
    """

    def __init__(self, inbox: Path) -> None:
        self._inbox = inbox
        self.token = secrets.token_hex(8)
        self.registered = False
        self._lock: sqlite3.Connection | None = None

    def place(self, token: str) -> Path:
        """Return the path of a worker's lock file."""
        return self._inbox.with_name(f"{self._inbox.name}-worker-{token}")

    def lock(self) -> None:
        """Take the lock."""
        self._lock = _locked(self.place(self.token))

    def unlock(self) -> None:
        """Give up the lock, and delete its file."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
            self.place(self.token).unlink(missing_ok=True)

    def is_dead(self, token: str) -> bool:
        """Return whether the process with that token has ended."""
        import sqlite3

        place = self.place(token)
        if not place.exists():
            return True
        try:
            _locked(place).close()
        except sqlite3.OperationalError:
            return False
        return True


def _locked(place: Path) -> "sqlite3.Connection":
    import sqlite3

    from desk360_async._sqlite import create

    create(place)
    connection = sqlite3.connect(place, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except BaseException:
        connection.close()
        raise
    return connection


def _release(db: "sqlite3.Connection", token: str) -> None:
    db.execute("UPDATE events SET owner = NULL WHERE owner = ? AND handled_at IS NULL", (token,))
    db.execute("DELETE FROM workers WHERE token = ?", (token,))


def _unclaimed(db: "sqlite3.Connection", messages: int, others: int) -> list[tuple[Any, ...]]:
    due = time.time()
    found: list[tuple[Any, ...]] = []
    if messages:
        found += db.execute(_UNCLAIMED.format("= 'messages'"), (due, messages)).fetchall()
    if others:
        found += db.execute(_UNCLAIMED.format("> 'messages'"), (due, others)).fetchall()
    return found


def _names(handlers: Sequence[str]) -> str | None:
    return json.dumps(handlers) if handlers else None


def _insert(db: "sqlite3.Connection", event: Event, owner: str | None, now: float) -> int | None:
    done = db.execute(
        "INSERT INTO events (key, kind, raw, received_at, owner) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO NOTHING",
        (key_of(event), kind_of(event), json.dumps(event.raw), now, owner),
    )
    return done.lastrowid if done.rowcount else None


def key_of(event: Event) -> str | None:
    """Return a text that all deliveries of one event share (rulings 36a and 41), or None without an id."""
    if not event.id:
        return None
    if isinstance(event, StatusUpdate):
        return f"status/{event.status}/{event.id}"
    if isinstance(event, MessageReceived) and event.phone is None and event.user_id:
        return f"message/{event.user_id}/{event.id}"
    return f"message/{event.id}"
