"""The vendor's document as expectations: its samples, and one call of ours for each of its endpoints."""

import io
import itertools
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import httpx
from attrs import frozen
from python_multipart.multipart import parse_form

from desk360_async import (
    AsyncDesk360,
    Attachment,
    Button,
    Contact,
    ContactAddress,
    ContactEmail,
    ContactName,
    ContactOrganization,
    ContactPhone,
    ContactUrl,
    ImageHeader,
    Location,
    Message,
    _wire,
    testing,
)
from desk360_async._endpoints import ENDPOINTS
from tests.core.fakes import TO, Wire, connect

SAMPLES = Path(__file__).parent.parent / "samples"
BASE = "https://public-api.desk360.com/v1"
MEDIA_ID = "cae26b43-1463-44f5-9a81-f4119afbf6d9"
PNG = b"\x89PNG\r\n\x1a\n"


@frozen
class Sample:
    """A cURL command of the document, in parts; `fields` are text, `files` only names."""

    method: str
    url: str
    json: Any
    fields: dict[str, str]
    files: tuple[str, ...]


def request_sample(name: str) -> Sample:
    """Read a cURL command; what the reader is to fill in is filled in."""
    file = SAMPLES / "requests" / f"{name}.curl"
    assert file.exists(), f"add the vendor's request as tests/samples/requests/{name}.curl"
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    words = shlex.split(text.replace("+90xxxxxxxxxx", TO).replace(":integrationId", "11"))
    options = list(itertools.pairwise(words))
    forms = [value.partition("=") for option, value in options if option == "--form"]
    fields = {key: value.strip('"') for key, _, value in forms}
    return Sample(
        method=dict(options)["--request"],
        # A final slash, and the media's id, are the document's own slips and gaps.
        url=next(w for w in words if "://" in w).replace("/?", "?").replace(":mediaId", MEDIA_ID),
        json=next((json.loads(value) for option, value in options if option.startswith("--data")), None),
        fields={key: value for key, value in fields.items() if not value.startswith("@")},
        files=tuple(key for key, value in fields.items() if value.startswith("@")),
    )


def answer_sample(name: str) -> bytes:
    """Return an answer as the document shows it; the file is the testing kit's."""
    assert name in testing.ANSWERS, (
        f"add the vendor's answer as desk360_async/testing/samples/answers/{name}.json"
    )
    return testing.answer_sample(name)


def nested(fields: dict[str, str]) -> dict[str, Any]:
    """Nest bracketed fields as objects, list indices as keys."""
    root: dict[str, Any] = {}
    for key, value in fields.items():
        *path, last = re.findall(r"[^\[\]]+", key) + ([""] if key.endswith("[]") else [])
        place = root
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return root


def spelled(value: Any) -> Any:
    """Spell JSON as a form would carry it: scalars as text, lists by their indices."""
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    if isinstance(value, dict):
        return {key: spelled(item) for key, item in value.items()}
    return str(int(value)) if isinstance(value, bool) else str(value)


def parse_multipart(body: bytes, content_type: str) -> list[tuple[str, str | None, bytes]]:
    """Return a form's parts as python-multipart reads them: name, file name, content."""
    parts: list[tuple[str, str | None, bytes]] = []
    files: list[Any] = []

    def on_field(field: Any) -> None:
        parts.append((field.field_name.decode(), None, field.value or b""))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        parts.append((file.field_name.decode(), file.file_name.decode(), file.file_object.read()))
        files.append(file)

    headers = {"Content-Type": content_type.encode(), "Content-Length": str(len(body)).encode()}
    parse_form(headers, io.BytesIO(body), on_field, on_file)
    for file in files:  # only now: before 0.0.19 the parser itself flushes them last
        file.close()
    return parts


TEMPLATE: dict[str, Any] = {
    "template": 1,
    "language": 1,
    "parameters": {"header-1": "Header 1", "body-1": "Body 1", "body-2": "Body 2"},
}
IMAGE = Attachment.from_bytes("test_image.jpg", PNG)

CONTACT = Contact(
    ContactName("John Smith", "John", "Smith"),
    phones=[ContactPhone("+1 (650) 555-1234", "WORK", "16505551234")],
    emails=[ContactEmail("test@whatsapp.com", "WORK")],
    addresses=[
        ContactAddress(
            street="1 Hacker Way",
            city="Menlo Park",
            state="CA",
            zip="94025",
            country="United States",
            country_code="us",
            type="HOME",
        )
    ],
    urls=[ContactUrl("https://www.facebook.com", "WORK")],
    org=ContactOrganization("WhatsApp", "Design", "Manager"),
    birthday="2012-08-18",
)
LOCATION = Location(
    longitude=-122.425332,
    latitude=37.758056,
    name="Facebook HQ",
    address="1 Hacker Way, Menlo Park, CA 94025",
)
IMAGE_LINK = (
    "https://fastly.picsum.photos/id/879/200/300.jpg?hmac=07llkorYxtpw0EwxaeqFKPC5woveWVLykQVnIOyiwd8"
)
BUTTONS = [Button(f"ID 1.{n}", f"Button {n}") for n in (1, 2, 3)]
PHONE = "+905555555555"

# The document's requests, as a user of ours makes them.
CALLS: dict[str, Callable[[AsyncDesk360], Awaitable[Any]]] = {
    "list_integrations": lambda c: c.integrations.list(),
    "list_templates": lambda c: c.templates.list(),
    "send_template": lambda c: c.send_template(PHONE, attachment=IMAGE, **TEMPLATE),
    "send_template_bulk": lambda c: c.send_template_bulk([PHONE], attachment=IMAGE, **TEMPLATE),
    "send_text": lambda c: c.send_text(TO, "Hello!"),
    "send_location": lambda c: c.send_location(TO, LOCATION),
    "send_contacts": lambda c: c.send_contacts(TO, [CONTACT]),
    "send_media": lambda c: c.send_media(TO, [Attachment.from_bytes("desk360.png", PNG)]),
    "get_media": lambda c: c.read_media(MEDIA_ID),
    "send_interactive": lambda c: c.send_interactive(
        TO, "<p>Hello</p>", BUTTONS, header=ImageHeader(IMAGE_LINK), footer="<b>Bye</b>"
    ),
    "send_location_request": lambda c: c.send_location_request(TO, "<i>Send Location</i>"),
    "mark_read": lambda c: c.mark_read(TO, ["xxxxxxxxxxxxxxxx"]),
}
SENDS = [endpoint.name for endpoint in ENDPOINTS if endpoint.message in get_args(Message)]


async def message_of(name: str) -> Message:
    """Return the message that the call of an endpoint makes."""
    assert name in CALLS, f"add a call of {name} to CALLS in tests/core/vendor.py"
    assert hasattr(AsyncDesk360, name), f"add {name} to desk360_async/_client.py"
    async with connect(Wire(httpx.Response(200, content=answer_sample(name)))) as client:
        with mock.patch.object(_wire, "call_for", wraps=_wire.call_for) as call_for:
            await CALLS[name](client)
    message: Message = call_for.call_args.args[0]
    return message
