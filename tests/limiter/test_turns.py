"""Whose turn it is, and when: bulk's pace, its reserve and its share, and what is foreseen of it all."""

import pytest

from tests.limiter.tokens import NOTHING, bucket, taken


def test_after_a_refusal_no_lane_takes_many_at_once() -> None:
    """Four times the even pace, for a little over a period."""
    state = bucket(10)
    state.done(0.0, *taken(state, 1), 429, {"retry-after": "0"})
    state.take(2.0, "interactive")
    assert state.ready_at("interactive") == 3.5
    assert state.turn(3.4, interactive=True, bulk_since=None) is None
    state.take(65.9, "interactive")
    assert state.ready_at("interactive") == 66.0


@pytest.mark.parametrize(
    ("limit", "reserve", "at_once"), [(60, 0, 15), (60, 1, 15), (10, 0, 3), (10, 9, 1), (1, 0, 1)]
)
def test_bulk_takes_at_once_while_more_than_three_quarters_are_free(
    limit: int, reserve: int, at_once: int
) -> None:
    """Only the reserve stays on an idle account."""
    state = bucket(limit, reserve=reserve)
    while state.ready_at("bulk") <= 0.0:
        state.take(0.0, "bulk")
    assert state.taken == at_once


def test_bulk_spreads_what_is_free_until_the_next_token_is_back() -> None:
    """Nine free tokens, spread a tenth wider than the time until the return."""
    state = bucket(12, 66.0)
    for token in taken(state, 3):
        state.done(0.0, token, 200, NOTHING)
    assert state.ready_at("bulk") == pytest.approx(66 / (1 + 9 / 1.1))
    at = state.ready_at("bulk")
    assert state.turn(at - 0.01, interactive=False, bulk_since=0.0) is None
    assert state.turn(at, interactive=False, bulk_since=0.0) == "bulk"


def test_bulk_spreads_no_more_than_what_the_reserve_leaves() -> None:
    """Eight of nine, from the last grant until the return."""
    state = bucket(12, 66.0, reserve=1)
    for token in taken(state, 3):
        state.done(0.0, token, 200, NOTHING)
    assert state.ready_at("bulk") == pytest.approx(66 / (1 + 8 / 1.1))
    state.unused(state.take(10.0, "interactive"))
    state.take(11.0, "interactive")
    assert state.ready_at("bulk") == pytest.approx(11 + 55 / (1 + 7 / 1.1))


def test_bulk_never_goes_faster_than_the_even_pace() -> None:
    """However near the next return is."""
    state = bucket(12, 60.0)
    for token in taken(state, 3):
        state.done(0.0, token, 200, NOTHING)
    state.take(58.0, "bulk")
    assert state.ready_at("bulk") == 63.0


def test_a_token_in_flight_is_back_in_a_period_at_the_soonest() -> None:
    """Its pessimistic return would stretch bulk's pace for nothing."""
    state = bucket(12, 60.0)
    taken(state, 3)
    assert state.ready_at("bulk") == pytest.approx(60 * 1.1 / 9)


def test_bulk_leaves_the_reserve_and_interactive_takes_it() -> None:
    """One free, one reserved."""
    state = bucket(10, reserve=1)
    for token in taken(state, 9):
        state.done(1.0, token, 200, NOTHING)
    assert (state.ready_at("interactive") <= 1.0, state.ready_at("bulk")) == (True, 61.0)


@pytest.mark.parametrize(
    ("limit", "reserve", "kept"), [(60, None, 1), (59, None, 0), (600, None, 10), (5, 9, 4), (1, 9, 0)]
)
def test_the_reserve_is_a_sixtieth_and_never_everything(limit: int, reserve: int | None, kept: int) -> None:
    """Or bulk would stop for good when the server's limit shrinks."""
    assert bucket(limit, reserve=reserve).reserve == kept


