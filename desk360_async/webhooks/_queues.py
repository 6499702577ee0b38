"""Queues: work done in order for each customer, and side by side for different ones. No webhooks in here."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

T = TypeVar("T")


class Queues(Generic[T]):
    """A queue for each customer that has work waiting, and walkers that take the queues in turn.

    Walkers come with work and go when none is left, never more than `concurrency`: a task for each queue
    would let one request, with a message from each of many senders, start tens of thousands. A walker does
    one item and puts the lane back at the end, so a long queue of one customer keeps nobody waiting.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], tasks: TaskGroup, *, concurrency: int) -> None:
        self.waiting = 0
        self._work = work
        self._tasks = tasks
        self._concurrency = concurrency
        self._walkers = 0
        # The lanes that have work, and what is queued there behind the item that is ready or with a walker:
        # a deque only for those that need one, since most hold one item, and an empty deque takes 600 bytes.
        self._lanes: dict[str, deque[T] | None] = {}
        # One item of a lane at most, so that no second walker comes into it.
        self._ready: deque[tuple[str, T]] = deque()
        self._idle = anyio.Event()

    def put(self, lane: str, item: T) -> None:
        """Queue an item behind those of the same lane."""
        self.waiting += 1
        if lane in self._lanes:
            queue = self._lanes[lane]
            if queue is None:
                self._lanes[lane] = deque([item])
            else:
                queue.append(item)
            return
        self._lanes[lane] = None
        self._ready.append((lane, item))
        if self._walkers < self._concurrency:
            self._walkers += 1
            self._tasks.start_soon(self._walk)

    async def idle(self) -> None:
        """Wait until nothing waits and nothing is being worked on."""
        while self.waiting:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _walk(self) -> None:
        while self._ready:
            lane, item = self._ready.popleft()
            await self._work(item)
            self.waiting -= 1
            # No await up to the next checkpoint: a `put` comes before these lines, or finds no lane.
            if queue := self._lanes[lane]:
                self._ready.append((lane, queue.popleft()))
            else:
                del self._lanes[lane]
            await anyio.lowlevel.checkpoint()  # work that never waits would else keep the loop to itself
        self._walkers -= 1
        if not self.waiting:
            self._idle.set()
