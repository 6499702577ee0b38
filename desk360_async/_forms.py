"""Forms as PHP reads them: nested values to bracketed fields, and the bytes around each part. No I/O.

httpx's own multipart isn't used: it reads files on the event loop's thread.
Implements "Attachments"; rulings 6 to 11 and 20.
"""

# pyright: basic
# Since nested fields are Any here; mypy --strict checks the rest.

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ._attachments import Attachment
from ._errors import InvalidMessage

# PHP keeps 1,000 fields and 20 files and drops the rest silently, with status 200; the margin is for
# whatever a proxy or a framework adds.
MOST_PARTS = 900


class Part(NamedTuple):
    """One part of a form: a field's text, or a file."""

    name: str
    value: str | Attachment


class Form(NamedTuple):
    """The parts in the order in which they go out."""

    parts: tuple[Part, ...]

    @property
    def files(self) -> tuple[Attachment, ...]:
        """The files, in order."""
        return tuple(part.value for part in self.parts if isinstance(part.value, Attachment))


def flatten(value: Any, name: str = "") -> Iterator[Part]:
    """Yield a nested value as PHP's bracketed fields, lists with explicit indices.

    `destinations[][x]` would make a new destination of each field (ruling 6).
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}[{key}]" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from flatten(inner, f"{name}[{index}]")
    else:
        yield Part(name, str(value))


def form_for(fields: Mapping[str, Any], files: Sequence[tuple[str, Attachment]]) -> Form:
    """Lay out a form: scalars and files first, then destinations; too many of those travel as a file.

    Args:
        fields: the message's fields, as for JSON.
        files: field name and file.

    Raises:
        InvalidMessage: if even without destinations there are more fields than PHP keeps.
    """
    head = [part for key, value in fields.items() if key != "destinations" for part in flatten(value, key)]
    head += [Part(name, file) for name, file in files]
    tail = list(flatten(fields.get("destinations", ()), "destinations"))
    if len(head) + len(tail) > MOST_PARTS and all(part.name.endswith("[phone]") for part in tail):
        tail = [Part("destinations_file", destinations_file([str(part.value) for part in tail]))]
    if len(head) + len(tail) > MOST_PARTS:
        parts = len(head) + len(tail)
        problem = f"make a form of {parts} parts; over {MOST_PARTS} the server would drop some silently"
        raise InvalidMessage("parameters", problem)
    return Form((*head, *tail))


def destinations_file(phones: Sequence[str]) -> Attachment:
    """Return phones as the vendor's CSV: one column, no header, LF at each end (ruling 20)."""
    content = "".join(f"{phone}\n" for phone in phones).encode()
    return Attachment.from_bytes("destinations.csv", content, content_type="text/csv")


def head_of(part: Part, boundary: str) -> bytes:
    """Return the bytes in front of a part's content. File names go as raw UTF-8, never as `filename*=`."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"'
    if isinstance(part.value, Attachment):
        head += f'; filename="{part.value.name}"\r\nContent-Type: {part.value.media_type}'
    return f"{head}\r\n\r\n".encode()


def tail_of(boundary: str) -> bytes:
    """Return the bytes behind the last part."""
    return f"--{boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    # As PHP unescapes it. A parameter's key is the user's; it was refused if it holds brackets or controls.
    return name.replace("\\", "\\\\").replace('"', '\\"')
