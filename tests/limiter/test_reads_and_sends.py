"""Reads and sends may have limits of their own (ruling 29), and the server's own words are kept."""

import anyio
import httpx
import pytest

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async._bucket import ServerLimit, of_read
from tests.limiter.virtual import run


def client_of(limits: dict[str, str]) -> AsyncDesk360:
    """Make a client of a server that has a limit for each HTTP method."""

    def answer(request: httpx.Request) -> httpx.Response:
        limit = limits[request.method]
        headers = {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": str(int(limit) - 1)}
        body = [] if request.method == "GET" else {"message_id": "m1"}
        return httpx.Response(200, json=body, headers=headers)

    return AsyncDesk360(
        "k" * 40, integration_id=1, limiter=TokenBucket(), transport=httpx.MockTransport(answer)
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("reads", "sends", "limit"), [("300", "60", 60), ("300", "100", 100), ("30", "60", 60), ("30", "30", 30)]
)
def test_a_higher_limit_of_reads_is_not_believed_for_sends(
    backend: str, reads: str, sends: str, limit: int
) -> None:
    """Two reads and two sends; the sends' own limit stands."""

    async def main() -> None:
        async with client_of({"GET": reads, "POST": sends}) as client:
            for _ in range(2):
                await client.request("GET", "integrations")
            for _ in range(2):
                await client.send_text("+905551112233", "hi")
            assert client.rate_limit.limit == limit

    run(backend, main)


def test_two_reads_do_not_raise_the_limit() -> None:
    """And the server's words are there as it sent them."""

    async def main() -> None:
        async with client_of({"GET": "300"}) as client:
            assert client.rate_limit.server is None
            for _ in range(2):
                await client.request("GET", "integrations")
            assert (client.rate_limit.limit, client.rate_limit.free) == (60, 58)
            assert client.rate_limit.server == ServerLimit(300, 299, None)
            await anyio.sleep(0)

    run("asyncio", main)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, None),
        ({"x-ratelimit-limit": "many"}, None),
        ({"x-ratelimit-limit": "60", "x-ratelimit-remaining": "-3"}, ServerLimit(60, 0, None)),
        ({"x-ratelimit-reset": " 1796000000 "}, ServerLimit(None, None, 1796000000)),
    ],
)
def test_the_servers_words_are_read_as_far_as_they_can_be(
    headers: dict[str, str], words: ServerLimit | None
) -> None:
    """Garbage counts as absent."""
    assert ServerLimit.read(headers) == words


def test_a_reads_other_headers_stay() -> None:
    """A pause is everybody's."""
    told = {"x-ratelimit-limit": "300", "x-ratelimit-remaining": "1", "retry-after": "5"}
    assert of_read(told, 60) == {"retry-after": "5"}
    assert of_read(told, 300) is told
