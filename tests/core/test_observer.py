"""What observers are told, that a broken one changes nothing, and what the default one logs."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve

from desk360_async import (
    AttemptEnd,
    ConfigurationError,
    Desk360Error,
    HostLimiter,
    InvalidMessage,
    LogObserver,
    Notice,
    Operation,
    OperationEnd,
    Outcome,
    PostgresLimiter,
    RetryPolicy,
    SendResult,
    TextMessage,
    TokenBucket,
)
from desk360_async._observer import Observers, current_operation, parse_observers, set_default_observers
from desk360_async.customers import Customers
from desk360_async.once import SendLog
from tests.core.fakes import ID, TO, Tokens, Wire, connect, sent

pytestmark = pytest.mark.anyio
TEMPLATES = [
    {
        "id": 7,
        "name": "sale",
        "translations": [{"language_id": 2, "language": "English", "status": "approved"}],
    }
]


class Notes:
    """An observer that keeps all that it is told."""

    def __init__(self) -> None:
        self.operations: list[tuple[Operation, OperationEnd]] = []
        self.attempts: list[tuple[int, float, AttemptEnd]] = []
        self.calls: list[tuple[Any, ...]] = []

    @contextmanager
    def operation(self, op: Operation) -> Generator[OperationEnd]:
        """Keep the operation and its end."""
        end = OperationEnd()
        yield end
        self.operations.append((op, end))

    @contextmanager
    def attempt(self, number: int, waited: float) -> Generator[AttemptEnd]:
        """Keep the attempt and its end."""
        end = AttemptEnd()
        yield end
        self.attempts.append((number, waited, end))

    def __getattr__(self, name: str) -> Any:
        if name not in (
            "retry",
            "refused",
            "limiter",
            "campaign",
            "webhook",
            "webhook_queue",
            "handler_failed",
            "job",
            "notice",
        ):
            raise AttributeError(name)
        return lambda *args: self.calls.append((name, *args))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of all calls of a method."""
        return [args for method, *args in self.calls if method == name]


@pytest.fixture
def notes() -> Notes:
    """An observer that keeps all that it is told."""
    return Notes()


def status(code: int, **headers: str) -> httpx.Response:
    """Return an answer without a reply."""
    return httpx.Response(code, headers=headers, json={"message": "no"})


async def test_a_send_is_one_operation_with_one_attempt(wire: Wire, notes: Notes) -> None:
    async with connect(wire, observer=notes) as client:
        await client.send_text(TO, "x")
    [(op, end)], [(number, waited, attempt)] = notes.operations, notes.attempts
    assert (op.name, op.kind, op.lane, op.integration_id, op.recipients) == (
        "send_text",
        "send",
        "interactive",
        11,
        1,
    )
    assert end == OperationEnd(Outcome.ACCEPTED, 1, 0.0, {Outcome.ACCEPTED: 1})
    assert (number, waited, attempt) == (1, 0.0, AttemptEnd(200, "status"))


FAILURES: list[tuple[Any, Outcome, str, str]] = [
    (status(400), Outcome.NOT_SENT, "status", "ValidationFailed"),
    (status(500), Outcome.UNKNOWN, "status", "ServerError"),
    (httpx.ReadError("x"), Outcome.UNKNOWN, "started", "ConnectionFailed"),
    (httpx.ConnectError("x"), Outcome.NOT_SENT, "not_started", "ConnectionFailed"),
]


