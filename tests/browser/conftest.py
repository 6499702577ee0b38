"""Debian's Chromium, driven by playwright, kept off the network; `nox -s browser` runs these tests.

Elsewhere they are skipped: set `DESK360_BROWSER=1` to run them, and `DESK360_CHROMIUM` to another browser.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from desk360_async.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TO = "+905551112233"
KEY = {"Authorization": "Bearer sandbox-key"}
CONVERSATIONS = "/v1/integrations/11/conversations"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = Path(__file__).parents[2] / ".github"
_FLAGS = [
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--disable-quic", "--disable-gpu",
]  # fmt: skip


def _chromium() -> str | None:
    return os.environ.get("DESK360_CHROMIUM") or shutil.which("chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where no browser is asked for, or none is installed."""
    reason = None
    if os.environ.get("DESK360_BROWSER") != "1":
        reason = "nox -s browser runs these"
    elif _chromium() is None:
        reason = "Chromium is missing: apt-get install chromium, or set DESK360_CHROMIUM"
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """One browser for all tests."""
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox refuses to run as root.
    flags = [*_FLAGS, "--no-sandbox"] if os.getuid() == 0 else _FLAGS
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=_chromium(), args=flags)
        yield launched
        launched.close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that listens, and whose messages are delivered and read soon."""
    made = Sandbox(limit=100, delivered_after=0.1, read_after=0.2)
    with made.serve_in_thread():
        yield made


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """An HTTP client of the sandbox's API."""
    with httpx.Client(base_url=sandbox.page_url.rstrip("/") + CONVERSATIONS, headers=KEY) as client:
        yield client


def until(page: "Page", condition: str, seconds: float = 10.0) -> None:
    """Wait until an expression is true; playwright's own way needs `eval`, which the policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"still not: {condition}"
        page.wait_for_timeout(20)


Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: "Browser", sandbox: Sandbox) -> Iterator[Open]:
    """Open the sandbox's page; a console message, an error or a blocked resource fails the test."""
    said: list[str] = []
    contexts = []

    def open_it(
        url: str | None = None,
        *,
        is_checked: bool = True,
        ready: str = "#meter *",  # drawn by the first state, which fills the forms too
        **options: Any,
    ) -> "Page":
        settings = {
            "viewport": {"width": 1280, "height": 900},
            "locale": "en-US",
            "reduced_motion": "reduce",
        } | options
        context = browser.new_context(**settings, permissions=["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        if is_checked:
            page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"{request.url}: {request.failure}"))
        page.goto(url or sandbox.page_url)
        page.wait_for_selector(ready, state="attached")
        return page

    yield open_it
    for context in contexts:
        context.close()
    # A stream ends with its server: that is no failure of the page.
    assert [text for text in said if "/_sandbox/events" not in text and "net::ERR_" not in text] == []


@pytest.fixture
def page(open_page: Open) -> "Page":
    """The page, open at a desktop's size, in English."""
    return open_page()
