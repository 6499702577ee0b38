"""P1, P2, P6, P11: what the pipeline costs beside bare httpx (and aiohttp, for the record).

Run: python -m benchmarks.pipeline
"""

import asyncio
import builtins
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx

from benchmarks.side_by_side import answering, compare, spread
from desk360_async import AsyncDesk360, TokenBucket

BODY = b'{"message_id":"gBEGkFBXUQRnAgnoOJ1ESPKBwME"}'
CALLS = 400
FAST = {"limit": 10_000, "period": 0.001}


def client(url: str, **options: Any) -> AsyncDesk360:
    """Make a client whose limiter never makes it wait: the limiter's cost is measured, not its waits."""
    limiter = TokenBucket(**FAST, margin=0.0)
    return AsyncDesk360("key", integration_id=11, base_url=url, limiter=limiter, **options)


async def p1(url: str) -> None:
    """CPU of `send_text`, whole pipeline, over bare httpx's post, raise_for_status and json."""
    target = f"{url}/v1/integrations/11/conversations/messages"
    headers = {"Authorization": "Bearer key"}
    fields = {"to": "+905551112233", "text": "Hello!"}
    async with (
        client(url) as ours,
        httpx.AsyncClient(headers=headers) as bare,
        aiohttp.ClientSession(headers=headers) as session,
    ):

        async def with_ours() -> None:
            for _ in range(CALLS):
                await ours.send_text("+905551112233", "Hello!")

        async def with_httpx() -> None:
            for _ in range(CALLS):
                response = await bare.post(target, json=fields)
                response.raise_for_status().json()

        async def with_aiohttp() -> None:
            for _ in range(CALLS):
                async with session.post(target, json=fields) as response:
                    response.raise_for_status()
                    await response.json()

        runs = {"send_text": with_ours, "httpx.post": with_httpx, "aiohttp.post": with_aiohttp}
        await compare("P1", runs, calls=CALLS, rounds=15)


async def p2(url: str) -> None:
    """Imports that fail, a request."""
    failed: list[str] = []
    original = builtins.__import__

    def watching(name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(name, *args, **kwargs)
        except ImportError:
            failed.append(name)
            raise

    async with client(url) as ours:
        await ours.send_text("+905551112233", "Hello!")
        builtins.__import__ = watching
        try:
            for _ in range(100):
                await ours.send_text("+905551112233", "Hello!")
        finally:
            builtins.__import__ = original
    print(f"P2  failing imports a request: {len(failed) / 100:g} {sorted(set(failed)) or ''}")


async def longest_stall(work: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds by which a heartbeat of 1 ms came late at most, while something works."""
    worst = 0.0
    done = asyncio.Event()

    async def beat() -> None:
        nonlocal worst
        while not done.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - before - 0.001)

    heart = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    await work()
    done.set()
    await heart
    return worst * 1000


async def p6(url: str) -> None:
    """CPU of a second client, and the loop's longest stall while one is made and first used."""

    async def make() -> None:
        async with client(url) as ours:
            await ours.send_text("+905551112233", "Hello!")

    async def idle() -> None:
        await asyncio.sleep(0.1)

    first = await longest_stall(make)
    costs = []
    for _ in range(50):
        before = time.process_time()
        ours = client(url)
        await ours._pipeline.connected()
        costs.append((time.process_time() - before) * 1000)
        await ours.aclose()
    stalls = [await longest_stall(make) for _ in range(9)]
    idles = [await longest_stall(idle) for _ in range(9)]
    print(f"P6  a second client: {spread(costs)} ms CPU")
    print(f"P6  longest stall, the first client: {first:.2f} ms")
    print(f"P6  longest stall, a later one: {spread(stalls)} ms; idle: {spread(idles)} ms")


async def p11(url: str) -> None:
    """The loop's longest stall while 1,000 callers wait for 10 connections."""
    target = f"{url}/v1/integrations/11/conversations/messages"
    limits = httpx.Limits(max_connections=10)
    ratios, ours_ms, bare_ms = [], [], []
    for _ in range(5):
        peer = httpx.AsyncClient(limits=limits, timeout=60)
        async with client(url, max_connections=10) as ours, peer as bare:

            async def with_ours(ours: AsyncDesk360 = ours) -> None:
                await asyncio.gather(*(ours.send_text("+905551112233", "Hello!") for _ in range(1000)))

            async def with_httpx(bare: httpx.AsyncClient = bare) -> None:
                await asyncio.gather(*(bare.post(target, json={"to": "+905551112233"}) for _ in range(1000)))

            ours_ms.append(await longest_stall(with_ours))
            bare_ms.append(await longest_stall(with_httpx))
            ratios.append(ours_ms[-1] / bare_ms[-1])
    print(f"P11 longest stall with 1,000 callers: ours {spread(ours_ms)} ms, httpx {spread(bare_ms)} ms")
    print(f"P11 ours / httpx: {spread(ratios)}")


async def main() -> None:
    """Print all figures of this file."""
    with answering(BODY) as url:
        await p6(url)
        await p1(url)
        await p2(url)
        await p11(url)


if __name__ == "__main__":
    asyncio.run(main())
