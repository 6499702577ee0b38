"""Sheets of `.xlsx` files, streamed row by row. Texts that cells share go into a temporary file.

Names and rules come from ECMA-376, part 1: 18.3 (sheets), 18.4 (shared texts), 18.8 (styles). The file isn't
trusted. A document type is refused, since it could define entities. Rows, tags and parts are refused if they
are larger than any that a spreadsheet writes.
"""

import posixpath
import re
import weakref
import zipfile
import zlib
from array import array
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, time, timedelta
from functools import lru_cache, reduce
from itertools import groupby
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

__all__ = ["FAULTS", "NoRoom", "Workbook"]

Cell = str | float | bool | datetime | time | timedelta  # "" for an empty cell
_Row = tuple[int, list[Cell]]  # a row's number, and its cells
# The errors that a broken file raises while it is read.
FAULTS = (
    *(OSError, EOFError, LookupError, RuntimeError, ValueError),
    *(ElementTree.ParseError, expat.ExpatError, zipfile.BadZipFile, zlib.error),
)

_PIECE = 1 << 15  # bytes of XML that are parsed at a time
_IN_MEMORY = 1 << 20  # bytes of shared texts that are kept in memory
_KEPT = 1000  # shared texts that are kept decoded
_MOST_ROWS, _MOST_COLUMNS = 1_048_576, 16_384  # a sheet's limits in Excel
_LONGEST = 4_000_000  # bytes of a row, a shared text or a tag; Excel's cells hold 32,767 characters
# Deflate packs a bomb 1,000:1, and a sheet of 1,048,576 rows at most 30:1.
_MOST_UNPACKED, _MOST_RATIO = 100_000_000, 100
_MOST_HELD = 16_000_000  # bytes of a part that is held in memory; Excel's 65,490 styles take about 10 MB
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # other compressions raise more kinds of errors

# The elements that are read, in the namespaces of Office and of "Strict Open XML".
_NAMESPACES = (
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "http://purl.oclc.org/ooxml/spreadsheetml/main",
)
_KINDS = {
    f"{name} {kind}": kind for name in _NAMESPACES for kind in ("row", "c", "v", "t", "is", "si", "rPh")
}
# The attribute that refers to a sheet's part, in the namespaces of Office and of "Strict Open XML".
_REFERENCES = tuple(
    f"{{http://{name}/relationships}}id"
    for name in ("schemas.openxmlformats.org/officeDocument/2006", "purl.oclc.org/ooxml/officeDocument")
)
_SPACE = "http://www.w3.org/XML/1998/namespace space"
_BLANKS = " \t\r\n"
_ESCAPED = re.compile("_x(?![dD][89a-fA-F])([0-9A-Fa-f]{4})_")
# The ids of the number formats for moments, and the id of the format for durations (18.8.30).
_MOMENTS, _DURATION = (*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)), 46
_LITERAL = re.compile(r'"[^"]*"|[\\_].|\[(?!(?:h+|m+|s+)\])[^\]]*\]', re.IGNORECASE)
_DATE_LETTER = re.compile(r"\[[hms]|[dmyhs]|a/p", re.IGNORECASE)
_DAY = 86_400_000  # ms
_FIRST = datetime(1899, 12, 30)  # noqa: DTZ001  # a sheet has no zones
_MOST_DAYS, _DAYS_TO_1904 = 2_958_466, 1_462


class NoRoom(Exception):
    """The temporary folder is full; the list itself is sound. The message names the folder and the fix."""


