"""What a campaign's ledger holds, as values: batches, results, counts. No I/O, no SQL."""

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from attrs import field, frozen

Kind = Literal["bulk", "single"]
Strategy = Literal["auto", "bulk", "single"]
NotListed = Literal["unknown", "not_sent"]
State = Literal["pending", "intent", "accepted", "not_sent", "unknown", "skipped"]


@frozen
class Batch:
    """Recipients with equal parameters that one request reaches: what one crash can make unknown.

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


def pack(members: tuple[int, ...] | list[int]) -> bytes:
    """Return phones as the ledger holds them: 8 bytes each, little-endian."""
    return struct.pack(f"<{len(members)}Q", *members)


def unpack(packed: bytes) -> tuple[int, ...]:
    """Return what `pack` took."""
    return struct.unpack(f"<{len(packed) // 8}Q", packed)


@frozen
class Result:
    """How one attempt at a batch ended.

    Attributes:
        state: what it makes of its recipients; "pending" if they are to be tried again.
        reason: why, in a word or a sentence, without phone numbers.
        message_id: the vendor's, of a single send.
        unlisted: numbers that the answer to a bulk send didn't list.
        unlisted_state: what those become: "unknown" or "not_sent".
        halve: whether the batch is to be tried again as two halves.
        suspicious: whether many of these in a row mean that it isn't the recipients' fault.
        stop: why the campaign must stop, if it must.
        pause: whether the server asked to wait (429).
        silent: whether no usable answer came at all.
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
    """How many recipients are in which state; `total` is their sum.

    Attributes:
        pending: not tried yet, or to be tried again.
        on_the_wire: their request is under way, or was when the process ended.
        accepted: Desk360 took them; whether WhatsApp delivered comes by webhook.
        not_sent: certainly not sent, and not tried again.
        unknown: may have been sent; not tried again unless you say so (`resolve`).
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
        """Those in a state that the campaign doesn't change any more."""
        return self.accepted + self.failures + self.skipped

    @property
    def failures(self) -> int:
        """Those not sent or unknown."""
        return self.not_sent + self.unknown


@frozen
class Settings:
    """What a ledger pins for a campaign's name, so that a slip can't send something else under it.

    Attributes:
        name: the campaign's.
        base_url: the server's.
        integration: its id.
        template: its id.
        template_name: its name.
        language: its id.
        language_name: its label.
        variables: the template's, in its order.
        mapping: variable, and "phone", → the CSV file's column; empty for iterables.
        attachment: the file's name and size, if there is one.
        strategy: "auto", "bulk" or "single"; this and what follows are only remembered.
        batch_size: recipients a bulk request.
        not_listed: what a number is that a bulk answer doesn't list: "unknown" or "not_sent".
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
    """What became of a campaign.

    Attributes:
        name: the campaign's.
        counts: recipients by state.
        reasons: (state, reason) → recipients, where there is a reason.
        left_out: reason → rows that were skipped when the campaign was loaded.
        requests: how many requests were made, template look-ups included.
        started: when the first request began, in UTC.
        ended: when the last one ended, in UTC.
        delivered: recipients whom WhatsApp reached, as webhooks said.
        read: of those, who read it.
        failed: recipients whom WhatsApp could not reach.
        resolutions: how unknowns were resolved, one line each, oldest first.
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
