"""A forgotten person: no file holds the number or the texts, and counts, outcomes and opt-outs stay."""

import math
import struct
from pathlib import Path

import pytest

from desk360_async import ConfigurationError
from desk360_async.campaigns import Campaign, CampaignError, Counts, Recipient
from desk360_async.campaigns import forget as forget_in_ledger
from desk360_async.customers import Customers, expire, forget
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


# ── retention ──────────────────────────────────────────────────────────────────────────────────────────────


async def run_and_expire(folder: Path, *, retention: float = 0) -> tuple[Campaign, dict[str, int]]:
    made = campaign(folder)
    async with sandbox_client() as (client, _):
        await made.load(
            client, [Recipient(phone, {"body-1": "our secret"}) for phone in (PHONE, OTHER, "call me")]
        )
        await finish(made, client)
        await made.feed(StatusUpdate(id="x", sender=PHONE[1:], status="read"))
    return made, await expire(retention=retention, ledgers=[folder / "ledger.db"])


async def test_an_expired_ledger_keeps_counts_and_no_number(tmp_path: Path) -> None:
    made, found = await run_and_expire(tmp_path)
    assert found == {str(tmp_path / "ledger.db"): 2}
    report = await made.report()
    assert (report.counts, report.read, report.left_out) == (Counts(accepted=2), 1, {"invalid_phone": 1})
    assert "2 all, numbers and texts: expired" in report.resolutions[-1]
    written = bytes_in(tmp_path, "ledger.db*")
    for phone in (PHONE, OTHER):
        assert struct.pack("<Q", int(phone)) not in written
    assert (b"our secret" in written, b"call me" in written) == (False, False)


async def test_an_expired_ledger_can_be_exported(tmp_path: Path) -> None:
    made, _ = await run_and_expire(tmp_path)
    assert await made.export(tmp_path / "report.csv") == 3
    assert "555111" not in (tmp_path / "report.csv").read_text()


async def test_an_expired_campaign_is_not_loaded_again(tmp_path: Path) -> None:
    made, _ = await run_and_expire(tmp_path)
    async with sandbox_client() as (client, _):
        with pytest.raises(CampaignError, match=r"is expired: .* Load the list under another name"):
            await made.load(client, people(PHONE))
    with pytest.raises(CampaignError, match="is expired"):
        await made.resolve("resend", everything=True)
    assert await made.status() == Counts(accepted=2)


async def test_a_second_expiry_finds_no_campaign(tmp_path: Path) -> None:
    _, found = await run_and_expire(tmp_path)
    assert await expire(retention=0, ledgers=found) == dict.fromkeys(found, 0)


async def test_a_campaign_that_ended_lately_keeps_its_numbers(tmp_path: Path) -> None:
    made, found = await run_and_expire(tmp_path, retention=86_400)
    assert list(found.values()) == [0]
    assert len(await made.people(state="accepted")) == 2


async def test_a_campaign_with_pending_people_keeps_its_numbers(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    async with sandbox_client() as (client, _):
        await made.load(client, people(PHONE))
    assert await expire(retention=0, ledgers=[tmp_path / "ledger.db"]) == {str(tmp_path / "ledger.db"): 0}
    assert [person.phone for person in await made.people(state="pending")] == [PHONE]


async def inbox_with_a_dead_letter(path: Path, *, retention: float = math.inf) -> SQLiteInbox:
    """Return an open inbox with a dead letter and an event that waits."""
    inbox = SQLiteInbox(path, retention=retention)
    dead, waiting = (
        parse({"messages": {"id": name, "from": PHONE[1:], "text": name, "type": "text"}})[0]
        for name in ("dead", "waiting")
    )
    await inbox.enter()
    (row,) = await inbox.commit([dead], [])
    await inbox.commit([waiting], [(row, "ValueError")], keep=lambda _: False)
    return inbox


async def test_dead_letters_older_than_the_retention_are_deleted(tmp_path: Path) -> None:
    inbox = await inbox_with_a_dead_letter(tmp_path / "inbox.db", retention=0)
    await inbox.commit([], [])  # a commit trims
    assert await inbox.dead_letters() == []
    await inbox.aclose()


async def test_dead_letters_stay_without_a_retention(tmp_path: Path) -> None:
    inbox = await inbox_with_a_dead_letter(tmp_path / "inbox.db")
    await inbox.commit([], [])
    assert [letter.event.id for letter in await inbox.dead_letters()] == ["dead"]
    await inbox.aclose()


async def test_an_inbox_expires_dead_letters_and_keeps_waiting_events(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    await (await inbox_with_a_dead_letter(path)).aclose()
    assert await expire(retention=0, inboxes=[path]) == {str(path): 1}
    inbox = SQLiteInbox(path)
    assert [event.id for _, event in await inbox.open()] == ["waiting"]
    await inbox.aclose()


async def test_expiry_nowhere_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name a store: a ledger or an inbox"):
        await expire(retention=0)
