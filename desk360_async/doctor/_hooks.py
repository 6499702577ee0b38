"""The webhooks of `doctor --send-to --webhook-port`: an application that records them, and their readings.

A record holds a request's method, its body and the names of its headers, not the headers' values. The facts
of a reading hold no phone, text or id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from desk360_async import InvalidWebhook, _json
from desk360_async.doctor._readings import Reading
from desk360_async.webhooks import Event, MessageReceived, StatusUpdate, UnknownEvent, parse

_USUAL = frozenset(
    [
        "accept",
        "accept-encoding",
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "forwarded",
        "host",
        "user-agent",
    ]
)
_PROXIES = ("cf-", "cdn-", "x-forwarded-", "x-real-ip", "x-request-id", "traceparent", "tracestate", "via")
_MAX_BODY = 1024 * 1024


@frozen
class Hook:
    """One request to the webhook's URL.

    Attributes:
        method: the HTTP method.
        headers: the names of its headers in lower case.
        body: the first MiB of the body.
        answer: the HTTP status of the recorder's answer.
    """

    method: str
    headers: tuple[str, ...]
    body: bytes = field(repr=False)
    answer: int

    def events(self) -> tuple[Event, ...]:
        """Return the events in the body; an empty tuple if the body can't be read."""
        try:
            return parse(self.body)
        except InvalidWebhook:
            return ()


class HookRecorder:
    """An ASGI application that records each request.

    It answers the first status update with 500, to see whether the vendor sends it again.
    """

    def __init__(self) -> None:
        self.hooks: list[Hook] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Record a request, and answer it with 200; the first status update gets 500."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")[: _MAX_BODY - len(body)]
            more = message.get("more_body", False)
        names = tuple(sorted({name.decode("latin-1").lower() for name, _ in scope["headers"]}))
        hook = Hook(scope["method"], names, body, 200)
        is_first = not any(known.answer == 500 for known in self.hooks)
        if is_first and any(isinstance(event, StatusUpdate) for event in hook.events()):
            hook = Hook(scope["method"], names, body, 500)
        self.hooks.append(hook)
        await send({"type": "http.response.start", "status": hook.answer, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def read_hooks(hooks: Sequence[Hook]) -> list[Reading]:
    """Return the readings of the recorded webhooks: shape, sender, statuses, headers, probe, repeats."""
    posts = [hook for hook in hooks if hook.method == "POST"]
    if not posts:
        why = "no webhook came in: check the tunnel from the panel's webhook URL, then run the doctor again"
        return [Reading(ruling, "not asked", why) for ruling in ("33", "35", "38", "39", "40", "41")]
    events = [event for hook in posts for event in hook.events()]
    return [
        _shape(posts, events),
        _sender(events),
        _statuses(events),
        _headers(posts),
        _probe(hooks),
        _repeats(posts),
    ]


def _reading(ruling: str, problem: str, fine: str, facts: Mapping[str, Any]) -> Reading:
    return Reading(ruling, "differs" if problem else "confirmed", problem or fine, facts)


def _shape(posts: Sequence[Hook], events: Sequence[Event]) -> Reading:
    unread = sum(
        not found or any(isinstance(one, UnknownEvent) for one in found)
        for found in (hook.events() for hook in posts)
    )
    problem = (
        f"{unread} of {len(posts)} webhooks can't be read: "
        "please open an issue of the kind 'vendor behaviour'"
    )
    presses = [
        one for one in events if isinstance(one, MessageReceived) and one.type in ("button", "interactive")
    ]
    facts: dict[str, Any] = {"33.unread": unread}
    if presses:
        facts["33.press"] = sorted({_press(one) for one in presses})
    fine = f"the SDK reads every webhook that came in ({len(posts)})"
    return _reading("33", problem if unread else "", fine, facts)


def _press(event: MessageReceived) -> str:
    """Return the path of JSON keys to a pressed button's id, without the id."""
    raw: Any = event.raw
    path: list[str] = []
    for key in ("interactive", "button_reply", "button", "button_id"):
        inner = raw.get(key) if _json.is_object(raw) else None
        if inner is not None:
            path.append(key)
            raw = inner
    return ".".join(path) or "none"


def _sender(events: Sequence[Event]) -> Reading:
    senders = [event.sender for event in events if event.sender]
    if not senders:
        return Reading(
            "35", "not asked", "no webhook names a sender: write from the phone while the doctor listens"
        )
    plain = all(text.isascii() and text.isdecimal() for text in senders)
    problem = (
        "" if plain else "`from` isn't plain digits: use `.phone`, and `.user_id` where `.phone` is None"
    )
    return _reading("35", problem, "`from` is digits without +, and `.phone` adds it", {"35.digits": plain})


def _statuses(events: Sequence[Event]) -> Reading:
    found = sorted({event.status for event in events if isinstance(event, StatusUpdate)})
    if not found:
        return Reading(
            "38", "not asked", "no status came in: keep the phone online, then run the doctor again"
        )
    others = [status for status in found if status not in ("delivered", "read")]
    problem = (
        f"statuses beside delivered and read came in: handle {', '.join(others)} in your code too"
        if others
        else ""
    )
    return _reading("38", problem, f"the statuses are {', '.join(found)}", {"38.statuses": found})


def _headers(posts: Sequence[Hook]) -> Reading:
    names = {name for hook in posts for name in hook.headers}
    own = sorted(name for name in names - _USUAL if not name.startswith(_PROXIES))
    problem = (
        f"webhooks carry the header {', '.join(own)}: if its value is a token, "
        "pass WebhookReceiver(header_token=(name, value))"
    )
    fine = "webhooks carry no token, so only the secret in the URL protects them: keep it secret"
    return _reading("39", problem if own else "", fine, {"39.headers": own})


def _probe(hooks: Sequence[Hook]) -> Reading:
    probed = any(hook.method == "GET" for hook in hooks)
    if not probed:
        return Reading(
            "40", "not asked", "no GET came: save the URL in the panel again while the doctor listens"
        )
    return Reading(
        "40",
        "confirmed",
        "the panel probes the URL with GET, and the receiver answers 200",
        {"40.probe": True},
    )


def _repeats(posts: Sequence[Hook]) -> Reading:
    refused = next((hook for hook in posts if hook.answer == 500), None)
    if refused is None:
        text = "no status came in to answer with 500: keep the phone online, then run the doctor again"
        return Reading("41", "not asked", text)
    times = sum(hook.body == refused.body for hook in posts) - 1
    fine = f"a webhook answered with 500 came again, {times} in all, and the receiver drops repeats"
    lost = "a webhook answered with 500 didn't come again: pass WebhookReceiver an inbox, which keeps events"
    return _reading("41", "" if times else lost, fine, {"41.repeats": times})
