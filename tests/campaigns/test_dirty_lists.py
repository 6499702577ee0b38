"""Lists with random dirt, in random encodings and formats, from the file to the server.

Each person whom a list means is sent to once, and each other row is named. DESK360_TESTS_TIMES=10
tries ten times as many lists.
"""

import csv
import io
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import escape
from zipfile import ZipFile

import openpyxl
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import AsyncDesk360
from desk360_async.campaigns import Campaign
from tests.campaigns.harness import Harness, finish

EXAMPLES = 40 * int(os.environ.get("DESK360_TESTS_TIMES", "1"))
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1254")
NAMES = st.text("AbcçşİğüÖ ,;\"'|=+-0123456789", min_size=1, max_size=12).filter(str.strip)
# Few, so that a person is on several rows; the sandbox refuses numbers that end in zeros.
NUMBERS = st.integers(0, 5).map(lambda n: 1_111_111 * n + 1)


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


def write_ods(path: Path, table: list[list[str]]) -> None:
    """Write a document of LibreOffice's kind; a tab or a run of blanks is an element there."""
    names = "urn:oasis:names:tc:opendocument:xmlns:"
    cells = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    rows = "".join(
        f"<table:table-row>{''.join(map(cells.format, map(escape, row)))}</table:table-row>" for row in table
    )
    with ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr("META-INF/manifest.xml", "<manifest/>")
        book.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{names}office:1.0" xmlns:table="{names}table:1.0" '
            f'xmlns:text="{names}text:1.0"><office:body><office:spreadsheet><table:table table:name="a">'
            f"{rows}</table:table></office:spreadsheet></office:body></office:document-content>",
        )


async def send(client: AsyncDesk360, campaign: Campaign, path: Path, encoding: str | None) -> list[int]:
    """Send a list; return the lines that were left out."""
    mapping = {"phone": "Telefon", "body-1": "Ad"}
    await campaign.load(client, path, mapping=mapping, region="TR", encoding=encoding)
    await finish(campaign, client, signals=False)
    return [line for line, reason, _ in await campaign.skipped() if reason]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "ods"])
@settings(deadline=None, max_examples=EXAMPLES)
@given(data=st.data(), people=st.lists(rows(), min_size=1, max_size=12))
def test_each_person_who_is_meant_is_sent_to_once_and_each_other_row_is_named(
    kind: str, data: st.DataObject, people: list[DirtyRow]
) -> None:
    table = [["Telefon", "Ad"], *([row.cell, row.name] for row in people)]
    encoding = data.draw(st.sampled_from(ENCODINGS)) if kind == "csv" else None
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"list.{kind}"
        if kind == "ods":
            write_ods(path, table)
        elif encoding is None:
            write_xlsx(path, table)
        else:
            write_csv(path, table, encoding, data.draw(st.sampled_from(",;\t")))
        harness, named = Harness(Path(folder), "asyncio"), encoding if encoding == "cp1254" else None
        left_out = harness.play(lambda client: send(client, harness.campaign(), path, named))
    lines: dict[str, int] = {}  # of each person who is meant, the first
    for line, row in enumerate(people, 2):
        if row.meant is not None and row.name:
            lines.setdefault(row.meant, line)
    filled = {line for line, row in enumerate(people, 2) if row.cell or row.name}
    assert sorted(harness.received()) == sorted(lines)
    assert left_out == sorted(filled - set(lines.values()))
