"""Shares and deferred sends on the engine: started, restarted, rolled back, and shown nowhere."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from desk360_async import (
    Attachment,
    ConfigurationError,
    InvalidMessage,
    KeyConflict,
    LogObserver,
    MediaMessage,
    Message,
    SendUnknown,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
)
from desk360_async.campaigns import Campaign, CampaignError, Counts, Hours, Recipient
from desk360_async.customers import forget
from desk360_async.once import SendLog
from desk360_async.sandbox import Fault
from desk360_async.workers import Workers
from desk360_async.workers._engine import PatientConnector, reap
from tests.campaigns.harness import people
from tests.postgres import PASSWORD, Cluster, Proxy, pgbouncer
from tests.workers.harness import Shop

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]
TO = "+905551112233"
TEXT = "a text that no table may hold"


@pytest.fixture
def shop(dsn: str) -> Shop:
    """Return a database without tables, and a sandbox."""
    return Shop(dsn)


# ── shares ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_shares_of_a_campaign_send_to_each_recipient_once(shop: Shop) -> None:
    await shop.load()
    assert len(await shop.workers().start("sale", shares=3)) == 3
    await shop.work()
    assert await shop.campaign().status() == Counts(accepted=40)
    assert max(Counter(shop.received()).values()) == 1
    assert set(shop.notes) == {("share", "finished")}
    assert shop.rows("SELECT 1 FROM procrastinate_jobs WHERE task_name = 'desk360:share'") == []


async def test_a_stopped_worker_leaves_its_share_to_another_one(shop: Shop) -> None:
    await shop.load(people(400))
    workers = shop.workers()
    await workers.start("sale", shares=1, concurrency=1)

    async def has_begun() -> bool:
        return len(shop.received()) >= 10

    await shop.work(has_begun, workers)
    assert len(shop.received()) < 400
    await shop.work(shop.is_sent)
    assert (await shop.campaign().status()).accepted == 400
    assert max(Counter(shop.received()).values()) == 1


async def test_the_job_of_a_dead_worker_is_started_again(shop: Shop) -> None:
    """Its worker is gone from procrastinate's table, as after a kill."""
    await shop.load()
    await shop.workers().start("sale", shares=1)
    shop.rows("UPDATE procrastinate_jobs SET status = 'doing'")
    await shop.work()
    assert await shop.campaign().status() == Counts(accepted=40)


@pytest.mark.parametrize("status", ["doing", "succeeded", "failed"])
async def test_work_whose_job_was_lost_is_deferred_again(shop: Shop, status: str) -> None:
    """A worker that lives may have lost a job's end with its connection."""
    await shop.load()
    await shop.workers().start("sale", shares=1)
    await shop.workers().defer(TextMessage(TO, "hi"), idempotency_key="order-1")
    alive = shop.rows("INSERT INTO procrastinate_workers (last_heartbeat) VALUES ('infinity') RETURNING id")
    shop.rows("UPDATE procrastinate_jobs SET status = %s, worker_id = %s", status, alive[0][0])
    for table in ("share", "outbox"):
        shop.rows(f"UPDATE desk360.{table} SET deferred = 'epoch', due = 'epoch'")
    await shop.work()
    assert sorted(shop.received()) == sorted([TO, *(person.phone for person in people(40))])


async def test_a_share_that_a_person_must_decide_on_is_not_started_again(shop: Shop) -> None:
    await shop.load()
    await shop.workers().start("sale", shares=1)
    await shop.campaign().stop("the offer is over")
    await shop.work()
    assert shop.received() == []
    assert shop.notes == [("share", "stopped")]


async def test_a_new_start_takes_the_place_of_the_former_one(shop: Shop) -> None:
    await shop.load()
    workers, later = shop.workers(), datetime.now(UTC) + timedelta(hours=1)
    await workers.start("sale", shares=3, at=later)
    jobs = await workers.start("sale", shares=2, at=later, hours=Hours("00:00-24:00", zone="Europe/Istanbul"))
    assert [(n,) for n in jobs] == shop.rows("SELECT id FROM procrastinate_jobs ORDER BY id")
    assert shop.rows("SELECT number, due = %s FROM desk360.share ORDER BY 1", later) == [(1, True), (2, True)]
    await workers.start("sale", shares=1, hours=Hours("00:00-24:00", zone="Europe/Istanbul"))
    await shop.work()
    assert await shop.campaign().status() == Counts(accepted=40)


