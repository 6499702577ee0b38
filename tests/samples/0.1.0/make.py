"""Write the files of 0.1.0 that later versions must open. Run with 0.1.0 on the path, in an empty folder.

    git worktree add ../desk360-0.1.0 8acdd14
    PYTHONPATH=../desk360-0.1.0 python tests/samples/0.1.0/make.py FOLDER

Each ledger is written by its own process. `received.json` lists the phones that the server took.
"""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx

from desk360_async import AsyncDesk360, HostLimiter, TokenBucket, __version__
from desk360_async.campaigns import Campaign, Done, Recipient
from desk360_async.sandbox import Sandbox
from desk360_async.webhooks import SQLiteInbox, parse

PEOPLE = [Recipient(f"+9055{n:08d}", {"body-1": f"offer {n % 3}"}) for n in range(1, 41)]
BATCH = 4


class Server(httpx.ASGITransport):
    """The sandbox; the process ends with the n-th message on the wire, before the answer is read."""

    def __init__(self, sandbox: Sandbox, folder: Path, name: str, dies_at: int = 0) -> None:
        super().__init__(app=sandbox.app)
        self.sandbox = sandbox
        self.folder, self.name, self.dies_at = folder, name, dies_at
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        self.sent += request.method == "POST"
        if self.dies_at and self.sent == self.dies_at:
            self.write()
            os._exit(9)
        return answer

    def write(self) -> None:
        """Write down whom the server took messages for."""
        phones = [message.phone for message in self.sandbox.received]
        (self.folder / f"{self.name}.received").write_text(json.dumps(phones))


def client_of(server: Server) -> AsyncDesk360:
    return AsyncDesk360(
        "sandbox-key", integration_id=11, base_url="http://127.0.0.1", transport=server, limiter=TokenBucket()
    )


async def make(name: str, folder: Path) -> None:
    """Write one ledger, and its owner file."""
    ledger = folder / f"{name}.ledger"
    dies_at = {"interrupted": 4, "wal": 5}.get(name, 0)
    server = Server(Sandbox(keep=None), folder, name, dies_at)
    async with client_of(server) as client:
        campaign = Campaign("sale", template="back_in_stock", language=1, ledger=ledger, batch_size=BATCH)
        await campaign.load(client, [*PEOPLE, PEOPLE[0], Recipient("nonsense", {"body-1": "x"})])
        if name != "loaded":
            async with campaign.run(client, concurrency=2) as events:
                async for event in events:
                    assert not isinstance(event, Done) or event.end == "finished"
    if name == "resolved":
        with sqlite3.connect(ledger) as db:  # as a crash would have left them
            db.execute("UPDATE batch SET state = 'unknown', reason = 'crash' WHERE id IN (1, 2, 3)")
        assert await campaign.resolve("sent", batch=1) == BATCH
        assert await campaign.resolve("not_sent", batch=2) == BATCH
        assert await campaign.resolve("resend", batch=3) == BATCH
    server.write()


async def limiter(path: Path) -> None:
    """Write a limiter's file with tokens that were given back and others in use."""
    shared = HostLimiter(path, limit=60, period=60.0)
    for _ in range(3):
        (await shared.acquire("interactive", None)).done(200, {"X-RateLimit-Limit": "60"})
    await shared.acquire("bulk", None)


async def inbox(path: Path) -> None:
    """Write an inbox: one event handled, one failed, two waiting."""
    messages = [
        {
            "id": f"M{n}",
            "from": f"9055000000{n:02d}",
            "type": "text",
            "text": {"body": "hi"},
            "timestamp": "1",
        }
        for n in range(1, 4)
    ]
    statuses = [{"id": "S1", "from": "905500000001", "status": "read"}]
    store = SQLiteInbox(path, keep=100 * 365 * 86_400.0)
    await store.open()
    rows = await store.commit(parse({"messages": messages, "statuses": statuses}), [])
    await store.commit([], [(rows[0] or 0, None), (rows[1] or 0, "ValueError")])
    await store.aclose()


def main(folder: Path) -> None:
    """Write everything."""
    assert __version__ == "0.1.0", __version__
    received = {}
    for name in ("loaded", "interrupted", "wal", "finished", "resolved"):
        command = [sys.executable, __file__, str(folder), name]
        ended = subprocess.run(command, check=False).returncode
        assert ended == (9 if name in ("interrupted", "wal") else 0), (name, ended)
        record = folder / f"{name}.received"
        received[name] = json.loads(record.read_text())
        record.unlink()
    with sqlite3.connect(folder / "interrupted.ledger") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    shutil.copy(folder / "loaded.ledger-owner", folder / "gone.ledger-owner")  # its ledger is gone
    asyncio.run(limiter(folder / "limiter.sqlite"))
    asyncio.run(inbox(folder / "inbox.sqlite"))
    for path in folder.glob("*-shm"):
        path.unlink()
    (folder / "received.json").write_text(json.dumps(received, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(make(sys.argv[2], Path(sys.argv[1])))
    else:
        main(Path(sys.argv[1]))
