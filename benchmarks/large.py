"""Campaigns of ten million, by hand: `python -m benchmarks.large [--recipients N]`.

For one set of parameters and for all different: load, a process that dies in the middle of the run, resume,
and export. Each step is a process of its own, so that its peak of memory is its own. Ten million take eight
minutes and 8 GB of disk. The requests stay in the process: the server is a transport that takes everything.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.campaign import BATCH, Taker, client_of, write_csv, written
from benchmarks.figures import note, peak_memory
from desk360_async.campaigns import Campaign

DIES_AFTER = 500  # requests, or half of the batches
GOES_ON = 1000  # requests of the resumed run, then it is stopped
DEATH = 7  # an exit code that is no error of Python's


class Dying(Taker):
    """A server that takes everything, in a process that dies after some requests."""

    def __init__(self, requests: int) -> None:
        super().__init__()
        self._left = requests

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as Desk360 does, or end the process."""
        if self.requests >= self._left:
            os._exit(DEATH)
        return await super().handle_async_request(request)


class Noting(Taker):
    """A server that takes everything, and notes the time of the first message.

    Attributes:
        first: `time.perf_counter` of the first message; 0 before.
    """

    first = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as Desk360 does."""
        if request.method == "POST" and not self.first:
            self.first = time.perf_counter()
        return await super().handle_async_request(request)


def campaign_in(folder: Path) -> Campaign:
    """Return the campaign whose ledger lies in a folder."""
    return Campaign("bench", template="offer", language=1, ledger=folder / "ledger.db", batch_size=BATCH)


async def load(folder: Path) -> dict[str, float]:
    """Load the list."""
    async with client_of(Taker()) as client:
        await client.templates.preload()
        before = written()
        plan = await campaign_in(folder).load(client, folder / "list.csv")
        size = (folder / "ledger.db").stat().st_size
        return {"recipients": plan.recipients, "written": written() - before, "ledger": size}


async def die(folder: Path) -> dict[str, float]:
    """Run until the process dies with requests on the wire."""
    counts = await campaign_in(folder).status()
    dying = Dying(min(DIES_AFTER, counts.pending // BATCH // 2))
    async with client_of(dying) as client, campaign_in(folder).run(client) as events:
        await events.wait()
    raise AssertionError("the process should have died")


async def resume(folder: Path) -> dict[str, float]:
    """Go on with the run for a while; note when the first message left."""
    taker, before = Noting(), time.perf_counter()
    async with client_of(taker) as client, campaign_in(folder).run(client) as events:
        async for _ in events:
            if taker.requests >= GOES_ON:
                events.stop()
    counts = await campaign_in(folder).status()
    return {"first": taker.first - before, "accepted": counts.accepted, "unknown": counts.unknown}


async def export(folder: Path) -> dict[str, float]:
    """Export the report."""
    await campaign_in(folder).export(folder / "report.csv")
    return {"bytes": (folder / "report.csv").stat().st_size}


STEPS: dict[str, Callable[[Path], Awaitable[dict[str, float]]]] = {
    step.__name__: step for step in (load, die, resume, export)
}


async def timed(step: str, folder: Path) -> dict[str, float]:
    """Do one step; return its own figures, its seconds and its peak of memory."""
    wall, cpu = time.perf_counter(), time.process_time()
    figures = await STEPS[step](folder)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak_memory()}
    return figures | took


def child(step: str, folder: Path) -> dict[str, Any]:
    """Do one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large", "--child", step, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == (DEATH if step == "die" else 0), done.returncode
    return dict(json.loads(done.stdout)) if done.stdout else {}


def measure(name: str, many: int, sets: int, folder: Path) -> None:
    """Print the figures of one list."""
    print(f"{many:,} recipients, {name}, Python {sys.version.split()[0]}")
    write_csv(folder / "list.csv", many, sets)
    loaded = child("load", folder)
    _note(name, "load", loaded)
    ledger = loaded["ledger"]
    note(f"{name}: ledger", [ledger / 1e6], unit="MB")
    note(f"{name}: bytes written by the load over the ledger", [loaded["written"] / ledger])
    child("die", folder)
    resumed = child("resume", folder)
    note(f"{name}: resume, to the first message", [1e3 * resumed["first"]], unit="ms")
    note(f"{name}: resume, peak memory", [resumed["peak"]], 80, unit="MB")
    note(f"{name}: accepted, and unknown by the death", [resumed["accepted"]], unit=f"/ {resumed['unknown']}")
    exported = child("export", folder)
    _note(name, "export", exported)
    note(f"{name}: exported file", [exported["bytes"] / 1e6], unit="MB")


def _note(name: str, step: str, figures: dict[str, Any]) -> None:
    note(f"{name}: {step}, wall", [figures["wall"]], unit="s")
    note(f"{name}: {step}, CPU", [figures["cpu"]], unit="s")
    note(f"{name}: {step}, peak memory", [figures["peak"]], 80, unit="MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=10_000_000)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(asyncio.run(timed(given.child[0], Path(given.child[1])))))
        return
    for name, sets in (("1 set", 1), ("all different", given.recipients)):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, given.recipients, sets, Path(folder))


if __name__ == "__main__":
    main()
