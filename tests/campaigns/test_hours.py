"""Sending hours: open or not, the next opening, and when work ends, over both changes of the clock."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import anyio
import pytest

from desk360_async import AsyncDesk360, ConfigurationError
from desk360_async.campaigns import BatchResult, Campaign, Done, Event, Hours, Paused, _ledger, _run
from tests.campaigns.harness import Harness, done, people

T = TypeVar("T")


def utc(text: str) -> datetime:
    """Return an aware moment."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BERLIN = Hours("09:00-12:00,14:00-20:00", days="mon-sat", zone="Europe/Berlin", holidays=["2026-12-25"])


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-11-27 08:00", "2026-11-27 08:00"),
        ("2026-11-27 11:00", "2026-11-27 13:00"),
        ("2026-11-28 19:00", "2026-11-30 08:00"),
        ("2026-12-24 20:00", "2026-12-26 08:00"),
        ("2026-03-28 20:00", "2026-03-30 07:00"),
        ("2026-10-24 19:00", "2026-10-26 08:00"),
    ],
)
def test_the_next_opening_follows_the_zones_clock(at: str, opens: str) -> None:
    assert BERLIN.next_opening(utc(at)) == utc(opens)
    assert BERLIN.is_open(utc(at)) == (at == opens)


def test_a_range_across_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    night = Hours("20:00-02:00", days="fri", zone="Europe/Istanbul", holidays=[date(2026, 12, 4)])
    assert night.is_open(utc("2026-11-27 22:59"))
    assert not night.is_open(utc("2026-11-27 23:00"))
    assert night.next_opening(utc("2026-11-28 12:00")) == utc("2026-12-11 17:00")


@pytest.mark.parametrize(
    ("at", "end"), [("2026-03-28 22:00", "2026-03-29 02:00"), ("2026-10-24 21:00", "2026-10-25 01:00")]
)
def test_a_night_is_as_long_as_the_clock_makes_it(at: str, end: str) -> None:
    """23:00 to 04:00 lasts four hours in March and six in October."""
    night = Hours("23:00-04:00", zone="Europe/Berlin")
    assert night.finish(utc(at), 4 * 3600) == utc(end)
    assert night.is_open(utc(end)) == ("10-25" in end)


def test_work_rests_outside_the_hours() -> None:
    assert BERLIN.finish(utc("2026-11-27 18:30"), 3600) == utc("2026-11-28 08:30")


@pytest.mark.parametrize(
    ("ranges", "options"),
    [
        ("9-20", {}),
        ("09:00-09:00", {}),
        ("09:00-24:30", {}),
        ("09:00-20:00", {"zone": "Europe/Nowhere"}),
        ("09:00-20:00", {"days": "monday"}),
        ("09:00-20:00", {"holidays": ["25.12.2026"]}),
    ],
)
def test_hours_that_cannot_be_read_are_refused(ranges: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Hours(ranges, **{"zone": "Europe/Istanbul", **options})  # type: ignore[arg-type]  # the mistake is the subject


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="aware"):
        BERLIN.is_open(datetime(2026, 1, 1))  # noqa: DTZ001  # the mistake is the subject


# ── a run within the hours ─────────────────────────────────────────────────────────────────────────────────

DAY = Hours("09:00-20:00", zone="Europe/Berlin")


class WallClock:
    """A wall clock that begins at a moment, and goes with virtual time."""

    def __init__(self, begins: str) -> None:
        self.begins = utc(begins)
        self.began = 0.0

    def now(self) -> datetime:
        """Return the time."""
        return self.begins + timedelta(seconds=anyio.current_time() - self.began)


@pytest.fixture
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """The wall clock of campaigns, which begins on the day before a change of the clock, at 19:59:30."""
    clock = WallClock(getattr(request, "param", "2026-03-28 18:59:30"))
    monkeypatch.setattr(_run, "now", clock.now)
    monkeypatch.setattr(_ledger, "now", lambda: clock.now().timestamp())
    return clock


