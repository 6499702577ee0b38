"""`campaign.feed`: calls side by side share commits, and a file that no call uses is closed."""

import sqlite3
from collections.abc import Callable, Iterable

import anyio
import pytest

from desk360_async import AsyncDesk360
from desk360_async.campaigns import Campaign, _campaign
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._values import holds, pack
from desk360_async.webhooks import StatusUpdate
from tests.campaigns.harness import Harness, finish, people, phone


def read_by(number: int) -> StatusUpdate:
    return StatusUpdate(id=f"m{number}", sender=phone(number)[1:], status="read")


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of calls of each commit."""
    sizes: list[int] = []
    feed = Ledger.feed

    async def count(ledger: Ledger, calls: Iterable[object]) -> list[int]:
        given = list(calls)
        sizes.append(len(given))
        return await feed(ledger, given)  # type: ignore[arg-type]  # the calls as they came

    monkeypatch.setattr(Ledger, "feed", count)
    return sizes


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that gets an entry whenever a ledger is opened."""
    opened: list[object] = []
    original = _campaign.open_ledger

    def note(*args: object, **options: object) -> object:
        opened.append(args)
        return original(*args, **options)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(_campaign, "open_ledger", note)
    return opened


async def sent(harness: Harness, client: AsyncDesk360, count: int) -> Campaign:
    campaign = harness.campaign()
    await campaign.load(client, people(count))
    await finish(campaign, client, signals=False)
    return campaign


def test_a_hundred_calls_side_by_side_share_a_few_commits(harness: Harness, commits: list[int]) -> None:
    async def main(client: AsyncDesk360) -> int:
        campaign = await sent(harness, client, 100)
        async with anyio.create_task_group() as tasks:
            for number in range(1, 101):
                tasks.start_soon(campaign.feed, read_by(number))
        return (await campaign.report()).read

    assert harness.play(main) == 100
    assert sum(commits) == 100
    assert len(commits) <= 3


def test_each_call_returns_its_own_number_of_news(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> list[int]:
        campaign = await sent(harness, client, 3)
        news: list[int] = []

        async def feed(*numbers: int) -> None:
            news.append(await campaign.feed(*map(read_by, numbers)))

        async with anyio.create_task_group() as tasks:
            for numbers in ((1, 2), (2, 3), (9,)):
                tasks.start_soon(feed, *numbers)
        return sorted(news)

    assert harness.play(main) == [0, 1, 2]


@pytest.mark.parametrize(("pause", "opened"), [(4.9, 1), (5.1, 2)])
def test_an_idle_file_is_closed_after_five_seconds(
    harness: Harness, openings: list[object], pause: float, opened: int
) -> None:
    async def main(client: AsyncDesk360) -> None:
        campaign = await sent(harness, client, 2)
        openings.clear()
        await campaign.feed(read_by(1))
        await anyio.sleep(pause)
        await campaign.feed(read_by(2))

    harness.play(main)
    assert len(openings) == opened


@pytest.mark.parametrize("members", [[], [905550000001], [*range(905550000000, 905550001000, 3)]])
def test_a_batch_holds_its_members_and_no_other_phone(members: list[int]) -> None:
    for number in (1, *range(905549999998, 905550001003), 10**15):
        assert holds(pack(members), number) == (number in members)


def test_a_status_finds_its_batch_where_the_batches_of_three_loads_overlap(harness: Harness) -> None:
    everybody = people(90)

    async def main(client: AsyncDesk360) -> list[int]:
        campaign = harness.campaign(batch_size=7)
        for start in (1, 0, 2):
            await campaign.load(client, everybody[start::3])
        await finish(campaign, client, signals=False)
        return [await campaign.feed(read_by(number)) for number in (*range(1, 91), 91, 0)]

    assert harness.play(main) == [1] * 90 + [0, 0]


def test_statuses_of_foreign_people_take_no_look_up_each(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver feeds a campaign with all statuses; in PostgreSQL each look-up is a journey."""
    asked: list[str] = []
    place = Ledger._place

    def note(ledger: Ledger, db: sqlite3.Connection, message_id: str, phone: str | None) -> object:
        asked.append(message_id)
        return place(ledger, db, message_id, phone)

    async def main(client: AsyncDesk360) -> list[int]:
        campaign = await sent(harness, client, 3)
        async with campaign._opened() as ledger:
            await ledger.settings()
            foreign = [[(f"m{number}", phone(number)[1:], "read")] for number in range(10, 20)]
            return await ledger.feed([*foreign, [("x", "5215512345678", "read"), ("y", None, "read")]])

    monkeypatch.setattr(Ledger, "_place", note)
    assert harness.play(main) == [0] * 11
    assert asked == []


def test_a_repeat_in_one_commit_counts_for_its_first_call(harness: Harness) -> None:
    """A message id may hold any character; a foreign phone and a status without a phone are no news."""
    one, two, foreign = (phone(number)[1:] for number in (1, 2, 9))
    calls = [
        [("m\0", one, "read"), ("m\0", one, "read"), ("x", foreign, "read")],
        [("x", one, "read"), ("y", two, "read"), ("y", two, "sent")],
        [("z", None, "read"), ("y", two, "sent")],
        [],
    ]

    async def main(client: AsyncDesk360) -> list[int]:
        campaign = await sent(harness, client, 3)
        async with campaign._opened() as ledger:
            await ledger.settings()
            return await ledger.feed(calls)

    assert harness.play(main) == [1, 2, 0, 0]


def test_a_status_by_phone_reads_as_little_of_a_long_list_as_of_a_short_one(harness: Harness) -> None:
    """Reading all batches before the phone took 400 µs a status in a list of a million."""

    async def steps(client: AsyncDesk360, count: int) -> int:
        campaign = harness.campaign(f"of-{count}", ledger=harness.folder / f"{count}.db", batch_size=2)
        await campaign.load(client, people(count))
        async with campaign._opened() as ledger:
            await ledger.settings()
            await ledger.file.write(lambda db: db.execute("UPDATE batch SET state = 'accepted'"))
            last = phone(count)[1:]
            return await ledger.file.read(lambda db: steps_of(db, lambda: ledger._place(db, "x", last)))

    async def main(client: AsyncDesk360) -> list[int]:
        return [await steps(client, count) for count in (20, 2000)]

    short, long = harness.play(main)
    assert long <= short + 20


def steps_of(db: sqlite3.Connection, work: Callable[[], object]) -> int:
    """Return the number of SQLite's instructions that `work` takes, in tens."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 10)
    work()
    db.set_progress_handler(None, 0)
    return steps
