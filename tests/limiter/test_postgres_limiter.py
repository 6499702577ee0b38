"""One limit for several hosts, in PostgreSQL: real databases, real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async import ConfigurationError, PostgresLimiter, RateLimitWaitTooLong
from desk360_async._bucket import StoreBusy
from desk360_async._postgres import MIGRATIONS, Database
from desk360_async._redaction import mask_dsn
from tests.postgres import PASSWORD, Cluster, cluster

pytest.importorskip("psycopg_pool", reason="needs the extra [postgres]")
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """Return a cluster whose fsync is off, as fits a limiter that isn't durable."""
    with cluster() as made:
        yield made


@pytest.fixture
def make(server: Cluster, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make limiters of one egress."""
    made: list[PostgresLimiter] = []

    def make(limit: int = 5, **options: Any) -> PostgresLimiter:
        options.setdefault("egress", request.node.name)
        made.append(PostgresLimiter(server.dsn, limit=limit, **options))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


@pytest.mark.anyio
async def test_two_limiters_of_one_egress_share_its_tokens(make: Any) -> None:
    """A third of another egress has its own."""
    one, two, other = make(), make(), make(egress="another")
    for limiter in (one, two, one, two, one):
        (await limiter.acquire("interactive", 5.0)).lost()
    with pytest.raises(RateLimitWaitTooLong):
        await two.acquire("interactive", 1.0)
    (await other.acquire("interactive", 5.0)).unused()


@pytest.mark.anyio
async def test_a_pause_and_a_limit_are_learned_by_all(make: Any) -> None:
    """And an unused token is free again."""
    one, two = make(10), make(10)
    (await one.acquire("interactive", 5.0)).unused()
    for _ in range(2):
        (await one.acquire("interactive", 5.0)).done(200, {"x-ratelimit-limit": "4"})
    (await one.acquire("interactive", 5.0)).done(429, {"retry-after": "50"})
    one.close()
    with pytest.raises(RateLimitWaitTooLong) as caught:
        await two.acquire("interactive", 5.0)
    assert (caught.value.eta > 45, two.snapshot().limit) == (True, 4)


@pytest.mark.anyio
async def test_bulk_stands_back_for_an_interactive_request_of_another_host(make: Any) -> None:
    """The note lies in the row."""
    one, two = make(2, period=3.0, attempt_timeout=1.0), make(2, period=3.0)
    for _ in range(2):
        (await one.acquire("interactive", 5.0)).done(200, {})
    order: list[str] = []

    async def wait(limiter: PostgresLimiter, lane: Any) -> None:
        (await limiter.acquire(lane)).done(200, {})
        order.append(lane)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, two, "bulk")
        await anyio.sleep(0.1)
        tasks.start_soon(wait, one, "interactive")
    assert order == ["interactive", "bulk"]


def test_the_password_shows_nowhere(server: Cluster) -> None:
    """In no repr, and in no error of a server that refuses us or isn't there."""
    limiter = PostgresLimiter(server.dsn, egress="x")
    wrong = PostgresLimiter(server.dsn.replace("tester:", "stranger:"))
    with pytest.raises(ConfigurationError) as caught:
        anyio.run(wrong.acquire)
    shown = repr(limiter) + repr(limiter._store.name) + str(caught.value) + repr(caught.value)  # type: ignore[attr-defined]  # the database's store
    assert PASSWORD not in shown
    assert "127.0.0.1" in shown
    limiter.close(), wrong.close()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://a:b@c/d", "postgresql://a:[password]@c/d"),
        ("postgresql://a:b#c?d@h/d", "postgresql://a:[password]@h/d"),
        ("see postgres://a:b/c@d@h/d, please", "see postgres://a:[password]@h/d, please"),
        ("postgresql://a:my word@h/d", "postgresql://a:[password]@h/d"),
        ("postgresql://a@h:5432/d", "postgresql://a@h:5432/d"),
        ("see //a:p@ss:w@host:5432/d?x=1.", "see //a:[password]@host:5432/d?x=1."),
        ("host=h password='a b' user=u", "host=h password=[password] user=u"),
        ("postgresql://h/d?password=abc&x=1", "postgresql://h/d?password=[password]&x=1"),
        ("https://example.com/a@b", "https://example.com/a@b"),
    ],
)
def test_a_dsns_password_is_masked(text: str, masked: str) -> None:
    """Whichever way libpq takes it."""
    assert mask_dsn(text) == masked


