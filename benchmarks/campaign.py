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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import httpx

from benchmarks.figures import note, peak_memory
from desk360_async import AsyncDesk360, Sent, TemplateMessage, TokenBucket
from desk360_async._phones import Reader
from desk360_async._tables import Table
from desk360_async.campaigns import Campaign
from desk360_async.campaigns._recipients import Intake, some_of

BATCH = 1000
ROUNDS = 3  # of each load and export, alternating with the peer; medians are printed
SINGLE_ROUNDS = 7  # of single sends in a campaign, alternating with plain sends


Figures: TypeAlias = dict[str, list[float]]


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
    numbers: dict[tuple[str, ...], int] = {}
    table = Table.open(path)
    blocks = table.blocks(table.mapping(["body-1"], None), ["body-1"])
    intake = Intake(["body-1"], frozenset(), Reader())

    def number(sets: Sequence[tuple[str, ...]]) -> list[int]:
        return [numbers.setdefault(given, len(numbers)) for given in sets]

    while any(map(len, intake.judge(some_of(blocks), number))):
        pass


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


async def campaign_of(path: Path, folder: Path, *, runs: bool) -> Figures:
    """Load, run if wanted, and export a campaign; return the figures."""
    taker, figures, ledger = Taker(), dict[str, list[float]](), folder / "ledger.db"
    async with client_of(taker) as client:
        campaign = Campaign("bench", template="offer", language=1, ledger=ledger, batch_size=BATCH)
        await client.templates.preload()
        plain = cpu_of(partial(read_plainly, path))
        before, bytes_before = time.process_time(), written()
        plan = await campaign.load(client, path)
        loaded = time.process_time() - before
        figures["written"] = [written() - bytes_before]
        figures["load_cpu"] = [loaded]
        figures["plain_cpu"] = [plain]
        first = loaded / ((plain + cpu_of(partial(read_plainly, path))) / 2)
        figures["ledger"] = [ledger.stat().st_size]
        figures["recipients"] = [plan.recipients]
        if runs:
            before, asked = time.process_time(), taker.requests
            async with campaign.run(client) as events:
                end = await events.wait()
            figures["run_cpu"] = [time.process_time() - before]
            assert end.end == "finished", end
            assert end.counts.accepted == plan.recipients == taker.phones
            figures["sent"] = [taker.requests - asked]
            figures["requests"] = [(await campaign.report()).requests]
        before = time.process_time()
        await campaign.status()
        figures["status_cpu"] = [time.process_time() - before]
        figures["peak_mb"] = [peak_memory()]
        figures["load_over"] = [first, *await loads_over(path, folder, client)]
    figures["export_cpu"], figures["export_over"] = await exports_over(campaign, folder)
    return figures


async def loads_over(path: Path, folder: Path, client: AsyncDesk360) -> list[float]:
    """Return the CPU of further loads, each over `csv.reader`'s on both sides of it.

    A shared machine's speed changes twofold within a minute.
    """
    over, plain = list[float](), cpu_of(partial(read_plainly, path))
    for index in range(1, ROUNDS):
        ledger = folder / f"again-{index}.db"
        again = Campaign("bench", template="offer", language=1, ledger=ledger, batch_size=BATCH)
        before = time.process_time()
        await again.load(client, path)
        loaded = time.process_time() - before
        after = cpu_of(partial(read_plainly, path))
        over.append(loaded / ((plain + after) / 2))
        plain = after
    return over


async def exports_over(campaign: Campaign, folder: Path) -> tuple[list[float], list[float]]:
    """Return the CPU of a few exports, and each over `csv.writer`'s on both sides of it."""
    report, taken, over = folder / "report.csv", list[float](), list[float]()
    await campaign.export(report)
    plain = await asyncio.to_thread(_plain_writer, report, folder)
    for _ in range(ROUNDS):
        before = time.process_time()
        await campaign.export(report)
        taken.append(time.process_time() - before)
        after = await asyncio.to_thread(_plain_writer, report, folder)
        over.append(taken[-1] / ((plain + after) / 2))
        plain = after
    return taken, over


def _plain_writer(report: Path, folder: Path) -> float:
    return float(json.loads(_output(["--writer", str(report), str(folder)])))


