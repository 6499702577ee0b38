"""Tables in files: the reader of `.csv`, `.xlsx` and `.ods`, the writer of `.xlsx`, the rules for cells.

`Table.open` reads the header; `Table.rows` yields the rows, each with its line. A faulty file raises a
`ConfigurationError`. A faulty row has a `Defect` in place of its values.
"""

import codecs
import csv
import errno
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from datetime import time as time_of_day
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Self
from xml.sax.saxutils import escape

from attrs import define, field, frozen

from ._errors import ConfigurationError
from ._workbook import FAULTS, NoRoom, Workbook

__all__ = [
    "MOST_ROWS",
    "SPREADSHEETS",
    "Columns",
    "Defect",
    "Row",
    "SheetWriter",
    "Table",
    "Values",
    "neutral",
    "plain",
    "write_sheet",
]

# Names of the phone's column, folded; earlier ones come first.
PHONE_COLUMNS = (
    *("phone", "to", "mobile", "telephone", "telefon", "gsm", "cep"),
    *("cep telefonu", "cep telefon", "telefon numarasi", "telefon no", "gsm no", "cep no"),
    *("phone number", "mobile phone", "mobile number", "whatsapp", "tel", "handy", "mobil", "msisdn"),
)
STREAMED = (".xlsx", ".xlsm")
SPREADSHEETS = (*STREAMED, ".xlsb", ".xls", ".ods")
# A row that spans more lines than this is refused: a closing quote is probably missing.
TALLEST = 20
_SHOWN = 8  # columns in an error, so that one line stays readable
_PIECE = 1 << 20  # bytes that are decoded at a time
_BLOCK = 100  # records that are read at a time
_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")  # the first bytes of old and of encrypted office files
_SAMPLE = 4096  # bytes that show whether a file is UTF-16
# A line inside a cell that begins like a row: a phone, and the delimiter behind it.
_NEXT_ROW = re.compile(r'[\r\n][ \t"]*\+?[0-9][0-9 ().\-]{6,}"?[ \t]*[,;\t]')


@frozen
class Defect:
    """Why a row can't be used, in place of its values.

    Attributes:
        reason: a slug, such as "too_many_cells".
    """

    reason: str


Values = tuple[object, ...]
Row = tuple[int, object, Values | Defect]  # line, phone, the variables' values in the template's order


@frozen
class Columns:
    """Rows without a defect, column by column; that takes half the time of a tuple for each row.

    Attributes:
        lines: ascending.
        phones: as given.
        cells: the values of each variable.
    """

    lines: Sequence[int]
    phones: Sequence[str]
    cells: Sequence[Sequence[object]]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def values(self) -> list[Values]:
        """The variables' values of each row."""
        return [*zip(*self.cells, strict=True)] if self.cells else [()] * len(self)

    def __iter__(self) -> Iterator[Row]:
        return zip(self.lines, self.phones, self.values, strict=True)


Block = Columns | list[Row]


