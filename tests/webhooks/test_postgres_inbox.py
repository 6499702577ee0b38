"""`PostgresInbox`: receivers of several hosts handle each event once. A cluster of the tests' own."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import psycopg
import pytest

from desk360_async import ClientStateError, ConfigurationError
from desk360_async.webhooks import MessageReceived, PostgresInbox, WebhookReceiver, parse
from tests.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.anyio

SECRET, PHONE = "a-secret-of-the-url", "905551112233"
MALFORMED = Path(__file__).parent.parent / "samples" / "webhooks" / "malformed"
Seen = list[tuple[int, str]]


def texts(*keys: str, phone: str = PHONE) -> bytes:
    """Return a body with a message for each key."""
    messages = [{"id": key, "from": phone, "type": "text", "text": key} for key in keys]
    return json.dumps({"messages": messages}).encode()


@asynccontextmanager
async def receivers(dsn: str, number: int, seen: Seen) -> AsyncGenerator[list[WebhookReceiver]]:
    """Open receivers on one inbox, as several hosts do; `seen` gets (receiver, id)."""

    def made(name: int) -> WebhookReceiver:
        receiver = WebhookReceiver(SECRET, inbox=PostgresInbox(dsn, lease=1.0))

        @receiver.on_message
        async def keep(event: MessageReceived) -> None:
            seen.append((name, event.id))

        return receiver

    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(made(name)) for name in range(number)]


async def handled(seen: Seen, number: int) -> None:
    """Wait until events were handled."""
    with anyio.fail_after(30):
        while len(seen) < number:
            await anyio.sleep(0.02)


async def test_a_repeat_that_reaches_another_host_is_not_handled_again(dsn: str) -> None:
    seen: Seen = []
    async with receivers(dsn, 2, seen) as (one, two):
        for receiver in (one, two, one):
            assert (await receiver.receive(SECRET, {}, texts("a", "b"))).status == 200
        await handled(seen, 2)
    assert seen == [(0, "a"), (0, "b")]
    assert (one.stats.duplicates, two.stats.duplicates) == (2, 2)


KILLED = """
import anyio, os, sys
from desk360_async.webhooks import PostgresInbox, parse
async def main():
    inbox = PostgresInbox(sys.argv[1], lease=1.0)
    await inbox.open()
    await inbox.commit(parse(sys.argv[2]), [])
    os.kill(os.getpid(), 9)