@pytest.mark.parametrize(("answer", "outcome", "evidence", "error"), FAILURES)
async def test_a_failed_send_ends_with_its_outcome_and_its_error(
    notes: Notes, answer: Any, outcome: Outcome, evidence: str, error: str
) -> None:
    async with connect(Wire(answer), observer=notes, retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(Desk360Error) as caught:
            await client.send_text(TO, "x")
    [(_, end)], [(_, _, attempt)] = notes.operations, notes.attempts
    assert (end.outcome, end.messages, end.error) == (outcome, {outcome: 1}, caught.value)
    assert (attempt.evidence, type(caught.value).__name__) == (evidence, error)


async def test_a_refusal_and_the_retry_after_it_are_reported(notes: Notes) -> None:
    """With the server's own time, and the wait that we make of it."""
    wire = Wire(status(429, **{"retry-after": "4"}), lambda _: sent())
    async with connect(wire, observer=notes) as client:
        await client.send_text(TO, "x")
    [[op, reason, wait]] = notes.named("retry")
    assert (notes.named("refused"), op.name, reason, wait) == (
        [[4.0, "default"]],
        "send_text",
        "RateLimited",
        5.0,
    )
    assert [number for number, _, _ in notes.attempts] == [1, 2]


async def test_a_retry_after_a_lost_connection_names_the_error_and_the_pause(notes: Notes) -> None:
    wire = Wire(httpx.ConnectError("x"), lambda _: sent())
    async with connect(wire, observer=notes) as client:
        await client.send_text(TO, "x")
    [[_, reason, wait]] = notes.named("retry")
    assert (reason, 0.25 <= wait <= 0.5) == ("ConnectionFailed", True)


async def test_the_wait_for_a_token_is_in_the_attempt_and_in_the_operation(wire: Wire, notes: Notes) -> None:
    tokens = Tokens(wait=lambda: anyio.sleep(3))
    async with connect(wire, observer=notes, limiter=tokens) as client:
        await client.send_text(TO, "x")
    assert (notes.attempts[0][1], notes.operations[0][1].waited) == (3.0, 3.0)


async def test_a_bulk_send_counts_people_by_outcome(notes: Notes) -> None:
    wire = Wire(httpx.Response(200, json={"phones": [TO]}))
    async with connect(wire, observer=notes) as client:
        await client.send_template_bulk([TO, "+905550000001"], 7, language=2)
    [(op, end)] = notes.operations
    assert (op.template_id, op.recipients) == (7, 2)
    assert end.messages == {Outcome.ACCEPTED: 1, Outcome.UNKNOWN: 1}


async def test_a_look_up_is_an_operation_inside_the_send(notes: Notes) -> None:
    """The send's own end names the template's id, which the look-up found."""
    wire = Wire(httpx.Response(200, json=TEMPLATES), lambda _: sent())
    async with connect(wire, observer=notes) as client:
        await client.send_template(TO, "sale", language="English")
    [(read, read_end), (send, send_end)] = notes.operations
    assert (read.name, read.kind, read_end.outcome, read_end.attempts) == ("list_templates", "read", None, 1)
    assert (send.name, send.template_id, send_end.template_id, send_end.attempts) == (
        "send_template",
        None,
        7,
        1,
    )


async def test_marking_as_read_is_an_operation_and_no_message(notes: Notes) -> None:
    async with connect(Wire(httpx.Response(200)), observer=notes) as client:
        await client.mark_read(TO, [ID])
    [(op, end)] = notes.operations
    assert (op.name, op.kind, op.recipients, end.outcome, end.messages) == (
        "mark_read",
        "read",
        0,
        Outcome.ACCEPTED,
        {},
    )


async def test_a_request_of_the_users_own_names_no_path(notes: Notes) -> None:
    """The path may hold a phone."""
    async with connect(Wire(httpx.Response(200, json={})), observer=notes) as client:
        await client.request("GET", f"/people/{TO[1:]}")
    [(op, _)] = notes.operations
    assert (op.name, op.kind, op.method, op.path, op.integration_id) == ("request", "read", "GET", "", None)


async def test_opening_media_is_a_read_whose_path_is_a_template(notes: Notes) -> None:
    async with connect(Wire(httpx.Response(200, content=b"x")), observer=notes) as client:
        await client.read_media("m-77")
    [(op, end)] = notes.operations
    assert (op.name, op.kind, op.path.rpartition("/")[2], end.error) == (
        "open_media",
        "read",
        "{media_id}",
        None,
    )


async def test_a_redirect_to_another_host_is_marked(notes: Notes) -> None:
    there = httpx.Response(302, headers={"location": "https://files.example/x"})
    async with connect(Wire(there, httpx.Response(200, content=b"x")), observer=notes) as client:
        await client.read_media("m-77")
    assert [(end.status, end.elsewhere) for _, _, end in notes.attempts] == [(302, False), (200, True)]
    assert notes.operations[0][1].attempts == 2


async def test_a_message_that_is_none_is_an_operation_named_send(wire: Wire, notes: Notes) -> None:
    async with connect(wire, observer=notes) as client:
        with pytest.raises(InvalidMessage):
            await client.send("hello")  # type: ignore[call-overload]  # a user's mistake
    [(op, end)] = notes.operations
    assert (op.name, op.path, end.outcome, notes.attempts) == ("send", "", Outcome.NOT_SENT, [])


async def test_the_limiter_is_reported_at_most_once_a_second(wire: Wire, notes: Notes) -> None:
    async with connect(wire, observer=notes) as client:
        for _ in range(5):
            await client.send_text(TO, "x")
        await anyio.sleep(1)
        await client.send_text(TO, "x")
    assert [(status.limit, egress) for status, egress in notes.named("limiter")] == [(60, "default")] * 2


async def test_a_limiter_may_name_its_egress(wire: Wire, notes: Notes) -> None:
    tokens = TokenBucket()
    tokens.egress = "office"  # type: ignore[attr-defined]  # as PostgresLimiter has it
    async with connect(wire, observer=notes, limiter=tokens) as client:
        await client.send_text(TO, "x")
    assert [egress for _, egress in notes.named("limiter")] == ["office"]


async def test_a_cancelled_send_ends_with_the_cancellation(notes: Notes) -> None:
    wire = Wire(lambda _: anyio.sleep(99))
    async with connect(wire, observer=notes) as client:
        with anyio.move_on_after(1):
            await client.send_text(TO, "x")
    [(_, end)], [(_, _, attempt)] = notes.operations, notes.attempts
    assert (end.outcome, type(end.error).__name__, attempt.seconds) == (
        Outcome.UNKNOWN,
        type(attempt.error).__name__,
        1.0,
    )


# ── which observers, and broken ones ───────────────────────────────────────────────────────────────────────


async def test_several_observers_get_the_same_reports(wire: Wire) -> None:
    first, second = Notes(), Notes()
    async with connect(wire, observer=[first, second]) as client:
        await client.send_text(TO, "x")
    assert first.operations == second.operations
    assert first.operations[0][1] is not second.operations[0][1]


class Broken:
    """An observer whose every method raises, the blocks' ends included."""

    @contextmanager
    def operation(self, op: Operation) -> Generator[OperationEnd]:
        """Raise at the end."""
        yield OperationEnd()
        raise LookupError("operation")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def fail(*_: Any) -> None:
            raise LookupError(name)

        self.__dict__[name] = fail
        return fail


async def test_a_broken_observer_changes_no_send_and_is_logged_once(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[SendResult] = []
    wire = Wire(httpx.ConnectError("x"), lambda _: sent())
    async with connect(wire, observer=[Broken(), notes], on_result=heard.append) as client:
        for _ in range(3):
            assert (await client.send_text(TO, "x")).message_id == ID
    assert ([r.outcome for r in heard], len(notes.operations)) == ([Outcome.ACCEPTED] * 3, 3)
    raised = [repr(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert raised == [f"LookupError('{name}')" for name in ("attempt", "retry", "limiter", "operation")]


async def test_a_broken_observer_that_cannot_be_hashed_changes_no_send(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bound methods have no hash either."""

    class Unhashable(Broken):
        __hash__ = None  # type: ignore[assignment]  # as a class with `__eq__` alone has it

    async with connect(wire, observer=Unhashable()) as client:
        for _ in range(2):
            assert (await client.send_text(TO, "x")).message_id == ID
    raised = [repr(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert raised == [f"LookupError('{name}')" for name in ("attempt", "limiter", "operation")]


async def test_an_end_that_takes_no_attributes_changes_no_send(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    class Malformed:
        @contextmanager
        def operation(self, op: Operation) -> Generator[None]:
            yield None

    async with connect(wire, observer=Malformed()) as client:
        assert (await client.send_text(TO, "x")).message_id == ID
    assert "an observer failed" in caplog.text


@pytest.mark.parametrize("given", [LogObserver, "log", 3, [None], {"a": 1}], ids=repr)
def test_no_observer_is_refused_where_the_client_is_made(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="observer must be an Observer such as LogObserver"):
        connect(None, observer=given)


def test_each_method_reaches_the_observers(notes: Notes) -> None:
    several = Observers([notes])
    several.campaign("sale", 1)
    several.webhook("message", None, "accepted", 0.1, 2.0)
    several.webhook_queue(3)
    assert notes.calls == [
        ("campaign", "sale", 1),
        ("webhook", "message", None, "accepted", 0.1, 2.0),
        ("webhook_queue", 3),
    ]


def test_observers_are_false_only_if_there_are_none() -> None:
    several = parse_observers([LogObserver()])
    assert (bool(parse_observers(())), bool(several), parse_observers(several)) == (False, True, several)


def test_the_default_is_the_log_unless_the_instrumentor_sets_another(notes: Notes) -> None:
    try:
        set_default_observers([notes])
        assert parse_observers(None)._observers == (notes,)
    finally:
        set_default_observers([])
    [default] = parse_observers(None)._observers
    assert isinstance(default, LogObserver)


async def test_the_current_operation_is_known_inside_and_gone_outside(wire: Wire, notes: Notes) -> None:
    inside: list[Any] = []

    async def ask() -> None:
        inside.append(current_operation())

    async with connect(wire, observer=notes) as client:
        await client.send(TextMessage(TO, "x"), on_attempt=ask)
        assert client.observer is client.with_options(lane="bulk").observer
    assert ([op.name for op in inside], current_operation()) == (["send_text"], None)


@pytest.mark.parametrize("make", [HostLimiter, PostgresLimiter, SendLog, Customers])
def test_a_store_refuses_an_observer_without_a_method(make: Callable[..., Any], tmp_path: Path) -> None:
    place = "postgresql://app@127.0.0.1:9/app" if make is PostgresLimiter else tmp_path / "store.db"
    with pytest.raises(ConfigurationError, match="observer must be an Observer such as LogObserver"):
        make(place, observer="log")


# ── logs ───────────────────────────────────────────────────────────────────────────────────────────────────


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return the level and the event of each record."""
    return [(record.levelno, record.__dict__["event"]) for record in caplog.records]


async def test_the_default_logs_attempts_retries_refusals_and_unknown_outcomes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "desk360_async")
    wire = Wire(status(429), status(500))
    async with connect(wire) as client:
        with pytest.raises(Desk360Error):
            await client.send_text(TO, "x")
    assert events(caplog) == [
        (logging.INFO, "desk360.attempt"),
        (logging.WARNING, "desk360.rate_limited"),
        (logging.WARNING, "desk360.limit_unshared"),
        (logging.WARNING, "desk360.retry"),
        (logging.INFO, "desk360.attempt"),
        (logging.WARNING, "desk360.outcome_unknown"),
    ]
    facts = caplog.records[0].__dict__
    assert [facts[name] for name in ("operation", "status", "seconds", "attempt")] == [
        "send_text",
        429,
        0.0,
        1,
    ]


async def test_a_success_is_logged_at_info_only(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "desk360_async")
    async with connect(wire) as client:
        await client.send_text(TO, "x")
    assert caplog.records == []


async def test_no_observer_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "desk360_async")
    async with connect(Wire(status(500)), observer=()) as client:
        with pytest.raises(Desk360Error):
            await client.send_text(TO, "x")
    assert caplog.records == []


def test_a_changed_limit_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    observer, now = LogObserver(), Tokens().snapshot()
    for limit in (60, 60, 30, 30):
        observer.limiter(evolve(now, limit=limit), "default")
    [record] = caplog.records
    assert (record.__dict__["event"], record.__dict__["limit"], record.__dict__["before"]) == (
        "desk360.limit_changed",
        30,
        60,
    )


def test_the_last_event_of_a_campaign_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Done:
        end = "finished"

    caplog.set_level(logging.INFO, "desk360_async")
    for event in (object(), Done()):
        LogObserver().campaign("sale", event)
    assert [record.__dict__["campaign"] for record in caplog.records] == ["sale"]


def test_a_full_queue_is_logged_once_until_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    observer = LogObserver()
    observer.webhook_queue(7)
    for verdict in ("full", "full", "accepted", "full"):
        observer.webhook("request", None, verdict, 0.0, None)
    assert [record.__dict__["queued"] for record in caplog.records] == [7, 7]


@pytest.mark.parametrize(("reason", "level"), [("invalid", logging.WARNING), ("secret", logging.INFO)])
def test_a_refused_webhook_is_logged_with_its_reason(
    caplog: pytest.LogCaptureFixture, reason: str, level: int
) -> None:
    caplog.set_level(logging.INFO, "desk360_async.webhooks")
    LogObserver().webhook("request", None, reason, 0.0, None)
    assert [(r.levelno, r.__dict__["reason"]) for r in caplog.records] == [(level, reason)]


def test_a_failed_handler_is_logged_with_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    Observers([LogObserver()]).handler_failed("message", LookupError("x"))
    assert (events(caplog), "LookupError: x" in caplog.text) == (
        [(logging.ERROR, "desk360.handler_failed")],
        True,
    )


@pytest.mark.parametrize(
    ("event", "logger"),
    [
        ("desk360.limiter.alone", "desk360_async"),
        ("desk360.client.window_closed", "desk360_async"),
        ("desk360.webhook.not_open", "desk360_async.webhooks"),
        ("desk360.once.end_not_written", "desk360_async.once"),
        ("desk360.customers.callback_failed", "desk360_async.customers"),
        ("desk360.campaign.ledger_away", "desk360_async.campaigns"),
        ("desk360.worker.restarted", "desk360_async.workers"),
    ],
)
def test_a_notice_is_logged_by_the_logger_of_its_area(
    caplog: pytest.LogCaptureFixture, event: str, logger: str
) -> None:
    parse_observers(None).notice(Notice(event, "error", "100 % away", {"events": 3}, LookupError("x")))
    [record] = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (logger, "ERROR", "100 % away")
    assert (record.__dict__["event"], record.__dict__["events"]) == (event, 3)
    assert "LookupError: x" in caplog.text


async def test_a_notice_reaches_the_clients_observers_and_no_log(
    notes: Notes, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(wire, observer=notes, on_result=lambda _: 1 / 0) as client:
        await client.send_text(TO, "x")
    [notice] = [call[1] for call in notes.calls if call[0] == "notice"]
    assert (notice.event, notice.facts) == ("desk360.client.callback_failed", {"callback": "on_result"})
    assert (type(notice.error), caplog.records) == (ZeroDivisionError, [])


def test_a_repeat_of_a_webhook_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "desk360_async.webhooks")
    LogObserver().webhook("status", "read", "repeat", 0.0, None)
    assert events(caplog) == [(logging.DEBUG, "desk360.webhook.repeat")]


def test_an_attempt_outside_an_operation_is_logged_as_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "desk360_async")
    with LogObserver().attempt(1, 0.0):
        pass
    assert caplog.records[0].__dict__["operation"] == "a request"


def test_the_hint_at_an_unshared_limit_is_logged_once_an_address(caplog: pytest.LogCaptureFixture) -> None:
    observer = LogObserver()
    for egress in ("office", "office", "cloud"):
        observer.refused(None, egress)
    hinted = [r.__dict__["egress"] for r in caplog.records if r.__dict__["event"] == "desk360.limit_unshared"]
    assert hinted == ["office", "cloud"]


def test_a_workers_job_is_logged_with_its_end_and_its_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "desk360_async")
    Observers([LogObserver()]).job("send", "accepted", 0.25)
    [record] = caplog.records
    facts = [record.__dict__[name] for name in ("event", "kind", "end", "seconds")]
    assert facts == ["desk360.job", "send", "accepted", 0.25]
