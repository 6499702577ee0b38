# ruff: noqa: RUF001 - a dotless i is a letter of Turkish
"""`/_sandbox/…`, the OpenAPI document, seed files, and what is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Router

from desk360_async._endpoints import ENDPOINT_NAMED
from desk360_async.sandbox import (
    Fault,
    ReceivedRequest,
    Sandbox,
    StoredMedia,
    demo_account,
    load_account,
    parse_account,
    rules,
)
from desk360_async.sandbox.records import MediaStore, RequestLog
from desk360_async.testing import answer_sample

pytestmark = pytest.mark.anyio

TO = "+905551112233"
MESSAGES = "/integrations/11/conversations/messages"
CONTROL = "http://sandbox/_sandbox"
JSON = {"Content-Type": "application/json"}
RULES = {*rules._CONTENT} - {"array"}  # whose type follows from its members
Connect = Callable[..., httpx.AsyncClient]


async def test_the_record_can_be_asked_for(client: httpx.AsyncClient) -> None:
    """By phone and by template's id or name, in JSON; files as their descriptions."""
    data = {"template_id": "80", "language_id": "1", "destinations[0][phone]": TO}
    files = {"attachment": ("a.png", b"png", "image/png")}
    await client.post("/integrations/11/conversations/templates/send", data=data, files=files)
    for query in ("", f"?to=%2B{TO[1:]}", "?template=80", "?template=catalogue"):
        [message] = (await client.get(f"{CONTROL}/received{query}")).json()
        assert (message["phone"], message["files"][0]["size"]) == (TO, 3)
    assert (await client.get(f"{CONTROL}/received?template=75")).json() == []
    [entry] = (await client.get(f"{CONTROL}/requests")).json()
    assert (entry["body"]["attachment"]["name"], "authorization" in entry["headers"]) == ("a.png", False)


async def test_reads_can_be_asked_for(client: httpx.AsyncClient) -> None:
    """Beside the messages."""
    await client.post(f"{MESSAGES}/reads", json={"to": TO, "message_ids": ["a"]})
    assert (await client.get(f"{CONTROL}/reads")).json()[0]["message_ids"] == ["a"]


async def test_the_summary_counts(client: httpx.AsyncClient) -> None:
    """Control requests themselves are not counted."""
    await client.get("/integrations")
    expected = {
        "limit": 60,
        "period": 60.0,
        "window": "first_hit",
        "accepted": 0,
        "counted": 1,
        "refusals": 0,
    }
    assert (await client.get(CONTROL)).json() == expected | {"faults": 0}


async def test_faults_can_be_set_and_stopped(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """As the object of a fault's settings."""
    added = await client.post(f"{CONTROL}/faults", json={"kind": "status", "status": 503, "body": "down"})
    assert (added.status_code, added.json()["status"]) == (201, 503)
    assert (await client.get("/integrations")).json() == "down"
    assert [fault["kind"] for fault in (await client.get(f"{CONTROL}/faults")).json()] == ["status"]
    assert (await client.delete(f"{CONTROL}/faults", headers=JSON)).status_code == 204
    assert list(sandbox.faults) == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"kind": "gremlin"}', b'{"kind": "empty", "size": 1}'])
async def test_a_fault_that_makes_no_sense_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    """With the reason."""
    answer = await client.post(f"{CONTROL}/faults", content=body, headers=JSON)
    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


