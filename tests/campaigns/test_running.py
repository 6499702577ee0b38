"""Running: what is sent, what comes of it, and every way to stop."""

import anyio
import pytest

from desk360_async import AsyncDesk360
from desk360_async.campaigns import Campaign, CampaignError, Event, Paused, Recipient
from desk360_async.sandbox import Fault
from tests.campaigns.harness import Harness, done, finish, people, phone, results


def loaded_and_run(harness: Harness, recipients: list[Recipient], **options: object) -> list[Event]:
    """Load, run to the end, and return the events."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(**options)
        await campaign.load(client, recipients)
        return await finish(campaign, client)

    return harness.play(main)


def test_everybody_is_sent_to_once(harness: Harness) -> None:
    """By bulk where parameters are equal, alone otherwise."""
    events = loaded_and_run(harness, [*people(350, sets=2), Recipient("+905559999999", {"body-1": "you"})])
    assert done(events).end == "finished"
    assert done(events).counts.accepted == 351
    assert sorted(harness.received()) == sorted([*map(phone, range(1, 351)), "+905559999999"])
    assert [result.kind for result in results(events)] == ["bulk"] * 4 + ["single"]


@pytest.mark.parametrize(
    ("template", "language"), [("Back_In_Stock", "english"), ("back_in_stock", "en"), (86, 1)]
)
def test_it_runs_by_the_words_by_which_it_was_loaded(
    harness: Harness, template: int | str, language: int | str
) -> None:
    events = loaded_and_run(harness, people(3), template=template, language=language)
    assert done(events).counts.accepted == 3


@pytest.mark.parametrize(("template", "language"), [("feedback", 1), (87, 1), ("back_in_stock", "tr")])
def test_another_template_is_refused(harness: Harness, template: int | str, language: int | str) -> None:
    async def main(client: AsyncDesk360) -> None:
        await harness.campaign().load(client, people(3))
        with pytest.raises(CampaignError, match="was loaded for"):
            await finish(harness.campaign(template=template, language=language), client)

    harness.play(main)


def test_what_the_answer_does_not_list_is_unknown(harness: Harness) -> None:
    """The sandbox leaves out numbers that aren't on WhatsApp."""
    events = loaded_and_run(harness, [*people(10), Recipient("+905550000000", {"body-1": "offer 0"})])
    assert (done(events).counts.accepted, done(events).counts.unknown) == (10, 1)


def test_what_the_answer_does_not_list_may_be_called_not_sent(harness: Harness) -> None:
    """If the user says so."""
    recipients = [*people(10), Recipient("+905550000000", {"body-1": "offer 0"})]
    events = loaded_and_run(harness, recipients, not_listed="not_sent")
    assert (done(events).counts.accepted, done(events).counts.not_sent) == (10, 1)


def test_a_refused_batch_is_halved_to_find_the_bad_number(harness: Harness) -> None:
    """Everybody else gets the message, once."""
    harness.sandbox = type(harness.sandbox)(keep=None, clock=anyio.current_time, strict_bulk=True)
    events = loaded_and_run(harness, [*people(64), Recipient("+905550000000", {"body-1": "offer 0"})])
    assert (done(events).counts.accepted, done(events).counts.not_sent) == (64, 1)
    assert sorted(harness.received()) == [phone(n) for n in range(1, 65)]


@pytest.mark.parametrize(
    ("fault", "end", "pending"),
    [
        (Fault("status", status=401), "refused", 100),
        (Fault("status", status=403), "refused", 100),
        (Fault("status", status=404), "refused", 100),
    ],
)
def test_a_refusal_that_is_nobodys_fault_stops_it(
    harness: Harness, fault: Fault, end: str, pending: int
) -> None:
    """Nothing was sent, so the batch is pending as before."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign()
        await campaign.load(client, people(100))
        harness.sandbox.faults.add(fault)
        return await finish(campaign, client)

    events = harness.play(main)
    assert (done(events).end, done(events).counts.pending) == (end, pending)


def test_an_answer_that_proves_nothing_makes_its_batch_unknown(harness: Harness) -> None:
    """And it is never sent again by itself."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign()
        await campaign.load(client, people(150))
        harness.sandbox.faults.add(Fault("status", status=502, times=1, accepted=True))
        return await finish(campaign, client) + await finish(campaign, client)

    assert done(harness.play(main)).counts.unknown == 100
    assert len(harness.received()) == len(set(harness.received())) == 150


