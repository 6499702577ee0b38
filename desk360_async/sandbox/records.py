"""The sandbox's values and its memory: answers, message ids, messages, requests, files, and the feed.

Message ids have the form of Desk360's, read off the document's samples: they decode to the recipient.
`gBEGkFBXUQRnAglW0luHY8xsrFk` is URL-safe base64 of `80 11 06 905057510467 02 09 56d25b8763cc6cac59`.
`80 11` is a mark. `06` is the length of the number in bytes. The number follows, two digits to a byte.
`02 09` gives the length of a unique rest, and the rest follows. Ids of customers' messages, such as
`ABEGkFBXUQRnAgo6xTEQCONO2nW9`, begin with 00 and are a byte longer.

Each event is also in the feed, with a number, for any number of readers. A reader keeps a cursor and asks
again. That works across threads and event loops; an event object of one loop works in that loop only.
Publishing costs an append; a value is turned into JSON when a reader asks for it.
"""

import base64
import hashlib
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from random import Random
from typing import Any, Literal, TypeAlias

from attrs import evolve, field, frozen, has
from attrs import fields as attrs_fields

from desk360_async.sandbox.account import Account
from desk360_async.sandbox.forms import Upload, is_list, is_map

EventKind: TypeAlias = Literal[
    "message", "status", "reply", "read", "request", "webhook", "limit", "fault", "reset"
]
KEPT = 5_000  # events


@frozen
class FeedEvent:
    """One event.

    Attributes:
        number: 1, 2, 3 …, without gaps.
        kind: the kind of event.
        value: an attrs value or a mapping.
    """

    number: int
    kind: EventKind
    value: Any

    def as_json(self) -> dict[str, Any]:
        """Return the event as an object of the value's own fields, `event` and `seq`."""
        value = fields_of(self.value) if _is_attrs(self.value) else self.value
        return {**value, "event": self.kind, "seq": self.number}


def fields_of(value: Any) -> dict[str, Any]:
    """Return an attrs value's own fields; unlike `asdict`, it leaves the values inside unchanged."""
    return {one.name: getattr(value, one.name) for one in attrs_fields(_class_of(value))}


def _class_of(value: Any) -> type[Any]:
    kind: type[Any] = value.__class__
    return kind


def _is_attrs(value: Any) -> bool:
    return has(_class_of(value))


class Feed:
    """The latest 5,000 events of a sandbox. Safe to use from any thread."""

    def __init__(self, keep: int = KEPT) -> None:
        self._events: deque[FeedEvent] = deque(maxlen=keep)
        self._last = 0
        self._lock = threading.Lock()

    @property
    def last(self) -> int:
        """The number of the latest event; 0 before the first one."""
        return self._last

    def publish(self, kind: EventKind, value: Mapping[str, Any] | Any) -> None:
        """Append one event.

        Args:
            kind: its kind.
            value: an attrs value or a mapping of plain values; it must not change afterwards.
        """
        with self._lock:
            self._last += 1
            self._events.append(FeedEvent(self._last, kind, value))

    def after(self, cursor: int, limit: int) -> list[FeedEvent]:
        """List the events after a cursor, oldest first.

        Args:
            cursor: the number of the last event that the reader has seen; 0 for all.
            limit: how many at most.
        """
        with self._lock:
            # A cursor ahead of the feed belongs to an earlier run of the server: its reader gets all events.
            seen = cursor if cursor <= self._last else 0
            first = self._last - len(self._events)
            start = max(0, seen - first)
            return [self._events[index] for index in range(start, min(start + limit, len(self._events)))]


DOC_URL = "https://docs.desk360.com/api"
PAGE_SIZE = 20
_PAGE = re.compile(r"[ \t\n\r\v\0]*\+?([1-9][0-9]{0,18})[ \t\n\r\v\0]*")
_SHOWN = 100  # levels of a body that the request log shows


