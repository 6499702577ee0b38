"""The binding to the HTTP library: what it is told, what it leaves behind, and what its logs may show."""

import asyncio
import logging
import socket
import ssl
import sys
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import anyio
import httpcore
import httpx
import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from desk360_async import (
    Answer,
    AsyncDesk360,
    ConnectionFailed,
    RetryPolicy,
    TimedOut,
    _http,
    _threads,
)
from desk360_async._http import Request, _Body, _Once, own_transport
from desk360_async._json import MAX_BYTES
from desk360_async._outcomes import Evidence, orphans
from desk360_async._redaction import Redaction, redact_logs
from tests.core.fakes import ID, KEY, TO, Wire, connect, sent

pytestmark = pytest.mark.anyio


async def test_one_ssl_context_serves_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the CA file takes longer than a request; one's own context is used as it is."""
    monkeypatch.setattr(_http, "_contexts", {})
    made: list[Any] = []

    def create(verify: bool, *, trust_env: bool) -> ssl.SSLContext:
        made.append((verify, trust_env))
        return ssl.create_default_context()

    monkeypatch.setattr(httpx, "create_ssl_context", create)
    own = ssl.create_default_context()
    for verify in (True, True, False, False, own, own):
        transport = await own_transport(verify, proxy=None, keepalive=5)
        await transport.aclose()
    assert made == [(True, False), (False, False)]


async def test_the_environments_proxies_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would decide where the key goes."""
    monkeypatch.setenv("HTTPS_PROXY", "http://evil.example:1")
    options: list[dict[str, Any]] = []
    original = httpx.AsyncHTTPTransport

    def make(**given: Any) -> Any:
        options.append(given)
        return original(**given)

    monkeypatch.setattr(httpx, "AsyncHTTPTransport", make)
    transport = await own_transport(True, proxy=None, keepalive=5)
    await transport.aclose()
    assert (options[0]["trust_env"], options[0]["proxy"]) == (False, None)
    assert options[0]["limits"].keepalive_expiry == 4.0  # servers close after 5 s


TRACE = Evidence(trusted=True)


def request(trace: Evidence, connection: Any = None) -> Any:
    """Make a request as httpcore's pool holds it."""
    return SimpleNamespace(request=SimpleNamespace(extensions={"trace": trace}), connection=connection)


def connection(*, idle: bool = False, closed: bool = False) -> Any:
    """Make a connection."""
    return SimpleNamespace(is_idle=lambda: idle, is_closed=lambda: closed)


def test_orphans_are_taken_out_of_the_pool() -> None:
    """What no live request owns, and is neither idle nor closed, would hold its place for ever."""
    ours, owned = connection(), connection()
    kept = [owned, connection(idle=True), connection(closed=True)]
    others = request(Evidence(trusted=True), owned)
    pool = SimpleNamespace(_connections=[ours, *kept], _requests=[request(TRACE, ours), others])
    assert orphans(pool, TRACE) == [ours]
    assert (pool._connections, pool._requests) == (kept, [others])


@pytest.mark.parametrize("other", [None, SimpleNamespace(), SimpleNamespace(_connections=[], _requests=None)])
def test_another_librarys_pool_is_left_alone(other: Any) -> None:
    """A later httpcore may keep its own house."""
    assert orphans(other, TRACE) == []


async def test_the_cache_of_urls_is_bounded(wire: Wire) -> None:
    """A client lives for months."""
    wire.answers = [lambda _: httpx.Response(200, json={})]
    async with connect(wire) as client:
        for n in range(450):
            await client.request("GET", f"/x/{n}")
        http = await client._pipeline.connected()
        assert len(http._urls) <= 201


def test_a_request_shows_neither_key_nor_phone() -> None:
    """Tracebacks that show local variables print reprs."""
    text = repr(Request("POST", "https://x/y", (("authorization", KEY),), TO.encode()))
    assert KEY not in text
    assert TO not in text


async def test_a_body_of_one_piece_is_iterated_once() -> None:
    """A stand-in's transport may iterate over it by itself."""
    body = _Once(b"x")
    assert [piece async for piece in body] == [b"x"]
    assert [piece async for piece in body] == []


