"""`/_sandbox/…` and the page: the record and the settings over HTTP, in JSON.

These paths are not part of Desk360's API, and their requests are not counted. The module `access` decides who
may ask. A view gets a `Panel` of the parts that it shows, instead of the sandbox.
"""

import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from importlib.resources import files
from secrets import token_hex
from typing import Any, TypeAlias

import anyio
from attrs import asdict, field, frozen
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from desk360_async.sandbox.access import refusal, seal
from desk360_async.sandbox.delivery import ENDING
from desk360_async.sandbox.endpoints import PATHS
from desk360_async.sandbox.faults import KINDS, PRESETS, Fault, Faults
from desk360_async.sandbox.forms import is_map
from desk360_async.sandbox.openapi import openapi_document
from desk360_async.sandbox.records import Feed, RequestLog, Store, fields_of
from desk360_async.sandbox.throttle import Throttle
from desk360_async.sandbox.webhooks import Webhooks

_POLL = 0.1  # seconds between two looks at the feed; a person sees no delay
_BATCH = 100  # most events in a look: a fast campaign makes the page late, and not the sandbox
_IDLE = 150  # looks without news, before a comment is sent to keep the connection open
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}


@frozen
class Panel:
    """The parts of one sandbox that its page and `/_sandbox` show and change."""

    store: Store
    throttle: Throttle
    faults: Faults
    log: RequestLog
    webhooks: Webhooks
    feed: Feed
    api_key: str = field(repr=False)
    run: str = field(factory=lambda: token_hex(4))

    def reset(self) -> None:
        """Forget all that was received and counted, and stop all faults."""
        self.store.reset()
        self.log.clear()
        self.throttle.reset()
        self.webhooks.reset()
        self.faults.clear()
        self.feed.publish("reset", {})


View: TypeAlias = Callable[[Panel, Request], Awaitable[Response]]


async def summary(panel: Panel, _request: Request) -> Response:
    """GET /_sandbox: the settings and the counts."""
    throttle = panel.throttle
    return JSONResponse(
        {
            "limit": throttle.limit,
            "period": throttle.period,
            "window": throttle.rule,
            "accepted": panel.store.accepted,
            "counted": throttle.counted,
            "refusals": throttle.refusals,
            "faults": len(list(panel.faults)),
        }
    )


async def received(panel: Panel, request: Request) -> Response:
    """GET /_sandbox/received?to=&template=: the messages taken."""
    template = request.query_params.get("template")
    wanted = int(template) if template and template.isdecimal() else template
    messages = panel.store.sent(request.query_params.get("to"), wanted)
    return JSONResponse([asdict(message) for message in messages])


async def reads(panel: Panel, _request: Request) -> Response:
    """GET /_sandbox/reads: the read receipts."""
    return JSONResponse([asdict(read) for read in panel.store.reads()])


async def requests(panel: Panel, _request: Request) -> Response:
    """GET /_sandbox/requests: every HTTP request, without keys."""
    return JSONResponse([asdict(entry) for entry in panel.log])


async def media(panel: Panel, request: Request) -> Response:
    """GET /_sandbox/media/{id}: an uploaded file, as an attachment."""
    stored = panel.store.media.get(request.path_params["media_id"])
    if stored is None:
        return _not_found("media")
    headers = {"content-disposition": "attachment", "content-security-policy": "default-src 'none'; sandbox"}
    return Response(stored.content, 200, headers, media_type=stored.content_type)


async def reply(panel: Panel, request: Request) -> Response:
    """POST /_sandbox/reply: a customer's message, by `phone`, `text`, `name` and the vendor's fields."""
    fields = {str(name): value for name, value in (await _json_object(request)).items()}
    phone, text, name = (
        str(fields.pop("phone", "")),
        fields.pop("text", None),
        fields.pop("name", "Ada Lovelace"),
    )
    try:
        identity = panel.webhooks.reply(phone, text, name, fields)
    except ValueError as error:
        return _refused(str(error))
    return JSONResponse({"id": identity}, status_code=202)


async def change_status(panel: Panel, request: Request) -> Response:
    """POST /_sandbox/messages/{id}/status: a status of one message, such as `{"status": "read"}`."""
    status = (await _json_object(request)).get("status")
    try:
        panel.webhooks.status(request.path_params["message_id"], status)
    except ValueError as error:
        return _refused(str(error))
    return JSONResponse({"status": status}, status_code=202)


async def webhooks(panel: Panel, _request: Request) -> Response:
    """GET /_sandbox/webhooks: the webhooks sent, and the settings for the next ones."""
    return JSONResponse(_webhook_settings(panel) | {"sent": [asdict(one) for one in panel.webhooks.sent]})


