"""Workers in this process, with a sandbox in process; the database and the time are real."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psycopg
from attrs import define, field

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.campaigns import Campaign, Recipient
from desk360_async.sandbox import Sandbox
from desk360_async.workers import Workers
from tests.campaigns.harness import people

PATIENCE = 60.0  # seconds


@define
class Shop:
    """A database, a sandbox, and workers that send to it."""

    dsn: str
    sandbox: Sandbox = field(factory=lambda: Sandbox(keep=None, limit=10_000))
    notes: list[tuple[Any, ...]] = field(factory=list)

    def client(self, **options: Any) -> AsyncDesk360:
        """Make a client of the sandbox."""
        return AsyncDesk360(
            "sandbox-key",
            integration_id=11,
            base_url="http://127.0.0.1",
            transport=httpx.ASGITransport(app=self.sandbox.app),
            limiter=TokenBucket(10_000, 1.0),
            **options,
        )

    def job(self, kind: str, end: str, seconds: float) -> None:
        """Note the end of a job, as an observer."""
        self.notes.append((kind, end))

    def workers(self, **options: Any) -> Workers:
        """Make workers with a short lease."""
        return Workers(self.dsn, **{"client": self.client, "lease": 2.0, "observer": self, **options})

    def campaign(self) -> Campaign:
        """Return the campaign."""
        return Campaign("sale", template="back_in_stock", language=1, ledger=self.dsn, batch_size=5)

    async def load(self, recipients: list[Recipient] | None = None) -> None:
        """Load the campaign."""
        async with self.client() as client:
            await self.campaign().load(client, people(40) if recipients is None else recipients)

    async def is_sent(self) -> bool:
        """Return whether no recipient of the campaign is left."""
        counts = await self.campaign().status()
        return not counts.pending and not counts.on_the_wire

    async def is_idle(self) -> bool:
        """Return whether no share and no send is left."""
        return not self.rows("SELECT 1 FROM desk360.share UNION ALL SELECT 1 FROM desk360.outbox")

    async def work(
        self,
        until: Callable[[], Awaitable[bool]] | None = None,
        workers: Workers | None = None,
        **options: Any,
    ) -> None:
        """Run a worker until something holds, by default until no work is left."""
        running = asyncio.create_task((workers or self.workers()).run(**options))
        try:
            async with asyncio.timeout(PATIENCE):
                while not running.done() and not await (until or self.is_idle)():
                    await asyncio.sleep(0.05)
        finally:
            running.cancel()
            await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error

    def rows(self, query: str, *parameters: object) -> list[Any]:
        """Return the rows of a query."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query, parameters)  # type: ignore[arg-type]  # a test's own
            return cursor.fetchall() if cursor.description else []

    def received(self) -> list[str]:
        """Return the phones that the sandbox took messages for."""
        return [message.phone for message in self.sandbox.received]
