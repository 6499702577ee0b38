"""Event loops whose time jumps to the next timer, and what the limiter's tests let run on them."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio
import trio
from attrs import define, field
from trio.testing import MockClock

from desk360_async import _threads
from desk360_async._bucket import Lane, refusal_wait
from desk360_async._limiter import RateLimiter
from tests.core.fakes import VirtualLoop
from tests.limiter.servers import Answer, Server, answer

T = TypeVar("T")


def run(backend: str, main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `main` in virtual time on either backend, worker threads inline."""
    with _threads.inline():
        if backend == "trio":
            return trio.run(main, *args, clock=MockClock(autojump_threshold=0))
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main(*args))


@define
class Network:
    """A server with a way to it that takes a while, before and after the server counts.

    The witnesses count the same requests at the same moments, each in its own way, and nobody hears them:
    one run shows what several servers would have said.
    """

    server: Server
    rng: random.Random
    before: float = 0.3
    after: float = 0.3
    losses: float = 0.0
    least: float = 0.0
    witnesses: Sequence[Server] = ()
    statuses: Counter[int] = field(factory=Counter)
    refused_by: Counter[str] = field(factory=Counter)
    starts: list[float] = field(factory=list)
    waits: list[tuple[float, float]] = field(factory=list)
    ends: list[float] = field(factory=list)
    trips: list[float] = field(factory=list)
    lost: int = 0

    async def request(self, limiter: RateLimiter, lane: Lane = "interactive") -> Answer | None:
        """Make one request with a token; None if its answer got lost, which takes 3 s to find out."""
        asked = anyio.current_time()
        permit = await limiter.acquire(lane, None)
        start = anyio.current_time()
        self.starts.append(start)
        if lane == "interactive":
            self.waits.append((asked, start - asked))
        await anyio.sleep(self.least + self.rng.uniform(0, self.before))
        reply = self._count(anyio.current_time())
        if self.rng.random() < self.losses:
            await anyio.sleep(3)
            permit.lost()
            return None
        await anyio.sleep(self.rng.uniform(0, self.after))
        self.ends.append(anyio.current_time())
        self.trips.append(self.ends[-1] - start)
        permit.done(reply.status, reply.headers)
        return reply

    def _count(self, now: float) -> Answer:
        for witness in self.witnesses:
            if answer(witness, now).status == 429:
                self.refused_by[type(witness).__name__] += 1
        reply = answer(self.server, now)
        self.statuses[reply.status] += 1
        return reply

    async def deliver(self, limiter: RateLimiter, lane: Lane) -> None:
        """Make a request again until it is accepted, as a call does that is ready to wait 120 s for 429s."""
        patience = 120.0
        while patience >= 0:
            reply = await self.request(limiter, lane)
            if reply is None or reply.status == 200:
                return
            patience -= refusal_wait(reply.headers, period=self.server.period)
        self.lost += 1

    async def saturate(self, limiter: RateLimiter, lane: Lane, senders: int, seconds: float) -> None:
        """Send all that the limiter lets through, for so long."""

        async def send() -> None:
            while True:
                await self.deliver(limiter, lane)

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for _ in range(senders):
                    tasks.start_soon(send)

    async def poisson(self, limiter: RateLimiter, rate: float, seconds: float) -> None:
        """Send interactive requests at random moments, `rate` per second on average."""
        async with anyio.create_task_group() as tasks:
            end = anyio.current_time() + seconds
            while anyio.current_time() < end:
                await anyio.sleep(self.rng.expovariate(rate))
                tasks.start_soon(self.request, limiter, "interactive")
