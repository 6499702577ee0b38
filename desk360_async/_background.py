"""A task that outlives its caller. anyio has none, since it can't be awaited; so each backend's own."""

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import sniffio

# asyncio holds its tasks weakly: without this, one may be collected half-way.
_running: set[object] = set()


def start(function: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run an async function in the background of the current event loop; it must not raise."""
    if sniffio.current_async_library() == "trio":
        import trio

        trio.lowlevel.spawn_system_task(function, *args, context=contextvars.copy_context())
        return
    import asyncio

    async def run() -> None:
        await function(*args)

    task = asyncio.get_running_loop().create_task(run())
    _running.add(task)
    task.add_done_callback(_running.discard)
