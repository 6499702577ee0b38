"""Batches in the ledger: cut recipients with equal parameters into batches, halve a batch, put members back.

SQLite sorts the rows, since its sorter needs little memory for a list of any length. Rows are inserted by
ascending phone, which is the order of the unique key: five times as fast as in the order of the file.
"""

import sqlite3
import struct
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice, repeat
from operator import itemgetter
from typing import Any

from attrs import evolve, frozen

from desk360_async._phones import person_of
from desk360_async.campaigns._recipients import Staged
from desk360_async.campaigns._values import Batch, Kind, pack, unpack

# With this number of parameter sets or more, recipients are sorted by set: that bounds the memory. With
# fewer, the batches of all sets are filled at the same time.
MANY_SETS = 5000

_pack_one = struct.Struct("<Q").pack
_AT_ONE_GO = 250  # rows in one statement; a chunk of 5,000 is twenty of them
_STAGE_IN_SEQUENCE = "INSERT OR FAIL INTO staged VALUES (?, ?, ?)" + ", (NULL, ?, ?)" * (_AT_ONE_GO - 1)
_ROOM = 10_000  # recipients that join the open batches before the full ones are stored
_AT_ONCE = 100  # batches in memory while recipients are read on the same connection

StagedSet = tuple[int, bytes, str]  # its number, the digest of its text, its text
# Called before the recipients are taken in; returns the number of sets, at most `MANY_SETS`.
Prepare = Callable[[Any, int], int]
BatchRow = tuple[int, int, Kind, int, int, int, bytes]
_INTO_BATCH = "INSERT INTO batch (campaign, parameter_set, kind, size, first, last, members)"


@frozen
class Cut:
    """How groups of equal parameters become batches.

    Attributes:
        strategy: "auto" (bulk if two or more are equal), "bulk" or "single".
        size: the most recipients of a bulk request.
    """

    strategy: str
    size: int

    def kind(self, size: int) -> Kind:
        """Return the kind of request that sends a batch of `size` recipients."""
        if self.strategy == "auto":
            return "bulk" if size > 1 else "single"
        return "bulk" if self.strategy == "bulk" else "single"

    @property
    def longest(self) -> int:
        """How many recipients a batch may have."""
        return 1 if self.strategy == "single" else self.size

    def rows(self, campaign: int, number: int, phones: Iterable[int]) -> Iterator[BatchRow]:
        """Cut one set's phones, in ascending order, into rows of the table `batch`."""
        left = iter(phones)
        while members := list(islice(left, self.longest)):
            size = len(members)
            yield campaign, number, self.kind(size), size, members[0], members[-1], pack(members)


def stage(connection: sqlite3.Connection, staged: Staged, sets: Iterable[StagedSet]) -> None:
    """Add recipients and sets to the staging tables."""
    _insert_rows(connection, "INSERT INTO staged_set", sets)
    for at in range(0, len(staged), _AT_ONE_GO):
        lines, phones, numbers = (
            column[at : at + _AT_ONE_GO] for column in (staged.lines, staged.phones, staged.sets)
        )
        if len(lines) == _AT_ONE_GO == lines[-1] - lines[0] + 1:
            # SQLite numbers the further lines itself, one by one: that saves a fifth of the time.
            pairs = chain.from_iterable(zip(phones, numbers, strict=True))
            connection.execute(_STAGE_IN_SEQUENCE, (lines[0], *pairs))
        else:
            _insert_rows(connection, "INSERT INTO staged", zip(lines, phones, numbers, strict=True))


def _insert_rows(
    connection: Any, into: str, rows: Iterable[Sequence[object]], at_once: int = _AT_ONE_GO
) -> None:
    """Insert rows, many with one statement: that takes a third less time than one by one.

    Args:
        connection: a connection to a file, or to PostgreSQL, which takes the rows one by one.
        into: the beginning of the statement.
        rows: rows of equal length.
        at_once: the number of rows in memory and in one statement.
    """
    left = iter(rows)
    while some := list(islice(left, at_once)):
        marks = f"({', '.join('?' * len(some[0]))})"
        if len(some) == at_once and isinstance(connection, sqlite3.Connection):
            all_marks = ", ".join([marks] * at_once)
            statement = f"{into} VALUES {all_marks}".replace("INSERT", _verb(connection), 1)
            connection.execute(statement, tuple(chain.from_iterable(some)))
        else:
            connection.executemany(f"{into} VALUES {marks}", some)


