"""The work of workers, in PostgreSQL: shares of campaigns and deferred sends, and the search for lost jobs.

procrastinate's table has the jobs. These tables have the work, so that a lost job can be deferred again. A
share is alive if the ledger has seen its run within the lease. A send is alive if the send log has an
unfinished send within its lease. So this module also reads the ledger, the send log and the waiting jobs. A
deferred message is stored as JSON.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

import attrs
from procrastinate import PsycopgConnector, SyncPsycopgConnector, exceptions, jobs, manager
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection, Connection
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import tuple_row

import desk360_async
from desk360_async import Attachment, ConfigurationError, KeyConflict, Message, _threads
from desk360_async._postgres import Database, fix_for, is_failure
from desk360_async.once import SendLog

T = TypeVar("T")

SHARE, SEND = "desk360:share", "desk360:send"
_SCHEMA_LOCK = 0x44333631  # "D361"
_AT_ONCE = 100  # missing sends that one look defers again
_ALIVE = (
    "SELECT 1 FROM {schema}.worker w JOIN {schema}.campaign c ON c.id = w.campaign WHERE c.name = %s "
    "AND w.name = %s AND w.seen > clock_timestamp() - make_interval(secs => w.lease)"
)
_OVER = (
    "DELETE FROM {schema}.share s USING {schema}.campaign c WHERE c.name = s.campaign "
    "AND NOT EXISTS (SELECT 1 FROM {schema}.batch b WHERE b.campaign = c.id "
    "AND b.state IN ('pending', 'intent'))"
)
_MISSING_SHARES = (
    "UPDATE {schema}.share s SET deferred = clock_timestamp() FROM {schema}.campaign c "
    "WHERE c.name = s.campaign AND s.due < clock_timestamp() - make_interval(secs => %(lease)s) "
    "AND s.deferred < clock_timestamp() - make_interval(secs => %(lease)s) "
    "AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.status = 'todo' "
    "AND j.queueing_lock = 'desk360:' || s.campaign || ':' || s.number) "
    "AND NOT EXISTS (SELECT 1 FROM {schema}.worker w WHERE w.campaign = c.id "
    "AND w.name = 'share ' || s.number AND w.seen > clock_timestamp() - make_interval(secs => w.lease)) "
    "RETURNING s.campaign, s.number, s.queue, s.priority"
)
_UNDER_WAY = (
    "SELECT 1 FROM {schema}.send d WHERE d.key = o.key "
    "AND d.state IN ('waiting', 'in_flight') AND d.until > extract(epoch FROM clock_timestamp())"
)
_MISSING_SENDS = (
    "UPDATE {schema}.outbox o SET deferred = clock_timestamp() WHERE o.id IN ("  # noqa: S608  # constants
    "SELECT o.id FROM {schema}.outbox o WHERE o.due < clock_timestamp() - make_interval(secs => %(lease)s) "
    "AND o.deferred < clock_timestamp() - make_interval(secs => %(lease)s) "
    "AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.status = 'todo' "
    "AND j.queueing_lock = 'desk360:send:' || o.id) "
    f"AND NOT EXISTS ({_UNDER_WAY}) "
    "ORDER BY o.deferred LIMIT %(most)s FOR UPDATE SKIP LOCKED) RETURNING o.id, o.queue"
)


_DEFER = (
    "INSERT INTO {schema}.outbox (key, message, queue, due) "
    "VALUES (%s, %s, %s, coalesce(%s, clock_timestamp())) RETURNING id"
)
# Selects the message that waits under a key, the hashes of the last send's fields, and the hashes' secret.
_BEFORE = (
    "SELECT (SELECT message FROM {schema}.outbox WHERE key = %(key)s ORDER BY id LIMIT 1), "
    "(SELECT fields FROM {schema}.send WHERE key = %(key)s AND (state IN ('accepted', 'unknown', "
    "'in_flight') OR state = 'waiting' AND until > extract(epoch FROM clock_timestamp()))), "
    "(SELECT value FROM {schema}.secret)"
)


class Share(NamedTuple):
    """One run of a campaign; workers start it again if it dies.

    Attributes:
        campaign: the campaign's name.
        number: the share's number, from 1.
        options: the arguments of `campaign.run`, as JSON.
    """

    campaign: str
    number: int
    options: str


class Deferred(NamedTuple):
    """A single send that waits in the outbox.

    Attributes:
        key: its idempotency key.
        message: the message, as JSON.
        is_under_way: whether the send log has an unfinished send under the key, within its lease.
    """

    key: str
    message: str
    is_under_way: bool


def name_of(share: int) -> str:
    """Return the name of a share's run in the ledger."""
    return f"share {share}"


