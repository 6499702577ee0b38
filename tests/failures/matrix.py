"""The failure matrix: runs the scenarios over loopback sockets and prints what each came to.

`python -m tests.failures.matrix [asyncio|trio] [word]`; DESK360_TEST_HTTP_STACK=httpx2 for the fork.
"""

import asyncio
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest import mock

if os.environ.get("DESK360_TEST_HTTP_STACK") == "httpx2":
    import httpx2

    httpx2.alias_httpx()

import anyio
import anyio.to_thread
import httpx
import trio
from attrs import frozen

from desk360_async import (
    AsyncDesk360,
    Attachment,
    RetryPolicy,
    SendResult,
    TextMessage,
    Timeouts,
    TokenBucket,
)
from tests.failures.scenarios import CANCELLED, SCENARIOS, Scenario
from tests.failures.servers import Server, client_context

KEY = "11|s3cretS3cretS3cretS3cretS3cretS3cret"


@frozen
class Row:
    """What a scenario came to: the client's word, and the server's."""

    scenario: Scenario
    raised: BaseException | None
    outcome: str
    reports: int
    touched: int
    arrived: int
    took: int
    late: float

    @property
    def lies(self) -> list[str]:
        """What the client says of the send that the server knows better."""
        answered = getattr(self.raised, "status", None) is not None or "body of" in self.scenario.name
        earlier = self.scenario.took if "in line" in self.scenario.name else 0
        others = 1 if "in line" in self.scenario.name else 0
        found = []
        if self.outcome == "not_sent" and self.took > earlier:
            found.append("called NOT_SENT, and carried out")
        if self.outcome == "not_sent" and not answered and self.touched > others:
            found.append("called NOT_SENT, and bytes of it arrived")
        if self.outcome == "accepted" and not self.took:
            found.append("called ACCEPTED, and never carried out")
        return found

    def __str__(self) -> str:
        name = type(self.raised).__name__ if self.raised else "(reply)"
        return (
            f"{self.scenario.name:<52} {name:<21} {self.outcome:<9} "
            f"{self.touched:>7} {self.arrived:>7} {self.took:>4}  {'; '.join(self.lies)}"
        )


class Stage:
    """What an act has to play with: the client, the server's cue, and ways to cancel."""

    phone = "+905551234567"
    message = TextMessage(phone, "Merhaba")

    def __init__(self, client: AsyncDesk360, cue: threading.Event, results: list[SendResult]) -> None:
        self.client = client
        self.results = results
        self.late = 0.0
        self._cue = cue

    async def send_text(self) -> Any:
        """Send the text message."""
        return await self.client.send(self.message)

    async def cued(self) -> None:
        """Wait for the server's cue, and until our own side rests."""
        while not self._cue.is_set():
            await anyio.sleep(0.005)
        await anyio.sleep(0.05)

    def after(self, seconds: float) -> Callable[[], Awaitable[None]]:
        """Return a wait."""
        return lambda: anyio.sleep(seconds)

    def pause(self) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
        """Return a wait for the moment when the other one is reached, which takes for ever."""
        reached = anyio.Event()

        async def slow() -> None:
            reached.set()
            await anyio.sleep_forever()

        return reached.wait, slow

    def file(self, size: int) -> Attachment:
        """Return a file of so many bytes."""
        return Attachment.from_bytes("a.jpg", b"x" * size)

    def stream(self, *, promised: int, given: int, fails: bool = False) -> Attachment:
        """Return a file whose stream doesn't keep its promise."""

        async def read() -> AsyncIterator[bytes]:
            yield b"x" * given
            await anyio.sleep(0.1)
            if fails:
                raise OSError("the disk is gone")

        return Attachment.from_stream("a.jpg", promised, read)

    async def cancel_when(self, moment: Callable[[], Awaitable[None]], work: Any) -> None:
        """Cancel a piece of work at a moment, note how long it takes to end, and pass its error on."""
        raised: BaseException | None = None
        began = 0.0

        async def run() -> None:
            nonlocal raised
            try:
                await work
            except BaseException as error:
                raised = error
                self.late = time.monotonic() - began
                raise

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await moment()
            began = time.monotonic()
            tasks.cancel_scope.cancel()
        if raised is None:
            raise AssertionError("it ended before it could be cancelled")
        raise _Cancelled from raised

    async def cancel_the_second(self) -> None:
        """Start two sends over one connection, and cancel the one that waits."""
        ended: _Cancelled | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._quietly, self.send_text())
            await self.cued()
            try:
                await self.cancel_when(self.after(0.1), self.send_text())
            except _Cancelled as error:
                ended = error
            seen = [*self.results]  # the first one's own end is another scenario
            tasks.cancel_scope.cancel()
        self.results[:] = seen
        if ended is not None:
            raise ended

    async def while_closing(self, work: Any) -> None:
        """Do something while the client is closed, by somebody who gives it 0.2 seconds."""
        async with anyio.create_task_group() as tasks:

            async def close() -> None:
                await self.cued()
                with anyio.move_on_after(0.2):
                    await self.client.aclose()

            tasks.start_soon(close)
            await _bare(work)

    async def while_closing_with_one_more(self) -> None:
        """Close the client while one send is on the wire and one waits for its connection."""
        patient = self.client.with_options(timeout=1.0)
        first = patient.send(self.message)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._quietly, first)
            await self.cued()
            error: list[BaseException] = []
            tasks.start_soon(self._quietly, patient.send(self.message), error)
            await anyio.sleep(0.1)
            await self.client.aclose()
        self.results[:] = [r for r in self.results if r.error is error[0]]
        raise error[0]

    async def _quietly(self, work: Any, errors: list[BaseException] | None = None) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # its end is looked at by on_result
            if errors is not None:
                errors.append(error)


