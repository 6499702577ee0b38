"""Many sends: K workers that pull from one iterator, and results as they come.

Workers pull; nothing is pushed through a stream, which would cost ten times as much a message. Sends share
the client's limiter, so more workers don't send faster, they only cover the round trips.
"""

import inspect
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio

from ._errors import InvalidMessage, Outcome
from ._messages import Message
from ._pipeline import Stop
from ._replies import SendResult

Items = Iterable[Any] | AsyncIterable[Any]
Sink = Callable[[SendResult], None]
Transmit = Callable[[int, Any, Message, Stop, Sink], Awaitable[object]]

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
        self._halt = Stop()
        self._ready: deque[SendResult] = deque()
        self._failure: BaseException | None = None
        self._index = 0
        self._working = 0
        self._entered = False
        # Made by whoever waits, taken away by whoever has something to tell, so that nobody is forgotten.
        self._pulling: set[anyio.CancelScope] = set()
        self._news: anyio.Event | None = None
        self._room: anyio.Event | None = None
        self.rest: list[SendResult] = []

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a fan-out can be entered once; call send_each again")
        self._entered = True
        self._next = _pull_from(self._items)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._working = self._concurrency
        for _ in range(self._concurrency):
            self._tasks.start_soon(self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._stop()
        try:
            if error is not None and not isinstance(error, Exception):
                return await self._tasks.__aexit__(kind, error, trace)  # cancelled: so are the workers
            # An error of the caller's own must neither cancel what is on the wire nor be wrapped in a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._close_source()
            self.rest = list(self._ready)
            self._ready.clear()
        if self._failure is not None and error is None:
            failure, self._failure = self._failure, None
            raise failure
        return None

    async def _close_source(self) -> None:
        """Close a generator of the caller's: nobody else will, and its `finally` may hold a file open."""
        if inspect.isasyncgen(self._items):
            try:
                with anyio.CancelScope(shield=True):
                    await self._items.aclose()
            except Exception as error:  # noqa: BLE001  # the caller's own; raised when the block is left
                self._failure = self._failure or error

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
            self._news = self._news or anyio.Event()
            await self._news.wait()
        result = self._ready.popleft()
        if not self._ready:
            # Not after each: all workers would wake for one place, which costs more than the send's share.
            self._make_room()
        return result

    def _sink(self, result: SendResult) -> None:
        self._ready.append(result)
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()

    def _stop(self) -> None:
        """Start no more; what is on the wire goes on."""
        self._halt.request()
        self._make_room()
        for scope in self._pulling:
            # The source may never yield again: leaving the block must not wait for that.
            scope.cancel()

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set()

    async def _work(self) -> None:
        try:
            # One scope a worker, since one an item would cost as much as all the rest.
            with anyio.CancelScope() as scope:
                await self._work_on(scope)
        finally:
            self._working -= 1
            self._tell()

    async def _work_on(self, scope: anyio.CancelScope) -> None:
        while not self._halt.requested:
            # Nobody reads: don't go on sending into memory.
            while len(self._ready) >= self._concurrency and not self._halt.requested:
                self._room = self._room or anyio.Event()
                await self._room.wait()
            pulled = await self._pull(scope)
            if pulled is None:
                return
            await self._make(*pulled)

    async def _pull(self, scope: anyio.CancelScope) -> tuple[int, Any] | None:
        if self._halt.requested:
            return None
        self._pulling.add(scope)
        try:
            item = await self._next()
        except Exception as error:  # noqa: BLE001  # the caller's own iterator; raised where results are read
            self._failure = error
            self._stop()
            return None
        finally:
            self._pulling.discard(scope)
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
            self._stop()
            return
        # The sink has it, whatever it is: one failed send never stops the others.
        with suppress(Exception):
            await self._transmit(index, item, message, self._halt, self._sink)


def _pull_from(items: Items) -> Callable[[], Awaitable[Any]]:
    """Return a function that awaits the next item of any iterable, or `_END`."""
    if not isinstance(items, AsyncIterable):
        plain = iter(items)

        async def pull() -> Any:
            return next(plain, _END)

        return pull
    source, turn = aiter(items), anyio.Lock()

    async def pull_async() -> Any:
        try:
            turn.acquire_nowait()  # a third of what `async with` costs, and most often free
        except anyio.WouldBlock:
            await turn.acquire()
        try:
            return await anext(source, _END)
        finally:
            turn.release()

    return pull_async
