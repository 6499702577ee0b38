"""Sending hours: open or not, the next opening, and when work ends, over both changes of the clock."""

from datetime import UTC, date, datetime

import pytest

from desk360_async import ConfigurationError
from desk360_async.campaigns import Hours


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
