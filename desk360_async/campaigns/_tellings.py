"""What an attempt's end means to whoever watches: events and counts out of it. Pure."""

from attrs import evolve

from desk360_async.campaigns._dispatch import Delivered
from desk360_async.campaigns._events import BatchResult
from desk360_async.campaigns._states import Counts


def result_of(delivered: Delivered) -> BatchResult:
    """Return what an attempt's end is to the reader."""
    batch, result = delivered.batch, delivered.result
    told = BatchResult(batch.id, batch.kind, delivered.sent, skipped=delivered.skipped, error=delivered.error)
    if result is None:
        return told
    if result.state == "pending":
        return evolve(told, again=delivered.sent)
    if result.state != "accepted":
        unknown = result.state == "unknown"
        return evolve(
            told, not_sent=0 if unknown else delivered.sent, unknown=delivered.sent if unknown else 0
        )
    unlisted = len(result.unlisted)
    refused = unlisted if result.unlisted_state == "not_sent" else 0
    return evolve(told, accepted=delivered.sent - unlisted, not_sent=refused, unknown=unlisted - refused)


def counted(counts: Counts, told: BatchResult) -> Counts:
    """Return the counts once a result is in the ledger."""
    ended = told.accepted + told.not_sent + told.unknown + told.skipped
    return evolve(
        counts,
        pending=counts.pending - ended,
        accepted=counts.accepted + told.accepted,
        not_sent=counts.not_sent + told.not_sent,
        unknown=counts.unknown + told.unknown,
        skipped=counts.skipped + told.skipped,
    )
