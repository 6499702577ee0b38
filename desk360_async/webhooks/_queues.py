"""Queues: work in order for each customer, at the same time for different customers. No webhooks in here."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

T = TypeVar("T")


class Queues(Generic[T]):
    """A queue for each customer that has work waiting, and walkers: tasks that take the queues in turn.

    With a task for each queue, one request with messages of many senders could start tens of thousands of
    tasks. A walker does one item of a queue, then puts the queue back at the end. So a long queue of one
    customer delays no other customer. A walker without work waits for work and doesn't end: starting a task
    costs as much as a request.

    Urgent queues come first. A quarter of the walkers never takes other queues. Of two or three walkers, one
    walker never takes other queues.

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
        # Maximum number of walkers that work on queues that aren't urgent; `_patient` is the present number.
        self._most_patient = max(1, concurrency - max(1, concurrency // 4))
        self._patient = 0
        # The queues that have work. A queue's first item is ready or with a walker; the deque holds the items
        # behind it. Most queues hold one item and get no deque, since an empty deque takes 600 bytes.
        self._queues: dict[tuple[bool, Hashable], deque[T] | None] = {}
        # The ready items, at most one of each queue, so that no two walkers work on one queue.
        self._urgent: deque[tuple[tuple[bool, Hashable], T]] = deque()
        self._others: deque[tuple[tuple[bool, Hashable], T]] = deque()
        # The semaphore's value is the number of ready items that a walker may take and that woke no walker
        # yet.
        self._ready = anyio.Semaphore(0, fast_acquire=True)
        self._idle = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Run the walkers in a task group until it is cancelled; the walkers share the caller's context."""
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
                await checkpoint()  # else work that never waits would block the event loop
            await self._ready.acquire()
            self._resting -= 1
            if not self._resting and self._walkers < self._concurrency:
                self._add_walker(tasks)  # for the work that comes while this walker works
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