def play(
    harness: Harness,
    clock: WallClock,
    main: Callable[[AsyncDesk360, Campaign], Awaitable[T]],
    number: int = 200,
) -> T:
    """Load single sends, and do something with the campaign."""

    async def loaded(client: AsyncDesk360) -> T:
        clock.began = anyio.current_time()
        campaign = harness.campaign(strategy="single")
        await campaign.load(client, people(number))
        return await main(client, campaign)

    return harness.play(loaded)


@pytest.mark.parametrize(
    ("clock", "seconds", "finish"),
    [
        pytest.param("2026-03-28 18:59:30", 12 * 3600, "2026-03-29 07:02:50", id="spring"),
        pytest.param("2026-10-24 17:59:30", 14 * 3600, "2026-10-25 08:02:50", id="autumn"),
    ],
    indirect=["clock"],
)
def test_a_run_pauses_outside_the_hours_and_goes_on_by_itself(
    harness: Harness, clock: WallClock, seconds: float, finish: str
) -> None:
    """From 20:00 to 09:00 the zone's clock loses an hour in March, and gains one in October."""
    times: list[tuple[Event, datetime]] = []

    async def main(client: AsyncDesk360, campaign: Campaign) -> datetime:
        plan = await campaign.plan(client, hours=DAY)
        async with campaign.run(client, hours=DAY) as events:
            times.extend([(event, clock.now()) async for event in events])
        return plan.finish

    assert play(harness, clock, main) == utc(finish)
    (pause,) = [event for event, _ in times if isinstance(event, Paused)]
    assert (pause.reason, pause.seconds) == ("hours", pytest.approx(seconds, abs=2))
    assert done([event for event, _ in times]).counts.accepted == len(set(harness.received())) == 200
    assert all(DAY.is_open(at) for event, at in times if isinstance(event, BatchResult))


def test_a_plan_without_hours_takes_all_hours(harness: Harness, clock: WallClock) -> None:
    plan = play(harness, clock, lambda client, campaign: campaign.plan(client))
    assert plan.finish == utc("2026-03-28 19:02:50")


def test_the_time_left_includes_the_pause(harness: Harness, clock: WallClock) -> None:
    async def main(client: AsyncDesk360, campaign: Campaign) -> float | None:
        async with campaign.run(client, hours=DAY) as events:
            async for event in events:
                if not isinstance(event, BatchResult):
                    return getattr(event, "eta", None)
        return None

    assert play(harness, clock, main) == pytest.approx(12 * 3600 + 200, abs=40)


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_a_run_outside_its_hours_stops_and_pauses_at_once(
    harness: Harness, clock: WallClock, action: str
) -> None:
    async def main(client: AsyncDesk360, campaign: Campaign) -> tuple[Done, float]:
        clock.begins = utc("2026-03-28 23:00:00")
        async with campaign.run(client, hours=DAY) as events:
            assert isinstance(await anext(events), Paused)
            getattr(events, action)()
            await anyio.sleep(1)
            events.stop()
            return await events.wait(), anyio.current_time() - clock.began

    end, passed = play(harness, clock, main)
    assert (end.end, end.counts.accepted, end.counts.pending) == ("stopped", 0, 200)
    assert passed < 5


def test_a_wall_clock_that_is_set_is_noticed_within_a_minute(harness: Harness, clock: WallClock) -> None:
    async def main(client: AsyncDesk360, campaign: Campaign) -> float:
        clock.begins = utc("2026-03-28 23:00:00")
        async with campaign.run(client, hours=DAY) as events:
            assert isinstance(await anext(events), Paused)
            clock.begins += timedelta(hours=12)
            await anext(events)
        return anyio.current_time() - clock.began

    assert play(harness, clock, main, number=1) <= 61


@pytest.mark.parametrize("hours", ["09:00-20:00", 9])
def test_hours_are_a_value_of_their_own(harness: Harness, hours: object) -> None:
    campaign = harness.campaign()
    with pytest.raises(ConfigurationError, match=r"hours must be Hours\("):
        campaign.run(harness.client(), hours=hours)  # type: ignore[arg-type]  # the mistake is the subject
