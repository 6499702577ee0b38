"""The values of campaigns: batches, results, counts, plans, reports, events and errors. No I/O, no SQL."""

import re
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from attrs import evolve, field, frozen

from desk360_async import Desk360Error
from desk360_async._phones import PROBLEMS, Reader
from desk360_async._redaction import show_half_made


class CampaignError(Desk360Error):
    """A campaign can't be loaded, run or resolved as asked; nothing is sent. The message names the fix."""


class LedgerError(CampaignError):
    """The ledger can't be used, or failed during use: no request is sent from then on.

    Requests that were on the wire at the failure become `unknown` when the campaign is resumed.
    """


# ── batches and their ends ──────────────────────────────────────────────────────────────────────────────

Kind = Literal["bulk", "single"]
Strategy = Literal["auto", "bulk", "single"]
NotListed = Literal["unknown", "not_sent"]
State = Literal["pending", "intent", "accepted", "not_sent", "unknown", "skipped"]


# Reason → words.
_WORDS = {
    "crash": "on the wire when the process ended",
    "duplicate": "phone: the same as in an earlier line",
    "interrupted": "on the wire when it was interrupted",
    "invalid_phone": "no phone number",
    "not_listed": "not listed in the answer",
    "opted_out": "opted out",
    "parameters_changed": "is planned already, with other parameters",
    "resolved": "resolved by hand",
    "too_many_cells": "more cells than the header has",
    "ConnectionFailed": "the connection failed before an answer came",
}
_WORDS_OF_VARIABLE = {
    "invalid_parameter": "no text that can be sent",
    "missing_parameter": "the cell is empty; the customer would read a gap",
    "unknown_parameters": "the template has no such variable",
}
_REFUSAL = re.compile(r"[A-Z]\w+ (?P<status>[0-9]{3})(?: (?P<code>\w+))?")


def words_for(reason: str, phone: str | None = None, region: str | None = None) -> str:
    """Return a ledger's reason in plain words.

    Args:
        reason: a slug, such as "invalid_phone: letters" or "missing_parameter: body-1". A reason that is in
            words already is returned unchanged.
        phone: the text that was refused as a phone number. If it is given, the words contain the fix.
        region: the region by which that text was read.
    """
    slug, _, detail = reason.partition(": ")
    if slug in _WORDS_OF_VARIABLE and detail:
        return f"{detail}: {_WORDS_OF_VARIABLE[slug]}"
    if refusal := _REFUSAL.fullmatch(reason):
        return f"HTTP {refusal['status']}" + (f" ({refusal['code']})" if refusal["code"] else "")
    if slug != "invalid_phone":
        return _WORDS.get(reason, reason)
    problem = None if phone is None else Reader(region).judge(phone)[1]
    cause = problem or PROBLEMS.get(detail)
    return f"{_WORDS[slug]}: {cause}" if cause else _WORDS[slug]


@frozen
class Batch:
    """Recipients with equal parameters that one request reaches. A crash can make all of them unknown.

    Attributes:
        id: its number in the ledger.
        kind: "bulk" (`send/bulk`) or "single" (`send`).
        members: phones as numbers, in ascending order.
        parameters: variable → text, shared by all.
        parameter_set: the set's number in the ledger.
    """

    id: int
    kind: Kind
    members: tuple[int, ...] = field(repr=lambda members: f"<{len(members)}>")
    parameters: Mapping[str, str] = field(repr=lambda given: f"<{len(given)}>")
    parameter_set: int


def pack(members: Sequence[int]) -> bytes:
    """Return phones as the ledger holds them: 8 bytes each, little-endian."""
    if isinstance(members, array) and sys.byteorder == "little":
        return members.tobytes()
    return struct.pack(f"<{len(members)}Q", *members)


def unpack(packed: bytes) -> tuple[int, ...]:
    """Return the phones in bytes that `pack` returned, as numbers."""
    return struct.unpack(f"<{len(packed) // 8}Q", packed)


