"""Cutting recipients into batches, in the ledger: taken in once, grouped by equal parameters, halved.

Sorting is left to SQLite, whose sorter keeps to little memory however long the list is: rows taken in by
ascending phone reach the unique key in its own order, five times as fast as in the file's.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter

from attrs import frozen

from desk360_async.campaigns._states import Batch, Kind, pack

BatchRow = tuple[int, int, Kind, int, int, int, bytes]
_INSERT = (
    "INSERT INTO batch (campaign, parameter_set, kind, size, first, last, members) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


@frozen
class Cut:
    """How groups of equal parameters become batches.

    Attributes:
        strategy: "auto" (bulk where two or more are equal), "bulk" or "single".
        size: recipients a bulk request at most.
    """

    strategy: str
    size: int

    def kind(self, size: int) -> Kind:
        """Say how a batch of `size` goes out."""
        if self.strategy == "auto":
            return "bulk" if size > 1 else "single"
        return "bulk" if self.strategy == "bulk" else "single"

    @property
    def longest(self) -> int:
        """How many recipients a batch may have."""
        return 1 if self.strategy == "single" else self.size

    def rows(self, campaign: int, number: int, phones: Iterable[int]) -> Iterator[BatchRow]:
        """Cut one set's recipients, by ascending phone, into rows of the table."""
        left = iter(phones)
        while members := list(islice(left, self.longest)):
            size = len(members)
            yield campaign, number, self.kind(size), size, members[0], members[-1], pack(members)


def take_in(connection: sqlite3.Connection, campaign: int, load: int) -> None:
    """Add the staged recipients whose phones aren't there yet; a second line of this input is a duplicate."""
    (staged,) = connection.execute("SELECT count(*) FROM staged").fetchone()
    added = connection.execute(
        "INSERT INTO recipient SELECT ?, phone, parameter_set, line, ? FROM staged WHERE true "
        "ORDER BY phone, line ON CONFLICT DO NOTHING",
        (campaign, load),
    ).rowcount
    if added == staged:
        return
    connection.execute(
        "INSERT OR IGNORE INTO skipped SELECT ?, line, 'duplicate', '+' || phone FROM "
        "(SELECT line, phone, lag(phone) OVER (ORDER BY phone, line) AS before FROM staged) "
        "WHERE phone = before",
        (campaign,),
    )


def write_batches(connection: sqlite3.Connection, campaign: int, load: int, cut: Cut) -> None:
    """Cut a load's new recipients into batches."""
    ordered = connection.execute(
        "SELECT parameter_set, phone FROM recipient WHERE campaign = ? AND load = ? "
        "ORDER BY parameter_set, phone",
        (campaign, load),
    )
    second = itemgetter(1)
    rows = (
        row
        for number, pairs in groupby(ordered, itemgetter(0))
        for row in cut.rows(campaign, number, map(second, pairs))
    )
    connection.executemany(_INSERT, rows)


def write_set(
    connection: sqlite3.Connection, campaign: int, number: int, phones: Iterable[int], cut: Cut
) -> None:
    """Cut recipients of one set, by ascending phone, into batches."""
    connection.executemany(_INSERT, cut.rows(campaign, number, phones))


def halve(connection: sqlite3.Connection, campaign: int, batch: Batch) -> list[Batch]:
    """Put two halves in a batch's place, both to be sent; the first keeps its number."""
    middle = len(batch.members) // 2
    left, right = batch.members[:middle], batch.members[middle:]
    connection.execute(
        "UPDATE batch SET size = ?, last = ?, members = ? WHERE id = ?",
        (len(left), left[-1], pack(left), batch.id),
    )
    (number,) = connection.execute(
        _INSERT + " RETURNING id",
        (campaign, batch.parameter_set, batch.kind, len(right), right[0], right[-1], pack(right)),
    ).fetchone()
    connection.execute(
        "UPDATE exception SET batch = ? WHERE batch = ? AND phone >= ?", (number, batch.id, right[0])
    )
    return [
        Batch(batch.id, batch.kind, left, batch.parameters, batch.parameter_set),
        Batch(int(number), batch.kind, right, batch.parameters, batch.parameter_set),
    ]
