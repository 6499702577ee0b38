"""`desk360 doctor`: exit codes, the question before the requests, JSON, and the saved facts."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from desk360_async.cli import main
from desk360_async.doctor import _live
from desk360_async.sandbox import RunningServer, Sandbox
from tests.postgres import free_port

pytestmark = pytest.mark.real


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Sandbox, RunningServer]]:
    """A sandbox over TCP, with the doctor's pause left out."""
    monkeypatch.setenv("DESK360_API_KEY", "sandbox-key")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(_live.ask, "__kwdefaults__", {**_live.ask.__kwdefaults__, "pause": 0.0})
    made = Sandbox()
    with made.serve_in_thread() as running:
        yield made, running


def test_without_live_it_makes_no_request_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "No request was made" in capsys.readouterr().out


def test_a_problem_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DESK360_API_KEY", "two words in a key of some length")
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [f["name"] for f in found if f["state"] == "problem"] == ["API key"]


def test_live_asks_ten_times_and_saves_the_facts(
    server: tuple[Sandbox, RunningServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox, running = server
    words = ["doctor", "--live", "--yes", "--base-url", running.url, "--save", str(tmp_path / "facts.json")]
    assert main(words) == 0
    assert (len(sandbox.requests), sandbox.accepted) == (10, 0)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["version"] == 1
    assert facts["facts"]["24.status"] == 400
    assert Sandbox(like=facts).throttle.limit == 60
    assert "ruling 4: confirmed" in capsys.readouterr().out


def test_exhaust_shows_the_window_and_logs_no_429(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A limit that others share would be warned of; this one is used up on purpose."""
    monkeypatch.setenv("DESK360_API_KEY", "sandbox-key")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(_live.ask, "__kwdefaults__", {**_live.ask.__kwdefaults__, "pause": 0.0})
    with Sandbox(limit=20, period=4.0).serve_in_thread() as running:
        assert main(["doctor", "--live", "--yes", "--exhaust", "--base-url", running.url]) == 0
    assert "ruling 31: confirmed" in capsys.readouterr().out
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line for line in warned if "429" in line] == []


def test_live_without_yes_and_without_a_terminal_ends_with_2(
    server: tuple[Sandbox, RunningServer], capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox, running = server
    assert main(["doctor", "--live", "--base-url", running.url]) == 2
    assert sandbox.requests == []
    assert "add --yes" in capsys.readouterr().err


def test_a_refused_key_ends_with_3(
    server: tuple[Sandbox, RunningServer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox, running = server
    monkeypatch.setenv("DESK360_API_KEY", "another-key-of-some-length")
    assert main(["doctor", "--live", "--yes", "--json", "--base-url", running.url]) == 3
    readings = {row["ruling"]: row for row in json.loads(capsys.readouterr().out)["readings"]}
    assert readings["3"]["state"] == "differs"
    assert len(sandbox.requests) == 1


def test_send_to_shows_replies_and_the_webhooks_of_a_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without `--integration`, the first one of the list sends."""
    for name, value in (("DESK360_API_KEY", "sandbox-key"), ("XDG_STATE_HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    for function in (_live.ask, _live.send_to):
        monkeypatch.setattr(function, "__kwdefaults__", {**(function.__kwdefaults__ or {}), "pause": 0.0})
    monkeypatch.setattr("desk360_async.cli.doctor._PATIENCE", 2.0)
    port = free_port()
    made = Sandbox(webhook=f"http://127.0.0.1:{port}/hook", delivered_after=0.1, read_after=0.5)
    with made.serve_in_thread() as running:
        words = ["--send-to", "+905551112233", "--template", "welcome", "--language", "English"]
        live = ["doctor", "--live", "--yes", "--base-url", running.url, "--webhook-port", str(port)]
        assert main([*live, *words]) == 0
    out = capsys.readouterr().out
    confirmed = ("16", "17", "19", "21", "33", "35", "38", "39")
    assert [ruling for ruling in confirmed if f"ruling {ruling}: confirmed" not in out] == []
    assert "ruling 41: differs: a webhook answered with 500 didn't come again" in out


def test_webhook_port_needs_send_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--live", "--webhook-port", "8361"]) == 2
    assert "--webhook-port needs --send-to" in capsys.readouterr().err


def test_send_to_needs_a_template(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--live", "--send-to", "+905551112233"]) == 2
    assert "--template and --language" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [("--exhaust",), ("--save", "facts.json"), ("--send-to", "+905551112233"), ("--webhook-port", "1")],
)
def test_an_option_of_a_live_run_needs_live(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 2
    assert f"{words[0]} needs --live" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--key-file", "--secret-file"])
def test_a_file_that_is_not_there_ends_with_2(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", option, "/nowhere"]) == 2
    assert f"{option} /nowhere: No such file" in capsys.readouterr().err


def test_a_base_url_that_cannot_be_used_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """The other findings are printed all the same."""
    assert main(["doctor", "--base-url", "http://example.com"]) == 1
    assert "problem base URL" in capsys.readouterr().out


@pytest.mark.parametrize("port", [None, 65_536])
def test_a_webhook_port_that_cannot_be_used_ends_the_run_before_its_requests(
    server: tuple[Sandbox, RunningServer], port: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox, running = server
    words = ["--send-to", "+905551112233", "--template", "welcome", "--language", "English"]
    taken = str(port or running.url.rpartition(":")[2])
    live = ["doctor", "--live", "--yes", "--base-url", running.url, "--webhook-port", taken]
    assert main([*live, *words]) == 2
    assert sandbox.requests == []
    assert f"--webhook-port {taken}" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "words"), [(None, "no such file"), ('{"version": 2}', '{"version": 1')])
def test_facts_that_a_sandbox_cannot_read_are_named_with_their_file(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "facts.json"
    if text is not None:
        path.write_text(text)
    assert main(["sandbox", "--port", "0", "--like", str(path)]) == 2
    found = capsys.readouterr().err.replace("\n", "")
    assert (f"--like {path}:" in found, words in found) == (True, True)