def holds(packed: bytes, phone: int) -> bool:
    """Return whether packed phones, in ascending order, hold this one.

    It takes 1 µs; unpacking 500 phones takes 15 µs.
    """
    # A view is read in the machine's byte order; the ledger's is little-endian.
    members = memoryview(packed).cast("Q") if sys.byteorder == "little" else unpack(packed)
    place = bisect_left(members, phone)
    return place < len(members) and members[place] == phone


@frozen
class Result:
    """How one attempt at a batch ended.

    Attributes:
        state: the state of its recipients; "pending" if they are to be tried again.
        reason: why, in a word or a sentence, without phone numbers.
        message_id: the vendor's id of the message; only a single send has one.
        unlisted: numbers that the answer to a bulk send didn't list.
        unlisted_state: their state: "unknown" or "not_sent".
        halve: whether to try the batch again as two halves.
        suspicious: whether several such results in a row show a cause other than the recipients.
        stop: why the campaign must stop, if it must.
        pause: whether the server asked to wait (429).
        silent: whether no usable answer came.
    """

    state: State
    reason: str | None = None
    message_id: str | None = None
    unlisted: tuple[int, ...] = ()
    unlisted_state: NotListed = "unknown"
    halve: bool = False
    suspicious: bool = False
    stop: str | None = None
    pause: bool = False
    silent: bool = False


@frozen
class Counts:
    """The number of recipients in each state; `total` is the sum.

    Attributes:
        pending: not tried yet, or to be tried again.
        on_the_wire: their request is under way, or was under way when the process ended.
        accepted: Desk360 accepted them. Webhooks report whether WhatsApp delivered the message.
        not_sent: certainly not sent, and not tried again.
        unknown: may have been sent; not tried again unless you ask for it (`resolve`).
        skipped: left out while the campaign ran, since they opted out.
    """

    pending: int = 0
    on_the_wire: int = 0
    accepted: int = 0
    not_sent: int = 0
    unknown: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """All recipients that were loaded."""
        return self.pending + self.on_the_wire + self.finished

    @property
    def finished(self) -> int:
        """Recipients in a state that the campaign no longer changes."""
        return self.accepted + self.failures + self.skipped

    @property
    def failures(self) -> int:
        """Recipients that were not sent or are unknown."""
        return self.not_sent + self.unknown

    def after(self, result: "BatchResult") -> "Counts":
        """Return the counts once a result is in the ledger."""
        ended = result.accepted + result.not_sent + result.unknown + result.skipped
        return evolve(
            self,
            pending=self.pending - ended,
            accepted=self.accepted + result.accepted,
            not_sent=self.not_sent + result.not_sent,
            unknown=self.unknown + result.unknown,
            skipped=self.skipped + result.skipped,
        )


@frozen
class Settings:
    """The settings that a ledger pins for a campaign, so that a wrong argument can't send another message.

    Attributes:
        name: the campaign's name.
        base_url: the server's address.
        integration: the integration's id.
        template: the template's id.
        template_name: the template's name.
        language: the language's id.
        language_name: the language's label.
        variables: the template's variables, in the template's order.
        mapping: variable, and "phone", → the CSV file's column; empty for iterables.
        attachment: the file's name and size, if there is one.
        strategy: "auto", "bulk" or "single". This and the two settings below are stored; a later load may
            change them.
        batch_size: the most recipients of a bulk request.
        not_listed: the state of a number that a bulk answer doesn't list: "unknown" or "not_sent".
    """

    name: str
    base_url: str
    integration: int
    template: int
    template_name: str | None
    language: int
    language_name: str | None
    variables: tuple[str, ...]
    mapping: Mapping[str, str]
    attachment: str | None
    strategy: Strategy = field(eq=False)
    batch_size: int = field(eq=False)
    not_listed: NotListed = field(eq=False)


