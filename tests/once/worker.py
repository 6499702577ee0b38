"""Sends nine messages under nine keys, one after the other; a test kills it at a system call."""

import sys
from pathlib import Path

import anyio

from desk360_async import Desk360Error
from desk360_async.once import SendLog
from tests.once.racing import PHONE, client

KEYS = [f"order-{number}" for number in range(9)]


async def work(url: str, path: Path) -> None:
    """Send under each key; an error of one doesn't stop the others."""
    async with client(url, SendLog(path, lease=5.0)) as it:
        for key in KEYS:
            try:
                await it.send_text(PHONE, key, idempotency_key=key)
            except Desk360Error as error:
                print(f"{key}: {type(error).__name__}")


if __name__ == "__main__":
    anyio.run(work, sys.argv[1], Path(sys.argv[2]))
