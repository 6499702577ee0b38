"""`parse`: a webhook's body → events, by rulings 33 to 38. Pure.

All tolerance for the vendor's JSON is in this module. The functions at the end take any value, also one of an
unexpected type (rulings 22 and 36), and never raise.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs

from desk360_async import _json
from desk360_async._errors import InvalidWebhook
from desk360_async.webhooks import _events as ev

Raw = dict[str, Any]
T = TypeVar("T", bound=attrs.AttrsInstance)

# Annotated as Any, since checkers narrow JSON's values to `dict[Unknown, Unknown]` otherwise.
_OBJECT: Any = dict
_LIST: Any = list
_MAPPING: Any = Mapping

_from_epoch = datetime.fromtimestamp
_bare: Any = object.__new__
_MILLISECONDS = 100_000_000_000  # ruling 36: epoch seconds reach this in the year 5138

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
    try:
        document: Any = _json.decode(body) if type(body) is bytes else body
    except _json.UnreadableJSON as error:
        raise _refusal(_plain(body), f"it is no JSON: {error}") from None
    if type(document) is not _OBJECT:
        document = _document(body)
    if len(document) == 1:  # as documented: one message, or one status
        for kind, build in _KINDS:
            only: Any = document.get(kind)
            if type(only) is _OBJECT and "id" in only:
                return (build(only),)
    events = tuple(_found(document, _NESTED_BODIES))
    if events:
        return events
    if not document:
        problem = "it is an empty JSON object"
        raise _refusal("" if isinstance(body, _MAPPING) else _plain(body), problem)
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
    """Return the event of `raw`, an event's own JSON object; `kind` is a value that `kind_of` returns."""
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
        if isinstance(body, _MAPPING):
            given: Raw = body if type(body) is _OBJECT else dict(body)
            return given
        if not isinstance(body, bytes | str | bytearray | memoryview):
            raise InvalidWebhook(f"parse() takes bytes, text or a mapping, not {type(body).__name__}")
        body = _plain(body)
    value = _decode(body)
    if type(value) is _OBJECT:
        found: Raw = value
        return found
    if isinstance(value, _LIST) and _has_envelope(value):
        # A list of whole bodies is read like {"body": [...]}, which keeps each of them.
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
    return any(type(value) is _OBJECT and ("messages" in value or "statuses" in value) for value in values)


def _found(document: Raw, nested: int) -> Iterator[ev.Event]:
    for kind, build in _KINDS:
        if found := document.get(kind):
            for item in (found,) if type(found) is _OBJECT and "id" in found else _items(found):
                yield build(item) if isinstance(item, _OBJECT) else ev.UnknownEvent(raw={kind: item})
    if nested and (body := document.get("body")):
        yield from _nested(body, nested - 1)


def _nested(body: Any, nested: int) -> Iterator[ev.Event]:
    if isinstance(body, str):
        try:
            body = _json.decode(body)
        except _json.UnreadableJSON:
            return
    if isinstance(body, _OBJECT):
        yield from _found(body, nested)
    for item in body if isinstance(body, _LIST) else ():
        if isinstance(item, _OBJECT) and item:
            yield from tuple(_found(item, nested)) or (ev.UnknownEvent(raw=item),)


