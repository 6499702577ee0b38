"""A total outage: retries must not double the load, and what is sent again was certainly not sent."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from desk360_async import AsyncDesk360, Desk360Error, RateLimited, RetryPolicy, TextMessage, TokenBucket
from tests.failures.virtual import run

MESSAGE = TextMessage("+905551234567", "Merhaba")
Answer = Callable[[httpx.Request], httpx.Response]


def refused(request: httpx.Request) -> httpx.Response:
    """Fail before anything is sent."""
    raise httpx.ConnectError("refused", request=request)


def broken(request: httpx.Request) -> httpx.Response:
    """Answer what proves nothing."""
    return httpx.Response(503)


def attempts_of(answer: Answer, calls: int, call: Any, **options: Any) -> int:
    """Count the attempts that some calls make, one after the other, with a client and its view."""
    seen: list[httpx.Request] = []

    def counting(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(request)

    async def work() -> None:
        client = AsyncDesk360(
            "k",
            integration_id=1,
            base_url="https://api.example",
            transport=httpx.MockTransport(counting),
            limiter=TokenBucket(limit=10_000, period=1.0),
            **options,
        )
        async with client:
            for index in range(calls):
                with pytest.raises(Desk360Error):
                    await call(client if index % 2 else client.for_integration(2))

    run(work)
    return len(seen)


@pytest.mark.parametrize("answer", [refused, broken])
def test_amplification(answer: Answer) -> None:
    """1,000 calls into a total outage make at most 1.2 attempts each, views included."""
    attempts = attempts_of(answer, 1000, lambda client: client.integrations.list())
    print(f"amplification: {attempts / 1000:.3f}")
    assert 1000 < attempts <= 1200


@pytest.mark.parametrize(("answer", "attempts"), [(refused, 3), (broken, 1)])
def test_one_send(answer: Answer, attempts: int) -> None:
    """A send is tried three times where nothing can have gone out, once where it may."""
    assert attempts_of(answer, 1, lambda client: client.send(MESSAGE)) == attempts


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_count_the_first(attempts: int) -> None:
    """`attempts` counts the first one, and no layer below tries again by itself."""
    retry = RetryPolicy(attempts=attempts)
    assert attempts_of(refused, 1, lambda client: client.send(MESSAGE), retry=retry) == attempts


def test_429s_are_waited_for() -> None:
    """429s cost no attempt and no quota; a call gives up when their waits exceed `max_retry_after`."""
    seen: list[float] = []

    async def call(client: AsyncDesk360) -> None:
        import anyio

        began = anyio.current_time()
        try:
            await client.send(MESSAGE)
        except RateLimited:
            seen.append(anyio.current_time() - began)
            raise

    def limited(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"retry-after": "9"})

    retry = RetryPolicy(attempts=1, max_retry_after=35.0)
    assert attempts_of(limited, 1, call, retry=retry) == 4
    assert 30 <= seen[0] <= 35
