"""The converter and strict JSON: the rules for values on the wire, one line per rule.

Outgoing fields have the vendor's nesting; a field that is None is left out. Of incoming values only a bad id
is an error (ruling 22). Outgoing JSON is strict UTF-8: if PHP can't decode a field, all are lost (ruling 5).
"""

# pyright: basic
# Pyright is on basic, since decoded JSON is Any throughout; mypy --strict checks the rest.

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from operator import eq, is_
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import attrs

from ._attachments import Attachment
from ._json import as_object, as_rows
from ._messages import InteractiveMessage, Message, ReadMessage, TemplateBatch, TemplateMessage, TextMessage
from ._replies import BulkSent, Sent, SentFile, SentMedia

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
Structure = Callable[[Any, Any], Any]


def warm() -> None:
    """Load cattrs and make the converters. A worker thread can do this too; it takes about 30 ms."""
    unstructure(TextMessage("+10000000", "."))
    structure({"message_id": ""}, Sent)


# ── values out ─────────────────────────────────────────────────────────────────────────────────────────


def unstructure(message: Message | ReadMessage) -> dict[str, Any]:
    """Return a message's fields as the vendor nests them. Files are left out; they go into the form."""
    return _outward().unstructure(message)  # type: ignore[no-any-return]  # cattrs returns Any


@cache
def _outward() -> "Converter":
    from cattrs import Converter

    out = Converter()
    out.register_unstructure_hook_factory(attrs.has, lambda cls: _fields_factory(cls, out))
    for kind, nest in (
        (InteractiveMessage, lambda m: _interactive(m, out.unstructure)),
        (TemplateMessage, _template),
        (TemplateBatch, _batch),
    ):
        # Classes are matched by identity: registering a class would resolve its annotations without need.
        out.register_unstructure_hook_func(partial(is_, kind), nest)
    return out


def _fields_factory(cls: type[Any], out: "Converter") -> Callable[[Any], dict[str, Any]]:
    """Return a class's hook, which returns the fields in order. None, empty lists and files are left out."""
    names = tuple(attribute.name for attribute in attrs.fields(cls))
    plain = out.unstructure

    def unstructure_fields(value: Any) -> dict[str, Any]:
        fields = {}
        for name in names:
            given = getattr(value, name)
            if given.__class__ is tuple:
                given = [plain(item) for item in given if not isinstance(item, Attachment)] or None
            if given is not None and not isinstance(given, Attachment):
                fields[name] = plain(given)
        return fields

    return unstructure_fields


