"""A shop that sends a WhatsApp message for each shipped order, and answers its customers."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, HTTPException

from desk360_async import AsyncDesk360, Desk360Error, Outcome
from desk360_async.webhooks import StatusUpdate, TextReceived, WebhookReceiver

log = logging.getLogger("shop")
make_client = partial(AsyncDesk360, max_wait=5.0)  # a request waits at most 5 s for the rate limit
# Without an inbox a crash loses the events in the queue: give inbox=SQLiteInbox("inbox.db") to keep them.
receiver = WebhookReceiver(os.environ["WEBHOOK_SECRET"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The receiver closes first, so that its last handlers still have a client.
    async with make_client() as app.state.desk360, receiver:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/hooks", receiver)  # give Desk360 https://your.host/hooks/SECRET


@app.post("/orders/{number}/shipped")
async def shipped(number: str, phone: str, name: str) -> dict[str, str | None]:
    """Send the customer the template. 409: it may have gone out, so look before you send it again."""
    try:
        sent = await app.state.desk360.send_template(
            phone, "order_shipped", language="English", parameters={"body-1": name, "body-2": number}
        )
    except Desk360Error as error:
        log.warning("order %s: %s: %s", number, error.outcome, error)
        status = 409 if error.outcome is Outcome.UNKNOWN else 502
        raise HTTPException(status, f"{error.outcome}: {error}") from error
    return {"message_id": sent.message_id}


@receiver.on_message(TextReceived)
async def answer(message: TextReceived) -> None:
    """Answer a customer's text."""
    if message.phone is None:  # WhatsApp may hide the number
        return
    try:
        await app.state.desk360.send_text(message.phone, f"You wrote: {message.text}")
    except Desk360Error as error:
        log.warning("no answer to %s: %s: %s", message.id, error.outcome, error)


@receiver.on_status("failed")
async def failed(status: StatusUpdate) -> None:
    """Log a message that WhatsApp didn't deliver."""
    log.warning("message %s failed", status.id)
