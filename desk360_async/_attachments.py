"""Attachments: a file's name, size and type, and the source of its bytes for each attempt.

This module reads no bytes.
"""

import inspect
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self, cast

from attrs import field, frozen

from ._errors import InvalidMessage
from ._redaction import show_half_made

MAX_BYTES = 20 * 1024 * 1024  # "Max Size: 20MB", read as the larger of its two meanings (ruling 18)

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:; ?[A-Za-z0-9-]+=[A-Za-z0-9._+-]+)*")
# A quote ends the name for PHP. CR and LF end the header, a slash leaves the folder, NUL ends C's strings.
# The bidi controls make `exe` look like `jpg`.
_UNSAFE = re.compile('["\\\\/\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')

Opener = Callable[[], AsyncIterator[bytes]]


def safe_name(name: object) -> str:
    """Return a file's base name for a multipart header, with `_` in place of quotes and control characters.

    Raises:
        InvalidMessage: if the cleaned name is empty, or if it isn't valid Unicode.
    """
    if not isinstance(name, str):
        raise InvalidMessage("attachment.name", f"must be text, not {type(name).__name__}")
    base = _UNSAFE.sub("_", re.split(r"[/\\]", name)[-1]).strip()
    try:
        base.encode()
    except UnicodeEncodeError:
        raise InvalidMessage("attachment.name", "is not valid Unicode; pass name= with a clean one") from None
    if not base.strip("."):
        raise InvalidMessage("attachment.name", "is empty; pass name=, such as name='invoice.pdf'")
    return base


# `mimetypes` is not used. It reads the machine's own tables from disk, on the loop's thread, so its answers
# differ from machine to machine. And Python 3.11's own table lacks .docx and .webp.
_TYPES = {
    suffix: kind
    for kind, suffixes in {
        "application/gzip": "gz tgz",
        "application/json": "json",
        "application/msword": "doc",
        "application/pdf": "pdf",
        "application/rtf": "rtf",
        "application/vnd.ms-excel": "xls",
        "application/vnd.ms-powerpoint": "ppt",
        "application/vnd.oasis.opendocument.spreadsheet": "ods",
        "application/vnd.oasis.opendocument.text": "odt",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/xml": "xml",
        "application/zip": "zip",
        "audio/aac": "aac",
        "audio/amr": "amr",
        "audio/mp4": "m4a",
        "audio/mpeg": "mp3",
        "audio/ogg": "oga ogg opus",
        "audio/wav": "wav",
        "image/bmp": "bmp",
        "image/gif": "gif",
        "image/heic": "heic",
        "image/jpeg": "jpe jpeg jpg",
        "image/png": "png",
        "image/svg+xml": "svg",
        "image/tiff": "tif tiff",
        "image/webp": "webp",
        "text/calendar": "ics",
        "text/csv": "csv",
        "text/html": "htm html",
        "text/plain": "log txt",
        "text/vcard": "vcf",
        "video/3gpp": "3gp 3gpp",
        "video/mp4": "m4v mp4",
        "video/mpeg": "mpeg mpg",
        "video/quicktime": "mov",
        "video/webm": "webm",
    }.items()
    for suffix in suffixes.split()
}


