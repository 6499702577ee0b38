"""Sends a list: stops cleanly on Ctrl-C, or where going on is useless, and accounts for every row."""

import signal
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import anyio
from attrs import define, field

from desk360_async import (
    AuthenticationFailed,
    ClientStateError,
    ConfigurationError,
    ConnectionFailed,
    Lane,
    NotFound,
    Outcome,
    PermissionDenied,
    SendResult,
    ServerError,
)

from ._progress import Meter
from ._results import RowResult, Tally, Writer
from ._rows import Letter, Row
from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async import AsyncDesk360

__all__ = ["Dispatch"]

# What one row meets, every other row would meet as well.
_FINAL = (AuthenticationFailed, PermissionDenied, NotFound, ConfigurationError, ClientStateError)
# So many failures of the connection or the server in a row: it is down, and each may be an unknown.
_PATIENCE = 10
_BAD_ROWS_SHOWN = 20


@define
class Dispatch:
    """One list on its way.

    Attributes:
        tally: what became of the rows so far.
        stopped: why it stopped early, if it did.
        interrupted: whether that was Ctrl-C.
    """

    client: "AsyncDesk360"
    terminal: Terminal
    writer: Writer
    meter: Meter
    tally: Tally = field(factory=Tally)
    stopped: str | None = None
    interrupted: bool = False
    _failures: int = 0
    _bad_rows: int = 0

    async def send(self, rows: Iterable[Row], letter: Letter, lane: Lane) -> None:
        """Send to every row; each has its result in the end, those that were never tried too.

        Raises:
            OSError: if a result can't be written. Nothing is started after it.
        """
        source = iter(rows)
        trouble: Exception | None = None
        async with anyio.create_task_group() as tasks:
            hard = tasks.cancel_scope
            soft = anyio.CancelScope()
            tasks.start_soon(self._listen, soft, hard)
            try:
                await self._fan_out(source, letter, lane, soft)
            except Exception as error:  # noqa: BLE001  # out of the group first, or it would be wrapped
                trouble = error
            hard.cancel()
        if trouble is not None:
            raise trouble
        if self.stopped:
            for row in source:
                self._record(RowResult(row.line, row.phone, Outcome.NOT_SENT, None, self.stopped, True))

    async def _fan_out(
        self, source: Iterator[Row], letter: Letter, lane: Lane, soft: anyio.CancelScope
    ) -> None:
        results = self.client.send_each(source, build=letter, lane=lane)
        try:
            async with results:
                with soft:
                    async for result in results:
                        self._take(result)
                        if self.stopped:
                            break
        finally:
            for result in results.rest:
                self._take(result)

    async def _listen(self, soft: anyio.CancelScope, hard: anyio.CancelScope) -> None:
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    if self.interrupted:
                        hard.cancel()
                        continue
                    self.interrupted = True
                    self.stopped = "interrupted before it was sent"
                    self.terminal.note(
                        "Stopping: what is on the wire may finish. Ctrl-C again stops at once."
                    )
                    soft.cancel()
        except NotImplementedError:
            return  # Windows: Ctrl-C cancels everything, as the second one does elsewhere

    def _take(self, result: SendResult) -> None:
        error = result.error
        if isinstance(error, ConnectionFailed | ServerError):
            self._failures += 1
        elif result.message is not None:
            self._failures = 0
        if isinstance(error, _FINAL):
            self.stopped = self.stopped or f"stopped before it was sent: {error}"
        elif self._failures >= _PATIENCE:
            self.stopped = self.stopped or f"stopped before it was sent: {_PATIENCE} failures in a row"
        self._record(RowResult.of(result))

    def _record(self, result: RowResult) -> None:
        self.writer.write(result)
        self.tally.add(result)
        self.meter.show(self.tally, sent=not result.found_here)
        if self.terminal.json:
            self.terminal.data(result.as_json())
        elif result.found_here and not self.stopped:
            self._bad_rows += 1
            if self._bad_rows <= _BAD_ROWS_SHOWN:
                self.terminal.remark(f"line {result.line}: {result.reason}")
            elif self._bad_rows == _BAD_ROWS_SHOWN + 1:
                self.terminal.remark("… and more lines that can't be sent to; they are counted below.")
