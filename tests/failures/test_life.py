"""A client's life: its loop, its process, its end; and what a cancelled call leaves behind."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import AsyncDesk360, ClientStateError, SendResult, TextMessage, TokenBucket
from tests.failures.echo import accepting
from tests.failures.scenarios import at_once, sends
from tests.failures.servers import Server

MESSAGE = TextMessage("+905551234567", "Merhaba")
ROOT = Path(__file__).parents[2]


def client_of(url: str, **options: Any) -> AsyncDesk360:
    """Return a client of a server."""
    return AsyncDesk360(
        "k", integration_id=1, base_url=url, limiter=TokenBucket(limit=1000, period=1.0), **options
    )


def counting(seen: list[httpx.Request]) -> httpx.MockTransport:
    """Return a transport that accepts every send and notes it."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"message_id": "gBEGx"})

    return httpx.MockTransport(answer)


def test_second_loop() -> None:
    """A second event loop is refused before a byte is sent, and the message says what to do."""
    seen: list[httpx.Request] = []
    client = client_of("http://localhost", transport=counting(seen))
    asyncio.run(client.send(MESSAGE))
    with pytest.raises(ClientStateError, match=r"another event loop.*make one AsyncDesk360") as caught:
        asyncio.run(client.send(MESSAGE))
    assert len(seen) == 1
    assert caught.value.outcome == "not_sent"


@pytest.mark.anyio
async def test_closed() -> None:
    """A closed client refuses every call; closing it twice is fine."""
    seen: list[httpx.Request] = []
    client = client_of("http://localhost", transport=counting(seen))
    await client.aclose()
    await client.aclose()
    for call in (client.send(MESSAGE), client.integrations.list(), client.read_media("1")):
        with pytest.raises(ClientStateError, match="closed"):
            await call
    assert not seen


FORKS = """
import asyncio, os, sys
from desk360_async import AsyncDesk360, ClientStateError
client = AsyncDesk360("k", integration_id=1, base_url=sys.argv[1])
asyncio.run(client.send_text("+905551234567", "from the parent"))
child = os.fork()
if child == 0:
    try:
        asyncio.run(client.send_text("+905551234567", "from the child"))
    except ClientStateError as error:
        os._exit(42 if "fork" in str(error) and error.outcome == "not_sent" else 1)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.real
def test_forked_child() -> None:
    """A forked child is refused before a byte is sent on its parent's connections."""
    with accepting(0.0) as server:
        run = subprocess.run(
            [sys.executable, "-c", FORKS, f"http://127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=ROOT,
        )
        assert (run.stdout.strip(), server.accepted) == ("42", 1), run.stderr


TERMINATED = """
import asyncio, signal, sys
from collections import Counter
from desk360_async import AsyncDesk360, TokenBucket

async def main():
    ends = Counter()
    client = AsyncDesk360("k", integration_id=1, base_url=sys.argv[1],
                          on_result=lambda r: ends.update([r.outcome]),
                          limiter=TokenBucket(limit=8, period=60.0))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sends = [asyncio.create_task(client.send_text(f"+90555123456{i % 10}", "x")) for i in range(20)]
    print("started", flush=True)
    await stop.wait()
    await client.aclose()
    await asyncio.gather(*sends, return_exceptions=True)
    print(ends["accepted"], ends["not_sent"], ends["unknown"], flush=True)

asyncio.run(main())
"""


@pytest.mark.real
def test_sigterm() -> None:
    """SIGTERM with 8 sends on the wire and 12 in line: 8 accepted, 12 not sent, 0 unknown."""
    with accepting(0.0) as server:
        server.delay = 1.0
        process = subprocess.Popen(
            [sys.executable, "-c", TERMINATED, f"http://127.0.0.1:{server.port}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        until = time.monotonic() + 10
        while server.accepted < 8 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert (out.split(), process.returncode, server.accepted) == (["8", "12", "0"], 0, 8)


@pytest.mark.real
@pytest.mark.anyio
async def test_who_cuts_a_drain_short_ends_what_is_on_the_wire() -> None:
    """`aclose` gives each call its own timeout; ended before that, calls are UNKNOWN, and it is closed."""
    ends: list[SendResult] = []
    with Server(sends(then="hold")) as server:
        client = client_of(f"http://127.0.0.1:{server.port}", timeout=0.3, on_result=ends.append)
        patient = client.with_options(timeout=20.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ended, patient)
            while not server.cue.is_set():
                await anyio.sleep(0.01)
            with anyio.fail_after(10), anyio.move_on_after(0.3):
                await client.aclose()
    assert [end.outcome for end in ends] == ["unknown"]


async def ended(client: AsyncDesk360) -> None:
    """Make a send that ends UNKNOWN."""
    with pytest.raises(Exception, match="may have gone out"):
        await client.send(MESSAGE)


@pytest.mark.real
@pytest.mark.anyio
async def test_closed_twice_at_once() -> None:
    """Two tasks that close the client both wait for its end, and no longer."""
    with accepting(0.0) as server:
        server.delay = 0.5
        client = client_of(f"http://127.0.0.1:{server.port}", timeout=20.0)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.send, MESSAGE)
                while not server.accepted:
                    await anyio.sleep(0.01)
                tasks.start_soon(client.aclose)
                tasks.start_soon(client.aclose)


@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_task_cancel() -> None:
    """`Task.cancel(msg)` ends a send at once with its own CancelledError, and `on_result` sees UNKNOWN."""
    ends: list[SendResult] = []
    with Server(sends(then="hold")) as server:
        client = client_of(f"http://127.0.0.1:{server.port}", on_result=ends.append)
        task = asyncio.create_task(client.send(MESSAGE))
        while not server.cue.is_set():
            await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert time.monotonic() - began < 2  # the client's own timeout is 30 s
        await client.aclose()
    assert [end.outcome for end in ends] == ["unknown"]
    assert str(ends[0].error) == "ended by CancelledError"


@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_asyncio_timeout() -> None:
    """`asyncio.timeout` around a send raises the caller's own TimeoutError, not ours."""
    ends: list[SendResult] = []
    with Server(at_once("hold")) as server:
        client = client_of(f"http://127.0.0.1:{server.port}", on_result=ends.append)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1.0):
                await client.send(MESSAGE)
        await client.aclose()
    assert type(caught.value) is TimeoutError
    assert [end.outcome for end in ends] == ["unknown"]


@pytest.mark.real
@pytest.mark.anyio
async def test_move_on_after() -> None:
    """`anyio.move_on_after` around a send catches its own cancellation, on both loops."""
    ends: list[SendResult] = []
    with Server(at_once("hold")) as server:
        client = client_of(f"http://127.0.0.1:{server.port}", on_result=ends.append)
        with anyio.move_on_after(1.0) as scope:
            await client.send(MESSAGE)
        await client.aclose()
    assert scope.cancelled_caught
    assert [end.outcome for end in ends] == ["unknown"]
