"""The protocol, pure: a message to a call, and (status, headers, body) to a reply or an error.

Each function names the heading of the vendor's document that it implements. No function here waits or uses
httpx.
"""

# pyright: basic
# Since decoded JSON is Any throughout; mypy --strict checks the rest.

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast
from urllib.parse import parse_qs, quote, urlsplit

from attrs import evolve

from . import _codec
from ._attachments import Attachment
from ._bucket import retry_after
from ._calls import Answered, Call
from ._endpoints import ENDPOINT_NAMED, ENDPOINT_OF, Endpoint
from ._errors import (
    APIError,
    AuthenticationFailed,
    Desk360Error,
    InvalidMessage,
    NotFound,
    Outcome,
    PermissionDenied,
    RateLimited,
    RequestRefused,
    ServerError,
    UnexpectedResponse,
    ValidationFailed,
)
from ._json import UnreadableJSON, as_object, as_rows, decode, salvage
from ._json import text_of as text_in
from ._messages import MediaMessage, Message, ReadMessage, TemplateBatch, attachments_of, phones_of
from ._outcomes import status_of_code, verdict
from ._phones import person_of
from ._redaction import mask_phones, phones_in
from ._replies import Answer, BulkSent, Page, Sent, SentMedia
from ._validators import check_unicode

if TYPE_CHECKING:
    from ._uploads import Form


Encoding = Literal["json", "form"]

# ── calls ──────────────────────────────────────────────────────────────────────────────────────────────


# Types in which callers keep the rows of a list.
_ROWS = ("dict", "list", "tuple", "Series")


def call_for(message: Message | ReadMessage, integration_id: int, *, encoding: Encoding = "json") -> Call:
    """Return the call that sends a message. A template's names must be ids already.

    Args:
        message: the message; the bytes of a destinations file must be loaded already.
        integration_id: the integration's id.
        encoding: encoding of a request without a file: JSON, or a form as in the vendor's samples.

    Raises:
        InvalidMessage: if it is no message, or its form has more fields than PHP keeps.
    """
    endpoint = ENDPOINT_OF.get(type(message))
    if endpoint is None:
        kind = type(message).__name__
        hint = "; send_each and send_all make messages of rows with build=" if kind in _ROWS else ""
        raise InvalidMessage("message", f"must be a message such as TextMessage, not {kind}{hint}")
    fields = _codec.unstructure(message)
    phones = phones_of(message) if isinstance(message, TemplateBatch) else (message.to,)
    files = _files_of(message, phones) if endpoint.files else ()
    # JSON is the default if there is no file: PHP keeps only 1,000 fields of a form (ruling 4).
    as_form = bool(files) or encoding == "form"
    return Call(
        method=endpoint.method,
        path=endpoint.path.format(integration_id=integration_id),
        read=_READERS[endpoint.reply],
        content=None if as_form else _codec.encode(fields),
        form=_form_of(fields, files) if as_form else None,
        files=len(attachments_of(message)) if files else 0,
        idempotent=endpoint.idempotent,
        phones=phones,
        asked=message.message_ids if isinstance(message, ReadMessage) else phones,
        name=endpoint.name,
        template=endpoint.path,
    )


def _files_of(message: Message | ReadMessage, phones: Sequence[str]) -> list[tuple[str, Attachment]]:
    """Return the files of a message with the names of their fields (ruling 8)."""
    name = "attachments[]" if isinstance(message, MediaMessage) else "attachment"
    files = [(name, file) for file in attachments_of(message)]
    if isinstance(message, TemplateBatch) and message.destinations_file is not None:
        from ._uploads import destinations_file

        files.append(("destinations_file", destinations_file(phones)))
    return files


def _form_of(fields: Mapping[str, Any], files: Sequence[tuple[str, Attachment]]) -> "Form":
    from ._uploads import form_for  # files' own module, loaded by programs that send files

    return form_for(fields, files)


def integrations_call(page: int) -> Call:
    """Return the call for one page of "Integrations"."""
    from ._templates import Integration  # a web app that only sends never needs it

    endpoint = ENDPOINT_NAMED["list_integrations"]
    return _list_call(endpoint, endpoint.path, page, Integration)


