"""AsyncDesk360: a short method for each endpoint, over one pipeline."""

import inspect
import os
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Protocol, Self, TypeAlias, TypeVar, overload
from urllib.parse import urlsplit

import anyio
import sniffio
from attrs import evolve

from . import _codec, _wire
from ._admission import Admission, CustomerBook, ServiceWindow, check_fallback
from ._arguments import one_of, parse_base_url
from ._attachments import Attachment
from ._calls import Call
from ._endpoints import ENDPOINT_OF
from ._errors import ClientStateError, ConfigurationError, Desk360Error, InvalidMessage, Outcome
from ._http import Transport, check_proxy
from ._inflate import ENCODINGS
from ._limiter import Lane, RateLimiter, RateLimitStatus
from ._messages import (
    Button,
    Contact,
    ContactsMessage,
    Header,
    InteractiveMessage,
    Location,
    LocationMessage,
    LocationRequestMessage,
    MediaMessage,
    Message,
    ReadMessage,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
    attachments_of,
)
from ._observer import Notice, Observer, Operation, OperationEnd, parse_observers
from ._pipeline import CallState, OnAttempt, Options, Pipeline, Stop, Store
from ._redaction import Secret
from ._replies import Answer, BulkSent, Media, Reply, SendResult, Sent, SentMedia
from ._resources import Integrations, TemplateCache, Templates
from ._settings import (
    ApiKey,
    RetryPolicy,
    Timeouts,
    check_parts,
    check_settings,
    parse_integration_id,
    parse_lane,
    parse_max_wait,
    parse_retry,
    parse_timeouts,
)
from ._validators import refused_by_whatsapp, to_private, to_private_list
from ._version import __version__

if TYPE_CHECKING:
    from ._downloads import Download
    from ._fanout import Results, Sink, Transmit

M = TypeVar("M", bound=Message)
T = TypeVar("T")

File: TypeAlias = Attachment | str | os.PathLike[str]


Intend: TypeAlias = Callable[[Message], Awaitable[None]]
End: TypeAlias = Callable[[Outcome, Reply | None], None]


class SendOnce(Store, Protocol):
    """A log of sends by idempotency key: `desk360_async.once.SendLog`, which this module can't import."""

    async def send(
        self,
        key: str,
        message: Message,
        *,
        integration: int,
        base_url: str,
        timeout: float,
        max_wait: float | None,
        sleep: Callable[[float], Awaitable[None]],
        transmit: Callable[[Intend, End], Awaitable[Reply]],
    ) -> Reply:
        """Send a message under a key, or return the stored reply of an earlier send."""
        ...


class _Same:
    """Stands for an option that isn't given; None is a value."""

    def __repr__(self) -> str:
        return "..."


_SAME: Final = _Same()


# Each method that takes a phone passes on an object with a masked repr: its frame may be in a traceback that
# shows local variables.