@define
class Table:
    """A file with a header. It may be read many times, by one reader at a time.

    Attributes:
        path: the file.
        columns: the header's names; "" for a column without one.
        numbers: the first five cells, such as "B7", in which a spreadsheet holds a phone as a number.
    """

    path: Path
    columns: tuple[str, ...]
    _records: "_Csv | _Sheet" = field(repr=False)
    numbers: list[str] = field(factory=list[str], init=False)

    @classmethod
    def open(cls, path: Path, *, encoding: str | None = None, sheet: str | int | None = None) -> "Table":
        """Read the header, and check that the whole of a `.csv` file can be decoded.

        Args:
            path: the file. `.xlsx` and `.xlsm` are streamed. `.ods`, `.xls` and `.xlsb` need the extra
                `excel`, and are held in memory. All others are read as CSV, with `,` `;` or tab.
            encoding: of a CSV file, such as "cp1254". None: UTF-8 or UTF-16.
            sheet: a spreadsheet's sheet, by its name or its number (from 1). None: the first with
                cells.

        Raises:
            ConfigurationError: if the file or its header can't be read, or an option doesn't fit the file.
        """
        if not path.is_file():
            problem = (
                "is no regular file, and a list is read twice" if path.exists() else "there is no such file"
            )
            raise ConfigurationError(f"{path}: {problem}")
        records = _records_of(path, encoding, sheet)
        for cells in chain.from_iterable(block for _, block in records.blocks()):
            if _has_text(cells):
                columns = tuple(" ".join(_text(cell).split()) for cell in cells)
                break
        else:
            raise ConfigurationError(f"{path}: its first line is empty; it must name the columns")
        _check_columns(path, columns)
        return cls(path, columns, records)

    @property
    def done(self) -> float:
        """The share of the file that was read, 0.0 to 1.0."""
        return self._records.done

    def phone_column(self) -> str | None:
        """Return the phone's column: one with a usual name, else the only column; None without either."""
        named = [column for column in self.columns if column]
        folded = {fold(column): column for column in reversed(named)}
        for name in PHONE_COLUMNS:
            if name in folded:
                return folded[name]
        return named[0] if len(named) == 1 and not self.is_headless else None

    @property
    def is_headless(self) -> bool:
        """Whether the first line seems to hold a recipient; taken for a header, it would be lost."""
        alone = len(self.columns) == 1 and re.match(r"\+?[0-9]", self.columns[0])
        return bool(alone) or any(len(re.findall("[0-9]", column)) >= 5 for column in self.columns)

    @property
    def description(self) -> str:
        """The columns, for an error; an error must not show a recipient's data."""
        if self.is_headless:
            return "the first line must name the columns, and it seems to hold a recipient"
        named = [column for column in self.columns if column]
        more = f" … and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        return f"the columns are: {', '.join(named[:_SHOWN])}{more}"

    def mapping(self, variables: Sequence[str], given: Mapping[str, str] | None) -> dict[str, str]:
        """Return the column of each variable, and of "phone": the given one, else that of the same name.

        Raises:
            ConfigurationError: if one has no column; the message lists the columns.
        """
        wanted = {name: " ".join(column.split()) for name, column in (given or {}).items()}
        if unknown := sorted(set(wanted) - {"phone", *variables}):
            takes = ", ".join(("phone", *variables))
            raise ConfigurationError(f"the mapping names {', '.join(unknown)}; the template takes: {takes}")
        folded = {fold(column): column for column in self.columns}
        wanted.setdefault("phone", self.phone_column() or "")
        for variable in variables:
            wanted.setdefault(variable, folded.get(fold(variable), ""))
        for name, column in wanted.items():
            if not column or column not in self.columns:
                which = f"column {column!r} for {name!r}" if column else f"column for {name!r}"
                fix = f"mapping={{{name!r}:'COLUMN'}}, in the terminal --map {name}=COLUMN"
                raise ConfigurationError(
                    f"{self.path} has no {which}; {self.description}. Rename one, or pass {fix}"
                )
        return wanted

    def rows(self, mapping: Mapping[str, str], variables: Sequence[str]) -> Iterator[Row]:
        """Yield the rows with content; `line` is the row's first line.

        A missing cell is empty. A row with more filled cells than the header has the defect "too_many_cells".

        Raises:
            ConfigurationError: if a quote isn't closed.
        """
        return chain.from_iterable(self.blocks(mapping, variables))

    def blocks(self, mapping: Mapping[str, str], variables: Sequence[str]) -> Iterator[Block]:
        """Yield the rows that `rows` yields, about a hundred at a time.

        Raises:
            ConfigurationError: if a quote isn't closed.
        """
        self.numbers.clear()
        place = self.columns.index(mapping["phone"])
        return self._blocks(place, [self.columns.index(mapping[variable]) for variable in variables])

    def _blocks(self, place: int, places: list[int]) -> Iterator[Block]:
        """Yield the blocks of the file, without the header."""
        is_plain = isinstance(self._records, _Csv)
        header = True
        for first, block in self._records.blocks():
            if header:
                before = next((n for n, cells in enumerate(block, 1) if _has_text(cells)), None)
                if before is None:
                    continue
                header = False
                first, block = first + before, block[before:]  # the rows after the header
            # The fast path saves half a microsecond a row.
            columns = _columns_of(block) if is_plain or _is_text(block) else []
            if len(columns) == len(self.columns) and all(map(str.strip, columns[place])):
                cells = [columns[n] for n in places]
                yield Columns(range(first, first + len(block)), columns[place], cells)
                continue
            yield [*self._judged(first, block, place, places)]

    def _judged(self, first: int, block: list[list[Any]], place: int, places: list[int]) -> Iterator[Row]:
        """Yield the rows of a block, one by one."""
        width = len(self.columns)
        sheet = self._records if isinstance(self._records, _Sheet) else None
        for line, cells in enumerate(block, first):
            if sheet is not None:
                if len(cells) > place and isinstance(cells[place], float) and len(self.numbers) < 5:
                    self.numbers.append(sheet.name_of(line, place))
                cells = [*map(_text, cells)]  # the same row, as texts
            if len(cells) != width:
                if any(map(str.strip, cells[width:])):
                    yield line, cells[place], Defect("too_many_cells")
                    continue
                cells += [""] * (width - len(cells))
            phone = cells[place]
            if (not phone or phone.isspace()) and not any(map(str.strip, cells)):
                continue
            yield line, phone, tuple([cells[n] for n in places])


