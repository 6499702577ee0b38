"""A run of a campaign: a few workers, what they tell, every way to stop. What to send is `_dispatch`'s."""

import math
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
from attrs import evolve

from desk360_async import AsyncDesk360
from desk360_async.campaigns._dispatch import Delivered, Dispatch
from desk360_async.campaigns._events import Done, End, Event, Paused, Progress
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._problems import CampaignError, LedgerError
from desk360_async.campaigns._refusals import MANY, Refusals, is_suspect
from desk360_async.campaigns._signals import listen, nobody_else_listens
from desk360_async.campaigns._states import Batch, Counts, Result
from desk360_async.campaigns._tellings import counted, result_of

# Unread events before the workers wait for the reader.
ROOM = 1000
# So many ends without a usable answer in a row, and the server is taken for down: each makes a batch unknown.
SILENT = 5
# Seconds without any connection after which the run ends, and between two tries meanwhile. Nothing is unknown
# by that, so it is patient.
OUTAGE = 300.0
LONGEST_PAUSE = 30.0


class Run:
    """A running campaign, made by `campaign.run`: `async with … as events: async for event in events`.

    Leaving the block stops taking, lets what is on the wire finish, and closes the ledger.
    """

    def __init__(
        self,
        prepare: "Callable[[AsyncExitStack, Run], Awaitable[None]]",
        client: AsyncDesk360,
        *,
        concurrency: int,
        max_failures: float | None,
        drain: float,
        signals: bool | None,
    ) -> None:
        self._prepare = prepare
        self._client = client
        self._concurrency = concurrency
        self._max_failures = max_failures
        self._drain = drain
        self._signals = signals
        self._events: deque[Event] = deque()
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._waiting: set[anyio.CancelScope] = set()
        self._under_way: set[anyio.CancelScope] = set()
        self._end: End | None = None
        self._reason = ""
        self._resumed: anyio.Event | None = None
        self._queue: deque[Batch] = deque()
        self._last = 0
        self._exhausted = False
        self._busy = 0
        self._silent = 0
        self._refusals = Refusals()
        self._done: Done | None = None
        self._entered = False
        self._given_back = anyio.Event()
        self._filling = anyio.Lock(fast_acquire=True)
        self._listening = anyio.CancelScope()
        self._unreachable: float | None = None

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        if self._entered:
            raise CampaignError("a run can be entered once; call campaign.run(client) again")
        self._entered = True
        async with AsyncExitStack() as stack:
            await self._prepare(stack, self)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._work_all)
            if self._signals if self._signals is not None else nobody_else_listens():
                tasks.start_soon(listen, self._heard, self._listening)
            self._stack = stack.pop_all()
        return self

    def _begin(
        self, ledger: Ledger, dispatch: Dispatch, counts: Counts, *, requests_left: int, upto: int
    ) -> None:
        """Take what the campaign has prepared.

        Args:
            ledger: where it is written down.
            dispatch: what sends a batch.
            counts: recipients by state.
            requests_left: how many requests are still needed.
            upto: the number of the last batch that was found.
        """
        self._upto = upto
        self._ledger = ledger
        self._dispatch = dispatch
        self.counts: Counts = counts
        self._at_start = counts
        self._requests_left = requests_left
        self._started = anyio.current_time()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._stop("stopped", "the block was left")
        if error is not None and not isinstance(error, Exception):
            return await self._stack.__aexit__(kind, error, trace)
        # The caller's own error must neither cancel what is on the wire nor be wrapped in a group.
        await self._stack.__aexit__(None, None, None)
        return None

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
            await self._renewed("_news").wait()
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
        """Take no more until `proceed`; what is on the wire finishes."""
        if self._resumed is None and self._end is None:
            self._resumed = anyio.Event()
            self._tell(Paused("asked", None))
            self._leave_line()

    def proceed(self) -> None:
        """Go on after `pause`."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set()

    def stop(self) -> None:
        """Take no more; what is on the wire finishes, within `drain` seconds."""
        self._stop("stopped", "stop() was called")

    def abort(self) -> None:
        """End at once; what is on the wire becomes unknown."""
        self._stop("interrupted", "abort() was called")
        for scope in self._under_way:
            scope.shield = False
            scope.cancel()

    def _stop(self, end: End, reason: str) -> None:
        if self._end is None:
            self._end, self._reason = end, reason
            self.proceed()
            self._room.set()
            self._leave_line()
            deadline = anyio.current_time() + self._drain
            for scope in self._under_way:
                scope.deadline = deadline

    def _leave_line(self) -> None:
        for scope in self._waiting:
            scope.cancel()

    def _heard(self, number: signal.Signals) -> None:
        if self._end is not None:  # the second one, or what is on the wire was finishing anyway
            self.abort()
        self._stop("interrupted", number.name)

    # ── work ───────────────────────────────────────────────────────────────────────────────────────────

    async def _work_all(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(self._concurrency):
                    tasks.start_soon(self._work)
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish()
            self._listening.cancel()

    async def _finish(self) -> None:
        unknown = 0
        try:
            if self._end is None:
                await self._judge_the_rest()
            unknown = await self._ledger.recover("interrupted")
            if unknown:
                self.counts = await self._ledger.counts()
        except LedgerError as error:
            self._fail(error)
        left = self.counts.pending + self.counts.on_the_wire
        if not left and self._end not in ("ledger", "opt_out"):
            self._end, self._reason = "finished", ""
        elif unknown:
            self._reason += f"; {unknown:,} recipients on the wire are unknown"
        elif self._end == "interrupted":
            self._reason += "; what was on the wire has finished"
        self._done = Done(self._end or "stopped", self.counts, self._reason)
        self._tell(self._done)

    async def _judge_the_rest(self) -> None:
        """Decide about those who were refused without a word on whose fault it is, once all others ended."""
        refusals = self._refusals
        if refusals.accepted:
            await self._give_up(refusals.convict())
        elif refusals.suspects:
            why = refusals.suspects[-1].error
            self._stop("refused", f"nobody was accepted, so it may be nobody's own fault: {why}")

    async def _give_up(self, convicted: list[Delivered]) -> None:
        for delivered in convicted:
            reason = delivered.result.reason if delivered.result else None
            result = Result("not_sent", reason)
            await self._ledger.conclude(delivered.batch, None, result)
            self._count(evolve(delivered, result=result, skipped=0))

    async def _work(self) -> None:
        while self._end is None:
            try:
                batch = await self._next()
                if batch is None:
                    return
                await self._deliver(batch)
            except CampaignError as error:
                self._fail(error)
            while len(self._events) >= ROOM and self._end is None:
                await self._renewed("_room").wait()

    def _fail(self, error: CampaignError) -> None:
        # A failed ledger outweighs whatever else ended the run.
        self._stop("opt_out", str(error))
        if isinstance(error, LedgerError) and self._end != "ledger":
            self._end, self._reason = "ledger", str(error)

    async def _next(self) -> Batch | None:
        """Return a batch, waiting for those that others may have to give back; None at the end."""
        while self._end is None:
            if self._resumed is not None:
                await self._resumed.wait()
                continue
            if not self._queue and not self._exhausted:
                await self._refill()
            if self._queue:
                self._busy += 1
                return self._queue.popleft()
            if not self._busy:
                return None
            await self._renewed("_given_back").wait()
        return None

    async def _refill(self) -> None:
        async with self._filling:
            if self._queue or self._exhausted:
                return
            found = await self._ledger.pending(self._last, self._upto)
            self._queue.extend(found)
            self._exhausted = not found
            if found:
                self._last = found[-1].id

    async def _deliver(self, batch: Batch) -> None:
        delivered: Delivered | None = None
        scope = anyio.CancelScope()

        def may_begin() -> bool:
            if self._end is not None or self._resumed is not None:
                return False
            self._waiting.discard(scope)
            # From here on it is under way: cancelling the run lets it finish, `abort` doesn't.
            scope.shield = True
            self._under_way.add(scope)
            return True

        try:
            with scope:
                self._waiting.add(scope)
                delivered = await self._dispatch.deliver(batch, may_begin)
        finally:
            self._waiting.discard(scope)
            self._under_way.discard(scope)
            self._busy -= 1
            self._given_back.set()
        if delivered is None:
            self._queue.appendleft(batch)  # pending as before; if the run has ended, it stays so
        else:
            await self._took(delivered)

    async def _took(self, delivered: Delivered) -> None:
        following = [] if is_suspect(delivered) else delivered.following
        if delivered.result is not None and delivered.result.halve:
            # Behind the others: whether those are accepted says whether it is worth going on.
            self._queue.extend(following)
        else:
            self._queue.extendleft(reversed(following))
        self._given_back.set()
        self._requests_left += len(following) - 1
        self._count(delivered)
        await self._give_up(self._refusals.note(delivered))
        self._tell(self._progress())
        await self._judge(delivered)

    def _count(self, delivered: Delivered) -> None:
        told = result_of(delivered)
        self.counts = counted(self.counts, told)
        self._tell(told)

    def _progress(self) -> Progress:
        elapsed = anyio.current_time() - self._started
        finished = self.counts.finished - self._at_start.finished
        status = self._client.rate_limit
        eta = self._requests_left * status.period / status.limit + status.next_token
        rate = finished / elapsed if elapsed > 0 else 0.0
        return Progress(self.counts, max(0, self._requests_left), rate, eta)

    async def _judge(self, delivered: Delivered) -> None:
        """Stop where going on would only make it worse, and wait where the server asks for it."""
        result = delivered.result
        if result is None:
            return
        if not result.silent:
            self._unreachable = None
        self._silent = self._silent + 1 if result.silent and result.state == "unknown" else 0
        if result.stop is not None:
            self._stop("refused", result.stop)
        elif self._silent >= SILENT:
            self._stop("unreachable", f"no usable answer {SILENT} times in a row: {result.reason}")
        elif self._refusals.in_a_row >= MANY:
            self._stop("refused", f"{MANY} requests in a row were refused: {delivered.error}")
        elif self._too_many():
            reason = f"{self._failures:,} of {self.counts.total:,} not sent or unknown in this run"
            self._stop("failures", reason)
        elif result.pause:
            until = self._client.rate_limit.paused_until
            seconds = None if until is None else max(0.0, until - anyio.current_time())
            self._tell(Paused("rate_limit", seconds))
        elif result.silent and result.state == "pending":
            await self._back_off(str(result.reason))

    def _too_many(self) -> bool:
        # This run's alone: whoever resumes has seen those of the earlier ones, and means to go on.
        most = self._max_failures
        if most is None:
            return False
        return self._failures > (most if isinstance(most, int) else math.floor(most * self.counts.total))

    @property
    def _failures(self) -> int:
        return self.counts.failures - self._at_start.failures

    async def _back_off(self, reason: str) -> None:
        now = anyio.current_time()
        self._unreachable = since = now if self._unreachable is None else self._unreachable
        if now - since >= OUTAGE:
            self._stop("unreachable", f"no connection for {now - since:.0f} s: {reason}")
            return
        seconds = max(1.0, min(LONGEST_PAUSE, now - since))
        self._tell(Paused("unreachable", seconds))
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                await anyio.sleep(seconds)
            finally:
                self._waiting.discard(scope)

    def _renewed(self, name: str) -> anyio.Event:
        """Return an event that isn't set, the same one for all who wait for it."""
        event: anyio.Event = getattr(self, name)
        if event.is_set():
            event = anyio.Event()
            setattr(self, name, event)
        return event

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()
