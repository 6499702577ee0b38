"""The requests of `doctor --live`: ten that can't send a message, and further ones that a person allows.

No request is repeated, and each passes the client's limiter. A `Probe` keeps only the parts of an answer that
the readings need: status, headers, and the JSON's shape.
"""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import anyio
from attrs import field, frozen

from desk360_async import (
    Answer,
    APIError,
    AsyncDesk360,
    Attachment,
    Button,
    Desk360Error,
    InteractiveMessage,
    Message,
    RateLimitStatus,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
    TokenBucket,
    UnexpectedResponse,
    _json,
)

PAUSE = 2.0  # seconds between two requests, so that ten of them stay far below the limit
INVALID_KEY = "doctor-invalid"
_BEYOND = 9999  # a page that no account has
_REFUSES_A_BODY = (400, 413, 415, 422)  # not 408 or 409, after which the message may have gone out
_ASK = "desk360 doctor: press the button"
# A PNG of 128 by 128 grey pixels.
_PICTURE = Attachment.from_bytes(
    "doctor.png",
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000080000000800800000000e6553e1700000059494441"
        "5478daedce21010000000220a73bdd191658407a1601010101010101010101010101010101010101"
        "01010101010101010101010101010101010101010101010101010101010101010101010101010101"
        "010101817760bc0401e15d45d8bd0000000049454e44ae426082"
    ),
)


@frozen
class Probe:
    """One request and its answer.

    Attributes:
        name: the request's short name.
        status: the HTTP status; 0 where no answer came.
        headers: the answer's headers, names in lower case.
        data: the decoded JSON, or None.
        error: the error's class, or "" for a 2xx.
        sent_at: seconds since the epoch when the request began.
    """

    name: str
    status: int = 0
    headers: dict[str, str] = field(factory=dict[str, str], repr=False)
    data: Any = field(default=None, repr=False)
    error: str = ""
    sent_at: float = 0.0

    @property
    def remaining(self) -> int | None:
        """The value of `X-RateLimit-Remaining`, or None."""
        text = self.headers.get("x-ratelimit-remaining", "")
        return int(text) if text.isascii() and text.isdecimal() else None


class MakeClient(Protocol):
    """Makes a client of the same server with another key."""

    def __call__(self, key: str, /) -> AsyncDesk360:
        """Return the client."""
        ...


Ask = Callable[[AsyncDesk360], Awaitable[Answer]]


async def ask(
    client: AsyncDesk360,
    *,
    with_key: MakeClient,
    wall: Callable[[], float],
    integration: int | None = None,
    pause: float = PAUSE,
) -> AsyncIterator[Probe]:
    """Make the ten requests and yield each answer; end after an unexpected 401 or 429.

    Args:
        client: a client that never repeats a request.
        with_key: makes a client with a wrong key, for request 4.
        wall: returns seconds since the epoch.
        integration: the integration's id; None for the first one that request 1 lists.
        pause: seconds between two requests.
    """
    first = await _probe("integrations", _integrations, client, wall)
    yield first
    chosen, phone = own_number(first, integration)
    if first.status != 200 or chosen is None:
        return
    for name, request in _others(chosen, phone):
        await anyio.sleep(pause)
        if name == "invalid key":
            async with with_key(INVALID_KEY) as other:
                yield await _probe(name, request, other, wall)
            continue
        probe = await _probe(name, request, client, wall)
        yield probe
        if probe.status in (401, 429):
            return


def _integrations(client: AsyncDesk360) -> Awaitable[Answer]:
    return client.request("GET", "integrations", params={"page": "1"})


def own_number(probe: Probe, integration: int | None) -> tuple[int | None, str]:
    """Return the integration to ask about, and its own number, the only recipient of request 5.

    Args:
        probe: the list of integrations.
        integration: the id that the user gave; None for the first one of the list.
    """
    for row in _json.as_rows(probe.data):
        if _json.is_object(row) and (integration is None or str(row.get("id")) == str(integration)):
            number = str(row.get("phone_number") or "")
            phone = number if number.startswith("+") or not number else f"+{number}"
            return int(str(row.get("id", 0))), phone
    return integration, ""


def _others(integration: int, phone: str) -> list[tuple[str, Ask]]:
    """Return requests 2 to 10 by name; request 5 is left out if the integration lists no number."""
    base = f"integrations/{integration}/conversations"
    empty = {"to": phone, "text": ""}
    requests: list[tuple[str, Ask]] = [
        ("templates", lambda c: c.request("GET", f"{base}/templates", params={"page": "1"})),
        ("beyond", lambda c: c.request("GET", f"{base}/templates", params={"page": str(_BEYOND)})),
        ("invalid key", _integrations),
        ("empty text", lambda c: c.request("POST", f"{base}/messages", json=empty)),
        ("no destinations", lambda c: c.request("POST", f"{base}/templates/send", json=_template([]))),
        ("no phones", lambda c: c.request("POST", f"{base}/templates/send/bulk", json={"template_id": 0})),
        ("wrong method", lambda c: c.request("DELETE", f"{base}/messages")),
        ("no media", lambda c: _media(c.for_integration(integration), str(uuid.uuid4()))),
        ("integrations again", _integrations),
    ]
    return [(name, request) for name, request in requests if phone or name != "empty text"]


def _template(destinations: list[object]) -> dict[str, object]:
    return {"template_id": 0, "language_id": 0, "destinations": destinations}


