"""What an attempt's end means for its batch: pure. The outcome itself is the client's finding, never ours."""

from desk360_async import (
    APIError,
    AuthenticationFailed,
    BulkSent,
    ConnectionFailed,
    Desk360Error,
    InvalidMessage,
    Outcome,
    PermissionDenied,
    RateLimited,
    ServerError,
    UnexpectedResponse,
)
from desk360_async._phones import digits_of
from desk360_async.campaigns._states import NOT_LISTED_NOT_SENT, Result


def judge_bulk(reply: BulkSent, not_listed: str) -> Result:
    """Return what a bulk answer means: whom it lists was accepted, whom it doesn't is doubtful."""
    unlisted = tuple(int(digits_of(phone)) for phone in reply.unlisted)
    reason = NOT_LISTED_NOT_SENT if unlisted and not_listed == "not_sent" else None
    return Result("accepted", reason, unlisted=unlisted)


def judge_error(error: Desk360Error, size: int) -> Result:
    """Return what a failure means.

    Args:
        error: with its outcome.
        size: how many recipients the request had.
    """
    reason = _reason(error)
    if error.outcome is Outcome.ACCEPTED:
        return Result("accepted", reason)
    if error.outcome is not Outcome.NOT_SENT:
        silent = isinstance(error, ConnectionFailed | ServerError | UnexpectedResponse)
        return Result("unknown", reason, silent=silent)
    if isinstance(error, RateLimited):
        return Result("pending", reason, pause=True)
    if isinstance(error, ConnectionFailed):
        return Result("pending", reason, silent=True)
    if isinstance(error, AuthenticationFailed | PermissionDenied):
        return Result("pending", reason, stop=str(error))
    if isinstance(error, InvalidMessage) and size == 1:
        return Result("not_sent", reason)
    if isinstance(error, APIError) and is_validation(error):
        # That a refused batch sent nothing is inferred from its status, not measured.
        return Result("not_sent", reason) if size == 1 else Result("pending", reason, halve=True)
    return Result("pending", reason, stop=str(error))


def is_validation(error: APIError) -> bool:
    """Whether a field of the message was refused, so that a number in it may be the culprit."""
    return error.status == 422 or (error.code == "failed_validation" and error.status in (200, 400))


def _reason(error: Desk360Error) -> str:
    # The server's words may quote a customer's; the class, the status and the code can't.
    if isinstance(error, APIError):
        return f"{type(error).__name__} {error.status}" + (f" {error.code}" if error.code else "")
    return type(error).__name__
