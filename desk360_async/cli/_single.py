"""One message: made, sent, and what became of it printed."""

from collections.abc import Callable

from desk360_async import BulkSent, Desk360Error, Message, Outcome, SendResult, SentMedia
from desk360_async._errors import mask_phone

from ._options import Common
from ._session import Session, confirm, run
from ._terminal import Terminal

__all__ = ["send_one"]


def send_one(common: Common, make: Callable[[], Message], *, recipients: int = 1, sure: bool = True) -> int:
    """Make a message, send it, and print what became of it.

    Args:
        common: the shared options.
        make: makes the message; it may raise InvalidMessage.
        recipients: to how many it goes.
        sure: whether nobody is to be asked, however many they are.

    Raises:
        Desk360Error: `.outcome` says whether it went out.
    """
    message = make()  # before a server is started, or a connection opened: a typo costs nothing

    async def work(session: Session) -> int:
        confirm(session, recipients, sure=sure)
        reply = await session.client.send(message)
        terminal = session.terminal
        if terminal.json:
            terminal.data({"outcome": "accepted", **reply.raw})
        elif isinstance(reply, BulkSent):
            return _tell_bulk(terminal, reply)
        elif isinstance(reply, SentMedia):
            _tell_files(terminal, reply)
        else:
            terminal.say(f"Accepted: {reply.message_id}", "green")
        return 4 if isinstance(reply, BulkSent) and reply.unlisted else 0

    ended: list[SendResult] = []
    try:
        return run(common, work, ended.append)
    except KeyboardInterrupt:
        if any(result.outcome is Outcome.UNKNOWN for result in ended):
            # More than an interrupt: whoever only sees that would send it again.
            raise Desk360Error("interrupted while it was on the wire", outcome=Outcome.UNKNOWN) from None
        raise


def _tell_files(terminal: Terminal, reply: SentMedia) -> None:
    terminal.say(f"Accepted: {len(reply.files)} of the files are listed.", "green")
    for file in reply.files:
        terminal.say(f"  {file.name} ({file.type})")
        terminal.say(f"    message {file.message_id}")
        terminal.say(f"    media   {file.media_id}")


def _tell_bulk(terminal: Terminal, reply: BulkSent) -> int:
    terminal.say(f"Accepted for {len(reply.phones):,} phones.", "green")
    if not reply.unlisted:
        return 0
    terminal.say(f"Unknown for {len(reply.unlisted):,}, which the server did not list:", "yellow")
    for phone in reply.unlisted:
        terminal.say(f"  {mask_phone(phone)}")
    return 4
