"""The verdict, exhaustively: every status, every reach, with the reply and without it, every code."""

from itertools import product

import pytest

from desk360_async import Outcome
from desk360_async._outcomes import Again, Reach, Verdict, status_of_code, verdict

ACCEPTED, NOT_SENT, UNKNOWN = Outcome.ACCEPTED, Outcome.NOT_SENT, Outcome.UNKNOWN

# Row by row as "Did it go out?" has it, written down a second time and in another way.
STATUSES = {
    **dict.fromkeys(range(100, 200), (UNKNOWN, "never", "never")),
    **dict.fromkeys(range(200, 300), (UNKNOWN, "never", "never")),
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
CODES = {
    "failed_validation": 400,
    "authentication_exception": 401,
    "invalid_credentials": 401,
    "not_authorized": 403,
    "not_found": 404,
    "not_found_exception": 404,
    "model_not_found_exception": 404,
    "method_not_allowed_exception": 405,
    "insecure_request_exception": 426,
    "too_many_requests_exception": 429,
    "too_many_attempts": 429,
    "internal_server_error": 500,
    "1001": 500,
    "": 500,
    None: 500,
}


@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "idempotent"])
@pytest.mark.parametrize("evidence", [*STATUSES, *REACHES], ids=str)
def test_evidence(evidence: int | Reach, idempotent: bool) -> None:
    """Each status and each reach has the outcome and the retry of its row."""
    outcome, once, repeated = (STATUSES | REACHES)[evidence]  # type: ignore[operator]  # two kinds of keys
    again = Again[(repeated if idempotent else once).upper()]
    assert verdict(evidence, idempotent=idempotent) == Verdict(outcome, again)


@pytest.mark.parametrize(("replied", "outcome"), [(True, ACCEPTED), (False, UNKNOWN)])
def test_a_2xx_is_accepted_only_with_the_reply_itself(replied: bool, outcome: Outcome) -> None:
    """Rows 1 and 1b; neither is ever repeated."""
    judged = {
        verdict(status, replied=replied, idempotent=idempotent)
        for status, idempotent in product(range(200, 300), (False, True))
    }
    assert judged == {Verdict(outcome, Again.NEVER)}


def test_without_a_2xx_the_reply_changes_no_verdict() -> None:
    for evidence in [*REACHES, 199, 300, 429, 500]:
        assert verdict(evidence, replied=True) == verdict(evidence)


@pytest.mark.parametrize(("code", "status"), CODES.items(), ids=str)
def test_an_errors_code_stands_for_the_status_of_the_same_meaning(code: str | None, status: int) -> None:
    """Row 1a: the documented refusals prove that nothing was sent; other codes prove nothing."""
    assert status_of_code(code) == status
    assert verdict(status).outcome is (UNKNOWN if status == 500 else NOT_SENT)


def test_a_status_outside_http_proves_nothing_and_is_never_repeated() -> None:
    for status in (0, 99, 600, 999):
        assert verdict(status, idempotent=True) == Verdict(UNKNOWN, Again.NEVER)


def test_only_a_send_that_surely_failed_is_repeated() -> None:
    for evidence, replied in product([*STATUSES, *REACHES], (False, True)):
        judged = verdict(evidence, replied=replied)
        assert judged.outcome is NOT_SENT or judged.again is Again.NEVER


def test_by_default_a_request_may_not_be_repeated_and_has_no_reply() -> None:
    assert verdict(500) == verdict(500, idempotent=False)
    assert verdict(200) == verdict(200, replied=False)
