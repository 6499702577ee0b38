"""Rulings 2 to 21: what goes out is what the document shows, by its own samples."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from desk360_async import (
    Attachment,
    Button,
    ConfigurationError,
    Contact,
    ContactName,
    DocumentHeader,
    InvalidMessage,
    TemplateBatch,
    TextHeader,
    ValidationFailed,
    VideoHeader,
)
from desk360_async._uploads import flatten
from tests.core.fakes import KEY, TO, Seen, Wire, connect
from tests.core.vendor import (
    BASE,
    BUTTONS,
    CALLS,
    MEDIA_ID,
    PNG,
    TEMPLATE,
    answer_sample,
    nested,
    parse_multipart,
    request_sample,
    spelled,
)

pytestmark = pytest.mark.anyio
# An endpoint whose fields are other than its message's needs a line in `_codec`.
WHERE = "mend desk360_async/_messages.py, its line in _codec.py, or the request in tests/samples/requests"
FORMS = [name for name in CALLS if request_sample(name).fields and not request_sample(name).files]
FORMS_WITH_A_FILE = [name for name in CALLS if request_sample(name).files]


async def seen_of(name: str) -> Seen:
    """Make one of the document's requests, and return what went out."""
    body = PNG if name == "get_media" else answer_sample(name)
    kind = "image/png" if name == "get_media" else "application/json"
    wire = Wire(httpx.Response(200, content=body, headers={"content-type": kind}))
    async with connect(wire) as client:
        await CALLS[name](client)
    return wire.seen[0]


@pytest.mark.parametrize("name", CALLS)
async def test_method_and_url_are_the_documents(name: str) -> None:
    """Rulings 1, 2, 13 and 15: the samples' paths, without a final slash."""
    seen, sample = await seen_of(name), request_sample(name)
    page = "?page=1" if name == "list_integrations" else ""  # always said, as the document's other list does
    assert (seen.method, seen.url) == (sample.method, sample.url + page)


