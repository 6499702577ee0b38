"""`desk360 db` against a PostgreSQL cluster of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from desk360_async.sandbox import Sandbox
from tests.cli.conftest import Desk360, Server
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


def test_the_doctor_looks_at_a_database(desk360: Desk360, server: Cluster) -> None:
    """One that can't be reached is a problem; its password is printed nowhere."""
    assert desk360("db", "init", "--ledger", server.dsn).code == 0
    found = desk360("doctor", "--ledger", server.dsn)
    away = desk360("doctor", "--ledger", server.dsn.replace("/postgres", "/nowhere"))
    assert ("keeps its commits" in found.out, found.code, away.code) == (True, 0, 1)
    assert PASSWORD not in found.out + found.err + away.out + away.err


def before_steps() -> int:
    """Return the number of migrations of this version."""
    from desk360_async._postgres import MIGRATIONS

    return len(MIGRATIONS)


def test_a_database_that_cannot_be_reached_is_exit_code_2(desk360: Desk360, server: Cluster) -> None:
    """So is one that isn't named."""
    wrong = desk360("db", "check", "--ledger", server.dsn.replace("/postgres", "/nowhere"))
    assert (wrong.code, PASSWORD in wrong.err) == (2, False)
    assert desk360("db", "check").code == 2


@pytest.fixture
def vendor() -> Iterator[Server]:
    """Run a sandbox."""
    made = Sandbox(limit=10_000, period=1.0)
    with made.serve_in_thread() as running:
        yield Server(made, running.url)


def test_a_campaign_is_planned_sent_and_reported_in_a_database(
    desk360: Desk360, server: Cluster, vendor: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DSN comes from the option or the environment; its password is printed nowhere."""
    people = tmp_path / "people.csv"
    people.write_text("phone\n+905550000001\n+905550000002\n")
    assert desk360("db", "init", "--ledger", server.dsn).code == 0
    at = ("--base-url", vendor.url)
    template = ("--template", "welcome", "--language", "English")
    planned = desk360("campaign", "plan", "spring", people, *template, "--ledger", server.dsn, *at)
    monkeypatch.setenv("DESK360_LEDGER", server.dsn)
    ended = desk360("campaign", "run", "spring", *at)
    reported = desk360("campaign", "report", "spring", "--html", tmp_path / "report.html")
    assert [run.code for run in (planned, ended, reported)] == [0, 0, 0]
    assert len(vendor.sandbox.received) == 2
    assert "2 accepted" in reported.out
    assert PASSWORD not in "".join(run.out + run.err for run in (planned, ended, reported))
