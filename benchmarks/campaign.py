"""Campaigns of 100,000 and a million: `python -m benchmarks.campaign [--recipients N]`.

Loading over `csv.reader` alone on the same file (P9), bytes written (P9b), memory (P8), requests, batches and
singles apart (P13), export over `csv.writer` alone (P18). A figure beyond its goal is marked. The requests
stay in this process: the server is a transport that takes everything.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx

from benchmarks.figures import note, peak_memory
from desk360_async import AsyncDesk360, Sent, TemplateMessage, TokenBucket
from desk360_async._phones import Reader
from desk360_async._tables import Table
from desk360_async.campaigns import Campaign
from desk360_async.campaigns._recipients import Intake, some_of

BATCH = 1000
ROUNDS = 3  # of what takes less than a second; medians are printed


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


def write_csv(path: Path, recipients: int, sets: int, *, valid: bool = True) -> None:
    """Write a list in random order of phones, one in a thousand twice.

    Args:
        path: the file.
        recipients: how many persons.
        sets: how many different parameters; as many as recipients if all are different.
        valid: whether the numbers are valid in Turkey's plan; else possible only.
    """
    rng = random.Random(1)
    first, numbers = (530 * 10**7, 2 * 10**8) if valid else (560 * 10**7, 10**8)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["phone", "body-1"])
        at = rng.randrange(numbers)
        for index in range(recipients):
            at = (at + 999_983 * 613) % numbers  # coprime: a walk over all numbers, in an order like none
            row = [f"+90{first + at}", f"offer {index % sets}"]
            writer.writerow(row)
            if index % 1000 == 999:
                writer.writerow(row)


def cpu_of(run: Callable[[], object]) -> float:
    """Return the median CPU seconds of a few runs."""
    taken: list[float] = []
    for _ in range(ROUNDS):
        before = time.process_time()
        run()
        taken.append(time.process_time() - before)
    return sorted(taken)[ROUNDS // 2]


def read_plainly(path: Path) -> int:
    """Return the number of rows that `csv.reader` reads."""
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file))


def judge_all(path: Path) -> None:
    """Read and judge a list: phones checked, equal parameters known; no ledger."""
    numbers: dict[str, int] = {}
    table = Table.open(path)
    blocks = table.blocks(table.mapping(["body-1"], None), ["body-1"])
    intake = Intake(["body-1"], frozenset(), Reader())
    while some := some_of(blocks):
        intake.judge(some, lambda given: numbers.setdefault(given["body-1"], len(numbers)))


def write_plainly(path: Path, folder: Path) -> None:
    """Write an exported file again by `csv.writer` alone."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    before = time.process_time()
    with (folder / "plain.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    print(json.dumps(time.process_time() - before))


def written() -> int:
    """Return the bytes that this process has written so far; 0 where the system doesn't count them."""
    try:
        return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])
    except (OSError, IndexError):
        return 0


async def campaign_of(path: Path, folder: Path, *, runs: bool) -> dict[str, float]:
    """Load, run if wanted, and export a campaign; return the figures."""
    taker, figures, ledger = Taker(), dict[str, float](), folder / "ledger.db"
    async with client_of(taker) as client:
        campaign = Campaign("bench", template="offer", language=1, ledger=ledger, batch_size=BATCH)
        await client.templates.preload()
        # On both sides of the load: a shared machine's speed changes twofold within a minute.
        plain = cpu_of(partial(read_plainly, path))
        before, bytes_before = time.process_time(), written()
        plan = await campaign.load(client, path)
        figures["load_cpu"] = time.process_time() - before
        figures["plain_cpu"] = (plain + cpu_of(partial(read_plainly, path))) / 2
        figures["written"] = written() - bytes_before
        figures["ledger"] = ledger.stat().st_size
        figures["recipients"] = plan.recipients
        if runs:
            before, asked = time.process_time(), taker.requests
            async with campaign.run(client) as events:
                end = await events.wait()
            figures["run_cpu"] = time.process_time() - before
            assert end.end == "finished", end
            assert end.counts.accepted == plan.recipients == taker.phones
            figures["sent"] = taker.requests - asked
            figures["requests"] = (await campaign.report()).requests
        before = time.process_time()
        await campaign.status()
        figures["status_cpu"] = time.process_time() - before
        figures["peak_mb"] = peak_memory()
        before = time.process_time()
        await campaign.export(folder / "report.csv")
        figures["export_cpu"] = time.process_time() - before
    return figures


