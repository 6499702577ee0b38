"""Refusals: whose fault they are, who is given up for them, and who stays pending."""

from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    APIError,
    AsyncDesk360,
    InvalidMessage,
    Outcome,
    ServerError,
    ValidationFailed,
)
from desk360_async.campaigns import Counts, Done, Event
from desk360_async.campaigns._values import Result
from desk360_async.campaigns._verdicts import fault_of, judge_error
from desk360_async.sandbox import Fault, Sandbox
from tests.campaigns.harness import Harness, done, finish, people, phone, results


def refusal(*named: str, message: str = "") -> APIError:
    """Return a 422 that names some fields."""
    errors = {field: ["No."] for field in named}
    return ValidationFailed(422, message=message, errors=errors, outcome=Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        (["destinations.0.phone"], "destination"),
        (["destinations.17"], "destination"),
        (["destinations[3][phone]"], "destination"),
        (["phones[3]"], "destination"),
        (["to"], "destination"),
        (["parameters.body-1"], "parameters"),
        (["parameters['body-1']"], "parameters"),
        (["destinations.0.parameters.body-1"], "parameters"),
        (["parameters.body-2"], "general"),
        (["parameters"], "general"),
        (["template_id"], "general"),
        (["attachment"], "general"),
        (["destinations.0.phone", "template_id"], "general"),
        (["destinations"], None),
        (["destinations_file"], None),
        ([], None),
    ],
)
def test_a_refusal_is_the_fault_of_whom_it_names(named: list[str], fault: str | None) -> None:
    """A variable that the recipients don't have is the template's own, which was changed."""
    assert fault_of(named, ["body-1"]) == fault


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ("The destinations.0.phone field format is invalid.", "not_sent"),
        ("The destinations.0.parameters.body-1 field is too long.", "not_sent"),
        ("The selected template id is invalid.", "pending"),
        ("No.", "pending"),
    ],
)
def test_the_documented_error_names_fields_in_words(message: str, state: str) -> None:
    """It has a code and a sentence, and no list of fields."""
    assert judge_error(refusal(message=message), 1, ["body-1"]).state == state


@pytest.mark.parametrize(
    ("error", "size", "expected"),
    [
        (refusal("parameters.body-1"), 500, {"state": "not_sent", "suspicious": True}),
        (refusal("destinations.7.phone"), 500, {"state": "pending", "halve": True, "suspicious": False}),
        (refusal(), 500, {"state": "pending", "halve": True, "suspicious": True}),
        (refusal(), 1, {"state": "pending", "halve": False, "suspicious": True}),
        (refusal("destinations.0.phone"), 1, {"state": "not_sent", "suspicious": False}),
        (InvalidMessage("attachment", "is gone"), 1, {"state": "pending", "stop": "attachment: is gone"}),
        (InvalidMessage("to", "no"), 1, {"state": "not_sent", "stop": None}),
        (ServerError(500, outcome=Outcome.UNKNOWN), 1, {"state": "unknown", "stop": None}),
    ],
)
def test_a_verdict_is_final_only_for_those_at_fault(
    error: Any, size: int, expected: dict[str, object]
) -> None:
    """The rest is pending, and perhaps the campaign stops."""
    result = judge_error(error, size, ["body-1"])
    assert {name: getattr(result, name) for name in expected} == expected


def test_a_file_that_fails_on_the_way_stops_it() -> None:
    """Each further request would make its recipients unknown."""
    error = InvalidMessage("attachment", "its stream failed")
    error.outcome = Outcome.UNKNOWN
    assert judge_error(error, 5) == Result("unknown", "InvalidMessage", stop=str(error))


def refused(harness: Harness, fault: Fault, count: int = 60, **options: Any) -> list[Event]:
    """Load, be refused everything, and return the run's events."""

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(**options)
        await campaign.load(client, people(count))
        harness.sandbox.faults.add(fault)
        return await finish(campaign, client)

    return harness.play(main)


@pytest.mark.parametrize("strategy", ["bulk", "single"])
@pytest.mark.parametrize(
    "body",
    [
        {"message": "The template is paused.", "errors": {"template_id": ["It is paused."]}},
        {"error": {"code": "failed_validation", "message": "The selected template id is invalid."}},
        {"error": {"code": "failed_validation", "message": "Not today."}},
    ],
)
def test_what_is_nobodys_own_fault_gives_nobody_up(harness: Harness, strategy: str, body: Any) -> None:
    """Everybody is pending, and goes out once it is mended."""
    events = refused(harness, Fault("status", status=422, body=body), strategy=strategy)
    assert (done(events).end, done(events).counts) == ("refused", Counts(pending=60))
    harness.sandbox.faults.clear()
    again = harness.play(lambda client: finish(harness.campaign(strategy=strategy), client))
    assert done(again).counts == Counts(accepted=60)


