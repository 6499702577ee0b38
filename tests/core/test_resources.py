# ruff: noqa: E501 - a row a line
"""Lists and templates: paging, names, one request however many wait, and refusals before a token."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    Attachment,
    ConnectionFailed,
    Desk360Error,
    InvalidMessage,
    Outcome,
    RetryPolicy,
    SendResult,
    ServerError,
    Template,
    Translation,
    UnexpectedResponse,
)
from desk360_async._resources import FRESH, RETRIED, STALE
from tests.core.fakes import ID, TO, Seen, Tokens, Wire, connect, sent
from tests.core.vendor import PNG

pytestmark = pytest.mark.anyio


def translation(number: int, label: str, **fields: Any) -> dict[str, Any]:
    """Write a translation."""
    return {"language_id": number, "language": label, "status_value": 2, "variables": []} | fields


def template(number: int, name: str, *translations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Write a template."""
    return {"id": number, "name": name, "translations": list(translations)} | fields


ENGLISH, TURKISH = translation(1, "English"), translation(2, "Türkçe")
IMAGE = {"header_type": {"value": 1, "label": "IMAGE"}}
TEMPLATES = [
    template(75, "order_shipped", ENGLISH, translation(2, "Türkçe", variables=["header-1", "body-1"])),
    template(76, "Welcome", ENGLISH),
    template(77, "welcome", ENGLISH),
    template(78, "ÇAĞRI", ENGLISH),
    template(79, "twice", ENGLISH),
    template(80, "twice", ENGLISH),
    template(81, "draft", translation(1, "English", status_value=1, status="in-review"), TURKISH),
    template(82, "retired", ENGLISH, sendable=False),
    template(83, "picture", translation(1, "English", **IMAGE), ENGLISH | {"language": "english"}),
    template(84, "no id", {"language": "English"}),
    template(85, "silent", {"language_id": 1, "language": "English", "body": "{{1}}"}),
]


def listing(*pages: list[dict[str, Any]]) -> Callable[[Seen], httpx.Response]:
    """Answer lists page by page, and sends with an id."""
    rows = pages or (TEMPLATES,)

    def answer(seen: Seen) -> httpx.Response:
        if seen.method == "POST":
            return sent()
        number = int(seen.url.rpartition("page=")[2])
        link = f"<https://elsewhere.example/?page={number + 1}>; rel=next" if number < len(rows) else ""
        return httpx.Response(200, json=rows[number - 1], headers={"link": link})

    return answer


def looks(wire: Wire) -> int:
    """Count the requests for lists."""
    return sum(seen.method == "GET" for seen in wire.seen)


# ── paging ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_pages_follow_the_link_and_nothing_else_of_it() -> None:
    """Ruling 28: the number, never the host."""
    wire = Wire(listing([{"id": 1}, {"id": 2}], [{"id": 3}], []))
    async with connect(wire) as client:
        assert [i.id async for i in client.integrations.iter()] == [1, 2, 3]
        assert [page.number async for page in client.templates.iter_pages(start_page=2)] == [2, 3]
        assert [t.id async for t in client.templates.iter()] == [1, 2, 3]
    assert {httpx.URL(seen.url).host for seen in wire.seen} == {"public-api.desk360.com"}


@pytest.mark.parametrize("following", [0, 1])
async def test_a_next_that_does_not_grow_ends_with_an_error(following: int) -> None:
    """Ruling 28: after the page was yielded."""
    wire = Wire(httpx.Response(200, json=[{"id": 1}], headers={"link": f"<?page={following}>; rel=next"}))
    seen: list[int] = []
    async with connect(wire) as client:
        with pytest.raises(UnexpectedResponse, match=f"page 1 names page {following}"):
            async for item in client.integrations.iter():
                seen += [item.id]
    assert seen == [1]


async def test_one_page_may_be_had() -> None:
    """With its number and whether one follows."""
    async with connect(Wire(listing([{"id": 1}], [{"id": 2}]))) as client:
        page = await client.integrations.list(2)
    assert ([i.id for i in page], page.number, page.has_next) == ([2], 2, False)


