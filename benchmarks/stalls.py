"""How long an event loop is held up; this module imports nothing that a first client would load.

A stall is measured twice. By the clock it holds what other programs on the machine took meanwhile; on a
quiet machine both are the same.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

BEAT = 0.001  # seconds between two beats


class Stall(NamedTuple):
    """The longest stall of a loop, in milliseconds.

    Attributes:
        wall: by the clock.
        own: at most the CPU of this process, all its threads, in the same time.
    """

    wall: float
    own: float


async def longest_stall(work: Callable[[], Awaitable[object]]) -> Stall:
    """Return by how much a heartbeat came late at most, while something works."""
    late: list[Stall] = [Stall(0.0, 0.0)]
    done = asyncio.Event()

    async def beat() -> None:
        while not done.is_set():
            before, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(BEAT)
            wall = time.perf_counter() - before - BEAT
            late.append(Stall(1000 * wall, 1000 * min(wall, time.process_time() - cpu)))

    heart = asyncio.create_task(beat())
    await asyncio.sleep(10 * BEAT)
    await work()
    done.set()
    await heart
    return Stall(max(each.wall for each in late), max(each.own for each in late))


async def first_stall(make: Callable[[], Any]) -> Stall:
    """Return the longest stall by a client's making, first send and end."""

    async def use() -> None:
        async with make() as ours:
            await ours.send_text("+905551112233", "Hello!")

    return await longest_stall(use)
