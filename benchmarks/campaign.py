"""Campaigns of a million: tokens, memory, planning, ledger (P8, P9, P13 of the performance targets).

`python benchmarks/campaign.py [--recipients 1000000]` prints every figure beside its target. Nothing leaves
this process: the server is a transport that takes everything.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from desk360_async import AsyncDesk360, Sent, TemplateMessage, TokenBucket
from desk360_async._phones import Reader
from desk360_async._tables import Table
from desk360_async.campaigns import Campaign
from desk360_async.campaigns._batches import Cut
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._recipients import Intake
from desk360_async.campaigns._storage import open_ledger
from desk360_async.campaigns._values import Result

BATCH = 1000


class Taker(httpx.AsyncBaseTransport):
    """A server that takes everything at once."""

    def __init__(self) -> None:
        self.requests = 0
        self.phones = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as Desk360 does."""
        self.requests += 1
        if request.method == "GET":
            translation = {"language_id": 1, "language": "English", "body": "{{1}}", "variables": ["body-1"]}
            return httpx.Response(200, json=[{"id": 7, "name": "offer", "translations": [translation]}])
        asked = [row["phone"] for row in json.loads(await request.aread())["destinations"]]
        self.phones += len(asked)
        if request.url.path.endswith("/bulk"):
            return httpx.Response(200, json={"phones": asked})
        return httpx.Response(200, json={"message_id": f"id-{self.phones}"})


def client_of(taker: Taker) -> AsyncDesk360:
    """Make a client whose limiter never waits for long, since only its count is of interest."""
    limiter = TokenBucket(10_000, 0.001, margin=0.0, learn=False)
    return AsyncDesk360(
        "k" * 20, integration_id=1, base_url="http://127.0.0.1", transport=taker, limiter=limiter
    )


def write_csv(path: Path, recipients: int, sets: int) -> None:
    """Write a list in random order of phones, one in a thousand twice."""
    rng = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["phone", "body-1"])
        step, numbers = 999_983, 10**9  # coprime: a walk over all numbers, in an order like none
        at = rng.randrange(numbers)
        for index in range(recipients):
            at = (at + step * 613) % numbers
            writer.writerow([f"+90{5 * 10**9 + at}", f"offer {index % sets}"])
            if index % 1000 == 999:
                writer.writerow([f"+90{5 * 10**9 + at}", f"offer {index % sets}"])


