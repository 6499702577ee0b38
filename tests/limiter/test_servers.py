"""No server refuses us, however it counts, and nearly all of its limit is used: in virtual time."""

import random
from collections.abc import Callable
from statistics import fmean

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import TokenBucket
from desk360_async._bucket import Lane
from tests.limiter.servers import SERVERS, Server, one_of_each
from tests.limiter.virtual import Network, run

Make = Callable[[int, float], Server]

each_server = pytest.mark.parametrize("make", SERVERS, ids=lambda make: make.__name__)


@pytest.mark.parametrize(
    ("limit", "periods", "make"),
    [(1, 1000, SERVERS[0]), (10, 200, SERVERS[1]), (60, 30, SERVERS[2]), (1000, 3, SERVERS[3])],
)
@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (3.0, 3.0), (0.2, 3.0)])
def test_alone_we_are_never_refused_and_use_what_can_be_used(
    limit: int, periods: int, make: Make, before: float, after: float
) -> None:
    """A token's round is a period, the margin and its round trip; 99 % of what those allow, at least."""
    network = Network(
        make(limit, 60.0), random.Random(limit), before, after, witnesses=one_of_each(limit, 60.0)
    )
    seconds = (periods + 1) * (60.05 + before + after)
    backend = "trio" if limit == 60 else "asyncio"
    run(backend, network.saturate, TokenBucket(limit), "interactive", limit + 3, seconds)
    # By how much later than the first round the last one came, so that it is exact after few rounds too.
    late = fmean(network.starts[periods * limit + n] - network.starts[n] for n in range(limit)) / periods
    used, plain = (60.05 + fmean(network.trips)) / late, 60 / late
    print(
        f"{limit} a minute, {seconds / 60:.0f} minutes: {used:.4f} of the possible, {plain:.4f} of the limit"
    )
    assert (network.statuses[429], network.refused_by) == (0, {})
    assert 0.99 <= used <= 1.01


@settings(max_examples=50, deadline=None)
@given(
    make=st.sampled_from(SERVERS),
    seed=st.integers(0, 2**32),
    limit=st.sampled_from([1, 10, 60]),
    before=st.floats(0, 3),
    after=st.floats(0, 3),
    losses=st.sampled_from([0.0, 0.01, 0.2]),
    lane=st.sampled_from(["interactive", "bulk"]),
    senders=st.integers(1, 70),
)
def test_alone_we_are_never_refused(
    make: Make, seed: int, limit: int, before: float, after: float, losses: float, lane: Lane, senders: int
) -> None:
    """Whatever the latency, lost answers and lanes; whichever server answers, and however others count."""
    network = Network(
        make(limit, 60.0), random.Random(seed), before, after, losses, witnesses=one_of_each(limit, 60.0)
    )
    run("asyncio", network.saturate, TokenBucket(limit), lane, senders, 1200.0)
    assert (network.statuses[429], network.refused_by) == (0, {})


async def beside_others(network: Network, bucket: TokenBucket, lane: Lane) -> int:
    """Send for 30 minutes beside others who take a third of the limit, and for 15 without them.

    Returns:
        How many were accepted in the first full period after the others had stopped.
    """
    accepted = [0, 0]

    async def others() -> None:
        for _ in range(600):
            await anyio.sleep(network.rng.expovariate(1 / 3))
            now = anyio.current_time()
            if network.server.used(now) < network.server.limit:
                network.server.count(now)
        for n in range(2):
            await anyio.sleep(61)
            accepted[n] = network.statuses[200]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        await network.saturate(bucket, lane, 70, 45 * 60.0)
    return accepted[1] - accepted[0]


@each_server
@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_beside_others_refusals_are_rare_and_the_rate_comes_back(make: Make, lane: Lane) -> None:
    """One in twenty at most, no send lost, and the full rate within one period after they are gone."""
    network = Network(make(60, 60.0), random.Random(5), 0.25, 0.25)
    after = run("asyncio", beside_others, network, TokenBucket(), lane)
    refused, sent = network.statuses[429], network.statuses[200]
    print(f"{make.__name__} {lane}: {refused} refused, {sent} accepted, {after} in the period after")
    assert refused <= 0.05 * sent
    assert network.lost == 0
    assert sent >= 30 * 40 * 0.95 + 15 * 58
    assert after >= 57


@each_server
@pytest.mark.parametrize(("limit", "minutes"), [(10, 60), (120, 15)])
def test_another_limit_than_expected_is_learned(make: Make, limit: int, minutes: int) -> None:
    """Of those refused at first, none is refused once two answers have told; and all of it is used."""
    network = Network(make(limit, 60.0), random.Random(3), 0.25, 0.25)
    bucket = TokenBucket()

    async def main() -> tuple[int, int, int]:
        await network.saturate(bucket, "bulk", 5, 120.0)
        before = network.statuses.copy()
        await network.saturate(bucket, "bulk", 5, 60.0 * minutes)
        now = network.statuses
        return bucket.snapshot().limit, now[429] - before[429], now[200] - before[200]

    learned, refused, accepted = run("asyncio", main)
    assert (learned, refused) == (limit, 0)
    assert accepted >= 0.96 * limit * minutes


def test_a_second_process_needs_no_more_than_what_was_away() -> None:
    """A restart, with the ledger's attempts seeded: no window holds more than the limit, none less."""
    network = Network(SERVERS[0](60, 60.0), random.Random(8), 0.25, 0.25, witnesses=one_of_each(60, 60.0))

    async def main() -> None:
        await network.saturate(TokenBucket(), "interactive", 70, 30.0)
        now, heir = anyio.current_time(), TokenBucket()
        heir.seed([now - end for end in network.ends])
        await network.saturate(heir, "interactive", 70, 600.0)

    run("asyncio", main)
    assert (network.statuses[429], network.refused_by) == (0, {})
    assert network.statuses[200] >= 640


@each_server
def test_a_textbook_bucket_would_be_refused(make: Make) -> None:
    """So the servers are able to: 60 at once and one a second is too much for all but one of its kind."""
    server, refused = make(60, 60.0), 0
    for second in range(120):
        for _ in range(60 if second == 0 else 1):
            refused += server.used(float(second)) >= 60
            server.count(float(second))
    assert (refused > 0) == (make is not SERVERS[3])
