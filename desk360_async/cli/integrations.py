"""`desk360 integrations`: your WhatsApp numbers."""

from ._options import DEFAULTS, Common
from ._session import Session, run

__all__ = ["integrations"]


def integrations(*, common: Common = DEFAULTS) -> int:
    """List your WhatsApp numbers and their ids; --integration takes such an id.

    Args:
        common: Shared.
    """

    async def work(session: Session) -> int:
        rows = [row async for row in session.client.integrations.iter()]
        if session.terminal.json:
            for row in rows:
                session.terminal.data(row.raw)
        else:
            shown = ((row.id, row.display_name or row.name, row.phone_number) for row in rows)
            session.terminal.table(("Id", "Name", "Number"), shown, wide=("Name",))
        return 0

    return run(common, work)
