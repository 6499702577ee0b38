"""Killing a real process at one write, sync or socket call after another, and looking what is left."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import anyio
from attrs import define, field

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.campaigns import Campaign, Counts, Done, Recipient
from desk360_async.sandbox import RunningServer, Sandbox
from tests.campaigns.harness import phone
from tests.campaigns.worker import PERIOD

WORKER = Path(__file__).with_name("worker.py")
ROOT = WORKER.parents[2]
# What a write, a sync and a socket call are to the kernel. SQLite writes and syncs in a worker thread, the
# sockets are the main thread's.
CALLS = ("pwrite64", "fdatasync", "sendto", "recvfrom")


@define(frozen=True)
class Shape:
    """How a campaign that is to be killed goes out."""

    name: str
    strategy: str
    recipients: int
    batch_size: int
    concurrency: int


SHAPES = {
    "single": Shape("single", "single", 8, 1, 1),
    "bulk": Shape("bulk", "bulk", 40, 5, 1),
    "concurrent": Shape("concurrent", "bulk", 80, 5, 4),
}


def strace() -> str | None:
    """Return the path of a strace that may trace here, if there is one."""
    found = shutil.which("strace")
    if found is None:
        return None
    works = subprocess.run([found, "-qq", "-o", os.devnull, "true"], capture_output=True, check=False)
    return found if works.returncode == 0 else None


@define
class Range:
    """A sandbox over TCP, and a ledger that is loaded once and copied for every kill."""

    folder: Path
    sandbox: Sandbox
    server: RunningServer
    tracer: str | None = field(factory=strace)

    def campaign(self, ledger: Path, shape: Shape) -> Campaign:
        """Make the campaign of a shape."""
        return Campaign(
            "kill",
            template="back_in_stock",
            language=1,
            ledger=ledger,
            strategy=shape.strategy,  # type: ignore[arg-type]  # one of the three
            batch_size=shape.batch_size,
        )

    def client(self) -> AsyncDesk360:
        """Make a client of the sandbox."""
        bucket = TokenBucket(60, PERIOD, margin=0.02)
        return AsyncDesk360("sandbox-key", integration_id=11, base_url=self.server.url, limiter=bucket)

    def loaded(self, shape: Shape) -> Path:
        """Return a fresh copy of the loaded ledger of a shape."""
        master = self.folder / f"{shape.name}.db"
        if not master.exists():
            people = [Recipient(phone(n), {"body-1": "x"}) for n in range(1, shape.recipients + 1)]

            async def load() -> None:
                async with self.client() as client:
                    await self.campaign(master, shape).load(client, people)

            anyio.run(load)
        for old in self.folder.glob("victim.db*"):
            old.unlink()
        return Path(shutil.copy(master, self.folder / "victim.db"))

    def disturb(
        self, ledger: Path, shape: Shape, call: str, how: str, **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the campaign in a process, with something done to one of its system calls."""
        command = [sys.executable, str(WORKER), str(ledger), self.server.url, str(shape.concurrency)]
        if how:
            assert self.tracer is not None
            traced = ["-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:{how}"]
            command = [self.tracer, *traced, *command]
        whole = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        return subprocess.run(command, env=whole, capture_output=True, timeout=60, check=False)

    def kill(self, ledger: Path, shape: Shape, call: str, number: int) -> bool:
        """Run the campaign in a process that dies at the n-th call; tell whether it came so far."""
        if call == "step":
            ended = self.disturb(ledger, shape, call, "", KILL_AT=str(number))
        else:
            ended = self.disturb(ledger, shape, call, f"signal=SIGKILL:when={number}")
        if ended.returncode == 0:
            return False
        assert ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), ended.stderr.decode()[-2000:]
        return True

    def survive(self, ledger: Path, shape: Shape, kills: int) -> Counts:
        """Resume to the end, and compare everybody with what the sandbox received."""

        async def resume() -> tuple[Done, dict[str, str]]:
            async with self.client() as client:
                campaign = self.campaign(ledger, shape)
                async with campaign.run(client, signals=False) as run:
                    done = await run.wait()
                await campaign.export(self.folder / "report.csv")
            rows = (self.folder / "report.csv").read_text().splitlines()[1:]
            return done, {row.split(",")[1]: row.split(",")[2] for row in rows}

        done, states = anyio.run(resume)
        received = Counter(message.phone for message in self.sandbox.received)
        assert done.end == "finished", done
        assert set(states) == {phone(n) for n in range(1, shape.recipients + 1)}, "somebody is lost"
        assert max(received.values(), default=1) == 1, "somebody was sent to twice"
        for number, state in states.items():
            assert state in ("accepted", "unknown")
            assert state != "accepted" or received[number] == 1, f"{number} is falsely accepted"
        assert done.counts.unknown <= kills * shape.concurrency * shape.batch_size
        self.sandbox.reset()
        return done.counts


def sweep(most: int, shapes: Iterable[str]) -> None:
    """Kill at every point of some shapes, up to so many of a shape and call; print what came of it."""
    sandbox = Sandbox(keep=None, period=PERIOD)
    kills = unknown = 0
    with tempfile.TemporaryDirectory() as folder, sandbox.serve_in_thread() as server:
        place = Range(Path(folder), sandbox, server)
        calls = CALLS if place.tracer else ("step",)
        for shape in map(SHAPES.__getitem__, shapes):
            for call in calls:
                counts = []
                for number in range(1, most + 1):
                    ledger = place.loaded(shape)
                    if not place.kill(ledger, shape, call, number):
                        place.sandbox.reset()
                        break
                    if number % 3 == 0:  # and once more while it recovers
                        place.kill(ledger, shape, "pwrite64" if place.tracer else "step", number // 3)
                    counts.append(place.survive(ledger, shape, 2).unknown)
                kills, unknown = kills + len(counts), unknown + sum(counts)
                print(f"{shape.name:12}{call:12}{len(counts):5} kills {sum(counts):6} unknown", flush=True)
    print(f"{kills} kills at {kills} points: 0 lost, 0 duplicated, 0 falsely accepted, {unknown} unknown")


if __name__ == "__main__":
    sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 60, sys.argv[2:] or SHAPES)
