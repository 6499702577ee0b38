"""The table of routes: method, path and the function behind it. The OpenAPI document is made of it too."""

import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote

from attrs import field, frozen

from desk360_async.sandbox import endpoints, fields
from desk360_async.sandbox.answers import Answer
from desk360_async.sandbox.endpoints import Call
from desk360_async.sandbox.store import Store

Endpoint: TypeAlias = Callable[[Store, Call], Answer]

# The document itself writes both /v1 and /api/v1, and a base URL may lack either.
PREFIX = re.compile(r"(?:/api)?(?:/v1)?(?=/)")


@frozen
class Route:
    """One endpoint; `rules` are those of its request body, `{}` for a GET."""

    method: str
    path: str
    endpoint: Endpoint
    rules: dict[str, str] = field(factory=dict[str, str], repr=False)
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Segments are compared still encoded: a %2F inside an id separates nothing.
        object.__setattr__(self, "pattern", re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that Laravel accepts here: a GET route answers HEAD as well."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


_TEMPLATES = "/integrations/{integration_id}/conversations/templates"
_MESSAGES = "/integrations/{integration_id}/conversations/messages"

ROUTES = (
    Route("GET", "/integrations", endpoints.list_integrations),
    Route("GET", _TEMPLATES, endpoints.list_templates),
    Route("POST", f"{_TEMPLATES}/send", endpoints.send_template, fields.SEND_TEMPLATE),
    Route("POST", f"{_TEMPLATES}/send/bulk", endpoints.send_template_bulk, fields.SEND_TEMPLATE_BULK),
    Route("POST", _MESSAGES, endpoints.send_text, fields.SEND_TEXT),
    Route("POST", f"{_MESSAGES}/locations", endpoints.send_location, fields.SEND_LOCATION),
    Route("POST", f"{_MESSAGES}/contacts", endpoints.send_contacts, fields.SEND_CONTACTS),
    Route("POST", f"{_MESSAGES}/medias", endpoints.send_media, fields.SEND_MEDIA),
    Route("GET", f"{_MESSAGES}/medias/{{media_id}}", endpoints.get_media),
    Route("POST", f"{_MESSAGES}/interactive", endpoints.send_interactive, fields.SEND_INTERACTIVE),
    Route(
        "POST",
        f"{_MESSAGES}/interactive/location-request",
        endpoints.send_location_request,
        fields.SEND_LOCATION_REQUEST,
    ),
    Route("POST", f"{_MESSAGES}/reads", endpoints.mark_read, fields.MARK_READ),
)


@frozen
class Match:
    """A route that fits a path, and the decoded segments in it."""

    route: Route
    segments: dict[str, str]


def without_prefix(raw_path: str) -> str:
    """Drop `/v1`, `/api` or `/api/v1` from a path."""
    return PREFIX.sub("", raw_path, count=1)


def find(raw_path: str) -> list[Match]:
    """List the routes on a path, whatever their method."""
    path = without_prefix(raw_path)
    found = [(route, route.pattern.fullmatch(path)) for route in ROUTES]
    return [
        Match(route, {name: unquote(text) for name, text in match.groupdict().items()})
        for route, match in found
        if match
    ]
