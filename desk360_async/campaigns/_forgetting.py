"""People's numbers and texts are removed from a ledger; counts and outcomes stay.

`forget` replaces one person's phone by a small number, which is no phone number. A person who is still
pending is skipped. `expire` replaces all phones of a campaign by numbers that are too long for phones.
"""

import json
import os
import secrets
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from desk360_async._arguments import seconds
from desk360_async._phones import parse_phone, person_of, spellings_of
from desk360_async._postgres import is_dsn
from desk360_async.campaigns._ledger import EXPIRED, Ledger, now
from desk360_async.campaigns._storage import open_ledger
from desk360_async.campaigns._table_ledger import open_tables
from desk360_async.campaigns._values import pack, unpack

_LEAST_PHONE = 1_000_000  # E.164 has seven digits or more; the numbers below stand for forgotten people


_MOST_PHONE = 10**15  # E.164 has fifteen digits or fewer; the numbers from here on stand for expired people


class _Place(NamedTuple):
    campaign: int
    phone: int
    parameter_set: int


async def forget(ledger: str | os.PathLike[str], phone: str, *, schema: str = "desk360") -> int:
    """Remove a person's number and texts from all campaigns of a ledger; no campaign may run meanwhile.

    Parameters that the person shares with others stay. If a list that is loaded later holds the number, it
    adds the person again.

    Args:
        ledger: the ledger's file, or `postgresql://…`.
        phone: E.164 with `+`; all spellings are removed.
        schema: the schema of the tables in PostgreSQL.

    Returns:
        The number of rows about the person: one per campaign, and one per row that was left out when loading.

    Raises:
        InvalidMessage: if `phone` is no phone number.
        LedgerError: if there is no ledger, it is in use, or it can't be written.
    """
    numbers = spellings_of(parse_phone(phone, "phone"))
    if is_dsn(ledger):
        async with open_tables(str(ledger), "", schema) as tables:
            return await tables.write_at_rest(_forget_in_tables, numbers)
    async with open_ledger(Path(ledger), owner=True) as file:
        for name in await Ledger(file, "").names():
            campaign = Ledger(file, name)
            await campaign.settings()
            await campaign.recover("crash")
        await file.run(lambda db: db.execute("PRAGMA secure_delete = ON").fetchall())
        count = await file.write(_forget_in_file, numbers)
        await file.scrub()
    return count


def _forget_in_file(db: sqlite3.Connection, numbers: tuple[int, ...]) -> int:
    places = _places(db, numbers)
    for place in places:
        if _replace(db, place):
            new = (secrets.token_bytes(32), place.parameter_set)  # a digest could confirm a guessed text
            db.execute("UPDATE set_digest SET digest = ? WHERE parameter_set = ?", new)
    return len(places) + _forget_skipped(db, person_of(numbers[0]))


def _forget_in_tables(db: Any, numbers: tuple[int, ...]) -> int:
    places = _places(db, numbers)
    for place in places:
        if _replace(db, place):
            new = (secrets.randbits(62), place.parameter_set)  # the number of a set is a digest of its texts
            for statement in (
                "UPDATE parameter_set SET id = ? WHERE id = ?",
                "UPDATE recipient SET parameter_set = ? WHERE parameter_set = ?",
                "UPDATE batch SET parameter_set = ? WHERE parameter_set = ?",
            ):
                db.execute(statement, new)
    return len(places) + _forget_skipped(db, person_of(numbers[0]))


def _places(db: Any, numbers: tuple[int, ...]) -> list[_Place]:
    campaigns = [campaign for (campaign,) in db.execute("SELECT id FROM campaign ORDER BY id").fetchall()]
    query = "SELECT campaign, phone, parameter_set FROM recipient WHERE campaign = ? AND phone = ?"
    found = [db.execute(query, (c, number)).fetchone() for number in numbers for c in campaigns]
    return [_Place(*row) for row in found if row is not None]


