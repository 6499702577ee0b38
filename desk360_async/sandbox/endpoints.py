"""The endpoints: one function each, from the fields of a request to an answer; and the table of routes.

Each function carries the heading of the vendor's document that it imitates, and validates by that heading's
table of rules. No HTTP, no clock and no limit is here. The OpenAPI document is made of the same table.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from attrs import field, frozen

from desk360_async.sandbox.account import header_label, is_active
from desk360_async.sandbox.forms import PhpArray, Upload
from desk360_async.sandbox.records import (
    Answer,
    Kind,
    Store,
    StoredMedia,
    describe,
    files_of,
    model_not_found,
    page_of,
)
from desk360_async.sandbox.rules import E164, Problem, check, label, members

# ── the vendor's request body tables as rules: a table each heading, a row each field, in its order ─────────

_TO = {"to": "required|string|phone"}

SEND_TEMPLATE = {
    "template_id": "required|integer",
    "language_id": "required|integer",
    "destinations": "required|array",
    "destinations.*.phone": "required|string|phone",
    "destinations.*.parameters": "array",
    "destinations.*.parameters.*": "string",
    "attachment": "file|max:20480",
}

SEND_TEMPLATE_BULK = {
    "template_id": "required|integer",
    "language_id": "required|integer",
    "destinations": "required_without:destinations_file|array",
    "destinations.*.phone": "required|string|phone",
    "parameters": "array",
    "parameters.*": "string",
    "attachment": "file|max:20480",
    "destinations_file": "file|max:20480",
}

SEND_TEXT = _TO | {"text": "required|string|max:4096"}

SEND_LOCATION = _TO | {
    "location": "required|array",
    "location.longitude": "required|numeric",
    "location.latitude": "required|numeric",
    "location.name": "required|string",
    "location.address": "required|string",
}

SEND_CONTACTS = _TO | {
    "contacts": "required|array",
    "contacts.*.addresses": "array",
    **{
        f"contacts.*.addresses.*.{name}": "string"
        for name in ("street", "city", "state", "zip", "country", "country_code", "type")
    },
    "contacts.*.birthday": "string|date_format:Y-m-d",
    "contacts.*.emails": "array",
    "contacts.*.emails.*.email": "string",
    "contacts.*.emails.*.type": "string",
    "contacts.*.name.formatted_name": "required|string",
    "contacts.*.name.first_name": "required|string",
    "contacts.*.name.last_name": "required|string",
    "contacts.*.name.middle_name": "string",
    "contacts.*.name.suffix": "string",
    "contacts.*.name.prefix": "string",
    "contacts.*.org.company": "string",
    "contacts.*.org.department": "string",
    "contacts.*.org.title": "string",
    "contacts.*.phones": "array",
    "contacts.*.phones.*.phone": "string",
    "contacts.*.phones.*.type": "string",
    "contacts.*.phones.*.wa_id": "string",
    "contacts.*.urls": "array",
    "contacts.*.urls.*.url": "string",
    "contacts.*.urls.*.type": "string",
}

SEND_MEDIA = _TO | {
    "attachments": "required|array|min:1|max:5",
    "attachments.*": "required|file|max:20480",
}

SEND_INTERACTIVE = _TO | {
    "body": "required|string|max:1024",
    "buttons": "required|array|min:1|max:10",
    "buttons.*.id": "required|string|max:200|distinct",
    "buttons.*.title": "required|string|max:20|distinct",
    "header": "array",
    "header.type": "required_with:header|string|in:text,image,video,document",
    "header.text": "required_if:header.type,text|string|max:60",
    "header.document.link": "required_if:header.type,document|string|url",
    "header.document.filename": "string",
    "header.video.link": "required_if:header.type,video|string|url",
    "header.image.link": "required_if:header.type,image|string|url",
    "footer": "array",
    "footer.text": "required_with:footer|string|max:60",
}

SEND_LOCATION_REQUEST = _TO | {"body": "required|string|max:1024"}

MARK_READ = {
    "message_ids": "required|array",
    "message_ids.*": "required|string",
    "to": "required|string|phone",
}


_PLURALS = {"image": "images", "video": "videos", "audio": "audios", "document": "documents"}
_HEADER_FILES = {"IMAGE": "image/", "VIDEO": "video/", "DOCUMENT": ""}


@frozen
class Call:
    """One request after authentication: its fields and where it came from.

    `origin` makes the URL's scheme and host, which few answers need. `taken_share` is below 1 where a fault
    makes a bulk request take only some of its recipients.
    """

    integration_id: int
    fields: PhpArray
    query: dict[str, str]
    path: str
    origin: Callable[[], str]
    media_id: str = ""
    taken_share: float = 1.0

    @property
    def url(self) -> str:
        """The request's URL, without its query."""
        return self.origin() + self.path


