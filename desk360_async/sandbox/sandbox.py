"""The sandbox itself: one account, one limit, one record, and the ASGI application over them."""

import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from os import PathLike
from typing import Any

from starlette.routing import BaseRoute, Match, Mount, Router
from starlette.types import Receive, Scope, Send

from desk360_async.sandbox.account import Account, demo_account
from desk360_async.sandbox.app import Api, Settings
from desk360_async.sandbox.control import Panel, control_routes
from desk360_async.sandbox.delivery import Sleep, sleep
from desk360_async.sandbox.facts import Facts
from desk360_async.sandbox.faults import Faults
from desk360_async.sandbox.forms import MAX_BODY
from desk360_async.sandbox.records import (
    Feed,
    MediaStore,
    ReceivedMessage,
    ReceivedRead,
    ReceivedRequest,
    RefusedPhones,
    RequestLog,
    Store,
    ends_in_zeros,
)
from desk360_async.sandbox.server import (
    Listening,
    RunningServer,
    serve,
    serve_in_foreground,
    serve_in_thread,
)
from desk360_async.sandbox.throttle import Throttle, WindowRule
from desk360_async.sandbox.webhooks import WebhookId, Webhooks, WebhookTarget

_KEEP_ALIVE = 5  # seconds, as uvicorn has it


