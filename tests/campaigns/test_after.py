"""After a run: reports, resolutions, and what webhooks tell."""

import csv
import json
import sqlite3
from contextlib import closing
from io import StringIO
from typing import IO, Any

import httpx
import pytest
from hypothesis import given, strategies

from desk360_async import AsyncDesk360, ConfigurationError
from desk360_async.campaigns import Counts, Recipient, Report, _batches, _report, campaigns_in
from desk360_async.campaigns._forgetting import forget
from desk360_async.campaigns._values import words_for
from desk360_async.sandbox import Fault
from desk360_async.webhooks import StatusUpdate
from tests.campaigns.harness import Harness, done, finish, people, phone


async def with_unknowns(harness: Harness, client: AsyncDesk360) -> None:
    """Load 30 in batches of 10, of which the first becomes unknown though the server has it."""
    await harness.campaign(batch_size=10).load(client, people(30))
    harness.sandbox.faults.add(Fault("status", status=502, times=1, accepted=True))
    await finish(harness.campaign(), client, concurrency=1)


def resolved(harness: Harness, decision: str, **scope: object) -> Counts:
    """Return the counts once the unknowns in a scope are resolved."""

    async def main(client: AsyncDesk360) -> Counts:
        await with_unknowns(harness, client)
        await harness.campaign().resolve(decision, **scope)
        return await harness.campaign().status()

    return harness.play(main)


@pytest.mark.parametrize(
    ("scope", "left"),
    [({"everything": True}, 0), ({"batch": 1}, 0), ({"batch": 2}, 10), ({"phones": [phone(3)]}, 9)],
)
def test_unknowns_are_resolved_by_phone_batch_or_all(
    harness: Harness, scope: dict[str, object], left: int
) -> None:
    """Whoever isn't meant stays unknown."""
    counts = resolved(harness, "sent", **scope)
    assert (counts.unknown, counts.accepted) == (left, 30 - left)


def test_what_is_resolved_as_not_sent_stays_unsent(harness: Harness) -> None:
    """It is a final state."""
    assert resolved(harness, "not_sent", everything=True) == Counts(accepted=20, not_sent=10)


def test_what_is_resolved_to_be_resent_is_pending_and_goes_out(harness: Harness) -> None:
    """A second time, as the user wished."""
    assert resolved(harness, "resend", phones=[phone(3), phone(4)]) == Counts(
        accepted=20, unknown=8, pending=2
    )
    harness.sandbox.reset()
    events = harness.play(lambda client: finish(harness.campaign(), client))
    assert harness.received() == [phone(3), phone(4)]
    assert done(events).counts == Counts(accepted=22, unknown=8)


def test_resolutions_are_audited(harness: Harness) -> None:
    """When, how many, and what was decided."""
    resolved(harness, "sent", batch=1)
    report = harness.play(lambda client: harness.campaign().report())
    assert report.resolutions[0].endswith("UTC: 10 unknown, of batch 1: accepted")


@pytest.mark.parametrize("scope", [{}, {"batch": 1, "everything": True}, {"phones": "+905551112233"}])
def test_a_resolution_needs_one_scope(harness: Harness, scope: dict[str, object]) -> None:
    """Nobody resolves everything by accident."""
    with pytest.raises(ConfigurationError, match="takes one of"):
        harness.play(lambda client: harness.campaign().resolve("sent", **scope))


async def with_failures(harness: Harness, client: AsyncDesk360) -> None:
    """Load 30 in batches of 10: the first is unknown, the second refused for its parameters."""
    await harness.campaign(batch_size=10).load(client, people(30))
    harness.sandbox.faults.add(Fault("status", status=502, times=1))
    body = {"errors": {"parameters.body-1": ["Too long."]}}
    harness.sandbox.faults.add(Fault("status", status=422, times=1, body=body))
    counts = done(await finish(harness.campaign(), client, concurrency=1)).counts
    assert counts == Counts(accepted=10, not_sent=10, unknown=10)


