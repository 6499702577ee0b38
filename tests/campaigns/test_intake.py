"""Values become sets of parameters: by the block and row by row, with the same numbers and reasons."""

import json
import random
from collections.abc import Iterable, Sequence

import pytest
from attrs import frozen
from hypothesis import given, strategies

from desk360_async._phones import Reader
from desk360_async._tables import Block, Columns, Row
from desk360_async.campaigns import _recipients
from desk360_async.campaigns._ledger import spell
from desk360_async.campaigns._recipients import Intake, Skipped

ODD = ["", "  ", "a     b", "tab\there", "line\nbreak", "\ud800", "nul\0"]


class Numbers:
    """Numbers sets of texts, and remembers them."""

    def __init__(self) -> None:
        self.sets: list[tuple[str, ...]] = []

    def __call__(self, sets: Sequence[tuple[str, ...]]) -> Sequence[int]:
        self.sets += sets
        return range(len(self.sets) - len(sets), len(self.sets))


def blocks_of(seed: int, variables: int, odd: float) -> list[Columns]:
    """Return ten blocks of rows; some values are equal, and a share of them is odd."""
    rng = random.Random(seed)

    def value() -> str:
        return rng.choice(ODD) if rng.random() < odd else f"{rng.randint(1, 600)}% of  a price"

    return [
        Columns(
            range(first, first + 100),
            [f"+90555{n:07}" for n in range(first, first + 100)],
            [[value() for _ in range(100)] for _ in range(variables)],
        )
        for first in range(1, 1001, 100)
    ]


def by_row(block: Columns, variables: int) -> list[Row]:
    """Return the block's rows, and one in the middle whose phone is no text: none is judged by columns."""
    rows = [*block]
    return [*rows[:50], (0, None, ("x",) * variables), *rows[50:]]


@frozen
class Judged:
    """The texts of each staged recipient, the skipped rows, the warnings, and all sets that got a number."""

    people: list[tuple[int, int, tuple[str, ...]]]
    skipped: list[Skipped]
    warnings: list[str]
    sets: list[tuple[str, ...]]


def judge(blocks: Iterable[Block], variables: int, *, clean: bool = False) -> Judged:
    """Judge blocks as one load does."""
    intake = Intake([f"body-{n}" for n in range(variables)], frozenset(), Reader(), clean=clean)
    numbers = Numbers()
    staged, skipped = intake.judge(blocks, numbers)
    people = [(line, phone, numbers.sets[number]) for line, phone, number in staged]
    return Judged(people, [row for row in skipped if row[0]], intake.warnings(None), numbers.sets)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("variables", [0, 1, 2])
@pytest.mark.parametrize(("seed", "odd"), [(1, 0.0), (2, 0.002), (3, 0.2)])
def test_a_block_is_judged_as_its_rows_are(seed: int, odd: float, variables: int, clean: bool) -> None:
    blocks = blocks_of(seed, variables, odd)
    one = judge(blocks, variables, clean=clean)
    other = judge([by_row(block, variables) for block in blocks], variables, clean=clean)
    assert (one.people, one.skipped, one.warnings) == (other.people, other.skipped, other.warnings)
    assert len(one.people) + len(one.skipped) == 1000


@pytest.mark.parametrize("variables", [0, 1, 2])
def test_equal_values_have_one_number_in_blocks_and_in_rows(variables: int) -> None:
    """Each second block is judged row by row."""
    blocks = blocks_of(4, variables, 0.0)
    mixed = [block if n % 2 else by_row(block, variables) for n, block in enumerate(blocks)]
    sets = judge(mixed, variables).sets
    assert len(sets) == len(set(sets))


def test_the_numbers_of_many_sets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a load is bounded; the ledger unites sets with two numbers."""
    all_remembered = judge(blocks_of(5, 1, 0.002), 1)
    monkeypatch.setattr(_recipients, "REMEMBERED", 150)
    some = judge(blocks_of(5, 1, 0.002), 1)
    assert some.people == all_remembered.people
    assert len(some.sets) > len(all_remembered.sets)


@given(strategies.dictionaries(strategies.text(), strategies.text(), max_size=3))
def test_a_set_is_spelled_as_json_spells_it(parameters: dict[str, str]) -> None:
    text = json.dumps(parameters, ensure_ascii=False, separators=(",", ":"))
    assert spell(parameters, [tuple(parameters.values())]) == [text]
