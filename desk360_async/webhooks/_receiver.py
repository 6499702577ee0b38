"""`WebhookReceiver`: from a request to an answer, and the receiver's life. No parsing, no SQL, no queues.

The core is `receive`, which uses no framework; `__call__` is ASGI around it. Requests only queue events. The
handlers run in a background task of the receiver, so any task may open the receiver, and another close it.
"""

import atexit
import hmac
import os
import re
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import NoneType, TracebackType
from typing import Any, Self, TypeVar, overload

import anyio
from anyio.from_thread import BlockingPortal
from attrs import define, field

from desk360_async import _threads
from desk360_async._arguments import seconds, whole
from desk360_async._errors import ClientStateError, ConfigurationError, InvalidWebhook
from desk360_async._observer import Notice, Observer, parse_observers
from desk360_async._threads import detach
from desk360_async.webhooks import _asgi
from desk360_async.webhooks._asgi import Answer, Receive, Scope, Send
from desk360_async.webhooks._events import Event, MessageReceived, StatusUpdate, UnknownEvent
from desk360_async.webhooks._handling import (
    AsyncFunction,
    Decorator,
    E,
    Handler,
    Handling,
    ReceiverStats,
    Store,
    handler_for,
    report_events,
)
from desk360_async.webhooks._inbox import Inbox
from desk360_async.webhooks._parsing import parse

M = TypeVar("M", bound=MessageReceived)

_NOT_FOUND = Answer(404, b"not found\n")
_CLOSED = Answer(503, b"the receiver is not open\n")
_OK = Answer(200, b"ok\n")
_NOT_POST = Answer(405, b"webhooks are sent with POST\n")
_INVALID = Answer(400, b"the body is no JSON object with events\n")
_UNSTORED = Answer(503, b"the events can't be stored\n")
_FULL = Answer(503, b"the queue is full\n")
_REASONS = {
    _NOT_FOUND: "secret",
    _CLOSED: "closed",
    _NOT_POST: "method",
    _INVALID: "invalid",
    _UNSTORED: "storage",
    _FULL: "full",
}
"""The refusals' reasons for observers; a body that is too slow or too large has the reason "body"."""
_MEBIBYTE = 1024 * 1024
_PARSED_AT_ONCE = 32 * 1024
"""Bytes that the loop parses at most; a megabyte of small events would block it for tenths of a second."""


@define(eq=False)
class _Life:
    """One opening of a receiver: the events and the scope that start and stop its background task."""

    opened: anyio.Event = field(factory=anyio.Event)
    stop: anyio.Event = field(factory=anyio.Event)
    ended: anyio.Event = field(factory=anyio.Event)
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    error: BaseException | None = None


