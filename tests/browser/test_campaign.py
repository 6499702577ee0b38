"""A campaign in a real browser: `campaign watch --open`, and the file of `campaign report --html`."""

import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from desk360_async.campaigns import Campaign, Counts, Progress, Recipient, Report
from desk360_async.cli import main
from desk360_async.cli._page import campaign_app, resolving, snapshot
from desk360_async.sandbox import Fault
from desk360_async.sandbox.server import Listening, serve_in_thread
from desk360_async.testing import sandbox_client
from desk360_async.webhooks import StatusUpdate
from tests.browser.conftest import AXE, PICTURES, Open, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)> +905551112233"


def in_thread(work: Callable[[], Any]) -> Any:
    """Run async work beside playwright, whose own loop runs in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, work).result()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of a campaign that was stopped: one batch accepted, one unknown, one to be sent."""
    file = tmp_path / "spring sale.db"

    async def story() -> None:
        async with sandbox_client() as (client, sandbox):
            campaign = Campaign(
                "spring", template="welcome", language="English", ledger=file, batch_size=5, strategy="bulk"
            )
            await campaign.load(client, [Recipient(f"+90555000{n:04}") for n in range(1, 16)])
            sandbox.faults.add(Fault("reset_after", phone="+905550000006", times=1))
            async with campaign.run(client, concurrency=1, max_failures=1) as events:
                await events.wait()
            await campaign.feed(*(status(message.phone) for message in sandbox.received[:3]))

    in_thread(story)
    return file


def status(phone: str) -> StatusUpdate:
    """Return a "delivered" of a bulk recipient, whose message's id the vendor doesn't name."""
    return StatusUpdate(id="gBEG", sender=phone[1:], status="delivered")