class Workbook:
    """A `.xlsx` or `.xlsm` file.

    Attributes:
        names: the sheets' names, in order.
        with_cells: the indexes of the sheets with cells. Other sheets are charts or dialogues.
        done: the share that has been read of the sheet opened last, 0.0 to 1.0.
        left: the number of empty columns on the left that rows leave out: always 0.
    """

    left = 0

    def __init__(self, path: Path) -> None:
        """Read all parts except the sheets. A file that can't be read raises one of `FAULTS`.

        Raises:
            NoRoom: if the temporary file has no room.
        """
        self.done = 0.0
        self._book = zipfile.ZipFile(path)
        self._parts = {_slashed(name).lower(): name for name in self._book.namelist()}
        (main,) = self._targets("", "/officeDocument").values() or ("the workbook",)
        targets, root = self._targets(main), self._read(main)
        sheets = [element.attrib for element in root.iter(_namespace(root) + "sheet")]
        self.names = [attributes.get("name", "") for attributes in sheets]
        ids = [next(filter(None, map(attributes.get, _REFERENCES)), "") for attributes in sheets]
        self._sheets = [
            targets.get(of, f"the sheet {name!r}") for of, name in zip(ids, self.names, strict=True)
        ]
        without = {*self._targets(main, "/chartsheet"), *self._targets(main, "/dialogsheet")}
        self.with_cells = [index for index, of in enumerate(ids) if of not in without]
        dates = [element.get("date1904") for element in root.iter(_namespace(root) + "workbookPr")]
        self._days_before = _DAYS_TO_1904 if dates and dates[0] in ("1", "true") else 0
        parts = self._targets(main, "/styles").values()
        self._styles: dict[str, str] = {}
        for part in parts:
            self._styles.update(_kinds_of_styles(self._read(part)))
        self._texts = _SharedTexts()
        for part in self._targets(main, "/sharedStrings").values():
            reader = _Reader(self._texts, {}, 0)
            for rows in self._feed(part, reader):
                for _, (text,) in rows:
                    self._texts.add(str(text))

    def blocks(self, index: int) -> Iterator[tuple[int, list[list[Cell]]]]:
        """Yield a sheet's rows in blocks of consecutive rows: the first row's number, and the rows.

        A row ends with its last filled cell. Rows without a filled cell are left out.

        Raises:
            NoRoom: if the temporary file has no room.
            FAULTS: if the sheet can't be read to its end.
        """
        reader = _Reader(self._texts, self._styles, self._days_before)
        for rows in self._feed(self._sheets[index], reader):
            for _, group in groupby(enumerate(rows), lambda row: row[1][0] - row[0]):
                block = [row for _, row in group]
                yield block[0][0], [cells for _, cells in block]

    def _targets(self, part: str, kind: str = "") -> dict[str, str]:
        """Return the parts of a kind that `part` refers to: reference's id → part."""
        folder, name = posixpath.split(part)
        found: dict[str, str] = {}
        for element in self._read(posixpath.join(folder, "_rels", f"{name}.rels")):
            if element.get("Type", "").endswith(kind):
                target = posixpath.normpath(posixpath.join("/", folder, _slashed(element.get("Target", ""))))
                found[element.get("Id", "")] = target.lstrip("/")
        return found

    def _read(self, part: str) -> Element:
        """Return the root of a small part."""
        info = self._info(part)
        if info.file_size > _MOST_HELD:
            raise ValueError(f"{part} has {info.file_size:,} bytes, more than {_MOST_HELD:,}")
        parser = ElementTree.XMLParser(target=_Tree())  # noqa: S314  # it refuses entities
        return ElementTree.fromstring(self._book.read(info), parser)  # noqa: S314  # the same

    def _feed(self, part: str, reader: "_Reader") -> Iterator[list["_Row"]]:
        """Parse a part in pieces. After each piece, yield the rows that are complete."""
        info = self._info(part)
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
        parser.CharacterDataHandler = reader.pieces.append
        parser.StartDoctypeDeclHandler = _refuse_doctype
        fed = waited = ended = 0
        with self._book.open(info) as file:
            while piece := file.read(_PIECE):
                parser.Parse(piece)
                fed += len(piece)
                self.done = fed / info.file_size
                rows, reader.rows = reader.rows, []
                waited = waited + len(piece) if reader.is_inside and reader.ended == ended else 0
                ended = reader.ended
                # expat holds a tag or a comment until it ends, and scans it again for each piece.
                if max(waited, fed - parser.CurrentByteIndex) > _LONGEST:
                    raise ValueError(f"{part}: a row, a text or a tag has more than {_LONGEST:,} bytes")
                if not reader.is_inside:
                    reader.pieces.clear()
                yield rows
        parser.Parse(b"", True)
        yield reader.rows

    def _info(self, part: str) -> zipfile.ZipInfo:
        """Return a part's place in the file."""
        name = self._parts.get(part.lower())
        if name is None:
            raise ValueError(f"the file lacks {part}")
        info = self._book.getinfo(name)
        if info.compress_type not in _METHODS:
            raise ValueError(f"{part} is packed by method {info.compress_type}; spreadsheets use 8")
        if info.file_size > max(_MOST_UNPACKED, _MOST_RATIO * info.compress_size):
            raise ValueError(f"{part} has {info.file_size:,} bytes, packed into {info.compress_size:,}")
        return info


