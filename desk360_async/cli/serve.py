"""Commands for webhooks and the sandbox: `desk360 sandbox`, `desk360 listen`, `desk360 trigger`."""

import contextlib
import json
import os
import re
import secrets
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from desk360_async import ConfigurationError, _threads
from desk360_async._arguments import is_loopback
from desk360_async._errors import mask_phone
from desk360_async._redaction import mask_numbers

from ._options import cant_listen, check_port
from ._session import account_in
from ._terminal import Terminal, counted

if TYPE_CHECKING:
    from desk360_async.sandbox import RunningServer, Sandbox

if TYPE_CHECKING:
    from desk360_async.webhooks import Event, WebhookReceiver

__all__ = ["listen", "sandbox", "trigger"]


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

    The messages that it took are at /_sandbox/received. Its settings can be changed at /_sandbox.

    Args:
        host: The address to listen on [default: 127.0.0.1].
        port: The port; 0 takes a free one [default: 8360].
        limit: Requests that it takes in a period [default: 60].
        period: Length of a period in seconds [default: 60].
        window: How it counts requests in a period [default: first_hit, as Laravel does].
        other_traffic: Requests a minute from other programs behind the same address [default: 0].
        seed_file: A JSON file with integrations and templates.
        webhook: A URL on this machine; it gets the messages' statuses and the customers' messages.
        delivered_after: Seconds until a message is reported as delivered [default: 0.5].
        read_after: Seconds until a message is reported as read [default: 2].
        allow_remote: Allow an address that other machines can reach.
        allow_remote_webhook: Allow a webhook URL on another machine.
        allow_host: A further host name that requests may use; may be repeated.
        like: A file of facts about the real server, as `desk360 doctor --live --save` writes it.
        open: Open the page in the browser.
        json: Print the URL, the key and the settings as JSON; other text goes to stderr.
    """
    from desk360_async.sandbox import Sandbox
    from desk360_async.sandbox import run as serve

    terminal = Terminal(json=json)
    check_port(port)
    if like is not None and not like.is_file():
        raise ConfigurationError(
            f"--like {like}: no such file; `desk360 doctor --live --save {like}` writes it"
        )
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
            _tell(terminal, made, at, like)
            if open:
                from ._page import open_browser

                open_browser(f"{at.url}/")

        serve(made, host, port, allow_remote=allow_remote, allow_hosts=allow_host, on_start=started)
    except ValueError as error:
        raise ConfigurationError(
            re.sub(r"^like:", f"--like {like}:", str(error))
            .replace("allow_remote_webhook=True", "--allow-remote-webhook")
            .replace("allow_remote=True", "--allow-remote")
        ) from None
    except OSError as error:
        raise cant_listen(host, port, error) from None
    taken, refused = counted(made.accepted, "message"), counted(made.refusals, "request")
    terminal.note(f"\n{taken} taken, {refused} refused (429).")
    return 0


def _tell(terminal: Terminal, made: "Sandbox", server: "RunningServer", like: Path | None) -> None:
    ids = [row["id"] for row in made.account.integrations]
    if terminal.json:
        limits = {"limit": made.throttle.limit, "period": made.throttle.period}
        terminal.data({"url": server.url, "api_key": made.api_key, "integrations": ids, **limits})
        return
    # 0.0.0.0 and [::] stand for all addresses of this machine; a client needs a single address.
    url = server.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    terminal.say(f"A sandbox for Desk360 listens at {server.url}; Ctrl-C stops it.", "bold")
    terminal.say(f"  API key         {made.api_key}")
    terminal.say(f"  integrations    {', '.join(map(str, ids))}")
    terminal.say(f"  rate limit      {made.throttle.limit} requests in {made.throttle.period:g} s")
    if like is not None:
        terminal.say(f"  behaves like    the server of {like}")
    terminal.say(f"  page            {url}/")
    terminal.say(f"  received        {url}/_sandbox/received")
    if made.webhooks.target:
        terminal.say(f"  webhooks to     {made.webhooks.target}")
        terminal.say(f"  customers write by POST {url}/_sandbox/reply, such as")
        terminal.say('                  {"phone": "+905551112233", "text": "Hello"}')
    terminal.say(f"export DESK360_BASE_URL={url}")
    terminal.say(f"export DESK360_API_KEY={made.api_key}")
    terminal.say(f"export DESK360_INTEGRATION_ID={ids[0] if ids else ''}")
    terminal.say(f"Try: desk360 templates list --base-url {url}")
    terminal.out.file.flush()


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
        host: The address to listen on [default: 127.0.0.1].
        port: The port; 0 takes a free one [default: 8361].
        secret: The last segment of the URL [default: a random text].
        record: Append a line of JSON for each event to this file, with whole phone numbers.
        allow_remote: Allow an address that other machines can reach.
        json: Print a line of JSON for each event on stdout; other text goes to stderr.
    """
    terminal = Terminal(json=json)
    if not allow_remote and not is_loopback(host):
        raise ConfigurationError(f"--host {host}: other machines reach it; add --allow-remote if you mean it")
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


