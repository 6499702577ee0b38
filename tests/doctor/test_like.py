"""Each endpoint against a server that differs in one fact: accepted, refused, unknown, resent."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from desk360_async import (
    AsyncDesk360,
    Attachment,
    AuthenticationFailed,
    BulkSent,
    ContactsMessage,
    Desk360Error,
    DocumentHeader,
    ImageHeader,
    InteractiveMessage,
    MediaMessage,
    Message,
    NotFound,
    Outcome,
    TemplateBatch,
    TemplateMessage,
    TextHeader,
    TextMessage,
    ValidationFailed,
    VideoHeader,
)
from desk360_async._endpoints import ENDPOINT_NAMED
from desk360_async.sandbox import Fault, ReceivedMessage
from desk360_async.sandbox.faults import FaultKind
from desk360_async.testing import VirtualSandbox
from tests.core.vendor import BUTTONS, CONTACT, IMAGE, IMAGE_LINK, PNG, SENDS, message_of, spelled
from tests.doctor.test_live import VARIANTS, sandbox_like

pytestmark = pytest.mark.anyio

TO = "+905551112233"
PHONES = (TO, "+905551112234")
NOT_ON_WHATSAPP = "+905550000000"
BODY = {"body-1": "Ayşe", "body-2": "📦"}
FACTS = [
    ("4.json", True),
    *((key, value) for _, key, value in VARIANTS),
    *(("32.window", window) for window in ("aligned", "sliding_log", "token_bucket")),
    ("32.period", 30.0),
]
# By endpoint: each shape in which its request goes out, where the document's sample is not the only one.
SHAPES: dict[str, tuple[Message, ...]] = {
    "send_text": (TextMessage(TO, "Merhaba 📦 <b>"),),
    "send_template": (
        TemplateMessage(TO, "order_shipped", language="English", parameters=BODY),
        TemplateMessage(TO, 78, language=1),
        TemplateMessage(TO, "catalogue", language="English", attachment=IMAGE),
    ),
    "send_template_bulk": (
        TemplateBatch(PHONES, "welcome", language="English"),
        TemplateBatch(PHONES, 76, language=1, parameters=BODY),
        TemplateBatch(PHONES, "catalogue", language="English", attachment=IMAGE),
        TemplateBatch(
            (),
            "welcome",
            language="English",
            destinations_file=Attachment.from_bytes("d.csv", "\n".join([*PHONES, ""]).encode()),
        ),
    ),
    "send_contacts": (ContactsMessage(TO, [CONTACT]), ContactsMessage(TO, [CONTACT, CONTACT])),
    "send_media": (
        MediaMessage(TO, [IMAGE]),
        MediaMessage(TO, [IMAGE, Attachment.from_bytes("ürün.txt", b"2")]),
    ),
    "send_interactive": (
        InteractiveMessage(TO, "Yes?", BUTTONS),
        InteractiveMessage(TO, "Yes?", BUTTONS[:1], header=TextHeader("Hi"), footer="bye"),
        InteractiveMessage(TO, "Yes?", BUTTONS, header=ImageHeader(IMAGE_LINK)),
        InteractiveMessage(TO, "Yes?", BUTTONS, header=VideoHeader("https://a.example/b.mp4")),
        InteractiveMessage(TO, "Yes?", BUTTONS, header=DocumentHeader("https://a.example/b.pdf")),
    ),
}


async def list_integrations(client: AsyncDesk360, media_id: str) -> object:
    """Return the ids of all pages."""
    return [row.id async for row in client.integrations.iter()]


async def list_templates(client: AsyncDesk360, media_id: str) -> object:
    """Return the ids of all pages; the ten first ones are on every server's first page."""
    return [row.id async for row in client.templates.iter()][:10]


async def mark_read(client: AsyncDesk360, media_id: str) -> object:
    """Return the ids that the server marked."""
    return await client.mark_read(TO, ["gBEG", "gBEH"])


