"""`desk360 read`: read receipts."""

from ._options import DEFAULTS, Common
from ._session import Session, run

__all__ = ["read"]


def read(to: str, /, *message_ids: str, common: Common = DEFAULTS) -> int:
    """Mark a customer's messages as read; doing it twice does no harm.

    Args:
        to: The customer's phone.
        message_ids: The messages' ids, as webhooks brought them.
        common: Shared.
    """

    async def work(session: Session) -> int:
        marked = await session.client.mark_read(to, message_ids)
        if session.terminal.json:
            session.terminal.data({"message_ids": marked})
        else:
            session.terminal.say(f"Marked as read: {len(marked):,} of {len(message_ids):,}")
        return 0 if len(marked) >= len(message_ids) else 3

    return run(common, work)
