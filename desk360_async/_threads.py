"""Worker threads for blocking code, and tasks that outlive their caller.

Everything that would block the event loop (files, SQLite, name resolution) goes through `run`, for two
reasons: the effect of a cancellation on a thread is decided once, and tests in virtual time can keep the
thread out of it (trio's `MockClock` jumps ahead while a thread works).
"""

import contextvars
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import sniffio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["Mutex", "boot", "detach", "inline", "monotonic", "run", "start"]

P = ParamSpec("P")
T = TypeVar("T")

_inline: ContextVar[bool] = ContextVar("desk360_async_inline", default=False)


@contextmanager
def inline() -> Generator[None]:
    """Run the functions given to `run` on the event loop's own thread, in this context and its children.

    For tests in virtual time only: it blocks the loop for as long as the function takes.
    """
    token = _inline.set(True)
    try:
        yield
    finally:
        _inline.reset(token)


def monotonic() -> float:
    """Return `time.monotonic()`, which all threads and processes of a host share; inline, the loop's time."""
    return anyio.current_time() if _inline.get() else time.monotonic()


def boot() -> str:
    """Return an id of this run of the machine: `monotonic` of another run can't be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Elsewhere the minute of the boot. Setting the wall clock then looks like a reboot.
        return f"{(time.time() - time.monotonic()) // 60:.0f}"


def start(executor: "Executor", func: Callable[[], None]) -> None:
    """Let `func` run in the executor's thread, and don't wait for it; inline, run it at once."""
    if _inline.get():
        func()
    else:
        executor.submit(func)


async def run(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `func` in a worker thread and return its result, or raise its error.

    A cancellation comes either before `func` starts, and then it never will, or after it has ended: a
    thread can't be stopped, and one left behind would go on using files that its caller cleans up.
    """
    if _inline.get():
        await checkpoint()
        return func(*args, **kwargs)
    from concurrent.futures import CancelledError, Future  # pulls in much: not for an import of this package

    life: Future[None] = Future()

    def work() -> T:
        if not life.set_running_or_notify_cancel():
            raise CancelledError  # the caller is gone
        try:
            return func(*args, **kwargs)
        finally:
            life.set_result(None)

    try:
        return await anyio.to_thread.run_sync(work)
    except anyio.get_cancelled_exc_class():
        if not life.cancel() and not life.done():
            await _ended(life)
        raise


async def _ended(life: "Future[None]") -> None:
    """Wait for the thread's end, however often the task is cancelled meanwhile.

    Only asyncio's own `Task.cancel` (so `asyncio.timeout` too) gets here: it breaks through anyio's shields.
    """
    import asyncio

    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: "Future[None]") -> None:
        loop.call_soon_threadsafe(done.set)

    life.add_done_callback(tell)
    while not done.is_set():
        with anyio.CancelScope(shield=True):
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue


class Mutex:
    """A lock between threads that a forked child finds free.

    A fork copies a lock that another thread holds, but not that thread: the child would wait for ever. So
    each fork takes all of them first. No thread may hold two at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _mutexes.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_mutexes: "weakref.WeakSet[Mutex]" = weakref.WeakSet()
_held: list[Mutex] = []
_FORK_PATIENCE = 5.0  # seconds; the package holds a mutex for milliseconds


def _before_fork() -> None:
    _held[:] = [mutex for mutex in list(_mutexes) if mutex._lock.acquire(timeout=_FORK_PATIENCE)]


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_fork_in_child() -> None:
    _held.clear()
    for mutex in list(_mutexes):
        mutex._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


# asyncio keeps only weak references to its tasks: without this set, one may be collected half-way.
_running: set[object] = set()


def detach(function: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run an async function in the background of the current event loop; it must not raise.

    anyio has no such task, since a task that is never awaited can't report its errors.
    """
    if sniffio.current_async_library() == "trio":
        import trio

        trio.lowlevel.spawn_system_task(function, *args, context=contextvars.copy_context())
        return
    import asyncio

    async def run_it() -> None:
        await function(*args)

    task = asyncio.get_running_loop().create_task(run_it())
    _running.add(task)
    task.add_done_callback(_running.discard)
