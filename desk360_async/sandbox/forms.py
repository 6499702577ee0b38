"""Request bodies as PHP reads them: bracketed names, silent limits, strict JSON. Pure, no rules of Desk360.

The limits were measured on PHP. PHP drops fields past a limit without an error: the answer is still 200.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeGuard
from urllib.parse import unquote_to_bytes

from attrs import define, field, frozen
from python_multipart.multipart import MultipartParser, parse_options_header

MAX_FIELDS = 1000
MAX_FILES = 20
MAX_PARTS = MAX_FIELDS + MAX_FILES
MAX_DEPTH = 64
# PHP 8.2 reads 511 levels of nested arrays and refuses 512 (measured).
JSON_DEPTH = 511

PhpArray: TypeAlias = dict[str | int, Any]

_INTEGER_KEY = re.compile(r"0|-?[1-9][0-9]{0,17}")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@frozen
class Upload:
    """A file that came in a form: its base name, the type that the sender declared, and its bytes."""

    name: str
    content_type: str
    content: bytes = field(repr=False)


def is_map(value: object) -> TypeGuard[PhpArray]:
    """Whether a value is a PHP array with explicit keys."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is a PHP array that JSON spelled as a list."""
    return isinstance(value, list)


def php_key(text: str) -> str | int:
    """Turn `"0"` into 0, as PHP does with every array key that reads like an integer."""
    return int(text) if _INTEGER_KEY.fullmatch(text) else text


def _mangled(name: str) -> str:
    return name.replace(" ", "_").replace(".", "_")


def split_name(name: str) -> list[str | None]:
    """Split `a[b][]` into `["a", "b", None]`, where None asks for a new element.

    A name that PHP ignores gives an empty list.
    """
    name = name.lstrip(" ").split("\0", 1)[0]
    head, bracket, rest = name.partition("[")
    if not head:
        return []
    keys: list[str | None] = [_mangled(head)]
    while bracket:
        inside, closed, after = rest.partition("]")
        if not closed:
            # PHP turns an unclosed bracket into part of the plain name, but only on the first level.
            return [_mangled(head + "_" + rest).replace("[", "_")] if len(keys) == 1 else keys
        keys.append(inside if inside.strip() else None)
        # Text between a closing bracket and the next opening one is ignored: a[b]c is a[b].
        bracket, rest = after[:1] if after.startswith("[") else "", after[1:]
    return keys if len(keys) <= MAX_DEPTH else []


def _next_index(array: PhpArray) -> int:
    return max((key for key in array if isinstance(key, int) and key >= 0), default=-1) + 1


def register(array: PhpArray, name: str, value: Any) -> None:
    """Store a value as PHP's variable registration does: the last of two equal names wins."""
    keys = split_name(name)
    if not keys:
        return
    here = array
    for key in keys[:-1]:
        index = _next_index(here) if key is None else php_key(key)
        child = here.get(index)
        if not is_map(child):
            child = here[index] = {}
        here = child
    last = keys[-1]
    here[_next_index(here) if last is None else php_key(last)] = value


def parse_urlencoded(body: bytes) -> PhpArray:
    """Parse `application/x-www-form-urlencoded`; fields after the thousandth are dropped."""
    fields: PhpArray = {}
    for pair in [pair for pair in body.split(b"&") if pair][:MAX_FIELDS]:
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        register(fields, _text(unquote_to_bytes(name)), _text(unquote_to_bytes(value)))
    return fields


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _reject_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def parse_json(body: bytes) -> PhpArray:
    """Decode as PHP's json_decode does: an unreadable body gives no field and no error."""
    try:
        text = body.decode("utf-8")
        value = _DECODER.decode(text)
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    if is_list(value):
        value = dict(enumerate(value))
    return value if is_map(value) and not _deeper_than(value, JSON_DEPTH) else {}


def _deeper_than(value: Any, depth: int) -> bool:
    level: list[Any] = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _children(value: Any) -> Iterable[Any]:
    if is_map(value):
        return value.values()
    return value if is_list(value) else ()


