"""Queues: work done in order for each customer, and side by side for different ones. No webhooks in here."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

T = TypeVar("T")


class Queues(Generic[T]):
    """A queue for each customer that has work waiting, and walkers that take the queues in turn.

    A task for each queue would let one request, with a message from each of many senders, start tens of
    thousands. A walker does one item and puts the queue back at the end, so a long queue of one customer
    delays no other customer. A walker without work waits for it: starting a task costs as much as a request.

    Urgent queues come first. A quarter of the walkers, at least one of two, never takes other queues.

    Args:
        work: does one item.
        concurrency: number of walkers at most (≥ 1).
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], *, concurrency: int) -> None:
        self.waiting = 0
        self._work = work
        self._tasks: TaskGroup | None = None
        self._concurrency = concurrency
        self._walkers = 0
        self._resting = 0  # walkers that wait for work
        # Walkers that may be with queues that aren't urgent.
        self._most_patient = max(1, concurrency - max(1, concurrency // 4))
        self._patient = 0
        # The queues that have work, with the items behind the one that is ready or with a walker. A deque
        # only for those that need one: most hold one item, and an empty deque takes 600 bytes.
        self._queues: dict[tuple[bool, Hashable], deque[T] | None] = {}
        # One item of a queue at most, so that no second walker comes into it.
        self._urgent: deque[tuple[tuple[bool, Hashable], T]] = deque()
        self._others: deque[tuple[tuple[bool, Hashable], T]] = deque()
        # Its value is the number of ready items that a walker may take and that woke no walker yet.
        self._ready = anyio.Semaphore(0, fast_acquire=True)
        self._idle = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Let the walkers run in a task group, until it is cancelled; they share this caller's context."""
        self._tasks = tasks
        self._add_walker(tasks)

    def put(self, customer: Hashable, item: T, *, urgent: bool = True) -> None:
        """Queue an item behind those of the same customer and urgency."""
        self.waiting += 1
        key = (urgent, customer)
        if key not in self._queues:
            self._queues[key] = None
            self._make_ready(key, item)
        elif (queue := self._queues[key]) is None:
            self._queues[key] = deque([item])
        else:
            queue.append(item)

    async def idle(self) -> None:
        """Wait until no item waits and no item is being worked on."""
        while self.waiting:
            self._idle = anyio.Event()
            await self._idle.wait()

    def _make_ready(self, key: tuple[bool, Hashable], item: T) -> None:
        urgent, _ = key
        (self._urgent if urgent else self._others).append((key, item))
        if urgent or len(self._others) <= self._most_patient - self._patient:
            self._ready.release()

    def _add_walker(self, tasks: TaskGroup) -> None:
        self._walkers += 1
        self._resting += 1
        tasks.start_soon(self._walk, tasks)

    async def _walk(self, tasks: TaskGroup) -> None:
        while True:
            if self._ready.value:
                await checkpoint()  # work that never waits would else keep the loop to itself
            await self._ready.acquire()
            self._resting -= 1
            if not self._resting and self._walkers < self._concurrency:
                self._add_walker(tasks)  # for the work that comes during this one's
            key, item = (self._urgent or self._others).popleft()
            urgent, _ = key
            self._patient += not urgent
            await self._work(item)
            self._end(key)
            self._resting += 1

    def _end(self, key: tuple[bool, Hashable]) -> None:
        self.waiting -= 1
        urgent, _ = key
        if not urgent:
            if len(self._others) > self._most_patient - self._patient:
                self._ready.release()
            self._patient -= 1
        if queue := self._queues[key]:
            self._make_ready(key, queue.popleft())
        else:
            del self._queues[key]
        if not self.waiting:
            self._idle.set()
