"""`http=`: the pool is httpx's or its fork's, each by its own classes."""

import sys

import httpx
import pytest

from desk360_async import AsyncDesk360, ConfigurationError, TokenBucket, _http
from desk360_async.sandbox import Sandbox
from tests.core.fakes import Wire, connect


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, _http.Library]:
    """An empty table of libraries, so that each test loads its own."""
    table: dict[str, _http.Library] = {}
    monkeypatch.setattr(_http, "_libraries", table)
    return table


def test_a_missing_fork_names_the_extra(
    libraries: dict[str, _http.Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigurationError, match=r"desk360-async\[httpx2\]"):
        AsyncDesk360("k", http="httpx2")


def test_another_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="http must be 'httpx' or 'httpx2'"):
        AsyncDesk360("k", http="aiohttp")  # type: ignore[arg-type]  # the mistake


@pytest.mark.anyio
async def test_a_transport_of_the_fork_gets_the_forks_classes(
    libraries: dict[str, _http.Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", httpx)  # as if the fork had made the transport
    async with connect(Wire()) as client:
        await client.send_text("+905551112233", "x")
    assert list(libraries) == ["httpx2"]


@pytest.mark.real
@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
async def test_sends_uploads_and_lists_work_with_both(name: str) -> None:
    pytest.importorskip(name)
    sandbox = Sandbox(limit=10_000)
    with sandbox.serve_in_thread() as server:
        limiter = TokenBucket(10_000, 1.0)
        async with AsyncDesk360(
            "sandbox-key", integration_id=11, base_url=server.url, http=name, limiter=limiter
        ) as client:  # type: ignore[arg-type]  # one of the two
            await client.send_text("+905551112233", "x")
            await client.send_media("+905551112233", [__file__])
            assert len([row async for row in client.templates.iter()]) == 25
    assert sandbox.accepted == 2
