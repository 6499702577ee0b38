"""PostgreSQL for several machines (extra `[postgres]`): connections, transactions, checks, migrations.

The limiter, the ledger, the send log, the inbox and the customers keep their rows in one schema. Their SQL
belongs to them; this module is the one that imports psycopg. It is psycopg's blocking form: its users call
it in a thread of `_threads.run`, so that it works on asyncio and trio. It needs no session: no `SET`, no
advisory lock and no prepared statement outlives a transaction, so PgBouncer may stand in between.
"""

import os
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import anyio

from desk360_async import _threads
from desk360_async._errors import ConfigurationError, Desk360Error
from desk360_async._redaction import mask_dsn

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

__all__ = [
    "MIGRATIONS",
    "Database",
    "Facts",
    "Session",
    "Tables",
    "connected",
    "is_busy",
    "is_dsn",
    "is_failure",
    "is_lost",
]

P = ParamSpec("P")
T = TypeVar("T")

# A frozen worker holds up no other one for longer than this, in milliseconds.
LOCK_TIMEOUT = 1500
FIRST_CONNECT = 10.0  # seconds; a TLS handshake over the internet takes one
CONNECT = 2.0
_POOL = 4  # connections per process and DSN
_MIGRATION_LOCK = 0x44333630  # "D360"
_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds between two tries of one transaction
_PARAMETER = re.compile(r"\?|%")

MIGRATIONS = (
    # Each token rewrites its egress's row, so the pages keep room for that (HOT updates).
    """
    CREATE TABLE {schema}.egress (
        name text PRIMARY KEY,
        state text NOT NULL,
        version bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 20)
    """,
    # The send log. Its columns are those of its SQLite file (`once._store`).
    """
    CREATE TABLE {schema}.secret (value bytea NOT NULL, one boolean PRIMARY KEY DEFAULT true CHECK (one));
    CREATE TABLE {schema}.send (
        key text PRIMARY KEY,
        state text NOT NULL,
        attempt text NOT NULL,
        owner text NOT NULL,
        until float8 NOT NULL,
        since float8 NOT NULL,
        attempts integer NOT NULL,
        fields text NOT NULL,
        phone text,
        reply text,
        seen text,
        resolved text
    );
    CREATE INDEX send_ended ON {schema}.send (since) WHERE state IN ('accepted', 'not_sent');
    CREATE INDEX send_unknown ON {schema}.send (key) WHERE state = 'unknown';
    CREATE INDEX send_phone ON {schema}.send (phone) WHERE phone IS NOT NULL AND state = 'unknown';
    CREATE TABLE {schema}.message (
        id text PRIMARY KEY,
        key text NOT NULL REFERENCES {schema}.send (key) ON DELETE CASCADE
    );
    CREATE INDEX message_key ON {schema}.message (key);
    """,
)
"""The steps from an empty schema to this version's; a released step never changes."""


class Facts(NamedTuple):
    """The server's state, as far as it decides whether its commits last."""

    version: int
    fsync: bool
    standby: bool
    read_only: bool
    synchronous_commit: str
    sync_replicas: int
    async_replicas: int


def is_dsn(text: object) -> bool:
    """Return whether text names a PostgreSQL database rather than a file."""
    return isinstance(text, str) and text.startswith(("postgresql://", "postgres://"))


def _psycopg() -> Any:
    try:
        import_module("psycopg_pool")
        return import_module("psycopg")
    except ImportError as error:
        message = 'PostgreSQL needs the extra [postgres]: pip install "desk360-async[postgres]"'
        raise ConfigurationError(message) from error


def is_busy(error: BaseException) -> bool:
    """Return whether another transaction was in the way, so that the same work may succeed later."""
    errors = _psycopg().errors
    return isinstance(error, errors.LockNotAvailable | errors.SerializationFailure | errors.DeadlockDetected)


def is_lost(error: BaseException) -> bool:
    """Return whether the connection or the server went away, which passes by itself."""
    psycopg = _psycopg()
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not is_busy(error)


def is_failure(error: BaseException) -> bool:
    """Return whether PostgreSQL or its pool raised the error."""
    return isinstance(error, _psycopg().Error)


