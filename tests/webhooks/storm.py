"""A campaign's storm of statuses, with customers' messages in it, on workers that are killed.

`nox -s storm [-- STATUSES MESSAGES]` runs it with 1, 2 and 4 workers, three of which are killed. All workers
feed one campaign, whose recipients get a status each. It prints lost events, messages that were handled
twice, and how long messages waited. A repeat has a reason if a killed worker had handled the message, and the
inbox had no mark of it at the kill. A status that is handled twice leaves no trace: the ledger has it once.
"""

import asyncio
import collections
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from desk360_async import TokenBucket
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.testing import sandbox_client

spec = importlib.util.spec_from_file_location("hosts", Path(__file__).parent / "hosts.py")
hosts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hosts)

CONNECTIONS = 24


def phone_of(key):
    """Return the phone of an event: statuses have one each, and messages come from other people."""
    kind, event_id = key.split()
    return f"90{'555' if kind == 'status' else '532'}{int(event_id[1:]):06}1"


async def send(folder, recipients):
    """Send the campaign whose statuses come in."""
    campaign = Campaign("storm", template="back_in_stock", language=1, ledger=folder / "campaign.db")
    limiter = TokenBucket(10_000, 60.0, margin=0.0)
    people = [Recipient(f"+{phone_of(f'status S{n}')}", {"body-1": "Ada"}) for n in range(1, recipients + 1)]
    async with sandbox_client(limit=10_000, limiter=limiter) as (client, _):
        await campaign.load(client, people)
        async with campaign.run(client, signals=False) as events:
            end = await events.wait()
    assert end.counts.accepted == recipients, end
    return campaign


class Storm:
    """Events in random order, a tenth of them sent twice, and what became of them."""

    def __init__(self, folder, workers, statuses, messages):
        chance = random.Random(7)
        self.folder, self.number = Path(folder), workers
        self.port, self.sent, self.taken = hosts.free_port(), {}, 0
        self.killed, self.unmarked = set(), set()
        keys = [f"message M{n}" for n in range(messages)]
        self.messages, self.statuses = set(keys), statuses
        keys += [f"status S{n}" for n in range(1, statuses + 1)]
        self.campaign = asyncio.run(send(self.folder, statuses))
        keys += chance.sample(keys, len(keys) // 10)
        chance.shuffle(keys)
        self.queue = collections.deque(keys)
        self.total = len(keys)
        self.processes = [self.start() for _ in range(workers)]

    def start(self):
        """Start a worker."""
        script = Path(__file__).parent / "worker_to_kill.py"
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen([sys.executable, script, str(self.port), self.folder], env=environment)

    async def client(self):
        """Post until the queue is empty, each event until its answer is 200."""
        link = hosts.Connection(self.port)
        while self.queue:
            key = self.queue.popleft()
            kind, event_id = key.split()
            event = {"id": event_id, "from": phone_of(key)}
            event |= {"type": "text", "text": "Hi"} if kind == "message" else {"status": "read"}
            body = json.dumps({"messages" if kind == "message" else "statuses": event}).encode()
            while True:
                posted = time.time()
                try:
                    if await link.post(body) == 200:
                        break
                except OSError:
                    await asyncio.sleep(0.02)
            self.sent.setdefault(key, posted)
            self.taken += 1
        link.close()

    async def killer(self, kills):
        """Kill a worker at a quarter, a half and three quarters, and start another one."""
        for kill in range(1, kills + 1):
            while self.taken < self.total * kill / (kills + 1):
                await asyncio.sleep(0.005)
            dead = self.processes.pop(0)
            # Before the kill too: until the look after it, another worker may mark what it took over.
            unmarked = hosts.unmarked(self.folder)
            dead.send_signal(signal.SIGKILL)
            dead.wait()
            self.killed.add(dead.pid)
            unmarked |= hosts.unmarked(self.folder)
            self.unmarked |= {f"message {key}" for key in unmarked} & self.handled().keys()
            self.processes.append(self.start())

    def handled(self):
        """Return when each message was handled, and by which process, by the workers' log."""
        found = collections.defaultdict(list)
        for line in (self.folder / "handled").read_text().splitlines():
            kind, key, at, process = line.split()
            found[f"{kind} {key}"].append((float(at), int(process)))
        return found

    def is_of_dead(self, handlings):
        """Return whether each worker that handled a message, except the last one, was killed."""
        return all(process in self.killed for _, process in handlings[:-1])

    async def lost(self):
        """Return how many statuses the campaign hasn't, and how many messages weren't handled."""
        report = await self.campaign.report()
        return self.statuses - report.read, len(self.messages - self.handled().keys())

    async def run(self, kills):
        """Return the figures: lost events, messages handled twice, and their waits in seconds."""
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self.client())
            tasks.create_task(self.killer(kills))
        spent, until = time.perf_counter() - started, time.time() + 30
        while any(await self.lost()) and time.time() < until:
            await asyncio.sleep(0.2)
        lost_statuses, lost_messages = await self.lost()
        found = self.handled()
        twice = {key for key, handlings in found.items() if len(handlings) > 1}
        explained = {key for key in self.unmarked if self.is_of_dead(found[key])}
        waits = [found[key][0][0] - at for key, at in self.sent.items() if key in found and "message" in key]
        return {
            "seconds": round(spent, 1),
            "requests a second": round(self.total / spent),
            "lost": lost_statuses + lost_messages,
            "messages twice": len(twice),
            "twice without a reason": len(twice - explained),
            "messages p50": round(statistics.median(waits), 4),
            "messages p99": round(statistics.quantiles(waits, n=100)[98], 3),
        }

    def stop(self):
        """End the workers."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def storm(workers, kills, statuses, messages):
    """Run one storm, and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        blowing = Storm(folder, workers, statuses, messages)
        try:
            hosts.wait_for(blowing.port)
            return asyncio.run(blowing.run(kills))
        finally:
            blowing.stop()


if __name__ == "__main__":
    size = [int(number) for number in sys.argv[1:]] or [20_000, 500]
    for workers in (1, 2, 4):
        for kills in (0, 3):
            figures = storm(workers, kills, *size)
            print(f"{workers} workers, {kills} killed: {figures}", flush=True)
