"""Many sends: K workers that pull from one iterator, and results in the order in which the sends end.

Workers pull their items. A stream between the source and the workers would cost ten times as much per
message. All sends share the client's limiter: more workers hide longer round trips, but don't raise the rate.
"""

import inspect
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sized
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self

import anyio

from ._bucket import Lane
from ._errors import Desk360Error, InvalidMessage, Outcome
from ._messages import Message
from ._pipeline import Stop
from ._redaction import mask_numbers
from ._replies import Item, SendResult

Items = Iterable[Any] | AsyncIterable[Any]
Sink = Callable[[SendResult], None]
Transmit = Callable[[int, Any, Message, Stop, Sink], Awaitable[object]]

_END = object()

# If a task ends with one of these, asyncio raises it out of its loop, past every other task.
_EXITS = (KeyboardInterrupt, SystemExit)


def lane_for(items: object, limit: int) -> Lane:
    """Return "interactive" for a sized input of at most half the limit, and "bulk" for every other input.

    Args:
        items: the caller's input.
        limit: the limiter's requests per period.
    """
    return "interactive" if isinstance(items, Sized) and len(items) * 2 <= limit else "bulk"


class Results(Generic[Item]):
    """The results of many sends, in the order in which they end; made by `client.send_each`.

    Use it as `async with … as results: async for result in results`. When you leave the block, no new sends
    start, and the exit waits for the sends on the wire. Enter and leave the block in the same task.

    If the source raises, reading the results raises its exception, after the results of the earlier items. An
    exception in the caller's block propagates unchanged, SystemExit and KeyboardInterrupt too.

    Attributes:
        rest: the results that were not read, once the block is left.
    """

    def __init__(
        self,
        begin: Callable[[], Transmit],
        items: Items,
        build: Callable[[Any], Message] | None,
        report: Sink,
        *,
        concurrency: int,
    ) -> None:
        self._begin = begin
        self._items = items
        self._build = build
        self._report = report
        self._concurrency = concurrency
        self._halt = Stop()
        self._ready: deque[SendResult[Item]] = deque()
        self._failure: BaseException | None = None
        self._index = 0
        self._working = 0
        self._entered = False
        self._exhausted = False
        self._pulling: set[anyio.CancelScope] = set()
        # A waiting task makes the event, and the notifier removes it. So every waiting task wakes.
        self._news: anyio.Event | None = None
        self._room: anyio.Event | None = None
        self.rest: list[SendResult[Item]] = []

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a fan-out can be entered once; call send_each again")
        self._entered = True
        self._transmit = self._begin()
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
            if isinstance(error, anyio.get_cancelled_exc_class()):
                return await self._tasks.__aexit__(kind, error, trace)  # the workers are cancelled too
            # Any other exception must not cancel the sends on the wire, and must not come out in a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._close_source()
            self.rest = list(self._ready)
            self._ready.clear()
        if error is None:
            self._raise_failure()
        return None

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _close_source(self) -> None:
        """Close the caller's generator: its `finally` may close a file."""
        if inspect.isasyncgen(self._items):
            try:
                with anyio.CancelScope(shield=True):
                    await self._items.aclose()
            except (Exception, *_EXITS) as error:  # noqa: BLE001  # the caller's own; raised on leaving
                self._failure = self._failure or error

    def __aiter__(self) -> AsyncIterator[SendResult[Item]]:
        return self

    async def __anext__(self) -> SendResult[Item]:
        if not self._entered:
            raise RuntimeError(
                "use it as: async with client.send_each(...) as results: async for result in results"
            )
        while not self._ready:
            if not self._working:
                self._raise_failure()
                raise StopAsyncIteration
            self._news = self._news or anyio.Event()
            await self._news.wait()
        result = self._ready.popleft()
        if not self._ready:
            # Only after the last result: else all workers wake for one place, which costs more than a send.
            self._make_room()
        return result

    def _sink(self, result: SendResult[Item]) -> None:
        self._ready.append(result)
        self._wake_reader()

    def _wake_reader(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()

    def _stop(self) -> None:
        """Start no more sends; the sends on the wire continue."""
        self._halt.request()
        self._make_room()
        self._end_pulling()

    def _end_pulling(self) -> None:
        """Pull no more items; the pulled items are still sent."""
        self._exhausted = True
        for scope in self._pulling:
            # The source may never yield again, and leaving the block must not wait for it.
            scope.cancel()

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set()

    async def _work(self) -> None:
        try:
            # One scope per worker: a scope per item would cost as much as the rest of the fan-out.
            with anyio.CancelScope() as scope:
                await self._work_on(scope)
        except _EXITS as error:
            # The reader's task raises it. Raised here, it would be wrapped in a group, or end the loop.
            self._failure = self._failure or error
            self._stop()
        finally:
            self._working -= 1
            self._wake_reader()

    async def _work_on(self, scope: anyio.CancelScope) -> None:
        while not self._halt.requested:
            # If results aren't read, sending pauses: memory stays flat.
            while len(self._ready) >= self._concurrency and not self._halt.requested:
                self._room = self._room or anyio.Event()
                await self._room.wait()
            pulled = await self._pull(scope)
            if pulled is None:
                return
            await self._make(*pulled)

    async def _pull(self, scope: anyio.CancelScope) -> tuple[int, Any] | None:
        if self._exhausted:
            return None
        self._pulling.add(scope)
        try:
            item = await self._next()
        except Exception as error:  # noqa: BLE001  # the caller's own iterator; raised where results are read
            self._failure = self._failure or error
            self._pulling.discard(scope)
            self._end_pulling()
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
        except Exception as error:  # noqa: BLE001  # the caller's own function; it ends this item only
            refused = SendResult(index, item, None, Outcome.NOT_SENT, None, _as_refusal(error))
            self._report(refused)
            self._sink(refused)
            return
        # The sink has the error: one failed send never stops the others.
        with suppress(Exception):
            await self._transmit(index, item, message, self._halt, self._sink)


def _as_refusal(error: Exception) -> Desk360Error:
    """Return the error of an item whose `build` raised; no request was spent on it."""
    if isinstance(error, Desk360Error):
        error.outcome = Outcome.NOT_SENT
        return error
    problem = f"raised {type(error).__name__}: {mask_numbers(str(error))}; this item was not sent"
    refusal = InvalidMessage("build", problem)
    refusal.__cause__ = error
    return refusal


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
            turn.acquire_nowait()  # costs a third of `async with`; the lock is mostly free
        except anyio.WouldBlock:
            await turn.acquire()
        try:
            return await anext(source, _END)
        finally:
            turn.release()

    return pull_async
