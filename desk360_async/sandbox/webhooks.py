"""The sandbox's webhooks to the user's web app: statuses of messages, and customers' messages.

The shapes are those of "WhatsApp Webhooks" in the vendor's document. The vendor documents no order,
repeats or retries. The sandbox can therefore disorder, repeat and drop webhooks. A webhook without an answer
is not sent again, except by `resend`. A POST of a few bytes uses the standard library, so that the client's
HTTP stack stays out of the sandbox.
"""

import heapq
import json
import re
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import count
from random import Random
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import anyio.to_thread
from attrs import frozen
from starlette.types import ASGIApp

from desk360_async.sandbox.access import is_loopback
from desk360_async.sandbox.records import Feed, ReceivedMessage, message_id, phone_of
from desk360_async.sandbox.rules import E164

WebhookTarget: TypeAlias = str | tuple[ASGIApp, str] | Callable[[bytes], Awaitable[object]]
"""Where a sandbox's webhooks go: a URL, an ASGI application with the path, or an async function of a body."""

_TIMEOUT = 10.0  # seconds in which a receiver must answer; the vendor documents no limit
_USER_AGENT = "desk360-sandbox"


def check_target(target: WebhookTarget, *, allow_remote: bool) -> None:
    """Refuse a URL that can't be posted to, and another machine's URL without `allow_remote`.

    Raises:
        ValueError: if the URL is refused; the message names the defect.
    """
    if not isinstance(target, str):
        return
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        msg = "webhook: a URL like http://127.0.0.1:8000/hooks/secret is needed"
        raise ValueError(msg)
    if not allow_remote and not is_loopback(parts.hostname):
        msg = f"webhook: {parts.hostname} is another machine; pass allow_remote_webhook=True if you mean it"
        raise ValueError(msg)


