"""`parse`: a webhook's body → events, by rulings 33 to 38. Pure; every tolerance of the wire is here.

What the document shows is read in one straight line. What it doesn't show (neighbouring types, lists with
holes, missing fields) goes through the small functions at the end, so that tolerance costs only those
bodies that need it. The parts with many fields (contact cards, stored files, the advertisement) are built
when somebody first looks at them: most handlers don't, and building can't fail.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

import attrs

from desk360_async._errors import InvalidWebhook
from desk360_async.webhooks import _events as ev
from desk360_async.webhooks import _leaves as leaf
from desk360_async.webhooks._decoding import decoded, refused

Raw = leaf.Raw
T = TypeVar("T", bound=attrs.AttrsInstance)

_NESTED_BODIES = 3
_MEDIA = ("image", "video", "audio", "voice", "document", "sticker")


def parse(body: bytes | str | Mapping[str, Any]) -> tuple[ev.Event, ...]:
    """Read a webhook's body (the vendor's "WhatsApp Webhooks") into its events; never an empty tuple.

    Unknown types, statuses and fields are no errors: what is neither a message nor a status is an
    `UnknownEvent`, and each event keeps its own object in `.raw`. A body that is a list of such objects is
    read too.

    Args:
        body: the request's body as bytes or text, or the JSON object that a framework made of it.

    Raises:
        InvalidWebhook: the body is no JSON object, or an empty one.
    """
    document: Any = decoded(body) if type(body) is bytes else body
    if type(document) is not leaf.OBJECT:
        document = _document(body)
    if len(document) == 1:  # as documented: one message, or one status
        for kind, build in _KINDS:
            only: Any = document.get(kind)
            if type(only) is leaf.OBJECT and "id" in only:
                return (build(only),)
    events = tuple(_found(document, _NESTED_BODIES))
    if events:
        return events
    if not document:
        problem = "it is an empty JSON object"
        raise refused("" if isinstance(body, leaf.MAPPING) else _plain(body), problem)
    return (ev.UnknownEvent(raw=document),)


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
        if isinstance(body, leaf.MAPPING):
            given: Raw = body if type(body) is leaf.OBJECT else dict(body)
            return given
        if not isinstance(body, bytes | str | bytearray | memoryview):
            raise InvalidWebhook(f"parse() takes bytes, text or a mapping, not {type(body).__name__}")
        body = _plain(body)
    value = decoded(body)
    if type(value) is leaf.OBJECT:
        found: Raw = value
        return found
    if isinstance(value, leaf.LIST) and _has_envelope(value):
        # Somebody batched whole bodies: {"body": [...]} has the same meaning and keeps every one of them.
        return {"body": value}
    name = next((name for kind, name in _NAMES.items() if isinstance(value, kind)), "null")
    problem = f"it is JSON, but {name} and not an object"
    raise refused(body, problem)


_NAMES: dict[type, str] = {
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def _has_envelope(values: list[Any]) -> bool:
    return any(
        type(value) is leaf.OBJECT and ("messages" in value or "statuses" in value) for value in values
    )


def _found(document: Raw, nested: int) -> Iterator[ev.Event]:
    for kind, build in _KINDS:
        if found := document.get(kind):
            for item in (found,) if type(found) is leaf.OBJECT and "id" in found else leaf.items(found):
                yield build(item) if isinstance(item, leaf.OBJECT) else ev.UnknownEvent(raw={kind: item})
    if nested and (body := document.get("body")):
        yield from _nested(body, nested - 1)


def _nested(body: Any, nested: int) -> Iterator[ev.Event]:
    if isinstance(body, str):
        try:
            body = decoded(body)
        except InvalidWebhook:
            return
    if isinstance(body, leaf.OBJECT):
        yield from _found(body, nested)
    for item in body if isinstance(body, leaf.LIST) else ():
        if isinstance(item, leaf.OBJECT) and item:
            yield from tuple(_found(item, nested)) or (ev.UnknownEvent(raw=item),)


def _message(raw: Raw) -> ev.MessageReceived:
    kind = raw.get("type")
    if type(kind) is not str:
        kind = _guessed(raw)
    build = _TYPES.get(kind) or _TYPES.get(kind.strip().casefold(), _other)
    get = raw.get
    text: Any = get("text")
    id, sender, name, at = get("id"), get("from"), get("name"), get("timestamp")  # noqa: A001 - the field's name
    referral = get("referral")
    common: Raw = {
        "id": id if type(id) is str else leaf.text(id) or "",
        "sender": sender if type(sender) is str else leaf.text(sender) or "",
        "name": name if type(name) is str else leaf.text(name),
        "sent_at": leaf.moment(at) if at is not None else None,
        "type": kind,
        "text": text
        if type(text) is str
        else leaf.text(text.get("body") if isinstance(text, leaf.OBJECT) else text),
        "raw": raw,
    }
    if not referral:
        common["referral"] = None
    return build(raw, common)


def _made(kind: type[T], fields: Raw) -> T:
    """Return an event without a call of its constructor, which costs three times as much for these classes.

    `fields` has to hold every one of the class's fields; a test compares all of them with the classes.
    """
    new = object.__new__(kind)
    object.__setattr__(new, "__dict__", fields)
    return new


def _other(raw: Raw, common: Raw) -> ev.MessageReceived:
    return _made(ev.MessageReceived, common)


def _words(raw: Raw, common: Raw) -> ev.TextReceived:
    if common["text"] is None:
        common["text"] = ""
    return _made(ev.TextReceived, common)


def _location(raw: Raw, common: Raw) -> ev.LocationReceived:
    at = leaf.one(raw.get("location"))
    get = at.get
    common["location"] = _made(
        ev.Place,
        {
            "latitude": leaf.degrees(get("latitude"), 90),
            "longitude": leaf.degrees(get("longitude"), 180),
            "name": leaf.text(get("name")),
            "address": leaf.text(get("address")),
            "raw": at,
        },
    )
    return _made(ev.LocationReceived, common)


def _media(raw: Raw, common: Raw) -> ev.MediaReceived:
    media: Any = raw.get(common["type"])
    if type(media) is not leaf.OBJECT:
        media = leaf.one(media) or leaf.one([raw.get(key) for key in _MEDIA])
    get: Callable[[str], Any] = media.get
    common["media_id"] = leaf.text(get("media_id") or get("id"))
    common["mime_type"] = leaf.text(get("mime_type"))
    common["sha"] = leaf.text(get("sha") or get("sha256"))
    common["caption"] = leaf.text(get("message") or get("caption"))
    common["filename"] = leaf.text(get("filename") or get("name"))
    return _made(ev.MediaReceived, common)


def _files(event: ev.MediaReceived) -> tuple[ev.ReceivedFile, ...]:
    """Flatten `{"images": [...], "documents": [...]}`, or a plain list."""
    attachments = event.raw.get("attachments")
    if not attachments:
        return ()
    groups = attachments.values() if _is_groups(attachments) else (attachments,)
    return tuple([_file(row) for group in groups for row in leaf.items(group) if type(row) is leaf.OBJECT])


def _file(row: Raw) -> ev.ReceivedFile:
    get = row.get
    fields = {
        "url": leaf.text(get("url")),
        "name": leaf.text(get("name")),
        "type": leaf.text(get("type")),
        "raw": row,
    }
    return _made(ev.ReceivedFile, fields)


def _is_groups(attachments: Any) -> bool:
    return type(attachments) is leaf.OBJECT and "url" not in attachments


def _contacts(raw: Raw, common: Raw) -> ev.ContactsReceived:
    return _made(ev.ContactsReceived, common)


def _cards(event: ev.ContactsReceived) -> tuple[ev.ContactCard, ...]:
    found = event.raw.get("contacts")
    return tuple([_card(item) for item in leaf.items(found) if type(item) is leaf.OBJECT]) if found else ()


def _card(raw: Raw) -> ev.ContactCard:
    get = raw.get
    name, org = get("name"), get("org")
    fields = {
        "name": _part(ev.CardName, {"formatted_name": name} if type(name) is str else leaf.one(name)),
        "org": _part(ev.CardOrganization, leaf.one(org)) if org else None,
        "birthday": leaf.text(get("birthday")),
        "phones": _parts(ev.CardPhone, get("phones")),
        "emails": _parts(ev.CardEmail, get("emails")),
        "addresses": _parts(ev.CardAddress, get("addresses")),
        "urls": _parts(ev.CardUrl, get("urls")),
        "ims": _parts(ev.CardIm, get("ims")),
        "raw": raw,
    }
    return _made(ev.ContactCard, fields)


def _part(kind: type[T], raw: Raw) -> T:
    # On a card the wire's names are the fields' names.
    empty = _EMPTY[kind]
    if raw.keys() <= empty.keys() and set(map(type, raw.values())) == _ONLY_TEXT:
        return _made(kind, empty | raw)
    return _made(kind, {name: leaf.text(raw.get(name)) for name in empty})


def _parts(kind: type[T], found: Any) -> tuple[T, ...]:
    if not found:
        return ()
    return tuple([_part(kind, item) for item in leaf.items(found) if type(item) is leaf.OBJECT])


def _reply(raw: Raw, common: Raw) -> ev.ReplyReceived:
    outer = leaf.one(raw.get("interactive")) or leaf.one(raw.get("button"))
    inner = leaf.one(outer.get("button_reply")) or leaf.one(outer.get("list_reply")) or outer
    title = leaf.text(leaf.first(inner.get("title"), inner.get("text")))
    common["text"] = leaf.first(common["text"], title)
    common["reply_id"] = leaf.text(leaf.first(inner.get("id"), inner.get("payload")))
    common["title"] = leaf.first(title, common["text"])
    common["description"] = leaf.text(inner.get("description"))
    return _made(ev.ReplyReceived, common)


def _status(raw: Raw) -> ev.StatusUpdate:
    id, sender, status = raw.get("id"), raw.get("from"), raw.get("status")  # noqa: A001 - the field's name
    if sender is None:
        sender = raw.get("recipient_id")  # WhatsApp's own name for it
    fields = {
        "id": id if type(id) is str else leaf.text(id) or "",
        "sender": sender if type(sender) is str else leaf.text(sender) or "",
        "status": status if type(status) is str else leaf.text(status) or "",
        "raw": raw,
    }
    return _made(ev.StatusUpdate, fields)


_KINDS: tuple[tuple[str, Callable[[Raw], ev.Event]], ...] = (("messages", _message), ("statuses", _status))

_TYPES: dict[str, Callable[[Raw, Raw], ev.MessageReceived]] = {
    "text": _words,
    "location": _location,
    "contacts": _contacts,
    "button": _reply,
    "interactive": _reply,
    **dict.fromkeys(_MEDIA, _media),
}

_CARD = (
    ev.CardName,
    ev.CardPhone,
    ev.CardEmail,
    ev.CardAddress,
    ev.CardOrganization,
    ev.CardUrl,
    ev.CardIm,
)
_EMPTY: dict[type, Raw] = {kind: dict.fromkeys(field.name for field in attrs.fields(kind)) for kind in _CARD}
_ONLY_TEXT = {str}


def _guessed(raw: Raw) -> str:
    """Name the type of a message that doesn't say: by the part that it holds."""
    return next((kind for kind in (*_TYPES, "reaction", "order") if raw.get(kind)), "unknown")


def _referral(event: ev.MessageReceived) -> ev.Referral | None:
    raw = leaf.one(event.raw.get("referral"))
    if not raw:
        return None
    get = raw.get
    fields = {
        "id": leaf.text(get("id") or get("source_id")),
        "url": leaf.text(get("url") or get("source_url")),
        "type": leaf.text(get("type") or get("source_type")),
        "header": leaf.text(get("header") or get("headline")),
        "body": leaf.text(get("body")),
        "media_type": leaf.text(get("media_type")),
        "media_url": leaf.text(get("media_url") or get("image_url") or get("video_url")),
        "thumbnail_url": leaf.text(get("thumbnail_url")),
        "raw": raw,
    }
    return _made(ev.Referral, fields)


def _read_late(kind: type, name: str, read: Callable[[Any], object]) -> None:
    # attrs keeps the name free on the class; the constructor writes the instance's own value over this one.
    late = cached_property(read)
    late.__set_name__(kind, name)
    setattr(kind, name, late)


_read_late(ev.MessageReceived, "referral", _referral)
_read_late(ev.ContactsReceived, "contacts", _cards)
_read_late(ev.MediaReceived, "attachments", _files)