def test_five_silent_failures_in_a_row_stop_it(harness: Harness) -> None:
    """A server that is down mustn't make everybody unknown."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(batch_size=10)
        await campaign.load(client, people(200))
        harness.sandbox.faults.add(Fault("status", status=500))
        return await finish(campaign, client, concurrency=1)

    events = harness.play(main)
    assert (done(events).end, done(events).counts.unknown) == ("unreachable", 50)


@pytest.mark.parametrize("most", [25, 0.125])
def test_too_many_failures_stop_it(harness: Harness, most: float) -> None:
    """A count, or a share of all."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(batch_size=10)
        await campaign.load(client, people(200))
        harness.sandbox.faults.add(Fault("status", status=500))
        return await finish(campaign, client, concurrency=1, max_failures=most)

    events = harness.play(main)
    assert (done(events).end, done(events).counts.unknown) == ("failures", 30)


def test_a_429_is_waited_for(harness: Harness) -> None:
    """It says so, and goes on by itself."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign()
        await campaign.load(client, people(100))
        harness.sandbox.spend(60)
        return await finish(campaign, client)

    events = harness.play(main)
    assert [event.reason for event in events if isinstance(event, Paused)] == ["rate_limit"]
    assert (done(events).end, done(events).counts.accepted) == ("finished", 100)


def test_stopping_finishes_what_is_on_the_wire(harness: Harness) -> None:
    """0 unknown; the rest goes out when it is resumed."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(batch_size=10)
        await campaign.load(client, people(100))
        async with campaign.run(client) as run:
            stopped = []
            async for event in run:
                stopped.append(event)
                run.stop()
        assert done(stopped).end == "stopped"
        assert done(stopped).counts.unknown == 0
        assert 0 < done(stopped).counts.accepted < 100
        return await finish(campaign, client)

    assert done(harness.play(main)).counts.accepted == 100
    assert len(harness.received()) == len(set(harness.received())) == 100


def test_pausing_holds_back_what_has_not_begun(harness: Harness) -> None:
    """Until it is told to proceed."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(batch_size=10)
        await campaign.load(client, people(100))
        async with campaign.run(client) as run:
            run.pause()
            await anyio.sleep(1000)
            assert harness.received() == []
            run.proceed()
            return [event async for event in run]

    assert done(harness.play(main)).counts.accepted == 100


def test_who_opts_out_meanwhile_is_left_out(harness: Harness) -> None:
    """The list is read before each batch."""
    opted_out = harness.folder / "stop.txt"
    opted_out.write_text("")

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(opt_out=opted_out)
        await campaign.load(client, people(10))
        opted_out.write_text(f"{phone(3)}  # asked on Monday\n")
        return await finish(campaign, client)

    counts = done(harness.play(main)).counts
    assert (counts.accepted, counts.skipped) == (9, 1)
    assert phone(3) not in harness.received()


def test_an_opt_out_list_that_cannot_be_read_stops_it(harness: Harness) -> None:
    """Nobody is written to then."""
    opted_out = harness.folder / "stop.txt"
    opted_out.write_text("")

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(opt_out=opted_out)
        await campaign.load(client, people(10))
        opted_out.unlink()
        return await finish(campaign, client)

    assert done(harness.play(main)).end == "opt_out"
    assert harness.received() == []


def test_another_server_is_refused(harness: Harness) -> None:
    """A ledger is of one server and one integration."""
    harness.play(lambda client: harness.campaign().load(client, people(1)))
    with pytest.raises(CampaignError, match="the server"):
        harness.play(lambda client: finish(harness.campaign(), client), base_url="http://127.0.0.1:9")


def test_a_campaign_that_was_not_loaded_cannot_run(harness: Harness) -> None:
    """The message says what to do."""
    with pytest.raises(CampaignError, match="load the campaign first"):
        harness.play(lambda client: finish(harness.campaign(), client))


def test_a_campaign_resumes_by_its_name_alone(harness: Harness) -> None:
    """Template and language are in the ledger."""
    harness.play(lambda client: harness.campaign().load(client, people(5)))
    bare = Campaign("sale", ledger=harness.ledger)
    assert done(harness.play(lambda client: finish(bare, client))).counts.accepted == 5


def test_leaving_the_block_early_loses_nothing(harness: Harness) -> None:
    """What is on the wire finishes; an error of the caller's own comes through unwrapped."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(batch_size=10)
        await campaign.load(client, people(100))
        with pytest.raises(ZeroDivisionError):
            async with campaign.run(client) as run:
                async for _ in run:
                    1 / 0  # noqa: B018  # the caller's own mistake
        assert (await campaign.status()).on_the_wire == 0
        return await finish(campaign, client)

    assert done(harness.play(main)).counts.accepted == 100
    assert len(harness.received()) == len(set(harness.received())) == 100
