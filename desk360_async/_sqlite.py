"""A private SQLite file: its name, mode, durability, transactions, and the thread in which it is used.

The ledger, the inbox, the send log, the customers and the limiter's file open their files here. The tables
and the SQL belong to them. A method that takes the connection is moved to a thread by `reads` or `writes`.

Processes that share a file mark themselves with a `Presence`: a file `PATH-alive-NAME` with an exclusive lock
(flock, on Windows msvcrt), which ends with the process, also after `kill -9`. A mark without a lock was
left by a dead process; the next process that finds it removes it. A stopped process (SIGSTOP) keeps its
lock: a lease with a time covers that case. Clients that share a store join and leave it (`SharedStore`).
"""

import os
import secrets
import shutil
import sqlite3
import stat
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Concatenate, Literal, ParamSpec, Protocol, Self, TypeVar

import anyio
from anyio.lowlevel import RunVar

from desk360_async import _threads
from desk360_async._arguments import require_path
from desk360_async._errors import ConfigurationError, Desk360Error
from desk360_async._redaction import show_half_made

__all__ = [
    "FileBusy",
    "HasFile",
    "PRIVATE",
    "Presence",
    "SQLiteFile",
    "SharedStore",
    "Transactions",
    "create",
    "is_busy",
    "network_file_system",
    "reads",
    "require_version",
    "snapshot",
    "transaction",
    "writes",
]

P = ParamSpec("P")
T = TypeVar("T")

PRIVATE = 0o600
# RETURNING came with SQLite 3.35 (sqlite.org/releaselog/3_35_0.html); RHEL 9 and Debian 11 have 3.34.1.
OLDEST = (3, 35, 0)
# Seconds that a thread waits for another process's lock. After that the coroutine waits, so that a deadline
# or a cancellation can end the wait.
BUSY_IN_THREAD = 0.05
_SMALLEST = 1 << 16  # bytes; a new file with its -wal and -shm needs more
_PAUSE = 0.02
_ADVICE = "; give the path of a file on a local disk"
_FULL = {"FULL": 2, "NORMAL": 1}
# SQLite's document on WAL excludes them: their locks or their fsync can't be trusted.
NETWORK_FILE_SYSTEMS = frozenset(
    ["nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "afpfs", "9p", "ceph", "glusterfs"]
    + ["lustre", "beegfs", "ncpfs", "davfs", "webdav"]
    + [f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "rclone", "ceph", "davfs2")]
)


class FileBusy(Exception):
    """Another connection holds the file's lock; the same call may succeed later."""


