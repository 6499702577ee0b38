"""`WebhookReceiver`: from a request to an answer, and from the queue to the handlers. No parsing, no SQL.

The core is `receive`, which knows no framework; `__call__` is ASGI around it. Requests only queue; the
handlers run in the receiver's own tasks, which is why it has to be opened where they can live: in the
host's lifespan.
"""

import hmac
import inspect
import logging
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from types import NoneType, TracebackType
from typing import Any, Self, TypeVar, overload

import anyio
from anyio.abc import TaskGroup
from attrs import define, frozen

from desk360_async import _threads
from desk360_async._errors import ClientStateError, ConfigurationError, InvalidWebhook
from desk360_async.webhooks import _asgi
from desk360_async.webhooks._arguments import check_kind, check_receiver
from desk360_async.webhooks._asgi import Answer, Receive, Scope, Send
from desk360_async.webhooks._events import Event, MessageReceived, StatusUpdate, UnknownEvent
from desk360_async.webhooks._inbox import SQLiteInbox, Writer, key_of
from desk360_async.webhooks._parsing import parse
from desk360_async.webhooks._queues import Queues

_log = logging.getLogger("desk360_async.webhooks")

M = TypeVar("M", bound=MessageReceived)

E = TypeVar("E", bound=Event)
AsyncFunction = Callable[[E], Awaitable[object]]
Decorator = Callable[[AsyncFunction[E]], AsyncFunction[E]]

_NOT_FOUND = Answer(404, b"not found\n")
_CLOSED = Answer(503, b"the receiver is not open\n")
_OK = Answer(200, b"ok\n")
_MEBIBYTE = 1024 * 1024
_PARSED_AT_ONCE = 32 * 1024
"""Bytes that are parsed on the loop; a megabyte of small events would hold it up for tenths of a second."""


@define
class ReceiverStats:
    """What a receiver has done since it was made, in events (but `refused`, in requests).

    Attributes:
        received: events that came in, repeats included; those refused with 503 are not in it.
        duplicates: repeats of events already taken; answered with 200, not handled again.
        handled: events whose handlers have ended, failures included.
        failed: events of which a handler failed.
        unhandled: events that no handler was registered for.
        refused: requests answered with another status than 200.
    """

    received: int = 0
    duplicates: int = 0
    handled: int = 0
    failed: int = 0
    unhandled: int = 0
    refused: int = 0


@frozen
class _Waiting:
    event: Event
    row: int | None = None


