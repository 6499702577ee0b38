"""Downloads: streamed, bounded, and never written outside the folder that the caller names.

Implements "Get WhatsApp Media"; rulings 14 and 27.
"""

import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from email.message import Message
from io import FileIO
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import anyio

from . import _threads
from ._arguments import is_loopback, is_public
from ._attachments import safe_name
from ._calls import Answered, Call
from ._errors import ClientStateError, InvalidMessage, UnexpectedResponse
from ._http import Http, Opened, Request
from ._json import UnreadableJSON, as_object, decode
from ._outcomes import Evidence, Unanswered
from ._pipeline import CallState, Options, Pipeline, connection_error
from ._replies import Media
from ._wire import error_from, says_error
from ._wire import read as read_reply

MOST_HOPS = 5
ERROR_BYTES = 64 * 1024  # a JSON body up to this size may be an error; a larger one is a customer's file


class MediaStream:
    """A download under way ("Get WhatsApp Media").

    Attributes:
        content_type: the file's media type without parameters, or None.
        filename: the base name of the server's file name, or None.
        size: the file's size in bytes; None if the server gives no size or compresses the file.
    """

    def __init__(self, opened: Opened, head: bytes, rest: AsyncGenerator[bytes] | None) -> None:
        self._head = head
        self._rest = rest
        self._over = ""  # why reading can't go on
        headers = opened.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.content_type: str | None = kind or None
        self.filename: str | None = filename_of(headers.get("content-disposition", ""))
        length = headers.get("content-length", "")
        plain = "content-encoding" not in headers
        self.size: int | None = int(length) if plain and re.fullmatch(r"[0-9]{1,15}", length) else None

    def aiter_bytes(self) -> "_Reading":
        """Yield the file's bytes. A compressed file comes in pieces of at most 64 KiB.

        Each byte comes once. After a loop that was left early, the next loop goes on from there.

        Raises:
            ConnectionFailed: if the body breaks off, or `timeout.download` seconds pass without a byte.
            ClientStateError: if it was read to its end before or broke off, or its `async with` block ended.
        """
        self._check()
        return _Reading(self)

    def _check(self) -> None:
        if self._over:
            raise ClientStateError(f"this download {self._over}; open it again with client.open_media")

    async def _next(self) -> bytes:
        self._check()
        head, self._head = self._head, b""
        if head:
            return head
        try:
            if self._rest is not None:
                return await anext(self._rest)
        except StopAsyncIteration:
            pass
        except BaseException as error:  # a cancellation too: it ends the download
            self._over = "broke off"
            if isinstance(error, Unanswered):
                raise connection_error(error, None) from error.__cause__
            raise
        self._over = "was read to its end"
        raise StopAsyncIteration

    async def _aclose(self) -> None:
        self._over = self._over or "is closed"
        if self._rest is not None:
            await self._rest.aclose()


class _Reading(AsyncIterator[bytes]):
    """One loop over a stream.

    It is no generator: a generator that is left early waits for the garbage collector.
    """

    def __init__(self, stream: MediaStream) -> None:
        self._stream: MediaStream | None = stream

    async def __anext__(self) -> bytes:
        if self._stream is None:
            raise StopAsyncIteration
        try:
            return await self._stream._next()
        except BaseException:
            self._stream = None
            raise

    async def aclose(self) -> None:
        """End this loop; the download itself is closed where its block ends."""
        self._stream = None


def filename_of(disposition: str) -> str | None:
    """Return the base name in a Content-Disposition, made safe; None without one."""
    if not disposition:
        return None
    header = Message()
    header["Content-Disposition"] = re.sub(r"[\x00-\x1f\x7f]", "_", disposition)
    try:
        name = header.get_filename()
        # Percent signs are decoded first: %2e%2e%2f is a hidden `../`.
        return settled_name(unquote(name)) if name else None
    except (InvalidMessage, LookupError, ValueError, TypeError):
        return None


