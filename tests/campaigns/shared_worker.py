"""A process that runs a shared campaign: `python -m tests.campaigns.shared_worker DSN URL PERIOD LEASE`."""

import asyncio
import sys

from desk360_async import AsyncDesk360, PostgresLimiter
from desk360_async.campaigns import Campaign


async def main(dsn: str, url: str, period: float, lease: float) -> None:
    """Run the campaign "kill" to its end, beside others."""
    limiter = PostgresLimiter(dsn, limit=60, period=period, margin=0.02, attempt_timeout=5.0)
    async with (
        AsyncDesk360("sandbox-key", integration_id=11, base_url=url, timeout=5.0, limiter=limiter) as client,
        Campaign("kill", ledger=dsn).run(client, concurrency=4, lease=lease) as run,
    ):
        done = await run.wait()
    print(done.end, done.counts)
    sys.exit(0 if done.end == "finished" else 1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
