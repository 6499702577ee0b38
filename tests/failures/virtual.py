"""Virtual time for these tests: trio's clock jumps to the next deadline, threads run inline."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from desk360_async import _threads


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function to its end, without waiting for anything."""

    async def inline() -> Any:
        with _threads.inline():
            return await work()

    return trio.run(inline, clock=trio.testing.MockClock(autojump_threshold=0))