async def test_workers_read_the_file_of_a_media_header(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "catalogue.jpg"
    file.write_bytes(b"\xff\xd8")
    campaign = Campaign("files", template="catalogue", language="English", ledger=shop.dsn, attachment=file)
    async with shop.client() as client:
        await campaign.load(client, [Recipient(TO, {})])
    await shop.workers().start("files", shares=1, attachment=file)
    await shop.work()
    assert await campaign.status() == Counts(accepted=1)


async def test_a_share_that_cannot_run_ends_with_the_error(shop: Shop, tmp_path: Path) -> None:
    """Its campaign was loaded without a file."""
    await shop.load()
    await shop.workers().start("sale", shares=1, attachment=Attachment.from_bytes("a.jpg", b"x"))
    await shop.work()
    assert shop.notes == [("share", "CampaignError")]


async def test_a_campaign_that_was_never_loaded_is_not_started(shop: Shop) -> None:
    with pytest.raises(CampaignError, match="load it first"):
        await shop.workers().start("sale", shares=1)


@pytest.mark.parametrize(
    "options",
    [
        {"shares": 0},
        {"shares": 1, "concurrency": 0},
        {"shares": 1, "max_failures": -1},
        {"shares": 1, "hours": "09:00-20:00"},
        {"shares": 1, "at": datetime(2026, 12, 1)},  # noqa: DTZ001  # the mistake
        {"shares": 1, "priority": "high"},
    ],
    ids=str,
)
async def test_an_unusable_argument_of_start_is_refused(shop: Shop, options: Any) -> None:
    with pytest.raises(ConfigurationError):
        await shop.workers().start("sale", **options)


# ── single sends ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_committed_send_goes_out_and_a_rolled_back_one_does_not(shop: Shop) -> None:
    workers = shop.workers()
    async with await psycopg.AsyncConnection.connect(shop.dsn) as connection:
        for number, phone in enumerate((TO, "+905551112234")):
            message = TextMessage(phone, TEXT)
            await workers.defer(message, idempotency_key=f"order-{number}", connection=connection)
            await (connection.commit() if phone == TO else connection.rollback())
    await shop.work()
    assert shop.received() == [TO]
    async with SendLog(shop.dsn) as log:
        record = await log.get("order-0")
        assert record is not None
        assert (record.state, await log.get("order-1")) == ("accepted", None)


async def test_a_blocking_connection_and_none_are_taken_as_well(shop: Shop) -> None:
    workers = shop.workers()
    with psycopg.connect(shop.dsn) as connection:
        await workers.defer(TextMessage(TO, "a"), idempotency_key="a", connection=connection)
    await workers.defer(TextMessage(TO, "b"), idempotency_key="b")
    await workers.defer(TextMessage(TO, "b"), idempotency_key="b")  # the same key: sent once
    later = datetime.now(UTC) + timedelta(hours=1)
    await workers.defer(TextMessage(TO, "c"), idempotency_key="c", at=later)

    async def only_the_later_one_is_left() -> bool:
        return shop.rows("SELECT key FROM desk360.outbox") == [("c",)]

    await shop.work(only_the_later_one_is_left)
    assert shop.received() == [TO, TO]


@pytest.mark.parametrize("own", [True, False], ids=["own connection", "the caller's connection"])
async def test_another_message_under_a_waiting_key_is_a_conflict(shop: Shop, own: bool) -> None:
    workers = shop.workers()
    await workers.defer(TextMessage(TO, "a"), idempotency_key="order-1")
    async with await psycopg.AsyncConnection.connect(shop.dsn) as connection:
        with pytest.raises(KeyConflict) as caught:
            await workers.defer(
                TextMessage(TO, "b"), idempotency_key="order-1", connection=None if own else connection
            )
    assert caught.value.fields == ("text",)
    assert shop.rows("SELECT count(*) FROM desk360.outbox") == [(1,)]


async def test_the_same_parameters_in_another_order_are_the_same_deferred_message(shop: Shop) -> None:
    workers, parameters = shop.workers(), {"body-1": "Ada", "body-2": "4711"}
    for given in (parameters, dict(reversed(parameters.items()))):
        message = TemplateMessage(TO, "order_shipped", language=1, parameters=given)
        await workers.defer(message, idempotency_key="order-1")
    await shop.work()
    assert shop.received() == [TO]


@pytest.mark.parametrize("own", [True, False], ids=["own connection", "the caller's connection"])
async def test_another_message_under_a_key_that_was_sent_is_a_conflict(shop: Shop, own: bool) -> None:
    """The same one is no error, and isn't sent again."""
    workers, file = shop.workers(), Attachment.from_bytes("a.png", b"\x89PNG", content_type="image/png")
    for message in (TextMessage(TO, "a"), MediaMessage(TO, [file])):
        for _ in range(2):
            await workers.defer(message, idempotency_key=type(message).__name__)
            await shop.work()
    async with await psycopg.AsyncConnection.connect(shop.dsn) as connection:
        with pytest.raises(KeyConflict) as caught:
            await workers.defer(
                TextMessage(TO, "b"), idempotency_key="TextMessage", connection=None if own else connection
            )
    assert caught.value.fields == ("text",)
    assert shop.received() == [TO, TO]


async def test_another_message_under_a_key_that_is_sent_meanwhile_is_reported_and_not_sent(
    shop: Shop,
) -> None:
    async with shop.client(send_log=SendLog(shop.dsn)) as client:
        await shop.workers().defer(TextMessage(TO, "b"), idempotency_key="order-1")
        await client.send(TextMessage(TO, "a"), idempotency_key="order-1")
    await shop.work()
    assert shop.received() == [TO]
    assert shop.notes == [("send", "KeyConflict")]


async def test_workers_work_through_pgbouncer_in_transaction_mode(shop: Shop, postgres: Cluster) -> None:
    """LISTEN doesn't get through: a new job is seen within half a lease."""
    with pgbouncer(postgres) as pooled:
        shop.dsn = pooled
        await shop.load()
        await shop.workers().start("sale", shares=2)
        await shop.workers().defer(TextMessage(TO, TEXT), idempotency_key="order-1")
        await shop.work()
        assert await shop.is_sent()
    assert sorted(shop.received()) == sorted([TO, *(r.phone for r in people(40))])


async def test_procrastinates_tables_hold_no_phone_and_no_text(shop: Shop) -> None:
    await shop.workers().defer(TextMessage(TO, TEXT), idempotency_key="order-1")
    rows = [
        row
        for table in ("procrastinate_jobs", "procrastinate_events")
        for row in shop.rows(f"SELECT t::text FROM {table} t")
    ]
    assert rows != []
    assert TO[1:] not in str(rows)
    assert TEXT not in str(rows)
    await shop.work()
    assert shop.rows("SELECT 1 FROM desk360.outbox") == []


@pytest.mark.parametrize(
    "message",
    [
        TextMessage(TO, TEXT),
        TemplateBatch([TO], "back_in_stock", language=1),
        TemplateBatch(
            (), "back_in_stock", language=1, destinations_file=Attachment.from_bytes("a.csv", TO.encode())
        ),
    ],
    ids=["one", "several", "a file"],
)
async def test_a_forgotten_person_gets_no_message_that_waits(shop: Shop, message: Message) -> None:
    await shop.workers().defer(message, idempotency_key="order-1")
    await shop.workers().defer(TextMessage("+905551112299", "x"), idempotency_key="order-2")
    assert list((await forget(TO, logs=[shop.dsn], ledgers=[shop.dsn])).values()) == [0, 0, 1]
    await shop.work()
    assert shop.received() == ["+905551112299"]


async def test_the_others_of_a_batch_get_the_message_that_waits(shop: Shop) -> None:
    others = [f"+9055511122{n}" for n in (41, 42)]
    listed = Attachment.from_bytes("a.csv", "\n".join([others[0], TO, others[1]]).encode())
    at_path = Attachment.from_path(__file__, content_type="text/csv")
    for key, given in {"a": {"phones": [TO, *others]}, "b": {"destinations_file": listed}}.items():
        batch = TemplateBatch(
            given.pop("phones", ()), "back_in_stock", language=1, parameters={"body-1": "x"}, **given
        )
        await shop.workers().defer(batch, idempotency_key=key)
    found = await forget(TO, logs=[shop.dsn])
    assert found[next(name for name in found if "deferred" in name)] == 2
    await shop.work()
    assert sorted(shop.received()) == sorted(others * 2)
    assert PASSWORD not in str(found)
    left = TemplateBatch((), "back_in_stock", language=1, destinations_file=at_path)
    await shop.workers().defer(left, idempotency_key="c")
    assert len(await forget(TO, logs=[shop.dsn])) == 1  # the worker's path isn't read


async def test_a_refused_send_ends_its_job_and_leaves_the_outbox(shop: Shop) -> None:
    await shop.workers().defer(TextMessage("+905550000000", "x"), idempotency_key="order-1")
    await shop.work()
    assert shop.rows("SELECT status FROM procrastinate_jobs WHERE task_name = 'desk360:send'") == [
        ("failed",)
    ]
    assert shop.notes == [("send", "ValidationFailed")]


async def test_an_unknown_send_is_not_sent_again(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault("error"))
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="order-1")
    await shop.work()
    async with SendLog(shop.dsn) as log:
        assert [record.key async for record in log.unknown()] == ["order-1"]
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="order-1")
    await shop.work()
    assert shop.notes[-1] == ("send", SendUnknown.__name__)


