"""procrastinate as our engine: its tasks, a connector that outlives a restart, and the retries of jobs.

procrastinate has loops for the heartbeat, the listener and the schedule. The connection's first error ends
these loops, and with them the worker. The connector here tries again instead. A job whose end can't be
stored stays "doing". The supervision finds the job's work by the ledger and the send log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from procrastinate import (
    BaseRetryStrategy,
    Blueprint,
    JobContext,
    PsycopgConnector,
    RetryDecision,
    exceptions,
    jobs,
    manager,
)

from desk360_async import (
    AuthenticationFailed,
    ClientStateError,
    ConfigurationError,
    ConnectionFailed,
    Desk360Error,
    Outcome,
    PermissionDenied,
    RateLimited,
    RateLimitWaitTooLong,
    SendInProgress,
    ServerError,
)
from desk360_async._observer import Notice, Observer
from desk360_async._postgres import Sockets, is_lost
from desk360_async.campaigns import LedgerError

T = TypeVar("T")

NAMESPACE = "desk360"
_FIRST_WAIT, _LONGEST_WAIT = 5, 300  # seconds before a job's next try; the pauses double
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries of a statement
# Errors of single sends whose cause isn't the message: it is the account, the limit or the network.
_PASSING = (
    AuthenticationFailed,
    ClientStateError,
    ConfigurationError,
    ConnectionFailed,
    PermissionDenied,
    RateLimited,
    RateLimitWaitTooLong,
    ServerError,
)


class Unfinished(Exception):
    """Raised by a share that ended early and goes on later, such as after an outage of the server."""


def passes(error: BaseException) -> bool:
    """Return whether a job that ended with an error is tried again.

    A send whose outcome is unknown isn't tried again: the send log keeps it for a person's decision. A
    refused message isn't tried again either.
    """
    if isinstance(error, Unfinished | SendInProgress | asyncio.CancelledError):
        return True
    if isinstance(error, LedgerError):  # no cause: the database was promoted; a person decides
        return error.__cause__ is not None
    if isinstance(error, Desk360Error):
        return error.outcome is not Outcome.UNKNOWN and isinstance(error, _PASSING)
    return isinstance(error, Exception)


class Again(BaseRetryStrategy):
    """The next try of a job: at once after a stop of its worker, else after 5 s to 5 min."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        """Return when the job is tried again; None if its work has ended."""
        if not passes(exception):
            return None
        stopped = isinstance(exception, asyncio.CancelledError)
        wait = 0 if stopped else min(_LONGEST_WAIT, _FIRST_WAIT << min(job.attempts, 6))
        return RetryDecision(retry_in={"seconds": wait})


# procrastinate's text where a job that is to be ended has no row, or has ended.
_ENDED = 'Job was not found or not in "doing" or "todo" status'


class PatientConnector(PsycopgConnector):
    """A connector whose statements are tried again until the database is back.

    A statement whose commit is not known may run twice. The second run of procrastinate's own statements
    raises, or adds a row that the supervision removes.
    """

    def __init__(self, **options: Any) -> None:
        self._sockets = Sockets()
        super().__init__(configure=self._add, **options)  # pyright: ignore[reportUnknownMemberType]  # its JSON hooks are untyped
        self._gives_up = float("inf")

    async def _add(self, connection: Any) -> None:
        self._sockets.add(connection)

    def cut(self) -> None:
        """End the statements that wait for an answer."""
        self._sockets.cut()

    def give_up_after(self, seconds: float) -> None:
        """Try statements again only for the next `seconds`: the worker ends."""
        self._gives_up = time.monotonic() + seconds

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        pause = _PAUSE
        while True:
            try:
                return await work()
            except exceptions.ConnectorException as error:
                cause = error.__cause__
                if cause is None or not is_lost(cause) or time.monotonic() >= self._gives_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        """As in procrastinate; a job that is ended twice is no error.

        After an outage a job may have been put back into the queue, and ended by another worker.
        """
        run = super().execute_query_async
        try:
            await self._patiently(lambda: run(query, **arguments))
        except exceptions.ConnectorException as error:
            if _ENDED not in str(error.__cause__):
                raise

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        """As in procrastinate."""
        run = super().execute_query_one_async
        return await self._patiently(lambda: run(query, **arguments))

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        """As in procrastinate."""
        run = super().execute_query_all_async
        return await self._patiently(lambda: run(query, **arguments))

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        """As in procrastinate; if an outage loses a notification, polling finds the job."""
        run = super().listen_notify
        await self._patiently(lambda: run(on_notification, channels))


def blueprint_of(
    queue: str,
    *,
    run_share: Callable[[str, int], Awaitable[None]],
    run_send: Callable[[int], Awaitable[None]],
    look: Callable[[manager.JobManager], Awaitable[None]],
) -> Blueprint:
    """Return a blueprint with the tasks "share", "send" and, every minute, "supervise".

    Args:
        queue: the queue of jobs that don't name a queue.
        run_share: runs a share, given the campaign's name and the share's number.
        run_send: sends the message in a row of the outbox.
        look: defers work again if its job was lost.
    """
    blueprint = Blueprint()

    @blueprint.task(name="share", queue=queue, retry=Again())
    async def share(campaign: str, number: int) -> None:  # pyright: ignore[reportUnusedFunction]  # by its name
        await run_share(campaign, number)

    @blueprint.task(name="send", queue=queue, retry=Again())
    async def send(row: int) -> None:  # pyright: ignore[reportUnusedFunction]  # by its name
        await run_send(row)

    @blueprint.periodic(cron="* * * * *")
    @blueprint.task(name="supervise", queue=queue, queueing_lock="desk360:supervise", pass_context=True)
    async def supervise(context: JobContext, timestamp: int) -> None:  # pyright: ignore[reportUnusedFunction]  # the decorator registers it
        await look(context.app.job_manager)

    return blueprint


async def reap(jobs_: manager.JobManager, lease: float, observer: Observer) -> None:
    """Put the jobs of dead workers back into the queue, if the jobs belong to our tasks.

    Args:
        jobs_: the job manager of an open app.
        lease: seconds without a heartbeat after which a worker counts as dead.
        observer: gets a notice of a job that another worker put back.
    """
    for job in await jobs_.get_stalled_jobs(seconds_since_heartbeat=lease):
        if job.id is None or not job.task_name.startswith(f"{NAMESPACE}:"):
            continue
        try:
            await jobs_.retry_job(job)
        except exceptions.UniqueViolation:  # the same work waits in the queue already
            await jobs_.finish_job_by_id_async(job.id, jobs.Status.FAILED, delete_job=False)
        except exceptions.ConnectorException as error:  # another worker was faster
            text = f"a stalled job was not put back: {error}"
            observer.notice(Notice("desk360.worker.job_not_put_back", "debug", text))
