"""How far a list is: a bar on a terminal, a line now and then elsewhere. On stderr."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import anyio
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from ._results import Tally
from ._terminal import Terminal

__all__ = ["Meter", "bar", "duration"]

_EVERY = 10.0  # seconds between two lines, off a terminal


def bar(terminal: Terminal) -> Progress:
    """Return a bar that gives way to the words behind it; on a terminal only, and not for the quiet."""
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn("{task.description}", table_column=whole),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=whole),
        TextColumn("{task.fields[words]}", table_column=whole),
        console=terminal.err,
        expand=True,
        disable=not terminal.err.is_terminal or terminal.quiet,
    )


class Meter(AbstractContextManager["Meter"]):
    """Shows progress: rate, what was not sent, what is unknown, time left.

    Args:
        terminal: where to.
        sendable: how many recipients there are to send to.
        title: what the bar is called.
    """

    def __init__(self, terminal: Terminal, sendable: int, title: str = "Sending") -> None:
        self._terminal = terminal
        self._sendable = sendable
        self._sent = 0
        self._bar = bar(terminal)
        self._task = self._bar.add_task(title, total=sendable, words="")

    def __enter__(self) -> Self:
        self._began = self._told = anyio.current_time()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, tally: Tally, *, sent: bool) -> None:
        """Show how far it is.

        Args:
            tally: the counts.
            sent: whether the latest result cost a request.
        """
        self._sent += sent
        now = anyio.current_time()
        self._bar.update(self._task, completed=self._sent, words=self._words(tally, now))
        if self._bar.disable and not self._terminal.quiet and now - self._told >= _EVERY:
            self._told = now
            self._terminal.note(f"{self._sent:,} of {self._sendable:,} · {self._words(tally, now)}")

    def _words(self, tally: Tally, now: float) -> str:
        rate = self._sent / max(now - self._began, 0.001)
        left = (self._sendable - self._sent) / rate if rate else 0.0
        parts = [f"{rate * 60:,.0f}/min", f"{tally.not_sent:,} not sent", f"{tally.unknown:,} unknown"]
        return " · ".join([*parts, f"{duration(left)} left"])


def duration(seconds: float) -> str:
    """Return seconds as people read them: `42 s`, `3:07 min`, `2:15 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
