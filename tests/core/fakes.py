"""What stands in for the network, the limiter and the clock in the core's tests."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx
from attrs import define, field, frozen

from desk360_async import AsyncDesk360, RateLimitStatus

TO = "+905551112233"
KEY = "06RS4pzxsPquYVOmHAZlogoRNatNjYnVCI1eZZiUK1Fu1DpxqFz1Fl9zyRON4juM"
ID = "gBEGkFBXUQRnAgnoOJ1ESPKBwME"


class _Jump(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everyone waits, and nothing will ever wake anyone"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that never sleeps: its time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(selector := _Jump())
        self._jump = selector

    def time(self) -> float:
        """Seconds since the loop began."""
        return self._jump.now


@frozen
class Seen:
    """A request as the transport saw it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Drip(httpx.AsyncByteStream):
    """A body that comes in pieces, with whatever happens between them."""

    def __init__(self, *pieces: bytes | Exception | Callable[[], Awaitable[None]]) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                await piece()

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


Reaction = httpx.Response | Exception | Callable[[Seen], Any]


def sent() -> httpx.Response:
    """The answer to a send."""
    return httpx.Response(200, json={"message_id": ID})


class Wire(httpx.AsyncBaseTransport):
    """A transport that remembers what came, and answers what it is told, the last answer for ever."""

    def __init__(self, *answers: Reaction) -> None:
        self.answers = list(answers) or [lambda _: sent()]
        self.seen: list[Seen] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Remember the request, and answer."""
        body = b"".join([piece async for piece in request.stream])  # type: ignore[union-attr]  # an async client's
        seen = Seen(request.method, str(request.url), dict(request.headers), body)
        self.seen.append(seen)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        result = answer(seen)
        response: httpx.Response = await result if hasattr(result, "__await__") else result
        return response

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


@define
class Ticket:
    """A permit that says how it ended."""

    ended: list[str]

    def done(self, status: int, headers: Mapping[str, str]) -> None:
        """An answer came."""
        self.ended.append(f"done {status}")

    def lost(self) -> None:
        """Nobody saw its end."""
        self.ended.append("lost")

    def unused(self) -> None:
        """Nothing left the process."""
        self.ended.append("unused")


@define
class Tokens:
    """A limiter that never makes anyone wait, unless told how, and remembers how each permit ended."""

    ended: list[str] = field(factory=list)
    lanes: list[str] = field(factory=list)
    wait: Callable[[], Awaitable[None]] | None = None

    async def acquire(self, lane: str = "interactive", max_wait: float | None = None) -> Ticket:
        """Give a permit."""
        self.lanes.append(lane)
        if self.wait is not None:
            await self.wait()
        return Ticket(self.ended)

    def snapshot(self) -> RateLimitStatus:
        """Tell of a free bucket."""
        return RateLimitStatus(
            limit=60,
            period=60.0,
            reserve=1,
            free=60,
            in_flight=0,
            waiting={"interactive": 0, "bulk": 0},
            paused_until=None,
            next_token=0.0,
            as_of=0.0,
        )


def connect(wire: httpx.AsyncBaseTransport | None, **options: Any) -> AsyncDesk360:
    """Make a client of a stand-in, with a limiter that never waits."""
    given: dict[str, Any] = {"integration_id": 11, "limiter": Tokens()} | options
    return AsyncDesk360(KEY, transport=wire, **given)
