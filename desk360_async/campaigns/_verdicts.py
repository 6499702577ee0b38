"""What an attempt's end means for its batch: pure. The outcome itself is the client's finding, never ours."""

import re
from collections.abc import Collection, Iterable
from typing import Literal

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
from desk360_async.campaigns._states import NotListed, Result

# Whose fault a refusal is, by the fields that it names: a number's, the parameters' that a batch shares, or
# everybody's (the template, the file, the integration).
Fault = Literal["destination", "parameters", "general"]

_DESTINATION = re.compile(r"(destinations|phones)\.\d+(\.phone)?|phone|to")
_PARAMETER = re.compile(r"(?:destinations\.\d+\.)?parameters\.(.+)")
# A list as a whole may be too long, or hold a bad number: that says nothing yet.
_VAGUE = frozenset({"destinations", "destinations_file", "phones"})
# The documented error has no fields but a sentence, in which Laravel names them.
_IN_WORDS = re.compile(
    r"\bdestinations\.\d+(?:\.[\w-]+)*|\bparameters\.[\w-]+|\b(?:template|language)[ _]id\b|\battachment\b"
)


def judge_bulk(reply: BulkSent, not_listed: NotListed) -> Result:
    """Return what a bulk answer means: whom it lists was accepted, whom it doesn't is doubtful."""
    unlisted = tuple(int(digits_of(phone)) for phone in reply.unlisted)
    return Result("accepted", unlisted=unlisted, unlisted_state=not_listed)


def judge_error(error: Desk360Error, size: int, variables: Collection[str] = ()) -> Result:
    """Return what a failure means.

    Args:
        error: with its outcome.
        size: how many recipients the request had.
        variables: the names of the parameters that they share.
    """
    reason = _reason(error)
    if error.outcome is Outcome.ACCEPTED:
        return Result("accepted", reason)
    if error.outcome is not Outcome.NOT_SENT:
        silent = isinstance(error, ConnectionFailed | ServerError | UnexpectedResponse)
        # A file that failed half-way would fail for everybody, and make each of them unknown.
        stop = str(error) if isinstance(error, InvalidMessage) else None
        return Result("unknown", reason, silent=silent, stop=stop)
    if isinstance(error, RateLimited):
        return Result("pending", reason, pause=True)
    if isinstance(error, ConnectionFailed):
        return Result("pending", reason, silent=True)
    if isinstance(error, AuthenticationFailed | PermissionDenied):
        return Result("pending", reason, stop=str(error))
    if isinstance(error, InvalidMessage):
        return _judge_refusal(error, fault_of([error.field], variables), size)
    if isinstance(error, APIError) and is_validation(error):
        named = error.errors or _IN_WORDS.findall(error.message or "")
        return _judge_refusal(error, fault_of(named, variables), size)
    return Result("pending", reason, stop=str(error))


def _judge_refusal(error: Desk360Error, fault: Fault | None, size: int) -> Result:
    """Return what the refusal of a message's fields means: final only for those whose fault it names.

    That a refused request sent nothing is inferred from its status, not measured.
    """
    reason = _reason(error)
    if fault == "general":
        return Result("pending", reason, stop=str(error))
    if fault == "parameters":
        return Result("not_sent", reason, suspicious=True)  # all in the batch have the same
    if size > 1:
        return Result("pending", reason, halve=True, suspicious=fault is None)
    return Result("not_sent", reason) if fault else Result("pending", reason, suspicious=True)


def fault_of(named: Iterable[str], variables: Collection[str]) -> Fault | None:
    """Return whose fault a refusal is that names these fields; None if they don't tell."""
    faults = {_fault_of(re.sub(r"\[['\"]?([^\]'\"]*)['\"]?\]", r".\1", name), variables) for name in named}
    order: tuple[Fault, ...] = ("general", "parameters", "destination")
    return next((fault for fault in order if fault in faults), None)


def _fault_of(field: str, variables: Collection[str]) -> Fault | None:
    if _DESTINATION.fullmatch(field):
        return "destination"
    parameter = _PARAMETER.fullmatch(field)
    # One that the recipients don't have is the template's: it was changed since they were loaded.
    if parameter and parameter[1] in variables:
        return "parameters"
    return None if field in _VAGUE else "general"


def is_validation(error: APIError) -> bool:
    """Whether a field of the message was refused, so that a number in it may be the culprit."""
    return error.status == 422 or (error.code == "failed_validation" and error.status in (200, 400))


def _reason(error: Desk360Error) -> str:
    # The server's words may quote a customer's; the class, the status and the code can't.
    if isinstance(error, APIError):
        return f"{type(error).__name__} {error.status}" + (f" {error.code}" if error.code else "")
    return type(error).__name__
