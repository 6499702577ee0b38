"""Sheets of `.xlsx` files are streamed, and python-calamine, which holds them in memory, reads the same."""

import datetime
import errno
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openpyxl
import openpyxl.utils.datetime
import pytest
import python_calamine
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

from desk360_async import ConfigurationError
from desk360_async import _workbook as workbook
from desk360_async._tables import _HEAD, _MAIN, _OFFICE, _PARTS, Table, _text, write_sheet
from desk360_async._workbook import Workbook

LISTS = Path(__file__).parent.parent / "samples" / "lists"
FORMATS = (
    "d/m/yyyy",
    "[h]:mm",
    "0.00",
    '"d"0',
    "[Red]0;d",
    "[$-409]h:mm AM/PM",
    "\\d0",
    "[mm]:ss",
    "a/p",
    "@",
)
STYLES = (
    "<numFmts>"
    + "".join(
        f'<numFmt numFmtId="{164 + number}" formatCode="{code.replace(chr(34), "&quot;")}"/>'
        for number, code in enumerate(FORMATS)
    )
    + '</numFmts><cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf/>'
    + "".join(f'<xf numFmtId="{number}"/>' for number in (*range(1, 60), *range(164, 164 + len(FORMATS))))
    + "</cellXfs>"
)


def book(path: Path, rows: str, *, texts: str = "", main: str = "", namespace: str = _MAIN) -> Path:
    """Write a workbook from the XML of its rows."""
    more = "".join(
        f'<Relationship Id="{name}" Type="{_OFFICE}/{name}" Target="/xl/{name}.xml"/>'
        for name in ("styles", "sharedStrings")
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, part in _PARTS.items():
            part = part.replace("<sheets>", f"{main}<sheets>")
            file.writestr(name, _HEAD + part.replace("</Relationships>", f"{more}</Relationships>"))
        sheet = f'{_HEAD}<worksheet xmlns="{namespace}"><sheetData>{rows}</sheetData></worksheet>'
        file.writestr("xl/worksheets/sheet1.xml", sheet)
        file.writestr("xl/sharedStrings.xml", f'{_HEAD}<sst xmlns="{_MAIN}">{texts}</sst>')
        file.writestr("xl/styles.xml", f'{_HEAD}<styleSheet xmlns="{_MAIN}">{STYLES}</styleSheet>')
    return path


def change(path: Path, part: str, edit: Callable[[str], bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a workbook anew with one part changed."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(
                name, data if name != part else edit(data.decode()), method if name == part else None
            )
    return path


def stream(path: Path, sheet: int = 0) -> dict[tuple[int, int], str]:
    """Return the cells of a sheet that aren't empty, by row and column, as our reader reads them."""
    found: dict[tuple[int, int], str] = {}
    for first, rows in Workbook(path).blocks(sheet):
        for number, row in enumerate(rows, first):
            found |= {(number, column): _text(cell) for column, cell in enumerate(row) if cell != ""}
    return found


def hold(path: Path, sheet: int = 0) -> dict[tuple[int, int], str]:
    """Return the same by python-calamine."""
    page = python_calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_index(sheet)
    left = (page.start or (0, 0))[1]
    return {
        (number, column): _text(cell)
        for number, row in enumerate(page.iter_rows(), 1)
        for column, cell in enumerate(row, left)
        if cell != ""
    }


# ── the same as calamine ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["calc.xlsx", "numbers.xlsx", "second-sheet.xlsx"])
def test_the_samples_are_read_alike(name: str) -> None:
    names = python_calamine.CalamineWorkbook.from_path(str(LISTS / name)).sheet_names
    assert Workbook(LISTS / name).names == names
    for sheet in range(len(names)):
        assert stream(LISTS / name, sheet) == hold(LISTS / name, sheet)


FROM, TO = datetime.datetime(1904, 1, 2), datetime.datetime(2200, 1, 1)  # noqa: DTZ001  # as Excel holds them
MOMENTS = st.datetimes(FROM, TO).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
TEXTS = st.text("Aç漢 \t\n<&>\"'_x000D0+5.=#", max_size=12).filter(
    lambda text: not text.startswith(("=", "#"))
)
CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**14), 10**14)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | MOMENTS
    | st.timedeltas(datetime.timedelta(), datetime.timedelta(days=99)).map(
        lambda span: datetime.timedelta(seconds=span.days * 7919)
    )
    | st.times().map(lambda time: time.replace(microsecond=0))
    | st.sampled_from(["#N/A", "=1+1"])
    | TEXTS
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CELLS, max_size=5), max_size=8), st.booleans())
def test_random_sheets_of_openpyxl_are_read_alike(rows: list[list[Any]], from_1904: bool) -> None:
    made = openpyxl.Workbook()
    if from_1904:
        made.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    for number, row in enumerate(rows, 1):
        for column, cell in enumerate(row, 1):
            made.active.cell(number, column).value = cell
    with TemporaryDirectory() as folder:
        path = Path(folder) / "list.xlsx"
        made.save(path)
        assert stream(path) == hold(path)


