"""Whoever stops waiting for a token takes none with him, and holds up nobody: in virtual time."""

import asyncio
import random
from collections import deque

import anyio
import pytest

from desk360_async import TokenBucket
from desk360_async._limiter import Permit
from tests.limiter.virtual import run

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Crowd:
    """10,000 waiters in both lanes, of whom half get cancelled."""

    def __init__(self) -> None:
        self.bucket = TokenBucket(50, 10.0, learn=False)
        self.scopes: list[anyio.CancelScope] = []
        self.came: list[int] = []
        self.served: list[tuple[int, int]] = []
        self.held: deque[Permit] = deque()
        self.rng = random.Random(7)
        self.doomed = {number for number in range(10_000) if self.rng.random() < 0.5}

    async def wait(self, number: int) -> None:
        """Even numbers are interactive."""
        with self.scopes[number]:
            self.came.append(number)
            permit = await self.bucket.acquire("bulk" if number % 2 else "interactive", None)
            # The order of waking is the loop's, that of the tokens is ours.
            self.served.append((permit.number, number))
            self.held.append(permit)

    async def cancel_at_random(self) -> None:
        """One by one, while others are being served."""
        for number in sorted(self.doomed, key=lambda _: self.rng.random()):
            self.scopes[number].cancel()
            if not number % 5:
                await self.serve_some()

    async def cancel_as_they_are_served(self) -> None:
        """Whoever is first in line: cancel him, and give a token back before he knows of either."""
        for number in list(self.came):
            if number in self.doomed and self.held:
                self.scopes[number].cancel()
                self.held.popleft().unused()
            if not number % 5:
                await self.serve_some()

    async def serve_some(self) -> None:
        """Keep 25 tokens out."""
        await anyio.sleep(0.01)
        while len(self.held) > 25:
            self.held.popleft().unused()

    async def run(self, how: str) -> None:
        """Start all of them, cancel, and serve the survivors."""
        self.scopes += [anyio.CancelScope() for _ in range(10_000)]
        async with anyio.create_task_group() as tasks:
            for number in range(10_000):
                tasks.start_soon(self.wait, number)
            await anyio.sleep(0.01)
            await getattr(self, how)()
            while any(self.bucket.snapshot().waiting.values()):
                await anyio.sleep(0.05)
                while self.held:
                    self.held.popleft().unused()
        while self.held:
            self.held.popleft().unused()


@pytest.mark.parametrize("how", ["cancel_at_random", "cancel_as_they_are_served"])
def test_cancelled_waiters_lose_no_token_and_starve_nobody(backend: str, how: str) -> None:
    """All tokens are back, everyone who wasn't cancelled was served, and in the order of coming."""
    crowd = Crowd()
    run(backend, crowd.run, how)
    assert crowd.bucket.snapshot().free == 50
    served = [number for _, number in sorted(crowd.served)]
    assert set(range(10_000)) - set(served) <= crowd.doomed
    assert len(crowd.doomed - set(served)) > 300  # cancelled while they waited; else nothing was tried
    kept = set(served)
    for lane in (0, 1):
        assert [n for n in served if n % 2 == lane] == [n for n in crowd.came if n % 2 == lane and n in kept]


def test_a_waiter_cancelled_as_he_is_served_gives_his_token_to_the_next(backend: str) -> None:
    """By asyncio's own `Task.cancel`, which strikes even between the waking and the running."""
    if backend == "trio":
        pytest.skip("on trio, and in anyio's scopes, who was woken gets his token, and is cancelled later")

    async def main() -> None:
        bucket = TokenBucket(1)
        permit = await bucket.acquire()
        first, second = [asyncio.create_task(bucket.acquire()) for _ in range(2)]
        await asyncio.sleep(1)
        permit.unused()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        (await second).unused()
        assert bucket.snapshot().free == 1

    run(backend, main)


def test_a_token_that_needed_no_wait_is_back_if_its_taker_is_cancelled(backend: str) -> None:
    """One in 32 of them lets the others run, and may be cancelled there."""

    async def main() -> None:
        bucket = TokenBucket(100)
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(100):
                await bucket.acquire()
        assert (bucket.snapshot().in_flight, bucket.snapshot().free) == (31, 69)

    run(backend, main)
