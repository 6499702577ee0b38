"""`desk360 db` against a PostgreSQL cluster of the tests' own."""

from pathlib import Path

import pytest

from tests.cli.conftest import Desk360, Server
from tests.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.real


def test_a_database_is_made_checked_and_upgraded(
    desk360: Desk360, postgres: Cluster, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DSN comes from the option or the environment; its password is printed nowhere."""
    monkeypatch.setenv("DESK360_LEDGER", postgres.dsn)
    before = desk360("db", "check", "--json").json[0]
    assert before["version"] == 0
    assert any("db migrate" in warning for warning in before["warnings"])
    assert desk360("db", "init", "--ledger", postgres.dsn, "--json").json[0]["steps"] == before_steps()
    again = desk360("db", "migrate")
    assert (again.code, "0 steps made" in again.err + again.out) == (0, True)
    after = desk360("db", "check")
    assert (after.code, PASSWORD in after.out + after.err) == (0, False)
    assert "has no replica" in after.out + after.err


def test_the_doctor_looks_at_a_database(desk360: Desk360, postgres: Cluster) -> None:
    """One that can't be reached is a problem; its password is printed nowhere."""
    assert desk360("db", "init", "--ledger", postgres.dsn).code == 0
    found = desk360("doctor", "--ledger", postgres.dsn)
    away = desk360("doctor", "--ledger", postgres.dsn.replace("/postgres", "/nowhere"))
    assert ("keeps its commits" in found.out, found.code, away.code) == (True, 0, 1)
    assert PASSWORD not in found.out + found.err + away.out + away.err


def before_steps() -> int:
    """Return the number of migrations of this version."""
    from desk360_async._postgres import MIGRATIONS

    return len(MIGRATIONS)


def test_a_database_that_cannot_be_reached_is_exit_code_2(desk360: Desk360, postgres: Cluster) -> None:
    """So is one that isn't named."""
    wrong = desk360("db", "check", "--ledger", postgres.dsn.replace("/postgres", "/nowhere"))
    assert (wrong.code, PASSWORD in wrong.err) == (2, False)
    assert desk360("db", "check").code == 2


@pytest.fixture
def ledger(dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the DSN that the commands find in the environment."""
    for name in ("DESK360_LEDGER", "DESK360_CUSTOMERS"):
        monkeypatch.setenv(name, dsn)
    return dsn


def test_a_campaign_of_the_environments_database_is_planned_run_and_decided(
    desk360: Desk360, server: Server, tmp_path: Path, ledger: str
) -> None:
    """Each command finds it; no output holds the password."""
    people = tmp_path / "people.csv"
    people.write_text("phone,name\n+905551110001,Ada\n+905551110002,Max\n")
    site = ("--base-url", server.url)
    plan = ("--template", "birthday", "--language", "English", "--map", "body-1=name", *site)
    runs = [
        desk360("campaign", "plan", "spring", people, *plan),
        desk360("campaign", "pause", "spring", "--reason", "wrong price"),
        desk360("campaign", "stop", "spring"),
        desk360("campaign", "run", "spring", *site),
        desk360("campaign", "proceed", "spring"),
        desk360("campaign", "run", "spring", *site),
        desk360("campaign", "status", "spring"),
        desk360("campaign", "report", "spring", "--out", tmp_path / "report.csv"),
        desk360("campaign", "resolve", "spring", "--after-failover", "0"),
        desk360("campaign", "status", "autumn"),
    ]
    assert [run.code for run in runs] == [0, 0, 0, 130, 0, 0, 0, 0, 0, 2]
    assert "2 accepted" in runs[6].out
    assert "holds: 'spring'" in runs[9].err
    assert not [run for run in runs if PASSWORD in run.out + run.err]
    assert not list(tmp_path.glob("*.db"))


def test_after_failover_stands_alone(desk360: Desk360, ledger: str) -> None:
    both = desk360("campaign", "resolve", "spring", "--after-failover", "3", "--sent", "--all")
    assert (both.code, "takes no other option" in both.err) == (2, True)


def test_a_person_is_found_and_forgotten_in_the_database(desk360: Desk360, ledger: str) -> None:
    """In customers, inbox, ledger and send log, by one command."""
    assert desk360("customers", "opt-out", "+905551112233").code == 0
    shown = desk360("customers", "show", "+905551112233")
    assert "opted out since" in shown.out
    assert desk360("inbox", "list", ledger).code == 0
    assert desk360("inbox", "retry", ledger, "4711").code == 3
    assert desk360("sends", "list", "--log", ledger).code == 0
    gone = desk360(
        "forget", "+905551112233", "--ledger", ledger, "--inbox", ledger, "--log", ledger, "--json"
    )
    removed = gone.json[0]["removed"]
    assert sorted(name.partition(" in ")[0] for name in removed) == [
        "the customers", "the inbox", "the ledger", "the send log",
    ]  # fmt: skip
    assert sum(removed.values()) == 1
    assert PASSWORD not in gone.out + gone.err
