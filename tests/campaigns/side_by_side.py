"""Stories of 2 to 4 runs side by side on a ledger in PostgreSQL, in virtual time: `simulation --postgres`.

Each run may crash between any two steps, lose the database before or after a commit, stop, and begin again.
The database's clock is the virtual one, so that leases run out in virtual time. The invariants are those of
`simulation`.
"""

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar

import anyio
import psycopg

from desk360_async import AsyncDesk360, Desk360Error, TokenBucket, _postgres
from desk360_async.campaigns import Campaign, LedgerError, _ledger
from tests.campaigns.simulation import (
    FAULTS,
    LIMIT,
    LIVES,
    PERIOD,
    Crash,
    Server,
    Violation,
    World,
    check,
    one_run,
    world_of,
)
from tests.limiter import virtual

__all__ = ["EPOCH", "connected", "simulate", "virtual_clock"]

T = TypeVar("T")
EPOCH = 1e9
TABLES = (
    "campaign worker parameter_set recipient skipped batch exception request doubt delivery resolution "
    "resolved early"
)


class Runner:
    """One process's view of the world: it dies alone."""

    def __init__(self, world: World, name: int) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.calm = False
        self.ended = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def note(self, what: str) -> None:
        """Write a line of the story."""
        self.world.note(f"{self.name}: {what}")

    def step(self, where: str) -> None:
        """Crash here, perhaps; and always, once crashed."""
        if self.dead or (not self.calm and self.world.rng.random() < self.world.crash_share / 4):
            if not self.dead:
                self.note(f"crash at {where}")
            self.dead = True
            raise Crash(where)

    def error(self) -> bool:
        """Return whether the database is lost here."""
        return not self.calm and self.world.rng.random() < self.world.error_share


_current: ContextVar[Runner | None] = ContextVar("current", default=None)


def simulate(seed: int, dsn: str) -> list[str]:
    """Play one story, within `connected`; return its log.

    Raises:
        Violation: if an invariant doesn't hold; the message names the seed.
    """
    empty(dsn)
    world = world_of(seed)
    patiently = _postgres.Tables._patiently
    try:
        _postgres.Tables._patiently = _failing(patiently)  # type: ignore[method-assign]  # a fault's place
        with virtual_clock():
            virtual.run("asyncio", play, world, dsn)
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}") from None
    except Exception as error:
        raise Violation(f"seed {seed}: {type(error).__name__}: {error}") from error
    finally:
        _postgres.Tables._patiently = patiently  # type: ignore[method-assign]  # as it was
    return world.log


@contextmanager
def connected(dsn: str) -> Generator[None]:
    """Keep the connections, and the tables, from story to story."""
    database = _postgres.Database(dsn)
    with database.transaction():
        pass
    try:
        yield
    finally:
        while _postgres._pools:  # those of crashed runs too
            _postgres._pools.popitem()[1].connections.close()


def empty(dsn: str) -> None:
    """Remove the rows of the story before."""
    with _postgres.Database(dsn).transaction() as connection:
        # A DELETE of few rows costs a tenth of a TRUNCATE, which makes new files.
        for table in TABLES.split():
            connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]  # a name of ours


@contextmanager
def virtual_clock() -> Generator[None]:
    """Let the database's clock, and the ledger's, show the virtual time.

    The time is a parameter of each statement. So the statement's text never has an old time, and the server
    plans a statement once for all stories: to plan the statements took three quarters of a story's time.
    """
    execute, now = psycopg.Connection.execute, _ledger.now

    def timed(self: Any, text: Any, values: Any = None, **options: Any) -> Any:
        if values is None:  # several statements, or one that makes a table
            return execute(self, text, values, **options)
        threshold, self.prepare_threshold = self.prepare_threshold, 0
        try:
            text, clocks = in_virtual_time(text)
            for place in clocks:
                values = (*values[:place], EPOCH + anyio.current_time(), *values[place:])
            return execute(self, text, values, prepare=True)
        finally:
            self.prepare_threshold = threshold

    psycopg.Connection.execute = timed  # type: ignore[method-assign]  # the clock's place
    _ledger.now = lambda: EPOCH + anyio.current_time()
    try:
        yield
    finally:
        psycopg.Connection.execute, _ledger.now = execute, now  # type: ignore[method-assign]  # as they were


