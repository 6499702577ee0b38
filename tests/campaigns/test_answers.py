"""A campaign on a server that answers 200 without the reply, asks to wait in a 200, or reports failures."""

import json
from pathlib import Path

import anyio
import httpx
import pytest

from desk360_async import AsyncDesk360
from desk360_async.campaigns import Event, Paused
from desk360_async.webhooks import StatusUpdate
from tests.campaigns.harness import Harness, done, finish, people, phone

TOO_MANY = {"error": {"code": "too_many_requests_exception", "message": "Slow down."}}
SILENT = [b"", b"<html>Back soon", b'{"status":"fail"}', b'{"success":false}', b'{"phones":']


class Answering(httpx.AsyncBaseTransport):
    """Answers the first sends with given bodies and status 200, and passes all others to the sandbox."""

    def __init__(self, harness: Harness, bodies: list[bytes], **headers: str) -> None:
        self.inner, self.bodies, self.headers = httpx.ASGITransport(app=harness.sandbox.app), bodies, headers
        self.under_way = self.most = self.sends = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Count the sends that are under way."""
        if request.method == "GET":
            return await self.inner.handle_async_request(request)
        await request.aread()
        self.sends += 1
        if self.bodies:
            return httpx.Response(200, content=self.bodies.pop(0), headers=self.headers)
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize("strategy", ["single", "bulk"])
def test_five_answers_without_the_reply_stop_it_and_can_be_resent(harness: Harness, strategy: str) -> None:
    harness.transport = Answering(harness, [*SILENT])

    async def main(client: AsyncDesk360) -> tuple[list[Event], int, list[Event]]:
        campaign = harness.campaign(strategy=strategy, batch_size=2)
        await campaign.load(client, people(12))
        stopped = await finish(campaign, client, concurrency=1)
        resent = await campaign.resolve("resend", state="unknown", everything=True)
        return stopped, resent, await finish(harness.campaign(), client)

    stopped, resent, again = harness.play(main)
    assert done(stopped).end == "unreachable"
    assert resent == done(stopped).counts.unknown == (5 if strategy == "single" else 10)
    assert done(again).counts.accepted == len(set(harness.received())) == 12


@pytest.mark.parametrize("strategy", ["single", "bulk"])
def test_too_many_requests_in_a_200_pauses(harness: Harness, strategy: str) -> None:
    harness.transport = Answering(harness, [json.dumps(TOO_MANY).encode()], **{"retry-after": "7"})

    async def main(client: AsyncDesk360) -> list[Event]:
        await harness.campaign(strategy=strategy).load(client, people(3))
        return await finish(harness.campaign(), client, concurrency=1)

    events = harness.play(main)
    pauses = [event for event in events if isinstance(event, Paused)]
    assert [pause.reason for pause in pauses] == ["rate_limit"]
    assert done(events).counts.accepted == len(harness.received()) == 3


def test_unknown_people_can_be_resolved_as_accepted_or_not_sent(harness: Harness) -> None:
    harness.transport = Answering(harness, [*SILENT])

    async def main(client: AsyncDesk360) -> tuple[int, int]:
        campaign = harness.campaign(strategy="single")
        await campaign.load(client, people(6))
        await finish(campaign, client, concurrency=1)
        first = (await campaign.people(state="unknown"))[0].phone
        await campaign.resolve("accepted", phones=[first])
        await campaign.resolve("not_sent", everything=True)
        return len(await campaign.people(state="accepted")), len(await campaign.people(state="not_sent"))

    assert harness.play(main) == (1, 4)


async def run_with_statuses(
    harness: Harness, client: AsyncDesk360, failed: int, share: float | None = None
) -> list[Event]:
    """Run 60 singles; after the first, feed 20 statuses of accepted recipients, so many of them failed."""
    campaign = harness.campaign(strategy="single")
    await campaign.load(client, people(120))
    events: list[Event] = []
    async with campaign.run(client, concurrency=1, stop_if_failed=share) as run:
        async for event in run:
            events.append(event)
            if run.counts.accepted == 40 and len(harness.received()) == 40:
                sent = harness.sandbox.received[:20]
                statuses = [
                    StatusUpdate(
                        id=message.message_id,
                        sender=message.phone[1:],
                        status="failed" if number < failed else "delivered",
                    )
                    for number, message in enumerate(sent)
                ]
                await campaign.feed(*statuses)
    return events


@pytest.mark.parametrize(("failed", "end"), [(5, "failures"), (4, "finished")])
def test_a_run_ends_if_whatsapp_refuses_more_than_a_share(harness: Harness, failed: int, end: str) -> None:
    events = harness.play(lambda client: run_with_statuses(harness, client, failed, 0.2))
    assert done(events).end == end
    if end == "failures":
        assert done(events).reason.startswith("WhatsApp could not reach 5 of the 20 recipients")


def test_failed_statuses_of_an_earlier_run_do_not_count(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> list[Event]:
        await run_with_statuses(harness, client, 20, 0.2)
        return await finish(harness.campaign(), client, stop_if_failed=0.2)

    assert done(harness.play(main)).end == "finished"


def test_people_whom_whatsapp_could_not_reach_are_the_next_list(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> tuple[list[str], int]:
        await run_with_statuses(harness, client, 3)
        unreached = await harness.campaign().people(state="failed")
        resent = await harness.campaign().resolve("resend", state="failed", everything=True)
        return [person.phone for person in unreached], resent

    assert harness.play(main) == ([phone(1), phone(2), phone(3)], 3)


def test_people_who_have_not_read_it_are_the_next_list(harness: Harness) -> None:
    """Neither those who read it nor those whom WhatsApp could not reach."""

    async def main(client: AsyncDesk360) -> set[str]:
        await run_with_statuses(harness, client, 3)
        seen = harness.sandbox.received[3:-1]
        reads = [StatusUpdate(id=m.message_id, sender=m.phone[1:], status="read") for m in seen]
        await harness.campaign().feed(*reads)
        return {person.phone for person in await harness.campaign().people(state="unread")}

    assert harness.play(main) == {phone(120)}


class Slow(Answering):
    """Refuses each file early, and counts how many requests are under way at once."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hold each send for a second, so that others may come."""
        if request.method == "GET":
            return await super().handle_async_request(request)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await anyio.sleep(1)
        self.under_way -= 1
        self.sends += 1
        return httpx.Response(413)


def test_the_first_request_with_a_file_goes_alone(harness: Harness, tmp_path: Path) -> None:
    """A server that refuses the file early refuses one batch, and not as many as are on the wire."""
    file = tmp_path / "bill.pdf"
    file.write_bytes(b"%PDF")
    harness.transport = server = Slow(harness, [])

    async def main(client: AsyncDesk360) -> list[Event]:
        campaign = harness.campaign(template="invoice", attachment=file, batch_size=5)
        await campaign.load(client, people(40))
        return await finish(campaign, client, concurrency=4)

    events = harness.play(main)
    assert (server.most, server.sends) == (1, 1)
    assert (done(events).end, done(events).counts.pending) == ("refused", 40)