def post(url: str, body: bytes) -> int | None:
    """Post a body and wait; return the answer's status, or None if no answer came."""
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
    """Pass a body to its target from an event loop; return the status, or None if no answer came.

    A function may return any value. An int is the status. Any other value gives its attribute
    `status`, or else 200.
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
    """A webhook that was sent, or that `Webhooks.drops` dropped ("WhatsApp Webhooks").

    Attributes:
        body: the JSON object.
        status: the HTTP status of the receiver's answer; None if no answer came or the webhook was dropped.
        at: when, in seconds of the sandbox's clock.
        dropped: whether it was not sent at all, as `Webhooks.drops` asked for.
        number: 1, 2, 3 … in the order of sending.
    """

    body: dict[str, Any]
    status: int | None
    at: float
    dropped: bool = False
    number: int = 0


class WebhookId(str):
    """The id of a message with a scheduled webhook. Awaiting it sends the webhooks that are due now."""

    __slots__ = ("_webhooks",)
    _webhooks: "Webhooks"

    @classmethod
    def of(cls, identity: str, webhooks: "Webhooks") -> "WebhookId":
        """Bind an id to the webhooks that carry it."""
        made = cls(identity)
        made._webhooks = webhooks
        return made

    def __await__(self) -> Generator[Any, Any, str]:
        """Send the webhooks that are due now, and return the id."""
        yield from self._webhooks.deliver_due().__await__()
        return str(self)


class _Due(NamedTuple):
    """A scheduled webhook. Tuples are compared in C; attrs' order took a tenth of a message's request."""

    at: float
    number: int  # differs from all others, so bodies aren't compared
    body: dict[str, Any]


_REFUSED_VARIABLE = re.compile(r"[\n\r\t]| {5,}")  # a line break, a tab, more than four spaces in a row


def is_refused_by_whatsapp(message: ReceivedMessage) -> bool:
    """Whether WhatsApp refuses a template's variable after Desk360 accepted the message.

    Desk360 documents no such check. The sandbox accepts the message, and its status becomes `failed`.
    """
    return any(
        _REFUSED_VARIABLE.search(str(value)) or not any(map(_is_visible, str(value)))
        for value in message.parameters.values()
    )


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Zs")


class ServiceWindows:
    """The 24 hours after each customer's last message, in which messages without a template arrive.

    Messages to a customer who never wrote arrive too: the sandbox has no record from before its start.
    """

    LENGTH = 24 * 3600.0
    _MOST = 100_000  # customers that are remembered; the latest stay

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}

    def hear(self, phone: str, at: float) -> None:
        """Open a customer's window.

        Args:
            phone: the customer's number.
            at: when the customer wrote, in seconds of the sandbox's clock.
        """
        digits = phone.removeprefix("+")
        self._heard.pop(digits, None)
        self._heard[digits] = at
        if len(self._heard) > self._MOST:
            del self._heard[next(iter(self._heard))]

    def is_closed(self, message: ReceivedMessage) -> bool:
        """Whether WhatsApp drops a message: no template, and the customer last wrote 24 hours ago or more."""
        heard = self._heard.get(message.phone.removeprefix("+"))
        return message.kind != "template" and heard is not None and message.at - heard >= self.LENGTH

    def clear(self) -> None:
        """Forget all customers."""
        self._heard.clear()


class Webhooks:
    """The "WhatsApp Webhooks" of one sandbox: scheduled as messages are taken, sent by a thread or `deliver`.

    If the target is a URL and the clock is the real one, a thread sends each webhook when it is due. The
    thread works with any event loop of the sandbox. Without a target, webhooks go to the feed only. In all
    other cases (an application or a function as the target, another clock) webhooks wait for `deliver`.

    Attributes:
        delivered_after: Seconds after a message was taken until its status "delivered"; None for never.
        read_after: Seconds after a message was taken until its status "read"; None for never.
        duplicates: Share of webhooks that are sent twice, from 0 to 1.
        drops: Share of webhooks that are not sent at all, from 0 to 1.
        disorder: Share of webhooks that are sent after the next one, from 0 to 1.
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
        feed: Feed,
        is_watched: bool,
    ) -> None:
        if target is not None:
            check_target(target, allow_remote=allow_remote)
        self.target = target
        self.delivered_after, self.read_after = delivered_after, read_after
        self.duplicates = self.drops = self.disorder = 0.0
        self._clock, self._wall_time, self._sleep, self._seed = clock, wall_time, sleep, seed
        self._feed, self._is_watched = feed, is_watched
        self._due: list[_Due] = []
        self._windows = ServiceWindows()
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
        """The number of scheduled webhooks that are not sent yet."""
        return len(self._due)

    def reset(self) -> None:
        """Forget the sent and the scheduled webhooks, and restart the random numbers from the seed."""
        with self._changed:
            self._due.clear()
            self._sent.clear()
            self._windows.clear()
            self._dice = Random(self._seed)  # noqa: S311 - repeatable on purpose
            self._numbers = count(1)
            self._sent_numbers = count(1)
            self._changed.notify_all()

    def announce(self, message: ReceivedMessage) -> None:
        """Schedule the statuses of a message that was taken: delivered and read, or failed."""
        if self.target is None and not self._is_watched:
            return
        if is_refused_by_whatsapp(message) or self._windows.is_closed(message):
            statuses = {"failed": self.delivered_after or 0.0}
        else:
            delays = {"delivered": self.delivered_after, "read": self.read_after}
            statuses = {status: after for status, after in delays.items() if after is not None}
        self._schedule(
            *(
                (message.at + after, _status_webhook(message.message_id, message.phone, status))
                for status, after in statuses.items()
            )
        )

    def status(self, identity: str, status: object) -> WebhookId:
        """Schedule a status of one message for now; `Sandbox.status` explains it.

        Raises:
            ValueError: if the id isn't one of a message, or the status isn't a text.
        """
        phone = phone_of(identity)
        if phone is None:
            raise ValueError(f"message: {identity!r} is not the id of a message")
        if not isinstance(status, str) or not status:
            raise ValueError("status: a text is needed, such as delivered, read or failed")
        self._schedule((self._clock(), _status_webhook(identity, phone, status)))
        return WebhookId.of(identity, self)

    def reply(self, phone: str, text: object, name: object, fields: dict[str, Any]) -> WebhookId:
        """Schedule a customer's message for now, and return its id; `Sandbox.reply` explains it.

        Raises:
            ValueError: if the phone isn't an E.164 number.
        """
        if not E164.fullmatch(phone):
            msg = "phone: a number like +905551112233 is needed"
            raise ValueError(msg)
        self._windows.hear(phone, self._clock())
        identity = message_id(phone, self._seed, next(self._numbers), inbound=True)
        message: dict[str, Any] = {"id": identity}
        if text is not None:
            message["text"] = text
        message |= {"from": phone.removeprefix("+"), "timestamp": str(int(self._wall_time())), "name": name}
        self._schedule((self._clock(), {"messages": message | {"type": "text"} | fields}))
        return WebhookId.of(identity, self)

    def resend(self, number: int) -> bool:
        """Schedule a sent webhook once more; return False if its number is not in `sent`.

        Args:
            number: the webhook's number, as `sent` lists it.
        """
        body = next((one.body for one in self._sent if one.number == number), None)
        if body is not None:
            self._schedule((self._clock(), body))
        return body is not None

    def _schedule(self, *webhooks: tuple[float, dict[str, Any]]) -> None:
        """Schedule webhooks, each with the time when it is due."""
        if not webhooks:
            return  # no thread starts for nothing
        with self._changed:
            for at, body in webhooks:
                heapq.heappush(self._due, _Due(at, next(self._numbers), body))
        if self.target is None:
            self.settle()
            return
        with self._changed:
            if not isinstance(self.target, str) or self._clock is not time.monotonic:
                return
            self._changed.notify_all()
            if self._thread is None:
                # The thread ends when no webhook is scheduled, and never delays the end of the process.
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

    def settle(self) -> None:
        """If the sandbox has no target, publish in the feed each webhook that is due."""
        with self._changed:  # without the lock, another thread could publish a later one first
            while self.target is None and self._due and self._due[0].at <= self._clock():
                for body in self._next():
                    self._note(body, None)

    async def deliver_due(self) -> int:
        """Send the webhooks that are due now, and return their number."""
        number = 0
        while (wait := self._wait()) is not None and wait <= 0:
            number += await self._deliver_next()
        return number

    async def deliver(self) -> int:
        """Send all scheduled webhooks, each when it is due by the sandbox's clock; return their number.

        A receiver can cause further webhooks, for example by sending a message. They are sent too.

        Raises:
            Exception: any error of an application or a function as the target.
        """
        number = 0
        while (wait := self._wait()) is not None:
            if wait > 0:
                await self._sleep(wait)
            else:
                number += await self._deliver_next()
        return number

    async def _deliver_next(self) -> int:
        with self._changed:
            bodies = self._next() if self._due else []
        for body in bodies:
            answer = None if self.target is None else await hand_over(self.target, json.dumps(body).encode())
            self._note(body, answer)
        return len(bodies)

    def _wait(self) -> float | None:
        """Seconds until the next is due; None if the queue is empty."""
        with self._changed:
            return self._due[0].at - self._clock() if self._due else None

    def _next(self) -> list[dict[str, Any]]:
        """Take the next webhook out; return the bodies to send, in order.

        A dropped webhook gives no body, and a duplicate gives its body twice. In disorder, the body of the
        webhook after it comes first.
        """
        body = heapq.heappop(self._due).body
        if self._falls(self.drops):
            self._note(body, None, dropped=True)
            return []
        bodies = [body, body] if self._falls(self.duplicates) else [body]
        if self._due and self._falls(self.disorder):
            bodies.insert(0, heapq.heappop(self._due).body)
        return bodies

    def _falls(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share

    def _note(self, body: dict[str, Any], status: int | None, *, dropped: bool = False) -> None:
        at = self._clock()
        if said := body.get("statuses"):
            self._feed.publish("status", {**said, "at": at})
        elif not dropped:
            self._feed.publish("reply", {**body["messages"], "at": at})
        if self.target is not None:
            sent = SentWebhook(body, status, at, dropped, next(self._sent_numbers))
            self._sent.append(sent)
            self._feed.publish("webhook", sent)


def _status_webhook(identity: str, phone: str, status: str) -> dict[str, Any]:
    return {"statuses": {"id": identity, "from": phone.removeprefix("+"), "status": status}}
