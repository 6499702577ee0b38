"""PostgreSQL's room: which server is refused and why, with and without a server."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from desk360_async import ConfigurationError, KeyConflict, PostgresLimiter, _postgres, _threads
from desk360_async._postgres import (
    MIGRATIONS,
    Database,
    Facts,
    Sockets,
    Tables,
    is_busy,
    is_failure,
    is_lost,
)
from desk360_async.campaigns import Campaign, LedgerError
from desk360_async.customers import Customers
from desk360_async.once import SendLog
from tests.postgres import Cluster, pgbouncer

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("psycopg_pool")

DSN = "postgresql://ada:secret@db.example/shop"
FINE = Facts(150000, True, False, False, "on", 0, 0)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        (FINE._replace(standby=True), "it is a standby; give the primary's address"),
        (FINE._replace(read_only=True), "it is read-only; give a user and a database that accept writes"),
        (FINE._replace(fsync=False), "its fsync is off, so a crash loses commits"),
        (FINE._replace(synchronous_commit="local"), "its synchronous_commit stays local"),
    ],
)
def test_a_server_that_would_lose_commits_is_refused_with_the_fix(facts: Facts, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^postgresql://.*can't be used: {problem}") as caught:
        Database(DSN).refuse(facts)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("facts", [FINE._replace(fsync=False), FINE._replace(synchronous_commit="off")])
def test_a_store_that_may_lose_commits_takes_any_server(facts: Facts) -> None:
    Database(DSN, durable=False).refuse(facts)


def test_reprs_show_the_place_without_the_password() -> None:
    tables = Tables(Database(DSN), name="the send log")
    shown = repr(tables), repr(tables.database)
    assert [text.split()[-1] for text in shown] == ["desk360>", "desk360>"]
    assert not any("secret" in text for text in shown)


@pytest.mark.parametrize("missing", ["psycopg", "psycopg_pool"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r'pip install "desk360-async\[postgres\]"'):
        is_failure(ValueError())


def test_a_dsn_that_cannot_be_read_is_refused_without_its_text() -> None:
    database = Database(f"{DSN}?nonsense=1")
    with pytest.raises(ConfigurationError, match="can't be read; check its form") as caught:
        database.connection().__enter__()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://ada:secret@db/shop", "mysql://ada:secret@db", "postgres:/db"]
)
@pytest.mark.parametrize("store", [SendLog, Customers, lambda url: Campaign("spring", ledger=url)])
def test_another_kind_of_url_is_no_file(store: Callable[[str], object], url: str) -> None:
    """As the name of a file its password would stand in errors."""
    with pytest.raises(
        ConfigurationError, match="can't be opened: give a file's path, or postgresql:"
    ) as caught:
        store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["host=db user=ada password=secret", " password = secret dbname=shop"])
@pytest.mark.parametrize(
    "store", [SendLog, Customers, PostgresLimiter, Database, lambda text: Campaign("spring", ledger=text)]
)
def test_a_dsn_of_keywords_is_no_file(store: Callable[[str], object], text: str) -> None:
    """A file of this name was made, and its password stood in errors."""
    with pytest.raises(ConfigurationError, match="write a database as postgresql://") as caught:
        store(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["C:/shop/sends.db", "./user=5/sends.db", "sales/user=5.db", "hosts.db"])
def test_a_path_is_a_file(path: str) -> None:
    assert not _postgres.is_dsn(path)


def test_a_database_that_was_never_used_is_not_ready_and_can_be_closed() -> None:
    database = Database(DSN)
    database.close()
    assert not database.ready


@pytest.mark.parametrize(
    ("error", "verdicts"),
    [
        (psycopg.errors.LockNotAvailable(), (True, False, True)),
        (psycopg.errors.DeadlockDetected(), (True, False, True)),
        (psycopg.errors.IdleInTransactionSessionTimeout(), (False, True, True)),
        (psycopg.OperationalError(), (False, True, True)),
        (psycopg.errors.UniqueViolation(), (False, False, True)),
        (OSError(), (False, False, False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_of_the_moment_of_the_connection_or_of_the_work(
    error: Exception, verdicts: tuple[bool, bool, bool]
) -> None:
    assert (is_busy(error), is_lost(error), is_failure(error)) == verdicts


def test_an_error_without_a_text_is_explained_all_the_same() -> None:
    tables = Tables(Database(DSN), name="the send log")
    assert tables.explain(psycopg.OperationalError()).endswith("can't be used (no reason)")


class Server:
    """Connections of a pool that die at their first statement, as after a restart."""

    def __init__(self, errors: list[Exception | None]) -> None:
        self.errors = errors
        self.returned = 0

    def getconn(self, timeout: float) -> Any:
        return SimpleNamespace(execute=self.execute)

    def execute(self, statement: str) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    def putconn(self, connection: Any) -> None:
        self.returned += 1


def pool_on(server: Server) -> Any:
    """Return a pool whose connections are the server's."""
    pool = object.__new__(_postgres._Pool)
    pool.connections = server  # type: ignore[assignment]  # as much of one as it uses
    return pool