class _Tree(ElementTree.TreeBuilder):
    """The elements of a part without a document type."""

    def doctype(self, name: str, pubid: str, system: str) -> NoReturn:
        """Refuse a document type."""
        _refuse_doctype(name, system, pubid, True)


def _refuse_doctype(name: str, system: str | None, public: str | None, has_subset: int, /) -> NoReturn:
    """Raise an error. expat calls this function before the first entity, in any encoding."""
    raise ValueError("a part has a document type, which no spreadsheet has")


def _slashed(path: str) -> str:
    return path.replace("\\", "/")  # some programs for Windows write backslashes


def _namespace(element: Element) -> str:
    """Return the prefix for the names of an element and of its children; it differs in "Strict Open XML"."""
    return element.tag[: element.tag.find("}") + 1]


@contextmanager
def _room() -> Generator[None]:
    """Raise `NoRoom` where the temporary file can't be written."""
    try:
        yield
    except OSError as error:
        raise NoRoom(
            f"the temporary folder {gettempdir()} can't be written to ({error.strerror}): the texts of the "
            "spreadsheet need room there. Free some, or name another folder in TMPDIR"
        ) from error


class _SharedTexts:
    """The texts that cells share, in a temporary file. A list of recipients has one text for each phone."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile[bytes](_IN_MEMORY)
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])

    def add(self, text: str) -> None:
        """Add the next text."""
        with _room():
            self._ends.append(self._ends[-1] + self._file.write(text.encode()))

    def read(self, index: int) -> str:
        """Return the text at an index; raise ValueError if there is no such text."""
        if not 0 <= index < len(self._ends) - 1:
            raise ValueError(f"a cell refers to the text {index} of {len(self._ends) - 1}")
        with _room():
            self._file.seek(self._ends[index])
        return self._file.read(self._ends[index + 1] - self._ends[index]).decode()


class _Reader:
    """Makes rows from the XML events of a sheet or of the shared texts. A shared text is a row of one cell.

    Attributes:
        rows: the complete rows: a row's number, and its cells up to the last filled cell.
        pieces: the pieces of the text that is open.
        is_inside: whether a row, or a shared text, is open.
        ended: the number of rows and shared texts that have ended, including empty ones.
    """

    def __init__(self, texts: _SharedTexts, styles: dict[str, str], days_before: int) -> None:
        self.rows: list[_Row] = []
        self.pieces: list[str] = []
        self._shared = lru_cache(_KEPT)(texts.read)
        self._styles, self._days_before = styles, days_before
        self.ended = self._number = self._column = 0
        self._digits = ""  # the row's number; the names of its cells end with it
        self._cells: list[Cell] = []
        self._cell: dict[str, str] = {}
        self._runs = ""
        self.is_inside = self._keeps_blanks = self._is_aid = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take an element's start."""
        kind = _KINDS.get(name)
        if kind == "c":
            self._cell, place = attributes, attributes.get("r")
            self._column = _column_of(place.removesuffix(self._digits)) if place else self._column + 1
            if not self._column:
                raise ValueError(f"row {self._number} has a cell {place}")
        elif kind == "v":
            self.pieces.clear()
        elif kind == "t":
            self._keeps_blanks = attributes.get(_SPACE) == "preserve"
            self.pieces.clear()
        elif kind == "row":
            before, self._number = self._number, int(attributes.get("r", self._number + 1))
            if not before < self._number <= _MOST_ROWS:
                raise ValueError(f"row {self._number} comes after row {before}")
            self._cells, self._column, self.is_inside = [], 0, True
            self._digits = str(self._number)
        elif kind == "is" or kind == "si":
            self._runs, self.is_inside = "", True
        elif kind == "rPh":
            self._is_aid = True

    def end(self, name: str) -> None:
        """Take an element's end; runs of rich text are joined, and phonetic aids are left out."""
        kind = _KINDS.get(name)
        if kind == "v":
            self._put("".join(self.pieces))
        elif kind == "t":
            if not self._is_aid:
                run = "".join(self.pieces)
                self._runs += _unescape(run if self._keeps_blanks else run.strip(_BLANKS))
        elif kind == "is":
            self._put(self._runs)
        elif kind == "row":
            self.is_inside = False
            self.ended += 1
            self.pieces.clear()
            if self._cells:
                self.rows.append((self._number, self._cells))
        elif kind == "si":
            self.is_inside = False
            self.ended += 1
            self.rows.append((0, [self._runs]))
        elif kind == "rPh":
            self._is_aid = False

    def _put(self, text: str) -> None:
        """Put a value into its cell."""
        value = self._value_of(text) if text else ""
        if value == "":
            return
        empty = self._column - len(self._cells) - 1
        if empty:
            if self._column > _MOST_COLUMNS:
                raise ValueError(f"row {self._number} has a cell in column {self._column:,}")
            self._cells += [""] * (empty + 1)
            self._cells[self._column - 1] = value
        else:
            self._cells.append(value)

    def _value_of(self, text: str) -> Cell:
        """Return the value of a text; an error, such as #N/A, is empty."""
        kind = self._cell.get("t", "n")
        if kind == "s":
            return self._shared(int(text))
        if kind == "inlineStr":
            return text
        if kind == "str":
            return _unescape(text)
        if kind == "b":
            return text in ("1", "true")
        if kind == "e":
            return ""
        if kind == "d":
            return text if text.startswith("P") else text.replace("T", " ")  # a duration starts with P
        if "_" in text:  # float() would ignore it
            return text
        try:
            number = float(text)
        except ValueError:
            return text
        shown = self._styles.get(self._cell.get("s", ""))
        return number if shown is None else _moment_of(number, shown, self._days_before)


