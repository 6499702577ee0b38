"""Campaigns and single sends on several machines, as jobs of procrastinate (extra `[workers]`).

The ledger hands out batches, and procrastinate hands out shares of campaigns. A share is one
`campaign.run(client)`; several shares of a campaign run side by side, and a share that died is started again.
`Workers.defer` puts a single send into the caller's own transaction: it goes out if the transaction commits.
procrastinate needs asyncio, and so do workers.
"""

from desk360_async import ConfigurationError

try:
    from desk360_async.workers._workers import Workers
except ModuleNotFoundError as _missing:
    if _missing.name is not None and _missing.name.startswith("desk360_async"):
        raise
    raise ConfigurationError(
        "desk360_async.workers needs procrastinate: pip install 'desk360-async[workers]'"
    ) from _missing

__all__ = ["Workers"]