# ── by name ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "number"),
    [("order_shipped", 75), ("ORDER_SHIPPED", 75), (" order_shipped ", 75), ("Welcome", 76), ("welcome", 77),
     ("çağri", 78), ("\u00e7a\u011fr\u0131", 78), ("C\u0327AG\u0306RI", 78), (80, 80)],
)  # fmt: skip
async def test_a_template_is_found_by_id_or_name(name: int | str, number: int) -> None:
    """Unicode-normalised; exact first, then case-folded."""
    async with connect(Wire(listing())) as client:
        assert (await client.templates.get(name)).id == number


@pytest.mark.parametrize(
    ("name", "problem"),
    [("nope", "'nope' is unknown; there is: order_shipped (75), Welcome (76)"),
     ("WELCOME", "is ambiguous; use its id"), ("twice", "is ambiguous; use its id"), (99, "99 is unknown")],
)  # fmt: skip
async def test_an_unknown_name_is_told_what_there_is(name: int | str, problem: str) -> None:
    """Before a send is spent."""
    wire = Wire(listing())
    async with connect(wire) as client:
        with pytest.raises(InvalidMessage) as caught:
            await client.send_template(TO, name, language="English")
    assert problem in str(caught.value)
    assert (caught.value.outcome, [s.method for s in wire.seen]) == (Outcome.NOT_SENT, ["GET"])


async def test_of_many_templates_an_error_shows_the_nearest() -> None:
    """Eight of them, and the number of the others."""
    rows = [{"id": number, "name": f"notice_{number}"} for number in range(25)] + [
        {"id": 99, "name": "shipped"}
    ]
    async with connect(Wire(listing(rows))) as client:
        with pytest.raises(
            InvalidMessage, match=r"did you mean 'shipped'\? .*: shipped \(99\), .* and 18 more$"
        ):
            await client.templates.get("shiped")


async def test_an_empty_list_says_so() -> None:
    """There is none."""
    async with connect(Wire(listing([]))) as client:
        with pytest.raises(InvalidMessage, match="there is: none"):
            await client.templates.get("x")


async def test_names_travel_as_ids() -> None:
    """Template and language, each by name or id; bulk too."""
    wire = Wire(listing())
    parameters = {"header-1": "a", "body-1": "b"}
    async with connect(wire) as client:
        await client.send_template(TO, "order_shipped", language="türkçe", parameters=parameters)
        await client.send_template(TO, 75, language="Türkçe", parameters=parameters)
        await client.send_template(TO, "order_shipped", language=2, parameters=parameters)
    bodies = [json.loads(seen.body) for seen in wire.seen if seen.method == "POST"]
    assert [(b["template_id"], b["language_id"]) for b in bodies] == [(75, 2)] * 3
    assert looks(wire) == 1


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"template": "order_shipped", "language": "German"}, "language", "is unknown; template order_shipped has: English (1), Türkçe (2)"),
    ({"template": "order_shipped", "language": 3}, "language", "3 is unknown"),
    ({"template": "picture", "language": "ENGLISH"}, "language", "is ambiguous"),
    ({"template": "draft", "language": 1}, "language", "English of draft is not active (in-review); active: Türkçe"),
    ({"template": "retired", "language": 1}, "template", "retired (82) can't be sent; these can: order_shipped (75)"),
    ({"template": "no id", "language": "English"}, "language", "has no id in the list"),
    ({"template": "order_shipped", "language": 2}, "parameters", "lacks header-1, body-1; Türkçe takes: header-1, body-1"),
    ({"template": "Welcome", "language": 1, "parameters": {"body-9": "x"}}, "parameters", "unknown body-9; English takes: none"),
    ({"template": "picture", "language": "English"}, "attachment", "is missing; the header of English is a file (IMAGE)"),
    ({"template": "Welcome", "language": 1, "attachment": Attachment.from_bytes("a", PNG)}, "attachment", "the header of English is no file"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "field", "problem"), REFUSED)
async def test_what_would_be_refused_is_refused_here(
    options: dict[str, Any], field: str, problem: str
) -> None:
    """No send spent; the message lists what there is. By id too, while the list is at hand."""
    wire = Wire(listing())
    heard: list[SendResult] = []
    async with connect(wire, on_result=heard.append) as client:
        with pytest.raises(InvalidMessage) as caught:
            await client.send_template(TO, **options)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert ([s.method for s in wire.seen], [r.outcome for r in heard]) == (["GET"], [Outcome.NOT_SENT])


