"""The client against a sandbox that follows a fact: all messages are accepted, and all lists are read."""

from typing import Any

import pytest

from desk360_async import (
    Attachment,
    Button,
    Contact,
    ContactName,
    ContactsMessage,
    InteractiveMessage,
    Location,
    LocationMessage,
    LocationRequestMessage,
    MediaMessage,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
)
from tests.doctor.test_live import VARIANTS, sandbox_like

pytestmark = pytest.mark.anyio

TO = "+905551112233"
MESSAGES = (
    TextMessage(TO, "Hello"),
    TemplateMessage(TO, "welcome", language="English"),
    TemplateBatch([TO, "+905551112234"], "welcome", language="English"),
    LocationMessage(TO, Location(latitude=41.0, longitude=29.0, name="Shop", address="İstanbul")),
    ContactsMessage(TO, [Contact(ContactName("Ada L", "Ada", "L"))]),
    MediaMessage(TO, [Attachment.from_bytes("a.pdf", b"x")]),
    InteractiveMessage(TO, "Yes?", [Button("y", "Yes")]),
    LocationRequestMessage(TO, "Where?"),
)


@pytest.mark.parametrize(("ruling", "key", "value"), [("", "4.json", True), *VARIANTS])
async def test_each_message_is_accepted_and_each_list_read(ruling: str, key: str, value: Any) -> None:
    sandbox = sandbox_like(**{key: value})
    # The doctor's consequence of the fact that JSON is ignored.
    encoding = "form" if (key, value) == ("4.json", False) else "json"
    async with sandbox.client(encoding=encoding) as client:
        for message in MESSAGES:
            await client.send(message)
        assert await client.mark_read(TO, ["gBEG"]) == ("gBEG",)
        assert [row.id async for row in client.integrations.iter()] == [11, 22]
        # Without a Link header the second page can't be found, which the doctor reports.
        templates = [row.id async for row in client.templates.iter()]
    assert len(templates) == (20 if key == "28.link" else 25)
    assert sandbox.accepted == len(MESSAGES) + 1
