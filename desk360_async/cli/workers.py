"""Several machines: `desk360 worker`, `campaign run --shares`, and the tables of `desk360 db`."""

import os
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlsplit

import anyio
from attrs import frozen
from cyclopts import Parameter

from desk360_async import ConfigurationError
from desk360_async._arguments import is_loopback
from desk360_async._postgres import MIGRATIONS, Database, is_dsn

from ._options import DEFAULTS, Common
from ._session import confirm_number, standing_client
from ._terminal import Terminal, duration

if TYPE_CHECKING:
    from psycopg import Connection

    from desk360_async.campaigns import Counts, Hours, Progress


__all__ = [
    "SHARES",
    "Shares",
    "check",
    "hand_out",
    "init",
    "migrate",
    "worker",
]

_EVERY = 1.0  # seconds between two reads of the ledger
_LINE_EVERY = 10.0  # seconds between two progress lines


@Parameter(name="*", group="Several machines")
@frozen(kw_only=True)
class Shares:
    """The options that hand a campaign to workers (`desk360 worker`), so that this command sends no message.

    Attributes:
        shares: Let workers send, in this many runs side by side; needs a ledger in PostgreSQL.
        at: The earliest time of the first request, such as 2026-12-01T09:00+03:00 [default: now].
        follow: Show the counts until the campaign ends [default: return at once].
        queue: The workers' queue [default: desk360].
    """

    shares: int | None = None
    at: str | None = None
    follow: Annotated[bool, Parameter(name="--watch")] = False
    queue: str = "desk360"

    @property
    def are_asked_for(self) -> bool:
        """Whether workers run the campaign.

        Raises:
            ConfigurationError: if another option of the group is given without `--shares`.
        """
        if self.shares is None and (self.at is not None or self.follow):
            raise ConfigurationError("--at and --watch go with --shares")
        return self.shares is not None

    @property
    def begin(self) -> datetime | None:
        """The earliest time at which a share begins, an aware datetime; None for now.

        Raises:
            ConfigurationError: if `--at` is no ISO time, or has no offset.
        """
        if self.at is None:
            return None
        try:
            at = datetime.fromisoformat(self.at)
        except ValueError:
            at = None
        if at is None or at.utcoffset() is None:
            raise ConfigurationError(
                f"--at {self.at}: must be a time with its offset, such as 2026-12-01T09:00+03:00"
            )
        return at


SHARES = Shares()


