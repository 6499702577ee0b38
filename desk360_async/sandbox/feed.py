"""The feed: everything that happens in a sandbox, numbered, for any number of readers.

Readers hold a cursor and ask again: that works across threads and event loops, where an event of one loop
does not. Publishing costs an append; values are turned into JSON when a reader asks for them.
"""

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from attrs import fields as attrs_fields
from attrs import frozen, has

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
    """Return an attrs value's own fields; values inside stay as they are, unlike in asdict."""
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
        """List events behind a cursor, oldest first.

        Args:
            cursor: the number of the last event that the reader has seen; 0 for all.
            limit: how many at most.
        """
        with self._lock:
            # A cursor ahead of the feed belongs to an earlier run of the server: it reads from the start.
            seen = cursor if cursor <= self._last else 0
            first = self._last - len(self._events)
            start = max(0, seen - first)
            return [self._events[index] for index in range(start, min(start + limit, len(self._events)))]
