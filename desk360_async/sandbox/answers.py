"""What the sandbox says: an answer as a value, the documented error shape, pagination's `Link`."""

import json
from typing import Any

from attrs import field, frozen

DOC_URL = "https://docs.desk360.com/api"
PAGE_SIZE = 20


@frozen
class Answer:
    """A status, headers (lower case) and a body in bytes."""

    status: int
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(factory=dict[str, str])

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Answer":
        """Encode a value as Laravel does: ASCII only, without spaces."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return cls(status, body, {"content-type": "application/json", **(headers or {})})

    @classmethod
    def of_error(
        cls, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> "Answer":
        """Build the document's error: `{"error": {"code", "message", "doc_url"}}`."""
        error = {"code": code, "message": message, "doc_url": DOC_URL}
        return cls.of_json({"error": error}, status, headers)


def model_not_found(model: str, identity: object) -> Answer:
    """404 for an id in the path that leads to nothing."""
    return Answer.of_error(
        404, "model_not_found_exception", f"No query results for model [{model}] {identity}."
    )


def failed_validation(message: str) -> Answer:
    """400 with the first problem, as in the document's sample."""
    return Answer.of_error(400, "failed_validation", message)


def page_of(rows: tuple[Any, ...], query: dict[str, str], url: str) -> Answer:
    """List 20 rows, with the document's unquoted `Link` unless it is the last page."""
    asked = query.get("page", "1")
    # Laravel reads a page that isn't a positive integer as the first.
    number = int(asked) if asked.isascii() and asked.isdigit() and int(asked[:9]) >= 1 else 1
    start = (number - 1) * PAGE_SIZE
    more = start + PAGE_SIZE < len(rows)
    link = {"link": f"<{url}?page={number + 1}>; rel=next"} if more else {}
    return Answer.of_json(list(rows[start : start + PAGE_SIZE]), headers=link)
