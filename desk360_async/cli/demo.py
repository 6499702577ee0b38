"""`desk360 demo`: a made-up list, sent to a sandbox on this machine."""

import csv
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ._options import Common
from ._rows import Letter
from ._session import MINUTE, Session, run
from .lists import Mailing

__all__ = ["demo", "write_list"]

_NAMES = (
    "Ada", "Çağla", "Ömer", "Şule", "İpek", "Zoë", "Łukasz", "Đorđe", "Ελένη", "Олена", "Նարե",
    "ნინო", "נועה", "ليلى", "زهرا", "अनन्या", "বৃষ্টি", "தமிழ்", "สุดา", "美咲", "小明", "지우",
    "Nguyễn", "O'Neil, Jr.", "🌷 Lale",
)  # fmt: skip


def demo(
    *,
    count: int = 300,
    out: Path | None = None,
    json: bool = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False,
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"))] = False,
) -> int:
    """Send to a made-up list on a sandbox; nothing leaves this machine.

    Names in many scripts, a number that is none, a number that comes twice, and one that isn't on WhatsApp.

    Args:
        count: How many rows the list has, 4 or more [else: 300].
        out: Write the results to this new CSV file.
        json: Print JSON lines; words and bars go to stderr.
        quiet: Say only what was asked for.
        verbose: Log every request to stderr.
    """

    async def work(session: Session) -> int:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "people.csv")
            write_list(file, count)
            session.terminal.remark(
                f"Desk360 takes 60 requests a minute; this sandbox takes 60 in {MINUTE:g} s, to be quick. "
                "What it refuses here is meant to be refused."
            )
            letter = Letter("order_shipped", "English", {"body-1": "name", "body-2": "order"})
            await Mailing(file, letter, out=out, lane="bulk").send(session)
            return _account(session)

    # Of the shared options only those that make sense: a demo is never live. Nor does it go to the sandbox
    # that the environment may name, whose minute is a long one.
    return run(Common(json=json, quiet=quiet, verbose=verbose, base_url=""), work)


def _account(session: Session) -> int:
    """Let the other side say what it saw."""
    assert session.sandbox is not None
    seen = session.sandbox
    session.terminal.remark(
        f"The sandbox says: {seen.accepted:,} messages taken, "
        f"{len({message.phone for message in seen.received}):,} different phones, "
        f"{seen.refusals} refusals for going too fast (429)."
    )
    return 0


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
