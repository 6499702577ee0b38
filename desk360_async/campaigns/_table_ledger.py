"""The ledger in PostgreSQL: a campaign that several runs, on several hosts, send side by side.

A run claims batches, begins one by compare-and-set, and ends it by the number of its own request. A run that
was not seen for its lease is dead: its claims are free, and its intents become unknown. `_ledger` has the
operations that a file has too.
"""

import os
import secrets
import socket
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import blake2b
from typing import IO, Any, TypeVar

import anyio

from desk360_async import _threads
from desk360_async._observer import Notice, Observer, parse_observers
from desk360_async._phones import person_of
from desk360_async._postgres import Database, Session, Tables, is_busy, is_lost
from desk360_async._sqlite import reads, writes
from desk360_async._tables import Block
from desk360_async.campaigns import _batches, _ledger, _report
from desk360_async.campaigns._batches import Cut
from desk360_async.campaigns._ledger import Ledger, Place, Row, Status
from desk360_async.campaigns._recipients import Intake
from desk360_async.campaigns._values import (
    Batch,
    CampaignError,
    Counts,
    Decision,
    LedgerError,
    News,
    Result,
    Scope,
    Settings,
)

T = TypeVar("T")

BUSY = 30.0  # seconds that an operation waits for another one's lock
GRACE = 30.0  # seconds from an attempt's timeout until its intent becomes unknown, in any run
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries to write a result
# The index of free batches has the claim's order. With `campaign = ?` the primary key has it too, and a claim
# read all batches that had ended: 110 ms after 38,000 of 400,000, instead of 1.3 ms.
_CLAIM = """
WITH {bounds}, free AS (
    SELECT b.id FROM {schema}.batch b, bounds WHERE b.campaign BETWEEN ? AND ? AND b.state = 'pending'
    AND b.worker IS NULL AND EXISTS (SELECT 1 FROM {schema}.worker WHERE run = ?)
    ORDER BY b.campaign, b.id LIMIT {most} FOR UPDATE OF b SKIP LOCKED
){awake}
UPDATE {schema}.batch b SET worker = ?, request = ? FROM free, {schema}.parameter_set s
WHERE b.id = free.id AND s.id = b.parameter_set
RETURNING b.id, b.kind, b.members, s.parameters, s.id, b.size, b.first, b.last
"""
# Only a run that waits needs it.
_AWAKE = """, awake AS (
    UPDATE {schema}.worker SET waiting = false FROM bounds WHERE run = ? AND EXISTS (SELECT 1 FROM free)
)"""
# Frees the batches of claims whose answers were lost. Their numbers separate them from this run's others.
_UNCLAIM = """
WITH {bounds} UPDATE {schema}.batch b SET worker = NULL, request = NULL FROM bounds
WHERE b.worker = ? AND b.request = ANY(?) AND b.state = 'pending' RETURNING b.id
"""
# Frees the claims of dead runs. Their intents, and any run's intents that are too old, become unknown.
_SWEEP = """
WITH {bounds}, dead AS (
    DELETE FROM {schema}.worker w USING bounds WHERE w.campaign = ?
    AND w.seen < clock_timestamp() - make_interval(secs => w.lease) RETURNING w.run
), living AS (
    SELECT run FROM {schema}.worker WHERE run NOT IN (SELECT run FROM dead)
), lost AS (
    UPDATE {schema}.batch b SET state = 'unknown', reason = 'worker_lost' FROM bounds
    WHERE b.campaign = ? AND b.state = 'intent' AND (b.until < clock_timestamp()
    OR NOT EXISTS (SELECT 1 FROM living w WHERE w.run = b.worker)) RETURNING b.request
), ended AS (
    UPDATE {schema}.request r SET outcome = 'unknown' FROM lost WHERE r.number = lost.request
)
UPDATE {schema}.batch b SET worker = NULL FROM bounds
WHERE b.campaign = ? AND b.state = 'pending' AND b.worker IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM living w WHERE w.run = b.worker) RETURNING b.id
"""
# A waiting run holds only batches that were refused without a reason.
_IS_OVER = """
WITH {bounds}, waits AS (
    UPDATE {schema}.worker w SET waiting = true FROM bounds WHERE w.run = ? AND NOT w.waiting
)
SELECT NOT EXISTS (
    SELECT 1 FROM {schema}.batch b LEFT JOIN {schema}.worker w ON w.run = b.worker
    WHERE b.campaign = ? AND (b.state = 'intent'
    OR b.state = 'pending' AND b.worker IS DISTINCT FROM ? AND w.waiting IS NOT TRUE)
)
"""
_INTEND = """
WITH {bounds}, moved AS (
    UPDATE {schema}.batch b SET state = 'intent', request = ?,
    until = clock_timestamp() + make_interval(secs => ?) FROM bounds
    WHERE b.id = ? AND b.state = 'pending' AND b.worker = ? AND EXISTS (SELECT 1 FROM {schema}.worker
    WHERE run = ? AND seen > clock_timestamp() - make_interval(secs => lease))
    AND substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) = ? RETURNING b.id
)
INSERT INTO {schema}.request (campaign, batch, started, number)
SELECT CAST(? AS bigint), id, CAST(? AS float8), CAST(? AS bigint) FROM moved RETURNING number
"""
# Stores a result that leaves no batch to send. All its recipients have the same state.
_CONCLUDE = """
WITH {bounds}, moved AS (
    UPDATE {schema}.batch b SET state = ?, reason = ?, message_id = ? FROM bounds
    WHERE b.id = ? AND b.size = ? AND b.request = ?
    AND (b.state = 'intent' OR b.state = 'unknown' AND b.reason = 'worker_lost') RETURNING b.id
), ended AS (
    UPDATE {schema}.request r SET ended = ?, outcome = ? FROM moved WHERE r.number = ?
)
SELECT id FROM moved
"""
# Moves the statuses that came before the answer to their request. Such a batch has one recipient.
_SETTLE = """
WITH {bounds}, early AS (
    DELETE FROM {schema}.early e USING bounds, {schema}.batch b
    WHERE e.campaign = ? AND b.campaign = e.campaign AND b.message_id = e.message_id
    RETURNING e.campaign, b.first AS phone, e.status
)
INSERT INTO {schema}.delivery (campaign, phone, status)
SELECT campaign, phone, status FROM early ON CONFLICT DO NOTHING RETURNING phone
"""
_DELIVER = """
INSERT INTO delivery (campaign, phone, status)
SELECT CAST(? AS bigint), * FROM unnest(CAST(? AS bigint[]), CAST(? AS text[])) AS news
ON CONFLICT DO NOTHING RETURNING phone, status
"""
_SWEEP_HERE = _SWEEP.replace("{bounds}", "bounds AS (SELECT 1)").replace("{schema}.", "")  # in a transaction
_BY_CLAIM = (
    "UPDATE batch SET state = ?, reason = ?, message_id = ? "
    "WHERE id = ? AND size = ? AND worker = ? AND state = 'pending'"
)
_BY_REQUEST = (
    "UPDATE batch SET state = ?, reason = ?, message_id = ? WHERE id = ? AND size = ? AND request = ? "
    "AND (state = 'intent' OR state = 'unknown' AND reason = 'worker_lost')"
)
# Lines are unique as they are counted. A key would take half of the time in which `staged` is filled.
_STAGING = """
CREATE TEMP TABLE staged (line integer NOT NULL, phone bigint NOT NULL, parameter_set bigint NOT NULL)
ON COMMIT DROP;
CREATE TEMP TABLE left_out (line integer PRIMARY KEY, reason text NOT NULL, phone text NOT NULL)
ON COMMIT DROP;
CREATE TEMP TABLE staged_set (id bigint NOT NULL, parameters text NOT NULL) ON COMMIT DROP;
CREATE TEMP TABLE spelled (person bigint NOT NULL, line integer NOT NULL, phone bigint NOT NULL)
ON COMMIT DROP;
CREATE TEMP TABLE respelled (line integer PRIMARY KEY, given bigint NOT NULL, phone bigint NOT NULL)
ON COMMIT DROP
"""
_SPELLED = "(phone BETWEEN 520000000000 AND 559999999999 OR phone BETWEEN 5200000000000 AND 5599999999999)"


