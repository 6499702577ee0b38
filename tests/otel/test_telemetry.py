"""The spans, the metrics, their attributes, and where they belong in a trace."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from desk360_async import Desk360Error, Notice, RateLimitStatus, _observer
from desk360_async.campaigns import Counts, Done
from desk360_async.otel import OpenTelemetry, dashboard
from desk360_async.webhooks import WebhookReceiver
from tests.campaigns.harness import Harness, people
from tests.core.fakes import ID, TO, VirtualLoop, Wire, connect, sent
from tests.otel.exports import Exports, event, hits, metrics_of_the_source, searched

MESSAGES = "/v1/integrations/{integration_id}/conversations/messages"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One event loop will do, in virtual time: the core's tests run on both."""
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture
def exports() -> Exports:
    """Exporters of the test's own."""
    return Exports()


async def send(exports: Exports, *answers: Any) -> None:
    """Send a text, whatever comes of it."""
    async with connect(Wire(*answers), observer=exports.observer()) as client:
        try:
            await client.send_text(TO, "x")
        except Desk360Error:
            return


# ── spans ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_the_span_of_an_operation_has_the_attributes_of_the_table(exports: Exports) -> None:
    await send(exports, lambda _: sent())
    [span] = exports.spans_named("desk360 send_text")
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "messaging.system": "desk360",
        "messaging.operation.name": "send_text",
        "messaging.operation.type": "send",
        "desk360.integration.id": 11,
        "desk360.lane": "interactive",
        "desk360.outcome": "accepted",
        "desk360.attempts": 1,
        "desk360.limiter.wait": 0.0,
    }


@pytest.mark.anyio
async def test_the_span_of_an_attempt_is_the_operations_child(exports: Exports) -> None:
    await send(exports, lambda _: sent())
    attempt, operation = exports.spans
    assert (attempt.name, attempt.kind) == (f"POST {MESSAGES}", SpanKind.CLIENT)
    assert attempt.parent is not None
    assert attempt.parent.span_id == operation.context.span_id
    assert dict(attempt.attributes or {}) == {
        "http.request.method": "POST",
        "url.template": MESSAGES,
        "url.full": "https://public-api.desk360.com/v1/integrations/11/conversations/messages",
        "server.address": "public-api.desk360.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "desk360.evidence": "status",
    }


@pytest.mark.anyio
async def test_a_failure_is_an_error_of_our_class_without_a_text(exports: Exports) -> None:
    await send(exports, httpx.Response(500, json={"message": TO}))
    attempt, operation = exports.spans
    kinds = [(span.attributes or {})["error.type"] for span in (attempt, operation)]
    assert kinds == ["500", "ServerError"]
    assert [(s.status.status_code, s.status.description, s.events) for s in exports.spans] == [
        (StatusCode.ERROR, None, ())
    ] * 2


@pytest.mark.anyio
async def test_a_second_attempt_counts_as_resent(exports: Exports) -> None:
    await send(exports, httpx.ConnectError("x"), lambda _: sent())
    first, second, _ = [dict(span.attributes or {}) for span in exports.spans]
    assert (first["error.type"], first["desk360.evidence"]) == ("ConnectionFailed", "not_started")
    assert ("http.request.resend_count" in first, second["http.request.resend_count"]) == (False, 1)


@pytest.mark.anyio
async def test_a_bulk_send_names_its_template_and_its_count(exports: Exports) -> None:
    wire = Wire(httpx.Response(200, json={"phones": [TO]}))
    async with connect(wire, observer=exports.observer()) as client:
        await client.send_template_bulk([TO, "+905550000001"], 7, language=2)
    attributes = exports.spans[-1].attributes or {}
    assert (attributes["messaging.batch.message_count"], attributes["desk360.template.id"]) == (2, 7)


@pytest.mark.anyio
async def test_a_templates_name_becomes_its_id(exports: Exports) -> None:
    rows = [{"id": 7, "name": "sale", "translations": [{"language_id": 2, "language": "English"}]}]
    wire = Wire(httpx.Response(200, json=rows), lambda _: sent())
    async with connect(wire, observer=exports.observer()) as client:
        await client.send_template(TO, "sale", language="English")
    names = [span.name.partition(" /")[0] for span in exports.spans]
    assert names == ["GET", "desk360 list_templates", "POST", "desk360 send_template"]
    assert (exports.spans[-1].attributes or {})["desk360.template.id"] == 7


