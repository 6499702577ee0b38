"""`desk360 limits`: the rate limit, as both sides see it."""

from ._options import DEFAULTS, Common
from ._session import Session, limiter_path, run

__all__ = ["limits"]

_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "retry-after", "x-ratelimit-reset")


def limits(*, path: bool = False, common: Common = DEFAULTS) -> int:
    """Show the rate limit as the server and as this machine counts it; costs one request.

    Args:
        path: Only print the file in which live commands share the limit. An app on this machine shares it by
            `HostLimiter(PATH)`. Costs no request.
        common: Shared.
    """
    if path:
        print(limiter_path(common) or "off")
        return 0

    async def work(session: Session) -> int:
        answer = await session.client.request("GET", "integrations")
        ours = session.client.rate_limit
        said = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
        paused = None if ours.paused_until is None else max(0.0, ours.paused_until - ours.as_of)
        if session.terminal.json:
            counts = {"limit": ours.limit, "period": ours.period, "reserve": ours.reserve, "free": ours.free}
            waits = {"in_flight": ours.in_flight, "next_token": ours.next_token, "paused_for": paused}
            session.terminal.data({"server": said, "client": counts | waits})
            return 0
        rows = [
            ("requests a period", said.get("x-ratelimit-limit"), f"{ours.limit} in {ours.period:g} s"),
            ("free now", said.get("x-ratelimit-remaining"), ours.free),
            ("kept for interactive sends", None, ours.reserve),
            ("seconds to the next token", said.get("retry-after"), f"{ours.next_token:.1f}"),
            ("paused for seconds", None, None if paused is None else f"{paused:.1f}"),
        ]
        session.terminal.table(("", "Server", "Client"), rows)
        return 0

    return run(common, work)
