"""`SQLiteInbox`: events on disk between the 200 and the end of their handling. Only here is SQL."""

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from attrs import define, field

from desk360_async import _threads
from desk360_async._errors import ClientStateError, ConfigurationError
from desk360_async.webhooks._arguments import check_kind, check_seconds
from desk360_async.webhooks._events import Event, StatusUpdate
from desk360_async.webhooks._parsing import event_of, kind_of

if TYPE_CHECKING:
    import sqlite3

_log = logging.getLogger("desk360_async.webhooks")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT UNIQUE,     -- what makes a repeat a repeat; NULL: nothing does
    kind TEXT NOT NULL,
    raw TEXT,            -- NULL once handled: a customer's words are kept no longer than needed
    received_at REAL NOT NULL,
    handled_at REAL,
    error TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON events (id) WHERE handled_at IS NULL;
CREATE INDEX IF NOT EXISTS handled ON events (handled_at) WHERE handled_at IS NOT NULL;
"""
_TRIMMED_AT_OPENING = 5_000  # rows
# Rows that each commit deletes at most, if they are old: more than it adds, so that the file stops growing
# at any rate of events, and few, since somebody waits for the commit. Where nothing is old, it costs a look
# into an index.
_TRIMMED, _TRIMMED_FOR_EACH = 100, 2
_WEEK = 7 * 86_400.0

Ended = tuple[int, str | None]
"""A row whose handlers have run, and the error's class where one failed."""


class SQLiteInbox:
    """Keeps events in a SQLite file from before the 200 until their handlers have ended.

    A crash then loses nothing: at the next start what hadn't ended is handed out again, so a handler may
    see an event twice if the process died between the handler's end and its mark. What a failed handler
    was given stays readable in the file, and is handed out again after `retry_failed`.

    One process at a time may have it open; give every worker process its own file.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, keep: float = _WEEK, busy_timeout: float = 10.0
    ) -> None:
        """Remember the path; nothing is opened yet.

        Args:
            path: the file, made if it is missing, readable by its owner only.
            keep: seconds for which handled events are remembered, so that repeats are known as such.
            busy_timeout: seconds to wait at the opening for another process that still has it open.

        Raises:
            ConfigurationError: `path` is no path, or a time is negative or no number.
        """
        check_kind("path", path, (str, os.PathLike), "a file's path")
        check_seconds("keep", keep, "the time for which repeats are known as such")
        check_seconds("busy_timeout", busy_timeout, "the time for another process to close the file")
        self._path = Path(path)
        self._keep = keep
        self._busy_timeout = busy_timeout
        self._db: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        """Name the file."""
        return f"SQLiteInbox({str(self._path)!r})"

    async def open(self) -> list[tuple[int, Event]]:
        """Open the file and return what was not handled when it was last closed, oldest first.

        Raises:
            ConfigurationError: it can't be opened or is no such file, or another process has it open.
        """
        return await _threads.run(self._open)

    async def commit(self, arrived: Sequence[Event], ended: Sequence[Ended]) -> list[int | None]:
        """Store events and mark others as handled in one transaction.

        Args:
            arrived: the events to store.
            ended: the rows to mark, each with the error's class if a handler failed, else None.

        Returns:
            For every event that arrived its row, or None if it was known already.
        """
        return await _threads.run(self._commit, arrived, ended)

    async def retry_failed(self) -> int:
        """Let events whose handlers failed be handed out again at the next opening; return how many."""
        return await _threads.run(self._retry_failed)

    async def aclose(self) -> None:
        """Close the file; nothing happens if it isn't open."""
        await _threads.run(self._close)

    def _open(self) -> list[tuple[int, Event]]:
        if self._db is not None:
            raise ClientStateError(f"{self!r} is open already; give each receiver its own")
        import sqlite3

        try:
            _make_private(self._path)
            # Every call runs in some worker thread, one after the other.
            self._db = sqlite3.connect(
                self._path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            return self._prepare(self._db)
        except (sqlite3.Error, OSError) as error:
            self._close()
            cause = "another process has it open" if "locked" in str(error) else str(error)
            message = f"{self!r} can't be opened: {cause}; each process needs a file of its own"
            raise ConfigurationError(message) from error

    def _prepare(self, db: "sqlite3.Connection") -> list[tuple[int, Event]]:
        # EXCLUSIVE before the journal's mode: the lock then lasts until the close, or the process's death.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        self._trim(db, time.time(), _TRIMMED_AT_OPENING)
        rows = db.execute("SELECT id, kind, raw FROM events WHERE handled_at IS NULL ORDER BY id")
        return [(row, event_of(kind, json.loads(raw))) for row, kind, raw in rows]

    def _commit(self, arrived: Sequence[Event], ended: Sequence[Ended]) -> list[int | None]:
        db, now = self._connection(), time.time()
        db.execute("BEGIN IMMEDIATE")
        try:
            rows = [_insert(db, event, now) for event in arrived]
            db.executemany(
                "UPDATE events SET handled_at = ?1, error = ?2, raw = iif(?2 IS NULL, NULL, raw)"
                " WHERE id = ?3",
                [(now, error, row) for row, error in ended],
            )
            self._trim(db, now, _TRIMMED_FOR_EACH * len(arrived) + _TRIMMED)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        return rows

    def _trim(self, db: "sqlite3.Connection", now: float, most: int) -> None:
        db.execute(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE handled_at < ? LIMIT ?)",
            (now - self._keep, most),
        )

    def _retry_failed(self) -> int:
        return (
            self._connection()
            .execute("UPDATE events SET handled_at = NULL, error = NULL WHERE error IS NOT NULL")
            .rowcount
        )

    def _connection(self) -> "sqlite3.Connection":
        if self._db is None:
            raise ClientStateError(f"{self!r} is not open; the receiver opens it: `async with receiver:`")
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _make_private(path: Path) -> None:
    # `touch` doesn't open what is there: closing that again would drop the locks of whoever has it open in
    # this process. SQLite gives its -wal file the rights of the database.
    path.touch(mode=0o600)
    mode = path.stat().st_mode
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
        path.chmod(0o600)


