"""The customers' store: when each person last wrote, and who opted out. Each operation is one transaction.

The store is a SQLite file, which processes of one host share, or PostgreSQL tables, which hosts share. A
person is stored once, under one number: all spellings of the phone give the same number (ruling 19a). A
forgotten person who opted out is stored under a keyed hash of that number.
"""

import hashlib
import hmac
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from desk360_async import _threads
from desk360_async._phones import person_of
from desk360_async._postgres import Database, Tables
from desk360_async._redaction import show_half_made
from desk360_async._sqlite import SQLiteFile, Transactions, make_tables, reads, secret_of, writes
from desk360_async.customers._words import Wish

APPLICATION_ID = 0x44333643  # "D36C"
_SCHEMA = """
CREATE TABLE secret (value BLOB NOT NULL);
-- The number grows with each opt-out and opt-in.
CREATE TABLE customer_revision (number INTEGER NOT NULL);
INSERT INTO customer_revision (number) VALUES (0);
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
CREATE INDEX customer_opted_out ON customer (person) WHERE opted_out IS NOT NULL
"""
_SELECT = "SELECT person, phone, heard, opted_out, reason, wished, out_id, in_id FROM customer "
_WRITE = (
    "INSERT INTO customer (person, phone, heard, opted_out, reason, wished, out_id, in_id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person) DO UPDATE SET phone = excluded.phone, "
    "heard = excluded.heard, opted_out = excluded.opted_out, reason = excluded.reason, "
    "wished = excluded.wished, out_id = excluded.out_id, in_id = excluded.in_id"
)
_READ_AT_ONCE = 400  # people per query; every SQLite takes at least 999 parameters


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
    """Return the row after a message. A message that is repeated or comes late replaces no newer value.

    WhatsApp's times are whole seconds. If two wishes have the same second, the later arrival counts.
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
        numbers: person → time of the opt-out, seconds since the epoch.
        hashes: keyed hash of a forgotten person → time of the opt-out, seconds since the epoch.
        secret: the key of the hashes.
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
        """Return when the person opted out, as an aware datetime; None if the person didn't.

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


