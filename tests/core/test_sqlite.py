"""The room for private SQLite files: names, modes, durability, locks, forks and moved methods."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from desk360_async import ConfigurationError, _sqlite
from desk360_async._sqlite import (
    FileBusy,
    SQLiteFile,
    make_tables,
    network_file_system,
    reads,
    transaction,
    writes,
)
from desk360_async.once import SendLog
from tests.limiter.virtual import run

TABLE = "CREATE TABLE IF NOT EXISTS note (text TEXT)"


class Notes:
    """A user of the room: two methods that take the connection."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.file = SQLiteFile(path, name="the notebook", prepare=lambda db: db.execute(TABLE), **options)

    @writes
    def add(self, db: sqlite3.Connection, text: str, *, times: int = 1) -> int:
        """Add a note so many times; return the number of rows."""
        for _ in range(times):
            db.execute("INSERT INTO note VALUES (?)", (text,))
        if text == "broken":
            db.execute("INSERT INTO nowhere VALUES (1)")
        return times

    @reads
    def texts(self, db: sqlite3.Connection) -> list[str]:
        """Return the notes."""
        return [text for (text,) in db.execute("SELECT text FROM note")]


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Notes]:
    """Make a notebook."""
    made = Notes(tmp_path / "notes.db", busy=2.0)
    yield made
    made.file.close()


@pytest.fixture
def other(notes: Notes) -> Iterator[sqlite3.Connection]:
    """Return another process's connection to the notebook."""
    notes.file.open()
    connection = sqlite3.connect(notes.file.path, isolation_level=None)
    yield connection
    connection.close()


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_a_method_that_writes_commits_and_one_that_reads_sees_it(notes: Notes, backend: str) -> None:
    """Both keep their signature without the connection."""

    async def main() -> None:
        assert await notes.add("a", times=2) == 2
        assert await notes.texts() == ["a", "a"]
        assert await notes.file.run(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)

    run(backend, main)


@BACKENDS
def test_a_method_that_fails_writes_no_row(notes: Notes, backend: str) -> None:
    """All or none; the error names the file."""

    async def main() -> None:
        with pytest.raises(
            ConfigurationError, match=r"the notebook .*notes\.db can't be used \(no such table"
        ):
            await notes.add("broken")
        assert await notes.texts() == []

    run(backend, main)


@BACKENDS
def test_a_locked_file_fails_after_its_patience(
    notes: Notes, other: sqlite3.Connection, backend: str
) -> None:
    """The wait is the coroutine's: it ends after `busy` seconds of the event loop."""
    other.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        start = anyio.current_time()
        with pytest.raises(ConfigurationError, match="stayed locked for 2 s"):
            await notes.add("late")
        assert anyio.current_time() - start == pytest.approx(2.0, abs=0.1)
        other.execute("COMMIT")
        assert await notes.add("now") == 1

    run(backend, main)


@BACKENDS
def test_a_cancelled_wait_for_the_lock_ends_at_once(
    notes: Notes, other: sqlite3.Connection, backend: str
) -> None:
    """No thread outlasts the deadline."""
    other.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        start = anyio.current_time()
        with anyio.move_on_after(0.5):
            await notes.add("late")
        assert anyio.current_time() - start == pytest.approx(0.5, abs=0.05)

    run(backend, main)


def test_a_file_in_exclusive_mode_is_busy_for_others(tmp_path: Path) -> None:
    """For reads, writes and opening alike."""
    owner = Notes(tmp_path / "notes.db", exclusive=True)
    owner.file.open()
    second = Notes(tmp_path / "notes.db")
    with pytest.raises(FileBusy):
        second.file.open()
    owner.file.close()
    second.file.open()
    second.file.close()


def test_a_read_that_meets_a_lock_is_busy(notes: Notes) -> None:
    """It may be tried again, since it wrote nothing."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    with pytest.raises(FileBusy), notes.file.snapshot():
        raise error
    with pytest.raises(sqlite3.OperationalError, match="syntax"), notes.file.snapshot() as db:
        db.execute("NONSENSE")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [(0o600, None, 0o600), (0o600, 0o644, 0o600), (0o660, None, 0o660), (None, 0o644, 0o644)],
)
def test_the_mode_is_the_asked_one(tmp_path: Path, mode: int | None, before: int | None, after: int) -> None:
    """A private file is narrowed, another keeps its mode."""
    path = tmp_path / "notes.db"
    if before is not None:
        path.touch()
        path.chmod(before)
    notes = Notes(path, mode=mode)
    notes.file.open()
    assert stat.S_IMODE(path.stat().st_mode) == after
    assert stat.S_IMODE(Path(f"{path}-wal").stat().st_mode) == after
    notes.file.close()


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_name_that_is_no_file_is_refused(path: str) -> None:
    """A ledger in memory would forget with the process."""
    with pytest.raises(ConfigurationError, match="the notebook needs a file's path"):
        SQLiteFile(path, name="the notebook")


def test_a_store_in_memory_is_opened_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its user asks for one."""
    monkeypatch.chdir(tmp_path)
    notes = Notes(Path(":memory:"), memory=True)
    assert run("asyncio", notes.add, "a") == 1
    assert notes.file.displaced() is None
    assert list(tmp_path.iterdir()) == []
    notes.file.close()


def test_a_second_name_is_refused(notes: Notes, tmp_path: Path) -> None:
    """Two names are two databases in one file."""
    notes.file.open()
    assert notes.file.displaced() is None
    os.link(notes.file.path, tmp_path / "second.db")
    assert "2 names" in str(notes.file.displaced())
    with pytest.raises(ConfigurationError, match="hard links"):
        Notes(tmp_path / "second.db").file.open()


