"""A CSV file with a header: how it is parted, which column holds the phone, its rows; none is judged here."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO

from attrs import frozen

from ._errors import ConfigurationError

Values = tuple[object, ...]
Row = tuple[int, object, Values]  # line, phone, the variables' values in the template's order

PHONE_COLUMNS = ("phone", "to", "mobile", "telephone")
# A quote that is never closed would swallow the rest of the file; no row of a list is that tall.
TALLEST = 20


@frozen
class Table:
    """A CSV file with a header: `,` `;` or tab, UTF-8 with or without BOM. It may be read many times.

    Attributes:
        path: the file.
        columns: the header's names.
        delimiter: what parts the cells.
        skip: lines before the first row.
    """

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    skip: int

    @classmethod
    def open(cls, path: Path) -> "Table":
        """Read the header.

        Raises:
            ConfigurationError: if the file can't be read, or its header can't be one.
        """
        if not path.is_file():
            what = "is no ordinary file; it is read twice" if path.exists() else "there is no such file"
            raise ConfigurationError(f"{path}: {what}")
        try:
            with opened(path) as file:
                first = file.readline()
                announced = re.fullmatch(r"sep=([,;\t])\s*", first)  # as spreadsheets write it
                header = file.readline() if announced else first
        except OSError as error:
            raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
        delimiter = announced[1] if announced else max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=delimiter), list[str]())
        columns = tuple(name.strip() for name in names)
        _check_columns(path, columns)
        return cls(path, columns, delimiter, 2 if announced else 1)

    def phone_column(self) -> str | None:
        """Return the column with one of the usual names, else the only one; None if neither will do."""
        for name in PHONE_COLUMNS:
            found = [column for column in self.columns if column.casefold() == name]
            if found:
                return found[0]
        return self.columns[0] if len(self.columns) == 1 and not self.is_headless else None

    @property
    def is_headless(self) -> bool:
        """Whether the first line seems to hold a recipient, who would be lost as a header."""
        alone = len(self.columns) == 1 and re.match(r"\+?[0-9]", self.columns[0])
        return bool(alone) or any(len(re.findall("[0-9]", column)) >= 5 for column in self.columns)

    @property
    def there_is(self) -> str:
        """What an error says of the columns; a recipient's data don't belong there."""
        if self.is_headless:
            return "the first line must name the columns, and it seems to hold a recipient"
        return f"the columns are: {', '.join(self.columns)}"

    def mapping(self, variables: Sequence[str], given: Mapping[str, str] | None) -> dict[str, str]:
        """Return which column each variable, and "phone", comes from: as given, else of that name.

        Raises:
            ConfigurationError: if one has no column; the message lists what there is.
        """
        wanted = dict(given or {})
        if unknown := sorted(set(wanted) - {"phone", *variables}):
            takes = ", ".join(("phone", *variables))
            raise ConfigurationError(f"the mapping names {', '.join(unknown)}; the template takes: {takes}")
        folded = {column.casefold(): column for column in self.columns}
        if "phone" not in wanted:
            wanted["phone"] = self.phone_column() or ""
        for variable in variables:
            wanted.setdefault(variable, folded.get(variable.casefold(), ""))
        for name, column in wanted.items():
            if not column or column not in self.columns:
                which = f"column {column!r} for {name!r}" if column else f"column for {name!r}"
                fix = f"Rename one, or map: {name}=COLUMN"
                raise ConfigurationError(f"{self.path} has no {which}; {self.there_is}. {fix}")
        return wanted

    def rows(self, mapping: Mapping[str, str], variables: Sequence[str]) -> Iterator[Row]:
        """Yield the rows; `line` is where a row begins, blank lines aren't rows.

        Raises:
            ConfigurationError: if a quote isn't closed.
        """
        place = self.columns.index(mapping["phone"])
        columns = [self.columns.index(mapping[variable]) for variable in variables]
        pick = _picker(columns)
        width = max(place, *columns, 0) + 1
        with opened(self.path) as file:
            for _ in range(self.skip):
                file.readline()
            reader = csv.reader(file, delimiter=self.delimiter)
            line = before = self.skip
            try:
                for row in reader:
                    line, before = before + 1, reader.line_num + self.skip
                    if before - line >= TALLEST:
                        raise csv.Error(f"the row goes on for {before - line + 1:,} lines")
                    if len(row) < width:
                        if not any(row):
                            continue
                        row += [""] * (width - len(row))
                    yield line, row[place], pick(row)
            except csv.Error as error:
                problem = f"{self.path}, line {line}: {error}; is a quote missing?"
                raise ConfigurationError(problem) from error
            except OSError as error:
                raise ConfigurationError(f"{self.path}, after line {line}: {error.strerror}") from error


def opened(path: Path) -> IO[str]:
    """Open a CSV file as text.

    Raises:
        ConfigurationError: if it is UTF-16.
        OSError: if it can't be read.
    """
    with path.open("rb") as raw:
        if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ConfigurationError(f"{path}: is UTF-16; save it as CSV UTF-8")
    # A row with a foreign byte is that row's problem, and no reason to lose the others.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def is_utf8(text: str) -> bool:
    """Whether what `opened` read was UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    if not any(columns):
        raise ConfigurationError(f"{path}: its first line is empty; it must name the columns")
    if not all(map(is_utf8, columns)):
        raise ConfigurationError(f"{path}: its header isn't UTF-8; save it as CSV UTF-8")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{path}: its header names {', '.join(map(repr, twice))} more than once")


def _picker(columns: Sequence[int]) -> Callable[[list[str]], tuple[str, ...]]:
    if not columns:
        return lambda row: ()
    if len(columns) == 1:
        (only,) = columns
        return lambda row: (row[only],)
    return itemgetter(*columns)
