"""The only module that imports httpx and its fork: TLS, the pool, and the evidence of how far a request got.

For another HTTP stack, replace this file. Redirects are off, the environment isn't trusted, and cookies are
dropped. Each of the three would let a third party decide where the API key goes.
"""

# pyright: basic
# Since httpcore's pool and trace are Any here; mypy --strict checks the rest.

import math
import re
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self, TypeAlias

import anyio
import httpx
import sniffio
from attrs import define, field

from . import _threads
from ._calls import Answered
from ._codec import warm
from ._errors import ConfigurationError, InvalidMessage
from ._inflate import Inflater, Undecodable
from ._json import MAX_BYTES
from ._outcomes import Evidence, Reach, Unanswered, orphans

if TYPE_CHECKING:
    from ._uploads import Upload

Transport: TypeAlias = httpx.AsyncBaseTransport
"""The type of a transport is httpx's own, so that any transport for httpx fits."""

# Apache, Node and uvicorn close after 5 s. A connection that closes while we write leaves an unknown
# outcome.
KEEPALIVE_EXPIRY = 4.0

# Seconds. If a timer rings later than this, the process was most often stopped (Ctrl-Z, a frozen machine).
# The answer may already be in the socket, so the attempt gets the same time again to read it.
GRACE = 0.25

# Bytes of an upload in one write; between two writes it looks for an answer.
SLICE = 512 * 1024
LOOK = 0.02  # seconds between two looks for an answer while an upload is under way
SHORT_TURN = 0.0005  # seconds that a thread may hold the interpreter while the first pool is made

BACKEND = "anyio._backends._asyncio"  # anyio's half for asyncio, which it loads at the first need
POOL_OF_THREADS = "concurrent.futures.thread"  # asyncio needs it for the look-up of a host's name

# The headers of an answer that `AsyncClient` would act upon.
_ACTED_UPON = frozenset((b"location", b"set-cookie"))

# The libraries that are loaded, by name.
_libraries: dict[str, "Library"] = {}

# The process's SSL contexts, by `verify`: loading the CA file takes 45 ms.
_contexts: dict[bool, ssl.SSLContext] = {}


class Library:
    """httpx, or its maintained fork httpx2. Our classes have its bases, since it checks `isinstance`.

    Args:
        module: the imported module.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.is_loaded = False  # whether it has made a pool, which loads httpcore
        self.never_started: tuple[type[Exception], ...] = (
            module.ConnectError,
            module.ConnectTimeout,
            module.PoolTimeout,
        )
        self.inert: Any = type("_Inert", (_Inert, module.AsyncBaseTransport), {"library": module})
        self.once: Any = type("_Once", (_Once, module.AsyncByteStream), {})
        self.rising: Any = type("_Rising", (_Rising, module.AsyncByteStream), {})


def library(name: str) -> Library:
    """Return httpx or httpx2 by its name.

    Raises:
        ConfigurationError: if httpx2 isn't installed.
    """
    if name not in _libraries:
        try:
            _libraries[name] = Library(import_module(name))
        except ModuleNotFoundError:
            message = f"http={name!r} needs the package {name}: python -m pip install 'desk360-async[{name}]'"
            raise ConfigurationError(message) from None
    return _libraries[name]


def library_of(transport: object, name: str) -> Library:
    """Return the library that a user's transport was made for; else the one with the name."""
    fork = sys.modules.get("httpx2")
    if fork is not None and isinstance(transport, fork.AsyncBaseTransport):
        return library("httpx2")
    return library(name)


async def own_transport(
    verify: ssl.SSLContext | bool, *, proxy: str | None, keepalive: int, http: Library | None = None
) -> Transport:
    """Return a pool of connections that keeps idle connections open; a worker thread makes it.

    The pool has no limit: `Pipeline` limits concurrency with a semaphore, so callers never queue here.

    The first pool loads httpcore, the CA file and cattrs. On the loop, each would block it for far longer
    than a request takes. With httpx2 the certificates are certifi's too; by default httpx2 trusts the
    operating system's.

    Args:
        verify: an SSL context; True for certifi's list, False trusts every certificate.
        proxy: a proxy's URL.
        keepalive: maximum number of idle connections.
        http: the library that makes the pool; None for httpx.
    """
    with _short_turns():  # before the thread begins
        return await _threads.run(
            _make_pool, verify, proxy=proxy, keepalive=keepalive, http=http or library("httpx")
        )


