"""The client sends under a key: each send method, fan-out, template names, and a client without a log."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    BulkSent,
    Button,
    ClientStateError,
    ConfigurationError,
    Contact,
    ContactName,
    InvalidMessage,
    KeyConflict,
    Location,
    MediaMessage,
    Outcome,
    SendUnknown,
    Sent,
    ServerError,
    TemplateMessage,
    TextMessage,
    TokenBucket,
)
from desk360_async.customers import Customers
from desk360_async.once import SendLog
from desk360_async.testing import sandbox_client
from desk360_async.webhooks import TextReceived
from tests.core.fakes import Seen, Wire, connect

pytestmark = pytest.mark.anyio

TO = "+905551112233"
SENDS: dict[str, Callable[[AsyncDesk360, str], Awaitable[Any]]] = {
    "text": lambda c, key: c.send_text(TO, "x", idempotency_key=key),
    "template": lambda c, key: c.send_template(
        TO,
        "order_shipped",
        language="English",
        parameters={"body-1": "Ada", "body-2": "1"},
        idempotency_key=key,
    ),
    "bulk": lambda c, key: c.send_template_bulk(
        [TO, "+905551112234"], "welcome", language="English", idempotency_key=key
    ),
    "location": lambda c, key: c.send_location(
        TO, Location(latitude=41.0, longitude=29.0, name="Shop", address="İstanbul"), idempotency_key=key
    ),
    "contacts": lambda c, key: c.send_contacts(
        TO, [Contact(ContactName("Ada L", "Ada", "L"))], idempotency_key=key
    ),
    "media": lambda c, key: c.send_media(TO, [Attachment.from_bytes("a.pdf", b"x")], idempotency_key=key),
    "interactive": lambda c, key: c.send_interactive(TO, "Yes?", [Button("y", "Yes")], idempotency_key=key),
    "location request": lambda c, key: c.send_location_request(TO, "Where?", idempotency_key=key),
}


@pytest.mark.parametrize("name", SENDS)
async def test_each_send_method_sends_once_under_a_key(name: str, tmp_path: Path) -> None:
    send = SENDS[name]
    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, sandbox):
        first, second = await send(client, "order-1"), await send(client, "order-1")
        assert (first.replayed, second.replayed) == (False, True)
        assert len(sandbox.received) == (2 if isinstance(first, BulkSent) else 1)
        if not isinstance(first, BulkSent):
            assert second.message_id == first.message_id if name != "media" else second.files[0].message_id


async def test_a_replayed_bulk_reply_names_the_same_phones(tmp_path: Path) -> None:
    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, _):
        first = await SENDS["bulk"](client, "order-1")
        second = await SENDS["bulk"](client, "order-1")
    assert [phone.lstrip("+") for phone in second.phones] == [phone.lstrip("+") for phone in first.phones]
    assert second.unlisted == first.unlisted


async def test_a_replayed_bulk_reply_of_a_file_names_the_same_phones(tmp_path: Path) -> None:
    (file := tmp_path / "people.txt").write_text(f"{TO}\n+905551112234\n")

    async def send(client: AsyncDesk360) -> BulkSent:
        return await client.send_template_bulk(
            (), "welcome", language="English", destinations_file=file, idempotency_key="order-1"
        )

    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, _):
        assert (await send(client)).phones == (await send(client)).phones == (TO, "+905551112234")
        file.write_text(f"{TO}\n+905551112235\n")
        with pytest.raises(KeyConflict, match="destinations_file"):
            await send(client)


async def test_a_replayed_fallback_of_media_keeps_its_message_id(tmp_path: Path) -> None:
    media = MediaMessage(TO, [Attachment.from_bytes("a.pdf", b"x")])
    fallback = TemplateMessage(TO, "welcome", language="English")
    log, book = SendLog(tmp_path / "sends.db"), Customers(":memory:")
    async with sandbox_client(send_log=log, customers=book, service_window="enforce") as (client, sandbox):
        await book.feed(TextReceived(sender=TO[1:], text="Hi", sent_at=datetime(2020, 1, 1, tzinfo=UTC)))
        first, second = [
            await client.send(media, fallback=fallback, idempotency_key="order-1") for _ in range(2)
        ]
        assert (type(second), second.message_id) == (Sent, first.message_id)
        assert len(sandbox.received) == 1


async def test_a_replay_needs_neither_a_look_up_nor_a_token(tmp_path: Path) -> None:
    path = tmp_path / "sends.db"
    async with sandbox_client(send_log=SendLog(path)) as (client, sandbox):
        await SENDS["template"](client, "order-1")
        before = len(sandbox.requests)
        client._caches.clear()
        assert (await SENDS["template"](client, "order-1")).replayed
        assert len(sandbox.requests) == before


async def test_a_template_by_its_id_replays_the_send_by_its_name(tmp_path: Path) -> None:
    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, _):
        found = await client.templates.get("welcome")
        english = found.translation("English")
        await client.send(TemplateMessage(TO, "welcome", language="English"), idempotency_key="a")
        by_id = TemplateMessage(TO, found.id, language=english.language_id)
        assert (await client.send(by_id, idempotency_key="a")).replayed


async def test_a_view_may_have_a_send_log_of_its_own(tmp_path: Path) -> None:
    first, second = SendLog(tmp_path / "first.db"), SendLog(tmp_path / "second.db")
    async with sandbox_client(send_log=first) as (client, sandbox), second:
        view = client.with_options(send_log=second)
        assert (client.send_log, view.send_log) == (first, second)
        for each in (client, view, view):
            await each.send_text(TO, "x", idempotency_key="a")
        assert len(sandbox.received) == 2


async def test_an_unknown_send_is_not_repeated_and_can_be_resolved(tmp_path: Path) -> None:
    answers = [httpx.Response(500), httpx.Response(200, json={"message_id": "gBEG"})]

    async def answer(_: Seen) -> httpx.Response:
        return answers.pop(0)

    log = SendLog(tmp_path / "sends.db")
    async with connect(Wire(answer), send_log=log) as client:
        with pytest.raises(ServerError):
            await client.send_text(TO, "x", idempotency_key="a")
        with pytest.raises(SendUnknown):
            await client.send_text(TO, "x", idempotency_key="a")
        assert [record.key async for record in log.unknown()] == ["a"]
        await log.resolve("a", "resend")
        assert (await client.send_text(TO, "x", idempotency_key="a")).message_id == "gBEG"


async def test_fan_out_takes_the_key_of_each_item(tmp_path: Path) -> None:
    rows = [{"order": n, "phone": f"+90555111000{n}"} for n in range(3)]
    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, sandbox):
        for _ in range(2):
            results = await client.send_all(
                rows,
                build=lambda row: TextMessage(row["phone"], "x"),
                key=lambda row: f"order-{row['order']}",
            )
            assert [result.outcome for result in results] == [Outcome.ACCEPTED] * 3
        assert [result.unwrap().replayed for result in results] == [True] * 3
        assert len(sandbox.received) == 3


async def test_a_key_function_that_raises_ends_its_own_row(tmp_path: Path) -> None:
    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, sandbox):
        messages = [TextMessage(TO, "x"), TextMessage(TO, "y")]
        results = await client.send_all(messages, key=lambda message: {"x": "a"}[message.text])
    assert [result.outcome for result in results] == [Outcome.ACCEPTED, Outcome.NOT_SENT]
    assert len(sandbox.received) == 1


async def test_a_veto_of_the_caller_leaves_the_key_unsent(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise LookupError("not today")

    log = SendLog(tmp_path / "sends.db")
    async with connect(Wire(), send_log=log) as client:
        with pytest.raises(LookupError):
            await client.send(TextMessage(TO, "x"), idempotency_key="a", on_attempt=refuse)
        record = await log.get("a")
        assert record is not None
        assert (record.state, record.attempts) == ("not_sent", 0)


async def test_a_key_without_a_log_is_a_configuration_error() -> None:
    async with connect(Wire()) as client:
        with pytest.raises(ConfigurationError, match="send_log=SendLog"):
            await client.send_text(TO, "x", idempotency_key="a")


async def test_two_clients_share_a_log_and_the_last_one_closes_it(tmp_path: Path) -> None:
    log = SendLog(tmp_path / "sends.db")
    async with connect(Wire(), send_log=log) as one, connect(Wire(), send_log=log) as two:
        await one.send_text(TO, "x", idempotency_key="a")
        await one.aclose()
        assert (await two.send_text(TO, "x", idempotency_key="a")).replayed


async def test_closing_the_client_ends_a_wait_for_anothers_send(tmp_path: Path) -> None:
    async def slow(_: Seen) -> httpx.Response:
        await anyio.sleep(100)
        return httpx.Response(200, json={"message_id": "gBEG"})

    log = SendLog(tmp_path / "sends.db")
    async with (
        connect(Wire(slow), send_log=log, timeout=200) as sending,
        connect(Wire(), send_log=log) as waiting,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lambda: sending.send_text(TO, "x", idempotency_key="a"))
        await anyio.sleep(1)

        async def wait() -> None:
            with pytest.raises(ClientStateError):
                await waiting.send_text(TO, "x", idempotency_key="a")

        tasks.start_soon(wait)
        await anyio.sleep(1)
        await waiting.aclose()


async def test_the_key_of_another_message_is_refused_before_a_request(tmp_path: Path) -> None:
    async with sandbox_client(send_log=SendLog(tmp_path / "sends.db")) as (client, sandbox):
        await client.send_text(TO, "x", idempotency_key="a")
        with pytest.raises(KeyConflict) as found:
            await client.send_text(TO, "y", idempotency_key="a")
        assert isinstance(found.value, InvalidMessage)
        assert found.value.fields == ("text",)
        assert len(sandbox.received) == 1


async def test_the_file_holds_no_phone_text_or_parameter(tmp_path: Path) -> None:
    path = tmp_path / "sends.db"
    async with sandbox_client(send_log=SendLog(path)) as (client, _):
        await SENDS["template"](client, "order-1")
        await client.send_text(TO, "a-very-secret-text", idempotency_key="order-2")
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"order-1" in written
    for secret in (b"5551112233", b"a-very-secret-text", b"Ada"):
        assert secret not in written
    assert oct(path.stat().st_mode & 0o777) == "0o600"


async def test_two_logs_hash_the_same_message_differently(tmp_path: Path) -> None:
    stored = []
    for name in ("a.db", "b.db"):
        log = SendLog(tmp_path / name)
        async with connect(Wire(), send_log=log, limiter=TokenBucket(60, 60.0)) as client:
            await client.send_text(TO, "x", idempotency_key="a")
            row = await log._store.get("a")
            assert row is not None
            stored.append(json.dumps(row.fields))
    assert stored[0] != stored[1]


async def test_a_virtual_sandbox_hands_its_clock_to_the_log(tmp_path: Path) -> None:
    log = SendLog(tmp_path / "sends.db", keep=60)
    async with sandbox_client(send_log=log) as (client, sandbox):
        await client.send_text(TO, "x", idempotency_key="a")
        sandbox.advance(hours=1)
        await client.send_text(TO, "x", idempotency_key="b")
        assert await log.get("a") is None
