"""Webhooks in ASGI frameworks: mount the receiver, and open it in the application's lifespan."""

from contextlib import asynccontextmanager

from desk360_async.webhooks import WebhookReceiver


def lifespan_of(receiver: WebhookReceiver):
    """Return a lifespan in which the receiver is open."""

    @asynccontextmanager
    async def lifespan(app):
        async with receiver:
            yield

    return lifespan


def starlette_app(receiver: WebhookReceiver):
    """Return a Starlette application that takes webhooks under `/hooks/SECRET`."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/hooks", receiver)], lifespan=lifespan_of(receiver))


def fastapi_app(receiver: WebhookReceiver):
    """Return a FastAPI application that takes webhooks under `/hooks/SECRET`."""
    from fastapi import FastAPI

    app = FastAPI(lifespan=lifespan_of(receiver))
    app.mount("/hooks", receiver)
    return app


def litestar_app(receiver: WebhookReceiver):
    """Return a Litestar application that takes webhooks under `/hooks/SECRET`."""
    from litestar import Litestar, asgi
    from litestar.types import Receive, Scope, Send

    @asgi("/hooks", is_mount=True, copy_scope=True)
    async def hooks(scope: Scope, receive: Receive, send: Send) -> None:
        await receiver(scope, receive, send)

    return Litestar([hooks], lifespan=[lifespan_of(receiver)])


def quart_app(receiver: WebhookReceiver):
    """Return an ASGI application that takes webhooks under `/hooks/SECRET` and leaves the rest to Quart."""
    from quart import Quart

    quart = Quart(__name__)

    @quart.while_serving
    async def open_receiver():
        async with receiver:
            yield

    async def app(scope, receive, send):
        hooks = scope["type"] == "http" and scope["path"].startswith("/hooks/")
        await (receiver if hooks else quart)(scope, receive, send)

    return app