@frozen
class Answer:
    """A status, headers (lower case), a body in bytes, and the reason of a refusal for the request log."""

    status: int
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(factory=dict[str, str])
    reason: str = ""

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Answer":
        """Encode a value as Laravel does: ASCII only, without spaces."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return cls(status, body, {"content-type": "application/json", **(headers or {})})

    @classmethod
    def of_error(
        cls, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> "Answer":
        """Build the document's error: `{"error": {"code", "message", "doc_url"}}`."""
        error = {"code": code, "message": message, "doc_url": DOC_URL}
        return evolve(cls.of_json({"error": error}, status, headers), reason=message)


def model_not_found(model: str, identity: object) -> Answer:
    """404 for an unknown id in the path."""
    return Answer.of_error(
        404, "model_not_found_exception", f"No query results for model [{model}] {identity}."
    )


def page_number(asked: str) -> int:
    """Read a query's `page` as Laravel does, by PHP's FILTER_VALIDATE_INT; what isn't positive is page 1."""
    found = _PAGE.fullmatch(asked)
    return int(found[1]) if found and int(found[1]) < 2**63 else 1


def page_of(rows: tuple[Any, ...], query: dict[str, str], url: str, size: int = PAGE_SIZE) -> Answer:
    """Return a page of 20 rows; each page except the last has the document's unquoted `Link`."""
    number = page_number(query.get("page", "1"))
    start = (number - 1) * size
    more = start + size < len(rows)
    link = {"link": f"<{url}?page={number + 1}>; rel=next"} if more else {}
    return Answer.of_json(list(rows[start : start + size]), headers=link)


_OUTBOUND, _INBOUND = b"\x80\x11", b"\x00\x11"


def message_id(phone: str, seed: int, number: int, *, inbound: bool = False) -> str:
    """Make the id of the `number`-th message to (or from) an E.164 phone; the same for the same seed."""
    digits = phone.removeprefix("+")
    # An odd digit is filled up with F, as telephone signalling does.
    packed = bytes.fromhex(digits + "f" * (len(digits) % 2))
    unique = hashlib.blake2b(b"%d/%d" % (seed, number), digest_size=10 if inbound else 9).digest()
    mark = _INBOUND if inbound else _OUTBOUND
    raw = mark + bytes([len(packed)]) + packed + bytes([2, len(unique)]) + unique
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def phone_of(identity: str) -> str | None:
    """Return the phone that a message id contains; None if the id has another form."""
    try:
        raw = base64.urlsafe_b64decode(identity + "=" * (-len(identity) % 4))
        packed = raw[3 : 3 + raw[2]]
    except (ValueError, IndexError):
        return None
    digits = packed.hex().rstrip("f")
    is_whole = raw[1:2] == b"\x11" and len(packed) == raw[2]
    return f"+{digits}" if is_whole and digits.isdecimal() else None


Kind: TypeAlias = Literal[
    "template", "text", "location", "contacts", "media", "interactive", "location_request"
]


@frozen
class ReceivedFile:
    """A file as it arrived.

    Attributes:
        name: its base name.
        type: the media type that the part declared.
        size: bytes.
        sha256: the content's SHA-256 in hexadecimal.
    """

    name: str
    type: str
    size: int
    sha256: str

    @classmethod
    def of(cls, upload: Upload) -> "ReceivedFile":
        """Describe an upload without keeping its bytes."""
        digest = hashlib.sha256(upload.content).hexdigest()
        return cls(upload.name, upload.content_type, len(upload.content), digest)


@frozen
class ReceivedMessage:
    """One message that the sandbox took for one recipient.

    Attributes:
        phone: the recipient, as sent.
        kind: which endpoint took it.
        message_id: the id in the answer. A bulk send's answer has no ids: there, the id of a single send.
        integration_id: the number that it was sent from.
        at: when, in seconds of the sandbox's clock.
        template_id: of a template message.
        language_id: of a template message.
        parameters: of a template message.
        text: the text, or the body of an interactive message.
        content: the location, the contacts, the file's media id, or an interactive message's other fields.
        files: the files that came with it.
        bulk: whether it came in a bulk send.
    """

    phone: str
    kind: Kind
    message_id: str
    integration_id: int
    at: float
    template_id: int | None = None
    language_id: int | None = None
    parameters: dict[str, Any] = field(factory=dict[str, Any])
    text: str | None = None
    content: Any = None
    files: tuple[ReceivedFile, ...] = ()
    bulk: bool = False


