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
            number, table = _by_id(connection, campaign, message_id), "delivery"
            if number is None and phone is not None:
                number, table = int(phone), _table_for(connection, campaign, int(phone))
            if table and number is not None:
                row = (campaign, message_id if table == "early" else number, status)
                query = f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)"  # noqa: S608  # one of our two
                news += connection.execute(query, row).rowcount
    return news


def settle(connection: sqlite3.Connection, campaign: int, message_id: str, phone: int) -> None:
    """Take in what was told of a message before its answer was here; in the answer's own transaction."""
    connection.execute(
        "INSERT OR IGNORE INTO delivery SELECT campaign, ?, status FROM early "
        "WHERE campaign = ? AND message_id = ?",
        (phone, campaign, message_id),
    )
    connection.execute("DELETE FROM early WHERE campaign = ? AND message_id = ?", (campaign, message_id))


def _by_id(connection: sqlite3.Connection, campaign: int, message_id: str) -> int | None:
    row = connection.execute(
        "SELECT members FROM batch WHERE message_id = ? AND campaign = ?", (message_id, campaign)
    ).fetchone()
    return unpack(row[0])[0] if row else None


def _table_for(connection: sqlite3.Connection, campaign: int, phone: int) -> str:
    """Return where a status of a phone with an id that we don't know belongs; "" if it is none of ours.

    A bulk request gives no ids. A single one does: until its answer is here, the status is an early one.
    """
    rows = connection.execute(
        "SELECT b.kind, b.members FROM recipient r JOIN batch b ON b.parameter_set = r.parameter_set "
        "AND b.first <= r.phone AND b.last >= r.phone WHERE r.campaign = ? AND r.phone = ? "
        "AND (b.state = 'intent' OR b.kind = 'bulk' AND b.state IN ('accepted', 'unknown'))",
        (campaign, phone),
    )
    kinds = {kind for kind, members in rows if phone in unpack(members)}
    return "delivery" if "bulk" in kinds else "early" if "single" in kinds else ""