async def test_a_send_that_another_worker_began_is_tried_later(shop: Shop) -> None:
    """The other one may be dead: then its lease ends, and the send is unknown."""
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="order-1")
    shop.rows(
        "INSERT INTO desk360.send (key, state, attempt, owner, until, since, attempts, fields) "
        "VALUES ('order-1', 'in_flight', 'a', 'b', 9e9, 0, 1, '{}')"
    )

    async def has_ended() -> bool:
        return bool(shop.notes)

    await shop.work(has_ended)
    assert (shop.notes, shop.received()) == ([("send", "Unfinished")], [])


async def test_the_clients_own_send_log_is_used(shop: Shop, tmp_path: Any) -> None:
    log = SendLog(tmp_path / "sends.db")
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="order-1")
    await shop.work(workers=shop.workers(client=lambda: shop.client(send_log=log)))
    async with log:
        assert await log.get("order-1") is not None


@pytest.mark.parametrize(
    ("message", "key", "error"),
    [("x", "k", ConfigurationError), (TextMessage(TO, "x"), "", InvalidMessage)],
    ids=["message", "key"],
)
async def test_an_unusable_argument_of_defer_is_refused(
    shop: Shop, message: Any, key: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await shop.workers().defer(message, idempotency_key=key)


async def test_another_connection_than_psycopgs_is_refused(shop: Shop) -> None:
    other: Any = "sqlalchemy's"
    with pytest.raises(ConfigurationError, match="takes a psycopg connection, not str"):
        await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="k", connection=other)


