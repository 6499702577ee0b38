"""Records of sends under a key: their states, the fields that two messages are compared by, and replies.

Pure functions. No message is stored: each field becomes a keyed hash, from which it can't be read back.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, cast

import attrs

from desk360_async import (
    Attachment,
    BulkSent,
    MediaMessage,
    Message,
    Sent,
    SentFile,
    SentMedia,
    TemplateBatch,
    TemplateMessage,
)
from desk360_async._messages import phones_of
from desk360_async._phones import person_of

SendState: TypeAlias = Literal["waiting", "in_flight", "accepted", "not_sent", "unknown"]
"""The state of a key's last send: waiting for the limit, on the wire, or ended with an outcome."""

Reply: TypeAlias = Sent | BulkSent | SentMedia

# Statuses come in no guaranteed order (ruling 38). A status never replaces a status of a higher rank.
_RANK = {"sent": 1, "delivered": 2, "read": 3, "failed": 4, "deleted": 5}
_IDS = ("template_id", "language_id")


@attrs.frozen
class SendRecord:
    """The last send under one idempotency key.

    Attributes:
        key: the idempotency key.
        state: "waiting", "in_flight", "accepted", "not_sent" or "unknown".
        since: when the state began, an aware datetime.
        attempts: requests begun under this key, from 0.
        reply: the stored reply; None unless the send was accepted. A bulk reply from `get` holds no phones.
        seen: the furthest status that a webhook showed for this send, such as "delivered", or None.
        resolved: the decision of a person ("resend", "accepted", "not_sent"), or None.
    """

    key: str
    state: SendState
    since: datetime
    attempts: int
    reply: Reply | None = None
    seen: str | None = None
    resolved: str | None = None


def hashes(message: Message, integration: int, base_url: str, secret: bytes) -> dict[str, str]:
    """Return a keyed hash for each field of a message, and for its kind, server and integration.

    Args:
        message: the message as given, with names or ids of templates.
        integration: the integration's id.
        base_url: the server.
        secret: the log's own key, so that two logs have different hashes.
    """
    named = {field.name: getattr(message, field.name) for field in attrs.fields(type(message))}
    values = {"base_url": base_url, "integration_id": integration, "kind": type(message).__name__, **named}
    return {name: hash_of(name, value, secret) for name, value in values.items() if value is not None}


def ids_of(resolved: Message, secret: bytes) -> dict[str, str]:
    """Return the hashes of the template's id and the language's id, from a message with known ids."""
    if not isinstance(resolved, TemplateMessage | TemplateBatch):
        return {}
    found = zip(_IDS, (resolved.template, resolved.language), strict=True)
    return {name: hash_of(name.removesuffix("_id"), value, secret) for name, value in found}


def hash_of(name: str, value: object, secret: bytes) -> str:
    """Return the keyed hash of one field, 32 hexadecimal digits."""
    canonical = json.dumps([name, _plain(value)], ensure_ascii=False, sort_keys=True)
    return hmac.new(secret, canonical.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def _plain(value: object) -> Any:
    """Return a value in a form for JSON; an attachment as its name, bytes in memory, size and type."""
    if isinstance(value, Attachment):
        return _plain_file(value)
    kind = type(value)
    if attrs.has(kind):
        return [kind.__name__, *([f.name, _plain(getattr(value, f.name))] for f in attrs.fields(kind))]
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return [[str(key), _plain(inner)] for key, inner in sorted(fields.items())]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in cast("Sequence[object]", value)]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _plain_file(file: Attachment) -> list[Any]:
    # A file on disk or a stream is compared by name, type and size. To read its bytes would cost as much as
    # a second upload.
    shown = {f.name: getattr(file, f.name) for f in attrs.fields(type(file))}
    content = next((value for value in shown.values() if isinstance(value, bytes)), None)
    return [file.name, _plain(content), _plain(shown.get("size")), _plain(shown.get("content_type"))]


def conflicts(stored: Mapping[str, str], asked: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the fields that differ, sorted.

    A template's or a language's id in `asked` also equals the id in `stored`.

    Args:
        stored: the hashes of the key's last send, with those of the template's and language's ids if known.
        asked: the hashes of the message that is asked for now.
    """
    names = (set(stored) | set(asked)) - set(_IDS)
    return tuple(
        sorted(
            name
            for name in names
            if stored.get(name) != asked.get(name)
            and (name not in asked or stored.get(f"{name}_id") != asked[name])
        )
    )


def message_ids(reply: Reply) -> tuple[str, ...]:
    """Return the ids by which webhooks name a send."""
    if isinstance(reply, Sent):
        return (reply.message_id,) if reply.message_id else ()
    if isinstance(reply, SentMedia):
        return tuple(file.message_id for file in reply.files if file.message_id)
    return ()


def pack(reply: Reply, message: Message) -> dict[str, Any]:
    """Return a reply in its stored form: ids, files, or the positions of phones for a bulk reply."""
    if isinstance(reply, Sent):
        fallback = {"fallback": True} if isinstance(message, MediaMessage) else {}
        return {"message_id": reply.message_id, **fallback}
    if isinstance(reply, SentMedia):
        files = [
            {
                f.name: value
                for f in attrs.fields(SentFile)
                if f.name != "raw" and (value := getattr(file, f.name))
            }
            for file in reply.files
        ]
        return {"files": files, "missing": reply.missing}
    asked = phones_of(message)
    unlisted, opted_out = ({*map(person_of, phones)} for phones in (reply.unlisted, reply.opted_out))
    return {
        "unlisted": [n for n, phone in enumerate(asked) if person_of(phone) in unlisted],
        "opted_out": [n for n, phone in enumerate(asked) if person_of(phone) in opted_out],
    }


def unpack(stored: Mapping[str, Any], message: Message | None) -> Reply:
    """Return a stored reply with `replayed=True`.

    Args:
        stored: the reply as `pack` returned it, or `{"message_id": …}` of a send that a person resolved.
        message: the message that is asked for now; None where only the record is read.
    """
    if "files" in stored:
        files = tuple(SentFile(**file) for file in stored["files"])
        return SentMedia(files, missing=stored.get("missing", 0), replayed=True)
    if "unlisted" in stored or isinstance(message, TemplateBatch):
        return _bulk(stored, message)
    if isinstance(message, MediaMessage) and "fallback" not in stored:
        return SentMedia((), missing=len(message.attachments), replayed=True)
    return Sent(stored.get("message_id", ""), replayed=True)


def _bulk(stored: Mapping[str, Any], message: Message | None) -> BulkSent:
    asked = phones_of(message) if message is not None else ()
    apart = {name: set(stored.get(name, ())) for name in ("unlisted", "opted_out")}
    return BulkSent(
        tuple(p for n, p in enumerate(asked) if not any(n in places for places in apart.values())),
        unlisted=tuple(p for n, p in enumerate(asked) if n in apart["unlisted"]),
        opted_out=tuple(p for n, p in enumerate(asked) if n in apart["opted_out"]),
        replayed=True,
    )


def person_in(message: Message) -> str | None:
    """Return a message's only recipient, as digits; None for several, or if no phone is loaded."""
    phones = phones_of(message)
    return str(person_of(phones[0])) if len(phones) == 1 else None


def later_status(seen: str | None, status: str) -> str | None:
    """Return the status to keep, or None if the stored one stays.

    Args:
        seen: the stored status, or None.
        status: the status that a webhook brings.
    """
    if not status or status == seen:
        return None
    return status if _RANK.get(status, 0) >= _RANK.get(seen or "", 0) else None
