"""Forms with files, laid out as PHP reads them, and the bytes of an upload; rulings 6 to 11 and 20.

httpx's own multipart isn't used: it reads files on the event loop's thread. Here files are measured, opened
and read in worker threads.

One block is read ahead while the block before it is on the wire. A file whose size or modification time
changed since it was measured is refused before a byte is sent.
"""

import os
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias, cast

import anyio
from attrs import evolve

from . import _threads
from ._attachments import Attachment, check_size
from ._errors import InvalidMessage, Outcome
from ._messages import TemplateBatch

# PHP keeps 1,000 fields and 20 files. It drops the rest silently, with status 200. The margin is for fields
# that a proxy or a framework adds.
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
    """Yield a nested value as PHP's bracketed fields. Lists get explicit indices.

    `destinations[][x]` would make a new destination of each field (ruling 6).
    """
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, object]", value).items():
            yield from flatten(inner, f"{name}[{key}]" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(cast("Sequence[object]", value)):
            yield from flatten(inner, f"{name}[{index}]")
    elif isinstance(value, bool):
        yield Part(name, "1" if value else "0")  # PHP takes the text "False" for true
    else:
        yield Part(name, str(value))


def form_for(fields: Mapping[str, Any], files: Sequence[tuple[str, Attachment]]) -> Form:
    """Return a form: scalars and files first, then destinations. Too many destinations are sent as a file.

    Args:
        fields: the message's fields, as for JSON.
        files: pairs of a field's name and its file.

    Raises:
        InvalidMessage: if the form has over `MOST_PARTS` parts, even with its destinations in a file.
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
    """Return phones as the vendor's CSV: one column, no header, LF after each phone (ruling 20)."""
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
    # The name is escaped as PHP unescapes it. It may hold a user's parameter key. A key with brackets or
    # controls was refused before.
    return name.replace("\\", "\\\\").replace('"', '\\"')


# ── the bytes on their way up ──────────────────────────────────────────────────────────────────────────────

BLOCK = 512 * 1024  # bytes per read; half of it doubles the thread's round trips and the CPU time


class Measure(NamedTuple):
    """A file's size and modification time on the disk, read before the token is spent."""

    size: int
    modified: int


Measures: TypeAlias = Mapping[Path, Measure]


async def measure(form: Form) -> Measures:
    """Return the measures of the form's paths; a worker thread reads them.

    Raises:
        InvalidMessage: if a path is missing, no file, over 20 MiB or unreadable.
    """
    paths = [file for file in form.files if file.path is not None]
    return await _threads.run(_measure, paths) if paths else {}


async def with_destinations(message: TemplateBatch) -> TemplateBatch:
    """Return a batch whose destinations file is loaded and checked, line by line.

    Raises:
        InvalidMessage: if the file can't be read, or a line is no phone number; the message names the line.
    """
    file = message.destinations_file
    if file is None or file.content is not None:
        return message
    if file.open is None:
        content = await _threads.run(_read, file)
    else:
        stream = await _Stream.of(file)
        try:
            content = b"".join([stream.first or b"", *[block async for block in stream.blocks]])
        finally:
            await _close_stream(stream.blocks)
    return evolve(message, destinations_file=Attachment.from_bytes(file.name, content))


def _read(file: Attachment) -> bytes:
    assert file.path is not None
    with _open(file, file.path) as opened:
        _measure_open(file, opened)
        return opened.readall()


def _measure(files: list[Attachment]) -> Measures:
    return {file.path: _measure_one(file, file.path) for file in files if file.path is not None}


def _measure_one(file: Attachment, path: Path) -> Measure:
    with _open(file, path) as opened:
        return _measure_open(file, opened)


def _open(file: Attachment, path: Path) -> FileIO:
    try:
        return FileIO(path, "rb", opener=_opener)
    except OSError as error:
        raise _unusable(file, error) from error
    except ValueError as error:
        raise InvalidMessage(
            "attachment", f"{file.name!r}: its path holds a character that no path may have"
        ) from error


def _opener(path: str, flags: int) -> int:
    # A pipe without a writer would block the thread for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _measure_open(file: Attachment, opened: FileIO) -> Measure:
    found = os.fstat(opened.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise InvalidMessage("attachment", f"{file.name!r} is not a regular file")
    return Measure(check_size(found.st_size, file.name), found.st_mtime_ns)


def _unusable(file: Attachment, error: OSError) -> InvalidMessage:
    reason = (
        "is a folder, not a file"
        if isinstance(error, IsADirectoryError)
        else (error.strerror or "can't be read")
    )
    return InvalidMessage("attachment", f"{file.name!r}: {reason}; give the path of a file that can be read")


class _Stream(NamedTuple):
    """A user's open stream and its first block; the block is None if the stream is at its end."""

    blocks: AsyncIterator[Any]
    first: bytes | None

    @classmethod
    async def of(cls, file: Attachment) -> Self:
        assert file.open is not None
        blocks = _iterator_of(file.open(), file.name)
        try:
            first = await _next_block(blocks)
            if len(first or b"") > (file.size or 0) or (first is None and file.size):
                raise _wrong_length(file)
        except BaseException:
            await _close_stream(blocks)
            raise
        return cls(blocks, first)


def _iterator_of(given: Any, name: str) -> AsyncIterator[Any]:
    """Return the async iterator that a user's `open` gave. For any other result the error shows the fix."""
    kind = type(given).__name__
    if hasattr(given, "__aiter__"):
        return aiter(given)
    fix = "open must give an async iterator of bytes: write it as `async def` with `yield`"
    if isinstance(given, Coroutine):
        given.close()  # otherwise Python warns that it was never awaited
    elif isinstance(given, (bytes, bytearray)):
        fix = "for bytes, call Attachment.from_bytes(name, content)"
    elif hasattr(given, "read"):
        fix = "for a file, call Attachment.from_path(path)"
    raise InvalidMessage("attachment.open", f"of {name!r} gave {kind}; {fix}")


def _wrong_length(file: Attachment) -> InvalidMessage:
    problem = "has another length than its size" if file.path is None else "changed while it was sent"
    return InvalidMessage("attachment", f"{file.name!r} {problem}")


async def _next_block(blocks: AsyncIterator[Any]) -> bytes | None:
    block = await anext(blocks, None)
    return None if block is None else bytes(memoryview(block))  # an int is refused: bytes(5) is five zeros


async def _close_stream(blocks: AsyncIterator[Any]) -> None:
    """Close a stream, however it ended; errors on closing are ignored."""
    if isinstance(blocks, AsyncGenerator):
        with anyio.move_on_after(1, shield=True), suppress(Exception):
            await blocks.aclose()


class Upload:
    """One attempt's multipart body: an async iterable of bytes with a known length.

    Attributes:
        content_type: the request's media type, with the boundary.
        length: bytes in all.
        failure: why the body stopped early, if it did.
    """

    def __init__(self, form: Form, measures: Measures) -> None:
        boundary = secrets.token_hex(16)
        self._tail = tail_of(boundary)
        self._parts = [(head_of(part, boundary), part.value) for part in form.parts]
        self._measures = measures
        self._open: dict[int, FileIO] = {}
        self._streams: dict[int, _Stream] = {}
        self.content_type: str = f"multipart/form-data; boundary={boundary}"
        sizes = (len(head) + self._size(value) + 2 for head, value in self._parts)
        self.length: int = len(self._tail) + sum(sizes)
        self.failure: InvalidMessage | None = None

    def _size(self, value: str | Attachment) -> int:
        if isinstance(value, str):
            return len(value.encode())
        return self._measures[value.path].size if value.path is not None else value.size or 0

    async def open(self) -> None:
        """Open the files before a byte is sent. `aclose` must follow, even if this fails.

        Raises:
            InvalidMessage: if a file vanished, or changed since it was measured.
        """
        self._send, self._receive = anyio.create_memory_object_stream[bytes](1)
        self._started = anyio.Event()
        if self._measures:
            await _threads.run(self._open_files)

    def _open_files(self) -> None:
        for index, (_, file) in enumerate(self._parts):
            if isinstance(file, Attachment) and file.path is not None:
                self._open[index] = opened = _open(file, file.path)
                if _measure_open(file, opened) != self._measures[file.path]:
                    raise InvalidMessage(
                        "attachment", f"{file.name!r} changed while it waited to be sent; send it again"
                    )

    async def aclose(self) -> None:
        """Close the files and the channel between reader and wire."""
        self._receive.close()
        self._send.close()
        if self._open:
            files, self._open = list(self._open.values()), {}
            with anyio.CancelScope(shield=True):
                await _threads.run(_close, files)

    async def ready(self, within: float) -> None:
        """Wait until `pump` has the first block of every stream, before a byte is sent.

        Args:
            within: seconds that opening the streams may take.

        Raises:
            InvalidMessage: if a stream can't be opened, or yields no data in time.
        """
        with anyio.move_on_after(within):
            await self._started.wait()
        if not self._started.is_set():
            raise InvalidMessage("attachment", f"its stream gave no bytes within {within:g} s")
        if self.failure is not None:
            raise self.failure

    async def pump(self) -> None:
        """Read the parts, one block ahead of the wire; runs in a task beside the request.

        This one task opens, reads and closes each stream: scopes and timeouts in it may not change tasks.
        """
        with self._send:
            try:
                await self._open_streams()
                self._started.set()
                async with aclosing(self._blocks()) as blocks:
                    async for block in blocks:
                        await self._send.send(block)
            except InvalidMessage as error:
                self.failure = error
            except Exception as error:  # noqa: BLE001  # the user's stream may raise anything
                self.failure = InvalidMessage("attachment", f"its stream failed: {type(error).__name__}")
                self.failure.__cause__ = error
            finally:
                self._started.set()
                for stream in self._streams.values():
                    await _close_stream(stream.blocks)

    async def _open_streams(self) -> None:
        # All streams are opened now, since a failure is still harmless. Once the headers are sent,
        # the outcome is unknown.
        for index, (_, file) in enumerate(self._parts):
            if isinstance(file, Attachment) and file.open is not None:
                self._streams[index] = await _Stream.of(file)

    def __aiter__(self) -> Self:
        # The body is no generator: a cancelled write would leave a generator behind half-way.
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            if self.failure is None:
                raise StopAsyncIteration from None
        # The headers are sent, and the server may accept half a body.
        self.failure.outcome = Outcome.UNKNOWN
        raise self.failure

    async def _blocks(self) -> AsyncGenerator[bytes]:
        for index, (head, value) in enumerate(self._parts):
            if isinstance(value, str):
                yield head + value.encode() + b"\r\n"
            elif value.content is not None:
                yield head
                for start in range(0, len(value.content), BLOCK):
                    yield value.content[start : start + BLOCK]
                yield b"\r\n"
            else:
                yield head
                left = self._size(value)
                async with aclosing(self._content(index)) as content:
                    async for block in content:
                        left -= len(block)
                        if left < 0:
                            break
                        yield block
                if left:
                    raise _wrong_length(value)
                yield b"\r\n"
        yield self._tail

    async def _content(self, index: int) -> AsyncGenerator[bytes]:
        if index in self._streams:
            stream, block = self._streams[index]
            while block is not None:
                yield block
                block = await _next_block(stream)
            return
        opened = self._open[index]
        while content := await _threads.run(opened.read, BLOCK):
            yield content


def _close(files: list[FileIO]) -> None:
    for file in files:
        file.close()