def _unescape(text: str) -> str:
    """Return a text without escapes of characters that XML doesn't have, such as `_x000D_`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


@lru_cache(_MOST_COLUMNS)
def _column_of(letters: str) -> int:
    """Return the number of a column, such as 28 for "AB"; 0 if there is no such column."""
    if not (letters.isascii() and letters.isalpha()):
        return 0
    return reduce(lambda number, letter: number * 26 + ord(letter) - 64, letters.upper(), 0)


def _kinds_of_styles(root: Element) -> dict[str, str]:
    """Return the kinds of cell styles by index: "moment" or "duration". Other styles are left out."""
    namespace = _namespace(root)
    kinds = dict.fromkeys(_MOMENTS, "moment") | {_DURATION: "duration"}
    for element in root.iterfind(f"{namespace}numFmts/{namespace}numFmt"):
        # The first section of the code decides, without its literals.
        code = _LITERAL.sub("", element.get("formatCode", "")).partition(";")[0]
        letter = _DATE_LETTER.search(code)
        kind = "n" if letter is None else "duration" if letter[0].startswith("[") else "moment"
        kinds[int(element.get("numFmtId", "0"))] = kind
    styles = root.iterfind(f"{namespace}cellXfs/{namespace}xf")
    found = [kinds.get(int(style.get("numFmtId", "0")), "n") for style in styles]
    return {str(index): kind for index, kind in enumerate(found) if kind != "n"}


def _moment_of(days: float, kind: str, days_before: int) -> Cell:
    """Return the moment or the duration of a number of days; the number itself if Excel shows no date."""
    if not 0 <= days < _MOST_DAYS:  # NaN fails this too
        return days
    span = timedelta(milliseconds=round(days * _DAY))
    if span.days >= _MOST_DAYS - days_before:
        return days
    if kind == "duration":
        return span
    if days < 1:
        return (_FIRST + span).time()
    # Excel has a 29 February 1900, as Lotus 1-2-3 had.
    return _FIRST + span + timedelta(days_before + (days + days_before < 60))
