"""What all tests share: both event loops, and the HTTP stack that a run is for."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

if os.environ.get("DESK360_TEST_HTTP_STACK") == "httpx2":
    # Before anything imports httpx: the suite then runs on the fork, unchanged.
    import httpx2

    httpx2.alias_httpx()

import pytest

# Started by nohup or in the background, pytest ignores Ctrl-C, and so would a child that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A project of its own, for nox's session `build`.
collect_ignore = ["scratch_project"]
pytest_plugins = ["pytester", "tests.postgres"]
# The kit guards this project's own tests too; where the package is installed, pytest has it already.
if not entry_points(group="pytest11", name="desk360"):
    pytest_plugins.append("desk360_async.testing.plugin")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each async test runs on both event loops."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own key and proxies stay out of the tests."""
    for name in list(os.environ):
        if name.startswith("DESK360_") and name != "DESK360_TEST_HTTP_STACK":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="module")
def _root_logger() -> Iterator[None]:
    """A framework under test, such as Litestar, configures logging for the whole process."""
    root = logging.getLogger()
    level, before = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    for handler in [*root.handlers]:
        if handler not in before:
            root.removeHandler(handler)


@pytest.fixture
def counted_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where coverage is measured, the Python processes that a test starts count too."""
    coverage = sys.modules.get("coverage")
    running = coverage and coverage.Coverage.current()
    if running:
        # Read by the .pth file that coverage installs; a file of data for each process that ends by itself.
        monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", running.config.serialize())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a PostgreSQL cluster: starting one takes seconds, and its server real time."""
    for item in items:
        words = item.name.replace("]", "-").split("-")  # a parameter may ask for the cluster by its name
        if {"dsn", "postgres"} & {*getattr(item, "fixturenames", ()), *words}:
            item.add_marker(pytest.mark.postgres)