class Download:
    """The async context manager behind `client.open_media`; it holds at most one connection.

    Args:
        pipeline: the client's pipeline.
        call: the GET.
        options: the options of the client or of the view.
    """

    def __init__(self, pipeline: Pipeline, call: Call, options: Options) -> None:
        self._pipeline = pipeline
        self._call = call
        self._options = options
        self._opened: Opened | None = None
        self._stream: MediaStream | None = None

    async def __aenter__(self) -> MediaStream:
        state = CallState(self._options)
        operation = self._pipeline.operation_of(self._call, self._options)
        try:
            with self._pipeline.observed(state, operation):
                self._stream = await self._follow_to_the_file(state)
            return self._stream
        except BaseException:
            await self._release()  # a failed `__aenter__` has no `__aexit__`
            raise

    async def __aexit__(self, *_: object) -> None:
        assert self._stream is not None  # a failed `__aenter__` has no `__aexit__`
        try:
            await self._stream._aclose()
        finally:
            await self._release()

    async def _follow_to_the_file(self, state: CallState) -> MediaStream:
        url = self._pipeline.base_url + self._call.path
        status = 0
        for _ in range(MOST_HOPS + 1):
            opened = await self._open(url, state)
            if not 300 <= opened.status < 400:
                return await self._begin(opened)
            status, location = opened.status, opened.headers.get("location", "")
            await self._release()
            answered = self._pipeline.without_key(Answered(opened.status, opened.headers, b""))
            url = follow(url, location, self._call, answered, base_url=self._pipeline.base_url)
        problem = f"more than {MOST_HOPS} redirects"
        raise UnexpectedResponse(
            f"the download can't be read: {problem}", status=status, body="", problems=(problem,)
        )

    async def _open(self, url: str, state: CallState) -> Opened:
        """Return the answer to a GET; its body is not read yet.

        The request's slot is free once the status is here. Otherwise tasks that read a file and send
        meanwhile could hold every slot, and all of them would wait for each other.
        """
        pipeline, timeout = self._pipeline, self._options.timeout
        request = self._request(url)

        async def begin(http: Http, evidence: Evidence) -> Opened:
            opened = await http.open(request, evidence, total=timeout.total, connect=timeout.connect)
            # The pipeline is entered before the attempt ends: closing the client waits for the file too.
            pipeline.enter(timeout.download)
            self._opened = opened
            return opened

        async def once() -> Opened | Answered:
            counted = url.startswith(pipeline.base_url)
            opened = await pipeline.attempt(self._call, state, begin, total=timeout.total, counted=counted)
            return opened if opened.status < 400 else await self._read_error(opened)

        opened = await pipeline.repeat(self._call, state, once)
        assert isinstance(opened, Opened)  # an error's answer was raised
        return opened

    async def _release(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            try:
                await opened.aclose()
            finally:
                self._pipeline.leave()

    def _request(self, url: str) -> Request:
        headers = tuple((k, v) for k, v in self._pipeline.headers if k != "accept")
        if urlsplit(url)[:2] != urlsplit(self._pipeline.base_url)[:2]:
            headers = tuple((k, v) for k, v in headers if k not in ("authorization", "host"))
            headers = (("host", urlsplit(url).netloc), *headers)
        return Request("GET", url, (*headers, ("accept", "*/*")))

    async def _read_error(self, opened: Opened) -> Answered:
        body = b""
        timeout = self._options.timeout
        # `timeout.download` limits the gaps between chunks; a slow error body needs a total limit.
        with anyio.move_on_after(timeout.total), suppress(Unanswered):
            async with aclosing(opened.pieces(timeout.download)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > ERROR_BYTES:
                        break
        # The status is known; a part of the body is enough.
        await self._release()
        return self._pipeline.without_key(Answered(opened.status, opened.headers, body))

    async def _begin(self, opened: Opened) -> MediaStream:
        """Return the file's stream; a JSON body that is an error is raised instead."""
        pieces = opened.pieces(self._options.timeout.download)
        if "json" not in opened.headers.get("content-type", "").lower():
            return MediaStream(opened, b"", pieces)
        head, is_whole = await _head_of(pieces)
        if not is_whole:
            return MediaStream(opened, head, pieces)
        if _is_error(head):
            answered = self._pipeline.without_key(Answered(opened.status, opened.headers, head))
            head = b""  # a traceback that shows local variables must not show it
            read_reply(self._call, answered)  # it raises
        return MediaStream(opened, head, None)


async def _head_of(pieces: AsyncGenerator[bytes]) -> tuple[bytes, bool]:
    """Return the body, or its start if it is over `ERROR_BYTES`, and whether it is complete."""
    head = b""
    try:
        async for piece in pieces:
            head += piece
            if len(head) > ERROR_BYTES:
                return head, False
    except Unanswered as lost:
        raise connection_error(lost, None) from lost.__cause__
    return head, True


def _is_error(body: bytes) -> bool:
    try:
        data = decode(body)
    except UnreadableJSON:
        return False
    fields = as_object(data)
    return data is fields and list(fields) == ["error"] and says_error(fields)


def follow(url: str, location: str, call: Call, answered: Answered, *, base_url: str) -> str:
    """Return the URL that a redirect leads to (ruling 14).

    A target may be a public host by https. If `base_url` is loopback, its own host and port are allowed too.

    Raises:
        RequestRefused: if the redirect has no target, or its target is not allowed.
    """
    refused = error_from(call, answered)
    if not location or answered.status in (300, 304) or re.search(r"[\x00-\x20\x7f]", location.strip(" ")):
        raise refused  # urlsplit would silently drop a tab inside the port
    try:
        target, base = urlsplit(urljoin(url, location.strip(" "))), urlsplit(base_url)
        host, port = target.hostname or "", target.port
        home = is_loopback(base.hostname or "") and (host, port) == (base.hostname, base.port)
    except ValueError:
        raise refused from None
    allowed = target.scheme in ("http", "https") if home else target.scheme == "https" and is_public(host)
    if not host or not allowed or "@" in target.netloc:
        raise refused
    return target._replace(fragment="").geturl()


async def read(download: Download, max_bytes: int) -> Media:
    """Return a whole download.

    Raises:
        UnexpectedResponse: if the file is over `max_bytes`.
    """
    async with download as stream:
        body = bytearray()
        async with aclosing(stream.aiter_bytes()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > max_bytes:
                    problem = f"the file is over max_bytes={max_bytes:,}; use save_media, or a larger limit"
                    raise UnexpectedResponse(problem, status=200, body="", problems=(problem,))
        return Media(bytes(body), stream.content_type, stream.filename)


async def save(download: Download, media_id: str, path: str | os.PathLike[str]) -> Path:
    """Stream a download into a file, and return the file's path.

    The bytes go into a temporary file in the same folder. The whole file then takes its final
    name, so it is whole or not there.

    Raises:
        InvalidMessage: if the file's folder doesn't exist; raised before a request.
        OSError: if the file can't be written; no partial file is left.
    """
    target, is_folder = await _threads.run(place_for, spelled(path))
    folder = target if is_folder else target.parent
    async with download as stream:
        part = Part(folder / f".{secrets.token_hex(8)}.part")
        try:
            await _threads.run(part.open)
            async with aclosing(stream.aiter_bytes()) as pieces:
                async for piece in pieces:
                    await _threads.run(part.write, piece)
            if not is_folder:
                return await _threads.run(part.become, target)
            return await _threads.run(part.settle_in, folder, stream.filename or name_of(media_id))
        finally:
            with anyio.CancelScope(shield=True):  # a cancelled download leaves no file either
                await _threads.run(part.remove)


# ── where a file goes; all that touches the disk runs in worker threads ──────────────────────────────


def settled_name(name: str) -> str:
    """Return a name that is safe in any folder: not hidden, not long, no drive, no device."""
    base = re.sub(r'[<>:|?*"]', "_", safe_name(name)).lstrip(". ").rstrip(". ")
    stem, dot, suffix = base.rpartition(".")
    suffix = suffix[-20:] if dot else ""
    # File systems limit a name's bytes. 150 bytes leave room for a number.
    kept = (stem if dot else base).encode()[:150].decode(errors="ignore")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", kept):
        kept = f"_{kept}"
    return (kept or "media") + dot + suffix


def name_of(media_id: str) -> str:
    """Return a name for a file that has none: its id, or "media" if the id can't be a name."""
    try:
        return settled_name(media_id)
    except InvalidMessage:
        return "media"


def spelled(path: str | os.PathLike[str]) -> str:
    """Return a path as the user wrote it, as text: `pathlib` drops a slash at the end."""
    text: object = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise InvalidMessage("path", f"must be text or a pathlib.Path, not {type(path).__name__}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InvalidMessage("path", "is not valid Unicode") from None
    if not text or "\0" in text:
        raise InvalidMessage("path", "is empty, or holds a NUL; give a file's or a folder's path")
    return text


def place_for(text: str) -> tuple[Path, bool]:
    """Return the path to write to, and whether it is a folder; for worker threads.

    A path that ends in a slash names a folder. The folder is created if it doesn't exist.
    """
    path = Path(text)
    if text.endswith(("/", os.sep)) and not path.exists():
        path.mkdir(parents=True, exist_ok=True)  # another save may create it at the same time
    if path.is_dir():
        return path, True
    # A path that ends in a slash or a dot can't be a file's name.
    folder = path if re.split(r"[/\\]" if os.altsep else "/", text)[-1] in ("", ".", "..") else path.parent
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist; make that folder first"
        raise InvalidMessage("path", f"{str(folder)!r} {problem}")
    return path, False


class Part:
    """A temporary file for bytes that aren't complete yet, in the final file's folder; for worker threads.

    Attributes:
        place: the temporary file's path.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file: FileIO | None = None

    def open(self) -> None:
        """Create the file and keep it here, so that `remove` finds it after a cancellation."""
        try:
            self._file = FileIO(self.place, "xb")
        except OSError as error:
            error.filename = str(self.place.parent)  # not the temporary name
            raise

    def write(self, piece: bytes) -> None:
        """Write the whole piece. An unbuffered file may take only a part of it at a time."""
        assert self._file is not None
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]

    def become(self, path: Path) -> Path:
        """Replace the file at `path` by this one, in one step."""
        self._close()
        os.replace(self.place, path)  # noqa: PTH105  # see os.link
        return path

    def settle_in(self, folder: Path, name: str) -> Path:
        """Take the server's name, or that name with a number. No file is ever overwritten."""
        self._close()
        stem, dot, suffix = name.rpartition(".")
        number, free = 1, name
        while True:
            try:
                return self._link(folder / free)
            except FileExistsError:
                number += 1
                free = f"{stem} ({number}){dot}{suffix}" if dot else f"{name} ({number})"

    def _link(self, target: Path) -> Path:
        try:
            os.link(self.place, target)  # unlike a rename, it refuses a name that is taken
        except FileExistsError:
            raise
        except OSError:
            # Some file systems have no hard links (FAT, some network shares).
            # There an empty file takes the name first, and is then replaced.
            target.open("xb").close()
            os.replace(self.place, target)  # noqa: PTH105  # see os.link
        return target

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Remove the temporary file."""
        self._close()
        self.place.unlink(missing_ok=True)
