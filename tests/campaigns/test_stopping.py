"""Stopping: signals are counted, heard and given back; the reason says what became of the wire."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextvars import Context
from typing import Any

import anyio
import pytest

from desk360_async import AsyncDesk360, TokenBucket
from desk360_async.campaigns import Campaign, Counts, Done, Run, _run
from desk360_async.sandbox import Fault
from tests.campaigns.harness import Harness, done, finish, people


def stopped(harness: Harness, *steps: Callable[[Run], Any], **options: Any) -> tuple[Done, float]:
    """Run with a request on the wire for 25 s, stop it step by step; return its end, and how long it took."""

    async def main(client: AsyncDesk360) -> tuple[Done, float]:
        await harness.campaign(batch_size=3).load(client, people(6))
        harness.sandbox.faults.add(Fault("latency", delay=25))
        began = anyio.current_time()
        async with harness.campaign(batch_size=3).run(client, concurrency=1, **options) as run:
            for step in steps:
                await anyio.sleep(5)
                step(run)
            return await run.wait(), anyio.current_time() - began

    return harness.play(main)


def ctrl_c(run: Run) -> None:
    """Press it."""
    run._heard(signal.SIGINT)


def in_a_callback(step: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """Return a step that the loop calls, as it calls the handler of a signal: outside any task."""
    return lambda run: asyncio.get_running_loop().call_soon(step, run, context=Context())


WENT_OUT = Counts(accepted=3, pending=3)
CUT_OFF = Counts(unknown=3, pending=3)


@pytest.mark.parametrize(
    ("steps", "end", "counts", "reason"),
    [
        ([ctrl_c], "interrupted", WENT_OUT, "SIGINT; the requests on the wire have finished"),
        ([ctrl_c, ctrl_c], "interrupted", CUT_OFF, "SIGINT; 3 recipients on the wire are unknown"),
        ([ctrl_c, ctrl_c, ctrl_c], "interrupted", CUT_OFF, "SIGINT; 3 recipients on the wire are unknown"),
        ([Run.stop], "stopped", WENT_OUT, "stop() was called"),
        ([Run.stop, ctrl_c], "stopped", CUT_OFF, "stop() was called; 3 recipients on the wire are unknown"),
        ([Run.abort], "interrupted", CUT_OFF, "abort() was called; 3 recipients on the wire are unknown"),
    ],
)
def test_the_second_signal_ends_it_at_once(
    harness: Harness, steps: list[Callable[[Run], Any]], end: str, counts: Counts, reason: str
) -> None:
    """And the first one does where what is on the wire was finishing anyway."""
    told, seconds = stopped(harness, *steps)
    assert (told.end, told.counts, told.reason) == (end, counts, reason)
    assert (seconds < 20) is (counts == CUT_OFF)


def test_what_outlasts_the_drain_is_said_to_be_unknown(harness: Harness) -> None:
    """Nobody reads that it finished."""
    told, _ = stopped(harness, ctrl_c, drain=2.0)
    assert (told.counts, told.reason) == (CUT_OFF, "SIGINT; 3 recipients on the wire are unknown")


def test_a_loop_without_signals_runs_it_all_the_same(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncio's on Windows."""

    def refuse(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refuse)

    async def main(client: AsyncDesk360) -> Done:
        await harness.campaign().load(client, people(3))
        return done(await finish(harness.campaign(), client, signals=True))

    assert harness.play(main).counts == Counts(accepted=3)


def test_resuming_starts_to_count_failures_anew(harness: Harness) -> None:
    """Else it would stop after its first request, and each try would add a batch."""

    async def main(client: AsyncDesk360) -> list[int]:
        campaign = harness.campaign(batch_size=10)
        await campaign.load(client, people(200))
        harness.sandbox.faults.add(Fault("status", status=500))
        first = await finish(campaign, client, concurrency=1, max_failures=25)
        again = await finish(campaign, client, concurrency=1, max_failures=25)
        harness.sandbox.faults.clear()
        last = await finish(campaign, client, concurrency=1, max_failures=25)
        return [done(events).counts.unknown for events in (first, again, last)]

    assert harness.play(main) == [30, 60, 60]


@pytest.mark.real
@pytest.mark.parametrize("handler", ["the loop's", "the host's"])
def test_signals_are_left_as_they_were_found(harness: Harness, handler: str) -> None:
    """`asyncio.run` makes a cancellation of Ctrl-C, also after a run."""
    heard: list[int] = []

    async def main() -> None:
        if handler == "the host's":
            signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        before = [signal.getsignal(number) for number in _run.STOPPING]
        async with harness.client(limiter=TokenBucket(1000, 1.0)) as client:
            await harness.campaign().load(client, people(3))
            await finish(harness.campaign(), client, signals=True)
        assert [signal.getsignal(number) for number in _run.STOPPING] == before

    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.real
def test_real_signals_are_heard(harness: Harness) -> None:
    """By the process that runs it."""

    async def main() -> Done:
        async with harness.client(limiter=TokenBucket(1000, 1.0)) as client:
            await harness.campaign().load(client, people(3))
            harness.sandbox.faults.add(Fault("stall", delay=30))
            async with harness.campaign().run(client, signals=True) as run:
                await anyio.sleep(0.3)
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)
                    await anyio.sleep(0.1)
                return await run.wait()

    told = asyncio.run(main())
    assert (told.end, told.counts) == ("finished", Counts(unknown=3))


@pytest.mark.parametrize("drain", [-1.0, float("nan"), "long"])
def test_a_drain_is_seconds(harness: Harness, drain: Any) -> None:
    """Checked before anything is opened."""
    with pytest.raises(ValueError, match="drain"):
        Campaign("x", ledger=harness.ledger).run(harness.client(), drain=drain)


@pytest.mark.parametrize(("drain", "counts"), [(0.0, CUT_OFF), (float("inf"), WENT_OUT)])
def test_patience_is_up_to_the_user(harness: Harness, drain: float, counts: Counts) -> None:
    """None at all, or as much as it takes."""
    assert stopped(harness, ctrl_c, drain=drain)[0].counts == counts


@pytest.mark.parametrize(
    ("steps", "end", "counts", "seconds"),
    [
        ([Run.stop], "stopped", WENT_OUT, 25.0),
        ([Run.pause, Run.proceed, Run.stop], "stopped", WENT_OUT, 25.0),
        ([Run.abort], "interrupted", CUT_OFF, 5.0),
        ([Run.stop, Run.abort], "stopped", CUT_OFF, 10.0),
    ],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_a_callback_of_the_loop_controls_a_run(
    harness: Harness, steps: list[Callable[[Run], Any]], end: str, counts: Counts, seconds: float
) -> None:
    """`loop.add_signal_handler(SIGTERM, run.stop)` failed half-way, and an abort cancelled no request."""
    ended, elapsed = stopped(harness, *map(in_a_callback, steps))
    assert (ended.end, ended.counts) == (end, counts)
    assert elapsed == pytest.approx(seconds, abs=1.0)


def test_an_abort_after_the_end_has_no_effect(harness: Harness) -> None:
    runs: list[Run] = []
    ended, _ = stopped(harness, Run.stop, runs.append)
    runs[0].abort()  # also where no loop runs any more
    assert ended.end == "stopped"