@pytest.mark.anyio
async def test_media_ids_are_cut_and_another_host_is_not_named(exports: Exports) -> None:
    there = httpx.Response(302, headers={"location": f"https://files.example/{TO}"})
    async with connect(Wire(there, httpx.Response(200, content=b"x")), observer=exports.observer()) as client:
        await client.read_media("5f-905551112233")
    first, second, operation = [dict(span.attributes or {}) for span in exports.spans]
    assert first["url.full"].endswith("/conversations/messages/medias/{media_id}")
    assert ("url.full" in second, "server.address" in second) == (False, False)
    assert (operation["desk360.attempts"], "messaging.operation.type" in operation) == (2, False)


@pytest.mark.anyio
async def test_a_request_of_the_users_own_shows_no_path(exports: Exports) -> None:
    async with connect(Wire(httpx.Response(200, json={})), observer=exports.observer()) as client:
        await client.request("GET", f"/people/{TO[1:]}")
    assert [span.name for span in exports.spans] == ["GET /v1/{path}", "desk360 request"]


@pytest.mark.anyio
async def test_the_http_version_is_named_where_the_transport_gives_it(exports: Exports) -> None:
    with exports.observer().attempt(1, 0.0) as end:
        end.http_version = "1.1"
    assert (exports.spans[0].attributes or {})["network.protocol.version"] == "1.1"


# ── traces ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_a_send_inside_a_request_of_fastapi_is_that_requests_child(exports: Exports) -> None:
    FastAPI = pytest.importorskip("fastapi").FastAPI  # noqa: N806  # a class
    """The host's middleware makes the server's span; here it is four lines."""
    app, tracer = FastAPI(), exports.tracers.get_tracer("host")
    client = connect(Wire(), observer=exports.observer())

    @app.middleware("http")
    async def serve(request: Any, call_next: Callable[..., Any]) -> Any:
        with tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER):
            return await call_next(request)

    @app.post("/orders")
    async def order() -> None:
        await client.send_text(TO, "x")

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as browser:
        assert (await browser.post("/orders")).status_code == 200
    await client.aclose()
    _, operation, request = exports.spans
    assert operation.parent is not None
    assert (operation.parent.span_id, request.kind) == (request.context.span_id, SpanKind.SERVER)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_campaigns_batch_has_a_trace_of_its_own_linked_to_the_run(tmp_path: Path, exports: Exports) -> None:
    harness = Harness(tmp_path, "asyncio")
    tracer = exports.tracers.get_tracer("shop")

    async def main(client: Any) -> None:
        campaign = harness.campaign(batch_size=2)
        await campaign.load(client, people(4))
        with tracer.start_as_current_span("night run"):
            async with campaign.run(client) as events:
                await events.wait()

    harness.play(main, observer=exports.observer())
    batches = exports.spans_named("desk360 send_batch")
    [night] = exports.spans_named("night run")
    assert [(span.parent, span.kind) for span in batches] == [(None, SpanKind.INTERNAL)] * 2
    assert {link.context.span_id for span in batches for link in span.links} == {night.context.span_id}
    assert len({span.context.trace_id for span in (*batches, night)}) == 3
    assert dict(batches[0].attributes or {}) == {
        "desk360.campaign": "sale",
        "messaging.batch.message_count": 2,
        "desk360.outcome": "accepted",
    }
    sends = {s.parent.span_id for s in exports.spans_named("desk360 send_template_bulk") if s.parent}
    assert sends == {span.context.span_id for span in batches}
    assert exports.values("desk360.campaign.recipients")["sale", "accepted"] == 4
    assert not hits(exports.texts())


@pytest.mark.anyio
async def test_a_webhook_is_a_child_of_the_hosts_span(exports: Exports) -> None:
    """With its start at the request's arrival."""
    receiver = WebhookReceiver("secret", observer=exports.observer())
    async with receiver:
        with exports.tracers.get_tracer("host").start_as_current_span("POST /hook", kind=SpanKind.SERVER):
            await receiver.receive("secret", {}, event(1))
    [host] = exports.spans_named("POST /hook")
    [message, update] = exports.spans_named("desk360 process")
    assert {span.parent.span_id for span in (message, update) if span.parent} == {host.context.span_id}
    assert (message.kind, dict(update.attributes or {})) == (
        SpanKind.CONSUMER,
        {
            "messaging.system": "desk360",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "desk360.event.kind": "status",
            "desk360.event.status": "read",
        },
    )


@pytest.mark.anyio
async def test_without_an_sdk_a_send_works_and_nothing_is_recorded() -> None:
    observer = OpenTelemetry(trace.NoOpTracerProvider())
    async with connect(Wire(), observer=observer) as client:
        assert (await client.send_text(TO, "x")).message_id == ID


