"""Facts about the vendor's real server, as `desk360 doctor --live --save` writes them; answers follow them.

If a fact is unknown, the sandbox behaves as the vendor's document describes.
"""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard

from attrs import evolve, field, frozen
from attrs.validators import ge, gt, in_, instance_of, optional

from desk360_async.sandbox.records import Answer
from desk360_async.sandbox.throttle import WINDOWS, WindowRule

VERSION = 1


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a JSON value is an object."""
    return isinstance(value, Mapping)


_BOOL = instance_of(bool)


@frozen
class Facts:
    """Facts about the vendor's real server; the defaults are the document's.

    Attributes:
        json_read: `4.json`, whether JSON bodies are read; otherwise every field counts as missing.
        shape: `22.shape`, "list" for bare lists, "data" for lists under a key `data`.
        interactive_files: `16.files`, whether a file can replace the link of an interactive header.
        names: `23.names`, the key of an integration's name: "display_name" or "name".
        row_status: `23.status`, whether integrations carry a status.
        invalid_status: `24.status`, HTTP status of a failed validation: 400 or 422.
        error_body: `24.body`, "document" or "laravel"; None: Laravel's with 422, else the document's.
        names_field: `26.names_field`, whether a refusal names its field.
        media_type: `27.type`, the content type of a 404 for a media id.
        page_size: `28.page_size`, rows a page.
        link: `28.link`, whether pages carry a Link header.
        beyond: `28.beyond`, the answer for a page after the last one: "empty", "404" or "rows".
        rate_headers: `29.headers`, whether counted answers carry the rate headers.
        limit: `29.limit`, requests a window.
        wrong_method_counts: `29.wrong_method_counts`, whether a 405 counts.
        invalid_key_counts: `29.invalid_key_counts`, whether a 401 counts.
        window: `32.window`, how requests are counted.
        period: `32.period`, seconds of a window.
    """

    json_read: bool = field(default=True, validator=_BOOL)
    interactive_files: bool = field(default=False, validator=_BOOL)
    shape: str = field(default="list", validator=in_(("list", "data")))
    names: str | None = field(default=None, validator=optional(in_(("display_name", "name"))))
    row_status: bool = field(default=False, validator=_BOOL)
    invalid_status: int = field(default=400, validator=in_((400, 422)))
    error_body: str | None = field(default=None, validator=optional(in_(("document", "laravel"))))
    names_field: bool = field(default=True, validator=_BOOL)
    media_type: str = field(default="application/json", validator=instance_of(str))
    page_size: int = field(default=20, validator=ge(1))
    link: bool = field(default=True, validator=_BOOL)
    beyond: str = field(default="empty", validator=in_(("empty", "404", "rows")))
    rate_headers: bool = field(default=True, validator=_BOOL)
    limit: int | None = field(default=None, validator=optional(ge(1)))
    wrong_method_counts: bool = field(default=False, validator=_BOOL)
    invalid_key_counts: bool = field(default=True, validator=_BOOL)
    window: WindowRule | None = field(default=None, validator=optional(in_(tuple(WINDOWS))))
    period: float | None = field(default=None, validator=optional(gt(0)))

    @classmethod
    def of(cls, source: "str | PathLike[str] | Mapping[str, Any] | None") -> "Facts":
        """Read facts from a file or a mapping; keys that the sandbox doesn't use are skipped.

        Raises:
            OSError: if the file can't be read.
            ValueError: if the source isn't JSON of a facts file's shape, or a fact is unusable.
        """
        if source is None:
            return cls()
        document: Any = source
        if not isinstance(source, Mapping):
            try:
                document = json.loads(Path(source).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{source}: not a JSON file in UTF-8: {error}") from error
        facts = document.get("facts") if is_object(document) else None
        if not is_object(document) or not is_object(facts) or document.get("version", VERSION) != VERSION:
            raise ValueError('like: {"version": 1, "facts": {"24.status": 422, ...}} is needed')
        given: dict[str, Any] = {name: facts[key] for key, name in KEYS.items() if facts.get(key) is not None}
        try:
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"like: {error}") from error


KEYS = {
    "4.json": "json_read",
    "16.files": "interactive_files",
    "22.shape": "shape",
    "23.names": "names",
    "23.status": "row_status",
    "24.status": "invalid_status",
    "24.body": "error_body",
    "26.names_field": "names_field",
    "27.type": "media_type",
    "28.page_size": "page_size",
    "28.link": "link",
    "28.beyond": "beyond",
    "29.headers": "rate_headers",
    "29.limit": "limit",
    "29.wrong_method_counts": "wrong_method_counts",
    "29.invalid_key_counts": "invalid_key_counts",
    "32.window": "window",
    "32.period": "period",
}


def link_files(fields: dict[Any, Any], facts: Facts, path: str) -> dict[Any, Any]:
    """Return a request's fields; if a file can replace a link, an interactive header gets a link.

    Args:
        fields: the fields as PHP reads them.
        facts: the facts.
        path: the request's path.
    """
    header = fields.get("header")
    kind = header.get("type") if is_object(header) else None
    if not (facts.interactive_files and path.endswith("/interactive") and "attachments" in fields and kind):
        return fields
    return {**fields, "header": {"type": kind, kind: {"link": "https://cdn.example/attachment"}}}


def follow(answer: Answer, facts: Facts, path: str, page: str) -> Answer:
    """Return the answer that a server with these facts gives.

    Args:
        answer: the answer by the vendor's document.
        facts: the facts.
        path: the request's path.
        page: the page that the query asks for, "1" without one.
    """
    if answer.status == 404 and "/medias/" in path and facts.media_type != "application/json":
        headers = {**answer.headers, "content-type": facts.media_type}
        return evolve(answer, body=b"<h1>Not Found</h1>", headers=headers)
    if answer.status != 200 or not path.endswith(("/integrations", "/templates")):
        return answer
    rows = json.loads(answer.body)
    if not rows and page != "1" and facts.beyond != "empty":
        if facts.beyond == "404":
            return Answer.of_error(404, "not_found_exception", f"There is no page {page}.")
        rows = [{"id": 1, "name": "again"}]
    if path.endswith("/integrations"):
        rows = [_named(row, facts) for row in rows]
    headers = {name: value for name, value in answer.headers.items() if facts.link or name != "link"}
    return Answer.of_json(rows if facts.shape == "list" else {"data": rows}, headers=headers)


def _named(row: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return an integration's row with the key of its name, and the status, by the facts."""
    shown = dict(row)
    if facts.names is not None:
        name = shown.pop("display_name", None) or shown.pop("name", None)
        shown = {"id": shown.pop("id"), facts.names: name, **shown}
    if facts.row_status:
        shown["status"] = "active"
    return shown


def refusal(message: str, facts: Facts) -> Answer:
    """Return the answer for a failed validation, in the shape that the facts give it.

    Args:
        message: the first problem, in Laravel's words.
        facts: the facts.
    """
    words = message if facts.names_field else "The given data was invalid."
    answer = Answer.of_error(facts.invalid_status, "failed_validation", words)
    is_laravel = facts.error_body == "laravel" or (facts.error_body is None and facts.invalid_status == 422)
    if not is_laravel:
        return answer
    name = message.removeprefix("The ").partition(" field")[0].replace(" ", "_")
    errors = {name: [message]} if facts.names_field else {}
    return evolve(answer, body=json.dumps({"message": words, "errors": errors}).encode())
