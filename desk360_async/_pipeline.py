"""The pipeline of a call: a token, a slot, the wire, the verdict, and then the reply, a wait or an error.

One loop, `Pipeline._repeat`, serves sends, reads and downloads. A client and its views share one `Pipeline`.
Each call carries one `CallState`. No module below this one waits for the rate limit, and no module above it
decides about retries.
"""

import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import sniffio
from anyio.lowlevel import current_token
from attrs import frozen

from ._bucket import Lane, ServerLimit, of_read, refusal_wait, retry_after
from ._calls import Answered, Call
from ._errors import (
    AuthenticationFailed,
    ClientStateError,
    ConfigurationError,
    ConnectionFailed,
    Desk360Error,
    Outcome,
    TimedOut,
)
from ._http import (
    Http,
    Opened,
    Request,
    Transport,
    library_of,
    load_backend_beside,
    load_early,
    own_transport,
)
from ._limiter import Permit, RateLimiter, TokenBucket, default_limiter
from ._observer import AttemptEnd, Observers, Operation, OperationEnd
from ._outcomes import Again, Evidence, Reach, Unanswered, Verdict, verdict
from ._redaction import key_pieces, masked_headers, without
from ._settings import ApiKey, RetryPolicy, Timeouts
from ._wire import as_refusal, error_from, read

if TYPE_CHECKING:
    from ._uploads import Measures

T = TypeVar("T")
A = TypeVar("A", bound=Answered | Opened)

OnAttempt = Callable[[], Awaitable[None]]

# Seconds between two reports of the limiter's state.
REPORTED = 1.0

# ── what a call carries ───────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Options:
    """The options that may differ between a client and its views."""

    integration_id: int | None
    lane: Lane
    max_wait: float | None
    timeout: Timeouts
    retry: RetryPolicy

    def integration(self, purpose: str) -> int:
        """Return the integration's id.

        Raises:
            ConfigurationError: if it is missing; the message names `purpose` and the ways to give one.
        """
        if self.integration_id is None:
            raise ConfigurationError(
                f"{purpose} needs an integration: pass AsyncDesk360(integration_id=...), set the environment "
                "variable DESK360_INTEGRATION_ID, or use client.for_integration(...); "
                "client.integrations lists them"
            )
        return self.integration_id


class Stop:
    """Ends the waits for tokens and the waits between attempts. Requests on the wire continue."""

    def __init__(self) -> None:
        self.requested: bool = False
        self._waits: set[anyio.CancelScope] = set()

    def request(self) -> None:
        """End all present waits, and each later one at once."""
        self.requested = True
        for scope in self._waits:
            scope.cancel()

    async def wait(self, waiting: Callable[..., Awaitable[T]], *args: object) -> T | None:
        """Await `waiting(*args)` and return its result; None if the stop came first."""
        if self.requested:
            return None
        result: T | None = None
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                result = await waiting(*args)
            finally:
                self._waits.discard(scope)
        return result


