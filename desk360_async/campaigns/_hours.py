"""Sending hours: when a campaign may send, in a time zone. Pure; `zoneinfo` handles daylight saving."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from desk360_async import ConfigurationError

__all__ = ["Hours"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RANGE = re.compile(r"\s*([01]?[0-9]|2[0-3]):([0-5][0-9])\s*-\s*([01]?[0-9]|2[0-4]):([0-5][0-9])\s*")
_LONGEST_SEARCH = 400  # days without an opening, after which the search ends


class Hours:
    """The hours in which a campaign sends.

    A range across midnight ("20:00-02:00") belongs to the day on which it begins.

    Args:
        ranges: such as "09:00-20:00", or "09:00-12:00,14:00-20:00"; "24:00" ends a day.
        zone: a time zone's name, such as "Europe/Istanbul".
        days: such as "mon-sat", or "mon,wed,fri"; a range may cross Sunday ("sat-mon").
        holidays: dates on which no range begins, as `date` or ISO text.

    Attributes:
        arguments: the arguments, as JSON takes them; `Hours(**arguments)` makes the same hours.

    Raises:
        ConfigurationError: if an argument can't be read.
    """

    def __init__(
        self, ranges: str, *, zone: str, days: str = "mon-sun", holidays: Iterable[date | str] = ()
    ) -> None:
        self._ranges = tuple(sorted(_range_of(part) for part in ranges.split(",")))
        try:
            self._zone = ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"there is no time zone {zone!r}; one is 'Europe/Istanbul'") from error
        self._days = _days_of(days)
        self._holidays = frozenset(_date_of(holiday) for holiday in holidays)
        self._words = f"{ranges}, {days}, {zone}"
        self.arguments: dict[str, str | list[str]] = {
            "ranges": ranges,
            "zone": zone,
            "days": days,
            "holidays": sorted(day.isoformat() for day in self._holidays),
        }

    def __repr__(self) -> str:
        return f"<Hours {self._words}>"

    def is_open(self, at: datetime) -> bool:
        """Whether a campaign may send at an aware datetime."""
        for begin, end in self._openings(at):
            if at < end:
                return begin <= at
        return False

    def next_opening(self, at: datetime) -> datetime:
        """Return `at` itself if the hours are open, else the start of the next range, in UTC.

        Raises:
            ConfigurationError: if no range begins within 400 days.
        """
        for begin, end in self._openings(at):
            if at < end:
                return max(at, begin).astimezone(UTC)
        raise ConfigurationError(f"{self!r} has no opening within {_LONGEST_SEARCH} days")

    def finish(self, at: datetime, seconds: float) -> datetime:
        """Return the end, in UTC, of work that pauses outside the hours.

        Args:
            at: when the work starts, an aware datetime.
            seconds: the length of the work in seconds, without the pauses.
        """
        left = timedelta(seconds=min(seconds, 1e9))
        now = at.astimezone(UTC)
        while True:
            now = self.next_opening(now)
            end = next(end for begin, end in self._openings(now) if begin <= now < end)
            if now + left <= end:
                return now + left
            left -= end - now
            now = end

    def _openings(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield (begin, end) of each range in UTC, in order of begin, starting on the day before `at`."""
        if at.tzinfo is None:
            raise ConfigurationError("Hours takes aware datetimes, such as datetime.now(UTC)")
        first = at.astimezone(self._zone).date() - timedelta(days=1)
        for number in range(_LONGEST_SEARCH):
            day = first + timedelta(days=number)
            if day.weekday() not in self._days or day in self._holidays:
                continue
            for opens, closes in self._ranges:
                begin, end = self._at(day, opens), self._at(day, closes)
                if begin < end:  # a change of the clock may swallow a short range
                    yield begin, end

    def _at(self, day: date, minutes: int) -> datetime:
        days, minutes = divmod(minutes, 24 * 60)
        moment = time(minutes // 60, minutes % 60)
        return datetime.combine(day + timedelta(days=days), moment, self._zone).astimezone(UTC)


def _range_of(text: str) -> tuple[int, int]:
    """Return a range's begin and end in minutes; an end after midnight is above 1,440."""
    found = _RANGE.fullmatch(text)
    if found is None or (found[3] == "24" and found[4] != "00"):
        raise ConfigurationError(f"hours are ranges such as '09:00-20:00', got {text.strip()!r}")
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if begin == end:
        raise ConfigurationError(f"the range {text.strip()!r} is empty; a whole day is '00:00-24:00'")
    return begin, end if end > begin else end + 24 * 60


def _days_of(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = (word.strip() for word in part.partition("-"))
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ConfigurationError(f"days are such as 'mon-sat' or 'mon,wed', got {part.strip()!r}")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return frozenset(days)


def _date_of(holiday: date | str) -> date:
    try:
        return date.fromisoformat(holiday) if isinstance(holiday, str) else date(*holiday.timetuple()[:3])
    except (ValueError, AttributeError):
        raise ConfigurationError(f"a holiday is a date such as '2026-01-01', got {holiday!r}") from None
