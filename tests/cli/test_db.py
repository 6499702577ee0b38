"""`desk360 db` against a PostgreSQL cluster of the tests' own."""

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Desk360
from tests.postgres import PASSWORD, Cluster, cluster

pytest.importorskip("psycopg_pool", reason="needs the extra [postgres]")
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """Return a cluster that keeps its commits."""
    with cluster(fsync=True) as made:
        yield made


def test_a_database_is_made_checked_and_upgraded(
    desk360: Desk360, server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DSN comes from the option or the environment; its password is printed nowhere."""
    monkeypatch.setenv("DESK360_LEDGER", server.dsn)
    before = desk360("db", "check", "--json").json[0]
    assert before["version"] == 0
    assert any("db migrate" in warning for warning in before["warnings"])
    assert desk360("db", "init", "--ledger", server.dsn, "--json").json[0]["steps"] == before_steps()
    again = desk360("db", "migrate")
    assert (again.code, "0 steps made" in again.err + again.out) == (0, True)
    after = desk360("db", "check")
    assert (after.code, PASSWORD in after.out + after.err) == (0, False)
    assert "is alone" in after.out + after.err


def before_steps() -> int:
    """Return the number of migrations of this version."""
    from desk360_async._postgres import MIGRATIONS

    return len(MIGRATIONS)


def test_a_database_that_cannot_be_reached_is_exit_code_2(desk360: Desk360, server: Cluster) -> None:
    """So is one that isn't named."""
    wrong = desk360("db", "check", "--ledger", server.dsn.replace("/postgres", "/nowhere"))
    assert (wrong.code, PASSWORD in wrong.err) == (2, False)
    assert desk360("db", "check").code == 2
