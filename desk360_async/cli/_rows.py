"""A list of recipients in a CSV file: read row by row, each with its line number; nothing is lost.

What is wrong with the whole file is a ConfigurationError; what is wrong with a row is said in the row.
"""

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from attrs import field, frozen

from desk360_async import ConfigurationError, InvalidMessage, TemplateMessage
from desk360_async._errors import mask_phone

__all__ = ["Letter", "Recipients", "Row"]

_PHONE_NAMES = ("phone", "to", "mobile", "telephone")
# A quote that is never closed swallows the rest of the file; no row of a list is that tall.
_TALLEST = 20


@frozen
class Row:
    """One row of the list.

    Attributes:
        line: the line on which it begins, from 1; the header's is 1.
        phone: the phone as it is written there.
        cells: column → text.
        problem: why it can't be used, if it can't.
    """

    line: int
    phone: str = field(repr=lambda phone: repr(mask_phone(phone)))
    cells: dict[str, str] = field(factory=dict[str, str], repr=False)
    problem: str | None = None


@frozen
class Recipients:
    """A CSV file with a header row: `,` `;` or tab, UTF-8 with or without BOM. It may be read many times.

    Attributes:
        path: the file.
        columns: the header's names.
        phone: the column that holds the phone.
    """

    path: Path
    columns: tuple[str, ...]
    phone: str
    _delimiter: str
    _skipped: int

    @classmethod
    def open(cls, path: Path, phone: str | None = None) -> "Recipients":
        """Read the header.

        Args:
            path: the file.
            phone: the phone's column; None finds "phone", "to", "mobile", "telephone", or the only one.

        Raises:
            ConfigurationError: if the file can't be read, or has no such header.
        """
        if not path.is_file():
            what = "is no ordinary file; it is read twice" if path.exists() else "there is no such file"
            raise ConfigurationError(f"{path}: {what}")
        with _opened(path) as file:
            first = file.readline()
            if not first.strip():
                raise ConfigurationError(f"{path}: its first line is empty; it must name the columns")
            announced = re.fullmatch(r"sep=([,;\t])\s*", first)  # written by spreadsheets, for spreadsheets
            header = file.readline() if announced else first
        delimiter = announced[1] if announced else max(",;\t", key=header.count)
        columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=delimiter), list[str]()))
        _check_columns(path, columns)
        return cls(path, columns, _phone_column(path, columns, phone), delimiter, 1 if announced else 0)

    def __iter__(self) -> Iterator[Row]:
        with _opened(self.path) as file:
            lines = islice(file, self._skipped, None)
            reader = csv.reader(lines, delimiter=self._delimiter)
            next(reader)
            while True:
                line = reader.line_num + self._skipped + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Row(line, "", problem=f"can't be read: {error}; is a quote missing?")
                    continue
                if any(cell.strip() for cell in cells):
                    yield self._row(line, cells, reader.line_num + self._skipped - line + 1)

    def _row(self, line: int, cells: list[str], height: int) -> Row:
        named = dict(zip(self.columns, (cell.strip() for cell in cells), strict=False))
        problem = None
        if height > _TALLEST:
            problem = f"goes on for {height:,} lines; a quote isn't closed"
        elif len(cells) != len(self.columns):
            problem = f"has {len(cells)} cells, and the header has {len(self.columns)}"
        elif any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
            problem = "isn't UTF-8; save the file as CSV UTF-8"
        return Row(line, named.get(self.phone, ""), named, problem)


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as raw:
        if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ConfigurationError(f"{path}: is UTF-16; save it as CSV UTF-8")
    # A row with a foreign byte is that row's problem, and no reason to lose the others.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    if any("\udc80" <= letter <= "\udcff" for name in columns for letter in name):
        raise ConfigurationError(f"{path}: its header isn't UTF-8; save it as CSV UTF-8")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{path}: its header names {', '.join(map(repr, twice))} more than once")


def _phone_column(path: Path, columns: tuple[str, ...], wanted: str | None) -> str:
    there_is = f"the columns are: {', '.join(columns)}"
    if wanted is not None:
        if wanted not in columns:
            raise ConfigurationError(f"{path}: has no column {wanted!r}; {there_is}")
        return wanted
    for name in _PHONE_NAMES:
        found = [column for column in columns if column.casefold() == name]
        if found:
            return found[0]
    if len(columns) == 1 and not re.match(r"\+?[0-9]", columns[0]):
        return columns[0]
    raise ConfigurationError(
        f"{path}: which column holds the phone? Name it with --phone-column; the first line must be a header "
        f"({there_is if not re.search('[0-9]{5}', there_is) else 'it seems to hold a recipient'})"
    )


@frozen
class Letter:
    """What every recipient gets, and what of it comes from the row: makes a message of a row.

    Attributes:
        template: its id or name.
        language: its id or label.
        columns: the template's variable → the column that fills it.
        attachment: the file for a media header.
        repeats: whether a phone that comes again is sent to again.
    """

    template: int | str
    language: int | str
    columns: dict[str, str]
    attachment: Path | None = None
    repeats: bool = False
    _seen: dict[int, int] = field(factory=dict[int, int], init=False, repr=False)

    def __call__(self, row: Row) -> TemplateMessage:
        """Return the message for a row.

        Raises:
            InvalidMessage: if the row can't be sent to, or its phone came before.
        """
        if row.problem:
            raise InvalidMessage("row", row.problem)
        message = TemplateMessage(
            row.phone,
            self.template,
            language=self.language,
            parameters={key: self._cell(row, key, column) for key, column in self.columns.items()} or None,
            attachment=self.attachment,
        )
        # As numbers, since a set of texts takes twice the memory.
        before = self._seen.setdefault(int(message.to[1:]), row.line)
        if before != row.line and not self.repeats:
            raise InvalidMessage("phone", f"the same as in line {before}, which gets the message")
        return message

    def _cell(self, row: Row, key: str, column: str) -> str:
        text = row.cells[column]
        if not text:
            raise InvalidMessage(key, f"column {column!r} is empty; the customer would read a gap")
        return text