def guess_type(name: str) -> str:
    """Return the media type that a file's name suggests, else `application/octet-stream` (ruling 11)."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def check_size(size: int, name: str) -> int:
    """Return `size` (bytes) if it is allowed for an attachment.

    Raises:
        InvalidMessage: if it is negative or over 20 MiB.
    """
    if size > MAX_BYTES:
        raise InvalidMessage(
            "attachment",
            f"{name!r} has {size:,} bytes; at most {MAX_BYTES:,} (20 MB) may be sent: shrink or split it",
        )
    if size < 0:
        raise InvalidMessage("attachment.size", f"of {name!r} must not be negative, got {size}")
    return size


def _content_type(value: object) -> str | None:
    if value is None or (isinstance(value, str) and _MEDIA_TYPE.fullmatch(value)):
        return value
    raise InvalidMessage(
        "attachment.content_type", "must look like 'image/png'; leave it out to have it guessed"
    )


@frozen(kw_only=True, repr=False)
class Attachment:
    """A file to send; make one by `from_path`, `from_bytes` or `from_stream`.

    It can be opened again for each attempt, so a retry sends the same bytes. A parameter that takes an
    attachment takes a path too. Implements "Attachments".

    Attributes:
        name: the file's base name, as the customer will see it.
        size: bytes; None for a path. A worker thread measures that file before a token is spent.
        content_type: its media type; None if it is guessed from the name.
        path: where the bytes are, or None.
        content: the bytes themselves, or None.
        open: each call returns a new async iterator of the bytes; or None.

    Raises:
        InvalidMessage: if the name or the type can't be used, or the known size is over 20 MiB.

    Example:
        ```python
        Attachment.from_path("invoice.pdf")
        Attachment.from_bytes("note.txt", b"Thank you!")
        ```
    """

    name: str = field(converter=safe_name)
    size: int | None = None
    content_type: str | None = field(default=None, converter=_content_type)
    path: Path | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    open: Opener | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if [self.path, self.content, self.open].count(None) != 2:
            raise InvalidMessage("attachment", "is made by from_path, from_bytes or from_stream")
        if self.content is not None:
            object.__setattr__(self, "size", len(self.content))
        if self.size is not None:
            check_size(self.size, self.name)
        elif self.open is not None:
            raise InvalidMessage(
                "attachment.size", "is missing; a stream's length must be known: from_stream"
            )

    @property
    def media_type(self) -> str:
        """The media type in the request: `content_type`, or the type guessed from the name."""
        return self.content_type or guess_type(self.name)

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], *, name: str | None = None, content_type: str | None = None
    ) -> Self:
        """Send the file at `path`, opened again for each attempt; this call doesn't touch the disk.

        Raises:
            InvalidMessage: if the name or the type can't be used. The send checks, before a token is spent,
                that the path leads to a file of at most 20 MiB.
        """
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            problem = f"must be text or a pathlib.Path, not {type(path).__name__}"
            raise InvalidMessage("attachment.path", problem)
        place = Path(path)
        return cls(name=place.name if name is None else name, content_type=content_type, path=place)

    @classmethod
    def from_bytes(cls, name: str, content: bytes, *, content_type: str | None = None) -> Self:
        """Send these bytes.

        Raises:
            InvalidMessage: if they are over 20 MiB, or the name or the type can't be used.
        """
        if not isinstance(content, bytes | bytearray | memoryview):
            raise InvalidMessage(
                "attachment",
                f"must be bytes, not {type(content).__name__}; for a file, Attachment.from_path(path)",
            )
        whole = bytes(content)
        return cls(name=name, size=len(whole), content_type=content_type, content=whole)

    @classmethod
    def from_stream(cls, name: str, size: int, open: Opener, *, content_type: str | None = None) -> Self:  # noqa: A002  # the contract's name
        """Send a stream of known length.

        Args:
            name: the file's name.
            size: its length in bytes; a stream of another length fails before the request is complete.
            open: called once an attempt; each call returns a new async iterator of bytes. The first bytes
                are read before the request begins.
            content_type: its media type; None to guess it from the name.

        Raises:
            InvalidMessage: if it is over 20 MiB, or the name or the type can't be used.
        """
        if isinstance(size, bool) or not isinstance(size, int):
            raise InvalidMessage(
                "attachment.size", f"must be the length in bytes, an int, not {type(size).__name__}"
            )
        if not callable(open) or inspect.iscoroutinefunction(open):
            raise InvalidMessage(
                "attachment.open",
                "must be a function that gives a fresh async iterator of bytes: `async def` with `yield`",
            )
        return cls(name=name, size=size, content_type=content_type, open=open)

    @classmethod
    def of(cls, value: Any, where: str = "attachment") -> "Attachment":
        """Return the attachment itself, or an attachment of the file at a path.

        Args:
            value: an attachment, or a path.
            where: the argument's name, for the error.

        Raises:
            InvalidMessage: if it is neither; for bytes and open files the message contains the right call.
        """
        if isinstance(value, Attachment):
            return value
        if isinstance(value, str | os.PathLike):
            return cls.from_path(cast("str | os.PathLike[str]", value))
        if isinstance(value, bytes):
            fix = "bytes need a name: Attachment.from_bytes(name, content)"
        elif hasattr(value, "read"):
            fix = "an open file can't be read twice: give its path, or Attachment.from_bytes(name, content)"
        else:
            fix = f"must be a path or an Attachment, not {type(value).__name__}"
        raise InvalidMessage(where, fix)


show_half_made(globals())
