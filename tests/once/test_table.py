"""Each row of the contract: the key's last send, and the answer to the next call."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async import (
    Desk360Error,
    InvalidMessage,
    KeyConflict,
    Outcome,
    SendInProgress,
    SendUnknown,
    Sent,
    TemplateMessage,
    TextMessage,
)
from desk360_async.once import SendLog
from tests.once.harness import HELLO, TO, Server, accepted, ask, clock, failing

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["file", "memory", "postgres"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SendLog]:
    """A log in a file, in memory and in PostgreSQL."""
    places = {"file": lambda: tmp_path / "sends.db", "memory": lambda: ":memory:"}
    place = places.get(request.param, lambda: request.getfixturevalue("dsn"))()
    async with SendLog(place, clock=clock) as made:
        yield made


async def test_a_new_key_is_sent_now(log: SendLog) -> None:
    server = Server()
    assert await ask(log, server) == Sent("gBEG", replayed=False)
    assert server.posts == 1


async def test_an_accepted_key_is_replayed_without_a_request(log: SendLog) -> None:
    server = Server()
    await ask(log, server)
    assert await ask(log, server) == Sent("gBEG", replayed=True)
    assert server.posts == 1


async def test_a_key_that_ended_not_sent_is_sent_again(log: SendLog) -> None:
    server = Server(failing(Outcome.NOT_SENT), accepted)
    with pytest.raises(Desk360Error, match="it failed"):
        await ask(log, server)
    assert await ask(log, server) == Sent("gBEG", replayed=False)
    assert server.posts == 2


async def test_a_key_that_ended_not_sent_takes_another_message(log: SendLog) -> None:
    server = Server(failing(Outcome.NOT_SENT), accepted)
    with pytest.raises(Desk360Error):
        await ask(log, server)
    mended = TextMessage(TO, "Hello again")
    await ask(log, server, mended)
    with pytest.raises(KeyConflict):
        await ask(log, server, HELLO)


async def test_an_unknown_key_is_never_sent_again_unasked(log: SendLog) -> None:
    server = Server(failing(Outcome.UNKNOWN))
    with pytest.raises(Desk360Error, match="it failed"):
        await ask(log, server)
    with pytest.raises(SendUnknown) as found:
        await ask(log, server)
    assert (found.value.key, found.value.outcome, found.value.seen) == ("order-1", Outcome.UNKNOWN, None)
    assert found.value.since == clock()
    assert server.posts == 1


async def test_a_key_in_flight_waits_for_its_end(log: SendLog) -> None:
    server, replies = Server(seconds=5), []

    async def one() -> None:
        replies.append(await ask(log, server))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert sorted(reply.replayed for reply in replies) == [False, True, True]
    assert server.posts == 1


async def test_a_wait_beyond_max_wait_is_send_in_progress(log: SendLog) -> None:
    server = Server(seconds=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, log, server)
        await anyio.sleep(1)
        began = anyio.current_time()
        with pytest.raises(SendInProgress) as found:
            await ask(log, server, max_wait=2)
        assert anyio.current_time() - began == pytest.approx(2)
        assert found.value.outcome is Outcome.UNKNOWN
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"message": TextMessage(TO, "Bye")}, ("text",)),
        ({"message": TextMessage("+905551112234", "Hello")}, ("to",)),
        ({"integration": 12}, ("integration_id",)),
        ({"base_url": "https://b/v1"}, ("base_url",)),
        ({"message": TemplateMessage(TO, 75, language=1)}, ("kind", "language", "template", "text")),
    ],
)
@pytest.mark.parametrize("ending", [None, Outcome.UNKNOWN])
async def test_another_message_under_a_used_key_is_a_conflict(
    log: SendLog, changes: dict[str, Any], fields: tuple[str, ...], ending: Outcome | None
) -> None:
    server = Server(failing(ending)) if ending else Server()
    if ending:
        with pytest.raises(Desk360Error):
            await ask(log, server)
    else:
        await ask(log, server)
    with pytest.raises(KeyConflict) as found:
        await ask(log, server, **changes)
    assert (found.value.fields, found.value.outcome) == (fields, Outcome.NOT_SENT)
    assert f"({', '.join(fields)} {'differ' if len(fields) > 1 else 'differs'})" in str(found.value)
    assert server.posts == 1


async def test_another_message_under_a_key_in_flight_is_a_conflict(log: SendLog) -> None:
    server = Server(seconds=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, log, server)
        await anyio.sleep(1)
        with pytest.raises(KeyConflict):
            await ask(log, server, TextMessage(TO, "Bye"))
        tasks.cancel_scope.cancel()


async def test_a_cancelled_send_on_the_wire_is_unknown(log: SendLog) -> None:
    server = Server(seconds=60)
    with anyio.move_on_after(1):
        await ask(log, server)
    with pytest.raises(SendUnknown):
        await ask(log, server)


@pytest.mark.parametrize("key", ["", "   ", "x" * 256, 7, None, "a\x00b", "\ud83d"])
async def test_a_key_that_is_no_key_is_refused(log: SendLog, key: Any) -> None:
    with pytest.raises(InvalidMessage) as found:
        await ask(log, server := Server(), key=key)
    assert found.value.field == "idempotency_key"
    assert server.posts == 0