@pytest.mark.parametrize(
    ("scope", "counts"),
    [
        ({"everything": True}, Counts(accepted=10, pending=20)),
        ({"everything": True, "state": "not_sent"}, Counts(accepted=10, unknown=10, pending=10)),
        ({"everything": True, "state": "unknown"}, Counts(accepted=10, not_sent=10, pending=10)),
        ({"batch": 2}, Counts(accepted=10, unknown=10, pending=10)),
        (
            {"phones": [phone(1), phone(11), phone(21)]},
            Counts(accepted=10, not_sent=9, unknown=9, pending=2),
        ),
    ],
)
def test_who_was_not_sent_to_can_be_sent_again(
    harness: Harness, scope: dict[str, Any], counts: Counts
) -> None:
    """Which is safe; each state is audited on its own, and it goes out."""

    async def main(client: AsyncDesk360) -> Report:
        await with_failures(harness, client)
        assert await harness.campaign().resolve("resend", **scope) == counts.pending
        return await harness.campaign().report()

    report = harness.play(main)
    assert report.counts == counts
    audited = {line.split(": ")[1].split(", ")[0].split(" ", 1)[1] for line in report.resolutions}
    assert audited == {state for state in ("unknown", "not_sent") if getattr(counts, state) < 10}
    end = done(harness.play(lambda client: finish(harness.campaign(), client)))
    assert (end.end, end.counts.accepted) == ("finished", 10 + counts.pending)


@pytest.mark.parametrize(
    ("scope", "number"),
    [({"everything": True}, 0), ({"state": "not_sent", "everything": True}, 10), ({"phones": [phone(3)]}, 1)],
)
def test_who_shall_not_get_it_is_resent_only_if_meant(
    harness: Harness, scope: dict[str, Any], number: int
) -> None:
    """The user's own decision isn't undone by a sweep."""

    async def main(client: AsyncDesk360) -> int:
        await with_unknowns(harness, client)
        await harness.campaign().resolve("not_sent", everything=True)
        return await harness.campaign().resolve("resend", **scope)

    assert harness.play(main) == number


@pytest.mark.parametrize(("decision", "state"), [("sent", "not_sent"), ("resend", "accepted")])
def test_only_the_unsent_are_sent_again(harness: Harness, decision: str, state: str) -> None:
    """What was not sent can't be said to have arrived."""
    with pytest.raises(ConfigurationError, match="state must be"):
        harness.play(lambda client: harness.campaign().resolve(decision, everything=True, state=state))


def test_the_report_counts_everybody(harness: Harness) -> None:
    """With reasons."""

    async def main(client: AsyncDesk360) -> Report:
        await with_unknowns(harness, client)
        return await harness.campaign().report()

    report = harness.play(main)
    assert report.counts == Counts(accepted=20, unknown=10)
    assert report.reasons == {("unknown", "ServerError 502 internal_server_error"): 10}
    assert report.requests == 5  # three sends, and two pages of templates


def exported(harness: Harness, name: str, parameter: str = "x") -> str:
    """Return a report's text."""

    async def main(client: AsyncDesk360) -> None:
        given = [Recipient(phone(1), {"body-1": parameter}), Recipient("=cmd|' /C calc'!A0", {"body-1": "x"})]
        await harness.campaign().load(client, given)
        await finish(harness.campaign(), client)
        await harness.campaign().export(harness.folder / name)

    harness.play(main)
    assert (harness.folder / name).stat().st_mode & 0o777 == 0o600
    return (harness.folder / name).read_text(encoding="utf-8")


def test_the_csv_report_neutralises_formulas(harness: Harness) -> None:
    """What somebody wrote in place of a phone must not run in a spreadsheet; a phone can't."""
    rows = list(csv.DictReader(exported(harness, "report.csv").removeprefix("\ufeff").splitlines()))
    assert [row["phone"] for row in rows] == [phone(1), "'=cmd|' /C calc'!A0"]
    assert [row["state"] for row in rows] == ["accepted", "skipped"]