def _insert(db: "sqlite3.Connection", event: Event, now: float) -> int | None:
    raw: dict[str, Any] = event.raw
    done = db.execute(
        "INSERT INTO events (key, kind, raw, received_at) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (key_of(event), kind_of(event), json.dumps(raw), now),
    )
    return done.lastrowid if done.rowcount else None


def key_of(event: Event) -> str | None:
    """Return what two deliveries of one event share (ruling 41), or None where nothing tells them apart."""
    if not event.id:
        return None
    return f"{event.status}/{event.id}" if isinstance(event, StatusUpdate) else f"message/{event.id}"


@define(eq=False)
class _Write:
    events: Sequence[Event] = ()
    fresh: int | None = None
    done: anyio.Event = field(factory=anyio.Event)


class Writer:
    """Stores arrivals and marks in groups; hands each new event on once it is on disk."""

    def __init__(self, inbox: SQLiteInbox, hand_on: Callable[[int, Event], None]) -> None:
        self._inbox = inbox
        self._hand_on = hand_on
        self._writes: list[_Write] = []
        self._unmarked: list[Ended] = []
        self._wake = anyio.Event()

    async def store(self, events: Sequence[Event]) -> int | None:
        """Return once the events are on disk and handed on: how many were new, or None on failure."""
        return await self._done(_Write(events=events))

    async def mark(self, row: int, error: str | None) -> None:
        """Return once it is on disk that an event's handlers have ended, or was tried.

        A mark that fails is no reason to stop: it is kept, and part of each write until one succeeds.
        """
        self._unmarked.append((row, error))
        await self._done(_Write())

    async def run(self) -> None:
        """Write until cancelled; then whoever still waits is told that nothing was stored."""
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                writes, self._writes = self._writes, []
                await self._write(writes)
        finally:
            for write in self._writes:
                write.done.set()

    async def finish(self) -> None:
        """Write what is still not marked, once `run` has ended: else it would be handled again, unkilled."""
        if self._unmarked:
            try:
                await self._inbox.commit([], self._unmarked)
            except Exception:  # noqa: BLE001 - as in `_write`: a stop must not fail because of the disk
                again = "%r can't be written to; %d events that were handled will be again at the next start"
                _log.exception(again, self._inbox, len(self._unmarked))

    async def _done(self, write: _Write) -> int | None:
        self._writes.append(write)
        self._wake.set()
        await write.done.wait()
        return write.fresh

    async def _write(self, writes: Sequence[_Write]) -> None:
        arrived = [event for write in writes for event in write.events]
        ended = self._unmarked[:]  # a copy: more come while the thread writes
        try:
            rows = iter(await self._inbox.commit(arrived, ended))
        except Exception:  # noqa: BLE001 - whatever the disk may raise: the task that writes must go on
            # A full disk, say: the senders get a 503 and may try again; the marks go with the next write.
            failed = "%r can't be written to; %d events refused, %d marks kept for the next write"
            _log.exception(failed, self._inbox, len(arrived), len(ended))
        else:
            del self._unmarked[: len(ended)]
            for write in writes:
                new = [(row, event) for event in write.events if (row := next(rows)) is not None]
                write.fresh = len(new)
                for row, event in new:
                    self._hand_on(row, event)
        finally:
            for write in writes:
                write.done.set()