def _make_pool(
    verify: ssl.SSLContext | bool, *, proxy: str | None, keepalive: int, http: Library
) -> Transport:
    warm()
    import_module(POOL_OF_THREADS)
    if isinstance(verify, ssl.SSLContext):
        context = verify
    else:
        context = _contexts.get(verify) or httpx.create_ssl_context(verify, trust_env=False)
        _contexts[verify] = context
    limits = http.module.Limits(
        max_connections=None,
        max_keepalive_connections=keepalive,
        keepalive_expiry=KEEPALIVE_EXPIRY,
    )
    made: Transport = http.module.AsyncHTTPTransport(
        verify=context, trust_env=False, limits=limits, proxy=proxy
    )
    _Network.put_under(getattr(made, "_pool", None))
    http.is_loaded = True
    return made


def load_early(verify: ssl.SSLContext | bool, http: Library, *, own: bool) -> None:
    """Load all that the first send needs, but not on a running loop, which it would block for 100 ms.

    Else a thread loads it beside the loop. On a busy machine each turn of the two threads then waits for a
    core, and the loop's longest stall was 3.5 ms instead of 1.3.

    Args:
        verify: as for `own_transport`.
        http: the library of the transport.
        own: whether the transport will be made by `own_transport`.
    """
    if _is_on_loop():
        return
    with _short_turns():  # a loop may run in another thread
        load_backend()
        warm()
        if own and not http.is_loaded:
            with suppress(Exception):  # such as a missing CA file: the first send raises it
                _make_pool(verify, proxy=None, keepalive=0, http=http)


