"""Where webhooks go: a URL, an ASGI application, or a function. How one body gets there, not what it says.

The client's HTTP stack is left alone here as well: a POST of a few bytes takes the standard library.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import anyio.to_thread
from starlette.types import ASGIApp

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
