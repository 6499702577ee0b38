"""Windows and opt-outs as they are stored: by person, durably, in any order of arrival."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from desk360_async import ConfigurationError, InvalidMessage, Notice
from desk360_async.customers import Customers, Window
from desk360_async.webhooks import MessageReceived, StatusUpdate, TextReceived

pytestmark = pytest.mark.anyio

PHONE = "+905551112233"
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Customers:
    return Customers(tmp_path / "customers.db", clock=clock)


def text(words: str, after: float = 0.0, *, phone: str = PHONE, id_: str = "") -> TextReceived:
    """A text, `after` seconds after noon."""
    sent_at = NOON + timedelta(seconds=after)
    return TextReceived(id=id_, sender=phone.removeprefix("+"), text=words, sent_at=sent_at)


async def test_the_window_closes_24_hours_after_the_last_message(book: Customers, clock: Clock) -> None:
    ends = NOON + timedelta(hours=24)
    assert await book.window(PHONE) == Window("unknown", None)
    assert await book.feed(text("Merhaba")) == 1
    clock.time = ends - timedelta(seconds=1)
    assert await book.window(PHONE) == Window("open", ends)
    clock.time = ends
    assert await book.window(PHONE) == Window("closed", ends)


async def test_an_earlier_message_that_arrives_later_changes_nothing(book: Customers) -> None:
    await book.feed(text("b"))
    assert await book.feed(text("a", -3600)) == 0
    assert (await book.window(PHONE)).ends == NOON + timedelta(hours=24)


async def test_a_time_in_the_future_and_a_missing_time_are_now(book: Customers) -> None:
    await book.feed(text("a", 9_999_999))
    assert (await book.window(PHONE)).ends == NOON + timedelta(hours=24)
    await book.feed(TextReceived(sender="905550000001", text="x"))
    assert (await book.window("+905550000001")).ends == NOON + timedelta(hours=24)


async def test_phones_are_compared_by_person(book: Customers) -> None:
    await book.feed(text("STOP", phone="+5491123456789"))
    assert await book.opted_out("+541123456789")
    assert (await book.window("+54 9 11 2345-6789")).state == "open"


async def test_a_word_opts_out_and_another_undoes_it(book: Customers) -> None:
    assert await book.feed(text("STOP", -60), text("Merhaba", -30)) == 2
    assert await book.opted_out(PHONE)
    await book.feed(text("BAŞLA", -10))
    assert not await book.opted_out(PHONE)


@pytest.mark.parametrize(
    ("stories", "opted_out"),
    [
        ([("STOP", 0, "a"), ("START", 60, "b")], False),
        ([("START", 60, "b"), ("STOP", 0, "a")], False),  # in the other order of arrival
        ([("STOP", 0, "a"), ("START", 60, "b"), ("STOP", 0, "a")], False),
        ([("START", 0, "a"), ("STOP", 0, "b"), ("START", 0, "a")], True),  # all in one second
        ([("STOP", 0, "a"), ("START", 0, "b")], False),
        ([("STOP", 0, "a"), ("STOP", 5, "b"), ("START", 3, "c")], True),
    ],
)
async def test_the_later_wish_counts_in_any_order(
    book: Customers, stories: list[tuple[str, float, str]], opted_out: bool
) -> None:
    for words, after, id_ in stories:
        await book.feed(text(words, after - 600, id_=id_))
    assert await book.opted_out(PHONE) is opted_out


async def test_an_opt_out_by_a_person_stands_against_older_messages(book: Customers, clock: Clock) -> None:
    await book.opt_out(PHONE, "asked by phone")
    await book.feed(text("START", -60))
    assert await book.opted_out(PHONE)
    clock.time += timedelta(seconds=60)
    await book.feed(text("START", 30))
    assert not await book.opted_out(PHONE)


async def test_an_opt_in_by_a_person_stands_against_a_repeat(book: Customers) -> None:
    await book.feed(text("STOP", -60, id_="a"))
    await book.opt_in(PHONE)
    assert await book.feed(text("STOP", -60, id_="a")) == 0
    assert not await book.opted_out(PHONE)
    await book.feed(text("STOP", -30, id_="b"))
    assert await book.opted_out(PHONE)


async def test_statuses_and_people_without_a_number_change_nothing(book: Customers) -> None:
    nameless = MessageReceived(sender="TR.123", text="STOP")
    assert await book.feed(StatusUpdate(id="a", sender="905551112233", status="read"), nameless) == 0
    assert await book.feed() == 0


async def test_on_opt_out_is_awaited_once_and_after_the_commit(tmp_path: Path, clock: Clock) -> None:
    seen: list[tuple[str | None, bool]] = []

    async def answer(message: MessageReceived) -> None:
        async with Customers(tmp_path / "c.db") as other:
            seen.append((message.text, await other.opted_out(message.phone or "")))

    book = Customers(tmp_path / "c.db", clock=clock, on_opt_out=answer)
    await book.feed(text("Merhaba"), text("STOP", id_="a"), text("STOP", id_="a"), text("dur", id_="b"))
    await book.feed(text("STOP", id_="a"))
    assert seen == [("STOP", True)]


async def test_an_error_of_on_opt_out_is_logged(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: MessageReceived) -> None:
        raise LookupError("mine")

    book = Customers(tmp_path / "c.db", clock=clock, on_opt_out=answer)
    assert await book.feed(text("STOP")) == 1
    assert "on_opt_out failed" in caplog.text


async def test_a_store_reports_to_the_observer_that_it_was_given(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Notes:
        seen: ClassVar[list[str]] = []

        def notice(self, notice: Notice) -> None:
            self.seen.append(notice.event)

    async def answer(_: MessageReceived) -> None:
        raise LookupError("mine")

    observer: Any = Notes()
    await Customers(tmp_path / "c.db", clock=clock, on_opt_out=answer, observer=observer).feed(text("STOP"))
    assert (Notes.seen, caplog.records) == (["desk360.customers.callback_failed"], [])


async def test_calls_side_by_side_share_commits(book: Customers) -> None:
    news: list[int] = []

    async def feed(number: int) -> None:
        news.append(await book.feed(text("x", phone=f"+9055500000{number:02}")))

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(feed, number)
    assert news == [1] * 50


async def test_facts_survive_the_process(tmp_path: Path, clock: Clock) -> None:
    async with Customers(tmp_path / "c.db", clock=clock) as book:
        await book.feed(text("STOP"))
    async with Customers(tmp_path / "c.db", clock=clock) as book:
        assert await book.opted_out(PHONE)
        assert (await book.window(PHONE)).state == "open"
    assert oct((tmp_path / "c.db").stat().st_mode & 0o777) == "0o600"


async def test_an_unused_file_closes_after_a_feed(book: Customers) -> None:
    await book.feed(text("x"))
    await anyio.sleep(6)
    assert book._store.file.identity is None
    assert (await book.window(PHONE)).state == "open"


async def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE x (y)")
    db.close()
    with pytest.raises(ConfigurationError, match="not one of customers"):
        await Customers(tmp_path / "other.db").window(PHONE)


async def test_a_wrong_phone_is_refused(book: Customers) -> None:
    for ask in (book.window, book.opt_out, book.opt_in, book.opted_out, book.forget):
        call: Any = ask
        with pytest.raises(InvalidMessage, match=r"phone: .*must start with '\+'"):
            await call("0555 111 22 33")


# ── lists ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_exported_list_loads_into_another_store(
    book: Customers, tmp_path: Path, clock: Clock
) -> None:
    await book.feed(text("Merhaba", -60), text("STOP", phone="+905550000001"))
    await book.opt_out("+905550000002", "=asked by phone")
    path = tmp_path / "people.csv"
    assert await book.export(path) == 3
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert [row["phone"] for row in csv.DictReader(path.read_text().splitlines())] == [
        "+905550000001",
        "+905550000002",
        PHONE,
    ]
    async with Customers(":memory:", clock=clock) as other:
        assert await other.load(path) == 3
        await other.export(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == path.read_text()


async def test_a_plain_list_of_phones_opts_out(book: Customers, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"Telefon\n{PHONE}\n+90 555 000 00 01\n", encoding="utf-8")
    assert await book.load(path) == 2
    assert [await book.opted_out(p) for p in (PHONE, "+905550000001")] == [True, True]


async def test_a_loaded_list_takes_no_opt_out_back(book: Customers, tmp_path: Path) -> None:
    await book.opt_out(PHONE)
    path = tmp_path / "list.csv"
    path.write_text(f"phone,opted_out\n{PHONE},\n+905550000001,yes\n")
    assert await book.load(path) == 2
    assert await book.opted_out(PHONE)
    assert await book.opted_out("+905550000001")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("phone\n12\n", "line 2: '12' is not a phone number"),
        (f"phone,opted_out\n{PHONE},soon\n", "line 2: opted_out holds 'soon'; write an ISO time"),
        (f"phone,reason\n{PHONE},a,b,c\n", "line 2: too many cells"),
        (f"{PHONE}\n", "the first line must name the column"),
    ],
)
async def test_a_list_with_a_wrong_cell_is_refused_whole(
    book: Customers, tmp_path: Path, content: str, problem: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=problem):
        await book.load(path)
    assert await book.export(tmp_path / "x.csv") == 0


# ── forgetting ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_forgotten_person_stays_opted_out_by_a_hash(
    book: Customers, tmp_path: Path, clock: Clock
) -> None:
    await book.feed(text("STOP"), text("x", phone="+905550000001"))
    await book.opt_out(PHONE, "a-private-reason")
    assert await book.forget(PHONE) == 1
    assert await book.forget(PHONE) == 0
    assert await book.forget("+905550000001") == 1
    assert await book.opted_out(PHONE)
    assert PHONE in await book.opt_outs()
    assert (await book.window(PHONE)).state == "unknown"
    assert await book.export(tmp_path / "x.csv") == 0
    await book.leave()
    written = b"".join(file.read_bytes() for file in tmp_path.glob("customers.db*"))
    for secret in (b"905551112233", b"a-private-reason", b"905550000001"):
        assert secret not in written


async def test_a_forgotten_person_who_writes_again_is_one_person(book: Customers) -> None:
    await book.feed(text("STOP", -60))
    await book.forget(PHONE)
    await book.feed(text("Merhaba", -30))
    assert await book.opted_out(PHONE)
    await book.feed(text("START", -10))
    assert not await book.opted_out(PHONE)
    assert len(await book.opt_outs()) == 0


async def test_opt_outs_are_a_set_of_people(book: Customers) -> None:
    await book.opt_out("+5511987654321")
    found = await book.opt_outs()
    assert (len(found), 551187654321 in found, "+5511987654321" in found, object() in found) == (
        1,
        True,
        True,
        False,
    )
    assert found is await book.opt_outs()
    assert found.since("+5511987654321") == NOON


def test_the_repr_names_the_file() -> None:
    assert repr(Customers("c.db")) == "<Customers c.db>"