class _ApiFirst(BaseRoute):
    """The paths under the API's prefix, before the routes of `/_sandbox`: to try those takes 40 µs."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match the prefix. An application that mounts the sandbox has its own prefix in `root_path`."""
        is_the_apis = scope["path"].startswith("/v1/") and not scope.get("root_path")
        return (Match.FULL if is_the_apis else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._api(scope, receive, send)


def _router(api: Api, panel: Panel) -> Router:
    """Route to the API, to our pages, and all other paths to the API again, which knows the answer."""
    return Router([_ApiFirst(api), *control_routes(panel), Mount("/", app=api)])


class Sandbox:
    """A server that behaves like Desk360's, in process (`.app`) or over TCP (`serve`, `serve_in_thread`).

    `.faults` makes things go wrong; `.throttle.limit` and `.throttle.period` may be changed at any time.

    Args:
        api_key: The one key that it accepts; any other is 401.
        limit: Requests a window, per IP address.
        period: Length of a window in seconds.
        window: How requests are counted: "first_hit" (Laravel's), "aligned", "sliding_log" or "token_bucket".
        clock: Returns seconds that never go back. For virtual time pass `anyio.current_time`.
        sleep: Waits for a number of seconds of that clock; faults with a delay await it.
        account: Integrations and templates; by default two integrations with 25 and 3 templates.
        refused_phones: Valid E.164 numbers that are not on WhatsApp, or a function that is True for them. By
            default: numbers that end in 0000000. A bulk send's answer leaves them out. Any other send to them
            is refused.
        strict_bulk: Whether a bulk request with a refused phone is refused as a whole instead.
        other_traffic: Requests a minute that others on the same IP make.
        seed: For everything that is drawn at random; equal seeds behave equally.
        keep: Number of messages to remember, the latest ones; None for all. Of requests, a tenth as many.
        record: False keeps only the counts.
        max_body: Bytes of the largest body; a larger one is 413.
        webhook: Where webhooks go: a URL, an ASGI application with the path, `(app, "/hooks/secret")`, or an
            async function of a body. `.webhooks` sends them, and can repeat, drop and disorder them.
        delivered_after: Seconds after a message was taken until its webhook "delivered"; None for never.
        read_after: Seconds after a message was taken until its webhook "read"; None for never.
        allow_remote_webhook: Whether `webhook` may be another machine's URL.
        keep_alive: Seconds until an idle connection is closed; `Keep-Alive: timeout=` announces them.
            None: closed after 5 seconds, without that header.
        like: Facts about the vendor's real server, as `desk360 doctor --live --save facts.json` saves them:
            a file's path or the mapping in it. The sandbox then behaves as the real server did.

    Raises:
        ValueError: if limit, period, window, other_traffic, webhook or like is not usable.
        OSError: if the file of `like` can't be read.

    Example:
        ```python
        with Sandbox(limit=60, period=60.0).serve_in_thread() as server:
            print(server.url)
        ```
    """

    def __init__(
        self,
        *,
        api_key: str = "sandbox-key",
        limit: int = 60,
        period: float = 60.0,
        window: WindowRule = "first_hit",
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = sleep,
        account: Account | None = None,
        refused_phones: RefusedPhones = ends_in_zeros,
        strict_bulk: bool = False,
        other_traffic: float = 0.0,
        seed: int = 0,
        keep: int | None = 10_000,
        record: bool = True,
        max_body: int = MAX_BODY,
        webhook: WebhookTarget | None = None,
        delivered_after: float | None = 0.5,
        read_after: float | None = 2.0,
        allow_remote_webhook: bool = False,
        keep_alive: int | None = None,
        like: str | PathLike[str] | Mapping[str, Any] | None = None,
    ) -> None:
        keep = keep if record else 0
        facts = Facts.of(like)
        self.api_key = api_key
        self.clock = clock
        self.feed: Feed = Feed()
        self.faults: Faults = Faults(seed)
        self.throttle: Throttle = Throttle(
            limit=facts.limit or limit,
            period=facts.period or period,
            rule=facts.window or window,
            clock=clock,
            others=other_traffic,
            seed=seed,
        )
        self.webhooks: Webhooks = Webhooks(
            webhook,
            clock=clock,
            wall_time=self.throttle.wall_time,
            sleep=sleep,
            seed=seed,
            delivered_after=delivered_after,
            read_after=read_after,
            allow_remote=allow_remote_webhook,
            feed=self.feed,
            is_watched=keep != 0,
        )
        self._store = Store(
            account or demo_account(),
            clock=clock,
            seed=seed,
            keep=keep,
            refused_phones=refused_phones,
            strict_bulk=strict_bulk,
            announce=self.webhooks.announce,
            feed=self.feed,
            page_size=facts.page_size,
        )
        self._log = RequestLog(None if keep is None else keep // 10 + (keep > 0))
        self._settings = Settings(api_key, max_body, sleep, keep_alive, facts)
        api = Api(self._store, self.throttle, self.faults, self._log, self.feed, self._settings)
        self._running: RunningServer | None = None
        self._panel = Panel(
            self._store, self.throttle, self.faults, self._log, self.webhooks, self.feed, api_key
        )
        self.app: Router = _router(api, self._panel)

    @property
    def account(self) -> Account:
        """The integrations and templates that it lists."""
        return self._store.account

    @property
    def received(self) -> list[ReceivedMessage]:
        """The messages taken, one for each recipient, oldest first; at most the latest `keep`."""
        return self._store.messages()

    @property
    def reads(self) -> list[ReceivedRead]:
        """The read receipts taken, oldest first."""
        return self._store.reads()

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The latest HTTP requests, refused ones too, oldest first; at most 4 MiB of bodies in sum."""
        return list(self._log)

    @property
    def media(self) -> MediaStore:
        """Uploaded files by media id; `put` adds a file that can be fetched."""
        return self._store.media

    @property
    def accepted(self) -> int:
        """How many messages were taken, remembered or not."""
        return self._store.accepted

    @property
    def counted(self) -> int:
        """How many requests were counted against the limit."""
        return self.throttle.counted

    @property
    def refusals(self) -> int:
        """How many requests were refused with 429."""
        return self.throttle.refusals

    def sent(self, *, to: str | None = None, template: int | str | None = None) -> list[ReceivedMessage]:
        """List the messages that fit a phone (in any spelling) and a template (id or name); None fits all."""
        return self._store.sent(to, template)

    def reply(
        self, phone: str, text: str | None = None, *, name: str = "Ada Lovelace", **fields: Any
    ) -> WebhookId:
        """Let a customer write: a webhook "messages", scheduled for now.

        Args:
            phone: The customer's, E.164 with `+`.
            text: The message's text.
            name: The customer's.
            fields: The vendor's own fields, such as `type="location"` and `location={...}`. They
                replace fields of the same name.

        Returns:
            The message's id. Awaiting it sends the webhook at once: `await sandbox.reply(phone, "Hello")`.

        Raises:
            ValueError: if the phone isn't an E.164 number.
        """
        return self.webhooks.reply(phone, text, name, fields)

    def status(self, message: ReceivedMessage | str, status: str = "delivered") -> WebhookId:
        """Give a message a status: a webhook "statuses", scheduled for now.

        Args:
            message: A message that the sandbox took, or its id.
            status: Such as "delivered", "read" or "failed".

        Returns:
            The message's id. Awaiting it sends the webhook at once: `await sandbox.status(sent, "read")`.

        Raises:
            ValueError: if the id isn't one of a message.
        """
        identity = message.message_id if isinstance(message, ReceivedMessage) else message
        return self.webhooks.status(identity, status)

    def spend(self, requests: int) -> int:
        """Use up part of the limit, as requests of others on 127.0.0.1 would.

        Args:
            requests: how many.

        Returns:
            How many were counted; the others were refused.
        """
        return self.throttle.spend(requests)

    def reset(self) -> None:
        """Forget the messages and the counts, and stop all faults. Settings and account stay."""
        self._panel.reset()

    @property
    def page_url(self) -> str:
        """The URL of the page that shows the sandbox as a phone.

        Raises:
            RuntimeError: if the sandbox isn't served over TCP now.
        """
        if self._running is None:
            raise RuntimeError(
                "the sandbox has no page before it is served: use serve() or serve_in_thread()"
            )
        return f"{self._running.url}/"

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allow_remote: bool = False,
        allow_hosts: Collection[str] = (),
    ) -> AsyncGenerator[RunningServer]:
        """Serve over TCP in the running asyncio loop.

        Args:
            host: The address to listen on.
            port: The TCP port; 0 takes a free one.
            allow_remote: Whether the address may be one that other machines reach.
            allow_hosts: Names that `Host` may have besides loopback names and the address itself, such as the
                name of a container.

        Raises:
            ValueError: if the host isn't loopback and `allow_remote` is False.
            RuntimeError: if no asyncio loop is running (under trio use `serve_in_thread`).
            OSError: if the address can't be bound.
        """
        async with serve(self.app, self._at(host, port, allow_remote, allow_hosts)) as running:
            with self._served(running):
                yield running

    @contextmanager
    def serve_in_thread(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allow_remote: bool = False,
        allow_hosts: Collection[str] = (),
    ) -> Generator[RunningServer]:
        """Serve over TCP from a thread with its own loop: for synchronous code, trio, benchmarks.

        Args:
            host: As for `serve`.
            port: As for `serve`.
            allow_remote: As for `serve`.
            allow_hosts: As for `serve`.

        Raises:
            ValueError: if the host isn't loopback and `allow_remote` is False.
            OSError: if the address can't be bound.
        """
        at = self._at(host, port, allow_remote, allow_hosts)
        with serve_in_thread(self.app, at) as running, self._served(running):
            yield running

    def _at(self, host: str, port: int, allow_remote: bool, allow_hosts: Collection[str]) -> Listening:
        keep_alive = self._settings.keep_alive or _KEEP_ALIVE
        return Listening(host, port, allow_remote, tuple(allow_hosts), keep_alive)

    @contextmanager
    def _served(self, running: RunningServer) -> Generator[None]:
        self._running = running
        try:
            yield
        finally:
            self._running = None

    def __repr__(self) -> str:
        throttle = self.throttle
        return (
            f"<Sandbox {throttle.limit} per {throttle.period:g} s ({throttle.rule}), "
            f"{self.accepted} accepted, {self.refusals} refused>"
        )


def run(
    sandbox: Sandbox,
    host: str = "127.0.0.1",
    port: int = 8360,
    *,
    allow_remote: bool = False,
    allow_hosts: Collection[str] = (),
    on_start: Callable[[RunningServer], Any] | None = None,
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM; requests under way have 3 seconds to finish.

    Args:
        sandbox: The sandbox to serve.
        host: The address to listen on.
        port: The TCP port; 0 takes a free one.
        allow_remote: Whether the address may be one that other machines reach.
        allow_hosts: Names that `Host` may have besides loopback names and the address itself.
        on_start: Called once the address is bound.

    Raises:
        ValueError: if the host isn't loopback and `allow_remote` is False.
        OSError: if the address can't be bound.
    """
    at = Listening(host, port, allow_remote, tuple(allow_hosts))
    serve_in_foreground(sandbox.app, at, on_start)
