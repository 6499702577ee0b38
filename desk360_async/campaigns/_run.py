"""A run of a campaign: its workers, one delivery of a batch, its events, and each way to stop it.

The order of a delivery is a token, the intent, the POST, the result. A crash between the token and the
intent wastes a token. If the intent came before the wait for a token, a crash would make ten times as many
unknowns. If a result can't be written, the campaign stops.
"""

import math
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self, cast

import anyio
from attrs import define, evolve, frozen

from desk360_async import (
    AsyncDesk360,
    Attachment,
    Desk360Error,
    Operation,
    Outcome,
    TemplateBatch,
    TemplateMessage,
    _threads,
)
from desk360_async._observer import Notice
from desk360_async.campaigns._hours import Hours
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._recipients import OptOutList
from desk360_async.campaigns._values import (
    Attempt,
    Batch,
    CampaignError,
    Counts,
    Done,
    End,
    Event,
    LedgerError,
    News,
    Paused,
    Progress,
    Result,
    Settings,
)
from desk360_async.campaigns._verdicts import MANY, Refusals, judge_bulk, judge_error

# Unread events before the workers wait for the reader.
ROOM = 1000
# The server counts as down after this number of requests in a row without a usable answer. Each such request
# makes a batch unknown.
SILENT = 5
# `stop_if_failed` waits for this number of recipients with a status: a first failure proves little.
FEWEST_STATUSES = 20
LOOK_EVERY = 5.0  # seconds between two looks at the statuses, which count all of them
# The run ends after OUTAGE seconds without a connection. It pauses at most LONGEST_PAUSE seconds between two
# tries. A request without a connection makes no unknown, so the run is patient.
OUTAGE = 300.0
LONGEST_PAUSE = 30.0
# Seconds between two looks at batches that other runs may give back.
SHORTEST_LOOK, LONGEST_LOOK = 0.25, 5.0
STOPPING = (signal.SIGINT, signal.SIGTERM)
# The longest sleep outside the sending hours, in seconds. Then the run reads the wall clock again: the clock
# may have been set, or the machine was suspended.
LONGEST_REST = 60.0

# The wall clock, for the sending hours.
now = partial(datetime.now, UTC)


class Signal:
    """An event that can be set again and again."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake all waiters."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for the next `set`. Check the awaited condition before and after."""
        if self._event.is_set():
            self._event = anyio.Event()
        await self._event.wait()


@define
class Looks:
    """When a run looks again for batches that other runs may give back.

    A look costs three statements. A run may wait for minutes for another run's last batch. So the pause
    doubles.

    Attributes:
        due: the loop's time of the next look.
    """

    due: float = -math.inf
    _pause: float = SHORTEST_LOOK

    def plan_next(self, lease: float) -> None:
        """Plan the look after one that found none; the pause grows to a third of the lease at most."""
        self.due = anyio.current_time() + self._pause
        self._pause = max(self._pause, min(2 * self._pause, LONGEST_LOOK, lease / 3))


# ── one delivery ───────────────────────────────────────────────────────────────────────────────────────


class _OptedOutMeanwhile(Exception):
    """Raised after the token and before the first byte: a recipient opted out, so build a new message."""


class _TakenOver(Exception):
    """Raised after the token and before the first byte: another run has the batch, or it is free again."""


class _Stopped(Exception):
    """Raised after the token and before the first byte: the run was stopped or paused."""


# The outcome of a batch by its recipients' state; "pending" ones were certainly not sent.
_OUTCOMES = {"accepted": Outcome.ACCEPTED, "unknown": Outcome.UNKNOWN}


