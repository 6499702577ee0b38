"""The verdict, exhaustively: every status, every reach, every kind of body."""

from itertools import product

import pytest

from desk360_async import Outcome
from desk360_async._outcomes import Again, Body, Reach, Verdict, verdict

ACCEPTED, NOT_SENT, UNKNOWN = Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.UNKNOWN

# Row by row as "Did it go out?" has it, written down a second time and in another way.
STATUSES = {
    **dict.fromkeys(range(100, 200), (UNKNOWN, "never", "never")),
    **dict.fromkeys(range(200, 300), (ACCEPTED, "never", "never")),
    **dict.fromkeys(range(300, 500), (NOT_SENT, "never", "never")),
    **dict.fromkeys(range(500, 600), (UNKNOWN, "never", "backoff")),
    408: (UNKNOWN, "never", "backoff"),
    409: (UNKNOWN, "never", "never"),
    425: (UNKNOWN, "never", "never"),
    429: (NOT_SENT, "when_allowed", "when_allowed"),
    499: (UNKNOWN, "never", "never"),
}
REACHES = {
    Reach.REFUSED: (NOT_SENT, "never", "never"),
    Reach.UNTRUSTED: (NOT_SENT, "never", "never"),
    Reach.UNSTARTED: (NOT_SENT, "backoff", "backoff"),
    Reach.STARTED: (UNKNOWN, "never", "backoff"),
}
BODIES = {
    (Body.USABLE, False): ACCEPTED,
    (Body.USABLE, True): ACCEPTED,
    (Body.UNUSABLE, False): ACCEPTED,
    (Body.UNUSABLE, True): UNKNOWN,
    (Body.ERROR, False): NOT_SENT,
    (Body.ERROR, True): NOT_SENT,
}


@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "idempotent"])
@pytest.mark.parametrize("evidence", [*STATUSES, *REACHES], ids=str)
def test_evidence(evidence: int | Reach, idempotent: bool) -> None:
    """Each status and each reach has the outcome and the retry of its row."""
    outcome, once, repeated = (STATUSES | REACHES)[evidence]  # type: ignore[operator]  # two kinds of keys
    again = Again[(repeated if idempotent else once).upper()]
    assert verdict(evidence, idempotent=idempotent) == Verdict(outcome, again)


@pytest.mark.parametrize(("said", "outcome"), BODIES.items(), ids=str)
def test_bodies(said: tuple[Body, bool], outcome: Outcome) -> None:
    """What the body of a 2xx says decides, for bulk otherwise than for one recipient; never a retry."""
    body, lists_taken = said
    judged = {
        verdict(status, body=body, lists_taken=lists_taken, idempotent=idempotent)
        for status, idempotent in product(range(200, 300), (False, True))
    }
    assert judged == {Verdict(outcome, Again.NEVER)}


def test_bodies_of_others() -> None:
    """The body changes nothing where the status is no success."""
    for evidence, body, bulk in product([*REACHES, 199, 300, 429, 500], Body, (False, True)):
        assert verdict(evidence, body=body, lists_taken=bulk) == verdict(evidence)


def test_beyond() -> None:
    """A status that HTTP doesn't have proves nothing, and is never a reason to repeat."""
    for status in (0, 99, 600, 999):
        assert verdict(status, idempotent=True) == Verdict(UNKNOWN, Again.NEVER)


def test_promise() -> None:
    """What may have gone out is repeated only where that does no harm."""
    for evidence, body, bulk in product([*STATUSES, *REACHES], Body, (False, True)):
        judged = verdict(evidence, body=body, lists_taken=bulk)
        assert judged.outcome is NOT_SENT or judged.again is Again.NEVER


def test_defaults() -> None:
    """Unless told otherwise, nothing may be repeated, the body is usable, a status says who was taken."""
    assert verdict(500) == verdict(500, idempotent=False)
    assert verdict(200) == verdict(200, body=Body.USABLE)
    assert verdict(200, body=Body.UNUSABLE).outcome is ACCEPTED