async def campaign_of(path: Path, folder: Path) -> dict[str, float]:
    """Load and run a campaign; return what it took."""
    taker = Taker()
    figures: dict[str, float] = {}
    async with client_of(taker) as client:
        campaign = Campaign(
            "bench", template="offer", language=1, ledger=folder / "ledger.db", batch_size=BATCH
        )
        await client.templates.preload()
        before = time.process_time()
        plan = await campaign.load(client, path)
        figures["load_cpu"] = time.process_time() - before
        figures["recipients"] = plan.recipients
        before = time.process_time()
        async with campaign.run(client) as events:
            end = await events.wait()
        figures["run_cpu"] = time.process_time() - before
        assert end.end == "finished", end
        assert end.counts.accepted == plan.recipients == taker.phones
        figures["requests"] = (await campaign.report()).requests
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def child(path: Path) -> dict[str, float]:
    """Run one campaign in a process of its own, for its peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", str(path), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    return dict(json.loads(done.stdout))


def judging(path: Path) -> float:
    """Return the CPU seconds of CSV → phones checked, rows grouped by equal parameters; no ledger."""
    numbers: dict[str, int] = {}
    before = time.process_time()
    table = Table.open(path)
    rows = table.rows(table.mapping(["body-1"], None), ["body-1"])
    intake = Intake(["body-1"], frozenset(), Reader())
    while True:
        staged, skipped = intake.judge(
            islice(rows, 5000), lambda given: numbers.setdefault(given["body-1"], len(numbers) + 1)
        )
        if not staged and not skipped:
            return time.process_time() - before


class Judged(Intake):
    """Rows that were judged before, so that the ledger alone is measured."""

    def __init__(self, path: Path, set_for: Any) -> None:
        super().__init__(["body-1"], frozenset(), Reader())
        table = Table.open(path)
        rows = table.rows(table.mapping(["body-1"], None), ["body-1"])
        self.rows, _ = super().judge(rows, set_for)

    def judge(self, rows: Any, set_for: Any) -> Any:
        """Return what was judged before."""
        return list(rows), []


async def ledger_speed(path: Path, folder: Path) -> tuple[float, float]:
    """Return rows inserted and rows updated a second: staged to cut, and intent plus result by batches."""
    from desk360_async.campaigns._values import Settings

    pinned = Settings("b", "u", 1, 1, "t", 1, "l", ("body-1",), {}, None, "auto", BATCH, "unknown")
    async with open_ledger(folder / "speed.db", owner=True, must_exist=False) as file:
        ledger = Ledger(file, "b")
        await ledger.begin_load(pinned)
        judged = await file.run(lambda connection: Judged(path, ledger._set_for(connection)))
        start = time.perf_counter()
        source = iter(judged.rows)
        while chunk := list(islice(source, 5000)):
            await ledger.stage(chunk, judged)
        await ledger.finish_load(pinned, 0, Cut("auto", BATCH))
        inserted = time.perf_counter() - start
        count = (await ledger.counts()).total
        start, last = time.perf_counter(), 0
        while batches := await ledger.pending(last, 1 << 60):
            last = batches[-1].id
            for batch in batches:
                request = await ledger.intend(batch)
                await ledger.conclude(batch, request, Result("accepted"))
        updated = time.perf_counter() - start
    return count / inserted, count / updated


def loop_of_singles(count: int) -> float:
    """Return the CPU seconds a plain loop of single sends takes for one, no-op server; tokens aside."""

    async def loop() -> float:
        async with client_of(Taker()) as client:
            before = time.process_time()
            for index in range(count):
                message = TemplateMessage(f"+90555{index:07d}", 7, language=1, parameters={"body-1": "x"})
                assert isinstance(await client.send(message), Sent)
            return (time.process_time() - before) / count

    return asyncio.run(loop())


def line(what: str, figure: str, target: str, *, holds: bool) -> None:
    """Print one figure beside its target."""
    print(f"{what:<66} {figure:>16}   {target:<18} {'ok' if holds else 'MISSED'}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(asyncio.run(campaign_of(Path(given.child[0]), Path(given.child[1])))))
        return
    many = given.recipients
    print(f"{many:,} recipients, batches of {BATCH:,}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {(n, sets): folder / f"{n}-{sets}.csv" for n, sets in [(many, 1), (many, 200), (10_000, 200)]}
        for (n, sets), path in files.items():
            write_csv(path, n, sets)
        one, small = child(files[many, 1]), child(files[10_000, 200])
        sets = child(files[many, 200])
        print_tokens(many, one, sets)
        peak, least = max(one["peak_mb"], sets["peak_mb"]), small["peak_mb"]
        line(
            "P8 peak memory, CSV → plan → ledger → no-op server",
            f"{peak:.1f} MB",
            "<= 100 MB",
            holds=peak <= 100,
        )
        ratio = peak / least
        line(f"P8 over the same with 10,000 ({least:.1f} MB)", f"{ratio:.2f}x", "<= 1.3x", holds=ratio <= 1.3)
        bare = 1e6 * judging(files[many, 200]) / many
        line(
            "P9 planning CPU a recipient: CSV → checked → grouped",
            f"{bare:.2f} µs",
            "<= 4 µs",
            holds=bare <= 4,
        )
        for figures, what in ((one, "1 set"), (sets, "200 sets")):
            whole = 1e6 * figures["load_cpu"] / many
            text = f"P9 the same, de-duplicated, in the ledger and cut, {what}"
            line(text, f"{whole:.2f} µs", "<= 6 µs", holds=whole <= 6)
        inserted, updated = asyncio.run(ledger_speed(files[many, 200], folder))
        line(
            "P13 ledger rows inserted, WAL+FULL",
            f"{inserted:,.0f} /s",
            ">= 150,000 /s",
            holds=inserted >= 150e3,
        )
        line(
            "P13 ledger rows updated, WAL+FULL", f"{updated:,.0f} /s", ">= 150,000 /s", holds=updated >= 150e3
        )
    single = loop_of_singles(2000)
    days = many / 60 / 60 / 24
    print(
        f"for the record: a plain loop of single sends needs {many:,} tokens, {days:.1f} days at 60 a minute,"
    )
    print(f"and {1e6 * single:.0f} µs of CPU each; running the campaign took {sets['run_cpu']:.1f} s of CPU")


def print_tokens(many: int, one: dict[str, float], sets: dict[str, float]) -> None:
    """Print how many requests it took, the template's look-up included."""
    scale = many / 1_000_000
    for figures, most, what in ((one, 1010, "one parameter set"), (sets, 1300, "200 sets")):
        requests, least = int(figures["requests"]), most * scale
        minutes = requests / 60
        text = f"requests for {int(figures['recipients']):,} with {what} ({minutes:.0f} minutes at 60)"
        line(text, f"{requests:,}", f"<= {least:,.0f}", holds=requests <= least)


if __name__ == "__main__":
    main()