def test_bulk_that_waits_for_a_period_takes_every_tenth_token() -> None:
    """Interactive requests without end don't starve it."""
    state = bucket(100, 60.0)
    lanes = []
    for second in range(60, 90):
        lane = state.turn(float(second), interactive=True, bulk_since=0.0)
        assert lane
        lanes.append(lane)
        state.take(float(second), lane)
    assert [n for n, lane in enumerate(lanes) if lane == "bulk"] == [9, 19, 29]


def test_bulk_is_not_overdue_before_a_period() -> None:
    """Ten interactive requests alone are no reason."""
    state = bucket(100, 60.0)
    taken(state, 20)
    assert state.turn(59.9, interactive=True, bulk_since=0.0) == "interactive"
    assert state.turn(60.0, interactive=True, bulk_since=0.0) == "bulk"
    assert state.ready_at("bulk", 0.0) <= 60.0


def test_the_forecast_counts_those_before() -> None:
    """Free ones now, then by return, then a period later the same again."""
    state = bucket(3, reserve=0)
    first, _ = taken(state, 2)
    state.done(1.0, first, 200, NOTHING)
    at = state.forecast(2.0, "interactive")
    assert [at(ahead) for ahead in range(5)] == [2.0, 61.0, 62.0, 62.0, 121.0]


def test_the_forecast_leaves_bulk_no_reserve() -> None:
    """One of six, once a period; interactive has all six."""
    state = bucket(6, reserve=5)
    state.take(0.0, "bulk")
    bulk, interactive = state.forecast(0.0, "bulk"), state.forecast(0.0, "interactive")
    assert [bulk(ahead) for ahead in range(2)] == [60.0, 120.0]
    assert [interactive(ahead) for ahead in range(7)] == [0.0] * 5 + [60.0] * 2


def test_the_forecast_knows_bulks_pace() -> None:
    """From the last grant or from now on; those in the other lane aren't bound to it."""
    state = bucket(10)
    taken(state, 1)
    assert [state.forecast(1.0, "bulk")(ahead) for ahead in range(4)] == [1.0, 1.0, 6.0, 12.0]
    taken(state, 2)
    assert [state.forecast(1.0, "bulk")(ahead) for ahead in range(3)] == [6.0, 12.0, 18.0]
    assert [state.forecast(50.0, "bulk")(ahead) for ahead in range(3)] == [50.0, 56.0, 62.0]
    assert state.forecast(1.0, "bulk", 2)(3) == 12.0


def test_the_forecast_knows_the_gate() -> None:
    """Nobody before it, and then no more at once than there are tokens."""
    state = bucket(2)
    state.done(0.0, *taken(state, 1), 429, {"retry-after": "299"})
    at = state.forecast(0.0, "interactive")
    assert [at(ahead) for ahead in range(4)] == [300.0, 300.0, 360.0, 360.0]


def test_bulk_is_due_its_tenth_token_when_one_is_free() -> None:
    """Nine interactive ones went before, and a period has passed: pace and reserve don't matter then."""
    state = bucket(12, reserve=11)
    taken(state, 3)
    for token in taken(state, 5):
        state.unused(token)
    assert state.ready_at("bulk", -60.0) > 0.0
    taken(state, 1)
    assert state.ready_at("bulk", -60.0) <= 0.0
    assert state.ready_at("bulk", 5.0) == 65.0


def test_bulk_spreads_what_is_free_until_the_first_complete_request_is_back() -> None:
    """Six of ten were complete at 50 s, so the next token is back at 110 s."""
    state = bucket(10)
    for token in taken(state, 6):
        state.done(50.0, token, 200, NOTHING)
    assert state.ready_at("bulk") == pytest.approx(110.0 / (4 / 1.1 + 1))


def test_the_forecast_of_a_busy_account_begins_with_a_pace() -> None:
    """Half of the tokens are away, so bulk's first waiter waits for a tenth of the period."""
    state = bucket(10)
    taken(state, 5)
    assert state.forecast(0.0, "bulk")(0) == 6.0