class Invalid(Exception):
    """The fields break rules; the first problem becomes the answer."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].message)
        self.problems = problems


def list_integrations(store: Store, call: Call) -> Answer:
    """Integrations."""
    return page_of(store.account.integrations, call.query, call.url, store.page_size)


def list_templates(store: Store, call: Call) -> Answer:
    """WhatsApp Message Templates."""
    return page_of(store.account.templates[call.integration_id], call.query, call.url, store.page_size)


def send_text(store: Store, call: Call) -> Answer:
    """Send WhatsApp Message."""
    to = _recipient(store, call, SEND_TEXT)
    return _sent(store, call, to, "text", text=call.fields["text"])


def send_location(store: Store, call: Call) -> Answer:
    """Send WhatsApp Location Message."""
    to = _recipient(store, call, SEND_LOCATION)
    return _sent(store, call, to, "location", content=call.fields["location"])


def send_contacts(store: Store, call: Call) -> Answer:
    """Send WhatsApp Contact Message."""
    to = _recipient(store, call, SEND_CONTACTS)
    contacts = [contact for _, contact in members(call.fields["contacts"])]
    return _sent(store, call, to, "contacts", content=contacts)


def send_interactive(store: Store, call: Call) -> Answer:
    """Send WhatsApp Interactive Message."""
    to = _recipient(store, call, SEND_INTERACTIVE)
    content = {name: call.fields[name] for name in ("header", "buttons", "footer") if name in call.fields}
    return _sent(store, call, to, "interactive", text=call.fields["body"], content=content)


def send_location_request(store: Store, call: Call) -> Answer:
    """Send WhatsApp Location Request Interactive Message."""
    to = _recipient(store, call, SEND_LOCATION_REQUEST)
    return _sent(store, call, to, "location_request", text=call.fields["body"])


def mark_read(store: Store, call: Call) -> Answer:
    """Read WhatsApp Message."""
    _validate(MARK_READ, call.fields)
    identities = [identity for _, identity in members(call.fields["message_ids"])]
    store.take_read(call.fields["to"], identities, call.integration_id)
    return Answer.of_json({"message_ids": identities})


def send_media(store: Store, call: Call) -> Answer:
    """Send WhatsApp Media Message."""
    to = _recipient(store, call, SEND_MEDIA)
    folder = f"{call.origin()}/integrations/{call.integration_id}/attachments"
    medias: dict[str, list[dict[str, Any]]] = {}
    for _, upload in members(call.fields["attachments"]):
        media = store.keep_media(upload, call.integration_id)
        kind = kind_of(upload.content_type)
        message = store.take(to, "media", call.integration_id, files=files_of(upload), content=media.media_id)
        row = {
            "url": f"{folder}/{media.media_id}",
            "name": upload.name,
            "type": kind,
            "aws": True,
            "content_type": upload.content_type,
            "message_id": message.message_id,
            "media_id": media.media_id,
        }
        medias.setdefault(_PLURALS[kind], []).append(row)
    return Answer.of_json({"medias": medias})


def kind_of(content_type: str) -> str:
    """Group a media type as the answer does: image, video, audio, and document for the rest."""
    main = content_type.partition("/")[0]
    return main if main in _PLURALS else "document"


def get_media(store: Store, call: Call) -> Answer:
    """Get WhatsApp Media."""
    media = store.media.get(call.media_id)
    if media is None or media.integration_id != call.integration_id:
        return model_not_found("Media", call.media_id)
    return file_answer(media)


def file_answer(media: StoredMedia) -> Answer:
    """Answer with a stored file, named as Symfony's BinaryFileResponse names it."""
    plain = media.name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "'")
    disposition = f'inline; filename="{plain}"'
    if plain != media.name:
        disposition += f"; filename*=utf-8''{quote(media.name, safe='')}"
    return Answer(
        200, media.content, {"content-type": media.content_type, "content-disposition": disposition}
    )


