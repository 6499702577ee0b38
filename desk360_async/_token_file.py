"""The bucket's state as rows of a SQLite file, which all processes of a host read and write.

Each step is one transaction: read the rows, let the pure transition change the state, write the changes.
The waiting for tokens is in `_shared_limiter`.
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

# The state's columns, named as the attributes of `Bucket`; the columns with times come first.
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

# These errors can end without a repair. Until then a process continues with its own share of the limit.
_LOST = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def boot_id() -> str:
    """Return the identity of the machine's current boot; each boot starts the monotonic clock again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Without /proc: the minute of the boot. There a wall clock that is set looks like a reboot. That is
        # harmless: the times that follow from it are clamped.
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
    """A bucket's state in a file; each process opens the file at its first step.

    Args:
        path: the file. If it is missing, it is made with the umask's mode, since several users may share it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = SQLiteFile(
            path,
            name="HostLimiter's file",
            mode=None,
            # A power cut may lose the last commits. When the machine runs again, their period is over.
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

        A new file may get the inode of a deleted file. The number distinguishes the two.
        """
        return self.file.identity and (*self.file.identity, self._number)

    def displaced(self) -> str | None:
        """Return the reason if the path no longer leads to the opened file alone, else None."""
        return self.file.displaced()

    def step(self, model: Bucket, transition: Callable[[Bucket, Waits, float, float], T]) -> T:
        """Run one transition on the state, and write its changes; other processes wait meanwhile.

        Args:
            model: a bucket with this process's arguments, for a file that is new.
            transition: called with the state, the waits, the time on the host's monotonic clock, and the
                time on this process's monotonic clock.

        Raises:
            StoreBusy: another process holds the file's lock.
            StoreLost: the disk is full, or can't be read or written.
            ConfigurationError: the file can't be used.
        """
        try:
            with self.file.transaction() as db:
                # The clock is read under the lock, since the wait for the lock took time.
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
        # A limiter lives as long as its program and is seldom closed; sqlite3 warns of an open connection.
        if hasattr(self, "file"):
            self.close()

    def _load(self, db: sqlite3.Connection, model: Bucket, now: float) -> tuple[Bucket, list[_Row]]:
        """Return the state at the time `now`, and the tokens' rows as they are in the file."""
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
                # The wall clock is used only across a reboot: it may be set, and may go back.
                shift = now - at - max(0.0, time.time() - wall)
        # A stored time later than `latest` comes from a wrong clock, or from a limiter with a longer period.
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
        """Write the state and the changed rows of the tokens."""
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
            # Without a stored limit, a process that is started with another limit uses its own limit.
            values["limit"] = None
        db.execute(_WRITE, (*values.values(), self._boot, now, time.time()))


def _save_waits(db: sqlite3.Connection, noted: dict[tuple[str, str], float], waits: Waits) -> None:
    if noted == waits.noted:
        return
    gone = [key for key in noted if key not in waits.noted]
    db.executemany("DELETE FROM waiting WHERE process = ? AND lane = ?", gone)
    new = [(*key, at) for key, at in waits.noted.items() if noted.get(key) != at]
    db.executemany("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?)", new)
