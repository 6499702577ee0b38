"""Which jobs are tried again, and a connector that outlives a restart of the database."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from procrastinate import exceptions, jobs

from desk360_async import (
    ConfigurationError,
    ConnectionFailed,
    InvalidMessage,
    Outcome,
    RateLimitWaitTooLong,
    SendInProgress,
    SendUnknown,
    ServerError,
)
from desk360_async._postgres import Database
from desk360_async.campaigns import CampaignError, LedgerError
from desk360_async.workers._engine import Again, PatientConnector, Unfinished, passes
from desk360_async.workers._work import explain
from tests.workers.failing import caused_by

LOST = psycopg.OperationalError("the connection is lost")
JOB = jobs.Job(id=1, queue="desk360", lock=None, queueing_lock=None, task_name="desk360:send", attempts=0)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Unfinished("x"), True),
        (SendInProgress("k", since=datetime.now(UTC)), True),
        (ConnectionFailed("x", outcome=Outcome.NOT_SENT), True),
        (RateLimitWaitTooLong("x", eta=3.0), True),
        (ConfigurationError("the send log can't be used"), True),
        (caused_by(LedgerError("away"), LOST), True),
        (LOST, True),
        (SendUnknown("k", since=datetime.now(UTC)), False),
        (ConnectionFailed("x", outcome=Outcome.UNKNOWN), False),
        (ServerError(500, outcome=Outcome.UNKNOWN), False),
        (InvalidMessage("to", "x"), False),
        (CampaignError("it was never loaded"), False),
        (LedgerError("the database was promoted"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_that_passes_is_tried_again(error: BaseException, again: bool) -> None:
    assert passes(error) is again
    assert (Again().get_retry_decision(exception=error, job=JOB) is not None) is again


@pytest.mark.parametrize(
    ("attempts", "error", "seconds"),
    [(0, LOST, 5), (1, LOST, 10), (5, LOST, 160), (6, LOST, 300), (400, LOST, 300)],
)
def test_the_pauses_between_tries_double(attempts: int, error: Exception, seconds: int) -> None:
    decision = Again().get_retry_decision(exception=error, job=JOB.evolve(attempts=attempts))
    assert decision is not None
    assert decision.retry_at is not None
    assert abs(decision.retry_at.timestamp() - time.time() - seconds) < 2  # procrastinate's own clock


def test_a_job_of_a_stopped_worker_is_tried_at_once() -> None:
    decision = Again().get_retry_decision(exception=asyncio.CancelledError(), job=JOB)
    assert decision is not None
    assert decision.retry_at is not None
    assert decision.retry_at.timestamp() - time.time() < 1


class Flaky:
    """A statement that fails a few times."""

    def __init__(self, failures: int, error: BaseException = LOST) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise caused_by(exceptions.ConnectorException(), self.error)
        return "done"


@pytest.fixture
def connector(monkeypatch: pytest.MonkeyPatch) -> PatientConnector:
    """A connector whose pauses take no time."""

    async def at_once(_: float) -> None:
        """Return."""

    monkeypatch.setattr("desk360_async.workers._engine.asyncio.sleep", at_once)
    return PatientConnector()


def play(connector: PatientConnector, statement: Any) -> Any:
    """Run a statement of the connector."""
    return asyncio.run(connector._patiently(statement))


def test_a_statement_is_tried_again_until_the_database_is_back(connector: PatientConnector) -> None:
    assert play(connector, Flaky(20)) == "done"


def test_an_error_of_the_statement_itself_is_raised(connector: PatientConnector) -> None:
    with pytest.raises(exceptions.ConnectorException):
        play(connector, flaky := Flaky(20, psycopg.errors.UndefinedTable("x")))
    assert flaky.calls == 1


def test_a_connector_that_is_given_up_raises(connector: PatientConnector) -> None:
    connector.give_up_after(0.0)
    with pytest.raises(exceptions.ConnectorException):
        play(connector, Flaky(20))


def test_a_missing_right_is_reported_with_the_fix() -> None:
    denied = psycopg.errors.InsufficientPrivilege("permission denied for table share")
    message = explain(Database("postgresql://app@db/app"), caused_by(exceptions.ConnectorException(), denied))
    assert message.endswith("(permission denied for table share); grant this right to the DSN's user")