class CallState:
    """The state of one call: its options, the rest of its waits, its stop, and how far it got.

    The look-up of a template runs on the state of the send that needs it, and so shares its waits and stop.

    Attributes:
        options: of the client or the view.
        stop: ends the call's waits, as closing the client does; None: only closing ends them.
        max_wait: seconds that are left for waits for tokens; None for no limit.
        gates: seconds that are left for waits after a 429.
        refused: seconds that the last 429 asked for.
        attempts: attempts that are left; those after a 429 aren't counted.
        evidence: how far the send's current attempt got; None while no attempt runs.
        veto: the exception that `on_attempt` raised.
        recheck: awaited before `on_attempt`; raises if WhatsApp's rules no longer allow the message.
        intend: awaited after `on_attempt`; commits the intent of a send under a key.
        operation: the operation of the call; a look-up on a send's state has its own operation.
        end: the operation's end, filled as the call goes on.
        recipients: number of people that a send addresses.
        had_turn: whether the send passed the turnstile; a fan-out limits its sends by itself.
    """

    def __init__(
        self, options: Options, stop: Stop | None = None, on_attempt: OnAttempt | None = None
    ) -> None:
        self.options = options
        self.stop = stop
        self.on_attempt = on_attempt
        self.max_wait = options.max_wait
        self.gates: float = options.retry.max_retry_after
        self.refused: float = 0.0
        self.attempts: int = options.retry.attempts
        self.evidence: Evidence | None = None
        self.veto: Exception | None = None
        self.intend: OnAttempt | None = None
        self.operation: Operation | None = None
        self.end: OperationEnd = OperationEnd()
        self.recipients: int = 0
        self.recheck: OnAttempt | None = None
        self.had_turn: bool = False

    def waited(self, seconds: float) -> None:
        """Subtract a wait from `max_wait`."""
        if self.max_wait is not None:
            self.max_wait = max(0.0, self.max_wait - seconds)

    async def ask(self) -> None:
        """Await `on_attempt`. Its exceptions propagate unchanged, and get no outcome."""
        if self.recheck is not None:
            await self.recheck()
        if self.on_attempt is not None:
            try:
                await self.on_attempt()
            except Exception as error:
                self.veto = error
                raise
        if self.intend is not None:
            await self.intend()

    def outcome(self, error: BaseException) -> Outcome:
        """Return the outcome of a send that ends with this error, a cancellation included."""
        if isinstance(error, Desk360Error) and error is not self.veto:
            # A look-up of a template is a read and has no outcome; the send that needed it has one.
            return error.outcome or Outcome.NOT_SENT
        if self.evidence is None:
            return Outcome.NOT_SENT
        return verdict(self.evidence.status or self.evidence.reach).outcome


class RetryQuota:
    """The retries that a client and its views may make together.

    In an outage, retries must not double the load. Each call earns a part of a retry, so a total outage
    sees at most 1.2 attempts per call over time.
    """

    EARNED = 0.18
    MOST = 10.0

    def __init__(self) -> None:
        self.balance: float = self.MOST

    def earn(self) -> None:
        """Count a call."""
        self.balance = min(self.MOST, self.balance + self.EARNED)

    def spend(self) -> bool:
        """Take one retry; False if none is left."""
        if self.balance < 1:
            return False
        self.balance -= 1
        return True


# ── the pipeline ──────────────────────────────────────────────────────────────────────────────────────────


class Turnstile:
    """Lets a few sends begin in each turn of asyncio's loop; the others begin in later turns, in order.

    Else a thousand callers at once would block the loop until each of them had built its request. While many
    sends wait for a connection, no further one begins: the garbage collector needs longer for a thousand
    built requests than asyncio for a thousand futures.

    Args:
        running_loop: returns asyncio's running loop.
        connections: how many sends don't wait for a connection.

    Attributes:
        loop: the client's loop, once it is bound to one of asyncio's; no other loop has turns.
        sending: how many sends need a connection, or have one.
    """

    MOST_A_TURN = 20
    # More than the vendor's limit: with it, every send that has a token may wait for a connection.
    MOST_WAITING = 64

    def __init__(self, running_loop: Callable[[], Any], connections: int) -> None:
        self._running_loop = running_loop
        self._a_turn = min(connections, self.MOST_A_TURN)
        self._most: float = connections + self.MOST_WAITING
        self._begun = 0
        self._line: deque[Any] = deque()
        self.loop: Any = None
        self.sending: int = 0

    def enter(self) -> Awaitable[None] | None:
        """Return None if the send may begin now, else a future that ends in the turn in which it may.

        A send on another loop begins at once, and the pipeline refuses it.
        """
        loop = self.loop
        if loop is None or sniffio.thread_local.name == "trio" or self._running_loop() is not loop:
            return None
        if self._line or self._begun >= self._a_turn or self.sending >= self._most:
            turn: Awaitable[None] = loop.create_future()
            self._line.append(turn)
            return turn
        self._begun += 1
        if self._begun == 1:
            loop.call_soon(self._turn)
        return None

    def leave(self) -> None:
        """Count a send less that needs a connection, so that another may begin."""
        self.sending -= 1
        if self._line:
            self._resume()

    def open(self) -> None:
        """Let all sends begin, though many wait for a connection: the client closes, and refuses them."""
        self._most = float("inf")
        if self._line:
            self._resume()

    def _resume(self) -> None:
        if not self._begun:
            self._begun = self._a_turn
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._begun = 0
        while self._line and self._begun < self._a_turn and self.sending < self._most:
            turn = self._line.popleft()
            if not turn.done():  # else its caller was cancelled
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            self.loop.call_soon(self._turn)


