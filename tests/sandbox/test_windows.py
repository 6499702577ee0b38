"""The four rules of counting, each against a plain statement of what it means."""

import random

import pytest

from desk360_async.sandbox.throttle import (
    WINDOWS,
    AlignedWindow,
    FirstHitWindow,
    SlidingLog,
    TokenBucket,
    WindowRule,
)


def counted(rule: WindowRule, times: list[float], limit: int = 3, period: float = 10.0) -> list[float]:
    """List the times that a fresh window counts."""
    window = WINDOWS[rule]()
    return [time for time in times if window.hit(time, limit, period).retry_at is None]


def test_first_hit_opens_with_the_first_counted_request_and_gives_all_back_at_once() -> None:
    """Laravel's window: 3 at 4 s, refused until 14 s, then 3 again."""
    assert counted("first_hit", [4, 4, 5, 6, 13.9, 14, 14, 14, 14]) == [4, 4, 5, 14, 14, 14]


def test_first_hit_says_when_the_window_closes() -> None:
    """A refusal names the window's end, not the request's."""
    window = FirstHitWindow()
    assert [window.hit(t, 1, 10.0).retry_at for t in (4, 5, 9)] == [None, 14, 14]


def test_aligned_windows_begin_at_multiples_of_the_period() -> None:
    """Three at the end of one window and three at the start of the next are all counted."""
    assert counted("aligned", [9, 9, 9, 9.5, 10, 10, 10, 10]) == [9, 9, 9, 10, 10, 10]
    window = AlignedWindow()
    assert [window.hit(t, 1, 10.0).retry_at for t in (3, 4)] == [None, 10]


def test_a_sliding_log_lets_one_in_when_one_is_a_period_ago() -> None:
    """What was counted at 1 s makes room at 11 s, and only for one."""
    assert counted("sliding_log", [1, 2, 3, 10.9, 11, 11, 12]) == [1, 2, 3, 11, 12]
    window = SlidingLog()
    assert [window.hit(t, 2, 10.0).retry_at for t in (1, 2, 3)] == [None, None, 11]


def test_a_token_bucket_trickles() -> None:
    """Three at once, then one each ten thirds of a second."""
    assert counted("token_bucket", [0, 0, 0, 0, 3.3, 3.34, 3.4, 6.7]) == [0, 0, 0, 3.34, 6.7]
    window = TokenBucket()
    assert [window.hit(t, 1, 10.0).retry_at for t in (0, 4)] == [None, 10]


@pytest.mark.parametrize("rule", WINDOWS)
def test_remaining_counts_down_to_zero(rule: WindowRule) -> None:
    """`Remaining` is what is left after the request that it answers."""
    window = WINDOWS[rule]()
    assert [window.hit(1.0, 3, 10.0).remaining for _ in range(4)] == [2, 1, 0, 0]


@pytest.mark.parametrize("rule", WINDOWS)
def test_a_client_that_waits_as_told_is_counted(rule: WindowRule) -> None:
    """Whoever comes back at `retry_at` gets in, however the refusals before it fell."""
    window, dice, now = WINDOWS[rule](), random.Random(1), 0.0
    for _ in range(500):
        now += dice.uniform(0, 2)
        retry_at = window.hit(now, 3, 10.0).retry_at
        if retry_at is not None:
            assert retry_at > now
            now = retry_at
            assert window.hit(now, 3, 10.0).retry_at is None


def test_no_sliding_period_holds_more_than_the_limit() -> None:
    """Its promise, tried on random arrivals."""
    dice = random.Random(2)
    times = sorted(dice.uniform(0, 300) for _ in range(400))
    taken = counted("sliding_log", times)
    assert all(sum(start <= t < start + 10.0 for t in taken) <= 3 for start in taken)


def test_a_sliding_log_knows_a_smaller_limit() -> None:
    """Three are in the log, two are allowed: the second must go before another one comes."""
    window = SlidingLog()
    for now in (1.0, 2.0, 3.0):
        window.hit(now, 5, 10.0)
    assert window.hit(4.0, 2, 10.0).retry_at == 12.0


def test_a_smaller_limit_takes_effect_at_once() -> None:
    """The limit is looked at on every hit, so it may change in the middle of a window."""
    window = FirstHitWindow()
    assert window.hit(0.0, 5, 10.0).retry_at is None
    assert window.hit(1.0, 1, 10.0).retry_at == 10.0