class _Cancelled(Exception):
    """Carries a cancellation out of its task group."""


async def _bare(work: Any) -> Any:
    return await work


@contextmanager
def _names(place: str) -> Iterator[str]:
    """Let a host's name resolve badly, as the operating system would."""
    how = place.partition(":")[2]
    plain = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("api.example", b"api.example"):
            return plain(host, *args, **kwargs)
        if how == "slow":
            time.sleep(0.4)
            return plain("127.0.0.1", *args, **kwargs)
        code = socket.EAI_NONAME if how == "gone" else socket.EAI_AGAIN
        raise socket.gaierror(code, "Name or service not known")

    with mock.patch("socket.getaddrinfo", look_up):
        yield "https://api.example"


@contextmanager
def _full() -> Iterator[str]:
    """A port whose backlog is full: it answers no SYN."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(address)
        time.sleep(0.02)
        yield f"http://127.0.0.1:{address[1]}"


def _refused() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def _client(scenario: Scenario, url: str, proxy: str | None, results: list[SendResult]) -> AsyncDesk360:
    options = dict(scenario.options)
    context = client_context(newest_only=scenario.tls == "newest only") if scenario.tls else True
    transport = options.get("transport")
    return AsyncDesk360(
        KEY,
        integration_id=11,
        base_url=url,
        timeout=Timeouts(
            total=options.get("timeout", 5.0),
            connect=options.get("connect", 2.0),
            upload=options.get("upload", 5.0),
        ),
        # Two attempts: what is repeated though it may have gone out shows up at the server.
        retry=RetryPolicy(
            attempts=2,
            backoff=options.get("backoff", 0.01),
            max_retry_after=options.get("max_retry_after", 60.0),
        ),
        limiter=TokenBucket(limit=options.get("limit", 1000), period=60.0),
        verify=context,
        proxy=proxy,
        transport=transport(context) if transport else None,
        max_connections=options.get("max_connections", 4),
        on_result=results.append,
    )


async def play(scenario: Scenario) -> Row:
    """Run a scenario."""
    results: list[SendResult] = []
    raised: BaseException | None = None
    with ExitStack() as stack:
        server = stack.enter_context(Server(scenario.script))
        url = f"{'https' if scenario.tls else 'http'}://127.0.0.1:{server.port}"
        if scenario.place == "refused":
            url = _refused()
        elif scenario.place == "full":
            url = stack.enter_context(_full())
        elif scenario.place.startswith("name:"):
            url = stack.enter_context(_names(scenario.place))
        proxy = None
        if scenario.options.get("proxy") == "refused":
            proxy = _refused()
        elif callable(scenario.proxy):
            # A proxy plays the server behind it as well: what it got is what counts.
            server = stack.enter_context(Server(scenario.proxy))
            proxy = f"http://127.0.0.1:{server.port}"
        stage = Stage(_client(scenario, url, proxy, results), server.cue, results)
        try:
            await (scenario.act(stage) if scenario.act else stage.send_text())
        except _Cancelled as carried:
            raised = carried.__cause__
        except Exception as error:  # noqa: BLE001  # it is what the table is about
            raised = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        finally:
            reports = [*results]
            await stage.client.aclose()
            await anyio.to_thread.run_sync(server.stop)
    outcome = str(reports[-1].outcome) if reports else "(none)"
    return Row(
        scenario, raised, outcome, len(reports), server.touched, server.arrived, server.took, stage.late
    )


def _is_cancellation(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):  # trio's own, where several of its tasks were cancelled
        return all(_is_cancellation(inner) for inner in error.exceptions)
    return isinstance(error, asyncio.CancelledError | trio.Cancelled)


def check(row: Row) -> None:
    """Compare what a scenario came to with what it must."""
    scenario = row.scenario
    assert row.reports == 1, f"on_result saw {row.reports} ends of the send"
    if scenario.raised == CANCELLED:
        assert _is_cancellation(row.raised), repr(row.raised)
        assert row.late < 0.5, f"the cancellation took {row.late:.2f} s"
    elif scenario.raised is None:
        assert row.raised is None, repr(row.raised)
    else:
        assert type(row.raised) is scenario.raised, repr(row.raised)
        said = getattr(row.raised, "outcome", scenario.outcome)
        assert said == row.outcome, f"the error says {said}, on_result {row.outcome}"
    assert row.outcome == scenario.outcome, f"{row.outcome}: {row.raised!r}"
    assert (row.arrived, row.took) == (scenario.arrived, scenario.took)
    assert not row.lies


HEAD = f"{'scenario':<52} {'raised':<21} {'outcome':<9} {'touched':>7} {'arrived':>7} {'took':>4}"


def main() -> int:
    """Print the table, and what is wrong with it; the exit code says whether anything is."""
    backend = sys.argv[1] if len(sys.argv) > 1 else "asyncio"
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    print(f"{httpx.__name__} {httpx.__version__} on {backend}\n\n{HEAD}")
    rows, wrong, began = [], 0, time.monotonic()
    for scenario in SCENARIOS:
        if word in scenario.name:
            row = anyio.run(play, scenario, backend=backend)
            rows.append(row)
            print(row, flush=True)
            try:
                check(row)
            except AssertionError as error:
                wrong += 1
                print(f"    WRONG: {error}")
    counts = Counter(row.outcome for row in rows)
    false = {
        kind: sum(row.outcome == kind and bool(row.lies) for row in rows) for kind in ("not_sent", "accepted")
    }
    print(
        f"\n{len(rows)} scenarios in {time.monotonic() - began:.1f} s: "
        + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        + f"; called NOT_SENT and arrived: {false['not_sent']}; "
        + f"called ACCEPTED and wasn't: {false['accepted']}; not as specified: {wrong}"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
