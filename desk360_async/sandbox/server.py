"""The sandbox over TCP: uvicorn in the running loop, in a thread, or in the foreground for a command.

uvicorn is imported when something is to listen: in process the sandbox does without it.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen
from starlette.types import ASGIApp

from desk360_async.sandbox._extra import require

if TYPE_CHECKING:
    from desk360_async.sandbox import tcp
    from desk360_async.sandbox.sandbox import Sandbox


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


def _listen(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    if not allow_remote and not _is_loopback(host):
        msg = f"{host} can be reached by other machines; pass allow_remote=True if that is meant"
        raise ValueError(msg)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int, *, allow_remote: bool) -> AsyncGenerator[RunningServer]:
    """Listen, in the running asyncio loop; leaving the block breaks what is still open."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = "no asyncio loop is running here; use serve_in_thread()"
        raise RuntimeError(msg) from None
    require("uvicorn")
    from desk360_async.sandbox import tcp

    with _listen(host, port, allow_remote=allow_remote) as listener:
        connections = tcp.Connections(app)
        server = tcp.QuietServer(tcp.config(connections))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield RunningServer(host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            connections.abort()
            await task


@contextmanager
def serve_in_thread(app: ASGIApp, host: str, port: int, *, allow_remote: bool) -> Generator[RunningServer]:
    """Listen, from a thread with its own asyncio loop; leaving the block ends the thread."""
    require("uvicorn")
    from desk360_async.sandbox import tcp

    with _listen(host, port, allow_remote=allow_remote) as listener:
        connections = tcp.Connections(app)
        server = tcp.QuietServer(tcp.config(connections))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(loop, server, listener), name="desk360-sandbox")
        thread.start()
        try:
            yield RunningServer(host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            # The loop is closed already if the server died by itself.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(connections.abort)
            thread.join()


def _run_loop(loop: asyncio.AbstractEventLoop, server: "tcp.QuietServer", listener: socket.socket) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(server.serve(sockets=[listener]))


def run(
    sandbox: "Sandbox",
    host: str = "127.0.0.1",
    port: int = 8360,
    *,
    allow_remote: bool = False,
    on_start: Callable[[RunningServer], Any] | None = None,
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM, letting what is under way finish for 3 seconds.

    Args:
        sandbox: what is served.
        host: the address to listen on.
        port: the TCP port; 0 takes a free one.
        allow_remote: whether the address may be one that other machines reach.
        on_start: called once the address is bound.

    Raises:
        ValueError: the host isn't loopback and `allow_remote` is False.
        OSError: the address can't be bound.
    """
    require("uvicorn")
    import uvicorn

    from desk360_async.sandbox import tcp

    with _listen(host, port, allow_remote=allow_remote) as listener:
        if on_start:
            on_start(RunningServer(host, listener.getsockname()[1]))
        # uvicorn raises the signal again once it has shut down.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(tcp.config(tcp.Connections(sandbox.app))).run(sockets=[listener])