async def test_what_a_cancelled_handshake_left_is_closed(wire: Wire) -> None:
    """The pool closes the stream of a failed handshake, but not of a cancelled one."""
    closed: list[str] = []

    class Stream:
        async def aclose(self) -> None:
            closed.append("stream")
            raise OSError("it was broken already")

    async def connecting(request: httpx.Request) -> httpx.Response:
        trace = request.extensions["trace"]
        await trace("connection.connect_tcp.complete", {"return_value": Stream()})
        raise httpx.ConnectTimeout("slow")

    async with connect(httpx.MockTransport(connecting), retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(TimedOut):
            await client.send_text(TO, "x")
    assert closed == ["stream"]


async def test_lost_connections_are_closed_after_a_failure() -> None:
    """By us, since the pool forgets them."""
    closed: list[str] = []

    async def close() -> None:
        closed.append("connection")

    wire = Wire(httpx.ReadError("gone"))
    lost = connection()
    lost.aclose = close
    pool = SimpleNamespace(_connections=[lost], _requests=[])
    wire._pool = pool  # type: ignore[attr-defined]  # as httpx's own transport has it
    async with connect(wire) as client:
        with pytest.raises(ConnectionFailed):
            await client.send_text(TO, "x")
    assert closed == ["connection"]


async def fail() -> None:
    """Fail as a closing of a broken connection may."""
    raise OSError("it was broken already")


@pytest.mark.parametrize("first", [anyio.sleep_forever, fail], ids=["hangs", "fails"])
async def test_a_lost_connection_that_cannot_be_closed_leaves_no_other_one_open(first: Any) -> None:
    closed: list[str] = []

    async def close() -> None:
        closed.append("connection")

    wire = Wire(httpx.ReadError("gone"))
    lost = [connection(), connection()]
    lost[0].aclose, lost[1].aclose = first, close
    wire._pool = SimpleNamespace(_connections=lost, _requests=[])  # type: ignore[attr-defined]  # as httpx's own
    async with connect(wire) as client:
        with pytest.raises(ConnectionFailed):
            await client.send_text(TO, "x")
    assert closed == ["connection"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_by_asyncio_leaves_no_lost_connection_open() -> None:
    """`Task.cancel` passes anyio's shields."""
    closed: list[str] = []
    lost = [connection(), connection()]

    async def close_slowly() -> None:
        asyncio.get_running_loop().call_soon(sending.cancel)
        await anyio.sleep(0.5)

    async def close() -> None:
        closed.append("connection")

    wire = Wire(httpx.ReadError("gone"))
    lost[0].aclose, lost[1].aclose = close_slowly, close
    wire._pool = SimpleNamespace(_connections=lost, _requests=[])  # type: ignore[attr-defined]  # as httpx's own
    async with connect(wire) as client:
        sending = asyncio.create_task(client.send_text(TO, "x"))
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert closed == ["connection"]


def test_an_encrypted_stream_is_the_pools_affair() -> None:
    """Once the handshake is over."""
    trace = Evidence(trusted=True)
    anyio.run(trace, "connection.connect_tcp.complete", {"return_value": object()})
    anyio.run(trace, "connection.start_tls.complete", {"return_value": object()})
    assert trace.stream is None


def test_an_answers_repr_masks_numbers() -> None:
    """In headers and data, in groups or not; short ones stay."""
    text = repr(Answer(200, {"x": TO}, {"phone": "+90 555 111 22 33", "n": "12 34", "id": ID}))
    assert "12 34" in text
    assert all(secret not in text for secret in (TO[1:], "111 22 33", ID))


async def test_many_first_calls_make_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it finds it made."""
    made: list[Wire] = []

    async def slowly(*_: Any, **__: Any) -> Wire:
        await anyio.sleep(1)
        made.append(Wire())
        return made[-1]

    monkeypatch.setattr("desk360_async._pipeline.own_transport", slowly)
    async with connect(None) as client, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(client.send_text, TO, "x")
    assert len(made) == 1
    assert len(made[0].seen) == 5


async def test_a_download_cancelled_while_it_waits_for_a_slot_frees_nothing_it_had_not() -> None:
    """The slot is still the other's."""

    async def hang(_: Any) -> httpx.Response:
        await anyio.sleep(10)
        return sent()

    client = connect(Wire(hang, lambda _: httpx.Response(200, content=b"x")), max_connections=1)
    async with client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.send_text, TO, "x")
        await anyio.sleep(1)
        with anyio.move_on_after(1) as scope:
            await client.read_media("m")
        assert scope.cancelled_caught
        began = anyio.current_time()
        assert (await client.read_media("m")).content == b"x"
        assert anyio.current_time() - began == pytest.approx(8, abs=0.1)


# ── logs ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def filtered() -> Any:
    """The filter on the HTTP stack's loggers, taken off again."""
    redact_logs("old")
    redact_logs(KEY)
    yield logging.getLogger("httpx")
    for name in logging.root.manager.loggerDict:
        for old in [f for f in logging.getLogger(name).filters if isinstance(f, Redaction)]:
            logging.getLogger(name).removeFilter(old)


async def test_the_stacks_logs_are_redacted_on_request(
    filtered: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys, what follows Bearer, phones, message ids; in texts, arguments and tracebacks."""
    caplog.set_level(logging.DEBUG)
    try:
        raise ValueError(f"Bearer abc.def {TO}")
    except ValueError:
        filtered.exception("sent %s to %s, got %s", KEY, TO, ID)
    filtered.info("done")
    assert len(filtered.filters) == 1
    for secret in (KEY, TO, TO[1:], ID, "abc.def"):
        assert secret not in caplog.text
    assert "[key]" in caplog.text
    assert "done" in caplog.text


def test_a_short_key_is_masked_whole() -> None:
    """It has no long pieces to look for."""
    assert Redaction("k!y", "").clean("my k!y is") == "my [key] is"


@pytest.mark.smoke
async def test_a_client_of_the_default_stack_can_be_made_and_closed() -> None:
    """Without a transport of one's own."""
    async with AsyncDesk360(KEY, integration_id=1) as client:
        await client._pipeline.connected()


async def test_entering_a_client_makes_its_pool(wire: Wire) -> None:
    """`async with` stands where a program starts; at the first send a customer would wait."""
    async with connect(wire) as client:
        assert client._pipeline._http is not None


def test_short_turns_end_with_the_block_and_may_be_nested() -> None:
    """The interval is the process's: two first pools at once leave it as it was."""
    before = sys.getswitchinterval()
    with _http._short_turns(), _http._short_turns():
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before


def test_the_first_client_before_the_loop_loads_all_that_a_send_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No thread then works beside the loop; a second client has nothing to load."""
    made: list[ssl.SSLContext] = []
    context = ssl.create_default_context()
    original = httpx.AsyncHTTPTransport

    def make(**given: Any) -> Any:
        made.append(given["verify"])
        return original(**given)

    monkeypatch.setattr(httpx, "AsyncHTTPTransport", make)
    monkeypatch.setattr(_http.library("httpx"), "is_loaded", False)
    for _ in range(2):
        AsyncDesk360(KEY, integration_id=1, verify=context)
    assert made == [context]


def test_what_fails_early_fails_again_at_the_first_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing CA file is no error of the constructor."""
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", Mock(side_effect=FileNotFoundError))
    monkeypatch.setattr(_http.library("httpx"), "is_loaded", False)
    client = AsyncDesk360(KEY, integration_id=1, verify=ssl.create_default_context())
    with pytest.raises(FileNotFoundError):
        asyncio.run(client.send_text(TO, "Hi"))


async def test_on_a_running_loop_the_constructor_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop would stand still meanwhile."""
    monkeypatch.setattr(_http, "_make_pool", pytest.fail)
    monkeypatch.setattr(_http.library("httpx"), "is_loaded", False)
    AsyncDesk360(KEY, integration_id=1)


def test_for_a_users_own_transport_no_pool_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a mock, whose user never waits for a CA file."""
    monkeypatch.setattr(_http, "_make_pool", pytest.fail)
    monkeypatch.setattr(_http.library("httpx"), "is_loaded", False)
    AsyncDesk360(KEY, integration_id=1, transport=httpx.MockTransport(Mock()))


def test_anyios_half_is_loaded_again_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the constructor, before the event loop begins."""
    asked: list[str] = []
    monkeypatch.setattr(_http, "import_module", asked.append)
    monkeypatch.delitem(sys.modules, "anyio._backends._asyncio")
    _http.load_backend()
    assert asked == [_http.BACKEND]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_on_a_running_loop_a_thread_loads_anyios_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import takes 10 ms, in which the loop would answer nobody."""
    asked: list[tuple[str, threading.Thread]] = []
    monkeypatch.setattr(_http, "import_module", lambda name: asked.append((name, threading.current_thread())))
    monkeypatch.delitem(sys.modules, _http.BACKEND)
    monkeypatch.setattr(_threads, "is_inline", lambda: False)
    _http.load_backend()
    assert asked == []
    await _http.load_backend_beside()
    assert [name for name, _ in asked] == [_http.BACKEND, "concurrent.futures.thread"]
    assert threading.current_thread() not in {thread for _, thread in asked}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_inline_no_thread_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time sees no thread, and would find that all tasks wait for ever."""
    monkeypatch.setattr(_http, "import_module", pytest.fail)
    monkeypatch.delitem(sys.modules, _http.BACKEND)
    await _http.load_backend_beside()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyios_half_is_loaded_by_no_thread_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may all wait for the very send that loads it, in `run_coroutine_threadsafe(…).result()`."""
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", pytest.fail)
    monkeypatch.setattr(_http, "import_module", lambda name: None)
    monkeypatch.delitem(sys.modules, _http.BACKEND)
    monkeypatch.setattr(_threads, "is_inline", lambda: False)
    await _http.load_backend_beside()


class Line:
    """A stream of anyio's, as far as httpcore uses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[bytes] = []
        self.error = error

    async def send(self, item: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(item)

    async def receive(self, max_bytes: int) -> bytes:
        if self.error is not None:
            raise self.error
        return b"answer"


def stream_on(line: Line) -> Any:
    """Return our stream over httpcore's over a line."""
    # The backend's module has the stream's class; under the fork it has another name.
    kind = sys.modules[httpcore.AnyIOBackend.connect_tcp.__module__].AnyIOStream
    return _http._Stream(kind(line))


async def test_a_request_is_written_at_once() -> None:
    """Httpcore writes head and body apart: two segments, and two wake-ups of the server."""
    line = Line()
    stream = stream_on(line)
    for _ in range(2):
        await stream.write(b"head ")
        await stream.write(b"body ")
        await stream.write(b"")
        await stream.write(b"more")
        assert await stream.read(100) == b"answer"
    assert line.sent == [b"head body ", b"more"] * 2


async def test_whether_a_stream_is_readable_is_asked_of_its_socket() -> None:
    """Anyio looks all facts of the socket up for each: it is found once."""
    ours, theirs = socket.socketpair()
    line = Line()
    line.extra = lambda *_: ours  # type: ignore[attr-defined]  # as anyio's streams have it
    stream = stream_on(line)
    with theirs:
        assert not stream.get_extra_info("is_readable")
        theirs.send(b"answer")
        assert stream.get_extra_info("is_readable")
    assert stream.get_extra_info("socket") is ours
    ours.close()
    assert stream.get_extra_info("is_readable")  # the next read returns its end


@pytest.mark.parametrize("timeout", [None, 5.0])
async def test_a_head_without_a_body_is_sent_by_the_end_or_the_read(timeout: float | None) -> None:
    """A GET has no body, and the handshake of a proxy has no end of a message."""
    line = Line()
    stream = stream_on(line)
    await stream.write(b"GET ", timeout)
    await stream.write(b"", timeout)
    assert line.sent == [b"GET "]
    await stream.read(100, timeout)
    await stream.write(b"HELLO", timeout)
    assert await stream.read(100, timeout) == b"answer"
    assert line.sent == [b"GET ", b"HELLO"]


@pytest.mark.parametrize("error", [anyio.BrokenResourceError(), anyio.ClosedResourceError()], ids=repr)
async def test_a_broken_connection_is_httpcores_error(error: Exception) -> None:
    """Httpx maps its own library's errors only."""
    stream = stream_on(Line(error))
    with pytest.raises(httpcore.ReadError):
        await stream.read(100)
    await stream.write(b"head")
    with pytest.raises(httpcore.WriteError):
        await stream.write(b"body")


async def test_the_end_of_a_connection_is_an_empty_read() -> None:
    """As httpcore's own stream has it."""
    assert await stream_on(Line(anyio.EndOfStream())).read(100) == b""


async def test_tls_gives_a_stream_of_ours_again() -> None:
    """Or each request over TLS would be two records."""

    class Plain:
        async def start_tls(self, *_: object) -> Line:
            return Line()

    assert isinstance(await _http._Stream(Plain()).start_tls(None), _http._Stream)


def test_a_pool_of_another_library_keeps_its_network() -> None:
    """A later httpcore may name it otherwise."""
    pool = SimpleNamespace()
    _http._Network.put_under(pool)
    assert vars(pool) == {}


def test_the_rest_of_a_network_backend_is_httpcores_own() -> None:
    backend = httpcore.AnyIOBackend()
    assert _http._Network(backend).sleep == backend.sleep


class Upstream:
    """A connection of httpcore's that takes no byte, and whose answer comes after some seconds."""

    def __init__(self, answered: float, error: Exception | None = None) -> None:
        self.answered = answered
        self.error = error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self.error is not None:
            raise self.error
        await anyio.sleep(3600)

    def get_extra_info(self, name: str) -> bool:
        return name == "is_readable" and anyio.current_time() >= self.answered


def watched(upstream: Upstream) -> Any:
    """Return a watched stream on a connection of httpcore's."""
    stream = _http._Watched(upstream)
    stream._library = httpcore
    return stream


async def write_beside_the_look(upstream: Upstream) -> None:
    """Write one block, as an upload does."""
    rising = _http.library("httpx").rising(b"", None)
    rising._stream = watched(upstream)
    rising._connected.set()
    problem: Exception | None = None
    async with anyio.create_task_group() as beside:
        beside.start_soon(rising.look)
        try:
            await rising._stream.write(b"x")
        except httpcore.WriteError as error:
            problem = error
        beside.cancel_scope.cancel()
    assert problem is not None
    raise problem


async def test_a_write_that_is_stuck_ends_once_the_server_answers() -> None:
    """A server that refuses an upload reads no more of it; httpcore then reads the refusal."""
    began = anyio.current_time()
    with pytest.raises(httpcore.WriteError, match="answered before the body's end"):
        await write_beside_the_look(Upstream(began + 5.0))
    assert anyio.current_time() - began == pytest.approx(5.0, abs=0.05)


async def test_a_write_that_fails_beside_the_look_raises_its_own_error() -> None:
    with pytest.raises(httpcore.WriteError, match="reset"):
        await write_beside_the_look(Upstream(9.0, httpcore.WriteError("reset")))


class LateLoop:
    """asyncio's loop, as far as a deadline uses it, which looks at its timers too late."""

    def __init__(self, late: float) -> None:
        self.late = late
        self.due: list[float] = []

    def time(self) -> float:
        return 1.0 + self.late if self.due else 0.0

    def call_at(self, when: float, *_: Any) -> Any:
        self.due.append(when)
        return SimpleNamespace(when=lambda: when, cancel=lambda: None)

    def call_later(self, seconds: float, *_: Any) -> Any:
        self.due.append(seconds)
        return SimpleNamespace(cancel=lambda: None)


@pytest.mark.parametrize(("late", "due", "ended"), [(0.1, [1.0], True), (9.0, [1.0, 0.25], False)])
async def test_a_timer_that_rings_late_gives_the_answer_in_the_socket_a_little_time(
    late: float, due: list[float], ended: bool
) -> None:
    """After a stop (Ctrl-Z) the loop looks at its timers before it looks at its sockets."""
    loop = LateLoop(late)
    deadline = _http._Deadline(1.0, loop)
    with deadline as scope:
        deadline._ring(loop)
        assert (loop.due, scope.cancel_called) == (due, ended)


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
@pytest.mark.parametrize(("late", "whole"), [(0.1, 1.1), (9.0, 10.25)])
async def test_trios_late_deadline_waits_a_little_longer_too(late: float, whole: float) -> None:
    import trio

    began, clock = trio.current_time(), trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    with _http._Deadline(1.0, None) as scope:
        await wait_all_tasks_blocked()
        clock.jump(1.0 + late)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(whole, abs=0.01)


async def test_a_mocked_body_over_the_limit_is_damaged() -> None:
    body = _Body("")
    await body.read(httpx.Response(200, content=bytes(MAX_BYTES + 1)))
    assert (body.damage, body.whole) == ("the body is over 8 MiB", False)


@pytest.mark.parametrize(("received", "unread"), [(b"", False), (b"HTTP/1.1 200", True)])
async def test_encrypted_bytes_behind_an_answer_are_unread(received: bytes, unread: bool) -> None:
    """TLS holds them in a buffer of its own, where the socket doesn't show them."""
    buffer = ssl.MemoryBIO()
    buffer.write(received)
    tls = SimpleNamespace(_read_bio=buffer, transport_stream=None)
    assert _http._unread(SimpleNamespace(_stream=tls)) is unread


class Wrapping(httpx.AsyncBaseTransport):
    """A user's transport around one of httpcore's: its reports come through, and its pool is out of reach."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a send, and report that its connection goes back to the pool."""
        await request.extensions["trace"]("http11.response_closed.started", {"request": request})
        return httpx.Response(200, json={"message_id": ID})


async def test_a_connection_out_of_reach_is_left_to_its_transport() -> None:
    async with AsyncDesk360(KEY, integration_id=1, transport=Wrapping()) as client:
        assert (await client.send_text(TO, "hi")).message_id == ID


@pytest.mark.parametrize("opens", ["with the cancellation", "after it"])
async def test_a_connection_whose_caller_is_cancelled_is_closed(opens: str) -> None:
    """Anyio's own `connect_tcp` loses one that is open in the moment of the cancellation."""
    gate, closed = anyio.Event(), anyio.Event()

    async def aclose() -> None:
        closed.set()

    async def open_late() -> Any:
        await gate.wait()
        return SimpleNamespace(aclose=aclose)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_http._Connect(open_late).wait)
        await anyio.wait_all_tasks_blocked()
        if opens == "with the cancellation":
            gate.set()
        tasks.cancel_scope.cancel()
    gate.set()
    with anyio.fail_after(5):
        await closed.wait()
