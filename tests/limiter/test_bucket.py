"""The bucket's transitions, one at a time: what is away, when it is back, and what an answer teaches."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async._bucket import SPREAD, Bucket, End, Lane, Token, Waits
from tests.limiter.tokens import NOTHING, bucket, taken, told


def test_a_token_is_back_a_period_after_its_request_is_complete() -> None:
    """Not a period after its start: the server may have counted it as late as its end."""
    state = bucket()
    state.done(3.0, *taken(state, 1), 200, NOTHING)
    state.sweep(62.9)
    assert (state.free, state.next_return()) == (9, 63.0)
    state.sweep(63.0)
    assert (state.free, state.next_return()) == (10, float("inf"))


def test_a_token_nobody_tells_of_is_back_after_its_hold() -> None:
    """A killed task wastes its token for a bounded time."""
    state = bucket()
    taken(state, 2)
    state.sweep(99.9)
    assert state.free == 8
    state.sweep(100.0)
    assert state.free == 10


def test_a_lost_request_may_be_counted_for_another_grace() -> None:
    """30 s of grace and a period from when it was given up; never later than its hold."""
    state = bucket()
    early, late = taken(state, 2)
    state.lost(5.0, early)
    state.lost(50.0, late)
    assert sorted(state.away) == [95.0, 100.0]


def test_the_margin_is_on_top_of_every_period() -> None:
    """Of a request's own token, of a lost one's, and of those that others took."""
    state = bucket(margin=1.0)
    first, second = taken(state, 2)
    state.done(2.0, first, 200, told(10, 7))
    state.lost(3.0, second)
    assert sorted(state.away) == [63.0, 63.0, 94.0]
    assert state.forecast(3.0, "interactive")(17) == 124.0


def test_an_unused_token_is_back_at_once_and_counts_for_no_pace() -> None:
    """Nothing left the process."""
    state = bucket()
    state.take(1.0, "bulk")
    state.unused(state.take(5.0, "bulk"))
    assert (state.free, state.last_grant) == (9, 1.0)


def test_only_the_newest_unused_token_takes_the_pace_back() -> None:
    """An older one has a real request behind it."""
    state = bucket()
    first, _ = state.take(1.0, "bulk"), state.take(5.0, "bulk")
    state.unused(first)
    assert (state.free, state.last_grant) == (9, 5.0)


def test_an_end_after_the_hold_takes_the_token_away_again() -> None:
    """The request was counted, whenever we hear of it; but lost or unused after that is no news."""
    state = bucket()
    first, second, third = taken(state, 3)
    state.done(150.0, first, 200, NOTHING)
    state.lost(150.0, second)
    state.unused(third)
    assert (state.free, state.away) == (9, [210.0])


def test_an_end_after_all_holds_takes_the_token_away_again() -> None:
    """Even if no other request is under way by then."""
    state = bucket()
    (late,) = taken(state, 1)
    state.sweep(100.0)
    state.done(150.0, late, 200, NOTHING)
    assert (state.free, state.away) == (9, [210.0])


def test_each_bucket_is_its_own() -> None:
    """Limiters tell buckets apart, even if their states are equal."""
    assert len({bucket(), bucket()}) == 2


def test_what_the_server_misses_was_taken_by_others() -> None:
    """It comes back one period after the answer that told."""
    state = bucket()
    state.done(1.0, *taken(state, 1), 200, told(10, 4))
    assert state.free == 4
    state.sweep(60.9)
    assert state.free == 4
    state.sweep(61.0)
    assert state.free == 10


def test_remaining_never_raises_what_is_free() -> None:
    """The server forgets sooner than we do."""
    state = bucket()
    tokens = taken(state, 5)
    state.done(1.0, tokens[0], 200, told(10, 9))
    assert state.free == 5


def test_a_token_that_came_back_meanwhile_is_not_taken_for_others() -> None:
    """A slow answer speaks of a moment at which it was still away."""
    state = bucket(2)
    first, slow = state.take(0.0, "interactive"), state.take(59.0, "interactive")
    state.done(0.5, first, 200, told(2, 1))
    assert not state.done(61.0, slow, 200, told(2, 0))
    assert state.free == 1


@pytest.mark.parametrize("back_before", [0, 1])
def test_every_token_that_came_back_meanwhile_counts(back_before: int) -> None:
    """Those that came back while it was away, and no others."""
    state = bucket(5)
    for number, token in enumerate(taken(state, 3)):
        state.done(0.5 + number, token, 200, NOTHING)
    state.sweep(60.0 + back_before)
    slow = state.take(60.0 + back_before, "interactive")
    state.done(63.0, slow, 200, told(5, 0))
    assert (state.returned, state.free) == (3, 3 - back_before)


def test_an_answer_older_than_one_already_used_is_ignored() -> None:
    """Answers overtake each other."""
    state = bucket()
    old, new = taken(state, 2)
    state.done(1.0, new, 200, told(10, 8))
    state.done(2.0, old, 200, told(10, 0))
    assert state.free == 8


@pytest.mark.parametrize(
    ("answers", "limit"),
    [
        ([60], 10),
        ([60, 60], 60),
        ([60, 30, 60], 10),
        ([60, "x", 60], 60),
        ([0, 0], 10),
        ([10_001, 10_001], 10),
        ([5, 5], 5),
    ],
)
def test_a_limit_is_believed_after_two_answers_in_a_row(answers: list[int | str], limit: int) -> None:
    """One may be a slip; what isn't plausible says nothing."""
    state = bucket()
    for said in answers:
        state.done(1.0, *taken(state, 1), 200, told(said))
    assert state.limit == limit