async def get_media(client: AsyncDesk360, media_id: str) -> object:
    """Return the content of a file, in memory and as a stream."""
    whole = await client.read_media(media_id)
    async with client.open_media(media_id) as stream:
        pieces = [piece async for piece in stream.aiter_bytes()]
    return whole.content, whole.content_type, b"".join(pieces)


Read = Callable[[AsyncDesk360, str], Awaitable[object]]
READS: dict[str, tuple[Read, object]] = {
    "list_integrations": (list_integrations, [11, 22]),
    "list_templates": (list_templates, [*range(75, 85)]),
    "mark_read": (mark_read, ("gBEG", "gBEH")),
    "get_media": (get_media, (PNG, "image/jpeg", PNG)),
}
LOST: tuple[FaultKind, ...] = ("status", "reset_after", "truncate", "blank", "maintenance")
each_send = pytest.mark.parametrize("name", SENDS)
each_read = pytest.mark.parametrize("name", READS)


@pytest.fixture
def anyio_backend() -> str:
    """One event loop will do: a fact changes answers."""
    return "asyncio"


@pytest.fixture(params=FACTS, ids=lambda fact: f"{fact[0]}={fact[1]}")
def fact(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """The fact by which the server differs."""
    found: tuple[str, Any] = request.param
    return found


@pytest.fixture
def sandbox(fact: tuple[str, Any]) -> VirtualSandbox:
    """The server."""
    return sandbox_like(**dict([fact]))


@pytest.fixture
def client(sandbox: VirtualSandbox, fact: tuple[str, Any]) -> AsyncDesk360:
    """A client of the server; forms are the doctor's consequence of the fact that JSON is ignored."""
    return sandbox.client(encoding="form" if fact == ("4.json", False) else "json")


@pytest.fixture
async def media_id(client: AsyncDesk360) -> str:
    """The id of a file that the server keeps."""
    return (await client.send(MediaMessage(TO, [IMAGE]))).files[0].media_id or ""


async def shapes_of(name: str) -> tuple[Message, ...]:
    """Return the messages of an endpoint: its shapes, or the one of the document's sample."""
    return SHAPES.get(name) or (await message_of(name),)


@pytest.fixture
async def message(name: str) -> Message:
    """The first message of the endpoint."""
    return (await shapes_of(name))[0]


def content_of(message: ReceivedMessage) -> object:
    """Return a message's content in the form's types: numbers are text, and lists have indices."""
    return spelled(json.loads(json.dumps(message.content)))


def understood(sandbox: VirtualSandbox) -> list[ReceivedMessage]:
    """Return the messages that a server took, without the ids that it gave."""
    return [
        evolve(message, message_id="", at=0.0, content=None if message.files else content_of(message))
        for message in sandbox.received
    ]


def to(message: Message, phone: str) -> Message:
    """Return a message that the server refuses: by its phone, a batch by its template."""
    if isinstance(message, TemplateBatch):
        return evolve(message, template=9999, language=1)
    return evolve(message, to=phone)


async def error_of(sending: Awaitable[object]) -> Desk360Error:
    """Return the error of a call."""
    with pytest.raises(Desk360Error) as caught:
        await sending
    return caught.value


def test_each_endpoint_is_called() -> None:
    assert {*SENDS, *READS} == ENDPOINT_NAMED.keys(), "add the endpoint to READS in tests/doctor/test_like.py"


@each_send
async def test_each_message_is_understood_as_by_the_documents_server(
    sandbox: VirtualSandbox, client: AsyncDesk360, name: str
) -> None:
    plain = VirtualSandbox()
    for message in await shapes_of(name):
        reply = await client.send(message)
        assert type(reply).__name__ == ENDPOINT_NAMED[name].reply
        assert not isinstance(reply, BulkSent) or (reply.phones, reply.unlisted) == (PHONES, ())
        await plain.client().send(message)
    assert understood(sandbox) == understood(plain)


@each_send
async def test_a_refused_message_was_not_sent(
    sandbox: VirtualSandbox, client: AsyncDesk360, name: str, message: Message
) -> None:
    error = await error_of(client.send(to(message, NOT_ON_WHATSAPP)))
    assert (type(error), error.outcome) == (ValidationFailed, Outcome.NOT_SENT)
    posts = [request for request in sandbox.requests if request.method == "POST"]
    assert (len(posts), sandbox.accepted) == (1, 0)


@each_send
async def test_a_lost_answer_leaves_the_outcome_unknown(
    sandbox: VirtualSandbox, client: AsyncDesk360, name: str, message: Message
) -> None:
    for kind in LOST:
        status = 500 if kind == "status" else None
        sandbox.faults.add(Fault(kind, status=status, method="POST", times=1))
        assert (await error_of(client.send(message))).outcome is Outcome.UNKNOWN
    assert len([request for request in sandbox.requests if request.method == "POST"]) == len(LOST)


@each_send
async def test_a_message_is_resent_after_a_429_and_taken_once(
    sandbox: VirtualSandbox, client: AsyncDesk360, name: str, message: Message
) -> None:
    sandbox.faults.add(Fault("status", status=429, method="POST", times=1))
    await client.send(message)
    assert sandbox.accepted == (len(PHONES) if isinstance(message, TemplateBatch) else 1)


@each_send
async def test_another_integration_and_a_wrong_key_are_told_apart(
    sandbox: VirtualSandbox, client: AsyncDesk360, name: str, message: Message
) -> None:
    await client.send(message)
    accepted = sandbox.accepted
    numbered = to(message, TO)
    errors = [
        await error_of(client.for_integration(33).send(numbered)),
        await error_of(sandbox.client(api_key="wrong-key").send(numbered)),
    ]
    assert [type(error) for error in errors] == [NotFound, AuthenticationFailed]
    assert {error.outcome for error in errors} == {Outcome.NOT_SENT}
    assert sandbox.accepted == accepted


@each_read
async def test_each_read_returns_the_servers_data(client: AsyncDesk360, media_id: str, name: str) -> None:
    read, expected = READS[name]
    assert await read(client, media_id) == expected


@each_read
async def test_a_read_is_asked_again(
    sandbox: VirtualSandbox, client: AsyncDesk360, media_id: str, name: str
) -> None:
    read, expected = READS[name]
    for fault in (Fault("status", status=500, times=1), Fault("reset_after", times=1)):
        sandbox.faults.add(fault)
        assert await read(client, media_id) == expected
    assert sandbox.faults.struck == 2


@each_read
async def test_a_read_of_another_integration_or_with_a_wrong_key_is_refused(
    sandbox: VirtualSandbox, client: AsyncDesk360, media_id: str, name: str
) -> None:
    read, _ = READS[name]
    assert type(await error_of(read(sandbox.client(api_key="wrong-key"), media_id))) is AuthenticationFailed
    if name != "list_integrations":
        assert type(await error_of(read(client.for_integration(33), media_id))) is NotFound


async def test_all_pages_are_found_by_their_links(fact: tuple[str, Any], client: AsyncDesk360) -> None:
    """Without a Link header the second page can't be found, which the doctor reports."""
    templates = [row.id async for row in client.templates.iter()]
    assert len(templates) == (20 if fact == ("28.link", False) else 25)


async def test_a_media_id_that_the_server_lacks_is_not_found(client: AsyncDesk360) -> None:
    assert type(await error_of(client.read_media("nothing"))) is NotFound


async def test_a_file_is_saved(client: AsyncDesk360, media_id: str, tmp_path: Path) -> None:
    assert (await client.save_media(media_id, tmp_path)).read_bytes() == PNG


@each_send
async def test_json_that_the_server_ignores_is_refused_with_the_fix(name: str, message: Message) -> None:
    """A request with a file is a form anyway."""
    sandbox = sandbox_like(**{"4.json": False})
    sending = sandbox.client().send(message)
    if name == "send_media":
        await sending
        return
    error = await error_of(sending)
    assert (type(error), error.outcome, sandbox.accepted) == (ValidationFailed, Outcome.NOT_SENT, 0)
    assert "try AsyncDesk360(encoding='form')" in str(error)
