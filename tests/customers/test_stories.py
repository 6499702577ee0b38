"""A sample of the stories; `python -m tests.customers.stories 10000` plays all of them."""

import pytest

from desk360_async import AsyncDesk360
from desk360_async.customers import Customers
from desk360_async.testing import VirtualSandbox
from tests.customers.stories import Story, play

pytestmark = pytest.mark.anyio


async def test_no_message_goes_out_against_the_model() -> None:
    seen = await play(0, 25)
    assert {"text: WindowClosed", "template: OptedOut", "race: refused", "text: sent as template"} <= set(
        seen
    )


async def test_a_client_that_keeps_no_rules_differs_from_the_model() -> None:
    """The stories can fail."""
    sandbox = VirtualSandbox(limit=10_000)
    async with Customers(":memory:") as book, sandbox.client(customers=book, service_window="off") as client:
        lawless: AsyncDesk360 = client.with_options(customers=None)
        with pytest.raises(AssertionError):
            for number in range(25):
                await Story(number, sandbox, lawless, book).play()
