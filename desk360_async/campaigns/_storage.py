"""The ledger's file and the owner file beside it: tables, migrations, the owner's lock, checks at opening.

The state is stored per batch. A recipient has its own state only if it differs from the batch's: a million
recipients cost a few thousand writes. A batch holds its members' phones as packed numbers of 8 bytes. A
released migration is never changed; the next change of the tables is a new migration.

The owner file records the process that owns the ledger, and the number of the last request that was begun. If
the last number in the ledger is lower, the ledger has forgotten requests: its `-wal` is gone, or it is an
older copy. Such a ledger is refused.
"""

import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar, cast

import anyio
import sniffio
from anyio.lowlevel import cancel_shielded_checkpoint
from attrs import frozen

from desk360_async import _threads
from desk360_async._sqlite import SQLiteFile, create, lock_file, network_file_system, snapshot, transaction
from desk360_async.campaigns._values import CampaignError, LedgerError

P = ParamSpec("P")
T = TypeVar("T")

# A small cache suffices, since lists come sorted: a million recipients need no more memory than ten thousand.
CACHE_KIB = 2000
# SQLite sorts runs of this size, and merges up to 16 at once. With 2,000, a million rows were more than 16
# runs, and each sort of a load wrote its rows twice. An export of an older version's ledger finds
# the lines of singles in no order.
LARGE_CACHE_KIB = 3000
BUSY = 30.0  # seconds that one process waits while another writes
_BY_PLAN = ", in the terminal with `desk360 campaign plan`"
COPYING = "see desk360_async/guide/ledgers.md on copying and moving a ledger"

APPLICATION_ID = 0x44333630  # "D360": distinguishes a ledger from other SQLite files

_FIRST = """
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    settings TEXT NOT NULL,
    loads INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL
);
CREATE TABLE parameter_set (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    digest BLOB NOT NULL,
    parameters TEXT NOT NULL,
    UNIQUE (campaign, digest)
);
CREATE TABLE recipient (
    campaign INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    parameter_set INTEGER NOT NULL,
    line INTEGER NOT NULL,
    load INTEGER NOT NULL,
    PRIMARY KEY (campaign, phone)
) WITHOUT ROWID;
CREATE TABLE skipped (
    campaign INTEGER NOT NULL,
    line INTEGER NOT NULL,
    reason TEXT NOT NULL,
    phone TEXT NOT NULL,
    PRIMARY KEY (campaign, line, reason, phone)
) WITHOUT ROWID;
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    parameter_set INTEGER NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    reason TEXT,
    message_id TEXT,
    members BLOB NOT NULL
);
CREATE INDEX batch_of_set ON batch (parameter_set, first);
CREATE INDEX batch_open ON batch (campaign, id) WHERE state IN ('pending', 'intent');
CREATE INDEX batch_message ON batch (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE exception (
    campaign INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (campaign, phone)
) WITHOUT ROWID;
CREATE INDEX exception_batch ON exception (batch);
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    batch INTEGER,
    started REAL NOT NULL,
    ended REAL,
    outcome TEXT
);
CREATE TABLE delivery (
    campaign INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (campaign, phone, status)
) WITHOUT ROWID;
"""

_AUDIT = """
CREATE TABLE resolution (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    at REAL NOT NULL,
    action TEXT NOT NULL,
    scope TEXT NOT NULL,
    recipients INTEGER NOT NULL
);
CREATE TABLE resolved (
    resolution INTEGER NOT NULL,
    phone INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (resolution, phone)
) WITHOUT ROWID;
"""

# A webhook may come before the answer that holds its message's id.
_EARLY = """
CREATE TABLE early (
    campaign INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (campaign, message_id, status)
) WITHOUT ROWID;
"""

# The warnings about the rows of the last input: each plan repeats them.
_DOUBTS = """
CREATE TABLE doubt (
    campaign INTEGER NOT NULL,
    position INTEGER NOT NULL,
    warning TEXT NOT NULL,
    PRIMARY KEY (campaign, position)
) WITHOUT ROWID;
"""

# A digest's place in an index is random. The digests have a table without the texts, and are inserted in
# sorted order: so each page of that table is written once.
_DIGESTS = """
CREATE TABLE set_digest (
    campaign INTEGER NOT NULL,
    digest BLOB NOT NULL,
    parameter_set INTEGER NOT NULL,
    PRIMARY KEY (campaign, digest)
) WITHOUT ROWID;
INSERT INTO set_digest SELECT campaign, digest, id FROM parameter_set ORDER BY campaign, digest;
CREATE TABLE set_text (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    parameters TEXT NOT NULL
);
INSERT INTO set_text SELECT id, campaign, parameters FROM parameter_set ORDER BY id;
DROP TABLE parameter_set;
ALTER TABLE set_text RENAME TO parameter_set
"""

