"""Time that passes only when all tasks wait for it. Rate limits and HTTP live elsewhere."""

import heapq
import threading

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["VirtualClock", "give_way"]

# Trips through the event loop, without another task falling asleep meanwhile, before a sleeper moves the
# clock: enough for tasks that were just started to get there, so that waits side by side pass side by side.
_QUIET = 10
# Trips after which one who waits for others lets the processor rest.
_PATIENCE = 50
_REST = 0.001


async def give_way(rounds: int) -> None:
    """Let others run: for a trip through the event loop, or for a millisecond if that has not helped."""
    if rounds < _PATIENCE:
        await checkpoint()
    else:
        await anyio.sleep(_REST)


class VirtualClock:
    """A clock in seconds that jumps: call it for the time, `advance` it, or `sleep` on it.

    Sleepers wake up in the order of their times, however many there are, and take no time to do so. May be
    shared by several threads and event loops.
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
        """Let time pass, for tests of later events.

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
        """Wait until time has passed on this clock.

        Args:
            seconds: how many seconds.
        """
        await self.sleep_until(self._now + seconds)

    async def sleep_until(self, at: float) -> None:
        """Wait until this clock shows a time; it jumps there when no other sleeper's time comes before.

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
