"""The document's table of errors, the limit's headers as measured, pages, media, and the record."""

import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from desk360_async.sandbox import Sandbox, StoredMedia

pytestmark = pytest.mark.anyio

TO = "+905551112233"
MESSAGES = "/integrations/11/conversations/messages"
Connect = Callable[..., httpx.AsyncClient]


class Chunks(httpx.AsyncByteStream):
    """A body of unknown length; no generator, which would want closing when it isn't read to its end."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> "Chunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


def code(answer: httpx.Response) -> tuple[int, str]:
    """Read the documented error: status and code."""
    assert set(answer.json()["error"]) == {"code", "message", "doc_url"}
    return answer.status_code, answer.json()["error"]["code"]


def is_counted(answer: httpx.Response) -> bool:
    """Tell by the rate headers."""
    return "X-RateLimit-Limit" in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected", "counted"),
    [
        ("GET", "/integrations", {"Authorization": ""}, (401, "authentication_exception"), True),
        ("GET", "/integrations", {"Authorization": "sandbox-key"}, (401, "authentication_exception"), True),
        ("GET", "/integrations", {"Authorization": "Bearer other"}, (401, "authentication_exception"), True),
        ("GET", "/integrations", {"Accept": "text/html"}, (406, "not_acceptable_exception"), True),
        ("POST", MESSAGES, {"Content-Type": "text/xml"}, (415, "unsupported_media_type_exception"), True),
        ("GET", "/integrations/99/conversations/templates", {}, (404, "model_not_found_exception"), True),
        ("GET", "/integrations/x/conversations/templates", {}, (404, "model_not_found_exception"), True),
        ("GET", f"{MESSAGES}/medias/none", {}, (404, "model_not_found_exception"), True),
        ("GET", "/products", {}, (404, "not_found_exception"), False),
        ("DELETE", "/integrations", {}, (405, "method_not_allowed_exception"), False),
        ("GET", MESSAGES, {}, (405, "method_not_allowed_exception"), False),
    ],
)
async def test_errors_have_the_documented_code(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    headers: dict[str, str],
    expected: tuple[int, str],
    counted: bool,
) -> None:
    """Ruling 29: rate headers on all that counts, and 405 and unknown paths do not."""
    answer = await client.request(
        method, path, headers=headers, content=b"<x/>" if "Content-Type" in headers else None
    )
    assert (code(answer), is_counted(answer)) == (expected, counted)


async def test_405_says_what_is_allowed(client: httpx.AsyncClient) -> None:
    """With Laravel's header and sentence."""
    answer = await client.delete("/integrations")
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.json()["error"]["message"].endswith("Supported methods: GET, HEAD.")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_413_and_not_counted(connect: Connect, declared: bool) -> None:
    """Whether its length is announced or only found out."""
    sandbox = Sandbox(max_body=1000)

    async with connect(sandbox) as client:
        request = client.build_request("POST", MESSAGES, content=b"x" * 1001)
        if not declared:
            del request.headers["Content-Length"]
            request.stream = Chunks(b"x" * 600, b"x" * 401)
        answer = await client.send(request)
    assert (answer.status_code, is_counted(answer), sandbox.counted) == (413, False, 0)


async def test_a_form_beyond_the_limit_is_413(connect: Connect) -> None:
    """Multipart is measured while it is parsed."""
    async with connect(Sandbox(max_body=1000)) as client:
        request = client.build_request("POST", MESSAGES, files={"a": ("a", b"x" * 1001)})
        request.stream = Chunks(request.read())  # of unknown length, so only the parser can tell
        del request.headers["Content-Length"]
        answer = await client.send(request)
    assert answer.status_code == 413


