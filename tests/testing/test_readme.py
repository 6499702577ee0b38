"""The page's test of the page's web app, run by pytest as it stands there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(fence: str, word: str) -> str:
    """Return the one block of the page with this word in it."""
    (found,) = (
        text
        for text in re.findall(rf"^```{fence}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        if word in text
    )
    return str(found)


def test_the_pages_test_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing set but what the page says."""
    pytest.importorskip("fastapi")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("WEBHOOK_SECRET", "a-secret-of-sixteen-or-more")
    monkeypatch.setenv("DESK360_API_KEY", "key")
    pytester.makepyfile(shop=block("python", "FastAPI"), test_shop=block("py", "desk360_sandbox"))
    # Starlette would rather have the fork of httpx; that is between it and its user.
    options = (
        "-p",
        "desk360_async.testing.plugin",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore:Using `httpx` with",
    )
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)


def test_the_pages_test_is_short() -> None:
    """Ten lines, as it says; blank ones and the end of a call aside."""
    lines = block("py", "desk360_sandbox").splitlines()
    assert len([line for line in lines if line.strip(" )")]) <= 10
