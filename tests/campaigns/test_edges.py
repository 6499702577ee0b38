"""Bad input, rare turns, and what happens to them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    AsyncDesk360,
    ClientStateError,
    ConfigurationError,
    InvalidMessage,
    Outcome,
    RateLimitStatus,
    UnexpectedResponse,
)
from desk360_async.campaigns import (
    Campaign,
    CampaignError,
    Counts,
    Done,
    Event,
    Paused,
    Recipient,
    _batches,
    _run,
)
from desk360_async.campaigns._report import make_plan, spell
from desk360_async.campaigns._verdicts import judge_error
from desk360_async.sandbox import Fault
from tests.campaigns.harness import Harness, done, finish, people, phone, results


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": " "}, "name"),
        ({"strategy": "fast"}, "strategy"),
        ({"not_listed": "sent"}, "not_listed"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"opt_out": ["nobody"]}, "opt_out, entry 1"),
    ],
)
def test_a_campaign_checks_its_arguments(options: dict[str, Any], field: str) -> None:
    """The message names the argument."""
    with pytest.raises(ConfigurationError, match=field):
        Campaign(**{"name": "x", "ledger": "x.db", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"max_failures": -1},
        {"max_failures": 1.5},
        {"max_failures": True},
        {"stop_if_failed": 2},
        {"stop_if_failed": True},
    ],
)
def test_a_run_checks_its_arguments(harness: Harness, options: dict[str, Any]) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        harness.campaign().run(harness.client(), **options)


def test_a_campaign_shows_its_name_and_ledger_only() -> None:
    """A repr may end in a log."""
    assert repr(Campaign("sale", ledger="/a/b.db")) == "<Campaign 'sale' in b.db>"


def test_loading_needs_a_template(harness: Harness) -> None:
    """Running doesn't: it is in the ledger."""
    with pytest.raises(ConfigurationError, match=r"template=\.\.\., language"):
        harness.play(lambda client: Campaign("x", ledger=harness.ledger).load(client, people(1)))


def test_an_integration_is_needed(harness: Harness) -> None:
    """And said so."""
    with pytest.raises(ConfigurationError, match="needs an integration"):
        harness.play(lambda client: harness.campaign().load(client, people(1)), integration_id=None)


@pytest.mark.parametrize("given", [["+905551112233"], {"a": 1}, 5, b"x", Recipient("+905551112233")])
def test_recipients_are_recipients(harness: Harness, given: Any) -> None:
    """A list of numbers is no list of recipients."""
    with pytest.raises(InvalidMessage, match="recipients"):
        harness.play(lambda client: harness.campaign().load(client, given))


def test_mapping_is_for_files(harness: Harness) -> None:
    """Recipients name their variables."""
    with pytest.raises(ConfigurationError, match="mapping is for files"):
        harness.play(lambda client: harness.campaign().load(client, people(1), mapping={"phone": "x"}))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"body-1": "x", "body-2": "y"}, "unknown_parameters: body-2"),
        ({"body-2": "y"}, "unknown_parameters: body-2"),
        (None, "missing_parameter: body-1"),
        ({"body-1": None}, "missing_parameter: body-1"),
        ({"body-1": 1.5}, "invalid_parameter: body-1"),
        ({"body-1": ["x"]}, "invalid_parameter: body-1"),
        ({"body-1": "x", "\ud800": "y"}, "unknown_parameters: ?"),
        ({"body-1": "\ud800"}, "invalid_parameter: body-1"),
    ],
)
def test_parameters_must_fit(harness: Harness, parameters: Any, reason: str) -> None:
    """A row that lacks one, or has one too many, is left out."""

    async def main(client: AsyncDesk360) -> list[tuple[int, str, str]]:
        await harness.campaign().load(client, [Recipient(phone(1), parameters), *people(1, start=2)])
        return await harness.campaign().skipped()

    assert [reason_ for _, reason_, _ in harness.play(main)] == [reason]


@pytest.mark.parametrize("values", [[True, 1], [1, True], [1.0, 1], [1, 1.0]])
def test_a_number_is_sent_though_an_equal_value_is_no_text(harness: Harness, values: list[Any]) -> None:
    async def main(client: AsyncDesk360) -> list[tuple[int, str, str]]:
        given = [Recipient(phone(n), {"body-1": value}) for n, value in enumerate(values, 1)]
        await harness.campaign().load(client, given)
        return await harness.campaign().skipped()

    lines = [n for n, value in enumerate(values, 1) if type(value) is not int]
    assert [line for line, *_ in harness.play(main)] == lines


