"""A shop that sends a WhatsApp message for each shipped order, and answers its customers."""

import logging
from functools import partial

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from desk360_async import AsyncDesk360, Desk360Error, Outcome
from desk360_async.webhooks import StatusUpdate, TextReceived, WebhookReceiver

log = logging.getLogger("shop")
make_client = partial(AsyncDesk360, max_wait=5.0)  # a request waits at most 5 s for the rate limit
# Without an inbox a crash loses the events in the queue: give inbox=SQLiteInbox("inbox.db") to keep them.
receiver = WebhookReceiver(settings.WEBHOOK_SECRET)
desk360: AsyncDesk360  # asgi.py opens and closes it


@csrf_exempt  # programs call it, and no page with a form
@require_POST
async def shipped(request: HttpRequest, number: str) -> JsonResponse:
    """Send the customer the template. 409: it may have gone out, so look before you send it again."""
    values = {"body-1": request.POST.get("name", ""), "body-2": number}
    try:
        sent = await desk360.send_template(
            request.POST.get("phone", ""), "order_shipped", language="English", parameters=values
        )
    except Desk360Error as error:
        log.warning("order %s: %s: %s", number, error.outcome, error)
        status = 409 if error.outcome is Outcome.UNKNOWN else 502
        return JsonResponse({"detail": f"{error.outcome}: {error}"}, status=status)
    return JsonResponse({"message_id": sent.message_id})


urlpatterns = [path("orders/<str:number>/shipped", shipped)]


@receiver.on_message(TextReceived)
async def answer(message: TextReceived) -> None:
    """Answer a customer's text."""
    if message.phone is None:  # WhatsApp may hide the number
        return
    try:
        await desk360.send_text(message.phone, f"You wrote: {message.text}")
    except Desk360Error as error:
        log.warning("no answer to %s: %s: %s", message.id, error.outcome, error)


@receiver.on_status("failed")
async def failed(status: StatusUpdate) -> None:
    """Log a message that WhatsApp didn't deliver."""
    log.warning("message %s failed", status.id)
