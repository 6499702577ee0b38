"""Malformed answers through the whole client: each comes to a reply or a Desk360Error, and an outcome."""

import tracemalloc
from typing import Any

import httpx
import pytest

import desk360_async
from desk360_async import (
    AsyncDesk360,
    Attachment,
    Desk360Error,
    RequestRefused,
    RetryPolicy,
    SendResult,
    TextMessage,
    TokenBucket,
    UnexpectedResponse,
)
from tests.failures.malformed import FOLDER, MalformedAnswer, load

CORPUS = [load(path) for path in sorted(FOLDER.glob("*.http"))]
PHONE = "+905551234567"
KEY = "11|s3cretS3cretS3cret"


def client_of(transport: httpx.AsyncBaseTransport, **options: Any) -> AsyncDesk360:
    """Return a client that makes one attempt a call."""
    return AsyncDesk360(
        KEY,
        integration_id=1,
        base_url="https://api.example",
        transport=transport,
        retry=RetryPolicy(attempts=1),
        limiter=TokenBucket(limit=1000, period=1.0),
        **options,
    )


async def call(client: AsyncDesk360, kind: str) -> Any:
    """Make the call that a file of the corpus is an answer to."""
    if kind == "bulk":
        return await client.send_template_bulk([PHONE], 1, language=2)
    if kind == "media":
        return await client.send_media(PHONE, [Attachment.from_bytes("a.jpg", b"x")])
    if kind == "page":
        return await client.integrations.list()
    if kind == "request":
        return await client.request("POST", "/x", json={})
    return await client.send(TextMessage(PHONE, "Merhaba"))


@pytest.mark.anyio
@pytest.mark.parametrize("malformed", [pytest.param(each, id=each.name) for each in CORPUS])
async def test_malformed_answer(malformed: MalformedAnswer) -> None:
    """The answer comes to what its file says."""
    ends: list[SendResult] = []
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return malformed.response()

    async with client_of(httpx.MockTransport(answer), on_result=ends.append) as client:
        kind = malformed.expected.get("call", "text")
        if "raises" in malformed.expected:
            with pytest.raises(Desk360Error) as caught:
                await call(client, kind)
            assert type(caught.value).__name__ == malformed.expected["raises"], repr(caught.value)
            assert malformed.expected.get("says", "") in str(caught.value)
            assert str(caught.value.outcome or "none") == malformed.expected["outcome"]
        else:
            assert malformed.expected["reply"] in look(await call(client, kind))
    # A status that proves nothing, and a refusal, are not asked a second time; no redirect is followed.
    assert [request.url.host for request in seen] == ["api.example"]
    assert [str(end.outcome) for end in ends] in ([], [malformed.expected["outcome"]])


def look(reply: Any) -> str:
    """Return what a reply looks like, with the one attribute of a page that its repr leaves out."""
    return f"{reply!r} has_next={getattr(reply, 'has_next', None)}"


def test_size() -> None:
    """There are at least 100 files, and each says what it must come to."""
    assert len(CORPUS) >= 100
    assert all({"raises", "reply"} & each.expected.keys() and "outcome" in each.expected for each in CORPUS)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["unreadable-bomb", "unreadable-flood", "unreadable-deep-list", "400-gzip-bomb"]
)
async def test_memory(name: str) -> None:
    """What a bomb may cost is bounded: 8 MiB of body, and a few copies on its way."""
    malformed = next(each for each in CORPUS if each.name == name)
    transport = httpx.MockTransport(lambda _: malformed.response())
    async with client_of(transport) as client:
        tracemalloc.start()
        try:
            with pytest.raises(Desk360Error) as caught:
                await call(client, "text")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 40 * 1024 * 1024
    assert len(getattr(caught.value, "body", "")) <= 64 * 1024


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("location", "keys"),
    [
        ("https://elsewhere.example/f", [True, False]),
        ("https://api.example:8443/f", [True, False]),
        ("//elsewhere.example/f", [True, False]),
        ("/v1/f", [True, True]),
        ("http://elsewhere.example/f", [True]),
        ("http://api.example/f", [True]),
        ("https://user:pw@elsewhere.example/f", [True]),
        ("ftp://elsewhere.example/f", [True]),
        ("", [True]),
    ],
)
async def test_redirected_download(location: str, keys: list[bool]) -> None:
    """A download follows a redirect over https only, names its host there, and takes the key nowhere else."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            return httpx.Response(302, headers={"location": location})
        return httpx.Response(200, content=b"file")

    async with client_of(httpx.MockTransport(answer)) as client:
        if len(keys) == 2:
            assert (await client.read_media("1")).content == b"file"
        else:
            with pytest.raises(RequestRefused):
                await client.read_media("1")
    assert [KEY in request.headers.get("authorization", "") for request in seen] == keys
    assert all(request.headers["host"] == request.url.netloc.decode() for request in seen)


@pytest.mark.anyio
async def test_redirect_loop() -> None:
    """A download that is sent round in circles ends after 5 hops."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"location": "/v1/again"})

    async with client_of(httpx.MockTransport(answer)) as client:
        with pytest.raises(UnexpectedResponse, match="redirects"):
            await client.read_media("1")
    assert len(seen) == 6


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["1", "2"])
async def test_link_loop(target: str) -> None:
    """Pages that lead in a circle end with an error, after the pages read so far; the host never changes."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        page = "2" if request.url.params["page"] == "1" else target
        link = f'<https://evil.example/?page={page}>; rel="next"'
        return httpx.Response(200, headers={"link": link}, json=[{"id": 1}])

    pages = 0
    async with client_of(httpx.MockTransport(answer)) as client:
        with pytest.raises(UnexpectedResponse, match="next"):
            async for _ in client.integrations.iter_pages():
                pages += 1
    assert pages == 2
    assert {request.url.host for request in seen} == {"api.example"}


def test_errors_are_public() -> None:
    """The corpus names classes that a user can catch."""
    named = {each.expected["raises"] for each in CORPUS if "raises" in each.expected}
    assert all(issubclass(getattr(desk360_async, name), Desk360Error) for name in named)
