"""ASGI in both directions, and reading a body with a limit and a deadline. No webhooks in here.

No framework is imported: the package needs only three kinds of messages, which fit on a page.
"""

import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    MutableMapping,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import anyio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_READ_AND_DROPPED = 8
"""A body that is too large is read and dropped up to this many times the limit. Many clients read the
answer only after they have sent the whole body. Else they would see a reset connection instead of the 413."""

_WITHOUT_SCOPES = ("uvicorn",)
"""Packages of servers whose own `receive` opens no cancel scope."""


class Answer(NamedTuple):
    """An answer to a request.

    Attributes:
        status: the HTTP status.
        body: a short text, in ASCII.
    """

    status: int
    body: bytes


class ClientGoneError(ConnectionError):
    """The client went away before its body had ended, so that no answer is sent."""


class BodyChunks:
    """A request's body as an async iterator of its pieces.

    It is a class, since an async generator must be closed explicitly if its iteration ends early.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._first: bytes | Awaitable[Message] | None = None
        self._more = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        if isinstance(first, bytes):
            return first
        if not self._more:
            raise StopAsyncIteration
        return self._take(await (first or self._receive()))

    def begin(self) -> bytes | None:
        """Return the whole body if the server has it already; else None, and the iteration returns the body.

        uvicorn calls the application when it has read the head, and usually holds the body by then. A cancel
        scope for the deadline costs 12 of a request's 29 µs. So `read` opens the scope only for a body that
        is still to come, and `receive` takes its first step here, outside the scope. Only a server's own
        method allows this. A middleware's function, such as that of Starlette's BaseHTTPMiddleware, may open
        a scope in its first step. That scope would open before the deadline's scope and end inside it. But a
        scope must end inside the scopes that were opened before it.
        """
        server = type(getattr(self._receive, "__self__", None)).__module__
        if server.partition(".")[0] not in _WITHOUT_SCOPES:
            return None
        waiting = self._receive()
        if not inspect.iscoroutine(waiting):
            self._first = waiting
            return None
        try:
            yielded = waiting.send(None)
        except StopIteration as stop:
            chunk = self._take(stop.value)
            if self._more:
                self._first = chunk
                return None
            return chunk
        self._first = _Begun(waiting, yielded)
        return None

    def _take(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        self._more = message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


class _Begun:
    """A coroutine whose first step has run and yielded `yielded`, which the event loop gets first."""

    def __init__(self, steps: Coroutine[Any, Any, Message], yielded: Any) -> None:
        self._steps = steps
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Message]:
        yielded = self._yielded
        step: Callable[[Any], Any]
        while True:
            try:
                argument = yield yielded
                step = self._steps.send
            except BaseException as error:  # noqa: BLE001 - the coroutine's to handle, a cancellation too
                step, argument = self._steps.throw, error
            try:
                yielded = step(argument)
            except StopIteration as stop:
                message: Message = stop.value
                return message


async def read(body: bytes | AsyncIterable[bytes], *, limit: int, timeout: float) -> bytes | Answer:
    """Return the whole body; a 413 if it is longer than `limit` (bytes), a 408 after `timeout` (seconds)."""
    too_large = Answer(413, b"the body is too large\n")
    if isinstance(body, bytes):
        return body if len(body) <= limit else too_large
    if isinstance(body, BodyChunks) and (whole := body.begin()) is not None:
        return whole if len(whole) <= limit else too_large
    size, content = 0, bytearray()
    with anyio.move_on_after(timeout) as scope:
        async for chunk in body:
            size += len(chunk)
            if size <= limit:
                content += chunk
            elif size > limit * _READ_AND_DROPPED:
                break
            else:
                content.clear()
    if scope.cancelled_caught:
        return Answer(408, b"the body came too slowly\n")
    return bytes(content) if size <= limit else too_large


async def answer(send: Send, given: Answer) -> None:
    """Send an answer."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(given.body))]
    if given.status == 405:
        headers.append((b"allow", b"GET, HEAD, POST"))
    if given.status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": given.body})


async def live(receive: Receive, send: Send, inner: AbstractAsyncContextManager[object]) -> None:
    """Hold `inner` open from the server's start to its end (the lifespan protocol)."""
    await receive()
    started = False
    try:
        async with inner:
            started = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except Exception as error:
        if not started:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
