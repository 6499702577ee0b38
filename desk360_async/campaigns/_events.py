"""What a running campaign tells: frozen values made for `match`."""

from typing import Literal

from attrs import frozen

from desk360_async import Desk360Error
from desk360_async.campaigns._states import Counts, Kind

End = Literal["finished", "stopped", "interrupted", "failures", "refused", "unreachable", "ledger", "opt_out"]


@frozen
class Progress:
    """How far the campaign is; after every result.

    Attributes:
        counts: recipients by state.
        requests_left: how many are still needed, as far as can be told.
        rate: recipients a second, over this run.
        eta: seconds until it is finished, at the pace of the rate limit; None before the first answer.
    """

    counts: Counts
    requests_left: int
    rate: float
    eta: float | None


@frozen
class BatchResult:
    """One request has ended, and its result is in the ledger.

    Attributes:
        batch: the batch's number, as `resolve` takes it.
        kind: "bulk" or "single".
        recipients: how many the request had.
        accepted: how many Desk360 took.
        not_sent: how many were certainly not sent, and aren't tried again.
        unknown: how many may have been sent.
        skipped: how many had opted out, and were left out.
        again: how many are pending as before: they are tried again, or judged once it is known whether the
            server accepts others.
        error: why it failed, if it did.
    """

    batch: int
    kind: Kind
    recipients: int
    accepted: int = 0
    not_sent: int = 0
    unknown: int = 0
    skipped: int = 0
    again: int = 0
    error: Desk360Error | None = None


@frozen
class Paused:
    """Nothing is sent for a while.

    Attributes:
        reason: "rate_limit" (the server said 429), "unreachable" (no connection), or "asked" (`pause`).
        seconds: for how many seconds, or None if nobody knows.
    """

    reason: Literal["rate_limit", "unreachable", "asked"]
    seconds: float | None


@frozen
class Done:
    """The run has ended; the last event of all.

    Attributes:
        end: "finished": everybody is in a final state. Anything else can be resumed: "stopped" (`stop`, or
            the block was left), "interrupted" (a signal), "failures" (more than `max_failures`), "refused"
            (for what is nobody's own fault: the key, the template, a file that is gone; or everybody is
            refused, and the server doesn't say why), "unreachable" (no usable answer, five times in a row),
            "ledger" (it can't be written), "opt_out" (the list can't be read).
        counts: recipients by state.
        reason: why, in a sentence; empty when finished.
    """

    end: End
    counts: Counts
    reason: str = ""


Event = Progress | BatchResult | Paused | Done
"""What a run tells, made for `match`; `Done` comes last."""
