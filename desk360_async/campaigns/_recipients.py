"""Recipients as they are given: an iterable, an async iterable, or a CSV file; each with its line number.

Nothing is judged here; that is `_intake`'s business.
"""

import csv
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, cast

from attrs import field, frozen

from desk360_async import ConfigurationError, InvalidMessage
from desk360_async._errors import mask_phone

Values = tuple[object, ...]
Row = tuple[int, object, Values]  # line, phone, the variables' values in the template's order

CHUNK = 5000
PHONE_COLUMNS = ("phone", "to", "mobile", "telephone")
# A quote that is never closed would swallow the rest of the file in silence.
TALLEST = 20


@frozen
class Recipient:
    """Somebody whom the campaign shall reach.

    Attributes:
        phone: E.164 with `+`; blanks, dashes, dots and brackets are forgiven.
        parameters: variable → text, such as {"body-1": "Ada"}; those with equal ones share requests.
    """

    phone: str = field(repr=lambda phone: repr(mask_phone(str(phone))))
    parameters: Mapping[str, str] | None = field(default=None, repr=lambda given: f"<{len(given or ())}>")


Source = str | os.PathLike[str] | Iterable[Recipient] | AsyncIterable[Recipient]


@frozen
class Table:
    """A CSV file with a header: `,` `;` or tab, UTF-8.

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
        try:
            with _opened(path) as file:
                first = file.readline()
                announced = re.fullmatch(r"sep=([,;\t])\s*", first)  # as spreadsheets write it
                header = file.readline() if announced else first
        except OSError as error:
            raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
        delimiter = announced[1] if announced else max(",;\t", key=header.count)
        columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=delimiter), ()))
        twice = next((name for name in columns if columns.count(name) > 1), None)
        if not any(columns) or twice is not None:
            problem = f"names {twice!r} twice" if twice else "is empty; it must name the columns"
            raise ConfigurationError(f"{path}: the header {problem}")
        return cls(path, columns, delimiter, 2 if announced else 1)

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
            wanted["phone"] = next((folded[n] for n in PHONE_COLUMNS if n in folded), self.columns[0])
            if not any(n in folded for n in PHONE_COLUMNS) and len(self.columns) > 1:
                raise ConfigurationError(self._lacks("phone"))
        for variable in variables:
            wanted.setdefault(variable, folded.get(variable.casefold(), ""))
        for name, column in wanted.items():
            if column not in self.columns:
                raise ConfigurationError(self._lacks(name, column))
        return wanted

    def _lacks(self, name: str, column: str = "") -> str:
        which = f"column {column!r} for {name!r}" if column else f"column for {name!r}"
        there_is = ", ".join(self.columns)
        return f"{self.path} has no {which}; it has: {there_is}. Rename one, or map: {name}=COLUMN"

    def rows(self, mapping: Mapping[str, str], variables: Sequence[str]) -> Iterator[Row]:
        """Yield the rows; `line` is where a row begins, blank lines aren't rows.

        Raises:
            ConfigurationError: if a quote isn't closed.
        """
        place = self.columns.index(mapping["phone"])
        columns = [self.columns.index(mapping[variable]) for variable in variables]
        pick = _picker(columns)
        width = max(place, *columns, 0) + 1
        with _opened(self.path) as file:
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


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as raw:
        if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ConfigurationError(f"{path} is UTF-16; save it as CSV UTF-8")
    # A row with a foreign byte is that row's problem, and no reason to lose the others.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _picker(columns: Sequence[int]) -> Callable[[list[str]], tuple[str, ...]]:
    if not columns:
        return lambda row: ()
    if len(columns) == 1:
        (only,) = columns
        return lambda row: (row[only],)
    return itemgetter(*columns)


def row_of(line: int, given: object, variables: Sequence[str]) -> Row:
    """Return a recipient as a row. What it lacks is None there; what it has too much makes it refused.

    Raises:
        InvalidMessage: if it is no Recipient at all.
    """
    if not isinstance(given, Recipient):
        raise InvalidMessage(
            f"recipients[{line - 1}]",
            f"must be a Recipient(phone, parameters), not {type(given).__name__}",
        )
    parameters = given.parameters or {}
    values = tuple(parameters.get(variable) for variable in variables)
    if len(parameters) > sum(variable in parameters for variable in variables):
        surplus = ", ".join(sorted(map(str, set(parameters) - set(variables))))
        return line, given.phone, (*values, surplus)
    return line, given.phone, values


async def chunked(source: Any, variables: Sequence[str]) -> AsyncGenerator[list[Row], None]:
    """Yield an iterable's recipients as rows, by the chunk, numbered from 1.

    Raises:
        InvalidMessage: for what is no iterable of Recipients.
    """
    if isinstance(source, Mapping | bytes | Recipient) or not isinstance(source, Iterable | AsyncIterable):
        raise InvalidMessage(
            "recipients", "takes a CSV file's path, or an (async) iterable of Recipient; wrap one in a list"
        )
    line = 0
    if isinstance(source, AsyncIterable):
        chunk: list[Row] = []
        given: object
        async for given in cast("AsyncIterable[object]", source):
            line += 1
            chunk.append(row_of(line, given, variables))
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
        yield chunk
        return
    # Pulled on the loop's own thread: a caller's generator may not be one for another.
    items = iter(cast("Iterable[object]", source))
    while chunk := [row_of(n, given, variables) for n, given in enumerate(islice(items, CHUNK), line + 1)]:
        line = chunk[-1][0]
        yield chunk
