"""Did it go out, and may it be sent again? The decision table of "Did it go out?", as one pure function.

A POST that starts can't be taken back, and the API has no idempotency key. So an automatic retry is
for what was certainly not sent, and for what may be repeated without harm.
"""

import enum
from typing import NamedTuple

from ._errors import Outcome


class Reach(enum.Enum):
    """How far a request without an answer got."""

    REFUSED = "refused by the HTTP library before a byte left"
    UNTRUSTED = "the server's certificate was refused"
    UNSTARTED = "its headers were never started"
    STARTED = "its headers were started, or nobody can say"


class Body(enum.Enum):
    """What the body of a 2xx said."""

    USABLE = "the reply"
    UNUSABLE = "nothing that can be read as the reply"
    ERROR = "an error, and no id beside it"


class Again(enum.Enum):
    """Whether to try once more by ourselves."""

    NEVER = "no"
    WHEN_ALLOWED = "through the limiter, after the wait that the server asks for"
    BACKOFF = "after a while, within the attempts and the quota"


class Verdict(NamedTuple):
    """What became of an attempt, and whether it may be repeated unasked."""

    outcome: Outcome
    again: Again


# 4xx that a proxy or a timeout answers while the application may have done its work (row 5).
_PROVES_NOTHING = frozenset({408, 409, 425, 499})


def verdict(
    evidence: int | Reach, *, idempotent: bool = False, body: Body = Body.USABLE, lists_taken: bool = False
) -> Verdict:
    """Judge an attempt; the first row that matches wins.

    Args:
        evidence: the final status, or how far the request got where there is none.
        idempotent: whether repeating it does no harm (GETs and `mark_read`).
        body: what the body of a 2xx said.
        lists_taken: whether the answer alone says who was taken (bulk).
    """
    if isinstance(evidence, Reach):
        return _unanswered(evidence, idempotent=idempotent)
    if 200 <= evidence < 300:
        return Verdict(_accepted(body, lists_taken=lists_taken), Again.NEVER)
    if evidence == 429:
        return Verdict(Outcome.NOT_SENT, Again.WHEN_ALLOWED)
    if 300 <= evidence < 500 and evidence not in _PROVES_NOTHING:
        return Verdict(Outcome.NOT_SENT, Again.NEVER)
    repeatable = idempotent and (evidence == 408 or 500 <= evidence < 600)
    return Verdict(Outcome.UNKNOWN, Again.BACKOFF if repeatable else Again.NEVER)


def _accepted(body: Body, *, lists_taken: bool) -> Outcome:
    if body is Body.ERROR:
        return Outcome.NOT_SENT
    if body is Body.UNUSABLE and lists_taken:
        return Outcome.UNKNOWN
    return Outcome.ACCEPTED


def _unanswered(reach: Reach, *, idempotent: bool) -> Verdict:
    if reach is Reach.UNSTARTED:
        return Verdict(Outcome.NOT_SENT, Again.BACKOFF)
    if reach is Reach.STARTED:
        return Verdict(Outcome.UNKNOWN, Again.BACKOFF if idempotent else Again.NEVER)
    return Verdict(Outcome.NOT_SENT, Again.NEVER)