def test_a_missing_right_is_reported_with_the_fix() -> None:
    tables = Tables(Database(DSN), name="the ledger")
    refusal = psycopg.errors.InsufficientPrivilege("permission denied for table request")
    reason = "(permission denied for table request); grant this right to the DSN's user"
    assert tables.explain(refusal).endswith(reason)


@pytest.mark.parametrize("dead", [0, 3, 8])
def test_dead_connections_are_replaced_until_one_answers(dead: int) -> None:
    server = Server([psycopg.OperationalError()] * dead)
    assert pool_on(server).take(1.0, first="BEGIN") is not None
    assert server.returned == dead


def test_a_refused_statement_gives_its_connection_back() -> None:
    server = Server([psycopg.errors.InsufficientPrivilege()])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        pool_on(server).take(1.0, first="BEGIN")
    assert server.returned == 1


# ── with a server ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reader(dsn: str) -> Iterator[str]:
    """Return the DSN of a user who may make no schema."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'other'")
        yield f"postgresql://reader:other@{dsn.partition('@')[2]}"
        connection.execute("DROP ROLE reader")


def test_a_user_who_may_make_no_tables_is_pointed_to_the_command(reader: str) -> None:
    database = Database(reader)
    with pytest.raises(ConfigurationError, match=r"may not make the tables .*`desk360 db init"):
        database.connection().__enter__()
    database.close()


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_tables_of_each_earlier_version_are_brought_up(
    dsn: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    database = Database(dsn)
    with database.bare_connection() as connection, monkeypatch.context() as older:
        older.setattr(_postgres, "MIGRATIONS", MIGRATIONS[:version])
        database.migrate(connection)
    with database.connection() as connection:
        assert database.version(connection) == len(MIGRATIONS)
        query = "SELECT indexdef FROM pg_indexes WHERE indexname = 'outbox_key'"
        assert connection.execute(query).fetchall() != []
    database.close()


def test_the_schema_of_a_later_version_is_refused(dsn: str) -> None:
    database = Database(dsn)
    with database.connection() as connection:
        assert database.version(connection) == len(MIGRATIONS)
        database.execute(connection, "INSERT INTO {schema}.migration VALUES (99)")
        with pytest.raises(ConfigurationError, match="has version 99, and this desk360_async has"):
            database.version(connection)
    database.close()


@pytest.mark.real
def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_postgres, "FIRST_CONNECT", 0.2)
    database = Database(f"postgresql://ada:secret@/shop?host={tmp_path}&connect_timeout=1")
    with pytest.raises(ConfigurationError, match="can't be reached") as caught:
        database.bare_connection().__enter__()
    assert "secret" not in str(caught.value)
    database.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("secret", "connection to server"),
        ("p@secret", "write @ as %40 and / as %2F"),  # libpq takes "secret@…" for the host
    ],
)
def test_a_failed_connection_names_its_reason(
    monkeypatch: pytest.MonkeyPatch, password: str, said: str
) -> None:
    monkeypatch.setattr(_postgres, "FIRST_CONNECT", 2.0)
    database = Database(f"postgresql://ada:{password}@127.0.0.1:1/shop?connect_timeout=1")
    with pytest.raises(ConfigurationError, match=said) as caught:
        database.bare_connection().__enter__()
    assert "secret" not in str(caught.value)
    database.close()


@pytest.mark.real
def test_connections_that_are_all_in_use_are_no_failed_connection(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_postgres, "_POOL", 1)
    monkeypatch.setattr(_postgres, "FIRST_CONNECT", 0.2)
    database = Database(f"{dsn}?application_name=one")
    with database._open().connection(10.0, check=False), pytest.raises(ConfigurationError) as caught:
        database.bare_connection().__enter__()
    assert str(caught.value).endswith("(couldn't get a connection after 0.20 sec)")
    database.close()


@pytest.mark.anyio
async def test_an_error_in_a_stores_own_work_is_raised_as_it_is(dsn: str) -> None:
    def work(_: Any) -> None:
        raise ZeroDivisionError

    tables = Tables(Database(dsn), name="the send log")
    for operation in (tables.read, tables.write):
        with pytest.raises(ZeroDivisionError):
            await operation(work)
    tables.close()


@pytest.mark.anyio
async def test_a_row_that_stays_locked_is_an_error_that_names_the_store(dsn: str) -> None:
    tables = Tables(Database(dsn), name="the send log", busy=0.0)

    def busy(_: Any) -> None:
        raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")

    with pytest.raises(ConfigurationError, match=r"the send log in .* \(canceling statement"):
        await tables.write(busy)
    tables.close()


@pytest.mark.anyio
async def test_work_that_met_a_lock_is_done_again_until_it_succeeds(dsn: str) -> None:
    tables = Tables(Database(dsn), name="the send log")
    tries: list[int] = []

    def work(session: Any) -> int:
        tries.append(len(tries))
        if len(tries) < 3:
            raise psycopg.errors.LockNotAvailable
        return int(session.execute("SELECT 7").fetchone()[0])

    assert (await tables.write(work), len(tries)) == (7, 3)
    tables.close()


@pytest.mark.anyio
async def test_a_refusal_of_our_own_is_raised_as_it_is(dsn: str) -> None:
    def work(_: Any) -> None:
        raise KeyConflict("order-1", ["text"])

    tables = Tables(Database(dsn), name="the send log")
    with pytest.raises(KeyConflict):
        await tables.write(work)
    tables.close()


@pytest.mark.anyio
async def test_a_limiter_whose_user_may_make_no_tables_is_refused(reader: str) -> None:
    limiter = PostgresLimiter(reader, limit=5)
    with pytest.raises(ConfigurationError, match="may not make the tables"):
        await limiter.acquire("interactive", 5.0)
    limiter.close()


@pytest.mark.anyio
async def test_a_limiter_whose_user_lacks_a_right_names_it_with_the_fix(dsn: str, reader: str) -> None:
    owner, limiter = Database(dsn), PostgresLimiter(reader, limit=5)
    with owner.connection():
        pass  # it makes the tables
    with pytest.raises(ConfigurationError, match=r"permission denied .*; grant this right"):
        await limiter.acquire("interactive", 5.0)
    limiter.close()
    owner.close()


def test_a_closed_connection_is_not_quiet(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        assert _postgres._is_quiet(connection)
    assert not _postgres._is_quiet(connection)


def test_a_statement_gets_a_connection_in_place_of_one_that_the_server_ended(dsn: str) -> None:
    database = Database(dsn)
    with database.connection() as connection:
        number = connection.info.backend_pid
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (number,))
    assert database.at_once("SELECT pg_backend_pid() <> ?", (number,)) == [(True,)]
    database.close()


def test_only_a_connection_without_a_pooler_prepares_statements(postgres: Cluster, dsn: str) -> None:
    query = "SELECT count(*) FROM pg_prepared_statements"
    with pgbouncer(postgres) as pooled:
        for place, expected in ((dsn, 1), (pooled, 0)):
            database = Database(place)
            assert database.at_once(query, (), prepared=True) == [(expected,)]
            database.close()


def test_each_connection_without_a_pooler_prepares_statements(dsn: str) -> None:
    database = Database(dsn)
    query = "SELECT count(*) FROM pg_prepared_statements"
    with database.connection():  # so that the statement takes another connection than the checks
        assert database.at_once(query, (), prepared=True) == [(1,)]
    database.close()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE desk360.egress ALTER version TYPE numeric",  # as a migration may
        "DEALLOCATE ALL",  # as if another server process answered
        "DEALLOCATE ALL; PREPARE _pg3_1 AS SELECT 1",
    ],
)
def test_a_prepared_statement_that_the_server_refuses_runs_without_its_plan(dsn: str, change: str) -> None:
    database = Database(dsn)
    query = "SELECT version FROM {schema}.egress"
    assert database.at_once(query, (), prepared=True) == []
    with database.connection() as connection:
        database.execute(connection, change)
    for text in (query, f"{query} LIMIT 1"):
        assert database.at_once(text, (), prepared=True) == []
    used: Any = connection
    assert used.direct is False
    database.close()


# ── a server that doesn't answer ────────────────────────────────────────────────────────────────────────────


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("way", ["answer", "at_once", "transaction"])
async def test_a_cut_ends_a_statement_that_waits(dsn: str, way: str) -> None:
    """No cancellation ends it: with a frozen server it would wait for hours."""
    database = Database(dsn)
    slow = "SELECT 1 FROM pg_sleep(60)"
    work: dict[str, Callable[[], Any]] = {
        "answer": lambda: database.answer(slow, ()),
        "at_once": lambda: _threads.run(database.at_once, slow, ()),
        "transaction": lambda: _threads.run(_sleep_in, database),
    }
    database.at_once("SELECT 1", ())
    raised: list[Exception] = []

    async def wait() -> None:
        try:
            await work[way]()
        except psycopg.OperationalError as error:
            raised.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.3)
            database.cut()
    assert [is_lost(error) for error in raised] == [True]
    assert database.at_once("SELECT 1", ()) == [(1,)]
    database.close()


def _sleep_in(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT pg_sleep(60)")


@pytest.mark.real
def test_a_cut_without_an_open_connection_does_nothing(dsn: str) -> None:
    database = Database(dsn)
    database.cut()
    with psycopg.connect(dsn) as connection:
        sockets = Sockets()
        sockets.add(connection)
    sockets.cut()
    database.close()


# ── statements without a thread ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def warm(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database with an idle connection; from now on a thread fails the test."""
    database = Database(dsn)
    with database.connection() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS desk360.note (text text)")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread was used")

    monkeypatch.setattr(_threads, "run", refuse)
    yield database
    database.close()


