"""Observers: the reports that the package makes, their dispatch, and the one that writes logs.

Each client, receiver, worker and store reports to an `Observers`, which calls one or several observers. It
fills the values that their blocks yield, and drops their exceptions: a broken observer changes no send.
Reports hold no phone, text, key, message id or media id; `Notice.text` and `error` are for logs only.

No other module of the package writes a log record (`tests/core/test_layers.py`).
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar

from attrs import define, field, fields, frozen

from ._bucket import Lane, RateLimitStatus
from ._errors import ConfigurationError, Outcome
from ._redaction import show_half_made

log = logging.getLogger("desk360_async")
webhook_log = logging.getLogger("desk360_async.webhooks")


# ── values ─────────────────────────────────────────────────────────────────────────────────────────────────


@frozen(repr=False)
class Operation:
    """One call of a client's method, or one batch of a campaign.

    Attributes:
        name: the method's name, such as "send_template"; "send_batch" for a campaign's batch.
        kind: "send" for messages, "read" for other calls.
        lane: the limiter's priority.
        integration_id: the integration's id; None if the call has none.
        template_id: the template's id; None if the call gives its name (see `OperationEnd.template_id`), and
            for other messages.
        recipients: the number of people that a send addresses; 0 for a read, and for a file of phones.
        method: the HTTP method; empty for a batch.
        path: the path's template, such as "/integrations/{integration_id}/conversations/messages"; empty for
            `client.request` and a batch.
        base_url: the URL that requests go to.
        campaign: the campaign's name; None outside a campaign's batch.
    """

    name: str
    kind: Literal["send", "read"] = "send"
    lane: Lane = "interactive"
    integration_id: int | None = None
    template_id: int | None = None
    recipients: int = 0
    method: str = ""
    path: str = ""
    base_url: str = ""
    campaign: str | None = None


@define(repr=False)
class OperationEnd:
    """The end of an operation; the client fills it before the block is left.

    Attributes:
        outcome: ACCEPTED, NOT_SENT or UNKNOWN; None for a read that failed or has no outcome.
        attempts: number of requests on the wire, without look-ups of a template.
        waited: seconds of waits for tokens.
        messages: number of recipients by outcome; empty for reads and for an earlier send's stored reply.
        error: the exception that the caller gets; None for a success.
        template_id: the template's id, once its name is looked up.
    """

    outcome: Outcome | None = None
    attempts: int = 0
    waited: float = 0.0
    messages: Mapping[Outcome, int] = field(factory=dict[Outcome, int])
    error: BaseException | None = None
    template_id: int | None = None


@define(repr=False)
class AttemptEnd:
    """The end of one request on the wire; the client fills it before the block is left.

    Attributes:
        status: the HTTP status; None without an answer.
        evidence: "status", "started" (bytes may have left) or "not_started".
        seconds: seconds from the token to the end.
        error: the exception of an attempt without an answer.
        http_version: such as "1.1"; None where the transport reports none.
        elsewhere: whether a download's redirect led to another host.
    """

    status: int | None = None
    evidence: Literal["not_started", "started", "status"] = "not_started"
    seconds: float = 0.0
    error: BaseException | None = None
    http_version: str | None = None
    elsewhere: bool = False


@frozen(repr=False)
class Notice:
    """An event of a store, of a file, or of a function that the caller gave; it belongs to no attempt.

    Attributes:
        event: a stable name, such as "desk360.limiter.alone"; the guide's page *observability* lists them.
        level: the level of a log record.
        text: the line of a log. It may name a file, a store, a template, or a phone's last four digits.
        facts: the event's numbers and words, such as `{"events": 3}`; no phone, text, key or id of a message.
        error: the exception whose traceback a log needs, or None; it may hold a customer's data.
    """

    event: str
    level: Literal["debug", "info", "warning", "error"]
    text: str
    facts: Mapping[str, str | int | float] = field(factory=dict[str, str | int | float])
    error: BaseException | None = None


class Observer(Protocol):
    """Gets a report of each call, attempt, wait and webhook, and of the stores' events.

    All methods are synchronous and must not block. Their exceptions are logged once and dropped. The two
    context managers yield a value, which the package fills before it leaves the block. The call's exception
    is in the value's `error`; it is never raised into the block.
    """

    def operation(self, op: Operation) -> AbstractContextManager[OperationEnd]:
        """Return a block around a call: a send, a read, the opening of a download, a campaign's batch."""
        ...

    def attempt(self, number: int, waited: float) -> AbstractContextManager[AttemptEnd]:
        """Return a block around one request, from its token to its verdict.

        Args:
            number: the attempt's number within its operation, from 1.
            waited: seconds that it waited for the token.
        """
        ...

    def retry(self, op: Operation, reason: str, wait: float) -> None:
        """Take note of another attempt.

        Args:
            op: the operation.
            reason: the name of the error's class, such as "RateLimited".
            wait: seconds until the attempt may begin.
        """
        ...

    def refused(self, retry_after: float | None, egress: str) -> None:
        """Take note of a 429.

        Args:
            retry_after: seconds that the server asked for; None if it named no time.
            egress: the name of the address that the requests leave from.
        """
        ...

    def limiter(self, status: RateLimitStatus, egress: str) -> None:
        """Take note of the limiter's state, at most once a second."""
        ...

    def campaign(self, name: str, event: object) -> None:
        """Take note of a campaign's event, one of those that `campaign.run` yields."""
        ...

    def webhook(
        self, kind: str, status: str | None, verdict: str, seconds: float, delay: float | None
    ) -> None:
        """Take note of an event that came in, or of a request that was refused.

        Args:
            kind: "message", "status", "unknown", or "request" for a refused request.
            status: of a status update: "sent", "delivered", "read", "failed" or "other".
            verdict: "accepted" or "repeat"; for a refused request the reason, such as "full" or "secret".
            seconds: seconds from the request's arrival to the verdict.
            delay: seconds from `sent_at` to the arrival; None for events without a time.
        """
        ...

    def webhook_queue(self, length: int) -> None:
        """Take note of the webhook queue.

        Args:
            length: number of events in memory.
        """
        ...

    def handler_failed(self, kind: str, error: BaseException) -> None:
        """Take note of a handler's exception.

        Args:
            kind: "message", "status" or "unknown".
            error: the exception; its text and traceback may hold a customer's data.
        """
        ...

    def job(self, kind: str, end: str, seconds: float) -> None:
        """Take note of the end of a worker's job.

        Args:
            kind: "share" of a campaign, or "send" of one message.
            end: the end of the share's run, such as "finished"; "accepted" for a send; else the name of the
                error's class.
            seconds: seconds that the job took.
        """
        ...

    def notice(self, notice: Notice) -> None:
        """Take note of an event of a store, a file or a callback; a limiter calls it in a worker thread."""
        ...


