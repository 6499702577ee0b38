"""The seam through which threads run: what cancellation does to them, and how tests keep them out."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest

from desk360_async import _threads

pytestmark = pytest.mark.anyio


async def test_it_returns_what_the_function_returns_from_another_thread() -> None:
    """With its arguments."""

    def work(number: int, *, more: int) -> tuple[int, int]:
        return number + more, threading.get_ident()

    number, thread = await _threads.run(work, 1, more=2)
    assert number == 3
    assert thread != threading.get_ident()


async def test_it_raises_what_the_function_raises() -> None:
    """As it is."""
    with pytest.raises(ZeroDivisionError):
        await _threads.run(lambda: 1 // 0)


async def test_inline_it_runs_on_the_loops_own_thread() -> None:
    """And only inside the block."""
    with _threads.inline():
        assert await _threads.run(threading.get_ident) == threading.get_ident()
    assert await _threads.run(threading.get_ident) != threading.get_ident()


async def test_cancelled_before_it_starts_it_never_does() -> None:
    """A scope that is cancelled already."""
    ran: list[int] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await _threads.run(ran.append, 1)
    assert not ran


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thread_that_comes_too_late_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled between the queue for threads and the function's first line."""
    late: list[Callable[[], None]] = []
    ran: list[int] = []

    async def queue(work: Callable[[], None]) -> None:
        late.append(work)
        raise asyncio.CancelledError

    monkeypatch.setattr(anyio.to_thread, "run_sync", queue)
    with pytest.raises(asyncio.CancelledError):
        await _threads.run(ran.append, 1)
    with pytest.raises(futures.CancelledError):
        late[0]()
    assert not ran


@pytest.mark.real
async def test_a_cancelled_scope_waits_for_its_end() -> None:
    """And gets what it returned."""
    go, ran = threading.Event(), list[int]()

    def work() -> None:
        go.wait(5)
        ran.append(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_threads.run, work)
        await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
        go.set()
    assert ran == [1]


@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancelling_waits_for_its_end_as_well() -> None:
    """It breaks through anyio's shields, twice here; the thread must not be left behind."""
    go, ran = threading.Event(), list[int]()

    def work() -> None:
        go.wait(5)
        ran.append(1)

    task = asyncio.create_task(_threads.run(work))
    for _ in range(2):
        await asyncio.sleep(0.05)
        task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ran == [1]


@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancelling_in_the_queue_for_threads_starts_nothing() -> None:
    """All worker threads are busy, and the call never gets one."""
    go, ran = threading.Event(), list[int]()
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    busy = asyncio.create_task(_threads.run(go.wait, 5))
    await asyncio.sleep(0.05)
    task = asyncio.create_task(_threads.run(ran.append, 1))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await busy
    assert not ran


def test_where_the_kernel_gives_no_id_the_minute_of_the_boot_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wall clock's seconds aside, it is the same number until the next boot."""

    def refuse(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    for passed in (0.0, 3600.0):
        clock = SimpleNamespace(time=lambda at=passed: 60_030.0 + at, monotonic=lambda at=passed: at)
        monkeypatch.setattr(_threads, "time", clock)
        assert _threads.boot() == "1000"


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_forked_child_finds_each_mutex_free_and_so_does_the_parent() -> None:
    mutex = _threads.Mutex()
    if (child := os.fork()) == 0:
        with mutex:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with mutex:
        assert mutex._lock.locked()
