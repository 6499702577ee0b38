"""One limit for all processes of a host; those of this file are several limiters on one file."""

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from desk360_async import ConfigurationError, HostLimiter, RateLimitWaitTooLong, _token_file
from desk360_async._bucket import Lane
from tests.limiter.servers import SERVERS, one_of_each
from tests.limiter.virtual import Network, run

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., HostLimiter]]:
    """Make limiters on one file."""
    made: list[HostLimiter] = []

    def make(limit: int = 60, **options: float) -> HostLimiter:
        made.append(HostLimiter(tmp_path / "limit.db", limit=limit, **options))  # type: ignore[arg-type] # any option
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
@BACKENDS
def test_three_of_them_are_never_refused_and_use_the_limit(
    make: Callable[..., HostLimiter], lane: Lane, backend: str
) -> None:
    """Whatever the server's way of counting; in virtual time, on one file."""
    network = Network(SERVERS[0](60, 60.0), random.Random(4), 0.25, 0.25, witnesses=one_of_each(60, 60.0))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(network.saturate, make(), lane, 22, 185.0)

    run(backend, main)
    assert (network.statuses[429], network.refused_by) == (0, {})
    assert network.statuses[200] >= 178


@BACKENDS
def test_what_one_learns_all_know(make: Callable[..., HostLimiter], backend: str) -> None:
    """The pause after a refusal, and the limit."""

    async def main() -> None:
        one, two = make(), make()
        first, second = await one.acquire(), await one.acquire()
        first.done(429, {"retry-after": "9", "x-ratelimit-limit": "5"})
        second.done(429, {"retry-after": "9", "x-ratelimit-limit": "5"})
        start = anyio.current_time()
        (await two.acquire()).lost()
        assert anyio.current_time() - start == pytest.approx(10.0)
        status = two.snapshot()
        assert (status.limit, status.free, status.in_flight, status.paused_until) == (5, 2, 0, None)

    run(backend, main)


@BACKENDS
def test_a_limiter_that_died_wastes_its_tokens_for_a_bounded_time(
    make: Callable[..., HostLimiter], backend: str
) -> None:
    """Attempt, grace and period; nothing sooner, nothing for ever."""

    async def main() -> None:
        dead, heir = make(2, attempt_timeout=10.0), make(2, attempt_timeout=10.0)
        await dead.acquire()
        await dead.acquire()
        start = anyio.current_time()
        with pytest.raises(RateLimitWaitTooLong):
            await heir.acquire("interactive", 99.0)
        await heir.acquire()
        assert anyio.current_time() - start == pytest.approx(100.05, abs=0.1)

    run(backend, main)


@BACKENDS
def test_an_unused_token_is_free_again(make: Callable[..., HostLimiter], backend: str) -> None:
    """And only its first end counts."""

    async def main() -> None:
        limiter = make(1)
        for _ in range(3):
            permit = await limiter.acquire("interactive", 0.0)
            permit.unused()
            permit.done(200, {})
        assert limiter.snapshot().free == 1

    run(backend, main)


@BACKENDS
def test_order_is_kept_and_deadlines_too(make: Callable[..., HostLimiter], backend: str) -> None:
    """First come, first served; who can't be in time is told at once."""
    served: list[int] = []

    async def send(limiter: HostLimiter, number: int) -> None:
        (await limiter.acquire()).done(200, {})
        served.append(number)

    async def main() -> None:
        limiter = make(1, period=10.0)
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(send, limiter, number)
                await anyio.sleep(0.1)
            start = anyio.current_time()
            with pytest.raises(RateLimitWaitTooLong) as caught:
                await limiter.acquire("interactive", 15.0)
            assert (anyio.current_time(), caught.value.eta > 15) == (start, True)
            with pytest.raises(RateLimitWaitTooLong):
                await limiter.acquire("bulk", 35.0)

    run(backend, main)
    assert served == [0, 1, 2, 3]


@BACKENDS
def test_who_stands_in_line_gives_up_in_time(make: Callable[..., HostLimiter], backend: str) -> None:
    """Requests under way might have ended any moment, and never did."""

    async def main() -> None:
        limiter = make(2, period=10.0)
        await limiter.acquire(), await limiter.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(1)
            start = anyio.current_time()
            with pytest.raises(RateLimitWaitTooLong):
                await limiter.acquire("interactive", 20.0)
            assert anyio.current_time() == start + 20
            tasks.cancel_scope.cancel()

    run(backend, main)


