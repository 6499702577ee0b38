"""What is going to happen, before anything does: requests, minutes, warnings. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from attrs import frozen

from desk360_async import RateLimitStatus
from desk360_async.campaigns._states import Counts


@frozen
class Plan:
    """What sending the rest of a campaign takes.

    Attributes:
        recipients: how many were loaded, in sum.
        pending: how many are still to be sent.
        groups: sets of equal parameters.
        bulk_requests: requests to `send/bulk`.
        single_requests: requests to `send`.
        left_out: reason → rows that were skipped when loading; `skipped` lists them with their lines.
        limit: requests a period, as known now.
        period: seconds.
        finish: when the last request would go out if it were started now, in UTC.
        warnings: what one should know before; each a sentence or two.
    """

    recipients: int
    pending: int
    groups: int
    bulk_requests: int
    single_requests: int
    left_out: Mapping[str, int]
    limit: int
    period: float
    finish: datetime
    warnings: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """How many requests of the rate limit it takes, if nothing is refused."""
        return self.bulk_requests + self.single_requests

    @property
    def seconds(self) -> float:
        """How many seconds that takes at the present limit."""
        return self.tokens * self.period / self.limit

    @property
    def minutes(self) -> float:
        """How many minutes that takes at the present limit: `seconds / 60`."""
        return self.seconds / 60


def make_plan(
    counts: Counts,
    needed: list[tuple[str, int, int]],
    groups: int,
    left_out: Mapping[str, int],
    rate: RateLimitStatus,
    now: float,
) -> Plan:
    """Return the plan for what a ledger holds.

    Args:
        counts: recipients by state.
        needed: (kind, requests, recipients) of what is pending.
        groups: sets of equal parameters.
        left_out: reason → rows.
        rate: the client's.
        now: the wall clock's seconds.
    """
    requests = {kind: number for kind, number, _ in needed}
    bulk, single = requests.get("bulk", 0), requests.get("single", 0)
    seconds = (bulk + single) * rate.period / rate.limit
    return Plan(
        recipients=counts.total,
        pending=counts.pending,
        groups=groups,
        bulk_requests=bulk,
        single_requests=single,
        left_out=left_out,
        limit=rate.limit,
        period=rate.period,
        finish=datetime.fromtimestamp(now, UTC) + timedelta(seconds=min(seconds, 1e9)),
        warnings=tuple(_warnings(counts, bulk, single, seconds, left_out)),
    )


def _warnings(
    counts: Counts, bulk: int, single: int, seconds: float, left_out: Mapping[str, int]
) -> list[str]:
    said: list[str] = []
    requests = bulk + single
    if requests > 100 and requests > counts.pending / 2:
        said.append(
            f"{requests:,} requests for {counts.pending:,} recipients: their parameters are (nearly) all "
            f"different, so bulk requests can't help, and it takes {spell(seconds)}. Recipients with equal "
            "parameters share requests: leave out of the template what differs, such as a name."
        )
    elif seconds > 86_400:
        said.append(f"At the present limit this takes {spell(seconds)}.")
    if counts.unknown:
        said.append(
            f"{counts.unknown:,} recipients are unknown: they may have been sent to, and are not sent to "
            "again unless you resolve them."
        )
    if left_out:
        rows = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
        said.append(f"Left out when loading: {rows}.")
    return said


def spell(seconds: float) -> str:
    """Return a duration as people say it."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