def test_a_smaller_limit_is_not_taken_for_other_peoples_requests() -> None:
    """The first answer of a server with 5 leaves no hole of a period in what is free."""
    state = bucket(10)
    state.done(1.0, *taken(state, 1), 200, told(5, 4))
    state.done(1.0, *taken(state, 1), 200, told(5, 3))
    assert (state.limit, state.free) == (5, 3)


def test_a_limit_that_is_not_to_be_learned_stays() -> None:
    """A part of an address's limit is the user's own business."""
    state = bucket(learn=False)
    for token in taken(state, 2):
        state.done(1.0, token, 200, told(60, 50))
    assert (state.limit, state.free) == (10, 8)


@pytest.mark.parametrize(
    ("status", "headers", "gate"),
    [
        (429, {"retry-after": "30"}, 41.0),
        (429, NOTHING, 70.0),
        (429, {"retry-after": "nan"}, 70.0),
        (200, {"retry-after": "30"}, 41.0),
        (200, {"retry-after": "nan"}, float("-inf")),
        (200, {"x-ratelimit-reset": "1445412510", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, float("-inf")),
        (503, {"retry-after": "30"}, float("-inf")),
        (299, {"retry-after": "30"}, 41.0),
        (199, {"retry-after": "30"}, float("-inf")),
        (300, {"retry-after": "30"}, float("-inf")),
        (301, {"retry-after": "30"}, float("-inf")),
    ],
)
def test_what_closes_the_gate(status: int, headers: dict[str, str], gate: float) -> None:
    """A refusal, and a success that says when the next request may come; nobody else's `Retry-After`."""
    state = bucket()
    state.done(10.0, *taken(state, 1), status, headers)
    assert state.gate == gate


def test_nothing_reopens_the_gate_early() -> None:
    """Neither a shorter wait nor a success."""
    state = bucket()
    first, second, third = taken(state, 3)
    state.done(0.0, first, 429, {"retry-after": "30"})
    state.done(1.0, second, 429, {"retry-after": "2"})
    state.done(2.0, third, 200, told(10, 10))
    assert state.ready_at("interactive") == state.ready_at("bulk") == 31.0


def test_borrowed_tokens_come_back_at_their_time() -> None:
    """Those that are back already don't count."""
    state = bucket()
    state.borrow(10.0, [30.0, 9.0, 20.0])
    assert (state.free, state.next_return()) == (8, 20.0)


def test_another_clock_moves_every_time_by_the_same() -> None:
    """What was to come in so many seconds still is."""
    state, other = bucket(), bucket()
    for one, now in ((state, 7.0), (other, 1007.0)):
        first, *_ = taken(one, 2, now)
        one.take(now + 0.5, "bulk")
        one.done(now + 1, first, 429, {"retry-after": "5"})
    state.shift(1000.0)
    for name in (*STATE, "grant_before"):
        assert getattr(state, name) == getattr(other, name), name


STEPS = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 6.0, 30.0, 60.0, 100.0]),
    st.sampled_from(["interactive", "bulk"]),
    st.sampled_from(["done", "refused", "lost", "unused", "never"]),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_the_quick_way_to_a_token_gives_what_the_long_one_does(steps: list[tuple[float, Lane, str]]) -> None:
    """And leaves the same state, whatever happened before."""
    quick, long, now = bucket(4, reserve=1), bucket(4, reserve=1), 0.0
    for seconds, lane, end in steps:
        now += seconds
        number = quick.draw_if_ready(now, lane)
        long.sweep(now)
        interactive, bulk = lane == "interactive", None if lane == "interactive" else now
        drawn = long.turn(now, interactive=interactive, bulk_since=bulk) == lane
        assert drawn == (number is not None) == (drawn and long.draw(now, lane) == number)
        for state in (quick, long) if number is not None else ():
            finish(state, now, Token(number or 0, state.returned), end)
        assert [getattr(quick, name) for name in STATE] == [getattr(long, name) for name in STATE]


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_the_quick_way_is_open_at_the_very_moment(lane: Lane) -> None:
    """When a timer rings, it is just as late as it was set to."""
    state = bucket()
    state.done(0.0, *taken(state, 1), 200, {"retry-after": "2"})
    at = state.ready_at(lane)
    assert state.draw_if_ready(at - 0.01, lane) is None
    assert state.draw_if_ready(at, lane) == 1