class Dispatch:
    """Delivers batches, one attempt each; several tasks may use it.

    Args:
        client: a view that makes one attempt a call. The end of an attempt must be in the ledger before the
            next attempt begins.
        ledger: the campaign's.
        settings: the pinned settings.
        attachment: the file for a media header.
        opt_out: the people who opted out.
    """

    def __init__(
        self,
        client: AsyncDesk360,
        ledger: Ledger,
        settings: Settings,
        attachment: Attachment | None,
        opt_out: OptOutList,
    ) -> None:
        self.ledger = ledger
        self.has_file = attachment is not None
        # Batch → recipients, from the intent until the result is in the ledger.
        self.unwritten: dict[int, int] = {}
        self._client = client
        self._settings = settings
        self._attachment = attachment
        self._opt_out = opt_out

    async def deliver(self, batch: Batch, may_begin: Callable[[], bool]) -> Attempt | None:
        """Make one attempt at a batch.

        Args:
            batch: pending, and in the hands of no other task.
            may_begin: called with the token in hand, before the intent; False gives the token back.

        Returns:
            The attempt; it has no recipients if another run has the batch. None if the run stopped before
            the intent: then the batch is still pending.

        Raises:
            LedgerError: if the ledger failed; then no further request may be sent.
            CampaignError: if the opt-out list can't be read.
        """
        skipped = 0
        while True:
            # One recipient alone can't be excepted: its skip ends the batch in the same transaction.
            excepted = await self.ledger.excepted(batch) if len(batch.members) > 1 else frozenset[int]()
            opted_out = await self._opt_out.read()
            left = [phone for phone in batch.members if phone not in excepted]
            members = tuple(phone for phone in left if phone not in opted_out)
            left_out = [phone for phone in left if phone in opted_out]
            if left_out or not members:
                await self.ledger.skip(batch, left_out)
                skipped += len(left_out)
            if not members:
                return Attempt(batch, 0, skipped, None)
            try:
                return await self._observed(batch, members, skipped, may_begin)
            except _OptedOutMeanwhile:
                continue

    async def _observed(
        self, batch: Batch, members: tuple[int, ...], skipped: int, may_begin: Callable[[], bool]
    ) -> Attempt | None:
        settings = self._settings
        operation = Operation(
            "send_batch",
            "send",
            self._client.lane,
            settings.integration,
            settings.template,
            len(members),
            campaign=settings.name,
        )
        with self._client.observer.operation(operation) as end:
            try:
                attempt = await self._attempt(batch, members, skipped, may_begin)
            except BaseException as error:
                end.error = error
                raise
            if attempt is not None and attempt.result is not None:
                end.attempts, end.error = 1, attempt.error
                end.outcome = _OUTCOMES.get(attempt.result.state, Outcome.NOT_SENT)
            return attempt

    async def _attempt(
        self, batch: Batch, members: tuple[int, ...], skipped: int, may_begin: Callable[[], bool]
    ) -> Attempt | None:
        request: int | None = None

        async def intend() -> None:
            nonlocal request
            opted_out = await self._opt_out.read()
            if any(phone in opted_out for phone in members):
                raise _OptedOutMeanwhile
            if not may_begin():
                raise _Stopped
            request = await self.ledger.intend(batch)
            if request is None:
                raise _TakenOver
            self.unwritten[batch.id] = len(members)

        error: Desk360Error | None = None
        try:
            message = message_for(batch, members, self._settings, self._attachment)
            if isinstance(message, TemplateBatch):
                bulk = await self._client.send(message, on_attempt=intend)
                result = judge_bulk(bulk, self._settings.not_listed)
            else:
                single = await self._client.send(message, on_attempt=intend)
                result = Result("accepted", message_id=single.message_id)
        except _Stopped:
            return None
        except _TakenOver:
            return Attempt(batch, 0, skipped, None)
        except CampaignError:
            raise
        except Desk360Error as failure:
            error = failure
            result = judge_error(failure, len(members), batch.parameters)
        with anyio.CancelScope(shield=True):  # a known result must not become unknown
            following = await self.ledger.conclude(batch, request, result)
        self.unwritten.pop(batch.id, None)
        # The names below are bound, since a shielded scope swallows no error.
        return Attempt(batch, len(members), skipped, result, following, error)  # pyright: ignore[reportPossiblyUnboundVariable]


