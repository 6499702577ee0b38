"""Stores that several clients and receivers share: who uses one, and by which clock; the last user closes it.

The stores are the send log and the customers. A client joins when it opens, and leaves when it closes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

__all__ = ["SharedStore"]


class SharedStore(ABC):
    """A store that opens at its first await, and is closed by its last user.

    Args:
        clock: returns the current time as an aware datetime; None for the system's.
    """

    def __init__(self, clock: Callable[[], datetime] | None) -> None:
        self._clock = clock
        self._users = 0

    async def __aenter__(self) -> Self:
        self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    def join(self) -> None:
        """Count one more user of the store; each calls `leave` once."""
        self._users += 1

    async def leave(self) -> None:
        """Count one user less; the last one writes pending results, and closes the store."""
        self._users = max(0, self._users - 1)
        if not self._users:
            await self._close()

    @abstractmethod
    async def _close(self) -> None:
        """Write pending results, and close the store; the next use opens it again."""

    def use_clock(self, clock: Callable[[], datetime]) -> None:
        """Take the time from another clock, unless the constructor got one; for tests in virtual time.

        Args:
            clock: returns the current time as an aware datetime.
        """
        if self._clock is None:
            self._clock = clock

    def now(self) -> datetime:
        """Return the current time by this store's clock, an aware datetime."""
        return self._clock() if self._clock is not None else datetime.now(UTC)
