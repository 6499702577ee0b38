"""`/_sandbox/…`: the record and the settings over HTTP, in JSON. Not part of Desk360's API, not counted.

Open to loopback; from any other address the API key is asked for, since the record holds phone numbers.
"""

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import asdict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from desk360_async.sandbox.faults import Fault
from desk360_async.sandbox.forms import is_map
from desk360_async.sandbox.openapi import openapi_document

if TYPE_CHECKING:
    from desk360_async.sandbox.sandbox import Sandbox

View: TypeAlias = Callable[["Sandbox", Request], Awaitable[Response]]


async def summary(sandbox: "Sandbox", _request: Request) -> Response:
    """GET /_sandbox: the settings and the counts."""
    throttle = sandbox.throttle
    return JSONResponse(
        {
            "limit": throttle.limit,
            "period": throttle.period,
            "window": throttle.rule,
            "accepted": sandbox.accepted,
            "counted": sandbox.counted,
            "refusals": sandbox.refusals,
            "faults": len(list(sandbox.faults)),
        }
    )


async def received(sandbox: "Sandbox", request: Request) -> Response:
    """GET /_sandbox/received?to=&template=: the messages taken."""
    template = request.query_params.get("template")
    wanted = int(template) if template and template.isdecimal() else template
    messages = sandbox.sent(to=request.query_params.get("to"), template=wanted)
    return JSONResponse([asdict(message) for message in messages])


async def reads(sandbox: "Sandbox", _request: Request) -> Response:
    """GET /_sandbox/reads: the read receipts."""
    return JSONResponse([asdict(read) for read in sandbox.reads])


async def requests(sandbox: "Sandbox", _request: Request) -> Response:
    """GET /_sandbox/requests: every HTTP request, without keys."""
    return JSONResponse([asdict(entry) for entry in sandbox.requests])


async def reply(sandbox: "Sandbox", request: Request) -> Response:
    """POST /_sandbox/reply: a customer's message: `phone`, `text`, `name`, and the vendor's own fields."""
    fields = {str(name): value for name, value in (await _json_object(request)).items()}
    try:
        identity = sandbox.reply(str(fields.pop("phone", "")), **fields)
    except (TypeError, ValueError) as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    return JSONResponse({"id": identity}, status_code=202)


async def webhooks(sandbox: "Sandbox", _request: Request) -> Response:
    """GET /_sandbox/webhooks: those sent, and how the next ones will be."""
    return JSONResponse(_webhook_settings(sandbox) | {"sent": [asdict(one) for one in sandbox.webhooks.sent]})


async def change_webhooks(sandbox: "Sandbox", request: Request) -> Response:
    """PUT /_sandbox/webhooks: delays in seconds (null: never); duplicates, drops, disorder from 0 to 1."""
    settings = await _json_object(request)
    for name, value in settings.items():
        share = name in ("duplicates", "drops", "disorder")
        usable = isinstance(value, int | float) and 0 <= value <= (1 if share else 86_400)
        if name not in _SETTINGS or not (usable or (value is None and not share)):
            problem = f"{name}: one of {', '.join(_SETTINGS)}; seconds, null, or a share from 0 to 1"
            return JSONResponse({"error": problem}, status_code=400)
    for name, value in settings.items():
        setattr(sandbox.webhooks, name, value)
    return JSONResponse(_webhook_settings(sandbox))


_SETTINGS = ("delivered_after", "read_after", "duplicates", "drops", "disorder")


def _webhook_settings(sandbox: "Sandbox") -> dict[str, Any]:
    return {name: getattr(sandbox.webhooks, name) for name in _SETTINGS} | {
        "pending": sandbox.webhooks.pending
    }


async def reset(sandbox: "Sandbox", _request: Request) -> Response:
    """POST /_sandbox/reset: forget what was received and counted, stop all faults."""
    sandbox.reset()
    return Response(status_code=204)


async def list_faults(sandbox: "Sandbox", _request: Request) -> Response:
    """GET /_sandbox/faults: the faults that still strike."""
    return JSONResponse([_plain(fault) for fault in sandbox.faults])


async def add_fault(sandbox: "Sandbox", request: Request) -> Response:
    """POST /_sandbox/faults: a fault, as the object of its settings."""
    settings = await _json_object(request)
    try:
        fault = sandbox.faults.add(Fault(**settings))
    except (TypeError, ValueError) as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    return JSONResponse(_plain(fault), status_code=201)


async def clear_faults(sandbox: "Sandbox", _request: Request) -> Response:
    """DELETE /_sandbox/faults: stop all faults."""
    sandbox.faults.clear()
    return Response(status_code=204)


async def change_limit(sandbox: "Sandbox", request: Request) -> Response:
    """PUT /_sandbox/limit: another `limit` (requests) or `period` (seconds), from the next request on."""
    settings = await _json_object(request)
    limit = settings.get("limit", sandbox.throttle.limit)
    period = settings.get("period", sandbox.throttle.period)
    if not isinstance(limit, int) or not isinstance(period, int | float) or limit < 1 or period <= 0:
        return JSONResponse({"error": "limit: an integer from 1; period: seconds above 0"}, status_code=400)
    sandbox.throttle.limit, sandbox.throttle.period = limit, period
    return await summary(sandbox, request)


async def openapi(_sandbox: "Sandbox", request: Request) -> Response:
    """GET /_sandbox/openapi.json: the routes that the sandbox imitates."""
    return JSONResponse(openapi_document(f"{request.url.scheme}://{request.url.netloc}/v1"))


async def _json_object(request: Request) -> dict[Any, Any]:
    try:
        value = json.loads(await request.body())
    except ValueError:
        return {}
    return value if is_map(value) else {}


def _plain(fault: Fault) -> dict[str, Any]:
    body = fault.body.decode("utf-8", "replace") if isinstance(fault.body, bytes) else fault.body
    return asdict(fault) | {"body": body}


_VIEWS: tuple[tuple[str, str, View], ...] = (
    ("GET", "", summary),
    ("GET", "/received", received),
    ("GET", "/reads", reads),
    ("GET", "/requests", requests),
    ("POST", "/reply", reply),
    ("GET", "/webhooks", webhooks),
    ("PUT", "/webhooks", change_webhooks),
    ("POST", "/reset", reset),
    ("GET", "/faults", list_faults),
    ("POST", "/faults", add_fault),
    ("DELETE", "/faults", clear_faults),
    ("PUT", "/limit", change_limit),
    ("GET", "/openapi.json", openapi),
)


def control_routes(sandbox: "Sandbox") -> list[Route]:
    """Bind the views to one sandbox."""
    return [
        Route(f"/_sandbox{path}", _guarded(sandbox, view), methods=[method]) for method, path, view in _VIEWS
    ]


def _guarded(sandbox: "Sandbox", view: View) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if _is_local(request) or hmac.compare_digest(given, f"Bearer {sandbox.api_key}".encode()):
            return await view(sandbox, request)
        return JSONResponse({"error": "from another machine the API key is needed"}, status_code=401)

    return answer


def _is_local(request: Request) -> bool:
    try:
        return request.client is None or ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        # Test transports call themselves "testclient" or the like; a TCP peer always has an address.
        return True
