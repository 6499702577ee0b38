"""The look at this machine: each thing that is wrong has a finding with its mend, and no secret is shown."""

import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from desk360_async.doctor import Finding, Subject, examine

KEY = "06RS4pzxsPquYVOmHAZlogoRNatNjYnVCI1eZZiUK1Fu1DpxqFz1Fl9zyRON4juM"


def findings(environ: dict[str, str] | None = None, **given: Any) -> dict[str, Finding]:
    """Return the findings by name; of several with one name the last one."""
    return {f.name: f for f in examine(Subject(environ=environ or {}, **given))}


def test_a_machine_without_settings_has_no_problem() -> None:
    found = findings()
    assert not [f for f in found.values() if f.state == "problem"]
    assert found["API key"].state == "warning"


@pytest.mark.parametrize(
    ("environ", "name", "state", "words"),
    [
        ({"DESK360_API_KEY": KEY}, "API key", "ok", "64 characters"),
        ({"DESK360_API_KEY": f"Bearer {KEY}\n"}, "API key", "ok", "'Bearer ' is dropped"),
        ({"DESK360_API_KEY": "two words" * 4}, "API key", "problem", "position"),
        ({"DESK360_API_KEY": "short"}, "API key", "warning", "5 characters"),
        ({"DESK360_API_KEY": "sandbox-key"}, "API key", "problem", "sandbox's key"),
        ({"DESK360_API_KEYS": KEY}, "environment", "warning", "never read"),
        ({"DESK360_BASE_URL": "http://example.com"}, "base URL", "problem", "in the clear"),
        ({"DESK360_BASE_URL": "http://127.0.0.1:8360"}, "base URL", "ok", "DESK360_BASE_URL"),
        ({"HTTPS_PROXY": "http://proxy"}, "proxy", "warning", "on purpose"),
    ],
)
def test_a_setting_has_a_finding(environ: dict[str, str], name: str, state: str, words: str) -> None:
    found = findings(environ)[name]
    assert found.state == state
    assert words in found.text
    assert bool(found.mend) is (state != "ok")


def test_a_misspelt_variable_names_the_right_one() -> None:
    assert findings({"DESK360_APIKEY": KEY})["environment"].mend == "did you mean DESK360_API_KEY?"


def test_no_finding_shows_a_key_or_a_secret() -> None:
    found = findings({"DESK360_API_KEY": KEY, "DESK360_API_KEYS": KEY}, secret="a-webhook-secret")
    shown = "".join(f.text + f.mend for f in found.values())
    assert KEY not in shown
    assert "a-webhook-secret" not in shown


@pytest.mark.parametrize(("secret", "state"), [("x" * 31, "problem"), ("x" * 32, "ok")])
def test_a_short_webhook_secret_is_a_problem(secret: str, state: str) -> None:
    assert findings(secret=secret)["webhook secret"].state == state


@pytest.mark.parametrize(("allowed", "state"), [(20, "ok"), (1_000_000, "problem")])
def test_too_few_open_files_are_a_problem(allowed: int, state: str) -> None:
    assert findings(max_connections=allowed)["open files"].state == state


@pytest.mark.real
def test_a_port_in_use_is_a_problem() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert findings(port=taken.getsockname()[1])["port"].state == "problem"
    assert findings(port=0)["port"].state == "ok"


def test_a_ledgers_folder_that_keeps_wal_is_fine(tmp_path: Path) -> None:
    assert findings(ledger=tmp_path / "campaigns.db")["ledger"].state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_a_problem() -> None:
    """/proc looks writable to root."""
    found = findings(ledger=Path("/proc/campaigns.db"))["ledger"]
    assert (found.state, bool(found.mend)) == ("problem", True)


def test_a_file_that_is_no_ledger_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()
    assert findings(ledger=path)["ledger"].state == "problem"


def test_the_shared_limiters_file_is_named_with_the_line_that_joins_it(tmp_path: Path) -> None:
    path = tmp_path / "limit.db"
    assert "first live command" in findings(limiter=path)["shared limiter"].text
    path.touch()
    assert f"HostLimiter({str(path)!r})" in findings(limiter=path)["shared limiter"].text
