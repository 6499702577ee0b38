"""Runs `desk360` in this process, and a sandbox that can be asked what it received."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Protocol

import pytest
from attrs import frozen

from desk360_async.cli import main
from desk360_async.cli._table import COMMANDS
from desk360_async.sandbox import Sandbox

GROUPS = [command.name for command in COMMANDS if command.commands]
LEAVES = [
    *(command.name for command in COMMANDS if command.target),
    *(f"{group.name} {command.name}" for group in COMMANDS for command in group.commands),
]
SECRET = "a-secret-of-sixteen-or-more"


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


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the limiter's file of live commands out of the user's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "desk360"


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


@pytest.fixture(autouse=True)
def _counted(counted_children: None) -> None:
    """Many commands run in a process of their own."""


class Hook(BaseHTTPRequestHandler):
    """Somebody's web app."""

    got: list[bytes]
    status: int

    def do_POST(self) -> None:
        """Take a webhook."""
        self.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hook() -> Iterator[tuple[str, type[Hook]]]:
    """A web app that listens, and what it got."""
    kind = type("One", (Hook,), {"got": [], "status": 200})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hooks/{SECRET}", kind
        server.shutdown()
        thread.join()


@contextmanager
def interrupting(ready: Callable[[], bool], *pauses: float) -> Iterator[None]:
    """Press Ctrl-C in this process after each pause, once `ready` says so."""

    def press() -> None:
        deadline = time.monotonic() + 20
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.02)
        for pause in pauses or (0.0,):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    yield
    presser.join()


class Command:
    """`desk360` in a process of its own, read line by line."""

    def __init__(self, *words: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "desk360_async.cli", *words]
        self.process = subprocess.Popen(
            command, stdout=-1, stderr=-1, text=True, encoding="utf-8", env=environment
        )

    def line(self) -> str:
        """Wait for the next line on stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def stop(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code, and what stands on stderr."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


Start = Callable[..., Command]


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """What starts commands, and leaves none running."""
    started: list[Command] = []

    def begin(*words: str) -> Command:
        started.append(Command(*words))
        return started[-1]

    yield begin
    for command in started:
        command.process.kill()
        command.process.communicate()
