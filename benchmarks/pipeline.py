"""P1, P1b, P1c, P2, P6, P11: what the pipeline costs beside bare httpx (and aiohttp, for the record).

Run: python -m benchmarks.pipeline
"""

import asyncio
import builtins
import gc
import tempfile
import time
from typing import Any

import aiohttp
import httpx

from benchmarks.figures import note
from benchmarks.side_by_side import answering, compare, fresh_process
from benchmarks.stalls import Stall, longest_stall
from desk360_async import AsyncDesk360, TokenBucket

BODY = b'{"message_id":"gBEGkFBXUQRnAgnoOJ1ESPKBwME"}'
CALLS = 100  # in a round; short rounds alternate faster than a shared machine changes its speed
ROUNDS = 60
FIRST = """
import asyncio, sys
from benchmarks.stalls import first_stall
url, before = sys.argv[1:]
from desk360_async import AsyncDesk360, TokenBucket
def make():
    limiter = TokenBucket(10_000, 0.001, margin=0.0)
    return AsyncDesk360("key", integration_id=11, base_url=url, limiter=limiter)
first = make() if before else None
print(*asyncio.run(first_stall(lambda: first or make())))
"""
MADE = {"before its loop": "before", "on its loop": ""}  # where a process makes its first client
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
        await compare("P1", runs, calls=CALLS, rounds=ROUNDS, goals={"httpx.post": 1.0})
        async with client(url, http="httpx2") as fork:

            async def with_fork() -> None:
                for _ in range(CALLS):
                    await fork.send_text("+905551112233", "Hello!")

            pair = {"send_text, http='httpx2'": with_fork, "httpx.post": with_httpx}
            await compare("P1b", pair, calls=CALLS, rounds=ROUNDS, goals={"httpx.post": 0.9})


async def p1c(url: str) -> None:
    """CPU of a send while 20 are under way, over bare httpx's."""
    target = f"{url}/v1/integrations/11/conversations/messages"
    fields = {"to": "+905551112233", "text": "Hello!"}
    async with client(url) as ours, httpx.AsyncClient(headers={"Authorization": "Bearer key"}) as bare:

        async def with_ours() -> None:
            for _ in range(CALLS // 20):
                await asyncio.gather(*(ours.send_text("+905551112233", "Hello!") for _ in range(20)))

        async def post() -> None:
            (await bare.post(target, json=fields)).raise_for_status().json()

        async def with_httpx() -> None:
            for _ in range(CALLS // 20):
                await asyncio.gather(*(post() for _ in range(20)))

        runs = {"20 sends at once": with_ours, "httpx, 20 at once": with_httpx}
        await compare("P1c", runs, calls=CALLS, rounds=ROUNDS, goals={"httpx, 20 at once": 1.0})


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
    note("P2 failing imports a request", [len(failed) / 100], 0, unit="")


async def p6(url: str) -> None:
    """CPU of a second client, and the loop's longest stall while one is made and first used."""

    async def make() -> None:
        async with client(url) as ours:
            await ours.send_text("+905551112233", "Hello!")

    async def idle() -> None:
        await asyncio.sleep(0.1)

    await make()
    costs = []
    for _ in range(50):
        before = time.process_time()
        async with client(url):
            costs.append((time.process_time() - before) * 1000)
    note("P6 a second client, CPU", costs, unit="ms")
    with tempfile.TemporaryDirectory() as cache:
        for made, where in MADE.items():
            stalls = [Stall(*fresh_process(FIRST, cache, url, where)) for _ in range(12)][1:]
            note_stall(f"the first client, made {made}", stalls, 2.5)
    note_stall("a later client", [await longest_stall(make) for _ in range(11)])
    note_stall("idle", [await longest_stall(idle) for _ in range(11)])


def note_stall(name: str, stalls: list[Stall], goal: float | None = None) -> None:
    """Print the stalls as they were, and without the time that other programs took."""
    note(f"P6 longest stall, {name}", [each.wall for each in stalls], goal, unit="ms")
    note(f"P6 the same, at most our CPU in it, {name}", [each.own for each in stalls], goal, unit="ms")


async def p11(url: str) -> None:
    """The loop's longest stall while 1,000 callers wait for 10 connections, both sides warm."""
    target = f"{url}/v1/integrations/11/conversations/messages"
    pairs: list[list[Stall]] = []
    async with client(url, max_connections=10) as ours, httpx.AsyncClient(timeout=60) as bare:
        turns = asyncio.Semaphore(10)  # as its users do it: its pool scans all that wait

        async def post() -> None:
            async with turns:
                await bare.post(target, json={"to": "+905551112233", "text": "Hello!"})

        async def with_ours() -> None:
            await asyncio.gather(*(ours.send_text("+905551112233", "Hello!") for _ in range(1000)))

        async def with_httpx() -> None:
            await asyncio.gather(*(post() for _ in range(1000)))

        for _ in range(12):
            pair: list[Stall] = []
            for side in (with_ours, with_httpx):
                gc.collect()  # else a full collection of the process's heap, 40 ms, falls into either side
                pair.append(await longest_stall(side))
            pairs.append(pair)
    del pairs[0]  # both sides were cold
    name, peer = "P11 longest stall with 1,000 callers", "warm httpx, Semaphore(10)"
    note(f"{name}, ours", [ours.wall for ours, _ in pairs], unit="ms")
    note(f"{name}, httpx", [theirs.wall for _, theirs in pairs], unit="ms")
    note(name, [ours.wall / theirs.wall for ours, theirs in pairs], 1.2, peer=peer)
    note(f"{name}, our CPU in it", [ours.own / theirs.own for ours, theirs in pairs], 1.2, peer=peer)


async def main() -> None:
    """Print all figures of this file."""
    with answering(BODY) as url:
        await p6(url)
        await p1(url)
        await p1c(url)
        await p2(url)
        await p11(url)


if __name__ == "__main__":
    asyncio.run(main())
