"""Follow a page of Markdown as its reader does: save its files, type its commands, run its blocks, in order.

The reader has a fresh folder and no `DESK360_` variables except those that the page sets with `export`.
Python blocks share their names and one event loop, as they do in `python -m asyncio`.
"""

import ast
import asyncio
import inspect
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sybil.document import Document
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from desk360_async.cli import main
from desk360_async.sandbox import Sandbox

PORT = "8360"  # the sandbox's, in the pages
# "Save this as `people.csv`:" before a block makes it a file.
SAVED = re.compile(r"\b[Ss]ave .*`([\w./-]+)`:\s*$")
EXIT_CODE = re.compile(r"\s+# .*exit code (\d+).*$")
# Commands that install software, or that run until somebody ends them.
LEFT_OUT = re.compile(
    r"(python3?|py|\S*[/\\]python) -m (pip|venv|asyncio)\b|pip |uvicorn |gunicorn |docker |celery |git |npm "
    r"|desk360 (listen|docs|demo|--install-completion)\b"
)
# Packages of services that the tests don't install; blocks that import them are only compiled.
SERVICES = re.compile(r"^\s*(?:from|import) (?:opentelemetry\.exporter|sentry_sdk|celery)\b", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, its text, the page's line above it, and the file that it is saved as."""

    language: str
    text: str
    line: int
    file: str | None


def blocks_of(page: Path) -> list[Block]:
    """Return a page's fenced blocks in their order."""
    document = Document(page.read_text(encoding="utf-8"), str(page))
    found = []
    for region in FencedCodeBlockLexer(r"\w+")(document):
        before = document.text[: region.start]
        saved = SAVED.search(before.rstrip().rpartition("\n")[2] + "\n")
        lexemes = region.lexemes
        language = str(lexemes["language"])
        line = before.count("\n") + 1
        found.append(Block(language, str(lexemes["source"]), line, saved[1] if saved else None))
    return found


def free_port() -> str:
    """Return a port that no program uses at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


class Reader:
    """A reader of one page, in a folder of the page's own."""

    def __init__(self, page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page = page
        self.names: dict[str, Any] = {"__name__": "__console__"}
        self.sandbox: Sandbox | None = None
        self._patch = monkeypatch
        self._port = free_port()
        self._open = ExitStack()
        for name in [name for name in os.environ if name.startswith("DESK360_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.chdir(folder)

    def follow(self) -> None:
        """Do what the page's blocks ask for, from the first to the last."""
        with self._open, asyncio.Runner() as runner:
            for block in blocks_of(self.page):
                text = block.text.replace(PORT, self._port)
                if block.file:
                    Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                    Path(block.file).write_text(text, encoding="utf-8")
                elif block.language == "python":
                    self.run(text, block.line, runner)
                elif block.language == "console":
                    for line in text.replace("\\\n", " ").splitlines():
                        self.type(line)

    def run(self, text: str, line: int, runner: asyncio.Runner) -> None:
        """Run a block; one that awaits runs on the page's event loop.

        Args:
            text: the block.
            line: the page's line above it, for tracebacks.
            runner: the page's event loop.
        """
        source = "\n" * line + text
        code = compile(
            source, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        if SERVICES.search(text):
            return
        if code.co_flags & inspect.CO_COROUTINE:
            runner.run(eval(code, self.names))
        else:
            exec(code, self.names)

    def type(self, line: str) -> None:
        """Type a line into the terminal: it ends with the exit code that its comment names, else with 0."""
        expected = EXIT_CODE.search(line)
        code = int(expected[1]) if expected else 0
        words = shlex.split(line, comments=True)
        if not words or LEFT_OUT.match(line) or "--live" in words:
            return
        if words[0] == "export":
            for word in words[1:]:
                self._patch.setenv(*word.split("=", 1))
        elif words[:2] == ["desk360", "sandbox"]:
            self.sandbox = Sandbox()
            self._open.enter_context(self.sandbox.serve_in_thread(port=int(self._port)))
        elif words[0] == "desk360":
            assert (line, self.typed(words)) == (line, code)
        else:
            assert words[0] in ("python", "pytest"), f"{self.page.name}: who runs {line!r}?"
            module = ["-m", "pytest", "-p", "no:cacheprovider"] if words[0] == "pytest" else []
            run = subprocess.run(
                [sys.executable, *module, *words[1:]], capture_output=True, text=True, check=False
            )
            assert run.returncode == code, f"{line}\n{run.stdout}{run.stderr}"

    def typed(self, words: list[str]) -> int:
        """Run `desk360` with the words, its output redirected as they ask; return the exit code."""
        if ">" not in words:
            return main(words[1:])
        where = words.index(">")
        run = subprocess.run(
            [sys.executable, "-m", "desk360_async.cli", *words[1:where]], capture_output=True, check=False
        )
        Path(words[where + 1]).write_bytes(run.stdout)
        return run.returncode
