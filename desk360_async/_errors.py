"""All errors that this package raises on purpose.

Desk360Error
├─ ConfigurationError(ValueError)      a setting is missing or unusable
├─ InvalidMessage(ValueError)          a message that the server would refuse
│   └─ KeyConflict                     the idempotency key belongs to another message
├─ ClientStateError                    closed, another event loop, a forked child
├─ RateLimitWaitTooLong                no token within `max_wait`
├─ SendInProgress                      another task or process is sending under this key
├─ SendUnknown                         an earlier send under this key has no known outcome
├─ WindowClosed                        a free message outside the customer's 24-hour window
├─ OptedOut                            a template to a person who opted out
├─ APIError                            the server answered with an error
│   ├─ ValidationFailed                400, 422
│   ├─ AuthenticationFailed            401
│   ├─ PermissionDenied                403
│   ├─ NotFound                        404
│   ├─ RequestRefused                  3xx, 405, 406, 413, 415 and the other refusals
│   ├─ RateLimited                     429
│   └─ ServerError                     408, 5xx and other unexplained failures
├─ ConnectionFailed(ConnectionError)   no answer
│   └─ TimedOut(TimeoutError)
├─ UnexpectedResponse                  an answer that can't be read
└─ InvalidWebhook                      a webhook body that is no JSON object

Each error that a send raises has an `.outcome`: whether the message went out.
"""

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self


class Outcome(enum.StrEnum):
    """The result of a send.

    Attributes:
        ACCEPTED: Desk360 took it.
        NOT_SENT: it certainly did not go out.
        UNKNOWN: it may have gone out; it is never sent again automatically.
    """

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


def mask_phone(phone: str) -> str:
    """Return a phone number, or a message id, as its last four characters: `…4567`.

    Args:
        phone: the number as it came, of any length.
    """
    return f"…{phone[-4:]}" if len(phone) > 4 else "…"


def _restore(kind: type["Desk360Error"], args: tuple[object, ...], state: dict[str, Any]) -> "Desk360Error":
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class Desk360Error(Exception):
    """The root of all errors of this package.

    Attributes:
        outcome: whether the message went out; None on reads and webhooks.

    Example:
        ```python
        try:
            await client.send_text(phone, text)
        except Desk360Error as error:
            if error.outcome is Outcome.UNKNOWN:
                log.error("it may have gone out: %s", error)
            else:
                log.warning("it did not go out: %s", error)
        ```
    """

    outcome: Outcome | None

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        # `BaseException.__reduce__` would call the class with `args` alone, and lose every keyword.
        return _restore, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(Desk360Error, ValueError):
    """A setting is missing or unusable; no request was sent. The message names it and the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(message, outcome=Outcome.NOT_SENT)


class InvalidMessage(Desk360Error, ValueError):
    """The server would refuse this message. The check is local, so no request was sent.

    Attributes:
        field: which field, in the vendor's words, such as `text` or `buttons[2].title`.
        problem: the defect, the limit that it breaks, and the fix.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", outcome=Outcome.NOT_SENT)
        self.field = field
        self.problem = problem


class KeyConflict(InvalidMessage):
    """The idempotency key was used for another message; this one wasn't sent.

    Attributes:
        key: the idempotency key.
        fields: the names of the fields that differ, sorted.
    """

    def __init__(self, key: str, fields: Sequence[str]) -> None:
        differing = f"{', '.join(fields)} {'differs' if len(fields) == 1 else 'differ'}"
        problem = f"{key!r} was used for another message ({differing}); use a new key for a new message"
        super().__init__("idempotency_key", problem)
        self.key = key
        self.fields: tuple[str, ...] = tuple(fields)


