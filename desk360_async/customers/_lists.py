"""Lists of customers as CSV: written for people, and read back by the rules of all lists."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from desk360_async import ConfigurationError, InvalidMessage
from desk360_async._phones import Reader
from desk360_async._sqlite import create
from desk360_async._tables import Defect, Table, fold, neutral
from desk360_async.customers._store import Row

COLUMNS = ("phone", "last_message", "opted_out", "reason")


def write_list(path: Path, people: list[Row]) -> None:
    """Write people to a CSV file with the columns of `COLUMNS`; it blocks.

    Raises:
        OSError: if the file can't be written.
    """
    create(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in people:
            cells = (row.phone, _iso(row.heard), _iso(row.opted_out), row.reason)
            writer.writerow([neutral(cell) for cell in cells])


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def read_list(path: Path, now: float) -> list[Row]:
    """Return the people of a list; it blocks.

    Args:
        path: a CSV file or a spreadsheet.
        now: the time of opt-outs without a time, seconds since the epoch.

    Raises:
        ConfigurationError: if the file can't be read, or a cell is no phone or time; it names the line.
    """
    table = Table.open(path)
    columns = {fold(column) for column in table.columns}
    present = [name for name in COLUMNS[1:] if name in columns]
    if table.is_headless and len(table.columns) == 1:
        raise ConfigurationError(f"{path}: the first line must name the column; write 'phone' above the list")
    mapping = table.mapping(present, None)
    reader = Reader()
    people: list[Row] = []
    for line, phone, values in table.rows(mapping, present):
        try:
            if isinstance(values, Defect):
                raise ConfigurationError(f"{values.reason.replace('_', ' ')}")
            cells: dict[str, Any] = dict(zip(present, values, strict=True))
            people.append(_person(reader.read(phone), cells, now))
        except InvalidMessage as error:
            raise ConfigurationError(f"{path}, line {line}: {error.problem}") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}, line {line}: {error}") from None
    return people


def _person(phone: str, cells: dict[str, Any], now: float) -> Row:
    opted_out = _seconds("opted_out", cells["opted_out"], now) if "opted_out" in cells else now
    heard = _seconds("last_message", cells.get("last_message", ""), now)
    reason = str(cells.get("reason", "")).removeprefix("'")
    return Row("", phone=phone, heard=heard, opted_out=opted_out, reason=reason)


def _seconds(column: str, cell: object, now: float) -> float | None:
    """Return a time in seconds since the epoch; None for an empty cell, no later than `now`."""
    text = str(cell).strip()
    if not text:
        return None
    if fold(text) in ("yes", "true", "1", "evet"):
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = f"{column} holds {text!r}; write an ISO time such as 2026-11-28T12:00:00+00:00"
        raise ConfigurationError(problem) from None
    return min(now, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
