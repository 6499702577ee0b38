"""SIGINT and SIGTERM while a campaign runs: heard, and afterwards left as they were found."""

import signal
import threading
from collections.abc import Callable

import anyio

STOPPING = (signal.SIGINT, signal.SIGTERM)


async def listen(heard: Callable[[signal.Signals], None], scope: anyio.CancelScope) -> None:
    """Call `heard` for each signal, until the scope is cancelled.

    asyncio can't on Windows. There Ctrl-C cancels what runs, and leaving the run's block drains it.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        with scope, anyio.open_signal_receiver(*STOPPING) as caught:
            async for number in caught:
                heard(number)
    except NotImplementedError:
        return
    finally:
        for number, handler in before.items():
            # asyncio leaves Python's own in place of the one with which `asyncio.run` makes Ctrl-C a
            # cancellation: the next one would break into whatever the loop is doing.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def nobody_else_listens() -> bool:
    """Whether signals are ours to take: a host with a shutdown of its own has a handler for SIGTERM."""
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