@pytest.mark.parametrize("together", [1, 1000])
@pytest.mark.parametrize("status", ["", "read"])
def test_the_csv_report_has_each_recipient_with_line_state_and_status(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, together: int, status: str
) -> None:
    """The phones of a batch lie beside each other in the ledger, or apart."""
    monkeypatch.setattr(_report, "_TOGETHER", together)
    quoted = 'Say "hi", Ada'
    given = [*people(30, sets=3), Recipient(phone(31), {"body-1": quoted})]
    update = StatusUpdate(id="unheard-of", sender=phone(2)[1:], status=status or "sent")

    async def main(client: AsyncDesk360) -> None:
        await harness.campaign().load(client, given)
        harness.sandbox.faults.add(Fault("status", status=502, times=1))
        await finish(harness.campaign(), client, concurrency=1)
        await harness.campaign().resolve("not_sent", phones=[phone(4)])
        assert await harness.campaign().feed(*[update] * bool(status)) == bool(status)
        await harness.campaign().export(harness.folder / "report.csv")

    harness.play(main)
    text = (harness.folder / "report.csv").read_text("utf-8-sig")
    rows = {int(row["line"]): row for row in csv.DictReader(text.splitlines())}
    assert [rows[n]["phone"] for n in range(1, 32)] == [phone(n) for n in range(1, 32)]
    states = [rows[n]["state"] for n in range(1, 5)]
    assert states == ["unknown", "accepted", "accepted", "not_sent"]
    assert rows[4]["explanation"] == words_for("resolved")
    assert [rows[n]["whatsapp"] for n in (1, 2)] == ["", status]
    assert json.loads(rows[31]["parameters"]) == {"body-1": quoted}


