"""README.md: each block runs, as it stands there, against a sandbox that the environment names."""

from pathlib import Path

import pytest

from desk360_async.sandbox import Sandbox

from .pages import Reader

README = Path(__file__).parent.parent / "README.md"
COMMANDS = {
    name: f"python3 -m venv .venv && .venv/bin/python -m pip install nox && .venv/bin/nox -s {name}"
    for name in ("demo", "tests")
}


@pytest.mark.real
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key, an integration and a server, as the first block asks for."""
    reader = Reader(README, tmp_path, monkeypatch)
    sandbox = Sandbox()
    with sandbox.serve_in_thread() as server:
        monkeypatch.setenv("DESK360_API_KEY", sandbox.api_key)
        monkeypatch.setenv("DESK360_INTEGRATION_ID", "11")
        monkeypatch.setenv("DESK360_BASE_URL", server.url)
        reader.follow()
    assert [message.text for message in sandbox.received if message.kind == "text"] == ["Hello"]


@pytest.mark.parametrize("name", COMMANDS)
def test_both_commands_stand_on_one_line_within_the_first_thirty(name: str) -> None:
    """A newcomer copies a line, and the continuous run takes it from here."""
    assert COMMANDS[name] in README.read_text(encoding="utf-8").splitlines()[:30]


def test_the_page_is_short() -> None:
    """A handbook belongs in the guide."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