@contextmanager
def _short_turns() -> Generator[None]:
    """Switch threads ten times as often, since the imports in the block would stall the event loop."""
    before = sys.getswitchinterval()
    if before <= SHORT_TURN:  # another thread is in the block, and restores the interval
        yield
        return
    sys.setswitchinterval(SHORT_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _is_on_loop() -> bool:
    if sniffio.thread_local.name == "trio":
        return True
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def load_backend() -> None:
    """Load anyio's half for asyncio, but not on a running loop: the import would stall it for 10 ms."""
    if BACKEND not in sys.modules and not _is_on_loop():
        with suppress(ImportError):  # another version keeps it elsewhere
            import_module(BACKEND)


# With this module, since programs import it before their loop runs but often make their client on it. The
# threads' work beside the loop falls by a fifth. On a busy machine the loop's longest stall falls from 4.3 to
# 1.9 ms.
load_backend()


async def load_backend_beside() -> None:
    """Load anyio's half for asyncio in a new thread.

    anyio's worker threads already need it. The loop's worker threads may all be waiting for this send.
    """
    # With inline threads the first await loads it: virtual time doesn't wait for a thread.
    if BACKEND in sys.modules or sniffio.thread_local.name == "trio" or _threads.is_inline():
        return
    import asyncio

    loop, loaded = asyncio.get_running_loop(), asyncio.Event()

    def load() -> None:
        load_backend()
        import_module(POOL_OF_THREADS)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(loaded.set)

    with _short_turns():  # before the thread begins, or it holds the interpreter for its first 5 ms
        Thread(target=load).start()
        await loaded.wait()


class _Network:
    """httpcore's network backend, whose streams write a request's head and the start of its body together.

    Args:
        inner: httpcore's own backend.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @classmethod
    def put_under(cls, pool: Any) -> None:
        """Let a pool connect by this backend, if it is one of httpcore's (1.0.9)."""
        inner = getattr(pool, "_network_backend", None)
        if inner is not None:  # httpx passes no backend to the pool that it makes
            pool._network_backend = cls(inner)

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> "_Stream":
        return _Stream(await _Connect(partial(self._inner.connect_tcp, *args, **kwargs)).wait())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Connect:
    """Opens one connection, which no cancellation loses.

    anyio 4.16 drops a stream that is connected in the same moment as its caller is cancelled; the socket then
    stays open until garbage collection. So the connection opens in a task that the caller's cancellation
    doesn't reach. The task closes a stream for which no caller waits.

    Args:
        connect: opens the connection, and limits its own time.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._ended = anyio.Event()
        self._stream: Any = None
        self._error: BaseException | None = None
        self._is_left = False

    async def wait(self) -> Any:
        """Return the stream, or raise the connection's error."""
        _threads.detach(self._open)
        try:
            await self._ended.wait()
        except BaseException:
            self._is_left = True
            if self._stream is not None:
                await _close(self._stream)
            raise
        if self._error is not None:
            raise self._error
        return self._stream

    async def _open(self) -> None:
        try:
            self._stream = await self._connect()
        except BaseException as error:  # noqa: BLE001  # raised where the caller waits
            self._error = error
        finally:
            self._ended.set()
        if self._is_left and self._stream is not None:
            await _close(self._stream)


async def _close(stream: Any) -> None:
    with anyio.CancelScope(shield=True), suppress(Exception):
        await stream.aclose()


class _Stream:
    """A network stream of httpcore: one write a request, and no cancel scope where there is no timeout.

    httpcore writes a request's head and body apart (1.0.9): two segments, two TLS records, and two wake-ups
    of the server. `_Deadline` limits the attempt, so a read or write without a timeout needs no scope of
    its own.

    Args:
        inner: httpcore's stream.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._stream: Any = getattr(inner, "_stream", None)  # anyio's; `_unread` looks for it by this name
        self._is_anyio = hasattr(self._stream, "receive")
        self._library: Any = library_below(inner)
        self._is_readable: Any = getattr(getattr(self._library, "_utils", None), "is_socket_readable", None)
        self._socket: Any = None
        self._head = b""
        self._is_first = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read; an empty result is the end."""
        if self._head:
            await self._flush(b"", timeout)
        self._is_first = True
        if timeout is not None or not self._is_anyio:
            got: bytes = await self.inner.read(max_bytes, timeout)
            return got
        try:
            received: bytes = await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise self._library.ReadError(error) from error
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, but keep a request's head for the next write. An empty write or a read sends it alone."""
        if self._is_first and buffer:
            self._head, self._is_first = buffer, False
        elif buffer or self._head:
            await self._flush(buffer, timeout)

    async def _flush(self, buffer: bytes, timeout: float | None) -> None:
        whole, self._head = self._head + buffer, b""
        if timeout is not None or not self._is_anyio:
            await self.inner.write(whole, timeout)
            return
        try:
            await self._stream.send(whole)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise self._library.WriteError(error) from error

    def get_extra_info(self, info: str) -> Any:
        """Return one attribute of the stream.

        anyio looks up all attributes to return one, and the pool asks for `is_readable` twice per send.
        """
        if info != "is_readable" or not self._is_anyio or self._is_readable is None:
            return self.inner.get_extra_info(info)
        if self._socket is None:
            self._socket = self.inner.get_extra_info("socket")
        return self._is_readable(self._socket)

    async def start_tls(self, *args: Any, **kwargs: Any) -> "_Stream":
        """Return the stream over TLS."""
        return _Stream(await self.inner.start_tls(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def library_below(stream: Any) -> Any:
    """Return httpcore, or its fork, by one of its streams; None for another library's."""
    found = sys.modules.get(type(stream).__module__.partition(".")[0])
    return found if hasattr(found, "WriteError") else None


def check_proxy(proxy: str | None) -> None:
    """Refuse a proxy that can't be used, before anything is sent.

    Raises:
        ConfigurationError: if it is no http, https or socks5 URL. It isn't shown: it may hold a password.
    """
    if proxy is None:
        return
    try:
        scheme = httpx.Proxy(proxy).url.scheme
    except (ValueError, TypeError, httpx.InvalidURL):
        raise ConfigurationError("proxy must be a URL like 'http://proxy.example:3128'") from None
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError("a socks5 proxy needs the package socksio: pip install 'httpx[socks]'")


def judge(error: Exception, evidence: Evidence, http: Library) -> Reach:
    """Return how far a request got before this exception; the exception's class alone is no proof."""
    if evidence.starts:
        return Reach.STARTED
    if evidence.refused or isinstance(error, (http.module.UnsupportedProtocol, http.module.InvalidURL)):
        return Reach.REFUSED
    if isinstance(error, http.never_started):
        return Reach.UNTRUSTED if _is_certificate_error(error) else Reach.UNSTARTED
    return evidence.reach


def _is_certificate_error(error: BaseException | None) -> bool:
    for _ in range(10):
        if error is None or isinstance(error, ssl.SSLCertVerificationError):
            return error is not None
        error = error.__cause__ or error.__context__
    return False


class _Inert:
    """Hides from `AsyncClient` the headers that it would act upon: cookies to keep, redirects to prepare.

    A hostile `Location` makes httpx raise after the server did its work. The response's extensions keep the
    original headers. They also keep the body's stream, since `AsyncClient` wraps it in another one.
    """

    library: Any

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        response.extensions["desk360.stream"] = response.stream
        raw = response.headers.raw
        for name, _ in raw:
            if name.lower() in _ACTED_UPON:
                break
        else:
            return response
        kept = [pair for pair in raw if pair[0].lower() not in _ACTED_UPON]
        extensions = {**response.extensions, "desk360.headers": response.headers}
        answer: httpx.Response = self.library.Response(
            response.status_code, headers=kept, stream=response.stream, extensions=extensions
        )
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


class Request(NamedTuple):
    """A request whose content is already built, so that a retry sends the same content."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    content: bytes | None = None
    upload: "Upload | None" = None
    rising: Any = None  # the upload's body as one attempt sends it

    def __repr__(self) -> str:
        # Tracebacks that show local variables print reprs; the key and the phone are in the other fields.
        return f"<Request {self.method} {self.url}>"


class _Once:
    """A request's body in one piece. A generator would stay suspended after a cancelled write."""

    def __init__(self, piece: bytes) -> None:
        self._piece: bytes | None = piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece, self._piece = self._piece, None
        if piece is None:
            raise StopAsyncIteration
        return piece


class _Rising:
    """An upload's body in slices; it ends early if the server answers before the whole body is sent.

    Args:
        pieces: the body.
        connection_of: returns httpcore's connection of the request, or None.
    """

    def __init__(self, pieces: AsyncIterator[bytes], connection_of: Callable[[], Any]) -> None:
        self._pieces = pieces
        self._connection_of = connection_of
        self._rest = memoryview(b"")
        self._stream: _Watched | None = None
        self._connected = anyio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._stream is None:
            self._stream = _Watched.on(self._connection_of())
            if self._stream.is_httpcores:
                self._connected.set()
        elif self._stream.is_answered():
            raise self._stream.stop()
        if not self._rest:
            block = await anext(self._pieces)
            if len(block) <= SLICE:
                return block
            self._rest = memoryview(block)
        piece, self._rest = self._rest[:SLICE], self._rest[SLICE:]
        return bytes(piece)

    async def look(self) -> None:
        """Look for an answer again and again; runs in a task beside the request.

        A task for each write took two fifths of an upload's CPU time.
        """
        await self._connected.wait()
        assert self._stream is not None
        while True:  # until the request ends, and cancels this task
            await anyio.sleep(LOOK)
            self._stream.look()


class _Watched:
    """A network stream whose writes end when the server has begun to answer.

    httpcore reads the answer after a `WriteError`, and then closes the connection (1.0.9). So the client
    reads the 413 of a server that refuses an upload and hangs up. If the server resets the connection at
    once, the answer may be lost.
    """

    def __init__(self, stream: Any) -> None:
        self._inner = stream
        self._library = library_below(stream.inner if isinstance(stream, _Stream) else stream)
        self._writing: anyio.CancelScope | None = None

    @classmethod
    def on(cls, connection: Any) -> Self:
        """Put a watched stream under a connection, if it is one of httpcore's."""
        watched = cls(getattr(connection, "_network_stream", None))
        if watched.is_httpcores:
            connection._network_stream = watched
        return watched

    @property
    def is_httpcores(self) -> bool:
        """Whether the stream is one of httpcore's, which tells when an answer can be read."""
        return self._library is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def is_answered(self) -> bool:
        """Return whether the server's answer, or its end, can be read."""
        return self.is_httpcores and bool(self._inner.get_extra_info("is_readable"))

    def stop(self) -> Exception:
        """Return the error after which httpcore reads the answer."""
        error: Exception = self._library.WriteError("answered before the body's end")
        return error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, until `look` finds an answer."""
        with anyio.CancelScope() as scope:
            self._writing = scope
            try:
                await self._inner.write(buffer, timeout)
            finally:
                self._writing = None
        if scope.cancelled_caught:
            raise self.stop()

    def look(self) -> None:
        """End the write under way if the server has answered."""
        if self._writing is not None and self.is_answered():
            self._writing.cancel()


@define(eq=False)
class _Deadline:
    """A cancel scope that ends after `seconds`, or a little later if its timer rang late.

    After SIGCONT, epoll returns once without events. So both loops run their timers before they read the
    sockets.

    Attributes:
        seconds: seconds from its beginning.
        loop: asyncio's running loop; None on trio.
    """

    seconds: float
    loop: Any
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    timer: Any = None

    def __enter__(self) -> anyio.CancelScope:
        if self.loop is not None:
            self.timer = self.loop.call_at(self.loop.time() + self.seconds, self._ring, self.loop)
        else:
            import trio

            # A second scope, in a separate task: a cancelled scope can't get more time.
            self.timer = trio.CancelScope(deadline=trio.current_time() + self.seconds)
            trio.lowlevel.spawn_system_task(self._watch, self.timer)
        return self.scope.__enter__()

    def _ring(self, loop: Any) -> None:
        if loop.time() - self.timer.when() > GRACE:
            self.timer = loop.call_later(GRACE, self.scope.cancel)
        else:
            self.scope.cancel()

    async def _watch(self, timer: Any) -> None:
        """Await trio's deadline and end the scope; if the block ends earlier, `__exit__` ends this task."""
        import trio

        due = timer.deadline
        with timer:
            await trio.sleep_forever()
        if self.timer is not None and trio.current_time() - due > GRACE:
            with trio.CancelScope() as self.timer:
                await trio.sleep(GRACE)
        if self.timer is not None:
            self.scope.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        timer, self.timer = self.timer, None
        timer.cancel()
        return self.scope.__exit__(kind, error, trace)


class Http:
    """One pool of connections, on one event loop.

    Args:
        transport: from `own_transport`, or the user's own.
        trusted: whether the transport is ours, so that its trace can be trusted.
        library: the library that the transport is made for.
    """

    def __init__(self, transport: Transport, *, trusted: bool, library: Library) -> None:
        self.trusted = trusted
        self._library = library
        self._transport = transport
        self._client: httpx.AsyncClient = library.module.AsyncClient(
            transport=library.inert(self._transport), trust_env=False, follow_redirects=False
        )
        # A prebuilt Request skips the merging of URLs, headers and cookies, a third of httpx's own cost.
        self._urls: dict[str, httpx.URL] = {}
        self._headers_given: tuple[tuple[str, str], ...] = ()
        self._headers: httpx.Headers = library.module.Headers()
        self._loop: Any = None
        self._now: Callable[[], float] = anyio.current_time
        if sniffio.current_async_library() == "asyncio":
            import asyncio

            self._loop = asyncio.get_running_loop()
            self._now = self._loop.time

    @property
    def timeouts(self) -> tuple[type[Exception], ...]:
        """The exceptions of a timeout."""
        return self._library.module.TimeoutException, TimeoutError

    async def upload(self, request: Request, evidence: Evidence, *, total: float, connect: float) -> Answered:
        """Send a request with files, as `exchange`.

        Raises:
            Unanswered: if no status came; it holds how far the request got.
            InvalidMessage: if a file changed while it was read.
        """
        assert request.upload is not None
        outcome: Answered | Exception | None = None
        rising = self._library.rising(request.upload, partial(self._connection_of, evidence))
        body = request._replace(rising=rising)
        try:
            await request.upload.open()
            async with anyio.create_task_group() as beside:
                beside.start_soon(request.upload.pump)
                beside.start_soon(rising.look)
                try:
                    began = anyio.current_time()
                    await request.upload.ready(total)  # a stream that fails now fails before a byte left
                    left = max(0.0, total - (anyio.current_time() - began))
                    outcome = await self.exchange(body, evidence, total=left, connect=connect)
                except Exception as error:  # noqa: BLE001  # raised below: a task group would wrap it
                    outcome = error
                beside.cancel_scope.cancel()
        finally:
            await request.upload.aclose()
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None
        return outcome

    async def exchange(
        self, request: Request, evidence: Evidence, *, total: float, connect: float
    ) -> Answered:
        """Send a request and read its answer within `total` seconds.

        Raises:
            Unanswered: if no status came; it holds how far the request got.
        """
        response: httpx.Response | None = None
        # The damage if the deadline ends the reading.
        body = _Body(f"the body didn't end within {total:g} s")
        try:
            evidence.deadline = self._now() + total
            with _Deadline(total, self._loop):
                response = await self._send(request, evidence, connect=connect)
                await body.read(response)
            if response is None:
                raise Unanswered(evidence.reach, f"no answer within {total:g} s", timed_out=True)
            return Answered(
                response.status_code, headers_of(response), bytes(body.content), body.damage, body.cut
            )
        finally:
            if not body.whole:
                await self._tidy(response, evidence)

    async def _send(self, request: Request, evidence: Evidence, *, connect: float) -> httpx.Response:
        try:
            built = self._build(request, evidence, connect)
            evidence.handed = True
            response = await self._client.send(built, stream=True)
        except InvalidMessage:
            raise
        except Exception as error:  # users' transports may raise any error
            http = self._library
            timed_out = isinstance(error, self.timeouts)
            reason = (
                f"{type(error).__name__}: {error}"
                if isinstance(error, http.module.ConnectError)
                else type(error).__name__
            )
            raise Unanswered(judge(error, evidence, http), reason, timed_out=timed_out) from error
        evidence.status = response.status_code
        return response

    def _build(self, request: Request, evidence: Evidence, connect: float) -> httpx.Request:
        url = self._urls.get(request.url)
        if url is None:
            if len(self._urls) > 200:
                self._urls.clear()
            url = self._urls[request.url] = self._library.module.URL(request.url)
        if request.headers is not self._headers_given:  # the pipeline keeps one object for sends
            self._headers_given, self._headers = (
                request.headers,
                self._library.module.Headers([*request.headers]),
            )
        timeout = {"connect": connect, "read": None, "write": None, "pool": None}
        built: httpx.Request = self._library.module.Request(
            request.method,
            url,
            headers=self._headers,
            content=request.content if request.upload is None else request.upload,
            extensions={"timeout": timeout, "trace": evidence},
        )
        if request.rising is not None:
            built.stream = request.rising
        elif request.content is not None:
            built.stream = self._library.once(request.content)
        evidence.before_close = self._check_connection
        return built

    def _connection_of(self, evidence: Evidence) -> Any:
        """Return httpcore's HTTP/1.1 connection of a request; None on another transport."""
        for request in getattr(getattr(self._transport, "_pool", None), "_requests", ()):
            if request.request.extensions.get("trace") is evidence:
                connection = request.connection
                while connection is not None and not hasattr(connection, "_h11_state"):
                    connection = getattr(connection, "_connection", None)  # proxies wrap it
                return connection
        return None

    def _check_connection(self, evidence: Evidence) -> None:
        """Break a connection with unread bytes before it returns to the pool, and limit its idle time.

        httpcore looks only at the socket before it uses a connection again (1.0.9). It would take bytes that
        anyio or h11 already holds for the next request's answer.
        """
        connection = self._connection_of(evidence)
        if connection is None:
            return
        if connection._h11_state.trailing_data[0] or _unread(connection._network_stream):
            connection._h11_state.send_failed()  # h11's own mark of a broken connection
        connection._keepalive_expiry = min(KEEPALIVE_EXPIRY, _announced(evidence.headers))

    async def open(self, request: Request, evidence: Evidence, *, total: float, connect: float) -> "Opened":
        """Send a request and return its answer with the body still to come.

        Raises:
            Unanswered: if no status came within `total` seconds.
        """
        response: httpx.Response | None = None
        try:
            evidence.deadline = self._now() + total
            with _Deadline(total, self._loop):
                response = await self._send(request, evidence, connect=connect)
        finally:
            if response is None:
                await self._tidy(None, evidence)
        if response is None:
            raise Unanswered(evidence.reach, f"no answer within {total:g} s", timed_out=True)
        return Opened(self, response, evidence)

    async def _tidy(self, response: httpx.Response | None, evidence: Evidence) -> None:
        """Close the connection of a failed request; else the pool fails (httpcore 1.0.9, measured)."""
        with anyio.move_on_after(1, shield=True):
            try:
                if evidence.stream is not None and not evidence.starts:
                    # httpcore closes it after an error in the handshake, but not after a cancellation.
                    await evidence.stream.aclose()
                if response is not None:
                    await response.aclose()
            except Exception:  # noqa: BLE001, S110  # the request's error is recorded already
                pass
            finally:  # asyncio's own cancellations pass the shield
                await _close_each(orphans(getattr(self._transport, "_pool", None), evidence))

    async def aclose(self) -> None:
        """Close all connections."""
        with anyio.move_on_after(5, shield=True):
            await self._client.aclose()


async def _close_each(connections: Sequence[Any]) -> None:
    """Close connections that are in no pool any more, within a second each.

    A common end, an error or a cancellation would leave the rest open until garbage collection.
    """
    cancelled: BaseException | None = None
    for connection in connections:
        try:
            with anyio.move_on_after(1, shield=True), suppress(Exception):
                await connection.aclose()
        except anyio.get_cancelled_exc_class() as error:  # by asyncio's own `Task.cancel`
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _unread(stream: Any) -> bool:
    """Return whether anyio holds bytes of a stream that httpcore hasn't read yet."""
    inner = getattr(stream, "_stream", None)
    tls = getattr(inner, "_read_bio", None)
    if tls is not None and tls.pending:
        return True
    protocol = getattr(getattr(inner, "transport_stream", inner), "_protocol", None)
    return bool(getattr(protocol, "read_queue", None))


def _announced(headers: Sequence[tuple[bytes, bytes]]) -> float:
    """Return `Keep-Alive: timeout=N` in seconds, less one for the network's delay; else infinity."""
    for name, value in headers:
        if name.lower() == b"keep-alive" and (found := re.search(rb"timeout *= *([0-9]{1,9})", value)):
            return max(0.0, int(found[1]) - 1.0)
    return math.inf


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return the headers as they came, names in lower case; several of one name joined by commas."""
    kept: httpx.Headers = response.extensions.get("desk360.headers", response.headers)
    encoding = kept.encoding  # httpx's `items` computes it for each name and value
    found: dict[str, str] = {}
    for name, value in kept.raw:
        key, text = name.decode(encoding).lower(), value.decode(encoding)
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


@define(eq=False)
class _Body:
    """The body of an answer whose status was seen: a failed reading doesn't change the verdict."""

    damage: str
    cut: bool = True
    whole: bool = False
    content: bytearray = field(factory=bytearray)

    async def read(self, response: httpx.Response) -> None:
        """Read to the end, the limit or the first error."""
        try:
            if response.is_stream_consumed:
                # A mocked answer, made with its content: httpx read and decoded it at once.
                self.content += response.content
                if len(self.content) > MAX_BYTES:
                    raise _over_the_limit()
            elif "content-encoding" in response.headers:
                async with aclosing(_pieces(response)) as pieces:
                    async for piece in pieces:
                        self.content += piece
                        if len(self.content) > MAX_BYTES:
                            raise _over_the_limit()
            else:
                await self._read_plain(response)
        except Undecodable as error:
            self.damage, self.cut = str(error), False
        except Exception as error:  # noqa: BLE001  # httpx's, or any error of a user's transport
            self.damage = f"the body was cut off ({type(error).__name__})"
        else:
            self.damage, self.cut, self.whole = "", False, True

    async def _read_plain(self, response: httpx.Response) -> None:
        """Read an unencoded body directly from its stream: the generators around it cost 4 % of a send."""
        raw, whole = aiter(response.extensions.get("desk360.stream", response.stream)), False
        try:
            async for piece in raw:
                self.content += piece
                if len(self.content) > MAX_BYTES:
                    raise _over_the_limit()
            whole = True
        finally:
            if not whole:
                await _abandon(raw)
        await response.aclose()


def _over_the_limit() -> Undecodable:
    return Undecodable(f"the body is over {MAX_BYTES // 1024 // 1024} MiB")


async def _pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    if response.is_stream_consumed:
        # A mocked answer, made with its content: httpx read and decoded it at once.
        yield response.content
        return
    inflater = Inflater(response.headers.get("content-encoding", ""))
    raw, whole = response.aiter_raw(), False
    try:
        async for chunk in raw:
            for piece in inflater.feed(chunk):
                yield piece
        whole = True
    finally:
        if not whole:
            await _abandon(raw)
    for piece in inflater.finish():
        yield piece


async def _abandon(raw: AsyncIterator[bytes]) -> None:
    """End an iteration half-way.

    Closing the iterator wouldn't close the generators inside it, httpx's and httpcore's. A cancellation
    unwinds them all at the next read from the network. Little is left to read before that.
    """
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(1000):
            try:
                await anext(raw)
            except Exception:  # noqa: BLE001  # the end, or the error that led here
                return


class Opened:
    """An answer whose body is still to be read.

    Attributes:
        status: the HTTP status.
        headers: names in lower case.
    """

    def __init__(self, http: Http, response: httpx.Response, evidence: Evidence) -> None:
        self._http = http
        self._response = response
        self._evidence = evidence
        self._ended = False
        self.status: int = response.status_code
        self.headers: dict[str, str] = headers_of(response)

    async def pieces(self, gap: float) -> AsyncGenerator[bytes]:
        """Yield the decoded body, at most 64 KiB at a time where it is compressed.

        Args:
            gap: seconds that may pass between two pieces.

        Raises:
            Unanswered: if the body breaks off, stalls or can't be decoded.
        """
        source = _pieces(self._response)
        try:
            while True:
                with anyio.move_on_after(gap) as deadline:
                    try:
                        piece = await anext(source)
                    except StopAsyncIteration:
                        break
                    except Exception as error:  # noqa: BLE001  # httpx's, zlib's or a user's transport's
                        _broken_off(error, self._http.timeouts)
                if deadline.cancelled_caught:
                    raise Unanswered(Reach.STARTED, f"no further byte within {gap:g} s", timed_out=True)
                yield piece
            self._ended = True
        finally:
            with anyio.CancelScope(shield=True):
                await source.aclose()

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body wasn't read to its end."""
        if self._ended:
            with anyio.move_on_after(1, shield=True):
                await self._response.aclose()
        else:
            await self._http._tidy(self._response, self._evidence)  # the other half of this module


def _broken_off(error: Exception, timeouts: tuple[type[Exception], ...]) -> NoReturn:
    reason = (
        str(error) if isinstance(error, Undecodable) else f"the body was cut off ({type(error).__name__})"
    )
    raise Unanswered(Reach.STARTED, reason, timed_out=isinstance(error, timeouts)) from error
