"""A process that runs a campaign, to be killed: `python worker.py LEDGER URL [CONCURRENCY]`.

With `KILL_AT=n` it kills itself at the n-th step: before and after each ledger call and each request.
"""

import asyncio
import os
import signal
import sys

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.campaigns import Campaign, _storage

PERIOD = 1.0  # a short minute


def kill_at(step: int) -> None:
    """Arm the hook for systems without strace."""
    once = _storage.LedgerFile._once
    steps = 0

    def counted() -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)

    async def killing(self, run, work, *given):  # type: ignore[no-untyped-def]  # a fake
        counted()
        answer = await once(self, run, work, *given)
        counted()
        return answer

    _storage.LedgerFile._once = killing


async def main(ledger: str, url: str, concurrency: int) -> None:
    """Resume the campaign "kill" and let it finish."""
    bucket = TokenBucket(60, PERIOD, margin=0.02)
    async with AsyncDesk360("sandbox-key", integration_id=11, base_url=url, limiter=bucket) as client:
        campaign = Campaign("kill", ledger=ledger)
        async with campaign.run(client, concurrency=concurrency) as run:
            done = await run.wait()
    print(done.end, done.counts)


if __name__ == "__main__":
    if "KILL_AT" in os.environ:
        kill_at(int(os.environ["KILL_AT"]))
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
