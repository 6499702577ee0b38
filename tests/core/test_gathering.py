"""`Gathering`: calls that arrive during a commit share the next one. No files, no real time."""

import anyio
import pytest
import trio.testing

from desk360_async import _threads
from desk360_async._threads import Gathering

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})]
)


class Disk:
    """Commits when it may, and keeps the items of each commit."""

    def __init__(self):
        self.commits, self.closed, self.free = [], 0, anyio.Event()

    async def commit(self, items):
        self.commits.append(items)
        await self.free.wait()
        if "bad" in items:
            raise LookupError("bad")
        return [item.upper() for item in items]

    async def close(self):
        self.closed += 1


@pytest.fixture
def disk():
    """Return a disk on which no commit ends before `free` is set."""
    return Disk()


@pytest.fixture
def gathering(disk):
    """Return a gathering on the disk."""
    return Gathering(disk.commit, close=disk.close)


async def test_calls_during_a_commit_share_the_next_one(disk, gathering):
    """There is no timer: the first call is committed at once."""
    results = {}

    async def add(item):
        results[item] = await gathering.add(item)

    async with anyio.create_task_group() as tasks:
        for item in "abcd":
            tasks.start_soon(add, item)
            await anyio.wait_all_tasks_blocked()
        disk.free.set()
    assert disk.commits == [["a"], ["b", "c", "d"]]
    assert results == {"a": "A", "b": "B", "c": "C", "d": "D"}


async def test_a_bad_item_fails_its_own_call_only(disk, gathering):
    """The items of a commit that fails are committed one by one."""
    results = {}

    async def add(item):
        try:
            results[item] = await gathering.add(item)
        except LookupError as error:
            results[item] = str(error)

    async with anyio.create_task_group() as tasks:
        for item in ("a", "b", "bad", "c"):
            tasks.start_soon(add, item)
            await anyio.wait_all_tasks_blocked()
        disk.free.set()
    assert results == {"a": "A", "b": "B", "bad": "bad", "c": "C"}


async def test_a_cancelled_call_s_item_is_committed(disk, gathering):
    """A webhook's sender may go away meanwhile."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gathering.add, "a")
            await anyio.wait_all_tasks_blocked()
            gathering.post("b")
            scope.cancel()
    disk.free.set()
    await gathering.aclose()
    assert disk.commits == [["a"], ["b"]]


@VIRTUAL
async def test_the_file_is_closed_when_idle(disk, gathering):
    """After 5 s without a call; the next call opens it again."""
    disk.free.set()
    await gathering.add("a")
    await anyio.sleep(4.9)
    assert disk.closed == 0
    await anyio.sleep(0.2)
    assert disk.closed == 1
    assert await gathering.add("b") == "B"


async def test_closing_commits_the_rest(disk, gathering):
    """And closes the file at once; closing again does nothing."""
    call = gathering.post("a")
    disk.free.set()
    await gathering.aclose()
    await gathering.aclose()
    assert (call.results, disk.closed) == (["A"], 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_end_of_an_event_loop_closes_the_file(backend):
    """A later event loop can go on with the same object."""
    disks = []

    async def main(gathering, disk):
        disk.free.set()
        return await gathering.add("a")

    async def twice():
        disks.append(Disk())
        return Gathering(disks[0].commit, close=disks[0].close)

    gathering = anyio.run(twice, backend=backend)
    for _ in range(2):
        disks[0].free = anyio.Event()
        assert anyio.run(main, gathering, disks[0], backend=backend) == "A"
    assert disks[0].closed == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_commit_that_the_loop_s_end_cuts_fails_its_calls(disk, gathering):
    """No call waits for ever."""
    import asyncio

    before = asyncio.all_tasks()
    first, second = gathering.post("a"), None
    await anyio.wait_all_tasks_blocked()
    second = gathering.post("b")
    [task] = asyncio.all_tasks() - before
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    assert isinstance(first.error, asyncio.CancelledError)
    assert isinstance(second.error, RuntimeError)


async def stopped_amid(commit):
    """Post three items, cancel the background task, and return the calls."""
    import asyncio

    before = asyncio.all_tasks()
    gathering = Gathering(commit)
    calls = [gathering.post(item) for item in "abc"]
    await anyio.wait_all_tasks_blocked()
    [task] = asyncio.all_tasks() - before
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    return calls


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_items_that_are_committed_one_by_one_fail_too_where_the_loop_s_end_cuts_them(anyio_backend):
    """Also those whose turn doesn't come any more."""
    import asyncio

    async def commit(items):
        if len(items) > 1:
            raise LookupError
        await anyio.sleep_forever()

    calls = await stopped_amid(commit)
    assert [type(call.error) for call in calls] == [asyncio.CancelledError] * 3


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_item_that_was_committed_before_the_loop_s_end_keeps_its_result(anyio_backend):
    """Only the others fail."""
    import asyncio

    async def commit(items):
        if len(items) > 1:
            raise LookupError
        if items == ["b"]:
            await anyio.sleep_forever()
        return [items[0].upper()]

    calls = await stopped_amid(commit)
    assert (calls[0].results, calls[0].error) == (["A"], None)
    assert [type(call.error) for call in calls[1:]] == [asyncio.CancelledError] * 2


async def test_an_item_that_was_committed_keeps_its_result_when_the_task_is_stopped(monkeypatch):
    """The items are committed one by one after a failure; a stop comes between them."""

    class Stopped(BaseException):
        pass

    async def commit(items):
        if len(items) > 1:
            raise LookupError("one of them is bad")
        if items == ["b"]:
            raise Stopped
        return ["A"]

    monkeypatch.setattr(_threads, "detach", lambda *_: None)
    gathering = Gathering(commit)
    first, second = gathering.post("a"), gathering.post("b")
    with pytest.raises(Stopped):
        await gathering._run(anyio.Event(), anyio.Event())
    assert (first.results, first.error) == (["A"], None)
    assert isinstance(second.error, Stopped)
