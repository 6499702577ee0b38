"""What the sandbox remembers: messages taken, requests seen, media kept. Bounded, so that a campaign fits."""

import hashlib
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from desk360_async.sandbox.forms import Upload, is_list, is_map

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
        message_id: the id that the answer gave, or would have given for a bulk send.
        integration_id: the number that it was sent from.
        at: when, in seconds of the sandbox's clock.
        template_id: of a template message.
        language_id: of a template message.
        parameters: of a template message.
        text: the text, or the body beside buttons.
        content: the location, the contacts, what is beside the body of buttons, or the file's media id.
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
        headers: names in lower case.
        body: the fields as PHP understood them, with files as `ReceivedFile`.
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


def describe(value: Any) -> Any:
    """Copy parsed fields with each upload replaced by its description."""
    if isinstance(value, Upload):
        return ReceivedFile.of(value)
    if is_map(value):
        return {key: describe(item) for key, item in value.items()}
    return [describe(item) for item in value] if is_list(value) else value


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
        # A parsed body takes about ten times its bytes; the newest is kept however large.
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
    """Uploaded media by id: at most `max_bytes` in sum, the oldest forgotten first, the newest never."""

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