def test_a_phone_that_no_file_can_hold_is_shown_without_its_surrogate(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> list[tuple[int, str, str]]:
        await harness.campaign().load(client, [Recipient("+90\ud800", {"body-1": "x"})])
        return await harness.campaign().skipped()

    assert harness.play(main) == [(1, "invalid_phone: character", "+90?")]


def test_numbers_and_line_breaks_are_text(harness: Harness) -> None:
    """As a message takes them."""
    given = [Recipient(phone(1), {"body-1": 5}), Recipient(phone(2), {"body-1": "a\nb"})]  # type: ignore[dict-item]  # a number
    assert harness.play(lambda client: harness.campaign().load(client, given)).recipients == 2


def test_many_sets_are_sorted_rather_than_filled(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batches come of it."""
    monkeypatch.setattr(_batches, "MANY_SETS", 2)
    plan = harness.play(lambda client: harness.campaign().load(client, [*people(90, sets=3), *people(2)]))
    assert (plan.bulk_requests, plan.groups, dict(plan.left_out)) == (3, 3, {"duplicate": 2})


def test_a_long_async_iterable_is_read_in_chunks(harness: Harness) -> None:
    """Memory stays flat."""

    async def given() -> AsyncIterator[Recipient]:
        for recipient in people(5001):
            yield recipient

    assert harness.play(lambda client: harness.campaign().load(client, given())).recipients == 5001


def test_a_missing_file_is_refused_before_a_request(harness: Harness) -> None:
    with pytest.raises(ConfigurationError, match=r"list.csv: there is no such file"):
        harness.play(lambda client: harness.campaign().load(client, harness.folder / "list.csv"))
    assert (list(harness.sandbox.requests), harness.ledger.exists()) == ([], False)


def test_a_spreadsheets_own_separator_line_is_understood(harness: Harness) -> None:
    path = harness.folder / "list.csv"
    path.write_bytes(b"sep=;\nphone;body-1\n+905551112233;x\n+905551112234;y\n")
    assert harness.play(lambda client: harness.campaign().load(client, path)).recipients == 2


@pytest.mark.parametrize(
    ("mapping", "message"),
    [({"body-9": "x"}, "the template takes: phone, body-1"), ({"body-1": "x"}, "no column 'x'")],
)
def test_a_mapping_must_fit(harness: Harness, mapping: dict[str, str], message: str) -> None:
    """It lists what there is."""
    path = harness.folder / "list.csv"
    path.write_text("phone,body-1\n+905551112233,x\n")
    with pytest.raises(ConfigurationError, match=message):
        harness.play(lambda client: harness.campaign().load(client, path, mapping=mapping))


@pytest.mark.parametrize(("region", "reason"), [("TR", {"invalid_phone": 2}), ("??", None)])
def test_a_region_reads_national_numbers(
    harness: Harness, region: str, reason: dict[str, int] | None
) -> None:
    """Impossible ones stay invalid, and so does a region that is none."""
    pytest.importorskip("phonenumbers")
    given = [Recipient(p, {"body-1": "x"}) for p in ("0555 111 22 33", "1", "no number")]

    def load() -> Any:
        return harness.play(lambda client: harness.campaign().load(client, given, region=region))

    if reason is None:
        with pytest.raises(ConfigurationError, match="two letters"):
            load()
    else:
        assert dict(load().left_out) == reason


def test_a_plan_warns_of_long_runs_and_of_unknowns() -> None:
    """Before they surprise."""
    rate = RateLimitStatus(60, 60.0, 1, 60, 0, {}, None, 0.0, 0.0)
    plan = make_plan(Counts(pending=10**7, unknown=5), [("bulk", 10**5, 10**7)], 1, {}, rate, 0.0)
    assert plan.warnings[0] == "At the present limit this takes 27.8 hours."
    assert plan.warnings[1].startswith("5 recipients are unknown")
    assert plan.minutes == pytest.approx(10**5 / 60)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "20 seconds"), (600, "10.0 minutes"), (7200, "2.0 hours"), (1e6, "11.6 days")],
)
def test_durations_are_spelled(seconds: float, words: str) -> None:
    """As people say them."""
    assert spell(seconds) == words


def test_everybody_opting_out_finishes_a_batch(harness: Harness) -> None:
    """Without a request; a function may be the list."""

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign().load(client, people(3))
        gone = harness.campaign(opt_out=lambda: [phone(n) for n in (1, 2, 3)])
        return await finish(gone, client)

    events = harness.play(main)
    assert done(events).counts == Counts(skipped=3)
    assert done(events).end == "finished"


def test_who_opts_out_during_the_wait_for_a_token_is_left_out(harness: Harness) -> None:
    """The list is read again with the token in hand."""
    lists = iter([[], [], [phone(2)]])  # at loading and composing nobody, and then with the token
    last: list[str] = []

    def opt_out() -> list[str]:
        last[:] = next(lists, last)
        return list(last)

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(opt_out=opt_out)
        await campaign.load(client, people(3))
        return await finish(campaign, client)

    assert done(harness.play(main)).counts == Counts(accepted=2, skipped=1)
    assert phone(2) not in harness.received()


def test_an_async_function_may_be_the_list(harness: Harness) -> None:
    """One that asks a database, say."""

    async def opted_out() -> list[str]:
        await anyio.sleep(0.1)
        return [phone(2)]

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign().load(client, people(3))
        return await finish(harness.campaign(opt_out=opted_out), client)

    assert done(harness.play(main)).counts == Counts(accepted=2, skipped=1)


async def broken_list() -> list[str]:
    """Fail."""
    raise OSError("no database")


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: ["nobody"], lambda: "+905551112233", broken_list])
def test_an_opt_out_function_that_fails_stops_it(harness: Harness, broken: Any) -> None:
    """Nobody is written to."""

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign().load(client, people(3))
        return await finish(harness.campaign(opt_out=broken), client)

    assert done(harness.play(main)).end == "opt_out"
    assert harness.received() == []


class Unreachable(httpx.AsyncBaseTransport):
    """A network that is down for so many requests after the first two."""

    def __init__(self, harness: Harness, failures: float) -> None:
        self.inner = httpx.ASGITransport(app=harness.sandbox.app)
        self.failures = failures
        self.seen = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Fail, or pass it on."""
        self.seen += 1
        if 2 < self.seen <= self.failures + 2:
            raise httpx.ConnectError("down")
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize(("failures", "end"), [(5, "finished"), (10**6, "unreachable")])
def test_no_connection_is_waited_for(harness: Harness, failures: int, end: str) -> None:
    """Nothing was sent, so nothing is unknown; after five minutes it gives up, to be resumed."""
    harness.transport = Unreachable(harness, failures)

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign().load(client, people(3))
        return await finish(harness.campaign(), client)

    events = harness.play(main)
    assert (done(events).end, done(events).counts.unknown) == (end, 0)
    assert "unreachable" in {event.reason for event in events if isinstance(event, Paused)}


def test_everything_refused_is_nobodys_number(harness: Harness) -> None:
    """25 refusals in a row stop it: halving a million would cost two million tokens."""

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign(batch_size=64).load(client, people(64))
        harness.sandbox.faults.add(Fault("status", status=422))
        return await finish(harness.campaign(), client, concurrency=1)

    events = harness.play(main)
    assert (done(events).end, len(results(events))) == ("refused", 25)
    assert done(events).counts == Counts(pending=64)


def test_aborting_makes_what_is_on_the_wire_unknown(harness: Harness) -> None:
    """At once."""

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign(batch_size=3).load(client, people(6))
        harness.sandbox.faults.add(Fault("stall", delay=25))
        async with harness.campaign().run(client, concurrency=1) as run:
            await anyio.sleep(5)
            run.abort()
            return [event async for event in run]

    events = harness.play(main)
    assert (done(events).end, done(events).counts) == ("interrupted", Counts(pending=3, unknown=3))


def test_cancelling_from_outside_lets_the_wire_finish(harness: Harness) -> None:
    """A timeout of the caller's loses nothing."""

    async def main(client: AsyncDesk360) -> Counts:
        await harness.campaign().load(client, people(3))
        harness.sandbox.faults.add(Fault("slow", delay=5))
        with anyio.move_on_after(2):
            async with harness.campaign().run(client) as run:
                await run.wait()
        return await harness.campaign().status()

    assert harness.play(main) == Counts(accepted=3)


def test_nobody_reading_holds_it_back(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events don't pile up; stopping wakes those who wait for room."""
    monkeypatch.setattr(_run, "ROOM", 4)

    async def main(client: AsyncDesk360) -> int:
        await harness.campaign(batch_size=1, strategy="single").load(client, people(30))
        async with harness.campaign().run(client, concurrency=1):
            await anyio.sleep(10_000)
            return len(harness.received())

    assert harness.play(main) == 2


def test_a_run_is_entered_once(harness: Harness) -> None:
    """And not iterated before."""

    async def main(client: AsyncDesk360) -> Done:
        await harness.campaign().load(client, people(3))
        run = harness.campaign().run(client)
        with pytest.raises(CampaignError, match="async with"):
            await anext(run)
        async with run:
            end = await run.wait()
        with pytest.raises(CampaignError, match="once"):
            await run.__aenter__()
        return end

    assert harness.play(main).end == "finished"


def test_a_missing_campaign_is_listed_against_what_there_is(harness: Harness) -> None:
    """A typo in the name is seen at once."""

    async def main(client: AsyncDesk360) -> None:
        await harness.campaign().load(client, people(1))
        await Campaign("sael", ledger=harness.ledger).status()

    with pytest.raises(CampaignError, match=r"holds no campaign 'sael' \(it holds: 'sale'\)"):
        harness.play(main)


def test_unlisted_numbers_can_be_resent(harness: Harness) -> None:
    """They have a state of their own within an accepted batch."""

    async def main(client: AsyncDesk360) -> Counts:
        campaign = harness.campaign()
        await campaign.load(client, [*people(10), Recipient("+905550000000", {"body-1": "offer 0"})])
        await finish(campaign, client)
        assert await campaign.resolve("resend", everything=True) == 1
        return await campaign.status()

    assert harness.play(main) == Counts(accepted=10, pending=1)


def test_a_decision_is_one_of_three(harness: Harness) -> None:
    """`resend` must be meant."""
    with pytest.raises(ConfigurationError, match="decision"):
        harness.play(lambda client: harness.campaign().resolve("again", everything=True))  # type: ignore[arg-type]  # the mistake


def test_a_report_is_csv_xlsx_or_json(harness: Harness) -> None:
    """Nothing else, and nothing half."""
    with pytest.raises(ConfigurationError, match=r"\.csv, \.xlsx or \.json"):
        harness.play(lambda client: harness.campaign().export(harness.folder / "report.txt"))


def test_a_report_that_cannot_be_written_leaves_nothing(harness: Harness) -> None:
    """The disk's error comes through as it is."""
    target = harness.folder / "report.csv"
    target.mkdir()

    async def main(client: AsyncDesk360) -> None:
        await harness.campaign().load(client, people(1))
        await harness.campaign().export(target)

    with pytest.raises(OSError, match="report"):
        harness.play(main)
    assert [path for path in harness.folder.iterdir() if path.suffix == ".part"] == []


def test_an_attachment_goes_along_and_is_pinned(harness: Harness, tmp_path: Path) -> None:
    """Running without it, or with another of the same name, is refused, and so is one that isn't there."""
    file = tmp_path / "invoice.pdf"
    file.write_bytes(b"%PDF")
    campaign = harness.campaign(template="invoice", attachment=file)

    async def main(client: AsyncDesk360) -> Done:
        await campaign.load(client, people(3))
        with pytest.raises(CampaignError, match="attachment"):
            await finish(Campaign("sale", ledger=harness.ledger), client)
        file.write_bytes(b"%PDF, and more")
        with pytest.raises(CampaignError, match=r"'invoice.pdf \(4 bytes\)', not 'invoice.pdf \(14 bytes\)'"):
            await finish(campaign, client)
        file.unlink()
        with pytest.raises(InvalidMessage, match="No such file"):
            await finish(campaign, client)
        file.write_bytes(b"%PDF")
        return done(await finish(campaign, client))

    assert harness.play(main).counts.accepted == 3
    assert [file.name for message in harness.sandbox.received for file in message.files] == [
        "invoice.pdf"
    ] * 3


@pytest.mark.parametrize(
    ("error", "size", "state"),
    [
        (UnexpectedResponse("?", status=200, body="", outcome=Outcome.ACCEPTED), 1, "accepted"),
        (InvalidMessage("to", "no"), 1, "not_sent"),
        (ClientStateError("closed"), 1, "pending"),
    ],
)
def test_the_clients_outcome_decides(error: Any, size: int, state: str) -> None:
    """What the batch becomes follows from it."""
    assert judge_error(error, size).state == state
