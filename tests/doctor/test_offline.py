"""The look at this machine: each thing that is wrong has a finding with its mend, and no secret is shown."""

import socket
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async.campaigns import Campaign, Recipient
from desk360_async.doctor import Finding, Subject, _offline, examine
from desk360_async.testing import sandbox_client

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
        ({"DESK360_API_KEY": "sandbox-key"}, "API key", "problem", "the key is the sandbox's"),
        ({"DESK360_API_KEYS": KEY}, "environment", "warning", "never reads it"),
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
    assert findings({"DESK360_APIKEY": KEY})["environment"].mend == "rename it to DESK360_API_KEY"


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


def test_a_number_that_is_no_port_is_a_problem() -> None:
    assert "1 to 65535" in findings(port=65_536)["port"].mend


def test_the_key_of_a_file_is_examined_in_place_of_the_variable() -> None:
    assert findings({"DESK360_API_KEY": "short"}, key=KEY)["API key"].state == "ok"


def test_a_ledgers_folder_that_does_not_exist_is_a_problem_with_the_command_that_makes_it(
    tmp_path: Path,
) -> None:
    found = findings(ledger=tmp_path / "away" / "c.db")["ledger"]
    assert (found.state, found.mend.startswith(f"mkdir -p {tmp_path / 'away'}")) == ("problem", True)


def test_a_ledger_that_does_not_exist_yet_is_named(tmp_path: Path) -> None:
    found = findings(ledger=tmp_path / "c.db")["ledger"]
    assert (found.state, "c.db doesn't exist yet" in found.text) == ("ok", True)


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


# ── the machine itself ─────────────────────────────────────────────────────────────────────────────────────


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None]) -> dict[str, Finding]:
    """Return the findings where packages have these versions; None: not installed."""
    real = _offline.version

    def version(name: str) -> str:
        found = versions[name] if name in versions else real(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(_offline, "version", version)
    return findings()


def test_a_missing_extra_is_a_warning_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = installed(monkeypatch, {"orjson": None})["extra [speed]"]
    assert (found.state, found.text) == ("warning", "lacks orjson; the extra is for faster JSON")
    assert found.mend == "python -m pip install 'desk360-async[speed]'"


@pytest.mark.parametrize(("version", "words"), [("20.1", "attrs 20.1 (needs 24.2)"), (None, "attrs")])
def test_an_old_or_missing_package_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, version: str | None, words: str
) -> None:
    found = installed(monkeypatch, {"attrs": version})["packages"]
    assert (found.state, words in found.text) == ("problem", True)


def test_a_package_that_is_only_imported_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_offline, "distribution", missing)
    assert findings()["desk360-async"].state == "warning"


def test_without_the_pytest_plugin_the_live_guard_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_offline, "entry_points", lambda **_: ())
    assert "desk360-async[testing]" in findings()["live guard"].mend


def test_certificates_that_cannot_be_loaded_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certifi.where", lambda: "/nowhere/cacert.pem")
    found = findings()["TLS"]
    assert (found.state, "--force-reinstall certifi" in found.mend) == ("problem", True)


def test_certificates_that_end_soon_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl.cert_time_to_seconds", lambda _: 0)
    assert findings()["TLS"].state == "warning"


def test_a_clock_that_differs_from_file_times_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_offline.time, "time", lambda: 1_000_000.0)
    assert findings()["clock"].state == "problem"


def test_a_system_without_limits_of_open_files_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert findings()["open files"].state == "ok"


def test_a_ledger_on_a_network_file_system_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_offline, "network_file_system", lambda _: "nfs4")
    found = [f for f in examine(Subject(environ={}, ledger=tmp_path / "c.db")) if f.name == "ledger"]
    assert (found[0].state, "nfs4" in found[0].text) == ("problem", True)


def test_files_that_cannot_be_written_are_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The limiter's file names its owner and its mode; root may write everywhere, so the answer is given."""
    file = tmp_path / "limit.db"
    file.touch(0o600)
    monkeypatch.setattr(_offline.os, "access", lambda *_: False)
    found = findings(limiter=file, ledger=tmp_path / "c.db")
    assert (found["shared limiter"].state, "mode 0600" in found["shared limiter"].text) == ("problem", True)
    assert "can't write to the folder" in found["ledger"].text


def test_the_campaigns_of_a_ledger_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.db"

    async def load() -> None:
        async with sandbox_client() as (client, _):
            campaign = Campaign("spring", template="welcome", language="English", ledger=path)
            await campaign.load(client, [Recipient("+905550000001")])

    anyio.run(load)
    found = findings(ledger=path)["ledger"]
    assert (found.state, "holds 1 campaign" in found.text) == ("ok", True)


def test_a_database_that_cannot_be_reached_is_a_problem_and_its_password_is_not_shown() -> None:
    found = findings(ledger="postgresql://ada:s3cret@127.0.0.1:9/desk360")["PostgreSQL"]
    assert (found.state, "s3cret" in found.text + found.mend) == ("problem", False)
    assert "Connection refused" in found.text