@frozen
class Report:
    """The result of a campaign.

    Attributes:
        name: the campaign's name.
        counts: recipients by state.
        reasons: (state, reason) → recipients, where there is a reason.
        left_out: reason → rows that were skipped when the campaign was loaded; `skipped` has the details.
        requests: how many requests were made, template look-ups included.
        started: when the first request began, in UTC.
        ended: when the last one ended, in UTC.
        delivered: recipients whom WhatsApp reached, according to the webhooks.
        read: delivered recipients who read the message.
        failed: recipients whom WhatsApp could not reach.
        resolutions: how unknowns were resolved, one line each, oldest first.
        timeline: (seconds since 1970, recipients of answered requests) in at most 300 steps, oldest first.
    """

    name: str
    counts: Counts
    reasons: Mapping[tuple[str, str], int]
    left_out: Mapping[str, int]
    requests: int
    started: datetime | None
    ended: datetime | None
    delivered: int
    read: int
    failed: int
    resolutions: tuple[str, ...]
    timeline: tuple[tuple[float, int], ...] = ()

    def minutes(self) -> list[tuple[float, float]]:
        """Return the recipients of each minute of the timeline: (the minute's start, recipients)."""
        found: dict[float, float] = {}
        for at, recipients in self.timeline:
            minute = at - (at - self.timeline[0][0]) % 60
            found[minute] = found.get(minute, 0.0) + recipients
        return sorted(found.items())

    def recipients_a_minute(self, limit: int = 60) -> int:
        """Return how many recipients per minute a rate limit allows, at the mean size of the requests so far.

        Args:
            limit: requests per minute; the vendor documents 60.
        """
        if not self.requests:
            return limit
        return round(limit * max(1.0, self.counts.finished / self.requests))

    def to_html(self, limit: int = 60) -> str:
        """Return the report as one HTML document: plots and tables, without scripts and phones.

        Args:
            limit: requests per minute that the server allows; a line in the plot of recipients per minute.
        """
        from desk360_async.campaigns._html import render  # few programs need it

        return render(self, limit)


@frozen
class News:
    """The decisions that all runs of a campaign share, as one heartbeat reads them from the database.

    Attributes:
        state: "running", "paused", "stopped" (by a person) or "ended" (by a run).
        end: the end of the run that ended the campaign.
        reason: the reason of the pause or the end.
        counts: recipients by state.
    """

    state: str
    end: str
    reason: str
    counts: Counts


# ── resolutions ────────────────────────────────────────────────────────────────────────────────────────

Decision = Literal["accepted", "not_sent", "resend"]
Resolvable = Literal["unknown", "not_sent", "failed"]


@frozen
class Scope:
    """The recipients that a resolution applies to: some phones, a batch, or all.

    Attributes:
        phones: as numbers; None for all.
        batch: its number; None for all batches.
        state: only recipients in this state. None means "unknown"; for a resend, also "not_sent".
    """

    phones: frozenset[int] | None = None
    batch: int | None = None
    state: Resolvable | None = None

    def states(self, decision: Decision) -> tuple[Resolvable, ...]:
        """Return the states that a decision applies to.

        A resend includes "not_sent", since such recipients can be sent to safely.
        """
        if self.state is not None:
            return (self.state,)
        return ("unknown", "not_sent") if decision == "resend" else ("unknown",)

    @property
    def overrides(self) -> bool:
        """Whether the scope includes recipients that a person resolved as not sent."""
        return self.phones is not None or self.state is not None

    def __str__(self) -> str:
        if self.phones is not None:
            return "by phone"
        return "all" if self.batch is None else f"of batch {self.batch}"


