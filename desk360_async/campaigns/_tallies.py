"""Counting what a ledger holds: for progress, for the plan, for the report. Reads only."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime

from desk360_async.campaigns._states import Counts, Report
from desk360_async.campaigns._storage import snapshot

_FIELDS = {"intent": "on_the_wire"}


def counts(connection: sqlite3.Connection, campaign: int) -> Counts:
    """Count recipients by state: by batch, but for those that have one of their own."""
    by_state: Counter[str] = Counter()
    for state, size in connection.execute(
        "SELECT state, sum(size) FROM batch WHERE campaign = ? GROUP BY state", (campaign,)
    ):
        by_state[state] += size
    for batch_state, state, number in connection.execute(
        "SELECT b.state, e.state, count(*) FROM exception e JOIN batch b ON b.id = e.batch "
        "WHERE e.campaign = ? GROUP BY 1, 2",
        (campaign,),
    ):
        by_state[batch_state] -= number
        by_state[state] += number
    return Counts(**{_FIELDS.get(state, state): number for state, number in by_state.items()})


def requests_needed(connection: sqlite3.Connection, campaign: int) -> list[tuple[str, int, int]]:
    """Return (kind, requests, recipients) of what is still to be sent."""
    rows = connection.execute(
        "SELECT kind, count(*), sum(size) FROM batch WHERE campaign = ? AND state = 'pending' GROUP BY kind",
        (campaign,),
    )
    return [(str(kind), int(number), int(size)) for kind, number, size in rows]


def groups(connection: sqlite3.Connection, campaign: int) -> int:
    """Count the sets of equal parameters that recipients have."""
    (number,) = connection.execute(
        "SELECT count(DISTINCT parameter_set) FROM batch WHERE campaign = ?", (campaign,)
    ).fetchone()
    return int(number)


def left_out(connection: sqlite3.Connection, campaign: int) -> dict[str, int]:
    """Count the rows that were skipped when the campaign was loaded, by reason."""
    rows = connection.execute(
        "SELECT reason, count(*) FROM skipped WHERE campaign = ? GROUP BY reason ORDER BY 2 DESC, 1",
        (campaign,),
    )
    return {str(reason): int(number) for reason, number in rows}


def skipped(connection: sqlite3.Connection, campaign: int) -> list[tuple[int, str, str]]:
    """Return (line, reason, phone as given) of the rows that were skipped when the campaign was loaded."""
    return connection.execute(
        "SELECT line, reason, phone FROM skipped WHERE campaign = ? ORDER BY line", (campaign,)
    ).fetchall()


def reasons(connection: sqlite3.Connection, campaign: int) -> dict[tuple[str, str], int]:
    """Count recipients by state and reason, where there is a reason."""
    found: Counter[tuple[str, str]] = Counter()
    for state, reason, number in connection.execute(
        "SELECT state, reason, sum(size - (SELECT count(*) FROM exception e WHERE e.batch = b.id)) "
        "FROM batch b WHERE campaign = ? AND reason IS NOT NULL GROUP BY 1, 2",
        (campaign,),
    ):
        found[state, reason] += number
    for state, reason, number in connection.execute(
        "SELECT state, reason, count(*) FROM exception WHERE campaign = ? GROUP BY 1, 2", (campaign,)
    ):
        found[state, reason] += number
    return {key: number for key, number in sorted(found.items()) if number}


def deliveries(connection: sqlite3.Connection, campaign: int) -> dict[str, int]:
    """Count recipients by what webhooks told; who read it was reached, in whatever order that came."""
    rows = connection.execute(
        "SELECT status, count(*) FROM delivery WHERE campaign = ? GROUP BY status", (campaign,)
    )
    told = {str(status): int(number) for status, number in rows}
    (reached,) = connection.execute(
        "SELECT count(DISTINCT phone) FROM delivery WHERE campaign = ? AND status IN ('delivered', 'read')",
        (campaign,),
    ).fetchone()
    return {**told, "delivered": int(reached)}


def report_now(connection: sqlite3.Connection, campaign: int, name: str) -> Report:
    """Put together what became of a campaign, as of one moment."""
    with snapshot(connection):
        return report(connection, campaign, name)


def report(connection: sqlite3.Connection, campaign: int, name: str) -> Report:
    """Put together what became of a campaign; in a transaction of the caller's."""
    number, started, ended = connection.execute(
        "SELECT count(*), min(started), max(ended) FROM request WHERE campaign = ?", (campaign,)
    ).fetchone()
    told = deliveries(connection, campaign)
    resolutions = connection.execute(
        "SELECT at, action, scope, recipients FROM resolution WHERE campaign = ? ORDER BY id", (campaign,)
    )
    return Report(
        name=name,
        counts=counts(connection, campaign),
        reasons=reasons(connection, campaign),
        left_out=left_out(connection, campaign),
        requests=number,
        started=_moment(started),
        ended=_moment(ended),
        delivered=told["delivered"],
        read=told.get("read", 0),
        failed=told.get("failed", 0),
        resolutions=tuple(
            f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC: {recipients} {scope}: {action}"
            for at, action, scope, recipients in resolutions
        ),
    )


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