def _records_of(path: Path, encoding: str | None, sheet: str | int | None) -> "_Csv | _Sheet":
    if path.suffix.lower() in SPREADSHEETS:
        if encoding is not None:
            raise ConfigurationError(f"{path}: encoding is for CSV files; a spreadsheet has none")
        return _Sheet(path, sheet)
    if sheet is not None:
        raise ConfigurationError(f"{path}: sheet is for {', '.join(SPREADSHEETS)}; a CSV file has none")
    return _Csv(path, encoding)


def _columns_of(block: list[list[str]]) -> list[tuple[str, ...]]:
    """Return the columns of rows; none if the rows aren't of one length."""
    try:
        return [*zip(*block, strict=True)]
    except ValueError:
        return []


def _is_text(block: list[list[Any]]) -> bool:
    return set(map(type, chain.from_iterable(block))) == {str}


def _has_text(cells: Sequence[object]) -> bool:
    return any(isinstance(cell, str) and cell.strip(",; \t\r\n") for cell in cells)


def fold(name: str) -> str:
    """Return a column's name without case and Turkish dots, to compare it."""
    return name.casefold().replace("i\u0307", "i").replace("\u0131", "i")


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{path}: its header names {', '.join(map(repr, twice))} more than once")


# ── CSV ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Csv:
    """A CSV file's records."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.path = path
        self.done = 0.0
        try:
            self._encoding = _encoding_of(path, encoding)
            self._skip, self._delimiter = self._dialect()
        except OSError as error:
            raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error

    def _open(self) -> IO[str]:
        return self.path.open(encoding=self._encoding, newline="")

    def _dialect(self) -> tuple[int, str]:
        """Return the number of lines to skip, and the delimiter that gives the first record most cells."""
        with self._open() as file:
            announced = re.fullmatch(r"sep=([,;\t])\s*", file.readline())  # as spreadsheets write it
        if announced:
            return 1, announced[1]
        cells: dict[str, int] = {}
        for delimiter in ",;\t":
            with self._open() as file:
                try:
                    first = next(
                        filter(_has_text, csv.reader(file, delimiter=delimiter, strict=True)), list[str]()
                    )
                except csv.Error:
                    first = list[str]()
            cells[delimiter] = len(first)
        return 0, max(cells, key=cells.__getitem__)

    def blocks(self) -> Iterator[tuple[int, list[list[str]]]]:
        """Yield the line of a block's first record, and the block. Each further record is one line below.

        Raises:
            ConfigurationError: if a quote isn't closed, or the file can't be read.
        """
        line = self._skip + 1
        failure: csv.Error | None = None
        try:
            with self.path.open("rb") as raw, TextIOWrapper(raw, self._encoding, newline="") as file:
                length = max(1, os.fstat(raw.fileno()).st_size)
                for _ in range(self._skip):
                    file.readline()
                reader = csv.reader(file, delimiter=self._delimiter, strict=True)
                size = _BLOCK + 1  # with the header
                while failure is None:
                    block: list[list[str]] = []
                    before = reader.line_num
                    try:
                        block.extend(islice(reader, size))
                    except csv.Error as error:
                        failure = error  # raised after the records that came before it
                    if not block:
                        break
                    size = _BLOCK
                    self.done = min(1.0, raw.tell() / length)
                    if failure is None and reader.line_num - before == len(block):
                        yield line, block
                        line += len(block)
                        continue
                    for cells in block:
                        height = _height(cells)
                        if height > 1:
                            self._check_height(line, height, cells)
                        yield line, [cells]
                        line += height
        except OSError as error:
            raise ConfigurationError(f"{self.path}, after line {line - 1}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{self.path}: was changed while it was read") from error
        if failure is not None:
            raise self._unclosed(line, str(failure)) from failure
        self.done = 1.0

    def _check_height(self, line: int, lines: int, cells: list[str]) -> None:
        """Refuse a record that contains other rows: one customer would get the numbers of the others."""
        if lines > TALLEST:
            raise self._unclosed(line, f"the row goes on for {lines:,} lines")
        if any(_NEXT_ROW.search(cell) for cell in cells):
            raise self._unclosed(line, "a cell holds the next row")

    def _unclosed(self, line: int, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}, line {line}: {problem}; is a quote missing?")


def _height(cells: list[str]) -> int:
    """Return the number of the file's lines that a record takes."""
    text = " ".join(cells)
    return 1 + text.count("\n") + text.count("\r") - text.count("\r\n")


