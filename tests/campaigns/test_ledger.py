"""The ledger's file: private, durable, owned by one, migrated; and what happens when the disk fails."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async import AsyncDesk360
from desk360_async.campaigns import CampaignError, LedgerError, _report, _storage
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._storage import LedgerFile, migrate, open_ledger, version_of
from tests.campaigns.harness import Harness, done, finish, people


def load(harness: Harness) -> None:
    """Load ten recipients."""
    harness.play(lambda client: harness.campaign(batch_size=1, strategy="single").load(client, people(10)))


@pytest.mark.parametrize("suffix", ["", "-owner"])
def test_only_the_owner_can_read_it(harness: Harness, suffix: str) -> None:
    """Phone numbers are in it."""
    load(harness)
    assert Path(f"{harness.ledger}{suffix}").stat().st_mode & 0o777 == 0o600


def test_a_wider_mode_is_narrowed(harness: Harness) -> None:
    """Whoever made the file."""
    harness.ledger.touch(0o644)
    load(harness)
    assert harness.ledger.stat().st_mode & 0o777 == 0o600


def test_it_is_durable(harness: Harness) -> None:
    """WAL and FULL, read back."""

    async def main(_: AsyncDesk360) -> tuple[str, int]:
        async with open_ledger(harness.ledger, owner=True, must_exist=False) as file:
            return await file.run(
                lambda connection: (
                    connection.execute("PRAGMA journal_mode").fetchone()[0],
                    connection.execute("PRAGMA synchronous").fetchone()[0],
                )
            )

    assert harness.play(main) == ("wal", 2)


def test_a_second_owner_is_refused(harness: Harness) -> None:
    """Only one may load, run or resolve; reading is free."""
    load(harness)

    async def main(client: AsyncDesk360) -> None:
        async with open_ledger(harness.ledger, owner=True):
            assert (await harness.campaign().status()).pending == 10
            with pytest.raises(LedgerError, match=f"in use by process {os.getpid()}"):
                await finish(harness.campaign(), client)

    harness.play(main)


def test_a_link_leads_to_the_same_owner(harness: Harness) -> None:
    """The lock is the file's, and not its name's."""
    load(harness)
    link = harness.folder / "link.db"
    link.symlink_to(harness.ledger)

    async def main(client: AsyncDesk360) -> None:
        async with open_ledger(link, owner=True):
            with pytest.raises(LedgerError, match="in use by process"):
                await finish(harness.campaign(), client)

    harness.play(main)


def test_a_network_file_system_is_refused(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks and syncs can't be trusted."""
    monkeypatch.setattr(_storage, "network_file_system", lambda path: "nfs4")
    with pytest.raises(LedgerError, match=r"network file system \(nfs4\)"):
        load(harness)


