"""Waiting for a token: order, lanes, deadlines and cancellation, in virtual time on both event loops."""

from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from desk360_async import ConfigurationError, TokenBucket
from desk360_async._bucket import Lane
from tests.limiter.virtual import run

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def grants(bucket: TokenBucket, lanes: list[Lane], trip: float = 0.5) -> list[tuple[int, float]]:
    """Let one request per lane start in that order; return who got his token when, in order."""
    log: list[tuple[int, float]] = []
    start = anyio.current_time()

    async def send(number: int, lane: Lane) -> None:
        permit = await bucket.acquire(lane)
        log.append((number, round(anyio.current_time() - start, 3)))
        await anyio.sleep(trip)
        permit.done(200, {})

    async with anyio.create_task_group() as tasks:
        for number, lane in enumerate(lanes):
            tasks.start_soon(send, number, lane)
            await checkpoint()
            await checkpoint()
    return log


def test_first_come_first_served(backend: str) -> None:
    """Within a lane, in the order of asking; a token is back a period and a margin after its answer."""
    log = run(backend, grants, TokenBucket(2, 10.0), ["interactive"] * 5)
    assert log == [(0, 0.0), (1, 0.0), (2, 10.55), (3, 10.55), (4, 21.1)]


def test_interactive_goes_before_bulk(backend: str) -> None:
    """Whoever came first."""
    log = run(backend, grants, TokenBucket(1, 10.0), ["bulk", "bulk", "interactive"])
    assert [number for number, _ in log] == [0, 2, 1]


def test_bulk_takes_every_tenth_token_once_it_is_overdue(backend: str) -> None:
    """Interactive requests without end don't starve it."""
    log = run(backend, grants, TokenBucket(1, 10.0), ["interactive", "bulk", *["interactive"] * 20])
    assert [number for number, _ in log].index(1) == 9


def test_overdue_bulk_may_take_what_is_reserved(backend: str) -> None:
    """After nine interactive ones, a period after it came; not only when one of theirs is back."""

    async def main() -> None:
        bucket = TokenBucket(12, 60.0, 11)
        for _ in range(9):
            await bucket.acquire()
        start = anyio.current_time()
        await bucket.acquire("bulk")
        assert anyio.current_time() == pytest.approx(start + 60)

    run(backend, main)


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_nobody_overtakes_at_the_very_moment(backend: str, lane: Lane) -> None:
    """The first in line is waking up, and somebody else asks before he runs."""
    served: list[str] = []

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        (await bucket.acquire()).done(200, {})
        back = bucket._bucket.next_return()

        async def ask(name: str, at: float) -> None:
            await anyio.sleep_until(at)
            await bucket.acquire(lane)
            served.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "second", back)
            await anyio.sleep(1)
            tasks.start_soon(ask, "first", 0.0)
            await anyio.sleep(100)
            tasks.cancel_scope.cancel()

    run(backend, main)
    assert served == ["first"]


def test_whose_token_was_taken_at_the_last_moment_waits_on(backend: str) -> None:
    """A bulk request's alarm rings, and two interactive ones ask before it runs."""
    served: list[tuple[Lane, float]] = []

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        (await bucket.acquire()).done(200, {})
        back = bucket._bucket.next_return()

        async def ask(lane: Lane, at: float) -> None:
            await anyio.sleep_until(at)
            permit = await bucket.acquire(lane)
            served.append((lane, round(anyio.current_time(), 2)))
            permit.done(200, {})

        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(ask, "interactive", back)
            await anyio.sleep(1)
            tasks.start_soon(ask, "bulk", 0.0)

    run(backend, main)
    assert sorted(lane for lane, _ in served) == ["bulk", "interactive", "interactive"]
    assert [at for _, at in served] == [10.05, 20.1, 30.15]


def test_bulk_on_an_idle_account_begins_at_once_and_is_paced_later(backend: str) -> None:
    """15 of 40 sends go at once; the others share the tokens that are left until the first is back."""
    log = run(backend, grants, TokenBucket(), ["bulk"] * 40)
    assert (log[14][1], log[15][1] > 0.9) == (0.0, True)
    assert 33 <= log[-1][1] <= 38