class Store(Protocol):
    """A store that clients share, such as the send log. The last client to close also closes the store."""

    def join(self) -> None:
        """Count one more user."""
        ...

    async def leave(self) -> None:
        """Count one user less."""
        ...


class Pipeline:
    """The pool, the limiter, the quota and the life that a client shares with its views.

    Args:
        base_url: ends in `/v1`.
        host: the host and port of `base_url`; clients of one host and loop share the default limiter.
        headers: of every request, without the key; the first is `host`.
        key: the API key.
        limiter: the user's own, or None for the shared one.
        transport: the user's own, or None for a pool of ours.
        proxy: a proxy's URL.
        verify: an SSL context; True for certifi's list.
        max_connections: maximum number of attempts on the wire at once (≥ 1).
        http: "httpx" or "httpx2", whose pool it is.
        observer: gets the reports.
    """

    def __init__(
        self,
        *,
        base_url: str,
        host: str,
        headers: tuple[tuple[str, str], ...],
        key: ApiKey,
        limiter: RateLimiter | None,
        transport: Transport | None,
        proxy: str | None,
        verify: ssl.SSLContext | bool,
        max_connections: int,
        http: str,
        observer: Observers,
    ) -> None:
        self.base_url = base_url
        self.headers: tuple[tuple[str, str], ...] = headers
        self._json_headers = headers
        self._key = key
        self._key_number = 0
        self._key_pieces: tuple[str, ...] = ()
        self.observer = observer
        self.closed: bool = False
        self.quota: RetryQuota = RetryQuota()
        self.stop: Stop = Stop()
        self._host = host
        self._limiter = limiter
        self.server_limit: ServerLimit | None = None
        self._transport = transport
        self._library = library_of(transport, http)
        self._proxy = proxy
        self._verify = verify
        self._max_connections = max_connections
        # Not at the top: importing this package must not load asyncio.
        from asyncio import get_running_loop

        load_early(verify, self._library, own=transport is None)
        self._running_loop = get_running_loop
        self._loop: object | None = None
        self.turnstile: Turnstile = Turnstile(get_running_loop, max_connections)
        self._now: Callable[[], float] = anyio.current_time
        self._pid = 0
        self._http: Http | None = None
        self._starting: anyio.Lock | None = None
        self._under_way = 0
        self.begun: object | None = None  # the message whose send has had its turn
        self._until = float("-inf")
        self._longest = 0.0
        self._report_at = float("-inf" if observer else "inf")
        self._idle: anyio.Event | None = None
        self._stores: list[Store] = []
        self._use_key()

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """Bind to the running event loop at the first call, and refuse any other loop from then on.

        Raises:
            ClientStateError: if the client is closed, or belongs to another loop or process.
        """
        if self.closed:
            raise ClientStateError(
                "this client is closed; make a new AsyncDesk360, or keep this one open for longer"
            )
        # sniffio's own function and a variable of the loop would cost ten times as much as this on each send.
        on_trio = sniffio.thread_local.name == "trio"
        loop: Any = current_token().native_token if on_trio else self._running_loop()
        if self._loop is None:
            self._loop, self._now = loop, anyio.current_time if on_trio else loop.time
            self.turnstile.loop = None if on_trio else loop
            self._pid = os.getpid()
        elif self._pid != os.getpid():
            raise ClientStateError(
                "this client was used before the process forked; its connections belong to the parent: "
                "make a new AsyncDesk360 in the child"
            )
        elif self._loop is not loop:
            raise ClientStateError(
                "this client belongs to another event loop (a second asyncio.run?): "
                "make one AsyncDesk360 for each loop"
            )

    @property
    def limiter(self) -> RateLimiter:
        """The limiter: the user's own, else the one that this loop's clients of the host share."""
        if self._limiter is not None:
            return self._limiter
        limiter = default_limiter(self._host)
        if self._loop is not None:  # reading the property binds the client to no loop
            self._limiter = limiter
        return limiter

    async def connected(self) -> Http:
        """Return the pool; the slow part of making it runs in a worker thread.

        Raises:
            ClientStateError: if the client is closed, or belongs to another loop or process.
        """
        self.check()
        if self._http is None:
            await load_backend_beside()
            if self._starting is None:
                # Not in the constructor: a client may be made on one event loop and used on another.
                self._starting = anyio.Lock()
                self._slots = anyio.Semaphore(self._max_connections, fast_acquire=True)
            async with self._starting:
                self._http = self._http or await self._new_pool()
        return self._http

    async def _new_pool(self) -> Http:
        self.check()
        if self._key.current is None:
            self._key.renew()
            self._use_key()
        transport = self._transport or await own_transport(
            self._verify, proxy=self._proxy, keepalive=self._max_connections, http=self._library
        )
        pool = Http(transport, trusted=self._transport is None, library=self._library)
        if self.closed:
            await pool.aclose()
            self.check()
        return pool

    def hold(self, store: Store) -> None:
        """Keep a store open until the client is closed."""
        if store not in self._stores:
            store.join()
            self._stores.append(store)

    def enter(self, seconds: float) -> None:
        """Count a request or a download, for which `aclose` waits. Call `leave` at its end.

        Args:
            seconds: `aclose` waits for it at least this long from now.
        """
        self._under_way += 1
        self._until = max(self._until, self._now() + seconds)

    def leave(self) -> None:
        """End the block that `enter` began."""
        self._under_way -= 1
        if not self._under_way and self._idle is not None:
            self._idle.set()

    async def aclose(self, *, drain: float) -> None:
        """Refuse new calls, end the waits of others, let those on the wire finish, close the pool.

        Args:
            drain: seconds for calls on the wire to finish; a call with a longer timeout gets the rest of it.

        Raises:
            ClientStateError: if the client belongs to another loop or process.
        """
        if not self.closed and self._loop is not None:
            self.check()
        self.closed = True
        self.stop.request()
        self.turnstile.open()
        try:
            if self._under_way:
                self._idle = self._idle or anyio.Event()  # two tasks may close at once
                with anyio.move_on_after(max(drain, self._until - anyio.current_time())):
                    await self._idle.wait()
        finally:
            http, self._http = self._http, None
            # A transport that the user gave is closed with the client, used or not.
            unused, self._transport = self._transport, None
            stores, self._stores = self._stores, []
            if http is not None:
                await http.aclose()
            elif unused is not None:
                await unused.aclose()
            for store in stores:
                await store.leave()

    # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

    async def operate(self, call: Call, state: CallState, *, lane: Lane | None = None) -> Any:
        """Make a call as a separate operation, and return its reply.

        Args:
            call: the call.
            state: the call's state; for a look-up, the state of the send that needs it.
            lane: None for the lane of the options.

        Raises:
            Desk360Error: with the outcome, if the call is a send.
        """
        with self.observed(state, self.operation_of(call, state.options, lane)) as end:
            reply = await self.perform(call, state, lane=lane)
            if call.has_outcome:
                end.outcome = Outcome.ACCEPTED
            return reply

    async def perform(self, call: Call, state: CallState, *, lane: Lane | None = None) -> Any:
        """Make a call within the state's operation, repeat it where that is safe, and return its reply.

        Args:
            call: the call.
            state: the state of the operation.
            lane: None for the lane of the options.

        Raises:
            Desk360Error: with the outcome, if the call is a send.
        """
        measures: Measures = {}
        if call.form is not None:
            from ._uploads import measure  # it reads files, and not every program sends files

            self.check()  # a closed client reads no files
            measures = await measure(call.form)
        timeout = state.options.timeout
        total = timeout.upload if call.form is not None and call.form.files else timeout.total
        exchange = partial(self._exchange, call, measures, total, timeout.connect)
        once = partial(self.attempt, call, state, exchange, total=total, lane=lane)
        return read(call, await self.repeat(call, state, once))

    async def _exchange(
        self, call: Call, measures: "Measures", total: float, connect: float, http: Http, evidence: Evidence
    ) -> Answered:
        """Put the request of a call on the wire, and return the answer without the key."""
        url = self.base_url + call.path
        if call.form is None:
            headers = self.headers if call.content is None else self._json_headers
            request = Request(call.method, url, headers, call.content)
            answered = await http.exchange(request, evidence, total=total, connect=connect)
        else:
            from ._uploads import Upload

            upload = Upload(call.form, measures)
            kind = (("content-type", upload.content_type), ("content-length", str(upload.length)))
            request = Request(call.method, url, self.headers + kind, upload=upload)
            answered = await http.upload(request, evidence, total=total, connect=connect)
        return self.without_key(as_refusal(answered))

    async def repeat(self, call: Call, state: CallState, once: Callable[[], Awaitable[A]]) -> A:
        """Repeat an attempt until it succeeds; raise if another attempt is unsafe or over the budget.

        Args:
            call: the call.
            state: the call's state.
            once: makes one attempt; an answer below 400 is a success too, if its body isn't read yet.

        Raises:
            Desk360Error: the last attempt's error.
        """
        state.attempts = state.options.retry.attempts
        renewed = False
        self.quota.earn()
        while True:
            used = self._key_number
            try:
                answer = await once()
            except Unanswered as lost:
                judged = verdict(lost.reach, idempotent=call.idempotent)
                error: Desk360Error = connection_error(lost, judged.outcome if call.has_outcome else None)
                error.__cause__ = lost.__cause__
            else:
                if not isinstance(answer, Answered):
                    return answer
                # A send's 2xx is a success even if its body was cut. A read needs the whole body.
                if 200 <= answer.status < 300 and (call.has_outcome or not answer.cut):
                    return answer
                error, judged = self._setback(call, answer, state)
            state.evidence = None
            if isinstance(error, AuthenticationFailed) and not renewed and self._has_another_key(used):
                renewed = True
                continue
            await self._pause(state, error, judged)

    async def attempt(
        self,
        call: Call,
        state: CallState,
        send: Callable[[Http, Evidence], Awaitable[A]],
        *,
        total: float,
        lane: Lane | None = None,
        counted: bool = True,
    ) -> A:
        """Take a token and a slot, send, and give the token back with the headers of the answer.

        Args:
            call: the call.
            state: the call's state.
            send: puts the request on the wire and returns the answer.
            total: seconds that the attempt may take once the token and the slot are held.
            lane: None for the lane of the options.
            counted: whether the answer's headers describe our limit; another host's headers don't.

        Raises:
            Unanswered: if no status came.
        """
        http = await self.connected()
        if total > self._longest:
            self._allow_for(total)
        permit, waited = await self._token(state, lane or state.options.lane)
        evidence = Evidence(trusted=http.trusted)
        if call.has_outcome:
            state.evidence = evidence
        state.end.attempts += 1
        began = self._now()
        with self.observer.attempt(state.end.attempts, waited) as end:
            end.elsewhere = not counted
            self._under_way += 1
            self.turnstile.sending += state.had_turn
            try:
                async with self._slots:
                    if call.has_outcome:
                        await state.ask()
                    if self.closed:
                        raise ClientStateError("closed while it waited for a connection; nothing was sent")
                    self._until = max(self._until, self._now() + total)
                    answer = await send(http, evidence)
            except BaseException as error:
                _note_loss(end, error, evidence, settle(permit, error, evidence))
                raise
            finally:
                if state.had_turn:
                    self.turnstile.leave()
                self.leave()
                ended = self._now()
                end.seconds = ended - began
                end.http_version = evidence.version
            end.status, end.evidence = answer.status, "status"
        permit.done(answer.status, self._about_limit(call, answer.headers) if counted else {})
        if ended >= self._report_at:
            self._report_limiter(ended)
        return answer

    # ── reports ────────────────────────────────────────────────────────────────────────────────────────

    def operation_of(self, call: Call, options: Options, lane: Lane | None = None) -> Operation:
        """Return the operation for a call whose method began no operation."""
        return Operation(
            call.name,
            "send" if call.has_outcome and not call.idempotent else "read",
            lane or options.lane,
            options.integration_id if "{integration_id}" in call.template else None,
            method=call.method,
            path=call.template,
            base_url=self.base_url,
        )

    @contextmanager
    def observed(self, state: CallState, operation: Operation) -> Generator[OperationEnd]:
        """Report an operation; the call's attempts inside the block belong to it."""
        around = state.operation, state.end
        with self.observer.operation(operation) as end:
            state.operation, state.end = operation, end
            try:
                yield end
            except BaseException as error:
                end.error = error
                end.outcome = end.outcome or getattr(error, "outcome", None)
                raise
            finally:
                state.operation, state.end = around

    def _report_limiter(self, now: float) -> None:
        self._report_at = now + REPORTED
        self.observer.limiter(self.limiter.snapshot(), self._egress)

    @property
    def _egress(self) -> str:
        return str(getattr(self.limiter, "egress", "default"))  # a user's own limiter needn't have one

    def _about_limit(self, call: Call, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Store the server's limit, and return the headers from which the limiter may learn."""
        self.server_limit = ServerLimit.read(headers) or self.server_limit
        return headers if call.has_outcome else of_read(headers, self.limiter.snapshot().limit)

    def _allow_for(self, total: float) -> None:
        """Let our own limiters keep a token in use for as long as its attempt may take."""
        self._longest = total
        allow_for = getattr(self.limiter, "allow_for", None)  # a user's own limiter needn't have it
        if allow_for is not None:
            allow_for(total)

    async def _token(self, state: CallState, lane: Lane) -> tuple[Permit, float]:
        """Return a token, and the seconds that the call waited for it."""
        limiter = self._limiter or self.limiter
        # A free token needs no wait, and so no cancel scope. Only for our own class: a subclass or a user's
        # limiter may count the calls of its `acquire`.
        if type(limiter) is TokenBucket and (state.stop is None or not state.stop.requested):
            free = limiter.acquire_nowait(lane)
            if free is not None:
                return free, 0.0
        before = self._now()
        permit = await self.wait(state, limiter.acquire, lane, state.max_wait)
        if permit is None:
            raise ClientStateError("stopped while it waited for the rate limit; nothing was sent")
        if self._is_stopped(state):
            permit.unused()
            raise ClientStateError("stopped before it began; nothing was sent")
        waited = self._now() - before
        state.waited(waited)
        state.end.waited += waited
        return permit, waited

    async def sleep(self, state: CallState, seconds: float) -> None:
        """Sleep, unless the client is closed or the call is stopped meanwhile.

        Raises:
            ClientStateError: the client was closed or the call was stopped.
        """
        await self.wait(state, anyio.sleep, seconds)
        if self._is_stopped(state):
            raise ClientStateError("stopped while it waited for another send; this one was not sent")

    async def wait(self, state: CallState, waiting: Callable[..., Awaitable[T]], *args: object) -> T | None:
        """Await `waiting(*args)`; None if the call was stopped, or the client closed, before its end."""
        if state.stop is None:
            return await self.stop.wait(waiting, *args)
        return await self.stop.wait(state.stop.wait, waiting, *args)

    def _is_stopped(self, state: CallState) -> bool:
        return self.closed or (state.stop is not None and state.stop.requested)

    def _setback(self, call: Call, answered: Answered, state: CallState) -> tuple[Desk360Error, Verdict]:
        """Return the error and the verdict of an answer that is no success."""
        if 200 <= answered.status < 300:
            lost = Unanswered(Reach.STARTED, answered.damage)
            return connection_error(lost, None), verdict(lost.reach, idempotent=call.idempotent)
        judged = verdict(answered.status, idempotent=call.idempotent)
        error = error_from(call, answered)
        if judged.again is Again.WHEN_ALLOWED:
            state.refused = refusal_wait(answered.headers, period=self.limiter.snapshot().period)
            state.gates -= state.refused
            self.observer.refused(retry_after(answered.headers), self._egress)
        return error, judged

    async def _pause(self, state: CallState, error: Desk360Error, judged: Verdict) -> None:
        """Wait until the next attempt may begin; raise `error` if no further attempt is allowed."""
        retry = state.options.retry
        if judged.again is Again.WHEN_ALLOWED and state.gates >= 0:
            # Our limiters close their gate for as long as the server asked. A user's own may have no gate.
            self._report_retry(state, error, state.refused)
            if self.limiter.snapshot().paused_until is None:
                await self.wait(state, anyio.sleep, state.refused)
            if self._is_stopped(state):
                raise error
            return
        state.attempts -= 1
        if judged.again is not Again.BACKOFF or state.attempts < 1 or not self.quota.spend():
            raise error
        longest = min(retry.backoff_max, retry.backoff * 2.0 ** min(retry.attempts - state.attempts - 1, 30))
        import random  # rarely needed, so not every program pays for the import

        # Full jitter would often give no pause at all. Half of it also separates calls that failed together.
        seconds = longest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
        self._report_retry(state, error, seconds)
        await self.wait(state, anyio.sleep, seconds)
        if self._is_stopped(state):
            raise error

    def _report_retry(self, state: CallState, error: Desk360Error, seconds: float) -> None:
        assert state.operation is not None  # every call belongs to an operation
        self.observer.retry(state.operation, type(error).__name__, seconds)

    def _has_another_key(self, refused: int) -> bool:
        """Renew the key if the refused one, by its number, is still in use; return whether it changed."""
        if self._key_number == refused and self._key.renew():
            self._use_key()
        return self._key_number != refused

    def _use_key(self) -> None:
        """Write the key into the headers of the requests to come."""
        key = self._key.current
        if key is not None:
            self._key_number += 1
            host, *others = [header for header in self.headers if header[0] != "authorization"]
            self.headers = (host, ("authorization", f"Bearer {key}"), *others)
            # Kept as one object, since the pool prepares the headers of one object only once.
            self._json_headers = (*self.headers, ("content-type", "application/json"))
            # A later answer may still show the previous key.
            self._key_pieces = (*self._key_pieces[-8:], *key_pieces(key))

    # ── values ─────────────────────────────────────────────────────────────────────────────────────────

    def without_key(self, answered: Answered) -> Answered:
        """Return the answer with the key masked: a debug page may echo the request's headers."""
        head = "\n".join(answered.headers.values())
        for piece in self._key_pieces:
            if piece in head or piece.encode() in answered.body:
                break
        else:
            return answered
        body = without(answered.body.decode("latin-1"), self._key_pieces).encode("latin-1")
        return answered._replace(headers=masked_headers(answered.headers, self._key_pieces), body=body)


def settle(permit: Permit, error: BaseException, evidence: Evidence) -> Reach:
    """Give a token back after an attempt without an answer; it is free at once if no byte left.

    Returns:
        How far the request got.
    """
    reach = error.reach if isinstance(error, Unanswered) else evidence.reach
    if reach is Reach.STARTED:
        permit.lost()
    else:
        permit.unused()
    return reach


def _note_loss(end: AttemptEnd, error: BaseException, evidence: Evidence, reach: Reach) -> None:
    """Fill the end of an attempt without an answer."""
    end.error = connection_error(error, None) if isinstance(error, Unanswered) else error
    end.status = evidence.status
    if evidence.status is not None:
        end.evidence = "status"
    elif reach is Reach.STARTED:
        end.evidence = "started"


def connection_error(lost: Unanswered, outcome: Outcome | None) -> ConnectionFailed:
    """Return the error for a call that got no answer."""
    kind = TimedOut if lost.timed_out else ConnectionFailed
    meaning = {
        Outcome.NOT_SENT: "; nothing was sent",
        Outcome.UNKNOWN: "; it may have gone out, so it is not sent again",
    }
    return kind(f"no answer: {lost.reason}{meaning.get(outcome, '') if outcome else ''}", outcome=outcome)
