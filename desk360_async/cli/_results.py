"""What became of each row: the results file, and the counts."""

import csv
import re
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from attrs import define, field, frozen

from desk360_async import ConfigurationError, InvalidMessage, Outcome, SendResult, Sent
from desk360_async._errors import mask_phone
from desk360_async._tables import neutral

from ._rows import Row

__all__ = ["COLUMNS", "RowResult", "Tally", "Writer"]

COLUMNS = ("line", "phone", "outcome", "message_id", "reason")


@frozen
class RowResult:
    """What became of one row.

    Attributes:
        line: the row's line in the list.
        phone: the phone in E.164, or as it was written where it is none.
        outcome: accepted, not_sent or unknown.
        message_id: Desk360's, if it was accepted.
        reason: why it was not accepted, in words.
        found_here: whether the row itself was at fault, and cost no request.
    """

    line: int
    phone: str = field(repr=lambda phone: repr(mask_phone(phone)))
    outcome: Outcome
    message_id: str | None = field(default=None, repr=False)
    reason: str | None = None
    found_here: bool = False

    @classmethod
    def of(cls, result: SendResult) -> "RowResult":
        """Describe what `send_each` said of a row."""
        row: Row = result.item
        phone = getattr(result.message, "to", None) or row.phone
        identity = result.reply.message_id if isinstance(result.reply, Sent) else None
        reason = None if result.error is None else str(result.error)
        here = isinstance(result.error, InvalidMessage)
        return cls(row.line, phone, result.outcome, identity, reason, here)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON shows it: without the whole phone, which the results file holds."""
        return {
            "line": self.line,
            "phone": mask_phone(self.phone),
            "outcome": self.outcome,
            "message_id": self.message_id,
            "reason": self.reason,
        }


class Writer:
    """Writes results to a CSV file, each as soon as it is known; without a path, nowhere.

    Raises:
        ConfigurationError: on entering, if the file exists or can't be made.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                # Never over an old one: it may be the only record of what went out.
                # A foreign byte in the list must not cost the result its line.
                self._file = self._path.open("x", encoding="utf-8", errors="backslashreplace", newline="")
            except FileExistsError:
                raise ConfigurationError(f"--out {self._path}: exists; name another file") from None
            except OSError as error:
                raise ConfigurationError(f"--out {self._path}: {error.strerror}") from None
            self._rows = csv.writer(self._file)
            self._rows.writerow(COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            self._file.close()

    def write(self, result: RowResult) -> None:
        """Write a result, and hand it to the operating system at once.

        Raises:
            OSError: if it can't be written.
        """
        if self._path is not None:
            cells = (result.line, result.phone, result.outcome, result.message_id, result.reason)
            self._rows.writerow([neutral(cell) for cell in cells])
            self._file.flush()


@define
class Tally:
    """The counts, by outcome and by reason.

    Attributes:
        accepted: how many Desk360 took.
        not_sent: how many certainly did not go out.
        unknown: how many may have gone out.
        counts: how many there are of each reason.
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
        """How many there are in all."""
        return self.accepted + self.not_sent + self.unknown

    def add(self, result: RowResult) -> None:
        """Count a result."""
        match result.outcome:
            case Outcome.ACCEPTED:
                self.accepted += 1
            case Outcome.NOT_SENT:
                self.not_sent += 1
            case Outcome.UNKNOWN:
                self.unknown += 1
        if result.reason:
            # Phones are masked to their last digits, which would make a reason of each.
            key = result.outcome, re.sub("'?…[0-9]{4}'?", "it", result.reason)
            lines = self.lines.setdefault(key, [])
            self.counts[key] += 1
            if len(lines) < self.SHOWN:
                lines.append(result.line)

    def exit_code(self) -> int:
        """Return the exit code that these counts stand for."""
        if self.unknown:
            return 4
        return 3 if self.not_sent else 0
