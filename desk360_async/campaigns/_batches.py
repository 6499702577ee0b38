"""Batches in the ledger: cut recipients with equal parameters into batches, halve a batch, put members back.

SQLite sorts the rows, since its sorter needs little memory for a list of any length. Rows are inserted by
ascending phone, which is the order of the unique key: five times as fast as in the order of the file.
"""

import sqlite3
import struct
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice, pairwise, repeat
from math import ceil
from operator import itemgetter
from typing import Any

from attrs import evolve, frozen

from desk360_async._json import decode_own
from desk360_async._phones import person_of
from desk360_async.campaigns._recipients import Staged
from desk360_async.campaigns._values import Batch, Kind, pack, unpack

# With this number of parameter sets or more, recipients are sorted by set: that bounds the memory. With
# fewer, the batches of all sets are filled at the same time.
MANY_SETS = 5000

_pack_one = struct.Struct("<Q").pack
_AT_ONE_GO = 250  # rows in one statement; a chunk of 5,000 is twenty of them
_STAGE_IN_SEQUENCE = "INSERT OR FAIL INTO staged VALUES (?, ?, ?)" + ", (NULL, ?, ?)" * (_AT_ONE_GO - 1)
_ROOM = 10_200  # recipients that join the open batches before the full ones are stored
_AT_ONCE = 100  # batches in memory while recipients are read on the same connection
# A file sorts more rows part by part: SQLite would write them twice, since they are more than the 16 runs of
# `LARGE_CACHE_KIB` that it merges at once. With 3 million different sets, that was a tenth of all bytes.
_SORTED_AT_ONCE = 1_100_000

# It notes a row that meets a recipient of its phone, and leaves the recipient as it is.
_NOTE_REPEATS = (
    "CREATE TEMP TRIGGER note_repeats BEFORE UPDATE ON main.recipient "
    "BEGIN INSERT INTO repeated VALUES (new.line, new.phone); SELECT RAISE(IGNORE); END"
)

StagedSet = tuple[int, bytes, str]  # its number, the digest of its text, its text
# Called before the recipients are taken in; returns the number of sets, at most `MANY_SETS`.
Prepare = Callable[[Any, int], int]
BatchRow = tuple[int, int, Kind, int, int, int, bytes, int | None]
_INTO_BATCH = "INSERT INTO batch (campaign, parameter_set, kind, size, first, last, members, line)"


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

    def rows(
        self, campaign: int, number: int, phones: Sequence[int], lines: Sequence[int] = ()
    ) -> Iterator[BatchRow]:
        """Cut one set's phones, in ascending order, into rows of the table `batch`.

        A batch with one phone gets the phone's line, if `lines` has the lines of the phones.
        """
        for at in range(0, len(phones), self.longest):
            members = phones[at : at + self.longest]
            size = len(members)
            yield (
                *(campaign, number, self.kind(size), size, members[0], members[-1], pack(members)),
                lines[at] if lines and size == 1 else None,
            )


def stage(connection: sqlite3.Connection, staged: Staged, sets: Iterable[StagedSet]) -> None:
    """Add recipients and sets to the staging tables."""
    _insert_rows(connection, "INSERT INTO staged_set", sets)
    pairs = [0] * (2 * _AT_ONE_GO + 1)
    for at in range(0, len(staged), _AT_ONE_GO):
        lines, phones, numbers = (
            column[at : at + _AT_ONE_GO] for column in (staged.lines, staged.phones, staged.sets)
        )
        if len(lines) == _AT_ONE_GO == lines[-1] - lines[0] + 1:
            # SQLite numbers the further lines itself, one by one: that saves a fifth of the time.
            pairs[0], pairs[1::2], pairs[2::2] = lines[0], phones, numbers
            connection.execute(_STAGE_IN_SEQUENCE, pairs)
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
    added = sum(
        connection.execute(
            "INSERT OR FAIL INTO set_digest SELECT ?, digest, number FROM staged_set "
            "WHERE digest >= ? AND digest < ? ORDER BY digest, number ON CONFLICT DO NOTHING",
            (campaign, low, high),
        ).rowcount
        for low, high in _digest_ranges(staged)
    )
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


def _parts(rows: int) -> int:
    """Return how many sorts rows take, if each sort writes them once."""
    return max(1, ceil(rows / _SORTED_AT_ONCE))