def _verb(connection: Any) -> str:
    """Return the verb that inserts; in a file it is INSERT OR FAIL, which needs no statement journal.

    That journal doubled the bytes written. A failed INSERT OR FAIL leaves its first rows, but then the whole
    transaction fails.
    """
    return "INSERT OR FAIL" if isinstance(connection, sqlite3.Connection) else "INSERT"


def _take_in_sets(connection: sqlite3.Connection, campaign: int) -> None:
    """Add the new staged sets; a staged row whose set is in the ledger already gets that set's number."""
    (staged,) = connection.execute("SELECT count(*) FROM staged_set").fetchone()
    # In the order of the digests, each page of their table is written once.
    added = connection.execute(
        "INSERT OR FAIL INTO set_digest SELECT ?, digest, number FROM staged_set WHERE true "
        "ORDER BY digest, number ON CONFLICT DO NOTHING",
        (campaign,),
    ).rowcount
    if added < staged:
        connection.execute(
            "INSERT OR FAIL INTO set_of SELECT s.number, d.parameter_set FROM staged_set s "
            "JOIN set_digest d ON d.campaign = ? AND d.digest = s.digest WHERE d.parameter_set <> s.number",
            (campaign,),
        )
        connection.execute(
            "UPDATE staged SET parameter_set = (SELECT id FROM set_of WHERE number = parameter_set) "
            "WHERE parameter_set IN (SELECT number FROM set_of)"
        )
    connection.execute(
        "INSERT OR FAIL INTO parameter_set SELECT number, ?, parameters FROM staged_set "
        "WHERE number NOT IN (SELECT number FROM set_of)",
        (campaign,),
    )


def prepare_file(connection: sqlite3.Connection, campaign: int) -> int:
    """Unite the spellings of each person, and add the sets; return how many sets, at most `MANY_SETS`."""
    _unite_spellings(connection, campaign)
    _take_in_sets(connection, campaign)
    (sets,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM set_digest WHERE campaign = ? LIMIT ?)", (campaign, MANY_SETS)
    ).fetchone()
    return int(sets)


def take_in(connection: sqlite3.Connection, campaign: int, load: int, cut: Cut, prepare: Prepare) -> None:
    """Add the staged recipients whose phones are new, cut into batches; store the rows that were left out."""
    connection.execute("DELETE FROM skipped WHERE campaign = ?", (campaign,))  # an earlier input's
    connection.execute("INSERT INTO skipped SELECT ?, line, reason, phone FROM left_out", (campaign,))
    # Two queries: SQLite then needs no scan.
    staged, lines = connection.execute(
        "SELECT (SELECT count(*) FROM staged), (SELECT max(line) FROM staged)"
    ).fetchone()
    sets = prepare(connection, campaign)
    added = connection.execute(
        f"{_verb(connection)} INTO recipient SELECT {campaign:d}, phone, parameter_set, line, {load:d} "  # noqa: S608  # numbers
        # Parameters of the statement would be sorted with each row.
        "FROM staged WHERE true ORDER BY phone, line ON CONFLICT DO NOTHING"
    ).rowcount
    seen = bytearray(lines + 1) if staged else bytearray()
    _insert_rows(
        connection, _INTO_BATCH, _batch_rows(connection, (campaign, load), sets, cut, seen), _AT_ONCE
    )
    if added < staged:
        _note_repeats(connection, campaign, load, seen)


