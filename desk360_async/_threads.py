"""Worker threads for blocking code, and background tasks: work that outlives its caller, and shared commits.

Everything that would block the event loop (files, SQLite, name resolution) goes through `run`, for two
reasons. The effect of a cancellation on a thread is decided in one place. Tests in virtual time can run the
function without a thread (trio's `MockClock` jumps ahead while a thread works).

`Gathering` commits in a background task: the calls that arrive while a commit runs share the next one, and
there is no timer. A durable commit costs milliseconds, and a hundred items in one transaction cost as much as
one item.
"""

import contextvars
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import sniffio
from anyio.lowlevel import checkpoint
from attrs import define, field

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = [
    "PATIENCE",
    "Gathering",
    "Mutex",
    "boot",
    "call_later",
    "detach",
    "inline",
    "is_inline",
    "loop_time",
    "monotonic",
    "run",
    "run_or_cut",
    "start",
]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 5.0  # seconds that a cancelled caller, or an aborted run, waits before it cuts a thread's work
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


def is_inline() -> bool:
    """Return whether `inline` is in effect here: functions run on the event loop's own thread."""
    return _inline.get()


def monotonic() -> float:
    """Return `time.monotonic()`, one clock for all processes of a host; under `inline`, the loop's time."""
    return anyio.current_time() if _inline.get() else time.monotonic()


def loop_time() -> float:
    """Return the event loop's time, in a callback of asyncio's loop too: it has no task, so anyio raises."""
    try:
        return anyio.current_time()
    except RuntimeError:
        import asyncio

        return asyncio.get_running_loop().time()


def call_later(seconds: float, function: Callable[..., object], *args: Any) -> Any:
    """Let asyncio's loop call a function after some seconds; return a handle with `cancel`."""
    import asyncio

    return asyncio.get_running_loop().call_later(seconds, function, *args)


def boot() -> str:
    """Return an id of the machine's current boot; times of `monotonic` compare only within one boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Other systems: the minute of the boot by the wall clock. Setting that clock looks like a reboot.
        return f"{(time.time() - time.monotonic()) // 60:.0f}"


def start(executor: "Executor", func: Callable[[], None]) -> None:
    """Start `func` in the executor's thread without waiting for it; under `inline`, run it at once."""
    if _inline.get():
        func()
    else:
        executor.submit(func)


