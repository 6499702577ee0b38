"""Kill campaigns over a vendor that misbehaves: `python -m tests.failures.attack --kills 300 [--seed N]`.

Each campaign runs in a child process that is killed at random moments, and is resumed until it is finished.
Afterwards each recipient's state must fit the record of the vendor, which is a process of its own.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from attrs import define

from desk360_async import AsyncDesk360, Attachment, TokenBucket
from desk360_async.campaigns import Campaign, Recipient

FINISHED, STOPPED, CRASHED = 0, 10, 20
# Runs of one campaign after which the vendor turns honest: some modes refuse everybody.
PATIENCE = 8
# Kills of one campaign at most, so that each mode gets its turn.
KILLS = 4
# Strategy, recipients, and the bytes of the file that goes with each request.
SHAPES = (("single", 30, 0), ("bulk", 100, 0), ("bulk", 40, 500_000))


@define
class Score:
    """The counts of an attack."""

    campaigns: int = 0
    kills: int = 0
    recipients: int = 0
    accepted: int = 0
    not_sent: int = 0
    unknown: int = 0
    lost: int = 0
    sent_twice: int = 0
    falsely_accepted: int = 0
    falsely_not_sent: int = 0

    @property
    def broken(self) -> int:
        """The number of broken promises."""
        return self.lost + self.sent_twice + self.falsely_accepted + self.falsely_not_sent

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.campaigns} campaigns, {self.recipients} recipients "
            f"({self.accepted} accepted, {self.not_sent} not sent, {self.unknown} unknown): "
            f"{self.lost} lost, {self.sent_twice} sent twice, {self.falsely_accepted} falsely accepted, "
            f"{self.falsely_not_sent} falsely not sent"
        )


@contextmanager
def vendor() -> Iterator[str]:
    """Run the vendor in a process of its own, and yield its URL."""
    command = [sys.executable, "-m", "tests.failures.tcp_vendor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def ask(url: str, path: str) -> Any:
    """Ask the vendor by one of its own paths."""
    with urllib.request.urlopen(f"{url}/{path}", timeout=30) as answer:
        return json.load(answer)


@define(frozen=True)
class Target:
    """A campaign that is going to be killed.

    Attributes:
        url: the vendor's.
        ledger: its file.
        phones: its recipients, who are in no other campaign.
        strategy: "single" or "bulk".
        size: the bytes of its file; 0 without one.
    """

    url: str
    ledger: Path
    phones: list[str]
    strategy: str
    size: int = 0

    def campaign(self) -> Campaign:
        """Make the campaign."""
        return Campaign(
            "attack",
            template=76 if self.size else 75,
            language=1,
            ledger=self.ledger,
            strategy=self.strategy,  # type: ignore[arg-type]  # one of the three
            batch_size=5,
            attachment=Attachment.from_bytes("a.pdf", b"x" * self.size) if self.size else None,
        )

    def client(self) -> AsyncDesk360:
        """Make a client with a short period and short timeouts."""
        limiter = TokenBucket(10_000, 1.0)
        return AsyncDesk360("key", integration_id=1, base_url=self.url, limiter=limiter, timeout=1.0)

    async def load(self) -> None:
        """Take the recipients in."""
        async with self.client() as client:
            await self.campaign().load(client, [Recipient(phone, {"body-1": "x"}) for phone in self.phones])

    async def resume(self) -> int:
        """Run to the end, or until it stops by itself; write the states of all recipients if finished."""
        campaign = self.campaign()
        async with self.client() as client, campaign.run(client, signals=False) as run:
            done = await run.wait()
        if done.end != "finished":
            return STOPPED
        await campaign.export(self.ledger.with_suffix(".csv"))
        return FINISHED

    def fork(self) -> int:
        """Resume it in a child that has all imports already, and return the child's pid."""
        pid = os.fork()
        if pid:
            return pid
        code = CRASHED
        try:
            code = anyio.run(self.resume)
        except BaseException:  # noqa: BLE001  # a child may not go on in its parent's code
            traceback.print_exc()
        finally:
            os._exit(code)

    def states(self) -> dict[str, str]:
        """Return each recipient's state at the end."""
        with self.ledger.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
            return {row["phone"]: row["state"] for row in csv.DictReader(file)}