@contextlib.contextmanager
def _appending(path: Path) -> Generator[IO[str]]:
    """Yield a file to which lines are appended; an error of its last write names the file."""

    def private(name: str, flags: int) -> int:
        # The mode is for a new file; an existing file keeps its mode.
        return os.open(name, flags, 0o600)

    file = open(path, "a", encoding="utf-8", opener=private)  # noqa: SIM115  # closed below
    try:
        yield file
    finally:
        try:
            file.close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise cant_listen(host, port, error) from None
    # uvicorn doesn't set TCP_NODELAY on a socket that it is given; accepted sockets inherit it. Without it,
    # Nagle's algorithm delays an answer on a kept-open connection by 40 ms.
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
    file.flush()  # `tail -f` shows the line at once, and a kill loses no line


def _words(event: "Event") -> tuple[str, str]:
    from desk360_async.webhooks import MessageReceived, StatusUpdate

    if isinstance(event, StatusUpdate):
        return "status", f"{event.status} to {_who(event.phone or event.sender)}, {event.id}"
    if isinstance(event, MessageReceived):
        said = f": {event.text}" if event.text else ""
        return "message", f"{event.type} from {_who(event.phone or event.sender)}{said}"
    # Any field of an unknown event may be a phone. `--record` writes the whole numbers.
    return "unknown", mask_numbers(json.dumps(event.raw, default=str, ensure_ascii=False))[:200]


def _who(sender: str | None) -> str:
    return mask_phone(sender) if sender else "somebody"


def _serve(receiver: "WebhookReceiver", listener: socket.socket) -> None:
    # After its shutdown, uvicorn raises the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        import uvicorn

        options: dict[str, Any] = {"lifespan": "on", "ws": "none", "log_config": None, "server_header": False}
        # uvicorn's access log would show the secret.
        config = uvicorn.Config(receiver, access_log=False, timeout_graceful_shutdown=3, **options)
        uvicorn.Server(config).run(sockets=[listener])


Kind = Literal["text", "location", "contacts", "image", "referral", "status", "unknown"]


# An undocumented kind of event, to test whether an app can handle new kinds.
_UNKNOWN = {"calls": {"id": "", "from": "", "event": "missed"}}


def trigger(
    kind: Kind,
    /,
    *,
    to: str,
    phone: str = "+905551112233",
    text: str | None = None,
    status: str = "delivered",
    verbatim: bool = False,
    allow_remote: bool = False,
    json: bool = False,
) -> int:
    """Send one webhook to your web app: an example of the vendor's document, or an undocumented kind.

    The webhook gets a new id, the phone and the present time. So the app takes it for new, and can answer it.

    Args:
        kind: The kind of the event.
        to: The URL of your webhooks on this machine, with its secret.
        phone: The customer's phone [default: +905551112233].
        text: The customer's text [default: the example's].
        status: The status, for the kind status [default: delivered].
        verbatim: Send the document's example unchanged.
        allow_remote: Allow a URL on another machine.
        json: Print JSON; other text goes to stderr.
    """
    from desk360_async.sandbox.webhooks import check_target, post

    try:
        check_target(to, allow_remote=allow_remote)
    except ValueError as error:
        fix = str(error).replace("webhook:", "--to:").replace("allow_remote_webhook=True", "--allow-remote")
        raise ConfigurationError(fix) from None
    body = _example(kind) if verbatim else _fresh(kind, phone, text, status)
    answer = post(to, body)
    terminal = Terminal(json=json)
    if json:
        terminal.data({"kind": kind, "status": answer, "body": body.decode()})
    elif answer is None:
        terminal.note("no answer: is your web app running there?", "red")
    else:
        sender = "as in the document" if verbatim else f"from {mask_phone(phone)}"
        terminal.say(f"{kind} {sender}: HTTP {answer}")
    return 0 if answer is not None and 200 <= answer < 300 else 3


def _example(kind: Kind) -> bytes:
    from desk360_async.testing import webhook_sample

    return json.dumps(_UNKNOWN).encode() if kind == "unknown" else webhook_sample(kind)


def _fresh(kind: Kind, phone: str, text: str | None, status: str) -> bytes:
    body: dict[str, Any] = json.loads(_example(kind))
    (event,) = body.values()
    event |= {"id": f"trigger-{uuid.uuid4()}", "from": phone.removeprefix("+")}
    if "timestamp" in event:
        event["timestamp"] = str(int(time.time()))
    if "status" in event:
        event["status"] = status
    if text is not None:
        event["text"] = text
    return json.dumps(body, ensure_ascii=False).encode()
