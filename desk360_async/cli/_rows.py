"""A list of recipients in a CSV file: read row by row, each with its line number; nothing is lost.

What is wrong with the whole file is a ConfigurationError; what is wrong with a row is said in the row.
"""

from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

from desk360_async import ConfigurationError, InvalidMessage, TemplateMessage
from desk360_async._errors import mask_phone
from desk360_async._tables import Defect, Table

__all__ = ["Letter", "Recipients", "Row"]


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
    """A list in a CSV file; it may be read many times.

    Attributes:
        table: the file, and how it is parted.
        phone: the column that holds the phone.
    """

    table: Table
    phone: str

    @classmethod
    def open(cls, path: Path, phone: str | None = None) -> "Recipients":
        """Read the header.

        Args:
            path: the file.
            phone: the phone's column; None finds "phone", "to", "mobile", "telephone", or the only one.

        Raises:
            ConfigurationError: if the file can't be read, or has no such header.
        """
        table = Table.open(path)
        if phone is not None and phone not in table.columns:
            raise ConfigurationError(f"{path}: has no column {phone!r}; {table.description}")
        column = phone or table.phone_column()
        if column is None:
            fix = f"Name it with --phone-column; {table.description}"
            raise ConfigurationError(f"{path}: which column holds the phone? {fix}")
        return cls(table, column)

    @property
    def columns(self) -> tuple[str, ...]:
        """The header's names."""
        return self.table.columns

    def __iter__(self) -> Iterator[Row]:
        names = [column for column in self.columns if column]
        columns = dict(zip(names, names, strict=True)) | {"phone": self.phone}
        for line, phone, values in self.table.rows(columns, names):
            if isinstance(values, Defect):
                yield Row(line, str(phone), problem="has more cells than the header")
            else:
                yield Row(line, str(phone), {n: str(v).strip() for n, v in zip(names, values, strict=True)})


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
