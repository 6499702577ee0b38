"""What webhooks tell of a campaign's recipients: by message id, or by phone where bulk gave no id."""

import sqlite3
from collections.abc import Iterable

from desk360_async.campaigns._states import unpack
from desk360_async.campaigns._storage import transaction

Told = tuple[str, str | None, str]  # message id, phone, status

KNOWN = frozenset({"sent", "delivered", "read", "failed", "deleted"})


def record(connection: sqlite3.Connection, campaign: int, told: Iterable[Told]) -> int:
    """Note statuses; return how many were news of this campaign. Repeats and any order do no harm."""
    news = 0
    with transaction(connection):
        for message_id, phone, status in told:
            number = _by_id(connection, campaign, message_id)
            if number is None and phone is not None:
                number = _by_phone(connection, campaign, int(phone))
            if number is not None:
                news += connection.execute(
                    "INSERT OR IGNORE INTO delivery VALUES (?, ?, ?)", (campaign, number, status)
                ).rowcount
    return news


def _by_id(connection: sqlite3.Connection, campaign: int, message_id: str) -> int | None:
    row = connection.execute(
        "SELECT members FROM batch WHERE message_id = ? AND campaign = ?", (message_id, campaign)
    ).fetchone()
    return unpack(row[0])[0] if row else None


def _by_phone(connection: sqlite3.Connection, campaign: int, phone: int) -> int | None:
    """Return the phone if a bulk request may have reached it: single ones are known by their ids alone."""
    rows = connection.execute(
        "SELECT b.members FROM recipient r JOIN batch b ON b.parameter_set = r.parameter_set "
        "AND b.first <= r.phone AND b.last >= r.phone "
        "WHERE r.campaign = ? AND r.phone = ? AND b.kind = 'bulk' AND b.state IN ('accepted', 'unknown')",
        (campaign, phone),
    )
    return phone if any(phone in unpack(members) for (members,) in rows) else None
