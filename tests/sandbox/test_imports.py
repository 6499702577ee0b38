"""What the sandbox stands on: nothing of the client, and uvicorn only to listen."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# It holds reprs and masks, and no rule of the wire that both sides could get wrong.
SHARED = "desk360_async._redaction"
MODULES = sorted((ROOT / "desk360_async" / "sandbox").glob("*.py"))


def imported(module: Path) -> set[str]:
    """List the modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_it_imports_nothing_of_the_client(module: Path) -> None:
    """So that client and sandbox check each other instead of sharing a mistake."""
    ours = {name for name in imported(module) if name.split(".")[0] == "desk360_async"}
    assert all(name.startswith("desk360_async.sandbox") for name in ours - {SHARED})
    assert "httpx" not in imported(module)


_WITHOUT = """
import importlib.util, sys
module = sys.argv[1]
sys.modules[module] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == module else find(name, *rest)
try:
    from desk360_async.sandbox import Sandbox
    print("imported")
    Sandbox().serve_in_thread().__enter__()
except ModuleNotFoundError as error:
    print(error)
"""
INSTALL = "pip install 'desk360-async[sandbox]'"


@pytest.mark.real
@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("uvicorn", ["imported", f"the sandbox needs uvicorn: {INSTALL}"]),
        ("starlette", [f"the sandbox needs starlette: {INSTALL}"]),
        ("python_multipart", [f"the sandbox needs python_multipart: {INSTALL}"]),
    ],
)
def test_what_is_missing_is_named_with_the_way_out(module: str, expected: list[str]) -> None:
    """In process it does without uvicorn, which the extra `testing` doesn't bring."""
    command = [sys.executable, "-W", "error", "-c", _WITHOUT, module]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == expected