def test_a_block_that_raises_still_ends_its_spans(exports: Exports) -> None:
    """Our client never raises into it; another caller may."""
    with pytest.raises(LookupError), exports.observer().attempt(1, 0.0):
        raise LookupError(TO)
    assert not hits(exports.texts())


@pytest.mark.anyio
async def test_a_notice_is_an_event_of_the_current_span_without_its_text(exports: Exports) -> None:
    error = LookupError(TO)

    def fail(_: object) -> None:
        raise error

    async with connect(Wire(), observer=exports.observer(), on_result=fail) as client:
        with exports.tracers.get_tracer("shop").start_as_current_span("order"):
            await client.send_text(TO, "x")
    [noted] = [event for span in exports.spans for event in span.events]
    facts = {"desk360.callback": "on_result", "error.type": "LookupError"}
    assert (noted.name, dict(noted.attributes or {})) == ("desk360.client.callback_failed", facts)
    assert exports.values("desk360.notices") == {("desk360.client.callback_failed", "error"): 1}
    assert not hits(exports.texts())


def test_a_notice_outside_a_span_is_counted(exports: Exports) -> None:
    exports.observer().notice(Notice("desk360.limiter.back", "warning", "The limiter is back."))
    assert exports.values("desk360.notices") == {("desk360.limiter.back", "warning"): 1}


# ── metrics ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_metrics_count_people_by_outcome_and_unknowns_by_reason(exports: Exports) -> None:
    for answer in (lambda _: sent(), httpx.Response(500), httpx.Response(400)):
        await send(exports, answer)
    assert exports.values("desk360.client.messages") == {
        ("send_text", "accepted"): 1,
        ("send_text", "unknown"): 1,
        ("send_text", "not_sent"): 1,
    }
    assert exports.values("desk360.client.unknown") == {("send_text", "ServerError"): 1}
    assert exports.values("desk360.client.operation.duration")["send_text", "accepted"] == 1
    assert exports.values("http.client.request.duration") == {
        ("POST", MESSAGES, "public-api.desk360.com", 200): 1,
        ("POST", MESSAGES, "public-api.desk360.com", 500, "500"): 1,
        ("POST", MESSAGES, "public-api.desk360.com", 400, "400"): 1,
    }
    assert exports.values("desk360.limiter.wait.duration") == {("interactive",): 3}


@pytest.mark.anyio
async def test_a_429_is_a_refusal_and_a_retry(exports: Exports) -> None:
    await send(exports, httpx.Response(429), lambda _: sent())
    assert exports.values("desk360.client.refusals") == {("default",): 1}
    assert exports.values("desk360.client.retries") == {("send_text", "RateLimited"): 1}


def status_of(**changes: Any) -> RateLimitStatus:
    """Return a limiter's state: 50 of 60 free, a pause of 5 s, a call waiting."""
    given: dict[str, Any] = {
        "limit": 60,
        "period": 60.0,
        "reserve": 1,
        "free": 50,
        "in_flight": 2,
        "waiting": {"interactive": 1, "bulk": 0},
        "paused_until": 105.0,
        "next_token": 0.0,
        "as_of": 100.0,
    }
    return RateLimitStatus(**(given | changes))


