"""The ledger: each method is one transaction. What a campaign may believe is what stands here.

The order that makes it safe (a token, the intent, the POST, the result) is `_dispatch`'s business. To put
PostgreSQL in its place, these methods are what must be written again.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

from attrs import asdict, fields

from desk360_async._tables import Row
from desk360_async.campaigns import _cuts, _deliveries, _tallies
from desk360_async.campaigns._problems import CampaignError, LedgerError
from desk360_async.campaigns._recipients import CHUNK, Intake
from desk360_async.campaigns._schema import STAGING
from desk360_async.campaigns._states import (
    Batch,
    Counts,
    Result,
    Settings,
    State,
    unpack,
)
from desk360_async.campaigns._storage import Storage, transaction

P = ParamSpec("P")
T = TypeVar("T")

# The wall clock: only what must outlive the process is told by it.
now = time.time


class Ledger:
    """One campaign's part of a ledger's file.

    Args:
        storage: the file, open.
        name: the campaign's.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._pinning: Settings | None = None
        self._looked_up: int | None = None
        self.id = 0

    # ── the campaign ───────────────────────────────────────────────────────────────────────────────────

    async def settings(self) -> Settings | None:
        """Return what is pinned under the campaign's name; None if it was never loaded."""
        return await self._storage.run(self._read_settings)

    async def names(self) -> tuple[str, ...]:
        """Return the names of the campaigns in this file."""
        return await self._storage.run(_names)

    async def read(
        self, work: Callable[Concatenate[sqlite3.Connection, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function of the neighbours with the connection and the campaign's number."""
        return await self._storage.run(work, self.id, *args, **kwargs)

    def _read_settings(self, connection: sqlite3.Connection) -> Settings | None:
        row = connection.execute("SELECT id, settings FROM campaign WHERE name = ?", (self._name,)).fetchone()
        if row is None:
            return None
        self.id = row[0]
        pinned: dict[str, Any] = json.loads(row[1])
        pinned["variables"] = tuple(pinned["variables"])
        return Settings(name=self._name, **pinned)

    async def pin(self, settings: Settings) -> None:
        """Give the campaign its number; `finish_load` pins the settings under its name.

        Raises:
            CampaignError: if others are pinned; it names the first that differs.
        """
        pinned = await self.settings()
        if pinned is None:
            await self._storage.run(self._reserve)
        elif pinned != settings:
            raise _differs(pinned, settings)
        self._pinning = settings

    def _reserve(self, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            (last,) = connection.execute("SELECT max(id) FROM campaign").fetchone()
            self.id = (last or 0) + 1
            # A first load that failed may have left some.
            connection.execute("DELETE FROM parameter_set WHERE campaign = ?", (self.id,))

    def _write_settings(self, connection: sqlite3.Connection, settings: Settings) -> None:
        pinned = {**asdict(settings), "mapping": dict(settings.mapping)}
        name = pinned.pop("name")
        connection.execute(
            "INSERT INTO campaign (id, name, settings, created) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET settings = excluded.settings",
            (self.id, name, json.dumps(pinned, ensure_ascii=False), now()),
        )

    # ── loading ────────────────────────────────────────────────────────────────────────────────────────

    async def begin_load(self) -> None:
        """Start with nothing staged."""
        await self._storage.run(_begin_load)

    async def stage(self, rows: Iterable[Row], intake: Intake) -> int:
        """Judge and stage the next chunk of rows; return how many there were."""
        return await self._storage.run(self._stage, rows, intake)

    def _stage(self, connection: sqlite3.Connection, rows: Iterable[Row], intake: Intake) -> int:
        with transaction(connection):
            staged, skipped = intake.judge(islice(rows, CHUNK), self._set_for(connection))
            connection.executemany("INSERT INTO staged VALUES (?, ?, ?)", staged)
            connection.executemany("INSERT INTO left_out VALUES (?, ?, ?)", skipped)
        return len(staged) + len(skipped)

    def _set_for(self, connection: sqlite3.Connection) -> Callable[[dict[str, str]], int]:
        def number(parameters: dict[str, str]) -> int:
            text = json.dumps(parameters, ensure_ascii=False, separators=(",", ":"))
            key = (self.id, blake2b(text.encode(), digest_size=16).digest())
            row = connection.execute(
                "SELECT id FROM parameter_set WHERE campaign = ? AND digest = ?", key
            ).fetchone()
            return int(row[0]) if row else _added(connection, key, text)

        return number

    async def finish_load(self, cut: "_cuts.Cut") -> None:
        """Pin the settings, take in what is staged, each phone once, cut the new ones into batches.

        All or nothing: a load that fails leaves the campaign as it was.
        """
        await self._storage.run(self._finish_load, cut)

    def _finish_load(self, connection: sqlite3.Connection, cut: "_cuts.Cut") -> None:
        assert self._pinning is not None
        with transaction(connection):
            self._write_settings(connection, self._pinning)
            connection.execute(
                "UPDATE request SET campaign = ? WHERE campaign = 0 AND outcome = 'read' AND id >= ?",
                (self.id, self._looked_up),
            )
            (load,) = connection.execute(
                "UPDATE campaign SET loads = loads + 1 WHERE id = ? RETURNING loads", (self.id,)
            ).fetchone()
            _cuts.take_in(connection, self.id, load, cut)
            _clear(connection)

    # ── running ────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self, reason: str) -> int:
        """Turn every intent without a result into unknown; return how many recipients that makes."""
        return await self._storage.run(self._recover, reason)

    def _recover(self, connection: sqlite3.Connection, reason: str) -> int:
        with transaction(connection):
            left = connection.execute(
                "UPDATE batch SET state = 'unknown', reason = ? "
                "WHERE campaign = ? AND state = 'intent' "
                "RETURNING size - (SELECT count(*) FROM exception WHERE exception.batch = batch.id)",
                (reason, self.id),
            ).fetchall()
            if left:
                connection.execute(
                    "UPDATE request SET outcome = 'unknown' WHERE campaign = ? AND outcome IS NULL",
                    (self.id,),
                )
        return sum(size for (size,) in left)

    async def pending(self, after: int, upto: int, limit: int = 100) -> list[Batch]:
        """Return the next batches to send, by their number."""
        return await self._storage.run(self._pending, after, upto, limit)

    def _pending(self, connection: sqlite3.Connection, after: int, upto: int, limit: int) -> list[Batch]:
        rows = connection.execute(
            "SELECT b.id, b.kind, b.members, s.parameters, s.id FROM batch b "
            "JOIN parameter_set s ON s.id = b.parameter_set "
            "WHERE b.campaign = ? AND b.state = 'pending' AND b.id > ? AND b.id <= ? ORDER BY b.id LIMIT ?",
            (self.id, after, upto, limit),
        )
        return [Batch(i, kind, unpack(packed), json.loads(text), s) for i, kind, packed, text, s in rows]

    async def excepted(self, batch: Batch) -> frozenset[int]:
        """Return the members that have a state of their own already."""
        return await self._storage.run(_excepted, batch.id)

    async def skip(self, batch: Batch, phones: Sequence[int]) -> None:
        """Leave out members that opted out; a batch of which nobody is left is finished."""
        await self._storage.run(self._write_skip, batch, phones)

    def _write_skip(self, connection: sqlite3.Connection, batch: Batch, phones: Sequence[int]) -> None:
        with transaction(connection):
            self._except(connection, batch.id, phones, "skipped", "opted_out")
            _cuts.skip_if_empty(connection, batch)

    def _except(
        self, connection: sqlite3.Connection, batch: int, phones: Iterable[int], state: State, reason: str
    ) -> None:
        rows = ((self.id, phone, batch, state, reason) for phone in phones)
        connection.executemany("INSERT INTO exception VALUES (?, ?, ?, ?, ?)", rows)

    async def intend(self, batch: Batch) -> int:
        """Commit the intent to send a batch; return the request's number.

        Raises:
            LedgerError: if it isn't pending, or the commit failed: then it must not be sent.
        """
        return await self._storage.run(self._intend, batch)

    def _intend(self, connection: sqlite3.Connection, batch: Batch) -> int:
        with transaction(connection):
            _move(connection, batch.id, "pending", "intent")
            (request,) = connection.execute(
                "INSERT INTO request (campaign, batch, started) VALUES (?, ?, ?) RETURNING id",
                (self.id, batch.id, now()),
            ).fetchone()
        return int(request)

    async def conclude(self, batch: Batch, request: int | None, result: Result) -> list[Batch]:
        """Commit the result of an attempt; return the batches that it leaves to be sent.

        Args:
            batch: what was sent, or wasn't.
            request: what `intend` returned; None if the attempt ended before it.
            result: how it ended.

        Raises:
            LedgerError: if the intent isn't this attempt's, or the commit failed.
        """
        return await self._storage.run(self._conclude, batch, request, result)

    def _conclude(
        self, connection: sqlite3.Connection, batch: Batch, request: int | None, result: Result
    ) -> list[Batch]:
        with transaction(connection):
            if request is not None:
                _end(connection, request, result)
            _move(connection, batch.id, "pending" if request is None else "intent", result.state, result)
            if result.message_id is not None:
                _deliveries.settle(connection, self.id, result.message_id, batch.members[0])
            if result.unlisted:
                self._except(connection, batch.id, result.unlisted, result.unlisted_state, "not_listed")
            if result.halve:
                return _cuts.halve(connection, self.id, batch)
        return [batch] if result.state == "pending" else []

    async def intend_look_up(self) -> int:
        """Record that the template is about to be looked up, which costs a token; return its number."""
        return await self._storage.run(_intend_look_up)

    async def conclude_look_up(self, request: int, number: int) -> None:
        """Record how many requests it was: one a page of templates, one too many does no harm."""
        await self._storage.run(self._conclude_look_up, request, number)

    def _conclude_look_up(self, connection: sqlite3.Connection, request: int, number: int) -> None:
        at = now()
        with transaction(connection):
            connection.execute("DELETE FROM request WHERE id = ?", (request,))
            connection.executemany(
                "INSERT INTO request (campaign, started, ended, outcome) VALUES (0, ?, ?, 'read')",
                [(at, at)] * number,
            )
        self._looked_up = request  # theirs aren't lower: SQLite takes the highest number, and adds one

    async def request_ages(self, period: float, timeout: float) -> list[float]:
        """Return how many seconds ago the file's requests of the last period were complete.

        One whose end nobody saw may have been counted until its timeout was over.
        """
        return await self._storage.run(_request_ages, period, timeout)

    async def outlook(self) -> tuple[Counts, list[tuple[str, int, int]], int]:
        """Return the counts, what is still needed (kind, requests, recipients), and the last batch."""
        return await self._storage.run(_outlook, self.id)

    async def counts(self) -> Counts:
        """Count recipients by state."""
        return await self._storage.run(_tallies.counts, self.id)


def _differs(pinned: Settings, given: Settings) -> CampaignError:
    names = [attribute.name for attribute in fields(Settings) if attribute.eq]
    name = next(n for n in names if getattr(pinned, n) != getattr(given, n))
    return CampaignError(
        f"the campaign {pinned.name!r} of this ledger was loaded with {name}={getattr(pinned, name)!r}, "
        f"not {getattr(given, name)!r}; give the new one another name, or another ledger"
    )


def _names(connection: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(name for (name,) in connection.execute("SELECT name FROM campaign ORDER BY id"))


def _begin_load(connection: sqlite3.Connection) -> None:
    for table in STAGING.split(";"):
        connection.execute(table)
    _clear(connection)


def _clear(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM staged")
    connection.execute("DELETE FROM left_out")


def _added(connection: sqlite3.Connection, key: tuple[int, bytes], text: str) -> int:
    row = connection.execute(
        "INSERT INTO parameter_set (campaign, digest, parameters) VALUES (?, ?, ?) RETURNING id", (*key, text)
    ).fetchone()
    return int(row[0])


def _intend_look_up(connection: sqlite3.Connection) -> int:
    with transaction(connection):
        # No campaign has the number 0: whose it is isn't known yet.
        row = connection.execute(
            "INSERT INTO request (campaign, started) VALUES (0, ?) RETURNING id", (now(),)
        )
        return int(row.fetchone()[0])


def _excepted(connection: sqlite3.Connection, batch: int) -> frozenset[int]:
    rows = connection.execute("SELECT phone FROM exception WHERE batch = ?", (batch,))
    return frozenset(phone for (phone,) in rows)


def _move(
    connection: sqlite3.Connection, batch: int, before: State, after: State, result: Result | None = None
) -> None:
    reason, message_id = (result.reason, result.message_id) if result else (None, None)
    moved = connection.execute(
        "UPDATE batch SET state = ?, reason = ?, message_id = ? WHERE id = ? AND state = ?",
        (after, reason, message_id, batch, before),
    )
    if moved.rowcount != 1:
        # Only the owner of an intent may end it; anything else would hide a second send.
        raise LedgerError(f"batch {batch} is not {before}: another process has changed the ledger")


def _end(connection: sqlite3.Connection, request: int, result: Result) -> None:
    connection.execute(
        "UPDATE request SET ended = ?, outcome = ? WHERE id = ?",
        (now(), "not_sent" if result.state == "pending" else result.state, request),
    )


def _outlook(connection: sqlite3.Connection, campaign: int) -> tuple[Counts, list[tuple[str, int, int]], int]:
    (last,) = connection.execute(
        "SELECT max(id) FROM batch WHERE campaign = ? AND state = 'pending'", (campaign,)
    ).fetchone()
    return _tallies.counts(connection, campaign), _tallies.requests_needed(connection, campaign), last or 0


def _request_ages(connection: sqlite3.Connection, period: float, timeout: float) -> list[float]:
    at = now()
    rows: Iterator[tuple[float, float | None]] = connection.execute(
        "SELECT started, ended FROM request WHERE started > ? ORDER BY id DESC LIMIT 20000",
        (at - period - timeout,),
    )
    ends = (min(at, started + timeout) if ended is None else ended for started, ended in rows)
    return [max(0.0, at - end) for end in ends if at - end < period]
