"""The ledger in PostgreSQL: each method that a file has, runs side by side, and their failures."""

import asyncio
import re
from collections import Counter
from contextvars import Context
from typing import Any
from uuid import UUID

import anyio
import psycopg
import pytest

from desk360_async import AsyncDesk360
from desk360_async._postgres import Tables, _bounded
from desk360_async.campaigns import (
    Campaign,
    CampaignError,
    Counts,
    LedgerError,
    Recipient,
    campaigns_in,
    expire,
    forget,
)
from desk360_async.campaigns._table_ledger import _CLAIM, TableLedger
from desk360_async.campaigns._values import Batch, Result
from tests.campaigns.harness import Harness, done, finish, people
from tests.postgres import PASSWORD


@pytest.fixture
def sale(harness: Harness, dsn: str) -> Any:
    """Make campaigns whose ledger is in PostgreSQL."""

    def make(**options: Any) -> Campaign:
        return harness.campaign(**{"ledger": dsn, "batch_size": 10, **options})

    return make


def test_a_campaign_is_loaded_run_and_reported(harness: Harness, sale: Any) -> None:
    async def main(client: AsyncDesk360) -> None:
        plan = await sale().load(client, people(100, sets=3))
        assert (plan.recipients, plan.groups, plan.bulk_requests) == (100, 3, 12)
        assert done(await finish(sale(), client)).end == "finished"
        report = await sale().report()
        assert report.counts == Counts(accepted=100)
        assert (await sale().status()).accepted == 100
        assert await sale().export(harness.folder / "report.csv") == 100

    harness.play(main)
    assert sorted(harness.received()) == sorted(r.phone for r in people(100))


def test_runs_side_by_side_send_to_each_recipient_once(harness: Harness, sale: Any) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(400))
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(finish, sale(), client)
        assert (await sale().report()).counts == Counts(accepted=400)

    harness.play(main)
    assert max(Counter(harness.received()).values()) == 1


def test_a_run_waits_for_the_batches_of_another(harness: Harness, sale: Any) -> None:
    """It takes over those that the other one gives back."""

    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(300))
        async with sale().run(client, signals=False) as first:
            await anext(first)
            async with sale().run(client, signals=False) as second:
                first.stop()
                assert (await first.wait()).end == "stopped"
                assert (await second.wait()).end == "finished"

    harness.play(main)
    assert sorted(harness.received()) == sorted(r.phone for r in people(300))


def test_a_claim_reads_no_batches_that_have_ended(harness: Harness, sale: Any, dsn: str) -> None:
    """The primary key has them all."""

    async def main(client: AsyncDesk360) -> None:
        await sale(batch_size=1).load(client, people(2000))

    harness.play(main)
    text = _CLAIM.replace("{most}", "4").replace("{awake}", "")
    claim: Any = _bounded(f"EXPLAIN{text}", "desk360", synced=False)
    with psycopg.connect(dsn) as connection:
        plan = connection.execute(claim, (1, 1, *[str(UUID(int=1))] * 2, 1)).fetchall()
    (read,) = [line for (line,) in plan if " on batch b_1 " in line]
    assert "batch_free" in read or "batch_open" in read, plan


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_decision_reaches_all_runs(harness: Harness, sale: Any, state: str) -> None:
    ends: list[str] = []

    async def run(client: AsyncDesk360) -> None:
        ends.append(done(await finish(sale(), client, lease=3.0)).end)

    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(800))
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(run, client)
            await anyio.sleep(20)
            await (sale().pause() if state == "paused" else sale().stop("the offer is over"))
            await anyio.sleep(10)
            before = len(harness.received())
            await anyio.sleep(100)
            assert len(harness.received()) == before < 800
            await sale().proceed()
        if state == "stopped":
            await run(client)

    harness.play(main)
    assert ends == (["finished"] * 2 if state == "paused" else ["stopped", "stopped", "finished"])
    assert sorted(harness.received()) == sorted(r.phone for r in people(800))


def test_a_stopped_campaign_begins_no_run_until_it_proceeds(harness: Harness, sale: Any) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(20))
        await sale().stop("the offer is over")
        last = done(await finish(sale(), client))
        assert (last.end, last.reason) == ("stopped", "the offer is over")

    harness.play(main)
    assert harness.received() == []