def _encoding_of(path: Path, given: str | None) -> str:
    """Return an encoding that decodes the whole file.

    Raises:
        ConfigurationError: if the file can't be decoded, or the given encoding doesn't exist.
    """
    if given is not None:
        try:
            codecs.lookup(given)
        except LookupError:
            raise ConfigurationError(f"there is no encoding {given!r}; one is 'utf-8', or 'cp1254'") from None
    with path.open("rb") as raw:
        sample = raw.read(_SAMPLE)
        raw.seek(0)
        encoding = _guess(sample) or given or "utf-8"
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while piece := raw.read(_PIECE):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise ConfigurationError(_undecodable(path, encoding, given)) from None
    return encoding


def _guess(sample: bytes) -> str | None:
    """Return the encoding that a file's first bytes prove; None if they prove none."""
    if sample.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # In UTF-16 a digit has a zero byte: behind it in little-endian, before it in big-endian.
    half = len(sample) // 2
    if half and sample[1::2].count(0) > half // 2:
        return "utf-16-le"
    if half and sample[0::2].count(0) > half // 2:
        return "utf-16-be"
    return None


def _undecodable(path: Path, encoding: str, given: str | None) -> str:
    """Return the error for a file in another encoding: the first line, the count, the option."""
    lines: list[int] = []
    count = 0
    if encoding.startswith("utf-16"):
        return f"{path}: isn't complete {encoding.upper()}; save it as CSV UTF-8"
    with path.open("rb") as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                count += 1
                if not lines:
                    lines.append(number)
    name = "UTF-8" if given is None else encoding
    many = "1 line" if count == 1 else f"{count:,} lines"
    return (
        f"{path}: isn't {name}: {many} can't be read, the first is line {lines[0] if lines else 1}. Save it "
        "as CSV UTF-8, or name its encoding, such as encoding='cp1254', in the terminal --encoding cp1254"
    )


