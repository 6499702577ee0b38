"""Logs for `--verbose`: every request on stderr, without the key, whole phone numbers and message ids."""

import logging

from desk360_async._redaction import Redaction

__all__ = ["show_logs"]

_LOGGERS = ("desk360_async", "httpx", "httpcore", "httpx2", "httpcore2")


def show_logs(key: str) -> None:
    """Log to stderr what the package and its HTTP library do.

    Args:
        key: the API key, to be masked wherever it shows.
    """
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
    # On the handler: a filter on a logger doesn't see what its children log.
    lines.addFilter(Redaction(key))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [lines]
        logger.setLevel(logging.DEBUG if name == "desk360_async" else logging.INFO)
        logger.propagate = False