# ── dispatch ───────────────────────────────────────────────────────────────────────────────────────────────

End = TypeVar("End", OperationEnd, AttemptEnd)

_METHODS = [
    "operation",
    "attempt",
    "retry",
    "refused",
    "limiter",
    "campaign",
    "webhook",
    "webhook_queue",
    "handler_failed",
    "job",
    "notice",
]
_END_FIELDS = {kind: tuple(part.name for part in fields(kind)) for kind in (OperationEnd, AttemptEnd)}

_current: ContextVar[Operation | None] = ContextVar("desk360_async.operation", default=None)


def current_operation() -> Operation | None:
    """Return the operation around the running code; `attempt` needs it for the operation's name."""
    return _current.get()


class Observers:
    """One or several observers as one `Observer`; false if there are none.

    Args:
        observers: called in this order; a method that an observer lacks is left out.
    """

    def __init__(self, observers: Sequence[Any] = ()) -> None:
        self._observers = tuple(observers)
        self._calls = {
            name: tuple(getattr(each, name) for each in observers if hasattr(each, name)) for name in _METHODS
        }
        self._logged: set[int] = set()  # by id: a method of an unhashable observer is unhashable too

    def __bool__(self) -> bool:
        return bool(self._observers)

    def operation(self, op: Operation) -> AbstractContextManager[OperationEnd]:
        """As `Observer.operation`."""
        return _Block(self, self._calls["operation"], OperationEnd(), (op,), op)

    def attempt(self, number: int, waited: float) -> AbstractContextManager[AttemptEnd]:
        """As `Observer.attempt`."""
        return _Block(self, self._calls["attempt"], AttemptEnd(), (number, waited))

    def retry(self, op: Operation, reason: str, wait: float) -> None:
        """As `Observer.retry`."""
        self._call("retry", op, reason, wait)

    def refused(self, retry_after: float | None, egress: str) -> None:
        """As `Observer.refused`."""
        self._call("refused", retry_after, egress)

    def limiter(self, status: RateLimitStatus, egress: str) -> None:
        """As `Observer.limiter`."""
        self._call("limiter", status, egress)

    def campaign(self, name: str, event: object) -> None:
        """As `Observer.campaign`."""
        self._call("campaign", name, event)

    def webhook(
        self, kind: str, status: str | None, verdict: str, seconds: float, delay: float | None
    ) -> None:
        """As `Observer.webhook`."""
        self._call("webhook", kind, status, verdict, seconds, delay)

    def webhook_queue(self, length: int) -> None:
        """As `Observer.webhook_queue`."""
        self._call("webhook_queue", length)

    def handler_failed(self, kind: str, error: BaseException) -> None:
        """As `Observer.handler_failed`."""
        self._call("handler_failed", kind, error)

    def job(self, kind: str, end: str, seconds: float) -> None:
        """As `Observer.job`."""
        self._call("job", kind, end, seconds)

    def notice(self, notice: Notice) -> None:
        """As `Observer.notice`."""
        self._call("notice", notice)

    def _call(self, method: str, *args: object) -> None:
        for call in self._calls[method]:
            try:
                call(*args)
            except Exception as error:  # noqa: BLE001  # the observer's own error; it must not stop a send
                self.drop(call, error)

    def drop(self, call: Any, error: Exception) -> None:
        """Log the first exception of an observer's method."""
        if id(call) not in self._logged:
            self._logged.add(id(call))
            name = getattr(call, "__qualname__", type(call).__name__)
            extra = {"event": "desk360.observer_failed", "method": name}
            text = "an observer failed; its next failures are not logged: %s"
            log.error(text, name, exc_info=error, extra=extra)