@pytest.mark.real
@pytest.mark.anyio
async def test_a_prepared_statement_needs_no_thread(warm: Database) -> None:
    query = "SELECT ? || '%', CAST(? AS bigint) + 1, CAST(? AS float8), decode('00ff', 'hex'), NULL"
    for _ in range(2):
        assert await warm.answer(query, ("çay", 2**62, 0.1)) == [("çay%", 2**62 + 1, 0.1, b"\0\xff", None)]
    assert await warm.answer("SELECT CAST(? AS text)", (None,)) == [(None,)]


@pytest.mark.real
@pytest.mark.anyio
async def test_a_statement_larger_than_the_sockets_buffers_arrives_whole(warm: Database) -> None:
    assert await warm.answer("SELECT length(?)", ("x" * 20_000_000,)) == [(20_000_000,)]


@pytest.mark.real
@pytest.mark.anyio
async def test_statements_at_the_same_time_get_their_own_answers(dsn: str) -> None:
    database = Database(dsn)
    answers: dict[int, Any] = {}

    async def ask(number: int) -> None:
        answers[number] = await database.answer("SELECT CAST(? AS int)", (number,))

    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, number)
        assert answers == {number: [(number,)] for number in range(30)}
    database.close()


SLOW = "INSERT INTO {schema}.note SELECT ? FROM pg_sleep(0.2) RETURNING text"


