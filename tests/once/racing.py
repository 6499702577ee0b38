"""Let two processes race for a key, and kill them: `python -m tests.once.racing --races 1000`.

A sandbox in a process of its own records each message that it accepts. Afterwards each key's record must fit
that: accepted means one message, not sent means none, and no key has two.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio

from desk360_async import AsyncDesk360, Desk360Error, SendUnknown, TokenBucket
from desk360_async.once import SendLog

PHONE = "+905551112233"


class Score(NamedTuple):
    """The counts of all races."""

    races: int
    kills: int
    sent_twice: int
    lost: int
    unfitting: int
    unknown: int

    def __str__(self) -> str:
        return (
            f"{self.races} races, {self.kills} kills: {self.sent_twice} keys sent twice, {self.lost} lost, "
            f"{self.unfitting} whose state does not fit the server's record; {self.unknown} unknown"
        )


@contextmanager
def sandbox() -> Iterator[str]:
    """Run a sandbox in a process of its own, and yield its URL."""
    words = ["sandbox", "--port", "0", "--limit", "1000000", "--json"]
    server = subprocess.Popen([sys.executable, "-m", "desk360_async.cli", *words], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        yield json.loads(server.stdout.readline())["url"]
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


def accepted(url: str) -> Counter[str]:
    """Return how many messages the server accepted for each key; a message's text is its key."""
    with urllib.request.urlopen(f"{url}/_sandbox/received") as answer:
        return Counter(entry["text"] for entry in json.load(answer))


def client(url: str, log: SendLog) -> AsyncDesk360:
    """Make a client with a log."""
    limiter = TokenBucket(10_000, 1.0)
    return AsyncDesk360("sandbox-key", integration_id=11, base_url=url, send_log=log, limiter=limiter)


async def send(url: str, path: Path, key: str) -> None:
    """Send one message under a key; the key is also its text."""
    async with client(url, SendLog(path, lease=5.0)) as it:
        await it.send_text(PHONE, key, idempotency_key=key)


def racer(url: str, path: Path, key: str) -> int:
    """Fork a process that sends under a key, and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        anyio.run(send, url, path, key)
    except Desk360Error:
        pass
    finally:
        os._exit(0)


def warm_up(url: str, path: Path) -> float:
    """Import all that a send needs, for the children too; return the seconds of a child's send."""
    anyio.run(send, url, path, "warm-up")
    began = time.monotonic()
    os.waitpid(racer(url, path, "span"), 0)
    return time.monotonic() - began


def race(url: str, path: Path, key: str, chance: random.Random, span: float) -> int:
    """Let two processes send under one key, kill one or both at random moments; return the kills.

    Args:
        url: the sandbox.
        path: the log.
        key: the key.
        chance: decides who is killed, and when.
        span: seconds that a send takes; a kill in it strikes before, in and after the request.
    """
    pids = [racer(url, path, key) for _ in range(2)]
    kills = 0
    for pid in pids[: chance.choice((1, 1, 2))]:
        time.sleep(chance.uniform(0, span))
        os.kill(pid, signal.SIGKILL)
        kills += 1
    for pid in pids:
        os.waitpid(pid, 0)
    return kills


async def settle(url: str, path: Path, keys: list[str]) -> tuple[int, int, int]:
    """Ask for each key once more; return lost keys, states that don't fit the record, and unknown ones."""
    before = accepted(url)
    lost = unfitting = unknown = 0
    log = SendLog(path, lease=5.0)
    async with client(url, log) as it:
        for key in keys:
            try:
                reply = await it.send_text(PHONE, key, idempotency_key=key)
            except SendUnknown:
                unknown += 1
                continue
            # A replay needs the server's record from before; a send now must not have had one.
            unfitting += before[key] != (1 if reply.replayed else 0)
        for key in keys:
            record = await log.get(key)
            lost += record is None
            if record is not None and record.state not in ("accepted", "unknown"):
                unfitting += 1
    return lost, unfitting, unknown


def run(races: int, seed: int) -> Score:
    """Run the races on a new log and a new sandbox, and return the counts."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, sandbox() as url:
        path = Path(folder) / "sends.db"
        keys = [f"order-{number}" for number in range(races)]
        span = warm_up(url, path)
        kills = sum(race(url, path, key, chance, span) for key in keys)
        lost, unfitting, unknown = anyio.run(settle, url, path, keys)
        twice = sum(count > 1 for count in accepted(url).values())
    return Score(races, kills, twice, lost, unfitting, unknown)


def main() -> int:
    """Run the races and print the counts; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    score = run(given.races, given.seed)
    print(score)
    return int(bool(score.sent_twice or score.lost or score.unfitting))


if __name__ == "__main__":
    sys.exit(main())
