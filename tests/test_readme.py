"""README.md: each block runs, as it stands there, against a sandbox.

Python blocks share their names, in the order of the page. A block that awaits at its top level runs inside an
open `client`, as the page says. Console blocks run too, but for the two that install.
"""

import ast
import asyncio
import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.cli import main
from desk360_async.sandbox import Sandbox

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    name: f"python3 -m venv .venv && .venv/bin/python -m pip install nox && .venv/bin/nox -s {name}"
    for name in ("demo", "tests")
}


def blocks(language: str) -> list[Any]:
    """Return (line, text) of each fenced block in a language."""
    # sybil finds them; running is ours, since most of them await.
    document = Document.parse(str(ROOT / "README.md"), CodeBlockParser(language, lambda _: None))
    numbered = [(example.line + 1, str(example.parsed)) for example in document.examples()]
    return [pytest.param(*block, id=f"line-{block[0]}") for block in numbered]


NAMES: dict[str, Any] = {"__name__": "readme"}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Set up what the page takes for granted: a key, an integration, a secret, two files and a folder."""
    made = Sandbox(limit=10_000)
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("name,phone\nAda,+905551110001\n小明,+905551110002\n", encoding="utf-8")
    Path("invoice.pdf").write_bytes(b"%PDF-1.4")
    Path("downloads").mkdir()
    with made.serve_in_thread() as server:
        monkeypatch.setenv("DESK360_API_KEY", made.api_key)
        monkeypatch.setenv("DESK360_INTEGRATION_ID", "11")
        monkeypatch.setenv("DESK360_BASE_URL", server.url)
        monkeypatch.setenv("WEBHOOK_SECRET", "a-secret-of-sixteen-or-more")
        yield made


async def inside_a_client(code: Any) -> None:
    """Run a block that awaits, with an open client."""
    async with AsyncDesk360(limiter=TokenBucket(10_000, 1.0)) as client:
        NAMES["client"] = client
        await eval(code, NAMES)


@pytest.mark.parametrize(("line", "text"), blocks("python"))
def test_python_block_runs(line: int, text: str, sandbox: Sandbox) -> None:
    """It ends without an error, and what it sends is taken."""
    for framework in ("fastapi", "aiohttp", "django"):
        if f"from {framework}" in text:
            pytest.importorskip(framework)
    source = "\n" * (line - 1) + text  # so that a traceback shows the page's line
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(inside_a_client(code))
    else:
        exec(code, NAMES)
    assert all(entry.status is not None and entry.status < 400 for entry in sandbox.requests)


def test_web_app_of_the_page_works(sandbox: Sandbox) -> None:
    """The app of the page sends, and answers what a customer writes."""
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    (text,) = (param.values[1] for param in blocks("python") if "FastAPI" in str(param.values[1]))
    names: dict[str, Any] = {"__name__": "readme_app"}
    exec(str(text), names)
    event = {"messages": {"id": "x1", "from": "905551112233", "type": "text", "text": {"body": "hi"}}}
    with TestClient(names["app"]) as browser:
        query = {"phone": "+905551112233", "name": "Ada"}
        assert browser.post("/orders/SP1/shipped", params=query).json()["outcome"] == "accepted"
        assert browser.post("/hooks/a-secret-of-sixteen-or-more", json=event).status_code == 200
        assert browser.post("/hooks/another", json=event).status_code == 404
    assert [message.text for message in sandbox.received if message.kind == "text"] == ["You wrote: hi"]


def console_lines() -> list[str]:
    """Return the commands of the page, without those that install."""
    lines = [line for param in blocks("console") for line in str(param.values[1]).splitlines()]
    return [line for line in lines if line not in COMMANDS.values()]


@pytest.mark.parametrize("line", console_lines())
def test_console_line_runs(line: str, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command ends with 0, and goes to a sandbox."""
    command, *words = shlex.split(line)
    assert (command, main(words)) == ("desk360", 0)
    assert capsys.readouterr().err.startswith("Not live: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_both_commands_stand_on_one_line_within_the_first_thirty(name: str) -> None:
    """A newcomer copies a line, and the continuous run takes it from here."""
    assert COMMANDS[name] in README.splitlines()[:30]


def test_every_error_is_in_the_table() -> None:
    """A class without a row would be one that nobody knows how to handle."""
    import desk360_async

    kinds = [getattr(desk360_async, name) for name in desk360_async.__all__]
    errors = [k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, Exception)]
    rows = "\n".join(line for line in README.splitlines() if line.startswith("| `"))
    assert not [
        name for name in errors if name not in ("Desk360Error", "APIError") and f"`{name}`" not in rows
    ]


def test_every_setting_is_in_the_table() -> None:
    """The constructor's arguments are all explained."""
    rows = "\n".join(line for line in README.splitlines() if line.startswith("| `"))
    assert not [name for name in inspect.signature(AsyncDesk360).parameters if f"`{name}`" not in rows]
