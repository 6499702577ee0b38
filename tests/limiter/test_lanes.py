"""How long interactive requests wait beside a campaign, with the real code, in virtual time."""

import random
from itertools import pairwise

import anyio
import pytest

from desk360_async import TokenBucket
from desk360_async._bucket import Lane
from desk360_async._limiter import Permit
from tests.limiter.servers import WindowFromFirstHit
from tests.limiter.virtual import Network, run

PHASES = (0.0, 60.0, 300.0, 3600.0)


class OneLine(TokenBucket):
    """First come, first served: whatever the lane."""

    async def acquire(self, lane: Lane = "interactive", max_wait: float | None = None) -> Permit:
        """Forget the lane."""
        return await super().acquire("interactive", max_wait)


async def campaign(network: Network, limiter: TokenBucket, seconds: float, burst: int) -> None:
    """Bulk without end, and 20 interactive requests a minute, or a burst of them every 5 minutes."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(network.saturate, limiter, "bulk", 61, seconds)
        if not burst:
            tasks.start_soon(network.poisson, limiter, 20 / 60, seconds - 5)
        for _ in range(11 if burst else 0):
            await anyio.sleep(300)
            for _ in range(burst):
                tasks.start_soon(network.request, limiter, "interactive")


def waits(
    kind: type[TokenBucket], hours: int, short: int = 0, burst: int = 0
) -> tuple[list[list[float]], float]:
    """Return the interactive waits of some hours and some runs of 5 minutes, and what the hours used.

    The waits are in the three phases, in order of length.
    """
    phases: list[list[float]] = [[], [], []]
    accepted = 0
    for seed in range(hours + short):
        network = Network(WindowFromFirstHit(60, 60.0), random.Random(seed), 0.2, 0.2, least=0.1)
        run("asyncio", campaign, network, kind(), 3600.0 if seed < hours else 300.0, burst)
        assert network.statuses[429] == 0
        accepted += network.statuses[200] * (seed < hours)
        for phase, (start, end) in enumerate(pairwise(PHASES)):
            phases[phase] += [wait for at, wait in network.waits if start <= at < end]
    return [sorted(phase) for phase in phases], accepted / (hours * 3600)


def p99(ordered: list[float]) -> float:
    """The 99th percentile of sorted waits."""
    return ordered[int(0.99 * len(ordered))]


def test_interactive_requests_hardly_wait_beside_a_campaign() -> None:
    """By minute 0-1, 1-5 and 5-60: p99 of at most 1, 3 and 2 s, and 97 % of the limit used."""
    lanes, used = waits(TokenBucket, 2, short=30)
    one_line, _ = waits(OneLine, 1)
    for phase, ours, plain in zip(("0-1", "1-5", "5-60"), lanes, one_line, strict=True):
        print(
            f"minute {phase}: p50 {ours[len(ours) // 2]:.1f}, p99 {p99(ours):.2f}, most {ours[-1]:.1f} s",
            end="; ",
        )
        print(f"in one line p99 {p99(plain):.1f} s")
    print(f"{used:.4f} of the limit used")
    assert [p99(phase) <= goal for phase, goal in zip(lanes, (1.0, 3.0, 2.0), strict=True)] == [True] * 3
    assert used >= 0.97


def test_a_burst_waits_for_one_token_after_the_other() -> None:
    """15 interactive requests at once beside a campaign: a second each, not a minute."""
    lanes, used = waits(TokenBucket, 1, burst=15)
    late = lanes[2]
    print(f"bursts of 15: p50 {late[len(late) // 2]:.1f}, p99 {p99(late):.1f}, most {late[-1]:.1f} s")
    print(f"{used:.4f} of the limit used")
    assert late[-1] <= 17
    assert used >= 0.97


@pytest.mark.parametrize("reserve", [0, 5, 15])
def test_a_reserve_costs_its_share_and_no_more(reserve: int) -> None:
    """Each token of it is a sixtieth of bulk's rate."""
    network = Network(WindowFromFirstHit(60, 60.0), random.Random(1), 0.25, 0.25)
    run("asyncio", network.saturate, TokenBucket(60, 60.0, reserve), "bulk", 61, 1800.0)
    assert network.statuses[200] == pytest.approx(1800 * (60 - reserve) / 60, rel=0.015)