@pytest.mark.parametrize("strategy", ["bulk", "single"])
def test_a_file_that_vanishes_gives_nobody_up(harness: Harness, strategy: str) -> None:
    """It stops, and goes on once the file is back."""
    file = harness.folder / "invoice.pdf"
    file.write_bytes(b"%PDF")
    campaign = harness.campaign(template="invoice", attachment=file, strategy=strategy)

    async def main(client: AsyncDesk360) -> tuple[Done, Done]:
        await campaign.load(client, people(30))
        async with campaign.run(client, concurrency=1) as run:
            file.unlink()
            stopped = await run.wait()
        file.write_bytes(b"%PDF")
        return stopped, done(await finish(campaign, client))

    stopped, finished = harness.play(main)
    assert (stopped.end, stopped.counts) == ("refused", Counts(pending=30))
    assert finished.counts == Counts(accepted=30)


class Terse(httpx.AsyncBaseTransport):
    """A server that refuses requests with a bad number in them, and doesn't say which field it was."""

    def __init__(self, harness: Harness, bad: set[str]) -> None:
        self.inner, self.bad = httpx.ASGITransport(app=harness.sandbox.app), bad

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse, or pass it on."""
        body = await request.aread()
        if any(number.encode() in body for number in self.bad):
            return httpx.Response(400, json={"error": {"code": "failed_validation", "message": "No."}})
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize("terse", [False, True])
@pytest.mark.parametrize(("first", "last"), [(100, 119), (1, 40), (441, 500)])
def test_neighbouring_bad_numbers_are_found(harness: Harness, terse: bool, first: int, last: int) -> None:
    """However many are side by side in a batch, everybody else gets the message."""
    bad = {phone(n) for n in range(first, last + 1)}
    harness.sandbox = Sandbox(
        keep=None, clock=anyio.current_time, strict_bulk=True, refused_phones=lambda number: number in bad
    )
    if terse:
        harness.transport = Terse(harness, bad)

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(batch_size=500)
        await campaign.load(client, people(500))
        return await finish(campaign, client)

    events = harness.play(main)
    counts = Counts(accepted=500 - len(bad), not_sent=len(bad))
    assert (done(events).end, done(events).counts) == ("finished", counts)
    assert sorted(harness.received()) == [phone(n) for n in range(1, 501) if phone(n) not in bad]


def test_who_is_refused_alone_waits_for_the_next_acceptance(harness: Harness) -> None:
    """Until somebody else is accepted, it may be nobody's own fault."""
    harness.transport = Terse(harness, {phone(1), phone(5)})

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(strategy="single")
        await campaign.load(client, people(5))
        return await finish(campaign, client, concurrency=1)

    told = [(event.accepted, event.not_sent, event.again) for event in results(harness.play(main))]
    assert told == [(0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 0), (0, 0, 1), (0, 1, 0)]


def test_one_request_tells_of_parameters_that_are_refused(harness: Harness) -> None:
    """All in the batch have the same: halving it would only cost tokens."""
    named = Fault("status", status=422, body={"errors": {"parameters.body-1": ["Too long."]}}, times=1)
    events = refused(harness, named, batch_size=50)
    assert done(events).counts == Counts(accepted=10, not_sent=50)
    assert len(results(events)) == 2


def test_a_half_of_which_all_opted_out_is_finished(harness: Harness) -> None:
    """Nothing is left to be planned."""
    harness.transport = Terse(harness, {phone(1)})
    left: list[str] = []

    async def main(client: AsyncDesk360) -> tuple[Done, int]:
        campaign = harness.campaign(opt_out=lambda: left)
        await campaign.load(client, people(4))
        left[:] = [phone(3), phone(4)]
        return done(await finish(campaign, client)), (await campaign.plan(client)).tokens

    end, tokens = harness.play(main)
    assert (end.end, end.counts) == ("finished", Counts(accepted=1, not_sent=1, skipped=2))
    assert tokens == 0