class SQLiteFile:
    """One connection to a SQLite file, used by one thread at a time.

    Each process opens the file at its own first use. A forked child neither uses nor closes its parent's
    connection: that would break the parent's locks (sqlite.org/howtocorrupt.html, 2.6).

    Args:
        path: the file; made if it is missing.
        name: the file's name in messages, such as "the ledger".
        error: the class of the errors that `run` raises.
        mode: the mode of a new file; `PRIVATE` also narrows the mode of an old one. None: the umask's.
        synchronous: "FULL" survives a power cut; "NORMAL" may lose the last commits then.
        busy: seconds that `run` waits for another process's lock.
        exclusive: keep SQLite's lock until the file is closed, so that no other process can open it.
        memory: allow ":memory:" as the path, a store that ends with the process.
        prepare: makes or migrates the tables; called with each new connection, outside a transaction.

    Raises:
        ConfigurationError: the path is empty, or ":memory:" without `memory`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        error: type[Desk360Error] = ConfigurationError,
        mode: int | None = PRIVATE,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        busy: float = 10.0,
        exclusive: bool = False,
        memory: bool = False,
        prepare: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self.in_memory = os.fspath(path) == ":memory:"
        if not (self.in_memory and memory):
            require_path(path, name)
        self.path = Path(path)
        self.name = name
        self.mode = mode
        self._error = error
        self._synchronous = synchronous
        self._busy = busy
        self._exclusive = exclusive
        self._prepare = prepare
        self._mutex = _threads.Mutex()
        self._turn: RunVar[anyio.Lock] = RunVar("desk360_async_file_turn")
        self._process = 0
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` with the connection in a worker thread; `work` begins and ends its transactions itself.

        Raises:
            Desk360Error: of the class `error`; SQLite failed, or the file stayed locked for `busy` seconds.
        """
        return await self._patiently(self._alone, work, *args, **kwargs)

    async def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` with the connection in a worker thread, on one snapshot of the file.

        Raises:
            Desk360Error: of the class `error`; SQLite failed, or the file stayed locked for `busy` seconds.
        """
        return await self._patiently(self.snapshot, work, *args, **kwargs)

    async def write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` with the connection in a worker thread, in one transaction that commits.

        Raises:
            Desk360Error: of the class `error`; SQLite failed, or the file stayed locked for `busy` seconds.
        """
        return await self._patiently(self.transaction, work, *args, **kwargs)

    async def write_unsynced(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `work` as `write` does, without a sync: a power cut may forget it until the next `write`.

        Raises:
            Desk360Error: of the class `error`; SQLite failed, or the file stayed locked for `busy` seconds.
        """
        return await self._patiently(self._unsynced, work, *args, **kwargs)

    async def scrub(self) -> None:
        """Empty the `-wal` file, which may still hold copies of deleted rows.

        Raises:
            Desk360Error: of the class `error`; SQLite failed.
        """
        await self.run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    @contextmanager
    def _unsynced(self) -> Generator[sqlite3.Connection]:
        with self._mutex:
            connection = self._open()
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with transaction(connection):
                    yield connection
            finally:
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    async def _patiently(
        self,
        begin: Callable[[], AbstractContextManager[sqlite3.Connection]],
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def once() -> T:
            with begin() as connection:
                return work(connection, *args, **kwargs)

        deadline = anyio.current_time() + self._busy
        async with self._lock():
            while True:
                try:
                    return await _threads.run(once)
                except FileBusy as busy:
                    if anyio.current_time() >= deadline:
                        raise self._error(self.explain(busy)) from busy
                except (sqlite3.Error, OSError) as error:
                    raise self._error(self.explain(error)) from error
                await anyio.sleep(_PAUSE)

    def _lock(self) -> anyio.Lock:
        # Tasks queue here, so that they don't occupy anyio's 40 threads.
        try:
            return self._turn.get()
        except LookupError:
            self._turn.set(lock := anyio.Lock(fast_acquire=True))
            return lock

    @contextmanager
    def _alone(self) -> Generator[sqlite3.Connection]:
        with self._mutex:
            yield self._open()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Yield the connection, and commit the block's writes, all or none; for a worker thread.

        Raises:
            FileBusy: another process writes; the block has not run.
        """
        with self._mutex:
            connection = self._open()
            with transaction(connection):
                yield connection

    @contextmanager
    def snapshot(self) -> Generator[sqlite3.Connection]:
        """Yield the connection, and let the block's reads see one snapshot; for a worker thread.

        Raises:
            FileBusy: another process holds an exclusive lock on the file.
        """
        with self._mutex:
            connection = self._open()
            try:
                with snapshot(connection):
                    yield connection
            except sqlite3.OperationalError as error:
                if is_busy(error):
                    raise FileBusy(str(error)) from error
                raise

    def open(self) -> None:
        """Open the file now, in the calling thread; it stays open until `close`.

        Raises:
            FileBusy: another process holds an exclusive lock on the file.
        """
        with self._mutex:
            self._open()

    def close(self) -> None:
        """Close the connection; safe to repeat. The next use opens the file again."""
        with self._mutex:
            self._drop()

    @property
    def identity(self) -> tuple[int, int] | None:
        """Return the device and the inode of the opened file; None while it is closed or in memory."""
        return self._identity

    def displaced(self) -> str | None:
        """Return why the path is no longer the opened file's only name, or None; one `stat`, no lock.

        A file that was deleted, replaced or linked a second time is no longer the file of other processes.
        """
        if self.in_memory or self._identity is None:
            return None
        try:
            found = self.path.stat()
        except OSError as error:
            return f"{self.path} is gone ({error.strerror})"
        if (found.st_dev, found.st_ino) != self._identity:
            return f"{self.path} was replaced by another file"
        return _linked(self.path, found)

    def explain(self, error: Exception) -> str:
        """Return a message that names the file, the cause and the fix."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        place = f"{self.name} {self.path}"
        if isinstance(error, FileBusy):
            return (
                f"{place} stayed locked for {self._busy:g} s; end the other process's transaction "
                "(a stopped process or a database browser may hold it)"
            )
        if not self.path.parent.is_dir():
            return f"{place} can't be used: the folder {self.path.parent} doesn't exist; make it first"
        # On a full disk, SQLite raises only a general I/O error for a new file.
        if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and self._has_no_room()):
            return f"{place} can't be written: the disk is full; free space on it"
        if self.path.is_dir():
            return f"{place} can't be used: it is a folder; name a file in it"
        denied = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)
        if primary in denied or isinstance(error, PermissionError):
            return f"{place} can't be used ({error}){self._rights()}"
        if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return f"{place} is no SQLite database, or is damaged ({error}){_ADVICE}"
        return f"{place} can't be used ({error}){_ADVICE}"

    def _has_no_room(self) -> bool:
        return shutil.disk_usage(self.path.parent).free < _SMALLEST

    def _rights(self) -> str:
        """Return the advice for a refused file: its owner, its mode, and the commands that give access."""
        try:
            owner = self.path.stat()
        except OSError:
            return "; give the path of a file on a local disk, in a folder where this process may make files"
        if os.name != "posix" or (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)):
            return _ADVICE
        whose = f": {_user(owner.st_uid)} owns it, mode {stat.S_IMODE(owner.st_mode):04o}"
        if self.mode == PRIVATE:
            return f"{whose}; run as that user, since the file is private"
        return (
            f"{whose}, and this process runs as {_user(os.geteuid())}. Put both in one group GROUP: "
            f"chgrp GROUP {self.path}* {self.path.parent}; chmod g+rw {self.path}*; "
            f"chmod g+rwx {self.path.parent}"
        )

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._process == os.getpid():
                return self._connection
            _orphans.append(self._connection)
            self._connection = None
            self._turn = RunVar("desk360_async_file_turn")  # the parent's tasks hold the old one
        require_version(self.name)
        try:
            self._connection, self._process = self._connect(), os.getpid()
            self._settle(self._connection)
        except BaseException as error:
            self._drop()
            if isinstance(error, sqlite3.OperationalError) and is_busy(error):
                raise FileBusy(str(error)) from error
            raise
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if not self.in_memory:
            found = create(self.path, self.mode)
            if problem := _linked(self.path, found):
                raise self._error(problem)
            self._identity = (found.st_dev, found.st_ino)
        # The mutex lets one thread at a time use the connection.
        return sqlite3.connect(
            ":memory:" if self.in_memory else self.path,
            timeout=BUSY_IN_THREAD,
            isolation_level=None,
            check_same_thread=False,
        )

    def _settle(self, connection: sqlite3.Connection) -> None:
        if self._exclusive:
            # Set before the journal's mode: SQLite then holds the lock until the close, or the process's end.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync = 1")  # macOS's fsync alone doesn't reach the disk
        wanted = ("memory" if self.in_memory else "wal", _FULL[self._synchronous])
        if (mode, synchronous) != wanted:
            message = (
                f"{self.name} {self.path} can't be made durable here (journal_mode={mode}, "
                f"synchronous={synchronous}, needed {wanted[0]} and {wanted[1]}); put it on a local disk"
            )
            raise self._error(message)
        self._prepare(connection)

    def _drop(self) -> None:
        connection, self._connection, self._identity = self._connection, None, None
        if connection is not None and self._process == os.getpid():
            with suppress(sqlite3.Error):
                connection.close()
        elif connection is not None:
            _orphans.append(connection)