async def test_bytes_of_a_fault_are_shown_as_text(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """JSON knows no bytes."""
    sandbox.faults.add(Fault("status", body=b"down\xff"))
    assert (await client.get(f"{CONTROL}/faults")).json()[0]["body"] == "down\ufffd"


async def test_the_limit_can_be_changed(client: httpx.AsyncClient) -> None:
    """From the next request on; nonsense is refused."""
    assert (await client.put(f"{CONTROL}/limit", json={"limit": 5, "period": 2.5})).json()["period"] == 2.5
    assert (await client.get("/integrations")).headers["X-RateLimit-Limit"] == "5"
    assert (await client.put(f"{CONTROL}/limit", json={"limit": 0})).status_code == 400


async def test_everything_can_be_forgotten(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Between two tests of a long-running sandbox."""
    await client.post(MESSAGES, json={"to": TO, "text": "x"})
    assert (await client.post(f"{CONTROL}/reset", headers=JSON)).status_code == 204
    assert (sandbox.received, sandbox.counted) == ([], 0)


@pytest.mark.parametrize(
    ("address", "key", "status"),
    [
        ("127.0.0.1", "", 200),
        ("::1", "", 200),
        ("10.0.0.9", "", 401),
        ("10.0.0.9", "Bearer sandbox-key", 200),
    ],
)
async def test_the_record_is_open_to_this_machine_only(
    sandbox: Sandbox, address: str, key: str, status: int
) -> None:
    """It holds phone numbers; from elsewhere the key is asked for."""
    transport = httpx.ASGITransport(sandbox.app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.get(f"{CONTROL}/received", headers={"Authorization": key})
    assert answer.status_code == status


async def test_a_test_transport_without_an_address_is_this_machine(sandbox: Sandbox) -> None:
    """Starlette's test client calls itself "testclient"."""
    transport = httpx.ASGITransport(sandbox.app, client=("testclient", 1))
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get(f"{CONTROL}/received")).status_code == 200


@pytest.mark.parametrize("prefix", ["/sandbox", "/v1"])
async def test_an_application_may_mount_the_sandbox(sandbox: Sandbox, prefix: str) -> None:
    """Also under a path that begins as the API's do."""
    mounting = Router([Mount(prefix, app=sandbox.app)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(mounting)) as client:
        assert (await client.get(f"http://sandbox{prefix}/_sandbox")).json()[
            "limit"
        ] == sandbox.throttle.limit


async def test_openapi_lists_every_route(client: httpx.AsyncClient) -> None:
    """With the path's parameters, and the server that was asked."""
    document = (await client.get(f"{CONTROL}/openapi.json")).json()
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert sorted(names) == sorted(ENDPOINT_NAMED), (
        "mend desk360_async/sandbox/openapi.py, or ROUTES in desk360_async/sandbox/endpoints.py"
    )
    assert document["servers"] == [{"url": "http://sandbox/v1"}]
    media = document["paths"]["/integrations/{integration_id}/conversations/messages/medias/{media_id}"][
        "get"
    ]
    assert [parameter["name"] for parameter in media["parameters"]] == ["integration_id", "media_id"]


async def test_openapi_bodies_say_what_is_validated(client: httpx.AsyncClient) -> None:
    """The same tables: required, lengths, nesting."""
    document = (await client.get(f"{CONTROL}/openapi.json")).json()
    path = document["paths"]["/integrations/{integration_id}/conversations/messages/interactive"]
    schema = path["post"]["requestBody"]["content"]["application/json"]["schema"]
    button = schema["properties"]["buttons"]["items"]
    assert schema["required"] == ["to", "body", "buttons"]
    assert button["properties"]["title"] == {"type": "string", "maxLength": 20}
    bounds = ("minItems", "maxItems")
    assert [schema["properties"]["buttons"][bound] for bound in bounds] == [1, 10]
    assert schema["properties"]["header"]["properties"]["type"]["enum"] == [
        "text",
        "image",
        "video",
        "document",
    ]


@pytest.mark.parametrize("kind", sorted(RULES))
def test_openapi_draws_each_kind_of_rule(kind: str) -> None:
    """A rule that the schema leaves out is a limit that its reader misses."""
    drawn, bare = rules.schema_of(f"array|{kind}:1"), rules.schema_of("array")
    assert drawn != bare, f"mend desk360_async/sandbox/rules.py: {kind!r} has no JSON Schema"


def test_a_seed_file_may_be_short(tmp_path: Path) -> None:
    """What is missing is filled in: variables, status, languages."""
    translation = {"language_id": 2, "header": "Sayın {{1}}", "body": "{{2}} {{1}} {{2}}"}
    template = {"id": 1, "name": "hi", "translations": [translation]}
    seed = tmp_path / "seed.json"
    seed.write_text(
        json.dumps({"integrations": [{"id": 7, "name": "Shop", "templates": [template]}, {"id": 8}]})
    )
    account = load_account(seed)
    [row] = account.templates[7]
    assert row["translations"][0]["variables"] == ["header-1", "body-2", "body-1"]
    assert (row["sendable"], row["supported_languages"][0]["label"]) == (True, "Türkçe")
    assert (account.integrations, account.templates[8]) == (({"id": 7, "name": "Shop"}, {"id": 8}), ())


def test_a_seed_file_may_have_a_template_a_line(tmp_path: Path) -> None:
    """The output of `desk360 templates list --json` becomes integration 11 as it is."""
    rows = demo_account().templates[11]
    seed = tmp_path / "templates.json"
    seed.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert load_account(seed).templates == {11: rows}


def test_a_seed_file_may_be_what_the_api_answered() -> None:
    """The document's template stays as it is."""
    answer = json.loads(answer_sample("list_templates"))
    account = parse_account({"integrations": [{"id": 11, "templates": answer}]})
    assert list(account.templates[11]) == answer


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the seed file: 'integrations' must be a list"),
        ({"integrations": [{}]}, r"integrations\[0\]: 'id' must be an integer"),
        ({"integrations": [{"id": True}]}, r"integrations\[0\]: 'id' must be an integer"),
        ({"integrations": [{"id": 1}, {"id": 1}]}, r"integrations\[1\]: integration 1 is there twice"),
        ({"integrations": [{"id": 1, "templates": {}}]}, r"integrations\[0\]: 'templates' must be a list"),
        ({"integrations": [{"id": 1, "templates": [{"id": 2}]}]}, "'translations' must be a list"),
        ({"integrations": [{"id": 1, "templates": [{"id": 2, "translations": []}]}]}, "must not be empty"),
        ({"integrations": [{"id": 1, "templates": [{"id": 2, "translations": [
            {"language_id": 1, "header_type": "GIF"}]}]}]}, "header_type: 'GIF' is none of IMAGE, "),
    ],
)  # fmt: skip
def test_a_broken_seed_says_what_and_where(document: Any, message: str) -> None:
    """So that it can be mended without reading our code."""
    with pytest.raises(ValueError, match=message):
        parse_account(document)


