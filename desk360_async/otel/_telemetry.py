"""`OpenTelemetry`: the spans of calls, requests, webhooks and batches; `_metrics` has the instruments.

The names are those of the semantic conventions 1.44.0: HTTP's are stable, messaging's are in development.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from desk360_async import (
    AttemptEnd,
    ConfigurationError,
    LogObserver,
    Notice,
    Operation,
    OperationEnd,
    RateLimitStatus,
    __version__,
)
from desk360_async._observer import current_operation, set_default_observers
from desk360_async.otel._metrics import Metrics, metrics_of

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_BULK = "send_template_bulk"
_NANO = 1_000_000_000


@frozen
class _Place:
    """One endpoint: the span's name, the attributes and the URL that its requests share."""

    span: str
    attributes: Mapping[str, Any]
    url: str

    def url_for(self, integration_id: int | None) -> str:
        """Return the URL with the integration's id; a media's id stays a placeholder."""
        return self.url.replace("{integration_id}", str(integration_id))


def _place_of(op: Operation) -> _Place:
    # A path that the user gives may hold a phone, so `op.path` is empty for it.
    url = op.base_url + (op.path or "/{path}")
    parts = urlsplit(op.base_url)
    template = parts.path + (op.path or "/{path}")
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    attributes = {"url.template": template, "server.address": parts.hostname or "", "server.port": port}
    return _Place(f"{op.method} {template}", attributes, url)


class OpenTelemetry:
    """An `Observer` that makes spans and metrics.

    No span and no metric holds phones, names, texts, parameters, keys, or the ids of messages and media.

    Args:
        tracer_provider: None for the program's global one.
        meter_provider: None for the program's global one.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer("desk360_async", __version__, tracer_provider, SCHEMA)
        self._metrics = metrics_of(meter_provider, __version__, SCHEMA)
        self._places: dict[tuple[str, str, str], _Place] = {}

    def operation(self, op: Operation) -> AbstractContextManager[OperationEnd]:
        """Make the span of a call; a campaign's batch has a trace of its own, linked to the run's span."""
        return _OperationBlock(self._tracer, self._metrics, op)

    def attempt(self, number: int, waited: float) -> AbstractContextManager[AttemptEnd]:
        """Make the span of a request."""
        op = current_operation() or Operation("request")
        key = op.base_url, op.path, op.method
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _place_of(op)
        self._metrics.wait(op.lane, waited)
        return _AttemptBlock(self._tracer, self._metrics, op, place, number)

    def retry(self, op: Operation, reason: str, wait: float) -> None:
        """Count the retry."""
        self._metrics.retry(op, reason)

    def refused(self, retry_after: float | None, egress: str) -> None:
        """Count the 429."""
        self._metrics.refused(egress)

    def limiter(self, status: RateLimitStatus, egress: str) -> None:
        """Keep the limiter's state for the gauges."""
        self._metrics.limiter(status, egress)

    def campaign(self, name: str, event: object) -> None:
        """Keep the campaign's counts for the gauge."""
        self._metrics.campaign(name, event)

    def webhook(
        self, kind: str, status: str | None, verdict: str, seconds: float, delay: float | None
    ) -> None:
        """Make an event's span, a child of the web application's span if there is one; count a refusal."""
        if verdict not in ("accepted", "repeat"):
            self._metrics.webhook_refused(verdict)
            return
        attributes = {
            "messaging.system": "desk360",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "desk360.event.kind": kind,
        }
        if status is not None:
            attributes["desk360.event.status"] = status
        began = time.time_ns() - int(seconds * _NANO)
        self._tracer.start_span(
            "desk360 process", None, SpanKind.CONSUMER, attributes, start_time=began
        ).end()
        if verdict == "accepted":
            self._metrics.webhook(kind, status, delay)

    def webhook_queue(self, length: int) -> None:
        """Keep the queue's length for the gauge."""
        self._metrics.webhook_queue(length)

    def handler_failed(self, kind: str, error: BaseException) -> None:
        """Do nothing: the handler's own instrumentation and the log have the exception."""

    def job(self, kind: str, end: str, seconds: float) -> None:
        """Record a worker's job."""
        self._metrics.job(kind, end, seconds)

    def notice(self, notice: Notice) -> None:
        """Count the notice, and add it to the current span as an event, without its text."""
        self._metrics.notice(notice.event, notice.level)
        span = trace.get_current_span()
        if span.is_recording():
            facts = {f"desk360.{name}": value for name, value in notice.facts.items()}
            if notice.error is not None:
                facts["error.type"] = type(notice.error).__name__
            span.add_event(notice.event, facts)


# ── blocks ─────────────────────────────────────────────────────────────────────────────────────────────────
# The blocks are classes. The API's own context managers are generators. A generator costs more than a span
# without an SDK.


class _OperationBlock:
    """The block of a call."""

    __slots__ = ("_began", "_end", "_metrics", "_op", "_span", "_token", "_tracer")

    def __init__(self, tracer: Tracer, instruments: Metrics, op: Operation) -> None:
        self._tracer = tracer
        self._metrics = instruments
        self._op = op
        self._end = OperationEnd()

    def __enter__(self) -> OperationEnd:
        op, self._began = self._op, time.perf_counter()
        if op.campaign is None:
            self._span = self._tracer.start_span(f"desk360 {op.name}", None, SpanKind.CLIENT, _beginning(op))
        else:
            around = trace.get_current_span().get_span_context()
            links = [Link(around)] if around.is_valid else None
            self._span = self._tracer.start_span(
                "desk360 send_batch", Context(), SpanKind.INTERNAL, _beginning(op), links
            )
        self._token = attach(trace.set_span_in_context(self._span))
        return self._end

    def __exit__(self, *_: object) -> None:
        detach(self._token)
        if self._span.is_recording():
            _finish(self._span, self._op, self._end)
        self._span.end()
        if self._op.campaign is None:
            self._metrics.operation(self._op, self._end, time.perf_counter() - self._began)