def test_a_refusal_ends_all_runs_and_a_later_one_begins_anew(harness: Harness, sale: Any) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(200))
        async with sale().run(client, signals=False, max_failures=0) as run:
            async with sale()._opened() as ledger:
                await ledger.settings()
                await ledger.announce("refused", "the key was withdrawn")
            assert (await run.wait()).end in ("refused", "finished")
        assert done(await finish(sale(), client)).end == "finished"

    harness.play(main)


@pytest.mark.parametrize("method", ["pause", "proceed", "stop"])
def test_a_campaign_in_a_file_is_not_decided_from_outside(harness: Harness, method: str) -> None:
    async def main(client: AsyncDesk360) -> None:
        await harness.campaign().load(client, people(2))
        with pytest.raises(CampaignError, match="in a file can't be"):
            await getattr(harness.campaign(), method)()

    harness.play(main)


def test_a_running_campaign_is_not_resolved(harness: Harness, sale: Any) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(200))
        async with sale().run(client, signals=False) as run:
            await anext(run)
            with pytest.raises(CampaignError, match="is running"):
                await sale().resolve("resend", everything=True)

    harness.play(main)


class Frozen:
    """A run that has an intent, and was not seen for its lease."""

    def __init__(self, sale: Any, dsn: str) -> None:
        self.sale, self.dsn = sale, dsn

    async def begin(self, ledger: Any) -> tuple[Batch, int]:
        """Claim and begin a batch; then be gone."""
        await ledger.settings()
        await ledger.join("frozen", lease=30.0, timeout=30.0, patience=0.0)
        (batch,) = await ledger.claim(0, 0, 1)
        request = await ledger.intend(batch)
        assert request is not None
        with psycopg.connect(self.dsn) as connection:
            connection.execute("UPDATE desk360.worker SET seen = seen - interval '1 hour'")
        return batch, request


def test_the_intent_of_a_dead_run_is_unknown_and_its_late_result_counts(
    harness: Harness, sale: Any, dsn: str
) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(30))
        async with sale()._opened() as ledger:
            batch, request = await Frozen(sale, dsn).begin(ledger)
            assert done(await finish(sale(), client)).counts == Counts(accepted=20, unknown=10)
            assert (await sale().report()).reasons == {("unknown", "worker_lost"): 10}
            await ledger.conclude(batch, request, Result("accepted"))
            assert await sale().status() == Counts(accepted=30)
            await ledger.conclude(batch, request, Result("not_sent"))  # a request ends once
            assert await sale().status() == Counts(accepted=30)

    harness.play(main)


def test_a_frozen_run_begins_nothing_that_another_one_took(harness: Harness, sale: Any, dsn: str) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(30))
        async with sale()._opened() as ledger:
            await ledger.settings()
            await ledger.join("frozen", lease=30.0, timeout=30.0, patience=0.0)
            claimed = await ledger.claim(0, 0, 2)
            with psycopg.connect(dsn) as connection:
                connection.execute("UPDATE desk360.worker SET seen = seen - interval '1 hour'")
            assert await ledger.intend(claimed[0]) is None
            assert done(await finish(sale(), client)).counts == Counts(accepted=30)
            await ledger.beat()
            assert await ledger.intend(claimed[1]) is None

    harness.play(main)
    assert max(Counter(harness.received()).values()) == 1


def test_a_resolution_outweighs_a_late_result(harness: Harness, sale: Any, dsn: str) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(10))
        async with sale()._opened() as ledger:
            batch, request = await Frozen(sale, dsn).begin(ledger)
            assert await sale().resolve("resend", everything=True) == 10
            await ledger.conclude(batch, request, Result("pending", "ServerError", halve=True))
            assert await sale().status() == Counts(pending=10)

    harness.play(main)


