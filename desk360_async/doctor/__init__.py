"""Examine this installation, and test how the vendor's real server behaves.

`examine` looks at this machine and makes no request. `ask` makes ten requests that can't send a message, and
returns a reading for each ruling of the guide. The command `desk360 doctor` prints both.
"""

from desk360_async._redaction import show_half_made

from ._hooks import Hook, HookRecorder, read_hooks
from ._live import Probe, Unlimited, ask, exhaust, own_number, send_to
from ._offline import Finding, Subject, examine
from ._readings import Reading, facts_of, read_exhaustion, read_probes, read_sends

show_half_made(globals())

__all__ = [
    "Finding",
    "Hook",
    "HookRecorder",
    "Probe",
    "Reading",
    "Subject",
    "Unlimited",
    "ask",
    "examine",
    "exhaust",
    "facts_of",
    "own_number",
    "read_exhaustion",
    "read_hooks",
    "read_probes",
    "read_sends",
    "send_to",
]