def test_rich_text_merged_cells_links_and_a_late_first_row_are_read_alike(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    page = made.active
    page["C3"] = CellRichText("Dear ", TextBlock(InlineFont(b=True), "Ada"), " ! ")
    page["C5"], page["E5"], page["C9"] = "merged", "x", 905551112233
    page["C9"].hyperlink = "https://example.com/"
    page.merge_cells("C5:D6")
    made.save(tmp_path / "list.xlsx")
    assert stream(tmp_path / "list.xlsx") == hold(tmp_path / "list.xlsx")


XML = [
    "<row><c><v>90_5551112233</v></c></row>",
    "".join(f'<row><c s="{style}"><v>45000.75</v></c></row>' for style in range(1, 60 + len(FORMATS))),
    "".join(
        f'<row><c s="14"><v>{days}</v></c></row>'
        for days in (
            *(0, 0.5, 0.999999, 1, 59, 60, 61.25, 44927.99999999, 2958465, 2958465.999999, 2958466, 1e10),
            "x",
        )
    ),
    '<row r="2"><c r="B2" t="b"><v>1</v></c><c r="AA2" t="b"><v>0</v></c><c t="e"><v>#N/A</v></c></row>',
    '<row><c t="d"><v>2026-01-02</v></c><c t="d"><v>2026-01-02T03:04:05</v></c></row>',
    '<row><c t="d"><v>PT1H</v></c></row>',
    '<row><c t="str"><f>A1</f><v> x_x000D_y </v></c><c t="str"><f>A1</f></c></row>',
    "<row><c><f>1+1</f><v>2</v></c><c/></row>",
    '<row><c t="inlineStr"><is><t>  x </t></is></c><c t="inlineStr"><is/></c><c><is><t>q</t></is></c></row>',
    (
        '<row r="3"><c r="B3"><v>1</v></c><c r="A3"><v>2</v></c><c r="D3"><v>4</v></c></row>'
        '<row r="7"><c><v>5</v></c></row>'
    ),
    '<row r="2"><c r="b2"><v>1</v></c><c s="999"><v>2</v></c><c s="-1"><v>3</v></c></row>',
    '<row>\n <c>\n  <v>1</v>\n </c>\n</row><row/><row><c t="inlineStr"><is>\n <t>a</t>\n</is></c></row>',
    "".join(f'<row><c t="s"><v>{number}</v></c></row>' for number in range(9))
    + '<row><c t="s"><v/></c></row>',
    "",
]
SHARED = (
    '<si><t>a</t></si><si><r><t>ri</t></r><r><rPr><b/></rPr><t xml:space="preserve"> ch</t></r></si>'
    '<si><t>漢</t><rPh sb="0" eb="1"><t>kan</t></rPh></si><si><t xml:space="preserve">  x  </t></si>'
    "<si><t>l1_x000D_&#10;l2 &amp; &lt;</t></si><si/><si><t>  trimmed </t></si><si><t>_x005F_x000D_</t></si>"
    "<si><t><![CDATA[c<d]]></t></si>"
)


@pytest.mark.parametrize("main", ["", '<workbookPr date1904="1"/>'])
@pytest.mark.parametrize("rows", XML)
def test_every_kind_of_cell_is_read_alike(tmp_path: Path, rows: str, main: str) -> None:
    path = book(tmp_path / "list.xlsx", rows, texts=SHARED, main=main)
    assert stream(path) == hold(path)


def test_prefixed_names_and_strict_open_xml_are_read_alike(tmp_path: Path) -> None:
    cells = '<row><c t="inlineStr"><is><t>x</t></is></c><c/><c><v>1</v></c></row>'
    strict = book(tmp_path / "a.xlsx", cells, namespace="http://purl.oclc.org/ooxml/spreadsheetml/main")
    assert stream(strict) == {(1, 0): "x", (1, 2): "1"}
    prefixed = f'<x:row xmlns:x="{_MAIN}"><x:c><x:v>1</x:v></x:c></x:row>'
    assert stream(book(tmp_path / "b.xlsx", prefixed)) == {(1, 0): "1"}


def test_shared_texts_beyond_the_memory_are_read_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "_IN_MEMORY", 100)
    order = random.Random(1).sample(range(3000), 3000)
    texts = "".join(f"<si><t>ç{number}</t></si>" for number in range(3000))
    rows = "".join(f'<row><c t="s"><v>{number}</v></c></row>' for number in order)
    path = book(tmp_path / "list.xlsx", rows, texts=texts)
    assert stream(path) == {(row, 0): f"ç{number}" for row, number in enumerate(order, 1)}


