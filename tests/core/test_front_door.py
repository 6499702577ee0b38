"""The front door: complete, sorted, lazy."""

import subprocess
import sys
from pathlib import Path

import pytest

import desk360_async

HEAVY = {
    "sqlite3", "respx", "httpx", "httpcore", "cattrs", "orjson", "starlette", "uvicorn", "cyclopts", "rich",
    "desk360_async.sandbox", "desk360_async.cli", "desk360_async.campaigns", "desk360_async.testing",
    "desk360_async.webhooks", "desk360_async._http", "desk360_async._client",
}  # fmt: skip


@pytest.mark.smoke
def test_all_is_sorted_and_complete() -> None:
    """Every name has its home, and every home's public name stands in it."""
    assert sorted(desk360_async.__all__) == desk360_async.__all__
    differing = set(desk360_async.__all__) ^ set(desk360_async._HOME_OF)
    assert not differing, f"mend __all__ or _HOMES in desk360_async/__init__.py: {differing}"
    assert set(desk360_async.__all__) <= set(dir(desk360_async))


@pytest.mark.smoke
@pytest.mark.parametrize("name", desk360_async.__all__)
def test_every_name_is_there_and_described(name: str) -> None:
    """With a docstring, where it can have one of its own."""
    value = getattr(desk360_async, name)
    assert name == "Transport" or not isinstance(value, type) or value.__doc__  # httpx's own


def test_type_checkers_are_told_the_same_names() -> None:
    """The imports under TYPE_CHECKING are the lazy ones."""
    source = Path(str(desk360_async.__file__)).read_text(encoding="utf-8")
    told = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    words = set(told.replace("(", " ").replace(")", " ").replace(",", " ").split())
    missing = set(desk360_async.__all__) - words
    assert not missing, f"mend the imports of desk360_async/__init__.py under TYPE_CHECKING: {missing}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        desk360_async.Nonsense  # type: ignore[attr-defined]  # on purpose  # noqa: B018


def loaded_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.real
@pytest.mark.parametrize(
    "statement", ["import desk360_async", "from desk360_async import Outcome, InvalidMessage, ServerError"]
)
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    """A webhook handler needs no HTTP client."""
    assert loaded_after(statement) & HEAVY == set()


@pytest.mark.real
def test_the_client_loads_nothing_that_stands_on_top() -> None:
    """Neither the sandbox nor a database; rich is httpx's own wish, where it is there."""
    heavy = HEAVY - {"httpx", "httpcore", "desk360_async._http", "desk360_async._client", "orjson", "rich"}
    assert loaded_after("from desk360_async import AsyncDesk360, TextMessage") & heavy == set()
