"""The bucket's state as rows of a SQLite file, which all processes of a host read and write.

Each step is one transaction: read the rows, let the pure transition change the state, write the changes.
Who waits for a token is the business of `_shared_limiter`.
"""

import errno
import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attrs import evolve

from desk360_async import _threads
from desk360_async._bucket import GRACE, Bucket, StoreBusy, StoreLost, Waits
from desk360_async._errors import ConfigurationError
from desk360_async._sqlite import FileBusy, SQLiteFile, transaction

__all__ = ["TokenFile", "boot_id"]

T = TypeVar("T")

# The state's columns, by the names that `Bucket` gives them; the times among them come first.
TIMES = ("gate", "last_grant", "wary_until", "grant_before")
FIELDS = (*TIMES, "limit", "taken", "returned", "since_bulk", "newest_answer", "rumoured_limit")
_COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, {_COLUMNS}, boot, at, wall);
CREATE TABLE IF NOT EXISTS token (id INTEGER PRIMARY KEY, returns REAL NOT NULL, number INTEGER UNIQUE);
CREATE TABLE IF NOT EXISTS waiting (process INTEGER, lane TEXT, at REAL, PRIMARY KEY (process, lane));
"""
_READ = f"SELECT {_COLUMNS}, boot, at, wall FROM state"  # noqa: S608 - names of our own
_WRITE = f"INSERT OR REPLACE INTO state VALUES (1, {', '.join('?' * len(FIELDS))}, ?, ?, ?)"  # noqa: S608 - as above

_Row = tuple[int, float, int | None]

# These pass by themselves. A process goes on with its own share until they do.
_LOST = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def boot_id() -> str:
    """Return the identity of this run of the machine; its monotonic clock begins anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Elsewhere, the minute of the boot. A new wall clock then looks like a reboot, which is harmless:
        # the times that follow from it are clamped.
        return f"{(time.time() - time.monotonic()) // 60:.0f}"


def clock_offset() -> float:
    """Return the seconds by which this process's monotonic clock is ahead of the host's.

    Time namespaces (containers, `unshare --time`) give processes of one boot different clocks.
    """
    try:
        for line in Path("/proc/self/timens_offsets").read_text().splitlines():
            name, whole, nano = line.split()
            if name == "monotonic":
                return int(whole) + int(nano) / 1e9
    except (OSError, ValueError):
        pass
    return 0.0


class TokenFile:
    """A bucket's state in a file; opened at the first step, by each process on its own.

    Args:
        path: the file; made if it is missing, with the umask's mode, since several users may share it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = SQLiteFile(
            path,
            name="HostLimiter's file",
            mode=None,
            # After a power cut the period of the lost commits is over.
            synchronous="NORMAL",
            prepare=self._prepare,
        )
        self._number = 0
        self._boot = boot_id()
        self._offset = clock_offset()

    @property
    def name(self) -> str:
        """Return the file's absolute path."""
        return os.path.realpath(self.file.path)

    @property
    def identity(self) -> object:
        """Return the opened file's device, inode and number; None while it is closed.

        A deleted file's inode may be that of the next file, so the number tells them apart.
        """
        return self.file.identity and (*self.file.identity, self._number)

    def displaced(self) -> str | None:
        """Return why the path no longer leads to the opened file alone, or None."""
        return self.file.displaced()

    def step(self, model: Bucket, transition: Callable[[Bucket, Waits, float, float], T]) -> T:
        """Run one transition on the state, and write its changes; other processes wait meanwhile.

        Args:
            model: a bucket with this process's arguments, for a file that is new.
            transition: called with the state, the waits, and the time on the host's and on this process's
                monotonic clock.

        Raises:
            StoreBusy: another process holds the file's lock.
            StoreLost: the disk is full, or fails.
            ConfigurationError: the file can't be used.
        """
        try:
            with self.file.transaction() as db:
                # Only now: waiting for the lock took its time.
                local = _threads.monotonic()
                now = local - self._offset
                bucket, rows = self._load(db, model, now)
                noted = {
                    (str(process), lane): at for process, lane, at in db.execute("SELECT * FROM waiting")
                }
                waits = Waits(noted)
                result = transition(bucket, waits, now, local)
                self._save(db, bucket, rows, now, learned=bucket.limit != model.limit)
                _save_waits(db, noted, waits)
                return result
        except FileBusy as error:
            raise StoreBusy(f"another process holds the lock of {self.file.path}") from error
        except sqlite3.Error as error:
            if (error.sqlite_errorcode or 0) & 0xFF in _LOST:
                raise StoreLost(self.file.explain(error)) from error
            raise ConfigurationError(self.file.explain(error)) from error
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise StoreLost(self.file.explain(error)) from error
            raise ConfigurationError(self.file.explain(error)) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.executescript(_SCHEMA)
        with transaction(db):
            (self._number,) = db.execute("PRAGMA user_version").fetchone()
            if not self._number:  # the file is new, or 0.1.0 made it
                self._number = secrets.randbelow(2**31 - 1) + 1
                db.execute(f"PRAGMA user_version = {self._number}")

    def close(self) -> None:
        """Close the file; the next step opens it again."""
        self.file.close()

    def __del__(self) -> None:
        # A limiter lives as long as its program and is seldom closed; sqlite3 would warn of that.
        if hasattr(self, "file"):
            self.close()

    def _load(self, db: sqlite3.Connection, model: Bucket, now: float) -> tuple[Bucket, list[_Row]]:
        """Read the state as of now; and the tokens' rows, by their contents."""
        bucket = evolve(model, away=[], in_flight={})
        shift = 0.0
        state = db.execute(_READ).fetchone()
        if state is not None:
            *values, boot, at, wall = state
            stored = dict(zip(FIELDS, values, strict=True))
            if stored["limit"] is None or not bucket.learn:
                del stored["limit"]
            bucket = evolve(bucket, **stored)
            if boot != self._boot:
                # Only a reboot is bridged by the wall clock, which may be set, and go back.
                shift = now - at - max(0.0, time.time() - wall)
        # No time may be further off: some clock was wrong, or another limiter had a longer period.
        latest = now + max(bucket.hold, 2 * bucket.period + GRACE)
        for name in TIMES:
            setattr(bucket, name, min(getattr(bucket, name) + shift, latest))
        rows: list[_Row] = db.execute("SELECT id, returns, number FROM token ORDER BY returns").fetchall()
        bucket.away = [min(returns + shift, latest) for _, returns, number in rows if number is None]
        bucket.in_flight = {
            number: min(returns + shift, latest) for _, returns, number in rows if number is not None
        }
        bucket.sweep(now)
        return bucket, rows

    def _save(
        self, db: sqlite3.Connection, bucket: Bucket, rows: list[_Row], now: float, *, learned: bool
    ) -> None:
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
        values = {name: getattr(bucket, name) for name in FIELDS}
        if not learned:
            # A process that is started with another limit uses that one.
            values["limit"] = None
        db.execute(_WRITE, (*values.values(), self._boot, now, time.time()))


def _save_waits(db: sqlite3.Connection, noted: dict[tuple[str, str], float], waits: Waits) -> None:
    if noted == waits.noted:
        return
    gone = [key for key in noted if key not in waits.noted]
    db.executemany("DELETE FROM waiting WHERE process = ? AND lane = ?", gone)
    new = [(*key, at) for key, at in waits.noted.items() if noted.get(key) != at]
    db.executemany("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?)", new)
