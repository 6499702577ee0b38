"""What PostgreSQL costs, on a cluster of its own: `python -m benchmarks.postgres [--recipients N]`.

P19: a token, taken and given back, without and with a wait for the disk; and a batch's claim, intent and
result, where each claim takes one batch and where it takes four, as a run does. Loading a list, over the same
list into a file: wall time, and the peak of memory. The sizes of rows, from which a campaign of ten million
is computed.
"""

import argparse
import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.campaign import BATCH, Taker, client_of, write_csv
from benchmarks.figures import note, peak_memory
from desk360_async import PostgresLimiter
from desk360_async._observer import Observers
from desk360_async.campaigns import Campaign
from desk360_async.campaigns._values import Result
from tests.postgres import Cluster, cluster

TOKEN, RESULT, LOAD = 1.5, 3.0, 3.0  # goals: ms, ms, and times the file's time
STEPS = ("claim", "intent", "result")
COMMIT = "a bare commit of psycopg's"
TABLES = ("recipient", "batch", "parameter_set", "request")


def token(dsn: str, *, durable: bool, rounds: int = 300) -> list[float]:
    """Return the milliseconds of each step that takes a token, and of the one that gives it back."""
    limiter = PostgresLimiter(dsn, egress=f"durable={durable}", limit=10_000, durable=durable)
    found: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        taken = limiter._step(lambda bucket, waits, now, local: bucket.take(now, "interactive"))
        found.append((time.perf_counter() - start) * 1e3)
        limiter._step(lambda bucket, waits, now, local, token=taken: bucket.unused(token))
    limiter.close()
    return sorted(found[20:])


def campaign_in(ledger: str | Path, *, batch_size: int = BATCH, name: str = "bench") -> Campaign:
    """Return the campaign that is measured."""
    return Campaign(name, template="offer", language=1, ledger=ledger, batch_size=batch_size)


async def batches(dsn: str, folder: Path, *, together: int = 1, rounds: int = 200) -> dict[str, list[float]]:
    """Return the milliseconds of each batch's claim, intent and result, and of a bare commit beside them.

    Args:
        dsn: the ledger's.
        folder: a place for the list.
        together: batches in one claim, whose time they share; a run claims as many as it sends at once.
        rounds: number of batches.
    """
    path = folder / f"batches-{together}.csv"
    write_csv(path, rounds * 10, 1)
    found: dict[str, list[float]] = {name: [] for name in (*STEPS, COMMIT)}
    async with client_of(Taker()) as client:
        campaign = campaign_in(dsn, batch_size=10, name=f"bench-{together}")
        await campaign.load(client, path)
        with psycopg.connect(dsn, autocommit=True) as bare:
            bare.execute("CREATE TABLE IF NOT EXISTS bare (number bigint)")
            async with campaign._opened(owner=True) as ledger:
                await ledger.settings()
                await ledger.join("bench", lease=30.0, timeout=30.0, patience=1.0, observer=Observers())  # type: ignore[attr-defined]  # of PostgreSQL's ledger
                for _ in range(rounds // together):
                    start = time.perf_counter()
                    some = await ledger.claim(0, 2**60, together)
                    claim = (time.perf_counter() - start) * 1e3 / len(some)
                    for batch in some:
                        times = [time.perf_counter()]
                        request = await ledger.intend(batch)
                        times.append(time.perf_counter())
                        await ledger.conclude(batch, request, Result("accepted"))
                        times.append(time.perf_counter())
                        bare.execute("INSERT INTO bare VALUES (1)")
                        times.append(time.perf_counter())
                        found["claim"].append(claim)
                        for name, begin, end in zip(list(found)[1:], times, times[1:], strict=False):
                            found[name].append((end - begin) * 1e3)
    return {name: some[20:] for name, some in found.items()}


async def load(ledger: str, path: Path) -> dict[str, float]:
    """Load a list; return the seconds, and the peak of memory."""
    async with client_of(Taker()) as client:
        await client.templates.preload()
        start = time.perf_counter()
        plan = await campaign_in(ledger).load(client, path)
        seconds = time.perf_counter() - start
    peak = peak_memory()
    return {"recipients": plan.recipients, "seconds": seconds, "peak_mb": peak}


def child(ledger: str, path: Path) -> dict[str, float]:
    """Load in a process of its own, for its peak of memory."""
    command = [sys.executable, "-m", "benchmarks.postgres", "--child", ledger, str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(found))


def loads(server: Cluster, folder: Path, recipients: int) -> None:
    """Print loading into PostgreSQL over loading into a file, and the sizes of rows."""
    for number in (10_000, recipients):
        path = folder / f"{number}.csv"
        write_csv(path, number, 200)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS desk360 CASCADE")
        file, table = child(str(folder / f"{number}.db"), path), child(server.dsn, path)
        ratio = table["seconds"] / file["seconds"]
        # The goal is for a million; a short list shows what a load takes at least.
        goal = LOAD if number >= 1_000_000 else None
        note(f"P9 load of {number:,} into PostgreSQL", [ratio], goal, peer="into a file")
        print(
            f"load {number:,}: PostgreSQL {table['seconds']:.1f} s, file {file['seconds']:.1f} s: "
            f"{ratio:.2f}x, "
            f"goal {LOAD}x; peak {table['peak_mb']:.0f} MB and {file['peak_mb']:.0f} MB",
            flush=True,
        )
    total = 0.0
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for name in TABLES:
            query = "SELECT pg_total_relation_size(%s)"
            (size,) = connection.execute(query, (f"desk360.{name}",)).fetchone() or (0,)
            total += size
            print(f"  {name}: {size / 1e6:.1f} MB, {size / recipients:.1f} bytes a recipient")
    print(f"  10,000,000 recipients: {total / recipients * 1e7 / 1e9:.2f} GB with their indexes")


def times(name: str, found: list[float], goal: float | None) -> None:
    """Print the median and the 99th percentile."""
    p50, p99 = statistics.median(found), found[int(0.99 * len(found))]
    wanted = f", goal p50 {goal} ms" if goal else ""
    print(f"P19 {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms{wanted}", flush=True)
    note(f"P19 {name}", found, goal, unit="ms")


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(asyncio.run(load(given.child[0], Path(given.child[1])))))
        return
    with cluster(fsync=True) as server, tempfile.TemporaryDirectory() as folder:
        for durable in (False, True):
            times(
                f"a token, durable={durable}", token(server.dsn, durable=durable), None if durable else TOKEN
            )
        for together, words in ((1, ""), (4, ", four claimed at once as in a run")):
            found = asyncio.run(batches(server.dsn, Path(folder), together=together))
            for name, some in found.items():
                times(f"{name}{words}", sorted(some), None)
            whole = sorted(map(math.fsum, zip(*(found[name] for name in STEPS), strict=True)))
            times(f"a batch's claim, intent and result{words}", whole, RESULT)
        loads(server, Path(folder), given.recipients)


if __name__ == "__main__":
    main()
