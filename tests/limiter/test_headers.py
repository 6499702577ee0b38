"""What the rate limit's headers say, and that garbage in them says nothing."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import _bucket
from desk360_async._bucket import (
    parse_limit,
    parse_remaining,
    parse_reset,
    refusal_wait,
    retry_after,
)

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
EPOCH = 1445412480
GARBAGE = ["", " ", "-1", "+5", "1_0", "1.5", "nan", "inf", "soon", "٣", "5 s", "0x10", "5, 5"]
NAMES = ["retry-after", "date", "x-ratelimit-reset", "x-ratelimit-limit", "x-ratelimit-remaining"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 17\t", 17.0),
        ("9" * 400, 1e9),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2015", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_against_the_answers_own(text: str, seconds: float) -> None:
    """Seconds, or any of HTTP's three forms of a date, read against `Date`; a past date is 0."""
    assert retry_after({"retry-after": text, "date": DATE}) == seconds


def test_a_date_without_the_servers_clock_is_read_against_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `Date` there is only our own wall clock."""
    monkeypatch.setattr(_bucket, "time", SimpleNamespace(time=lambda: EPOCH + 0.0))
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:29:40 GMT"}) == 100


@pytest.mark.parametrize("text", [*GARBAGE, "Wed, 99 Oct 2015 07:28:30 GMT", "at 07:28:30", "x" * 70])
def test_an_unreadable_retry_after_is_none(text: str) -> None:
    """Garbage is no number, and the reset isn't asked instead."""
    assert retry_after({"retry-after": text, "x-ratelimit-reset": str(EPOCH), "date": DATE}) is None


@pytest.mark.parametrize(
    ("reset", "date", "seconds"),
    [
        (str(EPOCH + 30), DATE, 30.0),
        (str(EPOCH - 30), DATE, 0.0),
        (str(EPOCH + 86_400), DATE, 86_400.0),
        (str(EPOCH + 86_401), DATE, None),
        (f"{EPOCH}000", DATE, None),
        ("30", DATE, None),
        ("9" * 400, DATE, None),
        (str(EPOCH + 30), "", None),
        ("soon", DATE, None),
    ],
)
def test_the_reset_is_read_against_the_answers_date(reset: str, date: str, seconds: float | None) -> None:
    """An epoch means something only beside the server's own clock, and only near it."""
    headers = {"x-ratelimit-reset": reset, "date": date}
    assert parse_reset(headers) == retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 2),
        ("1", 2),
        ("2", 3),
        ("59", 60),
        ("3598", 3599),
        ("3600", 3600),
        ("99999", 3600),
        ("-1", 60),
        ("nan", 60),
    ],
)
def test_the_wait_after_a_refusal(text: str, seconds: float) -> None:
    """One second more than told, two at least, an hour at most; a period where nothing is told."""
    assert refusal_wait({"retry-after": text}, period=60.0) == seconds
    assert refusal_wait({}, period=60.0) == 60.0


@pytest.mark.parametrize(
    ("text", "limit"), [("1", 1), ("60", 60), ("10000", 10_000), ("10001", None), ("0", None)]
)
def test_a_plausible_limit_is_one_to_ten_thousand(text: str, limit: int | None) -> None:
    """What lies outside is somebody else's header."""
    assert parse_limit({"x-ratelimit-limit": text}) == limit


@pytest.mark.parametrize("text", [text for text in GARBAGE if text != "-1"])
def test_garbage_is_neither_limit_nor_remaining(text: str) -> None:
    """Only plain ASCII digits count."""
    assert (
        parse_limit({"x-ratelimit-limit": text}) is parse_remaining({"x-ratelimit-remaining": text}) is None
    )


@pytest.mark.parametrize(("text", "remaining"), [("58", 58), ("0", 0), ("-3", 0), ("9" * 10, None)])
def test_a_negative_remaining_is_nothing_left(text: str, remaining: int | None) -> None:
    """Laravel's own arithmetic goes below zero under concurrency."""
    assert parse_remaining({"x-ratelimit-remaining": text}) == remaining


TEXTS = st.one_of(
    st.text(), st.sampled_from([*GARBAGE, DATE]), st.from_regex(r"[0-9]{1,3}:[0-9]{2}:[0-9]{2}.{0,20}")
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS))
def test_nothing_in_the_headers_makes_them_raise(headers: dict[str, str]) -> None:
    """Whatever comes, each reader answers, and the wait is between nothing and an hour."""
    parse_limit(headers), parse_remaining(headers), parse_reset(headers)
    asked = retry_after(headers)
    assert asked is None or 0 <= asked < math.inf
    assert 2 <= refusal_wait(headers, period=60.0) <= 3600
