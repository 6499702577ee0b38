"""Messages as JSON: each kind comes back equal, and files keep their bytes or their path."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from desk360_async import (
    Attachment,
    Button,
    ConfigurationError,
    Contact,
    ContactName,
    ContactPhone,
    ContactsMessage,
    DocumentHeader,
    InteractiveMessage,
    Location,
    LocationMessage,
    LocationRequestMessage,
    MediaMessage,
    Message,
    ReadMessage,
    TemplateBatch,
    TemplateMessage,
    TextHeader,
    TextMessage,
)
from desk360_async.workers._work import pack, unpack
from tests.core.vendor import SENDS, message_of

TO = "+905551112233"
MESSAGES: list[Message] = [
    TextMessage(TO, 'a "text"\nwith 🙂'),
    TemplateMessage(TO, "birthday", language="English", parameters={"body-1": "Ada", "kind": "x"}),
    TemplateMessage(TO, 75, language=2, attachment=Attachment.from_bytes("a.pdf", b"\x00\xff")),
    TemplateBatch([TO, "+905551112234"], 75, language=2),
    LocationMessage(TO, Location(latitude=41.04, longitude=29.02, name="Shop", address="Beşiktaş")),
    ContactsMessage(
        TO, [Contact(ContactName("Ada L", "Ada", "L"), phones=[ContactPhone(TO)], birthday="2012-08-18")]
    ),
    MediaMessage(TO, [Path("invoice.pdf"), Attachment.from_bytes("n.txt", b"hi", content_type="text/plain")]),
    InteractiveMessage(TO, "Well?", [Button("y", "Yes")], header=TextHeader("Hello"), footer="Bye"),
    InteractiveMessage(TO, "?", [Button("y", "Yes")], header=DocumentHeader("https://a.example/b.pdf", "b")),
    LocationRequestMessage(TO, "Where?"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("name", SENDS)
async def test_the_documents_message_of_each_endpoint_comes_back_equal(name: str) -> None:
    message = await message_of(name)
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(message: Message) -> None:
    assert unpack(pack(message)) == message


async def _bytes() -> AsyncIterator[bytes]:
    yield b""


def test_a_stream_cannot_be_stored() -> None:
    file = Attachment.from_stream("a.bin", 1, _bytes)
    with pytest.raises(ConfigurationError, match=r"'a\.bin' comes from a stream"):
        pack(MediaMessage(TO, [file]))


@pytest.mark.parametrize("value", [ReadMessage(TO, ["gBEG"]), "text", None], ids=["read", "text", "none"])
def test_another_value_is_refused_without_its_content(value: object) -> None:
    with pytest.raises(ConfigurationError, match="defer takes a message") as found:
        pack(value)  # type: ignore[arg-type]  # the mistake
    assert TO not in str(found.value)