def send_template(store: Store, call: Call) -> Answer:
    """Send WhatsApp Message Template."""
    _validate(SEND_TEMPLATE, call.fields)
    translation = _translation(store, call)
    destinations = members(call.fields["destinations"])
    problems: list[Problem] = []
    for key, destination in destinations:
        where = f"destinations.{key}"
        problems += _parameter_problems(translation, destination.get("parameters"), f"{where}.parameters")
        if store.is_refused(destination["phone"]):
            problems.append(_not_on_whatsapp(f"{where}.phone"))
    _refuse(problems)
    shared = _shared(call)
    ids = [
        store.take(
            row["phone"],
            "template",
            call.integration_id,
            parameters=_parameters(row.get("parameters")),
            **shared,
        ).message_id
        for _, row in destinations
    ]
    # Several destinations are allowed, but the documented answer has room for one id.
    return Answer.of_json({"message_id": ids[0]})


def send_template_bulk(store: Store, call: Call) -> Answer:
    """Bulk Send WhatsApp Message Template."""
    _validate(SEND_TEMPLATE_BULK, call.fields)
    translation = _translation(store, call)
    parameters = call.fields.get("parameters")
    phones = [row["phone"] for _, row in members(call.fields.get("destinations"))]
    phones += _file_phones(call.fields.get("destinations_file"))
    _refuse(_parameter_problems(translation, parameters, "parameters"))
    refused = [number for number, phone in enumerate(phones) if store.is_refused(phone)]
    if store.strict_bulk:
        _refuse([_not_on_whatsapp(f"destinations.{number}.phone") for number in refused])
    skipped = set(refused)
    taken = [phone for number, phone in enumerate(phones) if number not in skipped]
    taken = taken[: round(len(taken) * call.taken_share)]
    shared = _shared(call) | {"parameters": _parameters(parameters), "bulk": True}
    for phone in taken:
        store.take(phone, "template", call.integration_id, **shared)
    return Answer.of_json({"phones": taken})


def _file_phones(upload: Upload | None) -> list[str]:
    if upload is None:
        return []
    lines = [line.strip() for line in upload.content.decode("utf-8", "replace").split("\n")]
    phones = [line for line in lines if line]
    bad = [number for number, phone in enumerate(phones) if not E164.fullmatch(phone)]
    _refuse(
        [Problem("destinations_file", f"The destinations file.{n} field format is invalid.") for n in bad]
    )
    if not phones:
        _refuse([Problem("destinations_file", "The destinations file field is required.")])
    return phones


def _translation(store: Store, call: Call) -> dict[str, Any]:
    """Find the active translation that the request names, with the file that it needs."""
    template = store.account.template(call.integration_id, int(call.fields["template_id"]))
    if template is None:
        raise Invalid([Problem("template_id", "The selected template id is invalid.")])
    wanted = int(call.fields["language_id"])
    found = [row for row in template["translations"] if row["language_id"] == wanted]
    if not found:
        raise Invalid([Problem("language_id", "The selected language id is invalid.")])
    if not template["sendable"] or not is_active(found[0]):
        raise Invalid([Problem("template_id", "The selected template is not active.")])
    translation: dict[str, Any] = found[0]
    _refuse(_attachment_problems(translation, call.fields.get("attachment")))
    return translation


def _attachment_problems(translation: dict[str, Any], attachment: Upload | None) -> list[Problem]:
    needed = _HEADER_FILES.get(header_label(translation) or "")
    # The document's own samples send a file beside a template without a media header.
    if needed is None:
        return []
    if attachment is None:
        return [Problem("attachment", "The attachment field is required.")]
    if not attachment.content_type.startswith(needed):
        kind = needed.rstrip("/")
        return [Problem("attachment", f"The attachment field must be a file of type: {kind}.")]
    return []