def test_a_deleted_or_replaced_file_is_noticed(notes: Notes) -> None:
    """One look at the path."""
    assert notes.file.displaced() is None
    notes.file.open()
    notes.file.path.unlink()
    assert "is gone" in str(notes.file.displaced())
    notes.file.path.touch()
    # A file system may give the new file the old number, so the old one is kept open until here.
    assert "replaced" in str(notes.file.displaced())


@pytest.mark.parametrize(("pragma", "answer"), [("journal_mode", "delete"), ("synchronous", 1)])
def test_a_file_that_cannot_be_durable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, answer: object
) -> None:
    """Both settings are read back."""

    class Weak(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> Any:
            if pragma in sql:
                return super().execute("SELECT ?", (answer,))
            return super().execute(sql, *args)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Weak, **k))
    with pytest.raises(ConfigurationError, match="can't be made durable here"):
        Notes(tmp_path / "notes.db").file.open()


def test_an_old_sqlite_is_named(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """RETURNING needs 3.35."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(ConfigurationError, match=r"needs SQLite 3\.35 .* uses 3\.34\.1"):
        notes.file.open()


@pytest.mark.parametrize(
    ("code", "advice"),
    [(sqlite3.SQLITE_FULL, "the disk is full"), (sqlite3.SQLITE_NOTADB, "no SQLite database")],
)
def test_a_failure_is_explained_by_its_cause(notes: Notes, code: int, advice: str) -> None:
    """One advice for each cause."""
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    assert advice in notes.file.explain(error)


@pytest.mark.parametrize(("free", "advice"), [(1000, "the disk is full"), (10**9, "on a local disk")])
def test_a_new_file_without_room_is_explained(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, free: int, advice: str
) -> None:
    """SQLite's error is a general one then."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert advice in notes.file.explain(error)


@pytest.mark.parametrize(
    ("mode", "advice"), [(None, "chgrp GROUP"), (0o600, "run as that user, since the file is private")]
)
def test_another_users_file_is_named_with_owner_and_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, advice: str
) -> None:
    """The fix fits the file: a shared one gets a group, a private one its owner."""
    path = tmp_path / "notes.db"
    path.touch(0o600)
    monkeypatch.setattr(os, "access", lambda *_: False)
    message = SQLiteFile(path, name="the notebook", mode=mode).explain(PermissionError("no"))
    assert f"{path} can't be used" in message
    assert f"uid {os.geteuid()}" in message
    assert "mode 0600" in message
    assert advice in message


def test_an_owner_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers have users that no list names."""
    assert _sqlite._user(4_000_000_000) == "uid 4000000000"


@pytest.mark.parametrize(("kind", "found"), [("nfs4", "nfs4"), ("ext4", None), ("fuse.sshfs", "fuse.sshfs")])
def test_a_network_file_system_is_found_by_the_mounts(kind: str, found: str | None) -> None:
    """The longest mount point decides."""
    mounts = ["/dev/sda / ext4 rw 0 0", f"host:/x /mnt/my\\040data {kind} rw 0 0"]
    assert network_file_system(Path("/mnt/my data/ledger.db"), mounts) == found
    assert network_file_system(Path("/srv/ledger.db"), mounts) is None


def test_a_child_that_closes_the_file_leaves_its_parents_connection_open(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing it in the child would break the parent's locks."""
    notes.file.open()
    parents = notes.file._connection
    monkeypatch.setattr(notes.file, "_process", os.getpid() + 1)
    notes.file.close()
    assert notes.file._connection is None
    assert _sqlite._orphans.pop() is parents
    assert parents is not None
    parents.execute(TABLE)
    parents.close()


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_forked_child_opens_the_file_anew(notes: Notes) -> None:
    """Even where another thread uses it at that moment; the parent's connection stays good."""
    notes.file.open()
    parents = notes.file._connection
    if (child := os.fork()) == 0:
        with notes.file.transaction() as db:
            os._exit(0 if db is not parents else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with notes.file.transaction() as db:
        assert db is parents


def test_without_a_list_of_mounts_no_file_system_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert network_file_system(tmp_path / "notes.db") is None


@pytest.mark.parametrize(
    ("is_there", "advice"),
    [(False, "in a folder where this process may make files"), (True, _sqlite._ADVICE)],
)
def test_a_refused_file_that_no_other_user_owns_gets_general_advice(
    tmp_path: Path, is_there: bool, advice: str
) -> None:
    path = tmp_path / "notes.db"
    if is_there:
        path.touch()
    assert SQLiteFile(path, name="the notebook").explain(PermissionError("no")).endswith(advice)


def test_a_transaction_inside_another_is_no_busy_file(other: sqlite3.Connection) -> None:
    with (
        transaction(other),
        pytest.raises(sqlite3.OperationalError, match="within a transaction"),
        transaction(other),
    ):
        pass


class Slow:
    """A connection before whose transaction another process makes the tables."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.db = db
        self.path = path

    def execute(self, text: str) -> sqlite3.Cursor:
        if text == "BEGIN IMMEDIATE":
            faster = sqlite3.connect(self.path, isolation_level=None)
            make_tables(faster, 7, TABLE, "a notebook")
            faster.close()
        return self.db.execute(text)


def test_tables_that_another_process_makes_first_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    db: Any = sqlite3.connect(path, isolation_level=None)
    make_tables(Slow(db, path), 7, TABLE, "a notebook")  # type: ignore[arg-type]  # as much of one as it uses
    assert db.execute("PRAGMA application_id").fetchone() == (7,)
    db.close()


def test_a_store_keeps_the_clock_that_it_was_made_with() -> None:
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]
    own, free = SendLog(":memory:", clock=lambda: moments[0]), SendLog(":memory:")
    for log in (own, free):
        log.use_clock(lambda: moments[1])
    assert [own.now(), free.now()] == moments
