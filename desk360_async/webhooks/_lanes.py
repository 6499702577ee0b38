"""Lanes: work done in order for each customer, and side by side for different ones. No webhooks in here."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class Lanes(Generic[T]):
    """A queue for each customer that has work waiting, and a task for each queue.

    A task lives as long as its queue: a fixed set of workers would need a second queue to find out which
    lane is free. `concurrency` bounds how many of them work at once; they take turns item by item.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], tasks: TaskGroup, *, concurrency: int) -> None:
        self.waiting = 0
        self._work = work
        self._tasks = tasks
        self._turns = anyio.Semaphore(concurrency)
        self._lanes: dict[str, deque[T]] = {}
        self._idle = anyio.Event()

    def put(self, lane: str, item: T) -> None:
        """Queue an item behind those of the same lane."""
        self.waiting += 1
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
            self._tasks.start_soon(self._walk, lane, queue)
        queue.append(item)

    async def idle(self) -> None:
        """Wait until nothing waits and nothing is being worked on."""
        while self.waiting:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _walk(self, lane: str, queue: deque[T]) -> None:
        while queue:
            async with self._turns:
                await self._work(queue[0])
            queue.popleft()
            self.waiting -= 1
        # No await since the queue was found empty: a `put` comes before this line or finds no lane.
        del self._lanes[lane]
        if not self.waiting:
            self._idle.set()
