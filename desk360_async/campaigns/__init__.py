"""Campaigns: a template to many recipients, planned, durable and resumable.

Start with `Campaign`. Recipients with equal parameters share bulk requests. Each request is in a SQLite
ledger before it is on the wire. After a crash the campaign goes on: no recipient is lost or gets it twice.
A recipient whose request may have arrived is `unknown`, until you resolve it.
"""

from desk360_async._redaction import show_half_made
from desk360_async.campaigns._campaign import Campaign, campaigns_in
from desk360_async.campaigns._forgetting import expire, forget
from desk360_async.campaigns._hours import Hours
from desk360_async.campaigns._recipients import OptOut, Recipient
from desk360_async.campaigns._run import Run
from desk360_async.campaigns._values import (
    BatchResult,
    CampaignError,
    Counts,
    Done,
    Event,
    LedgerError,
    Paused,
    Plan,
    Progress,
    Report,
    words_for,
)

show_half_made(globals())

__all__ = [
    "BatchResult",
    "Campaign",
    "CampaignError",
    "Counts",
    "Done",
    "Event",
    "Hours",
    "LedgerError",
    "OptOut",
    "Paused",
    "Plan",
    "Progress",
    "Recipient",
    "Report",
    "Run",
    "campaigns_in",
    "expire",
    "forget",
    "words_for",
]
