"""The bucket's state as rows of a SQLite file, which all processes of a host read and write.

Every transition is the pure one of `_bucket`, between reading the rows and writing what it changed, in one
transaction. Here lives how the rows are kept and by which clock, nothing about who waits.
"""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve

from desk360_async import _threads
from desk360_async._bucket import GRACE, Bucket
from desk360_async._errors import ConfigurationError
from desk360_async._sqlite import SQLiteFile

__all__ = ["TokenFile"]

# The state's columns, by the names that `Bucket` gives them; the times among them come first.
_TIMES = ("gate", "last_grant", "wary_until", "grant_before")
_FIELDS = (*_TIMES, "limit", "taken", "returned", "since_bulk", "newest_answer", "rumoured_limit")
_COLUMNS = ", ".join(f'"{name}"' for name in _FIELDS)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, {_COLUMNS}, boot, at, wall);
CREATE TABLE IF NOT EXISTS token (id INTEGER PRIMARY KEY, returns REAL NOT NULL, number INTEGER UNIQUE);
CREATE TABLE IF NOT EXISTS waiting (process INTEGER, lane TEXT, at REAL, PRIMARY KEY (process, lane));
"""
_READ = f"SELECT {_COLUMNS}, boot, at, wall FROM state"  # noqa: S608 - names of our own
_WRITE = f"INSERT OR REPLACE INTO state VALUES (1, {', '.join('?' * len(_FIELDS))}, ?, ?, ?)"  # noqa: S608 - as above

_Row = tuple[int, float, int | None]


def _boot_id() -> str:
    """Tell this run of the machine from others; the monotonic clock begins anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Elsewhere, the minute of the boot. Setting the wall clock then looks like a reboot, which does no
        # harm: what comes out of it is clamped.
        return f"{(time.time() - time.monotonic()) // 60:.0f}"


class TokenFile:
    """A bucket's state in a file; opened at the first transaction, by each process on its own."""

    def __init__(self, path: str | os.PathLike[str], fresh: Callable[[], Bucket]) -> None:
        self._file = SQLiteFile(
            path,
            name="HostLimiter's file",
            # Several users may share one limit, and no phone is in the file.
            mode=None,
            # After a power cut the period of the lost commits is over.
            synchronous="NORMAL",
            prepare=_make_tables,
        )
        self._fresh = fresh
        self._boot = _boot_id()

    @property
    def path(self) -> Path:
        """Return the file's path."""
        return self._file.path

    @contextmanager
    def transaction(self) -> Generator[tuple[sqlite3.Connection, Bucket, float]]:
        """Yield the state and the time, and write what was done to it; other processes wait meanwhile.

        Raises:
            FileBusy: another process holds the file's lock.
            ConfigurationError: the file can't be used.
        """
        try:
            with self._file.transaction() as db:
                # Only now: waiting for the lock took its time.
                now = _threads.monotonic()
                bucket, rows = self._load(db, now)
                yield db, bucket, now
                self._save(db, bucket, rows, now)
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(self._file.explain(error)) from error

    def close(self) -> None:
        """Close the file; the next transaction opens it again."""
        self._file.close()

    def __del__(self) -> None:
        # A limiter lives as long as its program, and nobody closes it; sqlite3 would warn of that.
        self.close()

    def _load(self, db: sqlite3.Connection, now: float) -> tuple[Bucket, list[_Row]]:
        """Read the state as of now; and the tokens' rows, by what is in them."""
        bucket = self._fresh()
        shift = 0.0
        state = db.execute(_READ).fetchone()
        if state is not None:
            *values, boot, at, wall = state
            stored = dict(zip(_FIELDS, values, strict=True))
            if stored["limit"] is None or not bucket.learn:
                del stored["limit"]
            bucket = evolve(bucket, **stored)
            if boot != self._boot:
                # Only a reboot is bridged by the wall clock, which may be set, and go back.
                shift = now - at - max(0.0, time.time() - wall)
        # Nothing may be further off: some clock was wrong, or another limiter had a longer period.
        latest = now + max(bucket.hold, 2 * bucket.period + GRACE)
        for name in _TIMES:
            setattr(bucket, name, min(getattr(bucket, name) + shift, latest))
        rows: list[_Row] = db.execute("SELECT id, returns, number FROM token ORDER BY returns").fetchall()
        bucket.away = [min(returns + shift, latest) for _, returns, number in rows if number is None]
        bucket.in_flight = {
            number: min(returns + shift, latest) for _, returns, number in rows if number is not None
        }
        bucket.sweep(now)
        return bucket, rows

    def _save(self, db: sqlite3.Connection, bucket: Bucket, rows: list[_Row], now: float) -> None:
        """Write the state, and those of the tokens' rows that changed."""
        new: Counter[tuple[float, int | None]] = Counter((back, None) for back in bucket.away)
        new.update((back, number) for number, back in bucket.in_flight.items())
        gone: list[tuple[int]] = []
        for row, returns, number in rows:
            if new.get((returns, number)):
                new[returns, number] -= 1
            else:
                gone.append((row,))
        db.executemany("DELETE FROM token WHERE id = ?", gone)
        db.executemany("INSERT INTO token (returns, number) VALUES (?, ?)", new.elements())
        values = {name: getattr(bucket, name) for name in _FIELDS}
        if bucket.limit == self._fresh().limit:
            # Nothing learned: whoever is started with another limit is to have that.
            values["limit"] = None
        db.execute(_WRITE, (*values.values(), self._boot, now, time.time()))


def _make_tables(db: sqlite3.Connection) -> None:
    db.executescript(_SCHEMA)
