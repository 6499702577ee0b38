"""A worker's loops, the ends of its shares, and the missing extra; without a database."""

import asyncio
import sys
from importlib import import_module
from typing import Any

import pytest
from procrastinate.exceptions import ConnectorException

from desk360_async import AsyncDesk360, ConfigurationError
from desk360_async.campaigns import Counts, Done
from desk360_async.workers import Workers
from desk360_async.workers._engine import Unfinished
from desk360_async.workers._work import Share
from desk360_async.workers._workers import _end

DSN = "postgresql://app@127.0.0.1:9/app"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Return workers whose pauses take no time."""
    at_once = asyncio.sleep

    async def sleep(_: float) -> None:
        await at_once(0)

    monkeypatch.setattr("desk360_async.workers._workers.asyncio.sleep", sleep)
    return Workers(DSN, client=AsyncDesk360)


def test_a_missing_extra_names_its_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("desk360_async.workers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "procrastinate", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'desk360-async\[workers\]'"):
        import_module("desk360_async.workers")


def test_a_client_that_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="client must be a function"):
        Workers(DSN, client="key")  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("lease", [1.9, -1, "30"])
def test_a_lease_below_two_seconds_is_refused(lease: Any) -> None:
    with pytest.raises(ConfigurationError, match="lease"):
        Workers(DSN, client=AsyncDesk360, lease=lease)


def test_the_supervision_survives_errors(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0

    async def look(_: object) -> None:
        nonlocal looks
        looks += 1
        raise asyncio.CancelledError if looks == 3 else ConfigurationError("the database is away")

    monkeypatch.setattr(workers, "_look", look)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(workers._keep_watch(None))  # type: ignore[arg-type]  # `look` needs none
    assert caplog.text.count("tries again: the database is away") == 2


def test_the_engines_worker_begins_again_after_its_end(workers: Workers) -> None:
    class Engine:
        """An app whose worker ends by an error, then by itself, then with ours."""

        begun = 0

        async def run_worker_async(self, **_: object) -> None:
            self.begun += 1
            workers._is_stopping = self.begun == 3
            if self.begun == 1:
                raise ConnectorException

    engine: Any = Engine()
    asyncio.run(workers._serve(engine, ("desk360",), 1))
    assert engine.begun == 3


@pytest.mark.parametrize(("stopping", "text"), [(False, "begins again"), (True, "ends")])
def test_an_error_of_the_engines_worker_is_reported_with_its_cause(
    workers: Workers, caplog: pytest.LogCaptureFixture, stopping: Any, text: str
) -> None:
    class Engine:
        """An app whose worker ends by an error, before the workers stop or meanwhile."""

        begun = 0

        async def run_worker_async(self, **_: object) -> None:
            self.begun += 1
            workers._is_stopping = stopping or self.begun == 2
            if self.begun == 1:
                raise ConnectorException from OSError("the server hung up")

    engine: Any = Engine()
    asyncio.run(workers._serve(engine, ("desk360",), 1))
    assert f"the worker {text} after an error: the server hung up" in caplog.text


@pytest.mark.parametrize(
    ("end", "unknown", "stopping", "expected"),
    [
        ("finished", 0, False, "ended"),
        ("refused", 0, False, "ended"),
        ("failures", 0, False, "ended"),
        ("stopped", 0, False, "ended"),
        ("stopped", 0, True, "kept"),
        ("interrupted", 0, True, "kept"),
        ("unreachable", 0, False, "later"),
        ("unreachable", 5, False, "ended"),
        ("ledger", 0, False, "later"),
        ("opt_out", 0, False, "later"),
    ],
)
def test_the_end_of_a_run_decides_about_its_share(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, end: Any, unknown: int, stopping: Any, expected: str
) -> None:
    found = "kept"

    async def end_share(*_: object) -> None:
        nonlocal found
        found = "ended"

    monkeypatch.setattr(workers._work, "end_share", end_share)
    workers._is_stopping = stopping
    try:
        asyncio.run(workers._judge(Share("sale", 1, ""), Done(end, Counts(), "why"), unknown))
    except Unfinished:
        found = "later"
    assert found == expected


def test_the_drain_begins_though_the_supervision_does_not_end() -> None:
    """The database's answer to it may take longer than the drain."""
    ended = list[str]()

    async def work(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(seconds)
            ended.append(name)

    async def main() -> None:
        serving = asyncio.create_task(work("serving", 0))
        watching = asyncio.create_task(work("watching", 0.05))
        await asyncio.sleep(0)
        await _end({watching: 60.0, serving: 60.0})

    asyncio.run(main())
    assert ended == ["serving", "watching"]


def test_a_second_cancellation_leaves_no_task_behind() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    async def main() -> list[bool]:
        tasks = [asyncio.create_task(work()) for _ in range(2)]
        await asyncio.sleep(0)
        ending = asyncio.create_task(_end(dict.fromkeys(tasks, 60.0)))
        await asyncio.sleep(0.01)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        return [task.done() for task in tasks]

    assert asyncio.run(main()) == [True, True]