# ── spreadsheets ───────────────────────────────────────────────────────────────────────────────────────────


class _Sheet:
    """A spreadsheet's rows."""

    def __init__(self, path: Path, sheet: str | int | None) -> None:
        self.path = path
        self._book = _stream(path) if path.suffix.lower() in STREAMED else _CalamineBook(path)
        self._index = self._index_of(sheet)

    @property
    def done(self) -> float:
        """The share of the sheet that was read."""
        return self._book.done

    def _index_of(self, sheet: str | int | None) -> int:
        names, with_cells = self._book.names, self._book.with_cells
        if sheet is None:
            index = with_cells[0] if with_cells else -1
        elif isinstance(sheet, str):
            index = names.index(sheet) if sheet in names else -1
        else:
            index = -1 if isinstance(sheet, bool) else sheet - 1
        if index in with_cells:
            return index
        listed = ", ".join(f"{number + 1} {names[number]!r}" for number in with_cells) or "none"
        which = "with cells" if sheet is None else f"{sheet!r} with cells"
        raise ConfigurationError(f"{self.path}: has no sheet {which}; the sheets are: {listed}")

    def blocks(self) -> Iterator[tuple[int, list[list[Any]]]]:
        """Yield the number of a block's first row, and the block. The rows are consecutive.

        Raises:
            ConfigurationError: if the sheet can't be read to its end.
        """
        behind = 0
        try:
            for first, block in self._book.blocks(self._index):
                yield first, block
                behind = first + len(block) - 1
        except NoRoom as error:
            raise ConfigurationError(str(error)) from error
        except FAULTS as error:
            raise ConfigurationError(f"{self.path}, after row {behind}: {error}") from error

    def name_of(self, line: int, place: int) -> str:
        """Return a cell's name, such as "B7"."""
        letters, column = "", place + self._book.left + 1
        while column:
            column, rest = divmod(column - 1, 26)
            letters = chr(65 + rest) + letters
        return f"{letters}{line}"


def _stream(path: Path) -> Workbook:
    """Open a `.xlsx` file, whose rows are streamed."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_COMPOUND_FILE))
        if begins == _COMPOUND_FILE:
            raise ValueError("it is protected by a password, or an old .xls file; save it as .xlsx")
        return Workbook(path)
    except NoRoom as error:
        raise ConfigurationError(str(error)) from error
    except FAULTS as error:
        raise ConfigurationError(f"{path} can't be read as a spreadsheet: {error}") from error


class _CalamineBook:
    """The sheets of other kinds of spreadsheets. A sheet's cells are held in memory, outside Python.

    Attributes:
        names: the sheets' names, in order.
        with_cells: the indexes of the sheets with cells.
        done: the share of the sheet that was read last.
        left: the number of empty columns on the sheet's left; its rows don't have these cells.
    """

    def __init__(self, path: Path) -> None:
        self.done, self.left = 0.0, 0
        try:
            import python_calamine as calamine
        except ImportError:
            fix = "pip install 'desk360-async[excel]', or save it as .xlsx"
            raise ConfigurationError(f"{path}: {path.suffix} needs the extra 'excel': {fix}") from None
        try:
            # pyright is silenced, since the stub gives PathLike no type argument.
            self._book = calamine.CalamineWorkbook.from_path(str(path))  # pyright: ignore[reportUnknownMemberType]
        except calamine.PasswordError as error:
            raise ConfigurationError(f"{path}: is protected by a password; save it without one") from error
        except (calamine.CalamineError, OSError) as error:
            raise ConfigurationError(f"{path} can't be read as a spreadsheet: {error}") from error
        self.names = self._book.sheet_names
        kinds = [sheet.typ for sheet in self._book.sheets_metadata]
        self.with_cells = [i for i, kind in enumerate(kinds) if kind is calamine.SheetTypeEnum.WorkSheet]

    def blocks(self, index: int) -> Iterator[tuple[int, list[list[Any]]]]:
        """Yield the rows of a sheet in order."""
        import python_calamine as calamine

        try:
            sheet = self._book.get_sheet_by_index(index)
        except calamine.CalamineError as error:
            raise ValueError(str(error)) from error
        self.left = (sheet.start or (0, 0))[1]
        rows, number = iter(sheet.iter_rows()), 1
        while block := list(islice(rows, _BLOCK)):
            self.done = min(1.0, (number + len(block)) / max(1, sheet.total_height))
            yield number, block
            number += len(block)
        self.done = 1.0


def _text(cell: object) -> str:
    """Return a spreadsheet's cell as text: whole numbers without `.0`, dates in ISO 8601."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime):
        at_midnight = cell.time() == time_of_day()
        return cell.date().isoformat() if at_midnight else cell.isoformat(sep=" ")
    return "" if cell is None else str(cell)


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def neutral(cell: object) -> str:
    """Return a cell that no spreadsheet takes for a formula; a phone in E.164 is no formula.

    A leading apostrophe is the spreadsheets' own mark for text.
    """
    text = "" if cell is None else str(cell)
    if text.startswith(_FORMULA) and not _E164.fullmatch(text):
        return f"'{text}"
    return text


