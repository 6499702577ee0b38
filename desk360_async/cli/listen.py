"""`desk360 listen`: a receiver that shows what comes in."""

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from desk360_async import ConfigurationError, _threads
from desk360_async._errors import mask_phone
from desk360_async._redaction import mask_numbers
from desk360_async._settings import is_loopback

from ._options import cant_listen, check_port
from ._terminal import Terminal

if TYPE_CHECKING:
    from desk360_async.webhooks import Event, WebhookReceiver

__all__ = ["listen"]


def listen(
    *,
    host: str = "127.0.0.1",
    port: int = 8361,
    secret: str | None = None,
    record: Path | None = None,
    allow_remote: bool = False,
    json: bool = False,
) -> int:
    """Receive webhooks and show each event as it comes, until Ctrl-C.

    Desk360 needs a public https address that leads here, such as a tunnel's; a sandbox does not.

    Args:
        host: The address to listen on [else: 127.0.0.1].
        port: The port; 0 takes a free one [else: 8361].
        secret: The URL's last segment; one is made up, if none is given.
        record: A file that gets a line of JSON for each event, with whole numbers, after those it has; a
            new one is readable by its owner only.
        allow_remote: Listen on an address that other machines reach.
        json: Print the same lines on stdout; words go to stderr.
    """
    terminal = Terminal(json=json)
    if not allow_remote and not is_loopback(host):
        raise ConfigurationError(f"--host {host} can be reached by others; add --allow-remote if you mean it")
    check_port(port)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_appending(record)) if record else None
        listener = stack.enter_context(_bound(host, port))
        chosen = secret or secrets.token_urlsafe(24)
        receiver = _showing(terminal, chosen, file)
        place = f"[{host}]" if ":" in host else host
        terminal.say(
            f"Webhooks for http://{place}:{listener.getsockname()[1]}/{chosen}; Ctrl-C stops it.", "bold"
        )
        terminal.out.file.flush()
        _serve(receiver, listener)
    terminal.note(f"\n{receiver.stats.received:,} events, {receiver.stats.duplicates:,} of them repeats.")
    return 0


def _appending(path: Path) -> IO[str]:
    def private(name: str, flags: int) -> int:
        # Only what is made here: a file that was there keeps the rights that it was given.
        return os.open(name, flags, 0o600)

    return open(path, "a", encoding="utf-8", opener=private)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise cant_listen(host, port, error) from None
    # Accepted sockets inherit it; uvicorn sets it on no socket that it is given, and Nagle's algorithm
    # delays an answer on a kept-open connection by 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _showing(terminal: Terminal, secret: str, file: IO[str] | None) -> "WebhookReceiver":
    from desk360_async.webhooks import WebhookReceiver

    receiver = WebhookReceiver(secret=secret)
    show = _show(terminal, file)
    for register in (receiver.on_message, receiver.on_status, receiver.on_unknown):
        register(show)
    return receiver


def _show(terminal: Terminal, file: IO[str] | None) -> "Callable[[Event], Awaitable[None]]":
    async def show(event: "Event") -> None:
        at = datetime.now(UTC)
        row = {"at": at.isoformat(timespec="milliseconds"), "kind": type(event).__name__, "event": event.raw}
        if file is not None:
            await _threads.run(_append, file, json.dumps(row, ensure_ascii=False) + "\n")
        if terminal.json:
            terminal.data(row)
        else:
            kind, words = _words(event)
            terminal.item(f"{at.astimezone():%H:%M:%S}  {kind:10}", words)
            terminal.out.file.flush()

    return show


def _append(file: IO[str], line: str) -> None:
    file.write(line)
    file.flush()  # so that `tail -f` sees it, and a kill loses nothing


def _words(event: "Event") -> tuple[str, str]:
    from desk360_async.webhooks import MessageReceived, StatusUpdate

    if isinstance(event, StatusUpdate):
        return "status", f"{event.status} to {_who(event.phone or event.sender)}, {event.id}"
    if isinstance(event, MessageReceived):
        said = f": {event.text}" if event.text else ""
        return "message", f"{event.type} from {_who(event.phone or event.sender)}{said}"
    # Nobody knows which of its fields is a phone; --record keeps them whole.
    return "unknown", mask_numbers(json.dumps(event.raw, default=str, ensure_ascii=False))[:200]


def _who(sender: str | None) -> str:
    return mask_phone(sender) if sender else "somebody"


def _serve(receiver: "WebhookReceiver", listener: socket.socket) -> None:
    # uvicorn raises the signal again once it has shut down.
    with contextlib.suppress(KeyboardInterrupt):
        import uvicorn

        options: dict[str, Any] = {"lifespan": "on", "ws": "none", "log_config": None, "server_header": False}
        # Its access log would show the secret.
        config = uvicorn.Config(receiver, access_log=False, timeout_graceful_shutdown=3, **options)
        uvicorn.Server(config).run(sockets=[listener])
