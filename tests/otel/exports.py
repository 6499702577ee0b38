"""Calls of all kinds, failures included, exported through the SDK's own exporters, and searched byte by byte.

Run: python -m tests.otel.exports [CALLS]
"""

import json
import logging
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
from attrs import define, field
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from desk360_async import Desk360Error, Notice, TemplateBatch, TextMessage
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.otel import OpenTelemetry, _metrics
from desk360_async.sandbox import Fault
from desk360_async.testing import sandbox_client
from desk360_async.webhooks import WebhookReceiver
from tests.failures.test_secrets import KEY, MESSAGE_ID, Chaos, client_of, one_call
from tests.failures.virtual import run

NAME, TEXT = "Ayşe Gül", "your parcel waits at the corner shop"
PLANTED = (
    KEY.partition("|")[2],
    MESSAGE_ID,
    "m-77",
    NAME,
    TEXT,
    "parcel",
    "a.jpg",
    "body-1",
    "s3cret-segment",
)


@define
class Exports:
    """Providers of a test's own, and the spans and metrics that reach their exporters."""

    spans_kept: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracers: TracerProvider = field(factory=TracerProvider)
    meters: MeterProvider = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_kept))
        self.meters = MeterProvider([self.reader])

    def observer(self) -> OpenTelemetry:
        """Return an observer that reports here."""
        return OpenTelemetry(self.tracers, self.meters)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self.spans_kept.get_finished_spans()

    def spans_named(self, start: str) -> list[ReadableSpan]:
        """The spans whose names begin so."""
        return [span for span in self.spans if span.name.startswith(start)]

    def metrics(self) -> dict[str, list[Any]]:
        """The points of each metric by its name."""
        found: dict[str, list[Any]] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).extend(metric.data.data_points)
        return found

    def values(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The values of a metric's points by the values of their attributes."""
        return {
            tuple(point.attributes.values()): getattr(point, "value", getattr(point, "count", None))
            for point in self.metrics().get(name, [])
        }

    def texts(self) -> Iterator[str]:
        """Yield each span, and all metrics, as the SDK's own JSON."""
        for span in self.spans:
            yield span.to_json(indent=None)
        data = self.reader.get_metrics_data()
        yield data.to_json(indent=None) if data else ""


def hits(texts: Iterator[str]) -> list[str]:
    """Return the texts that hold a phone, a name, a text, a key or an id, however JSON escapes it."""
    planted = [*PLANTED, *(json.dumps(text)[1:-1] for text in PLANTED)]
    found = []
    for text in texts:
        # The SDK's own ids and times are long numbers as well.
        plain = re.sub(r'"(?:trace_id|span_id|parent_id|[a-z_]*time[a-z_]*)": (?:"[^"]*"|[0-9]+)', "", text)
        # A whole number, or a sum of seconds such as 0.1555000123 would be one.
        phone = re.search(r"(?<![0-9.])(?:90)?555000[0-9]{4}(?![0-9])", plain)
        if phone or any(word in plain for word in planted):
            found.append(text)
    return found


def event(index: int) -> bytes:
    """Return a webhook's body with a message and a status update."""
    message = {
        "object": "message",
        "from": f"90555{index:07d}",
        "id": f"{MESSAGE_ID}{index}",
        "timestamp": "1700000000",
        "type": "text",
        "text": {"body": TEXT},
        "profile": {"name": NAME},
    }
    status = {"object": "status", "id": MESSAGE_ID, "status": "read", "recipient_id": f"90555{index:07d}"}
    return json.dumps(
        {"messages": [message], "statuses": [status], "contacts": [message["profile"]]}
    ).encode()


async def one_more(client: Any, index: int, phone: str) -> Any:
    """Make a call of a kind that `one_call` has not: names, texts, bulk and fan-outs."""
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: client.send_text(phone, TEXT),
        lambda: client.send_template(phone, NAME, language=2, parameters={"body-1": NAME}),
        lambda: client.send(TemplateBatch([phone], 1, language=2, parameters={"body-1": TEXT})),
        lambda: client.send_all([TextMessage(phone, TEXT)]),
        lambda: client.request("GET", f"/people/{phone}", params={"name": NAME}),
    ]
    return await calls[index % len(calls)]()


