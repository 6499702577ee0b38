"""One bucket in one event loop after the other, and what becomes of those who waited in the first."""

import asyncio
import threading
from contextlib import suppress
from types import SimpleNamespace

import anyio
import pytest

from desk360_async import ClientStateError, RateLimitWaitTooLong, TokenBucket, _limiter
from tests.limiter.virtual import run

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def _between_loops_no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's clock, by which a bucket finds its way from one loop to the next, stands still."""
    monkeypatch.setattr(_limiter, "time", SimpleNamespace(monotonic=lambda: 1000.0))


def test_a_bucket_goes_on_in_the_next_event_loop(backend: str) -> None:
    """Its tokens stay away, by that loop's clock; those who waited on the first one are forgotten."""
    bucket = TokenBucket(2, 60.0)

    async def first() -> None:
        (await bucket.acquire()).done(200, {})
        await anyio.sleep(20)
        (await bucket.acquire()).done(429, {"retry-after": "29"})
        with anyio.move_on_after(1):
            await bucket.acquire()

    async def second() -> None:
        start = anyio.current_time()
        assert bucket.snapshot().next_token == pytest.approx(39.05, abs=0.5)
        (await bucket.acquire()).done(200, {})
        assert anyio.current_time() - start == pytest.approx(39.05, abs=0.5)

    run(backend, first)
    assert bucket.snapshot().free == 0
    run("trio" if backend == "asyncio" else "asyncio", second)


def test_two_live_loops_at_once_are_told_of_host_limiter(backend: str) -> None:
    """A bucket isn't made for threads, and says what is."""
    bucket = TokenBucket()

    async def main() -> None:
        permit = await bucket.acquire()
        problems: list[BaseException] = []

        def other() -> None:
            try:
                anyio.run(bucket.acquire, backend="asyncio")
            except ClientStateError as error:
                problems.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "HostLimiter" in str(problems[0])
        permit.done(200, {})
        assert bucket.snapshot().free == 59

    run(backend, main)


def test_a_permit_that_ends_without_a_loop_says_nothing(backend: str) -> None:
    """No time to go by, and never an error: the token comes back at its pessimistic time."""
    bucket = TokenBucket()
    permits = [run(backend, bucket.acquire) for _ in range(3)]
    permits[0].done(200, {})
    permits[1].lost()
    permits[2].unused()
    assert (bucket.snapshot().free, bucket.snapshot().in_flight) == (57, 3)


def test_a_waiter_whose_loop_is_gone_leaves_the_line(backend: str) -> None:
    """His frame is closed long after, by hand or by the garbage collector, and there is no time to go by."""
    if backend == "trio":
        pytest.skip("trio never leaves a task behind")
    bucket = TokenBucket(1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bucket.acquire())
    waiting = [bucket.acquire() for _ in range(2)]
    for coroutine in waiting:
        steps = loop.create_task(coroutine)
        loop.run_until_complete(asyncio.sleep(0))
        steps._log_destroy_pending = False  # asyncio's own switch for tasks that are left behind on purpose
    loop.close()
    assert bucket.snapshot().waiting["interactive"] == 2
    for coroutine in waiting:
        with suppress(RuntimeError):  # the scopes of anyio miss their loop, too
            coroutine.close()
    assert bucket.snapshot().waiting["interactive"] == 0
    assert repr(bucket) == "<TokenBucket 0 of 1 per 60 s free>"


def test_a_loop_left_standing_gets_its_waiters_back_with_an_error(backend: str) -> None:
    """Rather than hang for ever, when the bucket went on elsewhere."""
    if backend == "trio":
        pytest.skip("a trio run can't be left and taken up again")
    bucket, loop = TokenBucket(1), asyncio.new_event_loop()
    loop.run_until_complete(bucket.acquire())
    waiter = loop.create_task(bucket.acquire())
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.run(_look(bucket))
    with pytest.raises(ClientStateError, match="another event loop"):
        loop.run_until_complete(waiter)
    loop.close()


async def _look(bucket: TokenBucket) -> None:
    with pytest.raises(RateLimitWaitTooLong):
        await bucket.acquire("interactive", 0)


def test_seeding_in_the_next_loop_counts_nothing_twice(backend: str) -> None:
    """What is younger than the bucket's first use, 15 s ago by any clock, is known to it."""
    bucket = TokenBucket(10, 60.0)

    async def first() -> None:
        await anyio.sleep(5)
        (await bucket.acquire()).done(200, {})
        await anyio.sleep(15)
        (await bucket.acquire()).done(200, {})

    async def second() -> None:
        bucket.seed([1.0, 14.0, 17.0])
        assert bucket.snapshot().free == 7

    run(backend, first)
    run(backend, second)