STATE = ("away", "in_flight", "gate", "last_grant", "wary_until", "taken", "returned", "since_bulk")


def finish(state: Bucket, now: float, token: Token, end: str) -> None:
    """Let a request end, or not."""
    if end in ("done", "refused"):
        state.done(
            now, token, 200 if end == "done" else 429, {"retry-after": "3"} if end == "refused" else {}
        )
    elif end == "lost":
        state.lost(now, token)
    elif end == "unused":
        state.unused(token)


def test_tokens_that_expired_in_flight_count_as_come_back() -> None:
    """A slow answer may speak of a moment at which they were still away."""
    state = bucket(3)
    taken(state, 2)
    slow = state.take(99.0, "interactive")
    state.done(101.0, slow, 200, told(3, 0))
    assert (state.returned, state.free) == (2, 2)


@pytest.mark.parametrize(
    ("status", "headers", "longer"),
    [
        (200, {}, False),
        (200, told(10, 9), False),
        (200, told(10, 8), True),
        (429, {}, True),
        (200, {"retry-after": "5"}, True),
        (300, {"retry-after": "5"}, False),
    ],
)
def test_an_answer_tells_whether_those_who_wait_may_wait_longer(
    status: int, headers: dict[str, str], longer: bool
) -> None:
    """Only then does anyone look at their deadlines again."""
    state = bucket()
    assert state.done(0.0, *taken(state, 1), status, headers) is longer


def test_a_believed_smaller_limit_makes_waits_longer_and_a_greater_one_does_not() -> None:
    """On the second answer, not on the first."""
    state = bucket()
    longer = [state.done(0.0, *taken(state, 1), 200, told(limit)) for limit in (9, 9, 9, 60, 60)]
    assert longer == [False, True, False, False, False]


def test_a_gate_of_the_same_length_makes_nobody_wait_longer() -> None:
    """Twenty refusals of one burst are one pause."""
    state = bucket()
    first, second = taken(state, 2)
    assert state.done(0.0, first, 429, {"retry-after": "5"})
    assert not state.done(0.0, second, 429, {"retry-after": "5"})


def test_a_token_is_held_for_an_attempt_its_grace_and_a_period() -> None:
    """An attempt of 10 s, 30 s of grace, a period of 60 s and a margin of 2 s."""
    assert Bucket.hold_of(10.0, 60.0, 2.0) == 102.0


def test_a_bucket_learns_the_limit_if_nothing_else_was_said() -> None:
    """Two equal answers are enough."""
    state = Bucket(10, 60.0, 0, 0.0, 100.0)
    for token in taken(state, 2):
        state.done(0.0, token, 200, told(7))
    assert state.limit == 7


@pytest.mark.parametrize(
    ("end", "away", "free"), [("done", [65.0], 9), ("lost", [95.0], 9), ("unused", [], 10)]
)
def test_an_end_is_noted_by_its_name(end: End, away: list[float], free: int) -> None:
    """An answer counts from its end, a lost request after its grace, an unused token not at all."""
    state = bucket()
    state.end(5.0, *taken(state, 1), end, 200, NOTHING)
    assert (state.away, state.free) == (away, free)


def test_the_end_of_an_answer_says_whether_waits_grow() -> None:
    """A lost request makes no wait longer."""
    state = bucket()
    answered, lost = taken(state, 2)
    assert state.end(0.0, answered, "done", 429, NOTHING)
    assert not state.end(0.0, lost, "lost", 0, NOTHING)


def test_a_success_that_asks_for_a_wait_leaves_the_pace_as_it_was() -> None:
    """Only a refusal means that others share the limit."""
    state = bucket()
    state.done(0.0, *taken(state, 1), 200, {"retry-after": "5"})
    taken(state, 1, 6.0)
    assert state.ready_at("interactive") == 6.0


