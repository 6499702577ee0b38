"""Every failure of the matrix, over real sockets: the error, the outcome, and what the server really got."""

import pytest

from tests.failures.matrix import check, play
from tests.failures.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.real


@pytest.mark.anyio
@pytest.mark.parametrize("scenario", [pytest.param(s, id=s.name) for s in SCENARIOS])
async def test_outcome(scenario: Scenario) -> None:
    """The send comes to what the server knows."""
    check(await play(scenario))


def test_size() -> None:
    """There are at least 140 scenarios, each with a name of its own."""
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS) >= 140
