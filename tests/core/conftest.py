"""Time is virtual in these tests, on both event loops, and worker threads run inline; `real` ones aside."""

from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import settings
from trio.testing import MockClock

from desk360_async import _threads
from tests.core.fakes import VirtualLoop, Wire


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each async test runs on both event loops, whose time jumps to the next timer."""
    if request.node.get_closest_marker("real"):
        return request.param, {}
    if request.param == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def _threads_inline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time doesn't wait for threads."""
    if not request.node.get_closest_marker("real"):
        monkeypatch.setattr(_threads, "_inline", ContextVar("inline", default=True))


@pytest.fixture
def wire() -> Wire:
    """A transport that answers every send with a message id."""
    return Wire()


@pytest.fixture(autouse=True, scope="session")
def _hypothesis() -> None:
    """Keep no database of examples, and set no deadline: the machine may be busy."""
    settings.register_profile("core", settings.get_profile("default"), database=None, deadline=None)
    settings.load_profile("core")