def test_an_unused_token_goes_to_the_next_at_once(backend: str) -> None:
    """Nothing left the process."""

    async def main() -> float:
        bucket = TokenBucket(1)
        permit = await bucket.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bucket.acquire)
            await anyio.sleep(3)
            assert bucket.snapshot().waiting == {"interactive": 1, "bulk": 0}
            permit.unused()
        return anyio.current_time()

    async def timed() -> float:
        start = anyio.current_time()
        return await main() - start

    assert run(backend, timed) == 3


def test_only_the_first_end_counts(backend: str) -> None:
    """A permit's ends are idempotent, in any order."""

    async def main() -> None:
        bucket = TokenBucket(2)
        permit = await bucket.acquire()
        permit.done(200, {})
        permit.unused()
        permit.lost()
        permit.done(429, {})
        status = bucket.snapshot()
        assert (status.free, status.in_flight, status.paused_until) == (1, 0, None)

    run(backend, main)


def test_a_lost_request_keeps_its_token_for_the_grace(backend: str) -> None:
    """30 s in which the server may still count it, and a period."""

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        (await bucket.acquire()).lost()
        start = anyio.current_time()
        await bucket.acquire()
        assert anyio.current_time() == pytest.approx(start + 30 + 10.05)

    run(backend, main)


def test_answers_teach_through_every_permit(backend: str) -> None:
    """Those had at once and those waited for: others have taken one of two."""

    async def main() -> None:
        bucket = TokenBucket(2, 10.0)
        for left in (9, 0):
            (await bucket.acquire()).done(200, {"x-ratelimit-remaining": "0"})
            assert (bucket.snapshot().free, bucket.snapshot().next_token) == (0, pytest.approx(10.05)), left

    run(backend, main)


def test_a_limit_that_is_not_to_be_learned_stays(backend: str) -> None:
    """And the reserve is the one that was asked for."""

    async def main() -> None:
        bucket = TokenBucket(9, reserve=4, learn=False)
        for _ in range(3):
            (await bucket.acquire()).done(200, {"x-ratelimit-limit": "60"})
        assert (bucket.snapshot().limit, bucket.snapshot().reserve) == (9, 4)

    run(backend, main)


def test_a_status_is_of_this_moment(backend: str) -> None:
    """Whenever somebody looks, without any request in between; and before the first, outside any loop."""
    bucket = TokenBucket()
    assert bucket.snapshot().free == 60

    async def main() -> None:
        assert bucket.snapshot().as_of == anyio.current_time()
        (await bucket.acquire()).done(429, {"retry-after": "4"})
        await anyio.sleep(3)
        assert bucket.snapshot().as_of == anyio.current_time()
        assert bucket.snapshot().next_token == pytest.approx(2.0)
        await anyio.sleep_until(bucket.snapshot().paused_until or 0.0)
        assert bucket.snapshot().paused_until is None

    run(backend, main)


def test_the_gate_holds_everyone_and_opens_in_time(backend: str) -> None:
    """`Retry-After: 5` is six seconds from the answer."""

    async def main() -> None:
        bucket = TokenBucket(10, 60.0)
        (await bucket.acquire()).done(429, {"retry-after": "5"})
        status, start = bucket.snapshot(), anyio.current_time()
        assert status.paused_until == start + 6
        assert status.next_token == 6.0
        await bucket.acquire("interactive", 6.0)
        assert anyio.current_time() == pytest.approx(start + 6)

    run(backend, main)


