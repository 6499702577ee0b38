"""`desk360 forget`: the numbers and texts of a person, or of old campaigns, are removed from your stores."""

from functools import partial

import anyio

from desk360_async import ConfigurationError

from ._options import DEFAULTS, Common, customers_place
from ._terminal import Terminal

__all__ = ["forget"]


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
        phone: The phone, E.164 with +; all spellings are removed. Left out with --older-than.
        older_than: Days: remove the numbers and texts of all campaigns and events that ended earlier. Such a
            campaign can't be loaded again.
        ledger: A ledger of campaigns that don't run, a file or a PostgreSQL DSN; may be repeated.
        inbox: A store of webhooks' events, a file or a DSN; may be repeated.
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