@define(eq=False, repr=False)
class _Block(Generic[End]):
    """The blocks of all observers around one operation or attempt, with one end for the client to fill."""

    _observers: Observers
    _calls: tuple[Any, ...]
    _end: End
    _args: tuple[Any, ...]
    _op: Operation | None = None
    _left: list[tuple[Any, Any, Any]] = field(factory=list[tuple[Any, Any, Any]], init=False)
    _token: Any = field(default=None, init=False)

    def __enter__(self) -> End:
        if self._op is not None and self._calls:
            self._token = _current.set(self._op)
        for call in self._calls:
            try:
                block = call(*self._args)
                self._left.append((call, block, block.__enter__()))
            except Exception as error:  # noqa: BLE001  # the observer's own error; it must not stop a send
                self._observers.drop(call, error)
        return self._end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._left:
            call, block, theirs = self._left.pop()
            try:
                try:
                    for name in _END_FIELDS[type(self._end)]:
                        setattr(theirs, name, getattr(self._end, name))
                finally:
                    # Without the call's exception, which is in the end: so code after a plain `yield` runs.
                    block.__exit__(None, None, None)
            except Exception as failure:  # noqa: BLE001  # the observer's own error; it must not stop a send
                self._observers.drop(call, failure)
        if self._token is not None:
            _current.reset(self._token)


# ── logs ───────────────────────────────────────────────────────────────────────────────────────────────────