def _replace(db: Any, place: _Place) -> bool:
    """Replace the phone by a small number; return whether the person's parameters were blanked."""
    (alias,) = db.execute(
        "SELECT coalesce(max(phone), 0) + 1 FROM recipient WHERE campaign = ? AND phone < ?",
        (place.campaign, _LEAST_PHONE),
    ).fetchone()
    new_and_old = (alias, place.campaign, place.phone)
    db.execute("UPDATE recipient SET phone = ? WHERE campaign = ? AND phone = ?", new_and_old)
    db.execute("UPDATE exception SET phone = ? WHERE campaign = ? AND phone = ?", new_and_old)
    db.execute("UPDATE delivery SET phone = ? WHERE campaign = ? AND phone = ?", new_and_old)
    db.execute(
        "UPDATE resolved SET phone = ? WHERE phone = ? "
        "AND resolution IN (SELECT id FROM resolution WHERE campaign = ?)",
        (alias, place.phone, place.campaign),
    )
    found = db.execute(
        "SELECT id, state, members FROM batch "
        "WHERE campaign = ? AND parameter_set = ? AND first <= ? AND last >= ?",
        (place.campaign, place.parameter_set, place.phone, place.phone),
    ).fetchall()
    for batch, state, packed in found:
        members = unpack(packed)
        if place.phone in members:
            left = sorted({*members, alias} - {place.phone})
            db.execute(
                # A message's id contains the phone number.
                "UPDATE batch SET members = ?, first = ?, last = ?, "
                "message_id = CASE WHEN kind = 'single' THEN NULL ELSE message_id END WHERE id = ?",
                (pack(left), left[0], left[-1], batch),
            )
            if state == "pending":
                _skip(db, place.campaign, batch, alias, len(left))
    return _blank_parameters(db, place.parameter_set)


def _skip(db: Any, campaign: int, batch: int, alias: int, size: int) -> None:
    """Skip a pending person. If all members of its batch then have their own state, skip the batch."""
    skipped = (campaign, alias, batch, "skipped", "forgotten")
    db.execute("INSERT INTO exception VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", skipped)
    (own,) = db.execute("SELECT count(*) FROM exception WHERE batch = ?", (batch,)).fetchone()
    if own >= size:
        db.execute("UPDATE batch SET state = 'skipped' WHERE id = ?", (batch,))


def _blank_parameters(db: Any, parameter_set: int) -> bool:
    """Blank a set of parameters that no other person has; return whether it was blanked."""
    (people,) = db.execute(
        "SELECT count(*) FROM recipient WHERE parameter_set = ? AND phone >= ?", (parameter_set, _LEAST_PHONE)
    ).fetchone()
    if people:
        return False
    (text,) = db.execute("SELECT parameters FROM parameter_set WHERE id = ?", (parameter_set,)).fetchone()
    blank = json.dumps(dict.fromkeys(json.loads(text), ""))
    db.execute("UPDATE parameter_set SET parameters = ? WHERE id = ?", (blank, parameter_set))
    return True


def _forget_skipped(db: Any, person: int) -> int:
    rows = db.execute("SELECT campaign, line, reason, phone FROM skipped").fetchall()
    theirs = [row for row in rows if person_of(row[3]) == person]
    db.executemany(
        "UPDATE skipped SET phone = '' WHERE campaign = ? AND line = ? AND reason = ? AND phone = ?", theirs
    )
    return len(theirs)


# ── whole campaigns ────────────────────────────────────────────────────────────────────────────────────────


async def expire(ledger: str | os.PathLike[str], *, retention: float, schema: str = "desk360") -> int:
    """Remove all numbers and texts from a ledger's campaigns that ended long ago; counts stay.

    A campaign has ended if no recipient is pending, and no request is on the wire. An expired campaign can't
    be loaded again: the ledger couldn't recognise the people who were sent to before.

    Args:
        ledger: the ledger's file, or `postgresql://…`; no campaign of it may run meanwhile.
        retention: seconds since the end of a campaign's last request (≥ 0).
        schema: the schema of the tables in PostgreSQL.

    Returns:
        The number of recipients whose numbers and texts were removed.

    Raises:
        ConfigurationError: if `retention` is no number, or below 0.
        LedgerError: if there is no ledger, it is in use, or it can't be written.

    Example:
        ```python
        await expire("campaigns.db", retention=90 * 86_400)
        ```
    """
    seconds("retention", retention, meaning="the time since a campaign's last request")
    if is_dsn(ledger):
        async with open_tables(str(ledger), "", schema) as tables:
            return await tables.write_at_rest(_expire_in_tables, now() - retention)
    async with open_ledger(Path(ledger), owner=True) as file:
        count = 0
        await file.run(lambda db: db.execute("PRAGMA secure_delete = ON").fetchall())
        for campaign in await file.read(_ended, now() - retention):
            count += await file.write(_expire_in_file, campaign)
        await file.scrub()
    return count


def _expire_in_file(db: sqlite3.Connection, campaign: int) -> int:
    count = _expire(db, campaign, "SELECT number FROM alias WHERE phone IN (SELECT value FROM json_each(?))")
    db.create_function("blank", 1, _blank)
    db.execute("UPDATE parameter_set SET parameters = blank(parameters) WHERE campaign = ?", (campaign,))
    db.execute("DELETE FROM set_digest WHERE campaign = ?", (campaign,))
    return count


