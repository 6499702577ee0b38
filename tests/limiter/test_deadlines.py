"""How long a wait may take: refused at once where that is certain, and after `max_wait` at the latest."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from desk360_async import RateLimitWaitTooLong, TokenBucket
from desk360_async._bucket import Lane
from tests.limiter.virtual import run

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_a_wait_that_cannot_end_in_time_ends_at_once(backend: str, lane: Lane) -> None:
    """And tells when a token can be had."""

    async def main() -> None:
        bucket = TokenBucket(1, 60.0)
        await anyio.sleep(7)
        (await bucket.acquire()).done(200, {})
        start = anyio.current_time()
        with pytest.raises(RateLimitWaitTooLong, match="max_wait=30 s") as caught:
            await bucket.acquire(lane, 30.0)
        assert caught.value.eta == pytest.approx(60.05)
        assert anyio.current_time() == start
        await bucket.acquire(lane, 60.1)

    run(backend, main)


def test_no_wait_at_all_is_a_wish_like_any_other(backend: str) -> None:
    """`max_wait=0`: a token now, or the error."""

    async def main() -> None:
        bucket = TokenBucket(1)
        await bucket.acquire("interactive", 0)
        with pytest.raises(RateLimitWaitTooLong):
            await bucket.acquire("interactive", 0)

    run(backend, main)


def test_bulks_own_pace_is_foreseen(backend: str) -> None:
    """One a second at most, once a quarter of the limit is away."""

    async def main() -> None:
        bucket = TokenBucket()
        for _ in range(15):
            await bucket.acquire("bulk", 0.0)
        with pytest.raises(RateLimitWaitTooLong) as caught:
            await bucket.acquire("bulk", 0.5)
        assert caught.value.eta == pytest.approx(1.0)

    run(backend, main)


def test_those_who_wait_in_bulk_are_no_hindrance_to_interactive(backend: str) -> None:
    """Neither for a wait nor for none."""

    async def main() -> None:
        bucket = TokenBucket(2, 10.0, 1)
        await bucket.acquire()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(bucket.acquire, "bulk")
            await anyio.sleep(1)
            (await bucket.acquire("interactive", 0.0)).done(200, {})
            await bucket.acquire("interactive", 10.1)
            tasks.cancel_scope.cancel()

    run(backend, main)


async def outcomes(bucket: TokenBucket, lane: Lane, patience: list[float]) -> list[tuple[float, float | str]]:
    """Let one wait for each of these seconds; 5 s later the first answer is a 429 of 60 s; tell who got what.

    Returns:
        For each, when his wait ended, and the patience he had, or what he was told; in that order.
    """
    log: list[tuple[float, float | str]] = []
    await anyio.sleep(3)
    permit = await bucket.acquire(lane)
    start = anyio.current_time()

    async def wait(seconds: float) -> None:
        try:
            (await bucket.acquire(lane, seconds)).done(200, {})
        except RateLimitWaitTooLong as error:
            log.append((round(anyio.current_time() - start, 2), str(error).partition(";")[0]))
        else:
            log.append((round(anyio.current_time() - start, 2), seconds))

    async with anyio.create_task_group() as tasks:
        for seconds in patience:
            tasks.start_soon(wait, seconds)
            await checkpoint()
            await checkpoint()
        await anyio.sleep(5)
        permit.done(429, {"retry-after": "60"})
    return sorted(log, key=str)


def late(max_wait: float, eta: float) -> str:
    """What somebody is told whose token would come too late."""
    return f"no token within max_wait={max_wait:g} s: the next one for this request is about {eta:.1f} s away"


def test_those_who_cannot_be_served_in_time_any_more_are_told_and_no_others(backend: str) -> None:
    """Each counts those before him who stay, and the time between their tokens."""
    log = run(backend, outcomes, TokenBucket(1, 10.0), "interactive", [66.0, 70.0, 80.0, 85.0])
    assert log == [(5.0, late(70, 71.05)), (5.0, late(85, 81.1)), (66.0, 66.0), (76.05, 80.0)]


def test_bulks_pace_is_foreseen_behind_a_gate_too(backend: str) -> None:
    """Two at the same moment there won't be."""
    log = run(backend, outcomes, TokenBucket(2, 10.0), "bulk", [66.0, 70.0, 72.0])
    assert [told for _, told in log] == [late(70, 66), 66.0, 72.0]