class LogObserver:
    """Writes the log events; the default. Each of its records has `event`, such as "desk360.attempt".

    The loggers are `desk360_async` and its children `campaigns`, `customers`, `once`, `webhooks` and
    `workers`. The other facts of an event are attributes of the record as well, as structlog and formatters
    for JSON take them.
    """

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._refused: set[str] = set()
        self._full = False
        self._queued = 0

    @contextmanager
    def operation(self, op: Operation) -> Generator[OperationEnd]:
        """Log `desk360.outcome_unknown` at the end of a send that may have gone out."""
        end = OperationEnd()
        yield end
        if end.outcome is Outcome.UNKNOWN and not op.campaign:
            error = type(end.error).__name__
            extra = {"event": "desk360.outcome_unknown", "operation": op.name, "error": error}
            log.warning("%s: it is unknown whether it went out: %s", op.name, error, extra=extra)

    def attempt(self, number: int, waited: float) -> AbstractContextManager[AttemptEnd]:
        """Log `desk360.attempt`."""
        return _LoggedAttempt(number) if log.isEnabledFor(logging.INFO) else nullcontext(AttemptEnd())

    def retry(self, op: Operation, reason: str, wait: float) -> None:
        """Log `desk360.retry`."""
        extra = {"event": "desk360.retry", "operation": op.name, "reason": reason, "wait": wait}
        log.warning("%s: next try after %s, in %.1f s", op.name, reason, wait, extra=extra)

    def refused(self, retry_after: float | None, egress: str) -> None:
        """Log `desk360.rate_limited`."""
        extra = {"event": "desk360.rate_limited", "retry_after": retry_after, "egress": egress}
        wait = "no time named" if retry_after is None else f"next try in {retry_after:g} s"
        log.warning("the server refused a request because of its rate limit (429): %s", wait, extra=extra)
        if egress not in self._refused:
            # Once per address: the limiter gave a token, so it doesn't count all requests from the address.
            self._refused.add(egress)
            log.warning(
                "another process or program uses this address: share one limit with HostLimiter(path) on one "
                "machine, or PostgresLimiter(dsn) on several",
                extra={"event": "desk360.limit_unshared", "egress": egress},
            )

    def limiter(self, status: RateLimitStatus, egress: str) -> None:
        """Log `desk360.limit_changed` where the limit differs from the last one."""
        before = self._limits.get(egress)
        self._limits[egress] = status.limit
        if before not in (None, status.limit):
            extra = {
                "event": "desk360.limit_changed",
                "limit": status.limit,
                "before": before,
                "egress": egress,
            }
            log.warning("the limit is %d requests now; it was %d", status.limit, before, extra=extra)

    def campaign(self, name: str, event: object) -> None:
        """Log `desk360.campaign.ended` for the last event of a run."""
        end = getattr(event, "end", None)
        if end is not None:
            extra = {"event": "desk360.campaign.ended", "campaign": name, "end": end}
            log.info("a run of the campaign %r ended: %s", name, end, extra=extra)

    def webhook(
        self, kind: str, status: str | None, verdict: str, seconds: float, delay: float | None
    ) -> None:
        """Log `desk360.webhook.refused`, and `desk360.webhook.queue_full` once until there is room."""
        if verdict in ("accepted", "repeat"):
            self._full = False
            if verdict == "repeat":
                extra = {"event": "desk360.webhook.repeat", "kind": kind}
                webhook_log.debug("a webhook's %s is a repeat; it is not handled again", kind, extra=extra)
        elif verdict != "full":
            extra = {"event": "desk360.webhook.refused", "reason": verdict}
            # Scanners of the internet find any URL, and a closed receiver logs its own line.
            level = logging.INFO if verdict in ("secret", "method", "closed") else logging.WARNING
            webhook_log.log(level, "a webhook was refused: %s", _REFUSALS.get(verdict, verdict), extra=extra)
        elif not self._full:  # one line: senders try again
            self._full = True
            full = {"event": "desk360.webhook.queue_full", "queued": self._queued}
            webhook_log.error(
                "the webhook queue is full (%d events); answering 503", self._queued, extra=full
            )

    def webhook_queue(self, length: int) -> None:
        """Keep the length for `desk360.webhook.queue_full`."""
        self._queued = length

    def handler_failed(self, kind: str, error: BaseException) -> None:
        """Log `desk360.handler_failed` with the exception's traceback."""
        extra = {"event": "desk360.handler_failed", "kind": kind, "error": type(error).__name__}
        webhook_log.error("a webhook handler failed on a %s event", kind, exc_info=error, extra=extra)

    def job(self, kind: str, end: str, seconds: float) -> None:
        """Log `desk360.job`."""
        extra = {"event": "desk360.job", "kind": kind, "end": end, "seconds": seconds}
        log.info("a job of a worker ended after %.3f s: %s, %s", seconds, kind, end, extra=extra)

    def notice(self, notice: Notice) -> None:
        """Log the notice under its own event, with the traceback of its error."""
        area = notice.event.split(".")[1]
        logger = logging.getLogger(_LOGGERS.get(area, "desk360_async"))
        level = logging.getLevelNamesMapping()[notice.level.upper()]
        extra = {"event": notice.event, **notice.facts}
        logger.log(level, "%s", notice.text, exc_info=notice.error, extra=extra)


