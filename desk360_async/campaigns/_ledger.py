"""The ledger of one campaign: each method is one transaction.

`_run` keeps the order that makes a send safe: a token, the intent, the POST, the result. A store in another
database overrides these methods.
"""

import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Awaitable, Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
from attrs import asdict, fields

from desk360_async import RateLimitStatus
from desk360_async._phones import spellings_of
from desk360_async._sqlite import Transactions, reads, writes
from desk360_async._tables import Block
from desk360_async.campaigns import _batches, _report
from desk360_async.campaigns._batches import Cut
from desk360_async.campaigns._hours import Hours
from desk360_async.campaigns._recipients import Intake
from desk360_async.campaigns._storage import STAGING, Begun, LedgerFile, larger_cache
from desk360_async.campaigns._values import (
    Batch,
    CampaignError,
    Counts,
    Decision,
    LedgerError,
    News,
    Plan,
    Report,
    Resolvable,
    Result,
    Scope,
    Settings,
    State,
    holds,
    unpack,
)

# The wall clock, for times that outlive the process.
now = time.time

_quoted = json.encoder.encode_basestring

# The statuses of WhatsApp that a campaign stores.
STATUSES = frozenset({"sent", "delivered", "read", "failed", "deleted"})

EXPIRED = "expired"  # the action that `expire` records; such a campaign is not loaded again

Status = tuple[str, str | None, str]  # message id, phone, status
Asked = tuple[str, str | None]  # message id, phone
Place = tuple[int | None, str]  # the phone in the campaign's spelling, and the table; None and "" if unknown
Row = tuple[str, int | str, str]  # table, phone or message id, status

# Phones of one look-up: each may bring the members of another batch into memory, 8 KB.
_AT_ONCE = 500
_INTO = {
    "delivery": "INSERT INTO delivery VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    "early": "INSERT INTO early VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
}


