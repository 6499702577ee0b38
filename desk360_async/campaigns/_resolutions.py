"""Resolving unknowns, and sending again: what the user found out, or decides. It is kept, with each phone."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

from attrs import frozen

from desk360_async.campaigns import _ledger
from desk360_async.campaigns._cuts import Cut, write_set
from desk360_async.campaigns._states import pack, unpack
from desk360_async.campaigns._storage import transaction

Decision = Literal["sent", "not_sent", "resend"]
From = Literal["unknown", "not_sent"]
STATES = {"sent": "accepted", "not_sent": "not_sent"}


@frozen
class Scope:
    """Who is meant: some phones, a batch, or all.

    Attributes:
        phones: as numbers; None for everybody.
        batch: its number; None for all batches.
        state: only those in this state; None for unknown, and where they are sent again for not_sent as well.
    """

    phones: frozenset[int] | None = None
    batch: int | None = None
    state: From | None = None

    def states(self, decision: Decision) -> tuple[From, ...]:
        """Return the states that a decision takes people from; what was not sent can be sent safely."""
        if self.state is not None:
            return (self.state,)
        return ("unknown", "not_sent") if decision == "resend" else ("unknown",)

    @property
    def overrides(self) -> bool:
        """Whether those are meant too of whom the user said that they shan't get it."""
        return self.phones is not None or self.state is not None

    def __str__(self) -> str:
        if self.phones is not None:
            return "by phone"
        return "all" if self.batch is None else f"of batch {self.batch}"


def resolve(connection: sqlite3.Connection, campaign: int, decision: Decision, scope: Scope, cut: Cut) -> int:
    """Resolve those in a scope; return how many recipients that were."""
    with transaction(connection):
        return sum(
            _resolve(connection, campaign, decision, scope, state, cut) for state in scope.states(decision)
        )


def _resolve(
    connection: sqlite3.Connection, campaign: int, decision: Decision, scope: Scope, state: From, cut: Cut
) -> int:
    found = list(_found(connection, campaign, scope, state))
    if not found:
        return 0
    (resolution,) = connection.execute(
        "INSERT INTO resolution (campaign, at, action, scope, recipients) "
        "VALUES (?, ?, ?, ?, ?) RETURNING id",
        (campaign, _ledger.now(), decision, f"{state}, {scope}", len(found)),
    ).fetchone()
    connection.executemany(
        "INSERT INTO resolved VALUES (?, ?, ?, ?)", ((resolution, *member) for member in found)
    )
    if decision == "resend":
        _put_back(connection, campaign, found, cut)
    else:
        connection.executemany(
            "INSERT OR REPLACE INTO exception VALUES (?, ?, ?, ?, ?)",
            ((campaign, phone, batch, STATES[decision], "resolved") for phone, batch, _ in found),
        )
    return len(found)


def _found(
    connection: sqlite3.Connection, campaign: int, scope: Scope, state: From
) -> Iterator[tuple[int, int, str]]:
    """Yield (phone, batch, reason) of those of a state in a scope."""
    rows = connection.execute(
        "SELECT id, members, reason FROM batch WHERE campaign = ? AND state = ? AND (? IS NULL OR id = ?)",
        (campaign, state, scope.batch, scope.batch),
    ).fetchall()
    for batch, members, reason in rows:
        own = connection.execute("SELECT phone FROM exception WHERE batch = ?", (batch,))
        excepted = {phone for (phone,) in own}
        for phone in unpack(members):
            if phone not in excepted and (scope.phones is None or phone in scope.phones):
                yield phone, batch, reason or ""
    for phone, batch, reason in connection.execute(
        "SELECT phone, batch, reason FROM exception "
        "WHERE campaign = ? AND state = ? AND (? IS NULL OR batch = ?) AND (reason <> 'resolved' OR ?)",
        (campaign, state, scope.batch, scope.batch, scope.overrides),
    ).fetchall():
        if scope.phones is None or phone in scope.phones:
            yield phone, batch, reason


def _put_back(
    connection: sqlite3.Connection, campaign: int, found: Iterable[tuple[int, int, str]], cut: Cut
) -> None:
    """Take members out of their batches, and put them into new ones, to be sent."""
    leaving: dict[int, set[int]] = defaultdict(set)
    for phone, batch, _ in found:
        leaving[batch].add(phone)
    joining: dict[int, list[int]] = defaultdict(list)
    for batch, phones in leaving.items():
        number, members = connection.execute(
            "SELECT parameter_set, members FROM batch WHERE id = ?", (batch,)
        ).fetchone()
        joining[number].extend(phones)
        rest = [phone for phone in unpack(members) if phone not in phones]
        connection.execute(
            "UPDATE batch SET size = ?, members = ?, state = CASE ? WHEN 0 THEN 'skipped' ELSE state END "
            "WHERE id = ?",
            (len(rest), pack(rest), len(rest), batch),
        )
    everybody = [(campaign, phone) for phones in leaving.values() for phone in phones]
    connection.executemany("DELETE FROM exception WHERE campaign = ? AND phone = ?", everybody)
    for number, phones_of_set in joining.items():
        write_set(connection, campaign, number, sorted(phones_of_set), cut)
