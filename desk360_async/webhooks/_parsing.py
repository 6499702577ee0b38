"""`parse`: a webhook's body → events, by rulings 33 to 38. Pure; every tolerance of the wire is here.

What the document shows is read in one straight line. What it doesn't show (neighbouring types, lists with
holes, missing fields) goes through the small functions at the end, so that tolerance costs only those
bodies that need it. The parts with many fields (contact cards, stored files, the advertisement) are built
when somebody first looks at them: most handlers don't, and building can't fail.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeGuard, TypeVar

import attrs

from desk360_async._errors import InvalidWebhook
from desk360_async.webhooks import _events as ev
from desk360_async.webhooks._decoding import decoded, refused

Raw = dict[str, Any]
T = TypeVar("T", bound=attrs.AttrsInstance)

_NESTED_BODIES = 3
_from_epoch = datetime.fromtimestamp
_MILLISECONDS = 100_000_000_000  # ruling 36: epoch seconds reach this in the year 5138
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
    document = body if type(body) is dict else _document(body)
    if len(document) == 1:  # as documented: one message, or one status
        for kind, build in _KINDS:
            only = document.get(kind)
            if type(only) is dict and "id" in only:
                return (build(only),)
    events = tuple(_found(document, _NESTED_BODIES))
    if events:
        return events
    if not document:
        problem = "it is an empty JSON object"
        raise refused("" if isinstance(body, Mapping) else _plain(body), problem)
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


def _plain(body: object) -> bytes | str:
    return bytes(body) if isinstance(body, bytes | bytearray | memoryview) else str(body)


def _document(body: object) -> Raw:
    if type(body) is not bytes and type(body) is not str:
        if isinstance(body, Mapping):
            return dict(body)
        if not isinstance(body, bytes | str | bytearray | memoryview):
            raise InvalidWebhook(f"parse() takes bytes, text or a mapping, not {type(body).__name__}")
        body = _plain(body)
    value = decoded(body)
    if type(value) is dict:
        return value
    if isinstance(value, list) and any(_is_envelope(item) for item in value):
        # Somebody batched whole bodies: {"body": [...]} has the same meaning and keeps every one of them.
        return {"body": value}
    problem = f"it is JSON, but {_NAMES.get(type(value), 'null')} and not an object"
    raise refused(body, problem)


_NAMES: dict[type, str] = {
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def _is_envelope(value: object) -> bool:
    return isinstance(value, dict) and ("messages" in value or "statuses" in value)


def _found(document: Raw, nested: int) -> Iterator[ev.Event]:
    for kind, build in _KINDS:
        if found := document.get(kind):
            for item in (found,) if type(found) is dict and "id" in found else _items(found):
                yield build(item) if isinstance(item, dict) else ev.UnknownEvent(raw={kind: item})
    if nested and (body := document.get("body")):
        yield from _nested(body, nested - 1)


def _nested(body: object, nested: int) -> Iterator[ev.Event]:
    if isinstance(body, str):
        try:
            body = decoded(body)
        except InvalidWebhook:
            return
    if isinstance(body, dict):
        yield from _found(body, nested)
    for item in body if isinstance(body, list) else ():
        if isinstance(item, dict) and item:
            yield from tuple(_found(item, nested)) or (ev.UnknownEvent(raw=item),)


def _items(found: object) -> list[Any]:
    """Return the entries of an object or a list, also of PHP's ways to write a list (ruling 22)."""
    if type(found) is not list:
        found = _listed(found)
    return [item for item in found if item is not None and item != {}]


def _listed(found: object) -> list[Any]:
    if isinstance(found, Mapping) and found.keys() == {"data"} and isinstance(found["data"], dict | list):
        found = found["data"]
    if isinstance(found, Mapping):
        holed = all(isinstance(key, str) and key.isdecimal() for key in found)
        return list(found.values()) if holed else [dict(found)]
    return list(found) if isinstance(found, list | tuple) else [found]


