"""The receiver under load, kills and slow clients, for real. The figures are printed."""

import asyncio
import collections
import json
import os
import random
import signal
import socket
import statistics
import time
from pathlib import Path

import pytest

from desk360_async.webhooks import SQLiteInbox, WebhookReceiver

pytestmark = pytest.mark.real


def message(key, sender):
    """Return a body with one text message."""
    return json.dumps({"messages": {"id": key, "from": sender, "type": "text", "text": key}}).encode()


def with_repeats(keys, share):
    """Return the keys in order, with that share of them repeated somewhere later."""
    chance = random.Random(7)
    sent = list(keys)
    for key in chance.sample(keys, round(len(keys) * share)):
        sent.insert(chance.randrange(sent.index(key) + 1, len(sent) + 1), key)
    return sent


async def burst(hosts, port, connection, phones, each):
    """Send the events of some phones over one connection in bursts; return the statuses."""
    link, statuses = hosts.Connection(port), []
    keys = with_repeats([f"{phone}-{n}" for n in range(each) for phone in phones], 0.1)
    for at, key in enumerate(keys):
        statuses.append(await link.post(message(key, key.split("-")[0])))
        if at % 50 == connection:
            await asyncio.sleep(0.02)
    link.close()
    return statuses


def test_bursts(hosts, capsys):
    """10,000 events from 50 connections, 1,000 repeats, 1,000 failures: each is handled once, in order."""
    receiver, handled = WebhookReceiver("secret"), collections.defaultdict(list)

    @receiver.on_message
    async def handle(event):
        await asyncio.sleep(0)
        number = int(event.id.split("-")[1])
        handled[event.sender].append(number)
        if number % 10 == 0:
            raise LookupError

    async def clients(port):
        phones = [[f"90555{connection:04}{n:03}" for n in range(4)] for connection in range(50)]
        return await asyncio.gather(*(burst(hosts, port, n, some, 50) for n, some in enumerate(phones)))

    with hosts.on_uvicorn(receiver) as port:
        started = time.perf_counter()
        statuses = collections.Counter(status for some in asyncio.run(clients(port)) for status in some)
        spent = time.perf_counter() - started
    with capsys.disabled():
        print(f"\n11,000 requests in {spent:.1f} s, {11_000 / spent:.0f} a second: {receiver.stats}")
    assert statuses == {200: 11_000}
    assert dict(handled) == {phone: list(range(50)) for phone in handled}
    assert len(handled) == 200
    assert (receiver.stats.handled, receiver.stats.failed, receiver.stats.duplicates) == (
        10_000,
        1_000,
        1_000,
    )


async def until_taken(link, body, acknowledged, key):
    """Post until the answer is 200, as a sender that repeats itself does."""
    while True:
        try:
            status = await link.post(body)
        except ConnectionError:
            await asyncio.sleep(0.02)
            continue
        if status == 200:
            acknowledged.append(key)
            return


async def send_all(hosts, port, keys, acknowledged):
    """Send the keys over 20 connections."""

    async def some(mine):
        link = hosts.Connection(port)
        for key in mine:
            await until_taken(link, message(key, key.split("-")[0]), acknowledged, key)
        link.close()

    await asyncio.gather(*(some(keys[n::20]) for n in range(20)))


async def kill_three_times(hosts, port, folder, keys, acknowledged):
    """Send the keys to a server that is killed and restarted three times; return what was unmarked then."""
    sending, between = None, set()
    for mark in (400, 1_000, 1_600):
        with hosts.killable(port, folder) as process:
            sending = sending or asyncio.create_task(send_all(hosts, port, keys, acknowledged))
            while len(acknowledged) < mark:
                await asyncio.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        between |= hosts.unmarked(folder) & set((folder / "handled").read_text().split())
    with hosts.killable(port, folder):
        await sending
        async with asyncio.timeout(30):  # a new server looks for a dead one's events twice a second
            while set((folder / "handled").read_text().split()) < set(keys):
                await asyncio.sleep(0.05)
    return between


