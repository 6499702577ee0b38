"""Pure functions: an answer or an error gives the state of its batch. The client determines the outcome."""

import re
from collections.abc import Collection, Iterable
from typing import Literal

from attrs import define, field

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
)
from desk360_async._phones import digits_of
from desk360_async.campaigns._values import Attempt, NotListed, Result

# The cause of a refusal, by the fields that it names: a phone number, the parameters that a batch shares, or
# something that all requests share (the template, the file, the integration).
Fault = Literal["destination", "parameters", "general"]

_DESTINATION = re.compile(r"(destinations|phones)\.\d+(\.phone)?|phone|to")
_PARAMETER = re.compile(r"(?:destinations\.\d+\.)?parameters\.(.+)")
# A refusal of the whole list may mean that it is too long or holds a bad number: no recipient is judged yet.
_VAGUE = frozenset({"destinations", "destinations_file", "phones"})
_TOO_MANY = frozenset({"too_many_requests_exception", "too_many_attempts"})  # also in a 200 (ruling 25)
# The documented error has no list of fields. It has a sentence, in which Laravel names the fields.
_IN_WORDS = re.compile(
    r"\bdestinations\.\d+(?:\.[\w-]+)*|\bparameters\.[\w-]+|\b(?:template|language)[ _]id\b|\battachment\b"
)


def judge_bulk(reply: BulkSent, not_listed: NotListed) -> Result:
    """Return the verdict on a bulk answer: listed recipients are accepted, the others get `not_listed`."""
    unlisted = tuple(int(digits_of(phone)) for phone in reply.unlisted)
    return Result("accepted", unlisted=unlisted, unlisted_state=not_listed)


def judge_error(error: Desk360Error, size: int, variables: Collection[str] = ()) -> Result:
    """Return the verdict on a failed request.

    Args:
        error: the failure, with its outcome.
        size: how many recipients the request had.
        variables: the names of the parameters that the recipients share.
    """
    reason = _reason(error)
    if error.outcome is Outcome.ACCEPTED:
        return Result("accepted", reason)
    if error.outcome is not Outcome.NOT_SENT:
        # A file that failed half-way would fail in each request, and make that request's recipients unknown.
        stop = str(error) if isinstance(error, InvalidMessage) else None
        return Result("unknown", reason, silent=stop is None, stop=stop)
    if isinstance(error, RateLimited) or (isinstance(error, APIError) and error.code in _TOO_MANY):
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
    """Return the verdict on refused fields. It is final only for the recipients that caused it.

    That a refused request was not sent is inferred from its status. It was not measured.
    """
    reason = _reason(error)
    if fault == "general":
        return Result("pending", reason, stop=str(error))
    if fault == "parameters":
        return Result("not_sent", reason, suspicious=True)  # the whole batch has these parameters
    if size > 1:
        return Result("pending", reason, halve=True, suspicious=fault is None)
    return Result("not_sent", reason) if fault else Result("pending", reason, suspicious=True)


def fault_of(named: Iterable[str], variables: Collection[str]) -> Fault | None:
    """Return the cause of a refusal that names these fields; None if the fields don't show it."""
    faults = {_fault_of(re.sub(r"\[['\"]?([^\]'\"]*)['\"]?\]", r".\1", name), variables) for name in named}
    order: tuple[Fault, ...] = ("general", "parameters", "destination")
    return next((fault for fault in order if fault in faults), None)


def _fault_of(field: str, variables: Collection[str]) -> Fault | None:
    if _DESTINATION.fullmatch(field):
        return "destination"
    parameter = _PARAMETER.fullmatch(field)
    # A parameter that the recipients don't have is the template's: the template changed after loading.
    if parameter and parameter[1] in variables:
        return "parameters"
    return None if field in _VAGUE else "general"


def is_validation(error: APIError) -> bool:
    """Whether a field of the message was refused: then a phone number in the message may be the cause."""
    return error.status == 422 or (error.code == "failed_validation" and error.status in (200, 400))


def _reason(error: Desk360Error) -> str:
    # The server's message may quote a customer's text; the class, the status and the code can't.
    if isinstance(error, APIError):
        return f"{type(error).__name__} {error.status}" + (f" {error.code}" if error.code else "")
    return type(error).__name__


# ── refusals without a reason ──────────────────────────────────────────────────────────────────────────

# This number of refusals in a row, without an acceptance, means that the phone numbers aren't the cause.
MANY = 25


@define
class Refusals:
    """A run's record of refusals without a reason.

    Attributes:
        in_a_row: the number of refusals since the last acceptance. An acceptance explains the batches that
            were refused before it: they hold a bad number, so a part of each must be refused. Such a part
            isn't counted.
        accepted: whether a request of this run was accepted.
        suspects: attempts in which a single recipient was refused. The recipient is the cause if another one
            is accepted afterwards.
    """

    in_a_row: int = 0
    accepted: bool = False
    suspects: list[Attempt] = field(factory=list["Attempt"])
    _unexplained: set[int] = field(factory=set[int])
    _explained: set[int] = field(factory=set[int])

    def note(self, attempt: Attempt) -> list[Attempt]:
        """Record the end of an attempt; return the suspects that are now known to be the cause."""
        result, number = attempt.result, attempt.batch.id
        if result is None:
            return []
        if result.state == "accepted":
            self.in_a_row, self.accepted = 0, True
            self._explained |= self._unexplained
            self._unexplained.clear()
            return self.convict()
        parts = {batch.id for batch in attempt.following} if result.halve else set[int]()
        if number in self._explained:
            self._explained |= parts
        elif result.suspicious:
            self.in_a_row += 1
            self._unexplained |= parts
        if attempt.is_suspect:
            self.suspects.append(attempt)
        return []

    def convict(self) -> list[Attempt]:
        """Return the suspects, and clear the list."""
        found, self.suspects = self.suspects, []
        return found