def _message(raw: Raw) -> ev.MessageReceived:
    kind = raw.get("type")
    if type(kind) is not str:
        kind = _guessed(raw)
    build = _TYPES.get(kind) or _TYPES.get(kind.strip().casefold(), _other)
    get = raw.get
    id, sender, name, text, at = get("id"), get("from"), get("name"), get("text"), get("timestamp")  # noqa: A001 - the field's name
    referral = get("referral")
    common: Raw = {
        "id": id if type(id) is str else _text(id) or "",
        "sender": sender if type(sender) is str else _text(sender) or "",
        "name": name if type(name) is str else _text(name),
        "sent_at": _moment(at) if at is not None else None,
        "type": kind,
        "text": text if type(text) is str else _text(text.get("body") if isinstance(text, dict) else text),
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
    at = _one(raw.get("location"))
    get = at.get
    common["location"] = _made(
        ev.Place,
        {
            "latitude": _degrees(get("latitude"), 90),
            "longitude": _degrees(get("longitude"), 180),
            "name": _text(get("name")),
            "address": _text(get("address")),
            "raw": at,
        },
    )
    return _made(ev.LocationReceived, common)


def _media(raw: Raw, common: Raw) -> ev.MediaReceived:
    media = raw.get(common["type"])
    if type(media) is not dict:
        media = _one(media) or next(filter(None, (_one(raw.get(key)) for key in _MEDIA)), {})
    get = media.get
    common["media_id"] = _text(get("media_id") or get("id"))
    common["mime_type"] = _text(get("mime_type"))
    common["sha"] = _text(get("sha") or get("sha256"))
    common["caption"] = _text(get("message") or get("caption"))
    common["filename"] = _text(get("filename") or get("name"))
    return _made(ev.MediaReceived, common)


def _files(event: ev.MediaReceived) -> tuple[ev.ReceivedFile, ...]:
    """Flatten `{"images": [...], "documents": [...]}`, or a plain list."""
    attachments = event.raw.get("attachments")
    if not attachments:
        return ()
    groups = attachments.values() if _is_groups(attachments) else (attachments,)
    return tuple([_file(row) for group in groups for row in _items(group) if type(row) is dict])


def _file(row: Raw) -> ev.ReceivedFile:
    get = row.get
    fields = {"url": _text(get("url")), "name": _text(get("name")), "type": _text(get("type")), "raw": row}
    return _made(ev.ReceivedFile, fields)


def _is_groups(attachments: object) -> TypeGuard[Raw]:
    return type(attachments) is dict and "url" not in attachments


def _contacts(raw: Raw, common: Raw) -> ev.ContactsReceived:
    return _made(ev.ContactsReceived, common)


def _cards(event: ev.ContactsReceived) -> tuple[ev.ContactCard, ...]:
    found = event.raw.get("contacts")
    return tuple([_card(item) for item in _items(found) if type(item) is dict]) if found else ()


def _card(raw: Raw) -> ev.ContactCard:
    get = raw.get
    name, org = get("name"), get("org")
    fields = {
        "name": _part(ev.CardName, {"formatted_name": name} if type(name) is str else _one(name)),
        "org": _part(ev.CardOrganization, _one(org)) if org else None,
        "birthday": _text(get("birthday")),
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
    return _made(kind, {name: _text(raw.get(name)) for name in empty})


def _parts(kind: type[T], found: object) -> tuple[T, ...]:
    if not found:
        return ()
    return tuple([_part(kind, item) for item in _items(found) if type(item) is dict])


def _reply(raw: Raw, common: Raw) -> ev.ReplyReceived:
    outer = _one(raw.get("interactive")) or _one(raw.get("button"))
    inner = _one(outer.get("button_reply")) or _one(outer.get("list_reply")) or outer
    title = _text(_first(inner.get("title"), inner.get("text")))
    common["text"] = _first(common["text"], title)
    common["reply_id"] = _text(_first(inner.get("id"), inner.get("payload")))
    common["title"] = _first(title, common["text"])
    common["description"] = _text(inner.get("description"))
    return _made(ev.ReplyReceived, common)


def _status(raw: Raw) -> ev.StatusUpdate:
    id, sender, status = raw.get("id"), raw.get("from"), raw.get("status")  # noqa: A001 - the field's name
    if sender is None:
        sender = raw.get("recipient_id")  # WhatsApp's own name for it
    fields = {
        "id": id if type(id) is str else _text(id) or "",
        "sender": sender if type(sender) is str else _text(sender) or "",
        "status": status if type(status) is str else _text(status) or "",
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
    raw = _one(event.raw.get("referral"))
    if not raw:
        return None
    get = raw.get
    fields = {
        "id": _text(get("id") or get("source_id")),
        "url": _text(get("url") or get("source_url")),
        "type": _text(get("type") or get("source_type")),
        "header": _text(get("header") or get("headline")),
        "body": _text(get("body")),
        "media_type": _text(get("media_type")),
        "media_url": _text(get("media_url") or get("image_url") or get("video_url")),
        "thumbnail_url": _text(get("thumbnail_url")),
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


def _text(value: object) -> str | None:
    """Return a text, or a whole number as text; all else is None, and stays in `.raw`.

    A float is no id: beyond 64 bits orjson rounds to one, and two ids might become equal.
    """
    if type(value) is str or value is None:
        return value
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _first(*values: Any) -> Any:
    for value in values:
        if value is not None:
            return value
    return None


def _one(value: object) -> Raw:
    """Return an object, or the first one of a list where one object was expected; else an empty one."""
    if type(value) is dict:
        return value
    return next((item for item in _items(value) if isinstance(item, dict)), {}) if value else {}


def _moment(value: Any) -> datetime | None:
    """Return epoch seconds or milliseconds, as text or number, as a moment in UTC (ruling 36)."""
    try:
        seconds = int(value) if type(value) is str else float(value)
        if seconds > _MILLISECONDS:
            seconds /= 1000
        return _from_epoch(seconds, UTC) if seconds > 0 and value is not True else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _degrees(value: object, most: int) -> float | None:
    if type(value) is not float:
        try:
            value = float(value) if not isinstance(value, bool) else math.nan  # type: ignore[arg-type]  # TypeError is handled
        except (TypeError, ValueError, OverflowError):
            return None
    return value if -most <= value <= most else None