@pytest.mark.parametrize(
    ("lane", "now", "waits"), [("bulk", 10.9, True), ("bulk", 11.0, False), ("interactive", 10.0, False)]
)
def test_a_note_of_a_waiting_process_holds_for_a_second(lane: Lane, now: float, waits: bool) -> None:
    """And for its own lane."""
    assert Waits({("one", "bulk"): 10.0}).says(lane, now) is waits


def test_a_new_note_drops_those_that_are_a_second_old() -> None:
    """The notes of dead processes don't gather."""
    waits = Waits({("old", "bulk"): 9.0, ("fresh", "bulk"): 9.5})
    waits.note("new", "interactive", 10.0)
    assert waits.noted == {("fresh", "bulk"): 9.5, ("new", "interactive"): 10.0}


def test_a_process_that_no_longer_waits_is_forgotten_in_that_lane() -> None:
    """Once is enough; a second time changes nothing."""
    waits = Waits({("one", "bulk"): 9.5, ("one", "interactive"): 9.5})
    waits.forget("one", "bulk")
    waits.forget("one", "bulk")
    assert waits.noted == {("one", "interactive"): 9.5}


def test_the_next_token_back_is_the_first_of_those_away_and_in_flight() -> None:
    """One in flight comes back by its hold, unless another one is back before."""
    state = bucket()
    first, _ = taken(state, 2)
    assert state.next_return() == 100.0
    state.done(0.0, first, 200, NOTHING)
    assert state.next_return() == 60.0


def test_a_greater_limit_that_is_not_believed_yet_makes_no_others() -> None:
    """One answer names 12, and nine of our ten are left."""
    state = bucket()
    state.done(0.0, *taken(state, 1), 200, told(12, 9))
    assert state.free == 9


@pytest.mark.parametrize("limit", [10, 12, ""])
def test_others_are_counted_by_our_limit_until_a_greater_one_is_believed(limit: int | str) -> None:
    """One of our ten is away, and the server has eight left: others took one."""
    state = bucket()
    assert state.done(0.0, *taken(state, 1), 200, told(limit, 8))
    assert state.free == 8


def test_bulk_is_paced_by_the_first_of_those_away() -> None:
    """Two of ten are free, and the first of eight is back after 60 s; the last one's 67 s don't count."""
    state = bucket()
    for end, token in enumerate(taken(state, 8)):
        state.done(float(end), token, 200, NOTHING)
    assert state.ready_at("bulk") == pytest.approx(60 / (2 / SPREAD + 1))


def test_an_end_at_the_very_moment_finds_the_first_token_back() -> None:
    """Later ones are still away; the one that is due counts as come back before the answer is read."""
    state = bucket()
    first, second, third = taken(state, 3)
    state.done(0.0, first, 200, NOTHING)
    state.done(5.0, second, 200, NOTHING)
    state.done(60.0, third, 200, NOTHING)
    assert (state.away, state.returned) == ([65.0, 120.0], 1)


def test_a_hold_that_ends_at_the_very_moment_is_over() -> None:
    """So the token of the request that ends just then is away once, not twice."""
    state = bucket()
    first, _ = taken(state, 2)
    state.done(100.0, first, 200, NOTHING)
    assert (state.away, len(state.in_flight), state.returned) == ([160.0], 0, 2)


@pytest.mark.parametrize(("lost", "free"), [(0, 10), (1, 9), (12, 0)])
def test_status_counts_the_free_tokens(lost: int, free: int) -> None:
    """Others may take more than there are; fewer than 0 aren't free."""
    state = bucket()
    state.borrow(0.0, [60.0] * lost)
    assert state.status(0.0, {"interactive": 0, "bulk": 0}).free == free


def test_status_shows_a_pause_on_the_callers_clock() -> None:
    """The loop's clock is 1,000 s ahead; the wait for a token is the interactive lane's, in seconds."""
    state = bucket(reserve=9)
    state.done(10.0, *taken(state, 1, now=10.0), 429, {"retry-after": "30"})
    status = state.status(20.0, {"interactive": 2, "bulk": 1}, clock=1000.0)
    assert (status.paused_until, status.next_token, status.as_of) == (1041.0, 21.0, 1020.0)
    assert (status.in_flight, status.waiting) == (0, {"interactive": 2, "bulk": 1})
    assert state.status(41.0, {"interactive": 0, "bulk": 0}).paused_until is None
    assert state.status(200.0, {"interactive": 0, "bulk": 0}).next_token == 0.0


def test_the_quick_way_counts_those_away_and_in_flight() -> None:
    """One of two tokens is away, and one is in flight."""
    state = bucket(2)
    first, _ = taken(state, 2)
    state.done(0.0, first, 200, NOTHING)
    assert state.draw_if_ready(1.0, "interactive") is None
