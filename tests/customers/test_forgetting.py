"""A forgotten person: no file holds the number or the texts, and counts, outcomes and opt-outs stay."""

import struct
from pathlib import Path

import pytest

from desk360_async import ConfigurationError
from desk360_async.campaigns import Campaign, Counts, Recipient
from desk360_async.campaigns import forget as forget_in_ledger
from desk360_async.customers import Customers, forget
from desk360_async.once import SendLog
from desk360_async.testing import sandbox_client
from desk360_async.webhooks import SQLiteInbox, StatusUpdate, TextReceived, parse

pytestmark = pytest.mark.anyio

PHONE = "+905551112233"
OTHER = "+905551112234"


def people(*phones: str) -> list[Recipient]:
    return [Recipient(phone, {"body-1": f"words for {phone}"}) for phone in phones]


def campaign(folder: Path) -> Campaign:
    return Campaign("sale", template="back_in_stock", language=1, ledger=folder / "ledger.db")


def bytes_in(folder: Path, pattern: str) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob(pattern))


async def finish(made: Campaign, client: object) -> None:
    async with made.run(client, signals=False) as events:  # type: ignore[arg-type]  # a client
        await events.wait()


async def test_a_ledger_keeps_counts_and_outcomes_without_the_number(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    async with sandbox_client() as (client, _):
        await made.load(client, people(PHONE, OTHER))
        await finish(made, client)
        await made.feed(StatusUpdate(id="x", sender=PHONE[1:], status="read"))
    before = await made.report()
    assert await forget_in_ledger(tmp_path / "ledger.db", PHONE) == 1
    after = await made.report()
    assert (after.counts, before.counts) == (Counts(accepted=2), Counts(accepted=2))
    written = bytes_in(tmp_path, "ledger.db*")
    assert struct.pack("<Q", int(PHONE)) not in written
    assert f"words for {PHONE}".encode() not in written
    assert struct.pack("<Q", int(OTHER)) in written
    assert await made.export(tmp_path / "report.csv") == 2
    assert "5551112233" not in (tmp_path / "report.csv").read_text()


async def test_a_pending_person_is_skipped_and_gets_nothing(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    async with sandbox_client() as (client, sandbox):
        await made.load(client, people(PHONE, OTHER))
        assert await forget_in_ledger(tmp_path / "ledger.db", PHONE) == 1
        await finish(made, client)
        assert [message.phone for message in sandbox.received] == [OTHER]
        assert await made.status() == Counts(accepted=1, skipped=1)


async def test_one_of_a_batch_is_forgotten_and_the_rest_is_sent(tmp_path: Path) -> None:
    made = Campaign("sale", template="welcome", language="English", ledger=tmp_path / "ledger.db")
    phones = [f"+90555000000{n}" for n in range(1, 6)]
    async with sandbox_client() as (client, sandbox):
        await made.load(client, map(Recipient, phones))
        await forget_in_ledger(tmp_path / "ledger.db", phones[2])
        await forget_in_ledger(tmp_path / "ledger.db", phones[3])
        await finish(made, client)
        assert [message.phone for message in sandbox.received] == [phones[0], phones[1], phones[4]]
        assert await made.status() == Counts(accepted=3, skipped=2)


async def test_rows_that_were_left_out_forget_the_number(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    async with sandbox_client() as (client, _):
        await made.load(client, [*people(OTHER), Recipient(PHONE, {})])
    assert await forget_in_ledger(tmp_path / "ledger.db", PHONE) == 1
    assert await made.skipped() == [(2, "missing_parameter: body-1", "")]


async def test_an_inbox_forgets_waiting_events_and_hands_on_the_others(tmp_path: Path) -> None:
    inbox = SQLiteInbox(tmp_path / "inbox.db")
    events = [
        parse({"messages": {"id": f"m{n}", "from": phone[1:], "text": f"secret {n}", "type": "text"}})[0]
        for n, phone in enumerate((PHONE, OTHER))
    ]
    await inbox.enter()
    await inbox.commit(events, [], keep=lambda _: False)
    assert await inbox.forget(PHONE) == 1
    assert [claimed.event.sender for claimed in await inbox.claim(10, 10)] == [OTHER[1:]]
    await inbox.aclose()
    written = bytes_in(tmp_path, "inbox.db*")
    assert (PHONE[1:].encode() in written, b"secret 0" in written, b"secret 1" in written) == (
        False,
        False,
        True,
    )


async def test_one_call_forgets_a_person_everywhere(tmp_path: Path) -> None:
    made, book = campaign(tmp_path), Customers(tmp_path / "customers.db")
    log = SendLog(tmp_path / "sends.db", keep_phones=True)
    await book.feed(TextReceived(sender=PHONE[1:], text="STOP"))
    async with sandbox_client(send_log=log) as (client, _):
        await made.load(client, people(PHONE, OTHER))
        await client.send_text(PHONE, "x", idempotency_key="a")
    await book.leave()
    inbox = SQLiteInbox(tmp_path / "inbox.db")
    await inbox.enter()
    await inbox.commit([TextReceived(id="m", sender=PHONE[1:], text="x", raw={"from": PHONE[1:]})], [])
    await inbox.aclose()
    found = await forget(
        PHONE,
        ledgers=[tmp_path / "ledger.db"],
        inboxes=[tmp_path / "inbox.db"],
        customers=[tmp_path / "customers.db"],
        logs=[tmp_path / "sends.db"],
    )
    assert list(found.values()) == [1, 1, 1, 1]
    async with Customers(tmp_path / "customers.db") as again:
        assert await again.opted_out(PHONE)
    assert PHONE[1:].encode() not in bytes_in(tmp_path, "*.db*")


async def test_a_missing_file_is_named_before_any_is_changed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.db: there is no such file"):
        await forget(PHONE, customers=[tmp_path / "gone.db"])
    with pytest.raises(ConfigurationError, match="name a store"):
        await forget(PHONE)