@pytest.mark.parametrize("alone", [False, True], ids=["together", "one by one"])
@pytest.mark.parametrize(
    "moment", ["before", "between the look-ups", "after the look-ups", "with the answer", "after"]
)
def test_a_status_that_comes_beside_its_answer_is_stored(
    harness: Harness, sale: Any, dsn: str, monkeypatch: pytest.MonkeyPatch, moment: str, alone: bool
) -> None:
    """Neither the answer's transaction nor the status's sees the other one, where both are open."""
    look_ups = ("_by_id", "_by_phone") if alone else ("_by_ids", "_tables_for")
    by_id, by_phone = (getattr(TableLedger, name) for name in look_ups)
    at_once = Tables.at_once
    accepted = "UPDATE desk360.batch SET state = 'accepted', message_id = 'm-1' WHERE state = 'intent'"

    def answer(when: str) -> None:
        if moment == when:
            with psycopg.connect(dsn, autocommit=True) as db:
                db.execute(accepted)

    def first(ledger: TableLedger, db: Any, asked: Any) -> Any:
        found = by_id(ledger, db, asked)
        answer("between the look-ups")
        return found

    def second(ledger: TableLedger, db: Any, asked: Any) -> Any:
        found = by_phone(ledger, db, asked)
        answer("after the look-ups")
        return found

    async def last(tables: Tables, text: str, *values: object, **options: bool) -> list[Any]:
        rows = await at_once(tables, text, *values, **options)
        if moment == "with the answer" and "'worker_lost'" in text and "ended" in text and rows:
            with psycopg.connect(dsn, autocommit=True) as db:
                db.execute("INSERT INTO desk360.early SELECT id, 'm-1', 'read' FROM desk360.campaign")
        return rows

    async def main(client: AsyncDesk360) -> None:
        await sale(strategy="single").load(client, people(1))
        async with sale(strategy="single")._opened() as ledger:
            await ledger.settings()
            await ledger.join("run", lease=30.0, timeout=30.0, patience=0.0)
            (batch,) = await ledger.claim(0, 0, 1)
            request = await ledger.intend(batch)
            if alone:  # as a message that the look-ups for many don't find
                monkeypatch.setattr(TableLedger, "_by_ids", lambda *_: {})
                monkeypatch.setattr(TableLedger, "_tables_for", lambda *given: dict.fromkeys(given[-1], ""))
            monkeypatch.setattr(TableLedger, look_ups[0], first)
            monkeypatch.setattr(TableLedger, look_ups[1], second)
            monkeypatch.setattr(Tables, "at_once", last)
            status = ("m-1", f"+{batch.members[0]}", "read")
            if moment not in ("after", "with the answer"):
                assert await ledger.feed([[status]]) == [1]
            if "look-ups" not in moment:
                await ledger.conclude(batch, request, Result("accepted", message_id="m-1"))
            if moment == "after":
                assert await ledger.feed([[status]]) == [1]
            assert await ledger.statuses() == (0, 1)

    harness.play(main)


def test_a_promoted_database_stops_the_run_until_a_person_decides(
    harness: Harness, sale: Any, dsn: str
) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(30))
        async with sale().run(client, signals=False):
            pass
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE desk360.campaign SET timeline = '0000000F'")
        before = await sale().status()
        with pytest.raises(LedgerError, match="was promoted"):
            await finish(sale(), client)
        lost = await sale().accept_failover(1)
        assert lost == min(10, before.pending)
        assert done(await finish(sale(), client)).end == "finished"

    harness.play(main)


def test_the_tables_keep_what_a_load_left_out(harness: Harness, sale: Any) -> None:
    unusual = Recipient("no\\phone\t\n\0", {"body-1": "x"})
    twins = [Recipient("+5215512345678", {"body-1": "a"}), Recipient("+525512345678", {"body-1": "a"})]

    async def main(client: AsyncDesk360) -> None:
        plan = await sale().load(client, [unusual, *twins, *people(3), *people(1)])
        assert (plan.recipients, plan.left_out) == (4, {"duplicate": 2, "invalid_phone": 1})
        assert [line for line, *_ in await sale().skipped()] == [1, 3, 7]
        assert (await sale().load(client, people(5))).recipients == 6

    harness.play(main)


def test_a_password_shows_nowhere(sale: Any) -> None:
    assert PASSWORD not in repr(sale()) + str(vars(sale())["ledger"])


def test_a_forgotten_person_leaves_counts_and_gets_nothing(harness: Harness, sale: Any, dsn: str) -> None:
    """One who is still pending is skipped; no number and no text of theirs stays in the tables."""
    ada = people(20)[3]

    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, [*people(20), Recipient("+905559990000", {"body-1": "for Zoe alone"})])
        assert await campaigns_in(dsn) == ("sale",)
        assert [await forget(dsn, phone) for phone in (ada.phone, "+905559990000")] == [1, 1]
        assert done(await finish(sale(), client)).end == "finished"
        assert (await sale().report()).counts == Counts(accepted=19, skipped=2)
        async with sale().run(client, signals=False):
            with pytest.raises(CampaignError, match="is running"):
                await forget(dsn, ada.phone)

    harness.play(main)
    assert ada.phone not in harness.received()
    with psycopg.connect(dsn) as connection:
        sets = str(connection.execute("SELECT * FROM desk360.parameter_set").fetchall())
        phones = str(connection.execute("SELECT phone FROM desk360.recipient").fetchall())
    assert ("Zoe" in sets, ada.phone[1:] in phones) == (False, False)