def child(path: Path, folder: Path, *, runs: bool = True, plans: bool = False) -> Figures:
    """Run one campaign in a process of its own, for its peak of memory.

    Args:
        path: the list.
        folder: for the ledger and the report.
        runs: whether the campaign is sent too.
        plans: whether phonenumbers is there to be imported (extra `phone`).
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        how = ["--child", str(path), own, f"{'run' if runs else 'load'}{'' if plans else ' without plans'}"]
        return dict(json.loads(_output(how)))


def _output(how: list[str]) -> str:
    command = [sys.executable, "-m", "benchmarks.campaign", *how]
    # Byte code is cached, as it is for an installed package: phonenumbers' import takes 16 ms instead of 53.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = _byte_code().name
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout


@cache
def _byte_code() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()


async def singles_over(count: int, folder: Path) -> tuple[list[float], list[float]]:
    """Return the CPU seconds of durable single sends in campaigns, and each over the same send without.

    The server is a no-op; tokens are left out. A campaign and a loop of plain sends alternate.
    """
    path, taken, over = folder / "list.csv", list[float](), list[float]()
    write_csv(path, count, count)
    async with client_of(Taker()) as client:
        await client.templates.preload()
        plain = await _plain_sends(client, count // 2)
        for index in range(SINGLE_ROUNDS):
            ledger = folder / f"singles-{index}.db"
            campaign = Campaign("bench", template="offer", language=1, ledger=ledger)
            plan = await campaign.load(client, path)
            before = time.process_time()
            async with campaign.run(client) as events:
                assert (await events.wait()).end == "finished"
            taken.append((time.process_time() - before) / plan.recipients)
            after = await _plain_sends(client, count // 2)
            over.append(taken[-1] / ((plain + after) / 2))
            plain = after
    return taken, over


async def _plain_sends(client: AsyncDesk360, count: int) -> float:
    before = time.process_time()
    for index in range(count):
        message = TemplateMessage(f"+90555{index:07d}", 7, language=1, parameters={"body-1": "x"})
        assert isinstance(await client.send(message), Sent)
    return (time.process_time() - before) / count


def line(name: str, figures: float | Sequence[float], goal: float | None, unit: str) -> None:
    """Print one figure, or the median of several, beside its goal, an upper bound."""
    note(name, [figures] if isinstance(figures, int | float) else figures, goal, unit=unit)


def loading(name: str, figures: Figures, goal: float) -> None:
    """Print what loading a list took, over `csv.reader` on the same file."""
    rows, plain = figures["recipients"][0], 1e6 * figures["plain_cpu"][0] / figures["recipients"][0]
    line(f"P9 load, {name}: CPU a recipient", 1e6 * figures["load_cpu"][0] / rows, None, "µs")
    line(f"P9 load, {name}: over csv.reader ({plain:.2f} µs)", figures["load_over"], goal, "x")
    ledger = figures["ledger"][0]
    # The goal is for lists that are all different: others write far less, but their ledgers are small.
    most = 3 if name == "all different" else None
    size = f"{ledger / 1e6:.1f} MB"
    line(
        f"P9b load, {name}: bytes written over the ledger ({size})", figures["written"][0] / ledger, most, "x"
    )
    each = 1e6 * statistics.median(figures["export_cpu"]) / rows
    over = figures["export_over"]
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


def measure(many: int, folder: Path) -> None:
    """Print the figures for lists of one length."""
    print(f"{many:,} recipients, batches of {BATCH:,}, Python {sys.version.split()[0]}")
    path, small = folder / "list.csv", folder / "small.csv"
    write_csv(small, 10_000, 200)
    child(small, folder, runs=False, plans=True)  # fills the cache of byte code
    least = child(small, folder)["peak_mb"][0]
    write_csv(path, many, 200, valid=False)
    judging("possible but not valid numbers", path, many)
    peaks: list[float] = []
    for name, sets, goal in lists(many):
        write_csv(path, many, sets)
        if sets == 200:
            judging("valid numbers", path, many)
            plans = child(path, folder, runs=False, plans=True)["load_cpu"][0]
        figures = child(path, folder, runs=sets <= 200)
        loading(name, figures, goal)
        if sets == 200:
            more = 1e6 * (plans - figures["load_cpu"][0]) / figures["recipients"][0]
            line("P9 load with the extra `phone`, import included: CPU a recipient more", more, 1, "µs")
        peaks.append(figures["peak_mb"][0])
        if sets <= 200:
            most = (1010 if sets == 1 else 1300) * max(many, 200_000) / 1_000_000
            line(f"requests for {many:,}, {name}", figures["requests"][0], most, "requests")
            line(
                f"P13 run, {name}: CPU a batch of up to {BATCH:,}",
                1e3 * figures["run_cpu"][0] / figures["sent"][0],
                None,
                "ms",
            )
    line("P8 peak memory, CSV → plan → ledger → no-op server", max(peaks), 80, "MB")
    line(f"P8 over the same with 10,000 ({least:.1f} MB)", max(peaks) / least, 1.3, "x")


def measure_singles(count: int, folder: Path) -> None:
    """Print what a durable single send takes."""
    taken, over = asyncio.run(singles_over(count, folder))
    each = 1e6 * statistics.median(taken)
    line(f"P13 a durable single send: {each:,.0f} µs, over the same send without", over, 2, "x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--singles", type=int, default=1000)
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
            measure(many, Path(folder))
        measure_singles(given.singles, Path(folder))


if __name__ == "__main__":
    main()
