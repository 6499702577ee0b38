"""Findings about this machine, and readings of the vendor's server: values, without any I/O."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

State: TypeAlias = Literal["ok", "warning", "problem"]
"""The weight of a finding: fine, worth a look, or to be mended."""


@frozen
class Finding:
    """One thing that the doctor looked at on this machine.

    Attributes:
        name: the thing, such as "API key".
        state: "ok", "warning" or "problem".
        text: the finding in words; it holds no key and no password.
        mend: the fix; "" where there is no need for one.
    """

    name: str
    state: State
    text: str
    mend: str = ""


@frozen
class Reading:
    """The finding of the server's answers on one ruling of the guide.

    Attributes:
        ruling: the ruling's number, such as "24".
        state: "confirmed", "differs" or "not asked".
        text: the observation and its consequence.
        facts: facts for `sandbox --like`, such as {"24.status": 422}.
    """

    ruling: str
    state: Literal["confirmed", "differs", "not asked"]
    text: str = ""
    facts: Mapping[str, Any] = field(factory=dict[str, Any])

    def line(self) -> str:
        """Return the reading as one line of the report: `ruling 24: differs: …`."""
        return f"ruling {self.ruling}: {self.state}" + (f": {self.text}" if self.text else "")