def job_for(share: Share, queue: str, priority: int, at: datetime | None = None) -> jobs.Job:
    """Return the job of a share; its arguments hold no options, phone or text."""
    return jobs.Job(
        queue=queue,
        priority=priority,
        lock=None,
        queueing_lock=f"desk360:{share.campaign}:{share.number}",
        task_name=SHARE,
        task_kwargs={"campaign": share.campaign, "number": share.number},
        scheduled_at=at,
    )


def job_for_send(row: int, queue: str, at: datetime | None = None) -> jobs.Job:
    """Return the job of a deferred send; its only argument is the row's number."""
    return jobs.Job(
        queue=queue,
        lock=None,
        queueing_lock=f"desk360:send:{row}",
        task_name=SEND,
        task_kwargs={"row": row},
        scheduled_at=at,
    )


class Work:
    """The tables of the work; its methods run their statements in a worker thread.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        # The connectors have no pools: each call passes its own connection.
        self._jobs = manager.JobManager(SyncPsycopgConnector())
        self._async_jobs = manager.JobManager(PsycopgConnector())
        self._is_ready = False

    async def prepare(self) -> None:
        """Make procrastinate's tables where they are missing, once a process.

        Raises:
            ConfigurationError: if the database can't be used, or this user may not make tables.
        """
        if not self._is_ready:
            await self._run(self.make_tables)
            self._is_ready = True

    def make_tables(self, connection: "Connection[Any]") -> None:
        """Make procrastinate's tables in the connection's own schema, unless they are there.

        Raises:
            ConfigurationError: if this user may not make them.
        """
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
                found = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
                if found is None or found[0] is None:
                    connection.execute(SchemaManager.get_schema())
        except InsufficientPrivilege as error:
            raise ConfigurationError(
                f"this user may not make procrastinate's tables in {self.database.name}; let a user who may "
                "run `desk360 db init`, and grant this one the tables"
            ) from error

    async def _run(self, work: Callable[[Any], T]) -> T:
        def once() -> T:
            with self.database.transaction() as connection:
                connection.execute("SET LOCAL search_path TO DEFAULT")  # procrastinate's tables lie there
                return work(connection)

        try:
            return await _threads.run(once)
        except Exception as error:
            self._explain(error)
            raise

    def _explain(self, error: Exception) -> None:
        if isinstance(error, exceptions.ConnectorException) or is_failure(error):
            raise ConfigurationError(explain(self.database, error)) from error

    # ── shares ─────────────────────────────────────────────────────────────────────────────────────────

    async def start(
        self, shares: Sequence[Share], queue: str, priority: int, at: datetime | None
    ) -> list[int]:
        """Replace the shares of one campaign; return the numbers of the new jobs.

        Raises:
            ConfigurationError: if the database can't be used.
        """

        def work(connection: Any) -> list[int]:
            campaign = shares[0].campaign
            self._forget(connection, campaign)
            for share in shares:
                self.database.execute(
                    connection,
                    "INSERT INTO {schema}.share (campaign, number, queue, priority, options, due) "
                    "VALUES (%s, %s, %s, %s, %s, coalesce(%s, clock_timestamp()))",
                    (campaign, share.number, queue, priority, share.options, at),
                )
            made = [job_for(share, queue, priority, at) for share in shares]
            return [int(job.id or 0) for job in self._jobs.batch_defer_jobs(made, connection)]

        return await self._run(work)

    def _forget(self, connection: Any, campaign: str) -> None:
        """Remove a campaign's shares, and their jobs that wait."""
        self.database.execute(connection, "DELETE FROM {schema}.share WHERE campaign = %s", (campaign,))
        waiting = connection.execute(
            "SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND task_name = %s "
            "AND args ->> 'campaign' = %s FOR UPDATE",
            (SHARE, campaign),
        ).fetchall()
        for (number,) in waiting:
            self._jobs.cancel_job_by_id(number, delete_job=True, connection=connection)

    async def share(self, campaign: str, number: int) -> Share | None:
        """Return a share that is to be run now; None if it has ended, or a run of it is alive."""
        # `supervise` leaves the share alone for a lease from this time, while the run begins.

        def work(connection: Any) -> Share | None:
            if self.database.execute(connection, _ALIVE, (campaign, name_of(number))).fetchone():
                return None
            found = self.database.execute(
                connection,
                "UPDATE {schema}.share SET deferred = clock_timestamp() "
                "WHERE campaign = %s AND number = %s RETURNING options",
                (campaign, number),
            ).fetchone()
            return None if found is None else Share(campaign, number, found[0])

        return await self._run(work)

    async def end_share(self, campaign: str, number: int) -> None:
        """Remove a share: it isn't started again."""
        await self._run(
            lambda connection: self.database.execute(
                connection,
                "DELETE FROM {schema}.share WHERE campaign = %s AND number = %s",
                (campaign, number),
            )
        )

    # ── single sends ───────────────────────────────────────────────────────────────────────────────────

    async def defer(self, key: str, message: str, queue: str, at: datetime | None) -> int:
        """Store a send and its job in a transaction of its own; return the job's number.

        Raises:
            KeyConflict: if another message waits under the key, or was sent.
            ConfigurationError: if the database can't be used.
        """
        return await self._run(lambda connection: self._defer(connection, key, message, queue, at))

    def _defer(
        self, connection: "Connection[Any]", key: str, message: str, queue: str, at: datetime | None
    ) -> int:
        before, insert = self._statements()
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(before, {"key": key})
            _compare(key, message, *(cursor.fetchone() or (None, None, None)))
            cursor.execute(insert, (key, message, queue, at))
            (row,) = cursor.fetchone() or (0,)
        return int(self._jobs.defer_job(job_for_send(row, queue, at), connection).id or 0)

    async def defer_with(
        self,
        connection: "AsyncConnection[Any] | Connection[Any]",
        key: str,
        message: str,
        queue: str,
        at: datetime | None,
    ) -> int:
        """Store a send and its job on the user's connection, without a commit; return the job's number.

        Raises:
            KeyConflict: if another message waits under the key, or was sent.
            ConfigurationError: if it is no psycopg connection or is lost, or the tables are missing.
        """
        if not isinstance(connection, Connection | AsyncConnection):
            raise ConfigurationError(
                f"connection takes a psycopg connection, not {type(connection).__name__}; with SQLAlchemy "
                "pass `.connection.driver_connection`, with Django `connection.connection`"
            )
        try:
            if isinstance(connection, Connection):
                return await _threads.run(self._defer, connection, key, message, queue, at)
            before, insert = self._statements()
            async with connection.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(before, {"key": key})
                _compare(key, message, *(await cursor.fetchone() or (None, None, None)))
                await cursor.execute(insert, (key, message, queue, at))
                (row,) = await cursor.fetchone() or (0,)
            job = await self._async_jobs.defer_job_async(job_for_send(row, queue, at), connection)
            return int(job.id or 0)
        except Exception as error:
            self._explain(error)
            raise

    def _statements(self) -> tuple[Any, Any]:
        schema = self.database.schema
        return _BEFORE.replace("{schema}", schema), _DEFER.replace("{schema}", schema)

    async def deferred(self, row: int) -> Deferred | None:
        """Return the send in a row of the outbox; None if it has ended."""

        def work(connection: Any) -> Deferred | None:
            found = self.database.execute(
                connection,
                "UPDATE {schema}.outbox o SET deferred = clock_timestamp() WHERE id = %s "  # noqa: S608  # constants
                "RETURNING key, message, EXISTS (" + _UNDER_WAY + ")",
                (row,),
            ).fetchone()
            return None if found is None else Deferred(*found)

        return await self._run(work)

    async def end_send(self, row: int) -> None:
        """Remove a send from the outbox."""
        await self._run(
            lambda connection: self.database.execute(
                connection, "DELETE FROM {schema}.outbox WHERE id = %s", (row,)
            )
        )

    # ── supervision ────────────────────────────────────────────────────────────────────────────────────

    async def supervise(self, lease: float) -> int:
        """Defer again the shares and sends whose jobs were lost; return their number.

        Args:
            lease: seconds after which work counts as lost, if it has no waiting job and isn't alive.

        Raises:
            ConfigurationError: if the database can't be used.
        """

        def work(connection: Any) -> int:
            self.database.execute(connection, _OVER)
            limits = {"lease": lease, "most": _AT_ONCE}
            shares = self.database.execute(connection, _MISSING_SHARES, limits).fetchall()
            sends = self.database.execute(connection, _MISSING_SENDS, limits).fetchall()
            missing = [
                *(job_for(Share(name, number, ""), queue, rank) for name, number, queue, rank in shares),
                *(job_for_send(row, queue) for row, queue in sends),
            ]
            for job in missing:
                # A job that retries itself may come back to the queue at the same moment.
                with suppress(exceptions.AlreadyEnqueued), connection.transaction():
                    self._jobs.defer_job(job, connection)
            return len(missing)

        return await self._run(work)


