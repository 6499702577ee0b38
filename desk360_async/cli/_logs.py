"""Logs for `--verbose`: every request on stderr, without the key, whole phone numbers and message ids."""

import logging
import re

__all__ = ["Redaction", "show_logs"]

_BEARER = re.compile(r"(?i)(bearer\s+)\S+")
_HEADER = re.compile(r"(?i)(b?['\"]?authorization['\"]?\s*[,:=]\s*b?['\"]?)[^'\",)\]]+")
_PHONE = re.compile(r"\+?[0-9]{3,11}([0-9]{4})(?![0-9])")
_LOGGERS = ("desk360_async", "httpx", "httpcore", "httpx2", "httpcore2")


class Redaction(logging.Filter):
    """Takes secrets out of a record, and lets it pass.

    Args:
        key: the API key, if it is known.
    """

    def __init__(self, key: str | None = None) -> None:
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record's message in place."""
        text = record.getMessage()
        if self._key:
            text = text.replace(self._key, "[key]")
        text = _BEARER.sub(r"\1[key]", _HEADER.sub(r"\1[key]", text))
        record.msg, record.args = _PHONE.sub(r"…\1", text), None
        # A traceback's lines were never filtered; its class is in the message.
        record.exc_info = record.exc_text = None
        return True


def show_logs(key: str | None) -> None:
    """Log to stderr what the package and its HTTP library do.

    Args:
        key: the API key, to be taken out wherever it shows.
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
