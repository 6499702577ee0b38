# ruff: noqa: E501 - a row a line
# mypy: disable-error-code="arg-type,list-item,dict-item"
# ... since what the user does wrong is the point here.
"""Bad input: the error names the field, the limit and the fix, says NOT_SENT, and costs no request."""

import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    Button,
    ClientStateError,
    ConfigurationError,
    Contact,
    ContactName,
    ContactPhone,
    Desk360Error,
    DocumentHeader,
    ImageHeader,
    InvalidMessage,
    Location,
    LocationMessage,
    Outcome,
    TextHeader,
    TextMessage,
    VideoHeader,
    _validators,
)
from tests.core.fakes import ID, KEY, TO, Tokens, Wire, connect

pytestmark = pytest.mark.anyio

MB = 1024 * 1024
PNG = Attachment.from_bytes("a.png", b"png")


def button(n: int) -> Button:
    """Make a button that differs from the others."""
    return Button(f"id {n}", f"title {n}")


def on_disk(name: str) -> str:
    """Name one of the unusual things of the fixture `disk`."""
    return os.environ["DISK"] + name


# What the user does, the field, and what the message must say: the limit and the fix.
Case = tuple[str, Callable[[Any], Awaitable[Any]], str, list[str]]
CASES: list[Case] = [
    ("no plus", lambda c: c.send_text("905551112233", "x"), "to", ["must start with '+'", "+905551112233"]),
    ("a trunk zero", lambda c: c.send_text("+44 (0)20 7946 0958", "x"), "to", ["(0)", "leave that zero out"]),
    ("a trunk zero, NBSP", lambda c: c.send_text("+44 [\u00a00]20 7946 0958", "x"), "to", ["leave that zero"]),
    ("other digits", lambda c: c.send_text("+٩٠٥٥٥١١١٢٢٣٣", "x"), "to", ["0 to 9", "ARABIC-INDIC DIGIT"]),
    ("a final newline inside", lambda c: c.send_text("+9055511122\n33", "x"), "to", ["0 to 9", "U+000A"]),
    ("too short", lambda c: c.send_text("+90555", "x"), "to", ["7 to 15 digits", "found 5"]),
    ("too long", lambda c: c.send_text("+9055511122334455", "x"), "to", ["7 to 15 digits", "found 16"]),
    ("country code 0", lambda c: c.send_text("+05551112233", "x"), "to", ["doesn't start with 0"]),
    ("an empty phone", lambda c: c.send_text(" ", "x"), "to", ["empty", "country code"]),
    ("a phone as int", lambda c: c.send_text(905551112233, "x"), "to", ["not int"]),
    ("no text", lambda c: c.send_text(TO, ""), "text", ["empty", "at least 1"]),
    ("4,097 characters", lambda c: c.send_text(TO, "x" * 4097), "text", ["4,097", "4,096", "shorten"]),
    ("text as bytes", lambda c: c.send_text(TO, b"x"), "text", ["must be text", "bytes"]),
    ("blank text", lambda c: c.send_text(TO, " \n\u00a0"), "text", ["blank", "at least 1"]),
    ("a lone surrogate", lambda c: c.send_text(TO, "ab\ud800"), "text", ["surrogate", "position 2", "remove"]),
    ("NaN", lambda c: c.send_location(TO, Location(longitude=math.nan, latitude=0, name="a", address="b")), "longitude", ["-180", "180"]),
    ("infinity", lambda c: c.send_location(TO, Location(longitude=0, latitude=math.inf, name="a", address="b")), "latitude", ["-90", "90"]),
    ("off the map", lambda c: c.send_location(TO, Location(longitude=0, latitude=90.1, name="a", address="b")), "latitude", ["-90 and 90"]),
    ("400 digits of degrees", lambda c: c.send_location(TO, Location(longitude=10**400, latitude=0, name="a", address="b")), "longitude", ["-180 and 180", "401 characters"]),
    ("5,000 digits of degrees", lambda c: c.send_location(TO, Location(longitude=0, latitude=-(10**5000), name="a", address="b")), "latitude", ["-90 and 90", "thousands of digits"]),
    ("True degrees", lambda c: c.send_location(TO, Location(longitude=True, latitude=0, name="a", address="b")), "longitude", ["number", "bool"]),
    ("no location", lambda c: c.send_location(TO, {"longitude": 1}), "location", ["Location", "dict"]),
    ("a name as None", lambda c: c.send_location(TO, Location(longitude=0, latitude=0, name=None, address="b")), "name", ["text", "NoneType"]),
    ("11 buttons", lambda c: c.send_interactive(TO, "b", [button(n) for n in range(11)]), "buttons", ["11", "10"]),
    ("no button", lambda c: c.send_interactive(TO, "b", []), "buttons", ["empty", "at least one"]),
    ("two ids alike", lambda c: c.send_interactive(TO, "b", [Button("a", "b"), Button("a", "c")]), "buttons[1].id", ["unique"]),
    ("two titles alike", lambda c: c.send_interactive(TO, "b", [Button("a", "b"), Button("c", "b")]), "buttons[1].title", ["unique"]),
    ("a long id", lambda c: c.send_interactive(TO, "b", [Button("x" * 201, "b")]), "id", ["201", "200"]),
    ("a long title", lambda c: c.send_interactive(TO, "b", [Button("a", "x" * 21)]), "title", ["21", "20"]),
    ("a blank id", lambda c: c.send_interactive(TO, "b", [Button(" ", "b")]), "id", ["blank", "at least 1"]),
    ("a blank title", lambda c: c.send_interactive(TO, "b", [Button("a", "\t")]), "title", ["blank"]),
    ("a blank footer", lambda c: c.send_interactive(TO, "b", [button(1)], footer=" "), "footer", ["blank"]),
    ("None for buttons", lambda c: c.send_interactive(TO, "b", None), "buttons", ["a list, not None"]),
    ("a lone button", lambda c: c.send_interactive(TO, "b", button(1)), "buttons", ["wrap it in a list"]),
    ("a button as text", lambda c: c.send_interactive(TO, "b", ["yes"]), "buttons[0]", ["Button", "str"]),
    ("1,025 characters", lambda c: c.send_interactive(TO, "x" * 1025, [button(1)]), "body", ["1,025", "1,024"]),
    ("a long footer", lambda c: c.send_interactive(TO, "b", [button(1)], footer="x" * 61), "footer", ["61", "60"]),
    ("a long header", lambda c: c.send_interactive(TO, "b", [button(1)], header=TextHeader("x" * 61)), "text", ["61", "60"]),
    ("a header as text", lambda c: c.send_interactive(TO, "b", [button(1)], header="x"), "header", ["TextHeader"]),
    ("a file as link", lambda c: c.send_interactive(TO, "b", [button(1)], header=DocumentHeader("/a.pdf")), "link", ["https://"]),
    ("a link without a host", lambda c: c.send_interactive(TO, "b", [button(1)], header=ImageHeader("http://?")), "link", ["host"]),
    ("a blank in a link", lambda c: c.send_interactive(TO, "b", [button(1)], header=ImageHeader("https://a.b/c d")), "link", ["position 13", "%20"]),
    ("a line break in a link", lambda c: c.send_interactive(TO, "b", [button(1)], header=VideoHeader("https://a.b\n")), "link", ["position 11"]),
    ("a control in a link", lambda c: c.send_interactive(TO, "b", [button(1)], header=VideoHeader("https://a.b/\0")), "link", ["position 12"]),
    ("a long request", lambda c: c.send_location_request(TO, "x" * 1025), "body", ["1,025", "1,024"]),
    ("six files", lambda c: c.send_media(TO, [PNG] * 6), "attachments", ["6 files", "5"]),
    ("no file", lambda c: c.send_media(TO, []), "attachments", ["at least one"]),
    ("a lone path", lambda c: c.send_media(TO, "a.png"), "attachments", ["wrap it in a list"]),
    ("a lone Path", lambda c: c.send_media(TO, Path("a.png")), "attachments", ["wrap it in a list"]),
    ("a lone attachment", lambda c: c.send_media(TO, PNG), "attachments", ["wrap it in a list"]),
    ("bytes as file", lambda c: c.send_media(TO, [b"png"]), "attachments[0]", ["from_bytes(name, content)"]),
    ("a number as file", lambda c: c.send_media(TO, [7]), "attachments[0]", ["path or an Attachment", "int"]),
    ("20 MB + 1 byte", lambda c: c.send_media(TO, [Attachment.from_bytes("a", bytes(20 * MB + 1))]), "attachment", ["20,971,521", "20,971,520", "shrink"]),
    ("20 MB + 1 on disk", lambda c: c.send_media(TO, [on_disk("/large.bin")]), "attachment", ["20,971,521", "20,971,520", "shrink"]),
    ("a missing file", lambda c: c.send_media(TO, [on_disk("/gone.png")]), "attachment", ["gone.png", "No such file", "give the path"]),
    ("a directory", lambda c: c.send_media(TO, [on_disk("/folder")]), "attachment", ["is a folder", "give the path"]),
    ("a pipe", lambda c: c.send_media(TO, [on_disk("/pipe")]), "attachment", ["not a regular file"]),
    ("an impossible path", lambda c: c.send_media(TO, [Attachment.from_path("a\0b", name="a")]), "attachment", ["no path may have"]),
    ("an unreadable template file", lambda c: c.send_template(TO, 1, language=1, attachment=on_disk("/gone.png")), "attachment", ["No such file"]),
    ("a nameless file", lambda c: c.send_media(TO, ["/"]), "attachment.name", ["name="]),
    ("None as path", lambda c: c.send_media(TO, [Attachment.from_path(None)]), "attachment.path", ["pathlib.Path", "NoneType"]),
    ("bytes as path", lambda c: c.send_media(TO, [Attachment.from_path(b"a")]), "attachment.path", ["pathlib.Path", "bytes"]),
    ("a lone phone", lambda c: c.send_template_bulk(TO, 1, language=1), "phones", ["wrap it in a list"]),
    ("no phones", lambda c: c.send_template_bulk([], 1, language=1), "phones", ["at least one"]),
    ("a bad phone among good ones", lambda c: c.send_template_bulk([TO, "x"], 1, language=1), "phones[1]", ["'+'"]),
    ("a template as float", lambda c: c.send_template(TO, 1.5, language=1), "template", ["int", "str", "float"]),
    ("template 0", lambda c: c.send_template(TO, 0, language=1), "template", ["1 to 9,223,372,036,854,775,807"]),
    ("template -10**5000", lambda c: c.send_template(TO, -(10**5000), language=1), "template", ["thousands of digits"]),
    ("language 10**5000", lambda c: c.send_template(TO, 1, language=10**5000), "language", ["an id is 1 to"]),
    ("an empty name", lambda c: c.send_template(TO, "", language=1), "template", ["empty"]),
    ("a blank name", lambda c: c.send_template(TO, " ", language=1), "template", ["blank"]),
    ("a language as None", lambda c: c.send_template(TO, 1, language=None), "language", ["NoneType"]),
    ("a lone surrogate as name", lambda c: c.send_template(TO, "\ud800", language=1), "template", ["surrogate"]),
    ("parameters as list", lambda c: c.send_template(TO, 1, language=1, parameters=["a"]), "parameters", ["body-1", "list"]),
    ("a bracketed key", lambda c: c.send_template(TO, 1, language=1, parameters={"a[b]": "c"}), "parameters", ["a[b]", "body-1"]),
    ("a surrogate in a key", lambda c: c.send_template(TO, 1, language=1, parameters={"\udcff": "c"}), "parameters", ["surrogate"]),
    ("a parameter as None", lambda c: c.send_template(TO, 1, language=1, parameters={"b": None}), "parameters['b']", ["text", "NoneType"]),
    ("an empty parameter", lambda c: c.send_template(TO, 1, language=1, parameters={"body-1": ""}), "parameters['body-1']", ["empty", "must be filled"]),
    ("a blank parameter", lambda c: c.send_template_bulk([TO], 1, language=1, parameters={"body-1": " "}), "parameters['body-1']", ["blank"]),
    ("a parameter of 5,000 digits", lambda c: c.send_template(TO, 1, language=1, parameters={"b": 10**5000}), "parameters['b']", ["thousands of digits"]),
    ("a surrogate as parameter", lambda c: c.send_template(TO, 1, language=1, parameters={"b": "\ud800"}), "parameters['b']", ["surrogate"]),
    ("a lone contact", lambda c: c.send_contacts(TO, Contact(ContactName("a", "b", "c"))), "contacts", ["wrap it in a list"]),
    ("no contact", lambda c: c.send_contacts(TO, []), "contacts", ["at least one"]),
    ("a nameless contact", lambda c: c.send_contacts(TO, [Contact(ContactName("", "b", "c"))]), "formatted_name", ["empty"]),
    ("a name as text", lambda c: c.send_contacts(TO, [Contact("Ada")]), "name", ["must be ContactName(formatted_name, first_name, last_name), not str"]),
    ("a lone number on a card", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), phones="x")]), "phones", ["wrap it"]),
    ("a lone part of a card", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), phones=ContactPhone("1"))]), "phones", ["wrap it in a list: [ContactPhone(...)]"]),
    ("a lone address on a card", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), addresses="x")]), "addresses", ["[address]"]),
    ("a text number on a card", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), phones=["x"])]), "phones[0]", ["must be ContactPhone(phone), not str"]),
    ("an address as text", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), addresses=["x"])]), "addresses[0]", ["must be ContactAddress(street), not str"]),
    ("a place as text", lambda c: c.send(LocationMessage(TO, "x")), "location", ["must be Location(longitude=…, latitude=…, name=…, address=…), not str"]),
    ("a week date", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), birthday="2012-W01-1")]), "birthday", ["2012-08-18"]),
    ("30 February", lambda c: c.send_contacts(TO, [Contact(ContactName("a", "b", "c"), birthday="2012-02-30")]), "birthday", ["2012-08-18"]),
    ("a lone message id", lambda c: c.mark_read(TO, ID), "message_ids", ["wrap it in a list"]),
    ("no message id", lambda c: c.mark_read(TO, []), "message_ids", ["at least one"]),
    ("an empty message id", lambda c: c.mark_read(TO, [ID, ""]), "message_ids[1]", ["webhook"]),
    ("a surrogate as id", lambda c: c.mark_read(TO, ["\ud800"]), "message_ids[0]", ["surrogate"]),
    ("a dict as message", lambda c: c.send({"to": TO}), "message", ["TextMessage", "dict"]),
    ("page 0", lambda c: c.integrations.list(0), "page", ["1 or more"]),
    ("page True", lambda c: c.templates.list(True), "page", ["1 or more"]),
    ("an empty media id", lambda c: c.read_media(""), "media_id", ["webhook"]),
    ("dots as media id", lambda c: c.read_media(".."), "media_id", ["webhook"]),
    ("a surrogate as media id", lambda c: c.read_media("\ud800"), "media_id", ["surrogate"]),
    ("no method", lambda c: c.request("GET /", "/x"), "method", ["'GET'"]),
    ("another host", lambda c: c.request("GET", "https://evil.example/x"), "path", ["relative to /v1"]),
    ("another host, short", lambda c: c.request("GET", "//evil.example/x"), "path", ["relative to /v1"]),
    ("a space in the path", lambda c: c.request("GET", "/a b"), "path", ["spaces"]),
    ("dots in the path", lambda c: c.request("GET", "/a/../../x"), "path", ["'..'"]),
    ("encoded dots", lambda c: c.request("GET", "/a/%2E./x"), "path", ["'..'"]),
    ("encoded slashes", lambda c: c.request("GET", "/a%2f..%2Fx"), "path", ["'..'"]),
    ("a fragment", lambda c: c.request("GET", "/a#b"), "path", ["'#'"]),
    ("NaN as JSON", lambda c: c.request("POST", "/x", json={"a": math.nan}), "json", ["strict JSON"]),
    ("a set as JSON", lambda c: c.request("POST", "/x", json={1}), "json", ["strict JSON", "TypeError"]),
    ("a surrogate as JSON", lambda c: c.request("POST", "/x", json="\ud800"), "json", ["strict JSON"]),
    ("a surrogate as param", lambda c: c.request("GET", "/x", params={"a": "\ud800"}), "params", ["surrogate"]),
]  # fmt: skip  # a row a line


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no file to send."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large.bin").open("wb") as large:
        large.truncate(20 * MB + 1)
    monkeypatch.setenv("DISK", str(tmp_path))


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize(("call", "field", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
async def test_bad_input_costs_nothing(
    wire: Wire, call: Callable[[AsyncDesk360], Awaitable[Any]], field: str, words: list[str]
) -> None:
    """Rulings 5, 7, 10 and 15 to 19: found here, before a token or a byte."""
    tokens = Tokens()
    async with connect(wire, limiter=tokens) as client:
        with pytest.raises(InvalidMessage) as caught:
            await call(client)
    error = caught.value
    assert (error.field, error.outcome) == (field, Outcome.NOT_SENT)
    assert [word for word in words if word not in error.problem] == []
    assert (wire.seen, tokens.ended) == ([], [])


SETTINGS: list[tuple[dict[str, Any], list[str]]] = [
    ({"api_key": None}, ["api_key=", "DESK360_API_KEY"]),
    ({"api_key": " \n"}, ["api_key=", "DESK360_API_KEY"]),
    ({"api_key": "Bearer "}, ["api_key=", "DESK360_API_KEY"]),
    ({"api_key": "abc\ndef"}, ["line break", "position 3"]),
    ({"api_key": "abc def"}, ["space", "position 3"]),
    ({"api_key": "schlüssel"}, ["non-ASCII", "position 4"]),
    ({"api_key": b"abc"}, ["must be text", "bytes"]),
    ({"base_url": "http://api.example"}, ["http://", "https://", "allow_http=True"]),
    ({"base_url": "ftp://api.example"}, ["https://"]),
    ({"base_url": "api.example"}, ["https://"]),
    ({"base_url": "https://"}, ["https://"]),
    ({"base_url": "https://api.example/?a=b"}, ["query"]),
    ({"base_url": "https://api.example/?"}, ["query"]),
    ({"base_url": "https://api.example/#a"}, ["fragment"]),
    ({"base_url": "https://me:secret@api.example"}, ["user", "api_key"]),
    ({"base_url": "https://api.example:port"}, ["no URL"]),
    ({"base_url": "https://[::1"}, ["no URL"]),
    ({"base_url": "https://api\n.example"}, ["ASCII"]),
    ({"base_url": "https://😀.example"}, ["ASCII"]),
    ({"base_url": "https://good.example\\.evil.example"}, ["ASCII"]),
    ({"base_url": 7}, ["ASCII"]),
    ({"integration_id": 0}, ["integration_id", "1 or more"]),
    ({"integration_id": "11th"}, ["integration_id", "'11th'"]),
    ({"integration_id": True}, ["integration_id"]),
    ({"timeout": 0}, ["Timeouts.total", "at least 0.001"]),
    ({"timeout": math.nan}, ["Timeouts.total", "finite"]),
    ({"timeout": "30"}, ["timeout", "seconds or Timeouts"]),
    ({"retry": 3}, ["RetryPolicy", "int"]),
    ({"lane": "fast"}, ["'interactive' or 'bulk'"]),
    ({"max_wait": -1}, ["max_wait", "0 or more"]),
    ({"max_wait": math.nan}, ["max_wait"]),
    ({"max_wait": True}, ["max_wait"]),
    ({"max_connections": 0}, ["max_connections", "1 or more"]),
    ({"max_connections": True}, ["max_connections"]),
    ({"user_agent": "shop\r\nX: y"}, ["user_agent", "printable ASCII"]),
    ({"user_agent": "läden"}, ["user_agent"]),
    ({"proxy": "no proxy"}, ["http://proxy.example:3128"]),
    ({"proxy": "ftp://proxy.example"}, ["http://proxy.example:3128"]),
]


@pytest.mark.parametrize(("options", "words"), SETTINGS)
def test_a_bad_setting_is_named_with_its_fix(options: dict[str, Any], words: list[str]) -> None:
    """Rulings 1 and 3: when the client is made, and without showing the key."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncDesk360(**({"api_key": KEY} | options))
    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "schl" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [lambda c: c.send_text(TO, "x"), lambda c: c.mark_read(TO, [ID]), lambda c: c.templates.get(1),
     lambda c: c.templates.list(), lambda c: c.read_media("m"), lambda c: c.send_template(TO, "a", language=1)],
)  # fmt: skip
async def test_a_missing_integration_is_named_at_the_first_call(wire: Wire, call: Any) -> None:
    """Three ways to give it, and one to find it."""
    async with connect(wire, integration_id=None) as client:
        with pytest.raises(ConfigurationError, match=r"DESK360_INTEGRATION_ID.*for_integration.*lists them"):
            await call(client)
    assert wire.seen == []


STATES = [
    lambda c: c.send_text(TO, "x"),
    lambda c: c.send_template(TO, "a", language=1),
    lambda c: c.integrations.list(),
    lambda c: c.read_media("m"),
    lambda c: c.request("GET", "/x"),
    lambda c: c.mark_read(TO, [ID]),
]


@pytest.mark.parametrize("call", STATES)
async def test_a_closed_client_says_what_to_do(wire: Wire, call: Any) -> None:
    """Before a byte is sent."""
    async with connect(wire) as client:
        pass
    with pytest.raises(ClientStateError, match="make a new AsyncDesk360") as caught:
        await call(client)
    assert (caught.value.outcome, wire.seen) == (Outcome.NOT_SENT, [])


@pytest.mark.real
@pytest.mark.parametrize("call", STATES)
def test_a_second_run_is_refused(anyio_backend: Any, wire: Wire, call: Any) -> None:
    """A client is its first loop's; the message names the cause and the fix."""
    client = connect(wire)

    async def first() -> None:
        await client.send_text(TO, "x")

    async def second() -> None:
        with pytest.raises(ClientStateError, match=r"second asyncio.run.*one AsyncDesk360 for each loop"):
            await call(client)

    anyio.run(first, backend=anyio_backend[0])
    anyio.run(second, backend=anyio_backend[0])
    assert len(wire.seen) == 1


@pytest.mark.real
def test_a_forked_child_is_refused(anyio_backend: Any, wire: Wire) -> None:
    """Its connections are its parent's."""
    client = connect(wire)
    anyio.run(client.send_text, TO, "x", backend=anyio_backend[0])
    if not (child := os.fork()):
        try:
            anyio.run(client.send_text, TO, "x", backend=anyio_backend[0])
        except ClientStateError as error:
            os._exit(7 if "forked" in str(error) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


async def test_another_process_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the forked child above, told by its id."""
    async with connect(wire) as client:
        await client.send_text(TO, "x")
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            with pytest.raises(ClientStateError, match="make a new AsyncDesk360 in the child"):
                await client.send_text(TO, "x")


def test_every_bad_message_is_a_value_error_too() -> None:
    """For code that knows nothing of us."""
    with pytest.raises(ValueError) as caught:
        TextMessage(TO, "")
    assert isinstance(caught.value, Desk360Error)


@attrs.frozen
class Choices:
    """A message's part with the limits that a list of texts may have."""

    options: tuple[str, ...] = attrs.field(
        validator=[_validators.count(2, 3, "options"), _validators.texts(4), _validators.unique()]
    )


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ((), "options", "is empty; give at least one"),
        (("a",), "options", "holds 1 options; give at least 2"),
        (("a", "b", "c", "d"), "options", "holds 4 options, the limit is 3; leave some out"),
        (("a", "abcde"), "options[1]", "has 5 characters, the limit is 4; shorten it"),
        (("a", "b", "a"), "options[2]", "'a' is used by an earlier item; each must be unique"),
    ],
)
def test_a_list_of_texts_has_two_bounds_and_unique_items(
    options: tuple[str, ...], field: str, problem: str
) -> None:
    assert Choices(("a", "abcd", "c")).options == ("a", "abcd", "c")
    with pytest.raises(InvalidMessage) as caught:
        Choices(options)
    assert (caught.value.field, caught.value.problem) == (field, problem)


@attrs.frozen
class Flag:
    """A message's part with a flag."""

    on: bool = attrs.field(validator=_validators.instance_of(bool))


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_flag_takes_only_a_bool(value: Any) -> None:
    assert Flag(True).on
    with pytest.raises(InvalidMessage, match=f"on: must be bool, not {type(value).__name__}"):
        Flag(value)
