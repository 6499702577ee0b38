"""A virtual clock: its time moves forward only when all tasks wait for it."""

import heapq
import threading

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["VirtualClock", "give_way"]

# A sleeper moves the clock after this number of trips through the event loop, if no other task fell asleep in
# them. In these trips a task that was just started begins its sleep. So parallel waits pass in parallel.
_QUIET = 10
# Trips after which a waiter lets the processor rest (`_REST` seconds a trip).
_PATIENCE = 50
_REST = 0.001


async def give_way(rounds: int) -> None:
    """Let other tasks run for one trip through the event loop; from round 50 on, for a millisecond."""
    if rounds < _PATIENCE:
        await checkpoint()
    else:
        await anyio.sleep(_REST)


class VirtualClock:
    """A clock in seconds that jumps: call it for the time, `advance` it, or `sleep` on it.

    Sleepers wake up in the order of their times, and no real time passes. Several threads and event loops may
    share one clock.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._wakings: list[float] = []
        self._fallen_asleep = 0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time, in seconds since the clock was made."""
        return self._now

    def __repr__(self) -> str:
        return f"<VirtualClock {self._now:g} s>"

    def advance(self, seconds: float) -> None:
        """Move the clock forward, for tests of later events.

        Args:
            seconds: how many seconds.

        Raises:
            ValueError: if seconds is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds is {seconds!r}; time goes forward only: 0 or more")
        with self._lock:
            self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until this clock has moved forward by `seconds`.

        Args:
            seconds: how many seconds.
        """
        await self.sleep_until(self._now + seconds)

    async def sleep_until(self, at: float) -> None:
        """Wait until the clock shows `at`; the clock jumps to `at` if no other sleeper's time is earlier.

        Args:
            at: seconds since the clock was made, as a call of the clock returns them.
        """
        with self._lock:
            heapq.heappush(self._wakings, at)
            self._fallen_asleep += 1
        try:
            rounds = quiet = asleep = 0
            while quiet < _QUIET or not self._reached(at):
                quiet = quiet + 1 if asleep == self._fallen_asleep else 0
                asleep = self._fallen_asleep
                await give_way(rounds)
                rounds += 1
        finally:
            with self._lock:
                self._wakings.remove(at)
                heapq.heapify(self._wakings)

    def _reached(self, at: float) -> bool:
        with self._lock:
            if at <= self._wakings[0]:
                self._now = max(self._now, at)
            return self._now >= at