def explain(database: Database, error: BaseException) -> str:
    """Return a message that names the database, the cause and the remedy, without the password."""
    cause = error.__cause__ or error
    if type(cause).__name__ in ("UndefinedTable", "UndefinedFunction", "UndefinedObject"):
        return f"the tables of workers are missing in {database.name}; run `desk360 db init`"
    text = str(cause).strip().splitlines()
    why = f"({text[0] if text else 'no reason'}){fix_for(cause)}"
    return f"the work in {database.name} can't be used {why}"


def _compare(key: str, message: str, waiting: str | None, sent: str | None, secret: bytes | None) -> None:
    """Compare a message with the one that waits under its key, and with the one that was sent.

    Args:
        key: the idempotency key.
        message: the message, as JSON.
        waiting: the message in the outbox, as JSON.
        sent: the hashes of the fields of the last send under the key, as JSON.
        secret: the key of the hashes.

    Raises:
        KeyConflict: if one differs.
    """
    if waiting is not None:
        before, given = json.loads(waiting), json.loads(message)
        if differing := sorted(n for n in {*before, *given} if before.get(n) != given.get(n)):
            raise KeyConflict(key, differing)
    if sent is not None and secret is not None:
        # The worker's client compares its integration and its server, which are not known here.
        SendLog.compare(key, unpack(message), json.loads(sent), bytes(secret))


