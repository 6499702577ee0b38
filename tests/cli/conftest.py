"""Runs `desk360` in this process, and a sandbox that can be asked what it received."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from attrs import frozen

from desk360_async.cli import main
from desk360_async.sandbox import Sandbox


@frozen
class Run:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """What stands on stdout, a value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Desk360(Protocol):
    """Runs `desk360` with these words."""

    def __call__(self, *words: object) -> Run:
        """Run it in this process."""
        ...


@pytest.fixture
def desk360(capsys: pytest.CaptureFixture[str]) -> Desk360:
    """Run `desk360` in this process."""

    def run(*words: object) -> Run:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Run(code, *capsys.readouterr())

    return run


@frozen
class Server:
    """A sandbox that listens."""

    sandbox: Sandbox
    url: str


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a sandbox with a short minute, whose limit nobody meets by accident."""
    made = Sandbox(limit=10_000, period=1.0)
    with made.serve_in_thread() as running:
        yield Server(made, running.url)


@pytest.fixture
def live(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let `--live` lead to a sandbox."""
    monkeypatch.setenv("DESK360_API_KEY", server.sandbox.api_key)
    monkeypatch.setenv("DESK360_BASE_URL", server.url)
    monkeypatch.setenv("DESK360_INTEGRATION_ID", "11")
    return server


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A list of three."""
    file = tmp_path / "people.csv"
    file.write_text("name,phone\nAda,+905551110001\nÇağla,+905551110002\n小明,+905551110003\n", "utf-8")
    return file
