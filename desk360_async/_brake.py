"""What ends waiting, but nothing that is on the wire: closing a client, leaving a fan-out."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


class Brake:
    """Ends waits for tokens and between attempts, but nothing that is on the wire."""

    def __init__(self) -> None:
        self.pulled: bool = False
        self._waits: set[anyio.CancelScope] = set()

    def pull(self) -> None:
        """End all waits, now and from now on."""
        self.pulled = True
        for scope in self._waits:
            scope.cancel()

    async def wait(self, waiting: Callable[..., Awaitable[T]], *args: object) -> T | None:
        """Await something that may be ended; None if it was."""
        if self.pulled:
            return None
        result: T | None = None
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                result = await waiting(*args)
            finally:
                self._waits.discard(scope)
        return result
