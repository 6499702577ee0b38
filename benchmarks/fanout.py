"""P10, P22: what fan-out costs over a sequential loop, its flat memory, and short lists on an idle account.

Run: python -m benchmarks.fanout
"""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx

from benchmarks.figures import note
from benchmarks.side_by_side import compare
from desk360_async import AsyncDesk360, TextMessage, TokenBucket
from desk360_async._fanout import Results

CALLS = 20_000
MESSAGE = TextMessage("+905551112233", "Hello!")
BODY = b'{"message_id":"gBEGkFBXUQRnAgnoOJ1ESPKBwME"}'


class NoWire(httpx.AsyncBaseTransport):
    """Answers at once."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Accept any message."""
        return httpx.Response(200, headers={"content-type": "application/json"}, content=BODY)


class Far(NoWire):
    """Answers after 0.3 s."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Accept any message, and count the requests that are under way."""
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.3)
        self.now -= 1
        return await super().handle_async_request(request)


async def messages(count: int) -> AsyncIterator[TextMessage]:
    """Yield messages from an async iterator."""
    for _ in range(count):
        yield MESSAGE


async def no_op(index: int, item: Any, message: Any, brake: Any, sink: Any) -> None:
    """Take the pipeline's place: what remains is the fan-out's own cost."""
    await asyncio.sleep(0)
    sink(item)


async def p10() -> None:
    """Compare a fan-out of no-op sends with a loop over the same."""

    async def unordered() -> None:
        async with Results(lambda: no_op, messages(CALLS), None, print, concurrency=8) as results:
            async for _ in results:
                pass

    async def ordered() -> None:
        async with Results(lambda: no_op, enumerate_messages(CALLS), None, print, concurrency=8) as results:
            sorted([result async for result in results], key=lambda pair: pair[0])  # type: ignore[index]  # the no-op's own

    async def loop() -> None:
        async for message in messages(CALLS):
            await no_op(0, message, message, None, lambda _: None)

    await compare("P10", {"send_each": unordered, "a loop": loop}, calls=CALLS)
    await compare("P10", {"send_all": ordered, "a loop": loop}, calls=CALLS)


async def enumerate_messages(count: int) -> AsyncIterator[tuple[int, TextMessage]]:
    """Yield messages with their place."""
    for index in range(count):
        yield index, MESSAGE


async def memory() -> None:
    """Print the most that `send_each` holds beyond what it began with, for two lengths of input."""
    for count in (10_000, 1_000_000):
        tracemalloc.start()
        async with Results(lambda: no_op, messages(count), None, print, concurrency=8) as results:
            before, _ = tracemalloc.get_traced_memory()
            async for _ in results:
                pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"P10 {count:>9,} messages: {(peak - before) / 1024:.0f} KiB held at most")


async def whole() -> None:
    """Print the whole pipeline's time a message, without a wire."""
    limiter = TokenBucket(10_000, 0.001, margin=0.0)
    async with AsyncDesk360("key", integration_id=11, transport=NoWire(), limiter=limiter) as client:

        async def fan_out() -> None:
            async with client.send_each(messages(2000), lane="interactive") as results:
                async for result in results:
                    result.unwrap()

        async def loop() -> None:
            async for message in messages(2000):
                await client.send(message)

        await compare(
            "P10",
            {"client.send_each": fan_out, "await client.send": loop},
            calls=2000,
            goals={"await client.send": 1.15},
        )


async def p22() -> None:
    """Send short lists by the limiter of 60 a minute, which nothing used before."""
    for count in (12, 30):
        most, seconds = [], []
        for _ in range(5):
            wire = Far()
            async with AsyncDesk360(
                "key", integration_id=11, transport=wire, limiter=TokenBucket()
            ) as client:
                before = time.perf_counter()
                await client.send_all([MESSAGE] * count)
                seconds.append(time.perf_counter() - before)
            most.append(wire.most)
        note(f"P22 a list of {count}, requests in flight at most", most, 8, unit="", at_least=True)
        note(f"P22 a list of {count}, an answer takes 0.3 s", seconds, 2, unit="s")


async def main() -> None:
    """Print all figures of this file."""
    await p22()
    await p10()
    await whole()
    await memory()


if __name__ == "__main__":
    asyncio.run(main())