class Store:
    """The customers in one SQLite file or one database.

    Args:
        file: the SQLite file, or the tables of a database.
        place: the store's name in its `repr`.
        in_memory: whether the customers end with the process.
        lock: a function that takes the connection. It is called before people are read for a change: no other
            transaction changes people until this one ends.
    """

    def __init__(
        self, file: Transactions, place: str, *, in_memory: bool = False, lock: Callable[[Any], None]
    ) -> None:
        self.file = file
        self.in_memory = in_memory
        self._place = place
        self._lock = lock
        self._known: tuple[int, OptOuts] | None = None

    def __repr__(self) -> str:
        return self._place

    async def aclose(self) -> None:
        """Close the store; people in memory are gone then."""
        await _threads.run(self.file.close)
        if self.in_memory:
            self._known = None

    @reads
    def get(self, db: sqlite3.Connection, phone: str) -> Row:
        """Return the person's row; an unknown person has an empty row."""
        return _People(db, [phone])[phone]

    @reads
    def opt_outs(self, db: sqlite3.Connection) -> OptOuts:
        """Return the people who opted out; they are read again only after a change."""
        (revision,) = db.execute("SELECT number FROM customer_revision").fetchone()
        if self._known is None or self._known[0] != revision:
            found = db.execute("SELECT person, opted_out FROM customer WHERE opted_out IS NOT NULL")
            everyone: dict[str, float] = dict(found.fetchall())
            hashes = {person: since for person, since in everyone.items() if person.startswith("#")}
            numbers = {person: since for person, since in everyone.items() if person not in hashes}
            self._known = revision, OptOuts(numbers, hashes, secret_of(db) if hashes else b"")
        return self._known[1]

    @writes
    def note(self, db: sqlite3.Connection, calls: Sequence[Sequence[Note]]) -> list[tuple[int, list[int]]]:
        """Store the messages of several calls; return (changes, opt-outs) for each call.

        The changes are the number of messages that changed a row. The opt-outs are the positions of the
        messages that made a person opt out.
        """
        self._lock(db)
        people = _People(db, [note.phone for notes in calls for note in notes])
        results: list[tuple[int, list[int]]] = []
        for notes in calls:
            news, opt_outs = 0, list[int]()
            for place, note in enumerate(notes):
                before = people[note.phone]
                after = people[note.phone] = noted(before, note)
                news += after != before
                if before.opted_out is None and after.opted_out is not None:
                    opt_outs.append(place)
            results.append((news, opt_outs))
        people.save()
        return results

    @writes
    def opt_out(self, db: sqlite3.Connection, phone: str, reason: str, now: float) -> None:
        """Store an opt-out; an earlier one keeps its time. Messages from before `now` don't undo it."""
        self._lock(db)
        people = _People(db, [phone])
        row = people[phone]
        since = now if row.opted_out is None else row.opted_out
        people[phone] = row._replace(
            phone=phone, opted_out=since, reason=reason or row.reason, wished=max(row.wished, now)
        )
        people.save()

    @writes
    def opt_in(self, db: sqlite3.Connection, phone: str) -> None:
        """Undo an opt-out. A new message can opt out again; a repeat of the last opt-out message can't."""
        self._lock(db)
        people = _People(db, [phone])
        row = people[phone]
        if row.opted_out is not None:
            people[phone] = row._replace(phone=phone, opted_out=None, reason="")
            people.save()

    async def forget(self, phone: str) -> int:
        """Remove a person's number, times and reason; return 1, or 0 if no number was stored.

        An opt-out stays, under a hash.
        """
        number = await self._forget(phone)
        await self.file.scrub()
        return number

    @writes
    def _forget(self, db: sqlite3.Connection, phone: str) -> int:
        self._lock(db)
        row = _People(db, [phone])[phone]
        if row.phone is None:
            return 0
        db.execute("DELETE FROM customer WHERE person = ?", (row.person,))
        if row.opted_out is not None:
            db.execute(_WRITE, Row(hash_of(row.person, secret_of(db)), opted_out=row.opted_out))
            _revise(db)
        return 1

    @writes
    def merge(self, db: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Add the people of a list; return how many. The later message and the earlier opt-out are kept."""
        self._lock(db)
        people = _People(db, [str(row.phone) for row in rows])
        for given in rows:
            phone = str(given.phone)
            row = people[phone]
            times = [at for at in (row.heard, given.heard) if at is not None]
            since = [at for at in (row.opted_out, given.opted_out) if at is not None]
            people[phone] = row._replace(
                phone=phone,
                heard=max(times, default=None),
                opted_out=min(since, default=None),
                reason=row.reason or given.reason,
                wished=max(row.wished, given.opted_out or 0.0),
            )
        people.save()
        return len(rows)

    @reads
    def people(self, db: sqlite3.Connection) -> list[Row]:
        """Return all people whose number is stored, by number."""
        found = db.execute(_SELECT + "WHERE phone IS NOT NULL ORDER BY person")
        return [Row(*row) for row in found]


class _People:
    """The rows of some phones, read together and written together, each under its unhashed number.

    Args:
        db: the connection, in a transaction.
        phones: the phones.
    """

    def __init__(self, db: sqlite3.Connection, phones: Iterable[str]) -> None:
        self._db = db
        self._persons = {phone: str(person_of(phone)) for phone in phones}
        self._hashes: dict[str, str] = {}  # forgotten person → keyed hash
        self._before = {person: Row(person) for person in self._persons.values()}
        for found in self._found(sorted(self._before)):
            self._before[found.person] = found
        (hashed,) = db.execute(
            "SELECT EXISTS (SELECT 1 FROM customer WHERE person >= '#' AND person < '$')"
        ).fetchone()
        if hashed:
            secret = secret_of(db)
            names = {hash_of(p, secret): p for p, row in self._before.items() if row.phone is None}
            for found in self._found(sorted(names)):
                person = names[found.person]
                self._hashes[person] = found.person
                self._before[person] = found._replace(person=person)
        self._after = dict(self._before)

    def _found(self, persons: Sequence[str]) -> Iterable[Row]:
        for start in range(0, len(persons), _READ_AT_ONCE):
            chunk = persons[start : start + _READ_AT_ONCE]
            marks = ", ".join("?" * len(chunk))
            for row in self._db.execute(f"{_SELECT}WHERE person IN ({marks})", chunk):
                yield Row(*row)

    def __getitem__(self, phone: str) -> Row:
        return self._after[self._persons[phone]]

    def __setitem__(self, phone: str, row: Row) -> None:
        self._after[self._persons[phone]] = row

    def save(self) -> None:
        """Write the rows that changed."""
        changed = {person: row for person, row in self._after.items() if row != self._before[person]}
        back = [(self._hashes[person],) for person in changed if person in self._hashes]
        if back:
            self._db.executemany("DELETE FROM customer WHERE person = ?", back)
        self._db.executemany(_WRITE, list(changed.values()))  # a Row is in the columns' order
        if any(row.opted_out != self._before[person].opted_out for person, row in changed.items()):
            _revise(self._db)


def _revise(db: sqlite3.Connection) -> None:
    db.execute("UPDATE customer_revision SET number = number + 1")


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────


def open_file(path: str | os.PathLike[str]) -> Store:
    """Return a store in a SQLite file, or in memory; the processes of one host may share the file."""
    file = SQLiteFile(path, name="the customers' file", memory=True, prepare=_prepare)
    return Store(file, str(file.path), in_memory=file.in_memory, lock=lambda _: None)  # BEGIN IMMEDIATE locks


def open_database(dsn: str, schema: str) -> Store:
    """Return a store in PostgreSQL, which processes of several hosts may share."""
    tables = Tables(Database(dsn, schema=schema), name="the customers' store")
    return Store(tables, tables.database.name, lock=_lock_all)


def _lock_all(db: Any) -> None:
    # One lock serves all people: a row that isn't there can't be locked, and locks per person could collide.
    db.execute("SELECT number FROM customer_revision FOR UPDATE")


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA secure_delete = ON")  # a forgotten number must not stay in free pages
    make_tables(db, APPLICATION_ID, _SCHEMA, "one of customers")


show_half_made(globals())
