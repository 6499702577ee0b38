"""The ledger's file: private, durable, owned by one, migrated; and what happens when the disk fails."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from desk360_async import AsyncDesk360
from desk360_async.campaigns import CampaignError, LedgerError, _storage
from desk360_async.campaigns._storage import LedgerFile, migrate, open_ledger, version_of
from tests.campaigns.harness import Scene, done, finish, people


def load(scene: Scene) -> None:
    """Load ten recipients."""
    scene.play(lambda client: scene.campaign(batch_size=1, strategy="single").load(client, people(10)))


@pytest.mark.parametrize("suffix", ["", "-owner"])
def test_only_the_owner_can_read_it(scene: Scene, suffix: str) -> None:
    """Phone numbers are in it."""
    load(scene)
    assert Path(f"{scene.ledger}{suffix}").stat().st_mode & 0o777 == 0o600


def test_a_wider_mode_is_narrowed(scene: Scene) -> None:
    """Whoever made the file."""
    scene.ledger.touch(0o644)
    load(scene)
    assert scene.ledger.stat().st_mode & 0o777 == 0o600


def test_it_is_durable(scene: Scene) -> None:
    """WAL and FULL, read back."""

    async def main(_: AsyncDesk360) -> tuple[str, int]:
        async with open_ledger(scene.ledger, owner=True, must_exist=False) as file:
            return await file.run(
                lambda connection: (
                    connection.execute("PRAGMA journal_mode").fetchone()[0],
                    connection.execute("PRAGMA synchronous").fetchone()[0],
                )
            )

    assert scene.play(main) == ("wal", 2)


def test_a_second_owner_is_refused(scene: Scene) -> None:
    """Only one may load, run or resolve; reading is free."""
    load(scene)

    async def main(client: AsyncDesk360) -> None:
        async with open_ledger(scene.ledger, owner=True):
            assert (await scene.campaign().status()).pending == 10
            with pytest.raises(LedgerError, match=f"in use by process {os.getpid()}"):
                await finish(scene.campaign(), client)

    scene.play(main)


def test_a_link_leads_to_the_same_owner(scene: Scene) -> None:
    """The lock is the file's, and not its name's."""
    load(scene)
    link = scene.folder / "link.db"
    link.symlink_to(scene.ledger)

    async def main(client: AsyncDesk360) -> None:
        async with open_ledger(link, owner=True):
            with pytest.raises(LedgerError, match="in use by process"):
                await finish(scene.campaign(), client)

    scene.play(main)


def test_a_network_file_system_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks and syncs can't be trusted."""
    monkeypatch.setattr(_storage, "network_file_system", lambda path: "nfs4")
    with pytest.raises(LedgerError, match=r"network file system \(nfs4\)"):
        load(scene)


@pytest.mark.parametrize("version", range(1, len(_storage.MIGRATIONS)))
def test_an_older_schema_is_migrated(scene: Scene, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """What is in it stays."""
    connection = sqlite3.connect(scene.ledger, isolation_level=None)
    with closing(connection), monkeypatch.context() as older:
        older.setattr(_storage, "MIGRATIONS", _storage.MIGRATIONS[:version])
        migrate(connection)
    load(scene)
    assert scene.play(lambda client: scene.campaign().report()).counts.pending == 10


def test_two_may_migrate_the_same_ledger(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second finds it done, though it was still to be done when it looked."""
    first, second = (sqlite3.connect(scene.ledger, isolation_level=None) for _ in range(2))
    with monkeypatch.context() as older:
        older.setattr(_storage, "MIGRATIONS", _storage.MIGRATIONS[:1])
        migrate(first)
    for connection in (first, second):
        assert version_of(connection, scene.ledger) == 1
    for connection in (first, second):
        migrate(connection)
        assert version_of(connection, scene.ledger) == len(_storage.MIGRATIONS)
        connection.close()


def test_an_empty_file_is_no_ledger_to_a_reader(scene: Scene) -> None:
    """It is left as it was: only loading makes a ledger of it."""
    scene.ledger.touch()
    with pytest.raises(LedgerError, match="holds no ledger yet"):
        scene.play(lambda client: scene.campaign().status())
    assert scene.ledger.read_bytes() == b""


def test_a_newer_schema_is_refused(scene: Scene) -> None:
    """It says to upgrade."""
    load(scene)
    connection = sqlite3.connect(scene.ledger)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="upgrade"):
        scene.play(lambda client: scene.campaign().status())


@pytest.mark.parametrize("content", [b"plainly no database, but text" * 100, None])
def test_somebody_elses_file_is_refused(scene: Scene, content: bytes | None) -> None:
    """It is left as it was."""
    if content is not None:
        scene.ledger.write_bytes(content)
    else:
        connection = sqlite3.connect(scene.ledger)
        connection.execute("CREATE TABLE other (id)")
        connection.close()
    before = scene.ledger.read_bytes()
    with pytest.raises(LedgerError):
        load(scene)
    assert scene.ledger.read_bytes() == before


def test_a_missing_ledger_is_not_made_by_reading(scene: Scene) -> None:
    """A typo in the name must not look like an empty campaign."""
    with pytest.raises(CampaignError, match="there is no ledger"):
        scene.play(lambda client: scene.campaign().status())
    assert not scene.ledger.exists()


def failing(
    number: int, error: Exception, *, after: bool, failed: list[int], scene: Scene
) -> Callable[..., Any]:
    """Return a `_once` whose n-th call fails, before or after its write, and later ones work."""
    once, calls = LedgerFile._once, 0

    async def work(self: LedgerFile, run: Any, what: Callable[..., Any], *given: Any) -> Any:
        nonlocal calls
        calls += 1
        fails = calls == number

        def disturbed(connection: sqlite3.Connection, *given: Any) -> Any:
            if fails and not after:
                failed.append(len(scene.received()))
                raise error
            return what(connection, *given)

        answer = await once(self, run, disturbed, *given)
        if fails:
            failed.append(len(scene.received()))
            self.failure = error
            raise LedgerError(self.explain(error))
        return answer

    return work


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(7, 17))
def test_nothing_is_sent_after_a_failed_write(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    """At each write: the campaign stops with a clear error, and goes on when the disk is mended."""
    load(scene)
    failed: list[int] = []
    error = sqlite3.OperationalError("disk I/O error" if number % 2 else "database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(LedgerFile, "_once", failing(number, error, after=after, failed=failed, scene=scene))
        events = scene.play(lambda client: finish(scene.campaign(), client, concurrency=1))
    assert done(events).end == "ledger"
    assert "Mend that" in done(events).reason
    assert [len(scene.received())] == failed

    def mended(client: AsyncDesk360) -> Any:
        return finish(scene.campaign(), client)

    counts = done(scene.play(mended)).counts
    assert counts.accepted + counts.unknown == 10
    assert counts.unknown <= 1
    assert len(scene.received()) == len(set(scene.received())) >= counts.accepted


def test_a_full_disk_is_said_clearly(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own error this time."""
    load(scene)
    begin = LedgerFile._begin

    def small(self: LedgerFile, connection: sqlite3.Connection) -> None:
        begin(self, connection)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with monkeypatch.context() as disk:
        disk.setattr(LedgerFile, "_begin", small)
        with pytest.raises(LedgerError, match="the disk is full"):
            scene.play(lambda client: scene.campaign("other").load(client, people(3000, sets=3000)))
    assert scene.received() == []
