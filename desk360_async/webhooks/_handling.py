"""The handling of accepted events: the inbox, the stores that are fed, the handlers and their retries.

An event's mark stores in the inbox that its handling has ended. No requests in here. `Handling` lives in the
receiver's own task, never in a request's task. A request may be cancelled at any await. An event that was
committed but not queued would then wait for the next start.
"""

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import anyio
from anyio.abc import TaskGroup
from attrs import define, field, frozen

from desk360_async._errors import ConfigurationError
from desk360_async._observer import Notice, Observer
from desk360_async._threads import Gathering
from desk360_async.webhooks._events import Event, MessageReceived, StatusUpdate
from desk360_async.webhooks._inbox import ON_DISK, Claimed, Ended, Inbox, key_of
from desk360_async.webhooks._queues import Queues

E = TypeVar("E", bound=Event)
AsyncFunction = Callable[[E], Awaitable[object]]
Decorator = Callable[[AsyncFunction[E]], AsyncFunction[E]]

GATHERED = 0.3
"""Seconds for which events are gathered before they are handed to the stores."""
_FED_AT_ONCE = 5_000  # events
_FEED_AGAIN = (0.5, 30.0)  # seconds: the first and the longest pause after a store's error
_BACKOFF = 4.0
"""Seconds between attempts of a failed handler: 1, 4, 16, 64, …"""
_POLL = 0.5  # seconds between looks for events that other workers left, and for workers that died


class Store(Protocol):
    """A campaign, a send log or customers: keeps events durably."""

    async def feed(self, *events: Any) -> int:
        """Store the events; return the number of changes."""
        ...


@define
class ReceiverStats:
    """Counts since the receiver was made, in events (`refused`: in requests).

    Attributes:
        received: events that came in, with repeats, without events that were refused with 503.
        duplicates: repeats of events already taken; answered with 200, not handled again.
        handled: events whose handlers have ended, failures included; each attempt counts.
        failed: events of which a handler failed; each attempt counts.
        unhandled: events that no handler was registered for.
        refused: requests answered with a status other than 200.
        dead: events that were given up after their last attempt; the inbox keeps them as dead letters.
    """

    received: int = 0
    duplicates: int = 0
    handled: int = 0
    failed: int = 0
    unhandled: int = 0
    refused: int = 0
    dead: int = 0


@frozen
class Handler:
    """A registered function.

    Attributes:
        function: the async function.
        matches: whether the function gets an event.
        name: the function's module and name. The inbox stores the name with a failure, so that the retry
            finds the function, also after a restart.
    """

    function: AsyncFunction[Any]
    matches: Callable[[Event], bool]
    name: str


@define(eq=False)
class _Waiting:
    event: Event
    row: int | None
    handlers: Sequence[Handler]
    attempts: int = 0
    parts: int = 0  # parts that have not ended; all handlers are one part, each store is one
    failures: list[tuple[str, str]] = field(
        factory=list[tuple[str, str]]
    )  # handlers' names and their errors' classes


