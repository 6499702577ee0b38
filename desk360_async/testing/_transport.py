"""The httpx transport from a client to a sandbox without a network: it calls the ASGI application directly.

httpx's own ASGITransport returns no answer before the application has ended, and passes its exceptions on.
With it, a status and half a body would look like no status at all. A reset would look like a bug of the
test. With this transport the client sees the same as over TCP. Only this module and `_http` import httpx,
since a transport is a class of httpx.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from ._clock import VirtualClock

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

__all__ = ["InProcess", "sleeping_on"]

_under_way: ContextVar["_Exchange | None"] = ContextVar("desk360_async_exchange", default=None)


class InProcess(httpx.AsyncBaseTransport):
    """Calls an ASGI application for each request, on the client's event loop.

    The client's timeouts are in real time, and the application's delays in virtual time. So the transport
    reads the timeout from the cancel scope around the call, and compares it with the virtual clock.
    """

    def __init__(self, app: "ASGIApp", clock: VirtualClock) -> None:
        self._app = app
        self._clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Run the application to its end, and return the response that it sent.

        Raises:
            httpx.ReadError: if the connection was reset before a status was sent.
            httpx.ReadTimeout: if the caller's deadline came before a status, by the virtual clock.
        """
        exchange = _Exchange(request, self._clock)
        token = _under_way.set(exchange)
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except ConnectionResetError:
            exchange.is_reset = True
        finally:
            _under_way.reset(token)
        return exchange.response()


class _Exchange:
    """One request and its answer, with the virtual time of each piece."""

    def __init__(self, request: httpx.Request, clock: VirtualClock) -> None:
        self._clock = clock
        # The client's own deadline is in no cancel scope, since a process that was stopped must have time to
        # read.
        own = getattr(request.extensions.get("trace"), "deadline", math.inf)
        self._real_deadline = min(anyio.current_effective_deadline(), own)
        self._allowed = self._real_deadline - anyio.current_time()
        self._began = clock()
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self._body: AsyncIterator[bytes] | None = aiter(request.stream)
        self._status: int | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[tuple[float, bytes]] = []
        self._expired = self.is_reset = False
        self.scope = _scope(request)

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass for the application, at most until the caller's deadline.

        From the deadline on, the caller is gone. After the status, `_Late` checks the deadline instead.
        """
        wake, deadline = self._clock() + seconds, self._began + self._allowed
        expires = self._status is None and wake >= deadline
        # Without a deadline an infinite sleep returns immediately, since no caller can cancel it.
        if (end := min(wake, deadline) if expires else wake) < math.inf:
            await self._clock.sleep_until(end)
        self._expired = expires

    async def receive(self) -> "Message":
        if self._expired:
            return {"type": "http.disconnect"}
        if self._body is None:
            await anyio.sleep_forever()  # the client doesn't hang up; only a sleep reaches its deadline
        elif (chunk := await anext(self._body, None)) is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        self._body = None
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self._expired:
            return  # the client is gone; a server's `send` doesn't raise either
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message["headers"])
        elif message["type"] == "http.response.body" and message.get("body"):
            self._pieces.append((self._clock(), message["body"]))

    def response(self) -> httpx.Response:
        if self._status is None:
            if self._expired:
                raise httpx.ReadTimeout("the sandbox didn't answer in time")
            raise httpx.ReadError("the sandbox reset the connection")
        late = _Late(self._pieces, began=self._began, deadline=self._real_deadline, is_reset=self.is_reset)
        return httpx.Response(self._status, headers=self._headers, stream=late)


def _scope(request: httpx.Request) -> dict[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }


def sleeping_on(clock: VirtualClock) -> Callable[[float], Awaitable[None]]:
    """Return the sleep of a sandbox in process: it uses the clock, and ends at its caller's deadline."""

    async def sleep(seconds: float) -> None:
        exchange = _under_way.get()
        if exchange is not None:
            await exchange.sleep(seconds)
        elif math.isinf(seconds):
            await anyio.sleep_forever()
        else:
            await clock.sleep(seconds)

    return sleep


class _Late(httpx.AsyncByteStream):
    """A body whose pieces came at virtual times; each time is compared with the reader's deadline.

    The deadline is one for the whole exchange, or, as in a download, a new one for each piece.
    """

    def __init__(
        self, pieces: list[tuple[float, bytes]], *, began: float, deadline: float, is_reset: bool
    ) -> None:
        self._pieces = pieces
        self._began = began
        self._deadline = deadline
        self._is_reset = is_reset

    async def __aiter__(self) -> AsyncIterator[bytes]:
        before = self._began
        for at, piece in self._pieces:
            deadline = anyio.current_effective_deadline()
            if deadline == math.inf:
                deadline = self._deadline
            since = self._began if deadline == self._deadline else before
            if at - since > deadline - anyio.current_time():
                raise httpx.ReadTimeout("the sandbox sent no further byte in time")
            before = at
            yield piece
        if self._is_reset:
            raise httpx.ReadError("the sandbox ended the connection in the middle of the body")
