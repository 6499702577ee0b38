"""Connections that are used again: bytes left over, idle ones, early answers. Over real sockets."""

import asyncio
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    Outcome,
    RequestRefused,
    RetryPolicy,
    TextMessage,
    TokenBucket,
)

pytestmark = [pytest.mark.anyio, pytest.mark.real]
TO = "+905551112233"
Answer = Callable[[str], bytes]
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def http(body: bytes, *, status: int = 200, length: int | None = None, extra: bytes = b"") -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, extra, size, body)


@asynccontextmanager
async def serving(handle: Handle, **options: Any) -> AsyncIterator[AsyncDesk360]:
    tasks: list[asyncio.Task[Any] | None] = []

    async def until_it_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(until_it_ends, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    limiter = TokenBucket(10_000, 1.0)
    async with AsyncDesk360(
        "key", integration_id=1, base_url=url, limiter=limiter, retry=RetryPolicy(attempts=1), **options
    ) as client:
        yield client
    server.close()
    await asyncio.gather(*filter(None, tasks))


def answering(answer: Answer) -> Handle:
    """Return a server's connection handler; `answer` gets the request's text and returns raw bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            writer.write(answer(re.findall(rb"text-[0-9]+", body)[0].decode()))
            await writer.drain()

    return handle


def surplus(seed: int) -> Answer:
    """Return answers of which many have bytes behind them: a newline, a notice, a whole second answer."""
    dice = random.Random(seed)  # no secret

    def answer(text: str) -> bytes:
        body = b'{"message_id": "%s"}' % text.encode()
        return dice.choice(
            [
                http(body),
                http(body) + b"\r\n",
                http(body) + b"<br>Notice: Undefined index",
                http(body) * 2,
                http(body) + http(b'{"message_id": "EVIL"}'),
                http(b"", status=500) + http(b'{"message_id": "EVIL"}'),
                http(b"", status=429, extra=b"Retry-After: 99\r\n") + http(b'{"message_id": "EVIL"}'),
                b"HTTP/1.1 204 X\r\n\r\n" + http(b'{"message_id": "EVIL"}'),
                b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\nhello",
                http(body, length=len(body) - 1),
            ]
        )

    return answer


async def outcomes_of(sends: int, seed: int) -> list[str]:
    """Return what is wrong with the outcomes of many sends, by the server's own record."""
    wrong: list[str] = []
    answers: dict[str, bytes] = {}
    plain = surplus(seed)

    def answer(text: str) -> bytes:
        answers[text] = plain(text)
        return answers[text]

    async with serving(answering(answer), max_connections=4) as client:
        messages = [TextMessage(TO, f"text-{n}") for n in range(sends)]
        retry = RetryPolicy(attempts=1, max_retry_after=0)
        fresh = client.with_options(retry=retry)
        async with fresh.send_each(messages, concurrency=4, lane="interactive") as results:
            async for result in results:
                text = result.message.text
                own = http(b'{"message_id": "%s"}' % text.encode())
                proper = answers.get(text, b"").startswith(own)
                if result.outcome is Outcome.ACCEPTED and not (proper and result.reply.message_id == text):
                    wrong.append(f"{text}: {result.reply} for {answers.get(text)!r}")
                if result.outcome is not Outcome.ACCEPTED and proper:
                    wrong.append(f"{text}: {result.error!r} for {answers.get(text)!r}")
    return wrong


async def test_no_answer_belongs_to_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes behind an answer are thrown away with their connection."""
    monkeypatch.setattr(TokenBucket, "acquire", _at_once)
    assert await outcomes_of(400, seed=1) == []


class _Ticket:
    def done(self, status: int, headers: Any) -> None: ...
    def lost(self) -> None: ...
    def unused(self) -> None: ...


async def _at_once(*_: object) -> _Ticket:
    return _Ticket()


async def test_an_announced_idle_time_ends_the_use_of_a_connection() -> None:
    """A server that closes after 1 s would leave the next send unknown."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.read(9999):
            writer.write(http(b'{"message_id": "a"}', extra=b"Keep-Alive: timeout=1\r\n"))

    async with serving(handle) as client:
        for _ in range(3):
            await client.send_text(TO, "x")
    assert connections == 3


async def test_a_refused_upload_is_read_where_the_server_lingers() -> None:
    """It answers 413 and reads no further, but keeps its side open for a moment."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(b"", status=413, extra=b"Connection: close\r\n"))
        await writer.drain()
        await asyncio.sleep(1.0)

    async with serving(handle) as client:
        with pytest.raises(RequestRefused) as caught:
            await client.send_media(TO, [Attachment.from_bytes("a.pdf", b"x" * 15_000_000)])
    assert (caught.value.status, caught.value.outcome) == (413, Outcome.NOT_SENT)


# signal(7): after SIGCONT epoll_wait fails with EINTR, and Python returns no event if the time is over. Not
# every kernel does it every time, so the child's epoll does.
STOPPED = """
import select, sys, time
class Epoll:
    def __init__(self):
        self.inner, self.kept = select_epoll(), []
    def __getattr__(self, name):
        return getattr(self.inner, name)
    def poll(self, timeout=-1, *rest):
        kept, self.kept = self.kept, []
        if kept:
            return kept
        due = time.monotonic() + timeout
        events = self.inner.poll(timeout, *rest)
        if timeout > 0 and time.monotonic() - due > 0.2:
            self.kept, events = events, []
        return events
select_epoll, select.epoll = select.epoll, Epoll
import anyio
from desk360_async import AsyncDesk360, TextMessage
port, backend = sys.argv[1:]
async def main():
    url = f"http://127.0.0.1:{port}"
    async with AsyncDesk360("key", integration_id=1, base_url=url, timeout=1.0) as client:
        (result,) = await client.send_all([TextMessage("+905551112233", "x")])
        print(result.outcome.value)
anyio.run(main, backend=backend)
"""


@pytest.mark.processes
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_stopped_process_reads_the_answer_when_it_goes_on(backend: str) -> None:
    """The deadline rings late, and the answer lies in the socket (Ctrl-Z and fg, a frozen machine)."""
    asked, stopped = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await stopped.wait()
        writer.write(http(b'{"message_id": "a"}', extra=b"Connection: close\r\n"))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPED, port, backend, stdout=asyncio.subprocess.PIPE
    )
    await asyncio.wait_for(asked.wait(), 20)
    await asyncio.sleep(0.2)  # until the child sleeps in epoll
    child.send_signal(signal.SIGSTOP)
    stopped.set()
    await asyncio.sleep(1.6)
    child.send_signal(signal.SIGCONT)
    said, _ = await asyncio.wait_for(child.communicate(), 20)
    server.close()
    assert said.decode().strip() == "accepted"
