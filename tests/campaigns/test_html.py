"""A report as a file: plots that an XML parser reads, the numbers beside them, and no phone."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from desk360_async.campaigns import Campaign, Counts, Recipient, Report
from desk360_async.testing import sandbox_client

pytestmark = pytest.mark.anyio

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def report(**changes: Any) -> Report:
    """Make a report of a campaign of 100."""
    values: dict[str, Any] = {
        "name": "spring",
        "counts": Counts(pending=10, accepted=80, not_sent=6, unknown=4),
        "reasons": {("not_sent", "no WhatsApp: +905551112233"): 6, ("unknown", "<b>ReadTimeout</b>"): 4},
        "left_out": {"invalid_phone": 2},
        "requests": 9,
        "started": START,
        "ended": START,
        "delivered": 70,
        "read": 50,
        "failed": 3,
        "resolutions": (),
        "timeline": tuple((START.timestamp() + 30 * n, 10) for n in range(9)),
    }
    return Report(**values | changes)


def test_each_plot_is_wellformed_and_labelled() -> None:
    """A bar, two lines and a funnel, each with its text for screen readers."""
    plots = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", report().to_html())]
    assert [plot.get("aria-label") for plot in plots] == [
        "Recipients by state",
        "Recipients with an outcome over time, 90 in the end",
        "Recipients a minute, 20 at most; the limit allows about 600",
        "Deliveries",
    ]


class Loads(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in ("script", "link", "img", "iframe", "b") else []
        self.found += [name for name, _ in attrs if name in ("src", "href") or name.startswith("on")]


def test_the_file_loads_nothing_and_shows_no_phone() -> None:
    """Texts of the server are escaped, and a number in them is masked."""
    text = report().to_html()
    loads = Loads()
    loads.feed(text)
    assert (loads.found, "+905551112233" in text, "5551112233" in text) == ([], False, False)
    assert "&lt;b&gt;ReadTimeout" in text


def test_an_empty_campaign_has_a_report_too() -> None:
    """No request was made: no lines to draw."""
    text = report(counts=Counts(), timeline=(), started=None, ended=None, reasons={}, left_out={}).to_html()
    assert (text.count("<svg"), "0 recipients" in text) == (1, True)


def test_minutes_begin_with_the_first_request() -> None:
    """Recipients within 60 seconds belong to one minute."""
    assert report(timeline=((100.0, 1), (159.0, 2), (160.0, 4), (300.0, 8))).minutes() == [
        (100.0, 3),
        (160.0, 4),
        (280.0, 8),
    ]


async def test_a_campaigns_report_has_its_timeline(tmp_path: Path) -> None:
    """All answered recipients are in it, in the order of time."""
    async with sandbox_client() as (client, _):
        campaign = Campaign(
            "c", template="welcome", language="English", ledger=tmp_path / "c.db", batch_size=5
        )
        await campaign.load(client, [Recipient(f"+90555000{n:04}") for n in range(1, 21)])
        async with campaign.run(client) as events:
            async for _ in events:
                pass
        made = await campaign.report()
    assert sum(recipients for _, recipients in made.timeline) == 20
    assert list(made.timeline) == sorted(made.timeline)