class Ledger:
    """One campaign's part of a ledger's file.

    Args:
        file: the file, open.
        name: the campaign's.
    """

    # The rows of a list that is one parameter of a statement, as `_listed` makes it.
    _TEXTS = _NUMBERS = "json_each(?)"

    def __init__(self, file: Transactions, name: str) -> None:
        self._file = file
        self._name = name
        self._last_set = 0
        self.id = 0

    @property
    def file(self) -> Transactions:
        """The file, or the tables, that the methods use."""
        return self._file

    @property
    def _own(self) -> LedgerFile:
        assert isinstance(self.file, LedgerFile)  # the ledger in tables overrides the methods that ask for it
        return self.file

    # ── the campaign ───────────────────────────────────────────────────────────────────────────────────

    @reads
    def settings(self, db: sqlite3.Connection) -> Settings | None:
        """Return the settings that are pinned under the campaign's name; None if it was never loaded."""
        row = db.execute("SELECT id, settings FROM campaign WHERE name = ?", (self._name,)).fetchone()
        if row is None:
            return None
        self.id = row[0]
        return unpinned(self._name, row[1])

    @reads
    def names(self, db: sqlite3.Connection) -> tuple[str, ...]:
        """Return the names of the campaigns in this file."""
        return tuple(name for (name,) in db.execute("SELECT name FROM campaign ORDER BY id"))

    # ── loading ────────────────────────────────────────────────────────────────────────────────────────

    @writes
    def intend_look_up(self, db: sqlite3.Connection) -> int:
        """Record that the template is about to be looked up, which costs a token; return its number."""
        # No campaign has the number 0: the look-up's campaign isn't known yet.
        row = db.execute("INSERT INTO request (campaign, started) VALUES (0, ?) RETURNING id", (now(),))
        return int(row.fetchone()[0])

    @writes
    def conclude_look_up(self, db: sqlite3.Connection, request: int, number: int) -> None:
        """Record the number of requests that a look-up took, which is its number of pages."""
        at = now()
        db.execute("DELETE FROM request WHERE id = ?", (request,))
        # New rows get ids from `request` on, since SQLite assigns max(id) + 1.
        db.executemany(
            "INSERT INTO request (campaign, started, ended, outcome) VALUES (0, ?, ?, 'read')",
            [(at, at)] * number,
        )

    async def begin_load(self, settings: Settings) -> None:
        """Give the campaign its number, with no rows staged; `finish_load` pins the settings.

        Raises:
            CampaignError: if other settings are pinned (it names the first that differs), or the people of
                the campaign are expired.
        """
        before = await self.settings()
        if before is not None:
            compare(before, settings)
            await self._require_unexpired()
        await self._begin_load()

    @reads
    def _require_unexpired(self, db: sqlite3.Connection) -> None:
        self._check_unexpired(db)

    def _check_unexpired(self, db: sqlite3.Connection) -> None:
        found = db.execute(
            "SELECT 1 FROM resolution WHERE campaign = ? AND action = ?", (self.id, EXPIRED)
        ).fetchone()
        if found:
            raise CampaignError(
                f"the campaign {self._name!r} is expired: its numbers were removed, so people who already "
                "have the message aren't recognised. Load the list under another name"
            )

    @writes
    def _begin_load(self, db: sqlite3.Connection) -> None:
        if not self.id:
            (last,) = db.execute("SELECT max(id) FROM campaign").fetchone()
            self.id = (last or 0) + 1
            # A failed first load may have left sets of parameters.
            db.execute(
                "DELETE FROM parameter_set WHERE id IN "
                "(SELECT parameter_set FROM set_digest WHERE campaign = ?)",
                (self.id,),
            )
            db.execute("DELETE FROM set_digest WHERE campaign = ?", (self.id,))
        for table in STAGING.split(";"):
            db.execute(table)
        _clear(db)
        (self._last_set,) = db.execute("SELECT coalesce(max(id), 0) FROM parameter_set").fetchone()

    @writes
    def stage(self, db: sqlite3.Connection, blocks: Iterable[Block], intake: Intake) -> int:
        """Judge and stage rows; return their number."""
        first, texts = self._last_set + 1, list[str]()

        def number(sets: Sequence[tuple[str, ...]]) -> Sequence[int]:
            texts.extend(spell(intake.variables, sets))
            end = first + len(texts)
            return range(end - len(sets), end)

        staged, skipped = intake.judge(blocks, number)
        self._last_set += len(texts)
        sets = (
            (n, blake2b(text.encode(), digest_size=16).digest(), text) for n, text in enumerate(texts, first)
        )
        _batches.stage(db, staged, sets)
        db.executemany("INSERT INTO left_out VALUES (?, ?, ?)", skipped)
        return len(staged) + len(skipped)

    @writes
    def finish_load(
        self,
        db: sqlite3.Connection,
        settings: Settings,
        look_up: int,
        cut: Cut,
        warnings: Sequence[str] = (),
    ) -> None:
        """Pin the settings, take in the staged recipients, and cut those with a new phone into batches.

        The requests from number `look_up` on read the template; they become this campaign's. The warnings
        replace those of an earlier input.
        """
        self._pin(db, settings)
        db.execute(
            "UPDATE request SET campaign = ? WHERE campaign = 0 AND outcome = 'read' AND id >= ?",
            (self.id, look_up),
        )
        (load,) = db.execute(
            "UPDATE campaign SET loads = loads + 1 WHERE id = ? RETURNING loads", (self.id,)
        ).fetchone()
        self._take_in(db, load, cut)
        db.execute("DELETE FROM doubt WHERE campaign = ?", (self.id,))
        rows = ((self.id, position, text) for position, text in enumerate(warnings))
        db.executemany("INSERT INTO doubt VALUES (?, ?, ?)", rows)

    def _take_in(self, db: sqlite3.Connection, load: int, cut: Cut) -> None:
        with larger_cache(db):
            _batches.take_in(db, self.id, load, cut, _batches.prepare_file)

    def _pin(self, db: sqlite3.Connection, settings: Settings) -> None:
        db.execute(
            "INSERT INTO campaign (id, name, settings, created) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET settings = excluded.settings",
            (self.id, settings.name, pinned(settings), now()),
        )

    # ── running ────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self, reason: str) -> int:
        """Turn each intent without a result into unknown; return the number of recipients."""
        # Shared, so that it comes after the intents of cancelled calls.
        return await self._own.share(self._recover_in, reason)

    def _recover_in(self, db: sqlite3.Connection, reason: str) -> int:
        left = db.execute(
            "UPDATE batch SET state = 'unknown', reason = ? WHERE campaign = ? AND state = 'intent' "
            "RETURNING size - (SELECT count(*) FROM exception WHERE exception.batch = batch.id)",
            (reason, self.id),
        ).fetchall()
        if left:
            db.execute(
                "UPDATE request SET outcome = 'unknown' WHERE campaign = ? AND outcome IS NULL", (self.id,)
            )
        return sum(size for (size,) in left)

    def claim(self, after: int, upto: int, most: int) -> Awaitable[list[Batch]]:
        """Return the next pending batches, by their number. A file has one owner, so the owner gets all."""
        return self.pending(after, upto)

    async def is_over(self, *, busy: bool) -> bool:
        """Return True: no other run has the file, so no batch comes back later."""
        return True

    @reads
    def beat(self, db: sqlite3.Connection) -> News | None:
        """Return None: a file has no other runs whose decisions count."""
        return None

    async def part(self) -> None:
        """Remove this run from the campaign's runs. No effect: a file has one run at most."""

    def hurry(self, seconds: float) -> None:
        """Limit the wait for a lost database. No effect: a file needs no wait."""

    def cut(self) -> None:
        """End the statements that a database doesn't answer. No effect: a file answers."""

    @reads
    def announce(self, db: sqlite3.Connection, end: str, reason: str) -> None:
        """Stop the other runs. No effect: a file has no other runs."""

    @reads
    def has_accepted(self, db: sqlite3.Connection) -> bool:
        """Return False: a file has no other run with an accepted message."""
        return False

    @reads
    def pending(self, db: sqlite3.Connection, after: int, upto: int, limit: int = 100) -> list[Batch]:
        """Return the next pending batches, by their number.

        Raises:
            LedgerError: if the members of a batch don't fit it: a page of the file was overwritten.
        """
        rows = db.execute(
            "SELECT b.id, b.kind, b.members, s.parameters, s.id, b.size, b.first, b.last FROM batch b "
            "JOIN parameter_set s ON s.id = b.parameter_set "
            "WHERE b.campaign = ? AND b.state = 'pending' AND b.id > ? AND b.id <= ? ORDER BY b.id LIMIT ?",
            (self.id, after, upto, limit),
        )
        return batches_of(rows)

    async def excepted(self, batch: Batch) -> frozenset[int]:
        """Return the members that have a state of their own already."""
        return await self._own.share(self._excepted_in, batch)

    def _excepted_in(self, db: sqlite3.Connection, batch: Batch) -> frozenset[int]:
        rows = db.execute("SELECT phone FROM exception WHERE batch = ?", (batch.id,))
        return frozenset(phone for (phone,) in rows)

    @writes
    def skip(self, db: sqlite3.Connection, batch: Batch, phones: Sequence[int]) -> None:
        """Leave out members that opted out; a batch without other members is finished."""
        self._except(db, batch.id, phones, "skipped", "opted_out")
        _batches.skip_if_empty(db, batch)

    def _except(
        self, db: sqlite3.Connection, batch: int, phones: Iterable[int], state: State, reason: str
    ) -> None:
        rows = ((self.id, phone, batch, state, reason) for phone in phones)
        db.executemany("INSERT INTO exception VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)

    async def intend(self, batch: Batch) -> int | None:
        """Commit the intent to send a batch, note it in the owner file, and return the request's number.

        None means that another run has the batch now.

        Raises:
            LedgerError: if the batch isn't pending, the file was replaced, or the commit failed: then it must
                not be sent.
        """
        is_wanted = True

        def step(db: sqlite3.Connection) -> Begun | None:
            return self._intend_in(db, batch) if is_wanted else None

        try:
            begun = await self._own.share(step)
        except anyio.get_cancelled_exc_class():
            is_wanted = False  # an intent that still waits isn't written: without it the batch stays pending
            raise
        return None if begun is None else begun.request

    def _intend_in(self, db: sqlite3.Connection, batch: Batch) -> Begun:
        self._own.require_place()
        started = now()
        _move(db, batch.id, "pending", "intent")
        (request,) = db.execute(
            "INSERT INTO request (campaign, batch, started) VALUES (?, ?, ?) RETURNING id",
            (self.id, batch.id, started),
        ).fetchone()
        return Begun(int(request), started)

    async def conclude(self, batch: Batch, request: int | None, result: Result) -> list[Batch]:
        """Commit the result of an attempt; return the batches that it leaves to be sent.

        `request` is the number that `intend` returned, or None if the attempt ended before its intent.

        Raises:
            LedgerError: if the intent isn't this attempt's, or the commit failed.
        """
        return await self._own.share(self._conclude_in, batch, request, result)

    def _conclude_in(
        self, db: sqlite3.Connection, batch: Batch, request: int | None, result: Result
    ) -> list[Batch]:
        if request is not None:
            db.execute(
                "UPDATE request SET ended = ?, outcome = ? WHERE id = ?",
                (now(), "not_sent" if result.state == "pending" else result.state, request),
            )
        _move(db, batch.id, "pending" if request is None else "intent", result.state, result)
        if result.message_id is not None:
            self._settle(db, result.message_id, batch.members[0])
        if result.unlisted:
            self._except(db, batch.id, result.unlisted, result.unlisted_state, "not_listed")
        if result.halve:
            return _batches.halve(db, self.id, batch)
        return [batch] if result.state == "pending" else []

    def _settle(self, db: sqlite3.Connection, message_id: str, phone: int) -> None:
        """Take in the statuses of a message that arrived before its answer."""
        db.execute(
            "INSERT INTO delivery SELECT campaign, ?, status FROM early "
            "WHERE campaign = ? AND message_id = ? ON CONFLICT DO NOTHING",
            (phone, self.id, message_id),
        )
        db.execute("DELETE FROM early WHERE campaign = ? AND message_id = ?", (self.id, message_id))

    @reads
    def request_ages(self, db: sqlite3.Connection, period: float, timeout: float) -> list[float]:
        """Return the ages in seconds of the file's requests that were complete within the last period.

        A request without an end counts as complete at its timeout: the server may have counted it until then.
        """
        owner = self.file.owner if isinstance(self.file, LedgerFile) else None
        at = now() if owner is None else owner.now(now())
        rows: Iterator[tuple[float, float | None]] = db.execute(
            "SELECT started, ended FROM request WHERE started > ? ORDER BY id DESC LIMIT 20000",
            (at - period - timeout,),
        )
        ends = (min(at, started + timeout) if ended is None else ended for started, ended in rows)
        return [max(0.0, at - end) for end in ends if at - end < period]

    @reads
    def outlook(self, db: sqlite3.Connection) -> tuple[Counts, int, int]:
        """Return the counts, the number of requests that are still needed, and the last pending batch."""
        (last,) = db.execute(
            "SELECT max(id) FROM batch WHERE campaign = ? AND state = 'pending'", (self.id,)
        ).fetchone()
        needed = sum(number for _, number, _ in _report.requests_needed(db, self.id))
        return _report.counts(db, self.id), needed, last or 0

    @reads
    def statuses(self, db: sqlite3.Connection) -> tuple[int, int]:
        """Return the number of recipients that WhatsApp could not reach, and of those with any status."""
        (told,) = db.execute(
            "SELECT count(DISTINCT phone) FROM delivery WHERE campaign = ?", (self.id,)
        ).fetchone()
        return len(_report.failed(db, self.id)), int(told)

    # ── reports ────────────────────────────────────────────────────────────────────────────────────────

    @reads
    def counts(self, db: sqlite3.Connection) -> Counts:
        """Count recipients by state."""
        return _report.counts(db, self.id)

    @reads
    def plan(self, db: sqlite3.Connection, rate: RateLimitStatus, hours: Hours | None = None) -> Plan:
        """Return the plan for the pending recipients."""
        return _report.plan(db, self.id, rate, now(), hours)

    @reads
    def skipped(self, db: sqlite3.Connection) -> list[tuple[int, str, str]]:
        """Return (line, reason, phone as given) of the rows that were left out when loading."""
        return _report.skipped(db, self.id)

    @reads
    def report(self, db: sqlite3.Connection) -> Report:
        """Return the report, as of one moment."""
        return _report.report(db, self.id, self._name)

    async def export(self, path: Path) -> int:
        """Write the report recipient by recipient; return the number of lines.

        Raises:
            OSError: if the report can't be written.
        """
        written = await self._export(path)
        if isinstance(written, OSError):
            raise written
        return written

    @reads
    def _export(self, db: sqlite3.Connection, path: Path) -> int | OSError:
        try:
            with larger_cache(db):
                return _report.write(db, self.id, path, self._name)
        except OSError as error:
            return error  # the report's; raised here, it would count as an error of the ledger

    @reads
    def people(self, db: sqlite3.Connection, state: str) -> list[tuple[str, dict[str, str]]]:
        """Return (phone, parameters) of the recipients in a state, or with a failed delivery."""
        return _report.people(db, self.id, state)

    # ── resolutions ────────────────────────────────────────────────────────────────────────────────────

    @writes
    def resolve(self, db: sqlite3.Connection, decision: Decision, scope: Scope, cut: Cut) -> int:
        """Resolve the recipients in a scope; return their number.

        Raises:
            CampaignError: for "resend", if the people of the campaign are expired.
        """
        if decision == "resend":
            self._check_unexpired(db)
        return sum(self._resolve(db, decision, scope, state, cut) for state in scope.states(decision))

    def _resolve(
        self, db: sqlite3.Connection, decision: Decision, scope: Scope, state: Resolvable, cut: Cut
    ) -> int:
        found = list(self._found(db, scope, state))
        if not found:
            return 0
        (resolution,) = db.execute(
            "INSERT INTO resolution (campaign, at, action, scope, recipients) "
            "VALUES (?, ?, ?, ?, ?) RETURNING id",
            (self.id, now(), decision, f"{state}, {scope}", len(found)),
        ).fetchone()
        db.executemany(
            "INSERT INTO resolved VALUES (?, ?, ?, ?)", ((resolution, *member) for member in found)
        )
        if decision == "resend":
            _batches.put_back(db, self.id, found, cut)
            if state == "failed":  # the new message's statuses count from now on
                db.executemany(
                    "DELETE FROM delivery WHERE campaign = ? AND phone = ?", [(self.id, p) for p, *_ in found]
                )
        else:
            db.executemany(
                "INSERT INTO exception VALUES (?, ?, ?, ?, ?) ON CONFLICT (campaign, phone) DO UPDATE SET "
                "batch = excluded.batch, state = excluded.state, reason = excluded.reason",
                ((self.id, phone, batch, decision, "resolved") for phone, batch, _ in found),
            )
        return len(found)

    def _found(
        self, db: sqlite3.Connection, scope: Scope, state: Resolvable
    ) -> Iterator[tuple[int, int, str]]:
        """Yield (phone, batch, reason) of the recipients of a state in a scope."""
        failed = _report.failed(db, self.id) if state == "failed" else None
        wanted = "accepted" if failed is not None else state
        rows = db.execute(
            "SELECT id, members, reason FROM batch "
            "WHERE campaign = ? AND state = ? AND (CAST(? AS BIGINT) IS NULL OR id = ?)",
            (self.id, wanted, scope.batch, scope.batch),
        ).fetchall()

        def meant(phone: int) -> bool:
            return (scope.phones is None or phone in scope.phones) and (failed is None or phone in failed)

        for batch, members, reason in rows:
            own = db.execute("SELECT phone FROM exception WHERE batch = ?", (batch,))
            excepted = {phone for (phone,) in own}
            for phone in unpack(members):
                if phone not in excepted and meant(phone):
                    yield phone, batch, reason or ""
        for phone, batch, reason in db.execute(
            "SELECT phone, batch, reason FROM exception "
            "WHERE campaign = ? AND state = ? AND (CAST(? AS BIGINT) IS NULL OR batch = ?) "
            "AND (reason <> 'resolved' OR ?)",
            (self.id, wanted, scope.batch, scope.batch, scope.overrides),
        ).fetchall():
            if meant(phone):
                yield phone, batch, reason

    # ── statuses ───────────────────────────────────────────────────────────────────────────────────────

    @writes
    def feed(self, db: sqlite3.Connection, calls: Iterable[Iterable[Status]]) -> list[int]:
        """Store the statuses of several calls; return the number of news for each call.

        Repeats and any order do no harm.
        """
        given = [list(statuses) for statuses in calls]
        places = self._places(db, {status[:2] for status in chain(*given)})
        rows: dict[Row, int] = {}  # in the order of arrival; a repeat counts for the first call
        for call, statuses in enumerate(given):
            for message_id, phone, status in statuses:
                number, table = places[message_id, phone]
                if table and number is not None:
                    rows.setdefault((table, message_id if table == "early" else number, status), call)
        news = [0] * len(given)
        for row in self._store(db, rows):
            news[rows[row]] += 1
        return news

    def _store(self, db: sqlite3.Connection, rows: Collection[Row]) -> list[Row]:
        """Store the statuses that are new, and return them."""
        # A file takes longer for a list as one parameter: SQLite reads its JSON.
        return [row for row in rows if db.execute(_INTO[row[0]], (self.id, *row[1:])).rowcount]

    def _places(self, db: sqlite3.Connection, asked: Collection[Asked]) -> dict[Asked, Place]:
        """Return the places of messages; most are found together, which takes half the time."""
        # SQLite's JSON ends a text at a NUL, and PostgreSQL refuses it.
        by_id = self._by_ids(db, {message_id for message_id, _ in asked if "\0" not in message_id})
        unknown = {phone for message_id, phone in asked if phone is not None and message_id not in by_id}
        given = {int(phone) for phone in unknown}
        tables = self._tables_for(db, given)
        others = {number for phone in unknown if int(phone) not in tables for number in spellings_of(phone)}
        tables |= self._tables_for(db, others - given)

        def place(message_id: str, phone: str | None) -> Place:
            if message_id in by_id:
                return by_id[message_id]
            if phone is not None and (table := tables.get(int(phone))):
                return int(phone), table
            if "\0" in message_id or (phone is not None and not tables.keys().isdisjoint(_numbers(phone))):
                return self._place(db, message_id, phone)
            return None, ""

        return {each: place(*each) for each in asked}

    def _by_ids(self, db: sqlite3.Connection, ids: Collection[str]) -> dict[str, Place]:
        """Return the places of the ids that the campaign knows, as `_by_id` finds them."""
        rows = db.execute(
            f"SELECT b.message_id, b.members FROM {self._TEXTS} AS value CROSS JOIN batch b "  # noqa: S608  # a constant
            "WHERE b.message_id = value.value AND b.campaign = ?",
            (self._listed(ids), self.id),
        )
        return {message_id: _place_of(members) for message_id, members in rows}

    def _tables_for(self, db: sqlite3.Connection, phones: Collection[int]) -> dict[int, str]:
        """Return recipient → table, as `_table_for` does; "" also where the nearest batch isn't theirs."""
        tables: dict[int, str] = {}
        ordered = sorted(phones)
        for at in range(0, len(ordered), _AT_ONCE):
            tables |= self._near(db, ordered[at : at + _AT_ONCE])
        return tables

    def _near(self, db: sqlite3.Connection, phones: Sequence[int]) -> dict[int, str]:
        near = db.execute(
            "SELECT r.phone, (SELECT b.id FROM batch b WHERE b.parameter_set = r.parameter_set "  # noqa: S608  # a constant
            "AND b.first <= r.phone AND b.last >= r.phone ORDER BY b.first DESC LIMIT 1) "
            f"FROM {self._NUMBERS} AS value CROSS JOIN recipient r "
            "WHERE r.campaign = ? AND r.phone = value.value",
            (self._listed(phones), self.id),
        ).fetchall()
        if not near:
            return {}
        phones_of = defaultdict[int, list[int]](list)
        for phone, batch in near:
            phones_of[batch].append(phone)
        rows = db.execute(
            "SELECT id, kind, state, members FROM batch "  # noqa: S608  # a constant
            f"WHERE id IN (SELECT value.value FROM {self._NUMBERS} AS value)",
            (self._listed(phones_of),),
        )
        tables = dict.fromkeys((phone for phone, _ in near), "")
        for batch, kind, state, members in rows:
            tables |= {phone: _table_of(kind, state) for phone in phones_of[batch] if holds(members, phone)}
        return tables

    def _listed(self, values: Iterable[object]) -> object:
        return json.dumps([*values])

    def _place(self, db: sqlite3.Connection, message_id: str, phone: str | None) -> Place:
        """Return the phone in the campaign's spelling, and the status's table; None and "" if unknown."""
        if place := self._by_id(db, message_id):
            return place
        return (None, "") if phone is None else self._by_phone(db, phone)

    def _by_id(self, db: sqlite3.Connection, message_id: str) -> Place | None:
        row = db.execute(
            "SELECT members FROM batch WHERE message_id = ? AND campaign = ?", (message_id, self.id)
        ).fetchone()
        return _place_of(row[0]) if row else None

    def _by_phone(self, db: sqlite3.Connection, phone: str) -> Place:
        """Return the recipient's phone in the campaign's spelling, and the table for the status."""
        for number in _numbers(phone):
            if table := self._table_for(db, number):
                return number, table
        return None, ""

    def _table_for(self, db: sqlite3.Connection, phone: int) -> str:
        """Return the table for a status of a phone with an unknown id; "" if the campaign has no such phone.

        The answer to a bulk request has no ids. The answer to a single one has an id; a status that comes
        before it is an early one.
        """
        query = (
            "SELECT kind, state, members FROM batch WHERE parameter_set = "
            "(SELECT parameter_set FROM recipient WHERE campaign = ? AND phone = ?) "
            "AND first <= ? AND last >= ? ORDER BY first DESC"
        )
        # The nearest batch before the phone holds it, unless the batches of several loads overlap. Reading
        # all batches before the phone took 400 µs a status in a list of a million.
        for most in (" LIMIT 1", ""):
            rows = db.execute(query + most, (self.id, phone, phone, phone)).fetchall()
            for kind, state, members in rows:
                if holds(members, phone):
                    return _table_of(kind, state)
            if not rows:
                break
        return ""


def _numbers(phone: str) -> Iterable[int]:
    """Return the spellings of a phone once each, the given one first."""
    return dict.fromkeys((int(phone), *spellings_of(phone)))


def _place_of(members: bytes) -> Place:
    """Return the place of a message by its batch's member; if it is sent again, the message has no place."""
    return (unpack(members)[0], "delivery") if members else (None, "")


def _table_of(kind: str, state: State) -> str:
    """Return the table for a status of a batch's member; "" if the batch has no use for one."""
    if kind == "bulk" and state in ("intent", "accepted", "unknown"):
        return "delivery"
    return "early" if kind == "single" and state == "intent" else ""


def pinned(settings: Settings) -> str:
    """Return settings as the ledger stores them, without the name."""
    values = {**asdict(settings), "mapping": dict(settings.mapping)}
    del values["name"]
    return json.dumps(values, ensure_ascii=False)


def unpinned(name: str, text: str) -> Settings:
    """Return the settings that `pinned` returned as text."""
    values: dict[str, Any] = json.loads(text)
    values["variables"] = tuple(values["variables"])
    return Settings(name=name, **values)


def compare(before: Settings, given: Settings) -> None:
    """Compare the settings of a load with the pinned ones.

    Raises:
        CampaignError: if one differs; it names the first.
    """
    if before == given:
        return
    names = [attribute.name for attribute in fields(Settings) if attribute.eq]
    name = next(n for n in names if getattr(before, n) != getattr(given, n))
    raise CampaignError(
        f"the campaign {before.name!r} of this ledger was loaded with {name}={getattr(before, name)!r}, "
        f"not {getattr(given, name)!r}; load the new campaign under another name, or in another ledger"
    )


def batches_of(rows: Iterable[Any]) -> list[Batch]:
    """Return the batches of rows of the table.

    Raises:
        LedgerError: if the members of a batch don't fit it.
    """
    found: list[Batch] = []
    for number, kind, packed, text, set_, size, first, last in rows:
        members = unpack(packed)
        ascending = sorted(set(members)) == list(members)
        if not (ascending and len(members) == size and first <= members[0] and members[-1] <= last):
            raise LedgerError(f"batch {number} of the ledger is damaged; restore the ledger")
        found.append(Batch(number, kind, members, json.loads(text), set_))
    return found


def spell(variables: Iterable[str], sets: Iterable[tuple[str, ...]]) -> list[str]:
    """Return sets of parameters as json.dumps writes them without spaces, in a fifth of the time."""
    form = "{" + ",".join([_quoted(name).replace("%", "%%") + ":%s" for name in variables]) + "}"
    return [form % tuple(map(_quoted, values)) for values in sets]


def _clear(db: sqlite3.Connection) -> None:
    for table in ("staged", "staged_set", "set_of", "left_out", "repeated"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608  # names of ours


def _move(
    db: sqlite3.Connection, batch: int, before: State, after: State, result: Result | None = None
) -> None:
    reason, message_id = (result.reason, result.message_id) if result else (None, None)
    moved = db.execute(
        "UPDATE batch SET state = ?, reason = ?, message_id = ? WHERE id = ? AND state = ?",
        (after, reason, message_id, batch, before),
    )
    if moved.rowcount != 1:
        # Only the owner of an intent may end it; anything else would hide a second send.
        raise LedgerError(f"batch {batch} is not {before}: another process has changed the ledger")
