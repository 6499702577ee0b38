"""The use of the limit by three steady runs: `python -m tests.campaigns.steady [MINUTES] [processes]`.

Three runs send one campaign in PostgreSQL side by side in virtual time, each with a `PostgresLimiter` of its
own on one egress. The server takes 60 requests a minute in Laravel's window, and answers within 0.6 s. The
use is the number of requests that it took over the number that it would have taken. With "processes" the runs
are three processes, the sandbox answers them over TCP, and the minutes are real.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import anyio
import httpx
from attrs import frozen

from desk360_async import AsyncDesk360, PostgresLimiter
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.sandbox import Sandbox
from tests.campaigns import hail
from tests.campaigns.harness import phone
from tests.campaigns.side_by_side import virtual_clock
from tests.limiter import virtual
from tests.limiter.servers import WindowFromFirstHit, answer
from tests.postgres import cluster

LIMIT, PERIOD, RUNS = 60, 60.0, 3
GOAL = 0.97


@frozen
class Used:
    """The requests of some minutes.

    Attributes:
        share: those that were taken, over those that the limit allows.
        refused: those that were answered with 429.
    """

    share: float
    refused: int


class Server(httpx.AsyncBaseTransport):
    """Desk360 with its window, in memory."""

    def __init__(self) -> None:
        self.window = WindowFromFirstHit(LIMIT, PERIOD)
        self.taken: list[float] = []
        self.refused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Count a request half-way, and answer it."""
        await anyio.sleep(0.3)
        now = anyio.current_time()
        counted = answer(self.window, now)
        self.refused += counted.status == 429
        self.taken += [now] * (counted.status == 200)
        await anyio.sleep(0.3)
        body: object = [
            {"id": 7, "name": "offer", "translations": [{"language_id": 1, "language": "English"}]}
        ]
        if request.method == "POST":
            body = {"phones": [row["phone"] for row in json.loads(await request.aread())["destinations"]]}
        return httpx.Response(counted.status, headers=counted.headers, json=body)


def measure(dsn: str, minutes: int) -> Used:
    """Run a campaign that takes longer than so many minutes, and count those."""
    server = Server()
    with virtual_clock():
        virtual.run("asyncio", play, dsn, server, lambda: run_for(dsn, server), (minutes + 1) * LIMIT)
    first = server.taken[1]  # the look-up's token is a client's before the runs
    inside = sum(first <= at < first + minutes * PERIOD for at in server.taken)
    return Used(inside / (minutes * LIMIT), server.refused)


def client_of(dsn: str, server: Server) -> AsyncDesk360:
    """Return a client with a limiter of its own."""
    limiter = PostgresLimiter(dsn, egress="office")
    return AsyncDesk360(
        "key-key-key", integration_id=1, base_url="http://127.0.0.1", transport=server, limiter=limiter
    )


async def play(dsn: str, server: Server, run: Callable[[], Any], batches: int) -> None:
    """Load the campaign, and let the runs send it."""
    people = [Recipient(phone(n), {}) for n in range(1, 2 * batches + 1)]
    async with client_of(dsn, server) as client:
        made = Campaign("steady", template="offer", language=1, ledger=dsn, strategy="bulk", batch_size=2)
        await made.load(client, people)
    await anyio.sleep(2 * PERIOD)
    async with anyio.create_task_group() as tasks:
        for _ in range(RUNS):
            tasks.start_soon(run)


def measure_processes(dsn: str, minutes: int) -> Used:
    """Let three processes run such a campaign against a sandbox for so many real minutes, and count."""
    sandbox = Sandbox(keep=None)
    sandbox.faults.add(hail.LATE)
    with sandbox.serve_in_thread() as site, ExitStack() as stack:
        anyio.run(hail.load, dsn, site.url, (minutes + 1) * LIMIT * hail.SIZE)
        time.sleep(PERIOD)  # the look-up's token, which the runs' limiter has not counted
        for _ in range(RUNS):
            process = stack.enter_context(hail.begin(dsn, site.url, "bare", period=PERIOD, lease=60.0))
            stack.callback(process.kill)
        looked_up = sandbox.counted
        while sandbox.counted == looked_up:
            time.sleep(0.01)
        time.sleep(minutes * PERIOD)
        return Used((sandbox.counted - looked_up) / (minutes * LIMIT), sandbox.refusals)


async def run_for(dsn: str, server: Server) -> None:
    """Run the campaign to its end."""
    async with (
        client_of(dsn, server) as client,
        Campaign("steady", ledger=dsn).run(client, signals=False) as run,
    ):
        await run.wait()


def main() -> None:
    """Print it; exit with 1 if it is below the goal, or a request was refused."""
    minutes = int(sys.argv[1]) if sys.argv[1:] else 20
    way, take = ("processes", measure_processes) if "processes" in sys.argv else ("runs", measure)
    with cluster(fsync=True) as server:
        found = take(server.dsn, minutes)
    print(
        f"{RUNS} {way} for {minutes} minutes: {found.share:.4f} of the limit, goal {GOAL}; "
        f"{found.refused} requests refused"
    )
    sys.exit(found.share < GOAL or found.refused > 0)


if __name__ == "__main__":
    main()
