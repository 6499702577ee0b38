"""`desk360 forget`: a person's number and texts are removed from your files."""

from functools import partial
from pathlib import Path

import anyio

from ._options import DEFAULTS, Common, customers_path
from ._terminal import Terminal

__all__ = ["forget"]


def forget(
    phone: str,
    /,
    *,
    ledger: tuple[Path, ...] = (),
    inbox: tuple[Path, ...] = (),
    log: tuple[Path, ...] = (),
    common: Common = DEFAULTS,
) -> int:
    """Remove a person's number and texts from your files; counts, outcomes and a hashed opt-out stay.

    Args:
        phone: The phone, E.164 with +; all spellings are removed.
        ledger: A ledger of campaigns that don't run; may be repeated.
        inbox: A file of webhooks' events; may be repeated.
        log: A file of sends by key; may be repeated.
        common: Shared.
    """
    from desk360_async.customers import forget as forget_person

    path = customers_path(common)
    stored = [path] if path is not None else []
    work = partial(forget_person, phone, ledgers=ledger, inboxes=inbox, customers=stored, logs=log)
    found = anyio.run(work)
    terminal = Terminal(json=common.json, quiet=common.quiet)
    if terminal.json:
        terminal.data({"removed": found})
    for name, count in found.items():
        terminal.note(f"{name}: {count:,} records no longer hold the person")
    return 0
