"""`desk360 demo`: a made-up list and a made-up campaign, sent to a sandbox on this machine."""

import csv
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from desk360_async import ConfigurationError
from desk360_async._phones import Reader
from desk360_async.campaigns import BatchResult, Campaign, Done, Recipient
from desk360_async.sandbox import Fault

from ._options import Common, Reading
from ._session import MINUTE, Session, run
from ._terminal import counted
from .campaign import code_of, show_counts, show_plan, show_report, watch
from .lists import Mailing

__all__ = ["demo", "write_list"]

_NAMES = (
    "Ada", "Çağla", "Ömer", "Şule", "İpek", "Zoë", "Łukasz", "Đorđe", "Ελένη", "Олена", "Նարե",
    "ნინო", "נועה", "ليلى", "زهرا", "अनन्या", "বৃষ্টি", "தமிழ்", "สุดา", "美咲", "小明", "지우",
    "Nguyễn", "O'Neil, Jr.", "🌷 Lale",
)  # fmt: skip
_LOST = 4  # the index of the row whose answer is lost
_NEXT = """
Next: `desk360 sandbox` runs such a server until Ctrl-C, and prints the settings for your program.
`desk360 docs` lists the guide. With your key in DESK360_API_KEY, `desk360 integrations --live` prints the ids
of your numbers; `desk360 send text +90… Hello --live --integration ID` sends the first real message."""
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
    """Send to a made-up list, then run a campaign, on a sandbox, all on this machine.

    The list has names in many scripts, an invalid number, and a number that comes twice. It also has a number
    that isn't on WhatsApp, and one whose answer is lost. The campaign has recipients with equal parameters.
    It is planned, stopped in the middle, and resumed.

    Args:
        count: Number of rows in the list, 1 or more [default: 300].
        campaign: Number of recipients in the campaign; 0 leaves it out [default: 3000].
        out: Write the list's results to this new .xlsx or .csv file.
        open: Show the sandbox in the browser; the page stays until Ctrl-C.
        json: Print JSON lines; other text goes to stderr.
        quiet: Print only the result.
        verbose: Log every request to stderr.
    """
    if count < 1 or campaign < 0:
        raise ConfigurationError("--count must be 1 or more, and --campaign 0 or more")

    async def work(session: Session) -> int:
        if open and session.sandbox is not None:
            from ._page import open_browser

            open_browser(session.sandbox.page_url)
        with tempfile.TemporaryDirectory() as folder:
            if await _interrupted_list(session, Path(folder), count, out):
                return 130
            code = await _run_campaign(session, Path(folder), campaign, count) if campaign else 0
        session.terminal.remark(_NEXT)
        if open:
            session.terminal.remark("The page stays open; Ctrl-C ends it.")
            await anyio.sleep_forever()
        return code

    # A demo is never live, so it has only these shared options. The empty base URL overrides a sandbox that
    # the environment names: there a minute takes 60 s.
    return run(Common(json=json, quiet=quiet, verbose=verbose, base_url=""), work)


async def _interrupted_list(session: Session, folder: Path, count: int, out: Path | None) -> bool:
    """Send the list; return whether Ctrl-C ended it."""
    file = folder / "people.csv"
    write_list(file, count)
    session.terminal.remark(
        f"Desk360 takes 60 requests a minute; this sandbox takes 60 in {MINUTE:g} s, to be quick. "
        "It refuses one number, and loses one answer, on purpose."
    )
    lost = Fault("reset_after", method="POST", phone=next(islice(made_up_phones(), _LOST, None)), times=1)
    if session.sandbox is not None and count > _LOST:
        session.sandbox.faults.add(lost)
    reading = Reading(map=("body-1=name", "body-2=order"))
    ended = await Mailing(file, "order_shipped", "English", reading, out=out, lane="bulk").deliver(session)
    _account(session)
    return ended is not None and ended.interrupted


async def _run_campaign(session: Session, folder: Path, count: int, spared: int) -> int:
    terminal = session.terminal
    terminal.remark(f"\nAnd now a campaign: {count:,} recipients who share parameters, in bulk requests.")
    campaign = Campaign(
        "demo", template="back_in_stock", language="English", ledger=folder / "demo.db", batch_size=50
    )
    people = (
        Recipient(phone, {"body-1": _GOODS[n % len(_GOODS)]})
        for n, phone in enumerate(islice(made_up_phones(), spared, spared + count))
    )
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
    terminal.remark(f"Stopped in the middle, after {taken:,}, as if it had crashed. It goes on:")
    async with campaign.resume(session.client) as events:
        done = await watch(session, events, (await campaign.status()).pending)
    show_report(terminal, await campaign.report())
    _account(session)
    return code_of(done.counts, done)


def _account(session: Session) -> None:
    """Print how many messages and phones the sandbox counted."""
    seen = session.sandbox
    assert seen is not None
    session.terminal.remark(
        f"The sandbox counts {counted(seen.accepted, 'message')} taken, "
        f"{counted(len({message.phone for message in seen.received}), 'different phone')}, "
        f"{seen.refusals} refusals for going too fast (429)."
    )


def made_up_phones() -> Iterator[str]:
    """Yield valid phone numbers that belong to no phone.

    The first 45,000 are 555-0100 to 555-0199 of each area of North America, which are reserved for fiction.
    """
    plain = Reader().is_plain
    areas = [area for area in range(201, 990) if plain(f"+1{area}5550100")]
    for n in range(100, 10_000):
        yield from (f"+1{area}555{n:04}" for area in areas)


def write_list(file: Path, count: int) -> None:
    """Write a list of made-up recipients; three of its rows can't be sent to.

    Args:
        file: the CSV file to write.
        count: the number of rows, 1 or more; a list of fewer than 4 rows lacks some of the three.
    """
    phones = islice(made_up_phones(), count)
    people = [(_NAMES[n % len(_NAMES)], phone, f"SP{1000 + n}") for n, phone in enumerate(phones)]
    for n, phone in ((1, "0532 not a number"), (2, people[0][1]), (3, "+12010000000")):
        if n < count:
            people[n] = (people[n][0], phone, people[n][2])
    with file.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["name", "phone", "order"])
        rows.writerows(people)
