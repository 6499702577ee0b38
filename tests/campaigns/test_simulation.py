"""Life stories of campaigns, with every fault that the verdict table knows and crashes between any steps.

More of them by `nox -s simulate -- --seeds 10000`.
"""

import pytest

from tests.campaigns.mutations import BUGS
from tests.campaigns.simulation import Violation, simulate

SEEDS = 300
# Where a bug was first found, so that the suite needn't look for long; any of 1,000 seeds will do.
FOUND_AT = {
    "a_429_is_final": 8,
    "a_failed_intent_is_ignored": 45,
    "a_paused_template_gives_people_up": 19,
    "an_unknown_is_called_accepted": 2,
    "an_unknown_is_called_not_sent": 3,
    "an_unknown_is_tried_again": 2,
    "an_unreadable_success_is_tried_again": 19,
    "halving_doubles_the_middle": 5,
    "unlisted_numbers_are_always_called_not_sent": 27,
}


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_no_story_breaks_an_invariant(first: int) -> None:
    """0 lost, 0 duplicated, 0 falsely accepted."""
    for seed in range(first, first + 25):
        simulate(seed)


@pytest.mark.parametrize("seed", [1, 2, 3, 6, 48])  # 6 and 48: workers that wait are cancelled in their order
def test_the_same_seed_tells_the_same_story(seed: int) -> None:
    """I6: so a violation can be looked at."""
    assert simulate(seed) == simulate(seed)


def test_there_are_at_least_twenty_bugs() -> None:
    """A simulation that finds nothing wrong may be blind."""
    assert len(BUGS) >= 20


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_mutation_is_found(bug: str) -> None:
    """Within 1,000 seeds."""
    for seed in [FOUND_AT.get(bug, 0), *range(1000)]:
        try:
            with BUGS[bug]():
                simulate(seed)
        except Violation:
            return
    pytest.fail(f"1,000 stories didn't show that {bug.replace('_', ' ')}")
