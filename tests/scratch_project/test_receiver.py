"""A receiver as a fixture of two plugins: each opens and closes it from tasks of its own."""

import pytest
import pytest_asyncio
from aiohttp import web

from desk360_async.webhooks import MessageReceived, WebhookReceiver

SECRET = "a-secret-of-thirty-two-characters"
BODY = b'{"messages": {"id": "a", "from": "905551112233", "type": "text", "text": {"body": "hi"}}}'


@pytest_asyncio.fixture
async def receiver():
    async with WebhookReceiver(SECRET) as opened:
        yield opened


@pytest.mark.asyncio
async def test_a_receiver_lives_in_a_fixture_of_pytest_asyncio(receiver: WebhookReceiver) -> None:
    assert (await receiver.receive(SECRET, {}, BODY)).status == 200


@pytest.mark.asyncio
async def test_two_receivers_close_in_the_order_of_their_opening(receiver: WebhookReceiver) -> None:
    other = WebhookReceiver(SECRET)
    await other.__aenter__()
    await receiver.__aexit__(None, None, None)
    assert (await other.receive(SECRET, {}, BODY)).status == 200
    await other.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_a_receiver_lives_in_the_cleanup_context_of_pytest_aiohttp(aiohttp_client) -> None:
    receiver, seen = WebhookReceiver(SECRET), []

    @receiver.on_message
    async def keep(message: MessageReceived) -> None:
        seen.append(message.id)

    async def webhook(request: web.Request) -> web.Response:
        status, body = await receiver.receive(SECRET, request.headers, request.content.iter_any())
        return web.Response(status=status, body=body)

    async def lifespan(app: web.Application):
        async with receiver:
            yield

    app = web.Application()
    app.router.add_post("/hooks", webhook)
    app.cleanup_ctx.append(lifespan)
    client = await aiohttp_client(app)
    assert (await client.post("/hooks", data=BODY)).status == 200
    await client.close()
    assert seen == ["a"]