class _AttemptBlock:
    """The block of a request."""

    __slots__ = ("_end", "_metrics", "_number", "_op", "_place", "_span", "_token", "_tracer")

    def __init__(
        self, tracer: Tracer, instruments: Metrics, op: Operation, place: _Place, number: int
    ) -> None:
        self._tracer = tracer
        self._metrics = instruments
        self._op = op
        self._place = place
        self._number = number
        self._end = AttemptEnd()

    def __enter__(self) -> AttemptEnd:
        attributes = {"http.request.method": self._op.method}
        self._span = self._tracer.start_span(self._place.span, None, SpanKind.CLIENT, attributes)
        self._token = attach(trace.set_span_in_context(self._span))
        return self._end

    def __exit__(self, *_: object) -> None:
        detach(self._token)
        attributes = _request(self._end, self._op.method, self._place)
        if self._span.is_recording():
            _finish_attempt(self._span, self._op, self._end, attributes, self._place, self._number)
        self._span.end()
        attributes.pop("server.port", None)
        self._metrics.attempt(self._end, attributes)


# ── attributes ─────────────────────────────────────────────────────────────────────────────────────────────


def _beginning(op: Operation) -> dict[str, Any]:
    """Return the attributes that are known when an operation begins."""
    if op.campaign is not None:
        return {"desk360.campaign": op.campaign, "messaging.batch.message_count": op.recipients}
    attributes: dict[str, Any] = {
        "messaging.system": "desk360",
        "messaging.operation.name": op.name,
        "desk360.lane": op.lane,
    }
    if op.kind == "send":
        attributes["messaging.operation.type"] = "send"
    if op.name == _BULK:
        attributes["messaging.batch.message_count"] = op.recipients
    if op.integration_id is not None:
        attributes["desk360.integration.id"] = op.integration_id
    if op.template_id is not None:
        attributes["desk360.template.id"] = op.template_id
    return attributes


def _finish(span: Span, op: Operation, end: OperationEnd) -> None:
    if end.outcome is not None:
        span.set_attribute("desk360.outcome", end.outcome.value)
    if op.campaign is None:
        span.set_attributes({"desk360.attempts": end.attempts, "desk360.limiter.wait": end.waited})
        if end.template_id is not None:
            span.set_attribute("desk360.template.id", end.template_id)
    if end.error is not None:
        _fail(span, type(end.error).__name__)


def _request(end: AttemptEnd, method: str, place: _Place) -> dict[str, Any]:
    """Return the attributes that a request's span and metric share."""
    attributes: dict[str, Any] = {"http.request.method": method}
    if not end.elsewhere:  # the vendor redirects to a storage, which is no server of the API
        attributes.update(place.attributes)
    if end.status is not None:
        attributes["http.response.status_code"] = end.status
        if end.status >= 400:
            attributes["error.type"] = str(end.status)
    if end.error is not None:
        attributes["error.type"] = type(end.error).__name__
    return attributes


def _finish_attempt(
    span: Span, op: Operation, end: AttemptEnd, attributes: dict[str, Any], place: _Place, number: int
) -> None:
    span.set_attributes(attributes)
    span.set_attribute("desk360.evidence", end.evidence)
    if not end.elsewhere:
        span.set_attribute("url.full", place.url_for(op.integration_id))
    if number > 1:
        span.set_attribute("http.request.resend_count", number - 1)
    if end.http_version is not None:
        span.set_attribute("network.protocol.version", end.http_version)
    if "error.type" in attributes:
        _fail(span, attributes["error.type"])


def _fail(span: Span, kind: str) -> None:
    # No description: an error's text may hold a customer's data.
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def make_instrumentor() -> type[Any]:
    """Return the class `Desk360Instrumentor`, a `BaseInstrumentor`.

    Raises:
        ConfigurationError: if opentelemetry-instrumentation is missing.
    """
    try:
        base: Any = import_module("opentelemetry.instrumentation.instrumentor").BaseInstrumentor
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            "Desk360Instrumentor needs a package: pip install opentelemetry-instrumentation"
        ) from missing
    methods = {
        "__doc__": "Let clients and receivers that are given no observer report to OpenTelemetry as well.",
        "__module__": "desk360_async.otel",
        "instrumentation_dependencies": _dependencies,
        "_instrument": _instrument,
        "_uninstrument": _uninstrument,
    }
    return type("Desk360Instrumentor", (base,), methods)


def _dependencies(self: object) -> Collection[str]:
    """Return the packages that are instrumented: this one."""
    return ("desk360-async >= 0.2.0.dev0",)


def _instrument(self: object, **providers: Any) -> None:
    """Let clients that are made from now on report to the given providers, else to the global ones."""
    telemetry = OpenTelemetry(providers.get("tracer_provider"), providers.get("meter_provider"))
    set_default_observers([LogObserver(), telemetry])


def _uninstrument(self: object, **_: Any) -> None:
    """Restore the default for clients that are made from now on."""
    set_default_observers([])