class WebhookReceiver:
    """An ASGI app that takes Desk360's webhooks ("WhatsApp Webhooks") and hands events to your functions.

    The vendor doesn't sign events: anybody who has the URL can forge them. So the URL's last segment is a
    secret, such as `secrets.token_urlsafe(32)`; keep it out of access logs.

    The answer is 200 once the events are queued (with an inbox: on disk). Repeats and GET get 200 too. It is
    400 for a body that is no JSON object, 404 for a wrong secret or token, and 405 for another method. It is
    408 for a body that is too slow, and 413 for one that is too large. It is 503 while the receiver isn't
    open, the queue is full, or the inbox can't be written.

    Events of one customer are handled in the order of their arrival. Events of different customers are
    handled side by side. Statuses are queued apart from messages, and messages come first. All the functions
    that match an event run, in the order of their registration. Their errors are logged and counted. With an
    inbox the functions that failed are tried again, and the event is kept as a dead letter after the last
    attempt.

    Any task may open it, and another task may close it, as pytest's fixtures do.

    Example:
        ```python
        receiver = WebhookReceiver(secret=os.environ["WEBHOOK_SECRET"], inbox=SQLiteInbox("inbox.db"))

        @receiver.on_message(TextReceived)
        async def answer(message):
            print(message.phone, message.text)
        ```
    """

    def __init__(
        self,
        secret: str | Iterable[str],
        *,
        header_token: tuple[str, str] | None = None,
        inbox: Inbox | None = None,
        max_body: int = _MEBIBYTE,
        read_timeout: float = 10.0,
        queue_size: int = 10_000,
        concurrency: int = 100,
        drain_timeout: float = 20.0,
        remember: int = 50_000,
        attempts: int = 5,
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        """Set up; the receiver takes no request before `async with receiver:`.

        Args:
            secret: the URL's last segment, of characters that need no escape in a path; several at once
                while changing from one to the next.
            header_token: a header's name and the value that it must have, if a proxy or the panel adds one;
                neither may be empty.
            inbox: where events are kept until they are handled, `SQLiteInbox(path)` for the processes of a
                host or `PostgresInbox(dsn)` for several hosts; without one, a crash loses the queue.
            max_body: bytes of a request's body at most (≥ 1).
            read_timeout: seconds within which a request's whole body must come (> 0).
            queue_size: number of messages that may wait in memory, and of other events (≥ 1). When it is
                reached, the answer is 503; with an inbox the events wait on disk instead.
            concurrency: handlers that may run at once (≥ 1).
            drain_timeout: seconds that a stop waits for queued events to be handled (≥ 0).
            remember: number of events that are remembered until the receiver closes, to recognise repeats
                (≥ 0). With an inbox, the inbox's `keep` counts instead.
            attempts: maximum number of attempts for an event whose handler fails, including the first (≥ 1);
                1, 4, 16 and 64 s apart. Only with an inbox.
            observer: gets a report of each event, refused request and failure of a handler, as for
                `AsyncDesk360`.

        Raises:
            ConfigurationError: a secret is empty or no path segment, or another argument is out of bounds;
                the message names it, its limit and the fix.
        """
        self._secrets = checked(secret)
        self._token = checked_token(header_token)
        if not isinstance(inbox, Inbox | NoneType):
            raise ConfigurationError(
                f"inbox must be SQLiteInbox(path), PostgresInbox(dsn) or None, not {type(inbox).__name__}"
            )
        self._inbox = inbox
        self._observer = parse_observers(observer)
        self._max_body = whole("max_body", max_body, least=1, meaning="bytes of a request's body")
        self._read_timeout = seconds("read_timeout", read_timeout, positive=True, meaning="for a whole body")
        self._drain_timeout = seconds("drain_timeout", drain_timeout, meaning="that a stop waits")
        self._limits = {
            "queue_size": whole("queue_size", queue_size, least=1, meaning="events that may wait"),
            "concurrency": whole("concurrency", concurrency, least=1, meaning="handlers at once"),
            "remember": whole("remember", remember, meaning="events by which repeats are recognised"),
            "attempts": whole("attempts", attempts, least=1, meaning="attempts for an event"),
        }
        self._handlers: list[Handler] = []
        self._stores: list[Store] = []
        self.stats: ReceiverStats = ReceiverStats()
        self._life: _Life | None = None
        self._handling: Handling | None = None  # while requests are taken
        self._ending: Handling | None = None
        self._arriving = 0
        self._complained = False

    def __repr__(self) -> str:
        state = "closed" if self._life is None else f"{self.queued} queued"
        return f"<WebhookReceiver: {state}, {self.stats.handled} handled, {self.stats.failed} failed>"

    @property
    def queued(self) -> int:
        """Number of events in memory that wait for their handlers or are being handled."""
        handling = self._handling or self._ending
        return self._arriving + (handling.unfinished if handling else 0)

    # registering ---------------------------------------------------------------------------------------

    @overload
    def on_message(self, handler: AsyncFunction[MessageReceived], /) -> AsyncFunction[MessageReceived]: ...
    @overload
    def on_message(self, kind: type[M], /) -> Decorator[M]: ...
    @overload
    def on_message(self, /, *kinds: type[MessageReceived] | str) -> Decorator[MessageReceived]: ...
    def on_message(self, /, *kinds: Any) -> Any:
        """Register an async function for all messages, or for messages of some classes or types.

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
        """Register an async function for all status updates, or for some: `@receiver.on_status("read")`.

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
        """Register an async function for objects that are neither messages nor status updates.

        Raises:
            ConfigurationError: it is no `async def` function.
        """
        return self._registration(handler, lambda event: isinstance(event, UnknownEvent))

    def _registration(self, given: Sequence[Any], matches: Callable[[Event], bool]) -> Any:
        """Register the given function, or return a decorator that registers its function."""

        def register(handler: AsyncFunction[E]) -> AsyncFunction[E]:
            self._handlers.append(handler_for(handler, matches))
            return handler

        return register(given[0]) if given else register

    def feed(self, *stores: Store) -> None:
        """Pass messages and statuses to the `feed` of campaigns, send logs or customers.

        Events are gathered for at most 0.3 s, and messages' handlers don't wait for it. With an inbox an
        event is marked as handled only after the stores have it durably. A store's error is logged, and the
        events are handed to it again until it takes them.

        Args:
            stores: objects with `async def feed(*events) -> int`.

        Raises:
            ClientStateError: the receiver is open already.
            ConfigurationError: a store has no `feed`.
        """
        if self._life is not None:
            raise ClientStateError(
                "the receiver is open already; call feed(...) before `async with receiver:`"
            )
        for store in stores:
            if not callable(getattr(store, "feed", None)):
                raise ConfigurationError(f"{store!r} has no `feed`; give campaigns, send logs or customers")
        self._stores.extend(stores)

    # living --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the inbox, queue the events that it still holds, and begin to take requests.

        Raises:
            ClientStateError: it is open already.
            ConfigurationError: the inbox can't be opened.
        """
        if self._life is not None:
            raise ClientStateError(
                "the receiver is open already; open it once, in the application's lifespan"
            )
        life = self._life = _Life()
        detach(self._live, life)
        await self._wait(life, life.opened)
        if life.error is not None:
            raise life.error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refuse new requests, let queued events be handled for `drain_timeout` seconds, and close."""
        life = self._life
        if life is None:  # the end of its event loop closed it
            return
        self._stop_taking()
        life.stop.set()
        await self._wait(life, life.ended)
        if life.error is not None:
            raise life.error

    async def _wait(self, life: _Life, event: anyio.Event) -> None:
        try:
            await event.wait()
        except BaseException:
            # A cancellation of the caller cancels the handlers too.
            life.scope.cancel()
            with anyio.CancelScope(shield=True):
                await life.ended.wait()
            raise

    async def _live(self, life: _Life) -> None:
        """Keep the receiver open until `life.stop` is set, in a background task."""
        try:
            with life.scope:
                await self._open(life)
        except Exception as error:  # noqa: BLE001 - the opener or the closer raises it
            life.error = error
        finally:
            self._handling = self._ending = None
            if self._inbox is not None:
                with anyio.CancelScope(shield=True):
                    await self._close_inbox(self._inbox, life)
            if self._life is life:
                self._life = None
            life.opened.set()
            life.ended.set()

    async def _open(self, life: _Life) -> None:
        if self._inbox is not None:
            await self._inbox.enter()
        shared: list[Any] = [s for s in self._stores if hasattr(s, "join") and hasattr(s, "leave")]
        for store in shared:
            store.join()
        handling = Handling(
            self._handlers, self._stores, self._inbox, self.stats, self._observer, **self._limits
        )
        try:
            async with anyio.create_task_group() as tasks:
                await handling.start(tasks)
                self._handling = handling
                life.opened.set()
                try:
                    await life.stop.wait()
                    with anyio.move_on_after(self._drain_timeout):
                        await handling.drain()
                finally:
                    self._stop_taking()
                    self._log_left(handling.unfinished)
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await handling.finish()
                for store in shared:
                    await store.leave()

    def _log_left(self, events: int) -> None:
        if events:
            kept = "they stay in the inbox" if self._inbox else "they are lost: there is no inbox"
            text = f"stopped with {events} events not handled; {kept}"
            self._observer.notice(Notice("desk360.webhook.events_left", "error", text, {"events": events}))

    def _stop_taking(self) -> None:
        if self._handling is not None:
            self._handling, self._ending = None, self._handling

    async def _close_inbox(self, inbox: Inbox, life: _Life) -> None:
        try:
            await inbox.aclose()
        except Exception as error:  # noqa: BLE001 - a stop must not fail because of the disk
            text = f"{inbox!r} was closed, but its events are released at the next start only: {error}"
            self._observer.notice(Notice("desk360.webhook.inbox_not_released", "error", text))

    # answering -----------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection. A receiver that isn't mounted opens itself in the server's lifespan."""
        if scope["type"] == "lifespan":
            await _asgi.live(receive, send, self)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            secret = scope["path"].rstrip("/").rpartition("/")[2]
            headers = {}
            if self._token is not None:
                headers = {
                    name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
                }
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
            body: the whole body, or its pieces as they arrive. Only pieces are limited while they are read.
            method: the HTTP method; GET and HEAD come from a probe (ruling 40).
        """
        began = time.monotonic()
        given = await self._answer(path_secret, headers, body, method, began)
        if given.status != 200:
            self.stats.refused += 1
            reason = _REASONS.get(given, "body")
            if reason == "full":
                self._observer.webhook_queue(self.queued)
            self._observer.webhook("request", None, reason, time.monotonic() - began, None)
        return given

    async def _answer(
        self,
        path_secret: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes],
        method: str,
        began: float,
    ) -> Answer:
        if not same(path_secret, self._secrets):
            return _NOT_FOUND
        if self._handling is None:
            return self._not_open()
        if method in ("GET", "HEAD"):
            return _OK
        if method != "POST":
            return _NOT_POST
        if not self._has_token(headers):
            return _NOT_FOUND
        content = await _asgi.read(body, limit=self._max_body, timeout=self._read_timeout)
        if isinstance(content, Answer):
            return content
        try:
            large = len(content) > _PARSED_AT_ONCE
            events = await _threads.run(parse, content) if large else parse(content)
        except InvalidWebhook as error:
            self._observer.notice(Notice("desk360.webhook.invalid", "debug", str(error)))
            return _INVALID
        return await self._take(events, began)

    def _not_open(self) -> Answer:
        if not self._complained and self._life is None:
            self._complained = True
            text = (
                "the webhook receiver is not open, so it answers 503: write `async with receiver:` in the"
                " application's lifespan (an app that is mounted gets no lifespan of its own)"
            )
            self._observer.notice(Notice("desk360.webhook.not_open", "error", text))
        return _CLOSED

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        if self._token is None:
            return True
        name, token = self._token
        found = next((value for key, value in headers.items() if key.lower() == name), "")
        return same(found, [token])

    async def _take(self, events: Sequence[Event], began: float) -> Answer:
        handling = self._handling
        if handling is None:  # it was closed while the body came
            return _CLOSED
        fresh = handling.without_repeats(events)
        if not handling.has_room(fresh):
            return _FULL
        handling.remember(fresh)
        self._arriving += len(fresh)
        try:
            new = await handling.take(fresh)
        finally:
            self._arriving -= len(fresh)
        if new is None:
            return _UNSTORED
        self.stats.received += len(events)
        if self._observer:
            seconds = time.monotonic() - began
            report_events(self._observer, events, new=new, seconds=seconds, now=time.time())
            self._observer.webhook_queue(self.queued)
        self.stats.duplicates += len(events) - new
        return _OK


# secrets -----------------------------------------------------------------------------------------------

# RFC 3986's `pchar` without escapes. A server decodes the path before the receiver sees it, so a secret with
# `%` would never match. Other characters than ASCII would need escapes.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
# RFC 9110: a field's name is a token; its value loses the spaces around it on the way.
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_SEVERAL: Any = (tuple, list)  # as Any: type checkers would give the parts unknown types


def checked(secret: str | Iterable[str]) -> list[bytes]:
    """Return one secret or several, ready to compare.

    Raises:
        ConfigurationError: there is no secret, or one isn't text or can't stand in a path.
    """
    given: Any = secret  # as Any: an environment variable may be None, against the annotation
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
            " slash, space, `%`, `?` or `#`); make one with `secrets.token_urlsafe(32)`"
        )
    return secret.encode()


def checked_token(header_token: tuple[str, str] | None) -> tuple[str, bytes] | None:
    """Return a header's name in small letters, and the value that it must have, ready to compare.

    Raises:
        ConfigurationError: it is no pair of texts, or its name or value isn't allowed in a header. A request
            without the header would match an empty value.
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
            "header_token[1], the header's value, must be printable ASCII, not empty and with no spaces"
            " around it; leave header_token out if no header is to be checked"
        )
    return name.lower(), value.encode()


