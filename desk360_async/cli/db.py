"""`desk360 db`: the PostgreSQL schema of several machines is made, checked and upgraded here."""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from desk360_async import ConfigurationError
from desk360_async._postgres import MIGRATIONS, Database

from ._options import DEFAULTS, Common
from ._terminal import Terminal

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["check", "init", "migrate"]


def init(*, ledger: str | None = None, schema: str = "desk360", common: Common = DEFAULTS) -> int:
    """Make the tables in an empty schema; in a schema that has them, upgrade them.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        schema: The schema of the tables.
        common: Shared.
    """
    return migrate(ledger=ledger, schema=schema, common=common)


def migrate(*, ledger: str | None = None, schema: str = "desk360", common: Common = DEFAULTS) -> int:
    """Bring the tables to this version's shape, all steps or none.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        schema: The schema of the tables.
        common: Shared.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    database = _database(ledger, schema)
    try:
        with database.bare_connection() as connection:
            database.refuse(database.facts(connection))
            steps = database.migrate(connection)
            _make_engine_tables(database, connection)
    finally:
        database.close()
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

    A lone server and an asynchronous replica are warnings. A standby, a read-only database, fsync = off and a
    synchronous_commit that stays off are refused, with exit code 2.

    Args:
        ledger: The database, postgresql://user@host/name [env: DESK360_LEDGER].
        schema: The schema of the tables.
        common: Shared.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    database = _database(ledger, schema)
    try:
        with database.bare_connection() as connection:
            facts = database.facts(connection)
            database.refuse(facts)
            version = database.version(connection)
    finally:
        database.close()
    warnings: list[str] = []
    if facts.async_replicas:
        warnings.append("a replica is asynchronous: its promotion may lose the last intents")
    elif not facts.sync_replicas:
        warnings.append("this server is alone: the loss of its disk loses the ledger")
    if version < len(MIGRATIONS):
        warnings.append(f"the schema has version {version} of {len(MIGRATIONS)}: run `desk360 db migrate`")
    if terminal.json:
        terminal.data({"database": database.name, "schema": schema, "version": version, "warnings": warnings})
        return 0
    terminal.note(f"{database.name}, schema {schema}: version {version}; its commits last.")
    for warning in warnings:
        terminal.note(f"Warning: {warning}.")
    return 0


def _database(ledger: str | None, schema: str) -> Database:
    dsn = ledger or os.environ.get("DESK360_LEDGER", "")
    if not dsn:
        raise ConfigurationError("no database: use --ledger postgresql://… or set DESK360_LEDGER")
    return Database(dsn, schema=schema)
