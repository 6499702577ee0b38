"""Lists with random dirt, in random encodings and formats: each row is sent to whom it means, or named."""

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async._phones import Reader
from desk360_async._tables import Table
from desk360_async.campaigns._recipients import Intake

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1254")
NAMES = st.text("AbcçşİğüÖ ,;\"'|=+-0123456789", min_size=1, max_size=12).filter(str.strip)
NUMBERS = st.integers(0, 9_999_999)


@frozen
class DirtyRow:
    """A row of a list.

    Attributes:
        cell: the phone as it is written.
        meant: the number that it means in E.164; None if it means none for sure.
        name: the variable's text; "" for a missing one.
    """

    cell: str
    meant: str | None
    name: str


def spellings(number: int) -> list[tuple[str, bool]]:
    """Return ways to write a Turkish mobile, and whether each means one number for sure."""
    b, c = divmod(number, 10_000)
    local = f"532 {b:03} {c:04}"
    bare = local.replace(" ", "")
    return [
        (f"+90{bare}", True),
        (f"+90 {local}", True),
        (f"0{local}", True),
        (f"0(532) {b:03}-{c:04}", True),
        (f"\u202a+90\u00a0{local}\u202c", True),
        (bare, True),
        (f"90{bare}.0", False),
        (f"+90{bare}.0", False),
        (f"+90 0{local}", False),
        (f"0{local} Ada", False),
        (f"0{local} / 0{local}", False),
        (f"0{local}-34", False),
        ("9,05551E+11", False),
        (f"+90{bare}\t;", False),
        ("", False),
    ]


@st.composite
def rows(draw: st.DrawFn) -> DirtyRow:
    """Draw a row."""
    number = draw(NUMBERS)
    cell, means = draw(st.sampled_from(spellings(number)))
    meant = f"+90532{number:07}" if means else None
    return DirtyRow(cell, meant, draw(NAMES | st.just("")))


def write_csv(path: Path, table: list[list[str]], encoding: str, delimiter: str) -> None:
    """Write a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(table)
    path.write_bytes(text.getvalue().encode(encoding, "ignore"))  # cp1254 has no bidi marks


def write_xlsx(path: Path, table: list[list[str]]) -> None:
    """Write a workbook."""
    book = openpyxl.Workbook()
    for number, row in enumerate(table, 1):
        for column, cell in enumerate(row, 1):
            book.active.cell(number, column).value = cell or None
            book.active.cell(number, column).data_type = "s" if cell else "n"
    book.save(path)


def judge(path: Path, encoding: str | None) -> tuple[dict[int, str], dict[int, str]]:
    """Return line → phone of the rows that are sent to, and line → reason of the rows that are left out."""
    table = Table.open(path, encoding=encoding)
    intake = Intake(["name"], frozenset(), Reader("TR"))
    found = table.rows({"phone": "Telefon", "name": "Ad"}, ["name"])
    staged, skipped = intake.judge(found, lambda parameters: 1)
    return {line: f"+{phone}" for line, phone, _ in staged}, {line: reason for line, reason, _ in skipped}


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@settings(deadline=None, max_examples=60)
@given(data=st.data(), people=st.lists(rows(), min_size=1, max_size=12))
def test_each_row_is_sent_to_whom_it_means_or_is_named(
    kind: str, data: st.DataObject, people: list[DirtyRow]
) -> None:
    table = [["Telefon", "Ad"], *([row.cell, row.name] for row in people)]
    encoding = data.draw(st.sampled_from(ENCODINGS)) if kind == "csv" else None
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"list.{kind}"
        if encoding is None:
            write_xlsx(path, table)
        else:
            write_csv(path, table, encoding, data.draw(st.sampled_from(",;\t")))
        sent, left_out = judge(path, encoding if encoding == "cp1254" else None)
    for line, row in enumerate(people, 2):
        if row.meant is not None and row.name:
            assert sent.pop(line) == row.meant
        elif row.cell or row.name:
            assert left_out.pop(line)
    assert (sent, left_out) == ({}, {})
