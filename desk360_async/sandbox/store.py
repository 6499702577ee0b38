"""The sandbox's memory of one account: what it took, what it keeps, whom it refuses."""

import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import Any, TypeAlias

from desk360_async.sandbox.account import Account
from desk360_async.sandbox.forms import Upload
from desk360_async.sandbox.message_ids import message_id
from desk360_async.sandbox.records import (
    Kind,
    MediaStore,
    ReceivedFile,
    ReceivedMessage,
    ReceivedRead,
    StoredMedia,
)

RefusedPhones: TypeAlias = Collection[str] | Callable[[str], bool]


def ends_in_zeros(phone: str) -> bool:
    """The default of `refused_phones`: a number that ends in seven zeros is "not on WhatsApp"."""
    return phone.endswith("0000000")


class Store:
    """Everything that one sandbox has received. Safe to read from another thread than the server's."""

    accepted: int

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
    ) -> None:
        self.account = account
        self.strict_bulk = strict_bulk
        self.media: MediaStore = MediaStore()
        self._clock = clock
        self._seed = seed
        self._refused_phones = refused_phones
        self._announce = announce
        self._messages: deque[ReceivedMessage] = deque(maxlen=keep)
        self._reads: deque[ReceivedRead] = deque(maxlen=keep)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget what was received and begin the ids anew."""
        with self._lock:
            self.accepted = 0
            self._random = Random(self._seed)  # noqa: S311 - ids that a test can repeat, no secrets
            self._messages.clear()
            self._reads.clear()
            self.media.clear()

    def is_refused(self, phone: str) -> bool:
        """Whether the sandbox says that this number isn't on WhatsApp."""
        refused = self._refused_phones
        return refused(phone) if callable(refused) else phone in refused

    def take(self, phone: str, kind: Kind, integration_id: int, **content: Any) -> ReceivedMessage:
        """Accept one message for one recipient."""
        with self._lock:
            self.accepted += 1
            identity = message_id(phone, self._seed, self.accepted)
            message = ReceivedMessage(phone, kind, identity, integration_id, self._clock(), **content)
            self._messages.append(message)
        self._announce(message)
        return message

    def take_read(self, phone: str, message_ids: Iterable[str], integration_id: int) -> None:
        """Note that messages were marked as read."""
        with self._lock:
            self._reads.append(ReceivedRead(phone, tuple(message_ids), integration_id, self._clock()))

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

    def reads(self) -> list[ReceivedRead]:
        """Copy the record of read receipts, oldest first."""
        with self._lock:
            return list(self._reads)


def files_of(*uploads: Upload | None) -> tuple[ReceivedFile, ...]:
    """Describe the uploads that are there."""
    return tuple(ReceivedFile.of(upload) for upload in uploads if upload is not None)