def test_kills(hosts, tmp_path, capsys):
    """Killed three times, an inbox loses nothing; twice is handled only what the kill found unmarked."""
    keys = [f"9055500000{phone:02}-{n}" for n in range(100) for phone in range(20)]
    acknowledged = []
    between = asyncio.run(kill_three_times(hosts, hosts.free_port(), tmp_path, keys, acknowledged))
    handled = collections.Counter((tmp_path / "handled").read_text().split())
    twice = {key for key, times in handled.items() if times > 1}
    with capsys.disabled():
        print(f"\n3 kills, {len(keys)} events: {len(keys) - len(handled)} lost, {len(twice)} handled twice")
    assert sorted(acknowledged) == sorted(keys)
    assert set(handled) == set(keys)
    assert twice <= between


def memory(process):
    """Return a process's resident memory in bytes."""
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def drip(hosts, port, started):
    """Send a body of a megabyte byte by byte; return the status, or None if the server hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.readline())
    writer.write(hosts.head("/secret", 1_000_000))
    started.append(writer)
    while not answer.done():
        writer.write(b"{")
        await asyncio.wait([answer], timeout=0.5)
    writer.transport.abort()
    return int(answer.result().split()[1]) if answer.result() else None


async def siege(hosts, port):
    """Post honestly while 500 connections drip; return the latencies in seconds, and the drips' statuses."""
    started, link, latencies = [], hosts.Connection(port), []
    drips = [asyncio.create_task(drip(hosts, port, started)) for _ in range(500)]
    while len(started) < len(drips):
        await asyncio.sleep(0.01)
    for n in range(200):
        before = time.perf_counter()
        assert await link.post(message(f"905551112233-{n}", "905551112233")) == 200
        latencies.append(time.perf_counter() - before)
    link.close()
    return latencies, await asyncio.gather(*drips)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_slow_loris(hosts, tmp_path, capsys):
    """500 connections that drip are cut off in time, cost little memory, and honest requests are answered."""
    port = hosts.free_port()
    with hosts.killable(port, tmp_path) as process:
        before = memory(process)
        latencies, statuses = asyncio.run(siege(hosts, port))
        growth = (memory(process) - before) / 2**20
    p99 = statistics.quantiles(latencies, n=100)[98]
    with capsys.disabled():
        print(f"\n500 slow connections: p99 of honest requests {p99 * 1000:.1f} ms, memory +{growth:.0f} MiB")
    assert set(statuses) == {408}
    assert growth < 64
    assert p99 < 1


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the workers share a port")
def test_a_storm_of_statuses_on_workers_that_are_killed(storm, capsys):
    """A campaign gets each status, and messages don't wait behind them; `nox -s storm` is the full size."""
    figures = storm.storm(workers=2, kills=3, statuses=4_000, messages=500)
    with capsys.disabled():
        print(f"\n2 workers, 3 killed, 4,000 statuses and 500 messages: {figures}")
    assert figures["lost"] == 0
    assert figures["messages p99"] < 1
    assert figures["twice without a reason"] == 0


class CountedCommits(SQLiteInbox):
    """An inbox that counts its commits."""

    commits = 0

    async def commit(self, *args, **kwargs):
        self.commits += 1
        return await super().commit(*args, **kwargs)


def test_fifty_thousand_events_in_one_body(tmp_path, capsys):
    """Their marks share commits, so that they take seconds."""
    body = json.dumps({"messages": [{"id": str(n)} for n in range(50_000)]}).encode()
    inbox = CountedCommits(tmp_path / "inbox.db")
    receiver = WebhookReceiver("secret", inbox=inbox, max_body=2_000_000)

    async def main():
        async with receiver:
            assert (await receiver.receive("secret", {}, body)).status == 200
            answered = time.perf_counter() - started
            while receiver.stats.handled < 50_000:
                await asyncio.sleep(0.02)
        return answered

    started = time.perf_counter()
    answered = asyncio.run(main())
    spent = time.perf_counter() - started
    with capsys.disabled():
        print(f"\n50,000 events in one body: answered after {answered:.1f} s, all marked after {spent:.1f} s")
    assert inbox.commits <= 100
