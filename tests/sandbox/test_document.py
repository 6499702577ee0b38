"""The vendor's own samples: what it sends is taken, and what it shows is what the sandbox answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from desk360_async.sandbox import Sandbox, phone_of
from desk360_async.testing import answer_sample

pytestmark = pytest.mark.anyio

SAMPLES = Path(__file__).parent / "samples"
TO = "+905057510467"
BASE = "/integrations/11/conversations"
PATHS = {
    "send_template": f"{BASE}/templates/send",
    "send_template_bulk": f"{BASE}/templates/send/bulk",
    "send_text": f"{BASE}/messages",
    "send_location": f"{BASE}/messages/locations",
    "send_contacts": f"{BASE}/messages/contacts",
    "send_media": f"{BASE}/messages/medias",
    "send_interactive": f"{BASE}/messages/interactive",
    "send_location_request": f"{BASE}/messages/interactive/location-request",
    "mark_read": f"{BASE}/messages/reads",
}


def sample(name: str) -> Any:
    """Read one sample; the answers come with the testing kit."""
    if name.endswith(".answer.json"):
        return json.loads(answer_sample(name.removesuffix(".answer.json")))
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def form_of(name: str) -> tuple[dict[str, str], list[tuple[str, tuple[str, bytes, str]]]]:
    """Split a form sample into fields and files, with what the reader is to fill in."""
    ids = {"template_id": "75", "language_id": "2"}
    rows = [
        (key, ids.get(key, value).replace("+90xxxxxxxxxx", TO)) for key, value in sample(f"{name}.form.json")
    ]
    files = [(key, ("desk360.png", b"png", "image/png")) for key, value in rows if value.startswith("@")]
    return {key: value for key, value in rows if not value.startswith("@")}, files


def shape(value: Any) -> Any:
    """Reduce JSON to its keys and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    "name", ["send_location", "send_contacts", "send_interactive", "send_location_request"]
)
async def test_json_samples_are_taken(client: httpx.AsyncClient, sandbox: Sandbox, name: str) -> None:
    """The cURL bodies of the document, word for word but for the number."""
    body = sample(f"{name}.body.json") | {"to": TO}
    answer = await client.post(PATHS[name], json=body)
    assert (answer.status_code, shape(answer.json())) == (200, shape(sample(f"{name}.answer.json")))
    assert [message.kind for message in sandbox.received] == [name.removeprefix("send_")]


@pytest.mark.parametrize(
    "name", ["send_template", "send_template_bulk", "send_text", "send_media", "mark_read"]
)
async def test_form_samples_are_taken(client: httpx.AsyncClient, name: str) -> None:
    """The cURL forms of the document; their answers have the documented keys."""
    data, files = form_of(name)
    answer = await client.post(PATHS[name], data=data, files=files or {"": ("", b"")})
    assert (answer.status_code, shape(answer.json())) == (200, shape(sample(f"{name}.answer.json")))


async def test_python_samples_without_a_file_are_urlencoded_and_taken(client: httpx.AsyncClient) -> None:
    """`requests` with an empty `files` sends no multipart at all."""
    answer = await client.post(PATHS["send_text"], data={"to": TO, "text": "Hello!"})
    assert answer.status_code == 200


async def test_integrations_are_the_documents(client: httpx.AsyncClient) -> None:
    """Both spellings: display_name and phone_number, name and logo."""
    assert (await client.get("/integrations")).json() == sample("list_integrations.answer.json")


async def test_the_documents_template_is_listed_word_for_word(client: httpx.AsyncClient) -> None:
    """Template 75, with its translation in review."""
    rows = (await client.get(f"{BASE}/templates")).json()
    assert [row for row in rows if row["id"] == 75] == sample("list_templates.answer.json")


@pytest.mark.parametrize("phone", ["+15551234567", "+905057510467", "+4912345678901", "+1234567"])
async def test_message_ids_hold_numbers_of_any_length(client: httpx.AsyncClient, phone: str) -> None:
    """An odd count of digits is filled up, and read back without the filling."""
    answer = await client.post(PATHS["send_text"], json={"to": phone, "text": "Hello!"})
    assert phone_of(answer.json()["message_id"]) == phone


async def test_message_ids_decode_to_the_phone(client: httpx.AsyncClient) -> None:
    """As the document's own do."""
    answer = await client.post(PATHS["send_text"], json={"to": TO, "text": "Hello!"})
    documented = sample("send_text.answer.json")["message_id"]
    assert answer.json()["message_id"][:14] == documented[:14]
    assert phone_of(documented) == phone_of(answer.json()["message_id"]) == TO


@pytest.mark.parametrize("identity", ["", "gBEG", "wamid.HBgM", "!!!", "gBEGkFBXUQRnAglW0luHY8xsrFk"[:6]])
def test_other_ids_decode_to_nothing(identity: str) -> None:
    """Ids are opaque; only ours are read."""
    assert phone_of(identity) is None


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", ""])
async def test_every_path_works_with_and_without_v1(
    sandbox: Sandbox, connect: Callable[..., httpx.AsyncClient], prefix: str
) -> None:
    """The document writes /v1, /api/v1, and once forgets the slash."""
    async with connect(sandbox) as client:
        client.base_url = f"http://sandbox{prefix}"
        assert (await client.get("/integrations")).status_code == 200