@pytest.mark.parametrize(
    ("dsn", "options", "match"),
    [
        ("limit.db", {}, "begins with postgresql://"),
        ("postgresql://h/d", {"schema": "a; drop"}, "plain name"),
        ("postgresql://h/d", {"egress": ""}, "egress is ''"),
        ("postgresql://h/d", {"limit": 0}, "limit must be a whole number"),
    ],
)
def test_arguments_are_checked_before_a_connection(dsn: str, options: Any, match: str) -> None:
    """The message names the argument."""
    with pytest.raises(ConfigurationError, match=match):
        PostgresLimiter(dsn, **options)


def test_a_server_that_forgets_commits_is_refused_where_durable(server: Cluster) -> None:
    """Its fsync is off."""
    database = Database(server.dsn, durable=True)
    with pytest.raises(ConfigurationError, match="fsync is off"), database.connection():
        pass
    database.close()


def test_migrations_run_once(server: Cluster) -> None:
    """Whichever process is first; a schema of a later version is refused."""
    database = Database(server.dsn, schema="once", durable=False)
    with database.connection() as connection:
        assert database.version(connection) == len(MIGRATIONS)
        assert database.migrate(connection) == 0
        database.execute(connection, "INSERT INTO {schema}.migration VALUES (99)")
        with pytest.raises(ConfigurationError, match="version 99"):
            database.version(connection)
    database.close()


@pytest.mark.anyio
async def test_a_frozen_holder_of_the_row_stops_no_other_one_for_long(make: Any, server: Cluster) -> None:
    """A foreign transaction that locks the row makes a step busy after 1.5 s, and max_wait is kept."""
    import psycopg

    limiter = make()
    (await limiter.acquire("interactive", 5.0)).unused()
    limiter.close()
    with psycopg.connect(server.dsn) as holder:
        holder.execute("SELECT * FROM desk360.egress FOR UPDATE")
        start = time.monotonic()
        with pytest.raises(RateLimitWaitTooLong):
            await limiter.acquire("interactive", 0.5)
        assert time.monotonic() - start < 10
        holder.rollback()
    (await limiter.acquire("interactive", 5.0)).unused()


def test_a_step_that_is_always_late_is_busy(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version has changed each time."""
    limiter = make()
    store = limiter._store
    monkeypatch.setattr(store, "_try", lambda *_: (False, None))
    with pytest.raises(StoreBusy, match="keep"):
        store.step(limiter._model, lambda *_: None)


def test_a_database_that_restarts_is_left_and_found_again() -> None:
    """The process goes on with its share, and returns by itself."""

    async def main(server: Cluster) -> None:
        limiter = PostgresLimiter(server.dsn, limit=10, period=2.0)
        for _ in range(10):
            (await limiter.acquire("interactive", 20.0)).done(200, {})
        await anyio.sleep(0.5)
        await anyio.to_thread.run_sync(server.stop)
        (await limiter.acquire("interactive", 30.0)).done(200, {})
        assert limiter._spent.alone
        await anyio.to_thread.run_sync(server.start)
        with anyio.fail_after(60):
            while limiter._spent.alone:
                (await limiter.acquire("interactive", 30.0)).done(200, {})
        limiter.close()

    with cluster() as server:
        anyio.run(main, server)


WORKER = Path(__file__).with_name("postgres_worker.py")


@pytest.mark.processes
def test_four_processes_of_one_egress_are_never_refused(server: Cluster) -> None:
    """Nor where one is frozen, and one is killed again and again; the steady ones use 97 % of the limit."""
    from desk360_async.sandbox import Sandbox

    for kind in ("steady", "killed"):
        sandbox = Sandbox(limit=60, period=6.0)
        with sandbox.serve_in_thread() as target:
            command = [sys.executable, "-m", "tests.limiter.postgres_worker", server.dsn, kind, target.url]
            workers = [subprocess.Popen(command) for _ in range(4)]
            try:
                deadline = time.monotonic() + 90
                while not sandbox.counted and time.monotonic() < deadline:
                    time.sleep(0.01)
                begin = time.monotonic()
                if kind == "killed":
                    os.kill(workers[0].pid, signal.SIGSTOP)
                    for _ in range(5):
                        time.sleep(3)
                        victim = workers.pop()
                        victim.kill()
                        victim.wait()
                        workers.append(subprocess.Popen(command))
                else:
                    time.sleep(30)
                used = sandbox.counted / ((time.monotonic() - begin) * 10)
                print(
                    f"{kind}: {sandbox.counted} requests, {used:.3f} of the limit, {sandbox.refusals} refused"
                )
                assert sandbox.refusals == 0
                assert used >= (0.97 if kind == "steady" else 0.3)
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
