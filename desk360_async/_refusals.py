"""Errors out of answers, pure: the status decides the class, and the body says what it can.

Implements "Errors"; rulings 24 and 25. What the server says is masked before anybody sees it.
"""

# pyright: basic
# Since decoded JSON is Any throughout; mypy --strict checks the rest.

import re
from collections.abc import Mapping
from typing import Any

from . import _codec
from ._calls import Answered, Call
from ._errors import (
    APIError,
    AuthenticationFailed,
    NotFound,
    Outcome,
    PermissionDenied,
    RateLimited,
    RequestRefused,
    ServerError,
    ValidationFailed,
)
from ._headers import retry_after
from ._redaction import mask_phones
from ._verdict import verdict

BODY_KEPT = 64 * 1024  # characters of an answer that an error keeps
BODY_READ = 4 * BODY_KEPT  # bytes of it that are looked at: reading megabytes takes ten times their memory

_ERRORS: dict[int, type[APIError]] = {
    400: ValidationFailed,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    422: ValidationFailed,
    429: RateLimited,
}
_HINTS = {
    401: "check the API key, and that it belongs to this account",
    404: "check the ids, and base_url",
    429: "the limit counts per IP address; others may share it",
}


def says_error(fields: Mapping[str, Any]) -> bool:
    """Whether a body holds an error; null, false, [] and "" are none (ruling 25)."""
    error = fields.get("error")
    return bool(error) and isinstance(error, dict | str)


def error_from(call: Call, answered: Answered) -> APIError:
    """Return the error that an answer is; the status decides its class ("Errors"; ruling 24)."""
    judged = verdict(answered.status, idempotent=call.idempotent).outcome
    kind = _ERRORS.get(answered.status)
    if kind is None:
        kind = ServerError if judged is Outcome.UNKNOWN else RequestRefused
    return api_error(kind, call, answered, judged if call.has_outcome else None)


def api_error(kind: type[APIError], call: Call, answered: Answered, outcome: Outcome | None) -> APIError:
    text = text_of(answered)
    code, message, doc_url, errors = explain(answered)

    def clean(words: str | None) -> str | None:
        return mask_phones(words, call.phones) if words else None

    return kind(
        answered.status,
        code=clean(code),
        message=clean(message),
        doc_url=clean(doc_url),
        body=mask_phones(text, call.phones),
        headers={name: mask_phones(value, call.phones) for name, value in answered.headers.items()},
        errors={
            mask_phones(f, call.phones): [mask_phones(line, call.phones) for line in lines]
            for f, lines in errors.items()
        },
        retry_after=retry_after(answered.headers),
        outcome=outcome,
        hint=_HINTS.get(answered.status, ""),
    )


def text_of(answered: Answered) -> str:
    body = answered.body[:BODY_READ]
    return _codec.shown_text(body, answered.headers.get("content-type", ""))[:BODY_KEPT]


def explain(answered: Answered) -> tuple[str | None, str | None, str | None, dict[str, list[str]]]:
    """Return what an error's body says: code, message, doc_url and Laravel's errors by field.

    The body may be the documented object, a string under `error`, Laravel's own, HTML, or anything; its
    charset is honoured, and a PHP warning in front of it passed over, as for a success.
    """
    try:
        data = _codec.understand(answered.body[:BODY_READ], answered.headers.get("content-type", ""))
    except _codec.UnreadableJSON:
        return _glean(text_of(answered))
    fields = _codec.as_object(data)
    error = fields.get("error")
    inner = error if isinstance(error, dict) else {}
    message = (
        _word(inner.get("message"))
        or (error if isinstance(error, str) else None)
        or _word(fields.get("message"))
    )
    errors = fields.get("errors") or inner.get("errors")
    by_field = {str(k): _lines(v) for k, v in errors.items()} if isinstance(errors, dict) else {}
    code = _word(inner.get("code")) or _word(fields.get("code"))
    doc_url = _word(inner.get("doc_url")) or _word(fields.get("doc_url"))
    return code, message or None, doc_url, by_field


def _glean(text: str) -> tuple[str | None, str | None, str | None, dict[str, list[str]]]:
    # The document's own sample of an error lacks a brace and a comma; live ones may too.
    if '"code"' not in text and '"message"' not in text:
        return None, None, None, {}
    found = (
        re.search(rf'"{name}"\s*:\s*"([^"\\]{{1,500}})"', text) for name in ("code", "message", "doc_url")
    )
    code, message, doc_url = (match[1] if match else None for match in found)
    return code, message, doc_url, {}


def _word(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:2000] or None


def _lines(value: object) -> list[str]:
    return [line for line in map(_word, value if isinstance(value, list) else [value]) if line]
