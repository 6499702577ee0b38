"""Refusals that don't say whose fault they are, a bad number's or nobody's own: a run's memory of them. Pure.

A server that refuses everything, for a rule of its own or a paused template, answers as it does to one bad
number. What tells them apart is that others are accepted: until then nobody is given up.
"""

from attrs import define, field

from desk360_async.campaigns._dispatch import Delivered

# So many in a row without one accepted: then it isn't the numbers' fault.
MANY = 25


@define
class Refusals:
    """What a run has seen of such refusals.

    Attributes:
        in_a_row: how many there were since the last acceptance. A part of a batch whose refusal an acceptance
            has explained isn't counted: there is a bad number in it, so a part of it must be refused.
        accepted: whether this run had anything accepted.
        suspects: recipients refused on their own, whose fault it is if somebody else is accepted after them.
    """

    in_a_row: int = 0
    accepted: bool = False
    suspects: list[Delivered] = field(factory=list["Delivered"])
    _unexplained: set[int] = field(factory=set[int])
    _explained: set[int] = field(factory=set[int])

    def note(self, delivered: Delivered) -> list[Delivered]:
        """Take in how an attempt ended; return the suspects whose own fault it was, as is known by now."""
        result, number = delivered.result, delivered.batch.id
        if result is None:
            return []
        if result.state == "accepted":
            self.in_a_row, self.accepted = 0, True
            self._explained |= self._unexplained
            self._unexplained.clear()
            return self.convict()
        parts = {batch.id for batch in delivered.following} if result.halve else set[int]()
        if number in self._explained:
            self._explained |= parts
        elif result.suspicious:
            self.in_a_row += 1
            self._unexplained |= parts
        if is_suspect(delivered):
            self.suspects.append(delivered)
        return []

    def convict(self) -> list[Delivered]:
        """Return the suspects, who are none any more."""
        found, self.suspects = self.suspects, []
        return found


def is_suspect(delivered: Delivered) -> bool:
    """Whether somebody was refused who was alone in the request, for a reason that isn't said."""
    result = delivered.result
    return result is not None and result.suspicious and result.state == "pending" and not result.halve
