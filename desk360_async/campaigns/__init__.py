"""Campaigns: a template to many, planned, coalesced, durable and resumable.

Start with `Campaign`. Recipients with equal parameters share bulk requests, everything is in a SQLite
ledger before it is on the wire, and after a crash the campaign goes on with nobody lost and nobody sent to
twice: what may have gone out is `unknown`, and stays so until you say otherwise.
"""

from desk360_async.campaigns._campaign import Campaign, campaigns_in
from desk360_async.campaigns._events import BatchResult, Done, Event, Paused, Progress
from desk360_async.campaigns._plan import Plan
from desk360_async.campaigns._problems import CampaignError, LedgerError
from desk360_async.campaigns._recipients import Recipient
from desk360_async.campaigns._run import Run
from desk360_async.campaigns._states import Counts, Report

__all__ = [
    "BatchResult",
    "Campaign",
    "CampaignError",
    "Counts",
    "Done",
    "Event",
    "LedgerError",
    "Paused",
    "Plan",
    "Progress",
    "Recipient",
    "Report",
    "Run",
    "campaigns_in",
]
