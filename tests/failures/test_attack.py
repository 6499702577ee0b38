"""A sample of `nox -s attack`: campaigns killed over a vendor that misbehaves, and its table of modes."""

import os
from pathlib import Path

import pytest

from tests.failures.attack import Score, Target, attack, compare
from tests.failures.tcp_vendor import MODES

pytestmark = [pytest.mark.real, pytest.mark.processes]
BROKEN = ("lost", "sent_twice", "falsely_accepted", "falsely_not_sent")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
def test_killed_campaigns_keep_their_promises() -> None:
    """Single, bulk and with a file, over a vendor that mostly breaks its answers off."""
    score = attack(4, seed=3, modes=["half_an_answer"])
    assert score.campaigns >= 4  # an honest one first
    assert (score.kills, score.broken) == (4, 0)
    assert score.recipients == score.accepted + score.not_sent + score.unknown > 0


def test_the_vendor_has_at_least_33_modes() -> None:
    """Each has a name of its own."""
    assert len(MODES) >= 33


@pytest.mark.parametrize(
    ("state", "took", "said", "broken"),
    [
        ("accepted", 1, True, "none"),
        ("accepted", 1, False, "falsely_accepted"),
        ("accepted", 0, False, "falsely_accepted"),
        ("accepted", 2, True, "sent_twice"),
        ("not_sent", 0, False, "none"),
        ("not_sent", 1, False, "falsely_not_sent"),
        ("unknown", 1, False, "none"),
        ("unknown", 0, False, "none"),
        ("pending", 0, False, "lost"),
        (None, 1, True, "lost"),
    ],
)
def test_each_broken_promise_is_counted(
    monkeypatch: pytest.MonkeyPatch, state: str | None, took: int, said: bool, broken: str
) -> None:
    """By a recipient's state, and the vendor's record."""
    monkeypatch.setattr(Target, "states", lambda _: {} if state is None else {"+1": state})
    score = Score()
    compare(score, Target("", Path(), ["+1"], "single"), {"+1": took}, {"+1"} if said else set())
    counts = {kind: getattr(score, kind) for kind in BROKEN}
    assert counts == {kind: int(kind == broken) for kind in BROKEN}
    assert score.broken == (broken in BROKEN)
