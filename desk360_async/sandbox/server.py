"""The sandbox over TCP: uvicorn in the running loop, in a thread, or in the foreground for a command.

uvicorn is imported when a server starts: in process the sandbox works without it. The application writes its
own `Date`, by the sandbox's clock. uvicorn's log is off.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen
from starlette.types import ASGIApp, Receive, Scope, Send

from desk360_async.sandbox._extra import require
from desk360_async.sandbox.access import HostCheck, is_loopback
from desk360_async.sandbox.delivery import ENDING, EXTENSION

if TYPE_CHECKING:
    from uvicorn import Config, Server
    from uvicorn.protocols.http.h11_impl import H11Protocol

_GRACE = 3  # seconds that open requests have after Ctrl-C


@frozen
class RunningServer:
    """A sandbox that listens.

    Attributes:
        host: the address.
        port: the TCP port.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL, without `/v1`, such as `http://127.0.0.1:8360`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@frozen
class Listening:
    """The address on which a server listens, and the hosts that it allows.

    Attributes:
        host: the address to bind.
        port: the TCP port; 0 takes a free one.
        allow_remote: whether the address may be one that other machines reach.
        allow_hosts: names in `Host` besides loopback names and the bound address.
        keep_alive: seconds until an idle connection is closed.
    """

    host: str
    port: int
    allow_remote: bool = False
    allow_hosts: tuple[str, ...] = ()
    keep_alive: int = 5


def _listen(at: Listening) -> socket.socket:
    if not at.allow_remote and not is_loopback(at.host):
        msg = f"{at.host} can be reached by other machines; pass allow_remote=True if you mean it"
        raise ValueError(msg)
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    listener = socket.create_server((at.host, at.port), family=family)
    # create_server makes sockets with proto=0. asyncio sets TCP_NODELAY only if proto is IPPROTO_TCP.
    # Without TCP_NODELAY, an answer's body waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Joined:
    """A transport that joins two writes of one turn: an answer's head and body wake the client once.

    The first write waits for the second. At the turn's end it goes alone, as an event stream's head does.
    Only the methods below may follow a write: uvicorn's protocol calls no other one that sends.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._inner = transport
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        """Send what waits together with this; if nothing waits, let this wait."""
        if self._held:
            self._held += data
            self._flush()
        elif data:
            self._held = data
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._inner.write(held)

    def close(self) -> None:
        """Send what waits, and close the connection."""
        self._flush()
        self._inner.close()

    def abort(self) -> None:
        """Send what waits, and break the connection."""
        self._flush()
        self._inner.abort()


class Connections:
    """The open TCP connections by client address, so that a fault can break its request's connection."""

    def __init__(self, app: ASGIApp, allow_hosts: tuple[str, ...] = ()) -> None:
        self._app = HostCheck(app, allow_hosts)
        self._open: dict[tuple[str, int], asyncio.Transport] = {}
        self.ending: threading.Event = threading.Event()

    def protocol(self) -> "type[H11Protocol]":
        """Return uvicorn's HTTP protocol as a subclass that records each connection while it is open."""
        from uvicorn.protocols.http.h11_impl import H11Protocol

        connections = self._open

        class Protocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
                joined = cast("asyncio.Transport", _Joined(transport))
                super().connection_made(joined)
                if self.client:
                    connections[self.client] = joined

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    connections.pop(self.client, None)
                super().connection_lost(exc)

        return Protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on together with its connection."""
        transport = self._open.get(scope["client"])
        extensions = {**scope.get("extensions", {}), EXTENSION: transport, ENDING: self.ending}
        await self._app({**scope, "extensions": extensions}, receive, send)

    def abort(self) -> None:
        """End the event streams and break all open connections."""
        self.ending.set()
        for transport in list(self._open.values()):
            transport.abort()


def _server(connections: Connections, at: Listening, *, signals: bool) -> "Server":
    """Make uvicorn's server, which ends open event streams before it waits for the other requests."""
    from uvicorn import Server

    class SandboxServer(Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            """Capture the process's signals only if `signals` is True; else another program owns them."""
            with super().capture_signals() if signals else contextlib.nullcontext():
                yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            connections.ending.set()
            await super().shutdown(sockets)

    return SandboxServer(_config(connections, at))


def _config(connections: Connections, at: Listening) -> "Config":
    from uvicorn import Config

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
        timeout_keep_alive=at.keep_alive,
        timeout_graceful_shutdown=_GRACE,
    )


@asynccontextmanager
async def serve(app: ASGIApp, at: Listening) -> AsyncGenerator[RunningServer]:
    """Listen, in the running asyncio loop; leaving the block breaks all open connections."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = "no asyncio loop is running here; use serve_in_thread()"
        raise RuntimeError(msg) from None
    require("uvicorn")
    with _listen(at) as listener:
        connections = Connections(app, at.allow_hosts)
        server = _server(connections, at, signals=False)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield RunningServer(at.host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            connections.abort()
            await task


@contextmanager
def serve_in_thread(app: ASGIApp, at: Listening) -> Generator[RunningServer]:
    """Listen, from a thread with its own asyncio loop; leaving the block ends the thread."""
    require("uvicorn")
    with _listen(at) as listener:
        connections = Connections(app, at.allow_hosts)
        server = _server(connections, at, signals=False)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(loop, server, listener), name="desk360-sandbox")
        thread.start()
        try:
            yield RunningServer(at.host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            # The loop is closed already if the server died by itself.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(connections.abort)
            thread.join()


def _run_loop(loop: asyncio.AbstractEventLoop, server: "Server", listener: socket.socket) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(server.serve(sockets=[listener]))


def serve_in_foreground(
    app: ASGIApp, at: Listening, on_start: Callable[[RunningServer], Any] | None = None
) -> None:
    """Listen until Ctrl-C or SIGTERM; requests under way have 3 seconds to finish."""
    require("uvicorn")
    with _listen(at) as listener:
        if on_start:
            on_start(RunningServer(at.host, listener.getsockname()[1]))
        # uvicorn raises the signal again once it has shut down.
        with contextlib.suppress(KeyboardInterrupt):
            _server(Connections(app, at.allow_hosts), at, signals=True).run(sockets=[listener])
