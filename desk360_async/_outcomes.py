"""Did it go out, and may it be sent again? The decision table of "Did it go out?", as one pure function.

A POST that starts can't be taken back, and the API has no idempotency key. So only a request that was
certainly not sent, or that is harmless to repeat, is retried automatically.
"""

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from attrs import define, field

from ._errors import Outcome


class Reach(enum.Enum):
    """How far a request without an answer got."""

    REFUSED = "refused by the HTTP library before a byte left"
    UNTRUSTED = "the server's certificate was refused"
    UNSTARTED = "its headers were never started"
    STARTED = "its headers were started, or it is unknown whether they were"


class Again(enum.Enum):
    """Whether the client repeats the attempt automatically."""

    NEVER = "no"
    WHEN_ALLOWED = "through the limiter, after the wait that the server asks for"
    BACKOFF = "after a backoff, within the attempts and the retry quota"


class Verdict(NamedTuple):
    """The outcome of an attempt, and whether the client may repeat it automatically."""

    outcome: Outcome
    again: Again


# A proxy or a timeout answers with these 4xx, and the application may have done its work (row 5).
_PROVES_NOTHING = frozenset({408, 409, 425, 499})

# The status that means the same as the code of an error in a 200 ("Error Codes"; ruling 25).
_STATUS_OF_CODE = {
    "failed_validation": 400,
    "authentication_exception": 401,
    "invalid_credentials": 401,
    "not_authorized": 403,
    "model_not_found_exception": 404,
    "not_found": 404,
    "not_found_exception": 404,
    "method_not_allowed_exception": 405,
    "insecure_request_exception": 426,
    "too_many_attempts": 429,
    "too_many_requests_exception": 429,
}


def status_of_code(code: str | None) -> int:
    """Return the status that an error's code stands for; 500 for any other code and for None (ruling 25)."""
    return _STATUS_OF_CODE.get(code or "", 500)


def verdict(evidence: int | Reach, *, idempotent: bool = False, replied: bool = False) -> Verdict:
    """Judge an attempt; the first row that matches wins.

    Args:
        evidence: the final status, or how far the request got if no status came.
        idempotent: whether the request may be repeated without harm (GETs and `mark_read`).
        replied: whether the body of a 2xx is the reply itself: an id, a file, or the list of a batch.
    """
    if isinstance(evidence, Reach):
        return _unanswered(evidence, idempotent=idempotent)
    if evidence // 100 == 2:
        return Verdict(Outcome.ACCEPTED if replied else Outcome.UNKNOWN, Again.NEVER)
    if evidence == 429:
        return Verdict(Outcome.NOT_SENT, Again.WHEN_ALLOWED)
    if evidence // 100 in (3, 4) and evidence not in _PROVES_NOTHING:
        return Verdict(Outcome.NOT_SENT, Again.NEVER)
    repeatable = idempotent and (evidence == 408 or evidence // 100 == 5)
    return Verdict(Outcome.UNKNOWN, Again.BACKOFF if repeatable else Again.NEVER)


def _unanswered(reach: Reach, *, idempotent: bool) -> Verdict:
    if reach is Reach.UNSTARTED:
        return Verdict(Outcome.NOT_SENT, Again.BACKOFF)
    if reach is Reach.STARTED:
        return Verdict(Outcome.UNKNOWN, Again.BACKOFF if idempotent else Again.NEVER)
    return Verdict(Outcome.NOT_SENT, Again.NEVER)


# ── how far a request got ─────────────────────────────────────────────────────────────────────────────────


@define(eq=False)
class Evidence:
    """httpcore's trace of one attempt: how far our own request got (a proxy's CONNECT doesn't count).

    Attributes:
        trusted: whether the transport is ours; only then a missing event proves something.
        handed: whether the HTTP library was given the request.
        seen: whether the library reported any event.
        starts: how often the headers were started; more than once if a user's transport tries again.
        refused: whether the library refused the request, before a byte left.
        deadline: the attempt's end by the loop's clock; a virtual transport reads it.
        status: the final status, once seen.
        stream: the network stream while TLS begins on it; no connection owns it then.
        headers: the raw header lines of the last answer.
        version: the HTTP version of the last answer, such as "1.1"; None where no trace gave it.
        before_close: called before the connection goes back to the pool.
    """

    trusted: bool = field(kw_only=True)
    handed: bool = False
    seen: bool = False
    refused: bool = False
    starts: int = 0
    status: int | None = None
    stream: Any = None
    deadline: float = math.inf
    headers: Sequence[tuple[bytes, bytes]] = ()
    version: str | None = None
    before_close: "Callable[[Evidence], None] | None" = None

    async def __call__(self, name: str, info: Mapping[str, Any]) -> None:
        self.seen = True
        event = name.partition(".")[2]  # behind "http11" or "connection"
        # A proxy's CONNECT goes to host:port, our own request to a path or a URL, with any method.
        if event == "send_request_headers.started" and b"/" in info["request"].url.target:
            self.starts += 1
        elif event == "send_request_headers.failed" and "LocalProtocol" in type(info["exception"]).__name__:
            # h11 refuses headers before it turns them into bytes, so this start doesn't count.
            self.refused = True
            self.starts = max(0, self.starts - 1)
        elif event == "connect_tcp.complete":
            self.stream = info["return_value"]
        elif event == "start_tls.complete":
            self.stream = None
        elif event == "receive_response_headers.complete":
            version, _, _, self.headers = info["return_value"][:4]
            self.version = version.decode("ascii", "replace").removeprefix("HTTP/")
        elif event == "response_closed.started" and self.before_close is not None:
            self.before_close(self)

    @property
    def reach(self) -> Reach:
        """How far the request got, by the evidence.

        A missing event proves something only on our own transport, and only if it reported another event.
        A mocked transport reports no event, even after the server read the body.
        """
        if not self.handed:
            return Reach.UNSTARTED
        if self.trusted and self.seen and not self.starts:
            return Reach.UNSTARTED
        return Reach.STARTED


class Unanswered(Exception):
    """No status came. Private: `connection_error` makes a `ConnectionFailed` of it."""

    def __init__(self, reach: Reach, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reach = reach
        self.reason = reason
        self.timed_out = timed_out


def orphans(pool: Any, evidence: Evidence) -> list[Any]:
    """Remove and return the connections of httpcore's pool that no live request owns, except idle ones.

    `Task.cancel` may come while httpcore closes the answer. The ended request and its connection then stay
    in the pool for ever. So this function first removes our request.
    """
    house = getattr(pool, "_connections", None), getattr(pool, "_requests", None)
    if not all(isinstance(part, list) for part in house):
        return []  # another transport, or a later httpcore without these lists
    connections, requests = cast("tuple[list[Any], list[Any]]", house)
    requests[:] = [r for r in requests if r.request.extensions.get("trace") is not evidence]
    owned = {id(getattr(request, "connection", None)) for request in requests}
    lost = [c for c in connections if id(c) not in owned and not c.is_idle() and not c.is_closed()]
    for connection in lost:
        connections.remove(connection)
    return lost
