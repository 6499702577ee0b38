"""The arguments of the receiver and the inbox: each one's limit, and errors that name the fix.

Secrets are not checked here: their errors must not show the value.
"""

from desk360_async._errors import ConfigurationError


def check_receiver(
    *,
    max_body: object,
    read_timeout: object,
    queue_size: object,
    concurrency: object,
    drain_timeout: object,
    remember: object,
) -> None:
    """Check the numbers that a receiver is made with.

    Raises:
        ConfigurationError: one is out of bounds.
    """
    _check_whole("max_body", max_body, 1, "bytes of a request's body")
    check_seconds("read_timeout", read_timeout, "the time for a request's whole body", zero=False)
    _check_whole("queue_size", queue_size, 1, "events that may wait")
    _check_whole("concurrency", concurrency, 1, "handlers that may run at once")
    check_seconds("drain_timeout", drain_timeout, "the time that a stop waits for queued events")
    _check_whole("remember", remember, 0, "events by which repeats are recognised")


def check_kind(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Check an argument's type.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, kinds):
        raise ConfigurationError(f"{name} must be {wanted}, not {type(value).__name__}")


def _check_whole(name: str, value: object, least: int, meaning: str) -> None:
    # True is an int, and not meant as one.
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        message = f"{name} is {value!r}; it must be a whole number of {least} or more: {meaning}"
        raise ConfigurationError(message)


def check_seconds(name: str, value: object, meaning: str, *, zero: bool = True) -> None:
    """Check a time in seconds; `math.inf` is one, for no limit.

    Raises:
        ConfigurationError: it is no number, NaN, negative, or zero where that makes no sense.
    """
    seconds = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not (seconds >= 0 if zero else seconds > 0):  # which NaN is neither
        least = "0 or more" if zero else "more than 0"
        raise ConfigurationError(f"{name} is {value!r}; it must be seconds, {least}: {meaning}")