def plain(cell: str) -> str:
    """Return the text from which `neutral` made the cell."""
    text = cell.removeprefix("'")
    return text if neutral(text) == cell else cell


_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# ECMA-376: the parts without which no spreadsheet opens the file.
_PARTS = {
    "[Content_Types].xml": (
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
        f'Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
    ),
}
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
MOST_ROWS = 1_048_576  # of a sheet, its header included
# XML 1.0 doesn't allow these characters.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LIKE_ESCAPES = re.compile("_x(?=[0-9A-Fa-f]{4}_)")


class SheetWriter:
    """Writes a `.xlsx` file with a header, a row at a time; its memory doesn't grow with the rows.

    Texts are cells of text: phones keep their `+`, and formulas stay texts. Only integers are numbers.

    Args:
        file: the file, open for bytes. `close` completes it and leaves it open.
        columns: the header.

    Attributes:
        rows: the number of rows that were written, without the header.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        self.rows = 0
        with ExitStack() as stack:
            book = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1))
            for name, part in _PARTS.items():
                book.writestr(name, _HEAD + part)
            self._sheet = stack.enter_context(book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True))
            self._sheet.write(f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>{_row(columns)}'.encode())
            self._open = stack.pop_all()

    def writerow(self, cells: Sequence[object]) -> None:
        """Write a row.

        Raises:
            OSError: if the sheet is full, or the file can't be written.
        """
        if self.rows + 1 >= MOST_ROWS:
            raise OSError(errno.EFBIG, f"a sheet has {MOST_ROWS:,} rows; write .csv instead")
        self._sheet.write(_row(cells).encode())
        self.rows += 1

    def close(self) -> None:
        """Write the end, also after a failure.

        Raises:
            OSError: if the file can't be written.
        """
        with self._open:
            self._sheet.write(b"</sheetData></worksheet>")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_sheet(file: IO[bytes], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write a `.xlsx` file with a header, as `SheetWriter` does; return the number of rows.

    Raises:
        OSError: if it has more rows than a sheet has, or can't be written.
    """
    with SheetWriter(file, columns) as sheet:
        for row in rows:
            sheet.writerow(row)
    return sheet.rows


def _row(cells: Sequence[object]) -> str:
    return f"<row>{''.join(map(_cell, cells))}</row>"


def _cell(cell: object) -> str:
    if isinstance(cell, int):
        return f"<c><v>{cell}</v></c>"
    text = "" if cell is None else _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", str(cell))
    # Excel reads "_x0041_" as an escape. So the first "_" of such a text is escaped.
    text = escape(_LIKE_ESCAPES.sub("_x005F_x", text))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
