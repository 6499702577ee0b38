"""What makes two deliveries the same event (ruling 41), and a memory for that."""

from collections.abc import Sequence

from desk360_async.webhooks._events import Event, StatusUpdate


def key_of(event: Event) -> str | None:
    """Return what two deliveries of one event share (ruling 41), or None where nothing tells them apart."""
    if not event.id:
        return None
    return f"{event.status}/{event.id}" if isinstance(event, StatusUpdate) else f"message/{event.id}"


class Recent:
    """The keys of the last events, oldest first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[str, None] = {}

    def unknown(self, events: Sequence[Event]) -> list[Event]:
        """Return the events that aren't repeats, of earlier ones or of each other."""
        fresh: dict[object, Event] = {}
        for event in events:
            key = key_of(event)
            if key is None or key not in self._keys:
                fresh.setdefault(object() if key is None else key, event)
        return list(fresh.values())

    def remember(self, events: Sequence[Event]) -> None:
        """Add events, and forget the oldest beyond the size."""
        self._keys.update((key, None) for event in events if (key := key_of(event)) is not None)
        while len(self._keys) > self._size:
            del self._keys[next(iter(self._keys))]
