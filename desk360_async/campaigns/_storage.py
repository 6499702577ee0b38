"""The ledger's file: opened safely, owned by one process, durable or refused. No campaign is known here."""

import os
import sqlite3
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Concatenate, ParamSpec, Self, TypeVar

import anyio

from desk360_async import _threads
from desk360_async.campaigns._problems import LedgerError
from desk360_async.campaigns._schema import APPLICATION_ID, MIGRATIONS

P = ParamSpec("P")
T = TypeVar("T")

# Their locks or their fsync can't be trusted, says SQLite's own document on WAL.
NETWORK_FILE_SYSTEMS = frozenset(
    ["nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "afpfs", "9p", "ceph", "glusterfs"]
    + ["lustre", "beegfs", "ncpfs", "davfs", "webdav"]
    + [f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "rclone", "ceph", "davfs2")]
)
# Little, since lists come sorted: a million recipients need no more memory than ten thousand.
CACHE_KIB = 2000
BUSY = 30.0  # seconds that one process waits while another writes


class Storage:
    """One connection to the ledger's file, used by one thread at a time.

    Args:
        path: the file; made, with mode 0600, if `owner` and it isn't there.
        owner: take the exclusive lock that loading, running and resolving need. It goes with the process,
            however that ends.
    """

    def __init__(self, path: Path, *, owner: bool) -> None:
        self._path = path
        self._owner = owner
        self._turn = anyio.Lock(fast_acquire=True)
        self._lock_file: IO[bytes] | None = None
        self._connection: sqlite3.Connection | None = None
        self.failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        try:
            await _threads.run(self._open)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await _threads.run(self.close)

    async def run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` with the connection in a worker thread, alone.

        Raises:
            LedgerError: if SQLite fails, and from then on always: after a failed write nobody knows what
                the file holds until it is opened anew.
        """
        async with self._turn:
            return await _threads.run(lambda: self._guarded(lambda it: work(it, *args, **kwargs)))

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.failure is not None:
            raise LedgerError(f"the ledger failed before ({self.failure}); nothing more is sent")
        assert self._connection is not None
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            self.failure = error
            raise LedgerError(
                f"the ledger {self._path.name} can't be read or written: {error}; nothing more is sent. "
                "Mend that (space, rights, the disk), then resume"
            ) from error

    def _open(self) -> None:
        try:
            # Whatever links lead to it: the lock is found by the name, and one file has one owner.
            self._path = self._path.resolve()
            if not self._owner and not self._path.exists():
                raise LedgerError(f"there is no ledger {self._path}; load the campaign first")
            refuse_network(self._path)
            if self._owner:
                self._lock()
                create_private(self._path)
            self._connection = connection = connect(self._path)
            version = version_of(connection, self._path)
            if not version and not self._owner:
                raise LedgerError(f"{self._path} holds no ledger yet; load the campaign first")
            require_durable(connection)
            if version < len(MIGRATIONS):
                migrate(connection)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the ledger {self._path} can't be opened: {error}") from error

    def _lock(self) -> None:
        # A file of its own: closing any handle on the database itself would drop SQLite's own locks there.
        place = self._path.with_name(self._path.name + "-owner")
        create_private(place)
        self._lock_file = place.open("r+b")
        if not lock(self._lock_file):
            holder = self._lock_file.read(20).decode("ascii", "replace").strip() or "another"
            raise LedgerError(
                f"the ledger {self._path.name} is in use by process {holder}; "
                "wait for it or stop it: only one may load, run or resolve"
            )
        self._lock_file.truncate(0)
        self._lock_file.write(str(os.getpid()).encode())
        self._lock_file.flush()

    def close(self) -> None:
        """Close the connection and give up the lock; safe to repeat."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        file, self._lock_file = self._lock_file, None
        if file is not None:
            file.close()


def lock(file: IO[bytes]) -> bool:
    """Take an exclusive lock that the process's end gives up; tell whether it was to be had."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def create_private(path: Path) -> None:
    """Make a file that only its owner can read, since phone numbers are in it; narrow one that is wider.

    SQLite gives its -wal and -shm files the rights of the database.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    if path.stat().st_mode & 0o077 and os.name == "posix":
        path.chmod(0o600)


def refuse_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raise LedgerError if the file would lie on a network file system, as far as the system tells."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return  # not Linux; there is no way to tell without native code
    folder = path.resolve().parent
    best, kind = -1, ""
    for line in lines:
        _, place, name, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), name
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"the ledger {path} would lie on a network file system ({kind}), whose locks and syncs can't be "
            "trusted; put it on a local disk"
        )


def connect(path: Path) -> sqlite3.Connection:
    """Open the database. Transactions are written out; threads take turns by `Storage.run`."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY, cached_statements=64
    )
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute("PRAGMA temp.cache_size = -500")
    return connection


def require_durable(connection: sqlite3.Connection) -> None:
    """Set WAL and synchronous=FULL, and read both back: anything less forgets what was committed.

    Raises:
        LedgerError: if either is refused.
    """
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if sys.platform == "darwin":
        connection.execute("PRAGMA fullfsync = 1")  # its fsync alone doesn't reach the disk
    if (mode, synchronous) != ("wal", 2):
        raise LedgerError(
            f"the ledger can't be made durable here (journal_mode={mode}, synchronous={synchronous}, "
            "needed wal and 2); put it on a local disk"
        )


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the ledger's version, 0 for an empty file; nothing is written.

    Raises:
        LedgerError: if the file is something else, or of a later version.
    """
    with snapshot(connection):  # else its owner may make it a ledger between two of them
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application not in (0, APPLICATION_ID) or (application == 0 and tables):
        raise LedgerError(f"{path} is a SQLite file, but no ledger of campaigns; choose another name")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{path} was written by a later desk360_async (schema {version}, "
            f"this one knows {len(MIGRATIONS)}); upgrade"
        )
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this version's shape, all steps or none."""
    with transaction(connection):
        # Read again with the write lock in hand: several processes may have found the same old ledger.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in MIGRATIONS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {max(version, len(MIGRATIONS))}")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Let what the block reads be of one moment, though others write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")  # nothing was written


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit what the block writes, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