def templates_call(page: int, integration_id: int) -> Call:
    """Return the call for one page of "WhatsApp Message Templates"."""
    from ._templates import Template  # a web app that only sends never needs it

    endpoint = ENDPOINT_NAMED["list_templates"]
    return _list_call(endpoint, endpoint.path.format(integration_id=integration_id), page, Template)


def _list_call(endpoint: Endpoint, path: str, page: int, kind: type[Any]) -> Call:
    if isinstance(page, bool) or not isinstance(page, int) or page < 1:
        raise InvalidMessage("page", f"must be a whole number of 1 or more, got {page!r}")
    return Call(
        method="GET",
        path=f"{path}?page={page}",
        read=lambda call, answered: read_page(call, answered, kind, page),
        idempotent=True,
        has_outcome=False,
        name=endpoint.name,
        template=endpoint.path,
    )


def media_call(media_id: str, integration_id: int) -> Call:
    """Return the call of "Get WhatsApp Media"; the id is opaque text, one path segment (ruling 15)."""
    if not isinstance(media_id, str) or not media_id.strip("."):
        raise InvalidMessage("media_id", "must be the id of a media, as a webhook or a send brought it")
    check_unicode(media_id, "media_id")
    template = ENDPOINT_NAMED["get_media"].path
    return Call(
        method="GET",
        path=template.format(integration_id=integration_id, media_id=quote(media_id, safe="")),
        read=read_answer,
        idempotent=True,
        has_outcome=False,
        name="open_media",
        template=template,
    )


def free_form(fields: object, files: Sequence[tuple[str, Attachment]]) -> "Form":
    """Return the form of a user-defined call.

    Raises:
        InvalidMessage: if the fields are no object, or a file is no Attachment.
    """
    if fields is not None and not isinstance(fields, Mapping):
        raise InvalidMessage("json", f"must map names to values beside files, not {type(fields).__name__}")
    for name, file in files:
        if not isinstance(name, str) or not isinstance(file, Attachment):
            raise InvalidMessage("files", "must be pairs of a field's name and an Attachment")
    return _form_of(cast("Mapping[str, Any]", fields or {}), files)


def free_call(
    method: str,
    path: str,
    content: bytes | None,
    params: Mapping[str, Any] | None,
    *,
    idempotent: bool,
    form: "Form | None" = None,
) -> Call:
    """Return a user-defined call. Its path is relative to `/v1`, so that only the API gets the key.

    Raises:
        InvalidMessage: if the method or the path is invalid.
    """
    if not isinstance(method, str) or not re.fullmatch(r"[A-Za-z]{1,20}", method):
        raise InvalidMessage("method", "must be an HTTP method, such as 'GET'")
    if (
        not isinstance(path, str)
        or re.search(r"[^\x21-\x7e]|\\", path)
        or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", path)
    ):
        raise InvalidMessage(
            "path", "must be relative to /v1, like '/integrations', without a host or spaces"
        )
    place, _, given = path.partition("?")
    # Some servers decode %2F and %5C, and then resolve the dots between them.
    if _DOTS.search(place) or "#" in path:
        raise InvalidMessage("path", "must not hold '.' or '..' segments or a '#'")
    query = "&".join(text for text in (given, _query(params or {})) if text)
    safe = method.upper() in ("GET", "HEAD")
    sent = (content or b"").decode()
    return Call(
        method=method.upper(),
        # No final slash: Laravel answers it with a redirect, which turns a POST into a GET (ruling 13).
        path=f"/{place.strip('/')}".rstrip("/") + (f"?{query}" if query else ""),
        read=read_answer,
        content=None if form else content,
        form=form,
        idempotent=idempotent or safe,
        has_outcome=not safe,
        phones=phones_in(path + query + sent),
    )


_DOTS = re.compile(r"(?:^|/|%2f|%5c)(?:\.|%2e){1,2}(?:/|%2f|%5c|$)", re.IGNORECASE)


def _query(params: Mapping[str, Any]) -> str:
    pairs = [
        (key, value)
        for key, given in params.items()
        for value in (given if isinstance(given, list | tuple) else [given])
        if value is not None  # None stays off the wire
    ]
    return "&".join(f"{_quoted(key)}={_quoted(value)}" for key, value in pairs)


