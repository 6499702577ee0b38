"""A person is forgotten (GDPR, KVKK): in ledgers, inboxes, send logs and customers, by one call."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from desk360_async import ConfigurationError
from desk360_async._phones import parse_phone
from desk360_async.customers._book import Customers

Stored: TypeAlias = str | os.PathLike[str]


async def forget(
    phone: str,
    *,
    ledgers: Iterable[Stored] = (),
    inboxes: Iterable[Stored] = (),
    customers: Iterable[Stored] = (),
    logs: Iterable[Stored] = (),
) -> dict[str, int]:
    """Remove a person's number and texts from files; counts, outcomes and a hashed opt-out stay.

    Afterwards the person gets no message that was pending in a campaign. An opt-out still holds.

    Args:
        phone: E.164 with `+`; all spellings are removed.
        ledgers: files of campaigns; none of the campaigns may run meanwhile.
        inboxes: files of `SQLiteInbox`.
        customers: files of `Customers`.
        logs: files of `SendLog`.

    Returns:
        For each file, the number of its records that held the person.

    Raises:
        InvalidMessage: if it is no phone number.
        ConfigurationError: if no file is named, or one is missing or can't be written.
        LedgerError: if a ledger is in use or can't be written.
    """
    number = parse_phone(phone, "phone")
    groups = [list(map(Path, group)) for group in (ledgers, inboxes, customers, logs)]
    _require_files(groups, "a ledger, an inbox, customers or a send log")
    found: dict[str, int] = {}
    for group, forget_in in zip(groups, (_in_ledger, _in_inbox, _in_customers, _in_log), strict=True):
        for path in group:
            found[str(path)] = await forget_in(path, number)
    return found


async def expire(
    *, retention: float, ledgers: Iterable[Stored] = (), inboxes: Iterable[Stored] = ()
) -> dict[str, int]:
    """Remove the numbers and texts of what ended long ago from files; counts and outcomes stay.

    Args:
        retention: seconds since a campaign's last request, or since an event was handled or given up (≥ 0).
        ledgers: files of campaigns, none of which may run meanwhile. A campaign with pending recipients
            stays as it is. An expired one can't be loaded again.
        inboxes: files of `SQLiteInbox`.

    Returns:
        For each file, the number of its recipients or events.

    Raises:
        ConfigurationError: if no file is named, one is missing, or `retention` is no such number.
        LedgerError: if a ledger is in use or can't be written.
    """
    groups = [list(map(Path, group)) for group in (ledgers, inboxes)]
    _require_files(groups, "a ledger or an inbox")
    found: dict[str, int] = {}
    for path in groups[0]:
        from desk360_async.campaigns import expire as expire_ledger

        found[str(path)] = await expire_ledger(path, retention=retention)
    for path in groups[1]:
        from desk360_async.webhooks import SQLiteInbox

        inbox = SQLiteInbox(path)
        try:
            found[str(path)] = await inbox.expire(retention)
        finally:
            await inbox.aclose()
    return found


def _require_files(groups: Iterable[list[Path]], kinds: str) -> None:
    everything = [path for group in groups for path in group]
    if not everything:
        raise ConfigurationError(f"name a store: {kinds}")
    for path in everything:
        if not path.is_file():
            raise ConfigurationError(f"{path}: there is no such file")


async def _in_ledger(path: Path, phone: str) -> int:
    from desk360_async.campaigns import forget as forget_in_ledger

    return await forget_in_ledger(path, phone)


async def _in_inbox(path: Path, phone: str) -> int:
    from desk360_async.webhooks import SQLiteInbox

    inbox = SQLiteInbox(path)
    try:
        return await inbox.forget(phone)
    finally:
        await inbox.aclose()


async def _in_customers(path: Path, phone: str) -> int:
    async with Customers(path) as book:
        return await book.forget(phone)


async def _in_log(path: Path, phone: str) -> int:
    from desk360_async.once import SendLog

    async with SendLog(path) as log:
        return await log.forget(phone)
