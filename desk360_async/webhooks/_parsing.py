"""`parse`: a webhook's body → events, by rulings 33 to 38. Pure; every tolerance of the wire is here.

`_coerce` reads values of neighbouring types, lists with holes and missing fields.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from desk360_async import _json
from desk360_async._errors import InvalidWebhook
from desk360_async.webhooks import _coerce as coerce
from desk360_async.webhooks import _events as ev

Raw = coerce.Raw
T = TypeVar("T", bound=attrs.AttrsInstance)

_NESTED_BODIES = 3
_MEDIA = ("image", "video", "audio", "voice", "document", "sticker")


def parse(body: bytes | str | Mapping[str, Any]) -> tuple[ev.Event, ...]:
    """Return the events of a webhook's body (the vendor's "WhatsApp Webhooks"); never an empty tuple.

    Unknown types, statuses and fields are no errors. An object that is neither a message nor a status is an
    `UnknownEvent`, and each event keeps its own object in `.raw`. A list of such bodies is read too.

    Args:
        body: the request's body as bytes or text, or the JSON object that a framework made of it.

    Raises:
        InvalidWebhook: the body is no JSON object, or an empty one.

    Example:
        ```python
        for event in parse(body):
            match event:
                case TextReceived(text=text):
                    print(text)
        ```
    """
    document: Any = _decode(body) if type(body) is bytes else body
    if type(document) is not coerce.OBJECT:
        document = _document(body)
    if len(document) == 1:  # as documented: one message, or one status
        for kind, build in _KINDS:
            only: Any = document.get(kind)
            if type(only) is coerce.OBJECT and "id" in only:
                return (build(only),)
    events = tuple(_found(document, _NESTED_BODIES))
    if events:
        return events
    if not document:
        problem = "it is an empty JSON object"
        raise _refusal("" if isinstance(body, coerce.MAPPING) else _plain(body), problem)
    return (ev.UnknownEvent(raw=document),)


def _decode(body: bytes | str) -> Any:
    try:
        return _json.decode(body)
    except _json.UnreadableJSON as error:
        raise _refusal(body, f"it is no JSON: {error}") from None


def _refusal(body: bytes | str, problem: str) -> InvalidWebhook:
    start = body[:400]
    text = start.decode(errors="replace") if isinstance(start, bytes) else start
    quoted = f": {ev.excerpt(text)}" if text else ""
    return InvalidWebhook(f"the webhook's body can't be read{quoted}; {problem}", problems=[problem])


def event_of(kind: str, raw: Raw) -> ev.Event:
    """Return the event that `raw`, an event's own object, stands for; `kind` as `kind_of` gave it."""
    if kind == "messages":
        return _message(raw)
    return _status(raw) if kind == "statuses" else ev.UnknownEvent(raw=raw)


def kind_of(event: ev.Event) -> str:
    """Return the vendor's key under which such an event comes: `messages`, `statuses`, or `unknown`."""
    if isinstance(event, ev.MessageReceived):
        return "messages"
    return "statuses" if isinstance(event, ev.StatusUpdate) else "unknown"


def _plain(body: Any) -> bytes | str:
    binary: Any = bytes | bytearray | memoryview
    return bytes(body) if isinstance(body, binary) else str(body)


def _document(body: Any) -> Raw:
    if type(body) is not bytes and type(body) is not str:
        if isinstance(body, coerce.MAPPING):
            given: Raw = body if type(body) is coerce.OBJECT else dict(body)
            return given
        if not isinstance(body, bytes | str | bytearray | memoryview):
            raise InvalidWebhook(f"parse() takes bytes, text or a mapping, not {type(body).__name__}")
        body = _plain(body)
    value = _decode(body)
    if type(value) is coerce.OBJECT:
        found: Raw = value
        return found
    if isinstance(value, coerce.LIST) and _has_envelope(value):
        # A batch of whole bodies: {"body": [...]} has the same meaning and keeps every one of them.
        return {"body": value}
    name = next((name for kind, name in _NAMES.items() if isinstance(value, kind)), "null")
    problem = f"it is JSON, but {name} and not an object"
    raise _refusal(body, problem)