async def _media(client: AsyncDesk360, media_id: str) -> Answer:
    async with client.open_media(media_id) as media:
        return Answer(200, {"content-type": media.content_type or ""}, None)


async def _probe(name: str, request: Ask, client: AsyncDesk360, wall: Callable[[], float]) -> Probe:
    began = wall()
    try:
        answer = await request(client)
    except APIError as error:
        return Probe(
            name, error.status, dict(error.headers), _parsed(error.body), type(error).__name__, began
        )
    except UnexpectedResponse as error:
        return Probe(name, error.status, {}, _parsed(error.body), type(error).__name__, began)
    except Desk360Error as error:
        return Probe(name, 0, {}, None, type(error).__name__, began)
    return Probe(name, answer.status, dict(answer.headers), answer.data, "", began)


def _parsed(text: str) -> Any:
    try:
        return _json.decode(text.encode())
    except ValueError:
        return None


class Unlimited:
    """A limiter that never waits, for `exhaust`: a `TokenBucket` would learn the limit and meet no 429."""

    def __init__(self) -> None:
        self._status = TokenBucket(10_000).snapshot()

    async def acquire(self, lane: str, max_wait: float | None) -> "Unlimited":
        """Return at once.

        Args:
            lane: ignored.
            max_wait: seconds; ignored.
        """
        return self

    def snapshot(self) -> RateLimitStatus:
        """Return the status of an unused limit."""
        return self._status

    def done(self, status: int, headers: object) -> None:
        """Ignore the answer.

        Args:
            status: the answer's HTTP status.
            headers: the answer's headers.
        """

    def lost(self) -> None:
        """Do nothing after a request without an answer."""

    unused = lost


async def exhaust(
    client: AsyncDesk360, *, wall: Callable[[], float], most: int = 200, patience: float = 150.0
) -> AsyncIterator[Probe]:
    """Use up one minute of the limit with GETs, then ask until the server accepts again; yield each answer.

    Args:
        client: a client with the limiter `Unlimited`, that never repeats a request.
        wall: returns seconds since the epoch.
        most: maximum number of requests before a 429.
        patience: maximum seconds to go on asking after the first 429.
    """
    for _ in range(most):
        probe = await _probe("until refused", _integrations, client, wall)
        yield probe
        if probe.status != 200:
            break
    else:
        return
    first = wall()
    while wall() - first < patience:
        await anyio.sleep(1.0)
        probe = await _probe("until accepted", _integrations, client, wall)
        yield probe
        if probe.status == 200:
            return


async def send_to(
    client: AsyncDesk360,
    template: TemplateMessage,
    *,
    wall: Callable[[], float],
    pause: float = PAUSE,
) -> AsyncIterator[Probe]:
    """Send the allowed messages to one phone; yield each answer.

    The template goes out alone, as two destinations of one request, and in bulk. Then come messages without a
    template: a text, and an interactive message with a file. If the message with the file is
    refused, it is sent without the file.

    Args:
        client: a client of the integration to send from, that never repeats a request.
        template: the template message, with the phone. It is sent four times, and each time costs money.
        wall: returns seconds since the epoch.
        pause: seconds between two requests.
    """
    phone = template.to
    batch = TemplateBatch(
        [phone], template.template, language=template.language, parameters=template.parameters
    )
    text = TextMessage(phone, "desk360 doctor: a test of the 24-hour window")
    yield await _probe("template", lambda c: _sent(c, template), client, wall)
    await anyio.sleep(pause)
    yield await _probe("two destinations", lambda c: _sent_twice(c, template), client, wall)
    for name, message in (("bulk of one", batch), ("text", text)):
        await anyio.sleep(pause)
        yield await _probe(name, partial(_sent, message=message), client, wall)
    await anyio.sleep(pause)
    with_file = await _probe("interactive with a file", lambda c: _sent_with_file(c, phone), client, wall)
    yield with_file
    if with_file.status in _REFUSES_A_BODY:  # certainly not sent; the phone needs a button to press
        await anyio.sleep(pause)
        pressed = InteractiveMessage(phone, _ASK, [Button("doctor", "Press")])
        yield await _probe("interactive", partial(_sent, message=pressed), client, wall)


async def _sent_with_file(client: AsyncDesk360, phone: str) -> Answer:
    """Send an interactive message with a file, and no link, as its picture; the client's methods never do."""
    path = f"integrations/{client.integration_id}/conversations/messages/interactive"
    fields = {
        "to": phone,
        "header": {"type": "image"},
        "body": _ASK,
        "buttons": [{"id": "doctor", "title": "Press"}],
    }
    return await client.request("POST", path, json=fields, files=[("attachments[]", _PICTURE)])


async def _sent(client: AsyncDesk360, message: Message) -> Answer:
    reply = await client.send(message)
    return Answer(200, {}, dict(reply.raw) if _json.is_object(reply.raw) else reply.raw)


async def _sent_twice(client: AsyncDesk360, message: TemplateMessage) -> Answer:
    """Send a template to one phone as two destinations of one request; the client's methods never do that."""
    template = await client.templates.get(message.template)
    translation = template.translation(message.language)
    one = {"phone": message.to, "parameters": dict(message.parameters or {})}
    body = {
        "template_id": template.id,
        "language_id": translation.language_id,
        "destinations": [one, one],
    }
    path = f"integrations/{client.integration_id}/conversations/templates/send"
    return await client.request("POST", path, json=body)
