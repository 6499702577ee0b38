"""Messages as JSON and back, for the outbox. Pure; the values check their limits again when they are made."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import attrs

import desk360_async
from desk360_async import Attachment, ConfigurationError, Message

_MESSAGES: tuple[type[Any], ...] = get_args(Message)
# The field that names a value's class. A mapping of the user's own lies a level deeper.
_KIND = "kind"


def pack(message: Message) -> str:
    """Return a message as JSON.

    Args:
        message: a value that `client.send` takes. Files from a path stay paths: the worker reads them.

    Raises:
        ConfigurationError: if it is no message, or a file comes from a stream, which can't be stored.
    """
    if not isinstance(message, _MESSAGES):
        raise ConfigurationError(
            f"defer takes a message such as TextMessage(...), not {type(message).__name__}"
        )
    return json.dumps(_pack(message), ensure_ascii=False)


def _pack(value: Any) -> Any:
    if isinstance(value, Attachment):
        return pack_file(value)
    kind: type[Any] = value.__class__
    if attrs.has(kind):
        fields = {a.name: _pack(getattr(value, a.name)) for a in attrs.fields(kind)}
        return {_KIND: kind.__name__, **{name: v for name, v in fields.items() if v is not None}}
    if kind is tuple:
        return [_pack(item) for item in value]
    if isinstance(value, Mapping):
        return {_KIND: "", "items": dict(cast("Mapping[str, str]", value))}
    return value


def pack_file(file: Attachment) -> dict[str, Any]:
    """Return a file as JSON takes it: its path, or its bytes.

    Raises:
        ConfigurationError: if it comes from a stream.
    """
    if file.open is not None:
        raise ConfigurationError(
            f"the file {file.name!r} comes from a stream, which can't be stored; give its path, or its bytes"
        )
    given: dict[str, Any] = {_KIND: "Attachment", "name": file.name, "content_type": file.content_type}
    if file.path is not None:
        return {**given, "path": str(file.path)}
    return {**given, "content": base64.b64encode(file.content or b"").decode("ascii")}


def unpack(text: str) -> Message:
    """Return the message that `pack` stored.

    Raises:
        InvalidMessage: if a field breaks a limit now.
    """
    return cast("Message", _unpack(json.loads(text)))


def _unpack(value: Any) -> Any:
    if value.__class__ is list:
        return tuple(_unpack(item) for item in value)
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, Any]", value)
    kind = given.pop(_KIND)
    if not kind:
        return given["items"]
    if kind == "Attachment":
        return unpack_file(given)
    assert kind in desk360_async.__all__  # `pack` wrote it
    return getattr(desk360_async, kind)(**{name: _unpack(field) for name, field in given.items()})


def unpack_file(given: Mapping[str, Any]) -> Attachment:
    """Return the file that `pack_file` stored."""
    name, content_type = given["name"], given["content_type"]
    if "path" in given:
        return Attachment.from_path(Path(given["path"]), name=name, content_type=content_type)
    return Attachment.from_bytes(name, base64.b64decode(given["content"]), content_type=content_type)