def test_a_seed_that_is_no_json_names_the_file(tmp_path: Path) -> None:
    """Its path, not a bare decoder's message."""
    (tmp_path / "seed.json").write_text("{")
    with pytest.raises(ValueError, match=r"seed\.json: not a JSON file"):
        load_account(tmp_path / "seed.json")


def test_a_template_without_an_active_translation_is_not_sendable() -> None:
    """Unless the seed says otherwise: template 90 is in review, 92 is active and withdrawn."""
    rows = {row["id"]: row["sendable"] for row in Sandbox().account.templates[11]}
    assert [number for number, sendable in rows.items() if not sendable] == [90, 91, 92]
    assert len(rows) == 25


async def test_a_seeded_account_is_served(connect: Connect) -> None:
    """And nothing of the demo's."""
    account = parse_account({"integrations": [{"id": 7, "name": "Shop"}]})
    async with connect(Sandbox(account=account)) as client:
        assert (await client.get("/integrations")).json() == [{"id": 7, "name": "Shop"}]
        assert (await client.get("/integrations/7/conversations/templates")).json() == []
        assert (await client.get("/integrations/11/conversations/templates")).status_code == 404


def media(identity: str, size: int) -> StoredMedia:
    """Make a file of a size."""
    return StoredMedia(identity, 11, "a.png", "image/png", b"x" * size)


def test_old_media_make_room() -> None:
    """The newest stays, even where it alone is too large; an id put twice is one file."""
    store = MediaStore(max_bytes=10)
    for identity, size in (("a", 4), ("b", 6), ("b", 5), ("c", 1)):
        store.put(media(identity, size))
    assert len(store) == 3
    for identity, size in (("a", 4), ("b", 4), ("b", 5), ("c", 5), ("d", 11)):
        store.put(media(identity, size))
        assert store.get(identity) is not None
    assert (len(store), store.get("c")) == (1, None)


def entry(size: int) -> ReceivedRequest:
    """Make a log line of a body of that size."""
    return ReceivedRequest("POST", "/", {}, {}, {}, size, 200, "counted", 0.0)


@pytest.mark.parametrize(
    ("keep", "sizes", "left"),
    [
        (2, [1, 2, 3], [2, 3]),
        (None, [5, 5, 5], [5, 5]),
        (None, [3, 99], [99]),
        (None, [99, 3], [3]),
        (0, [1], []),
    ],
)
def test_the_request_log_is_bounded_by_number_and_bytes(
    keep: int | None, sizes: list[int], left: list[int]
) -> None:
    """The oldest go first."""
    log = RequestLog(keep, budget=10)
    for size in sizes:
        log.append(entry(size))
    assert [line.size for line in log] == left
