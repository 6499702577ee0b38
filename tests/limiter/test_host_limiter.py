"""One limit for all processes of a host; those of this file are several limiters on one file."""

import asyncio
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async import ConfigurationError, HostLimiter, RateLimitWaitTooLong
from desk360_async._bucket import Lane
from tests.limiter.servers import SERVERS, one_of_each
from tests.limiter.virtual import Network, run

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


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
    assert 2 <= order.count("bulk") <= 5  # every tenth of the 50 that eleven tasks take


@BACKENDS
def test_bulk_stands_back_between_two_waiters_of_another_process(
    make: Callable[..., HostLimiter], backend: str
) -> None:
    """The first waiter's token doesn't end the note that the second one waits."""

    async def main() -> None:
        one, two = make(8, period=10.0, reserve=0), make(8, period=10.0, reserve=0)
        for _ in range(8):
            (await one.acquire()).done(200, {})

        async def wait() -> None:
            await one.acquire()
            if one.snapshot().waiting["interactive"]:
                with pytest.raises(RateLimitWaitTooLong):
                    await two.acquire("bulk", 0.0)
                refused.append(True)

        refused: list[bool] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
        assert refused == [True]

    run(backend, main)


def test_arguments_are_checked_like_a_token_buckets(tmp_path: Path) -> None:
    """Before any file is touched."""
    with pytest.raises(ConfigurationError, match="limit must be a whole number"):
        HostLimiter(tmp_path / "limit.db", limit=0)
    limiter = HostLimiter(tmp_path / "limit.db")
    limiter.seed([1.0])
    assert repr(limiter) == f"<HostLimiter {tmp_path / 'limit.db'}>"
    assert limiter.snapshot().free == 60
    assert not list(tmp_path.iterdir())


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