async def test_a_final_slash_is_redirected(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Ruling 13: 301, which turns a POST that follows it into a GET."""
    answer = await client.post(f"{MESSAGES}/?a=1", json={})
    assert (answer.status_code, answer.headers["Location"]) == (301, f"http://sandbox/v1{MESSAGES}?a=1")
    assert sandbox.requests[-1].verdict == "not_counted"


async def test_counted_answers_say_limit_and_remaining(client: httpx.AsyncClient) -> None:
    """And nothing of waiting."""
    headers = (await client.get("/integrations")).headers
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("60", "59")
    assert not {"Retry-After", "X-RateLimit-Reset"} & set(headers)


async def test_the_sixty_first_request_is_refused_until_the_window_closes(
    client: httpx.AsyncClient, sandbox: Sandbox, clock: Any
) -> None:
    """Ruling 31: refusals don't count and don't lengthen the wait."""
    statuses = [(await client.get("/integrations")).status_code for _ in range(62)]
    assert statuses == [200] * 60 + [429] * 2
    clock.now += 60
    assert (await client.get("/integrations")).status_code == 200
    assert (sandbox.counted, sandbox.refusals) == (61, 2)


async def test_invalid_requests_count(connect: Connect) -> None:
    """The document: even invalid requests are included in the rate limit."""
    async with connect(Sandbox(limit=1)) as client:
        assert (await client.post(MESSAGES, json={})).status_code == 400
        assert code(await client.get("/integrations")) == (429, "too_many_requests_exception")


async def test_retry_after_is_zero_while_it_still_refuses(connect: Connect, clock: Any) -> None:
    """Whole seconds of two clocks: opened at 1000.7, it refuses until 1060.7 and says 0 from 1060.0."""
    clock.now, answers = 1000.7, []
    async with connect(Sandbox(limit=1, clock=clock)) as client:
        for clock.now in (1000.7, 1000.8, 1059.9, 1060.2, 1060.7):
            answers.append(await client.get("/integrations"))
    assert [answer.headers.get("Retry-After") for answer in answers] == [None, "60", "1", "0", None]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 429, 200]


async def test_reset_is_retry_after_from_the_date_of_the_answer(connect: Connect, clock: Any) -> None:
    """Both by the sandbox's own clock: a made-up one begins at 2026-01-01T00:00Z."""
    async with connect(Sandbox(limit=1, clock=clock)) as client:
        await client.get("/integrations")
        headers = (await client.get("/integrations")).headers
    assert headers["Date"] == "Thu, 01 Jan 2026 00:16:40 GMT"
    assert (headers["Retry-After"], headers["X-RateLimit-Reset"]) == ("60", str(1_767_225_600 + 1060))


async def test_the_limit_is_per_address(sandbox: Sandbox) -> None:
    """The document: the limit applies by IP address, so another one has its own window."""
    remaining = []
    for address in ("10.0.0.1", "10.0.0.2"):
        transport = httpx.ASGITransport(sandbox.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
            remaining.append((await client.get("/integrations")).headers["X-RateLimit-Remaining"])
    assert remaining == ["59", "59"]


async def test_others_on_the_address_spend_the_limit(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """`spend` is a neighbour's burst."""
    assert sandbox.spend(50) == 50
    assert (await client.get("/integrations")).headers["X-RateLimit-Remaining"] == "9"


async def test_other_traffic_flows_all_the_time(connect: Connect, clock: Any) -> None:
    """30 a minute take about half of 60, and the same seed takes the same."""
    used = []
    for seed in (1, 1, 2):
        clock.now, sandbox = 0.0, Sandbox(clock=clock, other_traffic=30, seed=seed, window="sliding_log")
        async with connect(sandbox) as client:
            await client.get("/integrations")
            clock.now = 600.0
            used.append(59 - int((await client.get("/integrations")).headers["X-RateLimit-Remaining"]))
    assert used[0] == used[1]
    assert all(15 <= count <= 45 for count in used)


@pytest.mark.parametrize("options", [{"limit": 0}, {"period": 0}, {"window": "lunar"}, {"other_traffic": -1}])
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """At once, with the field's name."""
    with pytest.raises(ValueError, match=r"limit|window"):
        Sandbox(**options)


async def test_the_limit_may_change_on_the_way(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A plan that is upgraded."""
    sandbox.throttle.limit = 120
    assert (await client.get("/integrations")).headers["X-RateLimit-Limit"] == "120"


async def test_pages_hold_twenty_and_link_to_the_next(client: httpx.AsyncClient) -> None:
    """The document's unquoted `rel=next`; the last page has no Link."""
    path = "/integrations/11/conversations/templates"
    first, second, third = [await client.get(path, params={"page": page}) for page in (1, 2, 3)]
    assert [len(page.json()) for page in (first, second, third)] == [20, 5, 0]
    assert first.headers["Link"] == f"<http://sandbox/v1{path}?page=2>; rel=next"
    assert not [page for page in (second, third) if "Link" in page.headers]


@pytest.mark.parametrize("page", ["0", "-1", "x", "٢", "", "02", "9" * 5_000])
async def test_a_page_that_is_no_number_is_the_first(client: httpx.AsyncClient, page: str) -> None:
    """As Laravel's paginator has it."""
    answer = await client.get("/integrations/11/conversations/templates", params={"page": page})
    assert len(answer.json()) == 20


async def test_uploaded_media_can_be_fetched_again(client: httpx.AsyncClient) -> None:
    """By its id with the key, and by its url without."""
    files = [
        ("attachments[]", ("çay.png", b"\x89PNG", "image/png")),
        ("attachments[]", ("b.pdf", b"%PDF", "application/pdf")),
    ]
    medias = (await client.post(f"{MESSAGES}/medias", data={"to": TO}, files=files)).json()["medias"]
    assert list(medias) == ["images", "documents"]
    image = medias["images"][0]
    answer = await client.get(f"{MESSAGES}/medias/{image['media_id']}")
    assert (answer.content, answer.headers["Content-Type"]) == (b"\x89PNG", "image/png")
    assert "filename*=utf-8''%C3%A7ay.png" in answer.headers["Content-Disposition"]
    assert (await client.get(image["url"], headers={"Authorization": ""})).content == b"\x89PNG"


async def test_media_belongs_to_its_integration(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """And its id may hold a slash."""
    sandbox.media.put(StoredMedia("a/b?c", 22, "x.json", "application/json", b'{"error": "a file"}'))
    path = "/integrations/{}/conversations/messages/medias/a%2Fb%3Fc"
    assert (await client.get(path.format(11))).status_code == 404
    assert (await client.get(path.format(22))).json() == {"error": "a file"}
    assert (await client.get("http://sandbox/integrations/11/attachments/none")).status_code == 404


async def test_messages_are_recorded_one_a_recipient(
    client: httpx.AsyncClient, sandbox: Sandbox, clock: Any
) -> None:
    """With what the server understood, and when."""
    data = {"template_id": "80", "language_id": "1", "destinations[0][phone]": TO}
    files = {"attachment": ("a.png", b"png", "image/png")}
    answer = await client.post("/integrations/11/conversations/templates/send", data=data, files=files)
    [message] = sandbox.sent(to=TO, template="catalogue")
    assert (message.message_id, message.at, message.kind) == (
        answer.json()["message_id"],
        clock.now,
        "template",
    )
    assert message.files[0].sha256 == hashlib.sha256(b"png").hexdigest()
    assert sandbox.sent(template=80) == [message]
    assert sandbox.sent(template=75) == sandbox.sent(to="+1") == []


async def test_reads_are_recorded(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """They are no sends."""
    await client.post(f"{MESSAGES}/reads", json={"to": TO, "message_ids": ["a", "b"]})
    assert [(read.phone, read.message_ids) for read in sandbox.reads] == [(TO, ("a", "b"))]
    assert sandbox.received == []


async def test_requests_are_logged_without_the_key(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Method, path, parsed body, status; the secret nowhere."""
    await client.post(f"{MESSAGES}?q=1", json={"to": TO, "text": "x"})
    [entry] = sandbox.requests
    assert (entry.method, entry.path, entry.query) == ("POST", f"/v1{MESSAGES}", {"q": "1"})
    assert (entry.body, entry.status, entry.verdict) == ({"to": TO, "text": "x"}, 200, "counted")
    assert "sandbox-key" not in repr(entry)


async def test_what_is_remembered_is_bounded(connect: Connect) -> None:
    """The counts go on."""
    sandbox = Sandbox(keep=10)
    async with connect(sandbox) as client:
        for number in range(15):
            await client.post(MESSAGES, json={"to": TO, "text": str(number)})
    assert [message.text for message in sandbox.received] == [str(number) for number in range(5, 15)]
    assert (len(sandbox.requests), sandbox.accepted) == (2, 15)


async def test_nothing_is_remembered_without_a_record(connect: Connect) -> None:
    """For a million recipients: counts only."""
    sandbox = Sandbox(record=False)
    async with connect(sandbox) as client:
        await client.post(MESSAGES, json={"to": TO, "text": "x"})
    assert (sandbox.received, sandbox.requests, sandbox.accepted) == ([], [], 1)


async def test_reset_forgets_and_begins_anew(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """The same ids come again."""
    answers = []
    for _ in range(2):
        answers.append(await client.post(MESSAGES, json={"to": TO, "text": "x"}))
        sandbox.reset()
    assert answers[0].json() == answers[1].json()
    assert (sandbox.received, sandbox.requests, sandbox.counted) == ([], [], 0)


async def test_head_is_answered_without_a_body(client: httpx.AsyncClient) -> None:
    """Laravel's GET routes take it."""
    answer = await client.head("/integrations")
    assert (answer.status_code, answer.content, int(answer.headers["Content-Length"]) > 0) == (200, b"", True)


def test_its_repr_says_the_limit_and_not_the_key() -> None:
    """Living documentation."""
    assert repr(Sandbox()) == "<Sandbox 60 per 60 s (first_hit), 0 accepted, 0 refused>"
