"""ASGI in both directions, and reading a body with a limit and a deadline. Nothing about webhooks.

No framework is imported: the three kinds of messages that are needed fit on a page.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import anyio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_READ_AND_DROPPED = 8
"""Times the limit that is still read of a body too large: many clients look for an answer only when they
have sent everything, and see a reset connection instead of the 413 otherwise."""


class Answer(NamedTuple):
    """What to answer.

    Attributes:
        status: the HTTP status.
        body: a short text, in ASCII.
    """

    status: int
    body: bytes


class ClientGoneError(ConnectionError):
    """The client went away before its body had ended; nobody waits for an answer."""


class BodyChunks:
    """A request's body as an async iterator of its pieces.

    A class, since an async generator that is left half-way has to be closed by somebody.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._more:
            raise StopAsyncIteration
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        self._more = message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


async def read(body: bytes | AsyncIterable[bytes], *, limit: int, timeout: float) -> bytes | Answer:
    """Return the whole body, or the answer to one that is too large (bytes) or too slow (seconds)."""
    too_large = Answer(413, b"the body is too large\n")
    if isinstance(body, bytes):
        return body if len(body) <= limit else too_large
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