async def test_a_connection_without_the_tables_names_the_command(shop: Shop) -> None:
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="k")
    async with await psycopg.AsyncConnection.connect(shop.dsn) as connection:
        await connection.execute("CREATE SCHEMA elsewhere")
        await connection.execute("SET search_path = elsewhere")
        with pytest.raises(ConfigurationError, match="desk360 db init"):
            await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="k", connection=connection)


# ── the worker ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_tasks_run_in_an_app_of_the_users_own(shop: Shop) -> None:
    await shop.load()
    async with shop.workers() as workers:
        app = App(connector=PsycopgConnector(conninfo=shop.dsn))
        app.add_tasks_from(workers.blueprint, namespace="desk360")
        assert workers.blueprint is workers.blueprint
        await workers.start("sale", shares=1)
        await workers.defer(TextMessage(TO, "x"), idempotency_key="k")
        async with app.open_async():
            await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert sorted(shop.notes) == [("send", "accepted"), ("share", "finished")]


async def test_a_client_that_is_none_is_refused_by_the_job(shop: Shop) -> None:
    workers = shop.workers(client=lambda: None)
    await workers.defer(TextMessage(TO, "x"), idempotency_key="k")

    async def has_failed() -> bool:
        return bool(shop.notes)

    await shop.work(has_failed, workers)
    assert shop.notes == [("send", "ConfigurationError")]
    assert shop.rows("SELECT status FROM procrastinate_jobs WHERE task_name = 'desk360:send'") == [("todo",)]


