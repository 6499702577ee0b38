"""Webhooks: `parse` reads a body into events, `WebhookReceiver` takes them from any ASGI host.

    receiver = WebhookReceiver(secret=os.environ["WEBHOOK_SECRET"], inbox=SQLiteInbox("inbox.db"))

    @receiver.on_message(TextReceived)
    async def greet(message: TextReceived) -> None:
        await client.send_text(message.phone, f"You wrote: {message.text}")

    @asynccontextmanager
    async def lifespan(app):
        async with receiver:
            yield

    app = Starlette(routes=[Mount("/hooks", receiver)], lifespan=lifespan)

Only public names live here. The vendor's heading is "WhatsApp Webhooks".
"""

from desk360_async._redaction import show_half_made
from desk360_async.webhooks._asgi import Answer
from desk360_async.webhooks._events import (
    CardAddress,
    CardEmail,
    CardIm,
    CardName,
    CardOrganization,
    CardPhone,
    CardUrl,
    ContactCard,
    ContactsReceived,
    Event,
    LocationReceived,
    MediaReceived,
    MessageReceived,
    Place,
    ReceivedFile,
    Referral,
    ReplyReceived,
    StatusUpdate,
    TextReceived,
    UnknownEvent,
)
from desk360_async.webhooks._handling import ReceiverStats
from desk360_async.webhooks._inbox import DeadLetter, Inbox, PostgresInbox, SQLiteInbox
from desk360_async.webhooks._parsing import parse
from desk360_async.webhooks._receiver import ReceiverThread, WebhookReceiver

show_half_made(globals())

__all__ = [
    "Answer",
    "CardAddress",
    "CardEmail",
    "CardIm",
    "CardName",
    "CardOrganization",
    "CardPhone",
    "CardUrl",
    "ContactCard",
    "ContactsReceived",
    "DeadLetter",
    "Event",
    "Inbox",
    "LocationReceived",
    "MediaReceived",
    "MessageReceived",
    "Place",
    "PostgresInbox",
    "ReceivedFile",
    "ReceiverStats",
    "ReceiverThread",
    "Referral",
    "ReplyReceived",
    "SQLiteInbox",
    "StatusUpdate",
    "TextReceived",
    "UnknownEvent",
    "WebhookReceiver",
    "parse",
]
