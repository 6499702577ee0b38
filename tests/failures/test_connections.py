"""Connections that are used again: bytes left over, idle ones, early answers. Over real sockets."""

import asyncio
import signal
import sys

import pytest

from desk360_async import Attachment, Outcome, RequestRefused
from tests.failures import leftovers
from tests.failures.leftovers import TO, http, serving

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_answer_belongs_to_another_request(seed: int) -> None:
    """A sample of `python -m tests.failures.leftovers`: bytes left over go with their connection."""
    score = await leftovers.run(300, seed)
    assert not score.wrong
    assert score.sends == 300
    assert 100 < score.accepted == score.proper < 250


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


async def test_an_upload_whose_write_is_stuck_ends_with_the_answer() -> None:
    """The server answers once the socket is full, reads no further and keeps its side open."""
    is_over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.write(http(b"", status=413, extra=b"Connection: close\r\n"))
        await is_over.wait()

    async with serving(handle) as client:
        with pytest.raises(RequestRefused) as caught:
            async with asyncio.timeout(10.0):
                await client.send_media(TO, [Attachment.from_bytes("a.pdf", b"x" * 15_000_000)])
        is_over.set()
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
