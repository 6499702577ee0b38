"""`VirtualClock`: time that passes only when everybody waits for it."""

import anyio
import pytest

from desk360_async.testing import VirtualClock


@pytest.mark.anyio
async def test_a_sleeper_moves_the_clock() -> None:
    """To where he wants to wake up, and no further."""
    clock = VirtualClock()
    await clock.sleep(3600)
    assert (clock(), repr(clock)) == (3600, "<VirtualClock 3600 s>")


@pytest.mark.anyio
async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """Whoever fell asleep first."""
    clock, woken = VirtualClock(), list[tuple[float, float]]()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock()))

    async with anyio.create_task_group() as tasks:
        for seconds in (5, 1, 3, 2, 4):
            tasks.start_soon(sleep, seconds)
    assert woken == [(seconds, seconds) for seconds in (1, 2, 3, 4, 5)]


@pytest.mark.anyio
async def test_a_cancelled_sleeper_holds_nobody_up() -> None:
    """His time is forgotten."""
    clock = VirtualClock()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await clock.sleep(1)
    await clock.sleep(5)
    assert clock() == 5


@pytest.mark.anyio
async def test_a_time_that_has_passed_is_no_sleep() -> None:
    """The clock never goes back."""
    clock = VirtualClock()
    clock.advance(10)
    await clock.sleep_until(5)
    assert clock() == 10


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_goes_forward_only(seconds: float) -> None:
    """And says so."""
    with pytest.raises(ValueError, match="0 or more"):
        VirtualClock().advance(seconds)