async def exercise(exports: Exports, calls: int) -> None:
    """Make the calls; one in ten is a webhook with a handler that may fail."""
    observer = exports.observer()
    client = client_of(Chaos(19), observer=observer)
    receiver = WebhookReceiver("s3cret-segment", observer=observer)

    @receiver.on_message
    async def fail(message: Any) -> None:
        raise LookupError(f"{message.phone} {message.text}")

    async with receiver:
        for index in range(calls):
            phone = f"+90555{index:07d}"
            if index % 10 == 9:
                await receiver.receive(("s3cret-segment", "wrong")[index % 100 == 9], {}, event(index))
                continue
            with anyio.move_on_after(0.1 if index % 50 == 0 else 200):  # cancelled ones too
                with suppress(Desk360Error):
                    await (one_more if index % 3 == 0 else one_call)(client, index // 3, phone)
    await client.aclose()


async def sell(exports: Exports, folder: Path) -> None:
    """Send a campaign with planted parameters; one request is refused with 429, one answer is lost."""
    async with sandbox_client(observer=exports.observer()) as (client, sandbox):
        campaign = Campaign(
            "spring", template="order_shipped", language="English", ledger=folder / "spring.db"
        )
        people = [
            Recipient(f"+90555000{n:04}", {"body-1": NAME, "body-2": f"{TEXT} {n % 4}"}) for n in range(1, 41)
        ]
        await campaign.load(client, people)
        sandbox.faults.add(Fault("status", status=429, method="POST", times=1))
        sandbox.faults.add(Fault("reset_after", phone="+905550000007", times=1))
        async with campaign.run(client) as events:
            await events.wait()


def metrics_of_the_source() -> set[str]:
    """Return the names of all metrics that the SDK makes."""
    source = Path(_metrics.__file__).read_text(encoding="utf-8")
    calls = re.sub(r"\s+", " ", source)
    return set(re.findall(r'(?:create_histogram|count|gauge)\( ?"([a-z0-9_.]+)"', calls))


def searched(calls: int) -> tuple[Exports, list[str], list[str]]:
    """Make the calls; return the exports, all texts, and those with hits."""
    exports = Exports()
    run(lambda: exercise(exports, calls))
    with tempfile.TemporaryDirectory() as folder:
        run(lambda: sell(exports, Path(folder)))
    # A worker's job needs a database; its report has two words and a duration.
    exports.observer().job("share", "finished", 0.1)
    # A notice's line and its error are for logs; they may hold a customer's data.
    callback = {"callback": "on_result"}
    with exports.tracers.get_tracer("host").start_as_current_span("POST /orders"):
        exports.observer().notice(
            Notice("desk360.client.callback_failed", "error", TEXT, callback, LookupError(NAME))
        )
    texts = list(exports.texts())
    return exports, texts, hits(iter(texts))


def main(words: list[str]) -> int:
    """Print the figures."""
    logging.disable(logging.CRITICAL)  # the logs have a search of their own, in tests/failures
    calls = int(words[0]) if words else 10_000
    exports, texts, found = searched(calls)
    size = sum(len(text.encode()) for text in texts)
    names, metrics = {span.name for span in exports.spans}, exports.metrics()
    print(f"{calls:,} calls: {len(exports.spans):,} spans of {len(names)} names, {len(metrics)} metrics")
    missing = metrics_of_the_source() - set(metrics)
    print(f"metrics that were not exported: {', '.join(sorted(missing)) or 'none'}")
    print(f"{size:,} bytes searched for phones, names, texts, keys and ids: {len(found)} hits")
    for text in found[:3]:
        print(text[:300])
    return int(bool(found or missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