class Handling:
    """The events in memory, from their acceptance to their marks.

    Messages are counted, limited and queued apart from other events. Messages come first.

    Args:
        handlers: the registered functions.
        stores: the stores to feed.
        inbox: the inbox, opened, or None.
        stats: counts the events.
        observer: gets the failures of handlers, and a report when no event is left in memory.
        queue_size: maximum number of messages in memory, and also of other events in memory (≥ 1).
        concurrency: handlers that run at once (≥ 1).
        attempts: attempts for an event before it is a dead letter (≥ 1).
        remember: number of last events whose repeats are recognised; not used with an inbox (≥ 0).
    """

    def __init__(
        self,
        handlers: Sequence[Handler],
        stores: Sequence[Store],
        inbox: Inbox | None,
        stats: ReceiverStats,
        observer: Observer,
        *,
        queue_size: int,
        concurrency: int,
        attempts: int,
        remember: int,
    ) -> None:
        self._handlers = handlers
        self._inbox = inbox
        self._stats = stats
        self._observer = observer
        self._queue_size = queue_size
        self._attempts = attempts
        self._recent = Recent(remember)
        self._queues: Queues[_Waiting] = Queues(self._handle, concurrency=concurrency)
        self._feeders = [_Feeder(store, self._end_part, observer) for store in stores]
        self._writer: Gathering[list[Event] | Ended, int | None] = Gathering(self._commit)
        self._unmarked: list[Ended] = []
        # By urgency (True for messages): the number of events in memory, and whether the disk holds more.
        self._unfinished = {True: 0, False: 0}
        self._spilled = {True: True, False: True}
        self._room = anyio.Event()
        self._idle = anyio.Event()
        self._ending = False

    async def start(self, tasks: TaskGroup) -> None:
        """Handle events in a task group, first those that the inbox holds."""
        self._queues.start(tasks)
        for feeder in self._feeders:
            tasks.start_soon(feeder.run)
        if self._inbox is not None:
            await self.claim()
            tasks.start_soon(self._watch, self._inbox)

    @property
    def unfinished(self) -> int:
        """Events in memory."""
        return sum(self._unfinished.values())

    # taking --------------------------------------------------------------------------------------------

    async def take(self, events: Sequence[Event]) -> int | None:
        """Take events, durably with an inbox; return the number of new ones, or None if the disk fails."""
        if self._inbox is not None:
            return await self._writer.add(list(events))
        for event in events:
            self._begin(_Waiting(event, None, self._matching(event)))
        return len(events)

    def without_repeats(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that this process hasn't taken yet; with an inbox all, as it finds repeats."""
        return events if self._inbox is not None else self._recent.unknown(events)

    def remember(self, events: Sequence[Event]) -> None:
        """Recognise these events' repeats from now on."""
        if self._inbox is None:
            self._recent.remember(events)

    def has_room(self, events: Sequence[Event]) -> bool:
        """Return whether memory has room for new events; an empty queue takes a body of any size."""
        if self._inbox is not None:  # the disk holds the rest
            return True
        urgent = sum(isinstance(event, MessageReceived) for event in events)
        arriving = {True: urgent, False: len(events) - urgent}
        return all(
            not arriving[kind] or not found or found + arriving[kind] <= self._queue_size
            for kind, found in self._unfinished.items()
        )

    async def _commit(self, items: list[list[Event] | Ended]) -> list[int | None]:
        assert self._inbox is not None
        arrived = [event for item in items if isinstance(item, list) for event in item]
        ended = self._unmarked + [item for item in items if isinstance(item, Ended)]
        try:
            rows = iter(await self._inbox.commit(arrived, ended, keep=self._keeper()))
        except Exception as error:  # noqa: BLE001 - after any error of the disk, the next commit is tried
            # The senders get a 503 and may try again. The next write stores the marks.
            self._unmarked = ended
            facts = {"events": len(arrived), "marks": len(ended)}
            text = (
                f"{self._inbox!r} can't be written to; {len(arrived)} events refused, {len(ended)} marks "
                "kept for the next write"
            )
            self._report("desk360.webhook.inbox_not_written", text, facts, error)
            return [None] * len(items)
        self._unmarked = []
        return [self._accept(item, rows) if isinstance(item, list) else 0 for item in items]

    def _report(
        self, event: str, text: str, facts: Mapping[str, float], error: Exception | None = None
    ) -> None:
        self._observer.notice(Notice(event, "error", text, facts, error))

    def _keeper(self) -> Callable[[Event], bool]:
        # While events wait on disk, later events wait there too. So each customer's events stay in order.
        room = {
            kind: 0 if self._spilled[kind] else self._queue_size - found
            for kind, found in self._unfinished.items()
        }

        def keep(event: Event) -> bool:
            kind = isinstance(event, MessageReceived)
            room[kind] -= 1
            return room[kind] >= 0

        return keep

    def _accept(self, events: list[Event], rows: Iterator[int | None]) -> int:
        new = 0
        for event in events:
            row = next(rows)
            new += row is not None
            if row and not self._ending:
                self._begin(_Waiting(event, row, self._matching(event)))
            elif row == ON_DISK:
                self._spilled[isinstance(event, MessageReceived)] = True
                self._room.set()
        return new

    def _matching(self, event: Event, names: Sequence[str] = ()) -> list[Handler]:
        found = [handler for handler in self._handlers if handler.matches(event)]
        # After a restart the functions may have other names. If no name is found, all matching functions run.
        return [handler for handler in found if handler.name in names] or found

    # from the disk ---------------------------------------------------------------------------------------

    async def claim(self) -> None:
        """Take events that wait on disk into memory, as far as there is room."""
        assert self._inbox is not None
        room = {kind: max(0, self._queue_size - found) for kind, found in self._unfinished.items()}
        found = await self._inbox.claim(room[True], room[False])
        urgent = sum(isinstance(claimed.event, MessageReceived) for claimed in found)
        self._spilled = {True: urgent >= room[True], False: len(found) - urgent >= room[False]}
        for claimed in found:
            self._begin(self._again(claimed))

    def _again(self, claimed: Claimed) -> _Waiting:
        handlers = self._matching(claimed.event, claimed.handlers)
        return _Waiting(claimed.event, claimed.row, handlers, attempts=claimed.attempts)

    async def _watch(self, inbox: Inbox) -> None:
        """Claim, while the receiver is open, the events that other workers leave or have no room for."""
        complained = False
        while True:
            with anyio.move_on_after(_POLL):
                await self._room.wait()
                await anyio.sleep(_POLL / 50)  # time for the queues; else the loop would only claim
            self._room = anyio.Event()
            try:
                await inbox.take_over()
                await self.claim()
                complained = False
            except Exception as error:  # noqa: BLE001 - the disk may be full for a while
                if not complained:
                    text = f"{inbox!r} can't be read; events of other workers wait"
                    self._report("desk360.webhook.inbox_not_read", text, {}, error)
                complained = True

    # handling ------------------------------------------------------------------------------------------

    def _begin(self, waiting: _Waiting) -> None:
        event = waiting.event
        urgent = isinstance(event, MessageReceived)
        self._unfinished[urgent] += 1
        feeders = self._feeders if isinstance(event, MessageReceived | StatusUpdate) else []
        waiting.parts = len(feeders) + bool(waiting.handlers)
        if not waiting.parts:
            self._finish(waiting)
            return
        for feeder in feeders:
            feeder.put(waiting)
        if waiting.handlers:
            self._queues.put(_customer(event), waiting, urgent=urgent)

    async def _handle(self, waiting: _Waiting) -> None:
        for handler in waiting.handlers:
            if failure := await failure_of(handler.function, waiting.event, self._observer):
                waiting.failures.append((handler.name, failure))
        self._end_part(waiting)

    def _end_part(self, waiting: _Waiting) -> None:
        waiting.parts -= 1
        if not waiting.parts:
            self._finish(waiting)

    def _finish(self, waiting: _Waiting) -> None:
        urgent = isinstance(waiting.event, MessageReceived)
        self._unfinished[urgent] -= 1
        self._stats.handled += 1
        self._stats.failed += bool(waiting.failures)
        self._stats.unhandled += not waiting.handlers
        if waiting.row is not None:
            self._writer.post(self._mark(waiting.row, waiting))
            if self._spilled[urgent] and self._unfinished[urgent] <= self._queue_size // 2:
                self._room.set()
        if not self.unfinished:
            self._idle.set()
            self._observer.webhook_queue(0)

    def _mark(self, row: int, waiting: _Waiting) -> Ended:
        if not waiting.failures:
            return Ended(row)
        error = ", ".join(failure for _, failure in waiting.failures)
        names = tuple(name for name, _ in waiting.failures)
        if waiting.attempts + 1 < self._attempts:
            return Ended(row, error, time.time() + _BACKOFF**waiting.attempts, names)
        self._stats.dead += 1
        tries = waiting.attempts + 1
        text = f"{waiting.event!r} is a dead letter after {tries} attempts; `desk360 inbox list` shows it"
        self._report("desk360.webhook.dead_letter", text, {"attempts": tries})
        return Ended(row, error, None, names)

    # ending --------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until no event is in memory."""
        for feeder in self._feeders:
            feeder.hurry()
        while self.unfinished:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def finish(self) -> None:
        """Write the last marks: without them the events would be handled again at the next start."""
        self._ending = True
        await self._writer.aclose()
        if self._unmarked:
            try:
                assert self._inbox is not None
                await self._inbox.commit([], self._unmarked)
            except Exception as error:  # noqa: BLE001 - a stop must not fail because of the disk
                events = len(self._unmarked)
                text = (
                    f"{self._inbox!r} can't be written to; {events} handled events will be handled again "
                    "at the next start"
                )
                self._report("desk360.webhook.marks_not_written", text, {"events": events}, error)


def _customer(event: Event) -> object:
    """Return the key of an event's queue; an event without a known sender gets its own queue."""
    if isinstance(event, MessageReceived | StatusUpdate) and event.user_id and event.phone is None:
        return event.user_id
    return event.sender or object()


class _Feeder:
    """Gathers events for a moment and hands them to one store; after an error again, until they are stored.

    Each store has its own feeder, so a store that fails delays no other store. For example, an opt-out is
    stored while a campaign's disk is full.
    """

    def __init__(self, store: Store, fed: Callable[[_Waiting], None], observer: Observer) -> None:
        self._store = store
        self._fed = fed
        self._observer = observer
        self._pending: list[_Waiting] = []
        self._wake = anyio.Event()
        self._hurry = anyio.Event()

    def put(self, waiting: _Waiting) -> None:
        """Add an event to the next batch."""
        self._pending.append(waiting)
        self._wake.set()

    def hurry(self) -> None:
        """Feed at once from now on."""
        self._hurry.set()

    async def run(self) -> None:
        """Feed until cancelled."""
        while True:
            await self._wake.wait()
            with anyio.move_on_after(GATHERED):
                await self._hurry.wait()
            self._wake = anyio.Event()
            batch, self._pending = self._pending[:_FED_AT_ONCE], self._pending[_FED_AT_ONCE:]
            if self._pending:
                self._wake.set()
            await self._feed([waiting.event for waiting in batch])
            for waiting in batch:
                self._fed(waiting)

    async def _feed(self, events: Sequence[Event]) -> None:
        pause, longest = _FEED_AGAIN
        while True:
            try:
                await self._store.feed(*events)
            except Exception as error:  # noqa: BLE001 - after any error of the store, the events may not be lost
                text = f"{self._store!r} did not take {len(events)} events; next try in {pause:g} s"
                facts = {"events": len(events), "wait": pause}
                self._observer.notice(Notice("desk360.webhook.store_failed", "error", text, facts, error))
                await anyio.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                return


def handler_for(function: object, matches: Callable[[Event], bool]) -> Handler:
    """Return a registered function.

    Raises:
        ConfigurationError: if it is neither an `async def` function nor an object with an async `__call__`.
    """
    is_async = callable(function) and (
        inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    )
    if not callable(function) or not is_async:
        name = getattr(function, "__name__", type(function).__name__)
        raise ConfigurationError(
            f"the handler {name} must be an `async def` function of one event: it runs on the event loop"
        )
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return Handler(cast("AsyncFunction[Any]", function), matches, f"{named.__module__}.{named.__qualname__}")


async def failure_of(handler: AsyncFunction[Any], event: Event, observer: Observer) -> str | None:
    """Run one handler; return the class of the error that it raised, or None."""
    try:
        await handler(event)
    except anyio.get_cancelled_exc_class() as error:
        # asyncio: a function gets this error also if it awaits a task that was cancelled. Only if the scope
        # around it is cancelled, the deadline is -inf.
        if anyio.current_effective_deadline() == float("-inf"):
            raise
        failure: BaseException = error
    except Exception as error:  # noqa: BLE001 - a handler's error is its author's; the next event still counts
        failure = error
    else:
        return None
    observer.handler_failed(kind_of(event), failure)
    return type(failure).__name__


def kind_of(event: Event) -> str:
    """Return an event's kind for observers: "message", "status" or "unknown"."""
    if isinstance(event, MessageReceived):
        return "message"
    return "status" if isinstance(event, StatusUpdate) else "unknown"


_STATUSES = frozenset({"sent", "delivered", "read", "failed", "deleted"})


def report_events(
    observer: Observer, events: Sequence[Event], *, new: int, seconds: float, now: float
) -> None:
    """Report events that came in, without anything that a sender wrote.

    Args:
        observer: gets a report of each.
        events: the events of one request.
        new: number of events that aren't repeats. The inbox returns only this number, so the last events of
            the request are reported as the repeats.
        seconds: seconds from the request's arrival to this call.
        now: seconds since 1970.
    """
    for index, event in enumerate(events):
        status = delay = None
        if isinstance(event, StatusUpdate):
            status = event.status if event.status in _STATUSES else "other"
        elif isinstance(event, MessageReceived) and event.sent_at is not None:
            delay = max(0.0, now - event.sent_at.timestamp())
        observer.webhook(kind_of(event), status, "accepted" if index < new else "repeat", seconds, delay)


class Recent:
    """The keys of the last events, oldest first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[str, None] = {}

    def unknown(self, events: Sequence[Event]) -> list[Event]:
        """Return the events, without repeats of earlier events or of each other."""
        fresh: dict[object, Event] = {}
        for event in events:
            key = key_of(event)
            if key is None or key not in self._keys:
                fresh.setdefault(object() if key is None else key, event)
        return list(fresh.values())

    def remember(self, events: Sequence[Event]) -> None:
        """Add events, and forget the oldest beyond the size."""
        self._keys.update((key, None) for event in events if (key := key_of(event)) is not None)
        while len(self._keys) > self._size:
            del self._keys[next(iter(self._keys))]