def _digest_ranges(digests: int) -> Iterator[tuple[bytes, bytes]]:
    """Return ranges, each from its first digest to before its second, with equal shares of the digests."""
    parts = _parts(digests)
    cuts = [(n * 65_536 // parts).to_bytes(2, "big") for n in range(1, parts)]
    return pairwise([b"", *cuts, b"\xff" * 17])  # a digest has 16 bytes


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
    (staged,) = connection.execute("SELECT count(*) FROM staged").fetchone()
    sets = prepare(connection, campaign)
    added = _add_recipients(connection, campaign, load)
    rows = _batch_rows(connection, (campaign, load), sets, cut, added)
    _insert_rows(connection, _INTO_BATCH, rows, _AT_ONCE)
    if added < staged:
        _store_repeats(connection, campaign, load)


def _add_recipients(connection: Any, campaign: int, load: int) -> int:
    """Add the staged recipients whose phones are new; return their number.

    In a file, the table `repeated` gets the other rows of a first load: finding them later takes a sort.
    """
    in_file = isinstance(connection, sqlite3.Connection)
    # Parameters of the statement would be sorted with each row.
    rows = f"{campaign:d}, phone, parameter_set, line, {load:d} FROM staged"
    if load == 1 and not in_file:
        # No row conflicts, and the server takes a quarter less time.
        query = f"INSERT INTO recipient SELECT DISTINCT ON (phone) {rows} ORDER BY phone, line"
        return int(connection.execute(query).rowcount)
    verb = _verb(connection)
    into = (
        f"{verb} INTO recipient SELECT {rows} WHERE true ORDER BY phone, line ON CONFLICT (campaign, phone)"
    )
    if load > 1:
        return int(connection.execute(f"{into} DO NOTHING").rowcount)
    connection.execute(_NOTE_REPEATS)
    added = connection.execute(f"{into} DO UPDATE SET line = excluded.line").rowcount
    connection.execute("DROP TRIGGER note_repeats")
    return int(added)


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
    connection: Any, load: tuple[int, int], sets: int, cut: Cut, recipients: int
) -> Iterator[BatchRow]:
    """Yield a load's new recipients as batches."""
    if sets == MANY_SETS:
        yield from _sorted_rows(_by_set(connection, load, recipients), cut, load[0])
        return
    # With few sets, one open batch per set is filled by ascending phone; that is cheaper than sorting by set.
    open_: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))
    columns: Iterable[Any]
    if isinstance(connection, sqlite3.Connection):
        columns = _columns(connection, load, sets)
    else:
        query = "SELECT parameter_set, phone FROM recipient WHERE campaign = ? AND load = ? ORDER BY phone"
        columns = (zip(*some, strict=True) for some in _chunks(_stream(connection)(query, load), _ROOM))
    for numbers, phones in columns:
        if numbers.count(numbers[0]) == len(numbers):
            open_[numbers[0]].extend(phones)
        else:
            # A list takes a phone in half the time of an array, and an array takes all of a list at once.
            joining: defaultdict[int, list[int]] = defaultdict(list)
            for number, phone in zip(numbers, phones, strict=True):
                joining[number].append(phone)
            for number, some in joining.items():
                open_[number].extend(some)
        if len(phones) == _ROOM:
            for number, members in open_.items():
                whole = len(members) // cut.longest * cut.longest
                yield from cut.rows(load[0], number, members[:whole])
                del members[:whole]
    for number in sorted(open_):
        yield from cut.rows(load[0], number, open_[number])


