"""A campaign's surroundings in virtual time: a sandbox in process, a client, a ledger in its own folder."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
from attrs import define, field

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.campaigns import BatchResult, Campaign, Done, Event, Recipient
from desk360_async.sandbox import Sandbox
from tests.limiter import virtual

T = TypeVar("T")
TEMPLATE = "back_in_stock"  # one variable, body-1


def phone(number: int) -> str:
    """Return the n-th phone; none ends in the zeros that the sandbox refuses."""
    return f"+9055{number:08d}"


def people(count: int, *, sets: int = 1, start: int = 1) -> list[Recipient]:
    """Return so many recipients, with so many sets of parameters."""
    return [Recipient(phone(n), {"body-1": f"offer {n % sets}"}) for n in range(start, start + count)]


@define
class Harness:
    """What a test needs; `play` runs it in virtual time."""

    folder: Path
    backend: str
    sandbox: Sandbox = field(factory=lambda: Sandbox(keep=None, clock=anyio.current_time))
    transport: httpx.AsyncBaseTransport | None = None
    dsn: str | None = None
    pinned: set[str] = field(factory=set)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.db"

    def client(self, **options: Any) -> AsyncDesk360:
        """Make a client of the sandbox."""
        given = {
            "integration_id": 11,
            "base_url": "http://127.0.0.1",
            "transport": self.transport or httpx.ASGITransport(app=self.sandbox.app),
            "limiter": TokenBucket(),
        }
        return AsyncDesk360("sandbox-key", **{**given, **options})

    def campaign(self, name: str = "sale", **options: Any) -> Campaign:
        """Make a campaign with this harness's ledger; what that pins already isn't said again."""
        given = {"template": TEMPLATE, "language": 1, "ledger": self.dsn or self.ledger}
        if not self.ledger.exists() and name not in self.pinned:
            given["batch_size"] = 100
        if self.dsn is not None:
            self.pinned.add(name)
        return Campaign(name, **{**given, **options})

    def play(self, main: Callable[[AsyncDesk360], Awaitable[T]], **options: Any) -> T:
        """Run `main` with a client, in virtual time."""

        async def play() -> T:
            async with self.client(**options) as client:
                return await main(client)

        return virtual.run(self.backend, play)

    def received(self) -> list[str]:
        """Return the phones that the sandbox took messages for, in order of arrival."""
        return [message.phone for message in self.sandbox.received]


async def finish(campaign: Campaign, client: AsyncDesk360, **options: Any) -> list[Event]:
    """Run to the end; return all events."""
    async with campaign.run(client, **options) as events:
        return [event async for event in events]


def done(events: list[Event]) -> Done:
    """Return the last event."""
    assert isinstance(events[-1], Done)
    return events[-1]


def results(events: list[Event]) -> list[BatchResult]:
    """Return the results among events."""
    return [event for event in events if isinstance(event, BatchResult)]
