"""`campaign watch` and `campaign report --html`: the same numbers in the browser and in a file."""

import json
import shlex
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from desk360_async.campaigns import Campaign, Counts, Progress, Recipient, Report
from desk360_async.cli._page import campaign_app, look_at, resolving, snapshot
from desk360_async.testing import sandbox_client
from desk360_async.webhooks import StatusUpdate

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def report(pending: int) -> Report:
    """Make a report after 30 minutes."""
    counts = Counts(pending=pending, accepted=50, unknown=50)
    reasons = {("unknown", "no answer for +905551112233"): 50}
    times = tuple((START.timestamp() + 60.0 * n, 10) for n in range(10))
    return Report("spring", counts, reasons, {}, 10, START, START, 40, 30, 2, (), times)


@pytest.mark.parametrize(("pending", "finished"), [(100, False), (0, True)])
def test_a_snapshot_has_the_numbers_of_the_report(pending: int, finished: bool) -> None:
    """An estimate of the end only while it runs; the cap is the limit times the mean size of a request."""
    progress = Progress(Counts(pending=pending), 10, 1.5, 600.0)
    shown = snapshot(report(pending), progress, "desk360 campaign resolve spring", START)
    assert (shown["finished"], shown["eta"] is None, shown["cap"]) == (finished, finished, 600)
    assert (shown["pace"], shown["requests_left"], shown["limit"]) == (90, 10, 60)
    assert shown["deliveries"] == {"sent": 50, "delivered": 40, "read": 30, "failed": 2}
    assert (shown["states"]["unknown"], len(shown["rate"])) == (50, 10)
    assert "5551112233" not in json.dumps(shown)


@pytest.mark.parametrize(("seconds", "length"), [(60.0, 5), (90_000.0, 16), (None, None)])
def test_an_end_on_another_day_has_its_date(seconds: float | None, length: int | None) -> None:
    """Without a rate there is no estimate."""
    shown = snapshot(report(100), Progress(Counts(pending=100), 10, 0.0, seconds), "", START)
    assert (None if shown["eta"] is None else len(shown["eta"])) == length


def test_the_resolving_command_leaves_the_decision_open_and_masks_a_password() -> None:
    command = shlex.split(resolving("spring sale", "postgresql://ada:s3cret@db/desk360"))
    assert command[:4] == ["desk360", "campaign", "resolve", "spring sale"]
    assert command[-3:] == ["--all", "--state", "unknown"]
    assert "s3cret" not in " ".join(command)


async def sold(folder: Path) -> Campaign:
    """Return a campaign of one recipient, who was sent to."""
    async with sandbox_client() as (client, _):
        campaign = Campaign(
            "c", template="welcome", language="English", ledger=folder / "c.db", strategy="bulk"
        )
        await campaign.load(client, [Recipient("+905550000001")])
        async with campaign.run(client) as events:
            await events.wait()
    return campaign


@pytest.mark.anyio
async def test_a_campaign_is_looked_at_after_its_end_as_well(tmp_path: Path) -> None:
    """Statuses still come in by webhooks then."""
    campaign = await sold(tmp_path)
    async with aclosing(look_at(campaign, "resolve", every=0.01)) as looks:
        first = await anext(looks)
        await campaign.feed(StatusUpdate(sender="905550000001", status="read"))
        second = await anext(looks)
    assert [shown["deliveries"]["read"] for shown in (first, second)] == [0, 1]
    assert (first["finished"], second["finished"]) == (True, True)


@pytest.mark.anyio
async def test_the_page_of_a_campaign_refuses_a_foreign_page(tmp_path: Path) -> None:
    """The page and its script are served; a foreign page gets no events."""
    campaign = await sold(tmp_path)
    transport = httpx.ASGITransport(campaign_app(lambda: look_at(campaign, "resolve")))
    async with httpx.AsyncClient(transport=transport, base_url="http://page") as browser:
        assert (await browser.get("/")).text.startswith("<!doctype html>")
        assert (await browser.get("/_sandbox/page/page.js")).status_code == 200
        foreign = {"Origin": "https://evil.example"}
        assert (await browser.get("/_sandbox/events", headers=foreign)).status_code == 403