# Connections of a parent process: closing them in the child would break the parent's locks.
_orphans: list[sqlite3.Connection] = []


class Transactions(Protocol):
    """A file, or the tables of a database, whose operations are transactions in a worker thread."""

    async def read(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run `work` with a connection, on one snapshot."""
        ...

    async def write(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run `work` with a connection, in one transaction that commits."""
        ...

    async def write_unsynced(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run `work` as `write` does; a crash may forget it until the next `write`."""
        ...

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        ...

    async def scrub(self) -> None:
        """Remove deleted rows from the disk too, where the client can do that."""
        ...


class HasFile(Protocol):
    """An object with a store; `reads` and `writes` let the object's methods run in the store's thread."""

    @property
    def file(self) -> Transactions:
        """Return the file, or the tables, that the methods use."""
        ...


S = TypeVar("S", bound=HasFile)


def reads(
    work: Callable[Concatenate[S, sqlite3.Connection, P], T],
) -> Callable[Concatenate[S, P], Awaitable[T]]:
    """Let a method run in a worker thread, on one snapshot; its first argument is the connection."""

    @wraps(work)
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.file.read(partial(work, self), *args, **kwargs)

    return method


def writes(
    work: Callable[Concatenate[S, sqlite3.Connection, P], T],
) -> Callable[Concatenate[S, P], Awaitable[T]]:
    """Let a method run in a worker thread, in one transaction; its first argument is the connection."""

    @wraps(work)
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.file.write(partial(work, self), *args, **kwargs)

    return method


def make_tables(db: sqlite3.Connection, application: int, schema: str, name: str) -> None:
    """Make the tables in a new file; do nothing if the file has them.

    Args:
        db: the connection, outside a transaction.
        application: the `application_id` of this kind of file.
        schema: the statements, separated by semicolons at the ends of lines.
        name: the file's name in the error, such as "a send log".

    Raises:
        sqlite3.DatabaseError: if another program made the file.
    """
    (found,) = db.execute("PRAGMA application_id").fetchone()
    if found == application:
        return
    with transaction(db):
        (found,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found == application:  # another process was faster
            return
        if tables:
            raise sqlite3.DatabaseError(f"it is another program's file, not {name}")
        for statement in schema.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {application}")


def secret_of(db: Any) -> bytes:
    """Return the random secret of a store's keyed hashes; the first call makes it.

    The first call needs a writing transaction. Later calls may come from a reading one.

    Args:
        db: the connection of a SQLite file, or the session of a database.
    """
    found = db.execute("SELECT value FROM secret").fetchone()
    if found is None:
        db.execute(
            "INSERT INTO secret (value) VALUES (?) ON CONFLICT DO NOTHING",  # another host may be faster
            (secrets.token_bytes(32),),
        )
        found = db.execute("SELECT value FROM secret").fetchone()
    return bytes(found[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit the block's writes, all or none.

    Raises:
        FileBusy: another process writes; the block has not run.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise FileBusy(str(error)) from error
        raise
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Let the block's reads see one snapshot, even if other processes write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")  # no write in the block


def is_busy(error: BaseException) -> bool:
    """Return whether SQLite failed because another connection holds a lock."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def require_version(name: str) -> None:
    """Refuse a SQLite that is too old for our SQL.

    Raises:
        ConfigurationError: this Python's SQLite is older than 3.35.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        message = (
            f"{name} needs SQLite 3.35 or later, and this Python uses {sqlite3.sqlite_version}; use a Python "
            "that brings its own SQLite (python.org, uv, conda), or upgrade libsqlite3"
        )
        raise ConfigurationError(message)


def create(path: Path, mode: int | None = PRIVATE) -> os.stat_result:
    """Make the file if it is missing, and return its stat.

    A file that exists isn't opened: closing it again would drop the locks that this process holds on it.
    SQLite gives its -wal and -shm files the mode of the database.

    Args:
        path: the file.
        mode: the mode of a new file; `PRIVATE` also narrows the mode of an old one. None: the umask's.
    """
    with suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        os.close(os.open(path, flags, 0o666 if mode is None else mode))
        if mode is not None and mode != PRIVATE:
            path.chmod(mode)  # the umask may have narrowed it
    found = path.stat()
    if mode == PRIVATE and os.name == "posix" and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        path.chmod(PRIVATE)
        found = path.stat()
    return found


def _linked(path: Path, found: os.stat_result) -> str | None:
    # SQLite's lock and WAL belong to the file's name. So a file with two names is two databases in one file
    # (sqlite.org/howtocorrupt.html, 2.5).
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        return f"{path} has {found.st_nlink} names (hard links); remove the others, or copy the file"
    return None


def _user(number: int) -> str:
    try:
        import pwd

        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    except (ImportError, KeyError):
        return f"uid {number}"


def network_file_system(path: Path, mounts: Iterable[str] | None = None) -> str | None:
    """Return the kind of network file system on which the file lies, such as "nfs4", or None.

    Args:
        path: the file; its folder decides.
        mounts: the lines of `/proc/self/mounts`; None reads them. Without that file the result is None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
        except OSError:
            return None
    folder = path.resolve().parent
    best, kind = -1, ""
    for line in mounts:
        _, place, name, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), name
    return kind if kind in NETWORK_FILE_SYSTEMS else None


# ── marks of living processes ───────────────────────────────────────────────────────────────────────────────


class Presence:
    """This process's mark beside a file; each process makes its own mark at the first use.

    Args:
        path: the shared file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._name = ""
        _presences.add(self)

    @property
    def name(self) -> str:
        """This process's name, which is stored with its claims; the first use of the name makes the mark."""
        if self._file is None:
            self._name = secrets.token_hex(8)
            self._file = self._place(self._name).open("xb")
            self._place(self._name).chmod(0o600)
            lock_file(self._file)
        return self._name

    def has_ended(self, name: str) -> bool:
        """Return whether the process of that name has ended; remove the mark that it left.

        Args:
            name: another process's name, or this one's.
        """
        if name == self._name and self._file is not None:
            return False
        place = self._place(name)
        try:
            with place.open("r+b") as file:
                if not lock_file(file):
                    return False
        except FileNotFoundError:
            return True
        except OSError:
            return False  # unreadable here: the lease decides
        with suppress(OSError):
            place.unlink()
        return True

    def leave(self) -> None:
        """Remove the mark; safe to repeat."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                self._place(self._name).unlink()
            file.close()

    def _place(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}-alive-{name}")

    def _forget(self) -> None:
        """Close a forked child's copy of its parent's mark: the lock stays while any copy is open."""
        file, self._file, self._name = self._file, None, ""
        if file is not None:
            file.close()


def lock_file(file: IO[bytes]) -> bool:
    """Take an exclusive lock that ends with the process; return whether it was free.

    Args:
        file: an open file; the lock also ends when it is closed.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # behind the content, which other processes may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


_presences: "weakref.WeakSet[Presence]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for presence in list(_presences):
        presence._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# ── stores that several clients share ───────────────────────────────────────────────────────────────────────


class SharedStore(ABC):
    """A store that opens at its first await, and is closed by its last user.

    Args:
        clock: returns the current time as an aware datetime; None for the system's.
    """

    def __init__(self, clock: Callable[[], datetime] | None) -> None:
        self._clock = clock
        self._users = 0

    async def __aenter__(self) -> Self:
        self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    def join(self) -> None:
        """Count one more user of the store; each calls `leave` once."""
        self._users += 1

    async def leave(self) -> None:
        """Count one user less; the last one writes pending results, and closes the store."""
        self._users = max(0, self._users - 1)
        if not self._users:
            await self._close()

    @abstractmethod
    async def _close(self) -> None:
        """Write pending results, and close the store; the next use opens it again."""

    def use_clock(self, clock: Callable[[], datetime]) -> None:
        """Take the time from another clock, unless the constructor got one; for tests in virtual time.

        Args:
            clock: returns the current time as an aware datetime.
        """
        if self._clock is None:
            self._clock = clock

    def now(self) -> datetime:
        """Return the current time by this store's clock, an aware datetime."""
        return self._clock() if self._clock is not None else datetime.now(UTC)


show_half_made(globals())
