"""The CPU of observing a send: no observer, the log's default, OpenTelemetry's API alone, and its SDK.

Run: python -m benchmarks.observe [COMMIT …]

Each COMMIT is compared with this checkout without an observer: does the seam cost those who do not use it?
The kinds take turns in slices of a few milliseconds. The cheapest slices are compared: other programs only
add to a slice.
"""

import asyncio
import logging
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.figures import note
from benchmarks.pipeline import BODY, client
from benchmarks.side_by_side import HERE, answering, cpu_of, package_of
from desk360_async import AsyncDesk360, LogObserver
from desk360_async.otel import OpenTelemetry

SENDS, SLICES, TURNS, CHEAPEST = 25, 40, 60, 5
# The client of another commit, in a process of its own: a line in is a slice, a line out its CPU.
WORKER = """
import asyncio, gc, sys, time
from desk360_async import AsyncDesk360, TokenBucket
url, sends, observed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "observer"
options = {"observer": ()} if observed else {}
limiter = TokenBucket(limit=10_000, period=0.001, margin=0.0)
async def main():
    client = AsyncDesk360("key", integration_id=11, base_url=url, limiter=limiter, **options)
    for _ in sys.stdin:
        gc.collect()
        before = time.process_time()
        for _ in range(sends):
            await client.send_text("+905551112233", "Hello!")
        print(time.process_time() - before, flush=True)
    await client.aclose()
asyncio.run(main())
"""


def sending(ours: AsyncDesk360) -> Callable[[], Awaitable[None]]:
    """Return a slice of sends, one after the other."""

    async def run() -> None:
        for _ in range(SENDS):
            await ours.send_text("+905551112233", "Hello!")

    return run


def cost(slices: list[float]) -> float:
    """Return the µs of a send in the cheapest slices."""
    return statistics.mean(sorted(slices)[:CHEAPEST]) / SENDS * 1e6


async def observers(url: str) -> None:
    """Print the CPU of each kind of observer, and its ratio to none."""
    kept = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(kept))
    kinds: dict[str, Any] = {
        "no observer": (),
        "LogObserver, the default": LogObserver(),
        "API without SDK": OpenTelemetry(trace.NoOpTracerProvider(), metrics.NoOpMeterProvider()),
        "SDK in memory": OpenTelemetry(tracers, MeterProvider([InMemoryMetricReader()])),
    }
    clients = {name: client(url, observer=observer) for name, observer in kinds.items()}
    slices: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(SLICES + 2):  # the first two warm up
        for name, ours in clients.items():
            kept.clear()
            spent = await cpu_of(sending(ours))
            slices[name] += [spent] if turn > 1 else []
    for ours in clients.values():
        await ours.aclose()
    bare = cost(slices["no observer"])
    goals = {"API without SDK": 1.10, "SDK in memory": 1.50}
    for name, spent_in in slices.items():
        found = cost(spent_in)
        print(f"{name:<26} {found:6.0f} µs CPU a send")
        note(f"a send with {name}", [found / bare], goals.get(name), peer="no observer")


@contextmanager
def worker(url: str, package: Path, *, observer: bool) -> Generator[Callable[[], float]]:
    """Run the client that lies in a folder, and give a function that measures a slice."""
    words = [sys.executable, "-P", "-c", WORKER, url, str(SENDS), "observer" if observer else "none"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env={"PYTHONPATH": str(package)}, cwd=package, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines, answers = process.stdin, process.stdout

        def measure() -> float:
            lines.write("go\n")
            lines.flush()
            return float(answers.readline())

        yield measure


def compare_commit(url: str, commit: str) -> None:
    """Print the CPU of a send without an observer, beside the one of a commit."""
    with (
        package_of(commit) as before,
        worker(url, before, observer=False) as then,
        worker(url, HERE, observer=True) as now,
    ):
        pairs = [(now(), then()) for _ in range(TURNS + 2)][2:]
    ours, theirs = (cost(list(side)) for side in zip(*pairs, strict=True))
    print(f"P1 {ours:.0f} µs CPU a send here, {theirs:.0f} at {commit}: {ours / theirs:.2f} (at most 1.02)")


def main(commits: list[str]) -> None:
    """Print all figures."""
    logging.getLogger("desk360_async").setLevel(logging.WARNING)
    with answering(BODY) as url:
        asyncio.run(observers(url))
        for commit in commits:
            compare_commit(url, commit)


if __name__ == "__main__":
    main(sys.argv[1:])
