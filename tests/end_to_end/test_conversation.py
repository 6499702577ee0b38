"""Both halves of the API together: a send, what becomes of it, a customer's reply, and our answer to it."""

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.sandbox import Sandbox
from desk360_async.testing import VirtualSandbox
from desk360_async.webhooks import LocationReceived, StatusUpdate, TextReceived, WebhookReceiver

pytestmark = pytest.mark.anyio

TO = "+905551112233"
SECRET = "a-secret-of-sixteen-or-more"


def answering(client: AsyncDesk360) -> tuple[WebhookReceiver, list[tuple[str, str]]]:
    """Make a receiver that answers what customers write, and keeps what became of messages."""
    receiver = WebhookReceiver(secret=SECRET)
    seen: list[tuple[str, str]] = []

    @receiver.on_message(TextReceived)
    async def answer(message: TextReceived) -> None:
        assert message.phone is not None
        await client.send_text(message.phone, f"You wrote: {message.text}")

    @receiver.on_message(LocationReceived)
    async def thank(message: LocationReceived) -> None:
        await client.mark_read(TO, [message.id])

    @receiver.on_status
    async def keep(update: StatusUpdate) -> None:
        seen.append((update.id, update.status))

    return receiver, seen


async def test_a_conversation_without_ports() -> None:
    """Sent, delivered, read; answered by the customer, and by us; in virtual time."""
    sandbox = VirtualSandbox()
    client = sandbox.client()
    receiver, seen = answering(client)
    sandbox.webhooks.target = (receiver, f"/hooks/{SECRET}")
    sent = await client.send_template(
        TO, "order_shipped", language="English", parameters={"body-1": "Ada", "body-2": "7"}
    )
    sandbox.reply(TO, "Thanks!")
    identity = sandbox.reply(
        TO, type="location", location={"latitude": 41.0, "longitude": 29.0, "name": "Home"}
    )
    async with receiver:
        await sandbox.webhooks.deliver()
    assert [status for of, status in seen if of == sent.message_id] == ["delivered", "read"]
    sandbox.assert_sent(to=TO, text="You wrote: Thanks!", times=1)
    assert [read.message_ids for read in sandbox.reads] == [(identity,)]


async def test_trouble_on_the_way_back_changes_nothing() -> None:
    """Every webhook twice and out of order: each customer is answered once all the same."""
    sandbox = VirtualSandbox()
    receiver, seen = answering(sandbox.client())
    sandbox.webhooks.target = (receiver, f"/hooks/{SECRET}")
    sandbox.webhooks.duplicates = sandbox.webhooks.disorder = 0.5
    async with receiver:
        for number in range(50):
            sandbox.reply(TO, str(number))
        await sandbox.webhooks.deliver()
        with anyio.fail_after(10):
            while receiver.queued or sandbox.webhooks.pending:
                await anyio.sleep(0)
                await sandbox.webhooks.deliver()
    assert {message.text for message in sandbox.sent(to=TO)} == {f"You wrote: {n}" for n in range(50)}
    assert sandbox.accepted == 50
    assert len(seen) == len(set(seen)) == 100


async def followed(folder: Path, client: AsyncDesk360, strategy: Any) -> tuple[Campaign, WebhookReceiver]:
    """Load a campaign of three, and make a receiver that tells it what becomes of its messages."""
    campaign = Campaign(
        "followed",
        template="back_in_stock",
        language="English",
        ledger=folder / "ledger.db",
        strategy=strategy,
    )
    await campaign.load(client, [Recipient(f"+90555111223{n}", {"body-1": "shoes"}) for n in range(3)])
    receiver = WebhookReceiver(secret=SECRET)

    @receiver.on_status
    async def tell(update: StatusUpdate) -> None:
        await campaign.feed(update)

    return campaign, receiver


@pytest.mark.parametrize("strategy", ["bulk", "single"])
async def test_a_campaigns_report_shows_delivered_and_read(tmp_path: Path, strategy: str) -> None:
    """By message id where there is one, by phone after a bulk request; what comes twice counts once."""
    sandbox = VirtualSandbox()
    client = sandbox.client()
    campaign, receiver = await followed(tmp_path, client, strategy)
    sandbox.webhooks.target = (receiver, f"/hooks/{SECRET}")
    sandbox.webhooks.duplicates = 1.0
    async with campaign.run(client) as run:
        await run.wait()
    async with receiver:
        await sandbox.webhooks.deliver()
    report = await campaign.report()
    assert (report.counts.accepted, report.delivered, report.read, report.failed) == (3, 3, 3, 0)


def web_app(client: AsyncDesk360, receiver: WebhookReceiver) -> Starlette:
    """Make a web app that keeps both for its life."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client, receiver:
            yield

    return Starlette(routes=[Mount("/hooks", receiver)], lifespan=lifespan)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an application from a thread; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


async def until(done: Callable[[], object]) -> None:
    """Wait, in real time, for the other side."""
    with anyio.fail_after(10):
        while not done():
            await anyio.sleep(0.01)


@pytest.mark.real
async def test_a_conversation_over_tcp() -> None:
    """The same, over three sockets: client to sandbox, sandbox to web app, web app to sandbox."""
    sandbox = Sandbox(delivered_after=0.01, read_after=0.02)
    with sandbox.serve_in_thread() as server:
        options: Any = {"api_key": sandbox.api_key, "integration_id": 11, "base_url": server.url}
        # The web app's own client, on the web app's own event loop.
        theirs = AsyncDesk360(**options)
        receiver, seen = answering(theirs)
        with listening(web_app(theirs, receiver)) as url:
            sandbox.webhooks.target = f"{url}/hooks/{SECRET}"
            async with AsyncDesk360(**options) as client:
                sent = await client.send_text(TO, "Hello!")
            sandbox.reply(TO, "Who is it?")
            await until(lambda: sandbox.sent(to=TO)[-1].text == "You wrote: Who is it?")
            await until(lambda: {(sent.message_id, "delivered"), (sent.message_id, "read")} <= set(seen))
            await until(lambda: not sandbox.webhooks.pending and len(seen) == 4)


@pytest.mark.real
@pytest.mark.parametrize("strategy", ["bulk", "single"])
async def test_a_campaign_is_followed_over_tcp(tmp_path: Path, strategy: str) -> None:
    """The webhooks reach a web app while the campaign runs in another event loop."""
    sandbox = Sandbox(delivered_after=0.01, read_after=0.02)
    with sandbox.serve_in_thread() as server:
        options: Any = {"api_key": sandbox.api_key, "integration_id": 11, "base_url": server.url}
        # Sooner than the server's minute, for a handful.
        async with AsyncDesk360(**options, limiter=TokenBucket(60, 1.0)) as client:
            campaign, receiver = await followed(tmp_path, client, strategy)
            with listening(web_app(AsyncDesk360(**options), receiver)) as url:
                sandbox.webhooks.target = f"{url}/hooks/{SECRET}"
                async with campaign.run(client) as run:
                    await run.wait()
                await until(lambda: receiver.stats.handled == 6)
            report = await campaign.report()
    assert (report.counts.accepted, report.delivered, report.read, report.failed) == (3, 3, 3, 0)