# ── better than calamine ───────────────────────────────────────────────────────────────────────────────────


def test_an_error_that_is_newer_than_the_reader_is_an_empty_cell(tmp_path: Path) -> None:
    path = book(tmp_path / "list.xlsx", '<row><c t="e"><v>#SPILL!</v></c><c><v>1</v></c></row>')
    assert stream(path) == {(1, 1): "1"}


def test_a_moment_that_rounds_to_the_year_10000_is_a_number(tmp_path: Path) -> None:
    path = book(tmp_path / "list.xlsx", '<row><c s="14"><v>2958465.999999999</v></c></row>')
    assert stream(path) == {(1, 0): "2958465.999999999"}


def test_a_sheet_is_read_in_pieces(tmp_path: Path) -> None:
    with (tmp_path / "list.xlsx").open("wb") as file:
        write_sheet(file, ["phone"], ([f"+90555{number:07}"] for number in range(5000)))
    opened = Workbook(tmp_path / "list.xlsx")
    rows = opened.blocks(0)
    first, block = next(rows)
    assert (first, len(block) < 1000, 0 < opened.done < 0.2) == (1, True, True)
    assert (sum(len(block) for _, block in rows), opened.done) == (5001 - len(block), 1.0)


class Full:
    """A temporary file on a full disk: a write fails, or only the flush before a read."""

    def __init__(self, fails: str) -> None:
        self.fails = fails

    def write(self, data: bytes) -> int:
        """Write, or fail."""
        return len(data) if self.fails != "write" else self.seek(0)

    def seek(self, _: int) -> int:
        """Fail."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Leave nothing behind."""


@pytest.mark.parametrize("fails", ["write", "seek"])
def test_a_full_temporary_folder_is_named_and_not_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    head = '<row><c t="s"><v>0</v></c></row>'
    path = book(tmp_path / "list.xlsx", head, texts="<si><t>phone</t></si>")
    monkeypatch.setattr(workbook, "SpooledTemporaryFile", {bytes: lambda _: Full(fails)})
    problem = r"^the temporary folder .* can't be written to \(No space left on device\).* TMPDIR$"
    with pytest.raises(ConfigurationError, match=problem):
        Table.open(path)


# ── refused ────────────────────────────────────────────────────────────────────────────────────────────────

PHONE = '<row><c t="inlineStr"><is><t>phone</t></is></c></row>'


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('<row><c t="s"><v>7</v></c></row>', "refers to the text 7 of 0"),
        ('<row r="7"><c><v>1</v></c></row><row r="7"><c><v>1</v></c></row>', "row 7 comes after row 7"),
        ('<row r="1048577"><c><v>1</v></c></row>', "row 1048577 comes after"),
        ('<row r="2"><c r="XFE2"><v>1</v></c></row>', "row 2 has a cell in column 16,385"),
        ('<row r="2"><c r="7"><v>1</v></c></row>', "row 2 has a cell 7"),
        ('<row r="2"><c r="A5"><v>1</v></c></row>', "row 2 has a cell A5"),
        ('<row r="2"><c r="Ç2"><v>1</v></c></row>', "row 2 has a cell Ç2"),
        ("<row>", "mismatched tag"),
        (f"<row>{'<c/>' * 50_000}</row>", "a row, a text or a tag has more than 100,000 bytes"),
        (f'<row x="{"x" * 200_000}">', "a row, a text or a tag has more than 100,000 bytes"),
        (f"<row/><!--{'x' * 200_000}--><row/>", "a row, a text or a tag has more than 100,000 bytes"),
    ],
)
def test_a_sheet_that_breaks_the_rules_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str, problem: str
) -> None:
    monkeypatch.setattr(workbook, "_LONGEST", 100_000)
    path = book(tmp_path / "list.xlsx", PHONE + rows)
    with pytest.raises(ConfigurationError, match=problem):
        list(Table.open(path).rows({"phone": "phone"}, []))


