"""What one call carries through its attempts, and what is said of each: no waiting and no I/O here."""

import logging
from collections.abc import Awaitable, Callable

import anyio
from attrs import frozen

from ._bucket import Lane
from ._calls import Call
from ._errors import ConnectionFailed, Outcome, TimedOut
from ._limiter import Permit
from ._outcomes import Evidence, Reach, Unanswered, verdict
from ._redaction import mask_numbers
from ._settings import RetryPolicy, Timeouts

log = logging.getLogger("desk360_async")

OnAttempt = Callable[[], Awaitable[None]]


@frozen(kw_only=True)
class Options:
    """What may differ between a client and its views."""

    integration_id: int | None
    lane: Lane
    max_wait: float | None
    timeout: Timeouts
    retry: RetryPolicy


class RetryQuota:
    """Retries that a client and its views may make together: in an outage they must not double the load.

    Each call earns a part of a retry; a total outage then sees at most 1.2 attempts a call over time.
    """

    EARNED = 0.18
    MOST = 10.0

    def __init__(self) -> None:
        self.balance: float = self.MOST

    def earn(self) -> None:
        """Count a call."""
        self.balance = min(self.MOST, self.balance + self.EARNED)

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        if self.balance < 1:
            return False
        self.balance -= 1
        return True


class Progress:
    """How far a call got: what is known of it if it is cancelled now."""

    def __init__(self) -> None:
        self.evidence: Evidence | None = None
        self.veto: Exception | None = None

    async def ask(self, on_attempt: OnAttempt) -> None:
        """Let the caller prevent an attempt; whatever he raises is his, its outcome not this call's."""
        try:
            await on_attempt()
        except Exception as error:
            self.veto = error
            raise

    def outcome(self) -> Outcome:
        """Return what a cancelled call's outcome is."""
        if self.evidence is None:
            return Outcome.NOT_SENT
        seen = self.evidence.status or self.evidence.reach
        return verdict(seen).outcome


class Patience:
    """What is left of one call's waits: for tokens (`max_wait`) and for 429s (`max_retry_after`)."""

    def __init__(self, options: Options) -> None:
        self.max_wait = options.max_wait
        self.gates: float = options.retry.max_retry_after
        self.refused: float = 0.0  # seconds that the last 429 asked for
        self.attempts: int = options.retry.attempts

    def waited(self, seconds: float) -> None:
        """Take a wait from what is left."""
        if self.max_wait is not None:
            self.max_wait = max(0.0, self.max_wait - seconds)


def settle(permit: Permit, error: BaseException, evidence: Evidence) -> None:
    """Give a token back after an attempt without an answer: at once only if nothing left the process."""
    reach = error.reach if isinstance(error, Unanswered) else evidence.reach
    if reach is Reach.STARTED:
        permit.lost()
    else:
        permit.unused()


def connection_error(lost: Unanswered, outcome: Outcome | None) -> ConnectionFailed:
    """Return the error for a call that got no answer."""
    kind = TimedOut if lost.timed_out else ConnectionFailed
    meaning = {
        Outcome.NOT_SENT: "; nothing was sent",
        Outcome.UNKNOWN: "; it may have gone out, so it is not sent again",
    }
    return kind(f"no answer: {lost.reason}{meaning.get(outcome, '') if outcome else ''}", outcome=outcome)


def log_attempt(call: Call, ended: int | BaseException, began: float) -> None:
    """Write the attempt's line: no error's text, and of a path no number that may be a phone."""
    if log.isEnabledFor(logging.INFO):
        how = str(ended) if isinstance(ended, int) else type(ended).__name__
        path = call.path.partition("?")[0].partition("/medias/")[0]
        log.info("%s %s: %s after %.3f s", call.method, mask_numbers(path), how, anyio.current_time() - began)
