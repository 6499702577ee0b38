"""Many sends: K workers that pull from one iterator, and results as they come.

Workers pull; nothing is pushed through a stream, which would cost ten times as much a message. Sends share
the client's limiter, so more workers don't send faster, they only cover the round trips.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio

from ._brake import Brake
from ._errors import Desk360Error, InvalidMessage, Outcome
from ._messages import Message
from ._replies import SendResult

Items = Iterable[Any] | AsyncIterable[Any]
Sink = Callable[[SendResult], None]
Transmit = Callable[[int, Any, Message, Brake, Sink], Awaitable[object]]

_END = object()


class Results:
    """The results of many sends, in the order in which they end; made by `client.send_each`.

    Use it as `async with … as results: async for result in results`. Leaving the block stops starting new
    sends, lets those on the wire finish, and returns when they have.

    Attributes:
        rest: the results that nobody read, once the block is left.
    """

    def __init__(
        self,
        transmit: Transmit,
        items: Items,
        build: Callable[[Any], Message] | None,
        report: Sink,
        *,
        concurrency: int,
    ) -> None:
        self._transmit = transmit
        self._items = items
        self._build = build
        self._report = report
        self._concurrency = concurrency
        self._brake = Brake()
        self._ready: deque[SendResult] = deque()
        self._failure: BaseException | None = None
        self._index = 0
        self._working = 0
        self._entered = False
        self.rest: list[SendResult] = []

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a fan-out can be entered once; call send_each again")
        self._entered = True
        self._source = _pulled(self._items)
        self._pulling = anyio.Lock(fast_acquire=True)
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._working = self._concurrency
        for _ in range(self._concurrency):
            self._tasks.start_soon(self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._brake.pull()
        self._room.set()
        try:
            if error is not None and not isinstance(error, Exception):
                return await self._tasks.__aexit__(kind, error, trace)  # cancelled: so are the workers
            # An error of the caller's own must neither cancel what is on the wire nor be wrapped in a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            self.rest = list(self._ready)
            self._ready.clear()
            await self._source.aclose()
        if self._failure is not None and error is None:
            failure, self._failure = self._failure, None
            raise failure
        return None

    def __aiter__(self) -> AsyncIterator[SendResult]:
        return self

    async def __anext__(self) -> SendResult:
        if not self._entered:
            raise RuntimeError(
                "use it as: async with client.send_each(...) as results: async for result in results"
            )
        while not self._ready:
            if not self._working:
                if self._failure is not None:
                    failure, self._failure = self._failure, None
                    raise failure
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        result = self._ready.popleft()
        self._room.set()
        return result

    def _sink(self, result: SendResult) -> None:
        self._ready.append(result)
        self._news.set()

    async def _work(self) -> None:
        try:
            while not self._brake.pulled:
                # Nobody reads: don't go on sending into memory.
                while len(self._ready) >= self._concurrency and not self._brake.pulled:
                    self._room = anyio.Event()
                    await self._room.wait()
                pulled = await self._pull()
                if pulled is None:
                    return
                await self._make(*pulled)
        finally:
            self._working -= 1
            self._news.set()

    async def _pull(self) -> tuple[int, Any] | None:
        async with self._pulling:
            if self._brake.pulled:
                return None
            try:
                item = await anext(self._source, _END)
            except Exception as error:  # noqa: BLE001  # the caller's own iterator; raised where results are read
                self._failure = error
                self._brake.pull()
                return None
            if item is _END:
                return None
            index = self._index
            self._index += 1
            return index, item

    async def _make(self, index: int, item: Any) -> None:
        try:
            message = item if self._build is None else self._build(item)
        except InvalidMessage as error:
            refused = SendResult(index, item, None, Outcome.NOT_SENT, None, error)
            self._report(refused)
            self._sink(refused)
            return
        except Exception as error:  # noqa: BLE001  # the caller's own function; raised where results are read
            self._failure = error
            self._brake.pull()
            return
        with suppress(Desk360Error):  # the sink has it
            await self._transmit(index, item, message, self._brake, self._sink)


async def _pulled(items: Items) -> AsyncGenerator[Any]:
    """Yield from any iterable; one lock around `anext` then serves both kinds."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    for item in items:
        yield item
