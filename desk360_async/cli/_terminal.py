"""Printing: results go to stdout; notes and progress bars go to stderr."""

import json
import re
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# It takes half as long to load as the parser, and no help page needs it.
if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["MARGIN", "Terminal", "bar", "counted", "duration", "harmless", "reading_bar", "spoken"]

MARGIN = len("^C")  # columns that a progress bar leaves free at the end of its line
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Errors name an argument, then the terminal's option: "region='TR', in the terminal --region TR".
_FOR_PROGRAMS = re.compile(r"\b(?:\w+\(text, )?\w+=\S+ \(?in the terminal (--[\w-]+(?: \w+)?)\)?")


def harmless(text: object) -> str:
    """Return text from outside; control characters, which a terminal would obey, are replaced."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(text))


def spoken(text: object) -> str:
    """Return an error's text for the terminal: harmless, and with options instead of Python's arguments."""
    return _FOR_PROGRAMS.sub(r"\1", harmless(text))


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _console(*, stderr: bool) -> Console:
    # Names and texts may hold brackets and numbers, which rich would format as markup. In a pipe the width
    # is large, so that no line is cut.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 1000
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


@frozen
class Terminal:
    """The streams stdout and stderr, and the user's options for them.

    Attributes:
        json: print JSON on stdout, and all other text on stderr.
        quiet: print only results.
        out: the console of stdout.
        err: the console of stderr.
    """

    json: bool = False
    quiet: bool = False
    out: Console = field(factory=partial(_console, stderr=False))
    err: Console = field(factory=partial(_console, stderr=True))

    @property
    def is_cut(self) -> bool:
        """Whether a write to stdout has failed."""
        return getattr(self.out.file, "error", None) is not None

    def note(self, text: str, style: str = "") -> None:
        """Print a line on stderr."""
        self.err.print(Text(spoken(text), style=style), soft_wrap=not self.err.is_terminal)

    def command(self, text: str) -> None:
        """Print a line with a command on stderr; the terminal folds it, so that a copy stays one line."""
        self.err.print(Text(harmless(text)), soft_wrap=True)

    def remark(self, text: str) -> None:
        """Print a line on stderr, unless `quiet`."""
        if not self.quiet:
            self.note(text, "dim")

    def say(self, text: str, style: str = "") -> None:
        """Print a line on stdout; on stderr with `--json`."""
        if self.json:
            self.note(text, style)
        else:
            self.out.print(Text(spoken(text), style=style), soft_wrap=not self.out.is_terminal)

    def item(self, lead: str, text: str, *, remark: bool = False) -> None:
        """Print two columns, to the stream of `say`; the text folds within the second column.

        Args:
            lead: the first column.
            text: the second column.
            remark: whether to print on stderr, and not with `quiet`.
        """
        if remark and self.quiet:
            return
        to = self.err if self.json or remark else self.out
        row = Table.grid()
        row.add_column(no_wrap=True)
        row.add_column(overflow="fold")
        style = "dim" if remark else ""
        row.add_row(Text(harmless(lead), style=style), Text(spoken(text), style=style))
        to.print(row, soft_wrap=not to.is_terminal)

    def quote(self, text: str, indent: str = "  ") -> None:
        """Print a text with a vertical line at the left of each line, folded lines included."""
        to = self.err if self.json else self.out
        width = (to.width if to.is_terminal else 1000) - len(indent) - 2
        for line in text.splitlines():
            for piece in Text(harmless(line)).wrap(to, max(width, 10)) or [Text("")]:
                to.print(Text(f"{indent}│ ") + piece, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print one value as a line of JSON on stdout."""
        # JSON in ASCII is right in the encoding of every terminal and pipe.
        self.out.file.write(json.dumps(value, default=str) + "\n")
        self.out.file.flush()

    def table(
        self, columns: Iterable[str], rows: Iterable[Iterable[object]], *, wide: tuple[str, ...] = ()
    ) -> None:
        """Print rows under their headings.

        Args:
            columns: the headings, left to right.
            rows: their cells; None is shown as a dash.
            wide: the headings of the columns that may wrap.
        """
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
        for column in columns:
            table.add_column(
                column, no_wrap=column not in wide, overflow="fold" if column in wide else "ellipsis"
            )
        for row in rows:
            table.add_row(*(Text("-" if cell is None else harmless(cell)) for cell in row))
        if self.out.is_terminal:
            self.out.print(table)
            return
        # In a pipe the last column's padding goes: shown in a narrow terminal, it would fold each line.
        with self.out.capture() as text:
            self.out.print(table)
        self.out.file.writelines(f"{line.rstrip()}\n" for line in text.get().splitlines())


def bar(terminal: Terminal, *, figures: bool = True) -> "Progress":
    """Return a progress bar, which is shown only on a terminal, and not with `--quiet`.

    The bar takes the columns that the texts on its line leave free.

    Args:
        terminal: the terminal.
        figures: whether to show the completed and the total number.
    """
    from rich.constrain import Constrain
    from rich.progress import BarColumn, Progress, TextColumn

    class Bar(Progress):
        def get_renderable(self) -> Constrain:
            # The terminal shows ^C at the end of the line; on a full line it would start a new one.
            return Constrain(self.make_tasks_table(self.tasks), terminal.err.width - MARGIN)

    whole = Column(no_wrap=True)
    numbers = [TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=whole)] if figures else []
    return Bar(
        TextColumn("{task.description}", table_column=whole),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        *numbers,
        TextColumn("{task.fields[words]}", table_column=whole),
        console=terminal.err,
        expand=True,
        disable=not terminal.err.is_terminal or terminal.quiet,
    )


@contextmanager
def reading_bar(terminal: Terminal) -> Generator[Callable[[int, float | None], None]]:
    """Show a progress bar while a file is read.

    Yields:
        A function to call with the number of rows so far, and the share of the file (0 to 1, or None).
    """
    with bar(terminal, figures=False) as shown:
        task = shown.add_task("Reading", total=1.0, words="")

        def show(rows: int, share: float | None) -> None:
            shown.update(task, completed=share or 0.0, words=f"{rows:,} rows")

        yield show


def duration(seconds: float) -> str:
    """Return a number of seconds for people: `42 s`, `3:07 min`, `2:15 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