def child(path: Path, folder: Path, *, runs: bool = True, plans: bool = False) -> dict[str, float]:
    """Run one campaign in a process of its own, for its peak of memory.

    Args:
        path: the list.
        folder: for the ledger and the report.
        runs: whether the campaign is sent too.
        plans: whether phonenumbers is there to be imported (extra `phone`).
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        how = ["--child", str(path), own, f"{'run' if runs else 'load'}{'' if plans else ' without plans'}"]
        figures = dict(json.loads(_output(how)))
        figures["writer_cpu"] = float(json.loads(_output(["--writer", f"{own}/report.csv", own])))
    return figures


def _output(how: list[str]) -> str:
    command = [sys.executable, "-m", "benchmarks.campaign", *how]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout


def loop_of_singles(count: int) -> float:
    """Return the CPU seconds a plain loop of single sends takes for one, no-op server; tokens aside."""

    async def loop() -> float:
        async with client_of(Taker()) as client:
            await client.send(TemplateMessage("+905550000000", 7, language=1, parameters={"body-1": "x"}))
            before = time.process_time()
            for index in range(count):
                message = TemplateMessage(f"+90555{index:07d}", 7, language=1, parameters={"body-1": "x"})
                assert isinstance(await client.send(message), Sent)
            return (time.process_time() - before) / count

    return asyncio.run(loop())


def line(name: str, figure: float, goal: float | None, unit: str) -> None:
    """Print one figure beside its goal, an upper bound."""
    note(name, [figure], goal, unit=unit)


def loading(name: str, figures: dict[str, float], goal: float) -> None:
    """Print what loading a list took, over `csv.reader` on the same file."""
    rows, plain = figures["recipients"], figures["plain_cpu"]
    line(f"P9 load, {name}: CPU a recipient", 1e6 * figures["load_cpu"] / rows, None, "µs")
    line(
        f"P9 load, {name}: over csv.reader ({1e6 * plain / rows:.2f} µs)",
        figures["load_cpu"] / plain,
        goal,
        "x",
    )
    share = figures["written"] / figures["ledger"]
    # The goal is for lists that are all different: others write far less, but their ledgers are small.
    most = 3 if name == "all different" else None
    size = f"{figures['ledger'] / 1e6:.1f} MB"
    line(f"P9b load, {name}: bytes written over the ledger ({size})", share, most, "x")
    over = figures["export_cpu"] / figures["writer_cpu"]
    each = 1e6 * figures["export_cpu"] / rows
    line(f"P18 export, {name}: over csv.writer alone ({each:.2f} µs a recipient)", over, 3, "x")


def judging(name: str, path: Path, recipients: int) -> None:
    """Print what reading and judging alone takes."""
    each = 1e6 * cpu_of(partial(judge_all, path)) / recipients
    line(f"judging alone, {name}: CPU a recipient", each, None, "µs")


def lists(many: int) -> Iterator[tuple[str, int, float]]:
    """Yield each kind of list: name, sets of parameters, and the goal over `csv.reader`."""
    yield "1 set", 1, 8
    yield "200 sets", 200, 8
    yield "all different", many, 45


def measure(many: int, folder: Path, *, singles: int) -> None:
    """Print the figures for lists of one length."""
    print(f"{many:,} recipients, batches of {BATCH:,}, Python {sys.version.split()[0]}")
    path, small = folder / "list.csv", folder / "small.csv"
    write_csv(small, 10_000, 200)
    least = child(small, folder)["peak_mb"]
    write_csv(path, many, 200, valid=False)
    judging("possible but not valid numbers", path, many)
    peaks: list[float] = []
    for name, sets, goal in lists(many):
        write_csv(path, many, sets)
        if sets == 200:
            judging("valid numbers", path, many)
            plans = child(path, folder, runs=False, plans=True)["load_cpu"]
        figures = child(path, folder, runs=sets <= 200)
        loading(name, figures, goal)
        if sets == 200:
            more = 1e6 * (plans - figures["load_cpu"]) / figures["recipients"]
            line("P9 load with the extra `phone`, import included: CPU a recipient more", more, 1, "µs")
        peaks.append(figures["peak_mb"])
        if sets <= 200:
            most = (1010 if sets == 1 else 1300) * max(many, 200_000) / 1_000_000
            line(f"requests for {many:,}, {name}", figures["requests"], most, "requests")
            line(
                f"P13 run, {name}: CPU a batch of up to {BATCH:,}",
                1e3 * figures["run_cpu"] / figures["sent"],
                None,
                "ms",
            )
    line("P8 peak memory, CSV → plan → ledger → no-op server", max(peaks), 80, "MB")
    line(f"P8 over the same with 10,000 ({least:.1f} MB)", max(peaks) / least, 1.3, "x")
    write_csv(path, singles, singles)
    figures, plain = child(path, folder), loop_of_singles(singles)
    each = figures["run_cpu"] / figures["sent"]
    line(f"P13 a durable single send: {1e6 * each:,.0f} µs, over the same send without", each / plain, 2, "x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--singles", type=int, default=2000)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--writer", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        path, folder, how = given.child
        if how.endswith("without plans"):
            sys.modules["phonenumbers"] = None  # type: ignore[assignment]  # its import fails from now on
        print(json.dumps(asyncio.run(campaign_of(Path(path), Path(folder), runs=how.startswith("run")))))
        return
    if given.writer:
        write_plainly(*map(Path, given.writer))
        return
    with tempfile.TemporaryDirectory() as folder:
        for many in given.recipients:
            measure(many, Path(folder), singles=given.singles)


if __name__ == "__main__":
    main()
