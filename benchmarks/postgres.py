"""What PostgreSQL costs, on a cluster of its own: `python -m benchmarks.postgres`.

P19: a token from PostgreSQL, taken and given back, without and with a wait for the disk.
"""

import statistics
import time

from desk360_async import PostgresLimiter
from tests.postgres import cluster

GOAL = 1.5  # ms, on a quiet machine


def token(dsn: str, *, durable: bool, rounds: int = 300) -> list[float]:
    """Return the milliseconds of each step that takes a token, and of the one that gives it back."""
    limiter = PostgresLimiter(dsn, egress=f"durable={durable}", limit=10_000, durable=durable)
    found: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        taken = limiter._step(lambda bucket, waits, now, local: bucket.take(now, "interactive"))
        found.append((time.perf_counter() - start) * 1e3)
        limiter._step(lambda bucket, waits, now, local, token=taken: bucket.unused(token))
    limiter.close()
    return sorted(found[20:])


def main() -> None:
    """Print it."""
    with cluster(fsync=True) as server:
        for durable in (False, True):
            found = token(server.dsn, durable=durable)
            p50, p99 = statistics.median(found), found[int(0.99 * len(found))]
            goal = f", goal p50 {GOAL} ms" if not durable else ""
            print(f"P19 a token, durable={durable}: p50 {p50:.2f} ms, p99 {p99:.2f} ms{goal}")


if __name__ == "__main__":
    main()