def same(given: str, known: Sequence[bytes]) -> bool:
    """Whether a text is one of the secrets, in a time that is independent of them (ruling 39)."""
    # All of them are compared, also after a match.
    encoded = given.encode(errors="surrogatepass")
    compared = [hmac.compare_digest(encoded, secret) for secret in known]
    return any(compared)


class ReceiverThread:
    """Runs a receiver in a thread, for WSGI apps: Flask, or Django under gunicorn ("WhatsApp Webhooks").

    The thread starts at the first request, so a server that forks its workers starts one in each of them.
    It ends with the process, after the handlers of received events have run.

    Args:
        receiver: the receiver; its handlers run in the thread's event loop.
    """

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._receiver = receiver
        self._mutex = threading.Lock()
        self._process = 0
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None

    def receive(
        self, secret: str, headers: Mapping[str, str], body: bytes, *, method: str = "POST"
    ) -> Answer:
        """Take one request and return its answer; an accepted event is handled afterwards, in the thread.

        Args:
            secret: the last segment of the URL's path.
            headers: the request's headers.
            body: the request's body, at most as long as the receiver's `max_body`, in bytes.
            method: the HTTP method.

        Raises:
            ConfigurationError: if the receiver can't be opened, for example because of its inbox.
        """
        portal = self._started()
        return portal.call(lambda: self._receiver.receive(secret, headers, body, method=method))

    def close(self) -> None:
        """Let the handlers of received events run, close the receiver and end the thread; safe to repeat."""
        with self._mutex:
            portal, self._portal = self._portal, None
            if portal is None or self._thread is None or self._process != os.getpid():
                return
            portal.call(portal.stop)
            self._thread.join()

    def _started(self) -> BlockingPortal:
        with self._mutex:
            if self._portal is None or self._process != os.getpid():
                opened: Future[BlockingPortal] = Future()
                # A daemon, since Python joins all other threads before it calls `close` at its exit.
                self._thread = threading.Thread(target=anyio.run, args=(self._serve, opened), daemon=True)
                self._thread.start()
                self._portal, self._process = opened.result(), os.getpid()
                atexit.register(self.close)
            return self._portal

    async def _serve(self, opened: "Future[BlockingPortal]") -> None:
        try:
            async with BlockingPortal() as portal, self._receiver:
                opened.set_result(portal)
                await portal.sleep_until_stopped()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)
