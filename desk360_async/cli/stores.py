"""Commands on your stores, each a file or a database: `desk360 customers`, `forget`, `inbox` and `sends`."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from desk360_async import ConfigurationError
from desk360_async._errors import mask_phone
from desk360_async._postgres import is_dsn
from desk360_async._redaction import mask_numbers

from ._options import DEFAULTS, Common, customers_place, send_log_at
from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async.customers import Customers
    from desk360_async.once import SendLog
    from desk360_async.webhooks import Inbox


__all__ = [
    "export",
    "forget",
    "list_failed",
    "list_unknown",
    "opt_in",
    "opt_out",
    "resolve",
    "retry",
    "show",
]


def show(phone: str, /, *, common: Common = DEFAULTS) -> int:
    """Show a person's 24-hour window and opt-out.

    Args:
        phone: The phone, E.164 with +.
        common: Shared.
    """
    return _with_customers(common, lambda book, terminal: _show(book, terminal, phone))


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
        reason: A note, such as 'asked by phone'.
        common: Shared.
    """

    async def work(book: "Customers", terminal: Terminal) -> int:
        await book.opt_out(phone, reason)
        return _changed(terminal, phone, opted_out=True)

    return _with_customers(common, work, may_make=True)


def opt_in(phone: str, /, *, common: Common = DEFAULTS) -> int:
    """Undo a person's opt-out.

    Args:
        phone: The phone, E.164 with +.
        common: Shared.
    """

    async def work(book: "Customers", terminal: Terminal) -> int:
        await book.opt_in(phone)
        return _changed(terminal, phone, opted_out=False)

    return _with_customers(common, work)


def _changed(terminal: Terminal, phone: str, *, opted_out: bool) -> int:
    if terminal.json:
        terminal.data({"phone": mask_phone(phone), "opted_out": opted_out})
    else:
        terminal.note(f"{mask_phone(phone)}: {'opted out' if opted_out else 'no longer opted out'}")
    return 0


def export(path: Path, /, *, common: Common = DEFAULTS) -> int:
    """Write all people to a CSV file, which holds whole phone numbers.

    Args:
        path: The CSV file, which is replaced if it exists.
        common: Shared.
    """

    async def work(book: "Customers", terminal: Terminal) -> int:
        rows = await book.export(path)
        if terminal.json:
            terminal.data({"path": str(path), "rows": rows})
        else:
            terminal.note(f"{path}: {rows:,} people")
        return 0

    return _with_customers(common, work)


def _with_customers(
    common: Common, work: "Callable[[Customers, Terminal], Awaitable[int]]", *, may_make: bool = False
) -> int:
    from desk360_async.customers import Customers

    place = customers_place(common)
    if place is None:
        raise ConfigurationError("no store of customers: add --customers PATH, or set DESK360_CUSTOMERS")
    if not may_make and not is_dsn(place) and not Path(place).is_file():
        raise ConfigurationError(f"{place}: there is no such file; `desk360 customers opt-out` makes it")
    terminal = Terminal(json=common.json, quiet=common.quiet)

    async def all_of_it() -> int:
        async with Customers(place) as book:
            return await work(book, terminal)

    return anyio.run(all_of_it)


def forget(
    phone: str = "",
    /,
    *,
    older_than: float | None = None,
    ledger: tuple[str, ...] = (),
    inbox: tuple[str, ...] = (),
    log: tuple[str, ...] = (),
    common: Common = DEFAULTS,
) -> int:
    """Remove a person's number and texts from your stores; counts, outcomes and a hashed opt-out stay.

    Args:
        phone: The phone, E.164 with +; all its spellings are removed. Without it, give --older-than.
        older_than: Remove all people from campaigns and events that ended more than this many days ago.
            Such a campaign can't be loaded again.
        ledger: A ledger whose campaigns aren't running: a file or a PostgreSQL DSN; may be repeated.
        inbox: A store of webhook events, a file or a DSN; may be repeated.
        log: A send log, a file or a DSN; may be repeated.
        common: Shared.
    """
    from desk360_async.customers import expire
    from desk360_async.customers import forget as forget_person

    if bool(phone) == (older_than is not None):
        raise ConfigurationError("give a phone, or --older-than DAYS")
    if older_than is not None:
        work = partial(expire, retention=older_than * 86_400, ledgers=ledger, inboxes=inbox)
    else:
        place = customers_place(common)
        stored = [place] if place is not None else []
        work = partial(forget_person, phone, ledgers=ledger, inboxes=inbox, customers=stored, logs=log)
    found = anyio.run(work)
    terminal = Terminal(json=common.json, quiet=common.quiet)
    if terminal.json:
        terminal.data({"removed": found})
    for name, count in found.items():
        whom = "the person" if phone else "a person"
        terminal.note(f"{name}: {count:,} records no longer hold {whom}")
    return 0


# ── the inbox: webhook events whose handlers failed until the last attempt ──────────────────────────────────


