"""The log itself: leases, late owners, resolving, statuses, retention, a full disk."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async import (
    ConfigurationError,
    Desk360Error,
    HostLimiter,
    InvalidMessage,
    Outcome,
    SendInProgress,
    SendUnknown,
    Sent,
)
from desk360_async.campaigns import Campaign
from desk360_async.once import SendLog
from desk360_async.webhooks import SQLiteInbox, StatusUpdate, TextReceived
from tests.once.harness import TO, Server, accepted, ask, clock, failing

pytestmark = pytest.mark.anyio


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SendLog]:
    """A log in a file, whose clock is the virtual one."""
    async with SendLog(tmp_path / "sends.db", clock=clock) as made:
        yield made


def status(name: str, message_id: str = "gBEG", sender: str = TO[1:]) -> StatusUpdate:
    """Make a status of a message."""
    return StatusUpdate(id=message_id, sender=sender, status=name)


async def unknown(log: SendLog, key: str = "order-1") -> None:
    """Leave a send with an unknown outcome."""
    with pytest.raises(Desk360Error, match="it failed"):
        await ask(log, Server(failing(Outcome.UNKNOWN)), key=key)


# ── owners ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stopped_owner_loses_its_claim_and_sends_nothing(tmp_path: Path) -> None:
    """It awaits a token for longer than its lease, as a frozen process does; another one sends meanwhile."""
    path = tmp_path / "sends.db"
    frozen = SendLog(path, clock=lambda: EARLY)
    async with SendLog(path, clock=clock) as alive, frozen:
        row = await frozen._store.claim("order-1", "a1", await hashes(frozen), None, EARLY.timestamp(), 1.0)
        assert row.is_mine
        server = Server()
        assert (await ask(alive, server)).replayed is False
        assert not await frozen._store.intend("order-1", row.row.attempt, {}, 1.0, 2.0)
        assert server.posts == 1


async def test_a_send_cancelled_while_it_claims_its_key_leaves_the_key_free(
    log: SendLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of the claim came before the cancellation, and the claim has no owner."""
    claim = log._store.claim

    async def slow(*args: Any) -> Any:
        await claim(*args)
        await anyio.sleep(5)

    with monkeypatch.context() as patch, anyio.move_on_after(1):
        patch.setattr(log._store, "claim", slow)
        await ask(log, Server())
    assert await ask(log, Server(), max_wait=0) == Sent("gBEG")


async def test_a_late_owner_still_writes_its_own_result(tmp_path: Path) -> None:
    path = tmp_path / "sends.db"
    async with SendLog(path, clock=clock) as late, SendLog(path, clock=clock) as other:
        claim = await late._store.claim("order-1", "a1", await hashes(late), None, now(), now() + 1)
        assert await late._store.intend("order-1", claim.row.attempt, {}, now(), now() + 1)
        await anyio.sleep(5)
        with pytest.raises(SendUnknown):
            await ask(other, Server())
        await late._store.conclude(
            "order-1", claim.row.attempt, "accepted", {"message_id": "gBEG"}, (), now()
        )
        assert await ask(other, Server()) == Sent("gBEG", replayed=True)


async def test_a_late_owner_does_not_overrule_a_person(tmp_path: Path) -> None:
    path = tmp_path / "sends.db"
    async with SendLog(path, clock=clock) as late, SendLog(path, clock=clock) as other:
        claim = await late._store.claim("order-1", "a1", await hashes(late), None, now(), now() + 1)
        await late._store.intend("order-1", claim.row.attempt, {}, now(), now() + 1)
        await anyio.sleep(5)
        await other.resolve("order-1", "accepted", message_id="theirs")
        assert not await late._store.conclude("order-1", claim.row.attempt, "not_sent", None, (), now())
        assert await ask(other, Server()) == Sent("theirs", replayed=True)


async def test_a_claim_is_renewed_while_the_send_waits_for_a_token(log: SendLog) -> None:
    async def after_two_minutes(message: Any, intend: Any, end: Any) -> Sent:
        await anyio.sleep(120)
        await intend(message)
        end(Outcome.ACCEPTED, Sent("gBEG"))
        return Sent("gBEG")

    server = Server()
    server.transmit = after_two_minutes  # type: ignore[method-assign]  # slower than the fake's
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, log, server)
        await anyio.sleep(100)
        assert (await ask(log, Server())).replayed


# ── a person decides ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["resend", "not_sent"])
async def test_a_resolved_send_goes_out_at_the_next_call_and_keeps_the_decision(
    log: SendLog, how: Any
) -> None:
    await unknown(log)
    await log.resolve("order-1", how)
    assert (await ask(log, Server())).replayed is False
    record = await log.get("order-1")
    assert record is not None
    assert (record.state, record.resolved, record.attempts) == ("accepted", how, 2)


@pytest.mark.parametrize("message_id", ["", "gBEG"])
async def test_a_send_resolved_as_accepted_replays_the_given_id(log: SendLog, message_id: str) -> None:
    await unknown(log)
    await log.resolve("order-1", "accepted", message_id=message_id)
    assert await ask(log, Server()) == Sent(message_id, replayed=True)


async def test_a_send_on_its_way_cannot_be_resolved(log: SendLog) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, log, Server(seconds=60))
        await anyio.sleep(1)
        with pytest.raises(SendInProgress):
            await log.resolve("order-1", "resend")
        tasks.cancel_scope.cancel()


