"""A campaign skips people who opted out, in its own store and in its client's, also while it runs."""

from pathlib import Path

import pytest

from desk360_async.campaigns import Campaign, Counts, Recipient
from desk360_async.customers import Customers
from desk360_async.testing import VirtualSandbox, sandbox_client
from desk360_async.webhooks import TextReceived

pytestmark = pytest.mark.anyio

PHONES = [f"+90555111000{n}" for n in range(6)]


def campaign(folder: Path, **options: object) -> Campaign:
    return Campaign(
        "sale", template="welcome", language="English", ledger=folder / "ledger.db", **options  # type: ignore[arg-type]  # passed on
    )  # fmt: skip


async def run(made: Campaign, client: object) -> Counts:
    async with made.run(client, signals=False) as events:  # type: ignore[arg-type]  # a client
        return (await events.wait()).counts


def phones(sandbox: VirtualSandbox) -> list[str]:
    return [message.phone for message in sandbox.received]


async def test_loading_skips_opt_outs_of_both_stores(tmp_path: Path) -> None:
    own, clients = Customers(tmp_path / "own.db"), Customers(tmp_path / "clients.db")
    await own.opt_out(PHONES[0])
    await clients.opt_out(PHONES[1])
    async with sandbox_client(customers=clients) as (client, _):
        plan = await campaign(tmp_path, opt_out=own).load(client, map(Recipient, PHONES))
    assert plan.pending == 4
    await own.leave()


@pytest.mark.parametrize("strategy", ["single", "bulk"])
@pytest.mark.parametrize("place", ["own", "client's"])
async def test_a_running_campaign_sees_an_opt_out_before_its_next_request(
    tmp_path: Path, strategy: str, place: str
) -> None:
    book = Customers(tmp_path / "customers.db")
    options = {"customers": book} if place == "client's" else {}
    made = campaign(tmp_path, strategy=strategy, batch_size=2, opt_out=book if place == "own" else None)
    async with sandbox_client(**options) as (client, sandbox):
        await made.load(client, map(Recipient, PHONES))
        async with made.run(client, concurrency=1, signals=False) as events:
            async for _ in events:
                stop = TextReceived(sender=PHONES[-1].removeprefix("+"), text="STOP")
                await book.feed(stop)
        assert PHONES[-1] not in phones(sandbox)
        assert await made.status() == Counts(accepted=5, skipped=1)


async def test_an_opt_out_with_the_token_in_hand_counts(tmp_path: Path) -> None:
    book = Customers(tmp_path / "customers.db")
    made = campaign(tmp_path, opt_out=book)
    async with sandbox_client() as (client, sandbox):
        await made.load(client, map(Recipient, PHONES))
        reads = 0
        read = made._opt_out._read_own

        async def read_own() -> frozenset[int]:
            nonlocal reads
            reads += 1
            if reads == 2:  # the second read of a batch has its token
                await book.opt_out(PHONES[2])
            return await read()

        object.__setattr__(made._opt_out, "_read_own", read_own)
        assert await run(made, client) == Counts(accepted=5, skipped=1)
        assert PHONES[2] not in phones(sandbox)


async def test_a_dry_run_leaves_opt_outs_out(tmp_path: Path) -> None:
    book = Customers(tmp_path / "customers.db")
    made = campaign(tmp_path, opt_out=book)
    async with book, sandbox_client() as (client, _):
        await made.load(client, map(Recipient, PHONES))
        await book.opt_out(PHONES[2])
        (message,) = [message async for message in made.dry_run()]
        assert message.phones == tuple(p for p in PHONES if p != PHONES[2])  # type: ignore[union-attr]  # a batch


async def test_a_store_that_cannot_be_read_stops_the_campaign(tmp_path: Path) -> None:
    made = campaign(tmp_path, opt_out=Customers(tmp_path / "customers.db"))
    async with sandbox_client() as (client, sandbox):
        await made.load(client, map(Recipient, PHONES))
        for path in tmp_path.glob("customers.db*"):
            path.unlink()
        (tmp_path / "customers.db").mkdir()
        broken = campaign(tmp_path, opt_out=Customers(tmp_path / "customers.db"))
        async with broken.run(client, signals=False) as events:
            assert (await events.wait()).end == "opt_out"
        assert phones(sandbox) == []
