"""Somebody's tests, with the kit as it is installed: run by nox, outside the checkout."""

import asyncio

import pytest
from fastapi.testclient import TestClient
from shop import app, desk360

from desk360_async.sandbox import Fault
from desk360_async.testing import VirtualSandbox, sandbox_client

URL = "/orders/7/shipped?phone=%2B905551112233"


@pytest.fixture
def http(desk360_sandbox: VirtualSandbox):
    """The app, its client replaced by the sandbox's."""
    client = desk360_sandbox.client()
    app.dependency_overrides[desk360] = lambda: client
    with TestClient(app) as http:
        yield http


def test_the_customer_is_told(http: TestClient, desk360_sandbox: VirtualSandbox) -> None:
    """The template goes out, with the order's number."""
    assert http.post(URL).status_code == 200
    desk360_sandbox.assert_sent(to="+905551112233", template="order_shipped", times=1)


def test_a_lost_answer_is_not_a_failure(http: TestClient, desk360_sandbox: VirtualSandbox) -> None:
    """It may have gone out: the app says so, and nobody waits for the timeout."""
    http.post(URL)
    desk360_sandbox.faults.add(Fault("stall"))
    assert http.post(URL).status_code == 409


def test_a_busy_day_takes_no_time(http: TestClient, desk360_sandbox: VirtualSandbox) -> None:
    """Three minutes of the limit."""
    assert {http.post(URL).status_code for _ in range(200)} == {200}
    assert desk360_sandbox.clock() > 120


def test_without_pytest() -> None:
    """The same sandbox in a script."""

    async def main() -> None:
        async with sandbox_client() as (client, sandbox):
            await client.send_text("+905551112233", "Hello!")
            sandbox.assert_sent(text="Hello!")

    asyncio.run(main())


@pytest.mark.asyncio
async def test_under_pytest_asyncio(desk360_sandbox: VirtualSandbox) -> None:
    """An async test takes the fixture as it is."""
    await desk360_sandbox.client().send_text("+905551112233", "Hello!")
    desk360_sandbox.assert_sent(text="Hello!")


@pytest.mark.anyio
async def test_under_anyio(desk360_sandbox: VirtualSandbox) -> None:
    """And on trio, if it is installed."""
    await desk360_sandbox.client().send_text("+905551112233", "Hello!")
    desk360_sandbox.assert_sent(text="Hello!")


@pytest.mark.xfail(strict=True, reason="the guard fails whatever reaches for the vendor, swallowed or not")
def test_the_vendor_is_out_of_bounds() -> None:
    """Without the override the app would send to Desk360 itself."""
    app.dependency_overrides.clear()
    with TestClient(app) as http:
        assert http.post(URL).status_code == 502
