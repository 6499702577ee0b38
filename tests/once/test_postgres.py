"""A send log in PostgreSQL: several hosts, secrets, and a database that goes away."""

import subprocess
import sys
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from desk360_async import ConfigurationError, Desk360Error, Outcome, SendUnknown, Sent
from desk360_async.once import SendLog
from desk360_async.webhooks import StatusUpdate
from tests.once.harness import HELLO, TO, Server, ask, clock, failing
from tests.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.anyio


@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_processes_that_race_for_keys_send_each_once(dsn: str, anyio_backend: str) -> None:
    command = [sys.executable, "-m", "tests.once.racer", dsn, "60"]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(racer.communicate(timeout=120)[0]) for racer in racers) == 60


async def test_two_logs_of_one_database_share_a_key(dsn: str) -> None:
    async with SendLog(dsn, clock=clock) as one, SendLog(dsn, clock=clock) as two:
        assert await ask(one, Server()) == Sent("gBEG", replayed=False)
        assert await ask(two, server := Server()) == Sent("gBEG", replayed=True)
        record = await two.get("order-1")
        assert record is not None
        assert (record.state, [r async for r in two.unknown()]) == ("accepted", [])
        assert server.posts == 0


async def test_an_intent_whose_lease_has_run_out_is_unknown_to_another_host(dsn: str) -> None:
    async with SendLog(dsn, clock=clock) as dead, SendLog(dsn, clock=lambda: later(clock())) as other:
        store, now = dead._store, clock().timestamp()
        fields = await fields_of(dead)
        claim = await store.claim("order-1", "a1", fields, None, now, now + 30)
        await store.intend("order-1", claim.row.attempt, {}, now, now + 60)
        with pytest.raises(SendUnknown):
            await ask(other, Server())
        assert await store.conclude("order-1", claim.row.attempt, "accepted", {"message_id": "a"}, (), now)
        assert await ask(other, Server()) == Sent("a", replayed=True)


async def test_a_status_that_postgresql_cannot_store_is_passed_over(dsn: str) -> None:
    """An error would come again at each attempt, and hold up all later statuses of a receiver."""
    async with SendLog(dsn, clock=clock) as log:
        assert await log.feed(StatusUpdate(id="a\0b", sender="90", status="read")) == 0


async def test_the_tables_hold_no_phone_and_no_text(dsn: str) -> None:
    async with SendLog(dsn, clock=clock) as log:
        await ask(log, Server())
        with pytest.raises(Desk360Error):
            await ask(log, Server(failing(Outcome.UNKNOWN)), key="order-2")
        assert dsn not in repr(log)
    content = everything(dsn)
    assert "order-2" in content
    assert HELLO.text not in content
    assert TO[1:] not in content


async def test_a_database_that_is_down_is_named_without_its_password(dsn: str, postgres: Cluster) -> None:
    async with SendLog(dsn, clock=clock) as log:
        await ask(log, Server())
        postgres.stop()
        try:
            with pytest.raises(ConfigurationError, match="the send log in postgresql") as found:
                await ask(log, server := Server(), key="order-2")
        finally:
            postgres.start()
        assert (server.posts, PASSWORD in str(found.value)) == (0, False)
        assert await ask(log, Server(), key="order-2") == Sent("gBEG", replayed=False)


def later(moment: datetime) -> datetime:
    """Return the time after each lease of this test."""
    return moment + timedelta(seconds=100)


async def fields_of(log: SendLog) -> dict[str, str]:
    """Return the hashes under which `ask` stores its message."""
    async with SendLog(":memory:", clock=clock) as memory:
        memory._secret = await log._hash_key()
        await ask(memory, Server())
        row = await memory._store.get("order-1")
    assert row is not None
    return row.fields


def everything(dsn: str) -> str:
    """Return each cell of our schema."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'desk360'").fetchall()
        tables = [sql.Identifier("desk360", name) for (name,) in found]
        rows = [connection.execute(sql.SQL("SELECT * FROM {}").format(t)).fetchall() for t in tables]
    return str(rows)