def destroy(target: Target, mode: str, chance: random.Random, most: int, span: float) -> int:
    """Kill a campaign at random moments, and resume it until it is finished; return the kills.

    Raises:
        RuntimeError: if an undamaged ledger isn't resumed, or the campaign never ends.
    """
    ask(target.url, f"_mode?{mode}")
    kills = 0
    for turn in range(10 * PATIENCE):
        if turn == PATIENCE:
            ask(target.url, "_mode?honest")
        pid = target.fork()
        if kills < most and turn < PATIENCE:
            time.sleep(chance.uniform(0.2 * span, span))
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == -signal.SIGKILL:
            kills += 1
        elif code == FINISHED:
            return kills
        elif code != STOPPED:
            raise RuntimeError(f"{mode}, {target.strategy}: the campaign can't be resumed ({code})")
    raise RuntimeError(f"{mode}, {target.strategy}: the campaign doesn't end")


def compare(score: Score, target: Target, took: dict[str, int], said: set[str]) -> None:
    """Count the states that don't fit the vendor's record."""
    states = target.states()
    for phone in target.phones:
        state, times = states.get(phone), took.get(phone, 0)
        score.accepted += state == "accepted"
        score.not_sent += state == "not_sent"
        score.unknown += state == "unknown"
        score.lost += state not in ("accepted", "not_sent", "unknown")
        score.sent_twice += times > 1
        score.falsely_accepted += state == "accepted" and not (times and phone in said)
        score.falsely_not_sent += state == "not_sent" and times > 0
    score.campaigns += 1
    score.recipients += len(target.phones)


def attack(kills: int, seed: int = 1, *, modes: list[str] | None = None) -> Score:
    """Attack one campaign after another: each shape in each mode, and further until the kills are enough."""
    chance, score = random.Random(seed), Score()  # no secret
    with tempfile.TemporaryDirectory() as folder, vendor() as url:
        turns = modes or ask(url, "_modes")
        began = time.monotonic()
        strike(score, targeted(url, Path(folder), 0, 0), "honest", chance, 0, 0.0)
        span = time.monotonic() - began
        while score.kills < kills or score.campaigns <= len(turns) * len(SHAPES):
            cycle, turn = divmod(score.campaigns - 1, len(turns))
            target = targeted(url, Path(folder), score.campaigns, cycle % len(SHAPES))
            most = min(KILLS, kills - score.kills)
            strike(score, target, turns[turn], chance, most, span)
            if score.campaigns % 50 == 0:
                print(score, flush=True)
        answered = ask(url, "_record")["modes"]
        print(f"{len(answered)} modes answered {sum(answered.values())} requests")
    return score


def targeted(url: str, folder: Path, number: int, shape: int) -> Target:
    """Return a campaign of a shape; its recipients are in no other one."""
    strategy, size, file = SHAPES[shape]
    phones = [f"+905{number:04}{n:05}" for n in range(size)]
    return Target(url, folder / f"{number}.db", phones, strategy, file)


def strike(score: Score, target: Target, mode: str, chance: random.Random, most: int, span: float) -> None:
    """Load a campaign, destroy it, and take its end into the score."""
    anyio.run(target.load)
    score.kills += destroy(target, mode, chance, most, span)
    record = ask(target.url, "_record")
    before = score.broken
    compare(score, target, record["took"], set(record["said"]))
    if score.broken > before:
        print(f"broken in {mode}, {target.strategy}, file of {target.size} bytes: {score}", flush=True)


def main() -> int:
    """Attack, and print the counts; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    score = attack(given.kills, given.seed)
    print(score)
    return int(score.broken > 0 or score.kills < given.kills)


if __name__ == "__main__":
    sys.exit(main())
