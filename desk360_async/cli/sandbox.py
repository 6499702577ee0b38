"""`desk360 sandbox`: a server that behaves like Desk360's, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from desk360_async import ConfigurationError

from ._options import cant_listen, check_port
from ._session import account_in
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
    seed_file: Path | None = None,
    webhook: str | None = None,
    delivered_after: float = 0.5,
    read_after: float = 2.0,
    allow_remote: bool = False,
    allow_remote_webhook: bool = False,
    allow_host: tuple[str, ...] = (),
    like: Path | None = None,
    open: bool = False,  # noqa: A002  # the option's name
    json: bool = False,
) -> int:
    """Run a server that behaves like Desk360's, until Ctrl-C.

    What it received can be asked for at /_sandbox/received, its settings changed at /_sandbox.

    Args:
        host: The address to listen on [else: 127.0.0.1].
        port: The port; 0 takes a free one [else: 8360].
        limit: Requests that it takes in a period [else: 60].
        period: Length of a period in seconds [else: 60].
        window: How it counts [else: first_hit, as Laravel does].
        other_traffic: Requests a minute that others behind the same address make [else: 0].
        seed_file: Integrations and templates, a JSON file.
        webhook: The URL, on this machine, that hears what became of messages, and what customers write.
        delivered_after: Seconds until a message is said to be delivered [else: 0.5].
        read_after: Seconds until a message is said to be read [else: 2].
        allow_remote: Listen on an address that other machines reach.
        allow_remote_webhook: Let the webhook's URL be another machine's.
        allow_host: A name that requests may give in Host, besides this machine's; may be repeated.
        like: Facts about the real server, as `desk360 doctor --live --save` writes them.
        open: Open the page in the browser.
        json: Print where it listens as JSON; words go to stderr.
    """
    from desk360_async.sandbox import Sandbox
    from desk360_async.sandbox import run as serve

    terminal = Terminal(json=json)
    check_port(port)
    try:
        limits: dict[str, Any] = {"limit": limit, "period": period, "window": window}
        delays: dict[str, Any] = {"delivered_after": delivered_after, "read_after": read_after}
        made = Sandbox(
            **limits | delays,
            other_traffic=other_traffic,
            account=account_in(seed_file),
            webhook=webhook,
            allow_remote_webhook=allow_remote_webhook,
            like=like,
        )

        def started(at: "RunningServer") -> None:
            _tell(terminal, made, at)
            if open:
                from ._page import open_browser

                open_browser(f"{at.url}/")

        serve(made, host, port, allow_remote=allow_remote, allow_hosts=allow_host, on_start=started)
    except ValueError as error:
        raise ConfigurationError(
            str(error)
            .replace("allow_remote_webhook=True", "--allow-remote-webhook")
            .replace("allow_remote=True", "--allow-remote")
        ) from None
    except OSError as error:
        raise cant_listen(host, port, error) from None
    terminal.note(f"\n{made.accepted:,} messages taken, {made.refusals:,} requests refused (429).")
    return 0


def _tell(terminal: Terminal, made: "Sandbox", server: "RunningServer") -> None:
    ids = [row["id"] for row in made.account.integrations]
    if terminal.json:
        limits = {"limit": made.throttle.limit, "period": made.throttle.period}
        terminal.data({"url": server.url, "api_key": made.api_key, "integrations": ids, **limits})
        return
    terminal.say(f"A sandbox for Desk360 listens at {server.url}; Ctrl-C stops it.", "bold")
    terminal.say(f"  API key         {made.api_key}")
    terminal.say(f"  integrations    {', '.join(map(str, ids))}")
    terminal.say(f"  rate limit      {made.throttle.limit} requests in {made.throttle.period:g} s")
    terminal.say(f"  page            {server.url}/")
    terminal.say(f"  received        {server.url}/_sandbox/received")
    if made.webhooks.target:
        terminal.say(f"  webhooks to     {made.webhooks.target}")
        terminal.say(f"  customers write by POST {server.url}/_sandbox/reply, such as")
        terminal.say('                  {"phone": "+905551112233", "text": "Hello"}')
    terminal.say(f"export DESK360_BASE_URL={server.url}")
    terminal.say(f"export DESK360_API_KEY={made.api_key}")
    terminal.say(f"export DESK360_INTEGRATION_ID={ids[0] if ids else ''}")
    terminal.say(f"Try: desk360 templates list --base-url {server.url}")
    terminal.out.file.flush()