@pytest.mark.parametrize("version", range(1, len(_storage.MIGRATIONS)))
def test_an_older_schema_is_migrated(harness: Harness, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """What is in it stays."""
    connection = sqlite3.connect(harness.ledger, isolation_level=None)
    with closing(connection), monkeypatch.context() as older:
        older.setattr(_storage, "MIGRATIONS", _storage.MIGRATIONS[:version])
        migrate(connection)
    load(harness)
    assert harness.play(lambda client: harness.campaign().report()).counts.pending == 10


def test_two_may_migrate_the_same_ledger(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second finds it done, though it was still to be done when it looked."""
    first, second = (sqlite3.connect(harness.ledger, isolation_level=None) for _ in range(2))
    with monkeypatch.context() as older:
        older.setattr(_storage, "MIGRATIONS", _storage.MIGRATIONS[:1])
        migrate(first)
    for connection in (first, second):
        assert version_of(connection, harness.ledger) == 1
    for connection in (first, second):
        migrate(connection)
        assert version_of(connection, harness.ledger) == len(_storage.MIGRATIONS)
        connection.close()


def test_a_batch_in_an_unknown_state_is_not_left_out_of_the_counts(harness: Harness) -> None:
    """Only an overwritten page has one."""
    load(harness)
    with closing(sqlite3.connect(harness.ledger, isolation_level=None)) as connection:
        connection.execute("UPDATE batch SET state = 'acceptex'")
    with pytest.raises(LedgerError, match="unknown state; restore"):
        harness.play(lambda client: harness.campaign().status())


def test_the_numbers_of_a_plan_need_no_sort_of_the_batches(harness: Harness) -> None:
    """A sort of a million batches wrote 10 MB."""
    load(harness)
    with closing(sqlite3.connect(harness.ledger, isolation_level=None)) as connection:
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        for numbers in (_report.counts, _report.requests_needed, _report.groups):
            numbers(connection, 1)
        connection.set_trace_callback(None)
        plans = [
            str(connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
            for query in asked
            if " exception " not in query
        ]
    assert len(plans) == 3
    assert not any("TEMP B-TREE" in plan for plan in plans)


def test_an_empty_file_is_no_ledger_to_a_reader(harness: Harness) -> None:
    """It is left as it was: only loading makes a ledger of it."""
    harness.ledger.touch()
    with pytest.raises(LedgerError, match="holds no ledger yet"):
        harness.play(lambda client: harness.campaign().status())
    assert harness.ledger.read_bytes() == b""


def test_a_newer_schema_is_refused(harness: Harness) -> None:
    """It says to upgrade."""
    load(harness)
    connection = sqlite3.connect(harness.ledger)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="upgrade"):
        harness.play(lambda client: harness.campaign().status())


@pytest.mark.parametrize("content", [b"plainly no database, but text" * 100, None])
def test_somebody_elses_file_is_refused(harness: Harness, content: bytes | None) -> None:
    """It is left as it was."""
    if content is not None:
        harness.ledger.write_bytes(content)
    else:
        connection = sqlite3.connect(harness.ledger)
        connection.execute("CREATE TABLE other (id)")
        connection.close()
    before = harness.ledger.read_bytes()
    with pytest.raises(LedgerError):
        load(harness)
    assert harness.ledger.read_bytes() == before


def test_a_missing_ledger_is_not_made_by_reading(harness: Harness) -> None:
    """A typo in the name must not look like an empty campaign."""
    with pytest.raises(CampaignError, match="there is no ledger"):
        harness.play(lambda client: harness.campaign().status())
    assert not harness.ledger.exists()


def failing(
    number: int, error: Exception, *, after: bool, failed: list[int], harness: Harness
) -> Callable[..., Any]:
    """Return a `_once` whose n-th call fails, before or after its write, and later ones work."""
    once, calls = LedgerFile._once, 0

    async def work(self: LedgerFile, run: Any, what: Callable[..., Any], *given: Any) -> Any:
        nonlocal calls
        calls += 1
        fails = calls == number

        def disturbed(connection: sqlite3.Connection, *given: Any) -> Any:
            if fails and not after:
                failed.append(len(harness.received()))
                raise error
            return what(connection, *given)

        answer = await once(self, run, disturbed, *given)
        if fails:
            failed.append(len(harness.received()))
            self.failure = error
            raise LedgerError(self.explain(error))
        return answer

    return work


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(7, 17))
def test_nothing_is_sent_after_a_failed_write(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    """At each write: the campaign stops with a clear error, and goes on when the disk is mended."""
    load(harness)
    failed: list[int] = []
    error = sqlite3.OperationalError("disk I/O error" if number % 2 else "database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(LedgerFile, "_once", failing(number, error, after=after, failed=failed, harness=harness))
        events = harness.play(lambda client: finish(harness.campaign(), client, concurrency=1))
    assert done(events).end == "ledger"
    assert "Fix the cause" in done(events).reason
    assert [len(harness.received())] == failed

    def mended(client: AsyncDesk360) -> Any:
        return finish(harness.campaign(), client)

    counts = done(harness.play(mended)).counts
    assert counts.accepted + counts.unknown == 10
    assert counts.unknown <= 1
    assert len(harness.received()) == len(set(harness.received())) >= counts.accepted


def test_a_full_disk_is_said_clearly(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own error this time."""
    load(harness)
    begin = LedgerFile._begin

    def small(self: LedgerFile, connection: sqlite3.Connection) -> None:
        begin(self, connection)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with monkeypatch.context() as disk:
        disk.setattr(LedgerFile, "_begin", small)
        with pytest.raises(LedgerError, match="the disk is full"):
            harness.play(lambda client: harness.campaign("other").load(client, people(3000, sets=3000)))
    assert harness.received() == []


def test_a_ledger_that_could_not_be_made_has_nothing_to_resume(tmp_path: Path) -> None:
    """The hint fits the moment of the failure."""
    file = LedgerFile(tmp_path / "ledger.db")
    assert file.explain(OSError("no room")).endswith("; nothing was sent")
    file.open()
    assert file.explain(OSError("no room")).endswith("; nothing more is sent. Fix the cause, then resume")
    file.close()


# ── shared commits ─────────────────────────────────────────────────────────────────────────────────────────


def test_requests_in_flight_share_commits(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each of the ten: its intent and its result; and both recoveries of the run."""
    load(harness)
    commit, shared = LedgerFile._commit_in, list[int]()

    def counted(self: LedgerFile, db: sqlite3.Connection, steps: list[_storage.Step]) -> list[Any]:
        shared.append(len(steps))
        return commit(self, db, steps)

    monkeypatch.setattr(LedgerFile, "_commit_in", counted)
    harness.play(lambda client: finish(harness.campaign(), client, concurrency=10))
    assert sum(shared) == 2 * 10 + 2
    assert len(shared) < sum(shared) / 2


def test_a_failed_check_undoes_only_its_own_writes(harness: Harness) -> None:
    load(harness)

    def write(db: sqlite3.Connection, message_id: str) -> str:
        db.execute("INSERT INTO early VALUES (1, ?, 'sent')", (message_id,))
        if message_id == "b":
            raise LedgerError("the check of b")
        return message_id

    async def main(_: AsyncDesk360) -> tuple[list[Any], list[Any]]:
        async with open_ledger(harness.ledger, owner=True) as file:
            ended = await share_all(file, *(partial(write, message_id=name) for name in "abc"))
            return ended, await file.read(lambda db: db.execute("SELECT message_id FROM early").fetchall())

    ended, stored = harness.play(main)
    assert [str(each) for each in ended] == ["a", "the check of b", "c"]
    assert stored == [("a",), ("c",)]


def test_an_error_of_the_disk_fails_all_that_share_the_commit(harness: Harness) -> None:
    load(harness)

    def fail(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def main(_: AsyncDesk360) -> list[Any]:
        async with open_ledger(harness.ledger, owner=True) as file:
            return await share_all(file, fail, repr)

    assert all("disk I/O error" in str(error) for error in harness.play(main))


def test_an_intent_is_withdrawn_if_its_caller_is_cancelled_before_the_commit(harness: Harness) -> None:
    """The batch stays pending: it was certainly not sent."""
    load(harness)

    async def main(_: AsyncDesk360) -> tuple[int, int]:
        async with open_ledger(harness.ledger, owner=True) as file:
            ledger = Ledger(file, harness.campaign().name)
            await ledger.settings()
            (batch, *_others) = await ledger.pending(0, 100)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await ledger.intend(batch)
            return await ledger.recover("stopped"), len(await ledger.pending(0, 100))

    assert harness.play(main) == (0, 10)


async def share_all(file: LedgerFile, *works: Callable[[Any], Any]) -> list[Any]:
    """Return the result or the error of each call; all run at the same time."""
    ended: list[Any] = [None] * len(works)

    async def share(place: int) -> None:
        try:
            ended[place] = await file.share(works[place])
        except LedgerError as error:
            ended[place] = error

    async with anyio.create_task_group() as tasks:
        for place in range(len(works)):
            tasks.start_soon(share, place)
    return ended
