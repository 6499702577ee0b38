"""`desk360 demo`: a made-up list and a made-up campaign, sent to a sandbox on this machine."""

import csv
import tempfile
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from desk360_async.campaigns import BatchResult, Campaign, Done, Recipient

from ._options import Common
from ._rows import Letter
from ._session import MINUTE, Session, run
from .campaign import code_of, show_counts, show_plan, show_report, watch
from .lists import Mailing

__all__ = ["demo", "write_list"]

_NAMES = (
    "Ada", "Çağla", "Ömer", "Şule", "İpek", "Zoë", "Łukasz", "Đorđe", "Ελένη", "Олена", "Նարե",
    "ნინო", "נועה", "ليلى", "زهرا", "अनन्या", "বৃষ্টি", "தமிழ்", "สุดา", "美咲", "小明", "지우",
    "Nguyễn", "O'Neil, Jr.", "🌷 Lale",
)  # fmt: skip
_GOODS = ("shoes", "the green coat", "çay")


def demo(
    *,
    count: int = 300,
    campaign: int = 3000,
    out: Path | None = None,
    open: bool = False,  # noqa: A002  # the option's name
    json: bool = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False,
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"))] = False,
) -> int:
    """Send to a made-up list, then run a campaign, on a sandbox; nothing leaves this machine.

    The list: names in many scripts, a number that is none, a number that comes twice, and one that isn't on
    WhatsApp. The campaign: recipients who share parameters, planned, stopped in the middle, and resumed.

    Args:
        count: How many rows the list has, 4 or more [else: 300].
        campaign: How many recipients the campaign has; 0 leaves it out [else: 3000].
        out: Write the list's results to this new CSV file.
        open: Show the sandbox in the browser; the page stays until Ctrl-C.
        json: Print JSON lines; words and bars go to stderr.
        quiet: Say only what was asked for.
        verbose: Log every request to stderr.
    """

    async def work(session: Session) -> int:
        if open and session.sandbox is not None:
            from ._page import open_browser

            open_browser(session.sandbox.page_url)
        with tempfile.TemporaryDirectory() as folder:
            if await _interrupted_list(session, Path(folder), count, out):
                return 130
            code = await _run_campaign(session, Path(folder), campaign) if campaign else 0
        if open:
            session.terminal.remark("The page stays open; Ctrl-C ends it.")
            await anyio.sleep_forever()
        return code

    # Of the shared options only those that make sense: a demo is never live. Nor does it go to the sandbox
    # that the environment may name, whose minute is a long one.
    return run(Common(json=json, quiet=quiet, verbose=verbose, base_url=""), work)


async def _interrupted_list(session: Session, folder: Path, count: int, out: Path | None) -> bool:
    """Send the list; return whether Ctrl-C ended it."""
    file = folder / "people.csv"
    write_list(file, count)
    session.terminal.remark(
        f"Desk360 takes 60 requests a minute; this sandbox takes 60 in {MINUTE:g} s, to be quick. "
        "What it refuses here is meant to be refused."
    )
    letter = Letter("order_shipped", "English", {"body-1": "name", "body-2": "order"})
    dispatch = await Mailing(file, letter, out=out, lane="bulk").deliver(session)
    _account(session)
    return dispatch.interrupted


async def _run_campaign(session: Session, folder: Path, count: int) -> int:
    terminal = session.terminal
    terminal.remark(f"\nAnd now {count:,} who share their parameters: bulk requests, planned and durable.")
    campaign = Campaign(
        "demo", template="back_in_stock", language="English", ledger=folder / "demo.db", batch_size=50
    )
    # Lists are checked against numbering plans, so these look real; the demo never leaves this machine.
    people = (Recipient(f"+90555{n:07}", {"body-1": _GOODS[n % len(_GOODS)]}) for n in range(1, count + 1))
    made = await campaign.load(session.client, people)
    show_plan(terminal, "demo", made)
    taken = 0
    async with campaign.run(session.client) as events:
        async for event in events:
            taken += event.accepted if isinstance(event, BatchResult) else 0
            if taken > made.pending / 3:
                break
            if isinstance(event, Done) and event.end == "interrupted":
                show_counts(terminal, event.counts)
                return code_of(event.counts, event)
    terminal.remark(f"Stopped in the middle, after {taken:,}; a crash would do as well. It goes on:")
    async with campaign.resume(session.client) as events:
        done = await watch(session, events, (await campaign.status()).pending)
    show_report(terminal, await campaign.report())
    _account(session)
    return code_of(done.counts, done)


def _account(session: Session) -> None:
    """Let the other side say what it saw."""
    seen = session.sandbox
    assert seen is not None
    session.terminal.remark(
        f"The sandbox says: {seen.accepted:,} messages taken, "
        f"{len({message.phone for message in seen.received}):,} different phones, "
        f"{seen.refusals} refusals for going too fast (429)."
    )


def write_list(file: Path, count: int) -> None:
    """Write a list of made-up recipients; three of its rows can't be sent to.

    Args:
        file: where.
        count: how many rows, 4 or more.
    """
    # +999 is no country's code: whatever goes wrong, nobody's phone rings.
    people = [(_NAMES[n % len(_NAMES)], f"+9995550{n:05}", f"SP{1000 + n}") for n in range(count)]
    people[1] = (people[1][0], "0532 not a number", people[1][2])
    people[2] = (people[2][0], people[0][1], people[2][2])
    people[3] = (people[3][0], "+99950000000", people[3][2])
    with file.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["name", "phone", "order"])
        rows.writerows(people)
