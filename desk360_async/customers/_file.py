"""The customers' SQLite file: when each person last wrote, and who opted out. One operation, one transaction.

A person is stored once, by the number that is equal for all spellings of the phone (ruling 19a). A forgotten
person who opted out is stored by a keyed hash of that number.
"""

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from desk360_async._phones import person_of
from desk360_async._redaction import show_half_made
from desk360_async._sqlite import SQLiteFile, reads, writes
from desk360_async.customers._words import Wish

APPLICATION_ID = 0x44333643  # "D36C"
_SCHEMA = """
CREATE TABLE secret (value BLOB NOT NULL);
-- The number grows with each opt-out and opt-in.
CREATE TABLE revision (number INTEGER NOT NULL);
CREATE TABLE customer (
    person TEXT PRIMARY KEY, -- digits, or of a forgotten person a keyed hash
    phone TEXT,              -- as it came last, E.164; NULL once forgotten
    heard REAL,              -- the last message, seconds since the epoch
    opted_out REAL,          -- since when, seconds since the epoch; NULL if not
    reason TEXT NOT NULL DEFAULT '',
    wished REAL NOT NULL DEFAULT 0, -- earlier messages no longer change the opt-out
    out_id TEXT,             -- the last message that opted out, so that its repeat is recognised
    in_id TEXT               -- the last message that opted in
) WITHOUT ROWID;
CREATE INDEX customer_opted_out ON customer (person) WHERE opted_out IS NOT NULL;
"""
_SELECT = "SELECT person, phone, heard, opted_out, reason, wished, out_id, in_id FROM customer "


class Row(NamedTuple):
    """One stored person."""

    person: str
    phone: str | None = None
    heard: float | None = None
    opted_out: float | None = None
    reason: str = ""
    wished: float = 0.0
    out_id: str | None = None
    in_id: str | None = None


class Note(NamedTuple):
    """The facts that one message brings: who wrote, when (seconds since the epoch), and the wish."""

    phone: str
    at: float
    wish: Wish | None
    id: str


def noted(row: Row, note: Note) -> Row:
    """Return the row after a message. A repeat and a late arrival don't replace newer values.

    WhatsApp's times are whole seconds: of two wishes in one second, the one that arrives later counts.
    """
    heard = note.at if row.heard is None else max(row.heard, note.at)
    row = row._replace(heard=heard, phone=note.phone if heard == note.at else row.phone)
    known = row.out_id if note.wish == "opt_out" else row.in_id
    if note.wish is None or int(note.at) < int(row.wished) or (note.id and note.id == known):
        return row
    row = row._replace(wished=note.at)
    if note.wish == "opt_in":
        return row._replace(opted_out=None, reason="", in_id=note.id)
    since = note.at if row.opted_out is None else row.opted_out
    return row._replace(opted_out=since, reason=row.reason or "message", out_id=note.id)


class OptOuts:
    """The people who had opted out at one moment: `phone in opt_outs`, in any spelling.

    Args:
        numbers: person → since when, seconds since the epoch.
        hashes: of forgotten people, keyed hash → since when.
        secret: the hashes' key.
    """

    def __init__(self, numbers: dict[str, float], hashes: dict[str, float], secret: bytes) -> None:
        self._numbers = numbers
        self._hashes = hashes
        self._secret = secret

    def __len__(self) -> int:
        return len(self._numbers) + len(self._hashes)

    def __contains__(self, phone: object) -> bool:
        return isinstance(phone, str | int) and self.since(phone) is not None

    def since(self, phone: str | int) -> datetime | None:
        """Return when the person opted out, an aware datetime; None if not.

        Args:
            phone: the phone with its country code, as text or as digits.
        """
        if not self._numbers and not self._hashes:
            return None
        person = str(person_of(phone))
        seconds = self._numbers.get(person)
        if seconds is None and self._hashes:
            seconds = self._hashes.get(hash_of(person, self._secret))
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def hash_of(person: str, secret: bytes) -> str:
    """Return the keyed hash of a person's number, `#` and 32 hexadecimal digits."""
    return "#" + hmac.new(secret, person.encode(), hashlib.sha256).hexdigest()[:32]


