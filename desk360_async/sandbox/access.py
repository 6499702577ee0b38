"""The rules of access to a sandbox: programs of this machine may use it, foreign web pages may not.

A sandbox on loopback is still reachable by every web page in a browser of this machine. A page may send
simple requests to it (cross-site requests), or give its own name the address 127.0.0.1 (DNS rebinding).
So the TCP server checks `Host`, and `/_sandbox` checks `Origin` and the content type.
"""

import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback one, which no other machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return the name in a `Host` header: without port, in lower case, an IPv6 address without brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


class HostCheck:
    """An ASGI application that answers 421 to requests under a foreign host name, and passes on the others.

    Args:
        app: the application behind it.
        allow: host names besides loopback names, and besides the address that the connection reached.
    """

    def __init__(self, app: ASGIApp, allow: tuple[str, ...] = ()) -> None:
        self._app = app
        self._allow = frozenset(host_name(name) for name in allow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the `Host` header of one request."""
        name = host_name(Headers(scope=scope).get("host", ""))
        reached = (scope.get("server") or ("",))[0]
        if is_loopback(name) or name in self._allow or (name == reached and _is_address(name)):
            await self._app(scope, receive, send)
            return
        text = "This host name isn't allowed. To allow it, pass allow_hosts=, or --allow-host NAME.\n"
        await PlainTextResponse(text, 421, {"connection": "close"})(scope, receive, send)


def refusal(request: Request, api_key: str) -> Response | None:
    """Return the refusal of a `/_sandbox` request from another machine or a foreign page, else None.

    Args:
        request: the request.
        api_key: the key that a request from another machine must hold.
    """
    given = request.headers.get("authorization", "").encode()
    if not _is_local(request) and not hmac.compare_digest(given, f"Bearer {api_key}".encode()):
        return _error(401, "from another machine the API key is needed")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return _error(403, "the Origin header names a foreign page")
    # A link in a foreign page may lead here. Its scripts, images and forms may not make requests.
    if (
        request.headers.get("sec-fetch-site") == "cross-site"
        and request.headers.get("sec-fetch-mode") != "navigate"
    ):
        return _error(403, "the request comes from a foreign page")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method not in ("GET", "HEAD") and media_type != "application/json":
        return _error(403, "Content-Type: application/json is needed to change anything")
    return None


def seal(response: Response) -> Response:
    """Add headers: no foreign page may embed the response, and no browser may guess its type or store it."""
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["cross-origin-resource-policy"] = "same-origin"
    response.headers["referrer-policy"] = "no-referrer"
    response.headers.setdefault("cache-control", "no-store")
    return response


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(request: Request) -> bool:
    try:
        return request.client is None or ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        # A test transport has a name such as "testclient" here; a TCP peer always has an address.
        return True