async def change_webhooks(panel: Panel, request: Request) -> Response:
    """PUT /_sandbox/webhooks: delays in seconds (null: never); duplicates, drops, disorder from 0 to 1."""
    settings = await _json_object(request)
    for name, value in settings.items():
        share = name in ("duplicates", "drops", "disorder")
        usable = isinstance(value, int | float) and 0 <= value <= (1 if share else 86_400)
        if name not in _SETTINGS or not (usable or (value is None and not share)):
            return _refused(f"{name}: one of {', '.join(_SETTINGS)}; seconds, null, or a share from 0 to 1")
    for name, value in settings.items():
        setattr(panel.webhooks, name, value)
    return JSONResponse(_webhook_settings(panel))


async def resend(panel: Panel, request: Request) -> Response:
    """POST /_sandbox/webhooks/{n}/resend: the n-th webhook once more."""
    number = request.path_params["number"]
    return JSONResponse({"number": number}, 202) if panel.webhooks.resend(number) else _not_found("webhook")


_SETTINGS = ("delivered_after", "read_after", "duplicates", "drops", "disorder")


def _webhook_settings(panel: Panel) -> dict[str, Any]:
    return {name: getattr(panel.webhooks, name) for name in _SETTINGS} | {"pending": panel.webhooks.pending}


async def reset(panel: Panel, _request: Request) -> Response:
    """POST /_sandbox/reset: clear the requests and the counts, stop all faults."""
    panel.reset()
    return Response(status_code=204)


async def list_faults(panel: Panel, _request: Request) -> Response:
    """GET /_sandbox/faults: the faults that still strike."""
    return JSONResponse([_plain(fault) for fault in panel.faults])


async def add_fault(panel: Panel, request: Request) -> Response:
    """POST /_sandbox/faults: a fault, as the object of its settings, or `{"preset": name}`."""
    settings = await _json_object(request)
    try:
        if "preset" in settings:
            return JSONResponse([_plain(fault) for fault in panel.faults.preset(settings["preset"])], 201)
        fault = panel.faults.add(Fault(**settings))
    except (TypeError, ValueError) as error:
        return _refused(str(error))
    return JSONResponse(_plain(fault), status_code=201)


async def clear_faults(panel: Panel, request: Request) -> Response:
    """DELETE /_sandbox/faults?kind=: stop all faults, or those of a kind."""
    kind = request.query_params.get("kind")
    if kind is None:
        panel.faults.clear()
    for fault in panel.faults:
        if fault.kind == kind:
            panel.faults.remove(fault)
    return Response(status_code=204)


async def change_seed(panel: Panel, request: Request) -> Response:
    """PUT /_sandbox/seed: another `seed` (an integer), from which the faults' random numbers restart."""
    seed = (await _json_object(request)).get("seed")
    if not isinstance(seed, int):
        return _refused("seed: an integer")
    panel.faults.reseed(seed)
    return JSONResponse({"seed": seed})


async def change_limit(panel: Panel, request: Request) -> Response:
    """PUT /_sandbox/limit: another `limit` (requests) or `period` (seconds), from the next request on."""
    settings = await _json_object(request)
    limit = settings.get("limit", panel.throttle.limit)
    period = settings.get("period", panel.throttle.period)
    if not isinstance(limit, int) or not isinstance(period, int | float) or limit < 1 or period <= 0:
        return _refused("limit: an integer from 1; period: seconds above 0")
    panel.throttle.limit, panel.throttle.period = limit, period
    return await summary(panel, request)


async def openapi(_panel: Panel, request: Request) -> Response:
    """GET /_sandbox/openapi.json: the routes that the sandbox imitates."""
    return JSONResponse(openapi_document(f"{request.url.scheme}://{request.url.netloc}/v1"))


async def page(_panel: Panel, request: Request) -> Response:
    """GET / and /_sandbox/page/{name}: the page, its script and its style."""
    return page_file(request.path_params.get("name", "index.html"))


def page_file(name: str) -> Response:
    """Answer with one of the page's files, under the page's content security policy."""
    if name not in _PAGE_FILES:
        return _not_found("file")
    content = files("desk360_async.sandbox").joinpath("page", name).read_bytes()
    return Response(content, 200, {"content-security-policy": PAGE_POLICY, "content-type": _PAGE_FILES[name]})


async def events(panel: Panel, request: Request) -> Response:
    """GET /_sandbox/events: the feed, as server-sent events; it goes on after `Last-Event-ID`."""
    given = request.headers.get("last-event-id", "")
    cursor = int(given) if given.isascii() and given.isdigit() else 0
    return event_stream(_looks(panel, cursor), request)