@pytest.mark.parametrize("name", CALLS)
async def test_every_request_carries_the_same_headers(name: str) -> None:
    """Rulings 3 and 12: Bearer always, and the Accept that keeps Laravel from redirecting."""
    headers = (await seen_of(name)).headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept"] == ("*/*" if name == "get_media" else "application/json")
    assert headers["host"] == "public-api.desk360.com"
    assert headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("name", [n for n in CALLS if request_sample(n).json is not None])
async def test_json_samples_go_out_word_for_word(name: str) -> None:
    """Rulings 4, 16 and 17: the same object, markup unchanged."""
    seen = await seen_of(name)
    assert seen.headers["content-type"] == "application/json"
    assert json.loads(seen.body) == request_sample(name).json, WHERE


@pytest.mark.parametrize("name", FORMS)
async def test_forms_without_a_file_travel_as_json(name: str) -> None:
    """Ruling 4: the document's form and our JSON hold the same."""
    seen, sample = await seen_of(name), request_sample(name)
    fields = {key.replace("[]", "[0]"): value for key, value in sample.fields.items()}
    assert spelled(json.loads(seen.body)) == nested(fields), WHERE


@pytest.mark.parametrize("name", FORMS_WITH_A_FILE)
async def test_forms_with_a_file_hold_the_documents_parts(name: str) -> None:
    """Rulings 4, 6, 8 and 9: the samples' names and values, as python-multipart reads them."""
    seen, sample = await seen_of(name), request_sample(name)
    parts = parse_multipart(seen.body, seen.headers["content-type"])
    assert {key: text.decode() for key, file, text in parts if file is None} == sample.fields, WHERE
    assert [(key, content) for key, file, content in parts if file] == [(key, PNG) for key in sample.files]


@pytest.mark.parametrize("name", ["send_template", "send_template_bulk"])
async def test_without_a_file_the_same_fields_travel_as_json(wire: Wire, name: str) -> None:
    """Rulings 4 and 9: parameters inside the destination, or shared at the top for bulk."""
    wire.answers = [lambda _: httpx.Response(200, content=answer_sample(name))]
    async with connect(wire) as client:
        if name == "send_template":
            await client.send_template("+905555555555", **TEMPLATE)
        else:
            await client.send_template_bulk(["+905555555555"], **TEMPLATE)
    assert spelled(json.loads(wire.seen[0].body)) == nested(request_sample(name).fields)


HEADERS = [
    (TextHeader("Hi"), {"type": "text", "text": "Hi"}),
    (VideoHeader("https://a/b.mp4"), {"type": "video", "video": {"link": "https://a/b.mp4"}}),
    (DocumentHeader("https://a/b.pdf"), {"type": "document", "document": {"link": "https://a/b.pdf"}}),
    (
        DocumentHeader("https://a/b.pdf", "b.pdf"),
        {"type": "document", "document": {"link": "https://a/b.pdf", "filename": "b.pdf"}},
    ),
]


@pytest.mark.parametrize(("header", "on_the_wire"), HEADERS)
async def test_headers_nest_as_the_table_says(wire: Wire, header: Any, on_the_wire: Any) -> None:
    """Ruling 16: `header.type` beside what it names; a footer that isn't there stays off."""
    async with connect(wire) as client:
        await client.send_interactive(TO, "body", BUTTONS[:1], header=header)
    assert json.loads(wire.seen[0].body) == {
        "to": TO,
        "body": "body",
        "buttons": [{"id": "ID 1.1", "title": "Button 1"}],
        "header": on_the_wire,
    }


async def test_none_stays_off_and_empty_text_does_not(wire: Wire) -> None:
    """0 and "" are values."""
    card = Contact(ContactName("A", "B", "C", middle_name=""))
    async with connect(wire) as client:
        await client.send_contacts(TO, [card])
    assert json.loads(wire.seen[0].body)["contacts"] == [
        {"name": {"formatted_name": "A", "first_name": "B", "last_name": "C", "middle_name": ""}}
    ]


async def test_json_goes_out_as_strict_utf8(wire: Wire) -> None:
    """Ruling 5: no BOM, no escapes."""
    async with connect(wire) as client:
        await client.send_text(TO, "ığüşöç 📦 </>")
    assert wire.seen[0].body == f'{{"to":"{TO}","text":"ığüşöç 📦 </>"}}'.encode()


async def test_a_template_goes_to_one_destination(wire: Wire) -> None:
    """Ruling 21: the answer holds one id."""
    async with connect(wire) as client:
        await client.send_template(TO, 75, language=2)
    assert json.loads(wire.seen[0].body) == {
        "template_id": 75,
        "language_id": 2,
        "destinations": [{"phone": TO}],
    }


def phones(count: int) -> list[str]:
    """Make so many numbers."""
    return [f"+90555{n:07d}" for n in range(count)]


async def bulk_seen(count: int, *, file: bool) -> Seen:
    """Send to so many phones."""
    wire = Wire(lambda _: httpx.Response(200, json={"phones": phones(count)}))
    async with connect(wire) as client:
        attachment = Attachment.from_bytes("a.png", PNG) if file else None
        reply = await client.send_template_bulk(phones(count), attachment=attachment, **TEMPLATE)
    assert reply.unlisted == ()
    return wire.seen[0]


@pytest.mark.parametrize("count", [894, 895, 5000])
async def test_more_phones_than_fit_a_form_travel_as_a_file(count: int) -> None:
    """Rulings 7 and 20: over 900 parts PHP's limit comes near; five fields and the file are there already."""
    seen = await bulk_seen(count, file=True)
    parts = parse_multipart(seen.body, seen.headers["content-type"])
    if count == 894:
        assert len(parts) == 900
        assert parts[-1] == ("destinations[893][phone]", None, phones(894)[-1].encode())
    else:
        assert len(parts) == 7
        assert parts[-1] == (
            "destinations_file",
            "destinations.csv",
            "".join(f"{p}\n" for p in phones(count)).encode(),
        )


async def test_json_carries_any_number_of_phones() -> None:
    """Ruling 4: no file, no form, no limit."""
    seen = await bulk_seen(5000, file=False)
    assert len(json.loads(seen.body)["destinations"]) == 5000


async def test_too_many_parameters_for_a_form_are_refused(wire: Wire) -> None:
    """Ruling 7: PHP would drop some without a word."""
    many = {f"body-{n}": "x" for n in range(900)}
    async with connect(wire) as client:
        with pytest.raises(InvalidMessage, match="over 900 the server would drop some"):
            await client.send_template(
                TO, 1, language=1, parameters=many, attachment=Attachment.from_bytes("a.png", PNG)
            )
    assert wire.seen == []


async def test_files_come_before_destinations() -> None:
    """Ruling 6: if PHP cuts anything, it isn't the file."""
    seen = await seen_of("send_template_bulk")
    names = [name for name, *_ in parse_multipart(seen.body, seen.headers["content-type"])]
    assert names[-2:] == ["attachment", "destinations[0][phone]"]


async def test_duplicate_phones_are_sent_once_in_order(wire: Wire) -> None:
    """Ruling 19."""
    batch = TemplateBatch(["+905550000002", "+90 555 000 00 01", "+90-555-000-0002"], 1, language=1)
    assert batch.phones == ("+905550000002", "+905550000001")


@pytest.mark.parametrize(
    ("media_id", "path"),
    [
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("../x", "..%2Fx"),
        ("%2e%2e", "%252e%252e"),
        ("ü", "%C3%BC"),
        (MEDIA_ID, MEDIA_ID),
    ],
)
async def test_media_ids_are_one_segment(media_id: str, path: str) -> None:
    """Ruling 15: whatever they hold."""
    wire = Wire(httpx.Response(200, content=b"x"))
    async with connect(wire) as client:
        await client.read_media(media_id)
    assert wire.seen[0].url == f"{BASE}/integrations/11/conversations/messages/medias/{path}"


def test_buttons_are_the_vendors_words() -> None:
    """Positional, in the document's order."""
    assert Button("a", "b") == Button(id="a", title="b")


# ── encoding="form" ────────────────────────────────────────────────────────────────────────────────────


async def form_of(name: str) -> list[tuple[str, str | None, bytes]]:
    """Make one of the document's requests as a form, and return its parts as python-multipart reads them."""
    wire = Wire(httpx.Response(200, content=answer_sample(name)))
    async with connect(wire, encoding="form") as client:
        await CALLS[name](client)
    return parse_multipart(wire.seen[0].body, wire.seen[0].headers["content-type"])


@pytest.mark.parametrize("name", FORMS)
async def test_a_form_without_a_file_is_the_documents_own(name: str) -> None:
    """Ruling 6: with explicit indices."""
    parts = {key: text.decode() for key, _, text in await form_of(name)}
    assert parts == {key.replace("[]", "[0]"): value for key, value in request_sample(name).fields.items()}


@pytest.mark.parametrize("name", [n for n in CALLS if request_sample(n).json is not None])
async def test_a_form_holds_what_the_json_holds(name: str) -> None:
    parts = {key: text.decode() for key, _, text in await form_of(name)}
    assert nested(parts) == spelled(request_sample(name).json)


async def test_a_form_writes_booleans_as_php_reads_them() -> None:
    """PHP takes the text "False" for true."""
    assert [part.value for part in flatten({"yes": True, "no": False})] == ["1", "0"]


@pytest.mark.parametrize("encoding", ["xml", None, True])
def test_another_encoding_is_refused(encoding: Any) -> None:
    with pytest.raises(ConfigurationError, match="encoding must be 'json' or 'form'"):
        connect(Wire(), encoding=encoding)


MISSED = {"message": "m", "errors": {"to": ["The to field is required."], "text": ["text is required"]}}


@pytest.mark.parametrize(
    ("encoding", "body", "hint"),
    [
        ("json", MISSED, "AsyncDesk360(encoding='form')"),
        ("form", MISSED, "AsyncDesk360(encoding='json')"),
        ("json", {"errors": {"to": ["The to field is required."]}}, None),
        ("json", {"errors": {"to": ["bad"], "text": ["bad"]}}, None),
        ("json", {"error": {"message": "The to field is required."}}, "AsyncDesk360(encoding='form')"),
        ("json", {"error": {"message": "The template id field is required."}}, None),
        ("json", {"error": {"message": "The to field is not valid."}}, None),
    ],
)
async def test_a_server_that_misses_every_field_gets_a_hint_at_the_encoding(
    encoding: Any, body: Any, hint: str | None
) -> None:
    async with connect(Wire(httpx.Response(400, json=body)), encoding=encoding) as client:
        with pytest.raises(ValidationFailed) as caught:
            await client.send_text(TO, "x")
    assert (hint in str(caught.value)) if hint else ("encoding" not in str(caught.value))


# ── a request of the user's own, with files ────────────────────────────────────────────────────────────


async def test_a_request_of_the_users_own_takes_files(wire: Wire) -> None:
    file = Attachment.from_bytes("a.png", b"1")
    async with connect(wire) as client:
        await client.request("POST", "/x", json={"to": TO, "b": [{"id": 1}]}, files=[("attachments[]", file)])
    [seen] = wire.seen
    assert parse_multipart(seen.body, seen.headers["content-type"]) == [
        ("to", None, TO.encode()),
        ("b[0][id]", None, b"1"),
        ("attachments[]", "a.png", b"1"),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"json": ["a"], "files": [("a", Attachment.from_bytes("a", b"1"))]}, "json: must map names"),
        ({"files": [("a", b"1")]}, "files: must be pairs of a field's name and an Attachment"),
    ],
)
async def test_files_of_a_request_of_the_users_own_are_checked(
    wire: Wire, arguments: Any, problem: str
) -> None:
    async with connect(wire) as client:
        with pytest.raises(InvalidMessage, match=problem):
            await client.request("POST", "/x", **arguments)
    assert wire.seen == []


# ── a file of destinations ─────────────────────────────────────────────────────────────────────────────

LINES = b'\xef\xbb\xbf+905555555555\r\n\n"+90 555 111 22 33"\n+905555555555\n'


def a_file(kind: str, tmp_path: Path, content: bytes = LINES) -> Any:
    """Return the same destinations as bytes, as a path, as text, and as a stream."""
    path = tmp_path / "list.csv"
    path.write_bytes(content)

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    return {
        "bytes": Attachment.from_bytes("list.csv", content),
        "path": path,
        "text": str(path),
        "stream": Attachment.from_stream("list.csv", len(content), blocks),
    }[kind]


@pytest.mark.parametrize("kind", ["bytes", "path", "text", "stream"])
async def test_a_destinations_file_travels_as_the_vendors_csv(kind: str, tmp_path: Path) -> None:
    """Ruling 20: one column, no header, LF; a person who stands twice is sent to once."""
    wire = Wire(httpx.Response(200, json={"phones": ["+905555555555"]}))
    async with connect(wire) as client:
        sent = await client.send_template_bulk(None, 75, language=1, destinations_file=a_file(kind, tmp_path))
    parts = parse_multipart(wire.seen[0].body, wire.seen[0].headers["content-type"])
    assert parts == [
        ("template_id", None, b"75"),
        ("language_id", None, b"1"),
        ("destinations_file", "destinations.csv", b"+905555555555\n+905551112233\n"),
    ]
    assert sent.unlisted == ("+905551112233",)


@pytest.mark.parametrize("kind", ["bytes", "path", "stream"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"+905555555555\nphone\n", ["line 2"]),
        (b"phone\n+905555555555\n", ["line 1"]),
        (b"+905555555555,Ada\n", ["line 1"]),
        (b"\n \n", ["no number", "without a header"]),
        (b"+905555555555\n\xff\n", ["UTF-8 in line 2"]),
    ],
)
async def test_a_wrong_line_costs_no_request(
    kind: str, content: bytes, words: list[str], tmp_path: Path
) -> None:
    wire = Wire()
    async with connect(wire) as client:
        with pytest.raises(InvalidMessage) as caught:
            file = a_file(kind, tmp_path, content)
            await client.send_template_bulk((), 75, language=1, destinations_file=file)
    assert (caught.value.field.startswith("destinations_file"), wire.seen) == (True, [])
    assert [word for word in words if word not in str(caught.value)] == []


def test_phones_and_a_file_of_them_exclude_each_other() -> None:
    with pytest.raises(InvalidMessage, match="takes the place of phones"):
        TemplateBatch([TO], 75, language=1, destinations_file=Attachment.from_bytes("a.csv", LINES))