def test_many_links_behind_the_rows_are_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_LONGEST", 100_000)
    path = book(tmp_path / "list.xlsx", f"{PHONE}</sheetData><sheetData>{'<c/>' * 50_000}")
    assert stream(path) == {(1, 0): "phone"}


def test_many_rows_of_empty_cells_are_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_LONGEST", 100_000)
    empty = "<row>" + "<c/>" * 500 + "</row>"
    path = book(tmp_path / "list.xlsx", PHONE + empty * 200 + PHONE)
    assert stream(path) == {(1, 0): "phone", (202, 0): "phone"}


def test_formulas_without_values_are_not_kept(tmp_path: Path) -> None:
    path = book(tmp_path / "list.xlsx", "<row><c><f>A1</f></c></row>\n" * 10_000)
    reader = workbook._Reader(workbook._SharedTexts(), {}, 0)
    for _ in Workbook(path)._feed("xl/worksheets/sheet1.xml", reader):
        assert len(reader.pieces) < 10


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        # An "id" of another namespace is no reference.
        ("xl/workbook.xml", 'r:id="rId1"', 'x:id="rId9" xmlns:x="u" r:id="rId1"'),
        ("xl/_rels/workbook.xml.rels", "worksheets/", "worksheets\\"),
    ],
)
def test_unusual_references_are_followed(tmp_path: Path, part: str, old: str, new: str) -> None:
    path = change(book(tmp_path / "list.xlsx", PHONE), part, lambda data: data.replace(old, new).encode())
    assert stream(path) == {(1, 0): "phone"}


def test_a_sheet_without_a_part_is_named(tmp_path: Path) -> None:
    path = book(tmp_path / "list.xlsx", PHONE)
    change(path, "xl/workbook.xml", lambda data: data.replace('r:id="rId1"', "").encode())
    with pytest.raises(ConfigurationError, match="the file lacks the sheet 'Sheet1'"):
        Table.open(path)


def test_a_small_part_of_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_MOST_HELD", 1000)
    with pytest.raises(ConfigurationError, match=r"xl/styles.xml has \S+ bytes, more than 1,000"):
        Table.open(book(tmp_path / "list.xlsx", PHONE))


def test_a_part_that_is_packed_otherwise_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "list.xlsx", PHONE)
    change(path, "xl/styles.xml", str.encode, method=zipfile.ZIP_LZMA)
    with pytest.raises(ConfigurationError, match=r"xl/styles.xml is packed by method 14; spreadsheets use 8"):
        Table.open(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_MOST_UNPACKED", 1000)
    path = book(tmp_path / "list.xlsx", " " * 1_000_000)
    with pytest.raises(ConfigurationError, match=r"sheet1.xml has 1,000,\d+ bytes, packed into"):
        Table.open(path)


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("before", ["", f"<!--{' ' * (workbook._PIECE - 12)}-->"])
def test_entities_are_refused(tmp_path: Path, part: str, encoding: str, before: str) -> None:
    path = book(tmp_path / "list.xlsx", "<row/>")
    head = f'{before}<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]>'
    change(path, part, lambda data: data.replace(_HEAD, head).encode(encoding))
    with pytest.raises(ConfigurationError, match="has a document type, which no spreadsheet has"):
        Table.open(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.xlsx"
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1000))
    with pytest.raises(ConfigurationError, match="protected by a password, or an old"):
        Table.open(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("content.xml", "<x/>")
    with pytest.raises(
        ConfigurationError, match=r"can't be read as a spreadsheet: the file lacks _rels/\.rels"
    ):
        Table.open(path)


def test_a_damaged_file_is_refused_behind_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "list.xlsx"
    with path.open("wb") as file:
        write_sheet(file, ["phone"], ([f"+90555{number:07}"] for number in range(50_000)))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"list.xlsx, after row \d+: "):
        list(Table.open(path).rows({"phone": "phone"}, []))
