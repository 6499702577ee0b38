"""The metrics: their instruments, and the values that the observable gauges read.

Each attribute has few values. No attribute holds a phone, a text, a message's id or a path that a user gave.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from attrs import frozen
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from desk360_async import AttemptEnd, Operation, OperationEnd, Outcome, RateLimitStatus

# Seconds. At the limit of 60 requests a minute, a send waits up to one minute, or two behind a bulk run.
OPERATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Seconds, as the HTTP conventions give them.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
DELAY_BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
STATES = ("pending", "on_the_wire", "accepted", "not_sent", "unknown", "skipped")


@frozen
class _Reading:
    status: RateLimitStatus
    at: float

    def settled(self) -> bool:
        """Return whether no call was made for one period. All tokens of this process are back by then."""
        return time.monotonic() - self.at > self.status.period

    @property
    def free(self) -> int:
        return self.status.limit if self.settled() else self.status.free

    @property
    def paused(self) -> float:
        until = self.status.paused_until
        if until is None:
            return 0.0
        return max(0.0, until - self.status.as_of - (time.monotonic() - self.at))


_of_providers: "WeakKeyDictionary[Any, Metrics]" = WeakKeyDictionary()
"""The instruments of each provider; the key of the global provider is the module `opentelemetry.metrics`."""


def metrics_of(provider: MeterProvider | None, version: str, schema: str) -> "Metrics":
    """Return the instruments of a provider, which all its observers share.

    A meter keeps only the callbacks of the first gauge of each name. If a second observer had its own
    instruments, its limiters, campaigns and queue would be lost.

    Args:
        provider: None for the program's global one.
        version: this package's version.
        schema: the URL of the semantic conventions.
    """
    key = metrics if provider is None else provider
    found = _of_providers.get(key)
    if found is None:
        found = Metrics(metrics.get_meter("desk360_async", version, provider, schema))
        _of_providers[key] = found
    return found


class Metrics:
    """The instruments of one meter.

    Args:
        meter: of the program's provider.
    """

    def __init__(self, meter: Meter) -> None:
        self._readings: dict[str, _Reading] = {}
        self._campaigns: dict[str, Mapping[str, int]] = {}
        self._queue: int | None = None
        self._operations = meter.create_histogram(
            "desk360.client.operation.duration",
            unit="s",
            description="Duration of a call, its waits included.",
            explicit_bucket_boundaries_advisory=OPERATION_BUCKETS,
        )
        self._requests = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of one request.",
            explicit_bucket_boundaries_advisory=REQUEST_BUCKETS,
        )
        self._waits = meter.create_histogram(
            "desk360.limiter.wait.duration",
            unit="s",
            description="Wait of a request for the rate limit.",
            explicit_bucket_boundaries_advisory=OPERATION_BUCKETS,
        )
        self._delays = meter.create_histogram(
            "desk360.webhook.delay",
            unit="s",
            description="Time from a message's sent_at to its arrival here.",
            explicit_bucket_boundaries_advisory=DELAY_BUCKETS,
        )
        self._jobs = meter.create_histogram(
            "desk360.worker.job.duration",
            unit="s",
            description="Duration of a worker's job.",
            explicit_bucket_boundaries_advisory=OPERATION_BUCKETS,
        )
        count = meter.create_counter
        self._messages = count("desk360.client.messages", "{message}", "Recipients by outcome.")
        self._refusals = count("desk360.client.refusals", "{request}", "Requests answered with 429.")
        self._retries = count("desk360.client.retries", "{request}", "Attempts after the first.")
        self._unknown = count("desk360.client.unknown", "{message}", "Messages that may have gone out.")
        self._events = count("desk360.webhook.events", "{event}", "Events that came in, repeats aside.")
        self._refused = count("desk360.webhook.refused", "{request}", "Requests that were refused.")
        self._notices = count("desk360.notices", "{notice}", "Events of stores, files and callbacks.")
        self._create_gauges(meter)

    def _create_gauges(self, meter: Meter) -> None:
        gauge = meter.create_observable_gauge
        gauge("desk360.limiter.free", [self._observe_free], "{token}", "Tokens that are here.")
        gauge("desk360.limiter.waiting", [self._observe_waiting], "{call}", "Calls that wait for a token.")
        gauge("desk360.limiter.limit", [self._observe_limit], "{request}", "Requests per period.")
        gauge("desk360.limiter.paused", [self._observe_paused], "s", "Rest of the pause after a 429.")
        gauge("desk360.campaign.recipients", [self._observe_campaigns], "{recipient}", "Recipients by state.")
        gauge("desk360.webhook.queue", [self._observe_queue], "{event}", "Events in memory.")

    # ── calls ──────────────────────────────────────────────────────────────────────────────────────────

    def operation(self, op: Operation, end: OperationEnd, seconds: float) -> None:
        """Record a call's end."""
        name = {"messaging.operation.name": op.name}
        attributes = dict(name)
        if end.outcome is not None:
            attributes["desk360.outcome"] = end.outcome.value
        if end.error is not None:
            attributes["error.type"] = type(end.error).__name__
        self._operations.record(seconds, attributes)
        for outcome, count in end.messages.items():
            self._messages.add(count, name | {"desk360.outcome": outcome.value})
        unknown = end.messages.get(Outcome.UNKNOWN, 0) or int(end.outcome is Outcome.UNKNOWN)
        if unknown:
            reason = type(end.error).__name__ if end.error is not None else "unlisted"
            self._unknown.add(unknown, name | {"desk360.reason": reason})

    def wait(self, lane: str, seconds: float) -> None:
        """Record a request's wait for its token."""
        self._waits.record(seconds, {"desk360.lane": lane})

    def attempt(self, end: AttemptEnd, attributes: Mapping[str, Any]) -> None:
        """Record a request."""
        self._requests.record(end.seconds, attributes)

    def retry(self, op: Operation, reason: str) -> None:
        """Count an attempt after the first."""
        self._retries.add(1, {"messaging.operation.name": op.name, "desk360.reason": reason})

    def refused(self, egress: str) -> None:
        """Count a 429."""
        self._refusals.add(1, {"desk360.egress": egress})

    # ── states ─────────────────────────────────────────────────────────────────────────────────────────

    def limiter(self, status: RateLimitStatus, egress: str) -> None:
        """Keep the limiter's state for the gauges."""
        self._readings[egress] = _Reading(status, time.monotonic())

    def campaign(self, name: str, event: object) -> None:
        """Keep a campaign's counts for the gauge; events without counts are ignored."""
        counts = getattr(event, "counts", None)
        if counts is not None:
            self._campaigns[name] = {state: getattr(counts, state, 0) for state in STATES}

    def webhook(self, kind: str, status: str | None, delay: float | None) -> None:
        """Count an event."""
        attributes = {"desk360.event.kind": kind}
        if status is not None:
            attributes["desk360.event.status"] = status
        self._events.add(1, attributes)
        if delay is not None:
            self._delays.record(delay)

    def webhook_refused(self, reason: str) -> None:
        """Count a refused request."""
        self._refused.add(1, {"desk360.reason": reason})

    def webhook_queue(self, length: int) -> None:
        """Keep the queue's length for the gauge."""
        self._queue = length

    def job(self, kind: str, end: str, seconds: float) -> None:
        """Record a worker's job."""
        self._jobs.record(seconds, {"desk360.job.kind": kind, "desk360.job.end": end})

    def notice(self, event: str, level: str) -> None:
        """Count a notice."""
        self._notices.add(1, {"desk360.notice": event, "desk360.notice.level": level})

    # ── gauges ─────────────────────────────────────────────────────────────────────────────────────────

    def _observe_free(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(r.free, {"desk360.egress": name}) for name, r in self._now()]

    def _observe_waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(0 if r.settled() else count, {"desk360.egress": name, "desk360.lane": lane})
            for name, r in self._now()
            for lane, count in r.status.waiting.items()
        ]

    def _observe_limit(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(r.status.limit, {"desk360.egress": name}) for name, r in self._now()]

    def _observe_paused(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(r.paused, {"desk360.egress": name}) for name, r in self._now()]

    def _observe_campaigns(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {"desk360.campaign": name, "desk360.state": state})
            for name, counts in list(self._campaigns.items())
            for state, count in counts.items()
        ]

    def _observe_queue(self, _: CallbackOptions) -> Iterable[Observation]:
        return [] if self._queue is None else [Observation(self._queue)]

    def _now(self) -> list[tuple[str, _Reading]]:
        # A copy: readers of metrics have a thread of their own.
        return list(self._readings.items())
