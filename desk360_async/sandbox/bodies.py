"""Reads a body by its content type, as PHP fills `$_POST` and `$_FILES`, or as Laravel reads JSON."""

from collections.abc import AsyncIterator

from attrs import field, frozen

from desk360_async.sandbox.forms import MultipartForm, PhpArray, parse_json, parse_urlencoded

# Five files of 20 MB and some room, as an upload of that size is documented.
MAX_BODY = 128 * 1024 * 1024


class TooLarge(Exception):
    """The body exceeds what the server takes."""


@frozen
class Body:
    """Parsed fields, the size on the wire in bytes, and whether the content type is one that is supported."""

    fields: PhpArray = field(factory=dict[str | int, object])
    size: int = 0
    supported: bool = True


async def read_body(chunks: AsyncIterator[bytes], content_type: str, max_body: int) -> Body:
    """Read and parse a whole body.

    Raises:
        TooLarge: it has more than `max_body` bytes.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = MultipartForm(content_type.encode("latin-1"))
        size = 0
        async for chunk in chunks:
            size += _within(len(chunk), size, max_body)
            form.feed(chunk)
        return Body(form.fields, size)
    content = bytearray()
    async for chunk in chunks:
        _within(len(chunk), len(content), max_body)
        content += chunk
    return _parse(bytes(content), media_type)


def _within(length: int, size: int, max_body: int) -> int:
    if size + length > max_body:
        raise TooLarge
    return length


def _parse(content: bytes, media_type: str) -> Body:
    if not content:
        return Body(supported=media_type in ("", "application/json", "application/x-www-form-urlencoded"))
    if media_type.endswith(("/json", "+json")):
        return Body(parse_json(content), len(content))
    if media_type == "application/x-www-form-urlencoded":
        # The document's Python samples without a file send this, so the server must take it.
        return Body(parse_urlencoded(content), len(content))
    return Body(size=len(content), supported=False)
