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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
from attrs import define

from desk360_async import AsyncDesk360, Desk360Error
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.sandbox import Fault, Sandbox
from tests.campaigns.harness import phone
from tests.campaigns.killing import ROOT
from tests.postgres import Cluster, cluster

PERIOD = 3.0  # a short minute
LEASE = 2.0
WORKERS = 3
SIZE = 10  # recipients a batch
AGE = 5.0  # seconds after which a process has begun its work, and may be killed
LATE = Fault("slow", delay=0.3)  # so that kills meet requests on the wire

Way = Literal["bare", "procrastinate"]
Process: TypeAlias = "subprocess.Popen[bytes]"


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


def begin(dsn: str, url: str, way: Way, *, period: float = PERIOD, lease: float = LEASE) -> Process:
    """Start a process that runs the campaign, or a worker that gets shares of it."""
    module = "tests.campaigns.shared_worker" if way == "bare" else "tests.workers.worker"
    command = [sys.executable, "-m", module, dsn, url, str(period), str(lease)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def is_old(_: Process, age: float) -> bool:
    """Return whether a process had time to begin its work; `age` is in seconds."""
    return age >= AGE


class Crew:
    """The processes, each with the time of its start.

    Args:
        start: starts a process.
        dice: chooses a process to kill.
        ripe: returns whether a process of an age in seconds may be killed.
    """

    def __init__(
        self,
        start: Callable[[], Process],
        dice: random.Random,
        ripe: Callable[[Process, float], bool] = is_old,
    ) -> None:
        self._start = start
        self._dice = dice
        self._ripe = ripe
        self.processes: dict[Process, float] = {}
        self.fill()

    def fill(self) -> None:
        """Start a process for each that is missing, or has died."""
        self.processes = {p: at for p, at in self.processes.items() if p.poll() in (None, 0)}
        while len(self.processes) < WORKERS:
            self.processes[self._start()] = time.monotonic()

    def kill(self) -> bool:
        """Kill a random process that is ripe; return whether there was one."""
        now = time.monotonic()
        ripe = [p for p, at in self.processes.items() if p.poll() is None and self._ripe(p, now - at)]
        if not ripe:
            return False
        victim = self._dice.choice(ripe)
        victim.kill()
        victim.wait()
        return True

    def end(self) -> None:
        """Stop all processes as a deploy does, and wait for their end."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=120)


def strike(
    server: Cluster, url: str, *, kills: int, restarts: int, dice: random.Random, way: Way
) -> tuple[int, int]:
    """Kill and restart until the campaign is over; return the kills and the restarts."""
    killed, restarted = 0, 0
    crew = Crew(
        lambda: begin(server.dsn, url, way), dice, lambda process, _: process.pid in sending(server.dsn)
    )
    while not is_over(server.dsn, crew.processes, way):
        time.sleep(dice.uniform(0.3, 1.0))
        if killed < kills:
            killed += crew.kill()
        if restarted < restarts and killed >= (restarted + 1) * kills / (restarts + 1):
            server.stop()
            time.sleep(dice.uniform(0, 2))
            server.start()
            restarted += 1
        crew.fill()
    if way == "bare":  # the other runs see the end by themselves
        for process in crew.processes:
            process.wait(timeout=120)
    crew.end()
    return killed, restarted


def sending(dsn: str) -> set[int]:
    """Return the numbers of the processes that have a request on the wire; none if the database is away."""
    import psycopg  # the extra may be missing where this module is imported

    query = (
        "SELECT w.pid FROM desk360.worker w JOIN desk360.batch b ON b.worker = w.run WHERE b.state = 'intent'"
    )
    try:
        with psycopg.connect(dsn, connect_timeout=2) as connection:
            return {pid for (pid,) in connection.execute(query)}
    except psycopg.OperationalError:
        return set()


def is_over(dsn: str, workers: Iterable[Process], way: Way) -> bool:
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
    sandbox.faults.add(LATE)
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