def event_stream(looks: AsyncGenerator[str], request: Request) -> Response:
    """Stream the texts of `looks` until the reader leaves or the server ends; an empty text is no news."""
    ending: threading.Event | None = request.scope.get("extensions", {}).get(ENDING)

    async def chunks() -> AsyncIterator[str]:
        quiet = 0
        async with aclosing(looks):
            async for text in looks:
                quiet = 0 if text else quiet + 1
                if text or quiet % _IDLE == 0:
                    yield text or ": still here\n\n"
                if ending is not None and ending.is_set():
                    return
                await anyio.sleep(_POLL)

    return StreamingResponse(chunks(), media_type="text/event-stream")


def frame(event: str, value: Any, number: int | None = None) -> str:
    """Write one server-sent event with JSON in it."""
    mark = "" if number is None else f"id: {number}\n"
    return f"event: {event}\n{mark}data: {json.dumps(value, separators=(',', ':'), default=fields_of)}\n\n"


async def _looks(panel: Panel, cursor: int) -> AsyncGenerator[str]:
    # The state leaves with the first event: until it arrives, the page has forms without values.
    text, before = frame("hello", _hello(panel)), ""
    while True:
        panel.webhooks.settle()
        found = panel.feed.after(cursor, _BATCH)
        if found:
            skipped = max(0, found[0].number - cursor - 1) if cursor <= panel.feed.last else 0
            cursor = found[-1].number
            text += frame("events", {"skipped": skipped, "events": [one.as_json() for one in found]}, cursor)
        if (state := frame("state", _state(panel))) != before:
            text, before = text + state, state
        yield text
        text = ""


def _hello(panel: Panel) -> dict[str, Any]:
    account = panel.store.account
    return {
        "run": panel.run,
        "integrations": [row["id"] for row in account.integrations],
        "templates": [row for rows in account.templates.values() for row in rows],
        "kinds": KINDS,
        "paths": PATHS,
        "presets": list(PRESETS),
        "webhook": panel.webhooks.target is not None,
        "clock": panel.throttle.clock(),
        "wall": panel.throttle.wall_time(),
    }


def _state(panel: Panel) -> dict[str, Any]:
    return {
        "limit": panel.throttle.status(),
        "accepted": panel.store.accepted,
        "faults": [_plain(fault) for fault in panel.faults],
        "seed": panel.faults.seed,
        "struck": panel.faults.struck,
    }


async def _json_object(request: Request) -> dict[Any, Any]:
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    return value if is_map(value) else {}


def _refused(message: str) -> Response:
    return JSONResponse({"error": message}, status_code=400)


def _not_found(name: str) -> Response:
    return JSONResponse({"error": f"there is no such {name} any more"}, status_code=404)


def _plain(fault: Fault) -> dict[str, Any]:
    body = fault.body.decode("utf-8", "replace") if isinstance(fault.body, bytes) else fault.body
    return asdict(fault) | {"body": body}


_VIEWS: tuple[tuple[str, str, View], ...] = (
    ("GET", "/", page),
    ("GET", "/_sandbox/page/{name}", page),
    ("GET", "/_sandbox/events", events),
    ("GET", "/_sandbox", summary),
    ("GET", "/_sandbox/received", received),
    ("GET", "/_sandbox/reads", reads),
    ("GET", "/_sandbox/requests", requests),
    ("GET", "/_sandbox/media/{media_id}", media),
    ("POST", "/_sandbox/reply", reply),
    ("POST", "/_sandbox/messages/{message_id}/status", change_status),
    ("GET", "/_sandbox/webhooks", webhooks),
    ("PUT", "/_sandbox/webhooks", change_webhooks),
    ("POST", "/_sandbox/webhooks/{number:int}/resend", resend),
    ("POST", "/_sandbox/reset", reset),
    ("GET", "/_sandbox/faults", list_faults),
    ("POST", "/_sandbox/faults", add_fault),
    ("DELETE", "/_sandbox/faults", clear_faults),
    ("PUT", "/_sandbox/seed", change_seed),
    ("PUT", "/_sandbox/limit", change_limit),
    ("GET", "/_sandbox/openapi.json", openapi),
)


def control_routes(panel: Panel) -> list[Route]:
    """Bind the views to one sandbox's panel."""
    return [Route(path, _guarded(panel, view), methods=[method]) for method, path, view in _VIEWS]


def _guarded(panel: Panel, view: View) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return seal(refusal(request, panel.api_key) or await view(panel, request))

    return answer