class WebhookReceiver:
    """An ASGI app that takes Desk360's webhooks ("WhatsApp Webhooks") and hands events to your functions.

    The vendor signs nothing: whoever knows the URL can forge events. So the URL's last segment is a
    secret, such as `secrets.token_urlsafe(32)`; keep it out of access logs.

    Answers: 200 once the events are queued (with an inbox: on disk), also for repeats and to GET; 400 for
    what is no JSON object; 404 for a wrong secret or token; 405; 408 and 413 for bodies too slow or too
    large; 503 when it isn't open, or the queue is full, or the inbox can't be written.

    Events of one customer are handled in the order in which they came in, different customers' side by
    side. All the functions that match an event run, in the order of their registration; what they raise is
    logged and counted.
    """

    def __init__(
        self,
        secret: str | Iterable[str],
        *,
        header_token: tuple[str, str] | None = None,
        inbox: SQLiteInbox | None = None,
        max_body: int = _MEBIBYTE,
        read_timeout: float = 10.0,
        queue_size: int = 10_000,
        concurrency: int = 100,
        drain_timeout: float = 20.0,
        remember: int = 50_000,
    ) -> None:
        """Set up; nothing runs before `async with receiver:`.

        Args:
            secret: the URL's last segment, of what needs no escape in a path; several at once while changing
                from one to the next.
            header_token: a header's name and the value that it must have, if a proxy or the panel adds one;
                neither may be empty.
            inbox: where events are kept until they are handled; without one, a crash loses the queue.
            max_body: bytes of a request's body at most; 1 or more.
            read_timeout: seconds within which a request's whole body must come; more than 0.
            queue_size: events that may wait, 1 or more; 503 beyond.
            concurrency: handlers that may run at once; 1 or more.
            drain_timeout: seconds that a stop waits for queued events to be handled.
            remember: events by which repeats are recognised; with an inbox, `SQLiteInbox(keep=…)` counts.

        Raises:
            ConfigurationError: a secret is empty or no path segment, or another argument is out of bounds;
                the message names it, its limit and the fix.
        """
        self._secrets = checked(secret)
        self._token = checked_token(header_token)
        check_kind("inbox", inbox, (SQLiteInbox, NoneType), "SQLiteInbox(path), or None")
        check_receiver(
            max_body=max_body,
            read_timeout=read_timeout,
            queue_size=queue_size,
            concurrency=concurrency,
            drain_timeout=drain_timeout,
            remember=remember,
        )
        self._inbox = inbox
        self._max_body, self._read_timeout = max_body, read_timeout
        self._queue_size, self._concurrency, self._drain_timeout = queue_size, concurrency, drain_timeout
        self._recent = Recent(remember)
        self._handlers: list[tuple[Callable[[Event], bool], AsyncFunction[Any]]] = []
        self.stats: ReceiverStats = ReceiverStats()
        self._tasks: TaskGroup | None = None
        self._lanes: Queues[_Waiting] | None = None
        self._writer: Writer | None = None
        self._taking = False
        self._arriving = 0
        self._complained = self._said_full = False

    def __repr__(self) -> str:
        """Show the state, never a secret."""
        state = "closed" if self._lanes is None else f"{self.queued} queued"
        return f"<WebhookReceiver: {state}, {self.stats.handled} handled, {self.stats.failed} failed>"

    @property
    def queued(self) -> int:
        """Events that wait for their handlers or are with them."""
        return self._arriving + (self._lanes.waiting if self._lanes else 0)

    # registering ---------------------------------------------------------------------------------------

    @overload
    def on_message(self, handler: AsyncFunction[MessageReceived], /) -> AsyncFunction[MessageReceived]: ...
    @overload
    def on_message(self, kind: type[M], /) -> Decorator[M]: ...
    @overload
    def on_message(self, /, *kinds: type[MessageReceived] | str) -> Decorator[MessageReceived]: ...
    def on_message(self, /, *kinds: Any) -> Any:
        """Register an async function for messages: all, or of some classes or types.

        `@receiver.on_message`, `@receiver.on_message(TextReceived)`, `@receiver.on_message("image")`.

        Raises:
            ConfigurationError: it is no `async def` function, class of messages or type.
        """
        classes = tuple(
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, MessageReceived)
        )
        types = {kind for kind in kinds if isinstance(kind, str)}
        if len(kinds) > 1 and len(classes) + len(types) < len(kinds):
            raise ConfigurationError("on_message takes one function, or classes of messages and types")

        def matches(event: Event) -> bool:
            return isinstance(event, classes) or (isinstance(event, MessageReceived) and event.type in types)

        if not classes and not types:
            return self._registration(kinds, lambda event: isinstance(event, MessageReceived))
        return self._registration((), matches)

    @overload
    def on_status(self, handler: AsyncFunction[StatusUpdate], /) -> AsyncFunction[StatusUpdate]: ...
    @overload
    def on_status(self, /, *statuses: str) -> Decorator[StatusUpdate]: ...
    def on_status(self, /, *statuses: Any) -> Any:
        """Register an async function for status updates: all, or some: `@receiver.on_status("read")`.

        Raises:
            ConfigurationError: it is no `async def` function.
        """
        wanted = {status for status in statuses if isinstance(status, str)}

        def matches(event: Event) -> bool:
            return isinstance(event, StatusUpdate) and (not wanted or event.status in wanted)

        return self._registration(() if wanted else statuses, matches)

    @overload
    def on_unknown(self, handler: AsyncFunction[UnknownEvent], /) -> AsyncFunction[UnknownEvent]: ...
    @overload
    def on_unknown(self, /) -> Decorator[UnknownEvent]: ...
    def on_unknown(self, /, *handler: Any) -> Any:
        """Register an async function for what is neither a message nor a status update.

        Raises:
            ConfigurationError: it is no `async def` function.
        """
        return self._registration(handler, lambda event: isinstance(event, UnknownEvent))

    def _registration(self, given: Sequence[Any], matches: Callable[[Event], bool]) -> Any:
        """Register the one function given, or return the decorator that will."""

        def register(handler: AsyncFunction[E]) -> AsyncFunction[E]:
            if not is_async(handler):
                message = (
                    f"{handler!r} must be an `async def` function of one event: it runs on the event loop"
                )
                raise ConfigurationError(message)
            self._handlers.append((matches, handler))
            return handler

        return register(given[0]) if given else register

    # living --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the inbox, queue what it still holds, and begin to take requests.

        Raises:
            ClientStateError: it is open already.
            ConfigurationError: the inbox can't be opened.
        """
        if self._tasks is not None:
            raise ClientStateError(
                "the receiver is open already; open it once, in the application's lifespan"
            )
        left = await self._inbox.open() if self._inbox else []
        tasks = self._tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._lanes = Queues(self._handle, tasks, concurrency=self._concurrency)
        for row, event in left:
            self._queue(row, event)
        if self._inbox:
            self._writer = Writer(self._inbox, self._queue)
            tasks.start_soon(self._writer.run)
        self._taking = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refuse new requests, let queued events be handled for `drain_timeout` seconds, and close."""
        tasks, lanes = self._tasks, self._lanes
        assert tasks is not None
        assert lanes is not None
        self._taking = False
        try:
            with anyio.move_on_after(self._drain_timeout):
                await lanes.idle()
        finally:
            if lanes.waiting:
                kept = "they stay in the inbox" if self._inbox else "they are lost: there is no inbox"
                _log.error("stopped with %d events not handled; %s", lanes.waiting, kept)
            tasks.cancel_scope.cancel()
            try:
                await tasks.__aexit__(None, None, None)
            finally:
                self._tasks = self._lanes = None
                with anyio.CancelScope(shield=True):
                    await self._close_inbox()

    async def _close_inbox(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.finish()
        if self._inbox is not None:
            await self._inbox.aclose()

    # answering -----------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection; served on its own, a receiver opens itself in the server's lifespan."""
        if scope["type"] == "lifespan":
            await _asgi.live(receive, send, self)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            secret = scope["path"].rstrip("/").rpartition("/")[2]
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                given = await self.receive(secret, headers, _asgi.BodyChunks(receive), method=scope["method"])
            except _asgi.ClientGoneError:
                return
            await _asgi.answer(send, given)

    async def receive(
        self,
        path_secret: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes],
        *,
        method: str = "POST",
    ) -> Answer:
        """Take one request from any framework; return the status and the body to answer with.

        Args:
            path_secret: the last segment of the URL's path, decoded.
            headers: the request's headers, in any case.
            body: the whole body, or its pieces as they come: only those are limited while being read.
            method: the HTTP method; GET and HEAD are a probe's (ruling 40).
        """
        given = await self._answer(path_secret, headers, body, method)
        self.stats.refused += given.status != 200
        return given

    async def _answer(
        self, path_secret: str, headers: Mapping[str, str], body: bytes | AsyncIterable[bytes], method: str
    ) -> Answer:
        if not same(path_secret, self._secrets):
            return _NOT_FOUND
        if not self._taking:
            return self._not_open()
        if method in ("GET", "HEAD"):
            return _OK
        if method != "POST":
            return Answer(405, b"webhooks are sent with POST\n")
        if not self._has_token(headers):
            return _NOT_FOUND
        content = await _asgi.read(body, limit=self._max_body, timeout=self._read_timeout)
        if isinstance(content, Answer):
            return content
        try:
            large = len(content) > _PARSED_AT_ONCE
            events = await _threads.run(parse, content) if large else parse(content)
        except InvalidWebhook as error:
            _log.warning("%s", error)
            return Answer(400, b"the body is no JSON object with events\n")
        return await self._take(events)

    def _not_open(self) -> Answer:
        if not self._complained and self._tasks is None:
            self._complained = True
            _log.error(
                "the webhook receiver is not open, so it answers 503: write `async with receiver:` in the"
                " application's lifespan (an app that is mounted gets no lifespan of its own)"
            )
        return _CLOSED

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        if self._token is None:
            return True
        name, token = self._token
        found = next((value for key, value in headers.items() if key.lower() == name), "")
        return same(found, [token])

    async def _take(self, events: Sequence[Event]) -> Answer:
        if not self._taking:  # it was closed while the body came
            return _CLOSED
        fresh = events if self._inbox else self._recent.unknown(events)
        # A body with more events than the queue holds is taken while the queue is empty, or never would be.
        if self.queued and self.queued + len(fresh) > self._queue_size:
            return self._full()
        self._said_full = False
        if self._writer is None:
            self._recent.remember(fresh)
            for event in fresh:
                self._queue(None, event)
        elif not await self._stored(self._writer, fresh):
            return Answer(503, b"the events can't be stored\n")
        self.stats.received += len(events)
        self.stats.duplicates += len(events) - len(fresh)
        return _OK

    def _full(self) -> Answer:
        if not self._said_full:  # once, and again only after there was room: senders repeat themselves
            self._said_full = True
            _log.error("the webhook queue is full (%d events); answering 503", self.queued)
        return Answer(503, b"the queue is full\n")

    async def _stored(self, writer: Writer, events: Sequence[Event]) -> bool:
        self._arriving += len(events)
        try:
            fresh = await writer.store(events)
        finally:
            self._arriving -= len(events)
        if fresh is None:
            return False
        self.stats.duplicates += len(events) - fresh
        return True

    # handling ------------------------------------------------------------------------------------------

    def _queue(self, row: int | None, event: Event) -> None:
        assert self._lanes is not None
        self._lanes.put(event.sender, _Waiting(event, row))

    async def _handle(self, waiting: _Waiting) -> None:
        handlers = [handler for matches, handler in self._handlers if matches(waiting.event)]
        failures = [failure for handler in handlers if (failure := await failure_of(handler, waiting.event))]
        if self._writer is not None and waiting.row is not None:
            await self._writer.mark(waiting.row, ", ".join(failures) or None)
        self.stats.handled += 1
        self.stats.failed += bool(failures)
        self.stats.unhandled += not handlers