async def test_resolving_needs_a_stored_unaccepted_send_and_a_known_word(log: SendLog) -> None:
    with pytest.raises(InvalidMessage, match="no send is stored"):
        await log.resolve("order-1", "resend")
    await ask(log, Server())
    with pytest.raises(InvalidMessage, match="was accepted"):
        await log.resolve("order-1", "resend")
    with pytest.raises(ConfigurationError, match="how must be"):
        await log.resolve("order-1", "again")  # type: ignore[arg-type]  # the mistake


async def test_unknown_sends_are_listed_by_key(log: SendLog) -> None:
    for key in ("b", "a", "c"):
        await unknown(log, key)
    await ask(log, Server(), key="d")
    assert [record.key async for record in log.unknown()] == ["a", "b", "c"]


# ── webhooks ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_furthest_status_is_kept(log: SendLog) -> None:
    await ask(log, Server())
    assert await log.feed(status("read"), status("delivered"), TextReceived(id="x")) == 1
    record = await log.get("order-1")
    assert record is not None
    assert record.seen == "read"


async def test_a_status_of_another_message_changes_no_record(log: SendLog) -> None:
    await ask(log, Server())
    assert await log.feed(status("read", "another")) == 0


@pytest.mark.parametrize(("settle", "state"), [(False, "unknown"), (True, "accepted")])
async def test_a_status_for_the_phone_of_an_unknown_send_is_seen(
    tmp_path: Path, settle: bool, state: str
) -> None:
    async with SendLog(tmp_path / "s.db", keep_phones=True, settle=settle, clock=clock) as log:
        await unknown(log)
        assert await log.feed(status("delivered", "gBEG-new")) == 1
        record = await log.get("order-1")
        assert record is not None
        assert (record.state, record.seen) == (state, "delivered")


async def test_of_two_unknown_sends_to_one_phone_neither_takes_the_status(tmp_path: Path) -> None:
    async with SendLog(tmp_path / "s.db", keep_phones=True, settle=True, clock=clock) as log:
        await unknown(log, "a")
        await unknown(log, "b")
        assert await log.feed(status("delivered", "gBEG-new")) == 0


async def test_a_forgotten_phone_leaves_key_and_outcome(tmp_path: Path) -> None:
    async with SendLog(tmp_path / "s.db", keep_phones=True, clock=clock) as log:
        await ask(log, Server())
        assert (await log.forget(TO), await log.forget(TO)) == (1, 0)
        assert (await ask(log, Server())).replayed


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────


async def test_ended_records_are_dropped_after_a_while_and_unknown_ones_stay(tmp_path: Path) -> None:
    async with SendLog(tmp_path / "s.db", keep=60, clock=clock) as log:
        await ask(log, Server(), key="a")
        await unknown(log, "b")
        await anyio.sleep(61)
        await ask(log, Server(), key="c")
        assert await log.get("a") is None
        assert await log.get("b") is not None


async def test_a_result_that_cannot_be_written_is_kept_and_written_later(
    log: SendLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    conclude, full = log._store.conclude, [True, True, True]

    async def on_a_full_disk(*args: Any) -> bool:
        if full:
            full.pop()
            raise ConfigurationError("the disk is full")
        return await conclude(*args)

    monkeypatch.setattr(log._store, "conclude", on_a_full_disk)
    assert await ask(log, Server()) == Sent("gBEG")
    assert await ask(log, Server()) == Sent("gBEG", replayed=True)
    await anyio.sleep(30)
    record = await log.get("order-1")
    assert record is not None
    assert record.state == "accepted"


async def test_an_intent_that_cannot_be_written_sends_nothing(
    log: SendLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> bool:
        raise ConfigurationError("the disk is full")

    monkeypatch.setattr(log._store, "intend", full)
    server = Server(accepted)
    with pytest.raises(ConfigurationError, match="full"):
        await ask(log, server)
    assert server.posts == 0


async def test_another_programs_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()
    log = SendLog(path)
    with pytest.raises(ConfigurationError, match="another program's file"):
        await log.get("order-1")
    await log._store.aclose()


@pytest.mark.parametrize("options", [{"keep": -1}, {"lease": 0}, {"lease": "30"}])
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        SendLog(":memory:", **options)


EARLY = datetime.fromtimestamp(0, UTC)


def now() -> float:
    """Return the virtual time in seconds since the epoch."""
    return clock().timestamp()


async def hashes(log: SendLog) -> dict[str, str]:
    """Return the hashes that `ask` stores."""
    from desk360_async.once import _records
    from tests.once.harness import HELLO

    return _records.hashes(HELLO, 11, "https://a/v1", await log._hash_key())


@pytest.mark.parametrize(
    "make",
    [
        lambda: HostLimiter(":memory:"),
        lambda: SQLiteInbox(":memory:"),
        lambda: Campaign("x", template="welcome", language="English", ledger=":memory:"),
    ],
)
def test_only_the_send_log_may_live_in_memory(make: Any) -> None:
    """A file of that name would be a surprise, and a ledger in memory forgets what was sent."""
    with pytest.raises(ConfigurationError, match="needs a file's path, not ':memory:'"):
        make()
