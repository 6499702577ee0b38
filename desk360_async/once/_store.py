"""The send log's records, in a SQLite file or in PostgreSQL: each operation is one durable transaction.

A send calls `claim` before it waits for a token, `intend` when it has the token, and `conclude` after the
answer. Only the owner of an attempt may call `intend` and `conclude`: both compare the attempt's number.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from desk360_async import _threads
from desk360_async._postgres import Database, Tables
from desk360_async._redaction import show_half_made
from desk360_async._sqlite import Presence, SQLiteFile, Transactions, make_tables, reads, secret_of, writes
from desk360_async.once._records import conflicts, later_status

APPLICATION_ID = 0x4433364F  # "D36O"
_SCHEMA = """
CREATE TABLE secret (value BLOB NOT NULL);
CREATE TABLE send (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    attempt TEXT NOT NULL,     -- the claim's number, which only its owner knows
    owner TEXT NOT NULL,       -- the process that has the claim, by its mark beside the file
    until REAL NOT NULL,       -- the lease's end, seconds since the epoch
    since REAL NOT NULL,       -- when the state began, seconds since the epoch
    attempts INTEGER NOT NULL, -- requests begun under this key
    fields TEXT NOT NULL,      -- keyed hashes of the message's fields, as JSON
    phone TEXT,                -- only with keep_phones
    reply TEXT,
    seen TEXT,
    resolved TEXT
);
CREATE INDEX send_ended ON send (since) WHERE state IN ('accepted', 'not_sent');
CREATE INDEX send_unknown ON send (key) WHERE state = 'unknown';
CREATE INDEX send_phone ON send (phone) WHERE phone IS NOT NULL AND state = 'unknown';
CREATE TABLE message (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL REFERENCES send (key) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX message_key ON message (key)
"""
# Each claim drops a few old records: the file stops growing, and no single claim waits for a large deletion.
_DROPPED_AT_ONCE = 50
_SELECT = (
    "SELECT key, state, attempt, owner, until, since, attempts, fields, reply, seen, resolved FROM send "
)


class Row(NamedTuple):
    """One stored send."""

    key: str
    state: str
    attempt: str
    owner: str
    until: float
    since: float
    attempts: int
    fields: dict[str, str]
    reply: dict[str, Any] | None
    seen: str | None
    resolved: str | None


class Claim(NamedTuple):
    """The answer to a claim.

    Attributes:
        row: the key's row; if `is_mine`, its `attempt` is the caller's.
        is_mine: whether the caller may send now.
        differing: the fields in which the stored message differs; empty if the messages are equal.
    """

    row: Row
    is_mine: bool
    differing: tuple[str, ...] = ()


class Owners(Protocol):
    """The processes that may own a claim."""

    @property
    def name(self) -> str:
        """Return this process's name among the owners."""
        ...

    def has_ended(self, owner: str, /) -> bool:
        """Return whether a process has certainly ended, even if its lease still runs."""
        ...

    def leave(self) -> None:
        """Remove this process's mark."""
        ...


class Leases:
    """Owners whose end only their leases show: processes of other hosts, or of a store in memory."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)

    def has_ended(self, owner: str) -> bool:
        """Return False: only the end of the lease shows that an owner has ended."""
        return False

    def leave(self) -> None:
        """Do nothing: there is no mark."""


class Store:
    """Sends by key, shared by all processes that have the file or the database.

    Args:
        file: the SQLite file, or the tables of a database.
        place: the store's name in a `repr`.
        owners: the processes that share the store.
        lock: called with the connection and a key before the key's record is judged. Until the transaction
            ends, no other transaction judges the record.
        keep: seconds for which ended sends are kept.
    """

    def __init__(
        self,
        file: Transactions,
        place: str,
        owners: Owners,
        *,
        lock: Callable[[Any, str], None],
        keep: float,
    ) -> None:
        self.file = file
        self._place = place
        self._owners = owners
        self._lock = lock
        self._keep = keep

    def __repr__(self) -> str:
        return self._place

    async def aclose(self) -> None:
        """Close the store and remove this process's mark; a store in memory is gone then."""
        await _threads.run(self.file.close)
        self._owners.leave()

    @writes
    def secret(self, db: sqlite3.Connection) -> bytes:
        """Return the secret of the hashes, which is kept in the store."""
        return secret_of(db)

    @reads
    def get(self, db: sqlite3.Connection, key: str) -> Row | None:
        """Return the key's row, or None."""
        return _row(db, key)

    @reads
    def unknown(self, db: sqlite3.Connection, after: str, most: int) -> list[Row]:
        """Return up to `most` unknown rows whose keys follow the key `after`, in the order of keys."""
        found = db.execute(
            _SELECT + "WHERE state = 'unknown' AND key > ? ORDER BY key LIMIT ?",
            (after, most),
        )
        return [_made(row) for row in found]

    async def claim(
        self, key: str, attempt: str, fields: Mapping[str, str], phone: str | None, now: float, until: float
    ) -> Claim:
        """Take the key for a send, or return the row that prevents the send.

        Args:
            key: the idempotency key.
            attempt: the claim's number, which no other claim has.
            fields: the hashes of the message's fields.
            phone: the phone to store, or None.
            now: seconds since the epoch.
            until: the end of the lease, seconds since the epoch.
        """
        # A power cut may lose a claim: its request has not begun. The sync of the intent makes the claim and
        # the intent durable, so a send under a key costs two syncs instead of three.
        return await self.file.write_unsynced(self._claim, key, attempt, fields, phone, now, until)

    def _claim(
        self,
        db: sqlite3.Connection,
        key: str,
        attempt: str,
        fields: Mapping[str, str],
        phone: str | None,
        now: float,
        until: float,
    ) -> Claim:
        self._lock(db, key)
        self._drop_old(db, now)
        self._expire(db, key, now)
        row = _row(db, key)
        if row is not None and row.state != "not_sent":
            return Claim(row, is_mine=False, differing=conflicts(row.fields, fields))
        attempts, said = (row.attempts, row.resolved) if row is not None else (0, None)
        stored = json.dumps(dict(fields))
        db.execute("DELETE FROM message WHERE key = ?", (key,))
        db.execute("DELETE FROM send WHERE key = ?", (key,))
        db.execute(
            "INSERT INTO send (key, state, attempt, owner, until, since, attempts, fields, phone, resolved) "
            "VALUES (?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, attempt, self._owners.name, until, now, attempts, stored, phone, said),
        )
        mine = _row(db, key)
        assert mine is not None
        return Claim(mine, is_mine=True)

    def _expire(self, db: sqlite3.Connection, key: str, now: float) -> None:
        """Free a claim, or make an intent unknown, if its owner has ended or its lease has run out."""
        row = _row(db, key)
        if row is None or row.state not in ("waiting", "in_flight"):
            return
        if row.until < now or self._owners.has_ended(row.owner):
            # A claim without an intent sent no request; after an intent the request may have gone out.
            state = "not_sent" if row.state == "waiting" else "unknown"
            db.execute("UPDATE send SET state = ? WHERE key = ?", (state, key))

    def _drop_old(self, db: sqlite3.Connection, now: float) -> None:
        old = db.execute(
            "SELECT key FROM send WHERE state IN ('accepted', 'not_sent') AND since < ? LIMIT ?",
            (now - self._keep, _DROPPED_AT_ONCE),
        ).fetchall()
        db.executemany("DELETE FROM send WHERE key = ?", old)

    @writes
    def renew(self, db: sqlite3.Connection, key: str, attempt: str, until: float) -> bool:
        """Move the end of a claim's lease; return whether the claim still stands."""
        found = db.execute(
            "UPDATE send SET until = CASE WHEN until < ? THEN ? ELSE until END "
            "WHERE key = ? AND attempt = ? AND state IN ('waiting', 'in_flight')",
            (until, until, key, attempt),
        )
        return found.rowcount == 1

    @writes
    def intend(
        self,
        db: sqlite3.Connection,
        key: str,
        attempt: str,
        ids: Mapping[str, str],
        now: float,
        until: float,
    ) -> bool:
        """Store that a request is about to begin; return False if the claim was lost meanwhile.

        Args:
            db: the connection.
            key: the idempotency key.
            attempt: the claim's number.
            ids: the hashes of the template's id and the language's id, where the ids are known now.
            now: seconds since the epoch.
            until: the end of the lease, seconds since the epoch.
        """
        self._lock(db, key)
        row = _row(db, key)
        if row is None or row.attempt != attempt or row.state not in ("waiting", "in_flight"):
            return False
        db.execute(
            "UPDATE send SET state = 'in_flight', since = ?, until = ?, attempts = attempts + 1, fields = ? "
            "WHERE key = ?",
            (now, until, json.dumps({**row.fields, **ids}), key),
        )
        return True

    @writes
    def conclude(
        self,
        db: sqlite3.Connection,
        key: str,
        attempt: str,
        state: str,
        reply: Mapping[str, Any] | None,
        ids: tuple[str, ...],
        now: float,
    ) -> bool:
        """Store a send's end; return False if the key has another attempt by now.

        An owner that was believed dead may still write its own result, unless a person resolved the send.
        """
        found = db.execute(
            "UPDATE send SET state = ?, since = ?, reply = ? WHERE key = ? AND attempt = ? "
            "AND state IN ('waiting', 'in_flight', 'unknown')",
            (state, now, json.dumps(reply) if reply is not None else None, key, attempt),
        )
        if found.rowcount == 1:
            _name(db, key, ids)
        return found.rowcount == 1

    @writes
    def resolve(self, db: sqlite3.Connection, key: str, how: str, message_id: str, now: float) -> Row | None:
        """Store a person's decision on an unknown send; return the row as it was before, or None."""
        self._lock(db, key)
        self._expire(db, key, now)
        row = _row(db, key)
        if row is not None and row.state in ("unknown", "not_sent"):
            state = "accepted" if how == "accepted" else "not_sent"
            reply = json.dumps({"message_id": message_id}) if how == "accepted" else None
            db.execute(
                # The attempt gets a new number, so the result of a late owner no longer counts.
                "UPDATE send SET state = ?, since = ?, reply = ?, resolved = ?, attempt = ? WHERE key = ?",
                (state, now, reply, how, secrets.token_hex(8), key),
            )
            _name(db, key, (message_id,) if message_id else ())
        return row

    @writes
    def note(
        self,
        db: sqlite3.Connection,
        statuses: tuple[tuple[str, str, str | None], ...],
        now: float,
        *,
        settle: bool,
    ) -> int:
        """Store statuses with the sends that they belong to; return the number of changed records.

        Args:
            db: the connection.
            statuses: message id, status and phone of each.
            now: seconds since the epoch.
            settle: whether a status turns an unknown send to the same phone into an accepted one.
        """
        return sum(self._note(db, *status, now, settle=settle) for status in statuses)

    def _note(
        self,
        db: sqlite3.Connection,
        message_id: str,
        status: str,
        phone: str | None,
        now: float,
        *,
        settle: bool,
    ) -> bool:
        named = db.execute("SELECT key FROM message WHERE id = ?", (message_id,)).fetchone()
        found = named or (phone and self._nameless(db, phone))
        if found:
            self._lock(db, found[0])
        row = _row(db, found[0]) if found else None
        kept = later_status(row.seen, status) if row is not None else None
        if row is None or kept is None:
            return False
        db.execute("UPDATE send SET seen = ? WHERE key = ?", (kept, row.key))
        if settle and row.state == "unknown":
            reply = json.dumps({"message_id": message_id})
            db.execute(
                "UPDATE send SET state = 'accepted', since = ?, reply = ? WHERE key = ?",
                (now, reply, row.key),
            )
            _name(db, row.key, (message_id,))
        return True

    @staticmethod
    def _nameless(db: sqlite3.Connection, phone: str) -> tuple[str] | None:
        # Only if exactly one send fits. Of two sends to one phone, the status doesn't show which one arrived.
        found: list[tuple[str]] = db.execute(
            "SELECT key FROM send WHERE phone = ? AND state = 'unknown' LIMIT 2", (phone,)
        ).fetchall()
        return found[0] if len(found) == 1 else None

    @writes
    def forget(self, db: sqlite3.Connection, phone: str) -> int:
        """Remove a phone from all records; return the number of those records. Keys and outcomes stay."""
        return db.execute("UPDATE send SET phone = NULL WHERE phone = ?", (phone,)).rowcount


def _name(db: sqlite3.Connection, key: str, ids: tuple[str, ...]) -> None:
    db.executemany(
        "INSERT INTO message (id, key) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET key = excluded.key",
        [(name, key) for name in ids],
    )


def _row(db: sqlite3.Connection, key: str) -> Row | None:
    found = db.execute(_SELECT + "WHERE key = ?", (key,)).fetchone()
    return _made(found) if found else None


def _made(row: tuple[Any, ...]) -> Row:
    raw = Row(*row)
    reply = raw.reply
    return raw._replace(
        fields=json.loads(row[Row._fields.index("fields")]),
        reply=json.loads(row[Row._fields.index("reply")]) if reply is not None else None,
    )


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────


def open_file(path: str | os.PathLike[str], *, keep: float) -> Store:
    """Return a store in a SQLite file, or in memory; the processes of one host may share the file."""
    file = SQLiteFile(path, name="the send log", memory=True, prepare=_prepare)
    owners = Leases() if file.in_memory else Presence(file.path)
    return Store(file, str(file.path), owners, lock=lambda _, __: None, keep=keep)  # BEGIN IMMEDIATE locks


def open_database(dsn: str, *, keep: float, schema: str) -> Store:
    """Return a store in PostgreSQL, which processes of several hosts may share."""
    tables = Tables(Database(dsn, schema=schema), name="the send log")
    return Store(tables, tables.database.name, Leases(), lock=_lock_key, keep=keep)


def _lock_key(db: Any, key: str) -> None:
    # A lock on the row is not enough: the row may not exist yet. This lock ends with the transaction.
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (key,))


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA foreign_keys = ON")
    make_tables(db, APPLICATION_ID, _SCHEMA, "a send log")


show_half_made(globals())