# ── plans ───────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Plan:
    """The requests and the time that the rest of a campaign takes.

    Attributes:
        recipients: how many were loaded, in total.
        pending: how many are still to be sent.
        groups: sets of equal parameters.
        bulk_requests: requests to `send/bulk`.
        single_requests: requests to `send`.
        left_out: reason → rows that were skipped when loading; `skipped` lists them with line and detail.
        limit: requests per period, as known now.
        period: the period in seconds.
        finish: when the last request goes out if the campaign starts now, in UTC. `campaign.plan` takes the
            sending hours into account.
        warnings: sentences to read before sending; each warning has one or two.
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
        """How many requests of the rate limit the campaign takes, if each request is accepted."""
        return self.bulk_requests + self.single_requests

    @property
    def seconds(self) -> float:
        """How many seconds these requests take at the present limit."""
        return self.tokens * self.period / self.limit

    @property
    def minutes(self) -> float:
        """How many minutes these requests take at the present limit: `seconds / 60`."""
        return self.seconds / 60


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────

End = Literal["finished", "stopped", "interrupted", "failures", "refused", "unreachable", "ledger", "opt_out"]


@frozen
class Progress:
    """How far the campaign is. One such event follows every result.

    Attributes:
        counts: recipients by state.
        requests_left: an estimate of the requests that are still needed.
        rate: recipients per second, over this run.
        eta: seconds until the campaign is finished; None before the first answer. It takes the rate limit and
            the pauses outside the sending hours into account.
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
        again: how many are still pending. They are tried again, or are judged when it is known whether the
            server accepts other recipients.
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
    """The run pauses: no request is sent meanwhile.

    Attributes:
        reason: "rate_limit" (the server answered 429), "unreachable" (no connection), "asked" (`pause`),
            "hours" (outside the sending hours), or "interrupted" (a signal stops the run; the requests on the
            wire finish).
        seconds: the length of the pause in seconds; None if it isn't known.
    """

    reason: Literal["rate_limit", "unreachable", "asked", "hours", "interrupted"]
    seconds: float | None


@frozen
class Done:
    """The run has ended; the last event of all.

    Attributes:
        end: "finished": all recipients are in a final state. A run with another end can be resumed: "stopped"
            (`stop`, or the block was left), "interrupted" (a signal), "failures" (more than `max_failures`),
            "refused" (the key, the template or a missing file is the cause, or the server refuses all
            recipients without a reason), "unreachable" (no usable answer, five times in a row), "ledger" (the
            ledger can't be written), "opt_out" (the opt-out list can't be read).
        counts: recipients by state.
        reason: why, in a sentence; empty when finished.
    """

    end: End
    counts: Counts
    reason: str = ""


Event = Progress | BatchResult | Paused | Done
"""The events that a run yields, made for `match`; `Done` is the last."""


@frozen
class Attempt:
    """One request for a batch, after its result is stored in the ledger.

    Attributes:
        batch: the batch.
        recipients: the number of recipients in the request.
        skipped: the number of members that opted out meanwhile.
        result: how the request ended; None if there was none, such as when every member had opted out.
        following: the batches that are still to be sent after it, such as the halves of this one.
        error: the failure, if the request failed.
    """

    batch: Batch
    recipients: int
    skipped: int
    result: Result | None
    following: list[Batch] = field(factory=list["Batch"])
    error: Desk360Error | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether a recipient was refused alone, and the server gave no reason."""
        result = self.result
        return result is not None and result.suspicious and result.state == "pending" and not result.halve

    @property
    def event(self) -> BatchResult:
        """The event that the run yields for this attempt."""
        event = BatchResult(
            self.batch.id, self.batch.kind, self.recipients, skipped=self.skipped, error=self.error
        )
        result, size = self.result, self.recipients
        if result is None:
            return event
        if result.state == "pending":
            return evolve(event, again=size)
        if result.state != "accepted":
            unknown = size if result.state == "unknown" else 0
            return evolve(event, not_sent=size - unknown, unknown=unknown)
        unlisted = len(result.unlisted)
        refused = unlisted if result.unlisted_state == "not_sent" else 0
        return evolve(event, accepted=size - unlisted, not_sent=refused, unknown=unlisted - refused)


show_half_made(globals())