# Where a batch has one recipient, an export needs its line. The recipients lie in the order of their phones:
# to find a million of them there took half of the export.
_LINES = "ALTER TABLE batch ADD COLUMN line INTEGER"

MIGRATIONS = (_FIRST, _AUDIT, _EARLY, _DOUBTS, _DIGESTS, _LINES)
# The rows of a load wait here until all of them are read; then they join the campaign.
STAGING = """
CREATE TEMP TABLE IF NOT EXISTS staged (
    line INTEGER PRIMARY KEY, phone INTEGER NOT NULL, parameter_set INTEGER NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS staged_set (
    number INTEGER PRIMARY KEY, digest BLOB NOT NULL, parameters TEXT NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS set_of (
    number INTEGER PRIMARY KEY, id INTEGER NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS left_out (
    line INTEGER PRIMARY KEY, reason TEXT NOT NULL, phone TEXT NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS repeated (
    line INTEGER NOT NULL, phone INTEGER NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS spelled (
    person INTEGER NOT NULL, line INTEGER NOT NULL, phone INTEGER NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS respelled (
    line INTEGER PRIMARY KEY, given INTEGER NOT NULL, phone INTEGER NOT NULL
)
"""


class OwnerFile:
    """The file beside a ledger that the owning process locks.

    It records the process, the last request, its clocks, and how the ledger was closed. Version 0.1.0 wrote
    only the process: its file holds no times of requests.

    Args:
        path: the ledger's path.
    """

    # The record has a fixed length and is one write, which a kill can't tear. The checksum shows damage.
    _RECORD = re.compile(
        rb"(?P<body>process (?P<process> *\d+) request (?P<request> *\d+) boot (?P<boot> *\S+) "
        rb"wall (?P<wall> *\S+) monotonic (?P<monotonic> *\S+) closed (?P<closed> *\S+)) "
        rb"(?P<check>[0-9a-f]{8})\n"
    )

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + "-owner")
        self.request = 0
        self.boot, self.wall, self.monotonic = "-", 0.0, 0.0
        self._boot = _threads.boot()
        self.closed = "-"
        self._file: IO[bytes] | None = None

    def lock(self) -> None:
        """Take the lock and read the record. The lock ends with the process.

        Raises:
            LedgerError: if another process has the lock.
        """
        # The lock is on a separate file: closing any handle of the database would drop SQLite's locks on it.
        create(self.path)
        self._file = self.path.open("r+b", buffering=0)
        content = self._file.read()
        record = self._RECORD.fullmatch(content)
        if not lock_file(self._file):
            holder = record["process"].decode() if record else content[:20].decode("ascii", "replace")
            raise LedgerError(
                f"the ledger {self.path.name.removesuffix('-owner')} is in use by process "
                f"{holder.strip() or 'unknown'}; wait for it or stop it: only one may load, run or resolve"
            )
        if record and zlib.crc32(record["body"]) == int(record["check"], 16):
            self.request = int(record["request"])
            self.boot = record["boot"].decode().strip()
            self.wall, self.monotonic = float(record["wall"]), float(record["monotonic"])
            self.closed = record["closed"].decode().strip()

    def begin(self) -> None:
        """Write this process as the owner of an open ledger."""
        self.closed = "-"
        self._write()

    def note(self, request: int, wall: float) -> None:
        """Write the last request's number, after the request's commit and before its first byte leaves."""
        self.request, self.wall = request, wall
        self.boot, self.monotonic = self._boot, _threads.monotonic()
        self._write()

    def now(self, wall: float) -> float:
        """Return the last request's time plus the monotonic time since then; after a reboot, return `wall`.

        A step of the wall clock doesn't move the sum.
        """
        if self.boot != self._boot:
            return wall
        passed = _threads.monotonic() - self.monotonic
        return wall if passed < 0 else self.wall + passed  # < 0: a clock of another time namespace

    def close(self, ledger: Path, *, clean: bool) -> None:
        """Write how the ledger was closed, and give up the lock; safe to repeat."""
        file, self._file = self._file, None
        if file is None:
            return
        with closing(file):
            if clean:
                self.closed = fingerprint(ledger)
                self._file = file
                self._write()
                self._file = None

    def _write(self) -> None:
        assert self._file is not None
        body = (
            f"process {os.getpid():10d} request {self.request:20d} boot {self.boot:>36.36} "
            f"wall {self.wall!r:>24} monotonic {self.monotonic!r:>24} closed {self.closed:>48.48}"
        ).encode()
        record = b"%b %08x\n" % (body, zlib.crc32(body))
        self._file.seek(0)
        self._file.write(record)
        self._file.truncate()


def fingerprint(path: Path) -> str:
    """Return a file's size and time, which show whether it changed; "-" if it has a WAL or is unreadable."""
    with suppress(OSError):
        if wal_of(path) is None:
            found = path.stat()
            return f"{found.st_size}:{found.st_mtime_ns}"
    return "-"


