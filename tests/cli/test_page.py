"""`campaign watch` and `campaign report --html`: the same numbers in the browser and in a file."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from desk360_async.campaigns import Campaign, Counts, Recipient, Report
from desk360_async.cli._page import campaign_app, snapshot
from desk360_async.testing import sandbox_client

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
    shown = snapshot(report(pending), "desk360 campaign resolve spring", START + timedelta(minutes=30), 60)
    assert (shown["finished"], shown["eta"] is None, shown["cap"]) == (finished, finished, 600)
    assert shown["deliveries"] == {"sent": 50, "delivered": 40, "read": 30, "failed": 2}
    assert (shown["states"]["unknown"], len(shown["rate"])) == (50, 10)
    assert "5551112233" not in json.dumps(shown)


def test_the_page_of_a_campaign_follows_its_ledger(tmp_path: Path) -> None:
    """The page, its script, and events with the campaign's state; a foreign page gets nothing."""

    async def story() -> None:
        async with sandbox_client() as (client, _):
            campaign = Campaign("c", template="welcome", language="English", ledger=tmp_path / "c.db")
            await campaign.load(client, [Recipient("+905550000001")])
            async with campaign.run(client) as events:
                async for _ in events:
                    pass

        async def look() -> dict[str, object]:
            return snapshot(await campaign.report(), "resolve", datetime.now(UTC), 60)

        transport = httpx.ASGITransport(campaign_app(look))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as browser:
            assert (await browser.get("/")).text.startswith("<!doctype html>")
            assert (await browser.get("/_sandbox/page/page.js")).status_code == 200
            foreign = {"Origin": "https://evil.example"}
            assert (await browser.get("/_sandbox/events", headers=foreign)).status_code == 403

    anyio.run(story)
