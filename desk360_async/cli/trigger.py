"""`desk360 trigger`: one webhook, as Desk360 would send it."""

import json
import time
import uuid
from typing import Any, Literal

from desk360_async import ConfigurationError
from desk360_async._errors import mask_phone

from ._terminal import Terminal

__all__ = ["trigger"]

Kind = Literal["text", "location", "contacts", "image", "referral", "status", "unknown"]

# Documented by nobody: what an app does with it shows whether it is ready for what comes next.
_UNKNOWN = {"calls": {"id": "", "from": "", "event": "missed"}}


def trigger(
    kind: Kind,
    /,
    *,
    to: str,
    phone: str = "+905551112233",
    text: str | None = None,
    status: str = "delivered",
    verbatim: bool = False,
    allow_remote: bool = False,
    json: bool = False,
) -> int:
    """Send one webhook to your web app: an example of the document, or one of a kind that nobody knows.

    It gets a new id, the phone and the time, so that it is no repeat and can be answered.

    Args:
        kind: Which example.
        to: The webhook's URL with its secret, on this machine.
        phone: The customer it is from [else: +905551112233].
        text: What the customer writes, in place of the example's text.
        status: Of kind status [else: delivered].
        verbatim: Send the document's example as it is.
        allow_remote: Let the URL be another machine's.
        json: Print JSON; words go to stderr.
    """
    from desk360_async.sandbox.webhooks import check_target, post

    try:
        check_target(to, allow_remote=allow_remote)
    except ValueError as error:
        fix = str(error).replace("webhook:", "--to:").replace("allow_remote_webhook=True", "--allow-remote")
        raise ConfigurationError(fix) from None
    body = _example(kind) if verbatim else _fresh(kind, phone, text, status)
    answer = post(to, body)
    terminal = Terminal(json=json)
    if json:
        terminal.data({"kind": kind, "status": answer, "body": body.decode()})
    elif answer is None:
        terminal.note("no answer: is your web app running there?", "red")
    else:
        sender = "as in the document" if verbatim else f"from {mask_phone(phone)}"
        terminal.say(f"{kind} {sender}: HTTP {answer}")
    return 0 if answer is not None and 200 <= answer < 300 else 3


def _example(kind: Kind) -> bytes:
    from desk360_async.testing import webhook_sample

    return json.dumps(_UNKNOWN).encode() if kind == "unknown" else webhook_sample(kind)


def _fresh(kind: Kind, phone: str, text: str | None, status: str) -> bytes:
    body: dict[str, Any] = json.loads(_example(kind))
    (event,) = body.values()
    event |= {"id": f"trigger-{uuid.uuid4()}", "from": phone.removeprefix("+")}
    if "timestamp" in event:
        event["timestamp"] = str(int(time.time()))
    if "status" in event:
        event["status"] = status
    if text is not None:
        event["text"] = text
    return json.dumps(body, ensure_ascii=False).encode()