def _message(raw: Raw) -> ev.MessageReceived:
    get: Callable[[str], Any] = raw.get
    kind = get("type")
    if type(kind) is not str:
        kind = _guessed_type(raw)
    build = _TYPES.get(kind) or _TYPES.get(kind.strip().casefold(), _other)
    text: Any = get("text")
    if type(text) is _OBJECT:
        text = text.get("body")
    referral = get("referral")
    name, identity, sender = get("name"), get("id"), get("from")
    # Nearly all values are texts already. A call of `_text` for each would take a tenth of the time.
    common: Raw = {
        "id": identity if type(identity) is str else _text(identity) or "",
        "sender": sender if type(sender) is str else _text(sender) or "",
        "name": name if type(name) is str else _text(name),
        "sent_at": _moment(get("timestamp")),
        "type": kind,
        "text": text if type(text) is str else _text(text),
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
    if not _REPLIES.isdisjoint(raw) and _is_reply(raw):
        return _reply(raw, common)
    common["text"] = common["text"] or ""
    return ev.TextReceived(**common)


def _location(raw: Raw, common: Raw) -> ev.LocationReceived:
    at = _one(raw.get("location"))
    place = ev.Place(
        latitude=_degrees(at.get("latitude"), 90),
        longitude=_degrees(at.get("longitude"), 180),
        name=_text(at.get("name")),
        address=_text(at.get("address")),
        raw=at,
    )
    return ev.LocationReceived(location=place, **common)


def _media(raw: Raw, common: Raw) -> ev.MediaReceived:
    media = _one(raw.get(common["type"])) or _one([raw.get(key) for key in _MEDIA])
    get: Callable[[str], Any] = media.get
    return ev.MediaReceived(
        media_id=_text(get("media_id") or get("id")),
        mime_type=_text(get("mime_type")),
        sha=_text(get("sha") or get("sha256")),
        caption=_text(get("message") or get("caption")),
        filename=_text(get("filename") or get("name")),
        attachments=_files(raw.get("attachments")),
        **common,
    )


def _files(attachments: Any) -> tuple[ev.ReceivedFile, ...]:
    """Flatten `{"images": [...], "documents": [...]}`, or a plain list."""
    if not attachments:
        return ()
    is_groups = type(attachments) is _OBJECT and "url" not in attachments
    groups = attachments.values() if is_groups else (attachments,)
    return tuple([_file(row) for group in groups for row in _items(group) if type(row) is _OBJECT])


def _file(row: Raw) -> ev.ReceivedFile:
    return ev.ReceivedFile(
        url=_text(row.get("url")),
        name=_text(row.get("name")),
        type=_text(row.get("type")),
        raw=row,
    )


def _contacts(raw: Raw, common: Raw) -> ev.ContactsReceived:
    found = _items(raw.get("contacts"))
    cards = tuple([_card(item) for item in found if type(item) is _OBJECT])
    return ev.ContactsReceived(contacts=cards, **common)


def _card(raw: Raw) -> ev.ContactCard:
    name, org = raw.get("name"), raw.get("org")
    return ev.ContactCard(
        name=_part(ev.CardName, {"formatted_name": name} if type(name) is str else _one(name)),
        org=_part(ev.CardOrganization, _one(org)) if org else None,
        birthday=_text(raw.get("birthday")),
        phones=_parts(ev.CardPhone, raw.get("phones")),
        emails=_parts(ev.CardEmail, raw.get("emails")),
        addresses=_parts(ev.CardAddress, raw.get("addresses")),
        urls=_parts(ev.CardUrl, raw.get("urls")),
        ims=_parts(ev.CardIm, raw.get("ims")),
        raw=raw,
    )


def _part(kind: type[T], raw: Raw) -> T:
    # A card's JSON has the fields' names, and each field is a text or None. Calls of `kind` for each part and
    # of `_text` for each field would take a fifth of the time of all documented bodies.
    part: T = _bare(kind)
    fields = part.__dict__
    fields.update(_EMPTY_PARTS[kind])
    for name, value in raw.items():
        if name in fields:
            fields[name] = value if type(value) is str else _text(value)
    return part


def _parts(kind: type[T], found: Any) -> tuple[T, ...]:
    if not found:
        return ()
    rows = found if type(found) is _LIST else _items(found)
    return tuple([_part(kind, item) for item in rows if item and type(item) is _OBJECT])


def _reply(raw: Raw, common: Raw) -> ev.ReplyReceived:
    outer = _one(raw.get("interactive")) or _one(raw.get("button")) or raw
    if flow := _one(outer.get("nfm_reply")):
        return _flow(flow, common)
    inner = next((part for key in _BUTTON_PARTS if (part := _one(outer.get(key)))), outer)
    flat = inner is raw  # then `id` and `text` are the message's, not a button's
    title = _text(_first(inner.get("title"), None if flat else inner.get("text")))
    own_id = None if flat else _first(inner.get("id"), inner.get("payload"))
    button_id = _first(own_id, inner.get("button_id"), outer.get("button_id"), raw.get("button_id"))
    words = raw.get("button")
    title = _first(title, words if type(words) is str else None)
    common["text"] = _first(common["text"], title)
    return ev.ReplyReceived(
        reply_id=_text(_first(button_id, inner.get("payload"))),
        title=_first(title, common["text"]),
        description=_text(inner.get("description")),
        **common,
    )


def _flow(flow: Raw, common: Raw) -> ev.ReplyReceived:
    answers: Any = flow.get("response_json")
    if isinstance(answers, str):
        try:
            answers = _json.decode(answers)
        except _json.UnreadableJSON:  # stays in `.raw`
            answers = None
    title = _text(flow.get("body"))
    common["text"] = _first(common["text"], title)
    return ev.ReplyReceived(title=_first(title, common["text"]), answers=_one(answers), **common)


def _status(raw: Raw) -> ev.StatusUpdate:
    sender = raw.get("from")
    if sender is None:
        sender = raw.get("recipient_id")  # WhatsApp's own name for it
    return ev.StatusUpdate(
        id=_text(raw.get("id")) or "",
        sender=_text(sender) or "",
        status=_text(raw.get("status")) or "",
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
    """Return a type for a message that has no type: the name of the part that the message holds."""
    if _is_reply(raw):
        return "interactive"
    return next((kind for kind in (*_TYPES, "reaction", "order") if raw.get(kind)), "unknown")


def _referral(found: Any) -> ev.Referral | None:
    raw = _one(found)
    if not raw:
        return None
    get = raw.get
    return ev.Referral(
        id=_text(get("id") or get("source_id")),
        url=_text(get("url") or get("source_url")),
        type=_text(get("type") or get("source_type")),
        header=_text(get("header") or get("headline")),
        body=_text(get("body")),
        media_type=_text(get("media_type")),
        media_url=_text(get("media_url") or get("image_url") or get("video_url")),
        thumbnail_url=_text(get("thumbnail_url")),
        raw=raw,
    )


def _items(found: Any) -> list[Any]:
    """Return the entries of an object or a list, also if PHP wrote the list in another form (ruling 22)."""
    rows = found if type(found) is _LIST else _json.as_rows(found)
    return [item for item in rows if item or (item is not None and item != {})]


def _text(value: object) -> str | None:
    """Return a text, or a whole number as text; None for any other value, which stays in `.raw`.

    A float is no id: orjson reads a number beyond 64 bits as a rounded float, and two ids might become equal.
    """
    if type(value) is str or value is None:
        return value
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _first(*values: Any) -> Any:
    """Return the first value that isn't None, or None."""
    for value in values:
        if value is not None:
            return value
    return None


def _one(value: Any) -> Raw:
    """Return the object, or the first object of a list, or an empty object."""
    if type(value) is _OBJECT:
        found: Raw = value
        return found
    empty: Raw = {}
    return next((item for item in _items(value) if isinstance(item, _OBJECT)), empty) if value else empty


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
    """Return a number from -most to most, or None."""
    if type(value) is not float:
        try:
            value = float(value) if not isinstance(value, bool) else math.nan  # type: ignore[arg-type]  # TypeError is handled
        except (TypeError, ValueError, OverflowError):
            return None
    return value if -most <= value <= most else None
