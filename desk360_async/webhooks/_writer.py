"""The one task that writes to an inbox: what came in while a transaction ran shares the next one.

It is a task of the receiver's own, not of the requests: a request may be cancelled at any await, and an
event that was committed but not queued would wait for the next start.
"""

import logging
from collections.abc import Callable, Sequence

import anyio
from attrs import define, field

from desk360_async.webhooks._events import Event
from desk360_async.webhooks._inbox import Ended, SQLiteInbox

_log = logging.getLogger("desk360_async.webhooks")


@define(eq=False)
class _Write:
    events: Sequence[Event] = ()
    fresh: int | None = None
    done: anyio.Event = field(factory=anyio.Event)


class Writer:
    """Stores arrivals and marks in groups; hands each new event on once it is on disk."""

    def __init__(self, inbox: SQLiteInbox, hand_on: Callable[[int, Event], None]) -> None:
        self._inbox = inbox
        self._hand_on = hand_on
        self._writes: list[_Write] = []
        self._unmarked: list[Ended] = []
        self._wake = anyio.Event()

    async def store(self, events: Sequence[Event]) -> int | None:
        """Return once the events are on disk and handed on: how many were new, or None on failure."""
        return await self._done(_Write(events=events))

    async def mark(self, row: int, error: str | None) -> None:
        """Return once it is on disk that an event's handlers have ended, or was tried.

        A mark that fails is no reason to stop: it is kept, and part of each write until one succeeds.
        """
        self._unmarked.append((row, error))
        await self._done(_Write())

    async def run(self) -> None:
        """Write until cancelled; then whoever still waits is told that nothing was stored."""
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                writes, self._writes = self._writes, []
                await self._write(writes)
        finally:
            for write in self._writes:
                write.done.set()

    async def finish(self) -> None:
        """Write what is still not marked, once `run` has ended: else it would be handled again, unkilled."""
        if self._unmarked:
            try:
                await self._inbox.commit([], self._unmarked)
            except Exception:  # noqa: BLE001 - as in `_write`: a stop must not fail because of the disk
                again = "%r can't be written to; %d events that were handled will be again at the next start"
                _log.exception(again, self._inbox, len(self._unmarked))

    async def _done(self, write: _Write) -> int | None:
        self._writes.append(write)
        self._wake.set()
        await write.done.wait()
        return write.fresh

    async def _write(self, writes: Sequence[_Write]) -> None:
        arrived = [event for write in writes for event in write.events]
        ended = self._unmarked[:]  # a copy: more come while the thread writes
        try:
            rows = iter(await self._inbox.commit(arrived, ended))
        except Exception:  # noqa: BLE001 - whatever the disk may raise: the task that writes must go on
            # A full disk, say: the senders get a 503 and may try again; the marks go with the next write.
            failed = "%r can't be written to; %d events refused, %d marks kept for the next write"
            _log.exception(failed, self._inbox, len(arrived), len(ended))
        else:
            del self._unmarked[: len(ended)]
            for write in writes:
                new = [(row, event) for event in write.events if (row := next(rows)) is not None]
                write.fresh = len(new)
                for row, event in new:
                    self._hand_on(row, event)
        finally:
            for write in writes:
                write.done.set()
