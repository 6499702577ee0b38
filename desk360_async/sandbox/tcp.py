"""uvicorn, as the sandbox uses it. The only module that imports it: in process the sandbox does without."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from desk360_async.sandbox.delivery import EXTENSION

_GRACE = 3


class Connections:
    """The open TCP connections by their client's address, so that a fault can break its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: dict[tuple[str, int], asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """Make uvicorn's HTTP protocol tell when a connection opens and closes."""
        connections = self._open

        class Protocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
                super().connection_made(transport)
                if self.client:
                    connections[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    connections.pop(self.client, None)
                super().connection_lost(exc)

        return Protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on together with its connection."""
        transport = self._open.get(scope["client"])
        extensions = {**scope.get("extensions", {}), EXTENSION: transport}
        await self._app({**scope, "extensions": extensions}, receive, send)

    def abort(self) -> None:
        """Break everything that is open."""
        for transport in list(self._open.values()):
            transport.abort()


class QuietServer(Server):
    """A uvicorn server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take none."""
        yield


def config(connections: Connections) -> Config:
    """Configure uvicorn for a sandbox: h11, no lifespan, no logs of its own, 3 seconds of grace."""
    # The application writes its own Date, by the sandbox's clock.
    return Config(
        connections,
        http=connections.protocol(),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )
