"""Rate limiters side by side, in one run: `python -m benchmarks.limiters`.

Refusals and the share of the limit used, on a server whose window opens with its first request (Laravel's
throttle); what an acquire costs that needn't wait; what those who wait cost in memory and CPU; and how long
interactive requests wait beside a campaign. Exits with 1 if ours refuses, or costs more than it may.
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
from aiolimiter import AsyncLimiter
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from throttled.asyncio import Throttled, rate_limiter, store

from benchmarks.figures import note
from desk360_async import HostLimiter, Lane, Permit, TokenBucket
from tests.limiter.servers import WindowFromFirstHit, answer
from tests.limiter.virtual import Network, run

LIMIT = 60
Wait = Callable[[], Awaitable[object]]
End = Callable[[object, int, dict[str, str]], None]


def _nothing(permit: object, status: int, headers: dict[str, str]) -> None:
    """Most limiters don't want to know how it ended."""


def _ours(permit: object, status: int, headers: dict[str, str]) -> None:
    permit.done(status, headers)  # type: ignore[attr-defined] # only ours gets here


def _pyrate(limit: int, period: float) -> Wait:
    limiter = Limiter(InMemoryBucket([Rate(limit, int(period * Duration.SECOND))]))
    return lambda: limiter.try_acquire_async("x")


def _limits(limit: int, period: float) -> Wait:
    strategy, item = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(limit, int(period))

    async def acquire() -> None:
        while not await strategy.hit(item):  # it can't wait by itself
            stats = await strategy.get_window_stats(item)
            await asyncio.sleep(max(0.01, stats.reset_time - time.time()))

    return acquire


def _throttled(limit: int, period: float) -> Wait:
    quota = rate_limiter.per_duration(timedelta(seconds=period), limit, burst=limit)
    throttle = Throttled(key="x", using="token_bucket", quota=quota, store=store.MemoryStore())

    async def acquire() -> None:
        while (result := await throttle.limit()).limited:
            await asyncio.sleep(max(0.01, result.state.retry_after))

    return acquire


LIMITERS: dict[str, tuple[Callable[[int, float], Wait], End]] = {
    "desk360_async": (lambda limit, period: TokenBucket(limit, period).acquire, _ours),
    "aiolimiter": (lambda limit, period: AsyncLimiter(limit, period).acquire, _nothing),
    "pyrate-limiter": (_pyrate, _nothing),
    "limits": (_limits, _nothing),
    "throttled-py": (_throttled, _nothing),
}


async def refusals(name: str, period: float, periods: int) -> tuple[int, int]:
    """Send all that the limiter lets through; return how many were accepted and refused."""
    make, end = LIMITERS[name]
    acquire, server, statuses = make(LIMIT, period), WindowFromFirstHit(LIMIT, period), list[int]()
    rng, clock = random.Random(1), asyncio.get_running_loop().time

    async def send() -> None:
        while True:
            permit = await acquire()
            await asyncio.sleep(rng.uniform(0, 0.02))
            reply = answer(server, clock())
            statuses.append(reply.status)
            await asyncio.sleep(rng.uniform(0, 0.02))
            end(permit, reply.status, reply.headers)

    with anyio.move_on_after(period * periods):
        async with anyio.create_task_group() as tasks:
            for _ in range(LIMIT + 5):
                tasks.start_soon(send)
    return statuses.count(200), statuses.count(429)


ANSWER = {"content-type": "application/json", "x-ratelimit-limit": "10000", "x-ratelimit-remaining": "9990"}


def uncontended() -> dict[str, list[tuple[float, float]]]:
    """Return the microseconds of an acquire that needn't wait, and with its end: medians of five runs."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LIMITERS}
    # Each turn has its own event loop: ours yields, and would pay for the tasks that other limiters leave.
    for name in list(LIMITERS) * 50:
        found[name].append(_medians(asyncio.run(_uncontended(name))))
    return found


async def _uncontended(name: str) -> list[tuple[float, float]]:
    """Run five times, or each limiter would measure the caches that the one before left cold.

    The end gets an answer's headers, as in a client.
    """
    make, end = LIMITERS[name]
    runs = list[tuple[float, float]]()
    for _ in range(5):
        acquire = make(10_000, 60.0)
        await acquire()
        start = time.perf_counter()
        permits = [await acquire() for _ in range(96)]
        middle = time.perf_counter()
        for permit in permits:
            end(permit, 200, ANSWER)
        stop = time.perf_counter()
        runs.append(((middle - start) / 96 * 1e6, (stop - start) / 96 * 1e6))
    return runs


def _medians(runs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(one for one, _ in runs), statistics.median(both for _, both in runs)


async def crowd(name: str, waiters: int, seconds: float) -> tuple[float, float]:
    """Return the bytes of each waiter, its task included, and the CPU seconds of their waiting."""
    acquire = LIMITERS[name][0](1, 3600.0)
    await acquire()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(acquire()) for _ in range(waiters)]  # type: ignore[arg-type] # coroutines, all
    await _rest()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    start = time.process_time()
    await asyncio.sleep(seconds)
    cpu = time.process_time() - start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used / waiters, cpu


async def _rest() -> None:
    """Wait, for a minute at most, until all tasks wait. The first steps of 100,000 tasks take seconds."""
    for _ in range(600):
        before = time.process_time()
        await asyncio.sleep(0.1)
        if time.process_time() - before < 0.01:
            break


class _OneLine(TokenBucket):
    """First come, first served: whatever the lane."""

    async def acquire(self, lane: Lane = "interactive", max_wait: float | None = None) -> Permit:
        """Forget the lane."""
        return await super().acquire("interactive", max_wait)


async def campaign(network: Network, limiter: TokenBucket, seconds: float) -> None:
    """Bulk without end beside 20 interactive requests a minute, at random moments."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(network.saturate, limiter, "bulk", LIMIT + 1, seconds)
        tasks.start_soon(network.poisson, limiter, 20 / 60, seconds - 5)


def lanes(kind: type[TokenBucket], hours: int) -> str:
    """Run campaigns in virtual time, twelve short ones to each long one; tell the interactive waits."""
    phases: list[list[float]] = [[], [], []]
    refused = accepted = 0
    for seed in range(13 * hours):
        network = Network(WindowFromFirstHit(LIMIT, 60.0), random.Random(seed), 0.2, 0.2, least=0.1)
        seconds = 3600.0 if seed < hours else 300.0
        run("asyncio", campaign, network, kind(), seconds)
        refused += network.statuses[429]
        accepted += network.statuses[200] * (seed < hours)
        for phase, (start, end) in enumerate(pairwise((0, 60, 300, 3600))):
            phases[phase] += [wait for at, wait in network.waits if start <= at < end]
    told = ", ".join(_percentiles(sorted(waits)) for waits in phases)
    return f"{told}; {accepted / hours / 3600:.3f} used, {refused} refused"


def _percentiles(waits: list[float]) -> str:
    return f"{waits[len(waits) // 2]:.1f}/{waits[int(0.99 * len(waits))]:.1f}/{waits[-1]:.1f}"


async def host_limiter(path: Path) -> float:
    """Return the CPU milliseconds of a `HostLimiter` acquire, worker thread included."""
    limiter = HostLimiter(path)
    await limiter.acquire()
    start = time.process_time()
    permits = [await limiter.acquire() for _ in range(59)]
    cost = (time.process_time() - start) / 59
    for permit in permits:
        permit.unused()
    limiter.close()
    return cost * 1000


async def all_refusals(period: float, periods: int) -> None:
    """Run all limiters at the same time, each on a server of its own."""
    results = await asyncio.gather(*(refusals(name, period, periods) for name in LIMITERS))
    print(f"\n{LIMIT} per {period:g} s, {periods} periods: accepted of {LIMIT * periods}, refused")
    for name, (accepted, refused) in zip(LIMITERS, results, strict=True):
        print(f"  {name:15} {accepted:4} {accepted / LIMIT / periods:6.3f} {refused:4}")
    accepted, refused = results[0]
    note(f"P12 tokens used of {LIMIT}", [accepted / periods], 59.5, unit="", at_least=True)
    note("P12 refusals", [refused], 0, unit="")
    if refused:
        sys.exit("ours was refused")


def main() -> None:
    """Print it all."""
    asyncio.run(all_refusals(6.0, 3))
    print("\nP14 an acquire that needn't wait, us; with its end; that over aiolimiter's acquire (goal: 4)")
    costs = uncontended()
    peers = costs["aiolimiter"]
    pairs = zip(costs["desk360_async"], peers, strict=True)
    cheap = note(
        "P14 acquire and done", [ours[1] / its[0] for ours, its in pairs], 4, peer="aiolimiter's acquire"
    )
    for name, runs in costs.items():
        cost, both = _medians(runs)
        print(f"  {name:15} {cost:6.2f} {both:6.2f} {both / _medians(peers)[0]:6.2f}")
    print("\n100,000 waiting: bytes each with its task, CPU seconds in 5 s")
    for name in ("desk360_async", "aiolimiter"):
        size, cpu = asyncio.run(crowd(name, 100_000, 5.0))
        print(f"  {name:15} {size:6.0f} {cpu:6.3f}")
    for name in ("pyrate-limiter", "limits", "throttled-py"):
        size, cpu = asyncio.run(crowd(name, 1000, 5.0))
        print(f"  {name:15} {size:6.0f} {cpu:6.3f}  (1,000 waiting: more would never come to an end)")
    print("\ninteractive waits beside a campaign, s: p50/p99/most in minutes 0-1, 1-5, 5-60")
    print(f"  {'desk360_async':15} {lanes(TokenBucket, 10)}")
    print(f"  {'in one line':15} {lanes(_OneLine, 1)}")
    with tempfile.TemporaryDirectory() as folder:
        best = min(asyncio.run(host_limiter(Path(folder) / f"{n}.db")) for n in range(5))
    print(f"\nHostLimiter: {best:.2f} ms of CPU an acquire")
    if not cheap or best > 1.0:
        sys.exit("ours costs too much")


if __name__ == "__main__":
    main()