def worker(
    *,
    ledger: str | None = None,
    egress: str = "default",
    queue: tuple[str, ...] = ("desk360",),
    concurrency: int = 4,
    drain: float = 30.0,
    lease: float = 30.0,
    opt_out: Path | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Run shares of campaigns, and sends that an app deferred, until Ctrl-C or SIGTERM.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        egress: A name for the public IP address of this machine: the same on all machines behind it.
        queue: A queue that the worker serves; may be repeated [default: desk360].
        concurrency: Most shares and single sends at the same time [default: 4].
        drain: Seconds in which requests on the wire may finish at the end [default: 30].
        lease: Seconds until a silent worker counts as dead; the same for all workers [default: 30].
        opt_out: A file with one phone number a line; these people get no message.
        common: Shared.
    """
    from desk360_async import PostgresLimiter
    from desk360_async.once import SendLog
    from desk360_async.workers import Workers

    dsn, terminal = _dsn(ledger), Terminal(json=common.json, quiet=common.quiet)
    limiter = PostgresLimiter(dsn, egress=egress)
    client = standing_client(common, terminal, limiter=limiter, send_log=SendLog(dsn))
    workers = Workers(dsn, client=lambda: client, opt_out=opt_out, lease=lease)

    async def work() -> None:
        terminal.note(f"A worker on {', '.join(queue)}. Ctrl-C lets the requests on the wire finish.")
        await workers.run(queues=queue, concurrency=concurrency, drain=drain)

    anyio.run(work)
    return 0


def hand_out(
    name: str,
    place: str,
    shares: Shares,
    *,
    concurrency: int,
    max_failures: float | None,
    hours: "Hours | None",
    attachment: Path | None,
    yes: bool,
    common: Common,
) -> int:
    """Hand a campaign to workers, and return the exit code; with `--watch`, show its counts until it ends.

    Raises:
        ConfigurationError: if the ledger is a file, or `--live` is missing for a server elsewhere.
    """
    from desk360_async.campaigns import Campaign
    from desk360_async.workers import Workers

    dsn, at, number = _dsn(place), shares.begin, shares.shares or 1
    terminal, campaign = Terminal(json=common.json, quiet=common.quiet), Campaign(name, ledger=dsn)

    file = None if attachment is None else attachment.absolute()

    async def work() -> int:
        counts = await campaign.status()
        host = urlsplit(await campaign.server()).hostname or ""
        if not (common.live or is_loopback(host)):
            raise ConfigurationError(f"the campaign {name} goes to {host}: add --live if you mean it")
        confirm_number(common, terminal, counts.pending, sure=yes)
        jobs = await Workers(dsn, client=_no_client).start(
            name,
            shares=number,
            at=at,
            queue=shares.queue,
            hours=hours,
            max_failures=max_failures,
            concurrency=concurrency,
            attachment=file,
        )
        if terminal.json:
            terminal.data({"name": name, "jobs": jobs, "pending": counts.pending})
        else:
            when = "" if at is None else f", from {at:%Y-%m-%d %H:%M %z} on"
            terminal.say(f"Campaign {name}: {counts.pending:,} pending, {len(jobs)} shares for workers{when}")
        return await _follow(campaign.watch(every=_EVERY), terminal) if shares.follow else 0

    return anyio.run(work)


async def _follow(progress: "AsyncIterator[Progress]", terminal: Terminal) -> int:
    from .campaign import code_of, show_counts

    counts: Counts | None = None
    told = anyio.current_time()
    async for seen in progress:
        counts = seen.counts
        if not terminal.quiet and anyio.current_time() - told >= _LINE_EVERY:
            told = anyio.current_time()
            left = "" if seen.eta is None else f" · {duration(seen.eta)} left"
            terminal.note(f"{counts.pending:,} pending · {counts.unknown:,} unknown{left}")
    assert counts is not None  # `watch` yields at least once
    show_counts(terminal, counts)
    return code_of(counts)


def _no_client() -> NoReturn:
    raise AssertionError("this process hands work out, and sends no message")


def _dsn(given: str | None) -> str:
    """Return the database's DSN: the option, else DESK360_LEDGER.

    Raises:
        ConfigurationError: if neither is set, or it is a file.
    """
    place = given or os.environ.get("DESK360_LEDGER", "").strip()
    if not is_dsn(place):
        raise ConfigurationError("no database: add --ledger postgresql://…, or set DESK360_LEDGER")
    return place


# ── the PostgreSQL schema ───────────────────────────────────────────────────────────────────────────────────


def init(*, ledger: str | None = None, schema: str = "desk360", common: Common = DEFAULTS) -> int:
    """Make the tables in an empty schema, or upgrade the tables of an earlier version.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        schema: The schema of the tables.
        common: Shared.
    """
    return migrate(ledger=ledger, schema=schema, common=common)


def migrate(*, ledger: str | None = None, schema: str = "desk360", common: Common = DEFAULTS) -> int:
    """Upgrade the tables to this version: all steps, or no step.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        schema: The schema of the tables.
        common: Shared.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    with _connected(ledger, schema) as (database, connection):
        database.refuse(database.facts(connection))
        steps = database.migrate(connection)
        _make_engine_tables(database, connection)
    if terminal.json:
        terminal.data(
            {"database": database.name, "schema": schema, "version": len(MIGRATIONS), "steps": steps}
        )
    else:
        terminal.note(f"{database.name}, schema {schema}: version {len(MIGRATIONS)}, {steps} steps made.")
    return 0


def _make_engine_tables(database: Database, connection: "Connection[Any]") -> None:
    """Make procrastinate's tables too, where the extra `[workers]` is installed."""
    if find_spec("procrastinate") is None:
        return
    from desk360_async.workers._work import Work

    Work(database).make_tables(connection)


def check(*, ledger: str | None = None, schema: str = "desk360", common: Common = DEFAULTS) -> int:
    """Check that the database keeps its commits and has the tables, without writing.

    A server without a replica and an asynchronous replica are warnings. A standby, a read-only database,
    fsync = off and a synchronous_commit that stays off are refused, with exit code 2.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        schema: The schema of the tables.
        common: Shared.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    with _connected(ledger, schema) as (database, connection):
        facts = database.facts(connection)
        database.refuse(facts)
        version = database.version(connection)
    warnings: list[str] = []
    if facts.async_replicas:
        warnings.append("a replica is asynchronous: its promotion may lose the last requests of the ledger")
    elif not facts.sync_replicas:
        warnings.append("the server has no replica: if its disk is lost, the ledger is lost")
    if version < len(MIGRATIONS):
        warnings.append(f"the schema has version {version} of {len(MIGRATIONS)}: run `desk360 db migrate`")
    if terminal.json:
        terminal.data({"database": database.name, "schema": schema, "version": version, "warnings": warnings})
        return 0
    terminal.note(f"{database.name}, schema {schema}: version {version}; its commits are durable.")
    for warning in warnings:
        terminal.note(f"Warning: {warning}.")
    return 0


@contextmanager
def _connected(ledger: str | None, schema: str) -> Generator[tuple[Database, "Connection[Any]"]]:
    """Open a connection to the database that the option or the environment names."""
    database = Database(_dsn(ledger), schema=schema)
    try:
        with database.bare_connection() as connection:
            yield database, connection
    finally:
        database.close()
