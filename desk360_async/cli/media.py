"""`desk360 media …`: files that customers sent."""

from pathlib import Path

from ._options import DEFAULTS, Common
from ._session import Session, run

__all__ = ["save"]


def save(media_id: str, path: Path = Path(), /, *, common: Common = DEFAULTS) -> int:
    """Save a file; it is there whole, or not at all.

    The sandbox that a command makes for itself has one file; its id is "sample".

    Args:
        media_id: The file's id, as a webhook brought it.
        path: The file to write, or a folder [else: this folder].
        common: Shared.
    """

    async def work(session: Session) -> int:
        saved = await session.client.save_media(media_id, path)
        size = saved.stat().st_size
        if session.terminal.json:
            session.terminal.data({"path": str(saved), "bytes": size})
        else:
            session.terminal.say(f"{saved} ({size:,} bytes)")
        return 0

    return run(common, work)