def test_those_in_the_other_lane_are_not_bound_to_bulks_pace(backend: str) -> None:
    """After the gate fifty go within 13 s, so bulk after them is neither given up nor refused."""

    async def main() -> None:
        bucket = TokenBucket()
        permits = [await bucket.acquire() for _ in range(60)]
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(bucket.acquire)
            tasks.start_soon(bucket.acquire, "bulk", 340.0)
            await anyio.sleep(1)
            permits.pop().done(429, {"retry-after": "298"})
            for permit in permits:
                permit.done(200, {})
            await bucket.acquire("bulk", 339.0)
        assert anyio.current_time() <= 340

    run(backend, main)


def test_it_ends_as_soon_as_it_is_certain(backend: str) -> None:
    """A pause of a minute, when there were ten seconds left to wait: those who can wait stay."""

    async def main() -> None:
        bucket = TokenBucket(2, 10.0)
        permits = [await bucket.acquire(), await bucket.acquire()]
        start = anyio.current_time()
        outcomes: list[tuple[float, object]] = []

        async def wait(seconds: float) -> None:
            try:
                await bucket.acquire("interactive", seconds)
            except RateLimitWaitTooLong as error:
                outcomes.append((anyio.current_time() - start, error.eta))
            else:
                outcomes.append((anyio.current_time() - start, seconds))

        async with anyio.create_task_group() as tasks:
            for seconds in (20.0, 100.0):
                tasks.start_soon(wait, seconds)
            await anyio.sleep(5)
            permits[0].done(429, {"retry-after": "60"})
        assert outcomes == [(5, 61.0), (pytest.approx(66.0), 100.0)]

    run(backend, main)


def test_it_ends_after_max_wait_at_the_latest(backend: str) -> None:
    """Interactive requests that nobody could foresee pushed the bulk one back."""

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        (await bucket.acquire()).done(200, {})
        start = anyio.current_time()

        async def hurry() -> None:
            await anyio.sleep(5)
            (await bucket.acquire()).done(200, {})

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hurry)
            with pytest.raises(RateLimitWaitTooLong) as caught:
                await bucket.acquire("bulk", 12.0)
            assert anyio.current_time() - start == pytest.approx(12.0)
            assert caught.value.eta == pytest.approx(8.1)

    run(backend, main)


def test_who_gives_up_in_the_middle_of_the_line_leaves_the_alarm_alone(backend: str) -> None:
    """Requests under way might have ended any moment, and never did; the first goes on waiting."""

    async def main() -> None:
        bucket = TokenBucket(2, 10.0, attempt_timeout=60.0)
        await anyio.sleep(3)
        await bucket.acquire(), await bucket.acquire()
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bucket.acquire)
            await anyio.sleep(1)
            with pytest.raises(RateLimitWaitTooLong, match="max_wait=20 s") as caught:
                await bucket.acquire("interactive", 20.0)
            assert (anyio.current_time(), caught.value.eta) == (start + 21, pytest.approx(10.05))
            assert bucket.snapshot().waiting["interactive"] == 1
        assert anyio.current_time() == pytest.approx(start + 60 + 30 + 10.05)

    run(backend, main)


def test_bulk_that_gives_up_is_told_of_those_before_it_in_both_lanes(backend: str) -> None:
    """One interactive, one bulk, and a period for each."""

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        await bucket.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bucket.acquire, "bulk")
            await anyio.sleep(1)
            tasks.start_soon(hurry, bucket)
            with pytest.raises(RateLimitWaitTooLong) as caught:
                await bucket.acquire("bulk", 25.0)
            assert caught.value.eta == pytest.approx(3 * 10.05)
            tasks.cancel_scope.cancel()

    async def hurry(bucket: TokenBucket) -> None:
        await anyio.sleep(1)
        await bucket.acquire()

    run(backend, main)
