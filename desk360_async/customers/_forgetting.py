"""Forget a person (GDPR, KVKK) with one call: in ledgers, inboxes, send logs and customers."""

import base64
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from desk360_async import ConfigurationError, _threads
from desk360_async._phones import parse_phone, person_of
from desk360_async._postgres import Database, Tables, is_dsn
from desk360_async._redaction import mask_dsn
from desk360_async.customers._book import Customers

if TYPE_CHECKING:
    from desk360_async.webhooks import Inbox

Stored: TypeAlias = str | os.PathLike[str]

_KINDS = ("the ledger", "the inbox", "the customers", "the send log")


async def forget(
    phone: str,
    *,
    ledgers: Iterable[Stored] = (),
    inboxes: Iterable[Stored] = (),
    customers: Iterable[Stored] = (),
    logs: Iterable[Stored] = (),
) -> dict[str, int]:
    """Remove a person's number and texts from stores; counts, outcomes and a hashed opt-out stay.

    Messages to the person that are pending in a campaign are not sent. The same is true of messages that were
    deferred to workers in a database named here. A worker may be sending a message just now: it may still go
    out. An opt-out still holds.

    Args:
        phone: E.164 with `+`; all spellings are removed.
        ledgers: files of campaigns, or databases (`postgresql://…`); no campaign in them may run meanwhile.
        inboxes: files of `SQLiteInbox`, or databases of `PostgresInbox`.
        customers: files or databases of `Customers`.
        logs: files or databases of `SendLog`.

    Returns:
        The number of records that held the person, by store. The key is the path of a file, or names the
        store of a database without the password: "the inbox in postgresql://…". The key "the deferred
        messages in postgresql://…" is there only if the person was removed from such messages.

    Raises:
        InvalidMessage: if `phone` is no phone number.
        ConfigurationError: if no store is named, or one is missing or can't be written.
        LedgerError: if a ledger is in use or can't be written.
    """
    number = parse_phone(phone, "phone")
    groups = [list(group) for group in (ledgers, inboxes, customers, logs)]
    _require_stores(groups, "a ledger, an inbox, customers or a send log")
    found: dict[str, int] = {}
    functions = (_in_ledger, _in_inbox, _in_customers, _in_log)
    for kind, forget_in, group in zip(_KINDS, functions, groups, strict=True):
        for place in group:
            found[_name(kind, place)] = await forget_in(place, number)
    for dsn in dict.fromkeys(str(place) for group in groups for place in group if is_dsn(place)):
        if removed := await _in_outbox(dsn, number):
            found[_name("the deferred messages", dsn)] = removed
    return found


async def expire(
    *, retention: float, ledgers: Iterable[Stored] = (), inboxes: Iterable[Stored] = ()
) -> dict[str, int]:
    """Remove the numbers and texts of campaigns and events that ended long ago; counts and outcomes stay.

    Args:
        retention: seconds since a campaign's last request, or since an event was handled or given up (≥ 0).
        ledgers: files or databases of campaigns; no campaign in them may run meanwhile. A campaign with
            pending recipients stays as it is. An expired campaign can't be loaded again.
        inboxes: files of `SQLiteInbox`, or databases of `PostgresInbox`.

    Returns:
        For each store, the number of recipients or events whose numbers and texts were removed.

    Raises:
        ConfigurationError: if no file is named, a file is missing, or `retention` is no number or below 0.
        LedgerError: if a ledger is in use or can't be written.
    """
    groups = [list(group) for group in (ledgers, inboxes)]
    _require_stores(groups, "a ledger or an inbox")
    found: dict[str, int] = {}
    for kind, expire_in, group in zip(_KINDS, (_expire_ledger, _expire_inbox), groups, strict=False):
        for place in group:
            found[_name(kind, place)] = await expire_in(place, retention)
    return found


async def _expire_ledger(place: Stored, retention: float) -> int:
    from desk360_async.campaigns import expire as expire_in_ledger

    return await expire_in_ledger(place, retention=retention)


async def _expire_inbox(place: Stored, retention: float) -> int:
    inbox = _inbox(place)
    try:
        return await inbox.expire(retention)
    finally:
        await inbox.aclose()


def _inbox(place: Stored) -> "Inbox":
    from desk360_async.webhooks import PostgresInbox, SQLiteInbox

    return PostgresInbox(str(place)) if is_dsn(place) else SQLiteInbox(place)


def _name(kind: str, place: Stored) -> str:
    return f"{kind} in {mask_dsn(str(place))}" if is_dsn(place) else str(place)


def _require_stores(groups: Iterable[list[Stored]], kinds: str) -> None:
    everything = [place for group in groups for place in group]
    if not everything:
        raise ConfigurationError(f"name a store: {kinds}")
    for place in everything:
        if not is_dsn(place) and not Path(place).is_file():
            raise ConfigurationError(f"{place}: there is no such file")


async def _in_ledger(place: Stored, phone: str) -> int:
    from desk360_async.campaigns import forget as forget_in_ledger

    return await forget_in_ledger(place, phone)


async def _in_outbox(dsn: str, phone: str) -> int:
    tables = Tables(Database(dsn), name="the deferred messages")
    try:
        return await tables.write(_remove_deferred, person_of(phone))
    finally:
        await _threads.run(tables.close)


def _remove_deferred(db: Any, person: int) -> int:
    """Remove a person's messages that wait for workers; return how many messages changed.

    A message to several people stays, without the person. The job of a removed message finds no message, and
    ends.
    """
    count = 0
    for row, text in db.execute("SELECT id, message FROM outbox ORDER BY id FOR UPDATE").fetchall():
        message = json.loads(text)
        left = _without(message, person)
        if left is None:
            db.execute("DELETE FROM outbox WHERE id = ?", (row,))
        elif left != message:
            text = json.dumps(left, ensure_ascii=False)
            db.execute("UPDATE outbox SET message = ? WHERE id = ?", (text, row))
        count += left != message
    return count


def _without(message: dict[str, Any], person: int) -> dict[str, Any] | None:
    """Return a deferred message without a person; None if it has no other recipient."""
    if "to" in message:
        return None if person_of(message["to"]) == person else message
    file = message.get("destinations_file")
    if file is None:
        phones = [phone for phone in message["phones"] if person_of(phone) != person]
        return {**message, "phones": phones} if phones else None
    if "content" not in file:  # only a path, which the worker reads
        return message
    lines = base64.b64decode(file["content"]).splitlines(keepends=True)
    kept = b"".join(line for line in lines if person_of(line.decode("ascii", "replace")) != person)
    changed = {**file, "content": base64.b64encode(kept).decode("ascii")}
    return {**message, "destinations_file": changed} if kept.strip() else None


async def _in_inbox(place: Stored, phone: str) -> int:
    inbox = _inbox(place)
    try:
        return await inbox.forget(phone)
    finally:
        await inbox.aclose()


async def _in_customers(place: Stored, phone: str) -> int:
    async with Customers(place) as book:
        return await book.forget(phone)


async def _in_log(place: Stored, phone: str) -> int:
    from desk360_async.once import SendLog

    async with SendLog(place) as log:
        return await log.forget(phone)
