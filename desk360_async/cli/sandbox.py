"""`desk360 sandbox`: a server that behaves like Desk360's, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from desk360_async import ConfigurationError

from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async.sandbox import RunningServer, Sandbox

__all__ = ["sandbox"]


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 8360,
    limit: int = 60,
    period: float = 60.0,
    window: Literal["first_hit", "aligned", "sliding_log", "token_bucket"] = "first_hit",
    other_traffic: float = 0.0,
    account: Path | None = None,
    allow_remote: bool = False,
) -> int:
    """Run a server that behaves like Desk360's, until Ctrl-C.

    What it received can be asked for at /_sandbox/received, its settings changed at /_sandbox.

    Args:
        host: The address to listen on [else: 127.0.0.1].
        port: The port; 0 takes a free one [else: 8360].
        limit: Requests that it takes in a period [else: 60].
        period: Length of a period in seconds [else: 60].
        window: How it counts; first_hit, as Laravel does, if nothing is said.
        other_traffic: Requests a minute that others behind the same address make.
        account: Integrations and templates, a JSON file.
        allow_remote: Listen on an address that other machines reach.
    """
    from desk360_async.sandbox import Sandbox, load_account
    from desk360_async.sandbox import run as serve

    terminal = Terminal()
    try:
        known = load_account(account) if account else None
        made = Sandbox(limit=limit, period=period, window=window, other_traffic=other_traffic, account=known)
        serve(made, host, port, allow_remote=allow_remote, on_start=lambda at: _tell(terminal, made, at))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    terminal.note(f"\n{made.accepted:,} messages taken, {made.refusals:,} requests refused (429).")
    return 0


def _tell(terminal: Terminal, made: "Sandbox", server: "RunningServer") -> None:
    integrations = ", ".join(str(row["id"]) for row in made.account.integrations)
    terminal.say(f"A sandbox for Desk360 listens at {server.url}; Ctrl-C stops it.", "bold")
    terminal.say(f"  API key         {made.api_key}")
    terminal.say(f"  integrations    {integrations}")
    terminal.say(f"  rate limit      {made.throttle.limit} requests in {made.throttle.period:g} s")
    terminal.say(f"  received        {server.url}/_sandbox/received")
    terminal.say(f"Try: desk360 templates list --base-url {server.url}")
    terminal.out.file.flush()