async def test_sigterm_ends_a_worker_with_exit_code_0(shop: Shop) -> None:
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="k")
    command = [sys.executable, "-m", "tests.workers.worker", shop.dsn, "http://127.0.0.1:9", "3", "2"]
    worker = subprocess.Popen(command)
    async with asyncio.timeout(60):
        while not shop.rows("SELECT 1 FROM procrastinate_workers"):
            await asyncio.sleep(0.1)
    os.kill(worker.pid, signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 30) == 0


async def test_a_second_sigterm_leaves_the_drain_alone(shop: Shop) -> None:
    """Some supervisors signal a process and its group; the second signal made its requests unknown."""
    shop.sandbox.faults.add(Fault("slow", delay=0.5))
    await shop.load()
    await shop.workers().start("sale", shares=1, concurrency=1)
    running = asyncio.create_task(shop.workers().run())
    while not (await shop.campaign().status()).on_the_wire:
        await asyncio.sleep(0.05)
    for _ in range(2):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
    await running
    counts = await shop.campaign().status()
    assert (counts.accepted, counts.unknown) == (len(shop.received()), 0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    "options", [{"queues": "desk360"}, {"queues": ()}, {"concurrency": 0}, {"drain": -1}], ids=str
)
async def test_an_unusable_argument_of_run_is_refused(shop: Shop, options: Any) -> None:
    with pytest.raises(ConfigurationError):
        await shop.workers().run(**options)


@pytest.mark.real
async def test_a_database_that_is_away_is_named_without_its_password() -> None:
    workers = Workers(f"postgresql://tester:{PASSWORD}@127.0.0.1:9/postgres", client=Shop("").client)
    with pytest.raises(ConfigurationError) as found:
        await workers.defer(TextMessage(TO, "x"), idempotency_key="k")
    assert PASSWORD not in repr(workers) + str(found.value)


async def test_a_worker_outlives_a_crash_of_the_database(shop: Shop, postgres: Cluster) -> None:
    await shop.load(people(300))
    await shop.workers().start("sale", shares=1, concurrency=1)
    crashed = False

    async def is_sent_after_a_crash() -> bool:
        nonlocal crashed
        if not crashed and len(shop.received()) >= 10:
            crashed = True
            await asyncio.to_thread(postgres.stop)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(postgres.start)
        with suppress(CampaignError):
            return crashed and await shop.is_sent()
        return False

    await shop.work(is_sent_after_a_crash)
    counts = await shop.campaign().status()
    assert (crashed, counts.accepted + counts.unknown) == (True, 300)
    assert max(Counter(shop.received()).values()) == 1