@frozen
class ReceivedRead:
    """A request to mark messages as read ("Read WhatsApp Message").

    Attributes:
        phone: the customer's, as sent.
        message_ids: which messages.
        integration_id: the number that the messages went to.
        at: when, in seconds of the sandbox's clock.
    """

    phone: str
    message_ids: tuple[str, ...]
    integration_id: int
    at: float


Verdict: TypeAlias = Literal["counted", "refused", "not_counted", "dropped"]


@frozen
class ReceivedRequest:
    """One HTTP request, without the key.

    Attributes:
        method: the HTTP method.
        path: below the host, `/v1` included.
        query: the query's fields.
        headers: names in lower case; of a repeated one, the first, by which the sandbox decides.
        body: the fields as PHP understood them, with files as `ReceivedFile`, and "…" below 100 levels.
        size: bytes of the body.
        status: the answer's HTTP status; None where no answer was sent.
        verdict: "counted" (against the limit), "refused" (429), "not_counted" (405, 404, 413, 301) or
            "dropped" (the connection ended before it was counted).
        at: when, in seconds of the sandbox's clock.
        problems: why its fields were refused, a line each.
        fault: the kind of the fault that hit it, or None.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    size: int
    status: int | None
    verdict: Verdict
    at: float
    problems: tuple[str, ...] = ()
    fault: str | None = None


@frozen
class StoredMedia:
    """An uploaded file that can be fetched again ("Get WhatsApp Media")."""

    media_id: str
    integration_id: int
    name: str
    content_type: str
    content: bytes = field(repr=False)


def describe(value: Any, levels: int = _SHOWN) -> Any:
    """Copy parsed fields with each upload replaced by its description, and what is nested deeper by "…"."""
    if isinstance(value, Upload):
        return ReceivedFile.of(value)
    if not (is_map(value) or is_list(value)):
        return value
    if not levels:
        return "…"
    if is_map(value):
        return {key: describe(item, levels - 1) for key, item in value.items()}
    return [describe(item, levels - 1) for item in value]


class RequestLog:
    """The latest requests: at most `keep` of them, and at most `budget` bytes of bodies."""

    def __init__(self, keep: int | None, budget: int = 4 * 1024 * 1024) -> None:
        self._entries: deque[ReceivedRequest] = deque(maxlen=keep)
        self._budget = budget
        self._size = 0

    @property
    def is_kept(self) -> bool:
        """Whether anything is remembered at all."""
        return self._entries.maxlen != 0

    def append(self, entry: ReceivedRequest) -> None:
        """Remember one request and forget the oldest ones that no longer fit."""
        if not self.is_kept:
            return
        if len(self._entries) == self._entries.maxlen:
            self._forget()
        self._entries.append(entry)
        self._size += entry.size
        # A parsed body takes about ten times its bytes. The newest request stays, whatever its size.
        while self._size > self._budget and len(self._entries) > 1:
            self._forget()

    def _forget(self) -> None:
        self._size -= self._entries.popleft().size

    def __iter__(self) -> Iterator[ReceivedRequest]:
        return iter(tuple(self._entries))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0


class MediaStore:
    """Uploaded media by id, at most `max_bytes` in sum. The oldest is forgotten first, the newest never."""

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self._files: dict[str, StoredMedia] = {}
        self._size = 0

    def put(self, media: StoredMedia) -> None:
        """Keep a file so that it can be fetched."""
        self._discard(media.media_id)
        self._files[media.media_id] = media
        self._size += len(media.content)
        while self._size > self.max_bytes and len(self._files) > 1:
            self._discard(next(iter(self._files)))

    def _discard(self, media_id: str) -> None:
        if media := self._files.pop(media_id, None):
            self._size -= len(media.content)

    def get(self, media_id: str) -> StoredMedia | None:
        """Find a file, or None where it was never uploaded or is forgotten."""
        return self._files.get(media_id)

    def __len__(self) -> int:
        return len(self._files)

    def clear(self) -> None:
        """Forget every file."""
        self._files.clear()
        self._size = 0


RefusedPhones: TypeAlias = Collection[str] | Callable[[str], bool]


def ends_in_zeros(phone: str) -> bool:
    """The default of `refused_phones`: a number that ends in seven zeros is "not on WhatsApp"."""
    return phone.endswith("0000000")


class Store:
    """Everything that one sandbox has received. Safe to read from another thread than the server's."""

    accepted: int
    page_size: int

    def __init__(
        self,
        account: Account,
        *,
        clock: Callable[[], float],
        seed: int,
        keep: int | None,
        refused_phones: RefusedPhones,
        strict_bulk: bool,
        announce: Callable[[ReceivedMessage], None],
        feed: Feed,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self.account = account
        self.strict_bulk = strict_bulk
        self.media: MediaStore = MediaStore()
        self.page_size = page_size
        self._clock = clock
        self._seed = seed
        self._refused_phones = refused_phones
        self._announce = announce
        self._feed = feed
        self._messages: deque[ReceivedMessage] = deque(maxlen=keep)
        self._reads: deque[ReceivedRead] = deque(maxlen=keep)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget the messages and begin the ids anew."""
        with self._lock:
            self.accepted = 0
            self._random = Random(self._seed)  # noqa: S311 - ids that a test can repeat, no secrets
            self._messages.clear()
            self._reads.clear()
            self.media.clear()

    def is_refused(self, phone: str) -> bool:
        """Whether this number isn't on WhatsApp, by the sandbox's settings."""
        refused = self._refused_phones
        return refused(phone) if callable(refused) else phone in refused

    def take(self, phone: str, kind: Kind, integration_id: int, **content: Any) -> ReceivedMessage:
        """Accept one message for one recipient."""
        with self._lock:
            self.accepted += 1
            identity = message_id(phone, self._seed, self.accepted)
            message = ReceivedMessage(phone, kind, identity, integration_id, self._clock(), **content)
            self._messages.append(message)
        if self._messages.maxlen != 0:
            self._feed.publish("message", message)
        self._announce(message)
        return message

    def take_read(self, phone: str, message_ids: Iterable[str], integration_id: int) -> None:
        """Note that messages were marked as read."""
        receipt = ReceivedRead(phone, tuple(message_ids), integration_id, self._clock())
        with self._lock:
            self._reads.append(receipt)
        if self._reads.maxlen != 0:
            self._feed.publish("read", receipt)

    def keep_media(self, upload: Upload, integration_id: int) -> StoredMedia:
        """Keep an uploaded file under a new media id."""
        identity = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        media = StoredMedia(identity, integration_id, upload.name, upload.content_type, upload.content)
        with self._lock:
            self.media.put(media)
        return media

    def messages(self) -> list[ReceivedMessage]:
        """Copy the record of messages, oldest first."""
        with self._lock:
            return list(self._messages)

    def sent(self, to: str | None, template: int | str | None) -> list[ReceivedMessage]:
        """List the messages that fit a phone (in any spelling) and a template (id or name); None fits all."""
        digits = None if to is None else _digits(to)
        names = {row["id"]: row["name"] for rows in self.account.templates.values() for row in rows}
        return [
            message
            for message in self.messages()
            if digits in (None, _digits(message.phone))
            and (template is None or template in (message.template_id, names.get(message.template_id)))
        ]

    def reads(self) -> list[ReceivedRead]:
        """Copy the record of read receipts, oldest first."""
        with self._lock:
            return list(self._reads)


def _digits(phone: str) -> str:
    return re.sub(r"[^0-9]", "", phone)


def files_of(*uploads: Upload | None) -> tuple[ReceivedFile, ...]:
    """Describe each upload; None is skipped."""
    return tuple(ReceivedFile.of(upload) for upload in uploads if upload is not None)