class Database:
    """A PostgreSQL database, with one pool of connections for a process; opened at its first use.

    Args:
        dsn: `postgresql://user:password@host/database`; the password appears in no message or `repr`.
        schema: the schema of the tables.
        durable: refuse a server whose commits don't survive a crash.

    Raises:
        ConfigurationError: the DSN can't be read, the schema is no plain name, or the extra is missing.
    """

    def __init__(self, dsn: str, *, schema: str = "desk360", durable: bool = True) -> None:
        if not is_dsn(dsn):
            raise ConfigurationError(f"{mask_dsn(str(dsn))!r} is no DSN; it begins with postgresql://")
        if not schema.isidentifier() or not schema.isascii():
            raise ConfigurationError(f"schema is {schema!r}; it must be a plain name such as desk360")
        self.name = mask_dsn(dsn)
        self.schema = schema
        self._dsn = dsn
        self._durable = durable
        self._mutex = _threads.Mutex()
        self._process = 0
        self._pool: ConnectionPool[Connection[Any]] | None = None
        self.ready = False

    def __repr__(self) -> str:
        return f"<Database {self.name} {self.schema}>"

    @contextmanager
    def connection(self) -> "Generator[Connection[Any]]":
        """Yield a connection that commits each statement; for a worker thread.

        Raises:
            ConfigurationError: the server refuses us, or its commits wouldn't last.
            psycopg.Error: the statement failed, or the connection is lost.
        """
        pool = self._open()
        if not self.ready:
            with pool.connection(timeout=FIRST_CONNECT) as connection:
                self._prepare(connection)
        with pool.connection(timeout=CONNECT) as connection:
            yield connection

    @contextmanager
    def transaction(self) -> "Generator[Connection[Any]]":
        """Yield a connection in a transaction that commits durably, or not at all; for a worker thread."""
        with self.connection() as connection, connection.transaction():
            _bound(connection)
            yield connection

    def _open(self) -> "ConnectionPool[Connection[Any]]":
        psycopg = _psycopg()
        pools = import_module("psycopg_pool")
        with self._mutex:
            if self._pool is None or self._process != os.getpid():
                try:
                    psycopg.conninfo.conninfo_to_dict(self._dsn)
                except psycopg.Error:
                    # Without the cause: its text may quote the password.
                    raise ConfigurationError(f"the DSN {self.name} can't be read; check its form") from None
                self._process, self.ready = os.getpid(), False
                self._pool = pools.ConnectionPool(
                    self._dsn,
                    min_size=0,
                    max_size=_POOL,
                    open=True,
                    # The pool's pauses between two tries double. After an outage the next use begins anew.
                    reconnect_timeout=CONNECT / 2,
                    kwargs={"autocommit": True, "prepare_threshold": None},
                    check=pools.ConnectionPool.check_connection if self._durable else None,
                )
            return self._pool

    def _prepare(self, connection: "Connection[Any]") -> None:
        facts = self.facts(connection)
        self.refuse(facts)
        if self.version(connection) < len(MIGRATIONS):
            self.migrate(connection)
        self.ready = True

    def facts(self, connection: "Connection[Any]") -> Facts:
        """Return the server's state; `synchronous_commit` as it is for our own transactions."""
        with connection.transaction():
            _bound(connection)
            row = connection.execute(
                "SELECT current_setting('server_version_num')::int, current_setting('fsync') = 'on',"
                " pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',"
                " current_setting('synchronous_commit'),"
                " (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))::int,"
                " (SELECT count(*) FROM pg_stat_replication WHERE sync_state NOT IN ('sync', 'quorum'))::int"
            ).fetchone()
        assert row is not None
        return Facts(*row)

    def refuse(self, facts: Facts) -> None:
        """Refuse a server that can't be written, or whose commits don't last.

        Raises:
            ConfigurationError: it is a standby or read only; and where `durable`, if fsync or
                synchronous_commit is off.
        """
        problem = None
        if facts.standby:
            problem = "it is a standby; give the primary's address"
        elif facts.read_only:
            problem = "it is read only; give a user and a database that may be written"
        elif self._durable and not facts.fsync:
            problem = "its fsync is off, so a crash loses commits; set fsync = on"
        elif self._durable and facts.synchronous_commit in ("off", "local"):
            problem = f"its synchronous_commit stays {facts.synchronous_commit}; let this user set it to on"
        if problem is not None:
            raise ConfigurationError(f"{self.name} can't be used: {problem}")

    def version(self, connection: "Connection[Any]") -> int:
        """Return the number of migrations that the schema has had.

        Raises:
            ConfigurationError: a later version of this package made it.
        """
        row = connection.execute("SELECT to_regclass(%s)", (f"{self.schema}.migration",)).fetchone()
        if row is None or row[0] is None:
            return 0
        found = self.execute(
            connection, "SELECT coalesce(max(version), 0) FROM {schema}.migration"
        ).fetchone()
        version = int(found[0])
        if version > len(MIGRATIONS):
            message = (
                f"the schema {self.schema} of {self.name} has version {version}, and this desk360_async has "
                f"{len(MIGRATIONS)}; upgrade it"
            )
            raise ConfigurationError(message)
        return version

    def migrate(self, connection: "Connection[Any]") -> int:
        """Bring the schema to this version, all steps or none; return the number of steps.

        Raises:
            ConfigurationError: this user may not make tables there.
        """
        psycopg = _psycopg()
        try:
            with connection.transaction():
                _bound(connection)
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
                if not self.version(connection):
                    self.execute(connection, "CREATE SCHEMA IF NOT EXISTS {schema}")
                    self.execute(
                        connection,
                        "CREATE TABLE IF NOT EXISTS {schema}.migration (version int PRIMARY KEY,"
                        " at timestamptz NOT NULL DEFAULT now())",
                    )
                before = self.version(connection)
                for number, step in enumerate(MIGRATIONS[before:], before + 1):
                    self.execute(connection, step)
                    self.execute(connection, f"INSERT INTO {{schema}}.migration VALUES ({number})")  # noqa: S608 - a number of our own
        except psycopg.errors.InsufficientPrivilege as error:
            message = (
                f"this user may not make the tables of {self.name} ({str(error).strip()}); "
                "let a user who may run `desk360 db init --ledger DSN`, and grant this one the schema"
            )
            raise ConfigurationError(message) from error
        return len(MIGRATIONS) - before

    def execute(self, connection: "Connection[Any]", text: str, parameters: Any = None) -> Any:
        """Run a statement whose `{schema}` is the schema's name, which is a plain word."""
        statement: Any = text.replace("{schema}", self.schema)
        return connection.execute(statement, parameters)

    def close(self) -> None:
        """Close the pool; the next use opens it again."""
        with self._mutex:
            pool, self._pool, self.ready = self._pool, None, False
        if pool is not None and self._process == os.getpid():
            with suppress(Exception):
                pool.close()


