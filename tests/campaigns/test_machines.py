"""Campaigns in PostgreSQL when the database has trouble: promoted, behind PgBouncer, cut off, few rights."""

import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

import desk360_async
from desk360_async import AsyncDesk360, ConfigurationError, PostgresLimiter
from desk360_async._postgres import Database, Tables
from desk360_async.campaigns import Campaign, CampaignError, LedgerError
from desk360_async.customers import Customers
from desk360_async.once import SendLog
from desk360_async.webhooks import PostgresInbox
from tests.campaigns import side_by_side, steady
from tests.campaigns.harness import Harness, done, finish, people
from tests.limiter import virtual
from tests.postgres import PASSWORD, Cluster, Proxy, cluster, pgbouncer, standby
from tests.workers.harness import Shop

pytestmark = pytest.mark.postgres
ONE_LOOP = pytest.mark.parametrize("anyio_backend", ["asyncio"])
GUIDE = Path(desk360_async.__file__).parent / "guide" / "machines.md"


def sale(harness: Harness, dsn: str) -> Campaign:
    """Return the campaign in a database."""
    return harness.campaign(ledger=dsn, batch_size=10)


async def send_until(run: Any, accepted: int) -> None:
    """Read events until so many recipients have accepted messages."""
    while run.counts.accepted < accepted:
        await anext(run)


@ONE_LOOP
def test_a_promoted_replica_is_noticed_and_sends_no_message_twice(
    harness: Harness, anyio_backend: str
) -> None:
    """The replica misses the last ten requests; a person gives their number."""
    with cluster(fsync=True) as primary, standby(primary) as replica:

        async def main(client: AsyncDesk360) -> None:
            await sale(harness, primary.dsn).load(client, people(400))
            async with sale(harness, primary.dsn).run(client, signals=False, lease=2.0) as run:
                await send_until(run, 100)
                follow(primary)
                known = run.counts.accepted
                replica.stop("fast")
                await send_until(run, known + 100)
            sent = len(harness.received())
            primary.stop()
            replica.start()
            replica.promote()
            with pytest.raises(LedgerError, match="was promoted"):
                async with sale(harness, replica.dsn).run(client, signals=False):
                    pass
            assert len(harness.received()) == sent
            lost = (sent - (await sale(harness, replica.dsn).status()).accepted) // 10
            assert lost >= 10
            await once_at_rest(partial(sale(harness, replica.dsn).accept_failover, lost + 4))
            assert done(await finish(sale(harness, replica.dsn), client)).end == "finished"

        harness.play(main)
    assert max(Counter(harness.received()).values()) == 1


async def once_at_rest(work: Callable[[], Awaitable[object]]) -> None:
    """Do the work when the lost run's lease of two seconds is over."""
    for _ in range(200):
        try:
            await work()
        except CampaignError as error:
            if "is running" not in str(error):
                raise
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the lost run's lease doesn't end")


def follow(primary: Cluster) -> None:
    """Wait until the replica has all commits."""
    query = "SELECT bool_and(replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"
    with psycopg.connect(primary.dsn, autocommit=True) as connection:
        for _ in range(200):
            (caught_up,) = connection.execute(query).fetchone() or (False,)
            if caught_up:
                return
            time.sleep(0.05)
    raise AssertionError("the replica stays behind")


@ONE_LOOP
def test_all_stores_work_through_pgbouncer_in_transaction_mode(
    harness: Harness, postgres: Cluster, dsn: str, anyio_backend: str
) -> None:
    with pgbouncer(postgres) as pooled:

        async def main(client: AsyncDesk360) -> None:
            await sale(harness, pooled).load(client, people(60, sets=2))
            for _ in range(2):
                assert done(await finish(sale(harness, pooled), client)).end == "finished"
            async with SendLog(pooled) as log, Customers(pooled) as book:
                assert await log.get("order-1") is None
                await book.opt_out("+905551112233")
                assert len(await book.opt_outs()) == 1
            inbox = PostgresInbox(pooled)
            assert await inbox.open() == []
            await inbox.aclose()
            limiter = PostgresLimiter(pooled)
            (await limiter.acquire("interactive")).unused()
            limiter.close()

        harness.play(main)
    assert sorted(harness.received()) == sorted(r.phone for r in people(60))


@ONE_LOOP
@pytest.mark.parametrize("arrives", [False, True])
def test_a_cut_connection_loses_no_recipient_and_sends_none_twice(
    harness: Harness, postgres: Cluster, dsn: str, anyio_backend: str, arrives: bool
) -> None:
    """At each n-th message to the database, with and without its arrival."""
    proxy = Proxy(postgres)

    async def main(client: AsyncDesk360) -> None:
        list_ = people(40)
        for number in range(2, 60, 5):
            name = f"cut-{number}"
            campaign = harness.campaign(name=name, ledger=proxy.dsn, batch_size=10)
            before = Counter(harness.received())
            await campaign.load(client, list_)
            proxy.cut_at(number, arrives=arrives)
            ends = []
            while not ends or (ends[-1] == "ledger" and len(ends) < 5):
                try:
                    ends.append(done(await finish(campaign, client, lease=600.0)).end)
                except LedgerError:
                    ends.append("ledger")
            counts = await campaign.status()
            got = Counter(harness.received()) - before
            assert ends[-1] == "finished", (number, ends)
            assert (counts.pending, counts.on_the_wire, counts.not_sent) == (0, 0, 0), (number, counts)
            assert max(got.values()) == 1, number
            assert counts.accepted <= len(got) <= counts.accepted + counts.unknown, (number, counts)

    try:
        harness.play(main)
    finally:
        proxy.close()
    assert proxy.cuts == len(range(2, 60, 5))


