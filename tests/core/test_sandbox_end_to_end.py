"""What happens at a server that checks every field: the sandbox, in process and over TCP."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    AuthenticationFailed,
    Button,
    DocumentHeader,
    NotFound,
    Outcome,
    TextMessage,
    TokenBucket,
    ValidationFailed,
)
from desk360_async.sandbox import Sandbox
from tests.core.fakes import TO, Tokens
from tests.core.vendor import BUTTONS, CONTACT, LOCATION, PNG

pytestmark = pytest.mark.anyio


@pytest.fixture
def sandbox() -> Sandbox:
    """A sandbox in the loop's time, without a limit that matters."""
    return Sandbox(clock=anyio.current_time, limit=1000)


def connect(sandbox: Sandbox, **options: Any) -> AsyncDesk360:
    """Make a client of a sandbox, in process."""
    settings: dict[str, Any] = {"api_key": "sandbox-key", "integration_id": 11, "limiter": Tokens()} | options
    return AsyncDesk360(base_url="http://localhost", transport=httpx.ASGITransport(sandbox.app), **settings)


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[AsyncDesk360]:
    """A client of the sandbox."""
    async with connect(sandbox) as client:
        yield client


@pytest.mark.smoke
async def test_a_text_arrives(client: AsyncDesk360, sandbox: Sandbox) -> None:
    """With the id that it was answered."""
    sent = await client.send_text(TO, "Merhaba 📦 <b>")
    (received,) = sandbox.received
    assert (received.phone, received.kind, received.text) == (TO, "text", "Merhaba 📦 <b>")
    assert received.message_id == sent.message_id


async def test_a_template_arrives_by_name_and_by_id(client: AsyncDesk360, sandbox: Sandbox) -> None:
    """Its parameters too; the second page of the list is found."""
    parameters = {"header-1": "a", "body-1": "Ayşe", "body-2": "📦"}
    await client.send_template(TO, 75, language=2, parameters=parameters)
    await client.send_template(TO, "template_02", language="türkçe", parameters=parameters)
    await client.send_template(TO, "\u00e7a\u011fr\u0131", language="Türkçe")
    assert [(m.template_id, m.language_id, m.parameters) for m in sandbox.received] == [
        (75, 2, parameters),
        (75, 2, parameters),
        (99, 2, {}),
    ]


async def test_a_template_with_a_file_arrives(client: AsyncDesk360, sandbox: Sandbox, tmp_path: Path) -> None:
    """As a form, with its destination."""
    (tmp_path / "fatura.pdf").write_bytes(PNG)
    await client.send_template(
        TO, "invoice", language=1, parameters={"body-1": "x"}, attachment=tmp_path / "fatura.pdf"
    )
    (file,) = sandbox.received[0].files
    assert (file.name, file.type, file.size) == ("fatura.pdf", "application/pdf", len(PNG))


@pytest.mark.parametrize("count", [2, 950])
@pytest.mark.parametrize("with_file", [False, True])
async def test_a_batch_arrives(client: AsyncDesk360, sandbox: Sandbox, count: int, with_file: bool) -> None:
    """As JSON, as fields, as a file of numbers; who wasn't taken is unlisted."""
    phones = [f"+90555{n:07d}" for n in range(count)]
    template = (
        {"template": "catalogue", "attachment": Attachment.from_bytes("a.png", PNG)}
        if with_file
        else {"template": "welcome"}
    )
    reply = await client.send_template_bulk(phones, language=1, **template)
    assert [m.phone for m in sandbox.received] == phones[1:] == list(reply.phones)
    assert reply.unlisted == ("+905550000000",)
    assert all(m.bulk for m in sandbox.received)


async def test_each_other_message_arrives(client: AsyncDesk360, sandbox: Sandbox) -> None:
    """One of each kind."""
    await client.send_location(TO, LOCATION)
    await client.send_contacts(TO, [CONTACT])
    await client.send_interactive(TO, "body", BUTTONS, header=DocumentHeader("https://a/b.pdf"), footer="bye")
    await client.send_location_request(TO, "where?")
    assert [m.kind for m in sandbox.received] == ["location", "contacts", "interactive", "location_request"]


