"""P17: a request on a connection that stays open, to the sandbox over TCP and to `desk360 listen`.

Run: `python -m benchmarks.kept_open [ROUNDS]`. Wall time, over the same request to a bare asyncio server.
Rounds alternate. The sandbox gets messages of our client, as in a user's tests, and `listen` gets webhooks of
`httpx`. The bare server gets both, and the client's time is in both sides. Each webhook is a new event, since
a repeat costs less.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from itertools import count

import httpx

from benchmarks.figures import note
from benchmarks.pipeline import BODY, client
from benchmarks.side_by_side import answering
from desk360_async.sandbox import Sandbox
from desk360_async.testing import webhook_sample

REQUESTS = 60
ROUNDS = 15
SECRET = "a" * 24
Ask = Callable[[], Awaitable[object]]


@contextmanager
def listening() -> Generator[str]:
    """Run `desk360 listen` in another process; give its URL."""
    command = [sys.executable, "-m", "desk360_async.cli", "listen", "--port", "0", "--secret", SECRET]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline().decode()
            assert line.startswith("Webhooks for "), line
            yield line.removeprefix("Webhooks for ").split(";")[0]
        finally:
            process.terminate()


async def milliseconds(ask: Ask) -> float:
    """Return the median wall time of one request."""
    taken: list[float] = []
    for _ in range(REQUESTS):
        before = time.perf_counter()
        await ask()
        taken.append(1000 * (time.perf_counter() - before))
    return statistics.median(taken)


async def compare(name: str, ours: Ask, bare: Ask, rounds: int) -> None:
    """Print the wall time of one request, and its ratio to the bare server's."""
    pairs = [(await milliseconds(ours), await milliseconds(bare)) for _ in range(rounds + 1)]
    taken = pairs[1:]  # the first round warms both sides
    note(f"P17 a request to {name}, wall", [mine for mine, _ in taken], unit="ms")
    note(f"P17 the same, {name}", [mine / its for mine, its in taken], 2, peer="a bare server")


async def measure(bare: str, sandbox: str, listener: str, rounds: int) -> None:
    """Compare both of our servers with the bare one, each by one client."""
    sample, numbers = json.loads(webhook_sample("text")), count()

    def event() -> dict[str, object]:
        return {"messages": {**sample["messages"], "id": f"wamid.{next(numbers)}"}}

    async with (
        client(sandbox) as of_sandbox,
        client(bare) as of_bare,
        httpx.AsyncClient() as web,
    ):
        await compare(
            "the sandbox",
            lambda: of_sandbox.send_text("+905551112233", "x"),
            lambda: of_bare.send_text("+905551112233", "x"),
            rounds,
        )
        await compare(
            "desk360 listen",
            lambda: web.post(listener, json=event()),
            lambda: web.post(bare, json=event()),
            rounds,
        )


def main(rounds: int = ROUNDS) -> None:
    """Print both figures."""
    with (
        answering(BODY) as bare,
        Sandbox(api_key="key", limit=10_000_000).serve_in_thread() as sandbox,
        listening() as listener,
    ):
        asyncio.run(measure(bare, sandbox.url, listener, rounds))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