def test_gauges_show_the_limiter_and_settle_after_a_silent_period(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("desk360_async.otel._metrics.time.monotonic", lambda: now[0])
    exports.observer().limiter(status_of(), "office")
    assert exports.values("desk360.limiter.free") == {("office",): 50}
    assert exports.values("desk360.limiter.waiting") == {("office", "interactive"): 1, ("office", "bulk"): 0}
    assert exports.values("desk360.limiter.limit") == {("office",): 60}
    assert exports.values("desk360.limiter.paused") == {("office",): 5.0}
    now[0] += 61.0
    assert exports.values("desk360.limiter.free") == {("office",): 60}
    assert exports.values("desk360.limiter.waiting")["office", "interactive"] == 0
    assert exports.values("desk360.limiter.paused") == {("office",): 0.0}


def test_two_observers_of_one_provider_share_their_gauges(exports: Exports) -> None:
    """A client's and a receiver's: a meter keeps the callbacks of the first gauge of a name only."""
    first, second = exports.observer(), exports.observer()
    first.limiter(status_of(), "default")
    second.webhook_queue(4)
    second.campaign("sale", Done("finished", Counts(accepted=3), ""))
    assert exports.values("desk360.webhook.queue") == {(): 4}
    assert exports.values("desk360.limiter.free") == {("default",): 50}
    assert exports.values("desk360.campaign.recipients")["sale", "accepted"] == 3


def test_a_limiter_without_a_pause_has_a_pause_of_zero(exports: Exports) -> None:
    exports.observer().limiter(status_of(paused_until=None), "default")
    assert exports.values("desk360.limiter.paused") == {("default",): 0.0}


def test_webhooks_are_counted_and_their_delay_measured(exports: Exports) -> None:
    observer = exports.observer()
    observer.webhook("message", None, "accepted", 0.1, 3.0)
    observer.webhook("status", "read", "accepted", 0.1, None)
    observer.webhook("status", "read", "repeat", 0.1, None)
    observer.webhook("request", None, "secret", 0.1, None)
    observer.webhook_queue(4)
    observer.handler_failed("message", LookupError(TO))
    assert exports.values("desk360.webhook.events") == {("message",): 1, ("status", "read"): 1}
    assert exports.values("desk360.webhook.refused") == {("secret",): 1}
    assert exports.values("desk360.webhook.delay") == {(): 1}
    assert exports.values("desk360.webhook.queue") == {(): 4}


def test_an_event_of_a_campaign_without_counts_changes_no_gauge(exports: Exports) -> None:
    observer = exports.observer()
    observer.campaign("sale", object())
    assert exports.values("desk360.campaign.recipients") == {}
    observer.campaign("sale", Done("finished", Counts(accepted=3), ""))
    assert exports.values("desk360.campaign.recipients")["sale", "accepted"] == 3


def report_the_rest(observer: OpenTelemetry) -> None:
    """Call the methods whose metrics a send has not."""
    observer.limiter(status_of(), "default")
    observer.campaign("sale", Done("finished", Counts(accepted=3), ""))
    observer.webhook("message", None, "accepted", 0.1, 3.0)
    observer.webhook("request", None, "secret", 0.1, None)
    observer.webhook_queue(4)


@pytest.mark.anyio
async def test_each_metric_of_the_dashboard_exists(exports: Exports) -> None:
    """By the name that Prometheus' exporter gives it."""
    observer = exports.observer()
    await send(exports, httpx.Response(429), httpx.Response(500))
    report_the_rest(observer)
    known = set()
    suffix = {"s": "_seconds"}
    data = exports.reader.get_metrics_data()
    assert data is not None
    for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
        name = metric.name.replace(".", "_") + suffix.get(metric.unit, "")
        kind = type(metric.data).__name__
        known |= {"Histogram": {f"{name}_bucket", f"{name}_count"}, "Sum": {f"{name}_total"}}.get(
            kind, {name}
        )
    named = set(
        re.findall(
            r"\b(?:desk360|http)_[a-z_]+(?=[{\[)])", re.sub(r"by \([^)]*\)|\{\{.*?\}\}", "", dashboard())
        )
    )
    panels = json.loads(dashboard())["panels"]
    assert (named - known, len(panels)) == (set(), 8)
    assert len(named) >= 12


def in_the_guide(column: str) -> set[str]:
    """Return the names in the first column of the guide's table with that head; `.x` continues a name."""
    page = files("desk360_async.guide").joinpath("observability.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {column} |")[2].partition("\n\n")[0].splitlines()[2:]
    found = set()
    for row in rows:
        first, *more = re.findall(r"`([a-z0-9_.]+)`", row.split("|")[1])
        found |= {first, *(first.rpartition(".")[0] + rest for rest in more)}
    return found


def test_the_guide_names_each_metric_and_each_event_of_the_log() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(_observer.__file__).parent.rglob("*.py")]
    logged = {name for text in sources for name in re.findall(r'"event": "(desk360[a-z0-9_.]+)"', text)}
    noticed = {
        name for text in sources for name in re.findall(r'(?:Notice|_report)\(\s*"([a-z0-9._]+)"', text)
    }
    assert in_the_guide("metric") == metrics_of_the_source()
    assert logged
    assert noticed
    assert in_the_guide("event") == logged | noticed


# ── secrets, and the instrumentor ──────────────────────────────────────────────────────────────────────────


def test_no_byte_of_some_hundred_calls_holds_a_secret() -> None:
    """`python -m tests.otel.exports` makes 10,000."""
    exports, texts, found = searched(400)
    assert (found, len(texts) > 400) == ([], True)
    assert set(exports.metrics()) == metrics_of_the_source()


def test_the_search_finds_a_planted_phone(exports: Exports) -> None:
    """A search that can't fail would prove little."""
    with exports.tracers.get_tracer("x").start_as_current_span("x", attributes={"to": "+905550001234"}):
        pass
    assert len(hits(exports.texts())) == 1
