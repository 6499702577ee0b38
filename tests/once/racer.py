"""A process that asks for many keys in one order, beside others that ask for the same."""

import sys

import anyio

from desk360_async.once import SendLog
from tests.once.harness import Server, ask


async def main(place: str, keys: int) -> None:
    """Ask for each key; print the number of requests that this process made."""
    server = Server(seconds=0.002)
    async with SendLog(place) as log:
        for number in range(keys):
            await ask(log, server, key=f"key-{number}")
    print(server.posts)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
