"""A server that behaves like Desk360's: for tests, demos and a first try without an account.

It doesn't import the client, and has its own parsers for forms and JSON. So a mistake on one side shows on
the other. Needs the extra `sandbox`. It runs in process, in virtual time, or over TCP:

    sandbox = Sandbox(limit=60, period=60.0)
    httpx.AsyncClient(transport=httpx.ASGITransport(app=sandbox.app), base_url="http://sandbox")

    async with sandbox.serve() as server:          # asyncio; `serve_in_thread()` for everything else
        AsyncDesk360("sandbox-key", base_url=server.url, integration_id=11)

    sandbox.faults.add(Fault("reset_after", path="*/messages", times=1))
    assert sandbox.sent(to="+905551112233", template="order_shipped")

    sandbox = Sandbox(webhook="http://127.0.0.1:8000/hooks/secret")     # "delivered" and "read" go there, and
    sandbox.reply("+905551112233", "Where is it?")                      # customers' messages

The default account has the integrations 11 (25 templates, two pages) and 22 (3 templates). Templates 75 (in
English), 90 and 91 are in review, 92 is not sendable; 79, 80 and 81 need a file. Numbers that end in 0000000
are valid, and are refused as "not on WhatsApp". `/_sandbox/…` shows the record and the settings over HTTP.
"""

from desk360_async._redaction import show_half_made
from desk360_async.sandbox import _extra as _extra
from desk360_async.sandbox.account import Account, demo_account, load_account, parse_account
from desk360_async.sandbox.faults import Fault, Faults
from desk360_async.sandbox.records import (
    ReceivedFile,
    ReceivedMessage,
    ReceivedRead,
    ReceivedRequest,
    StoredMedia,
    phone_of,
)
from desk360_async.sandbox.sandbox import Sandbox, run
from desk360_async.sandbox.server import RunningServer
from desk360_async.sandbox.webhooks import SentWebhook, Webhooks, WebhookTarget

show_half_made(globals())

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
    "SentWebhook",
    "StoredMedia",
    "WebhookTarget",
    "Webhooks",
    "demo_account",
    "load_account",
    "parse_account",
    "phone_of",
    "run",
]