_MESSAGES: tuple[type[Any], ...] = get_args(Message)
# The field that names a value's class. A user's mapping lies one level deeper, so its keys can't clash.
_KIND = "kind"


# ── deferred messages as JSON; the values check their limits again when they are made ──────────────────────


def pack(message: Message) -> str:
    """Return a message as JSON.

    Args:
        message: a value that `client.send` takes. Files from a path stay paths: the worker reads them.

    Raises:
        ConfigurationError: if it is no message, or a file comes from a stream, which can't be stored.
    """
    if not isinstance(message, _MESSAGES):
        raise ConfigurationError(
            f"defer takes a message such as TextMessage(...), not {type(message).__name__}"
        )
    return json.dumps(_pack(message), ensure_ascii=False)


def _pack(value: Any) -> Any:
    if isinstance(value, Attachment):
        return pack_file(value)
    kind: type[Any] = value.__class__
    if attrs.has(kind):
        fields = {a.name: _pack(getattr(value, a.name)) for a in attrs.fields(kind)}
        return {_KIND: kind.__name__, **{name: v for name, v in fields.items() if v is not None}}
    if kind is tuple:
        return [_pack(item) for item in value]
    if isinstance(value, Mapping):
        return {_KIND: "", "items": dict(cast("Mapping[str, str]", value))}
    return value


def pack_file(file: Attachment) -> dict[str, Any]:
    """Return a file as JSON takes it: its path, or its bytes.

    Raises:
        ConfigurationError: if it comes from a stream.
    """
    if file.open is not None:
        raise ConfigurationError(
            f"the file {file.name!r} comes from a stream, which can't be stored; give its path, or its bytes"
        )
    given: dict[str, Any] = {_KIND: "Attachment", "name": file.name, "content_type": file.content_type}
    if file.path is not None:
        return {**given, "path": str(file.path)}
    return {**given, "content": base64.b64encode(file.content or b"").decode("ascii")}


def unpack(text: str) -> Message:
    """Return the message that `pack` stored.

    Raises:
        InvalidMessage: if a field breaks a limit now.
    """
    return cast("Message", _unpack(json.loads(text)))


def _unpack(value: Any) -> Any:
    if value.__class__ is list:
        return tuple(_unpack(item) for item in value)
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, Any]", value)
    kind = given.pop(_KIND)
    if not kind:
        return given["items"]
    if kind == "Attachment":
        return unpack_file(given)
    assert kind in desk360_async.__all__  # `pack` wrote it
    return getattr(desk360_async, kind)(**{name: _unpack(field) for name, field in given.items()})


def unpack_file(given: Mapping[str, Any]) -> Attachment:
    """Return the file that `pack_file` stored."""
    name, content_type = given["name"], given["content_type"]
    if "path" in given:
        return Attachment.from_path(Path(given["path"]), name=name, content_type=content_type)
    return Attachment.from_bytes(name, base64.b64decode(given["content"]), content_type=content_type)
