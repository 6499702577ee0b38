"""One of several processes that share a `PostgresLimiter`: sends until it is killed.

Arguments: the DSN, the egress, the server's URL.
"""

import sys

import anyio
import httpx

from desk360_async import PostgresLimiter

SENDERS = 8


async def send(limiter: PostgresLimiter, client: httpx.AsyncClient) -> None:
    """Take a token, make a request, give the token back, for ever."""
    while True:
        permit = await limiter.acquire("interactive", None)
        answer = await client.get("/v1/integrations")
        permit.done(answer.status_code, dict(answer.headers))


async def main(dsn: str, egress: str, url: str) -> None:
    """Saturate the limiter."""
    limiter = PostgresLimiter(dsn, egress=egress, limit=60, period=6.0)
    key = {"Authorization": "Bearer sandbox-key"}
    async with httpx.AsyncClient(base_url=url, headers=key) as client, anyio.create_task_group() as tasks:
        for _ in range(SENDERS):
            tasks.start_soon(send, limiter, client)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