@pytest.mark.real
@pytest.mark.anyio
async def test_a_cancelled_scope_waits_for_the_answer(warm: Database) -> None:
    with anyio.move_on_after(0.05):
        await warm.answer(SLOW, ("scope",))
    query = "SELECT count(*) FROM {schema}.note WHERE text = ?"
    assert (await warm.answer(query, ("scope",)))[0][0] >= 1


@pytest.mark.real
def test_a_cancelled_task_waits_for_the_answer_and_keeps_the_connection(warm: Database) -> None:
    async def main() -> None:
        before = await warm.answer("SELECT pg_backend_pid()", ())
        task = asyncio.create_task(warm.answer(SLOW, ("task",)))
        for _ in range(2):
            await asyncio.sleep(0.05)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await warm.answer("SELECT count(*) FROM {schema}.note WHERE text = 'task'", ()) == [(1,)]
        assert await warm.answer("SELECT pg_backend_pid()", ()) == before

    asyncio.run(main())


@pytest.mark.real
def test_a_task_cancelled_while_its_statement_is_prepared_leaves_the_statement_prepared(
    warm: Database,
) -> None:
    async def main() -> None:
        task = asyncio.create_task(warm.answer("SELECT CAST(? AS int)", (1,)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await warm.answer("SELECT CAST(? AS int)", (2,)) == [(2,)]

    asyncio.run(main())


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_texts_are_utf_8_whatever_the_dsn_asks_for(dsn: str, encoding: str) -> None:
    database = Database(f"{dsn}?client_encoding={encoding}")
    for _ in ("in a thread", "on the loop"):
        assert await database.answer("SELECT CAST(? AS text)", ("şu 日本",)) == [("şu 日本",)]
    database.close()


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="the names of the socket's options are Linux's")
@pytest.mark.parametrize(("given", "seconds"), [("", 60), ("?tcp_user_timeout=5000", 5)])
def test_a_connection_that_nobody_acknowledges_ends_within_a_minute(
    dsn: str, given: str, seconds: int
) -> None:
    database = Database(dsn + given)
    with database.connection() as connection, socket.socket(fileno=os.dup(connection.fileno())) as twin:
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        found = [twin.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    assert found == [30, 10, 3, seconds * 1000]
    database.close()


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("prepared", [False, True])
async def test_a_cancelled_operation_gives_up_its_own_statement(
    dsn: str, monkeypatch: pytest.MonkeyPatch, prepared: bool
) -> None:
    """A load that waited for a frozen server ended by no Ctrl-C and no `asyncio.timeout`."""
    monkeypatch.setattr("desk360_async._threads.PATIENCE", 0.2)
    tables = Tables(Database(dsn), name="the ledger")

    async def sleep(seconds: float) -> list[Any]:
        return await tables.at_once("SELECT pg_sleep(?)", seconds, prepared=prepared)

    await asyncio.gather(sleep(0.0), sleep(0.0))  # two connections are idle now
    other = asyncio.create_task(sleep(1.5))
    began = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(sleep(20.0), 0.3)
    assert time.monotonic() - began < 10.0
    assert len(await other) == 1
    tables.close()


@pytest.mark.real
@pytest.mark.anyio
async def test_a_text_that_the_databases_encoding_lacks_is_refused_with_the_fix(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute(
            "CREATE DATABASE latin ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    tables = Tables(Database(dsn.replace("/postgres", "/latin")), name="the ledger", error=LedgerError)
    with pytest.raises(LedgerError, match=r"LATIN1\W+; use a database with the encoding UTF8"):
        await tables.at_once("SELECT CAST(? AS text)", "şu 日本")
    tables.close()


@pytest.mark.real
@pytest.mark.anyio
async def test_the_first_statement_on_a_left_pool_uses_a_thread(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(dsn).at_once("SELECT 1", (), prepared=True)  # dropped without `close`
    database = Database(dsn)
    monkeypatch.setattr(_postgres, "_answer", partial(_raise, AssertionError()))
    assert await database.answer("SELECT 2", ()) == [(2,)]
    database.close()


@pytest.mark.real
def test_a_cancelled_task_stays_cancelled_if_its_connection_is_lost(warm: Database) -> None:
    async def main() -> None:
        task = asyncio.create_task(warm.answer("SELECT pg_terminate_backend(pg_backend_pid())", ()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.real
@pytest.mark.anyio
async def test_a_connection_that_the_server_ends_is_lost_and_replaced(warm: Database, dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        await warm.answer("SELECT pg_terminate_backend(pg_backend_pid())", ())
    assert is_lost(caught.value)
    assert warm.at_once("SELECT 1", ()) == [(1,)]


@pytest.mark.real
@pytest.mark.anyio
async def test_a_locked_row_is_busy_without_a_thread_too(warm: Database, dsn: str) -> None:
    change = "WITH {bounds} UPDATE {schema}.customer_revision SET number = number FROM bounds RETURNING one"
    with psycopg.connect(dsn) as other:
        other.execute("SELECT number FROM desk360.customer_revision FOR UPDATE")
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            await warm.answer(change, ())
    assert is_busy(caught.value)
    assert await warm.answer(change, ()) == [(True,)]


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "direct"),
    [
        ("SELECT 1", True),
        ("DEALLOCATE ALL", True),  # as psycopg does after a rollback
        ("ALTER TABLE desk360.egress ALTER version TYPE numeric", False),  # as a migration may
    ],
)
async def test_a_statement_whose_plan_is_gone_is_answered(
    dsn: str, change: str, direct: bool, anyio_backend: object
) -> None:
    database = Database(dsn)
    query = "SELECT version FROM {schema}.egress"
    with database.connection() as connection:
        database.execute(connection, "ALTER TABLE {schema}.egress ALTER version TYPE bigint")
    assert await database.answer(query, ()) == []
    with database.connection() as connection:
        database.execute(connection, change)
    for text in (query, f"{query} LIMIT 1"):
        assert await database.answer(text, ()) == []
    used: Any = connection
    assert used.direct is direct
    database.close()


@pytest.mark.real
@pytest.mark.anyio
async def test_behind_a_pooler_no_statement_is_prepared_without_a_thread(postgres: Cluster, dsn: str) -> None:
    with pgbouncer(postgres) as pooled:
        database = Database(pooled)
        for _ in range(3):
            assert await database.answer("SELECT count(*) FROM pg_prepared_statements", ()) == [(0,)]
        database.close()


@pytest.mark.parametrize(
    ("available", "direct", "given_back"), [(0, True, 0), (1, None, 1), (1, False, 1), (1, True, 1)]
)
def test_only_an_idle_quiet_connection_without_a_pooler_is_taken(
    available: int, direct: bool | None, given_back: int
) -> None:
    server: Any = Server([])
    server.get_stats = lambda: {"pool_available": available}
    server.getconn = lambda timeout: SimpleNamespace(direct=direct)  # it has no socket: it isn't quiet
    assert pool_on(server).idle() is None
    assert server.returned == given_back


def test_no_connection_is_taken_if_another_thread_was_faster() -> None:
    server: Any = Server([])
    server.get_stats = lambda: {"pool_available": 1}
    server.getconn = partial(_raise, psycopg.OperationalError())
    assert pool_on(server).idle() is None


def _raise(error: Exception, *_: object) -> None:
    raise error
