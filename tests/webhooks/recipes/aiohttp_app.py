"""Webhooks in an aiohttp application: a route around `receive`, which needs no ASGI."""

from aiohttp import web

from desk360_async.webhooks import WebhookReceiver


def make_app(receiver: WebhookReceiver) -> web.Application:
    """Return an application that takes webhooks under `/hooks/SECRET`."""

    async def webhook(request: web.Request) -> web.Response:
        status, body = await receiver.receive(
            request.match_info["secret"], request.headers, request.content.iter_any(), method=request.method
        )
        return web.Response(status=status, body=body, content_type="text/plain")

    async def lifespan(app: web.Application):
        async with receiver:
            yield

    app = web.Application()
    app.router.add_route("*", "/hooks/{secret}", webhook)
    app.cleanup_ctx.append(lifespan)
    return app
