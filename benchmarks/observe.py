"""The CPU of observing a send: no observer, the log's default, OpenTelemetry's API alone, and its SDK.

Run: python -m benchmarks.observe
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.pipeline import BODY, CALLS, client
from benchmarks.side_by_side import answering, cpu_of, spread
from desk360_async import AsyncDesk360, LogObserver
from desk360_async.otel import OpenTelemetry

ROUNDS = 15


def sending(ours: AsyncDesk360) -> Callable[[], Awaitable[None]]:
    """Return a run of sends, one after the other."""

    async def run() -> None:
        for _ in range(CALLS):
            await ours.send_text("+905551112233", "Hello!")

    return run


async def main() -> None:
    """Print the CPU of each, and its ratio to none, pair by pair."""
    logging.getLogger("desk360_async").setLevel(logging.WARNING)
    kept = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(kept))
    observers: dict[str, Any] = {
        "no observer": (),
        "LogObserver, the default": LogObserver(),
        "API without SDK": OpenTelemetry(trace.NoOpTracerProvider(), metrics.NoOpMeterProvider()),
        "SDK in memory": OpenTelemetry(tracers, MeterProvider([InMemoryMetricReader()])),
    }
    with answering(BODY) as url:
        clients = {name: client(url, observer=observer) for name, observer in observers.items()}
        runs = {name: sending(ours) for name, ours in clients.items()}
        for run in runs.values():
            await run()
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                kept.clear()
                spent[name].append(await cpu_of(run))
        for ours in clients.values():
            await ours.aclose()
    bare = spent["no observer"]
    for name, values in spent.items():
        cost = spread([value / CALLS * 1e6 for value in values])
        ratio = spread([a / b for a, b in zip(values, bare, strict=True)])
        print(f"{name:<26} {cost} µs CPU a send, {ratio} of no observer")


if __name__ == "__main__":
    asyncio.run(main())