async def test_a_worker_ends_though_a_cancellation_was_lost(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11's `wait_for` loses one; the supervision went on for ever."""
    begun, ended = asyncio.Event(), list[str]()

    async def look(*_: object) -> None:
        if not begun.is_set():
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            ended.append("lost")

    async def has_begun() -> bool:
        return begun.is_set()

    await shop.load()
    monkeypatch.setattr(Workers, "_look", look)
    await shop.work(has_begun)
    assert ended == ["lost"]


async def test_a_worker_ends_though_its_database_does_not_answer(
    shop: Shop, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that waited for a frozen server kept the worker alive until the server went on."""
    monkeypatch.setattr("desk360_async.workers._workers._CUT", 0.2)
    await shop.load(people(400))
    proxy = Proxy(postgres)
    behind = Shop(proxy.dsn, shop.sandbox)
    workers = behind.workers()
    await workers.start("sale", shares=1, concurrency=2)

    async def is_frozen() -> bool:
        proxy.drops = len(shop.received()) >= 10
        if proxy.drops:
            await asyncio.sleep(0.5)  # until each statement waits
        return proxy.drops

    thaw = asyncio.get_running_loop().call_later(60, proxy.close)  # else a failure of this test would hang
    await behind.work(is_frozen, workers, drain=0.1)
    assert thaw.when() > asyncio.get_running_loop().time()
    thaw.cancel()
    proxy.close()
    counts = await shop.campaign().status()
    # An intent whose answer was dropped is stored, and its batch wasn't sent.
    assert counts.accepted <= len(shop.received()) <= counts.accepted + counts.on_the_wire < 400
    assert counts.not_sent == 0


async def test_a_cancelled_scope_waits_for_the_requests_on_the_wire(shop: Shop) -> None:
    """Scopes of anyio cancel again in each turn of the loop: the drain was cut off, and tasks were left."""
    shop.sandbox.faults.add(Fault("slow", delay=0.5))
    await shop.load()
    await shop.workers().start("sale", shares=1, concurrency=1)
    before, cancellations = asyncio.all_tasks(), 0

    async def run() -> None:
        nonlocal cancellations
        running = asyncio.current_task()
        assert running is not None
        try:
            await shop.workers().run()
        finally:
            cancellations = running.cancelling()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        while not (await shop.campaign().status()).on_the_wire:
            await asyncio.sleep(0.05)
        tasks.cancel_scope.cancel()
    counts = await shop.campaign().status()
    assert (counts.accepted, counts.unknown) == (len(shop.received()), 0)
    assert 0 < cancellations < 10
    assert [task for task in asyncio.all_tasks() - before if "Gathering" not in repr(task)] == []


async def test_a_worker_leaves_no_task_behind(shop: Shop) -> None:
    await shop.load()
    before = asyncio.all_tasks()
    await shop.work()
    # Commits that concurrent calls share have a task for 5 s after the last one.
    left = [task for task in asyncio.all_tasks() - before if "Gathering" not in repr(task)]
    assert left == []


async def test_a_share_whose_run_is_alive_is_not_run_twice(shop: Shop) -> None:
    await shop.load()
    workers = shop.workers()
    await workers.start("sale", shares=1)
    shop.rows(
        "INSERT INTO desk360.worker (run, campaign, name, host, pid, lease, seen) "
        "SELECT gen_random_uuid(), id, 'share 1', 'elsewhere', 1, 60, clock_timestamp() FROM desk360.campaign"
    )
    assert await workers._work.share("sale", 1) is None
    assert await workers._work.share("sale", 2) is None
    assert await workers._work.supervise(2.0) == 0


async def test_a_dead_workers_job_that_waits_again_already_fails(shop: Shop) -> None:
    await shop.load()
    await shop.workers().start("sale", shares=1)
    shop.rows("UPDATE procrastinate_jobs SET status = 'doing'")
    shop.rows(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) "
        "SELECT queue_name, task_name, queueing_lock FROM procrastinate_jobs"
    )
    shop.rows("INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('x', 'other', 'doing')")
    app = App(connector=PsycopgConnector(conninfo=shop.dsn))
    async with app.open_async():
        await reap(app.job_manager, 2.0, LogObserver())
    assert shop.rows("SELECT status FROM procrastinate_jobs ORDER BY id") == [
        ("failed",),
        ("todo",),
        ("doing",),
    ]


async def test_a_job_that_ended_elsewhere_ends_here_without_an_error(shop: Shop) -> None:
    """After an outage another worker may have had it."""
    await shop.load()
    await shop.workers().start("sale", shares=1)
    app = App(connector=PatientConnector(conninfo=shop.dsn))
    async with app.open_async():
        for _ in range(2):
            await app.job_manager.finish_job_by_id_async(1, Status.SUCCEEDED, delete_job=True)
        with pytest.raises(ConnectorException):
            await app.job_manager.retry_job_by_id_async(1, retry_at=datetime.now(UTC))
    assert shop.rows("SELECT id FROM procrastinate_jobs") == []


async def test_a_worker_runs_outside_the_main_thread(shop: Shop) -> None:
    await shop.workers().defer(TextMessage(TO, "x"), idempotency_key="k")
    await asyncio.to_thread(asyncio.run, shop.work())
    assert shop.received() == [TO]
