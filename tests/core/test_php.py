"""The other side by somebody else: what a real PHP makes of our bytes (rulings 4 to 10)."""

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from desk360_async import (
    Attachment,
    ContactsMessage,
    InvalidMessage,
    LocationMessage,
    MediaMessage,
    ReadMessage,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
    _wire,
)
from desk360_async._uploads import BLOCK, Upload, measure
from tests.core.fakes import TO
from tests.core.vendor import CALLS, CONTACT, LOCATION, TEMPLATE, message_of, request_sample
from tests.php import Php, needs_php, serving

pytestmark = [
    pytest.mark.real,
    needs_php,
]

_ECHO = """<?php
$file = fn ($name, $path, $type) => is_array($name)
    ? array_map(null, $name, $type, array_map(fn ($p) => sha1_file($p), $path))
    : [[$name, $type, sha1_file($path)]];
$files = array_map(fn ($f) => $file($f['name'], $f['tmp_name'], $f['type']), $_FILES);
$json = json_decode(file_get_contents('php://input'), true);
echo json_encode(['post' => $_POST, 'files' => $files, 'json' => $json]);
"""


@pytest.fixture(scope="module")
def php(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Php]:
    """PHP's own web server with a script that echoes what it understood."""
    script = tmp_path_factory.mktemp("php") / "echo.php"
    with serving(script, _ECHO, "upload_max_filesize=64M", "post_max_size=128M") as ask:
        yield ask


async def _write(call: Any) -> tuple[bytes, str]:
    if call.form is None:
        return call.content, "application/json"
    upload = Upload(call.form, await measure(call.form))
    await upload.open()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upload.pump)
            body = b"".join([block async for block in upload])
    finally:
        await upload.aclose()
    return body, upload.content_type


def understood(php: Php, message: Any, encoding: Any = "json") -> dict[str, Any]:
    """Return what PHP understands of a message."""
    return php(*anyio.run(_write, _wire.call_for(message, 11, encoding=encoding)))


EITHER_WAY = [
    TextMessage(TO, "Merhaba 📦 <b>\n"),
    ReadMessage(TO, ["a", "b"]),
    LocationMessage(TO, LOCATION),
    ContactsMessage(TO, [CONTACT]),
    TemplateMessage(TO, **TEMPLATE),
    TemplateBatch([TO, "+905555555555"], **TEMPLATE),
]


@pytest.mark.parametrize("message", EITHER_WAY, ids=lambda m: type(m).__name__)
def test_php_reads_the_same_from_a_form_as_from_json(php: Php, message: Any) -> None:
    """`encoding="form"`: numbers become text, and nothing else changes."""

    def spelled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spelled(item) for key, item in value.items()}
        return [spelled(item) for item in value] if isinstance(value, list) else str(value)

    assert understood(php, message, "form")["post"] == spelled(understood(php, message)["json"])


@pytest.mark.parametrize("name", [name for name in CALLS if request_sample(name).json is not None])
def test_php_reads_the_documents_json_and_ours_alike(php: Php, name: str) -> None:
    """The samples themselves, as a yardstick, and each endpoint's call."""
    body = json.dumps(request_sample(name).json).encode()
    assert php(body, "application/json")["json"] == request_sample(name).json
    message = anyio.run(message_of, name)
    assert understood(php, message)["json"] == request_sample(name).json


def test_php_reads_our_json(php: Php) -> None:
    """Ruling 5: emoji, Turkish, quotes."""
    sent = understood(php, ContactsMessage(TO, [CONTACT]))["json"]
    assert sent == request_sample("send_contacts").json | {"to": TO}


def test_php_nests_our_form(php: Php) -> None:
    """Rulings 6, 8 and 9: one destination with its parameters, files under their names."""
    file = Attachment.from_bytes("📦 a\"b'.png", b"1")
    got = understood(php, TemplateMessage(TO, **TEMPLATE, attachment=file))
    assert got["post"] == {
        "template_id": "1",
        "language_id": "1",
        "destinations": [{"phone": TO, "parameters": TEMPLATE["parameters"]}],
    }
    assert [row[:2] for row in got["files"]["attachment"]] == [["📦 a_b'.png", "image/png"]]


@pytest.mark.parametrize("count", [1, 500, 894, 895, 5000])
def test_php_loses_no_destination(php: Php, count: int) -> None:
    """Ruling 7: a field each while they fit, a file beyond."""
    phones = [f"+90555{n:07d}" for n in range(count)]
    got = understood(php, TemplateBatch(phones, **TEMPLATE, attachment=Attachment.from_bytes("a.png", b"1")))
    if count <= 894:
        assert [d["phone"] for d in got["post"]["destinations"]] == phones
    else:
        assert got["files"]["destinations_file"][0][:2] == ["destinations.csv", "text/csv"]
    assert got["post"]["parameters"] == TEMPLATE["parameters"]
    assert len(got["files"]["attachment"]) == 1


KEYS = ["body-1", "a.b", " a", 'a"b', "a\\b", "a\\", "ü", "it's", "a;b", "a=b", "0"]


@pytest.mark.parametrize("key", KEYS)
def test_php_reads_any_key(php: Php, key: str) -> None:
    """A parameter's key is the user's."""
    message = TemplateMessage(
        TO, 1, language=1, parameters={key: "x"}, attachment=Attachment.from_bytes("a", b"")
    )
    parameters = understood(php, message)["post"]["destinations"][0]["parameters"]
    assert parameters == (["x"] if key == "0" else {key: "x"})


PIECES = [
    "a",
    "é",
    "📦",
    '"',
    "'",
    "\\",
    "/",
    "\r\n",
    "\0",
    "\u202e",
    ";",
    "=",
    "%",
    "*",
    " ",
    "x" * 300,
    ".png",
    "ş",
]


def test_php_reads_any_file(php: Php) -> None:
    """Names of any kind, sizes beside the block's, up to five, in order."""
    rng = random.Random(18)
    for _ in range(60):
        files = []
        for _ in range(rng.randint(1, 5)):
            content = rng.randbytes(rng.choice([0, 1, 50, BLOCK - 1, BLOCK, BLOCK + 1]))
            try:
                files.append(
                    Attachment.from_bytes("".join(rng.choices(PIECES, k=rng.randint(1, 6))), content)
                )
            except InvalidMessage:
                files.append(Attachment.from_bytes("plain", content))
        got = understood(php, MediaMessage(TO, files))
        sums = [hashlib.sha1(file.content or b"").hexdigest() for file in files]
        assert [row[2] for row in got["files"]["attachments"]] == sums
        assert [row[0] for row in got["files"]["attachments"]] == [file.name for file in files]
        assert got["post"] == {"to": TO}