class TableLedger(Ledger):
    """One campaign's part of a ledger in PostgreSQL.

    Args:
        tables: the tables.
        name: the campaign's name.
    """

    _TEXTS, _NUMBERS = "unnest(CAST(? AS text[]))", "unnest(CAST(? AS bigint[]))"

    def __init__(self, tables: Tables, name: str) -> None:
        super().__init__(tables, name)
        self._tables = tables
        self._run: str | None = None
        self._run_name = ""
        self._is_waiting = False
        self._unanswered: set[int] = set()  # the numbers of claims
        self._latest: float | None = None  # the time after which no result is tried again
        self._hurried = anyio.Event()
        self._beating = anyio.Lock()
        self._lease = 30.0
        self._timeout = 120.0
        self._patience = 0.0  # until a run joins
        self._observer: Observer = parse_observers(None)
        self._timeline = ""
        self._spools: dict[str, IO[bytes]] = {}

    # ── loading ────────────────────────────────────────────────────────────────────────────────────────

    async def _begin_load(self) -> None:
        self._close_spools()
        # The rows wait in private files without a name, so that the load is one short transaction.
        for name in ("staged", "left_out", "staged_set"):
            self._spools[name] = tempfile.TemporaryFile(prefix="desk360-load-")  # noqa: SIM115  # closed below

    def _close_spools(self) -> None:
        while self._spools:
            self._spools.popitem()[1].close()

    async def stage(self, blocks: Iterable[Block], intake: Intake) -> int:
        """Judge and stage rows; return their number."""
        return await _threads.run(self._stage, blocks, intake)

    def _stage(self, blocks: Iterable[Block], intake: Intake) -> int:
        staged, skipped = intake.judge(blocks, partial(self._number, intake.variables))
        self._spools["staged"].writelines(map(b"%d\t%d\t%d\n".__mod__, staged))
        self._spools["left_out"].writelines(
            b"%d\t%b\t%b\n" % (line, _escape(reason), _escape(phone)) for line, reason, phone in skipped
        )
        return len(staged) + len(skipped)

    def _number(self, variables: Sequence[str], sets: Sequence[tuple[str, ...]]) -> list[int]:
        """Return the numbers of sets of parameters: each is a hash of the campaign's name and the set."""
        numbers: list[int] = []
        for text in _ledger.spell(variables, sets):
            digest = blake2b(f"{self._name}\0{text}".encode(), digest_size=8).digest()
            numbers.append(int.from_bytes(digest, "big") >> 1)
            self._spools["staged_set"].write(b"%d\t%b\n" % (numbers[-1], _escape(text)))
        return numbers

    def _pin(self, db: Any, settings: Settings) -> None:
        _allow_pauses(db)
        text = _ledger.pinned(settings)
        (self.id,) = db.execute(
            "INSERT INTO campaign (name, settings, created) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
            (self._name, text, _ledger.now()),
        ).fetchone()
        (before,) = db.execute("SELECT settings FROM campaign WHERE id = ?", (self.id,)).fetchone()
        _ledger.compare(_ledger.unpinned(self._name, before), settings)  # another load may have been faster
        db.execute("UPDATE campaign SET settings = ? WHERE id = ?", (text, self.id))

    def _take_in(self, db: Any, load: int, cut: Cut) -> None:
        for table in _STAGING.split(";"):
            db.execute(table)
        for name, spool in self._spools.items():
            db.copy(name, spool)
        for table in ("staged", "staged_set", "left_out"):
            db.execute(f"ANALYZE {table}")
        _batches.take_in(db, self.id, load, cut, _prepare)
        # The runs' plans are made anew. A plan for 100 batches took 85 ms for each claim among 300,000.
        db.execute("ANALYZE (SKIP_LOCKED) batch")

    async def aclose(self) -> None:
        """Remove the staged rows, and this run if it has joined; close the tables."""
        self._close_spools()
        await self.part()
        await _threads.run(self._tables.close)

    # ── runs ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def lease(self) -> float:
        """Seconds after which a run that isn't seen is dead."""
        return self._lease

    async def join(
        self, name: str, *, lease: float, timeout: float, patience: float, observer: Observer | None = None
    ) -> News:
        """Add this run to the campaign's runs; return the decisions of all runs.

        Args:
            name: a name for people, such as the host's.
            lease: seconds after which a run that isn't seen is dead.
            timeout: seconds that one attempt may take.
            patience: seconds for which a result is kept while the database is away.
            observer: gets the notices of a database that is away; None: the default one.

        Raises:
            LedgerError: if the database was promoted since the campaign began.
        """
        self._lease, self._timeout, self._patience = lease, timeout, patience
        self._observer = parse_observers(observer)
        run = str(secrets.token_hex(16))
        news = await self._join(run, name)
        self._run, self._run_name = run, name
        return news

    @writes
    def _join(self, db: Any, run: str, name: str) -> News:
        db.execute("SELECT id FROM campaign WHERE id = ? FOR UPDATE", (self.id,))
        self._require_timeline(db)
        self._sweep(db)
        if not self._alive(db):
            # No run is alive, so a run's decision to end is over. A person's stop stays.
            db.execute(
                "UPDATE campaign SET accepted_before = ?, "
                "state = CASE WHEN state = 'ended' THEN 'running' ELSE state END WHERE id = ?",
                (_report.counts(db, self.id).accepted, self.id),
            )
        db.execute(
            "INSERT INTO worker (run, campaign, name, host, pid, lease, seen) "
            "VALUES (?, ?, ?, ?, ?, ?, clock_timestamp())",
            (run, self.id, name, socket.gethostname(), os.getpid(), self._lease),
        )
        return self._news(db)

    def _require_timeline(self, db: Any) -> None:
        stored, found = db.execute(
            "SELECT timeline, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM campaign WHERE id = ?",
            (self.id,),
        ).fetchone()
        if stored is None:
            db.execute("UPDATE campaign SET timeline = ? WHERE id = ?", (found, self.id))
        elif stored != found:
            raise LedgerError(
                f"the database was promoted (timeline {stored} before, {found} now): the replica may have "
                "lost the last intents, and going on could send twice. Let N be the requests that were begun "
                "while the replica lagged, and those on the wire (at 60 a minute and 4 on the wire, 10 s of "
                "lag are 14); then `campaign.accept_failover(N)`, or `desk360 campaign resolve "
                f"{self._name} --after-failover N`, makes the first N pending batches unknown"
            )
        self._timeline = found

    def _alive(self, db: Any) -> int:
        (alive,) = db.execute("SELECT count(*) FROM worker WHERE campaign = ?", (self.id,)).fetchone()
        return int(alive)

    def _sweep(self, db: Any) -> None:
        """Free the claims of dead runs; their intents, and intents that are too old, become unknown."""
        db.execute(_SWEEP_HERE, (self.id,) * 3)

    def _news(self, db: Any) -> News:
        state, ending, reason = db.execute(
            "SELECT state, ending, reason FROM campaign WHERE id = ?", (self.id,)
        ).fetchone()
        return News(state, ending, reason, _report.counts(db, self.id))

    async def beat(self) -> News | None:
        """Show that this run is alive, end the requests of dead runs, and return the decisions of all runs.

        None: this run has left.

        Raises:
            LedgerError: if the database is away or was promoted.
        """
        async with self._beating:  # a beat that ended after the run had left would add the run again
            return None if self._run is None else await self._beat(self._run)

    @writes
    def _beat(self, db: Any, run: str) -> News:
        self._require_timeline(db)
        db.execute(
            "INSERT INTO worker (run, campaign, name, host, pid, lease, seen) "
            "VALUES (?, ?, ?, ?, ?, ?, clock_timestamp()) "
            "ON CONFLICT (run) DO UPDATE SET seen = clock_timestamp()",
            (run, self.id, self._run_name, socket.gethostname(), os.getpid(), self._lease),
        )
        self._sweep(db)
        return self._news(db)

    async def claim(self, after: int, upto: int, most: int) -> list[Batch]:
        """Claim up to `most` pending batches that no run has, by their number.

        If the database is away, the claim waits for it, `patience` seconds at most.

        Raises:
            LedgerError: if it stays away.
        """
        try:
            rows = [] if self._is_waiting else await self._claim(most)
        except LedgerError as error:
            if not _passes(error):
                raise
            rows = []
        if not rows:
            rows = await self._outlast(self._claim_left, most)
        self._is_waiting = self._is_waiting and not rows
        return _ledger.batches_of(sorted(rows))

    async def _claim(self, most: int) -> list[Any]:
        run, number = self._run, secrets.randbits(63)
        self._unanswered.add(number)
        # Not synced: if a crash of the database loses the claim, the batches are free. An intent is synced.
        text = _CLAIM.replace("{most}", str(most))  # a run always gives the same number
        text = text.replace("{awake}", _AWAKE if self._is_waiting else "")
        waiting = (run,) if self._is_waiting else ()
        values = (self.id, self.id, run, *waiting, run, number)
        rows = await self._tables.at_once(text, *values, synced=False, prepared=True)
        self._unanswered.remove(number)
        return rows

    async def _claim_left(self, most: int) -> list[Any]:
        """Free the batches of dead runs, and of claims whose answers were lost; then claim again."""
        if self._unanswered:
            await self._tables.at_once(_UNCLAIM, self._run, list(self._unanswered))
            self._unanswered.clear()
        await self._tables.at_once(_SWEEP, *(self.id,) * 3)
        return await self._claim(most)

    async def is_over(self, *, busy: bool) -> bool:
        """Return whether no batch is left for this run: no batch is free, and no other run can free one.

        Raises:
            LedgerError: if the database stays away.
        """
        if busy:
            return False
        self._is_waiting = True
        rows = await self._outlast(self._tables.at_once, _IS_OVER, self._run, self.id, self._run)
        return bool(rows[0][0])

    async def excepted(self, batch: Batch) -> frozenset[int]:
        """Return the members that have a state of their own already.

        Raises:
            LedgerError: if the database stays away.
        """
        query = "SELECT phone FROM {schema}.exception WHERE batch = ?"
        rows = await self._outlast(self._tables.at_once, query, batch.id)
        return frozenset(phone for (phone,) in rows)

    async def skip(self, batch: Batch, phones: Sequence[int]) -> None:
        """Leave out members that opted out; a batch without other members is finished.

        Raises:
            LedgerError: if the database stays away.
        """
        await self._outlast(super().skip, batch, phones)

    async def has_accepted(self) -> bool:
        """Return whether a message was accepted since the first of the present runs began."""
        return await self._outlast(self._has_accepted)

    @reads
    def _has_accepted(self, db: Any) -> bool:
        (before,) = db.execute("SELECT accepted_before FROM campaign WHERE id = ?", (self.id,)).fetchone()
        return bool(_report.counts(db, self.id).accepted > before)

    async def counts(self) -> Counts:
        """Return the recipients by state."""
        return await self._outlast(super().counts)

    async def statuses(self) -> tuple[int, int]:
        """Return the failed recipients, and those with a status."""
        return await self._outlast(super().statuses)

    async def announce(self, end: str, reason: str) -> None:
        """Stop the other runs too."""
        await self._outlast(self._announce, end, reason)

    @writes
    def _announce(self, db: Any, end: str, reason: str) -> None:
        db.execute(
            "UPDATE campaign SET state = 'ended', ending = ?, reason = ? WHERE id = ? AND state = 'running'",
            (end, reason, self.id),
        )

    @writes
    def decide(self, db: Any, state: str, reason: str) -> None:
        """Store a person's decision: "running", "paused" or "stopped"."""
        db.execute(
            "UPDATE campaign SET state = ?, ending = 'stopped', reason = ? WHERE id = ?",
            (state, reason, self.id),
        )

    async def recover(self, reason: str) -> int:
        """Turn this run's intents without a result into unknown; return the number of recipients."""
        return 0 if self._run is None else await self._outlast(self._recover, reason)

    @writes
    def _recover(self, db: Any, reason: str) -> int:
        left = db.execute(
            "UPDATE batch SET state = 'unknown', reason = ? WHERE campaign = ? AND state = 'intent' "
            "AND worker = ? RETURNING request, "
            "size - (SELECT count(*) FROM exception WHERE exception.batch = batch.id)",
            (reason, self.id, self._run),
        ).fetchall()
        db.execute(
            "UPDATE request SET outcome = 'unknown' WHERE number = ANY(?)",
            ([number for number, _ in left],),
        )
        return sum(size for _, size in left)

    async def part(self) -> None:
        """Remove this run from the campaign's runs: its claims become free, and its intents unknown."""
        async with self._beating:
            run, self._run = self._run, None
            if run is not None:
                with suppress(LedgerError):  # its lease ends by itself
                    await self._leave(run)

    @writes
    def _leave(self, db: Any, run: str) -> None:
        db.execute("DELETE FROM worker WHERE run = ?", (run,))
        self._sweep(db)  # its claims are free, and its last intents unknown

    # ── one attempt ────────────────────────────────────────────────────────────────────────────────────

    async def intend(self, batch: Batch) -> int | None:
        """Commit the intent to send a batch; return the request's number, or None if it must not be sent.

        None: another run has the batch now; or the database was away and is back, and the batch is free.

        Raises:
            LedgerError: if the database stays away, or was promoted.
        """
        number = secrets.randbits(63)
        values = (number, self._timeout + GRACE, batch.id, self._run, self._run, self._timeline)
        try:
            if await self._tables.at_once(_INTEND, *values, self.id, _ledger.now(), number, prepared=True):
                return number
            await self._give_back(batch)
        except LedgerError as error:
            if not _passes(error):
                raise
            text = f"the intent of a batch is perhaps not stored; the batch isn't sent now: {error}"
            self._observer.notice(Notice("desk360.campaign.intent_not_stored", "warning", text))
            await self._outlast(self.file.write, self._put_back, batch, number)
        return None

    @writes
    def _give_back(self, db: Any, batch: Batch) -> None:
        """Free a batch that this run must not begin: the run wasn't seen within its lease."""
        self._require_timeline(db)
        db.execute(
            "UPDATE batch SET worker = NULL WHERE id = ? AND worker = ? AND state = 'pending'",
            (batch.id, self._run),
        )

    def _put_back(self, db: Any, batch: Batch, number: int) -> None:
        db.execute("DELETE FROM request WHERE number = ?", (number,))
        db.execute(
            "UPDATE batch SET state = 'pending', reason = NULL, request = NULL, worker = NULL WHERE id = ? "
            "AND (request = ? AND (state = 'intent' OR state = 'unknown' AND reason = 'worker_lost') "
            "OR worker = ? AND state = 'pending')",
            (batch.id, number, self._run),
        )

    async def conclude(self, batch: Batch, request: int | None, result: Result) -> list[Batch]:
        """Commit the result of an attempt; return the batches that it leaves to this run.

        A result outlives a restart of the database: it is written again until `patience` is over. A repeat
        does no harm, since a request ends once. A run that was believed dead may still end its own request.

        Raises:
            LedgerError: if the database stays away.
        """
        done: list[Any] = []
        if request is not None and result.state != "pending" and not result.unlisted:
            values = (result.state, result.reason, result.message_id, batch.id, len(batch.members), request)
            ended = (_ledger.now(), result.state, request)
            store = partial(self._tables.at_once, prepared=True)
            done = await self._outlast(store, _CONCLUDE, *values, *ended)
        left: list[Batch] = (
            [] if done else await self._outlast(self.file.write, self._conclude, batch, request, result)
        )
        if result.message_id is not None:
            await self._outlast(self._settle_early)
        return left

    async def feed(self, calls: Iterable[Iterable[Status]]) -> list[int]:
        """Store the statuses of several calls; return the number of news for each call.

        Raises:
            LedgerError: if the database is away.
        """
        news = await super().feed(calls)
        await self._settle_early()
        return news

    def _store(self, db: Any, rows: Collection[Row]) -> list[Row]:
        """Store the statuses that are new, those of known messages in one statement; return them."""
        stored = super()._store(db, [row for row in rows if row[0] == "early"])
        # Sorted, so that two feeders don't wait for each other's rows.
        delivered = sorted((phone, status) for table, phone, status in rows if table == "delivery")
        if delivered:
            new = db.execute(_DELIVER, (self.id, *map(list, zip(*delivered, strict=True))))
            stored += [("delivery", phone, status) for phone, status in new]
        return stored

    def _listed(self, values: Iterable[object]) -> object:
        return [*values]

    async def _settle_early(self) -> None:
        """Move the statuses whose answers are known by now.

        An answer and its message's first status may be stored at the same time: then neither transaction sees
        the other. So each side looks again after its own commit, and the later look finds both.
        """
        await self._tables.at_once(_SETTLE, self.id)

    def _place(self, db: Any, message_id: str, phone: str | None) -> Place:
        """Do as `Ledger._place`, and try twice: an answer may be stored between its two look-ups."""
        place = super()._place(db, message_id, phone)
        return place if place[1] else super()._place(db, message_id, phone)

    def _conclude(self, db: Any, batch: Batch, request: int | None, result: Result) -> list[Batch]:
        outcome = "not_sent" if result.state == "pending" else result.state
        if request is not None:
            db.execute(
                "UPDATE request SET ended = ?, outcome = ? WHERE number = ?",
                (_ledger.now(), outcome, request),
            )
        mine = _BY_CLAIM if request is None else _BY_REQUEST
        key = self._run if request is None else request
        moved = db.execute(
            mine, (result.state, result.reason, result.message_id, batch.id, len(batch.members), key)
        )
        if moved.rowcount != 1:
            # The result was written before and only the answer was lost; or another run or a person has ended
            # the batch. Batches that a halving left behind become free for all runs.
            db.execute(
                "UPDATE batch SET worker = NULL WHERE request = ? AND worker = ? AND state = 'pending'",
                (request, self._run),
            )
            return []
        if result.unlisted:
            self._except(db, batch.id, result.unlisted, result.unlisted_state, "not_listed")
        following = [batch] if result.state == "pending" else []
        if result.halve:
            following = _batches.halve(db, self.id, batch)
        if following:
            db.execute(
                "UPDATE batch SET worker = ?, request = ? WHERE id = ANY(?)",
                (self._run, request, [half.id for half in following]),
            )
        return following

    def hurry(self, seconds: float) -> None:
        """Wait at most `seconds` more for a lost database, since the run is stopping."""
        self._latest = _threads.loop_time() + seconds
        self._hurried.set()

    def cut(self) -> None:
        """End the statements that the database doesn't answer, in all stores of this process with the DSN."""
        self._tables.database.cut()

    async def _outlast(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an operation again until the database is back.

        Raises:
            LedgerError: if it stays away for `patience` seconds.
        """
        begun, pause = anyio.current_time(), _PAUSE
        while True:
            hurried = self._latest
            deadline = begun + self._patience if hurried is None else min(begun + self._patience, hurried)
            try:
                return await work(*args)
            except LedgerError as error:
                if not _passes(error) or anyio.current_time() >= deadline:
                    raise
                text = f"the ledger can't be reached; the run waits, and sends no message meanwhile: {error}"
                self._observer.notice(Notice("desk360.campaign.ledger_away", "warning", text))
            with anyio.move_on_after(pause):
                await self._hurried.wait()
            if hurried is not None:  # the event is set already, so the wait above returned at once
                await anyio.sleep(min(pause, max(0.0, deadline - anyio.current_time())))
            pause = min(_LONGEST_PAUSE, pause * 2)

    # ── resolutions ────────────────────────────────────────────────────────────────────────────────────

    @writes
    def resolve(self, db: Any, decision: Decision, scope: Scope, cut: Cut) -> int:
        """Resolve the recipients in a scope; return their number.

        Raises:
            CampaignError: if a run of the campaign is alive.
        """
        self._require_rest(db)
        return sum(self._resolve(db, decision, scope, state, cut) for state in scope.states(decision))

    @writes
    def accept_failover(self, db: Any, batches: int) -> int:
        """Make the first pending batches unknown, and go on with a promoted database.

        Returns:
            The number of recipients that became unknown.

        Raises:
            CampaignError: if a run of the campaign is alive.
        """
        self._require_rest(db)
        lost = db.execute(
            "UPDATE batch SET state = 'unknown', reason = 'failover' WHERE id IN (SELECT id FROM batch "
            "WHERE campaign = ? AND state = 'pending' ORDER BY id LIMIT ?) "
            "RETURNING size - (SELECT count(*) FROM exception WHERE exception.batch = batch.id)",
            (self.id, batches),
        ).fetchall()
        db.execute(
            "UPDATE campaign SET timeline = substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) WHERE id = ?",
            (self.id,),
        )
        return sum(size for (size,) in lost)

    async def write_at_rest(self, work: Callable[..., T], *args: Any) -> T:
        """Run a write on all campaigns of the database, in one transaction.

        Raises:
            CampaignError: if a run of one is alive.
        """
        return await self.file.write(self._at_rest, work, *args)

    def _at_rest(self, db: Any, work: Callable[..., T], *args: Any) -> T:
        _allow_pauses(db)
        for self.id, self._name in db.execute("SELECT id, name FROM campaign ORDER BY id").fetchall():
            self._require_rest(db)
        return work(db, *args)

    def _require_rest(self, db: Any) -> None:
        db.execute("SELECT id FROM campaign WHERE id = ? FOR UPDATE", (self.id,))
        self._sweep(db)
        if alive := self._alive(db):
            raise CampaignError(
                f"the campaign {self._name!r} is running ({alive} runs); stop it first, or wait for its end"
            )


def _allow_pauses(db: Any) -> None:
    """Let this transaction pause between two statements, while the client cuts or reads packed batches."""
    db.execute("SELECT set_config('idle_in_transaction_session_timeout', '60000', true)")


def _passes(error: LedgerError) -> bool:
    cause = error.__cause__
    return cause is not None and (is_lost(cause) or is_busy(cause))


def _escape(text: str) -> bytes:
    """Return a text as COPY's format has it; it has no NUL and no lone surrogate."""
    for character, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "")):
        text = text.replace(character, escaped)
    return text.encode("utf-8", "replace")