def test_the_lines_of_singles_are_those_of_their_recipients(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single's batch has its line; a report of a ledger whose batches have none is the same."""
    monkeypatch.setattr(_batches, "MANY_SETS", 2)
    different = [Recipient(phone(60 - n), {"body-1": f"Dear {n}"}) for n in range(40)]

    async def main(client: AsyncDesk360) -> None:
        campaign = harness.campaign()
        await campaign.load(client, [*different, *people(4, sets=2), Recipient(phone(1), {"body-1": "x"})])
        harness.sandbox.faults.add(Fault("status", status=502, times=3))
        await finish(campaign, client, concurrency=1)
        await campaign.resolve("resend", phones=[phone(60), phone(1)])
        await forget(harness.ledger, phone(58))
        await campaign.export(harness.folder / "report.csv")
        with closing(sqlite3.connect(harness.ledger, isolation_level=None)) as connection:
            changed = connection.execute("UPDATE batch SET line = NULL WHERE line IS NOT NULL").rowcount
        await campaign.export(harness.folder / "again.csv")
        assert changed == 40

    harness.play(main)
    report = (harness.folder / "report.csv").read_bytes()
    assert report == (harness.folder / "again.csv").read_bytes()
    rows = list(csv.DictReader(report.decode("utf-8-sig").splitlines()))
    assert [row["line"] for row in rows if row["reason"] == "duplicate"] == ["45"]
    assert len({row["line"] for row in rows}) == len(rows) == 45


@given(text=strategies.text())
def test_a_cell_of_the_report_is_written_as_the_csv_module_writes_it(text: str) -> None:
    """Between two others: an empty record's only cell is quoted."""
    file = StringIO()
    csv.writer(file).writerow(["a", text, "b"])
    assert file.getvalue() == f"a,{_report._cell(text)},b\r\n"


def test_the_json_report_has_a_summary_and_everybody(harness: Harness) -> None:
    """Read by somebody else's parser."""
    report = json.loads(exported(harness, "report.json"))
    assert report["summary"]["counts"]["accepted"] == 1
    assert [row["phone"] for row in report["recipients"]] == [phone(1), "=cmd|' /C calc'!A0"]
    assert report["recipients"][0]["message_id"]


def test_a_report_is_of_one_moment(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its summary counts what its rows list, though the campaign goes on meanwhile."""
    write, moved = _report._write_json, []

    def meanwhile(file: IO[str], rows: Any, summary: Any) -> int:
        connection = sqlite3.connect(harness.ledger)
        moved.append(connection.execute("UPDATE batch SET state = 'accepted'").rowcount)
        connection.commit()
        connection.close()
        return write(file, rows, summary)

    async def main(client: AsyncDesk360) -> None:
        await harness.campaign().load(client, people(3))
        monkeypatch.setattr(_report, "_write_json", meanwhile)
        await harness.campaign().export(harness.folder / "report.json")

    harness.play(main)
    report = json.loads((harness.folder / "report.json").read_text())
    assert moved == [1]
    assert report["summary"]["counts"]["pending"] == 3
    assert [row["state"] for row in report["recipients"]] == ["pending"] * 3


def test_who_is_not_listed_carries_the_reason_alone(harness: Harness) -> None:
    """Whoever was accepted beside them carries none."""

    async def main(client: AsyncDesk360) -> Report:
        campaign = harness.campaign(not_listed="not_sent")
        await campaign.load(client, [*people(10), Recipient("+905550000000", {"body-1": "offer 0"})])
        await finish(campaign, client)
        await campaign.export(harness.folder / "report.csv")
        return await campaign.report()

    assert harness.play(main).reasons == {("not_sent", "not_listed"): 1}
    rows = csv.DictReader((harness.folder / "report.csv").read_text().splitlines())
    assert [row["reason"] for row in rows if row["state"] == "accepted"] == [""] * 10


def test_webhooks_count_single_sends_by_id_and_bulk_by_phone(harness: Harness) -> None:
    """In any order, repeats and strangers included."""

    async def main(client: AsyncDesk360) -> Report:
        campaign = harness.campaign()
        await campaign.load(client, [*people(5), Recipient("+905559999999", {"body-1": "you"})])
        await finish(campaign, client)
        single = harness.sandbox.sent(to="+905559999999")[0].message_id
        by_id = StatusUpdate(id=single, sender="905559999999", status="read")
        by_phone = StatusUpdate(id="unheard-of", sender=phone(1)[1:], status="delivered")
        strange = StatusUpdate(id="unheard-of", sender="905559999999", status="delivered")
        assert await campaign.feed(by_id, by_phone, by_phone, strange) == 2
        return await campaign.report()

    report = harness.play(main)
    assert (report.delivered, report.read) == (2, 1)


def test_a_late_status_of_a_message_that_was_sent_again_does_not_count(harness: Harness) -> None:
    """Its batch is empty, so reading the batch's phone raised an error, and the receiver's feed stopped."""

    async def main(client: AsyncDesk360) -> tuple[int, int, Report]:
        campaign = harness.campaign(strategy="single")
        await campaign.load(client, people(2))
        await finish(campaign, client)
        first = harness.sandbox.sent(to=phone(1))[0].message_id
        failed = StatusUpdate(id=first, sender=phone(1)[1:], status="failed")
        assert await campaign.feed(failed) == 1
        assert await campaign.resolve("resend", state="failed", everything=True) == 1
        before = await campaign.feed(failed)
        await finish(campaign, client)
        after = await campaign.feed(failed, StatusUpdate(id=first, sender=phone(1)[1:], status="read"))
        second = harness.sandbox.sent(to=phone(1))[-1].message_id
        assert second != first
        assert await campaign.feed(StatusUpdate(id=second, sender=phone(1)[1:], status="read")) == 1
        return before, after, await campaign.report()

    before, after, report = harness.play(main)
    assert (before, after) == (0, 0)
    assert (report.failed, report.read) == (0, 1)


class Hasty(httpx.AsyncBaseTransport):
    """A server whose webhooks overtake its answers."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.inner = harness, httpx.ASGITransport(app=harness.sandbox.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Tell the campaign what was received, and only then answer."""
        known = len(self.harness.sandbox.received)
        response = await self.inner.handle_async_request(request)
        for message in self.harness.sandbox.received[known:]:
            told = StatusUpdate(id=message.message_id, sender=message.phone[1:], status="delivered")
            assert await self.harness.campaign().feed(told, told) == 1
        return response


@pytest.mark.parametrize("strategy", ["bulk", "single"])
def test_a_webhook_may_be_faster_than_the_answer(harness: Harness, strategy: str) -> None:
    """It is kept until the answer says which message it was about."""
    harness.transport = Hasty(harness)

    async def main(client: AsyncDesk360) -> Report:
        campaign = harness.campaign(strategy=strategy)
        await campaign.load(client, people(5))
        await finish(campaign, client)
        return await campaign.report()

    report = harness.play(main)
    assert (report.delivered, report.read) == (5, 0)


def test_a_ledger_holds_several_campaigns(harness: Harness) -> None:
    """Each under its own name; the same phone may be in both."""

    async def main(client: AsyncDesk360) -> tuple[str, ...]:
        for name in ("spring", "autumn"):
            await harness.campaign(name).load(client, people(5))
            await finish(harness.campaign(name), client)
        return await campaigns_in(harness.ledger)

    assert harness.play(main) == ("spring", "autumn")
    assert len(harness.received()) == 10