def _interactive(m: InteractiveMessage, plain: Callable[[Any], Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"to": m.to, "body": m.body, "buttons": [plain(b) for b in m.buttons]}
    if m.header is not None:
        kind = type(m.header).__name__.removesuffix("Header").lower()
        header = plain(m.header)
        fields["header"] = {"type": kind, kind: header["text"] if kind == "text" else header}
    if m.footer is not None:
        fields["footer"] = {"text": m.footer}
    return fields


def _template(m: TemplateMessage) -> dict[str, Any]:
    # There is one destination, since the answer holds one message_id (ruling 21). The parameters stand in the
    # destination (ruling 9).
    destination: dict[str, Any] = {"phone": m.to}
    if m.parameters is not None:
        destination["parameters"] = m.parameters
    return {"template_id": m.template, "language_id": m.language, "destinations": [destination]}


def _batch(m: TemplateBatch) -> dict[str, Any]:
    # The parameters stand at the top, since all destinations share them (ruling 9). Destinations come last
    # (ruling 6).
    fields: dict[str, Any] = {"template_id": m.template, "language_id": m.language}
    if m.parameters is not None:
        fields["parameters"] = m.parameters
    if m.destinations_file is not None:
        return fields
    return {**fields, "destinations": [{"phone": phone} for phone in m.phones]}


# ── values in ──────────────────────────────────────────────────────────────────────────────────────────


class MissingId(ValueError):
    """A row has no usable id. Private: `_wire` turns it into an `UnexpectedResponse` with the place."""


def structure(value: object, kind: type[T]) -> T:
    """Return a reply made from decoded JSON.

    Raises:
        MissingId: if a required id is missing or unusable; no other field is required.
    """
    try:
        hook: Structure = _hook(kind)  # type: ignore[arg-type]  # a class is hashable
        return hook(as_object(value), kind)  # type: ignore[no-any-return]  # cattrs returns Any
    except KeyError as error:
        raise MissingId(str(error.args[0])) from None


@cache
def _hook(kind: Any) -> Structure:
    return _inward().get_structure_hook(kind)


@cache
def _inward() -> "Converter":
    from cattrs import Converter

    conv = Converter(detailed_validation=False)
    # cattrs asks factories in the reverse order of registration, so the special factories come last.
    conv.register_structure_hook_factory(_is_tuple, _rows_factory)
    conv.register_structure_hook_factory(attrs.has, lambda cls: _object_factory(cls, conv))
    conv.register_structure_hook_factory(_optional_class, _maybe_factory)
    conv.register_structure_hook(BulkSent, lambda value, _: BulkSent(_taken(value.get("phones")), raw=value))
    conv.register_structure_hook(
        SentMedia, lambda value, _: SentMedia(_files(value.get("medias")), raw=value)
    )
    conv.register_structure_hook(ErrorBody, lambda value, _: _error_body(value))
    # int and str are registered by class: cattrs' own hooks for these two come before any other hook.
    conv.register_structure_hook(int, _required_int)
    conv.register_structure_hook(str, _required_text)
    for kind, reader in (
        (int | None, _int),
        (str | None, _text),
        (bool | None, _bool),
        (datetime | None, _moment),
        (int | str | None, _scalar),
        (Mapping[str, Any], lambda value, _: as_object(value)),
    ):
        conv.register_structure_hook_func(partial(eq, kind), reader)
    return conv


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _object_factory(cls: type[Any], conv: "Converter") -> Structure:
    """Return a hook that reads objects. A value that already has the field's type skips the field's hook.

    The hook is generated, as cattrs' own hooks are. cattrs' call a hook for each field: a page of templates
    then takes twice the time. A loop over the fields takes a fifth more.
    """
    attributes = [
        a for a in attrs.fields(attrs.resolve_types(cls)) if a.name != "raw" and "ours" not in a.metadata
    ]
    scope: dict[str, Any] = {"cls": cls}
    source = "def structure_with_raw(value, _):\n    get = value.get\n"
    for at, attribute in enumerate(attributes):
        source += _source_of(at, attribute.name, is_required=attribute.default is attrs.NOTHING)
        plan = zip(("exact", "hook", "kind", "default"), _plan(attribute, conv), strict=True)
        scope |= {f"{part}{at}": value for part, value in plan}
    arguments = "".join(f"v{at}, " for at in range(len(attributes)))  # by position, which costs less
    exec(f"{source}    return cls({arguments}raw=value)", scope)  # noqa: S102  # the names are our classes'
    return scope["structure_with_raw"]  # type: ignore[no-any-return]


def _source_of(at: int, name: str, *, is_required: bool) -> str:
    """Return the lines that read one field; the KeyError of a missing id names it."""
    camel, hooked = _camel(name), f"hook{at}(v{at}, kind{at})"
    return f"""
    v{at} = {f"value[{name!r}]" if is_required else f"get({name!r})"}
    if v{at}.__class__ is not exact{at}:
        if v{at} is None:
            v{at} = {f"get({camel!r})" if camel else "None"}
        v{at} = {hooked if is_required else f"default{at} if v{at} is None else {hooked}"}
"""


def _plan(attribute: "attrs.Attribute[Any]", conv: "Converter") -> tuple[Any, Structure, Any, Any]:
    """Return the class whose values need no hook; then the hook, the field's type and the value for null."""
    kind, default = attribute.type, attribute.default
    arms = [arm for arm in get_args(kind) or (kind,) if arm is not type(None)]
    exact = arms[0] if len(arms) == 1 and arms[0] in (int, str, bool) else _Nothing
    return exact, conv.get_structure_hook(kind), kind, default


def _camel(name: str) -> str:
    """Return a field's second spelling on the wire, such as `subLabel`; "" if it has none."""
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest) if rest else ""


class _Nothing:
    """A class that no value has."""


def _optional_class(kind: Any) -> bool:
    arms = get_args(kind)
    return len(arms) == 2 and type(None) in arms and any(attrs.has(arm) for arm in arms)


def _maybe_factory(kind: Any) -> Structure:
    cls = next(arm for arm in get_args(kind) if arm is not type(None))
    hook = _hook(cls)

    def read(value: Any, _: Any) -> Any:
        return hook(as_object(value), cls) if isinstance(value, (dict, list)) else None

    return read