def message_for(
    batch: Batch, members: tuple[int, ...], settings: Settings, attachment: Attachment | None
) -> TemplateMessage | TemplateBatch:
    """Return the message that sends a batch."""
    phones = [f"+{phone}" for phone in members]
    parameters = batch.parameters or None
    if batch.kind == "single":
        return TemplateMessage(
            phones[0],
            settings.template,
            language=settings.language,
            parameters=parameters,
            attachment=attachment,
        )
    return TemplateBatch(
        phones, settings.template, language=settings.language, parameters=parameters, attachment=attachment
    )


# ── the run ────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Opening:
    """The things that entering a run prepares.

    Attributes:
        dispatch: sends a batch.
        counts: recipients by state.
        requests_left: the number of requests that are still needed.
        upto: the number of the last pending batch.
        lease: seconds after which other runs take this one for dead; None if there are no others.
        news: the decisions of the other runs.
    """

    dispatch: Dispatch
    counts: Counts
    requests_left: int
    upto: int
    lease: float | None = None
    news: News | None = None


class Run:
    """A running campaign, made by `campaign.run`: `async with … as events: async for event in events`.

    Leaving the block stops taking batches, lets the requests on the wire finish, and closes the ledger. The
    workers live in a separate task. So one task may enter the block, and another task may leave it.

    Attributes:
        counts: recipients by state.
    """

    def __init__(
        self,
        open_: Callable[[AsyncExitStack], Awaitable[Opening]],
        client: AsyncDesk360,
        name: str,
        *,
        concurrency: int,
        max_failures: float | None,
        stop_if_failed: float | None = None,
        drain: float,
        signals: bool | None,
        hours: Hours | None = None,
    ) -> None:
        self.counts: Counts = Counts()
        self._hours = hours
        self._opens: datetime | None = None  # the opening that the last event "hours" announced
        self._open = open_
        self._client = client
        self._name = name
        self._concurrency = concurrency
        self._max_failures = max_failures
        self._most_failed = stop_if_failed
        self._statuses_at_start, self._next_look = (0, 0), 0.0
        self._drain = drain
        self._signals = signals
        self._events: deque[Event] = deque()
        self._news = Signal()
        self._room = Signal()
        self._given_back = Signal()
        self._waiting: dict[anyio.CancelScope, None] = {}  # in order, unlike a set
        self._under_way: dict[anyio.CancelScope, None] = {}
        self._listening = anyio.CancelScope()
        self._beating = anyio.CancelScope()
        self._shared_failures = 0
        self._follows = False
        self._is_paused_by_all = False
        self._filling = anyio.Lock(fast_acquire=True)
        self._stack = AsyncExitStack()
        self._opened: Opening | None = None
        self._end: End | None = None
        self._reason = ""
        self._resumed: anyio.Event | None = None
        self._queue: deque[Batch] = deque()
        self._last = 0
        self._exhausted = False
        self._looks = Looks()
        self._busy = 0
        self._silent = 0
        self._answered = False
        self._refusals = Refusals()
        self._requests_left = 0
        self._at_start = Counts()
        self._started = 0.0
        self._unreachable: float | None = None
        self._entered = False
        self._done: Done | None = None
        self._crash: BaseException | None = None
        self._over = anyio.Event()

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        if self._entered:
            raise CampaignError("a run can be entered once; call campaign.run(client) again")
        self._entered = True
        async with AsyncExitStack() as stack:
            self._opened = await self._open(stack)
            if self._most_failed is not None:
                self._statuses_at_start = await self._opened.dispatch.ledger.statuses()
            self._stack = stack.pop_all()
        self.counts = self._at_start = self._opening.counts
        self._requests_left = self._opening.requests_left
        self._started = anyio.current_time()
        if self._opening.news is not None:
            self._follow(self._opening.news)
        _threads.detach(self._live)
        return self

    @property
    def _opening(self) -> Opening:
        assert self._opened is not None  # the block was entered
        return self._opened

    async def _live(self) -> None:
        """Work until the run ends. This is a separate task, so it must not raise."""
        try:
            async with anyio.create_task_group() as tasks:
                listening = self._signals if self._signals is not None else is_signal_free()
                if listening:
                    tasks.start_soon(listen, self._heard, self._listening)
                if self._opening.lease is not None:
                    tasks.start_soon(self._beat, self._opening.lease)
                await self._work_all()
        except BaseException as error:  # noqa: BLE001  # raised again where the run is read or left
            self._crash = _alone(error)
        finally:
            self._over.set()
            self._news.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop("stopped", "the block was left")
        interrupted: BaseException | None = None
        while not self._over.is_set():
            with anyio.CancelScope(shield=True):
                try:
                    await self._over.wait()
                except anyio.get_cancelled_exc_class() as again:  # asyncio's Task.cancel ignores shields
                    interrupted = again
        await self._stack.aclose()
        crash, self._crash = self._crash, None
        if crash is not None and error is None:
            raise crash
        if interrupted is not None and error is None:
            raise interrupted

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if not self._entered:
            raise CampaignError(
                "use it as: async with campaign.run(client) as events: async for event in events"
            )
        while not self._events:
            if self._done is not None:
                raise StopAsyncIteration
            if self._over.is_set():
                crash, self._crash = self._crash, None
                raise crash or StopAsyncIteration
            await self._news.wait()
        event = self._events.popleft()
        self._room.set()
        return event

    async def wait(self) -> Done:
        """Read all events to the end; return the last one."""
        async for _ in self:
            pass
        assert self._done is not None
        return self._done

    # ── control ────────────────────────────────────────────────────────────────────────────────────────

    def pause(self) -> None:
        """Take no more batches until `proceed`; the requests on the wire finish."""
        if self._resumed is None and self._end is None:
            self._resumed = anyio.Event()
            self._put(Paused("asked", None))
            self._leave_line()

    def proceed(self) -> None:
        """Go on after `pause`."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set()

    def stop(self) -> None:
        """Take no more batches; the requests on the wire finish, within `drain` seconds."""
        self._stop("stopped", "stop() was called")

    def abort(self) -> None:
        """End at once; the requests on the wire become unknown.

        If a ledger in PostgreSQL doesn't answer, its statements are given up after 5 s.
        """
        self._stop("interrupted", "abort() was called")
        for scope in self._under_way:
            scope.shield = False
            scope.cancel()
        if self._opened is not None and not self._over.is_set():
            self._opened.dispatch.ledger.hurry(0.0)
            _threads.detach(self._cut, self._opened.dispatch.ledger)

    async def _cut(self, ledger: Ledger) -> None:
        """Cut the ledger's statements until the run is over: no cancellation ends one that waits."""
        while not self._over.is_set():
            with anyio.move_on_after(_threads.PATIENCE):
                await self._over.wait()
                return
            ledger.cut()

    def _stop(self, end: End, reason: str) -> None:
        if self._end is None:
            self._end, self._reason = end, reason
            self.proceed()
            self._room.set()
            self._leave_line()
            if self._opened is not None:
                self._opened.dispatch.ledger.hurry(self._drain)
                deadline = _threads.loop_time() + self._drain
                for scope in self._under_way:
                    scope.deadline = deadline

    def _leave_line(self) -> None:
        for scope in self._waiting:
            scope.cancel()

    def _heard(self, number: signal.Signals) -> None:
        if self._end is not None:  # the second one, or the requests on the wire were finishing anyway
            self.abort()
        else:
            self._put(Paused("interrupted", None))
        self._stop("interrupted", number.name)

    # ── work ───────────────────────────────────────────────────────────────────────────────────────────

    async def _work_all(self) -> None:
        try:
            if self._opening.dispatch.has_file:
                # One batch goes first: if the server refuses the file, it refuses only this batch.
                await self._work(alone=True)
            async with anyio.create_task_group() as tasks:
                for _ in range(self._concurrency):
                    tasks.start_soon(self._work)
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish()
            self._listening.cancel()
            self._beating.cancel()

    async def _beat(self, lease: float) -> None:
        """Show the other runs that this one is alive, and follow their decisions; survive a lost database."""
        with self._beating:
            while True:
                await anyio.sleep(lease / 3)
                try:
                    news = await self._opening.dispatch.ledger.beat()
                except LedgerError as error:
                    if error.__cause__ is None:  # this failure is final: the database was promoted
                        self._fail(error)
                    else:
                        text = f"a run of a campaign isn't seen now: {error}"
                        notice = Notice("desk360.campaign.run_not_seen", "warning", text)
                        self._client.observer.notice(notice)
                    continue
                if news is not None:
                    self._follow(news)

    def _follow(self, news: News) -> None:
        self._shared_failures = news.counts.failures
        if news.state in ("stopped", "ended"):
            self._follows = True
            self._stop(cast("End", news.end), news.reason)
        elif news.state == "paused" and not self._is_paused_by_all:
            self._is_paused_by_all = True
            self.pause()
        elif news.state == "running" and self._is_paused_by_all:
            self._is_paused_by_all = False
            self.proceed()
        if self._too_many():
            self._stop("failures", f"{self._failures:,} of {self.counts.total:,} not sent or unknown")

    async def _finish(self) -> None:
        unknown = 0
        ledger, unwritten = self._opening.dispatch.ledger, self._opening.dispatch.unwritten
        try:
            if self._end is None:
                await self._judge_the_rest()
            unknown = await ledger.recover("interrupted")
            if self._end in ("refused", "failures") and not self._follows:
                await ledger.announce(self._end, self._reason)
            await ledger.part()
            if unknown or self._opening.lease is not None:
                self.counts = await ledger.counts()
        except LedgerError as error:
            self._fail(error)
            # These batches have an intent in the ledger and no result. So they become unknown.
            unknown = sum(unwritten.values())
            self.counts = evolve(
                self.counts, pending=self.counts.pending - unknown, unknown=self.counts.unknown + unknown
            )
        left = self.counts.pending + self.counts.on_the_wire
        if not left and self._end not in ("ledger", "opt_out"):
            self._end, self._reason = "finished", ""
        elif unknown:
            self._reason += f"; {unknown:,} recipients on the wire are unknown"
        elif self._end == "interrupted":
            self._reason += "; the requests on the wire have finished"
        self._done = Done(self._end or "stopped", self.counts, self._reason)
        self._put(self._done)

    async def _judge_the_rest(self) -> None:
        """Decide about recipients that were refused without a reason, once all others have ended."""
        refusals = self._refusals
        if refusals.accepted or (refusals.suspects and await self._opening.dispatch.ledger.has_accepted()):
            await self._give_up(refusals.convict())
        elif refusals.suspects:
            why = refusals.suspects[-1].error
            self._stop("refused", f"no recipient was accepted, so the cause may lie in the campaign: {why}")

    async def _give_up(self, convicted: list[Attempt]) -> None:
        for attempt in convicted:
            result = Result("not_sent", attempt.result.reason if attempt.result else None)
            await self._opening.dispatch.ledger.conclude(attempt.batch, None, result)
            self._count(evolve(attempt, result=result, skipped=0))

    async def _work(self, *, alone: bool = False) -> None:
        """Deliver batches until the run ends; with `alone`, until the server's first answer."""
        while self._end is None and not (alone and self._answered):
            try:
                batch = await self._next()
                if batch is None:
                    return
                await self._deliver(batch)
            except CampaignError as error:
                self._fail(error)
            while len(self._events) >= ROOM and self._end is None:
                await self._room.wait()

    def _fail(self, error: CampaignError) -> None:
        # A failed ledger outweighs any other end of the run.
        self._stop("opt_out", str(error))
        if isinstance(error, LedgerError) and self._end != "ledger":
            self._end, self._reason = "ledger", str(error)

    async def _next(self) -> Batch | None:
        """Return a batch, waiting for batches that other workers may give back; None at the end."""
        while self._end is None:
            if self._resumed is not None:
                await self._resumed.wait()
                continue
            if self._hours is not None and not self._hours.is_open(now()):
                await self._rest(self._hours)
                continue
            if not self._queue and not self._exhausted:
                await self._refill()
            if self._queue:
                self._busy += 1
                return self._queue.popleft()
            if self._busy:
                await self._given_back.wait()
            elif self._exhausted:
                return None
            else:
                await self._sleep(max(0.0, self._looks.due - anyio.current_time()))
        return None

    async def _refill(self) -> None:
        async with self._filling:
            if self._queue or self._exhausted or anyio.current_time() < self._looks.due:
                return  # another worker of this run has looked meanwhile
            ledger = self._opening.dispatch.ledger
            found = await ledger.claim(self._last, self._opening.upto, self._concurrency)
            self._queue.extend(found)
            self._exhausted = not found and await ledger.is_over(busy=self._busy > 0)
            if found:
                self._last, self._looks = found[-1].id, Looks()
            else:
                self._looks.plan_next(0.0 if self._busy else self._opening.lease or 0.0)

    async def _deliver(self, batch: Batch) -> None:
        attempt: Attempt | None = None
        scope = anyio.CancelScope()

        def may_begin() -> bool:
            closed = self._hours is not None and not self._hours.is_open(now())
            if self._end is not None or self._resumed is not None or closed:
                return False
            self._waiting.pop(scope, None)
            # The attempt is under way now. A cancelled run lets it finish; `abort` doesn't.
            scope.shield = True
            self._under_way[scope] = None
            return True

        try:
            with scope:
                self._waiting[scope] = None
                attempt = await self._opening.dispatch.deliver(batch, may_begin)
        finally:
            self._waiting.pop(scope, None)
            self._under_way.pop(scope, None)
            self._busy -= 1
            self._given_back.set()
        if attempt is None:
            self._queue.appendleft(batch)  # still pending; if the run has ended, it stays so
        else:
            await self._take(attempt)

    async def _take(self, attempt: Attempt) -> None:
        following = [] if attempt.is_suspect else attempt.following
        if attempt.result is not None and attempt.result.halve:
            # The halves go to the end of the queue: the batches before them show whether the server accepts.
            self._queue.extend(following)
        else:
            self._queue.extendleft(reversed(following))
        self._given_back.set()
        self._requests_left += len(following) - 1
        self._count(attempt)
        await self._give_up(self._refusals.note(attempt))
        self._put(self._progress())
        await self._judge(attempt)

    def _count(self, attempt: Attempt) -> None:
        event = attempt.event
        self.counts = self.counts.after(event)
        self._put(event)

    def _progress(self) -> Progress:
        elapsed = anyio.current_time() - self._started
        finished = self.counts.finished - self._at_start.finished
        status = self._client.rate_limit
        eta = max(0, self._requests_left) * status.period / status.limit + status.next_token
        if self._hours is not None:
            at = now()
            eta = (self._hours.finish(at, eta) - at).total_seconds()
        rate = finished / elapsed if elapsed > 0 else 0.0
        return Progress(self.counts, max(0, self._requests_left), rate, eta)

    async def _judge(self, attempt: Attempt) -> None:
        """Stop where going on would do harm, and wait where the server asks for it."""
        result = attempt.result
        if result is None:
            return
        if not result.silent:
            self._unreachable = None
            self._answered = True
        self._silent = self._silent + 1 if result.silent and result.state == "unknown" else 0
        if result.stop is not None:
            self._stop("refused", result.stop)
        elif self._silent >= SILENT:
            self._stop("unreachable", f"no usable answer {SILENT} times in a row: {result.reason}")
        elif self._refusals.in_a_row >= MANY:
            self._stop("refused", f"{MANY} requests in a row were refused: {attempt.error}")
        elif self._too_many():
            reason = f"{self._failures:,} of {self.counts.total:,} not sent or unknown in this run"
            self._stop("failures", reason)
        elif unreached := await self._unreached():
            self._stop("failures", unreached)
        elif result.pause:
            until = self._client.rate_limit.paused_until
            seconds = None if until is None else max(0.0, until - anyio.current_time())
            self._put(Paused("rate_limit", seconds))
        elif result.silent and result.state == "pending":
            await self._back_off(str(result.reason))

    def _too_many(self) -> bool:
        # Only this run's failures count: a person who resumes has seen the failures of earlier runs.
        most = self._max_failures
        if most is None:
            return False
        return self._failures > (most if isinstance(most, int) else math.floor(most * self.counts.total))

    async def _unreached(self) -> str | None:
        """Return the reason to stop if more than `stop_if_failed` of this run's statuses are failed."""
        now = anyio.current_time()
        if self._most_failed is None or now < self._next_look:
            return None
        self._next_look = now + LOOK_EVERY
        failed, told = await self._opening.dispatch.ledger.statuses()
        failed, told = failed - self._statuses_at_start[0], told - self._statuses_at_start[1]
        if told < FEWEST_STATUSES or failed <= self._most_failed * told:
            return None
        return f"WhatsApp could not reach {failed:,} of the {told:,} recipients with a status in this run"

    @property
    def _failures(self) -> int:
        return max(self.counts.failures, self._shared_failures) - self._at_start.failures

    async def _back_off(self, reason: str) -> None:
        at = anyio.current_time()
        self._unreachable = since = at if self._unreachable is None else self._unreachable
        if at - since >= OUTAGE:
            self._stop("unreachable", f"no connection for {at - since:.0f} s: {reason}")
            return
        seconds = max(1.0, min(LONGEST_PAUSE, at - since))
        self._put(Paused("unreachable", seconds))
        await self._sleep(seconds)

    async def _rest(self, hours: Hours) -> None:
        """Sleep until the sending hours, at most `LONGEST_REST`; the first waiting worker puts the event."""
        at = now()
        opens = hours.next_opening(at)
        seconds = (opens - at).total_seconds()
        if opens != self._opens:
            self._opens = opens
            self._put(Paused("hours", seconds))
        await self._sleep(min(seconds, LONGEST_REST))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless the run is stopped or paused meanwhile."""
        with anyio.CancelScope() as scope:
            self._waiting[scope] = None
            try:
                await anyio.sleep(seconds)
            finally:
                self._waiting.pop(scope, None)

    def _put(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()
        self._client.observer.campaign(self._name, event)


def _alone(error: BaseException) -> BaseException:
    """Return the only error of a group, or the error as it is."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) != 1:
            return group
        error = group.exceptions[0]
    return error


# ── signals ────────────────────────────────────────────────────────────────────────────────────────────


async def listen(heard: Callable[[signal.Signals], None], scope: anyio.CancelScope) -> None:
    """Call `heard` for each SIGINT and SIGTERM, until the scope is cancelled; then restore the handlers.

    On Windows asyncio can't receive signals. There Ctrl-C cancels the caller, and leaving the run's block
    drains the run.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        with scope, anyio.open_signal_receiver(*STOPPING) as caught:
            async for number in caught:
                heard(number)
    except NotImplementedError:
        return
    finally:
        for number, handler in before.items():
            # `asyncio.run` has a handler that turns Ctrl-C into a cancellation. The receiver leaves Python's
            # own handler in its place, with which the next Ctrl-C would interrupt the loop at any point.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def is_signal_free() -> bool:
    """Return whether SIGTERM has no handler. A host program that handles its own shutdown has one."""
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
