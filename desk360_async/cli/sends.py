"""`desk360 sends …`: the sends under idempotency keys whose outcome is unknown, and a person's decision."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

import anyio

from desk360_async import ConfigurationError

from ._options import DEFAULTS, Common, send_log_at
from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async.once import SendLog

__all__ = ["list_", "resolve"]


def list_(*, unknown: bool = True, log: str | None = None, common: Common = DEFAULTS) -> int:
    """List the sends whose outcome is unknown: exit code 4 if there is one.

    Args:
        unknown: The unknown ones. The log lists no others, so the option may be left out.
        log: The send log: a file, or a PostgreSQL DSN [env: DESK360_SEND_LOG].
        common: Shared.
    """

    async def work(log: "SendLog", terminal: Terminal) -> int:
        records = [record async for record in log.unknown()]
        if terminal.json:
            for record in records:
                since, seen = record.since.isoformat(), record.seen
                terminal.data({"key": record.key, "since": since, "attempts": record.attempts, "seen": seen})
        elif records:
            rows = ((r.key, f"{r.since:%Y-%m-%d %H:%M:%S}", r.attempts, r.seen) for r in records)
            terminal.table(("Key", "Since (UTC)", "Attempts", "Webhooks"), rows, wide=("Key",))
            terminal.note(
                "Look in Desk360's panel, then: desk360 sends resolve KEY --resend|--accepted|--not-sent"
            )
        else:
            terminal.remark("No send is unknown.")
        return 4 if records else 0

    return _run(common, log, work)


def resolve(
    key: str,
    /,
    *,
    resend: bool = False,
    accepted: bool = False,
    not_sent: bool = False,
    message_id: str = "",
    log: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Decide about a send whose outcome is unknown. It doesn't send; the next send under the key obeys.

    Args:
        key: The send's key.
        resend: The next send under the key goes out; a customer who has the message gets a second one.
        accepted: The customer has it; the next send under the key gets a stored reply.
        not_sent: The customer doesn't have it; the next send under the key goes out.
        message_id: The message's id for the stored reply, if it is known.
        log: The send log: a file, or a PostgreSQL DSN [env: DESK360_SEND_LOG].
        common: Shared.
    """
    if resend + accepted + not_sent != 1:
        raise ConfigurationError("give one of --resend, --accepted, --not-sent")
    how: Literal["resend", "accepted", "not_sent"]
    how = "resend" if resend else "accepted" if accepted else "not_sent"

    async def work(log: "SendLog", terminal: Terminal) -> int:
        await log.resolve(key, how, message_id=message_id)
        if terminal.json:
            terminal.data({"key": key, "resolved": how})
        else:
            terminal.say(f"{key}: {how.replace('_', ' ')}")
        return 0

    return _run(common, log, work)


def _run(common: Common, place: str | None, work: Callable[["SendLog", Terminal], Awaitable[int]]) -> int:
    log = send_log_at(place, may_make=False)

    async def with_log() -> int:
        async with log:
            return await work(log, Terminal(json=common.json, quiet=common.quiet))

    return anyio.run(with_log)
