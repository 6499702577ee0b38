"""A campaign's ledger in the browser: the sandbox's page, shown for `desk360 campaign watch`."""

import shlex
import webbrowser
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from os import PathLike
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import anyio

from desk360_async._redaction import mask_numbers
from desk360_async.campaigns import Campaign, Counts, Report
from desk360_async.campaigns._html import minutes_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

__all__ = ["open_browser", "serve_campaign", "snapshot"]

_EVERY = 10  # looks of 0.1 s each between two reads of the ledger
_LATEST = 60  # minutes of the rate that the page draws


def open_browser(url: str) -> None:
    """Open a URL in the user's browser; without a browser there is no effect."""
    webbrowser.open(url)


def snapshot(report: Report, resolve: str, now: datetime, per_minute: int) -> dict[str, Any]:
    """Return a campaign's state as the page draws it, without a phone.

    Args:
        report: the campaign's report.
        resolve: the command that resolves unknown recipients.
        now: the wall clock.
        per_minute: requests a minute that the limit allows.
    """
    counts = report.counts
    finished = counts.pending + counts.on_the_wire == 0
    rate = minutes_of(report.timeline)[-_LATEST:]
    size = max(1.0, counts.finished / report.requests) if report.requests else 1.0
    return {
        "name": report.name,
        "total": counts.total,
        "finished": finished,
        "states": _states(counts),
        "rate": rate,
        "cap": round(per_minute * size),
        "eta": None if finished else _eta(report, now),
        "deliveries": {"sent": counts.accepted, "delivered": report.delivered, "read": report.read,
                       "failed": report.failed},
        "resolve": resolve,
        "errors": [mask_numbers(f"{state}: {reason}: {n}") for (state, reason), n in report.reasons.items()],
    }  # fmt: skip


def _states(counts: Counts) -> dict[str, int]:
    return {
        "accepted": counts.accepted,
        "not_sent": counts.not_sent,
        "unknown": counts.unknown,
        "skipped": counts.skipped,
        "intent": counts.on_the_wire,
        "pending": counts.pending,
    }


def _eta(report: Report, now: datetime) -> str | None:
    """Return the time of the end at the pace so far, as HH:MM."""
    counts = report.counts
    if report.started is None or not counts.finished:
        return None
    passed = (now - report.started).total_seconds()
    left = passed * (counts.pending + counts.on_the_wire) / counts.finished
    return f"{(now + timedelta(seconds=left)).astimezone():%H:%M}"


def campaign_app(look: Callable[[], Any]) -> "ASGIApp":
    """Make the page's application over an async function that returns a snapshot."""
    from starlette.routing import Route, Router

    from desk360_async.sandbox.access import refusal, seal
    from desk360_async.sandbox.control import event_stream, frame, page_file

    run = token_hex(4)

    async def looks() -> AsyncIterator[str]:
        yield frame("hello", {"run": run, "mode": "campaign", "clock": 0, "wall": 0})
        before = ""
        while True:
            text = frame("campaign", await look())
            yield text if text != before else ""
            before = text
            for _ in range(_EVERY - 1):
                yield ""

    async def page(request: "Request") -> "Response":
        return seal(refusal(request, "") or page_file(request.path_params.get("name", "index.html")))

    async def events(request: "Request") -> "Response":
        return seal(refusal(request, "") or event_stream(looks(), request))

    return Router([Route("/", page), Route("/_sandbox/page/{name}", page), Route("/_sandbox/events", events)])


def serve_campaign(
    campaign: Campaign, name: str, ledger: str | PathLike[str], port: int, on_start: Callable[[str], None]
) -> None:
    """Serve a campaign's page on loopback until Ctrl-C.

    Args:
        campaign: the campaign.
        name: its name.
        ledger: the ledger's file, as the user wrote it.
        port: the TCP port; 0 takes a free one.
        on_start: called with the page's URL once the address is bound.

    Raises:
        CampaignError: if the campaign was never loaded.
        OSError: if the address can't be bound.
    """
    from desk360_async.sandbox.server import Listening, serve_in_foreground

    anyio.run(campaign.status)  # a wrong name is an error here, and not an empty page
    resolve = shlex.join(["desk360", "campaign", "resolve", name, "--ledger", str(ledger), "--all", "--sent"])

    async def look() -> dict[str, Any]:
        return snapshot(await campaign.report(), resolve, datetime.now().astimezone(), 60)

    serve_in_foreground(campaign_app(look), Listening("127.0.0.1", port), lambda at: on_start(f"{at.url}/"))
