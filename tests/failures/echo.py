"""A fast server for many requests: accepts every send after a while, in one thread with its own loop."""

import asyncio
import json
import random
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Accepting:
    """What the server did.

    Attributes:
        port: on 127.0.0.1.
        accepted: how many requests it carried out.
        delay: seconds that an answer takes after that; None for a random time of up to `jitter`.
    """

    def __init__(self, jitter: float) -> None:
        self.port = 0
        self.accepted = 0
        self.delay: float | None = None
        self.jitter = jitter

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client goes away."""
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.accepted += 1
                await asyncio.sleep(random.uniform(0, self.jitter) if self.delay is None else self.delay)
                body = json.dumps({"message_id": f"id-{self.accepted}"}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
                await writer.drain()
                writer.write(body)
                await writer.drain()
        writer.close()


@contextmanager
def accepting(jitter: float, context: ssl.SSLContext | None = None) -> Iterator[Accepting]:
    """Serve in a thread; each answer takes up to `jitter` seconds."""
    server = Accepting(jitter)
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.02)
        listening.close()
        await asyncio.sleep(0.2)  # clients that left in the handshake are noticed now
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield server
    finally:
        over.set()
        thread.join(5)