@cache
def in_virtual_time(text: str) -> tuple[str, tuple[int, ...]]:
    """Return a statement with a parameter in place of each clock, and these parameters' places."""
    parts = text.split("clock_timestamp()")
    before = accumulate(part.count("%s") for part in parts[:-1])
    return "to_timestamp(%s)".join(parts), tuple(n + place for n, place in enumerate(before))


def _failing(patiently: Callable[..., Any]) -> Callable[..., Any]:
    async def work(self: _postgres.Tables, once: Callable[[], T]) -> T:
        runner = _current.get()
        if runner is None:
            return await patiently(self, once)  # type: ignore[no-any-return]  # what it wraps
        runner.step("before the ledger")
        if runner.error():
            runner.note("lost before the commit")
            raise LedgerError("the database is away") from psycopg.OperationalError("away")
        answer: T = await patiently(self, once)
        if runner.error():
            runner.note("lost after the commit")
            raise LedgerError("the database is away") from psycopg.OperationalError("away")
        runner.step("after the ledger")
        return answer

    return work


async def play(world: World, dsn: str) -> None:
    """Load a campaign, let its runs live side by side until all have ended; then check."""
    rng = world.rng
    not_listed = rng.choice(["unknown", "unknown", "not_sent"])
    world.trusting = not_listed == "not_sent"
    FAULTS["partial"] = (False, 0.0 if world.trusting else 0.5)
    options: dict[str, Any] = {
        "strategy": rng.choice(["auto", "auto", "bulk", "single"]),
        "batch_size": rng.randint(2, 20),
        "not_listed": not_listed,
        "opt_out": sorted(world.opted_out),
    }
    limiter = TokenBucket(LIMIT, PERIOD)
    lease = rng.choice([30.0, 120.0, 120.0, 240.0])  # a long one costs few heartbeats

    def campaign() -> Campaign:
        return Campaign("c", template="offer", language=1, ledger=dsn, **options)

    world.calm = True
    async with client_of(world, limiter) as client:
        await campaign().load(client, world.recipients)
    world.calm = False
    async with anyio.create_task_group() as tasks:
        for name in range(rng.randint(2, 4)):
            tasks.start_soon(live, Runner(world, name), campaign, limiter, lease)
    world.calm = True
    await check(world, campaign())


def client_of(world: Any, limiter: TokenBucket) -> AsyncDesk360:
    """Return a client of the server in memory."""
    url, transport = "http://127.0.0.1", Server(world)
    return AsyncDesk360("key-key-key", integration_id=1, base_url=url, transport=transport, limiter=limiter)


async def live(runner: Runner, campaign: Callable[[], Campaign], limiter: TokenBucket, lease: float) -> None:
    """Run the campaign, and begin again after each crash, until it is finished."""
    rng: random.Random = runner.world.rng
    _current.set(runner)
    for life in range(LIVES + 20):
        runner.calm, runner.dead = life >= LIVES, False
        try:
            async with client_of(runner, limiter) as client:
                view: Any = runner  # of the world
                runner.ended = await one_run(view, campaign(), client, rng.randint(1, 4), lease=lease)
            if runner.ended == "finished":
                return
            if runner.ended == "refused" and runner.calm and not runner.world.names:
                runner.world.stuck = True
                return
        except Crash:
            pass
        except BaseExceptionGroup as group:
            if group.split(Crash)[1] is not None:
                raise
        except Desk360Error as error:
            runner.note(f"{type(error).__name__}: {error}")
        # A calm run begins when the crashed ones are dead for all: the end that a run decided stays so long.
        await anyio.sleep(lease if runner.calm else rng.choice([0, 1, rng.uniform(0, 3 * lease)]))
    raise Violation(f"run {runner.name} never finished ({runner.ended})")
