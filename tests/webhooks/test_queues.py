"""`Queues`: order for each customer, customers side by side, and few tasks. No sockets, no real time."""

import collections
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from desk360_async.webhooks._queues import Queues

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def lanes_of(work, concurrency):
    """Give lanes whose items go to `work`; wait at the end until all are done."""
    async with anyio.create_task_group() as tasks:
        lanes = Queues(work, concurrency=concurrency)
        lanes.start(tasks)
        yield lanes
        await lanes.idle()
        tasks.cancel_scope.cancel()


async def test_tasks_are_bounded():
    """Items for thousands of customers at once start no more tasks than may work."""
    gate, seen = anyio.Event(), []

    async def work(item):
        await gate.wait()
        seen.append(item)

    before = len(anyio.get_running_tasks())
    async with lanes_of(work, concurrency=10) as lanes:
        for number in range(3_000):
            lanes.put(str(number), number)
        await anyio.wait_all_tasks_blocked()
        assert len(anyio.get_running_tasks()) == before + 10
        gate.set()
    assert sorted(seen) == list(range(3_000))


async def test_a_walker_without_work_does_the_next_item():
    """Work that comes item by item starts one task and its successor."""
    seen = []

    async def work(item):
        seen.append(item)

    before = len(anyio.get_running_tasks())
    async with lanes_of(work, concurrency=10) as lanes:
        for number in range(20):
            lanes.put("a", number)
            await lanes.idle()
        assert len(anyio.get_running_tasks()) <= before + 2
    assert seen == list(range(20))


async def test_a_quarter_of_the_walkers_is_kept_for_urgent_work():
    """It is free however many others wait, and the others go on where one of them ends."""
    gates, seen = [anyio.Event() for _ in range(6)], []

    async def work(item):
        seen.append(item)
        if isinstance(item, int):
            await gates[item].wait()

    async with lanes_of(work, concurrency=4) as lanes:
        for number in range(6):
            lanes.put(number, number, urgent=False)
        await anyio.wait_all_tasks_blocked()
        lanes.put("a", "urgent")
        await anyio.wait_all_tasks_blocked()
        assert seen == [0, 1, 2, "urgent"]
        gates[1].set()
        await anyio.wait_all_tasks_blocked()
        assert seen[4:] == [3]
        for gate in gates:
            gate.set()
    assert sorted(seen[4:]) == [3, 4, 5]


async def test_order():
    """Each customer's items are done one after the other, in order, while others' are put in between."""
    seen, busy = collections.defaultdict(list), set()

    async def work(item):
        lane, number = item
        assert lane not in busy
        busy.add(lane)
        for _ in range(number % 4):
            await anyio.lowlevel.checkpoint()
        busy.remove(lane)
        seen[lane].append(number)

    async with lanes_of(work, concurrency=3) as lanes:
        for number in range(210):
            lanes.put(str(number % 7), (number % 7, number))
            if number % 5 == 0:
                await anyio.lowlevel.checkpoint()
    assert seen == {lane: list(range(lane, 210, 7)) for lane in range(7)}


async def test_one_that_never_ends_keeps_one_walker_busy():
    """The others go on, and nothing of the same customer overtakes it, however much waits behind it."""
    gate, seen = anyio.Event(), []

    async def work(item):
        if item == ("slow", 0):
            await gate.wait()
        seen.append(item)

    async with lanes_of(work, concurrency=2) as lanes:
        for number in range(20):
            lanes.put("slow", ("slow", number))
            lanes.put(str(number), ("other", number))
        await anyio.wait_all_tasks_blocked()
        assert sorted(seen) == [("other", number) for number in range(20)]
        gate.set()
    assert seen[20:] == [("slow", number) for number in range(20)]


async def test_a_long_queue_keeps_nobody_waiting():
    """A walker does one item of a customer and turns to the next customer."""
    seen = []

    async def work(item):
        seen.append(item)

    async with lanes_of(work, concurrency=1) as lanes:
        for item in ("a1", "a2", "a3", "b1", "c1"):
            lanes.put(item[0], item)
    assert seen == ["a1", "b1", "c1", "a2", "a3"]


async def test_work_that_never_waits():
    """It leaves the loop to others between two items."""

    async def work(item):
        pass

    async with lanes_of(work, concurrency=1) as lanes:
        for number in range(300):
            lanes.put("a", number)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert lanes.waiting > 280
