"""Send once: an idempotency key for an API that has none.

A key that you choose names one send. `SendLog` stores each key's outcome, so that a repeated web request, a
retried task or a restarted process gets the stored reply and sends no second message.
"""

from desk360_async._redaction import show_half_made

from ._log import SendLog
from ._records import SendRecord, SendState

show_half_made(globals())

__all__ = ["SendLog", "SendRecord", "SendState"]