def test_a_run_that_was_believed_dead_keeps_its_name(harness: Harness, sale: Any, dsn: str) -> None:
    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(30))
        async with sale()._opened(owner=True) as ledger:
            await ledger.settings()
            await ledger.join("host-3", lease=30.0, timeout=30.0, patience=60.0)
            with psycopg.connect(dsn) as connection:
                connection.execute("DELETE FROM desk360.worker")
            await ledger.beat()
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT name FROM desk360.worker").fetchall() == [("host-3",)]

    harness.play(main)


def test_an_unknown_campaigns_error_names_the_server(harness: Harness, dsn: str) -> None:
    """It named the end of the DSN: "the ledger postgres?keepalives=0"."""
    place = f"{dsn.replace(PASSWORD, '[password]')}?keepalives=0"
    with pytest.raises(CampaignError, match=re.escape(f"the ledger {place} holds no campaign 'sael'")):
        harness.play(lambda _: Campaign("sael", ledger=f"{dsn}?keepalives=0").status())


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_a_stopped_run_doesnt_wait_for_a_lost_database_for_long(
    harness: Harness, sale: Any, dsn: str, how: str
) -> None:
    """The results in memory are given up after `drain` seconds; their recipients are unknown."""

    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(300))
        run = sale().run(client, signals=False, drain=30.0, lease=600.0)
        async with run:
            while run.counts.accepted < 50:
                await anyio.sleep(1)
            ledger = run._opening.dispatch.ledger
            kept, ledger._file = ledger._file, Away()  # type: ignore[assignment]  # the database is away
            ledger._tables = ledger._file  # type: ignore[attr-defined]  # a ledger in tables
            begun = anyio.current_time()
            if harness.backend == "asyncio":  # a handler of a signal is called outside any task
                asyncio.get_running_loop().call_soon(getattr(run, how), context=Context())
            else:
                getattr(run, how)()
            assert (await run.wait()).end == "ledger"
            assert anyio.current_time() - begun < (40 if how == "stop" else 10)
            ledger._file = ledger._tables = kept  # type: ignore[attr-defined]  # a ledger in tables

    harness.play(main)


class Away:
    """Tables of a database that is away."""

    async def write(self, *_: Any) -> None:
        raise LedgerError("the database is away") from psycopg.OperationalError("away")

    read = write_unsynced = at_once = write


def test_an_expired_campaign_keeps_counts_alone(harness: Harness, sale: Any, dsn: str) -> None:
    """No number, no text and no digest of one stays; another campaign is left as it is."""
    before: list[Any] = []

    def stored(query: str) -> list[Any]:
        with psycopg.connect(dsn) as connection:
            return connection.execute(query).fetchall()

    async def main(client: AsyncDesk360) -> None:
        await sale().load(client, people(40, sets=3))
        await finish(sale(), client)
        await harness.campaign("next", ledger=dsn).load(client, people(5))
        before.extend(stored("SELECT id FROM desk360.parameter_set WHERE campaign = 1"))
        assert await expire(dsn, retention=1e6) == 0
        assert await expire(dsn, retention=0.0) == 40
        assert (await sale().report()).counts == Counts(accepted=40)
        assert (await harness.campaign("next", ledger=dsn).status()).pending == 5
        with pytest.raises(CampaignError):
            await sale().load(client, people(40, sets=3))

    harness.play(main)
    assert stored("SELECT min(phone) FROM desk360.recipient WHERE campaign = 1")[0][0] > 10**15
    assert "offer" not in str(stored("SELECT parameters FROM desk360.parameter_set WHERE campaign = 1"))
    assert not set(before) & set(stored("SELECT id FROM desk360.parameter_set WHERE campaign = 1"))
    joined = "desk360.batch b JOIN desk360.parameter_set s ON s.id = b.parameter_set WHERE b.campaign = 1"
    assert stored(f"SELECT count(*) FROM {joined}") == stored(
        "SELECT count(*) FROM desk360.batch WHERE campaign = 1"
    )