def _rows_factory(kind: Any) -> Structure:
    item = get_args(kind)[0]
    taken = (dict,) if attrs.has(item) else (dict, str, int, float)

    def read(value: Any, _: Any) -> tuple[Any, ...]:
        rows = value if value.__class__ is list else as_rows(value)
        if not rows:
            return ()
        hook = _hook(item)  # looked up late, since a category's children are categories
        return tuple([hook(row, item) for row in rows if isinstance(row, taken)])

    return read


# ── replies and errors ─────────────────────────────────────────────────────────────────────────────────

_PHONE_KEY = re.compile(r"\+?[0-9][0-9 ()-]{5,20}")
_FAILURES = frozenset({"error", "fail", "failed", "failure", "invalid", "rejected"})


def failed(row: Any) -> bool:
    """Whether a row reports a failure: in its status, its `success` or its error (ruling 26)."""
    if isinstance(row, str):
        return row.strip().lower() in _FAILURES
    if not isinstance(row, dict):
        return False
    status = row.get("status")
    return (
        (isinstance(status, str) and status.strip().lower() in _FAILURES)
        or row.get("success") in (False, "false")
        or bool(row.get("errors"))
        or ("phones" not in row and bool(row.get("error")))
    )


def _taken(phones: Any) -> tuple[str, ...]:
    """Return the numbers in a bulk answer. A row that reports a failure is left out (ruling 26)."""
    if isinstance(phones, dict) and phones and all(_PHONE_KEY.fullmatch(key) for key in phones):
        return tuple(phone for phone, row in phones.items() if row not in (None, False) and not failed(row))
    rows = [row for row in as_rows(phones) if not isinstance(row, dict) or not failed(row)]
    numbers = [row.get("phone") if isinstance(row, dict) else row for row in rows]
    return tuple(str(n) for n in numbers if isinstance(n, str | int) and not isinstance(n, bool))


def _files(groups: Any) -> tuple[SentFile, ...]:
    """Return the files of a media answer, grouped by kind or not. Failed files are left out."""
    named = groups.items() if isinstance(groups, dict) else [(None, groups)]
    return tuple(
        attrs.evolve(structure(row, SentFile), kind=kind)
        for kind, rows in named
        for row in as_rows(rows)
        if isinstance(row, dict) and not failed(row)
    )


@attrs.frozen
class ErrorBody:
    """An error's body ("Errors"; ruling 24).

    Attributes:
        code: the vendor's word or number for the error.
        message: the vendor's sentence.
        doc_url: the page where the vendor explains the error.
        errors: Laravel's sentences by field.
    """

    code: str | None = None
    message: str | None = None
    doc_url: str | None = None
    errors: Mapping[str, Sequence[str]] = attrs.field(factory=dict[str, Sequence[str]])


def _error_body(fields: dict[str, Any]) -> ErrorBody:
    error = fields.get("error")
    inner = error if isinstance(error, dict) else {}

    def word(name: str) -> str | None:
        return _word(inner.get(name)) or _word(fields.get(name))

    message = _word(inner.get("message")) or _word(error) or _word(fields.get("message"))
    errors = fields.get("errors") or inner.get("errors")
    by_field = {str(k): _lines(v) for k, v in errors.items()} if isinstance(errors, dict) else {}
    return ErrorBody(word("code"), message, word("doc_url"), by_field)


def _word(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:2000] or None


def _lines(value: object) -> list[str]:
    return [line for line in map(_word, value if isinstance(value, list) else [value]) if line]


# ── values of neighbouring types ───────────────────────────────────────────────────────────────────────


def _int(value: Any, _: Any = None) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    return None


def _required_int(value: Any, _: Any) -> int:
    number = _int(value)
    if number is None:
        raise KeyError("id")
    return number


def _text(value: Any, _: Any = None) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _required_text(value: Any, _: Any) -> str:
    return "" if isinstance(value, float) else _text(value) or ""  # no id is a fraction


def _bool(value: Any, _: Any) -> bool | None:
    return {"1": True, "true": True, "0": False, "false": False}.get(str(value).lower())


def _scalar(value: Any, _: Any) -> int | str | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _moment(value: Any, _: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# ── JSON ───────────────────────────────────────────────────────────────────────────────────────────────


# The encoder is made once: `json.dumps` with any option makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: object) -> bytes:
    """Return strict JSON in UTF-8.

    Raises:
        ValueError: for NaN, Infinity, a lone surrogate or a circular reference (ruling 5).
        TypeError: for a value that JSON can't hold.
    """
    return _encode(value).encode()
