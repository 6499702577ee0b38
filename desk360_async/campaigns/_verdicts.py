"""Convert an attempt's result into its batch's state: pure. The client alone finds the outcome itself."""

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

# Whose fault a refusal is, by the fields that it names: a number's, the parameters' that a batch shares, or
# everybody's (the template, the file, the integration).
Fault = Literal["destination", "parameters", "general"]

_DESTINATION = re.compile(r"(destinations|phones)\.\d+(\.phone)?|phone|to")
_PARAMETER = re.compile(r"(?:destinations\.\d+\.)?parameters\.(.+)")
# A list as a whole may be too long, or hold a bad number: no recipient is judged yet.
_VAGUE = frozenset({"destinations", "destinations_file", "phones"})
# The documented error has no fields but a sentence, in which Laravel names them.
_TOO_MANY = frozenset({"too_many_requests_exception", "too_many_attempts"})  # also in a 200 (ruling 25)
_IN_WORDS = re.compile(
    r"\bdestinations\.\d+(?:\.[\w-]+)*|\bparameters\.[\w-]+|\b(?:template|language)[ _]id\b|\battachment\b"
)


def judge_bulk(reply: BulkSent, not_listed: NotListed) -> Result:
    """Return a bulk answer's verdict: listed recipients are accepted, the others doubtful."""
    unlisted = tuple(int(digits_of(phone)) for phone in reply.unlisted)
    return Result("accepted", unlisted=unlisted, unlisted_state=not_listed)


def judge_error(error: Desk360Error, size: int, variables: Collection[str] = ()) -> Result:
    """Return a failure's verdict.

    Args:
        error: with its outcome.
        size: how many recipients the request had.
        variables: the names of the parameters that they share.
    """
    reason = _reason(error)
    if error.outcome is Outcome.ACCEPTED:
        return Result("accepted", reason)
    if error.outcome is not Outcome.NOT_SENT:
        # A file that failed half-way would fail in each request, and make its recipients unknown.
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
    """Return the verdict on refused fields: final only for the recipients whose fault it names.

    That a refused request wasn't sent is inferred from its status, not measured.
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
    """Return whose fault a refusal is that names these fields; None if they don't show it."""
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


# ── refusals without a reason ──────────────────────────────────────────────────────────────────────────

# So many in a row without one accepted: then it isn't the numbers' fault.
MANY = 25


@define
class Refusals:
    """A run's record of such refusals.

    Attributes:
        in_a_row: how many there were since the last acceptance. A part of a batch whose refusal an acceptance
            has explained isn't counted: there is a bad number in it, so a part of it must be refused.
        accepted: whether this run had anything accepted.
        suspects: recipients refused on their own, whose fault it is if somebody else is accepted after them.
    """

    in_a_row: int = 0
    accepted: bool = False
    suspects: list[Attempt] = field(factory=list["Attempt"])
    _unexplained: set[int] = field(factory=set[int])
    _explained: set[int] = field(factory=set[int])

    def note(self, attempt: Attempt) -> list[Attempt]:
        """Take in how an attempt ended; return the suspects whose own fault it was, as is known by now."""
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
        """Return the suspects, and clear them."""
        found, self.suspects = self.suspects, []
        return found