def _columns(
    connection: sqlite3.Connection, load: tuple[int, int], sets: int
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yield the sets and the phones of a load's recipients by ascending phone, many at a time.

    If there is one set, its number stands once. JSON takes a third of the time of a row for each recipient.
    """
    numbers = "json_array(min(parameter_set))" if sets == 1 else "json_group_array(parameter_set)"
    query = (
        f"SELECT {numbers}, json_group_array(phone) FROM (SELECT parameter_set, phone FROM recipient "  # noqa: S608  # constants
        "WHERE campaign = ? AND load = ? AND phone > ? ORDER BY phone LIMIT ?)"
    )
    last = 0
    while True:
        found = connection.execute(query, (*load, last, _ROOM)).fetchone()
        of, phones = map(decode_own, found)
        if not phones:
            return
        yield of, phones
        last = phones[-1]


def _by_set(connection: Any, load: tuple[int, int], recipients: int) -> Iterable[tuple[int, int, int]]:
    """Return (set, phone, line) of a load's recipients by ascending set and phone."""
    where, order = "FROM recipient WHERE campaign = ? AND load = ?", "ORDER BY parameter_set, phone"
    query = f"SELECT parameter_set, phone, line {where}"
    parts = _parts(recipients)
    if parts == 1 or not isinstance(connection, sqlite3.Connection):
        ordered: Iterable[tuple[int, int, int]] = _stream(connection)(f"{query} {order}", load)
        return ordered
    least, most = connection.execute(
        f"SELECT min(parameter_set), max(parameter_set) {where}", load
    ).fetchone()
    cuts = [least + n * (most + 1 - least) // parts for n in range(parts + 1)]
    part = f"{query} AND parameter_set >= ? AND parameter_set < ? {order}"
    return chain.from_iterable(connection.execute(part, (*load, low, high)) for low, high in pairwise(cuts))


def _sorted_rows(ordered: Iterable[tuple[int, int, int]], cut: Cut, campaign: int) -> Iterator[BatchRow]:
    """Yield the batches of recipients (set, phone, line) that come by ascending set and phone."""
    alone = cut.kind(1)
    number, equal = 0, list[tuple[int, int]]()  # recipients of the last set; the next chunk may add more
    for some in _chunks(ordered):
        numbers, phones, lines = zip(*some, strict=True)
        if number != numbers[0] and len(set(numbers)) == len(numbers):
            # Fast path: each recipient of this chunk is alone in its set. Only the last set may go on.
            yield from _rows_of(equal, cut, campaign, number)
            packed = map(_pack_one, phones)
            singles = zip(repeat(campaign), numbers, repeat(alone), repeat(1), phones, phones, packed, lines)
            yield from islice(singles, len(numbers) - 1)
            number, equal = numbers[-1], [(phones[-1], lines[-1])]
            continue
        for of, group in groupby(some, itemgetter(0)):
            if of != number:
                yield from _rows_of(equal, cut, campaign, number)
                number, equal = of, []
            equal.extend((phone, line) for _, phone, line in group)
    yield from _rows_of(equal, cut, campaign, number)


def _rows_of(members: list[tuple[int, int]], cut: Cut, campaign: int, number: int) -> Iterator[BatchRow]:
    return cut.rows(campaign, number, [phone for phone, _ in members], [line for _, line in members])


def _chunks(rows: Iterable[Any], size: int = 300) -> Iterator[list[Any]]:
    left = iter(rows)
    while some := list(islice(left, size)):
        yield some


def _stream(connection: Any) -> Callable[[str, Sequence[object]], Iterable[Any]]:
    # SQLite reads row by row anyway; PostgreSQL needs a server-side cursor for that.
    stream: Callable[[str, Sequence[object]], Iterable[Any]]
    stream = getattr(connection, "stream", connection.execute)
    return stream


def _store_repeats(connection: Any, campaign: int, load: int) -> None:
    """Skip the lines whose phone is in an earlier line, or in an earlier load with other parameters."""
    if load == 1:
        if isinstance(connection, sqlite3.Connection):
            repeated = "repeated"
        else:
            after = "SELECT *, lag(phone) OVER (ORDER BY phone, line) AS before FROM staged"
            repeated = f"(SELECT * FROM ({after}) ordered WHERE phone = before)"  # noqa: S608  # constants
        connection.execute(
            "INSERT INTO skipped SELECT ?, s.line, 'duplicate', "  # noqa: S608  # constants
            "'+' || coalesce((SELECT given FROM respelled g WHERE g.line = s.line), s.phone) "
            f"FROM {repeated} s",
            (campaign,),
        )
        return
    connection.execute(
        "INSERT INTO skipped SELECT r.campaign, s.line, "
        "CASE WHEN s.phone = before THEN 'duplicate' ELSE 'parameters_changed' END, "
        "'+' || coalesce((SELECT given FROM respelled g WHERE g.line = s.line), s.phone) "
        "FROM (SELECT *, lag(phone) OVER (ORDER BY phone, line) AS before FROM staged) s "
        "JOIN recipient r ON r.campaign = ? AND r.phone = s.phone "
        "WHERE s.phone = before OR r.parameter_set <> s.parameter_set",
        (campaign,),
    )


def write_set(
    connection: sqlite3.Connection, campaign: int, number: int, phones: Sequence[int], cut: Cut
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
        f"{_INTO_BATCH} VALUES (?, ?, ?, ?, ?, ?, ?, NULL) RETURNING id",
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