def _parameter_problems(translation: dict[str, Any], given: Any, where: str) -> list[Problem]:
    parameters, variables = _parameters(given), translation["variables"]
    missing = [name for name in variables if not str(parameters.get(name) or "").strip()]
    unknown = [name for name in parameters if name not in variables]
    return [
        Problem(f"{where}.{name}", f"The {label(where)}.{name} field is {verdict}.")
        for names, verdict in ((missing, "required"), (unknown, "prohibited"))
        for name in names
    ]


def _parameters(given: Any) -> dict[str, Any]:
    return {str(key): value for key, value in members(given)}


def _shared(call: Call) -> dict[str, Any]:
    return {
        "template_id": int(call.fields["template_id"]),
        "language_id": int(call.fields["language_id"]),
        "files": files_of(call.fields.get("attachment")),
    }


def _recipient(store: Store, call: Call, rules: dict[str, str]) -> str:
    _validate(rules, call.fields)
    to: str = call.fields["to"]
    if store.is_refused(to):
        raise Invalid([_not_on_whatsapp("to")])
    return to


def _validate(rules: dict[str, str], given: PhpArray) -> None:
    _refuse(check(rules, given))


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise Invalid(problems)


def _not_on_whatsapp(where: str) -> Problem:
    return Problem(where, f"The {where} field must be a valid WhatsApp number.")


def _sent(store: Store, call: Call, to: str, kind: Kind, **content: Any) -> Answer:
    message = store.take(to, kind, call.integration_id, **describe(content))
    return Answer.of_json({"message_id": message.message_id})


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
        # Segments are compared still encoded: a %2F inside an id is no separator.
        object.__setattr__(self, "pattern", re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that Laravel accepts here: a GET route answers HEAD as well."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


_TEMPLATES = "/integrations/{integration_id}/conversations/templates"
_MESSAGES = "/integrations/{integration_id}/conversations/messages"

ROUTES = (
    Route("GET", "/integrations", list_integrations),
    Route("GET", _TEMPLATES, list_templates),
    Route("POST", f"{_TEMPLATES}/send", send_template, SEND_TEMPLATE),
    Route("POST", f"{_TEMPLATES}/send/bulk", send_template_bulk, SEND_TEMPLATE_BULK),
    Route("POST", _MESSAGES, send_text, SEND_TEXT),
    Route("POST", f"{_MESSAGES}/locations", send_location, SEND_LOCATION),
    Route("POST", f"{_MESSAGES}/contacts", send_contacts, SEND_CONTACTS),
    Route("POST", f"{_MESSAGES}/medias", send_media, SEND_MEDIA),
    Route("GET", f"{_MESSAGES}/medias/{{media_id}}", get_media),
    Route("POST", f"{_MESSAGES}/interactive", send_interactive, SEND_INTERACTIVE),
    Route(
        "POST",
        f"{_MESSAGES}/interactive/location-request",
        send_location_request,
        SEND_LOCATION_REQUEST,
    ),
    Route("POST", f"{_MESSAGES}/reads", mark_read, MARK_READ),
)

# Of each kind of message, the path below `conversations`; the page writes requests with it.
PATHS = {
    route.endpoint.__name__.removeprefix("send_"): route.path.partition("conversations")[2]
    for route in ROUTES
    if route.endpoint.__name__.startswith("send_")
}


@frozen
class Match:
    """A route that fits a path, and the decoded segments in it."""

    route: Route
    segments: dict[str, str]


def without_prefix(raw_path: str) -> str:
    """Drop `/v1`, `/api` or `/api/v1` from a path."""
    return PREFIX.sub("", raw_path, count=1)


def find(raw_path: str) -> list[Match]:
    """List the routes on a path, of all methods."""
    path = without_prefix(raw_path)
    found = [(route, route.pattern.fullmatch(path)) for route in ROUTES]
    return [
        Match(route, {name: unquote(text) for name, text in match.groupdict().items()})
        for route, match in found
        if match
    ]
