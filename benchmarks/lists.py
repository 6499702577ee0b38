"""Lists: `python -m benchmarks.lists [--rows N …]`: a spreadsheet over a CSV file, and the check of a number.

The same list is loaded into a new ledger as `.csv` and as `.xlsx`, each in a process of its own, three times
in turn; the best counts. Goals: three times the CPU of CSV (the ledger's part included), memory that doesn't
grow, and 1 µs for a number that is valid as it stands.
"""

import argparse
import asyncio
import csv
import json
import subprocess
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path

from benchmarks.figures import note, peak_memory
from desk360_async._phones import Reader
from desk360_async._tables import write_sheet
from desk360_async.campaigns import Campaign

from .campaign import Taker, client_of


def phone(index: int) -> str:
    """Return the n-th number of a Turkish mobile plan, in no order."""
    return f"+90532{index * 7_919 % 10_000_000:07}"


async def load(path: Path, folder: Path) -> dict[str, float]:
    """Load a list into a new ledger; return the CPU seconds and the peak of memory in MB."""
    async with client_of(Taker()) as client:
        campaign = Campaign("lists", template="offer", language=1, ledger=folder / "ledger.db")
        await client.templates.preload()
        before = time.process_time()
        plan = await campaign.load(client, path)
        seconds = time.process_time() - before
    return {"seconds": seconds, "recipients": plan.recipients, "peak": peak_memory()}


def apart(path: Path) -> dict[str, float]:
    """Load a list in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.lists", "--child", str(path), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def check_numbers(number: int) -> float:
    """Return the CPU seconds that the check of one valid number takes, the best of five rounds."""
    phones = [phone(index) for index in range(number)]
    is_plain = Reader().is_plain
    best = float("inf")
    for _ in range(5):
        before = time.thread_time()
        plain = sum(map(is_plain, phones))
        best = min(best, time.thread_time() - before)
        assert plain == number
    return best / number


def compare(number: int) -> dict[str, float]:
    """Load a list as CSV and as a spreadsheet; print both, and return the ratio and the last peak in MB."""
    rows = [[phone(index), f"offer {index % 200}"] for index in range(number)]
    with tempfile.TemporaryDirectory() as name:
        as_csv, as_xlsx = Path(name) / "list.csv", Path(name) / "list.xlsx"
        with as_csv.open("w", newline="") as text:
            csv.writer(text).writerows([["phone", "body-1"], *rows])
        with as_xlsx.open("wb") as file:
            write_sheet(file, ["phone", "body-1"], rows)
        one, other = {"seconds": float("inf")}, {"seconds": float("inf")}
        for _ in range(3):  # in turn, so that other work on the machine meets both
            one = min(one, apart(as_csv), key=itemgetter("seconds"))
            other = min(other, apart(as_xlsx), key=itemgetter("seconds"))
    assert one["recipients"] == other["recipients"] == number
    for kind, figures in ((".csv", one), (".xlsx", other)):
        print(f"{kind:6} {number:,} rows: {figures['seconds']:.2f} s of CPU, {figures['peak']:.0f} MB")
    return {"seconds": other["seconds"] / one["seconds"], "peak": other["peak"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="sizes, ascending")
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(asyncio.run(load(Path(given.child[0]), Path(given.child[1])))))
        return
    sizes = {number: compare(number) for number in given.rows}
    smallest, largest = min(sizes), max(sizes)
    ratio = sizes[largest]["seconds"]
    note("a list from .xlsx", [ratio], 3, peer="the same from .csv")
    grown = sizes[largest]["peak"] - sizes[smallest]["peak"]
    print(f"peak of .xlsx: {grown:+.0f} MB from {smallest:,} to {largest:,} rows")
    each = 1e6 * check_numbers(100_000)
    note("P9 check of a valid number", [each], 1, unit="µs")


if __name__ == "__main__":
    main()
