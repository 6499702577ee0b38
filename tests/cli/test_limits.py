"""Live commands share the rate limit of their machine (by a file), unless told otherwise."""

import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from desk360_async.cli import _session
from desk360_async.cli._app import run
from desk360_async.cli._options import Common
from desk360_async.cli._terminal import Terminal
from desk360_async.sandbox import Sandbox
from tests.cli.conftest import Desk360


def test_limits_prints_the_shared_file(desk360: Desk360, state_folder: Path) -> None:
    """One for each server, in the user's state folder."""
    assert desk360("limits", "--path").out == f"{state_folder / 'limit-public-api.desk360.com.db'}\n"
    other = desk360("limits", "--path", "--base-url", "http://127.0.0.1:8080/v1")
    assert other.out == f"{state_folder / 'limit-127.0.0.1-8080.db'}\n"


@pytest.mark.parametrize(("choice", "printed"), [("off", "off"), ("/tmp/limit.db", "/tmp/limit.db")])
def test_the_option_changes_the_file(desk360: Desk360, choice: str, printed: str) -> None:
    """A path or off."""
    assert desk360("limits", "--path", "--limiter", choice).out == f"{printed}\n"


@pytest.mark.real
def test_two_live_commands_count_their_requests_together(
    desk360: Desk360, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens are away in the file; a third command with `--limiter off` leaves it alone."""
    monkeypatch.setenv("DESK360_API_KEY", "sandbox-key")
    with Sandbox().serve_in_thread() as server:
        live = ("limits", "--live", "--json", "--base-url", server.url)
        assert [desk360(*live, *more).code for more in ((), (), ("--limiter", "off"))] == [0, 0, 0]
    (path,) = state_folder.glob("limit-127.0.0.1-*.db")
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM token").fetchone() == (2,)


def test_a_state_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk360: Desk360
) -> None:
    """With the way out."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("DESK360_API_KEY", "k" * 40)
    done = desk360("limits", "--live")
    assert done.code == 2
    assert "--limiter PATH, or --limiter off" in done.err


@pytest.mark.parametrize(
    ("platform", "end"),
    [("darwin", "Library/Application Support/desk360"), ("win32", "desk360"), ("linux", "state/desk360")],
)
def test_the_state_folder_follows_the_systems_custom(
    monkeypatch: pytest.MonkeyPatch, platform: str, end: str
) -> None:
    """By its own variable where the system has one."""
    monkeypatch.setattr(sys, "platform", platform)
    assert str(_session.state_folder()).endswith(end)
    assert _session.live_limiter(Common(limiter="off")) is None


@pytest.mark.parametrize(
    ("reason", "printed"),
    [
        ("ServerError", "send text: server error; next try in 0.5 s.\n"),
        ("RateLimited", ""),  # the refusal was printed
    ],
)
def test_a_retry_is_announced_in_words(capsys: pytest.CaptureFixture[str], reason: str, printed: str) -> None:
    facts = {"event": "desk360.retry", "operation": "send_text", "reason": reason, "wait": 0.5}
    _session._Warnings(Terminal(json=False, quiet=False), "").emit(logging.makeLogRecord(facts))
    assert capsys.readouterr().err == printed


def test_an_equal_warning_is_printed_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Each worker of a run reports each try while the database is away."""
    warnings = _session._Warnings(Terminal(json=False, quiet=False), "")
    for created in (0.0, 1.0, 59.0, 60.0):
        warnings.emit(logging.makeLogRecord({"msg": "the ledger is away", "created": created}))
    assert capsys.readouterr().err == "the ledger is away\n" * 2


def test_the_lines_of_the_pool_are_not_printed() -> None:
    """Python prints the warnings of a logger without a handler; the command's error has the reason."""
    logger = logging.getLogger("psycopg.pool")
    logger.handlers[:] = []
    run(["--version"])
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