def _quoted(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(check_unicode(text, "params"), safe="")


# ── replies ────────────────────────────────────────────────────────────────────────────────────────────


def read(call: Call, answered: Answered) -> Any:
    """Return the reply that an answer holds.

    Raises:
        APIError: for a status that is no success, or an error in a success's body.
        UnexpectedResponse: for a success that can't be read.
    """
    if not 200 <= answered.status < 300:
        raise error_from(call, answered)
    try:
        return call.read(call, answered)
    except Desk360Error as error:
        # The frames below hold the answer as it came, and some tracebacks show local variables.
        raise error.with_traceback(None)  # noqa: B904  # it is the same error


def read_sent(call: Call, answered: Answered) -> Sent:
    """Read the answer to a send: "message_id"."""
    data = _payload(call, answered)
    fields = as_object(data)
    if fields.get("message_id") is not None:
        sent = _codec.structure(fields, Sent)
        if sent.message_id:
            return sent
    raise _refuse(call, answered, data, "required field missing @ $.message_id")


def read_bulk(call: Call, answered: Answered) -> BulkSent:
    """Read the answer to a bulk send: "phones", the numbers that the server took.

    A number whose row reports a failure wasn't taken. An answer with `"success": false` took no number.
    """
    data = _payload(call, answered)
    fields = as_object(data)
    listed_ = fields.get("phones")
    if not isinstance(listed_, list | dict) or (says_error(fields) and not listed_):
        raise _refuse(call, answered, data, "required field missing @ $.phones")
    if _codec.failed(fields):
        raise _refuse(call, answered, data, "the answer reports a failure @ $")
    sent = _codec.structure(fields, BulkSent)
    taken = {
        person_of(phone) for phone in sent.phones
    }  # the server may write a number differently (ruling 19a)
    return evolve(sent, unlisted=tuple(phone for phone in call.asked if person_of(phone) not in taken))


def read_media(call: Call, answered: Answered) -> SentMedia:
    """Read the answer to a media message: "medias", files grouped by kind; `missing` counts the others."""
    data = _payload(call, answered)
    fields = as_object(data)
    if not isinstance(fields.get("medias"), dict | list):
        raise _refuse(call, answered, data, "required field missing @ $.medias")
    sent = _codec.structure(fields, SentMedia)
    usable = sum(bool(file.media_id or file.message_id) for file in sent.files)
    if not usable:
        raise _refuse(call, answered, data, "required field missing @ $.medias.*.message_id")
    return evolve(sent, missing=max(0, call.files - usable))


def read_marked(call: Call, answered: Answered) -> tuple[str, ...]:
    """Read the answer to "Read WhatsApp Message"; if it is empty, return all requested ids (ruling 26)."""
    if not answered.body.strip() and not answered.damage:
        return call.asked
    data = _payload(call, answered)
    fields = as_object(data)
    ids = fields.get("message_ids")
    if ids is None or (says_error(fields) and not ids):
        raise _refuse(call, answered, data, "required field missing @ $.message_ids")
    return tuple(str(value) for value in as_rows(ids) if isinstance(value, str | int))


def read_page(call: Call, answered: Answered, kind: type[Any], number: int) -> "Page[Any]":
    """Read a page of a list; if a row has no id, the error names the row."""
    data = _payload(call, answered)
    if (isinstance(data, dict) and says_error(data)) or data is None or not isinstance(data, dict | list):
        raise _refuse(call, answered, data, "a list was expected @ $")
    items = []
    for index, row in enumerate(as_rows(data)):
        try:
            items.append(_codec.structure(row, kind))
        except _codec.MissingId:
            raise _refuse(call, answered, None, f"required field missing @ $[{index}].id") from None
    following = next_page(answered.headers)
    return Page(
        tuple(items), number, following is not None and following > number, following=following, raw=data
    )


def read_answer(call: Call, answered: Answered) -> Answer:
    """Read the answer to a user-defined call: JSON, or an empty body."""
    if not answered.body.strip() and not answered.damage:
        return Answer(answered.status, answered.headers, None)
    data = _payload(call, answered)
    if data is _UNREADABLE or (isinstance(data, dict) and says_error(data)):
        raise _refuse(call, answered, data, "no JSON @ $")
    return Answer(answered.status, answered.headers, data)


_READERS: dict[str, Callable[[Call, Answered], Any]] = {
    "Sent": read_sent,
    "BulkSent": read_bulk,
    "SentMedia": read_media,
    "tuple[str, ...]": read_marked,
}


class _Unreadable:
    """Stands for a body that is no JSON; None is JSON's null."""


_UNREADABLE = _Unreadable()


def _payload(call: Call, answered: Answered) -> Any:
    content_type = answered.headers.get("content-type", "")
    if answered.damage or not answered.body.strip():
        return _UNREADABLE
    try:
        return salvage(answered.body, content_type)
    except UnreadableJSON:
        return _UNREADABLE


def _refuse(call: Call, answered: Answered, data: Any, problem: str) -> Exception:
    """Return the error for a 2xx that isn't the reply (rulings 25 and 26)."""
    if says_error(as_object(data)):
        return error_from(call, answered)
    outcome = verdict(answered.status).outcome if call.has_outcome else None
    if answered.damage or data is _UNREADABLE:
        problem = answered.damage or (
            "the body is empty" if not answered.body.strip() else "the body is no JSON"
        )
    meaning = "; it may have gone out, so it is not sent again" if outcome else ""
    message = f"HTTP {answered.status}, but the answer can't be read: {problem}{meaning}"
    text = mask_phones(text_of(answered), call.phones)
    return UnexpectedResponse(
        message, status=answered.status, body=text, problems=(problem,), outcome=outcome
    )


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────


BODY_KEPT = 64 * 1024  # characters of an answer that an error keeps
BODY_READ = 4 * BODY_KEPT  # bytes of it that are parsed: parsing takes ten times their memory

_ERRORS: dict[int, type[APIError]] = {
    400: ValidationFailed,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    422: ValidationFailed,
    429: RateLimited,
}
_REQUIRED = re.compile(r"\bThe ([a-z_ ]+) field is required\b")
_HINTS = {
    401: "check the API key, and that it belongs to this account",
    404: "check the ids, and base_url",
    429: "the limit counts per IP address; others may share it",
}


def says_error(fields: Mapping[str, Any]) -> bool:
    """Whether a body holds an error; null, false, [] and "" are no error (ruling 25)."""
    error = fields.get("error")
    return bool(error) and isinstance(error, dict | str)


def as_refusal(answered: Answered) -> Answered:
    """Return the answer; a 200 with the error "too many requests" gets the status 429 (ruling 25)."""
    if not 200 <= answered.status < 300 or b"too_many_" not in answered.body[:BODY_READ]:
        return answered
    try:
        fields = as_object(salvage(answered.body, answered.headers.get("content-type", "")))
    except UnreadableJSON:
        return answered
    took = any(fields.get(name) for name in ("message_id", "medias", "phones", "message_ids"))
    if took or not says_error(fields) or _meaning(answered) != 429:
        return answered
    return answered._replace(status=429, sent_as=answered.status)


def _meaning(answered: Answered) -> int:
    """Return the status of an error; in a 2xx, the status that the error's code stands for (ruling 25)."""
    if not 200 <= answered.status < 300:
        return answered.status
    said = explain(answered)
    return status_of_code(said.code or said.message)


def error_from(call: Call, answered: Answered) -> APIError:
    """Return the error for an answer; the status decides the error's class ("Errors"; ruling 24).

    In a 2xx the error's code decides: it counts as the status with the same meaning (ruling 25).
    """
    status = _meaning(answered)
    outcome = verdict(status, idempotent=call.idempotent).outcome
    kind = _ERRORS.get(status)
    if kind is None:
        kind = ServerError if outcome is Outcome.UNKNOWN else RequestRefused
    text = text_of(answered)
    said = explain(answered)

    def clean(words: str | None) -> str | None:
        return mask_phones(words, call.phones) if words else None

    return kind(
        answered.sent_as or answered.status,
        code=clean(said.code),
        message=clean(said.message),
        doc_url=clean(said.doc_url),
        body=mask_phones(text, call.phones),
        headers={name: mask_phones(value, call.phones) for name, value in answered.headers.items()},
        errors={
            mask_phones(f, call.phones): [mask_phones(line, call.phones) for line in lines]
            for f, lines in said.errors.items()
        },
        retry_after=retry_after(answered.headers),
        outcome=outcome if call.has_outcome else None,
        hint=_encoding_hint(call, said) or _HINTS.get(status, ""),
    )


def _encoding_hint(call: Call, said: _codec.ErrorBody) -> str:
    """Return a hint if the server reports the sent fields as missing: it can't read the encoding."""
    if call.content is not None:
        sent = as_object(decode(call.content))
        other = "form"
    elif call.form is not None:
        sent = {part.name.partition("[")[0]: part for part in call.form.parts}
        other = "json"
    else:
        return ""
    if not sent or not _misses_all(said, sent):
        return ""
    return (
        "the server misses the fields that were sent, so it can't read this encoding: "
        f"try AsyncDesk360(encoding={other!r})"
    )


def _misses_all(said: _codec.ErrorBody, sent: Collection[str]) -> bool:
    """Return whether the error reports the sent fields as missing; the documented form names only one."""
    if not said.errors:
        first = _REQUIRED.search(said.message or "")
        return first is not None and first[1].replace(" ", "_") in sent
    return {name for name, lines in said.errors.items() if any("required" in line for line in lines)} >= {
        *sent
    }


def text_of(answered: Answered) -> str:
    body = answered.body[:BODY_READ]
    return text_in(body, answered.headers.get("content-type", ""))[:BODY_KEPT]


def explain(answered: Answered) -> _codec.ErrorBody:
    """Return the error that a body holds.

    The body may be the documented object, a string under `error`, Laravel's own object, HTML, or any text.
    As for a success, the body's charset is used, and a PHP warning before the JSON is skipped.
    """
    try:
        data = salvage(answered.body[:BODY_READ], answered.headers.get("content-type", ""))
    except UnreadableJSON:
        return _glean(text_of(answered))
    return _codec.structure(data, _codec.ErrorBody)


def _glean(text: str) -> _codec.ErrorBody:
    # The document's own sample of an error lacks a brace and a comma; live ones may too.
    if '"code"' not in text and '"message"' not in text:
        return _codec.ErrorBody()
    code, message, doc_url = (
        re.search(rf'"{name}"\s*:\s*"([^"\\]{{1,500}})"', text) for name in ("code", "message", "doc_url")
    )
    return _codec.ErrorBody(
        code=code[1] if code else None,
        message=message[1] if message else None,
        doc_url=doc_url[1] if doc_url else None,
    )


# ── pagination ─────────────────────────────────────────────────────────────────────────────────────────

# A link is <…> and then parameters up to the next comma that stands outside quotes (RFC 8288).
_LINK = re.compile(r'<([^<>]*)>((?:"(?:[^"\\]|\\.)*"|[^,"])*)')
_PARAMETER = re.compile(r';\s*([^\s=;,"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))')


def next_page(headers: Mapping[str, str]) -> int | None:
    """Return the number of the page that `Link` calls next, else None ("Pagination"; ruling 28).

    Only `page=N` is read: the URL's host and path could send the key to another server.
    """
    for target, rest in _LINK.findall(headers.get("link", "")):
        relations = (
            quoted or bare for name, quoted, bare in _PARAMETER.findall(rest) if name.lower() == "rel"
        )
        if "next" not in next(relations, "").lower().split():
            continue
        try:
            pages = parse_qs(urlsplit(target.strip()).query).get("page", [])
        except ValueError:
            return None
        return int(pages[-1]) if pages and re.fullmatch(r"[0-9]{1,9}", pages[-1]) else None
    return None


def stuck(page: "Page[Any]") -> NoReturn:
    """Refuse a `next` that doesn't grow: following it would never end.

    Raises:
        UnexpectedResponse: always.
    """
    problem = (
        f"page {page.number} names page {page.following} as its next; the list ends here, maybe too early"
    )
    raise UnexpectedResponse(problem, status=200, body="", problems=(problem,))
