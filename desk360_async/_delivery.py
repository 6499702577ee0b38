"""The pipeline: a token, a slot, the wire, the verdict; and whether to try again. One loop, here.

`Delivery` is what a client and its views share. Nothing below it waits for the rate limit, and nothing
above it decides about retries.
"""

import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio
import anyio.lowlevel

from ._attempts import (
    OnAttempt,
    Options,
    Patience,
    Progress,
    RetryQuota,
    connection_error,
    log_attempt,
    settle,
)
from ._brake import Brake
from ._calls import Answered, Call
from ._errors import ClientStateError, Desk360Error
from ._headers import refusal_wait
from ._http import Http, Opened, Request, Transport, own_transport
from ._limiter import Permit, RateLimiter, default_limiter
from ._outcomes import Again, Evidence, Reach, Unanswered, Verdict, verdict
from ._redaction import key_pieces, masked_headers, without
from ._settings import RetryPolicy
from ._wire import as_refusal, error_from, read

if TYPE_CHECKING:
    from ._uploads import Measures

T = TypeVar("T")

# One object per event loop, to tell them apart: comparing ids would take a dead loop for its successor.
_loop_mark: anyio.lowlevel.RunVar[object] = anyio.lowlevel.RunVar("desk360_async.loop")


def _current_loop() -> object:
    try:
        return _loop_mark.get()
    except LookupError:
        mark = object()
        _loop_mark.set(mark)
        return mark


class _Ride(NamedTuple):
    """One call under way, with all that belongs to it."""

    call: Call
    options: Options
    brake: Brake
    progress: Progress
    on_attempt: OnAttempt | None
    measures: "Measures"