def _prepare(db: Any, campaign: int) -> int:
    """Unite the spellings of each person, and take in the sets; return their number, or `MANY_SETS`."""
    _unite_spellings(db, campaign)
    db.execute(
        "INSERT INTO parameter_set (id, campaign, parameters) SELECT id, ?, min(parameters) "
        "FROM staged_set GROUP BY id ON CONFLICT DO NOTHING",
        (campaign,),
    )
    (twins,) = db.execute(
        "SELECT count(*) FROM staged_set s JOIN parameter_set p USING (id) "
        "WHERE p.parameters <> s.parameters OR p.campaign <> ?",
        (campaign,),
    ).fetchone()
    if twins:  # one in 10^7 loads of a million sets
        raise LedgerError("two sets of parameters have one number; load the list under another name")
    (sets,) = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM parameter_set WHERE campaign = ? LIMIT ?) AS few",
        (campaign, _batches.MANY_SETS),
    ).fetchone()
    return int(sets)


def _unite_spellings(db: Session, campaign: int) -> None:
    """Give all rows of one person the same phone: the recipient's, else the first line's (ruling 19a)."""
    with tempfile.TemporaryFile(prefix="desk360-load-") as file:
        for phone, line in db.stream(f"SELECT phone, line FROM staged WHERE {_SPELLED}"):  # noqa: S608  # constants
            file.write(b"%d\t%d\t%d\n" % (person_of(phone), line, phone))
        query = f"SELECT phone FROM recipient WHERE campaign = ? AND {_SPELLED}"  # noqa: S608  # a constant
        for (phone,) in db.stream(query, (campaign,)):
            file.write(b"%d\t0\t%d\n" % (person_of(phone), phone))
        db.copy("spelled", file)
    db.execute("ANALYZE spelled")
    db.execute(
        "INSERT INTO respelled SELECT s.line, s.phone, t.phone FROM spelled s JOIN ("
        "SELECT DISTINCT ON (person) person, phone FROM spelled WHERE person IN ("
        "SELECT person FROM spelled GROUP BY person HAVING count(DISTINCT phone) > 1) "
        "ORDER BY person, line) t ON s.person = t.person WHERE s.line > 0 AND s.phone <> t.phone"
    )
    db.execute("UPDATE staged s SET phone = r.phone FROM respelled r WHERE r.line = s.line")


@asynccontextmanager
async def open_tables(dsn: str, name: str, schema: str = "desk360") -> AsyncGenerator[TableLedger]:
    """Open a campaign's ledger in PostgreSQL, and close it in the end.

    Raises:
        LedgerError: if the database can't be reached.
        ConfigurationError: if it can't be written, or its commits don't last.
    """
    tables = Tables(Database(dsn, schema=schema), name="the ledger", error=LedgerError, busy=BUSY)
    ledger = TableLedger(tables, name)
    try:
        yield ledger
    finally:
        with anyio.CancelScope(shield=True):
            await ledger.aclose()
