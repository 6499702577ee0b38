"""A server that behaves like Desk360's: for tests, demos and a first try without an account.

It imports nothing of the client and parses forms and JSON by itself, so that each checks the other. Needs the
extra `sandbox`.
"""

from desk360_async.sandbox.account import Account, load_account, parse_account
from desk360_async.sandbox.demo_account import demo_account
from desk360_async.sandbox.faults import Fault, Faults
from desk360_async.sandbox.message_ids import phone_of
from desk360_async.sandbox.records import (
    ReceivedFile,
    ReceivedMessage,
    ReceivedRead,
    ReceivedRequest,
    StoredMedia,
)
from desk360_async.sandbox.sandbox import Sandbox
from desk360_async.sandbox.server import RunningServer, run

__all__ = [
    "Account",
    "Fault",
    "Faults",
    "ReceivedFile",
    "ReceivedMessage",
    "ReceivedRead",
    "ReceivedRequest",
    "RunningServer",
    "Sandbox",
    "StoredMedia",
    "demo_account",
    "load_account",
    "parse_account",
    "phone_of",
    "run",
]
