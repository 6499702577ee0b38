"""Deferred sends under kills: `python -m tests.workers.outbox DEFERS KILLS`.

A web app defers sends in transactions of its own, and rolls every third one back. Three workers send, and a
random one is killed now and then; a new one begins at once. In the end each key is compared with the messages
that the sandbox received, and the tables and the workers' logs are searched for phones and texts.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import psycopg
from attrs import define

from desk360_async import TextMessage
from desk360_async.once import SendLog
from desk360_async.sandbox import Sandbox
from tests.campaigns.hail import LATE, Crew, Process
from tests.campaigns.harness import phone
from tests.campaigns.killing import ROOT
from tests.postgres import Cluster, cluster
from tests.workers.worker import workers_at

PERIOD = 3.0  # a short minute
LEASE = 2.0
TEXT = "A text that no log may hold"
PATIENCE = 600.0  # seconds in which the outbox must be empty


@define
class Counted:
    """The result of deferred sends under kills."""

    committed: int
    rolled_back: int
    kills: int
    left: int
    lost: int
    twice: int
    falsely_accepted: int
    rolled_back_but_sent: int
    phones_or_texts_found: int
    states: Counter[str]
    seconds: float


class RolledBack(Exception):
    """Raised in a transaction, so that it is rolled back."""


async def defer(dsn: str, url: str, orders: int) -> int:
    """Defer sends in transactions; every third one is rolled back. Return the number that committed."""
    workers, committed = workers_at(dsn, url, PERIOD, LEASE), 0
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("CREATE TABLE orders (number integer)")
        await connection.commit()
        for number in range(1, orders + 1):
            with suppress(RolledBack):
                async with connection.transaction():
                    await connection.execute("INSERT INTO orders VALUES (%s)", (number,))
                    message = TextMessage(phone(number), TEXT)
                    await workers.defer(message, idempotency_key=f"order-{number}", connection=connection)
                    if number % 3 == 0:
                        raise RolledBack
                committed += 1
    return committed


def begin(dsn: str, url: str, log: Path) -> Process:
    """Start a worker that logs all that it may into a file."""
    command = [sys.executable, "-m", "tests.workers.worker", dsn, url, str(PERIOD), str(LEASE), str(log)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def left(dsn: str) -> int:
    """Return the number of sends in the outbox."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM desk360.outbox").fetchone()
    return int(row[0]) if row else 0


def strike(dsn: str, url: str, folder: Path, kills: int, dice: random.Random) -> int:
    """Kill workers while the outbox empties, until it is empty; return the kills."""
    names = (folder / f"{number}.log" for number in count())
    crew = Crew(lambda: begin(dsn, url, next(names)), dice)
    killed, deadline, first = 0, time.monotonic() + PATIENCE, left(dsn)
    while (waiting := left(dsn)) and time.monotonic() < deadline:
        time.sleep(dice.uniform(0.05, 0.3))
        # Spread over the work: each worker that dies has sent, or is sending.
        if killed < kills and first - waiting >= (killed + 1) * first / (kills + 2):
            killed += crew.kill()
        crew.fill()
    crew.end()
    return killed


async def states_of(dsn: str, orders: int) -> dict[int, str]:
    """Return the state of each send that has a record."""
    async with SendLog(dsn) as log:
        records = {n: await log.get(f"order-{n}") for n in range(1, orders + 1)}
    return {n: record.state for n, record in records.items() if record is not None}


def found(dsn: str, folder: Path, orders: int) -> int:
    """Return the phones and texts in procrastinate's tables and in the workers' logs."""
    places = [path.read_bytes() for path in folder.glob("*.log")]
    with psycopg.connect(dsn) as connection:
        names: list[Any] = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE 'procrastinate%'"
        ).fetchall()
        for (name,) in names:
            rows: list[Any] = connection.execute(f"SELECT t::text FROM {name} t").fetchall()  # type: ignore[call-overload]  # a table's name
            places.append("\n".join(row for (row,) in rows).encode())
    needles = [TEXT.encode(), *(phone(n)[1:].encode() for n in range(1, orders + 1))]
    return sum(needle in place for place in places for needle in needles)


def play(server: Cluster, *, defers: int, kills: int, seed: int = 1) -> Counted:
    """Defer sends, kill workers, and count."""
    dice, sandbox, began = random.Random(seed), Sandbox(keep=None, period=PERIOD), time.monotonic()
    sandbox.faults.add(LATE)
    with sandbox.serve_in_thread() as site, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        committed = anyio.run(defer, server.dsn, site.url, defers)
        killed = strike(server.dsn, site.url, folder, kills, dice)
        states = anyio.run(states_of, server.dsn, defers)
        searched = found(server.dsn, folder, defers)
    received = Counter(message.phone for message in sandbox.received)
    kept = [n for n in range(1, defers + 1) if n % 3]
    return Counted(
        committed=committed,
        rolled_back=defers - committed,
        kills=killed,
        left=left(server.dsn),
        lost=sum(states.get(n) not in ("accepted", "unknown") for n in kept),
        twice=sum(number > 1 for number in received.values()),
        falsely_accepted=sum(state == "accepted" and not received[phone(n)] for n, state in states.items()),
        rolled_back_but_sent=sum(bool(received[phone(n)]) for n in range(3, defers + 1, 3)),
        phones_or_texts_found=searched,
        states=Counter(states.values()),
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    with cluster(fsync=True) as made:
        print(play(made, defers=int(sys.argv[1]), kills=int(sys.argv[2])))
