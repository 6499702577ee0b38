"""A worker process: `python -m tests.workers.worker DSN URL PERIOD LEASE [LOG]`; SIGTERM ends it."""

import asyncio
import logging
import sys

from desk360_async import AsyncDesk360, PostgresLimiter
from desk360_async.workers import Workers


def workers_at(dsn: str, url: str, period: float, lease: float) -> Workers:
    """Return workers whose client sends to a sandbox with a short minute."""

    def make() -> AsyncDesk360:
        limiter = PostgresLimiter(dsn, limit=60, period=period, margin=0.02, attempt_timeout=5.0)
        return AsyncDesk360("sandbox-key", integration_id=11, base_url=url, timeout=5.0, limiter=limiter)

    return Workers(dsn, client=make, lease=lease)


if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) > 4:
        logging.basicConfig(filename=given[4], level=logging.DEBUG)
        logging.getLogger("asyncio").setLevel(logging.INFO)
    made = workers_at(given[0], given[1], float(given[2]), float(given[3]))
    asyncio.run(made.run(concurrency=4, drain=5.0))
