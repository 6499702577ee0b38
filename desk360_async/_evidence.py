"""How far a request got, by httpcore's own trace, and what it left in httpcore's pool. No httpx here.

The exception's class is no proof: the same one comes whether the server did its work or not.
"""

from collections.abc import Mapping
from typing import Any, cast

from ._verdict import Reach


class Evidence:
    """httpcore's trace of one attempt: how far our own request got (a proxy's CONNECT doesn't count).

    Attributes:
        handed: whether the HTTP library was given the request.
        seen: whether it gave a trace at all.
        starts: how often the headers were started; more than once if a user's transport tries again.
        refused: whether the library refused what it was given, before a byte left.
        status: the final status, once seen.
        stream: the network stream while TLS begins on it; it belongs to nobody else then.
    """

    __slots__ = ("handed", "refused", "seen", "starts", "status", "stream", "trusted")
    handed: bool
    refused: bool
    seen: bool
    starts: int
    trusted: bool

    def __init__(self, *, trusted: bool) -> None:
        self.trusted = trusted
        self.handed = self.seen = self.refused = False
        self.starts = 0
        self.status: int | None = None
        self.stream: Any = None

    async def __call__(self, name: str, info: Mapping[str, Any]) -> None:
        self.seen = True
        # A proxy's CONNECT goes to host:port, our own request to a path or a URL, whatever its method.
        if name.endswith(".send_request_headers.started") and b"/" in info["request"].url.target:
            self.starts += 1
        elif (
            name.endswith(".send_request_headers.failed")
            and "LocalProtocol" in type(info["exception"]).__name__
        ):
            # h11 refuses headers before it has made bytes of them, so this start was none.
            self.refused = True
            self.starts = max(0, self.starts - 1)
        elif name.endswith(".connect_tcp.complete"):
            self.stream = info["return_value"]
        elif name.endswith(".start_tls.complete"):
            self.stream = None

    @property
    def reach(self) -> Reach:
        """How far it got, as far as anybody can say.

        Absence of evidence counts only on a transport of our own, and only if it was seen to give any:
        a mocked one gives none, even after the server read the body.
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
    """Remove from httpcore's pool, and return, the connections that no live request owns, idle ones aside.

    A request that ended stays in the pool for ever, its connection with it, if `Task.cancel` strikes while
    httpcore closes the answer: so ours is taken out first.
    """
    house = getattr(pool, "_connections", None), getattr(pool, "_requests", None)
    if not all(isinstance(part, list) for part in house):
        return []  # another transport, or a later httpcore that keeps its own house
    connections, requests = cast("tuple[list[Any], list[Any]]", house)
    requests[:] = [r for r in requests if r.request.extensions.get("trace") is not evidence]
    owned = {id(getattr(request, "connection", None)) for request in requests}
    lost = [c for c in connections if id(c) not in owned and not c.is_idle() and not c.is_closed()]
    for connection in lost:
        connections.remove(connection)
    return lost