def _unite_spellings(connection: sqlite3.Connection, campaign: int) -> None:
    """Give all staged rows of one person the same phone (ruling 19a).

    It is the phone of the stored recipient, else of the person's first line. The table `respelled` keeps the
    phones as given. Only numbers of 12 and 13 digits that begin with 52 to 55 are compared. Those with 53
    have one spelling, so comparing them does no harm.
    """
    connection.create_function("person_of", 1, person_of, deterministic=True)
    connection.execute("DELETE FROM spelled")
    connection.execute("DELETE FROM respelled")
    connection.execute(
        "INSERT INTO spelled SELECT person_of(phone), line, phone FROM staged "
        "WHERE phone BETWEEN 520000000000 AND 559999999999 OR phone BETWEEN 5200000000000 AND 5599999999999"
    )
    connection.execute(
        "INSERT INTO spelled SELECT person_of(phone), 0, phone FROM recipient WHERE campaign = ? AND ("
        "phone BETWEEN 520000000000 AND 559999999999 OR phone BETWEEN 5200000000000 AND 5599999999999)",
        (campaign,),
    )
    # SQLite takes a column beside min() from the row of the minimum: a stored recipient, or the first line.
    connection.execute(
        "INSERT INTO respelled SELECT s.line, s.phone, t.phone FROM spelled s JOIN ("
        "SELECT person, min(line), phone FROM spelled GROUP BY person HAVING count(DISTINCT phone) > 1) t "
        "ON s.person = t.person WHERE s.line > 0 AND s.phone <> t.phone"
    )
    connection.execute(
        "UPDATE staged SET phone = (SELECT phone FROM respelled r WHERE r.line = staged.line) "
        "WHERE line IN (SELECT line FROM respelled)"
    )


def _batch_rows(
    connection: sqlite3.Connection, load: tuple[int, int], sets: int, cut: Cut, seen: bytearray
) -> Iterator[BatchRow]:
    """Yield a load's new recipients as batches, and mark their lines as seen."""
    rows = "SELECT parameter_set, phone, line FROM recipient WHERE campaign = ? AND load = ?"
    if sets == MANY_SETS:
        yield from _sorted_rows(
            _stream(connection)(f"{rows} ORDER BY parameter_set, phone", load), cut, load[0], seen
        )
        return
    # With few sets, one open batch per set is filled by ascending phone; that is cheaper than sorting by set.
    open_: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))
    room = _ROOM
    for some in _chunks(_stream(connection)(rows, load)):
        numbers, phones, lines = zip(*some, strict=True)
        for line in lines:
            seen[line] = 1
        if numbers.count(numbers[0]) == len(numbers):
            open_[numbers[0]].extend(phones)
        else:
            for number, phone in zip(numbers, phones, strict=True):
                open_[number].append(phone)
        room -= len(some)
        if room <= 0:
            room = _ROOM
            for number, members in open_.items():
                whole = len(members) // cut.longest * cut.longest
                yield from cut.rows(load[0], number, members[:whole])
                del members[:whole]
    for number in sorted(open_):
        yield from cut.rows(load[0], number, open_[number])


def _sorted_rows(
    ordered: Iterable[tuple[int, int, int]], cut: Cut, campaign: int, seen: bytearray
) -> Iterator[BatchRow]:
    """Yield the batches of recipients that come by ascending set and phone; mark their lines as seen."""
    alone = cut.kind(1)
    number, equal = 0, list[int]()  # recipients of the last set; the next chunk may add more
    for some in _chunks(ordered):
        numbers, phones, lines = zip(*some, strict=True)
        for line in lines:
            seen[line] = 1
        if number != numbers[0] and len(set(numbers)) == len(numbers):
            # Fast path: each recipient of this chunk is alone in its set. Only the last set may go on.
            yield from cut.rows(campaign, number, equal)
            packed = map(_pack_one, phones)
            singles = zip(repeat(campaign), numbers, repeat(alone), repeat(1), phones, phones, packed)
            yield from islice(singles, len(numbers) - 1)
            number, equal = numbers[-1], [phones[-1]]
            continue
        for of, group in groupby(some, itemgetter(0)):
            if of != number:
                yield from cut.rows(campaign, number, equal)
                number, equal = of, []
            equal.extend(phone for _, phone, _ in group)
    yield from cut.rows(campaign, number, equal)


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while some := list(islice(left, 300)):
        yield some


def _stream(connection: Any) -> Callable[[str, Sequence[object]], Iterable[Any]]:
    # SQLite reads row by row anyway; PostgreSQL needs a server-side cursor for that.
    stream: Callable[[str, Sequence[object]], Iterable[Any]]
    stream = getattr(connection, "stream", connection.execute)
    return stream