@define
class _Part:
    headers: dict[str, bytes] = field(factory=dict[str, bytes])
    data: bytearray = field(factory=bytearray)


class MultipartForm:
    """Collects a multipart body chunk by chunk; `.fields` are the fields that a PHP script would see."""

    def __init__(self, content_type: bytes) -> None:
        self.fields: PhpArray = {}
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._parts = self._texts = self._files = 0
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        # Without a boundary PHP warns, and hands an empty form to the script.
        self._parser = MultipartParser(boundary, self._callbacks()) if boundary else None

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._part_data,
            "on_part_end": self._end,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
        }

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; all bytes after a malformed part are lost, as in PHP."""
        if self._parser is None:
            return
        try:
            self._parser.write(chunk)
        except ValueError:
            self._parser = None

    def _begin(self) -> None:
        self._part = _Part()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._part.data += data[start:end]

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).decode("latin-1").lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _end(self) -> None:
        self._parts += 1
        disposition = self._part.headers.get("content-disposition")
        if disposition is None or self._parts > MAX_PARTS:
            return
        parameters = disposition_parameters(disposition)
        name = parameters.get("name", "")
        if "filename" in parameters:
            self._take_file(name, parameters["filename"])
        else:
            self._take_text(name)

    def _take_text(self, name: str) -> None:
        self._texts += 1
        if self._texts <= MAX_FIELDS:
            register(self.fields, name, _text(bytes(self._part.data)))

    def _take_file(self, name: str, filename: str) -> None:
        if not filename:
            return
        self._files += 1
        if self._files > MAX_FILES:
            return
        base_name = re.split(r"[/\\]", filename)[-1]
        content_type = _text(self._part.headers.get("content-type", b"application/octet-stream"))
        register(self.fields, name, Upload(base_name, content_type, bytes(self._part.data)))


_PARAMETER = re.compile(r';\s*([^=;\s]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))')


def disposition_parameters(value: bytes) -> dict[str, str]:
    r"""Read `name` and `filename` as PHP does: raw UTF-8, `\"` unescaped, `filename*` ignored."""
    found = _PARAMETER.findall(_text(value))
    return {
        key.lower(): (re.sub(r'\\(["\\])', r"\1", quoted) if quoted else plain.strip())
        for key, quoted, plain in found
    }


# Five files of 20 MB, which the vendor documents as an upload, and some room.
MAX_BODY = 128 * 1024 * 1024


class TooLarge(Exception):
    """The body exceeds the server's limit."""


@frozen
class Body:
    """Parsed fields, the size on the wire in bytes, and whether the content type is supported."""

    fields: PhpArray = field(factory=dict[str | int, object])
    size: int = 0
    supported: bool = True


class BodyReader:
    """Reads a body chunk by chunk.

    Args:
        content_type: the header `Content-Type`.
        max_body: maximum of the body, in bytes.
    """

    def __init__(self, content_type: str, max_body: int) -> None:
        self._media_type = content_type.partition(";")[0].strip().lower()
        is_form = self._media_type == "multipart/form-data"
        self._form = MultipartForm(content_type.encode("latin-1")) if is_form else None
        self._content = bytearray()
        self._size, self._max_body = 0, max_body

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: if the body has more than `max_body` bytes.
        """
        self._size += len(chunk)
        if self._size > self._max_body:
            raise TooLarge
        if self._form is not None:
            self._form.feed(chunk)
        else:
            self._content += chunk

    def body(self) -> Body:
        """Parse the whole body."""
        if self._form is not None:
            return Body(self._form.fields, self._size)
        return _parse(bytes(self._content), self._media_type)


def _parse(content: bytes, media_type: str) -> Body:
    if not content:
        return Body(supported=media_type in ("", "application/json", "application/x-www-form-urlencoded"))
    if media_type.endswith(("/json", "+json")):
        return Body(parse_json(content), len(content))
    if media_type == "application/x-www-form-urlencoded":
        # The document's Python samples without a file send this type, so the real server must accept it.
        return Body(parse_urlencoded(content), len(content))
    return Body(size=len(content), supported=False)