# handlers, repeats, secrets ---------------------------------------------------------------------------


def is_async(function: object) -> bool:
    """Tell whether it is an `async def` function, or an object whose call is one."""
    return inspect.iscoroutinefunction(function) or (
        callable(function) and inspect.iscoroutinefunction(type(function).__call__)
    )


async def failure_of(handler: AsyncFunction[Any], event: Event) -> str | None:
    """Run one handler; return the name of the error that it raised, if it did."""
    try:
        await handler(event)
    except anyio.get_cancelled_exc_class() as error:
        # asyncio: a function may be cancelled from within, by awaiting what somebody else cancelled.
        if anyio.current_effective_deadline() == float("-inf"):
            raise
        failure: BaseException = error
    except Exception as error:  # noqa: BLE001 - a handler's error is its author's; the next event still counts
        failure = error
    else:
        return None
    _log.error("a webhook handler failed on %r", event, exc_info=failure)
    return type(failure).__name__


class Recent:
    """The keys of the last events, oldest first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[str, None] = {}

    def unknown(self, events: Sequence[Event]) -> list[Event]:
        """Return the events that aren't repeats, of earlier ones or of each other."""
        fresh: dict[object, Event] = {}
        for event in events:
            key = key_of(event)
            if key is None or key not in self._keys:
                fresh.setdefault(object() if key is None else key, event)
        return list(fresh.values())

    def remember(self, events: Sequence[Event]) -> None:
        """Add events, and forget the oldest beyond the size."""
        self._keys.update((key, None) for event in events if (key := key_of(event)) is not None)
        while len(self._keys) > self._size:
            del self._keys[next(iter(self._keys))]


