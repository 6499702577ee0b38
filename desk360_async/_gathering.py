"""Commits shared by the calls that arrive while the previous commit runs; there is no timer.

The users are `campaign.feed`, the send log, the customers and the webhooks' inbox. A durable commit costs
milliseconds, and a hundred items in one transaction cost as much as one item.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Generic, TypeVar

import anyio
from attrs import define, field

from ._threads import detach

T = TypeVar("T")
R = TypeVar("R")

IDLE = 5.0  # seconds after which an unused file is closed
MOST = 10_000  # calls that share one commit


@define(eq=False)
class _Call(Generic[T, R]):
    item: T
    done: anyio.Event  # of all calls that share the commit
    results: list[R] = field(factory=list[R])
    error: BaseException | None = None


async def _keep_open() -> None:
    """Close nothing."""


class Gathering(Generic[T, R]):
    """Gathers the items of concurrent calls into few commits.

    A background task commits while there are items, and ends after `idle` seconds without any. The items of
    a cancelled call are committed all the same.

    Args:
        commit: stores the items of several calls durably, in the order of arrival, and returns a result for
            each item. If it raises for several items, each is committed on its own, so that one bad item
            fails its own call only.
        close: closes the file; called after `idle` seconds without items, and by `aclose`.
        idle: seconds.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[Sequence[R]]],
        *,
        close: Callable[[], Awaitable[None]] = _keep_open,
        idle: float = IDLE,
    ) -> None:
        self._commit = commit
        self._close = close
        self._idle = idle
        self._rounds: deque[list[_Call[T, R]]] = deque()  # each has a commit of its own
        self._wake: anyio.Event | None = None  # there is one while the background task runs
        self._ended: anyio.Event | None = None
        self._closing = False

    async def add(self, item: T) -> R:
        """Return the item's result once its commit is durable.

        Raises:
            BaseException: the error of the commit.
        """
        call = self.post(item)
        await call.done.wait()
        if call.error is not None:
            raise call.error
        return call.results[0]

    def post(self, item: T) -> _Call[T, R]:
        """Let an item be part of the next commit, without waiting for it."""
        if not self._rounds or len(self._rounds[-1]) >= MOST:
            self._rounds.append([call := _Call[T, R](item, anyio.Event())])
        else:
            self._rounds[-1].append(call := _Call[T, R](item, self._rounds[-1][0].done))
        if self._wake is None:
            self._wake, self._ended = anyio.Event(), anyio.Event()
            detach(self._run, self._wake, self._ended)
        else:
            self._wake.set()
        return call

    async def aclose(self) -> None:
        """Commit the waiting calls, and close the file now."""
        if self._wake is not None and self._ended is not None:
            self._closing = True
            self._wake.set()
            await self._ended.wait()
            self._closing = False

    async def _run(self, wake: anyio.Event, ended: anyio.Event) -> None:
        try:
            while True:
                while self._rounds:
                    calls = self._rounds.popleft()
                    try:
                        await self._settle(calls)
                    finally:
                        calls[0].done.set()
                self._wake = wake = anyio.Event()
                if not self._closing:
                    with anyio.move_on_after(self._idle):
                        await wake.wait()
                if not self._rounds:
                    break
        finally:
            self._wake = None
            left, self._rounds = self._rounds, deque()
            for call in chain(*left):  # the event loop ends
                call.error = RuntimeError("the event loop ended before the commit")
                call.done.set()
            with anyio.CancelScope(shield=True):
                await self._close()
            ended.set()

    async def _settle(self, calls: list[_Call[T, R]]) -> None:
        try:
            results = await self._commit([call.item for call in calls])
        except Exception as error:  # noqa: BLE001 - the callers raise it
            if len(calls) > 1:
                for call in calls:
                    await self._settle([call])
                return
            calls[0].error = error
        except BaseException as error:
            for call in calls:
                call.error = error
            raise
        else:
            for call, result in zip(calls, results, strict=True):
                call.results.append(result)