def wal_of(path: Path) -> Path | None:
    """Return the path of the ledger's `-wal` file, if there is one with content."""
    wal = path.with_name(path.name + "-wal")
    with suppress(OSError):
        return wal if wal.stat().st_size else None
    return None


Step = Callable[[sqlite3.Connection], Any]  # one call's part of a shared transaction


@frozen
class Begun:
    """A request whose intent is in the ledger.

    Attributes:
        request: its number.
        at: its time by the wall clock.
    """

    request: int
    at: float


class LedgerFile(SQLiteFile):
    """The open file of a ledger. After its first failure it refuses every operation.

    After a failed write the content of the file is uncertain until it is opened again.

    Args:
        path: the file.
        owner: the locked owner file of the process that loads, runs or resolves; None for readers.
    """

    def __init__(self, path: Path, owner: OwnerFile | None = None) -> None:
        super().__init__(path, name="the ledger", error=LedgerError, busy=BUSY, prepare=self._begin)
        self.owner = owner
        self.failure: BaseException | None = None
        self._is_ready = False
        self._steps: _threads.Gathering[Step, tuple[int, Any]] = _threads.Gathering(self._commit)

    async def run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` with the connection, unless the file has failed before."""
        return await self._once(super().run, work, *args, **kwargs)

    async def read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` on one snapshot of the file."""
        return await self._once(super().read, work, *args, **kwargs)

    async def write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in one transaction that commits."""
        return await self._once(super().write, work, *args, **kwargs)

    async def share(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` as `write` does, in one transaction with the calls that arrive during the last commit.

        The calls run in their order; a cancelled call runs too. If a check of one call fails, its writes are
        undone, and the others are committed.
        """
        return await self._once(self._shared, work, *args, **kwargs)

    async def _shared(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        place, done = await self._steps.add(lambda db: work(db, *args, **kwargs))
        if sniffio.current_async_library() == "trio":
            for _ in range(place):  # trio wakes tasks in any order, and batches begin in theirs
                await cancel_shielded_checkpoint()
        if isinstance(done, LedgerError):
            raise done
        return cast("T", done)

    async def _commit(self, steps: list[Step]) -> list[tuple[int, Any]]:
        try:
            done = await super().run(self._commit_in, steps)
        except LedgerError as error:  # SQLite or the system failed
            done = [error] * len(steps)
        return list(enumerate(done))

    def _commit_in(self, db: sqlite3.Connection, steps: list[Step]) -> list[Any]:
        try:
            with transaction(db):
                done = [step(db) for step in steps]
        except LedgerError:
            with transaction(db):
                done = [_apart(db, step) for step in steps]
        begun = [each for each in done if isinstance(each, Begun)]
        # After the commit: a kill in between must not leave a number that the ledger doesn't have.
        if begun and self.owner is not None:
            self.owner.note(begun[-1].request, begun[-1].at)
        return done

    async def settle(self) -> None:
        """Commit the shared calls that wait; needed before `close`, since a cancelled call may wait."""
        await self._steps.aclose()

    async def _once(self, run: Callable[..., Any], work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self.failure is not None:
            raise LedgerError(f"the ledger failed before ({self.failure}); nothing more is sent")
        try:
            done: T = await run(work, *args, **kwargs)
        except LedgerError as error:
            if error.__cause__ is not None:  # SQLite or the system raised it, not a check
                self.failure = error.__cause__
            raise
        return done

    def explain(self, error: Exception) -> str:
        """Return a message that names the file, the cause and the fix."""
        ending = "nothing more is sent. Fix the cause, then resume" if self._is_ready else "nothing was sent"
        return f"{super().explain(error)}; {ending}"

    def require_place(self) -> None:
        """Check that the path still is the only name of this file.

        Raises:
            LedgerError: if the file was deleted, replaced or linked.
        """
        if problem := self.displaced():
            self.failure = LedgerError(problem)
            raise LedgerError(
                f"{problem}, while the campaign runs; nothing more is sent. Put the file back, then resume; "
                f"{COPYING}"
            )

    def _begin(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute("PRAGMA temp.cache_size = -500")
        migrate(connection)
        self._is_ready = True


def _apart(db: sqlite3.Connection, step: Step) -> Any:
    """Return a step's result, or the error of its check, without its writes."""
    db.execute("SAVEPOINT step")
    try:
        return step(db)
    except LedgerError as error:
        db.execute("ROLLBACK TO step")
        return error
    finally:
        db.execute("RELEASE step")


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the ledger's tables, 0 for an empty file.

    Raises:
        LedgerError: if the file is no ledger, or was written by a later version.
    """
    with snapshot(connection):  # the owner may make it a ledger between two queries
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
    """Bring the tables to the shape of this version, all steps or none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return
    with transaction(connection):
        # Read again with the write lock in hand: several processes may have found the same old ledger.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in MIGRATIONS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {max(version, len(MIGRATIONS))}")


@contextmanager
def larger_cache(connection: Any) -> Generator[None]:
    """Give a connection to a file more memory for sorts and pages; one to PostgreSQL stays as it is."""
    if not isinstance(connection, sqlite3.Connection):
        yield
        return
    connection.execute(f"PRAGMA cache_size = -{LARGE_CACHE_KIB}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


# ── opening ────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def open_ledger(path: Path, *, owner: bool, must_exist: bool = True) -> AsyncGenerator[LedgerFile]:
    """Open a ledger's file, check it, and close it in the end.

    Args:
        path: the file.
        owner: take the exclusive lock that loading, running and resolving need.
        must_exist: refuse a missing file; if false, the owner creates it.

    Raises:
        LedgerError: if the file is missing, is no ledger, is damaged, has forgotten requests, or is in use.
    """
    file: LedgerFile | None = None
    try:
        file = await _threads.run(_prepare_owner if owner else _prepare_reader, path, must_exist)
        await file.run(lambda _: None)
        yield file
    finally:
        if file is not None:
            with anyio.CancelScope(shield=True):
                await file.settle()
                await _threads.run(_close, file)


def _prepare_owner(path: Path, must_exist: bool) -> LedgerFile:
    path = _resolve(path)
    if must_exist and not path.exists():
        raise CampaignError(f"there is no ledger {path}; load the campaign first{_BY_PLAN}")
    owner = OwnerFile(path)
    try:
        owner.lock()
        if not path.exists() and owner.request:
            raise LedgerError(
                f"the ledger {path} is gone, but {owner.path.name} records that it began {owner.request:,} "
                f"requests. Put the ledger back; or, to begin anew, delete {owner.path.name}. {COPYING}"
            )
        if path.exists():
            _check(path, owner)
        file = LedgerFile(path, owner)
        owner.begin()
    except OSError as error:
        owner.close(path, clean=False)
        raise LedgerError(f"the ledger {path} can't be opened: {error}") from error
    except BaseException:
        owner.close(path, clean=False)
        raise
    return file


def _check(path: Path, owner: OwnerFile) -> None:
    """Refuse a file that is no ledger, is damaged, or has forgotten requests.

    SQLite has no checksums of pages, so a flipped bit may pass.
    """
    unchanged = owner.closed != "-" and owner.closed == fingerprint(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY)) as connection:
            version = version_of(connection, path)
            if version and not unchanged:
                problems = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
                if problems != ["ok"]:
                    raise LedgerError(f"the ledger {path} is damaged: {problems[0]}; restore it. {COPYING}")
            last = 0
            if version:
                (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM request").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} can't be opened: {error}; {COPYING}") from error
    if owner.request > last:
        raise LedgerError(
            f"the ledger {path} has forgotten requests: {owner.path.name} records {owner.request:,}, the "
            f"ledger {last:,}. Its -wal file is missing, or it is an older copy; going on would send twice. "
            f"Restore the newest files; {COPYING}"
        )


def _prepare_reader(path: Path, must_exist: bool) -> LedgerFile:
    path = _resolve(path)
    if not path.exists():
        raise LedgerError(f"there is no ledger {path}; load the campaign first{_BY_PLAN}")
    if not writable(path):
        path = _copied(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY)) as connection:
            if not version_of(connection, path):
                raise LedgerError(f"{path} holds no ledger yet; load the campaign first{_BY_PLAN}")
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} can't be opened: {error}") from error
    return LedgerFile(path)


def writable(path: Path) -> bool:
    """Return whether SQLite can make its files beside the ledger, which reading a WAL needs."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


_COPY = "desk360-ledger-"


def _copied(path: Path) -> Path:
    """Copy a ledger of a read-only place, with its -wal, into a private temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix=_COPY))
    for source in filter(None, (path, wal_of(path))):
        shutil.copyfile(source, folder / source.name)
    return folder / path.name


def _resolve(path: Path) -> Path:
    # Links are resolved, since the owner file is found by the ledger's name, and one ledger has one owner.
    try:
        path = path.resolve()
    except OSError as error:
        raise LedgerError(f"the ledger {path} can't be opened: {error}") from error
    if kind := network_file_system(path):
        raise LedgerError(
            f"the ledger {path} would lie on a network file system ({kind}), whose locks and syncs can't be "
            "trusted; put it on a local disk"
        )
    return path


def _close(file: LedgerFile) -> None:
    file.close()
    if file.owner is not None:
        file.owner.close(file.path, clean=file.failure is None)
    if file.path.parent.name.startswith(_COPY):
        shutil.rmtree(file.path.parent, ignore_errors=True)