# RFC 3986's `pchar` without escapes: servers decode a path before the receiver sees it, so that a secret
# with `%` in it would match nothing. Beyond ASCII there are only escapes.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
# RFC 9110: a field's name is a token; its value loses the blanks around it on the way.
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_SEVERAL: Any = (tuple, list)  # as Any: checkers would narrow to parts of unknown types


def checked(secret: str | Iterable[str]) -> list[bytes]:
    """Return one secret or several, ready to compare.

    Raises:
        ConfigurationError: there is none, or one isn't text or fits in no path.
    """
    given: Any = secret  # whatever it is said to be: a variable of the environment may be None
    if isinstance(given, str):
        given = [given]
    if isinstance(given, bytes | bytearray) or not hasattr(given, "__iter__"):
        raise ConfigurationError(f"secret must be text, or several texts, not {type(given).__name__}")
    secrets: list[Any] = list(given)
    if not secrets:
        raise ConfigurationError("secret is empty; make one with `secrets.token_urlsafe(32)`")
    return [_segment(secret) for secret in secrets]


def _segment(secret: object) -> bytes:
    if not isinstance(secret, str):
        raise ConfigurationError(f"secret must be text, or several texts, not {type(secret).__name__}")
    if not secret:
        raise ConfigurationError("secret is empty; make one with `secrets.token_urlsafe(32)`")
    if not _SEGMENT.fullmatch(secret) or not secret.strip("."):
        raise ConfigurationError(
            "secret must be one segment of a path, only of letters a to z, digits and -._~!$&'()*+,;=:@ (no"
            " slash, blank, `%`, `?` or `#`); make one with `secrets.token_urlsafe(32)`"
        )
    return secret.encode()


def checked_token(header_token: tuple[str, str] | None) -> tuple[str, bytes] | None:
    """Return a header's name in small letters, and the value that it must have, ready to compare.

    Raises:
        ConfigurationError: it is no pair of texts, or no header can be so: an empty value is what a
            request without the header would seem to have.
    """
    given: Any = header_token
    if given is None:
        return None
    parts: list[Any] = list(given) if isinstance(given, _SEVERAL) else []
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ConfigurationError("header_token must be a header's name and value: ('X-Token', 'abc')")
    name, value = parts
    if not _FIELD_NAME.fullmatch(name):
        raise ConfigurationError("header_token[0], the header's name, must be a word such as 'X-Token'")
    if not _FIELD_VALUE.fullmatch(value):
        raise ConfigurationError(
            "header_token[1], the header's value, must be printable ASCII, not empty and with no blanks"
            " around it; leave header_token out if no header is to be checked"
        )
    return name.lower(), value.encode()


def same(given: str, known: Sequence[bytes]) -> bool:
    """Whether a text is one of the secrets, in a time that doesn't tell (ruling 39)."""
    # All of them are compared, whichever fits.
    encoded = given.encode(errors="surrogatepass")
    compared = [hmac.compare_digest(encoded, secret) for secret in known]
    return any(compared)