class Delivery:
    """The pool, the limiter, the quota and the state that a client shares with its views."""

    def __init__(
        self,
        *,
        base_url: str,
        host: str,
        headers: tuple[tuple[str, str], ...],
        limiter: RateLimiter | None,
        transport: Transport | None,
        proxy: str | None,
        verify: ssl.SSLContext | bool,
        max_connections: int,
    ) -> None:
        self.base_url = base_url
        self.headers = headers
        self.closed: bool = False
        self.quota: RetryQuota = RetryQuota()
        self._key = key_pieces(dict(headers)["authorization"])
        self._host = host
        self._limiter = limiter
        self._transport = transport
        self._proxy = proxy
        self._verify = verify
        self._max_connections = max_connections
        self.brake: Brake = Brake()
        self._loop: object | None = None
        self._pid = 0
        self._http: Http | None = None
        self._under_way = 0
        self._until = float("-inf")
        self._longest = 0.0
        self._idle: anyio.Event | None = None

    # ── state ──────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """Bind to the running event loop at first, and refuse any other from then on.

        Raises:
            ClientStateError: if the client is closed, another loop's, or another process's.
        """
        if self.closed:
            raise ClientStateError(
                "this client is closed; make a new AsyncDesk360, or keep this one open for longer"
            )
        if self._loop is None:
            self._loop = _current_loop()
            self._pid = os.getpid()
            self._starting = anyio.Lock()
            self._slots = anyio.Semaphore(self._max_connections, fast_acquire=True)
        elif self._pid != os.getpid():
            raise ClientStateError(
                "this client was used before the process forked; its connections belong to the parent: "
                "make a new AsyncDesk360 in the child"
            )
        elif self._loop is not _current_loop():
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
        if self._loop is not None:  # looking at it binds the client to no loop
            self._limiter = limiter
        return limiter

    async def connected(self) -> Http:
        """Return the pool; what is slow about making it happens in a worker thread.

        Raises:
            ClientStateError: if the client is closed, another loop's, or another process's.
        """
        self.check()
        if self._http is None:
            async with self._starting:
                self._http = self._http or await self._new_pool()
        return self._http

    async def _new_pool(self) -> Http:
        self.check()
        transport = self._transport or await own_transport(
            self._verify, proxy=self._proxy, keepalive=self._max_connections
        )
        pool = Http(transport, trusted=self._transport is None)
        if self.closed:
            await pool.aclose()
            self.check()
        return pool

    async def aclose(self, *, drain: float) -> None:
        """Take no more calls, end those that wait, let those on the wire finish, close the pool.

        Args:
            drain: seconds that calls on the wire are given to finish; those that may take longer have longer.

        Raises:
            ClientStateError: if the client is another loop's or another process's.
        """
        if not self.closed and self._loop is not None:
            self.check()
        self.closed = True
        self.brake.pull()
        try:
            if self._under_way:
                self._idle = self._idle or anyio.Event()  # two may wait for the end at once
                with anyio.move_on_after(max(drain, self._until - anyio.current_time())):
                    await self._idle.wait()
        finally:
            http, self._http = self._http, None
            # A transport that the user gave is closed with the client, used or not.
            unused, self._transport = self._transport, None
            if http is not None:
                await http.aclose()
            elif unused is not None:
                await unused.aclose()

    def _leave(self) -> None:
        self._under_way -= 1
        if not self._under_way and self._idle is not None:
            self._idle.set()

    # ── the loop ───────────────────────────────────────────────────────────────────────────────────────

    async def deliver(
        self,
        call: Call,
        options: Options,
        *,
        brake: Brake | None = None,
        progress: Progress | None = None,
        patience: Patience | None = None,
        on_attempt: OnAttempt | None = None,
    ) -> Any:
        """Make a call, again where that is safe, and return its reply.

        Args:
            call: the call.
            options: the client's, or a view's.
            brake: what ends the call's waits, beside closing the client.
            progress: where the caller reads how far it got, if it is cancelled.
            patience: what is left of the waits of a call that this one is a part of.
            on_attempt: awaited before each attempt.

        Raises:
            Desk360Error: what the pipeline found, with the outcome.
        """
        await self.connected()
        measures: Measures = {}
        if call.form is not None:
            from ._uploads import measure  # with what reads files, loaded by those who send them

            measures = await measure(call.form)
        ride = _Ride(call, options, brake or self.brake, progress or Progress(), on_attempt, measures)
        patience = patience or Patience(options)
        patience.attempts = options.retry.attempts
        self.quota.earn()
        while True:
            try:
                answered = await self._attempt(ride, patience)
            except Unanswered as lost:
                judged = verdict(lost.reach, idempotent=call.idempotent)
                error: Desk360Error = connection_error(lost, judged.outcome if call.has_outcome else None)
                error.__cause__ = lost.__cause__
            else:
                # What was sent was accepted, whatever became of the body; a read needs it whole.
                if 200 <= answered.status < 300 and (call.has_outcome or not answered.cut):
                    return read(call, answered)
                error, judged = self.setback(call, answered, patience)
            ride.progress.evidence = None
            await self.pause(options.retry, patience, error, judged, ride.brake)

    def setback(self, call: Call, answered: Answered, patience: Patience) -> tuple[Desk360Error, Verdict]:
        """Return what an answer that is no success means, and take its wait from the call's patience."""
        if 200 <= answered.status < 300:
            lost = Unanswered(Reach.STARTED, answered.damage)
            judged = verdict(lost.reach, idempotent=call.idempotent)
            return connection_error(lost, None), judged
        judged = verdict(answered.status, idempotent=call.idempotent)
        error = error_from(call, answered)
        if judged.again is Again.WHEN_ALLOWED:
            patience.refused = refusal_wait(answered.headers, period=self.limiter.snapshot().period)
            patience.gates -= patience.refused
        return error, judged

    async def pause(
        self,
        retry: RetryPolicy,
        patience: Patience,
        error: Desk360Error,
        judged: Verdict,
        brake: Brake | None = None,
    ) -> None:
        """Return when the next attempt may begin; raise `error` where there is none."""
        brake = brake or self.brake
        if judged.again is Again.WHEN_ALLOWED and patience.gates >= 0:
            # Our limiters' gate is closed for as long as the server asked; a user's own may have none.
            if self.limiter.snapshot().paused_until is None:
                await self.wait(brake, anyio.sleep, patience.refused)
            if brake.pulled or self.closed:
                raise error
            return
        patience.attempts -= 1
        if judged.again is not Again.BACKOFF or patience.attempts < 1 or not self.quota.spend():
            raise error
        longest = min(
            retry.backoff_max, retry.backoff * 2.0 ** min(retry.attempts - patience.attempts - 1, 30)
        )
        import random  # rarely needed: not worth its import time to everybody

        # Full jitter would often be no pause at all; half of it parts calls that failed together as well.
        await self.wait(brake, anyio.sleep, longest * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
        if brake.pulled or self.closed:
            raise error

    async def _attempt(self, ride: _Ride, patience: Patience) -> Answered:
        """A token, a slot, the wire; the token goes back with what the answer said."""
        http = await self.connected()
        timeout = ride.options.timeout
        total = timeout.total if ride.call.form is None else timeout.upload
        if total > self._longest:
            self._tell_longest(total)
        permit = await self._token(ride, patience)
        self._under_way += 1
        evidence = ride.progress.evidence = Evidence(trusted=http.trusted)
        began = anyio.current_time()
        try:
            async with self._slots:
                request = self.request_for(ride.call, ride.measures)
                if ride.on_attempt is not None:
                    await ride.progress.ask(ride.on_attempt)
                if self.closed:
                    raise ClientStateError("closed while it waited for a connection; nothing was sent")
                self._until = max(self._until, anyio.current_time() + total)
                answered = await http.exchange(request, evidence, total=total, connect=timeout.connect)
                answered = as_refusal(answered)
        except BaseException as error:
            settle(permit, error, evidence)
            log_attempt(ride.call, error, began)
            raise
        finally:
            self._leave()
        permit.done(answered.status, answered.headers)
        log_attempt(ride.call, answered.status, began)
        return self.without_key(answered)

    def _tell_longest(self, total: float) -> None:
        """Let our own limiters keep a token away for as long as its attempt may take."""
        self._longest = total
        allow_for = getattr(self.limiter, "allow_for", None)  # a user's own needn't have it
        if allow_for is not None:
            allow_for(total)

    def without_key(self, answered: Answered) -> Answered:
        """Return an answer in which the key is masked: a debug page may echo what it was sent."""
        head = "\n".join(answered.headers.values())
        if not any(piece in head or piece.encode() in answered.body for piece in self._key):
            return answered
        body = without(answered.body.decode("latin-1"), self._key).encode("latin-1")
        return answered._replace(headers=masked_headers(answered.headers, self._key), body=body)

    async def _token(self, ride: _Ride, patience: Patience) -> Permit:
        before = anyio.current_time()
        permit = await self.wait(ride.brake, self.limiter.acquire, ride.options.lane, patience.max_wait)
        if permit is None:
            raise ClientStateError("stopped while it waited for the rate limit; nothing was sent")
        if ride.brake.pulled or self.closed:
            permit.unused()
            raise ClientStateError("stopped before it began; nothing was sent")
        patience.waited(anyio.current_time() - before)
        return permit

    async def wait(self, brake: Brake, waiting: Callable[..., Awaitable[T]], *args: object) -> T | None:
        """Await something until `brake` is pulled, or the client closed; None if it was."""
        if brake is self.brake:
            return await brake.wait(waiting, *args)
        return await self.brake.wait(brake.wait, waiting, *args)

    def request_for(self, call: Call, measures: "Measures") -> Request:
        """Return what goes over the wire for a call."""
        url = self.base_url + call.path
        if call.form is not None:
            from ._uploads import Upload

            upload = Upload(call.form, measures)
            kind = (("content-type", upload.content_type), ("content-length", str(upload.length)))
            return Request(call.method, url, self.headers + kind, upload=upload)
        if call.content is not None:
            return Request(
                call.method, url, (*self.headers, ("content-type", "application/json")), call.content
            )
        return Request(call.method, url, self.headers)

    # ── downloads ──────────────────────────────────────────────────────────────────────────────────────

    async def open(
        self, request: Request, options: Options, call: Call, patience: Patience
    ) -> tuple[Opened, Callable[[], Awaitable[None]]]:
        """Make one attempt at a download; return the answer, and what closes it.

        Its slot is free once the status is here. While the file is read, who has it open may want to send:
        with every slot held by such a reader, all would wait for each other.

        Raises:
            Unanswered: if no status came.
        """
        http = await self.connected()
        permit = await self._token(_Ride(call, options, self.brake, Progress(), None, {}), patience)
        self._under_way += 1
        evidence = Evidence(trusted=http.trusted)
        began = anyio.current_time()
        try:
            async with self._slots:
                if self.closed:
                    raise ClientStateError("closed while it waited for a connection")
                opened = await http.open(
                    request, evidence, total=options.timeout.total, connect=options.timeout.connect
                )
        except BaseException as error:
            settle(permit, error, evidence)
            log_attempt(call, error, began)
            self._leave()
            raise
        # Another host's limit is none of ours.
        permit.done(opened.status, opened.headers if request.url.startswith(self.base_url) else {})
        log_attempt(call, opened.status, began)

        async def close() -> None:
            try:
                await opened.aclose()
            finally:
                self._leave()

        return opened, close
