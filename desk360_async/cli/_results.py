"""The results of a list: one for each row, their counts, and the results file."""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self, TypeVar

from attrs import define, field, frozen

from desk360_async import ConfigurationError, Outcome
from desk360_async._errors import mask_phone
from desk360_async._sqlite import create
from desk360_async._tables import MOST_ROWS, SPREADSHEETS, SheetWriter, neutral, plain
from desk360_async.campaigns import words_for

__all__ = [
    "COLUMNS",
    "ResultsFile",
    "RowResult",
    "Tally",
    "check_place",
    "check_size",
    "is_sheet",
    "results_in",
]

T = TypeVar("T")

COLUMNS = ("line", "phone", "outcome", "message_id", "reason")


@frozen
class RowResult:
    """The result of one row.

    Attributes:
        line: the row's line in the list.
        phone: the phone in E.164, or as it was written if it is invalid.
        outcome: accepted, not_sent or unknown.
        message_id: Desk360's id of the message, if it was accepted.
        reason: why it was not accepted, in words.
    """

    line: int
    phone: str = field(repr=lambda phone: repr(mask_phone(phone)))
    outcome: Outcome
    message_id: str | None = field(default=None, repr=False)
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result for JSON, with a masked phone; the results file has the whole phone."""
        return {
            "line": self.line,
            "phone": mask_phone(self.phone),
            "outcome": self.outcome,
            "message_id": self.message_id,
            "reason": self.reason,
        }

    def as_cells(self) -> tuple[object, ...]:
        """Return the result as the cells of a row in the results file."""
        return self.line, self.phone, self.outcome.value, self.message_id, self.reason


@define
class Tally:
    """The counts, by outcome and by reason.

    Attributes:
        accepted: rows whose message Desk360 accepted.
        not_sent: rows whose message was certainly not sent.
        unknown: rows whose message may have been sent.
        counts: rows by reason.
        lines: the first lines of each reason.
    """

    accepted: int = 0
    not_sent: int = 0
    unknown: int = 0
    counts: Counter[tuple[Outcome, str]] = field(factory=Counter[tuple[Outcome, str]])
    lines: dict[tuple[Outcome, str], list[int]] = field(factory=dict[tuple[Outcome, str], list[int]])

    SHOWN: ClassVar = 10

    @property
    def total(self) -> int:
        """All rows."""
        return self.accepted + self.not_sent + self.unknown

    def add(self, result: RowResult) -> None:
        """Count a result."""
        name = result.outcome.value
        setattr(self, name, getattr(self, name) + 1)
        if result.reason:
            # A masked phone keeps its last digits. With them, each phone would make another reason.
            key = result.outcome, re.sub("'?…[0-9]{4}'?", "it", result.reason)
            lines = self.lines.setdefault(key, [])
            self.counts[key] += 1
            if len(lines) < self.SHOWN:
                lines.append(result.line)

    def exit_code(self) -> int:
        """Return 4 if a row is unknown, else 3 if a row was not sent, else 0."""
        if self.unknown:
            return 4
        return 3 if self.not_sent else 0


def results_in(report: IO[str], region: str | None, waiting: str) -> Iterator[RowResult]:
    """Yield a result for each row of a campaign's report in CSV.

    Args:
        report: the CSV file.
        region: the region by which the list was read, or None.
        waiting: the reason that a pending row gets.
    """
    firsts: dict[str, int] = {}
    for row in csv.DictReader(report):
        line, phone, state, reason = int(row["line"]), plain(row["phone"]), row["state"], row["reason"]
        if state == "pending":
            yield RowResult(line, phone, Outcome.NOT_SENT, None, waiting)
        elif state in ("accepted", "unknown", "intent"):
            outcome = Outcome.ACCEPTED if state == "accepted" else Outcome.UNKNOWN
            yield RowResult(line, phone, outcome, plain(row["message_id"]) or None, words_for(reason) or None)
        else:
            words = words_for(reason, phone, region)
            if reason == "duplicate" and phone in firsts:
                words = f"phone: the same as in line {firsts[phone]:,}, which gets the message"
            yield RowResult(line, phone, Outcome.NOT_SENT, None, words)
        firsts.setdefault(phone, line)


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────


def is_sheet(path: Path) -> bool:
    """Return whether a results file is a spreadsheet (.xlsx); otherwise it is a CSV file."""
    return path.suffix.lower() == ".xlsx"


def check_place(path: Path) -> None:
    """Refuse a place where no results file can be written.

    Raises:
        ConfigurationError: if it is a folder or another kind of spreadsheet, or its folder is missing or
            read-only.
    """
    if path.suffix.lower() in SPREADSHEETS and not is_sheet(path):
        raise ConfigurationError(
            f"--out {path}: the results are an .xlsx or a .csv file; name it {path.with_suffix('.xlsx')}"
        )
    if path.is_dir():
        raise ConfigurationError(f"--out {path}: is a folder; name a file in it, such as results.xlsx")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--out {path}: the folder {path.parent} doesn't exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ConfigurationError(f"--out {path}: the folder {path.parent} can't be written to")


def check_size(path: Path, rows: int) -> None:
    """Refuse a results file that can't hold all rows of the list.

    Args:
        path: the file.
        rows: the number of rows in the list.

    Raises:
        ConfigurationError: if the file is a spreadsheet, and the list has too many rows for a sheet.
    """
    if is_sheet(path) and rows >= MOST_ROWS:
        raise ConfigurationError(
            f"--out {path}: a sheet has {MOST_ROWS:,} rows, and the list has {rows:,}; "
            f"name it {path.with_suffix('.csv')}"
        )


class _Rows(Protocol):
    """A writer of rows into a file, CSV or spreadsheet."""

    def writerow(self, cells: Sequence[object]) -> None:
        """Write a row."""
        ...

    def close(self) -> None:
        """Write the end of the content; the file stays open."""
        ...


class _Lines:
    """Writes a CSV file with a header."""

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        # A character that UTF-8 can't encode is escaped: its row must not be lost.
        # Without the byte order mark of UTF-8, Excel would read the file in the system's encoding.
        self._text = TextIOWrapper(file, "utf-8-sig", errors="backslashreplace", newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(columns)

    def writerow(self, cells: Sequence[object]) -> None:
        """Write a row; a cell that looks like a formula is escaped."""
        self._rows.writerow([neutral(cell) for cell in cells])

    def close(self) -> None:
        """Write the end."""
        self._text.flush()


class ResultsFile:
    """A results file, `.xlsx` or CSV, mode 0600. It appears at its path only when it is complete.

    Attributes:
        problem: the first write error, or None; rows after it are dropped.

    Args:
        path: the file's path; None writes no file.
    """

    def __init__(self, path: Path | None) -> None:
        self.problem: OSError | None = None
        self._path = path
        self._part = None if path is None else path.with_name(f"{path.name}.part")
        self._file: IO[bytes] | None = None
        self._rows: _Rows | None = None

    def __enter__(self) -> Self:
        if self._part is not None:
            self._attempt(self._open, self._part)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._attempt(self._close, self._file)
        if self._part is not None and (kind is not None or self.problem is not None):
            self._part.unlink(missing_ok=True)
        elif self._part is not None and self._path is not None:
            self._attempt(self._part.replace, self._path)

    def write(self, result: RowResult) -> None:
        """Write a result."""
        if self._rows is not None and self.problem is None:
            self._attempt(self._rows.writerow, result.as_cells())

    def _open(self, part: Path) -> None:
        create(part)
        self._file = part.open("wb")
        kind = SheetWriter if self._path is not None and is_sheet(self._path) else _Lines
        self._rows = kind(self._file, COLUMNS)

    def _close(self, file: IO[bytes]) -> None:
        with file:
            if self._rows is not None:
                self._rows.close()
            file.flush()
            os.fsync(file.fileno())

    def _attempt(self, work: Callable[[T], object], argument: T) -> None:
        try:
            work(argument)
        except OSError as error:
            self.problem = self.problem or error
