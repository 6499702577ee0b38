"""One handler: what may be one, and what becomes of its errors. Which events it gets isn't decided here."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from desk360_async.webhooks._events import Event

_log = logging.getLogger("desk360_async.webhooks")

E = TypeVar("E", bound=Event)
AsyncFunction = Callable[[E], Awaitable[object]]
Decorator = Callable[[AsyncFunction[E]], AsyncFunction[E]]


def is_async(function: object) -> bool:
    """Tell whether it is an `async def` function, or an object whose call is one."""
    return inspect.iscoroutinefunction(function) or (
        callable(function) and inspect.iscoroutinefunction(type(function).__call__)
    )


async def failure_of(handler: AsyncFunction[Any], event: Event) -> str | None:
    """Run one handler; return the name of the error that it raised, if it did."""
    try:
        await handler(event)
    except anyio.get_cancelled_exc_class() as error:
        # asyncio: a function may be cancelled from within, by awaiting what somebody else cancelled.
        if anyio.current_effective_deadline() == float("-inf"):
            raise
        failure: BaseException = error
    except Exception as error:  # noqa: BLE001 - a handler's error is its author's; the next event still counts
        failure = error
    else:
        return None
    _log.error("a webhook handler failed on %r", event, exc_info=failure)
    return type(failure).__name__
