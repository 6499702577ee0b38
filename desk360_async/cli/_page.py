"""A campaign's ledger in the browser: the sandbox's page, shown for `desk360 campaign watch`."""

import shlex
import webbrowser
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import anyio

from desk360_async._redaction import mask_dsn, mask_numbers
from desk360_async.campaigns import Campaign, Counts, Progress, Report, words_for

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

__all__ = ["open_browser", "resolving", "serve_campaign", "snapshot"]

_LIMIT = 60  # requests a minute, as the vendor documents them; a ledger doesn't hold the client's limit
_EVERY = 1.0  # seconds between two reads of the ledger
_LATEST = 60  # minutes of the rate that the page draws


def open_browser(url: str) -> None:
    """Open a URL in the user's browser; without a browser there is no effect."""
    webbrowser.open(url)


def resolving(name: str, ledger: str) -> str:
    """Return the command that resolves unknown recipients; the user adds the decision, such as `--resend`.

    Args:
        name: the campaign's name.
        ledger: the ledger's file or DSN, as the user wrote it; its password is masked.
    """
    command = ["desk360", "campaign", "resolve", name, "--ledger", mask_dsn(ledger)]
    return shlex.join([*command, "--all", "--state", "unknown"])


def snapshot(report: Report, progress: Progress, resolve: str, now: datetime) -> dict[str, Any]:
    """Return a campaign's state as the page draws it, without phone numbers.

    Args:
        report: the campaign's report.
        progress: the campaign's progress; its rate counts from the moment when the page began to watch.
        resolve: the command that resolves unknown recipients.
        now: the current time, an aware datetime.
    """
    counts = report.counts
    finished = counts.pending + counts.on_the_wire == 0
    return {
        "name": report.name,
        "total": counts.total,
        "finished": finished,
        "states": _states(counts),
        "rate": report.minutes()[-_LATEST:],
        "limit": _LIMIT,
        "cap": report.recipients_a_minute(_LIMIT),
        "pace": round(progress.rate * 60),
        "requests_left": progress.requests_left,
        "eta": None if finished or progress.eta is None else _clock(now, progress.eta),
        "deliveries": {"sent": counts.accepted, "delivered": report.delivered, "read": report.read,
                       "failed": report.failed},
        "resolve": resolve,
        "errors": [{"state": state, "text": mask_numbers(words_for(reason)), "count": count}
                   for (state, reason), count in report.reasons.items()],
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


def _clock(now: datetime, seconds: float) -> str:
    """Return the local time `seconds` after `now`; with its date if that isn't today."""
    end = (now + timedelta(seconds=seconds)).astimezone()
    return f"{end:%H:%M}" if end.date() == now.astimezone().date() else f"{end:%Y-%m-%d %H:%M}"


async def look_at(campaign: Campaign, resolve: str, every: float = _EVERY) -> AsyncGenerator[dict[str, Any]]:
    """Yield a campaign's state without end: statuses and resolutions also come after the last request.

    Args:
        campaign: the campaign.
        resolve: the command that resolves unknown recipients.
        every: seconds between two reads of the ledger.
    """
    while True:
        async with aclosing(campaign.watch(every=every)) as looks:
            async for progress in looks:
                yield snapshot(await campaign.report(), progress, resolve, datetime.now().astimezone())
        await anyio.sleep(every)


def campaign_app(looks: Callable[[], AsyncGenerator[dict[str, Any]]]) -> "ASGIApp":
    """Return the page's ASGI application.

    Args:
        looks: a function that yields the campaign's states; each open page calls it once.
    """
    from starlette.routing import Route, Router

    from desk360_async.sandbox.access import refusal, seal
    from desk360_async.sandbox.control import event_stream, frame, page_file

    run = token_hex(4)

    async def frames() -> AsyncGenerator[str]:
        yield frame("hello", {"run": run, "mode": "campaign", "clock": 0, "wall": 0})
        before = ""
        async with aclosing(looks()) as states:
            async for state in states:
                text = frame("campaign", state)
                yield text if text != before else ""
                before = text

    async def page(request: "Request") -> "Response":
        return seal(refusal(request, "") or page_file(request.path_params.get("name", "index.html")))

    async def events(request: "Request") -> "Response":
        return seal(refusal(request, "") or event_stream(frames(), request))

    return Router([Route("/", page), Route("/_sandbox/page/{name}", page), Route("/_sandbox/events", events)])


def serve_campaign(campaign: Campaign, ledger: str, port: int, on_start: Callable[[str], None]) -> None:
    """Serve a campaign's page on loopback until Ctrl-C.

    Args:
        campaign: the campaign.
        ledger: the ledger's file or DSN, as the user wrote it.
        port: the TCP port; 0 takes a free one.
        on_start: called with the page's URL once the address is bound.

    Raises:
        CampaignError: if the ledger holds no campaign of this name.
        OSError: if the address can't be bound.
    """
    from desk360_async.sandbox.server import Listening, serve_in_foreground

    anyio.run(campaign.status)  # a wrong name must be an error here, not an empty page
    app = campaign_app(lambda: look_at(campaign, resolving(campaign.name, ledger)))
    serve_in_foreground(app, Listening("127.0.0.1", port), lambda at: on_start(f"{at.url}/"))