def _expire_in_tables(db: Any, before: float) -> int:
    count = 0
    for campaign in _ended(db, before):
        members = (
            "SELECT number FROM alias WHERE phone IN (SELECT value::bigint FROM json_array_elements_text(?))"
        )
        count += _expire(db, campaign, members)
        db.execute(
            "UPDATE parameter_set SET parameters = (SELECT coalesce(json_object_agg(key, ''), '{}')::text "
            "FROM json_each(parameters::json)) WHERE campaign = ?",
            (campaign,),
        )
        # The number of a set is a digest of its texts.
        db.execute("CREATE TEMP TABLE renumbered (id bigint PRIMARY KEY, number bigint NOT NULL)")
        db.execute(
            "INSERT INTO renumbered SELECT id, (random() * 4e18)::bigint FROM parameter_set "
            "WHERE campaign = ?",
            (campaign,),
        )
        db.execute("UPDATE parameter_set s SET id = r.number FROM renumbered r WHERE s.id = r.id")
        for table in ("recipient", "batch"):
            db.execute(
                f"UPDATE {table} t SET parameter_set = r.number FROM renumbered r "  # noqa: S608  # names of ours
                "WHERE t.parameter_set = r.id AND t.campaign = ?",
                (campaign,),
            )
        db.execute("DROP TABLE renumbered")
    return count


def _ended(db: Any, before: float) -> list[int]:
    rows = db.execute(
        "SELECT id FROM campaign c WHERE coalesce((SELECT max(coalesce(ended, started)) FROM request r "
        "WHERE r.campaign = c.id), created) <= ? "
        "AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.campaign = c.id AND b.state IN ('pending', 'intent')) "
        "AND NOT EXISTS (SELECT 1 FROM resolution d WHERE d.campaign = c.id AND d.action = ?)",
        (before, EXPIRED),
    )
    return [campaign for (campaign,) in rows]


def _expire(db: Any, campaign: int, members_query: str) -> int:
    """Replace the phones by numbers that are too long for phones; return the number of recipients."""
    db.execute("CREATE TEMP TABLE alias (phone BIGINT PRIMARY KEY, number BIGINT NOT NULL)")
    # The new numbers are in the order of the phones, so that the members of a batch stay in order.
    count: int = db.execute(
        "INSERT INTO alias SELECT phone, CAST(? AS BIGINT) + row_number() OVER (ORDER BY phone) "
        "FROM recipient WHERE campaign = ?",
        (_MOST_PHONE, campaign),
    ).rowcount
    for table in ("recipient", "exception", "delivery"):
        db.execute(
            f"UPDATE {table} SET phone = (SELECT number FROM alias a WHERE a.phone = {table}.phone) "  # noqa: S608  # names of ours
            "WHERE campaign = ?",
            (campaign,),
        )
    db.execute(
        "UPDATE resolved SET phone = (SELECT number FROM alias a WHERE a.phone = resolved.phone) "
        "WHERE resolution IN (SELECT id FROM resolution WHERE campaign = ?)",
        (campaign,),
    )
    for batch, packed in db.execute(
        "SELECT id, members FROM batch WHERE campaign = ?", (campaign,)
    ).fetchall():
        _rename_members(db, batch, unpack(packed), members_query)
    db.execute("DELETE FROM early WHERE campaign = ?", (campaign,))
    db.execute("DELETE FROM doubt WHERE campaign = ?", (campaign,))
    db.execute("UPDATE skipped SET phone = '' WHERE campaign = ?", (campaign,))
    db.execute("DROP TABLE alias")
    db.execute(
        "INSERT INTO resolution (campaign, at, action, scope, recipients) VALUES (?, ?, ?, ?, ?)",
        (campaign, now(), EXPIRED, "all, numbers and texts", count),
    )
    return count


def _blank(parameters: str) -> str:
    return json.dumps(dict.fromkeys(json.loads(parameters), ""))


def _rename_members(db: Any, batch: int, members: tuple[int, ...], query: str) -> None:
    rows = db.execute(f"{query} ORDER BY number", (json.dumps(members),))
    numbers = [number for (number,) in rows]
    # A message's id contains the phone number.
    db.execute(
        "UPDATE batch SET members = ?, first = ?, last = ?, message_id = NULL WHERE id = ?",
        (pack(numbers), *((numbers[0], numbers[-1]) if numbers else (0, 0)), batch),
    )
