"""A sandbox and an HTTP client that talks to it in process."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from desk360_async.sandbox import Sandbox

KEY = {"Authorization": "Bearer sandbox-key", "Accept": "application/json"}


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until it is moved."""
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    """A sandbox in virtual time."""
    return Sandbox(clock=clock)


@pytest.fixture
def connect() -> Callable[..., httpx.AsyncClient]:
    """What makes a client of any sandbox."""

    def make(sandbox: Sandbox, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=sandbox.app)
        return httpx.AsyncClient(transport=transport, base_url="http://sandbox/v1", headers=KEY, **options)

    return make


@pytest.fixture
async def client(
    sandbox: Sandbox, connect: Callable[..., httpx.AsyncClient]
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the sandbox, in process."""
    async with connect(sandbox) as client:
        yield client
