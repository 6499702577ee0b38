"""The report recipient by recipient, as CSV or JSON: streamed, whole or not there, mode 0600."""

import csv
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from attrs import asdict

from desk360_async import ConfigurationError
from desk360_async.campaigns import _tallies
from desk360_async.campaigns._states import Report, unpack
from desk360_async.campaigns._storage import create_private, snapshot

COLUMNS = ("line", "phone", "state", "reason", "batch", "kind", "message_id", "whatsapp", "parameters")
Line = tuple[int, str, str, str, int | None, str, str, str, str]
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_RANKS = ("deleted", "failed", "read", "delivered", "sent")


def lines(connection: sqlite3.Connection, campaign: int) -> Iterator[Line]:
    """Yield a line for each recipient, batch by batch, and then those that were left out when loading."""
    batches = connection.execute(
        "SELECT b.id, b.kind, b.state, b.reason, b.message_id, b.members, s.parameters "
        "FROM batch b JOIN parameter_set s ON s.id = b.parameter_set WHERE b.campaign = ? ORDER BY b.id",
        (campaign,),
    )
    for number, kind, state, reason, message_id, members, parameters in batches:
        own = connection.execute("SELECT phone, state, reason FROM exception WHERE batch = ?", (number,))
        excepted = {phone: (own_state, why) for phone, own_state, why in own}
        for phone in unpack(members):
            line, told = _of_recipient(connection, campaign, phone)
            what, why = excepted.get(phone, (state, reason))
            yield line, f"+{phone}", what, why or "", number, kind, message_id or "", told, parameters
    for line, phone, reason in connection.execute(
        "SELECT line, phone, reason FROM skipped WHERE campaign = ? ORDER BY line", (campaign,)
    ):
        yield line, phone, "skipped", reason, None, "", "", "", ""


def _of_recipient(connection: sqlite3.Connection, campaign: int, phone: int) -> tuple[int, str]:
    (line,) = connection.execute(
        "SELECT line FROM recipient WHERE campaign = ? AND phone = ?", (campaign, phone)
    ).fetchone()
    rows = connection.execute(
        "SELECT status FROM delivery WHERE campaign = ? AND phone = ?", (campaign, phone)
    )
    told = {status for (status,) in rows}
    return line, next((status for status in _RANKS if status in told), "")


def neutral(cell: object) -> str:
    """Return a cell that no spreadsheet takes for a formula; a phone in E.164 can't be one.

    A leading apostrophe is what spreadsheets themselves use for it.
    """
    text = "" if cell is None else str(cell)
    if text.startswith(_FORMULA) and not _E164.fullmatch(text):
        return f"'{text}"
    return text


def summarise(report: Report) -> dict[str, object]:
    """Return a report as JSON writes it."""
    return {
        **asdict(report),
        "reasons": [
            {"state": state, "reason": reason, "recipients": number}
            for (state, reason), number in report.reasons.items()
        ],
        "started": report.started and report.started.isoformat(),
        "ended": report.ended and report.ended.isoformat(),
    }


def write(connection: sqlite3.Connection, campaign: int, path: Path, name: str) -> int:
    """Write the report of a campaign; return how many lines it has.

    Raises:
        ConfigurationError: if the name ends neither in .csv nor in .json.
        OSError: if it can't be written.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise ConfigurationError(f"{path}: a report's name ends in .csv or .json")
    part = path.with_name(path.name + ".part")
    create_private(part)
    writer = _write_csv if path.suffix.lower() == ".csv" else _write_json
    try:
        with snapshot(connection), part.open("w", encoding="utf-8", newline="") as file:
            summary = summarise(_tallies.report(connection, campaign, name))
            number = writer(file, lines(connection, campaign), summary)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return number


def _write_csv(file: IO[str], rows: Iterator[Line], summary: dict[str, object]) -> int:
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    return sum(1 for row in rows if writer.writerow(map(neutral, row)))


def _write_json(file: IO[str], rows: Iterator[Line], summary: dict[str, object]) -> int:
    file.write('{"summary": ' + json.dumps(summary, ensure_ascii=False) + ',\n"recipients": [')
    number = 0
    for number, row in enumerate(rows, 1):
        fields: dict[str, object] = dict(zip(COLUMNS, row, strict=True))
        fields["parameters"] = json.loads(row[-1]) if row[-1] else {}
        file.write(("\n" if number == 1 else ",\n") + json.dumps(fields, ensure_ascii=False))
    file.write("\n]}\n")
    return number