async def test_ids_alone_are_looked_up_nowhere() -> None:
    """The contract: int, no look-up; nothing is known, so nothing is refused."""
    wire = Wire(listing())
    async with connect(wire) as client:
        await client.send_template(TO, 82, language=1)
        await client.send_template(TO, 999, language=7, parameters={"x": "y"})
    assert [s.method for s in wire.seen] == ["POST", "POST"]


async def test_ids_are_checked_against_a_list_at_hand() -> None:
    """While it is fresh; what it doesn't hold is sent."""
    wire = Wire(listing())
    async with connect(wire) as client:
        await client.templates.preload()
        with pytest.raises(InvalidMessage, match="lacks header-1"):
            await client.send_template(TO, 75, language=2)
        with pytest.raises(InvalidMessage, match="can't be sent"):
            await client.send_template(TO, 82, language=1)
        await client.send_template(TO, 75, language=9)
        await client.send_template(TO, 999, language=1)
        await anyio.sleep(FRESH + 1)
        await client.send_template(TO, 82, language=1)
    assert looks(wire) == 1


async def test_variables_that_nobody_listed_are_not_checked() -> None:
    """Ruling 22: they may be missing."""
    wire = Wire(listing())
    async with connect(wire) as client:
        assert (
            await client.send_template(TO, "silent", language=1, parameters={"body-1": "x"})
        ).message_id == ID


# ── the cache ──────────────────────────────────────────────────────────────────────────────────────────


async def slowly(seen: Seen) -> httpx.Response:
    """Answer lists after a second."""
    await anyio.sleep(1)
    return listing()(seen)


async def test_all_who_wait_share_one_request() -> None:
    """However many, and whichever name they want; views too."""
    wire = Wire(slowly)
    async with connect(wire) as client, anyio.create_task_group() as tasks:
        for name in ("order_shipped", "Welcome", "draft") * 10:
            tasks.start_soon(client.with_options(lane="bulk").templates.get, name)
        await anyio.sleep(0.5)
        tasks.start_soon(client.templates.get, 75)
    assert looks(wire) == 1


async def test_all_who_wait_share_one_failure() -> None:
    """A server that is down isn't asked by each in turn; the next caller asks again."""

    async def down(_: Seen) -> httpx.Response:
        await anyio.sleep(1)
        return httpx.Response(403)

    wire = Wire(down)
    errors: list[Desk360Error] = []

    async def send() -> None:
        try:
            await client.send_template(TO, "x", language=1)
        except Desk360Error as error:
            errors.append(error)

    client = connect(wire)
    async with client:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(send)
        assert (len(wire.seen), len(errors), len({id(e) for e in errors})) == (1, 20, 20)
        assert {e.outcome for e in errors} == {Outcome.NOT_SENT}
        await send()
    assert len(wire.seen) == 2


async def test_a_cancelled_look_up_is_taken_over() -> None:
    """By the next in line."""
    wire = Wire(slowly)
    async with connect(wire) as client, anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.5):
            async with anyio.create_task_group() as first:
                first.start_soon(client.templates.get, 75)
                await anyio.sleep(0.1)
                tasks.start_soon(client.templates.get, 76)
                await anyio.sleep(5)
    assert looks(wire) == 2


async def test_a_list_is_refreshed_behind_the_callers_backs() -> None:
    """Nobody waits for it, and only one refresh runs."""
    wire = Wire(slowly)
    async with connect(wire) as client:
        await client.templates.get(75)
        await anyio.sleep(FRESH + 1)
        began = anyio.current_time()
        for _ in range(3):
            await client.templates.get(75)
        assert anyio.current_time() == began
        await anyio.sleep(5)
        await client.templates.get(75)
    assert looks(wire) == 2


@pytest.mark.parametrize("failure", [ServerError, ZeroDivisionError])
async def test_a_failed_refresh_is_not_the_callers_affair(failure: type[Exception]) -> None:
    """The list goes on serving until it is too old."""
    wire, tokens = Wire(listing(), lambda _: httpx.Response(500)), Tokens()

    async def break_() -> None:
        raise ZeroDivisionError

    async with connect(wire, limiter=tokens, retry=RetryPolicy(attempts=1)) as client:
        await client.templates.get(75)
        tokens.wait = break_ if failure is ZeroDivisionError else None
        await anyio.sleep(FRESH + 1)
        await client.templates.get(75)
        await anyio.sleep(STALE)
        with pytest.raises(failure):
            await client.templates.get(75)


