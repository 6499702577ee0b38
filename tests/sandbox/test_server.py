"""Over TCP: the sandbox's own server, faults on real connections, and what bytes it takes."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import httpx
import pytest

from desk360_async.sandbox import Fault, RunningServer, Sandbox, run
from desk360_async.sandbox.server import _Joined

pytestmark = [pytest.mark.real, pytest.mark.anyio]

KEY = {"Authorization": "Bearer sandbox-key"}
MESSAGES = "/v1/integrations/11/conversations/messages"
TEXT = b'{"to":"+905551112233","text":"x"}'
POST = (
    b"POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sandbox-key\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (MESSAGES.encode(), len(TEXT), TEXT)
)


@pytest.fixture
def anyio_backend() -> str:
    """What uvicorn runs on; trio has its own test below."""
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[tuple[Sandbox, RunningServer]]:
    """A sandbox that listens."""
    sandbox = Sandbox()
    async with sandbox.serve() as running:
        yield sandbox, running


def talk(server: RunningServer, request: bytes = POST) -> bytes:
    """Write bytes on a fresh connection and read to its end; a reset raises."""
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


async def test_it_answers_over_tcp(server: tuple[Sandbox, RunningServer]) -> None:
    """One Date, no Server, an exact Content-Length."""
    answer = await anyio.to_thread.run_sync(talk, server[1])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert (head.lower().count(b"\r\ndate:"), head.lower().count(b"\r\nserver:")) == (1, 0)
    assert b"\r\ncontent-length: %d" % len(body) in head.lower()


@pytest.mark.parametrize(("kind", "accepted"), [("reset_before", 0), ("reset_after", 1)])
async def test_a_reset_is_a_real_one(server: tuple[Sandbox, RunningServer], kind: Any, accepted: int) -> None:
    """RST, not FIN, with or without the message taken."""
    sandbox, running = server
    sandbox.faults.add(Fault(kind))
    with pytest.raises(ConnectionResetError):
        await anyio.to_thread.run_sync(talk, running)
    assert sandbox.accepted == accepted


async def test_a_truncated_answer_ends_in_the_middle(server: tuple[Sandbox, RunningServer]) -> None:
    """The status was seen, half of the body is missing, and the end is a clean one."""
    sandbox, running = server
    sandbox.faults.add(Fault("truncate"))
    head, _, body = (await anyio.to_thread.run_sync(talk, running)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\ncontent-length: %d" % (2 * len(body)) in head.lower()
    assert body.startswith(b'{"message_id":')


async def test_surplus_bytes_follow_the_answer(server: tuple[Sandbox, RunningServer]) -> None:
    """They look like the answer of another request, and the message was taken."""
    sandbox, running = server
    sandbox.faults.add(Fault("surplus"))
    answer = await anyio.to_thread.run_sync(talk, running)
    assert (answer.count(b"HTTP/1.1 200 OK"), answer.count(b'"message_id"'), sandbox.accepted) == (2, 2, 1)


async def test_a_keep_alive_that_was_asked_for_is_announced_and_kept() -> None:
    """An idle connection is closed after that second, and not before."""
    async with Sandbox(keep_alive=1).serve() as running, httpx.AsyncClient(base_url=running.url) as client:
        assert (await client.get("/v1/integrations", headers=KEY)).headers["Keep-Alive"] == "timeout=1"


async def test_the_page_has_a_url_while_the_sandbox_is_served() -> None:
    """For tests that open it."""
    sandbox = Sandbox()
    async with sandbox.serve() as running:
        assert sandbox.page_url == f"{running.url}/"
    with pytest.raises(RuntimeError, match="before it is served"):
        _ = sandbox.page_url


async def test_a_stall_ends_in_a_reset(server: tuple[Sandbox, RunningServer]) -> None:
    """After the time that the fault says."""
    sandbox, running = server
    sandbox.faults.add(Fault("stall", delay=0.05))
    with pytest.raises(ConnectionResetError):
        await anyio.to_thread.run_sync(talk, running)
    assert sandbox.accepted == 1


async def test_a_stall_notices_that_the_client_hung_up(server: tuple[Sandbox, RunningServer]) -> None:
    """And the server goes on with the next."""
    sandbox, running = server
    sandbox.faults.add(Fault("stall", times=1))
    async with httpx.AsyncClient(base_url=running.url, headers=KEY) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/integrations", timeout=httpx.Timeout(5.0, read=0.05))
        assert (await client.get("/integrations")).status_code == 200


async def test_a_drip_outlasts_a_timeout_per_read(server: tuple[Sandbox, RunningServer]) -> None:
    """Byte by byte; each comes in time, and yet the whole takes long."""
    sandbox, running = server
    sandbox.faults.add(Fault("drip", delay=0.005))
    async with httpx.AsyncClient(
        base_url=running.url, headers=KEY, timeout=httpx.Timeout(5.0, read=0.5)
    ) as client:
        started = time.perf_counter()
        answer = await client.get("/integrations")
    assert time.perf_counter() - started > 0.005 * len(answer.content)


async def test_a_client_that_leaves_in_its_body_is_dropped(server: tuple[Sandbox, RunningServer]) -> None:
    """Nothing is counted of a request that never came whole."""
    sandbox, running = server
    with socket.create_connection((running.host, running.port)) as connection:
        connection.sendall(POST[:-5])
        await anyio.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with anyio.fail_after(5):
        while not sandbox.requests:
            await anyio.sleep(0.01)
    assert (sandbox.requests[0].verdict, sandbox.requests[0].status, sandbox.counted) == ("dropped", None, 0)


async def test_leaving_breaks_what_is_open() -> None:
    """A stall without end does not hold the test up."""
    sandbox = Sandbox()
    sandbox.faults.add(Fault("stall"))
    with anyio.fail_after(2):
        async with anyio.create_task_group() as tasks, sandbox.serve() as running:
            tasks.start_soon(_expect_an_end, running.url)
            while not sandbox.requests:
                await anyio.sleep(0.01)


async def _expect_an_end(url: str) -> None:
    async with httpx.AsyncClient(headers=KEY) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"{url}/integrations", timeout=None)


async def test_a_thousand_destinations_are_quick(server: tuple[Sandbox, RunningServer]) -> None:
    """Well under a second of CPU, client and server together."""
    rows = [{"phone": f"+90555{n:07}"} for n in range(1, 1001)]
    body = {"template_id": 78, "language_id": 1, "destinations": rows}
    async with httpx.AsyncClient(base_url=server[1].url, headers=KEY) as client:
        started = time.process_time()
        answer = await client.post("/v1/integrations/11/conversations/templates/send/bulk", json=body)
    assert len(answer.json()["phones"]) == 1000
    assert time.process_time() - started < 1


def test_it_can_run_in_a_thread() -> None:
    """For synchronous code: requests, curl, benchmarks."""
    sandbox = Sandbox()
    with sandbox.serve_in_thread() as running:
        assert httpx.get(f"{running.url}/v1/integrations", headers=KEY).status_code == 200
    assert [entry.status for entry in sandbox.requests] == [200]
    assert not [thread for thread in threading.enumerate() if thread.name == "desk360-sandbox"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((running.host, running.port), timeout=1)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_told_to_take_the_thread(anyio_backend: str) -> None:
    """Because uvicorn is asyncio's."""
    with pytest.raises(RuntimeError, match=r"use serve_in_thread\(\)"):
        async with Sandbox().serve():
            pytest.fail("it listened without a loop")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.test"])
