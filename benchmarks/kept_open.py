"""P17: a request on a connection that stays open, to the sandbox over TCP and to `desk360 listen`.

Run: `python -m benchmarks.kept_open [ROUNDS]`. Wall time, over the same request to a bare asyncio server.
Rounds alternate. The client is `httpx.Client` on each side, as in a user's tests, and its time is in both.
Each webhook is a new event, since a repeat costs less.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count

import httpx

from benchmarks.figures import note
from benchmarks.side_by_side import answering
from desk360_async.sandbox import Sandbox
from desk360_async.testing import webhook_sample

REQUESTS = 60
ROUNDS = 15
SECRET = "a" * 24
KEY = {"Authorization": "Bearer sandbox-key"}
MESSAGES = "/v1/integrations/11/conversations/messages"
MESSAGE = {"to": "+905551112233", "text": "x"}


@contextmanager
def listening() -> Generator[str]:
    """Run `desk360 listen` in another process; give its URL."""
    command = [sys.executable, "-m", "desk360_async.cli", "listen", "--port", "0", "--secret", SECRET]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline().decode()
            yield line.split("Webhooks for ")[1].split(";")[0]
        finally:
            process.terminate()


def milliseconds(post: Callable[[], httpx.Response]) -> float:
    """Return the median wall time of one request."""
    taken: list[float] = []
    for _ in range(REQUESTS):
        before = time.perf_counter()
        post().raise_for_status()
        taken.append(1000 * (time.perf_counter() - before))
    return statistics.median(taken)


def main(rounds: int = ROUNDS) -> None:
    """Print both figures."""
    sample, numbers = json.loads(webhook_sample("text")), count()

    def tell() -> httpx.Response:
        event = {"messages": {**sample["messages"], "id": f"wamid.{next(numbers)}"}}
        return client.post(listener, json=event)

    with (
        answering(b"{}") as bare,
        Sandbox(limit=10_000_000).serve_in_thread() as sandbox,
        listening() as listener,
        httpx.Client(headers=KEY) as client,
    ):
        posts: dict[str, Callable[[], httpx.Response]] = {
            "a bare server": lambda: client.post(bare, json=MESSAGE),
            "the sandbox": lambda: client.post(f"{sandbox.url}{MESSAGES}", json=MESSAGE),
            "desk360 listen": tell,
        }
        taken: dict[str, list[float]] = {name: [] for name in posts}
        for index in range(rounds + 1):
            for name, post in posts.items():
                found = milliseconds(post)
                if index:  # the first round warms all sides
                    taken[name].append(found)
    peer, plain = next(iter(taken.items()))
    for name in ("the sandbox", "desk360 listen"):
        note(f"P17 a request to {name}, wall", taken[name], unit="ms")
        over = [ours / its for ours, its in zip(taken[name], plain, strict=True)]
        note(f"P17 the same, {name}", over, 2, peer=peer)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
