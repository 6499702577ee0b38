"""The converter and strict JSON: every rule about how values look on the wire, a line each.

Out: what is None stays off; the vendor's nesting. In: forgiving about everything but ids (ruling 22).
JSON goes out as strict UTF-8, since what PHP can't decode makes every field vanish (ruling 5).
"""

# pyright: basic
# Since decoded JSON is Any throughout; mypy --strict checks the rest.

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from operator import eq, is_
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import attrs

from ._json import as_object, as_rows
from ._messages import (
    ContactsMessage,
    InteractiveMessage,
    LocationMessage,
    MediaMessage,
    Message,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
)

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
Structure = Callable[[Any, Any], Any]


def warm() -> None:
    """Load cattrs and make the converters: some 30 ms, which a worker thread can spend as well."""
    _inward()
    unstructure(TextMessage("+10000000", "."))


# ── values out ─────────────────────────────────────────────────────────────────────────────────────────


def unstructure(message: Message) -> dict[str, Any]:
    """Return a message's fields as the vendor nests them; files are left to the form."""
    return _outward().unstructure(message)  # type: ignore[no-any-return]  # cattrs says Any


@cache
def _outward() -> "Converter":
    from cattrs import Converter
    from cattrs.gen import make_dict_unstructure_fn

    out = Converter()
    # An attrs default is None or () throughout, so omitting defaults omits what is None, and nothing else.
    out.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, out, _cattrs_omit_if_default=True)
    )
    plain = out.unstructure
    for kind, nest in (
        (LocationMessage, lambda m: {"to": m.to, "location": plain(m.location)}),
        (ContactsMessage, lambda m: {"to": m.to, "contacts": [plain(c) for c in m.contacts]}),
        (MediaMessage, lambda m: {"to": m.to}),
        (InteractiveMessage, lambda m: _interactive(m, plain)),
        (TemplateMessage, _template),
        (TemplateBatch, _batch),
    ):
        # By identity: registering the class itself would resolve its annotations, which nobody needs here.
        out.register_unstructure_hook_func(partial(is_, kind), nest)
    return out


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
    # One destination: the answer holds one message_id (ruling 21). Parameters belong to it (ruling 9).
    destination: dict[str, Any] = {"phone": m.to}
    if m.parameters is not None:
        destination["parameters"] = m.parameters
    return {"template_id": m.template, "language_id": m.language, "destinations": [destination]}


def _batch(m: TemplateBatch) -> dict[str, Any]:
    # Parameters stand at the top, shared by all (ruling 9); destinations last (ruling 6).
    fields: dict[str, Any] = {"template_id": m.template, "language_id": m.language}
    if m.parameters is not None:
        fields["parameters"] = m.parameters
    return {**fields, "destinations": [{"phone": phone} for phone in m.phones]}


# ── values in ──────────────────────────────────────────────────────────────────────────────────────────


class MissingId(ValueError):
    """A row has no usable id. Private: `_wire` turns it into an `UnexpectedResponse` with the place."""


def structure(value: object, kind: type[T]) -> T:
    """Make a reply of decoded JSON.

    Raises:
        MissingId: if a required id is missing or unusable; nothing else is required.
    """
    try:
        return _hook(kind)(as_object(value), kind)  # type: ignore[no-any-return]  # cattrs says Any
    except KeyError as error:
        raise MissingId(str(error.args[0])) from None


def _hook(kind: Any) -> Structure:
    return _inward().get_structure_hook(kind)


@cache
def _inward() -> "Converter":
    from cattrs import Converter

    conv = Converter(detailed_validation=False)
    # Factories are asked in the reverse order of registration: the special ones come last.
    conv.register_structure_hook_factory(_is_tuple, _rows_factory)
    conv.register_structure_hook_factory(attrs.has, lambda cls: _object_factory(cls, conv))
    conv.register_structure_hook_factory(_optional_class, _maybe_factory)
    # By class: what cattrs knows of these two comes before any other hook.
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
    """Return what reads an object; only what isn't yet what it should be is handed to the field's hook.

    cattrs' own generated functions call a hook for each field: twice the time for a page of templates.
    """
    attributes = [a for a in attrs.fields(attrs.resolve_types(cls)) if a.name != "raw"]
    fields = [(a.name, *_plan(a, conv)) for a in attributes]
    nothing = attrs.NOTHING
    required = [a.name for a in attributes if a.default is nothing]

    def structure_with_raw(value: Any, _: Any) -> Any:
        for name in required:
            value[name]  # a KeyError names it
        get = value.get
        arguments: list[Any] = []
        for name, exact, hook, kind, default in fields:
            given = get(name)
            if given.__class__ is exact:
                arguments.append(given)
            elif given is None and default is not nothing:
                arguments.append(default)
            else:
                arguments.append(hook(given, kind))
        return cls(*arguments, raw=value)

    return structure_with_raw


def _plan(attribute: "attrs.Attribute[Any]", conv: "Converter") -> tuple[Any, Structure, Any, Any]:
    """Return the class whose values are taken as they are, else the hook, its type, and what null becomes."""
    kind, default = attribute.type, attribute.default
    arms = [arm for arm in get_args(kind) or (kind,) if arm is not type(None)]
    exact = arms[0] if len(arms) == 1 and arms[0] in (int, str, bool) else _Nothing
    return exact, conv.get_structure_hook(kind), kind, default


class _Nothing:
    """No value's class."""


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
    hook = _hook(item)
    taken = (dict,) if attrs.has(item) else (dict, str, int, float)

    def read(value: Any, _: Any) -> tuple[Any, ...]:
        rows = value if value.__class__ is list else as_rows(value)
        return tuple([hook(row, item) for row in rows if isinstance(row, taken)])

    return read


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
    return _text(value) or ""


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


# Made once: `json.dumps` with any option makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: object) -> bytes:
    """Return strict JSON in UTF-8.

    Raises:
        ValueError: for NaN, Infinity, a lone surrogate or a circle (ruling 5).
        TypeError: for what JSON can't hold.
    """
    return _encode(value).encode()