class AsyncDesk360:
    """A client of the Desk360 WhatsApp Business API.

    Make one client, keep it, and share it between tasks. It binds to its event loop at the first await, so
    you can make it at module level. Clients of one process and loop share one rate limiter, since the vendor
    counts requests per IP address.

    Args:
        api_key: the key, or a function that returns it ("Authentication"). The function is called before the
            first request, and again after a 401. If it then returns another key, the call is repeated. None:
            the environment variable DESK360_API_KEY.
        integration_id: the integration's id. None: the environment variable DESK360_INTEGRATION_ID. Without
            either, calls that need an integration raise ConfigurationError.
        base_url: the server's URL. None: the environment variable DESK360_BASE_URL, or else the vendor's
            URL. `/v1` is added if it is missing.
        allow_http: allow plain http for hosts other than loopback, such as a sandbox in a container.
        timeout: `Timeouts`, or the total seconds of one attempt.
        retry: when an attempt is repeated; a send that may have gone out never is.
        limiter: `TokenBucket`, `HostLimiter`, or your own; None: the one that this loop's clients share.
        lane: "interactive", or "bulk" for requests that may wait.
        max_wait: seconds that one call may wait for the rate limit; None: as long as it takes.
        proxy: the URL of an http, https or socks5 proxy. The environment is not consulted.
        verify: an SSL context; True trusts certifi's list, False every certificate.
        encoding: encoding of requests without a file: "json", or "form" (multipart, as in the vendor's
            samples for text messages and reads).
        transport: an httpx.AsyncBaseTransport or httpx2's, for tests and other HTTP stacks.
        http: whose connection pool is used: httpx, or its maintained fork httpx2 (the extra `httpx2`).
        user_agent: appended to ours.
        max_connections: maximum number of requests on the wire at once (≥ 1). A download counts only until
            it has begun.
        send_log: a `desk360_async.once.SendLog`, for sends under an idempotency key; clients may share it.
        observer: one `Observer` or a sequence; each gets a report of every call, attempt and wait. None:
            `LogObserver`, which writes to the logger `desk360_async`. (): no reports.
        customers: a `desk360_async.customers.Customers`. With it, a template to a person who opted out raises
            OptedOut.
        service_window: the rule for free messages outside a customer's 24-hour window, if `customers` is
            given. "enforce" raises WindowClosed, "warn" logs a line per phone and day, "off" sends.
        on_result: called with the result of every send; it must not block. It isn't called if a method's
            arguments make no valid message.

    Raises:
        ConfigurationError: if a setting is missing or unusable; the message names it and the fix.

    Example:
        ```python
        async with AsyncDesk360() as client:  # DESK360_API_KEY, DESK360_INTEGRATION_ID
            await client.send_text("+905551112233", "Hello")
        ```
    """

    def __init__(
        self,
        api_key: str | Callable[[], str] | None = None,
        *,
        integration_id: int | None = None,
        base_url: str | None = None,
        allow_http: bool = False,
        timeout: Timeouts | float = Timeouts(),  # noqa: B008  # frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        limiter: RateLimiter | None = None,
        lane: Lane = "interactive",
        max_wait: float | None = None,
        proxy: str | None = None,
        verify: ssl.SSLContext | bool = True,
        encoding: _wire.Encoding = "json",
        transport: Transport | None = None,
        http: Literal["httpx", "httpx2"] = "httpx",
        user_agent: str | None = None,
        max_connections: int = 20,
        send_log: SendOnce | None = None,
        observer: Observer | Sequence[Observer] | None = None,
        customers: CustomerBook | None = None,
        service_window: ServiceWindow = "warn",
        on_result: Callable[[SendResult], None] | None = None,
    ) -> None:
        # Masked from here on: a traceback may show the local variables of this frame.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        proxy = Secret(proxy) if isinstance(proxy, str) else proxy
        key = ApiKey(api_key)
        url = parse_base_url(base_url, allow_http=allow_http)
        check_proxy(proxy)
        check_settings(max_connections, user_agent)
        check_parts(limiter=limiter, transport=transport, verify=verify, on_result=on_result)
        self._options = Options(
            integration_id=parse_integration_id(integration_id),
            lane=parse_lane(lane),
            max_wait=parse_max_wait(max_wait),
            timeout=parse_timeouts(timeout),
            retry=parse_retry(retry),
        )
        self._pipeline = Pipeline(
            base_url=url,
            host=urlsplit(url).netloc,
            headers=_headers(url, user_agent),
            key=key,
            limiter=limiter,
            transport=transport,
            proxy=proxy,
            verify=verify,
            max_connections=max_connections,
            http=one_of("http", http, ("httpx", "httpx2")),
            observer=parse_observers(observer),
        )
        self._encoding: _wire.Encoding = one_of("encoding", encoding, ("json", "form"))
        self._send_log = send_log
        one_of("service_window", service_window, ("enforce", "warn", "off"))
        self._admission = None if customers is None else Admission(customers, service_window, self.observer)
        self._on_result = on_result
        self._is_view = False
        self._caches: dict[int, TemplateCache] = {}
        self._warned: set[tuple[object, str, str]] = set()  # template, variable, problem
        self._attach()

    def _attach(self) -> None:
        self._integrations = Integrations(self._pipeline, self._options)
        self._templates = Templates(self._pipeline, self._options, self._caches)

    @property
    def integrations(self) -> Integrations:
        """Your WhatsApp numbers: `.list(page=1)`, `.iter_pages()` and `.iter()` ("Integrations")."""
        return self._integrations

    @property
    def templates(self) -> Templates:
        """The integration's templates: `.list()`, `.iter()`, `.get()` ("WhatsApp Message Templates")."""
        return self._templates

    @property
    def base_url(self) -> str:
        """The URL that requests go to; it ends in `/v1`."""
        return self._pipeline.base_url

    @property
    def integration_id(self) -> int | None:
        """The integration that this client or view sends from; None if none was given."""
        return self._options.integration_id

    @property
    def timeout(self) -> Timeouts:
        """The timeouts of one attempt, in seconds."""
        return self._options.timeout

    @property
    def customers(self) -> CustomerBook | None:
        """The customers' store whose rules this client or view applies; None if it applies no rules."""
        return None if self._admission is None else self._admission.book

    @property
    def send_log(self) -> SendOnce | None:
        """The log of sends under an idempotency key; None if this client or view has none."""
        return self._send_log

    @property
    def lane(self) -> Lane:
        """The limiter's priority for calls of this client or view: "interactive" or "bulk"."""
        return self._options.lane

    @property
    def observer(self) -> Observer:
        """The client's observers as one; campaigns and workers report to it too."""
        return self._pipeline.observer

    def __repr__(self) -> str:
        if "_options" not in self.__dict__:
            return "<AsyncDesk360, not made: its constructor raised>"
        host = urlsplit(self.base_url).netloc
        return f"<AsyncDesk360 {host} integration_id={self.integration_id} lane={self.lane!r}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a client can't be pickled: it holds connections and the API key; make one where it is needed"
        )

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> NoReturn:
        raise TypeError("use 'async with AsyncDesk360(...) as client:', inside an async function")

    def __exit__(self, *_: object) -> None:  # Python looks for it before it calls __enter__
        """Return None; never called, since `__enter__` raises."""

    async def __aenter__(self) -> Self:
        if self._is_view:
            raise ClientStateError("a view is used without 'async with': it lives as long as its client")
        # Not at the first send: a program enters `async with` at its start, when no customer waits.
        await self._pipeline.connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new calls, end calls that wait for the rate limit, let calls on the wire finish, and close.

        Requests on the wire get `timeout.total` seconds, or the rest of their own longer timeout.

        Raises:
            ClientStateError: on a view, which can't be closed, and in another event loop.
        """
        if self._is_view:
            raise ClientStateError("a view can't be closed; close the client that it was made from")
        await self._pipeline.aclose(drain=self._options.timeout.total)

    def for_integration(self, integration_id: int) -> Self:
        """Return a light view for another integration: same pool, same bucket.

        Raises:
            ConfigurationError: if the id is no whole number of 1 or more.
        """
        if integration_id is None:  # pyright: ignore[reportUnnecessaryComparison]  # callers without a checker
            raise ConfigurationError("integration_id must be a whole number of 1 or more, got None")
        return self.with_options(integration_id=integration_id)

    def with_options(
        self,
        *,
        integration_id: int | _Same = _SAME,
        lane: Lane | _Same = _SAME,
        timeout: Timeouts | float | _Same = _SAME,
        retry: RetryPolicy | _Same = _SAME,
        max_wait: float | _Same | None = _SAME,
        customers: _Same | None = _SAME,
        send_log: SendOnce | _Same = _SAME,
    ) -> Self:
        """Return a light view with other options: same pool, same bucket.

        Args:
            integration_id: the integration's id.
            lane: "interactive" or "bulk".
            timeout: `Timeouts`, or the total seconds of one attempt.
            retry: when an attempt is repeated.
            max_wait: seconds that one call may wait for the rate limit.
            customers: None for a view that doesn't check windows and opt-outs.
            send_log: a `SendLog` for sends under an idempotency key.

        Raises:
            ConfigurationError: if an option is unusable.

        Example:
            ```python
            patient = client.with_options(lane="bulk", max_wait=None)
            ```
        """
        changes: dict[str, Any] = {}
        if not isinstance(integration_id, _Same):
            # Not from the environment: an explicit None means no integration.
            changes["integration_id"] = parse_integration_id(integration_id, {})
        if not isinstance(lane, _Same):
            changes["lane"] = parse_lane(lane)
        if not isinstance(timeout, _Same):
            changes["timeout"] = parse_timeouts(timeout)
        if not isinstance(retry, _Same):
            changes["retry"] = parse_retry(retry)
        if not isinstance(max_wait, _Same):
            changes["max_wait"] = parse_max_wait(max_wait)
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._options = evolve(self._options, **changes)
        view._is_view = True
        if customers is None:
            view._admission = None
        if not isinstance(send_log, _Same):
            view._send_log = send_log
        view._attach()
        return view

    @property
    def limiter(self) -> RateLimiter:
        """The limiter that the client and its views take tokens from."""
        return self._pipeline.limiter

    @property
    def rate_limit(self) -> RateLimitStatus:
        """The limiter's state now, without I/O ("Rate Limit").

        Raises:
            ClientStateError: outside an event loop; the shared limiter belongs to a loop.
        """
        try:
            return evolve(self._pipeline.limiter.snapshot(), server=self._pipeline.server_limit)
        except (anyio.NoEventLoopError, sniffio.AsyncLibraryNotFoundError):
            raise ClientStateError(
                "rate_limit is read inside an event loop, where the limiter lives"
            ) from None

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def send(
        self,
        message: MediaMessage,
        *,
        idempotency_key: str | None = None,
        fallback: None = None,
        on_attempt: OnAttempt | None = None,
    ) -> SentMedia: ...
    @overload
    async def send(
        self,
        message: MediaMessage,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None,
        on_attempt: OnAttempt | None = None,
    ) -> SentMedia | Sent: ...
    @overload
    async def send(
        self,
        message: TemplateBatch,
        *,
        idempotency_key: str | None = None,
        fallback: None = None,
        on_attempt: OnAttempt | None = None,
    ) -> BulkSent: ...
    @overload
    async def send(
        self,
        message: TextMessage
        | TemplateMessage
        | LocationMessage
        | ContactsMessage
        | InteractiveMessage
        | LocationRequestMessage,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
        on_attempt: OnAttempt | None = None,
    ) -> Sent: ...
    @overload
    async def send(
        self,
        message: Message,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
        on_attempt: OnAttempt | None = None,
    ) -> Reply: ...
    async def send(
        self,
        message: Message,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
        on_attempt: OnAttempt | None = None,
    ) -> Reply:
        """Send a message.

        Args:
            message: one of the message values.
            idempotency_key: 1 to 255 characters that name this send. If a send under this key was accepted
                before, its stored reply is returned, without a request. Needs `AsyncDesk360(send_log=...)`.
            fallback: a template to the same person. It is sent under the same key if
                `service_window="enforce"` refuses the free message.
            on_attempt: awaited once per attempt, after the token is taken and before a byte leaves. If it
                raises, the message wasn't sent.

        Returns:
            The reply; `.replayed` is True if it is the stored reply of an earlier send.

        Raises:
            KeyConflict: the key was used for another message; this one wasn't sent.
            SendInProgress: another send under the key didn't end within `max_wait`.
            SendUnknown: an earlier send under the key may have gone out.
            WindowClosed: the customer's window is closed, and there is no fallback; not sent.
            OptedOut: the person, or each person of a batch, has opted out; not sent.
            Desk360Error: `.outcome` is whether the message went out.
        """
        if fallback is not None:
            check_fallback(message, fallback)
        had_turn, self._pipeline.begun = message is self._pipeline.begun, None
        if not had_turn and (turn := self._pipeline.turnstile.enter()) is not None:
            await self._wait_for(turn, lambda: message)
        return await self._transmit(
            0, message, message, None, None, key=idempotency_key, fallback=fallback, on_attempt=on_attempt
        )

    async def _wait_for(self, turn: Awaitable[None], build: Callable[[], Message]) -> None:
        """Wait until a send may begin; report it if it is cancelled before."""
        try:
            await turn
        except BaseException as error:
            with suppress(InvalidMessage):
                message = build()
                await self._transmit(0, message, message, None, None, ended=error)
            raise

    async def _transmit(
        self,
        index: int,
        item: Any,
        message: Message,
        stop: Stop | None,
        sink: "Sink | None",
        *,
        key: str | Callable[[], str] | None = None,
        fallback: TemplateMessage | None = None,
        on_attempt: OnAttempt | None = None,
        ended: BaseException | None = None,
    ) -> Reply:
        """Send a message, and report its result exactly once, to the sink and to `on_result`.

        `ended` is the exception of a send that ended before it began.
        """
        state = CallState(self._options, stop, on_attempt)
        state.had_turn = sink is None
        with self._pipeline.observed(state, self._operation(message)) as end:
            state.recipients = state.operation.recipients if state.operation else 0
            try:
                if ended is not None:
                    raise ended
                if key is None:
                    reply = await self._deliver(message, state, fallback)
                else:
                    name = key if isinstance(key, str) else key()
                    reply = await self._deliver_once(name, message, state, fallback)
            except BaseException as error:
                outcome = end.outcome = state.outcome(error)
                end.messages = {outcome: state.recipients}
                if isinstance(error, Desk360Error) and error is not state.veto:
                    error.outcome = outcome
                    self._report(SendResult(index, item, message, outcome, None, error), sink)
                    raise
                how = Desk360Error(f"ended by {type(error).__name__}", outcome=outcome)
                how.__cause__ = error
                self._report(SendResult(index, item, message, outcome, None, how), sink)
                raise
            _note_reply(end, reply)
            if sink is not None or self._on_result is not None:
                self._report(SendResult(index, item, message, Outcome.ACCEPTED, reply, None), sink)
            return reply

    def _operation(self, message: Message) -> Operation:
        endpoint = ENDPOINT_OF.get(type(message))
        template = getattr(message, "template", None)
        return Operation(
            endpoint.name if endpoint else "send",  # anything else is refused later
            "send",
            self._options.lane,
            self._options.integration_id,
            template if isinstance(template, int) else None,
            len(message.phones) if isinstance(message, TemplateBatch) else 1,
            method="POST",
            path=endpoint.path if endpoint else "",
            base_url=self._pipeline.base_url,
        )

    async def _deliver(
        self,
        message: Message,
        state: CallState,
        fallback: TemplateMessage | None = None,
        intend: Intend | None = None,
    ) -> Reply:
        """Send a message if WhatsApp's rules allow it; before that, resolve a template's names to ids."""
        await self._pipeline.connected()
        if self._admission is not None and state.recheck is None:
            return await self._admit(self._admission, message, state, fallback, intend)
        if isinstance(message, TemplateMessage | TemplateBatch):
            self._warn_of_refusals(message)
            named = await self.templates.resolve(message, state)
            state.end.template_id = named.template if isinstance(named.template, int) else None
            message = named
        if intend is not None:
            state.intend = partial(intend, message)
        if isinstance(message, TemplateBatch):
            message = await _with_destinations(message)
        integration = self._options.integration_id or self._options.integration("sending")
        call = _wire.call_for(message, integration, encoding=self._encoding)
        state.recipients = len(call.asked)
        reply: Reply = await self._pipeline.perform(call, state)
        return reply

    async def _admit(
        self,
        admission: Admission,
        message: Message,
        state: CallState,
        fallback: TemplateMessage | None,
        intend: Intend | None,
    ) -> Reply:
        """Send a message if the customers' store allows it, else its fallback."""
        self._pipeline.hold(admission.book)

        async def send(admitted: Message, recheck: OnAttempt) -> Reply:
            state.recheck = recheck
            return await self._deliver(admitted, state, None, intend)

        return await admission.deliver(await _with_destinations(message), fallback, send)

    def _warn_of_refusals(self, message: TemplateMessage | TemplateBatch) -> None:
        """Log each parameter that WhatsApp refuses, once per template, variable and problem."""
        for variable, text in (message.parameters or {}).items():
            problem = refused_by_whatsapp(text)
            if problem and (message.template, variable, problem) not in self._warned:
                self._warned.add((message.template, variable, problem))
                text = (
                    f"template {message.template}: {variable} holds {problem}, which WhatsApp refuses: the "
                    "message may be accepted, and fail later. Replace such white space by single spaces"
                )
                facts = {"problem": problem}
                self.observer.notice(Notice("desk360.client.parameter_refused", "warning", text, facts))

    async def _deliver_once(
        self, key: str, message: Message, state: CallState, fallback: TemplateMessage | None
    ) -> Reply:
        """Send under a key, or return the stored reply of an earlier send."""
        if self._send_log is None:
            raise ConfigurationError(
                "idempotency_key needs a send log: pass AsyncDesk360(send_log=SendLog('sends.db')) from "
                "desk360_async.once"
            )
        self._pipeline.check()
        self._pipeline.hold(self._send_log)
        message = await _with_destinations(message)

        async def transmit(intend: Intend, end: End) -> Reply:
            try:
                reply = await self._deliver(message, state, fallback, intend)
            except BaseException as error:
                end(state.outcome(error), None)
                raise
            end(Outcome.ACCEPTED, reply)
            return reply

        timeout = self._options.timeout
        return await self._send_log.send(
            key,
            message,
            integration=self._options.integration("sending"),
            base_url=self.base_url,
            timeout=timeout.upload if attachments_of(message) else timeout.total,
            max_wait=state.max_wait,
            sleep=partial(self._pipeline.sleep, state),
            transmit=transmit,
        )

    def _report(self, result: SendResult, sink: "Sink | None" = None) -> None:
        if sink is not None:
            sink(result)
        if self._on_result is not None:
            try:
                self._on_result(result)
            except Exception as error:  # noqa: BLE001  # the caller's own; it doesn't change the outcome
                facts = {"callback": "on_result"}
                self.observer.notice(
                    Notice("desk360.client.callback_failed", "error", "on_result failed", facts, error)
                )

    async def _call(self, call: Call) -> Any:
        return await self._pipeline.operate(call, CallState(self._options))

    async def send_template(
        self,
        to: str,
        template: int | str,
        *,
        language: int | str,
        parameters: Mapping[str, str] | None = None,
        attachment: File | None = None,
        idempotency_key: str | None = None,
    ) -> Sent:
        """Send a template to one phone. Implements "Send WhatsApp Message Template".

        Args:
            to: the phone, E.164 with `+`.
            template: its id (int: no look-up), or its name (str: looked up in the cached list).
            language: the id (int) or label (str) of one of its translations.
            parameters: variable → text, such as {"body-1": "Ada"}.
            attachment: the file for a media header, or its path.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).

        Returns:
            The message's id, by which webhooks name it; `.replayed` is True for a stored reply.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            sent = await client.send_template(
                "+905551112233", "order_shipped", language="English",
                parameters={"body-1": "Ada", "body-2": "SP1"},
            )
            print(sent.message_id)
            ```
        """
        to = to_private(to)
        message = TemplateMessage(
            to, template, language=language, parameters=parameters, attachment=attachment
        )
        return await self.send(message, idempotency_key=idempotency_key)

    async def send_template_bulk(
        self,
        phones: Iterable[str] | None,
        template: int | str,
        *,
        language: int | str,
        parameters: Mapping[str, str] | None = None,
        attachment: File | None = None,
        destinations_file: File | None = None,
        idempotency_key: str | None = None,
    ) -> BulkSent:
        """Send a template with the same parameters to many phones, in one request.

        Implements "Bulk Send WhatsApp Message Template".

        Args:
            phones: E.164 with `+`; duplicates are sent once. None or () with `destinations_file`.
            template: its id (int) or name (str).
            language: the id (int) or label (str) of one of its translations.
            parameters: variable → text, shared by all.
            attachment: the file for a media header, or its path.
            destinations_file: a file of phones, or its path: one column, no header, one number a line. Each
                line is checked before a request is spent.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).

        Returns:
            `.phones` are in the answer's list, `.unlisted` aren't, `.opted_out` weren't in the request.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            phones = ["+905551110001", "+905551110002"]
            sent = await client.send_template_bulk(phones, "welcome", language="English")
            print(len(sent.phones), sent.unlisted)
            ```
        """
        phones = to_private_list(phones)
        message = TemplateBatch(
            phones,
            template,
            language=language,
            parameters=parameters,
            attachment=attachment,
            destinations_file=destinations_file,
        )
        return await self.send(message, idempotency_key=idempotency_key)

    async def send_text(
        self,
        to: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
    ) -> Sent:
        """Send text of 1 to 4,096 characters. Implements "Send WhatsApp Message".

        Args:
            to: the phone, E.164 with `+`.
            text: the text; markup such as `<b>` is sent unchanged.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).
            fallback: the template that goes out where the customer's window is closed (see `send`).

        Returns:
            The message's id, by which webhooks name it; `.replayed` is True for a stored reply.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            sent = await client.send_text("+905551112233", "Your table is ready")
            ```
        """
        to = to_private(to)
        # In `send` it would be too late: a thousand callers would have built their messages in one turn.
        if (turn := self._pipeline.turnstile.enter()) is not None:
            await self._wait_for(turn, lambda: TextMessage(to, text))
        message = self._pipeline.begun = TextMessage(to, text)
        return await self.send(message, idempotency_key=idempotency_key, fallback=fallback)

    async def send_location(
        self,
        to: str,
        location: Location,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
    ) -> Sent:
        """Send a place on the map. Implements "Send WhatsApp Location Message".

        Args:
            to: the phone, E.164 with `+`.
            location: the place, with its name and address.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).
            fallback: the template that goes out where the customer's window is closed (see `send`).

        Returns:
            The message's id, by which webhooks name it; `.replayed` is True for a stored reply.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            shop = Location(latitude=41.0422, longitude=29.0256, name="Shop", address="Beşiktaş, İstanbul")
            await client.send_location("+905551112233", shop)
            ```
        """
        to = to_private(to)
        return await self.send(
            LocationMessage(to, location), idempotency_key=idempotency_key, fallback=fallback
        )

    async def send_contacts(
        self,
        to: str,
        contacts: Sequence[Contact],
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
    ) -> Sent:
        """Send contact cards. Implements "Send WhatsApp Contact Message".

        Args:
            to: the phone, E.164 with `+`.
            contacts: at least one card.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).
            fallback: the template that goes out where the customer's window is closed (see `send`).

        Returns:
            The message's id, by which webhooks name it; `.replayed` is True for a stored reply.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            name = ContactName("Ada Lovelace", "Ada", "Lovelace")
            ada = Contact(name, phones=[ContactPhone("+905551110000", "WORK")])
            await client.send_contacts("+905551112233", [ada])
            ```
        """
        to = to_private(to)
        return await self.send(
            ContactsMessage(to, contacts), idempotency_key=idempotency_key, fallback=fallback
        )

    @overload
    async def send_media(
        self,
        to: str,
        attachments: Sequence[File],
        *,
        idempotency_key: str | None = None,
        fallback: None = None,
    ) -> SentMedia: ...
    @overload
    async def send_media(
        self,
        to: str,
        attachments: Sequence[File],
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None,
    ) -> SentMedia | Sent: ...
    async def send_media(
        self,
        to: str,
        attachments: Sequence[File],
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
    ) -> SentMedia | Sent:
        """Send 1 to 5 files of at most 20 MB each. Implements "Send WhatsApp Media Message".

        Args:
            to: the phone, E.164 with `+`.
            attachments: paths, or `Attachment` values.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).
            fallback: the template that goes out where the customer's window is closed (see `send`).

        Returns:
            `.files` that the answer lists, with their message ids and media ids; `.missing` counts the rest.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            sent = await client.send_media("+905551112233", ["invoice.pdf"])
            print(sent.files[0].media_id)
            ```
        """
        to = to_private(to)
        return await self.send(
            MediaMessage(to, attachments), idempotency_key=idempotency_key, fallback=fallback
        )

    async def send_interactive(
        self,
        to: str,
        body: str,
        buttons: Sequence[Button],
        *,
        header: Header | None = None,
        footer: str | None = None,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
    ) -> Sent:
        """Send text with 1 to 10 buttons. Implements "Send WhatsApp Interactive Message".

        Args:
            to: the phone, E.164 with `+`.
            body: 1 to 1,024 characters.
            buttons: 1 to 10, with unique ids and titles.
            header: text, or an image, a video or a document by its link.
            footer: 1 to 60 characters.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).
            fallback: the template that goes out where the customer's window is closed (see `send`).

        Returns:
            The message's id, by which webhooks name it; `.replayed` is True for a stored reply.

        Raises:
            Desk360Error: `.outcome` is whether it went out.

        Example:
            ```python
            buttons = [Button("yes", "Yes"), Button("no", "No")]
            await client.send_interactive("+905551112233", "Does tomorrow suit you?", buttons)
            ```
        """
        to = to_private(to)
        message = InteractiveMessage(to, body, buttons, header=header, footer=footer)
        return await self.send(message, idempotency_key=idempotency_key, fallback=fallback)

    async def send_location_request(
        self,
        to: str,
        body: str,
        *,
        idempotency_key: str | None = None,
        fallback: TemplateMessage | None = None,
    ) -> Sent:
        """Ask for the customer's location.

        Implements "Send WhatsApp Location Request Interactive Message".

        Args:
            to: the phone, E.164 with `+`.
            body: the question, 1 to 1,024 characters.
            idempotency_key: names this send, so that a second call doesn't send again (see `send`).
            fallback: the template that goes out where the customer's window is closed (see `send`).

        Returns:
            The message's id, by which webhooks name it; `.replayed` is True for a stored reply.

        Raises:
            Desk360Error: `.outcome` is whether it went out.
        """
        to = to_private(to)
        return await self.send(
            LocationRequestMessage(to, body), idempotency_key=idempotency_key, fallback=fallback
        )

    async def mark_read(self, to: str, message_ids: Sequence[str]) -> tuple[str, ...]:
        """Mark a customer's messages as read; repeating it does no harm. Implements "Read WhatsApp Message".

        Args:
            to: the customer's phone, E.164 with `+`.
            message_ids: the ids, as webhooks brought them.

        Returns:
            The ids that the server marked.

        Raises:
            Desk360Error: if it failed.
        """
        to = to_private(to)
        message = ReadMessage(to, message_ids)
        integration = self._options.integration("marking as read")
        call = _wire.call_for(message, integration, encoding=self._encoding)
        return await self._call(call)  # type: ignore[no-any-return]  # the call's reader makes it

    # ── many sends ─────────────────────────────────────────────────────────────────────────────────────

    @overload
    def send_each(
        self,
        messages: Iterable[M] | AsyncIterable[M],
        *,
        build: None = None,
        key: Callable[[M], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> "Results[M]": ...
    @overload
    def send_each(  # type: ignore[overload-cannot-match]  # mypy finds it for lists of mixed messages
        self,
        messages: Iterable[Message] | AsyncIterable[Message],
        *,
        build: None = None,
        key: Callable[[Message], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> "Results[Message]": ...
    @overload
    def send_each(
        self,
        messages: Iterable[T] | AsyncIterable[T],
        *,
        build: Callable[[T], Message],
        key: Callable[[T], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> "Results[T]": ...
    def send_each(
        self,
        messages: Iterable[Any] | AsyncIterable[Any],
        *,
        build: Callable[[Any], Message] | None = None,
        key: Callable[[Any], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> "Results[Any]":
        """Send many messages; results come as the sends end, and memory stays flat.

        Use it as `async with client.send_each(messages) as results: async for result in results: ...`.
        When you leave the block, no more sends start, and the sends on the wire finish. One failed send never
        stops the others.

        Args:
            messages: any iterable or async iterable of messages, or of items for `build`.
            build: makes a message from an item. If it raises, the item's result is that error, NOT_SENT.
            key: returns an item's idempotency key; its argument is the item, not the message that `build`
                made. If it raises, the item's result is that error, NOT_SENT.
            concurrency: maximum number of sends at once, 1 to 1,000; the rate limit decides the speed.
            lane: "interactive", or "bulk", which lets interactive sends go first. None: "bulk" if the client
                or view has that lane. Else "interactive" for a sized input of at most half the limit (30 of
                60), and "bulk" for every other input.

        Returns:
            The results, to be entered with `async with` and read with `async for`.

        Raises:
            InvalidMessage: if `messages` is a lone message, a text or a mapping.
            ConfigurationError: if concurrency, build or lane is unusable.

        Example:
            ```python
            async with client.send_each(rows, build=message_of) as results:
                async for result in results:
                    if result.outcome is not Outcome.ACCEPTED:
                        log.warning("%s: %s: %s", result.index, result.outcome, result.error)
            ```
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 1000:
            raise ConfigurationError(f"concurrency must be 1 to 1,000, got {concurrency!r}")
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable | AsyncIterable):
            raise InvalidMessage(
                "messages", "takes a list or an (async) iterator of messages; wrap one in a list"
            )
        if build is not None and (not callable(build) or inspect.iscoroutinefunction(build)):
            raise ConfigurationError("build must be a plain function that makes a message of an item")
        from ._fanout import Results, lane_for

        given = None if lane is None else parse_lane(lane)
        if given is None and self.lane == "bulk":
            given = "bulk"

        def begin() -> "Transmit":
            sender = self.with_options(lane=given or lane_for(messages, self.limiter.snapshot().limit))

            async def transmit(index: int, item: Any, message: Message, stop: Stop, sink: "Sink") -> Reply:
                named = None if key is None else partial(key, item)
                return await sender._transmit(index, item, message, stop, sink, key=named)

            return transmit

        return Results(begin, messages, build, self._report, concurrency=concurrency)

    @overload
    async def send_all(
        self,
        messages: Iterable[M] | AsyncIterable[M],
        *,
        build: None = None,
        key: Callable[[M], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> list[SendResult[M]]: ...
    @overload
    async def send_all(  # type: ignore[overload-cannot-match]  # mypy finds it for lists of mixed messages
        self,
        messages: Iterable[Message] | AsyncIterable[Message],
        *,
        build: None = None,
        key: Callable[[Message], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> list[SendResult[Message]]: ...
    @overload
    async def send_all(
        self,
        messages: Iterable[T] | AsyncIterable[T],
        *,
        build: Callable[[T], Message],
        key: Callable[[T], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> list[SendResult[T]]: ...
    async def send_all(
        self,
        messages: Iterable[Any] | AsyncIterable[Any],
        *,
        build: Callable[[Any], Message] | None = None,
        key: Callable[[Any], str] | None = None,
        concurrency: int = 8,
        lane: Lane | None = None,
    ) -> list[SendResult[Any]]:
        """Send many messages and return all results, in the order of the input.

        If the source raises in the middle, the earlier items are sent first. Then the exception is raised
        unchanged. Its attribute `results` lists their results in the order of the input.

        Args:
            messages: as for `send_each`.
            build: as for `send_each`.
            key: as for `send_each`.
            concurrency: as for `send_each`.
            lane: as for `send_each`.

        Returns:
            One result for each item.

        Raises:
            InvalidMessage: if `messages` is a lone message, a text or a mapping.
            ConfigurationError: if concurrency, build or lane is unusable.

        Example:
            ```python
            phones = ["+905551110001", "+905551110002"]
            results = await client.send_all([TextMessage(phone, "Ready") for phone in phones])
            ```
        """
        many = self.send_each(messages, build=build, key=key, concurrency=concurrency, lane=lane)
        ended: list[SendResult[Any]] = []
        try:
            async with many as results:
                async for result in results:
                    ended.append(result)  # noqa: PERF401  # kept if the source raises
        except BaseException as error:
            _attach_results(error, in_order([*ended, *many.rest]))
            raise
        return in_order(ended)

    # ── files down ─────────────────────────────────────────────────────────────────────────────────────

    def open_media(self, media_id: str) -> "Download":
        """Open a download: `async with client.open_media(id) as media:`, then `media.aiter_bytes()`.

        Implements "Get WhatsApp Media". Inside, `media` has `.content_type`, `.filename` and `.size`.

        Args:
            media_id: the media's id from a webhook or a send, any text.

        Raises:
            InvalidMessage: if the id is empty.
            Desk360Error: on entering, if the request for the media fails.

        Example:
            ```python
            async with client.open_media(media_id) as media:
                async for chunk in media.aiter_bytes():
                    file.write(chunk)
            ```
        """
        call = _wire.media_call(media_id, self._options.integration("downloading"))
        from ._downloads import Download  # its headers' readers are loaded by programs that download

        return Download(self._pipeline, call, self._options)

    async def read_media(self, media_id: str, *, max_bytes: int = 100 * 1024 * 1024) -> Media:
        """Download a file into memory. Implements "Get WhatsApp Media".

        Args:
            media_id: the media's id from a webhook or a send, any text.
            max_bytes: maximum size of the file, in bytes.

        Returns:
            The content in memory, its content type and its file's name.

        Raises:
            UnexpectedResponse: if the file is larger than `max_bytes`.
            Desk360Error: if the download fails.
        """
        from ._downloads import read

        return await read(self.open_media(media_id), max_bytes)

    async def save_media(self, media_id: str, path: str | os.PathLike[str]) -> Path:
        """Download into a file, which appears only when it is complete. Implements "Get WhatsApp Media".

        Args:
            media_id: the media's id from a webhook or a send, any text.
            path: the file to write (replaced if it exists), or a folder. In a folder the file gets the base
                name that the server gives, and a number if that name is taken. A path that ends in a slash
                is a folder, and is made if it doesn't exist.

        Returns:
            The path of the file.

        Raises:
            InvalidMessage: if the folder of a file doesn't exist; no request is sent.
            Desk360Error: if the download fails.
            OSError: if the file can't be written.

        Example:
            ```python
            path = await client.save_media(media_id, "downloads/")
            ```
        """
        from ._downloads import save

        return await save(self.open_media(media_id), media_id, path)

    # ── the way out ────────────────────────────────────────────────────────────────────────────────────

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        files: Sequence[tuple[str, Attachment]] = (),
        idempotent: bool = False,
    ) -> Answer:
        """Call an endpoint that this SDK doesn't cover yet, through the same limiter, retries and errors.

        Args:
            method: the HTTP method.
            path: the path below `/v1`, such as `/integrations`; the vendor's form, `/v1/…`, is accepted too.
            json: the body, if any.
            params: the query.
            files: pairs of a field's name and a file. With files the request is a form, and `json` is an
                object with its other fields.
            idempotent: whether repeating the call does no harm; GETs always are.

        Returns:
            The answer's status, headers and decoded JSON.

        Raises:
            InvalidMessage: if the path leaves `/v1`, the body is no strict JSON, or a file is no Attachment.
            Desk360Error: as for a send.
        """
        try:
            content = None if json is None else _codec.encode(json)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidMessage(
                "json", f"can't be written as strict JSON: {type(error).__name__}"
            ) from error
        if params is not None and not isinstance(params, Mapping):
            raise InvalidMessage("params", f"must map names to values, not {type(params).__name__}")
        if isinstance(path, str) and path.startswith("/v1/"):
            path = path.removeprefix("/v1")
        form = _wire.free_form(json, files) if files else None
        call = _wire.free_call(method, path, content, params, form=form, idempotent=idempotent)
        return await self._call(call)  # type: ignore[no-any-return]  # the call's reader makes it


def in_order(results: list[SendResult[T]]) -> list[SendResult[T]]:
    """Return results in the order of their items in the input."""
    return sorted(results, key=lambda result: result.index)


def _attach_results(error: BaseException, results: list[SendResult[Any]]) -> None:
    """Set `error.results`, and name it in a note, on an exception that takes attributes."""
    with suppress(AttributeError):
        error.results = results  # type: ignore[attr-defined]  # documented in send_all
        error.add_note(f"{len(results)} items had a result before this error: read its attribute `results`")


def _note_reply(end: OperationEnd, reply: Reply) -> None:
    """Fill the end of a send that was accepted; the stored reply of an earlier one counts no messages."""
    end.outcome = Outcome.ACCEPTED
    if reply.replayed:
        return
    if isinstance(reply, BulkSent):
        counts = {Outcome.ACCEPTED: len(reply.phones), Outcome.UNKNOWN: len(reply.unlisted)}
        end.messages = {outcome: count for outcome, count in counts.items() if count}
    else:
        end.messages = {Outcome.ACCEPTED: 1}


async def _with_destinations(message: Message) -> Message:
    """Return the message; for a batch, load and check its destinations file first."""
    if not isinstance(message, TemplateBatch) or message.destinations_file is None:
        return message
    from ._uploads import with_destinations  # loaded by programs that send files

    return await with_destinations(message)


def _headers(url: str, user_agent: str | None) -> tuple[tuple[str, str], ...]:
    agent = f"desk360-async/{__version__}" + (f" {user_agent}" if user_agent else "")
    return (
        ("host", urlsplit(url).netloc),
        ("accept", "application/json"),
        ("accept-encoding", ENCODINGS),
        ("user-agent", agent),
        ("connection", "keep-alive"),
    )