@BACKENDS
def test_a_cancelled_waiter_loses_no_token(make: Callable[..., HostLimiter], backend: str) -> None:
    """Whether first in line or not."""

    async def main() -> None:
        limiter = make(1, period=10.0)
        permit = await limiter.acquire()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(limiter.acquire)
            await anyio.sleep(1)
            assert limiter.snapshot().waiting == {"interactive": 5, "bulk": 0}
            tasks.cancel_scope.cancel()
        permit.unused()
        await limiter.acquire("interactive", 0.0)
        assert limiter.snapshot().waiting == {"interactive": 0, "bulk": 0}

    run(backend, main)


@BACKENDS
def test_bulk_stands_back_for_another_processs_interactive_requests(
    make: Callable[..., HostLimiter], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it said so less than a second ago; a whole period of waiting entitles it to every tenth token."""
    order: list[Lane] = []

    async def wait(limiter: HostLimiter, lane: Lane) -> None:
        while len(order) < 40:
            permit = await limiter.acquire(lane)
            order.append(lane)
            permit.done(200, {})

    async def main() -> None:
        one, two = make(5, period=10.0, reserve=0), make(5, period=10.0, reserve=0)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(wait, one, "interactive")
            await anyio.sleep(1)
            tasks.start_soon(wait, two, "bulk")

    run(backend, main)
    assert order.index("bulk") in range(9, 16)
    assert 2 <= order.count("bulk") <= 4


def test_a_reboot_is_bridged_by_the_wall_clock(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock begins anew; what was away is back by the time of day."""

    async def full() -> None:
        for _ in range(3):
            (await make(3).acquire()).done(200, {})

    async def later() -> float:
        with pytest.raises(RateLimitWaitTooLong) as caught:
            await make(3).acquire("interactive", 1.0)
        return caught.value.eta

    def boot(name: str, wall: float) -> None:
        monkeypatch.setattr(_token_file, "_boot_id", lambda: name)
        monkeypatch.setattr(_token_file, "time", SimpleNamespace(time=lambda: wall))

    boot("one", 1e9)
    run("asyncio", full)
    boot("another", 1e9 + 20)
    assert run("asyncio", later) == pytest.approx(40.05)
    boot("a third", 1e9 - 10_000)
    assert run("asyncio", later) == pytest.approx(40.05)


def test_nothing_in_the_file_is_further_off_than_a_token_can_be(
    make: Callable[..., HostLimiter], tmp_path: Path
) -> None:
    """Some clock was wrong: clamped, so that nobody waits for ever."""

    async def status() -> float:
        limiter = make(1)
        with pytest.raises(RateLimitWaitTooLong) as caught:
            await limiter.acquire("interactive", 1.0)
        return caught.value.eta

    async def touch() -> None:
        (await make(1).acquire()).done(200, {})

    run("asyncio", touch)
    with sqlite3.connect(tmp_path / "limit.db") as db:
        db.execute("UPDATE token SET returns = 1e9")
        db.execute("UPDATE state SET gate = 1e9")
    db.close()
    assert run("asyncio", status) <= 211


def test_a_learned_limit_outlives_the_process_but_a_configured_one_does_not(
    make: Callable[..., HostLimiter],
) -> None:
    """Who is started with another limit, and has learned nothing, gets that."""

    async def limit(configured: int, told: int | None = None, **options: bool) -> int:
        limiter = make(configured, **options)
        for _ in range(2):
            (await limiter.acquire()).done(200, {} if told is None else {"x-ratelimit-limit": str(told)})
        (await limiter.acquire()).unused()
        return limiter.snapshot().limit

    assert run("asyncio", limit, 60) == 60
    assert run("asyncio", limit, 30) == 30
    assert run("asyncio", limit, 30, 100) == 100
    assert run("asyncio", limit, 60) == 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, backend: str) -> None:
    """And so is the fix."""

    async def main(path: Path) -> None:
        limiter = HostLimiter(path)
        with pytest.raises(ConfigurationError, match="a file on a local disk"):
            await limiter.acquire()
        limiter.close()

    (tmp_path / "garbage").write_text("no database " * 1000)
    for path in (tmp_path, tmp_path / "missing" / "limit.db", tmp_path / "garbage"):
        run(backend, main, path)


