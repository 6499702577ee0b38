"""Queues: work done in order for each customer, and side by side for different ones. No webhooks in here."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

T = TypeVar("T")


class Queues(Generic[T]):
    """A queue for each customer that has work waiting, and walkers that take the queues in turn.

    Walkers come with work and go when no work is left, never more than `concurrency`. A task for each queue
    would let one request, with a message from each of many senders, start tens of thousands. A walker does
    one item and puts the queue back at the end, so a long queue of one customer delays no other customer.

    Urgent queues come first. A quarter of the walkers, at least one of two, never takes other queues.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]], *, concurrency: int) -> None:
        self.waiting = 0
        self._work = work
        self._tasks: TaskGroup | None = None
        self._concurrency = concurrency
        self._walkers = 0
        # Walkers that may be with queues that aren't urgent.
        self._most_patient = max(1, concurrency - max(1, concurrency // 4))
        self._patient = 0
        # The queues that have work, with the items behind the one that is ready or with a walker. A deque
        # only for those that need one: most hold one item, and an empty deque takes 600 bytes.
        self._queues: dict[tuple[bool, Hashable], deque[T] | None] = {}
        # One item of a queue at most, so that no second walker comes into it.
        self._urgent: deque[tuple[tuple[bool, Hashable], T]] = deque()
        self._others: deque[tuple[tuple[bool, Hashable], T]] = deque()
        self._idle = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Let the walkers run in a task group."""
        self._tasks = tasks

    def put(self, customer: Hashable, item: T, *, urgent: bool = True) -> None:
        """Queue an item behind those of the same customer and urgency."""
        self.waiting += 1
        key = (urgent, customer)
        if key in self._queues:
            queue = self._queues[key]
            if queue is None:
                self._queues[key] = deque([item])
            else:
                queue.append(item)
            return
        self._queues[key] = None
        (self._urgent if urgent else self._others).append((key, item))
        if self._walkers < self._concurrency and (urgent or self._patient < self._most_patient):
            assert self._tasks is not None, "start() comes first"
            self._walkers += 1
            self._tasks.start_soon(self._walk)

    async def idle(self) -> None:
        """Wait until no item waits and no item is being worked on."""
        while self.waiting:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _walk(self) -> None:
        while True:
            if self._urgent:
                key, item = self._urgent.popleft()
            elif self._others and self._patient < self._most_patient:
                key, item = self._others.popleft()
                self._patient += 1
            else:
                break
            await self._work(item)
            self.waiting -= 1
            urgent, _ = key
            self._patient -= not urgent
            # No await up to the next checkpoint: a `put` comes before these lines, or finds no queue.
            if queue := self._queues[key]:
                (self._urgent if urgent else self._others).append((key, queue.popleft()))
            else:
                del self._queues[key]
            await anyio.lowlevel.checkpoint()  # work that never waits would else keep the loop to itself
        self._walkers -= 1
        if not self.waiting:
            self._idle.set()
