"""The vendor's own samples: what it sends is taken, and what it shows is what the sandbox answers."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from desk360_async._endpoints import ENDPOINTS
from desk360_async.sandbox import Sandbox, phone_of
from desk360_async.testing import answer_sample
from tests.core.vendor import request_sample

pytestmark = pytest.mark.anyio

TO = "+905057510467"
BASE = "/integrations/11/conversations"
PATHS = {endpoint.name: endpoint.path.format(integration_id=11, media_id="m") for endpoint in ENDPOINTS}
JSON_SAMPLES = [name for name in PATHS if request_sample(name).json is not None]
FORM_SAMPLES = [name for name in PATHS if request_sample(name).fields]


def sample(name: str) -> Any:
    """Return an answer as the document shows it."""
    return json.loads(answer_sample(name))


def form_of(name: str) -> tuple[dict[str, str], list[tuple[str, tuple[str, bytes, str]]]]:
    """Return a sample's fields and files, with this sandbox's ids and number."""
    ids = {"template_id": "75", "language_id": "2"}
    form = request_sample(name)
    fields = {
        key: TO if value.startswith("+90") else ids.get(key, value) for key, value in form.fields.items()
    }
    return fields, [(key, ("desk360.png", b"png", "image/png")) for key in form.files]


def shape(value: Any) -> Any:
    """Reduce JSON to its keys and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("name", JSON_SAMPLES)
async def test_json_samples_are_taken(client: httpx.AsyncClient, sandbox: Sandbox, name: str) -> None:
    """The cURL bodies of the document, word for word but for the number."""
    body = request_sample(name).json | {"to": TO}
    answer = await client.post(PATHS[name], json=body)
    assert (answer.status_code, shape(answer.json())) == (200, shape(sample(name)))
    assert [message.kind for message in sandbox.received] == [name.removeprefix("send_")]


@pytest.mark.parametrize("name", FORM_SAMPLES)
async def test_form_samples_are_taken(client: httpx.AsyncClient, name: str) -> None:
    """The cURL forms of the document; their answers have the documented keys."""
    data, files = form_of(name)
    answer = await client.post(PATHS[name], data=data, files=files or {"": ("", b"")})
    assert (answer.status_code, shape(answer.json())) == (200, shape(sample(name)))


async def test_python_samples_without_a_file_are_urlencoded_and_taken(client: httpx.AsyncClient) -> None:
    """`requests` with an empty `files` sends no multipart at all."""
    answer = await client.post(PATHS["send_text"], data={"to": TO, "text": "Hello!"})
    assert answer.status_code == 200


async def test_integrations_are_the_documents(client: httpx.AsyncClient) -> None:
    """Both spellings: display_name and phone_number, name and logo."""
    assert (await client.get("/integrations")).json() == sample("list_integrations")


async def test_the_documents_template_is_listed_word_for_word(client: httpx.AsyncClient) -> None:
    """Template 75, with its translation in review."""
    rows = (await client.get(f"{BASE}/templates")).json()
    assert [row for row in rows if row["id"] == 75] == sample("list_templates")


@pytest.mark.parametrize("phone", ["+15551234567", "+905057510467", "+4912345678901", "+1234567"])
async def test_message_ids_hold_numbers_of_any_length(client: httpx.AsyncClient, phone: str) -> None:
    """An uneven count of digits is filled up, and read back without the filling."""
    answer = await client.post(PATHS["send_text"], json={"to": phone, "text": "Hello!"})
    assert phone_of(answer.json()["message_id"]) == phone


async def test_message_ids_decode_to_the_phone(client: httpx.AsyncClient) -> None:
    """As the document's own do."""
    answer = await client.post(PATHS["send_text"], json={"to": TO, "text": "Hello!"})
    documented = sample("send_text")["message_id"]
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