def list_failed(inbox: str, /, *, limit: int = 1000, common: Common = DEFAULTS) -> int:
    """List the events that were given up, oldest first; the exit code is 3 if there is one.

    Args:
        inbox: The inbox: its file, or its PostgreSQL DSN.
        limit: Most events to list [default: 1000].
        common: Shared.
    """

    async def work(inbox: "Inbox", terminal: Terminal) -> int:
        letters = await inbox.dead_letters(limit)
        for letter in letters:
            at = datetime.fromtimestamp(letter.failed_at, UTC)
            kind = type(letter.event).__name__
            if terminal.json:
                told = {"row": letter.row, "failed_at": at.isoformat(), "attempts": letter.attempts}
                terminal.data(told | {"error": letter.error, "kind": kind, "event": letter.event.raw})
            else:
                words = mask_numbers(json.dumps(letter.event.raw, default=str, ensure_ascii=False))[:100]
                lead = f"{letter.row:>6}  {at:%Y-%m-%d %H:%M}  "
                terminal.item(lead, f"{letter.attempts} attempts, {letter.error}: {kind} {words}")
        if not letters:
            terminal.remark("No event was given up.")
        return 3 if letters else 0

    return _with_inbox(common, inbox, work)


def retry(inbox: str, /, *rows: int, common: Common = DEFAULTS) -> int:
    """Hand failed events to their handlers again, in the app that has the inbox open or opens it next.

    Args:
        inbox: The inbox: its file, or its PostgreSQL DSN.
        rows: The events' rows, as `desk360 inbox list` prints them [default: all failed events].
        common: Shared.
    """

    async def work(inbox: "Inbox", terminal: Terminal) -> int:
        number = await inbox.retry_failed(*rows)
        if terminal.json:
            terminal.data({"retried": number})
        else:
            terminal.say(f"{number:,} events are handled again.")
        return 0 if number >= len(rows) else 3

    return _with_inbox(common, inbox, work)


def _with_inbox(common: Common, place: str, work: Callable[["Inbox", Terminal], Awaitable[int]]) -> int:
    from desk360_async.webhooks import PostgresInbox, SQLiteInbox

    if not is_dsn(place) and not Path(place).is_file():
        problem = "is a folder" if Path(place).is_dir() else "there is no such file"
        raise ConfigurationError(f"{place}: {problem}; name the inbox's file, or its DSN")

    async def with_inbox() -> int:
        inbox = PostgresInbox(place) if is_dsn(place) else SQLiteInbox(place)
        try:
            return await work(inbox, Terminal(json=common.json, quiet=common.quiet))
        finally:
            await inbox.aclose()

    return anyio.run(with_inbox)


# ── the send log: sends under keys whose outcome is unknown ─────────────────────────────────────────────────


def list_unknown(*, unknown: bool = True, log: str | None = None, common: Common = DEFAULTS) -> int:
    """List the sends whose outcome is unknown; the exit code is 4 if there is one.

    Args:
        unknown: List the unknown sends. There is no other list, so the option may be left out.
        log: The send log: a file, or a PostgreSQL DSN [env: DESK360_SEND_LOG].
        common: Shared.
    """

    async def work(log: "SendLog", terminal: Terminal) -> int:
        records = [record async for record in log.unknown()]
        if terminal.json:
            for record in records:
                since, seen = record.since.isoformat(), record.seen
                terminal.data({"key": record.key, "since": since, "attempts": record.attempts, "seen": seen})
        elif records:
            rows = ((r.key, f"{r.since:%Y-%m-%d %H:%M:%S}", r.attempts, r.seen) for r in records)
            terminal.table(("Key", "Since (UTC)", "Attempts", "Webhooks"), rows, wide=("Key",))
            terminal.note(
                "Look in Desk360's panel, then: desk360 sends resolve KEY --resend|--accepted|--not-sent"
            )
        else:
            terminal.remark("No send is unknown.")
        return 4 if records else 0

    return _with_log(common, log, work)


def resolve(
    key: str,
    /,
    *,
    resend: bool = False,
    accepted: bool = False,
    not_sent: bool = False,
    message_id: str = "",
    log: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Store a decision about an unknown send. No message is sent; the next send under the key follows it.

    Args:
        key: The send's key.
        resend: The next send under the key is sent; a customer who has the message gets a second one.
        accepted: The customer has it; the next send under the key gets a stored reply.
        not_sent: The customer doesn't have it; the next send under the key is sent.
        message_id: The message's id for the stored reply, if it is known.
        log: The send log: a file, or a PostgreSQL DSN [env: DESK360_SEND_LOG].
        common: Shared.
    """
    if resend + accepted + not_sent != 1:
        raise ConfigurationError("give one of --resend, --accepted, --not-sent")
    how: Literal["resend", "accepted", "not_sent"]
    how = "resend" if resend else "accepted" if accepted else "not_sent"

    async def work(log: "SendLog", terminal: Terminal) -> int:
        await log.resolve(key, how, message_id=message_id)
        if terminal.json:
            terminal.data({"key": key, "resolved": how})
        else:
            terminal.say(f"{key}: {how.replace('_', ' ')}")
        return 0

    return _with_log(common, log, work)


def _with_log(
    common: Common, place: str | None, work: Callable[["SendLog", Terminal], Awaitable[int]]
) -> int:
    log = send_log_at(place, may_make=False)

    async def with_log() -> int:
        async with log:
            return await work(log, Terminal(json=common.json, quiet=common.quiet))

    return anyio.run(with_log)