def test_a_new_limit_serves_those_who_wait(backend: str) -> None:
    """The second answer that tells it is enough; nobody waits for a timer."""

    async def main() -> None:
        bucket = TokenBucket(2)
        first, second = await bucket.acquire(), await bucket.acquire()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(bucket.acquire)
            await anyio.sleep(1)
            first.done(200, {"x-ratelimit-limit": "60"})
            assert bucket.snapshot().waiting["interactive"] == 5
            second.done(200, {"x-ratelimit-limit": "60"})
            assert bucket.snapshot().waiting["interactive"] == 0

    run(backend, main)


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        (("fast", None), "lane must be 'interactive' or 'bulk', got 'fast'"),
        (("bulk", -1.0), "max_wait must be a number of seconds of 0 or more, got -1.0"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    backend: str, wish: tuple[Lane, float | None], complaint: str
) -> None:
    """The message names what would."""

    async def main() -> None:
        bucket = TokenBucket(2)
        with pytest.raises(ConfigurationError, match=complaint):
            await bucket.acquire(*wish)

    run(backend, main)


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everyone who wakes without a token, which takes him through this one place."""
    log: list[object] = []
    ring = TokenBucket._ring
    monkeypatch.setattr(TokenBucket, "_ring", lambda self, waiter: (log.append(waiter), ring(self, waiter)))
    return log


def test_those_who_wait_are_woken_at_their_turn_only(backend: str, rings: list[object]) -> None:
    """1,000 waiters and ten tokens: ten are woken, and the timer rings once per token."""

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(send, bucket)
            await anyio.sleep(100)
            tasks.cancel_scope.cancel()

    run(backend, main)
    assert len(rings) == 9


def test_the_alarm_goes_over_to_whoever_goes_first(backend: str, rings: list[object]) -> None:
    """A bulk request that had it isn't woken by it any more."""

    async def main() -> None:
        bucket = TokenBucket(1, 10.0)
        await send(bucket)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, bucket, "bulk")
            await anyio.sleep(1)
            tasks.start_soon(send, bucket)

    run(backend, main)
    assert len(rings) == 2


async def send(bucket: TokenBucket, lane: Lane = "interactive") -> None:
    """Make a request that takes no time."""
    (await bucket.acquire(lane)).done(200, {})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: TokenBucket(0),
            r"limit must be a whole number from 1 to 10,000 \(requests per period\), got 0",
        ),
        (lambda: TokenBucket(True), "limit must be .*, got True"),
        (lambda: TokenBucket(10_001), "limit must be .*, got 10001"),
        (lambda: TokenBucket(60, 0.0), "period must be a number of seconds from 0.001 to 86400, got 0.0"),
        (lambda: TokenBucket(60, float("nan")), "period must be .*, got nan"),
        (lambda: TokenBucket(60, 60.0, 60), "reserve must be a whole number from 0 to 59"),
        (lambda: TokenBucket(60, 60.0, 1.5), "reserve must be .*, got 1.5"),
        (lambda: TokenBucket(margin=-1), "margin must be .*, got -1"),
        (lambda: TokenBucket(attempt_timeout=0), "attempt_timeout must be .*, got 0"),
    ],
)
def test_a_bucket_that_makes_no_sense_is_refused(
    backend: str, make: Callable[[], TokenBucket], complaint: str
) -> None:
    """The message names the argument, its bounds and what it means."""
    with pytest.raises(ConfigurationError, match=complaint):
        make()


def test_seeding_counts_what_an_earlier_process_sent(backend: str) -> None:
    """Ages in seconds; older than a period is forgotten."""

    async def main() -> None:
        bucket = TokenBucket(10, 60.0)
        await anyio.sleep(100)
        bucket.seed([0.0, 30.0, 60.0, 60.1, 500.0])
        assert (bucket.snapshot().free, bucket.snapshot().next_token) == (7, 0.0)
        await anyio.sleep(10)
        (await bucket.acquire()).done(200, {})
        bucket.seed([0.0, 9.9, 20.0])
        assert bucket.snapshot().free == 6

    run(backend, main)


def test_many_free_tokens_do_not_starve_the_loop(backend: str) -> None:
    """A loop of requests that needn't wait lets others run now and then."""

    async def main() -> None:
        bucket, turns = TokenBucket(1000), [0]

        async def other() -> None:
            while True:
                turns[0] += 1
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            for _ in range(1000):
                await bucket.acquire()
            tasks.cancel_scope.cancel()
        assert turns[0] >= 30

    run(backend, main)
