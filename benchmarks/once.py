"""P20: a send under an idempotency key over one without, beside two recipes that users write by hand.

The recipes: `SET key NX` in Redis before the send and the reply after it, and a UNIQUE column in the user's
own SQLite table. Both lose a key's outcome if the process dies between the POST and the second write.
"""

import asyncio
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import httpx

from benchmarks.figures import note
from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.once import SendLog

SENDS, ROUNDS = 100, 9
PHONE = "+905551112233"
Send = Callable[[str], Awaitable[object]]


def client(**options: object) -> AsyncDesk360:
    """Make a client whose server answers at once."""
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"message_id": "gBEG"}))
    limiter = TokenBucket(10_000, 0.001)
    return AsyncDesk360("k", integration_id=1, transport=answer, limiter=limiter, **options)  # type: ignore[arg-type]  # passed on


class Column:
    """A UNIQUE column in the user's table, with the durability that a send log has."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("CREATE TABLE sent (key TEXT PRIMARY KEY, message_id TEXT)")

    def begin(self, key: str) -> None:
        """Take the key."""
        self.db.execute("INSERT INTO sent (key) VALUES (?)", (key,))

    def end(self, key: str, message_id: str) -> None:
        """Store the reply."""
        self.db.execute("UPDATE sent SET message_id = ? WHERE key = ?", (message_id, key))


def redis_server(folder: Path) -> tuple[subprocess.Popen[bytes], int] | None:
    """Start Redis with an append-only file that is synced at each write; None where it isn't installed."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ["--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    return process, port


async def timed(send: Send, prefix: str) -> tuple[float, float]:
    """Return wall and CPU milliseconds a send."""
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(SENDS):
        await send(f"{prefix}-{number}")
    return (time.perf_counter() - wall) / SENDS * 1e3, (time.process_time() - cpu) / SENDS * 1e3


async def main() -> None:
    """Alternate the variants, and print medians with their spread."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain = await stack.enter_async_context(client())
        keyed = await stack.enter_async_context(client(send_log=SendLog(folder / "sends.db")))
        column = Column(folder / "users.db")

        async def with_column(key: str) -> None:
            await asyncio.to_thread(column.begin, key)
            sent = await plain.send_text(PHONE, "x")
            await asyncio.to_thread(column.end, key, sent.message_id)

        variants: dict[str, Send] = {
            "without a key": lambda _: plain.send_text(PHONE, "x"),
            "under a key": lambda key: keyed.send_text(PHONE, "x", idempotency_key=key),
            "UNIQUE column": with_column,
        }
        if (started := redis_server(folder)) is not None:
            import redis.asyncio

            stack.callback(started[0].wait)
            stack.callback(started[0].terminate)
            store = redis.asyncio.Redis(port=started[1])
            stack.push_async_callback(store.aclose)

            async def with_redis(key: str) -> None:
                await store.set(key, "", nx=True)
                sent = await plain.send_text(PHONE, "x")
                await store.set(key, sent.message_id)

            variants["Redis, synced"] = with_redis
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        numbers = count()
        for _ in range(ROUNDS):
            for name, send in variants.items():
                figures[name].append(await timed(send, f"{name}-{next(numbers)}"))
    base = statistics.median(wall for wall, _ in figures["without a key"])
    for name, rounds in figures.items():
        walls, cpus = sorted(w for w, _ in rounds), sorted(c for _, c in rounds)
        middle = statistics.median(walls)
        print(
            f"P20 {name:14} wall {middle:6.2f} ms ({walls[0]:.2f}-{walls[-1]:.2f}), +{middle - base:.2f} ms; "
            f"CPU {statistics.median(cpus):.2f} ms ({cpus[0]:.2f}-{cpus[-1]:.2f})"
        )
        if name != "without a key":
            note(f"P20 a send {name}, more wall time", [wall - base for wall in walls], unit="ms")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
