"""`desk360 worker`, `campaign run --shares` and `db init` against a PostgreSQL cluster of the tests' own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from desk360_async.sandbox import RunningServer, Sandbox
from tests.campaigns.killing import ROOT
from tests.cli.conftest import Desk360, desk360, state_folder
from tests.postgres import PASSWORD

__all__ = ["desk360", "state_folder"]

LATER = "2099-12-01T09:00+03:00"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, desk360: Desk360) -> Any:
    """Run a sandbox, and load the campaign "spring" with three people into the database."""
    people = tmp_path / "people.csv"
    people.write_text("phone,name\n" + "".join(f"+90555111220{n},Ada\n" for n in range(3)))
    with Sandbox(limit=10_000, period=1.0).serve_in_thread() as server:
        monkeypatch.setenv("DESK360_BASE_URL", server.url)
        monkeypatch.setenv("DESK360_LEDGER", dsn)
        plan = ("campaign", "plan", "spring", people, "--template", "birthday", "--language", "English")
        assert desk360(*plan, "--map", "body-1=name").code == 0
        yield server


def test_init_makes_procrastinates_tables_too(desk360: Desk360, dsn: str) -> None:
    assert desk360("db", "init", "--ledger", dsn).code == 0
    assert desk360("db", "migrate", "--ledger", dsn).code == 0
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT to_regclass('procrastinate_jobs') IS NOT NULL").fetchone()
    assert found == (True,)


@pytest.mark.usefixtures("site")
def test_shares_are_handed_out_and_the_command_returns(desk360: Desk360) -> None:
    run = desk360("campaign", "run", "spring", "--shares", "2", "--at", LATER)
    assert (run.code, "3 pending, 2 shares" in run.out) == (0, True)
    again = desk360("campaign", "run", "spring", "--shares", "2", "--at", LATER, "--json")
    assert (len(again.json[0]["jobs"]), again.json[0]["pending"]) == (2, 3)


def test_a_worker_runs_the_shares_while_watch_follows(desk360: Desk360, site: RunningServer) -> None:
    command = [sys.executable, "-m", "desk360_async.cli", "worker", "--lease", "2", "--egress", "office"]
    worker = subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stderr=subprocess.PIPE, text=True)
    try:
        run = desk360("campaign", "run", "spring", "--shares", "1", "--watch")
    finally:
        time.sleep(1)
        worker.send_signal(signal.SIGTERM)
        said = worker.communicate(timeout=60)[1]
    assert (run.code, "3 accepted" in run.out, worker.returncode) == (0, True, 0)
    assert f"Not live: requests go to {site.url}" in said
    assert PASSWORD not in said + run.out + run.err


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("campaign", "run", "spring", "--shares", "2", "--ledger", "spring.db"), "no database"),
        (("campaign", "run", "spring", "--shares", "2", "--at", "9:00"), "with its offset"),
        (("campaign", "run", "spring", "--shares", "2", "--at", "2026-12-01T09:00"), "with its offset"),
        (("campaign", "run", "spring", "--at", LATER), "go with --shares"),
        (("campaign", "run", "spring", "--watch"), "go with --shares"),
        (("worker", "--ledger", "spring.db"), "no database"),
        (("db", "migrate", "--ledger", "spring.db"), "no database"),
        (("worker", "--base-url", "https://api.example"), "is not on this machine"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else None,
)
def test_an_unusable_option_is_named(desk360: Desk360, words: tuple[str, ...], problem: str) -> None:
    run = desk360(*words)
    assert (run.code, problem in run.err) == (2, True)


def test_a_worker_without_a_server_that_stays_is_refused(desk360: Desk360, dsn: str) -> None:
    run = desk360("worker", "--ledger", dsn)
    assert (run.code, "a server that keeps running" in run.err) == (2, True)


@pytest.mark.usefixtures("site")
def test_a_live_campaign_needs_live_and_the_number_of_recipients(desk360: Desk360, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE desk360.campaign SET settings = replace(settings, '127.0.0.1', 'api.example')"
        )
    run = desk360("campaign", "run", "spring", "--shares", "2")
    assert (run.code, "add --live" in run.err) == (2, True)
    run = desk360("campaign", "run", "spring", "--shares", "2", "--live")
    assert (run.code, "add --yes" in run.err) == (2, True)
    assert desk360("campaign", "run", "spring", "--shares", "2", "--live", "--yes", "--at", LATER).code == 0
