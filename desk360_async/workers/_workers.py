"""`Workers`: hands shares of campaigns and single sends to the engine, and runs them in a worker process."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from procrastinate import App, Blueprint, manager
from procrastinate.exceptions import ProcrastinateException

from desk360_async import AsyncDesk360, Attachment, ConfigurationError, Desk360Error, KeyConflict, Message
from desk360_async._arguments import check_key, count_or_share, kind_of, seconds, whole
from desk360_async._observer import Notice, parse_observers
from desk360_async._postgres import Database, connection_options
from desk360_async.campaigns import Campaign, Done, Hours, Run
from desk360_async.once import SendLog
from desk360_async.workers import _engine
from desk360_async.workers._work import Share, Work, name_of, pack, pack_file, unpack, unpack_file

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection

    from desk360_async import Observer
    from desk360_async.campaigns import OptOut

_OPENING = 30.0  # seconds in which a starting worker must reach the database
_PAUSE = 1.0  # seconds before procrastinate's worker begins again after an error
_CUT = 8.0  # seconds after the drain, 3 after procrastinate's abort; a statement that still waits is lost
_AFTER_DRAIN = 30.0  # seconds after the drain, in which procrastinate aborts its jobs and stores their ends
# After these ends of a run the share is over; a person decides, except after "finished". After other ends the
# share goes on.
_FINAL = ("finished", "stopped", "failures", "refused")


class Workers:
    """Work for several machines: shares of campaigns, and single sends in the caller's own transaction.

    The tables are made at the first use, or by `desk360 db init`. procrastinate puts its tables into the
    first schema of the connection's `search_path`.

    Args:
        dsn: `postgresql://user:password@host/database`; the password shows nowhere.
        client: returns the client of a worker process; called once a run. Give the client a
            `PostgresLimiter`, so that all machines behind one address share the limit. A client without a
            send log uses a send log in this database.
        opt_out: people whom campaigns leave out, as in `Campaign(opt_out=)`.
        lease: seconds (≥ 2) after which a worker that isn't seen counts as dead. Its work then starts again.
        schema: the schema of the tables, except procrastinate's.
        observer: gets a report of each job (`Observer.job`); None for log lines, () for none.

    Raises:
        ConfigurationError: if an argument is unusable.

    Example:
        ```python
        def make_client() -> AsyncDesk360:
            return AsyncDesk360(limiter=PostgresLimiter(DSN, egress="office"))


        workers = Workers(DSN, client=make_client)
        await workers.start("black-friday", shares=4)  # in a deploy script, or a web app
        await workers.run()  # in each worker process
        ```
    """

    def __init__(
        self,
        dsn: str,
        *,
        client: Callable[[], AsyncDesk360],
        opt_out: "OptOut" = None,
        lease: float = 30.0,
        schema: str = "desk360",
        observer: "Observer | Sequence[Observer] | None" = None,
    ) -> None:
        if not callable(client):
            raise ConfigurationError("client must be a function that returns an AsyncDesk360")
        self._database = Database(dsn, schema=schema)
        self._work = Work(self._database)
        self._dsn = dsn
        self._make = client
        self._opt_out = opt_out
        self._lease = seconds("lease", lease, least=2.0)
        self._schema = schema
        self._observers = parse_observers(observer)
        self._client: AsyncDesk360 | None = None
        self._sender: AsyncDesk360 | None = None  # the client, or its view with a send log
        self._runs: set[Run] = set()
        self._is_stopping = False
        self._drain = 30.0
        self._blueprint: Blueprint | None = None

    def __repr__(self) -> str:
        return f"<Workers {self._database.name}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client and the connections, if tasks of the blueprint opened them."""
        client, self._client, self._sender = self._client, None, None
        if client is not None:
            await client.aclose()
        await asyncio.to_thread(self._database.close)

    @property
    def blueprint(self) -> Blueprint:
        """The tasks for one procrastinate App of your own.

        Add them with `app.add_tasks_from(workers.blueprint, namespace="desk360")`. The namespace must be
        "desk360", since `start` and `defer` use it in the tasks' names. The tasks open a client in the
        worker's event loop at their first job; `aclose` closes the client.
        """
        if self._blueprint is None:
            self._blueprint = self._new_blueprint()
        return self._blueprint

    def _new_blueprint(self) -> Blueprint:
        # An app changes its blueprint's tasks, so each app needs its own.
        return _engine.blueprint_of(
            _engine.NAMESPACE, run_share=self._run_share, run_send=self._run_send, look=self._look
        )

    # ── handing work out ───────────────────────────────────────────────────────────────────────────────

    async def start(
        self,
        name: str,
        *,
        shares: int,
        at: datetime | None = None,
        queue: str = "desk360",
        priority: int = 0,
        hours: Hours | None = None,
        max_failures: float | None = None,
        concurrency: int = 4,
        attachment: "Attachment | str | os.PathLike[str] | None" = None,
    ) -> list[int]:
        """Let workers run a loaded campaign, in shares side by side; return the numbers of their jobs.

        The new shares replace the campaign's former shares and its waiting jobs. Runs that are under way go
        on.

        Args:
            name: the campaign's name.
            shares: runs side by side, 1 to 1,000.
            at: an aware datetime; no share begins before it. None: now.
            queue: the queue of procrastinate.
            priority: jobs with a higher priority begin first.
            hours: the sending hours of each run.
            max_failures: as in `Campaign.run`: a count (int) or a share of all recipients (float).
            concurrency: requests of each share on the wire, 1 to 100.
            attachment: the file for a media header, the same as at the campaign's load; workers read it from
                its path.

        Raises:
            ConfigurationError: if an argument is unusable, or the database can't be used.
            CampaignError: if the campaign was never loaded.
        """
        whole("shares", shares, least=1, most=1000, meaning="runs side by side")
        whole("concurrency", concurrency, least=1, most=100, meaning="requests on the wire")
        whole("priority", priority, least=-1_000_000, most=1_000_000, meaning="rank of the jobs")
        kind_of("hours", hours, Hours, "Hours('09:00-20:00', zone='Europe/Istanbul')")
        count_or_share("max_failures", max_failures)
        _check_time(at)
        await Campaign(name, ledger=self._dsn, schema=self._schema).status()
        options = json.dumps(
            {
                "hours": None if hours is None else hours.arguments,
                "max_failures": max_failures,
                "concurrency": concurrency,
                "attachment": None if attachment is None else pack_file(Attachment.of(attachment)),
            }
        )
        await self._work.prepare()
        made = [Share(name, number, options) for number in range(1, shares + 1)]
        return await self._work.start(made, queue, priority, at)

    async def defer(
        self,
        message: Message,
        *,
        idempotency_key: str,
        connection: "AsyncConnection[Any] | Connection[Any] | None" = None,
        at: datetime | None = None,
    ) -> int:
        """Let a worker send a message once if the connection's transaction commits; return the job's number.

        The message is stored in a table of this package until its send has ended. The job's only argument is
        the number of the message's row. When the send has ended, the send log has the outcome under the key.
        To defer a sent message again under its key is no error, and the message isn't sent again.

        Args:
            message: such as `TextMessage(...)`. A file from a path is read by the worker; one from a stream
                can't be stored.
            idempotency_key: the key under which it is sent once, 1 to 255 characters without a phone.
            connection: a psycopg connection of the same database, in the caller's transaction. None: `defer`
                opens and commits its own transaction.
            at: an aware datetime; the message isn't sent before it. None: now.

        Raises:
            ConfigurationError: if an argument is unusable, or the database can't be used.
            InvalidMessage: if the key is unusable.
            KeyConflict: if another message waits under the key, or the send log in this database has another
                message under the key that is sent, unknown or on its way. If the conflict arises later, the
                worker sends nothing and reports "desk360.worker.send_refused" as an error.
        """
        key = check_key(idempotency_key)
        text = pack(message)
        _check_time(at)
        await self._work.prepare()
        if connection is None:
            return await self._work.defer(key, text, _engine.NAMESPACE, at)
        return await self._work.defer_with(connection, key, text, _engine.NAMESPACE, at)

    # ── doing it ───────────────────────────────────────────────────────────────────────────────────────

    async def run(
        self, *, queues: Sequence[str] = ("desk360",), concurrency: int = 4, drain: float = 30.0
    ) -> None:
        """Run shares, single sends and the supervision of both, until SIGTERM or a cancellation.

        Then the shares take no more batches, and the requests on the wire finish. Another worker goes on
        with the shares. If the database doesn't answer, the call ends within `drain` + 35 s.

        Args:
            queues: the queues that this process serves.
            concurrency: shares and single sends at the same time in this process, 1 to 1,000.
            drain: seconds in which requests on the wire may finish.

        Raises:
            ConfigurationError: if an argument is unusable, or the database can't be used.
        """
        whole("concurrency", concurrency, least=1, most=1000, meaning="jobs at the same time")
        self._drain = seconds("drain", drain)
        if isinstance(queues, str) or not queues:
            raise ConfigurationError('queues must be a sequence of names, such as ("desk360",)')
        await self._work.prepare()
        self._is_stopping = False
        connector = _engine.PatientConnector(
            conninfo=self._dsn,
            min_size=1,
            max_size=concurrency + 4,
            timeout=5.0,
            kwargs=connection_options(self._dsn),
        )
        app = App(connector=connector)
        app.add_tasks_from(self._new_blueprint(), namespace=_engine.NAMESPACE)
        with ExitStack() as late, anyio.CancelScope() as ending:

            def stop() -> None:
                ending.shield = True  # a cancelled scope of anyio would cancel the drain again and again
                self._is_stopping = True
                connector.give_up_after(drain)
                for run in list(self._runs):
                    run.stop()
                loop = asyncio.get_running_loop()
                late.callback(loop.call_later(drain + _CUT, self._cut, connector).cancel)

            async with self, _opened(app):
                await self._serve_and_watch(app, queues, concurrency, stop)

    async def _serve_and_watch(
        self, app: App, queues: Sequence[str], concurrency: int, stop: Callable[[], None]
    ) -> None:
        """Serve the queues and look for lost work until SIGTERM or a cancellation; then end both."""
        serving = asyncio.create_task(self._serve(app, queues, concurrency))
        watching = asyncio.create_task(self._keep_watch(app.job_manager))
        with _terminated() as stopped:  # to the end: a second SIGTERM would kill what the drain lets finish
            waiting = asyncio.create_task(stopped.wait())
            try:
                await asyncio.wait({serving, watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                stop()
                # The first cancellation of `serving` begins its drain. Another one within it would end it.
                await _end({serving: self._drain + _AFTER_DRAIN, watching: 1.0})

    def _cut(self, connector: _engine.PatientConnector) -> None:
        text = "the database doesn't answer, and the worker ends; its statements are given up"
        self._observers.notice(Notice("desk360.worker.database_cut", "warning", text))
        self._database.cut()
        connector.cut()

    async def _serve(self, app: App, queues: Sequence[str], concurrency: int) -> None:
        """Run procrastinate's worker, and begin again if it ends by itself."""
        while not self._is_stopping:
            try:
                await app.run_worker_async(
                    queues=list(queues),
                    name=f"{socket.gethostname()}-{os.getpid()}",
                    concurrency=concurrency,
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=self._drain + 5.0,
                    delete_jobs="successful",
                    fetch_job_polling_interval=min(5.0, self._lease / 2),
                    update_heartbeat_interval=self._lease / 3,
                    stalled_worker_timeout=self._lease,
                )
            except (ProcrastinateException, OSError) as error:
                then = "ends" if self._is_stopping else "begins again"
                reason = " ".join(str(error.__cause__ or error).split())  # procrastinate's own text has none
                text = f"the worker {then} after an error: {reason}"
                self._observers.notice(Notice("desk360.worker.restarted", "warning", text))
            await asyncio.sleep(_PAUSE)

    async def _keep_watch(self, jobs: manager.JobManager) -> None:
        """Look for lost work twice in each lease; go on after any error."""
        while not self._is_stopping:
            try:
                await self._look(jobs)
            except Exception as error:  # noqa: BLE001  # the loop must survive; the next look tries again
                text = f"the supervision of shares and sends failed, and tries again: {error}"
                self._observers.notice(Notice("desk360.worker.supervision_failed", "warning", text))
            await asyncio.sleep(self._lease / 2)

    async def _look(self, jobs: manager.JobManager) -> None:
        """Put the jobs of dead workers back into the queue, and make new jobs for work that has no job."""
        await _engine.reap(jobs, self._lease, self._observers)
        if missing := await self._work.supervise(self._lease):
            text = f"{missing} shares or sends had lost their jobs, and were deferred again"
            self._observers.notice(Notice("desk360.worker.jobs_lost", "warning", text, {"jobs": missing}))

    async def _run_share(self, campaign: str, number: int) -> None:
        """Run a share of a campaign to its end; the task "share".

        Raises:
            Unfinished: if the share ended early, and goes on later.
            CampaignError: if the campaign can't be run.
        """
        found = None if self._is_stopping else await self._work.share(campaign, number)
        if found is None:
            return
        options = json.loads(found.options)
        hours, file = options["hours"], options["attachment"]
        made = Campaign(
            campaign,
            ledger=self._dsn,
            opt_out=self._opt_out,
            schema=self._schema,
            attachment=None if file is None else unpack_file(file),
        )
        run = made.run(
            self._opened_client(),
            concurrency=options["concurrency"],
            max_failures=options["max_failures"],
            drain=self._drain,
            signals=False,
            hours=None if hours is None else Hours(**hours),
            name=name_of(number),
            lease=self._lease,
        )
        with self._reported("share") as report:
            try:
                done, unknown = await self._follow(run)
            except Desk360Error as error:
                if not _engine.passes(error):
                    await self._work.end_share(campaign, number)
                raise
            report.append(done.end)
            await self._judge(found, done, unknown)

    async def _follow(self, run: Run) -> tuple[Done, int]:
        """Enter a run; return its end, and the number of recipients that it made unknown."""
        async with run:
            self._runs.add(run)
            before = run.counts.unknown
            if self._is_stopping:
                run.stop()
            try:
                done = await run.wait()
            finally:
                self._runs.discard(run)
        return done, done.counts.unknown - before

    async def _judge(self, share: Share, done: Done, unknown: int) -> None:
        if self._is_stopping and done.end in ("stopped", "interrupted"):
            return  # another worker goes on
        facts: dict[str, str | int | float] = {
            "campaign": share.campaign,
            "share": share.number,
            "end": done.end,
        }
        text = f"share {share.number} of the campaign {share.campaign!r} ended: {done.end}"
        self._observers.notice(Notice("desk360.worker.share_ended", "info", text, facts))
        # If a server takes requests and doesn't answer, their outcomes are unknown. A person decides before
        # more requests are sent.
        if done.end in _FINAL or (done.end == "unreachable" and unknown):
            await self._work.end_share(share.campaign, share.number)
            if done.end != "finished":
                text = f"the campaign {share.campaign!r} needs a decision: {done.reason}"
                self._observers.notice(Notice("desk360.worker.decision_needed", "error", text, facts))
            return
        raise _engine.Unfinished(f"the campaign {share.campaign!r} goes on later ({done.end})")

    async def _run_send(self, row: int) -> None:
        """Send a deferred message, and remove it from the outbox once its send has ended; the task "send".

        Raises:
            Unfinished: another send under the key has not ended.
            Desk360Error: the send's own error.
        """
        found = await self._work.deferred(row)
        if found is None:
            return
        with self._reported("send") as report:
            if found.is_under_way:
                # The send may be a dead worker's, until its lease ends. A wait here would block one of the
                # places for jobs.
                raise _engine.Unfinished("another worker is sending this message, or has died")
            try:
                await self._opened_client().send(unpack(found.message), idempotency_key=found.key)
            except Desk360Error as error:
                if not _engine.passes(error):
                    await self._work.end_send(row)
                if isinstance(error, KeyConflict):
                    text = f"a deferred message is not sent: {error}"
                    self._observers.notice(Notice("desk360.worker.send_refused", "error", text))
                raise
            report.append("accepted")
            await self._work.end_send(row)

    @contextmanager
    def _reported(self, kind: str) -> Generator[list[str]]:
        """Report a job's end: the name of the error that it raised, else the word in the yielded list."""
        began, end = time.monotonic(), list[str]()
        try:
            yield end
        except BaseException as error:
            end.append(type(error).__name__)
            raise
        finally:
            self._observers.job(kind, end[-1] if end else "", time.monotonic() - began)

    def _opened_client(self) -> AsyncDesk360:
        """Return the client of this process with a send log; made at its first use."""
        if self._sender is None:
            made = self._make()
            if not isinstance(made, AsyncDesk360):
                raise ConfigurationError(f"client must return an AsyncDesk360, not {type(made).__name__}")
            self._client = self._sender = made
            if made.send_log is None:
                log_ = SendLog(self._dsn, schema=self._schema, lease=self._lease)
                self._sender = made.with_options(send_log=log_)
        return self._sender


def _check_time(at: object) -> None:
    if at is not None and (not isinstance(at, datetime) or at.utcoffset() is None):
        raise ConfigurationError(
            f"at must be an aware datetime, such as datetime.now(UTC), or None, got {at!r}"
        )


@asynccontextmanager
async def _opened(app: App) -> AsyncGenerator[None]:
    """Open the app's connections, and close them at the end; raise ConfigurationError if they don't open."""
    try:
        async with asyncio.timeout(_OPENING):  # Python 3.11's `wait_for` may lose a cancellation
            await app.open_async()
    except (ProcrastinateException, OSError, TimeoutError) as error:
        await app.close_async()
        raise ConfigurationError(
            f"the worker can't reach its database ({error.__cause__ or error})"
        ) from error
    try:
        yield
    finally:
        with suppress(ProcrastinateException):
            await app.close_async()


@contextmanager
def _terminated() -> Generator[asyncio.Event]:
    """Yield an event that SIGTERM sets, unless SIGTERM has a handler. Ctrl-C cancels the task anyway."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield stopped
        return
    try:
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
    except NotImplementedError:  # Windows
        yield stopped
        return
    try:
        yield stopped
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _end(tasks: Mapping[asyncio.Task[None], float]) -> None:
    """Cancel tasks and wait for their ends, even if the caller is cancelled many times; raise their error.

    Args:
        tasks: each with the seconds until it is cancelled again. A cancellation may be lost:
            `asyncio.wait_for` of Python 3.11 drops one that arrives together with its result.
    """
    interrupted: asyncio.CancelledError | None = None
    due = dict.fromkeys(tasks, 0.0)
    while running := {task for task in tasks if not task.done()}:
        now = time.monotonic()
        for task in running:
            if due[task] <= now:
                task.cancel()
                due[task] = now + tasks[task]
        try:
            await asyncio.wait(running, timeout=min(due[task] for task in running) - now)
        except asyncio.CancelledError as again:
            interrupted = again
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    if interrupted is not None:
        raise interrupted