class _LoggedAttempt:
    """The block of an attempt; no generator, since a generator costs more than the rest of the block."""

    __slots__ = ("_end", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._end = AttemptEnd()

    def __enter__(self) -> AttemptEnd:
        return self._end

    def __exit__(self, *_: object) -> None:
        end, op = self._end, current_operation()
        name = op.name if op else "a request"
        how = str(end.status) if end.error is None else type(end.error).__name__
        extra = {
            "event": "desk360.attempt",
            "operation": name,
            "status": end.status,
            "seconds": end.seconds,
            "attempt": self._number,
        }
        log.info("%s: %s after %.3f s (attempt %d)", name, how, end.seconds, self._number, extra=extra)


_LOGGERS: Mapping[str, str] = {
    "campaign": "desk360_async.campaigns",
    "customers": "desk360_async.customers",
    "once": "desk360_async.once",
    "webhook": "desk360_async.webhooks",
    "worker": "desk360_async.workers",
}
"""The logger of a notice, by the second part of its event's name."""

_REFUSALS: Mapping[str, str] = {
    "secret": "the URL's secret, or the header's token, is wrong",
    "closed": "the receiver is not open",
    "method": "webhooks are sent with POST",
    "body": "its body is too slow or too large",
    "invalid": "its body is no JSON object with events",
    "storage": "the events can't be stored",
}


# ── the default ────────────────────────────────────────────────────────────────────────────────────────────

_SEQUENCES: Any = (list, tuple)  # as Any: type checkers would give the parts unknown types
_default: list[Any] = []
"""The observers of clients and receivers with `observer=None`; only the instrumentor sets them."""


def set_default_observers(observers: Sequence[Observer]) -> None:
    """Set the observers that `observer=None` stands for; an empty sequence restores `LogObserver`."""
    _default[:] = observers


def parse_observers(given: Any) -> Observers:
    """Return the observers that the argument `observer` stands for.

    Args:
        given: None for the default (`LogObserver`), one observer, or a sequence; an empty one for no reports.

    Raises:
        ConfigurationError: if something else is given.
    """
    if isinstance(given, Observers):
        return given
    if given is None:
        return Observers(_default or [LogObserver()])
    several: list[Any] = [*given] if isinstance(given, _SEQUENCES) else [given]
    for each in several:
        if isinstance(each, type) or not any(callable(getattr(each, name, None)) for name in _METHODS):
            kind = each.__name__ if isinstance(each, type) else type(each).__name__
            raise ConfigurationError(
                f"observer must be an Observer such as LogObserver(), a list of them, or (), not {kind}"
            )
    return Observers(several)


show_half_made(globals())