anyio.run(main)
"""


async def test_a_dead_processs_events_are_taken_over(dsn: str) -> None:
    seen: Seen = []
    subprocess.run([sys.executable, "-c", KILLED, dsn, texts("a", "b")], check=False)
    async with receivers(dsn, 2, seen):
        await handled(seen, 2)
    assert sorted(key for _, key in seen) == ["a", "b"]


async def test_a_living_receiver_keeps_its_events_and_a_closed_one_leaves_them(dsn: str) -> None:
    """A receiver shows itself by `take_over`, which its host calls every half second."""
    one, other = PostgresInbox(dsn, lease=1.0), PostgresInbox(dsn, lease=1.0)
    await one.open()
    await one.commit(parse(texts("a")), [])
    assert await other.open() == []
    for _ in range(4):
        await anyio.to_thread.run_sync(pause, 0.4)
        assert (await one.take_over(), await other.take_over()) == (0, 0)
    await one.aclose()
    (claimed,) = await other.claim(10, 10)
    assert claimed.event.id == "a"
    await other.aclose()


def pause(seconds: float) -> None:
    """Let the database's clock go on, which isn't virtual."""
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(anyio.sleep, seconds)


async def test_a_receiver_that_was_believed_dead_goes_on_beside_the_others(dsn: str) -> None:
    one, other = PostgresInbox(dsn, lease=1.0), PostgresInbox(dsn, lease=1.0)
    await one.open()
    [row] = await one.commit(parse(texts("a")), [])
    await anyio.to_thread.run_sync(pause, 1.2)
    assert [event.id for _, event in await other.open()] == []
    assert await other.take_over() == 1
    assert [claimed.event.id for claimed in await other.claim(10, 10)] == ["a"]
    # Its failure no longer counts, and its success does.
    await one.commit(parse(texts("b")), [(row, "LookupError", None, ())])
    assert await other.dead_letters() == []
    await one.commit([], [(row, None)])
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT key, raw IS NULL FROM desk360.events ORDER BY id").fetchall()
    assert found == [("message/a", True), ("message/b", False)]
    for inbox in (one, other):
        await inbox.aclose()


async def test_failures_are_dead_letters_that_can_be_retried(dsn: str) -> None:
    inbox = PostgresInbox(dsn)
    await inbox.open()
    [row] = await inbox.commit(parse(texts("a")), [])
    await inbox.commit([], [(row, "LookupError", None, ("shop.answer",))])
    (letter,) = await inbox.dead_letters()
    assert (letter.event.id, letter.attempts, letter.error) == ("a", 1, "LookupError")
    assert (await inbox.retry_failed(letter.row), await inbox.retry_failed()) == (1, 0)
    assert [claimed.attempts for claimed in await inbox.claim(10, 10)] == [0]
    await inbox.aclose()


async def test_events_come_back_as_they_went_in(dsn: str) -> None:
    """The malformed ones too; repeats among them aside."""
    expected = json.loads((MALFORMED / "expected.json").read_text())
    bodies = [name for name, case in expected.items() if case["events"] != "InvalidWebhook"]
    events = [event for name in bodies for event in parse((MALFORMED / f"{name}.body").read_bytes())]
    inbox = PostgresInbox(dsn)
    await inbox.open()
    rows = await inbox.commit(events, [])
    await inbox.aclose()
    stored = dict(await inbox.open())
    assert [event for row, event in zip(rows, events, strict=True) if row] == [stored[r] for r in rows if r]
    await inbox.aclose()


@pytest.mark.parametrize("key", ["x" * 10_000, "a\0b", "a\ud800b"])
async def test_an_id_that_postgresql_cant_index_is_recognised_too(dsn: str, key: str) -> None:
    inbox = PostgresInbox(dsn)
    await inbox.open()
    body = json.dumps({"messages": [{"id": key, "from": PHONE, "type": "text", "text": "x"}] * 2})
    rows = await inbox.commit(parse(body), [])
    assert [row is None for row in rows] == [False, True]
    await inbox.aclose()


async def test_old_events_are_trimmed_and_a_person_is_forgotten(dsn: str) -> None:
    inbox = PostgresInbox(dsn, keep=0.0)
    await inbox.open()
    rows = await inbox.commit(parse(texts("a", "b")), [])
    await inbox.commit(parse(texts("c")), [(row, None) for row in rows])
    await inbox.commit(parse(texts("d", phone="905550000001")), [])
    assert await inbox.forget(f"+{PHONE}") == 1
    await inbox.aclose()
    with psycopg.connect(dsn) as connection:
        found = str(connection.execute("SELECT key, raw FROM desk360.events").fetchall())
    assert ("message/d" in found, "message/a" in found, PHONE in found) == (True, False, False)


async def test_a_database_that_is_down_answers_503_and_hides_its_password(
    dsn: str, postgres: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    seen: Seen = []
    async with receivers(dsn, 1, seen) as (receiver,):
        postgres.stop()
        try:
            refused = await receiver.receive(SECRET, {}, texts("a"))
        finally:
            postgres.start()
        assert refused.status == 503
        assert (await receiver.receive(SECRET, {}, texts("a"))).status == 200
        await handled(seen, 1)
    assert PASSWORD not in caplog.text + repr(PostgresInbox(dsn))


async def test_a_wrong_use_is_refused(dsn: str) -> None:
    with pytest.raises(ConfigurationError, match="is no DSN"):
        PostgresInbox("inbox.db")
    with pytest.raises(ConfigurationError, match="lease"):
        PostgresInbox(dsn, lease=0.1)
    inbox = PostgresInbox(dsn)
    with pytest.raises(ClientStateError, match="is not open"):
        await inbox.claim(1, 1)
    await inbox.open()
    with pytest.raises(ClientStateError, match="open already"):
        await inbox.open()
    await inbox.aclose()