async def run(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `func` in a worker thread and return its result, or raise its error.

    A cancellation before `func` starts prevents the start. A later cancellation waits until `func` has
    ended. A thread can't be stopped, and without the wait it would use files that its caller cleans up.
    """
    return await run_or_cut(None, func, *args, **kwargs)


async def run_or_cut(
    cut: Callable[[], object] | None, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Do as `run`. After a cancellation, call `cut` each `PATIENCE` seconds until `func` has ended.

    `cut` makes `func` fail, such as by shutting its socket. Only asyncio's own `Task.cancel` starts the
    seconds, as Ctrl-C and `asyncio.timeout` do. A scope of anyio or trio waits without an end.
    """
    if _inline.get():
        await checkpoint()
        return func(*args, **kwargs)
    begun, end = threading.Lock(), _End()  # the thread takes the lock, or a caller that gives up

    def work() -> T:
        if not begun.acquire(blocking=False):
            from concurrent.futures import CancelledError  # pulls in much: not for an import of this package

            raise CancelledError  # the caller is gone
        try:
            return func(*args, **kwargs)
        finally:
            end.set()

    try:
        return await anyio.to_thread.run_sync(work)
    except anyio.get_cancelled_exc_class():
        if not begun.acquire(blocking=False) and not end.is_set:
            await end.wait(cut)
        raise


class _End:
    """The end of a function in a thread. A `Future` costs a tenth of the whole call.

    Attributes:
        is_set: whether the function has ended.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._wake: Callable[[], object] | None = None

    def set(self) -> None:
        """Wake the caller if it waits; called in the thread."""
        self.is_set = True
        if self._wake is not None:
            self._wake()

    async def wait(self, cut: Callable[[], object] | None) -> None:
        """Wait for the end, however often the task is cancelled; call `cut` each `PATIENCE` seconds.

        Only asyncio's own `Task.cancel` makes it wait (also by `asyncio.timeout`): anyio's shields don't stop
        it.
        """
        import asyncio

        loop, done = asyncio.get_running_loop(), asyncio.Event()
        self._wake = partial(loop.call_soon_threadsafe, done.set)

        def give_up(cut: Callable[[], object]) -> None:
            if not self.is_set:
                cut()
                call_later(PATIENCE, give_up, cut)

        if cut is not None:
            call_later(PATIENCE, give_up, cut)
        while not self.is_set:
            with anyio.CancelScope(shield=True):
                try:
                    await done.wait()
                except asyncio.CancelledError:
                    continue


class Mutex:
    """A lock between threads that a forked child finds free.

    A fork copies a held lock without the thread that holds it: the child would wait for ever. So each fork
    takes all mutexes first. No thread may hold two mutexes at once.
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
    """Run an async function in the background of the current event loop; the function must not raise.

    anyio has no such task, since a task that is never awaited can't report its errors.
    """
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:  # in a callback of asyncio's loop, which has no task
        library = "asyncio"
    if library == "trio":
        import trio

        trio.lowlevel.spawn_system_task(function, *args, context=contextvars.copy_context())
        return
    import asyncio

    async def run_it() -> None:
        await function(*args)

    task = asyncio.get_running_loop().create_task(run_it())
    _running.add(task)
    task.add_done_callback(_running.discard)


# ── commits shared by concurrent calls ──────────────────────────────────────────────────────────────────────


IDLE = 5.0  # seconds after which an unused file is closed
MOST = 10_000  # calls that share one commit


@define(eq=False)
class _Call(Generic[T, R]):
    item: T
    done: anyio.Event  # of all calls that share the commit
    results: list[R] = field(factory=list[R])
    error: BaseException | None = None


async def _keep_open() -> None:
    """Close nothing."""


class Gathering(Generic[T, R]):
    """Gathers the items of concurrent calls into few commits.

    A background task commits while there are items, and ends after `idle` seconds without any. The items of
    a cancelled call are committed too.

    Args:
        commit: stores the items of several calls durably, in the order of arrival, and returns a result for
            each item. If it raises for several items, each is committed on its own, so that one bad item
            fails its own call only.
        close: closes the file; called after `idle` seconds without items, and by `aclose`.
        idle: seconds.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[Sequence[R]]],
        *,
        close: Callable[[], Awaitable[None]] = _keep_open,
        idle: float = IDLE,
    ) -> None:
        self._commit = commit
        self._close = close
        self._idle = idle
        self._rounds: deque[list[_Call[T, R]]] = deque()  # each list is one commit
        self._wake: anyio.Event | None = None  # set while the background task runs
        self._ended: anyio.Event | None = None
        self._closing = False

    async def add(self, item: T) -> R:
        """Return the item's result once its commit is durable.

        Raises:
            BaseException: the error of the commit.
        """
        call = self.post(item)
        await call.done.wait()
        if call.error is not None:
            raise call.error
        return call.results[0]

    def post(self, item: T) -> _Call[T, R]:
        """Add an item to the next commit, without waiting for the commit."""
        is_first = not self._rounds or len(self._rounds[-1]) >= MOST
        # A subscript where the class is called, `_Call[T, R](...)`, takes longer than the call.
        call: _Call[T, R] = _Call(item, anyio.Event() if is_first else self._rounds[-1][0].done)
        if is_first:
            self._rounds.append([call])
        else:
            self._rounds[-1].append(call)
        if self._wake is None:
            self._wake, self._ended = anyio.Event(), anyio.Event()
            detach(self._run, self._wake, self._ended)
        else:
            self._wake.set()
        return call

    async def aclose(self) -> None:
        """Commit the waiting calls, and close the file now."""
        if self._wake is not None and self._ended is not None:
            self._closing = True
            self._wake.set()
            await self._ended.wait()
            self._closing = False

    async def _run(self, wake: anyio.Event, ended: anyio.Event) -> None:
        try:
            while True:
                while self._rounds:
                    await checkpoint()  # the callers of the last commit may join the next one
                    calls = self._rounds.popleft()
                    try:
                        await self._settle(calls)
                    except BaseException as error:
                        for call in calls:
                            if not call.results and call.error is None:
                                call.error = error
                        raise
                    finally:
                        calls[0].done.set()
                self._wake = wake = anyio.Event()
                if not self._closing:
                    with anyio.move_on_after(self._idle):
                        await wake.wait()
                if not self._rounds:
                    break
        finally:
            self._wake = None
            left, self._rounds = self._rounds, deque()
            for call in chain(*left):  # the event loop ends
                call.error = RuntimeError("the event loop ended before the commit")
                call.done.set()
            with anyio.CancelScope(shield=True):
                await self._close()
            ended.set()

    async def _settle(self, calls: list[_Call[T, R]]) -> None:
        try:
            results = await self._commit([call.item for call in calls])
        except Exception as error:  # noqa: BLE001 - the callers raise it
            if len(calls) > 1:
                for call in calls:
                    await self._settle([call])
                return
            calls[0].error = error
        else:
            for call, result in zip(calls, results, strict=True):
                call.results.append(result)
