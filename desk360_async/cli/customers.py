"""`desk360 customers`: a person's 24-hour window and opt-out, in the store that your app feeds."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from desk360_async import ConfigurationError
from desk360_async._errors import mask_phone
from desk360_async._postgres import is_dsn

from ._options import DEFAULTS, Common, customers_place
from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async.customers import Customers

__all__ = ["export", "opt_in", "opt_out", "show"]


def show(phone: str, /, *, common: Common = DEFAULTS) -> int:
    """Show a person's 24-hour window and opt-out.

    Args:
        phone: The phone, E.164 with +.
        common: Shared.
    """
    return _run(common, lambda book, terminal: _show(book, terminal, phone))


async def _show(book: "Customers", terminal: Terminal, phone: str) -> int:
    window = await book.window(phone)
    since = (await book.opt_outs()).since(phone)
    if terminal.json:
        ends = window.ends and window.ends.isoformat()
        opted_out = since and since.isoformat()
        terminal.data({"window": window.state, "ends": ends, "opted_out": opted_out})
        return 0
    lead = "until" if window.state == "open" else "since"
    when = f", {lead} {window.ends:%Y-%m-%d %H:%M} UTC" if window.ends else ""
    terminal.say(f"window {window.state}{when}")
    terminal.say(f"opted out since {since:%Y-%m-%d %H:%M} UTC" if since else "not opted out")
    return 0


def opt_out(phone: str, /, *, reason: str = "", common: Common = DEFAULTS) -> int:
    """Store that a person has opted out: no more templates.

    Args:
        phone: The phone, E.164 with +.
        reason: A note for people.
        common: Shared.
    """

    async def work(book: "Customers", terminal: Terminal) -> int:
        await book.opt_out(phone, reason)
        return _changed(terminal, phone, opted_out=True)

    return _run(common, work, may_make=True)


def opt_in(phone: str, /, *, common: Common = DEFAULTS) -> int:
    """Undo a person's opt-out.

    Args:
        phone: The phone, E.164 with +.
        common: Shared.
    """

    async def work(book: "Customers", terminal: Terminal) -> int:
        await book.opt_in(phone)
        return _changed(terminal, phone, opted_out=False)

    return _run(common, work)


def _changed(terminal: Terminal, phone: str, *, opted_out: bool) -> int:
    if terminal.json:
        terminal.data({"phone": mask_phone(phone), "opted_out": opted_out})
    else:
        terminal.note(f"{mask_phone(phone)}: {'opted out' if opted_out else 'not opted out any more'}")
    return 0


def export(path: Path, /, *, common: Common = DEFAULTS) -> int:
    """Write all people to a CSV file, which holds whole phone numbers.

    Args:
        path: The CSV file; replaced if it exists.
        common: Shared.
    """

    async def work(book: "Customers", terminal: Terminal) -> int:
        rows = await book.export(path)
        if terminal.json:
            terminal.data({"path": str(path), "rows": rows})
        else:
            terminal.note(f"{path}: {rows:,} people")
        return 0

    return _run(common, work)


def _run(
    common: Common, work: "Callable[[Customers, Terminal], Awaitable[int]]", *, may_make: bool = False
) -> int:
    from desk360_async.customers import Customers

    place = customers_place(common)
    if place is None:
        raise ConfigurationError("no customers: use --customers PATH or set DESK360_CUSTOMERS")
    if not may_make and not is_dsn(place) and not Path(place).is_file():
        raise ConfigurationError(f"{place}: there is no such file; `desk360 customers opt-out` makes it")
    terminal = Terminal(json=common.json, quiet=common.quiet)

    async def all_of_it() -> int:
        async with Customers(place) as book:
            return await work(book, terminal)

    return anyio.run(all_of_it)
