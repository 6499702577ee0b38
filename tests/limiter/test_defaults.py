"""The bucket that clients share by default: one per loop and host, which the next loop inherits from."""

import gc
import threading
import weakref
from types import SimpleNamespace

import anyio
import pytest

from desk360_async import TokenBucket, _limiter
from desk360_async._bucket import Bucket
from desk360_async._limiter import default_limiter
from tests.core.fakes import VirtualLoop
from tests.limiter.virtual import run

HOSTS = iter(f"host-{number}:443" for number in range(100))


@pytest.fixture(autouse=True)
def _between_loops_no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's clock, by which a bucket finds its way from one loop to the next, stands still."""
    monkeypatch.setattr(_limiter, "time", SimpleNamespace(monotonic=lambda: 1000.0))


@pytest.fixture
def host() -> str:
    """A host that no other test has sent anything to."""
    return next(HOSTS)


async def send(host: str, requests: int) -> TokenBucket:
    """Make so many requests, and return the bucket they came from."""
    bucket = default_limiter(host)
    for _ in range(requests):
        (await bucket.acquire()).done(200, {})
    return bucket


@pytest.mark.anyio
async def test_one_loop_has_one_bucket_per_host(host: str) -> None:
    """The limit is the address's, not a client object's."""
    assert default_limiter(host) is default_limiter(host)
    assert default_limiter(host) is not default_limiter(f"other-{host}")


@pytest.mark.parametrize("second", ["asyncio", "trio"])
@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_the_next_loop_inherits_what_is_away(host: str, first: str, second: str) -> None:
    """Whatever its clock shows: two runs in a row don't send twice the limit."""
    run(first, send, host, 40)
    heir = run(second, send, host, 5)
    assert heir.snapshot().free == 15
    assert run(first, send, host, 0).snapshot().free == 15


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_back_is_not_inherited(host: str, backend: str) -> None:
    """A period later nothing is away any more, and the old bucket is forgotten."""

    async def main() -> None:
        bucket = await send(host, 40)
        await anyio.sleep(61)
        bucket.snapshot()
        await send(host, 1)

    run(backend, main)
    assert run(backend, send, host, 0).snapshot().free == 59


def test_the_next_loop_inherits_the_pause_and_the_limit(host: str) -> None:
    """Nothing reopens the gate early, not even a new event loop; and its pace goes on."""

    async def refused() -> Bucket:
        await anyio.sleep(500)
        permits = [await default_limiter(host).acquire() for _ in range(2)]
        for permit in permits:
            permit.done(429, {"retry-after": "50", "x-ratelimit-limit": "30"})
        return default_limiter(host)._bucket

    async def heir() -> Bucket:
        status = default_limiter(host).snapshot()
        assert (status.limit, status.free, status.next_token) == (30, 28, pytest.approx(51.0))
        return default_limiter(host)._bucket

    theirs, ours = run("asyncio", refused), run("trio", heir)
    assert ours.away == pytest.approx([at - 500 for at in theirs.away])
    for name in ("gate", "wary_until", "last_grant"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name) - 500)


def test_what_an_earlier_loop_sent_is_not_seeded_again(host: str) -> None:
    """The heir has known its requests since that one's first, 20 s ago."""

    async def main() -> None:
        await anyio.sleep(100)
        await send(host, 1)
        await anyio.sleep(20)
        await send(host, 1)

    async def heir() -> int:
        default_limiter(host).seed([0.0, 10.0, 30.0])
        return default_limiter(host).snapshot().free

    run("asyncio", main)
    assert run("asyncio", heir) == 57


def test_a_bucket_that_was_never_used_bequeaths_nothing(host: str) -> None:
    """And stands in nobody's way."""

    async def look() -> TokenBucket:
        return default_limiter(host)

    run("asyncio", look)
    assert run("trio", send, host, 1).snapshot().free == 59


def test_a_request_under_way_when_its_loop_ended_is_inherited(host: str) -> None:
    """It comes back at its pessimistic time: 120 s, 30 s of grace, a period."""

    async def main() -> None:
        await default_limiter(host).acquire()

    run("asyncio", main)
    bucket = run("asyncio", send, host, 0)
    assert bucket.snapshot().free == 59
    assert bucket._bucket.next_return() == pytest.approx(210.05, abs=0.5)


@pytest.mark.parametrize("before", [0, 10])
def test_loops_at_the_same_time_have_buckets_of_their_own(host: str, before: int) -> None:
    """A third one, later, inherits from both of them, and a fourth; and nothing twice."""

    async def main() -> None:
        await send(host, before)
        thread = threading.Thread(target=lambda: run("asyncio", send, host, 10))
        thread.start()
        thread.join()
        await send(host, 10)

    run("asyncio", main)
    for _ in range(2):
        assert run("asyncio", send, host, 0).snapshot().free == 40 - before


def test_a_loop_is_not_kept_alive_by_its_bucket(host: str) -> None:
    """A program that runs a loop per job would pile them up."""
    loop = VirtualLoop()
    loop.run_until_complete(send(host, 1))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