class Session:
    """A transaction's connection with the methods of `sqlite3.Connection`, so that a store has one SQL.

    `?` marks a parameter, and a table needs no schema.

    Args:
        connection: the connection, in a transaction whose `search_path` is the schema.
    """

    def __init__(self, connection: "Connection[Any]") -> None:
        self.connection = connection

    def execute(self, text: str, parameters: Sequence[object] = ()) -> Any:
        """Run a statement, and return its cursor."""
        return self.connection.execute(_translate(text), tuple(parameters))

    def executemany(self, text: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row."""
        self.connection.cursor().executemany(_translate(text), rows)


def _translate(text: str) -> Any:
    return _PARAMETER.sub(lambda found: "%s" if found[0] == "?" else "%%", text)


class Tables:
    """A store's tables: each operation is one transaction in a worker thread, as with `SQLiteFile`.

    Args:
        database: the database.
        name: the store's name in messages, such as "the send log".
        error: the class of the errors that the operations raise.
        busy: seconds that an operation waits for another transaction's lock.
    """

    def __init__(
        self,
        database: Database,
        *,
        name: str,
        error: type[Desk360Error] = ConfigurationError,
        busy: float = 10.0,
    ) -> None:
        self.database = database
        self.name = name
        self._error = error
        self._busy = busy

    def __repr__(self) -> str:
        return f"<Tables {self.database.name} {self.database.schema}>"

    async def read(self, work: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` with a session, on one snapshot of the database.

        Raises:
            Desk360Error: of the class `error`; the database failed, or the rows stayed locked.
        """

        def once() -> T:
            with self.database.transaction() as connection:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                return work(self._session(connection), *args, **kwargs)

        return await self._patiently(once)

    async def write(self, work: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` with a session, in one transaction that commits.

        Raises:
            Desk360Error: of the class `error`; the database failed, or the rows stayed locked.
        """

        def once() -> T:
            with self.database.transaction() as connection:
                return work(self._session(connection), *args, **kwargs)

        return await self._patiently(once)

    async def write_unsynced(
        self, work: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` as `write` does, without a sync: a crash may forget it until the next `write`.

        Raises:
            Desk360Error: of the class `error`; the database failed, or the rows stayed locked.
        """

        def once() -> T:
            with self.database.transaction() as connection:
                connection.execute("SELECT set_config('synchronous_commit', 'off', true)")
                return work(self._session(connection), *args, **kwargs)

        return await self._patiently(once)

    def _session(self, connection: "Connection[Any]") -> Session:
        connection.execute("SELECT set_config('search_path', %s, true)", (self.database.schema,))
        return Session(connection)

    async def _patiently(self, once: Callable[[], T]) -> T:
        deadline, pause = anyio.current_time() + self._busy, _PAUSE
        while True:
            try:
                return await _threads.run(once)
            except Desk360Error:
                raise
            except Exception as error:
                if not is_failure(error):
                    raise
                if not is_busy(error) or anyio.current_time() >= deadline:
                    raise self._error(self.explain(error)) from error
            await anyio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def explain(self, error: Exception) -> str:
        """Return a message that names the database and the cause, without the password."""
        cause = str(error).strip().splitlines()
        return f"{self.name} in {self.database.name} can't be used ({cause[0] if cause else 'no reason'})"

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self.database.close()


def _bound(connection: "Connection[Any]") -> None:
    """Bound the transaction's waits, and make its commit wait for the disk; all of it ends with it."""
    connection.execute(
        "SELECT set_config('lock_timeout', %s, true),"
        " set_config('idle_in_transaction_session_timeout', %s, true),"
        " CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply', 'remote_write')"
        " THEN '' ELSE set_config('synchronous_commit', 'on', true) END",
        (str(LOCK_TIMEOUT), str(LOCK_TIMEOUT)),
    )


@contextmanager
def connected(database: Database) -> "Generator[Connection[Any]]":
    """Yield a connection before any check or migration, for `desk360 db`.

    Raises:
        ConfigurationError: the server can't be reached, or refuses the user.
    """
    try:
        with database._open().connection(timeout=FIRST_CONNECT) as connection:
            yield connection
    except _psycopg().OperationalError as error:
        raise ConfigurationError(f"{database.name} can't be reached ({str(error).strip()})") from error