class CustomersFile:
    """The people in one SQLite file, shared by the processes of a host.

    Args:
        path: the file, or ":memory:".
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = SQLiteFile(path, name="the customers' file", memory=True, prepare=_prepare)
        self._known: tuple[int, OptOuts] | None = None

    def __repr__(self) -> str:
        return str(self.file.path)

    def close(self) -> None:
        """Close the file; people in memory are gone then."""
        self.file.close()
        if self.file.in_memory:
            self._known = None

    @reads
    def get(self, db: sqlite3.Connection, phone: str) -> Row:
        """Return the person's row; of an unknown person an empty one."""
        return _row(db, phone)

    @reads
    def opt_outs(self, db: sqlite3.Connection) -> OptOuts:
        """Return the people who opted out; they are read again only after a change."""
        (revision,) = db.execute("SELECT number FROM revision").fetchone()
        if self._known is None or self._known[0] != revision:
            found = db.execute("SELECT person, opted_out FROM customer WHERE opted_out IS NOT NULL")
            everyone: dict[str, float] = dict(found.fetchall())
            hashes = {person: since for person, since in everyone.items() if person.startswith("#")}
            numbers = {person: since for person, since in everyone.items() if person not in hashes}
            self._known = revision, OptOuts(numbers, hashes, _secret(db))
        return self._known[1]

    @writes
    def note(self, db: sqlite3.Connection, calls: Sequence[Sequence[Note]]) -> list[tuple[int, list[int]]]:
        """Store the messages of several calls; return of each call the news, and the places of opt-outs."""
        results: list[tuple[int, list[int]]] = []
        for notes in calls:
            news, opt_outs = 0, list[int]()
            for place, note in enumerate(notes):
                before = _row(db, note.phone)
                after = noted(before, note)
                if after != before:
                    news += 1
                    _store(db, before, after)
                if before.opted_out is None and after.opted_out is not None:
                    opt_outs.append(place)
            results.append((news, opt_outs))
        return results

    @writes
    def opt_out(self, db: sqlite3.Connection, phone: str, reason: str, now: float) -> None:
        """Store an opt-out; an earlier one keeps its time. Messages from before `now` don't undo it."""
        row = _row(db, phone)
        since = now if row.opted_out is None else row.opted_out
        changed = row._replace(
            phone=phone, opted_out=since, reason=reason or row.reason, wished=max(row.wished, now)
        )
        _store(db, row, changed)

    @writes
    def opt_in(self, db: sqlite3.Connection, phone: str) -> None:
        """Undo an opt-out. A later message opts out again, and a repeat of the last one doesn't."""
        row = _row(db, phone)
        if row.opted_out is not None:
            _store(db, row, row._replace(phone=phone, opted_out=None, reason=""))

    @writes
    def forget(self, db: sqlite3.Connection, phone: str) -> int:
        """Remove a person's number, times and reason, and keep an opt-out by its hash; return 1 or 0."""
        row = _row(db, phone)
        if row.phone is None:
            return 0
        db.execute("DELETE FROM customer WHERE person = ?", (row.person,))
        if row.opted_out is not None:
            kept = Row(hash_of(row.person, _secret(db)), opted_out=row.opted_out)
            _insert(db, kept)
            _revise(db)
        return 1

    @writes
    def merge(self, db: sqlite3.Connection, rows: Iterable[Row]) -> int:
        """Add the people of a list: the later message and the earlier opt-out are kept; return how many."""
        number = 0
        for number, given in enumerate(rows, 1):  # noqa: B007  # the last number is the count
            assert given.phone is not None
            row = _row(db, given.phone)
            times = [at for at in (row.heard, given.heard) if at is not None]
            since = [at for at in (row.opted_out, given.opted_out) if at is not None]
            merged = row._replace(
                phone=given.phone,
                heard=max(times, default=None),
                opted_out=min(since, default=None),
                reason=row.reason or given.reason,
                wished=max(row.wished, given.opted_out or 0.0),
            )
            _store(db, row, merged)
        return number

    @reads
    def people(self, db: sqlite3.Connection) -> list[Row]:
        """Return all people whose number is stored, by number."""
        found = db.execute(_SELECT + "WHERE phone IS NOT NULL ORDER BY person")
        return [Row(*row) for row in found]


def _row(db: sqlite3.Connection, phone: str) -> Row:
    """Return a person's row under the clear number, also if it is stored by its hash."""
    person = str(person_of(phone))
    hashed = hash_of(person, _secret(db))
    found = db.execute(_SELECT + "WHERE person IN (?, ?)", (person, hashed)).fetchone()
    return Row(*found)._replace(person=person) if found else Row(person)


def _store(db: sqlite3.Connection, before: Row, after: Row) -> None:
    if before.phone is None:  # new, or back after it was forgotten
        db.execute("DELETE FROM customer WHERE person = ?", (hash_of(before.person, _secret(db)),))
    _insert(db, after)
    if before.opted_out != after.opted_out:
        _revise(db)


def _insert(db: sqlite3.Connection, row: Row) -> None:
    db.execute("INSERT OR REPLACE INTO customer VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)  # a Row is in order


def _revise(db: sqlite3.Connection) -> None:
    db.execute("UPDATE revision SET number = number + 1")


def _secret(db: sqlite3.Connection) -> bytes:
    (value,) = db.execute("SELECT value FROM secret").fetchone()
    return bytes(value)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA secure_delete = ON")  # a forgotten number must not stay in free pages
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID:  # another process may have been faster
            if tables:
                raise sqlite3.DatabaseError("it is another program's file, not one of customers")
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute("INSERT INTO secret (value) VALUES (?)", (secrets.token_bytes(32),))
            db.execute("INSERT INTO revision (number) VALUES (0)")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


show_half_made(globals())