@ONE_LOOP
@pytest.mark.parametrize("arrives", [False, True])
def test_a_run_outlives_a_connection_that_is_cut_at_any_message(
    harness: Harness, postgres: Cluster, dsn: str, anyio_backend: str, arrives: bool
) -> None:
    """While it claims, begins, ends and finishes: it ends as if the cut had not been."""
    proxy = Proxy(postgres)

    async def main(client: AsyncDesk360) -> None:
        for number in range(1, 26):
            campaign = harness.campaign(name=f"cut-{number}", ledger=proxy.dsn, batch_size=10)
            await campaign.load(client, people(30))
            before = len(harness.received())
            async with campaign.run(client, lease=600.0) as run:
                proxy.cut_at(number, arrives=arrives)
                assert (await run.wait()).end == "finished", number
            assert (await campaign.status()).accepted == 30, number
            assert len(harness.received()) - before == 30, number

    try:
        harness.play(main)
    finally:
        proxy.close()
    assert proxy.cuts == 25


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_aborted_run_ends_though_its_database_does_not_answer(
    postgres: Cluster, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cancellation ends a thread that waits for a frozen server, and so no Ctrl-C ended the command."""
    monkeypatch.setattr("desk360_async._threads.PATIENCE", 0.2)
    monkeypatch.setattr("desk360_async._postgres.CONNECT", 0.4)
    proxy = Proxy(postgres)
    shop = Shop(proxy.dsn)
    thaw = threading.Timer(60.0, proxy.close)  # else a failure of this test would hang
    thaw.start()
    await shop.load(people(200))
    async with shop.client() as client, shop.campaign().run(client) as run:
        while not proxy.drops:
            await anext(run)
            proxy.drops = len(shop.received()) >= 10
        await anyio.sleep(0.3)  # until each statement waits
        run.abort()
        ended = await run.wait()
    assert thaw.is_alive()
    thaw.cancel()
    proxy.close()
    assert ended.end == "ledger"
    assert ended.counts.accepted + ended.counts.unknown <= len(shop.received()) < 200


@ONE_LOOP
def test_the_guides_grants_are_enough(
    harness: Harness, postgres: Cluster, dsn: str, anyio_backend: str
) -> None:
    """For loading, running, reporting, customers, sends and events."""
    (grants,) = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    narrow = dsn.replace("tester:", "app:")

    async def main(client: AsyncDesk360) -> None:
        with pytest.raises(ConfigurationError, match="may not make the tables"):
            await sale(harness, narrow).load(client, people(40))
        async with SendLog(dsn) as log:
            await log.get("order-1")  # the first role makes the tables
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(grants)
        await sale(harness, narrow).load(client, people(40))
        assert done(await finish(sale(harness, narrow), client)).end == "finished"
        assert (await sale(harness, narrow).report()).counts.accepted == 40
        async with SendLog(narrow) as log, Customers(narrow) as book:
            assert await log.get("order-1") is None
            await book.opt_out("+905551112233")
        inbox = PostgresInbox(narrow)
        await inbox.open()
        await inbox.aclose()

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    try:
        harness.play(main)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP OWNED BY app; DROP ROLE app")


@pytest.mark.parametrize("level", ["off", "local"])
@ONE_LOOP
def test_a_role_whose_commits_dont_last_gets_ones_that_do(
    harness: Harness, dsn: str, anyio_backend: str, level: str
) -> None:
    """Each transaction raises the level for itself; a server with fsync off is refused."""

    async def main(client: AsyncDesk360) -> None:
        await sale(harness, dsn).load(client, people(10))
        async with sale(harness, dsn)._opened() as ledger:
            query = "SELECT current_setting('synchronous_commit')"
            assert await ledger.file.write(lambda db: db.execute(query).fetchone()) == ("on",)

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE tester SET synchronous_commit = {level}")
    try:
        harness.play(main)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ALTER ROLE tester RESET synchronous_commit")


@ONE_LOOP
def test_a_server_without_fsync_is_refused(harness: Harness, anyio_backend: str) -> None:
    async def main(client: AsyncDesk360) -> None:
        with pytest.raises(ConfigurationError, match="fsync is off"):
            await sale(harness, server.dsn).load(client, people(10))

    with cluster(fsync=False) as server:
        harness.play(main)


@pytest.mark.parametrize("seed", [0, 3])
@ONE_LOOP
def test_a_story_of_runs_side_by_side_breaks_no_invariant(dsn: str, anyio_backend: str, seed: int) -> None:
    """Each may crash, lose the database and stop; `nox -s simulate -- --postgres` plays many more."""
    with side_by_side.connected(dsn):
        assert side_by_side.simulate(seed, dsn)


@ONE_LOOP
def test_a_planned_statement_has_the_present_virtual_time(dsn: str, anyio_backend: str) -> None:
    async def look_twice() -> list[float]:
        tables = Tables(Database(dsn), name="a store")
        query = "SELECT ? + extract(epoch FROM clock_timestamp())::float8"
        looks: list[float] = []
        for _ in range(2):
            ((found,),) = await tables.at_once(query, 1, prepared=True)
            looks.append(found - 1 - side_by_side.EPOCH - anyio.current_time())
            await anyio.sleep(90)
        return looks

    with side_by_side.connected(dsn), side_by_side.virtual_clock():
        assert virtual.run("asyncio", look_twice) == pytest.approx([0, 0], abs=1e-3)


@ONE_LOOP
def test_three_steady_runs_use_the_limit_and_are_never_refused(dsn: str, anyio_backend: str) -> None:
    """`python -m tests.campaigns.steady` measures a longer time."""
    found = steady.measure(dsn, minutes=2)
    assert (found.share >= steady.GOAL, found.refused) == (True, 0), found