def test_other_machines_are_kept_out_unless_meant(host: str) -> None:
    """An open port with a known key is an invitation."""
    with pytest.raises(ValueError, match="pass allow_remote=True"), Sandbox().serve_in_thread(host):
        pytest.fail("it listened")


def test_every_address_takes_the_flag() -> None:
    """Then it listens."""
    with Sandbox().serve_in_thread("0.0.0.0", allow_remote=True) as running:
        assert httpx.get(f"http://127.0.0.1:{running.port}/_sandbox").status_code == 200


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:80"), ("::1", "http://[::1]:80")])
def test_urls_are_written_with_brackets_where_needed(host: str, url: str) -> None:
    """IPv6."""
    assert RunningServer(host, 80).url == url


_SCRIPT = """
from desk360_async.sandbox import Sandbox, run
run(Sandbox(), port=0, on_start=lambda server: print(server.url, flush=True))
print("bye", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C can't be sent to one process on Windows")
def test_ctrl_c_ends_it_gracefully() -> None:
    """No traceback, no killed process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "error", "-c", _SCRIPT]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/v1/integrations", headers=KEY).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == ("bye\n", "", 0)


def test_run_says_that_a_port_is_taken() -> None:
    """Before `on_start` is called."""
    started: Callable[[RunningServer], None] = lambda _server: pytest.fail("started")  # noqa: E731 - a def is longer
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        run(Sandbox(), port=other.getsockname()[1], on_start=started)


class _Written:
    """What a connection was asked to do."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")


@pytest.mark.parametrize(
    ("steps", "done"),
    [
        (["head", "body"], [b"headbody"]),
        (["head"], [b"head"]),
        (["head", "body", ""], [b"headbody"]),
        (["head", None, "body"], [b"head", b"body"]),
        (["head", "close"], [b"head", "close"]),
        (["head", "abort"], [b"head", "abort"]),
    ],
)
async def test_a_head_is_sent_with_its_body_or_in_the_next_turn(
    steps: list[str | None], done: list[bytes | str]
) -> None:
    """None stands for a turn of the loop."""
    written = _Written()
    joined = _Joined(cast("Any", written))
    for step in steps:
        if step is None:
            await anyio.sleep(0)
        elif step in ("close", "abort"):
            getattr(joined, step)()
        else:
            joined.write(step.encode())
    await anyio.sleep(0)
    assert written.done == done