@contextmanager
def watching(ledger: Path, folder: Path) -> Iterator[str]:
    """Run `desk360 campaign watch --open` with a browser that writes the URL to a file."""
    opened = folder / "opened"
    script = folder / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(opened))}\n')
    script.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "desk360_async.cli",
        "campaign",
        "watch",
        "spring",
        "--ledger",
        str(ledger),
    ]
    environment = {"BROWSER": str(script), "PATH": "/bin"}
    with subprocess.Popen(
        [*command, "--open"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().partition(" at ")[2].partition(";")[0]
        try:
            yield url
            assert opened.read_text().strip() == url
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) in (0, 130)


def test_a_ledger_is_shown_and_followed_until_it_is_resolved(
    ledger: Path, tmp_path: Path, open_page: Open
) -> None:
    """The command that the page prints resolves the unknown ones; the page shows it without a reload."""
    with watching(ledger, tmp_path) as url:
        page = open_page(url, ready="#campaign-rows tr")
        shown = cells(page)
        assert [shown[name] for name in ("accepted", "unknown", "pending", "delivered")] == [
            "5",
            "5",
            "5",
            "3",
        ]
        assert page.locator("tr.bad").get_attribute("data-state") == "unknown"
        command = shlex.split(page.locator("#resolve code").inner_text())
        assert in_thread_plain(lambda: main([*command[1:], "--not-sent"])) == 0
        until(page, "!document.querySelector('#resolve')")
        assert cells(page)["not_sent"] == "5"


def in_thread_plain(work: Callable[[], Any]) -> Any:
    """Run work that starts a loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def cells(page: "Page") -> dict[str, str]:
    """Return the table that screen readers read."""
    rows = page.locator("#campaign-rows tr")
    return dict(
        rows.evaluate_all("(all) => all.map((row) => [row.dataset.state, row.lastChild.textContent])")
    )


# ── a large campaign, drawn ────────────────────────────────────────────────────────────────────────────────


def a_report() -> Report:
    """Return the report of 30 minutes of a large campaign, with a pause."""
    times = [7 * n for n in range(260) if not 80 < n < 120]
    timeline = tuple((START.timestamp() + at, 400 + at % 100) for at in times)
    done = sum(recipients for _, recipients in timeline)
    return Report(
        name="spring-sale",
        counts=Counts(pending=12_000, on_the_wire=500, accepted=done - 900, not_sent=600, unknown=300),
        reasons={
            ("not_sent", "no WhatsApp"): 580,
            ("not_sent", HOSTILE): 20,
            ("unknown", "ReadTimeout"): 300,
        },
        left_out={"invalid_phone": 12},
        requests=1354,
        started=START,
        ended=START + timedelta(minutes=30),
        delivered=done - 9_000,
        read=done // 2,
        failed=812,
        resolutions=("2026-03-01 09:40 accepted: 500 of batch 7",),
        timeline=timeline,
    )


@pytest.fixture
def drawn() -> Iterator[str]:
    """The URL of a page that shows that report."""
    report = a_report()
    progress = Progress(report.counts, 25, 62.0, 200.0)
    state = snapshot(report, progress, resolving("spring-sale", "spring.db"), START + timedelta(minutes=30))

    async def looks() -> AsyncIterator[dict[str, Any]]:
        while True:
            yield state
            await anyio.sleep(0.1)

    with serve_in_thread(campaign_app(looks), Listening("127.0.0.1", 0)) as server:
        yield f"{server.url}/"


def test_the_rate_is_drawn_against_the_limit(open_page: Open, drawn: str) -> None:
    """With the pace, the requests left and the end in words; hostile reasons stay texts, phones masked."""
    page = open_page(drawn, ready="#campaign-rows tr", timezone_id="UTC")
    assert (
        "3,720 recipients a minute now · 25 requests left · ends at about"
        in page.locator("#pace").inner_text()
    )
    assert "limit: 60 requests a minute, about" in page.locator("#plots").inner_text()
    labels = page.locator("#plots svg").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('aria-label'))"
    )
    assert labels == ["States", "Recipients a minute: at most 4,239", "Deliveries"]
    errors = page.locator("#errors").inner_text()
    assert ("<img src=x onerror=alert(1)>" in errors, "5551112233" in errors) == (True, False)
    assert page.locator("#campaign img").count() == 0


def test_in_turkish_the_campaigns_page_has_no_english_word(open_page: Open, drawn: str) -> None:
    page = open_page(drawn, ready="#campaign-rows tr", locale="tr-TR")
    text = page.locator("#plots").inner_text() + page.locator("#campaign-rows").inner_text()
    assert "dakikada 60 istek" in text
    assert not [word for word in ("limit", "recipients", "sending", "pending", "unknown ") if word in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_the_campaigns_page_is_accessible_and_fits(
    open_page: Open, drawn: str, scheme: str, width: int
) -> None:
    page = open_page(
        drawn,
        ready="#campaign-rows tr",
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        bypass_csp=True,
    )
    assert (serious(page), page.evaluate("document.documentElement.scrollWidth")) == ([], width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reports_file_is_accessible_and_fits_a_phone(
    open_page: Open, tmp_path: Path, scheme: str
) -> None:
    """It is opened from disk, and loads no other file."""
    file = tmp_path / "report.html"
    file.write_text(a_report().to_html(), encoding="utf-8")
    page = open_page(
        file.as_uri(),
        ready="table",
        color_scheme=scheme,
        viewport={"width": 380, "height": 800},
        bypass_csp=True,
    )
    assert (serious(page), page.evaluate("document.documentElement.scrollWidth")) == ([], 380)
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def serious(page: "Page") -> list[Any]:
    """Return axe-core's findings of "serious" or worse."""
    if not AXE.exists():
        pytest.skip("axe-core is missing: npm ci in tests/browser")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_pictures_of_a_campaign_are_kept(open_page: Open, drawn: str, tmp_path: Path) -> None:
    """For readers of the project; each run of the session makes them anew."""
    file = tmp_path / "report.html"
    file.write_text(a_report().to_html(), encoding="utf-8")
    for url, ready, name in (
        (drawn, "#campaign-rows tr", "campaign"),
        (file.as_uri(), "table", "campaign-report"),
    ):
        page = open_page(url, ready=ready, viewport={"width": 900, "height": 900}, timezone_id="UTC")
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        assert (PICTURES / f"{name}.png").stat().st_size > 20_000