async def test_files_arrive_and_can_be_fetched_again(
    client: AsyncDesk360, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Byte for byte, under the ids that the answer gave."""
    (tmp_path / "ürün.png").write_bytes(PNG * 100_000)
    sent = await client.send_media(TO, [tmp_path / "ürün.png", Attachment.from_bytes("b.txt", b"2")])
    assert [f.sha256 for m in sandbox.received for f in m.files] == [
        hashlib.sha256(content).hexdigest() for content in (PNG * 100_000, b"2")
    ]
    first = next(file for file in sent.files if file.name == "ürün.png")
    assert first.media_id is not None
    media = await client.read_media(first.media_id)
    assert (media.content, media.content_type) == (PNG * 100_000, "image/png")
    saved = await client.save_media(first.media_id, tmp_path / "again")
    assert saved.read_bytes() == PNG * 100_000


async def test_receipts_arrive(client: AsyncDesk360, sandbox: Sandbox) -> None:
    """Only ids of messages that were received."""
    sent = await client.send_text(TO, "x")
    assert await client.mark_read(TO, [sent.message_id]) == (sent.message_id,)
    assert [r.message_ids for r in sandbox.reads] == [(sent.message_id,)]


async def test_lists_are_read_to_their_last_page(client: AsyncDesk360) -> None:
    """25 templates are two pages."""
    assert [i.id async for i in client.integrations.iter()] == [11, 22]
    pages = [page async for page in client.templates.iter_pages()]
    assert [len(page) for page in pages] == [20, 5]


async def test_the_sandbox_refuses_what_the_document_says(sandbox: Sandbox) -> None:
    """A wrong key, another's integration, what only the server knows."""
    async with connect(sandbox, api_key="wrong") as stranger:
        with pytest.raises(AuthenticationFailed):
            await stranger.integrations.list()
    async with connect(sandbox) as client:
        with pytest.raises(NotFound):
            await client.for_integration(33).send_text(TO, "x")
        with pytest.raises(NotFound):
            await client.read_media("nothing")
        with pytest.raises(ValidationFailed) as caught:
            await client.send_interactive("+905550000000", "x", [Button("a", "b")])
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "5550000000" not in str(caught.value) + caught.value.body


@pytest.mark.parametrize("window", ["first_hit", "aligned", "sliding_log", "token_bucket"])
async def test_a_list_goes_out_within_the_limit(window: Any) -> None:
    """Ruling 32: however the server counts, none refused, none twice, and the limit used."""
    sandbox = Sandbox(clock=anyio.current_time, window=window)
    async with connect(sandbox, limiter=TokenBucket()) as client:
        began = anyio.current_time()
        results = await client.send_all(TextMessage(TO, str(n)) for n in range(150))
    assert {r.outcome for r in results} == {Outcome.ACCEPTED}
    assert sorted(int(m.text or "") for m in sandbox.received) == list(range(150))
    assert sandbox.refusals == 0
    assert anyio.current_time() - began < 165


@pytest.mark.real
async def test_over_a_real_socket(tmp_path: Path) -> None:
    """Pool, trace and threads included: sends at once, a file up and down, a refusal."""
    sandbox = Sandbox(limit=1000)
    (tmp_path / "a.bin").write_bytes(bytes(1_000_000))
    with sandbox.serve_in_thread() as server:
        async with AsyncDesk360(
            "sandbox-key", integration_id=11, base_url=server.url, limiter=Tokens()
        ) as client:
            results = await client.send_all(TextMessage(TO, str(n)) for n in range(50))
            sent = await client.send_media(TO, [tmp_path / "a.bin"])
            assert len((await client.read_media(sent.files[0].media_id or "")).content) == 1_000_000
            with pytest.raises(NotFound):
                await client.request("GET", "/nothing")
    assert {r.outcome for r in results} == {Outcome.ACCEPTED}
    assert sandbox.accepted == 51
