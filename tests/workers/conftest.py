"""Fixtures of the workers' tests."""

import pytest

from tests.postgres import Cluster, postgres

__all__ = ["postgres"]

pytest.importorskip("procrastinate", reason="needs the extra [workers]")


@pytest.fixture
def dsn(postgres: Cluster) -> str:
    """Return the DSN of a database without our tables and procrastinate's."""
    import psycopg

    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS desk360 CASCADE")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres.dsn