class ClientStateError(Desk360Error):
    """The client can't be used here: closed, another event loop, a forked child; no request was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, outcome=Outcome.NOT_SENT)


class RateLimitWaitTooLong(Desk360Error):
    """No token is available within `max_wait` seconds; no request was sent.

    Attributes:
        eta: seconds until a token is likely to be free.
    """

    def __init__(self, message: str, *, eta: float) -> None:
        super().__init__(message, outcome=Outcome.NOT_SENT)
        self.eta = eta

    @classmethod
    def within(cls, max_wait: float, eta: float) -> Self:
        """Return the error of a limiter whose next token comes too late.

        Args:
            max_wait: seconds that the caller waits at most.
            eta: seconds until a token is likely to be free.
        """
        message = (
            f"no token within max_wait={max_wait:g} s: the next one for this request is about {eta:.1f} s "
            "away; allow a longer max_wait, or send less at once"
        )
        return cls(message, eta=eta)


class SendInProgress(Desk360Error):
    """Another task, process or host is sending under this key; its outcome is not known yet.

    Attributes:
        key: the idempotency key.
        since: when that send began, an aware datetime.
    """

    def __init__(self, key: str, *, since: datetime) -> None:
        begun = f"{since:%Y-%m-%d %H:%M:%S} UTC"
        message = f"a send under {key!r} has been on its way since {begun}; ask again later"
        super().__init__(message, outcome=Outcome.UNKNOWN)
        self.key = key
        self.since = since


class SendUnknown(Desk360Error):
    """An earlier send under this key may have gone out; it is never sent again automatically.

    Attributes:
        key: the idempotency key.
        since: when that send's outcome became unknown, an aware datetime.
        seen: a status that a webhook showed for it, such as "delivered", or None.
    """

    def __init__(self, key: str, *, since: datetime, seen: str | None = None) -> None:
        proof = f"; a webhook showed it as {seen!r}" if seen else ""
        super().__init__(
            f"the send under {key!r} may have gone out ({since:%Y-%m-%d %H:%M:%S} UTC){proof}; look whether "
            "it arrived, then use `SendLog.resolve`",
            outcome=Outcome.UNKNOWN,
        )
        self.key = key
        self.since = since
        self.seen = seen


class WindowClosed(Desk360Error):
    """A free message outside the customer's 24-hour window wasn't sent; WhatsApp would drop it.

    Attributes:
        phone: the customer's phone, masked.
        since: when the window closed, an aware datetime, or None.
    """

    def __init__(self, phone: str, *, since: datetime | None = None) -> None:
        masked = mask_phone(phone)
        when = f" closed at {since:%Y-%m-%d %H:%M:%S} UTC" if since else " is closed"
        message = (
            f"the 24-hour window of {masked}{when}, and WhatsApp drops free messages outside it; send a "
            "template, or pass fallback=TemplateMessage(...)"
        )
        super().__init__(message, outcome=Outcome.NOT_SENT)
        self.phone = masked
        self.since = since


class OptedOut(Desk360Error):
    """A template to a person who opted out; it wasn't sent.

    Attributes:
        phone: the person's phone, masked.
        since: when the person opted out, an aware datetime, or None.
    """

    def __init__(self, phone: str, *, since: datetime | None = None) -> None:
        masked = mask_phone(phone)
        when = f" at {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
        message = (
            f"{masked} opted out{when} and gets no templates; `Customers.opt_in` undoes it when the person "
            "asks for it"
        )
        super().__init__(message, outcome=Outcome.NOT_SENT)
        self.phone = masked
        self.since = since


class APIError(Desk360Error):
    """The server answered with an error (the vendor's "Errors"; the class follows the status).

    Attributes:
        status: the HTTP status; 200 where the body of a success held an error.
        code: the vendor's machine-readable code, as text, or None.
        message: the server's words, phone numbers masked, or None.
        doc_url: address of the vendor's page on the error, or None.
        body: the answer's text, phone numbers and message ids masked, cut at 64 KiB.
        headers: the answer's headers, names in lower case.
        errors: field → complaints, where the server gave them (Laravel's 422).
        retry_after: seconds that the server asks to wait, or None.
    """

    def __init__(
        self,
        status: int,
        *,
        code: str | None = None,
        message: str | None = None,
        doc_url: str | None = None,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Mapping[str, Sequence[str]] | None = None,
        retry_after: float | None = None,
        outcome: Outcome | None = None,
        hint: str = "",
    ) -> None:
        said = ": ".join(part for part in (code, message) if part) or "no explanation"
        super().__init__(f"HTTP {status}: {said}" + (f" ({hint})" if hint else ""), outcome=outcome)
        self.status = status
        self.code = code
        self.message = message
        self.doc_url = doc_url
        self.body = body
        self.headers: dict[str, str] = dict(headers or {})
        by_field = {field: tuple(lines) for field, lines in (errors or {}).items()}
        self.errors: dict[str, tuple[str, ...]] = by_field
        self.retry_after = retry_after


class ValidationFailed(APIError):
    """400 or 422 ("Errors"): the server refused the message's fields; it wasn't sent."""


class AuthenticationFailed(APIError):
    """401 ("Errors", "Authentication"): the API key is missing or wrong; the message wasn't sent."""


class PermissionDenied(APIError):
    """403 ("Error Codes": not_authorized): the key may not do this; the message wasn't sent."""


class NotFound(APIError):
    """404 ("Errors"): no such integration, template or media for this key, or a wrong path."""


class RequestRefused(APIError):
    """A redirect, 405, 406, 413, 415 or another refusal ("Errors"): the request was not acted on."""


class RateLimited(APIError):
    """429 ("Errors"), and all waits together exceed `RetryPolicy.max_retry_after`; not sent."""


class ServerError(APIError):
    """408, 409, 425, 499, 5xx ("Errors") and other unexplained failures: a send may have gone out."""


class ConnectionFailed(Desk360Error, ConnectionError):
    """No answer came. `.outcome` is NOT_SENT if the request certainly never left, else UNKNOWN."""


class TimedOut(ConnectionFailed, TimeoutError):
    """No answer came in time. `.outcome` as for `ConnectionFailed`."""


class UnexpectedResponse(Desk360Error):
    """The server's answer doesn't have the form of the vendor's document.

    Attributes:
        status: the HTTP status.
        body: the answer's text, phone numbers and message ids masked, cut at 64 KiB.
        problems: the defects, a line each, such as `required field missing @ $.message_id`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: str,
        problems: Sequence[str] = (),
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message, outcome=outcome)
        self.status = status
        self.body = body
        self.problems: tuple[str, ...] = tuple(problems)


class InvalidWebhook(Desk360Error):
    """A webhook body that holds no JSON object.

    Attributes:
        problems: the defects, a line each.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[str, ...] = tuple(problems)
