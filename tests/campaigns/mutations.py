"""Bugs, each a patch that a tired hand might have committed; the simulation must find every one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from attrs import evolve

from desk360_async import UnexpectedResponse
from desk360_async._sqlite import writes
from desk360_async.campaigns import _batches, _campaign, _recipients, _run, _verdicts
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._values import Batch, Result

Bug = Callable[[], Any]
BUGS: dict[str, Bug] = {}


def mutation(bug: Callable[[], Generator[None]]) -> Callable[[], Generator[None]]:
    """Add a bug to the list."""
    BUGS[bug.__name__] = contextmanager(bug)
    return bug


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """Replace a function by what `make` makes of it."""
    return patch.object(owner, name, make(getattr(owner, name)))


def rewritten(name: str, make: Callable[[Any], Any]) -> Any:
    """Replace an operation of the ledger; `make` gets and returns the function within its transaction."""
    return patch.object(Ledger, name, writes(make(getattr(Ledger, name).__wrapped__)))


def changed_result(change: Callable[[Result], Result]) -> Any:
    """Replace every verdict on an error."""
    return replaced(_run, "judge_error", lambda judge: lambda *given: change(judge(*given)))


@mutation
def recovery_puts_intents_back() -> Generator[None]:
    """After a crash, what was on the wire is sent again."""

    def make(_: Any) -> Any:
        def recover(self: Ledger, connection: Any, reason: str) -> int:
            connection.execute("UPDATE batch SET state = 'pending' WHERE state = 'intent'")
            return 0

        return recover

    with replaced(Ledger, "_recover_in", make):
        yield


@mutation
def recovery_calls_intents_accepted() -> Generator[None]:
    """After a crash, what was on the wire is believed to have arrived."""

    def make(real: Any) -> Any:
        def recover(self: Ledger, connection: Any, reason: str) -> Any:
            connection.execute("UPDATE batch SET state = 'accepted' WHERE state = 'intent'")
            return real(self, connection, reason)

        return recover

    with replaced(Ledger, "_recover_in", make):
        yield


@mutation
def recovery_is_forgotten() -> Generator[None]:
    """What was on the wire stays so for ever."""
    with replaced(Ledger, "_recover_in", lambda _: lambda self, connection, reason: 0):
        yield


@mutation
def the_intent_is_written_after_the_post() -> Generator[None]:
    """A crash in between sends twice."""

    def make(_: Any) -> Any:
        async def intend(self: Ledger, batch: Batch) -> int:
            return 1

        return intend

    def conclude(real: Any) -> Any:
        def write(self: Ledger, connection: Any, batch: Batch, request: Any, result: Result) -> Any:
            return real(self, connection, batch, None, result)

        return write

    with replaced(Ledger, "intend", make), replaced(Ledger, "_conclude_in", conclude):
        yield


@mutation
def a_failed_intent_is_ignored() -> Generator[None]:
    """The disk is full, and it sends all the same."""

    def make(real: Any) -> Any:
        async def intend(self: Ledger, batch: Batch) -> int | None:
            try:
                return int(await real(self, batch))
            except Exception:  # noqa: BLE001  # the bug
                self.file.failure = None
                return 10**9

        return intend

    with replaced(Ledger, "intend", make):
        yield


@mutation
def an_unknown_is_tried_again() -> Generator[None]:
    """A 502 proves nothing, and neither does a timeout."""
    with changed_result(
        lambda result: evolve(result, state="pending") if result.state == "unknown" else result
    ):
        yield


@mutation
def an_unknown_is_called_not_sent() -> Generator[None]:
    """A server error is taken for a refusal."""
    with changed_result(
        lambda result: evolve(result, state="not_sent") if result.state == "unknown" else result
    ):
        yield


@mutation
def an_unknown_is_called_accepted() -> Generator[None]:
    """Optimism."""
    with changed_result(
        lambda result: evolve(result, state="accepted") if result.state == "unknown" else result
    ):
        yield


@mutation
def an_unreadable_success_is_tried_again() -> Generator[None]:
    """The body was garbage, so surely nothing was sent."""

    def make(judge: Any) -> Any:
        def wrong(error: Any, *given: Any) -> Result:
            unreadable = isinstance(error, UnexpectedResponse)
            return Result("pending", "again") if unreadable else judge(error, *given)

        return wrong

    with replaced(_run, "judge_error", make):
        yield


@mutation
def a_429_is_final() -> Generator[None]:
    """Whoever meets a full window is lost, though said to have been sent to."""
    with changed_result(lambda result: evolve(result, state="accepted") if result.pause else result):
        yield


@mutation
def unlisted_numbers_are_accepted() -> Generator[None]:
    """A bulk answer's list isn't read."""
    make = lambda judge: lambda reply, policy: evolve(judge(reply, policy), unlisted=())  # noqa: E731  # short
    with replaced(_run, "judge_bulk", make):
        yield


@mutation
def unlisted_numbers_are_always_called_not_sent() -> Generator[None]:
    """Whatever the user said."""
    with replaced(_run, "judge_bulk", lambda judge: lambda reply, _: judge(reply, "not_sent")):
        yield


@mutation
def halving_loses_the_middle() -> Generator[None]:
    """An old friend: off by one."""

    def make(real: Any) -> Any:
        def halve(connection: Any, campaign: int, batch: Batch) -> Any:
            middle = len(batch.members) // 2
            return real(connection, campaign, evolve(batch, members=_without(batch.members, middle)))

        return halve

    with replaced(_batches, "halve", make):
        yield


def _without(members: tuple[int, ...], middle: int) -> tuple[int, ...]:
    return members if len(members) < 3 else members[:middle] + members[middle + 1 :]


@mutation
def halving_doubles_the_middle() -> Generator[None]:
    """Its brother."""

    def make(real: Any) -> Any:
        def halve(connection: Any, campaign: int, batch: Batch) -> Any:
            halves = real(connection, campaign, batch)
            if len(batch.members) < 4 or len(halves) < 2:  # a pair would be halved for ever
                return halves
            left, right = halves
            return [evolve(left, members=(*left.members, right.members[0])), right]

        return halve

    with replaced(_batches, "halve", make):
        yield


@mutation
def the_opt_out_list_is_read_once() -> Generator[None]:
    """When loading is not when sending: here neither looks."""

    async def nobody(self: Any) -> frozenset[int]:
        return frozenset()

    with patch.object(_campaign.OptOutList, "read", nobody):
        yield


@mutation
def the_limiter_is_not_seeded() -> Generator[None]:
    """After a restart the window is thought to be empty."""
    with patch.object(_campaign.TokenBucket, "seed", lambda bucket, ages: None):
        yield


@mutation
def duplicates_are_taken_in() -> Generator[None]:
    """The second line of a phone goes into a batch as well."""

    def make(real: Any) -> Any:
        def rows(self: Any, campaign: int, number: int, phones: Any) -> Any:
            listed = list(phones)
            yield from real(self, campaign, number, listed)
            if len(listed) > 1:
                yield from real(self, campaign, number, listed[:1])

        return rows

    with replaced(_batches.Cut, "rows", make):
        yield


@mutation
def the_result_is_not_committed() -> Generator[None]:
    """It is rolled back, and nobody looks."""

    def make(real: Any) -> Any:
        def conclude(self: Ledger, connection: Any, batch: Batch, request: Any, result: Result) -> Any:
            following = real(self, connection, batch, request, result)
            if result.state == "accepted":
                connection.execute("UPDATE batch SET state = 'pending' WHERE id = ?", (batch.id,))
            return following

        return conclude

    with replaced(Ledger, "_conclude_in", make):
        yield


@mutation
def a_resend_takes_the_whole_batch() -> Generator[None]:
    """One phone was meant."""

    def make(real: Any) -> Any:
        def resolve(self: Ledger, connection: Any, decision: Any, scope: Any, cut: Any) -> Any:
            return real(self, connection, decision, evolve(scope, phones=None), cut)

        return resolve

    with rewritten("resolve", make):
        yield


@mutation
def an_invalid_number_is_lost_silently() -> Generator[None]:
    """It is neither sent to nor listed."""

    def make(real: Any) -> Any:
        def judge(self: Any, rows: Any, set_for: Any) -> Any:
            staged, skipped = real(self, rows, set_for)
            return staged, [row for row in skipped if not row[1].startswith("invalid_phone")]

        return judge

    with replaced(_recipients.Intake, "judge", make):
        yield


@mutation
def a_paused_template_gives_people_up() -> Generator[None]:
    """Every refusal of a field is taken for the recipient's own fault."""

    def make(real: Any) -> Any:
        def judge(error: Any, fault: Any, size: int) -> Any:
            return real(error, None if fault == "general" else fault, size)

        return judge

    with replaced(_verdicts, "_judge_refusal", make):
        yield
