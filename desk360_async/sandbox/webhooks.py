"""What the sandbox sends to the user's web app: statuses of messages, and what customers write.

The shapes are those of "WhatsApp Webhooks" in the vendor's document. The vendor documents no order, repeats
or retries, so all three can be made bad. A webhook without an answer is not sent again, except by `resend`.
A POST of a few bytes takes the standard library: the client's HTTP stack stays out of the sandbox.
"""

import heapq
import ipaddress
import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import count
from random import Random
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import anyio.to_thread
from attrs import field, frozen
from starlette.types import ASGIApp

from desk360_async.sandbox.records import ReceivedMessage, message_id
from desk360_async.sandbox.rules import E164

WebhookTarget: TypeAlias = str | tuple[ASGIApp, str] | Callable[[bytes], Awaitable[object]]
"""Where a sandbox's webhooks go: a URL, an ASGI application with the path, or an async function of a body."""

_TIMEOUT = 10.0  # seconds that a receiver is given to answer; the vendor's own limit is not documented
_USER_AGENT = "desk360-sandbox"


def check_target(target: WebhookTarget, *, allow_remote: bool) -> None:
    """Refuse a URL that can't be posted to, or that leads to another machine unasked.

    Raises:
        ValueError: it names what is wrong.
    """
    if not isinstance(target, str):
        return
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        msg = "webhook: a URL like http://127.0.0.1:8000/hooks/secret is needed"
        raise ValueError(msg)
    if not allow_remote and not _is_loopback(parts.hostname):
        msg = f"webhook: {parts.hostname} is another machine; pass allow_remote_webhook=True if that is meant"
        raise ValueError(msg)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def post(url: str, body: bytes) -> int | None:
    """Post a body, blocking; the status, or None where there was no answer."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    headers = {"Content-Type": "application/json", "User-Agent": _USER_AGENT}
    try:
        connection.request("POST", parts._replace(scheme="", netloc="", fragment="").geturl(), body, headers)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


async def hand_over(target: WebhookTarget, body: bytes) -> int | None:
    """Bring a body to its target from an event loop; the status, or None where there was no answer.

    A function may return what it likes: an int is taken for a status, anything else for 200.
    """
    if isinstance(target, str):
        return await anyio.to_thread.run_sync(post, target, body)
    if not callable(target):
        app, path = target
        return await _call(app, path, body)
    answer = await target(body)
    return answer if isinstance(answer, int) else getattr(answer, "status", 200)


async def _call(app: ASGIApp, path: str, body: bytes) -> int | None:
    statuses: list[int] = []
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await app(_scope(path, headers), receive, send)
    return statuses[0] if statuses else None


def _scope(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"webhook.test"), *headers],
        "client": ("127.0.0.1", 0),
        "server": ("webhook.test", 80),
    }


@frozen
class SentWebhook:
    """A webhook that was sent, or dropped on request ("WhatsApp Webhooks").

    Attributes:
        body: the JSON object.
        status: the receiver's answer, an HTTP status; None where there was none, or it was dropped.
        at: when, in seconds of the sandbox's clock.
        dropped: whether it was not sent at all, as `Webhooks.drops` asked for.
    """

    body: dict[str, Any]
    status: int | None
    at: float
    dropped: bool = False


@frozen(order=True)
class _Due:
    at: float
    number: int
    body: dict[str, Any] = field(order=False)


class Webhooks:
    """The "WhatsApp Webhooks" of one sandbox: scheduled as messages are taken, sent by a thread or `deliver`.

    To a URL, by the real clock, a thread of their own sends them when they are due, whatever event loop the
    sandbox runs on. In all other cases (an application or a function as the target, another clock) they wait
    for `deliver`.

    Attributes:
        delivered_after: Seconds after a message was taken until its status "delivered"; None for never.
        read_after: Seconds after a message was taken until its status "read"; None for never.
        duplicates: Share of webhooks that are sent twice, from 0 to 1.
        drops: Share of webhooks that are not sent at all, from 0 to 1.
        disorder: Share of webhooks that let the next one go first, from 0 to 1.
    """

    delivered_after: float | None
    read_after: float | None
    duplicates: float
    drops: float
    disorder: float

    def __init__(
        self,
        target: WebhookTarget | None,
        *,
        clock: Callable[[], float],
        wall_time: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        seed: int,
        delivered_after: float | None,
        read_after: float | None,
        allow_remote: bool,
    ) -> None:
        if target is not None:
            check_target(target, allow_remote=allow_remote)
        self.target = target
        self.delivered_after, self.read_after = delivered_after, read_after
        self.duplicates = self.drops = self.disorder = 0.0
        self._clock, self._wall_time, self._sleep, self._seed = clock, wall_time, sleep, seed
        self._due: list[_Due] = []
        self._sent: deque[SentWebhook] = deque(maxlen=10_000)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.reset()

    @property
    def sent(self) -> list[SentWebhook]:
        """The webhooks sent or dropped, oldest first (the latest 10,000)."""
        return list(self._sent)

    @property
    def pending(self) -> int:
        """How many wait until they are due."""
        return len(self._due)

    def reset(self) -> None:
        """Forget what was sent and what is due, and begin the dice anew."""
        with self._changed:
            self._due.clear()
            self._sent.clear()
            self._dice = Random(self._seed)  # noqa: S311 - repeatable on purpose
            self._numbers = count(1)
            self._changed.notify_all()

    def announce(self, message: ReceivedMessage) -> None:
        """Schedule what the vendor says of a message that was taken."""
        if self.target is None:
            return
        for status, after in (("delivered", self.delivered_after), ("read", self.read_after)):
            if after is not None:
                said = {"id": message.message_id, "from": message.phone.removeprefix("+"), "status": status}
                self._schedule(message.at + after, {"statuses": said})

    def reply(self, phone: str, text: str | None, name: str, fields: dict[str, Any]) -> str:
        """Schedule a customer's message for now, and return its id; `Sandbox.reply` explains it.

        Raises:
            ValueError: there is nowhere to send it, or the phone is none.
        """
        if self.target is None:
            msg = "there is nowhere to send it: pass Sandbox(webhook=...)"
            raise ValueError(msg)
        if not E164.fullmatch(phone):
            msg = "phone: a number like +905551112233 is needed"
            raise ValueError(msg)
        identity = message_id(phone, self._seed, next(self._numbers), inbound=True)
        message: dict[str, Any] = {"id": identity}
        if text is not None:
            message["text"] = text
        message |= {"from": phone.removeprefix("+"), "timestamp": str(int(self._wall_time())), "name": name}
        self._schedule(self._clock(), {"messages": message | {"type": "text"} | fields})
        return identity

    def _schedule(self, at: float, body: dict[str, Any]) -> None:
        with self._changed:
            heapq.heappush(self._due, _Due(at, next(self._numbers), body))
            if not isinstance(self.target, str) or self._clock is not time.monotonic:
                return
            self._changed.notify_all()
            if self._thread is None:
                # It ends when nothing is due, and never holds the process up.
                self._thread = threading.Thread(target=self._run, name="desk360-webhooks", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        assert isinstance(self.target, str)
        while bodies := self._next_when_due():
            for body in bodies:
                self._note(body, post(self.target, json.dumps(body).encode()))

    def _next_when_due(self) -> list[dict[str, Any]]:
        with self._changed:
            while (wait := self._wait()) is not None:
                if wait > 0:
                    self._changed.wait(wait)
                elif bodies := self._next():
                    return bodies
            self._thread = None
        return []

    async def deliver(self) -> int:
        """Send all that is scheduled, waiting by the sandbox's clock until each is due; tell how many were.

        What a receiver's answer to one brings about (another message, say) is sent as well.

        Raises:
            Exception: what an application or a function as the target raises.
        """
        number = 0
        while self.target is not None and (wait := self._wait()) is not None:
            if wait > 0:
                await self._sleep(wait)
                continue
            with self._changed:
                bodies = self._next() if self._due else []
            for body in bodies:
                self._note(body, await hand_over(self.target, json.dumps(body).encode()))
                number += 1
        return number

    def _wait(self) -> float | None:
        """Seconds until the next is due; None if there is none."""
        with self._changed:
            return self._due[0].at - self._clock() if self._due else None

    def _next(self) -> list[dict[str, Any]]:
        """Take out the next, once, twice or with the one after it; nothing if it is dropped."""
        body = heapq.heappop(self._due).body
        if self._falls(self.drops):
            self._sent.append(SentWebhook(body, None, self._clock(), dropped=True))
            return []
        bodies = [body, body] if self._falls(self.duplicates) else [body]
        if self._due and self._falls(self.disorder):
            bodies.insert(0, heapq.heappop(self._due).body)
        return bodies

    def _falls(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share

    def _note(self, body: dict[str, Any], status: int | None) -> None:
        self._sent.append(SentWebhook(body, status, self._clock()))
