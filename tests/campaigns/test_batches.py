"""Recipients in the order of their sets become batches: the quick way and the plain one cut alike."""

import random
import sqlite3
from contextlib import closing
from hashlib import blake2b
from itertools import groupby

import pytest

from desk360_async.campaigns import _batches
from desk360_async.campaigns._batches import BatchRow, Cut, _batch_rows, _sorted_rows
from desk360_async.campaigns._recipients import Staged
from desk360_async.campaigns._storage import CACHE_KIB, LARGE_CACHE_KIB, STAGING, larger_cache, migrate

Row = tuple[int, int, int]  # set, phone, line


def recipients(seed: int, largest: int) -> list[Row]:
    """Return a thousand or more recipients of sets with one member up to `largest`, mostly one."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for number in range(1, 1001):
        size = 1 if rng.random() < 0.99 else rng.randint(1, largest)
        rows += [(number, 905550000000 + len(rows) + n, rng.randint(2, 10**6)) for n in range(size)]
    return rows


def cut_plainly(rows: list[Row], cut: Cut) -> list[BatchRow]:
    groups = groupby(rows, key=lambda row: row[0])
    batches: list[BatchRow] = []
    for number, group in groups:
        _, phones, lines = zip(*group, strict=True)
        batches += cut.rows(7, number, phones, lines)
    return batches


@pytest.mark.parametrize("cut", [Cut("auto", 3), Cut("single", 3), Cut("bulk", 500)])
@pytest.mark.parametrize(("seed", "largest"), [(1, 1), (2, 3), (3, 700), (4, 5)])
def test_sets_of_one_and_of_many_are_cut_alike(seed: int, largest: int, cut: Cut) -> None:
    rows = recipients(seed, largest)
    assert list(_sorted_rows(iter(rows), cut, 7)) == cut_plainly(rows, cut)


@pytest.mark.parametrize("sets", [1, 3])
@pytest.mark.parametrize("room", [1, 10_000])
def test_few_sets_are_cut_alike_however_often_full_batches_are_stored(
    monkeypatch: pytest.MonkeyPatch, room: int, sets: int
) -> None:
    monkeypatch.setattr(_batches, "_ROOM", room)
    rows = [(n % sets, 905550000000 + n, n + 2) for n in range(1000)]
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE recipient (parameter_set, phone, line, campaign, load)")
    db.executemany("INSERT INTO recipient VALUES (?, ?, ?, 7, 1)", rows)
    cut = Cut("auto", 70)
    found = [*_batch_rows(db, (7, 1), sets, cut, len(rows))]
    assert sorted(found) == sorted(cut_plainly(sorted(rows), cut))
    db.close()


def taken_in(people: int) -> dict[str, list[tuple[object, ...]]]:
    """Take in people, of whom some are equal or have equal texts; return the rows of the tables."""
    rng = random.Random(people)
    texts = [f"offer {rng.randint(1, people)}" for _ in range(people)]
    sets = [(n, blake2b(text.encode(), digest_size=16).digest(), text) for n, text in enumerate(texts, 1)]
    phones = [905550000000 + rng.randint(1, 5 * people) for _ in texts]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db)
        db.executescript(STAGING)
        _batches.stage(db, Staged([*range(1, people + 1)], phones, [*range(1, people + 1)]), sets)
        _batches.take_in(db, 1, 1, Cut("auto", 3), _batches.prepare_file)
        tables = ("set_digest", "parameter_set", "recipient", "batch", "skipped")
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


@pytest.mark.parametrize("at_once", [1, 7, 200, 599])
def test_rows_that_are_sorted_part_by_part_are_taken_in_alike(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(_batches, "MANY_SETS", 2)
    whole = taken_in(600)
    monkeypatch.setattr(_batches, "_SORTED_AT_ONCE", at_once)
    assert taken_in(600) == whole
    assert all(len(rows) > 30 for rows in whole.values())


@pytest.mark.parametrize("lines", [[*range(2, 600)], [*range(2, 602, 2)], [*range(1, 250), 300], [9], []])
def test_staged_rows_keep_their_lines(lines: list[int]) -> None:
    """A skipped row leaves a gap between two lines."""
    db = sqlite3.connect(":memory:")
    db.executescript(STAGING)
    _batches.stage(db, Staged(lines, [n + 905550000000 for n in lines], [n % 7 for n in lines]), [])
    found = db.execute("SELECT line, phone, parameter_set FROM staged").fetchall()
    assert found == [(n, n + 905550000000, n % 7) for n in lines]
    db.close()


def test_a_larger_cache_lasts_to_the_end_of_its_block() -> None:
    db = sqlite3.connect(":memory:")
    with larger_cache(db):
        assert db.execute("PRAGMA cache_size").fetchone() == (-LARGE_CACHE_KIB,)
    assert db.execute("PRAGMA cache_size").fetchone() == (-CACHE_KIB,)
    db.close()