_NAMES: dict[type, str] = {
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def _has_envelope(values: list[Any]) -> bool:
    return any(
        type(value) is coerce.OBJECT and ("messages" in value or "statuses" in value) for value in values
    )


def _found(document: Raw, nested: int) -> Iterator[ev.Event]:
    for kind, build in _KINDS:
        if found := document.get(kind):
            for item in (found,) if type(found) is coerce.OBJECT and "id" in found else coerce.items(found):
                yield build(item) if isinstance(item, coerce.OBJECT) else ev.UnknownEvent(raw={kind: item})
    if nested and (body := document.get("body")):
        yield from _nested(body, nested - 1)


def _nested(body: Any, nested: int) -> Iterator[ev.Event]:
    if isinstance(body, str):
        try:
            body = _json.decode(body)
        except _json.UnreadableJSON:
            return
    if isinstance(body, coerce.OBJECT):
        yield from _found(body, nested)
    for item in body if isinstance(body, coerce.LIST) else ():
        if isinstance(item, coerce.OBJECT) and item:
            yield from tuple(_found(item, nested)) or (ev.UnknownEvent(raw=item),)


def _message(raw: Raw) -> ev.MessageReceived:
    get: Callable[[str], Any] = raw.get
    kind = get("type")
    if type(kind) is not str:
        kind = _guessed_type(raw)
    build = _TYPES.get(kind) or _TYPES.get(kind.strip().casefold(), _other)
    text: Any = get("text")
    if type(text) is coerce.OBJECT:
        text = text.get("body")
    referral = get("referral")
    common: Raw = {
        "id": coerce.text(get("id")) or "",
        "sender": coerce.text(get("from")) or "",
        "name": coerce.text(get("name")),
        "sent_at": coerce.moment(get("timestamp")),
        "type": kind,
        "text": coerce.text(text),
        "referral": _referral(referral) if referral else None,
        "raw": raw,
    }
    return build(raw, common)


def _other(raw: Raw, common: Raw) -> ev.MessageReceived:
    return _reply(raw, common) if _is_reply(raw) else ev.MessageReceived(**common)


def _is_reply(raw: Raw) -> bool:
    # A flattened button is found by its shape, for any type (ruling 33).
    return not _REPLIES.isdisjoint(raw) and any(map(raw.get, _REPLIES))


def _words(raw: Raw, common: Raw) -> ev.MessageReceived:
    if _is_reply(raw):
        return _reply(raw, common)
    common["text"] = common["text"] or ""
    return ev.TextReceived(**common)


def _location(raw: Raw, common: Raw) -> ev.LocationReceived:
    at = coerce.one(raw.get("location"))
    place = ev.Place(
        latitude=coerce.degrees(at.get("latitude"), 90),
        longitude=coerce.degrees(at.get("longitude"), 180),
        name=coerce.text(at.get("name")),
        address=coerce.text(at.get("address")),
        raw=at,
    )
    return ev.LocationReceived(location=place, **common)


def _media(raw: Raw, common: Raw) -> ev.MediaReceived:
    media = coerce.one(raw.get(common["type"])) or coerce.one([raw.get(key) for key in _MEDIA])
    get: Callable[[str], Any] = media.get
    return ev.MediaReceived(
        media_id=coerce.text(get("media_id") or get("id")),
        mime_type=coerce.text(get("mime_type")),
        sha=coerce.text(get("sha") or get("sha256")),
        caption=coerce.text(get("message") or get("caption")),
        filename=coerce.text(get("filename") or get("name")),
        attachments=_files(raw.get("attachments")),
        **common,
    )


def _files(attachments: Any) -> tuple[ev.ReceivedFile, ...]:
    """Flatten `{"images": [...], "documents": [...]}`, or a plain list."""
    if not attachments:
        return ()
    is_groups = type(attachments) is coerce.OBJECT and "url" not in attachments
    groups = attachments.values() if is_groups else (attachments,)
    return tuple(
        [_file(row) for group in groups for row in coerce.items(group) if type(row) is coerce.OBJECT]
    )


def _file(row: Raw) -> ev.ReceivedFile:
    return ev.ReceivedFile(
        url=coerce.text(row.get("url")),
        name=coerce.text(row.get("name")),
        type=coerce.text(row.get("type")),
        raw=row,
    )


def _contacts(raw: Raw, common: Raw) -> ev.ContactsReceived:
    found = coerce.items(raw.get("contacts"))
    cards = tuple([_card(item) for item in found if type(item) is coerce.OBJECT])
    return ev.ContactsReceived(contacts=cards, **common)


def _card(raw: Raw) -> ev.ContactCard:
    name, org = raw.get("name"), raw.get("org")
    return ev.ContactCard(
        name=_part(ev.CardName, {"formatted_name": name} if type(name) is str else coerce.one(name)),
        org=_part(ev.CardOrganization, coerce.one(org)) if org else None,
        birthday=coerce.text(raw.get("birthday")),
        phones=_parts(ev.CardPhone, raw.get("phones")),
        emails=_parts(ev.CardEmail, raw.get("emails")),
        addresses=_parts(ev.CardAddress, raw.get("addresses")),
        urls=_parts(ev.CardUrl, raw.get("urls")),
        ims=_parts(ev.CardIm, raw.get("ims")),
        raw=raw,
    )


def _part(kind: type[T], raw: Raw) -> T:
    # On a card the wire's names are the fields' names, and each field is a text or None. Calling `kind` and
    # `coerce.text` for each would cost a fifth of the time of all documented bodies.
    part = kind.__new__(kind)
    fields = part.__dict__
    fields.update(_EMPTY_PARTS[kind])
    for name, value in raw.items():
        if name in fields:
            fields[name] = value if type(value) is str else coerce.text(value)
    return part


def _parts(kind: type[T], found: Any) -> tuple[T, ...]:
    if not found:
        return ()
    rows = found if type(found) is coerce.LIST else coerce.items(found)
    return tuple([_part(kind, item) for item in rows if item and type(item) is coerce.OBJECT])


def _reply(raw: Raw, common: Raw) -> ev.ReplyReceived:
    outer = coerce.one(raw.get("interactive")) or coerce.one(raw.get("button")) or raw
    if flow := coerce.one(outer.get("nfm_reply")):
        return _flow(flow, common)
    inner = next((part for key in _BUTTON_PARTS if (part := coerce.one(outer.get(key)))), outer)
    flat = inner is raw  # the message's own id and text are no button's
    title = coerce.text(coerce.first(inner.get("title"), None if flat else inner.get("text")))
    own_id = None if flat else coerce.first(inner.get("id"), inner.get("payload"))
    button_id = coerce.first(own_id, inner.get("button_id"), outer.get("button_id"), raw.get("button_id"))
    words = raw.get("button")
    title = coerce.first(title, words if type(words) is str else None)
    common["text"] = coerce.first(common["text"], title)
    return ev.ReplyReceived(
        reply_id=coerce.text(coerce.first(button_id, inner.get("payload"))),
        title=coerce.first(title, common["text"]),
        description=coerce.text(inner.get("description")),
        **common,
    )


def _flow(flow: Raw, common: Raw) -> ev.ReplyReceived:
    answers: Any = flow.get("response_json")
    if isinstance(answers, str):
        try:
            answers = _json.decode(answers)
        except _json.UnreadableJSON:  # stays in `.raw`
            answers = None
    title = coerce.text(flow.get("body"))
    common["text"] = coerce.first(common["text"], title)
    return ev.ReplyReceived(title=coerce.first(title, common["text"]), answers=coerce.one(answers), **common)


def _status(raw: Raw) -> ev.StatusUpdate:
    sender = raw.get("from")
    if sender is None:
        sender = raw.get("recipient_id")  # WhatsApp's own name for it
    return ev.StatusUpdate(
        id=coerce.text(raw.get("id")) or "",
        sender=coerce.text(sender) or "",
        status=coerce.text(raw.get("status")) or "",
        raw=raw,
    )


_KINDS: tuple[tuple[str, Callable[[Raw], ev.Event]], ...] = (("messages", _message), ("statuses", _status))

_TYPES: dict[str, Callable[[Raw, Raw], ev.MessageReceived]] = {
    "text": _words,
    "location": _location,
    "contacts": _contacts,
    "button": _reply,
    "interactive": _reply,
    **dict.fromkeys(_MEDIA, _media),
}
_REPLIES = frozenset({"button_id", "button_reply", "list_reply", "nfm_reply"})
_BUTTON_PARTS = ("button_reply", "list_reply")

_CARD = (
    ev.CardName,
    ev.CardPhone,
    ev.CardEmail,
    ev.CardAddress,
    ev.CardOrganization,
    ev.CardUrl,
    ev.CardIm,
)
_EMPTY_PARTS: dict[type, dict[str, None]] = {
    kind: dict.fromkeys(field.name for field in attrs.fields(kind)) for kind in _CARD
}


def _guessed_type(raw: Raw) -> str:
    """Return the type of a message without one: the name of the part that it holds."""
    if _is_reply(raw):
        return "interactive"
    return next((kind for kind in (*_TYPES, "reaction", "order") if raw.get(kind)), "unknown")


def _referral(found: Any) -> ev.Referral | None:
    raw = coerce.one(found)
    if not raw:
        return None
    get = raw.get
    return ev.Referral(
        id=coerce.text(get("id") or get("source_id")),
        url=coerce.text(get("url") or get("source_url")),
        type=coerce.text(get("type") or get("source_type")),
        header=coerce.text(get("header") or get("headline")),
        body=coerce.text(get("body")),
        media_type=coerce.text(get("media_type")),
        media_url=coerce.text(get("media_url") or get("image_url") or get("video_url")),
        thumbnail_url=coerce.text(get("thumbnail_url")),
        raw=raw,
    )