async def test_a_name_that_is_missing_is_looked_for_again() -> None:
    """But not at each call: a typing error must not cost a request each time."""
    wire = Wire(listing([template(1, "a", ENGLISH)]))
    async with connect(wire) as client:
        for wait in (0.0, RETRIED / 2, RETRIED):
            await anyio.sleep(wait)
            with pytest.raises(InvalidMessage, match="unknown"):
                await client.templates.get("b")
        wire.answers = [listing([template(2, "b", ENGLISH)])]
        await anyio.sleep(RETRIED + 1)
        assert (await client.templates.get("b")).id == 2
    assert looks(wire) == 3


async def test_preload_loads_however_fresh() -> None:
    """And sends by name wait for nothing afterwards."""
    wire = Wire(slowly)
    async with connect(wire) as client:
        await client.templates.preload()
        await anyio.sleep(1)
        await client.templates.preload()
        await client.templates.get(75)
    assert looks(wire) == 2


async def test_each_integration_has_its_own_list() -> None:
    """Shared by all views of it."""
    wire = Wire(listing())
    async with connect(wire) as client:
        await client.templates.get(75)
        await client.for_integration(22).templates.get(75)
        await client.for_integration(22).templates.get(75)
    assert [seen.url.split("/")[5] for seen in wire.seen] == ["11", "22"]


async def test_a_look_up_without_an_answer_means_not_sent() -> None:
    """It is a read, but the send that needed it has an outcome."""
    async with connect(Wire(httpx.ReadError("gone"))) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.send_template(TO, "x", language=1)
        assert caught.value.outcome is Outcome.NOT_SENT
        with pytest.raises(ConnectionFailed) as caught:
            await client.templates.get("x")
        assert caught.value.outcome is None


# ── translations ───────────────────────────────────────────────────────────────────────────────────────

TEXT = Translation(
    header="Hi {{1}}",
    body="{{1}}, {{ 2 }} and {{3}}",
    footer="Bye {{1}}",
    variables=("header-1", "body-1", "body-2"),
)


def test_a_translation_renders_as_the_customer_reads_it() -> None:
    """A text that is filled in isn't filled in turn; a footer has no variables."""
    filled = TEXT.render({"header-1": "Ada", "body-1": "{{2}}", "body-2": "x"})
    assert filled == "Hi Ada\n\n{{2}}, x and {{3}}\n\nBye {{1}}"
    assert Translation(body="{{1}} {{ open", variables=("body-1",)).render({"body-1": "a"}) == "a {{ open"
    assert Translation(header="x", header_type=_header(1, "IMAGE")).render() == ""


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (None, ["lacks header-1, body-1, body-2"]),
        ({"header-1": "a", "body-1": "b"}, ["lacks body-2"]),
        ({"header-1": "a", "body-1": "b", "body-2": "c", "body-9": "d"}, ["unknown body-9"]),
    ],
)
def test_a_translation_renders_only_with_its_own_variables(parameters: Any, words: list[str]) -> None:
    with pytest.raises(InvalidMessage) as caught:
        TEXT.render(parameters)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_translation_without_a_list_of_variables_renders_any() -> None:
    """Ruling 22: the server may leave the list out."""
    assert Translation(body="{{1}}", raw={"body": "{{1}}"}).render({"body-1": "a"}) == "a"
    assert Translation(body="{{1}}", raw={"body": "{{1}}"}).render() == "{{1}}"


def _header(value: Any, label: Any) -> Any:
    from desk360_async import Choice

    return Choice(value, label)


@pytest.mark.parametrize(
    ("value", "label", "needs"),
    [
        (4, "TEXT", False),
        (None, "text", False),
        (4, None, False),
        (None, None, False),
        (1, "IMAGE", True),
        (7, None, True),
    ],
)
def test_a_header_that_is_no_text_is_a_file(value: Any, label: Any, needs: bool) -> None:
    """Documented is TEXT alone."""
    assert Translation(header_type=_header(value, label)).needs_attachment is needs
    assert Translation().needs_attachment is False


def test_a_translation_without_a_label_is_named_by_its_id() -> None:
    """In the refusal."""
    with pytest.raises(InvalidMessage, match="language 7 takes: body-1"):
        Translation(language_id=7, variables=("body-1",)).check()
    with pytest.raises(InvalidMessage, match="template 5 has: none"):
        Template(5).translation("x")
