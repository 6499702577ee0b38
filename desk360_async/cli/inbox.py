"""`desk360 inbox …`: webhook events whose handlers failed until the last attempt, and another attempt."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from desk360_async import ConfigurationError
from desk360_async._postgres import is_dsn
from desk360_async._redaction import mask_numbers

from ._options import DEFAULTS, Common
from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async.webhooks import Inbox

__all__ = ["list_", "retry"]


def list_(inbox: str, /, *, limit: int = 1000, common: Common = DEFAULTS) -> int:
    """List the events that were given up, oldest first: exit code 3 if there is one.

    Args:
        inbox: The inbox: its file, or its PostgreSQL DSN.
        limit: Events at most [else: 1000].
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

    return _run(common, inbox, work)


def retry(inbox: str, /, *rows: int, common: Common = DEFAULTS) -> int:
    """Let failed events be handled again by the app that has the inbox open, or opens it next.

    Args:
        inbox: The inbox: its file, or its PostgreSQL DSN.
        rows: The events' rows, as `desk360 inbox list` prints them [else: all that failed].
        common: Shared.
    """

    async def work(inbox: "Inbox", terminal: Terminal) -> int:
        number = await inbox.retry_failed(*rows)
        if terminal.json:
            terminal.data({"retried": number})
        else:
            terminal.say(f"{number:,} events are handled again.")
        return 0 if number >= len(rows) else 3

    return _run(common, inbox, work)


def _run(common: Common, place: str, work: Callable[["Inbox", Terminal], Awaitable[int]]) -> int:
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