def _note_repeats(connection: sqlite3.Connection, campaign: int, load: int, seen: bytearray) -> None:
    """Skip the lines whose phone is in an earlier line, or in an earlier load with other parameters."""
    if load > 1:
        # The lines of recipients of an earlier load aren't marked as seen either, but are no duplicates.
        connection.execute(
            "INSERT INTO skipped SELECT r.campaign, s.line, "
            "CASE WHEN s.phone = before THEN 'duplicate' ELSE 'parameters_changed' END, "
            "'+' || coalesce((SELECT given FROM respelled g WHERE g.line = s.line), s.phone) "
            "FROM (SELECT *, lag(phone) OVER (ORDER BY phone, line) AS before FROM staged) s "
            "JOIN recipient r ON r.campaign = ? AND r.phone = s.phone "
            "WHERE s.phone = before OR r.parameter_set <> s.parameter_set",
            (campaign,),
        )
        return
    line = seen.find(0, 1)
    while line != -1:
        connection.execute(
            "INSERT INTO skipped SELECT ?, s.line, 'duplicate', "
            "'+' || coalesce((SELECT given FROM respelled g WHERE g.line = s.line), s.phone) "
            "FROM staged s WHERE s.line = ?",
            (campaign, line),
        )
        line = seen.find(0, line + 1)


def write_set(
    connection: sqlite3.Connection, campaign: int, number: int, phones: Iterable[int], cut: Cut
) -> None:
    """Cut recipients of one set, by ascending phone, into batches."""
    _insert_rows(connection, _INTO_BATCH, cut.rows(campaign, number, phones), _AT_ONCE)


def halve(connection: sqlite3.Connection, campaign: int, batch: Batch) -> list[Batch]:
    """Replace a batch by two halves; the first keeps its number. Return the halves with members to send."""
    middle = len(batch.members) // 2
    left, right = batch.members[:middle], batch.members[middle:]
    connection.execute(
        "UPDATE batch SET size = ?, last = ?, members = ? WHERE id = ?",
        (len(left), left[-1], pack(left), batch.id),
    )
    (number,) = connection.execute(
        f"{_INTO_BATCH} VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (campaign, batch.parameter_set, batch.kind, len(right), right[0], right[-1], pack(right)),
    ).fetchone()
    connection.execute(
        "UPDATE exception SET batch = ? WHERE batch = ? AND phone >= ?", (number, batch.id, right[0])
    )
    halves = [evolve(batch, members=left), evolve(batch, id=int(number), members=right)]
    return [half for half in halves if not skip_if_empty(connection, half)]


def skip_if_empty(connection: sqlite3.Connection, batch: Batch) -> bool:
    """Set a batch to skipped if each member has its own state; return whether it was set."""
    (own,) = connection.execute("SELECT count(*) FROM exception WHERE batch = ?", (batch.id,)).fetchone()
    if own < len(batch.members):
        return False
    connection.execute("UPDATE batch SET state = 'skipped', reason = NULL WHERE id = ?", (batch.id,))
    return True


def put_back(
    connection: sqlite3.Connection, campaign: int, found: Iterable[tuple[int, int, str]], cut: Cut
) -> None:
    """Move members (phone, batch, reason) from their batches into new pending batches."""
    leaving: dict[int, set[int]] = defaultdict(set)
    for phone, batch, _ in found:
        leaving[batch].add(phone)
    joining: dict[int, list[int]] = defaultdict(list)
    for batch, phones in leaving.items():
        number, members = connection.execute(
            "SELECT parameter_set, members FROM batch WHERE id = ?", (batch,)
        ).fetchone()
        joining[number].extend(phones)
        rest = [phone for phone in unpack(members) if phone not in phones]
        connection.execute(
            "UPDATE batch SET size = ?, members = ?, state = CASE WHEN ? = 0 THEN 'skipped' ELSE state END "
            "WHERE id = ?",
            (len(rest), pack(rest), len(rest), batch),
        )
    everybody = [(campaign, phone) for phones in leaving.values() for phone in phones]
    connection.executemany("DELETE FROM exception WHERE campaign = ? AND phone = ?", everybody)
    for number, phones_of_set in joining.items():
        write_set(connection, campaign, number, sorted(phones_of_set), cut)
