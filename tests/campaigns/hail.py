"""Kills and restarts of the database: `python -m tests.campaigns.hail KILLS RESTARTS RECIPIENTS [WAY]`.

Three processes run one campaign in PostgreSQL against a sandbox over TCP. A random one is killed, a new one
begins at once, and now and then the database stops as in a crash. In the end each recipient is compared with
the messages that the sandbox received. The way is "bare" (each process is a run, which a supervisor begins
again) or "procrastinate" (each process is a worker, and the engine starts three shares).
"""

import csv
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import anyio
from attrs import define

from desk360_async import AsyncDesk360, Desk360Error
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.sandbox import Sandbox
from tests.campaigns.harness import phone
from tests.campaigns.killing import ROOT
from tests.postgres import Cluster, cluster

PERIOD = 3.0  # a short minute
LEASE = 2.0
WORKERS = 3
SIZE = 10  # recipients a batch

Way = Literal["bare", "procrastinate"]


@define
class Counted:
    """What a hail left behind."""

    kills: int
    restarts: int
    lost: int
    twice: int
    falsely_accepted: int
    falsely_not_sent: int
    refused: int
    stranded: int
    states: Counter[str]
    seconds: float


def begin(dsn: str, url: str, way: Way) -> subprocess.Popen[str]:
    """Start a process that runs the campaign, or a worker that gets shares of it."""
    module = "tests.campaigns.shared_worker" if way == "bare" else "tests.workers.worker"
    command = [sys.executable, "-m", module, dsn, url, str(PERIOD), str(LEASE)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def strike(
    server: Cluster, url: str, *, kills: int, restarts: int, dice: random.Random, way: Way
) -> tuple[int, int]:
    """Kill and restart until the campaign is over; return the kills and the restarts."""
    killed, restarted = 0, 0
    workers = [begin(server.dsn, url, way) for _ in range(WORKERS)]
    while not is_over(server.dsn, workers, way):
        time.sleep(dice.uniform(0.5, 2.0))
        if killed < kills:
            victim = dice.randrange(WORKERS)
            workers[victim].kill()
            killed += workers[victim].wait() != 0
        if restarted < restarts and dice.random() < restarts / max(1, kills):
            server.stop()
            time.sleep(dice.uniform(0, 2))
            server.start()
            restarted += 1
        workers = [w if w.poll() in (None, 0) else begin(server.dsn, url, way) for w in workers]
    for worker in workers:
        if way == "procrastinate":
            worker.terminate()
        worker.communicate(timeout=120)
    return killed, restarted


def is_over(dsn: str, workers: list[subprocess.Popen[str]], way: Way) -> bool:
    """Return whether a run has finished, or no recipient is left for the shares."""
    if way == "bare":
        return any(worker.poll() == 0 for worker in workers)
    try:
        counts = anyio.run(Campaign("kill", ledger=dsn).status)
    except Desk360Error:
        return False
    return not counts.pending and not counts.on_the_wire


def hail(
    server: Cluster, *, kills: int, restarts: int, recipients: int, seed: int = 1, way: Way = "bare"
) -> Counted:
    """Run a campaign to its end under kills and restarts, and count."""
    dice = random.Random(seed)  # a test's
    sandbox = Sandbox(keep=None, period=PERIOD)
    with sandbox.serve_in_thread() as site:
        anyio.run(load, server.dsn, site.url, recipients)
        if way == "procrastinate":
            anyio.run(share, server.dsn, site.url)
        began = time.monotonic()
        killed, restarted = strike(server, site.url, kills=kills, restarts=restarts, dice=dice, way=way)
        seconds = time.monotonic() - began
        states = anyio.run(states_of, server.dsn)
        received = Counter(message.phone for message in sandbox.received)
        refused = sum(request.status == 429 for request in sandbox.requests)
    return Counted(
        kills=killed,
        restarts=restarted,
        lost=sum(phone(n) not in states for n in range(1, recipients + 1)),
        twice=sum(number > 1 for number in received.values()),
        falsely_accepted=sum(state == "accepted" and not received[p] for p, state in states.items()),
        falsely_not_sent=sum(state == "not_sent" and bool(received[p]) for p, state in states.items()),
        refused=refused,
        stranded=sum(state in ("pending", "on_the_wire") for state in states.values()),
        states=Counter(states.values()),
        seconds=seconds,
    )


async def share(dsn: str, url: str) -> None:
    """Hand three shares of the campaign to the engine."""
    from tests.workers.worker import workers_at

    await workers_at(dsn, url, PERIOD, LEASE).start("kill", shares=WORKERS)


async def load(dsn: str, url: str, recipients: int) -> None:
    """Load the campaign."""
    people = [Recipient(phone(n), {"body-1": "x"}) for n in range(1, recipients + 1)]
    async with AsyncDesk360("sandbox-key", integration_id=11, base_url=url) as client:
        campaign = Campaign("kill", template="back_in_stock", language=1, ledger=dsn, batch_size=SIZE)
        await campaign.load(client, people)
    await anyio.sleep(PERIOD)  # the look-up's token, which the shared limiter has not counted


async def states_of(dsn: str) -> dict[str, str]:
    """Return each recipient's state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.csv"
        await Campaign("kill", ledger=dsn).export(path)
        with path.open() as file:
            return {row["phone"]: row["state"] for row in csv.DictReader(file)}


if __name__ == "__main__":
    with cluster(fsync=True) as made:
        given = [int(text) for text in sys.argv[1:4]]
        chosen: Way = "procrastinate" if sys.argv[4:] == ["procrastinate"] else "bare"
        print(hail(made, kills=given[0], restarts=given[1], recipients=given[2], way=chosen))