def test_an_end_that_cannot_be_written_is_no_error(make: Callable[..., HostLimiter], tmp_path: Path) -> None:
    """The token comes back at its pessimistic time; nothing is raised into the request."""

    async def main() -> None:
        limiter = make()
        permit = await limiter.acquire()
        limiter.close()
        for file in tmp_path.iterdir():
            file.unlink()
        tmp_path.rmdir()
        permit.done(200, {})

    run("asyncio", main)


def test_arguments_are_checked_like_a_token_buckets(tmp_path: Path) -> None:
    """Before any file is touched."""
    with pytest.raises(ConfigurationError, match="limit is 0"):
        HostLimiter(tmp_path / "limit.db", limit=0)
    limiter = HostLimiter(tmp_path / "limit.db")
    limiter.seed([1.0])
    assert repr(limiter) == f"<HostLimiter {tmp_path / 'limit.db'}>"
    assert limiter.snapshot().free == 60
    assert not list(tmp_path.iterdir())


def test_a_machine_without_boot_ids_goes_by_the_minute_of_its_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than Linux; the wall clock may be corrected by seconds."""
    monkeypatch.setattr(_token_file, "Path", lambda _: Path("/nowhere/boot_id"))
    clocks = SimpleNamespace(time=lambda: 7290.0, monotonic=lambda: 60.0)
    monkeypatch.setattr(_token_file, "time", clocks)
    assert _token_file._boot_id() == "120"


def test_a_child_process_leaves_its_parents_connection_alone(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To use it, or only to close it, would break the parent's locks."""
    file = make()._file
    with file.transaction() as (parents, *_):
        pass
    monkeypatch.setattr(_token_file, "os", SimpleNamespace(getpid=lambda: -1))
    with file.transaction() as (childs, *_):
        assert childs is not parents
    file.close()
    assert parents.execute("SELECT count(*) FROM state").fetchone() == (1,)
    _token_file._orphans.pop().close()


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_token_found_for_a_cancelled_task_is_back(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asyncio's own `Task.cancel` strikes while the thread looks, and the thread finds one."""
    limiter, looking, go = make(1), threading.Event(), threading.Event()
    look = limiter._look

    def slowly(*arguments: Any) -> Any:
        looking.set()
        go.wait(5)
        return look(*arguments)

    monkeypatch.setattr(limiter, "_look", slowly)
    task = asyncio.create_task(limiter.acquire())
    await asyncio.to_thread(looking.wait, 5)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    limiter.close()
    (await limiter.acquire("interactive", 0.0)).unused()
    assert limiter.snapshot().limit == 1


@pytest.mark.real
@pytest.mark.anyio
async def test_an_end_while_the_interpreter_goes_down_is_no_error(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread will write it any more; the token comes back at its pessimistic time."""
    permit = await make(1).acquire()
    monkeypatch.setattr("concurrent.futures.thread._shutdown", True)
    permit.done(200, {})


@pytest.mark.real
@pytest.mark.anyio
async def test_a_fork_opens_the_file_anew(make: Callable[..., HostLimiter]) -> None:
    """And leaves its parent's connection alone."""
    limiter = make(5, period=50.0)
    (await limiter.acquire()).done(200, {})
    limiter.close()
    await limiter.acquire()
    if (child := os.fork()) == 0:
        with limiter._file.transaction() as (_, bucket, _now):
            os._exit(bucket.free)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert (await limiter.acquire()) is not None


@pytest.mark.real
@pytest.mark.anyio
async def test_in_real_threads_ends_are_written_behind_the_callers_back(
    make: Callable[..., HostLimiter],
) -> None:
    """Closing waits for them."""
    limiter = make(5)
    for _ in range(3):
        (await limiter.acquire()).done(200, {})
    limiter.close()
    permit = await limiter.acquire()
    assert (limiter.snapshot().in_flight, limiter.snapshot().free) == (1, 1)
    permit.unused()


@pytest.mark.real
def test_an_acquire_costs_at_most_a_millisecond_of_cpu(tmp_path: Path) -> None:
    """Both threads' work for the usual sixty; the best of five, since others share the machine."""

    async def main(run: int) -> float:
        limiter = HostLimiter(tmp_path / f"{run}.db")
        await limiter.acquire()
        start = time.process_time()
        permits = [await limiter.acquire() for _ in range(59)]
        cost = (time.process_time() - start) / 59
        for permit in permits:
            permit.done(200, {})
        limiter.close()
        return cost

    cost = min(asyncio.run(main(run)) for run in range(5))
    print(f"a HostLimiter acquire: {cost * 1000:.2f} ms of CPU")
    assert cost <= 0.001
