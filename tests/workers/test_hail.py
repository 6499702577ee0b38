"""Samples of the long runs: kills of workers and a restart of the database, with the counts of each."""

import pytest
from attrs import astuple

from tests.campaigns import hail
from tests.postgres import Cluster
from tests.workers import outbox

pytestmark = pytest.mark.real


@pytest.mark.usefixtures("dsn")
def test_shares_survive_kills_and_a_restart(postgres: Cluster) -> None:
    found = hail.hail(postgres, kills=2, restarts=1, recipients=3000, way="procrastinate")
    assert (found.kills, found.restarts) == (2, 1)
    assert astuple(found)[2:8] == (0,) * 6
    assert set(found.states) <= {"accepted", "unknown"}


@pytest.mark.usefixtures("dsn")
def test_deferred_sends_survive_kills(postgres: Cluster) -> None:
    found = outbox.play(postgres, defers=300, kills=1)
    assert found.kills == 1
    assert astuple(found)[3:9] == (0,) * 6
    assert sum(found.states.values()) == found.committed == 200
