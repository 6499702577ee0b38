"""Files coming down: streamed, bounded, and never written where the server likes.

Implements "Get WhatsApp Media"; rulings 14 and 27.
"""

import os
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from email.message import Message
from io import FileIO
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import anyio

from . import _threads
from ._attachments import safe_name
from ._attempts import Options, Patience, connection_error
from ._calls import Answered, Call
from ._codec import UnreadableJSON, as_object, decode
from ._delivery import Delivery
from ._errors import Desk360Error, InvalidMessage, UnexpectedResponse
from ._evidence import Unanswered
from ._http import Opened, Request
from ._refusals import error_from, says_error
from ._replies import Media
from ._settings import is_loopback
from ._verdict import verdict
from ._wire import read_answer

MOST_HOPS = 5
ERROR_BYTES = 64 * 1024  # a JSON body up to this size may be an error; a larger one is a customer's file


class MediaStream:
    """A download under way ("Get WhatsApp Media").

    Attributes:
        content_type: its media type without parameters, or None.
        filename: the base name of the name that the server gave, or None.
        size: bytes, if the server said so and doesn't compress; else None.
    """

    def __init__(self, opened: Opened, head: bytes, rest: AsyncGenerator[bytes] | None) -> None:
        self._head = head
        self._rest = rest
        headers = opened.headers
        self.content_type = headers.get("content-type", "").partition(";")[0].strip().lower() or None
        self.filename = filename_of(headers.get("content-disposition", ""))
        length = headers.get("content-length", "")
        plain = "content-encoding" not in headers
        self.size = int(length) if plain and re.fullmatch(r"[0-9]{1,15}", length) else None

    async def aiter_bytes(self) -> AsyncGenerator[bytes]:
        """Yield the file's bytes; what is compressed in pieces of at most 64 KiB.

        Raises:
            ConnectionFailed: if the body breaks off, or `timeout.download` seconds pass without a byte.
        """
        head, self._head = self._head, b""
        if head:
            yield head
        rest, self._rest = self._rest, None
        if rest is not None:
            try:
                async with aclosing(rest):
                    async for piece in rest:
                        yield piece
            except Unanswered as lost:
                raise connection_error(lost, None) from lost.__cause__


def filename_of(disposition: str) -> str | None:
    """Return the base name in a Content-Disposition, made safe; None if there is none."""
    if not disposition:
        return None
    header = Message()
    header["Content-Disposition"] = re.sub(r"[\x00-\x1f\x7f]", "_", disposition)
    try:
        name = header.get_filename()
        # Percent signs first: %2e%2e%2f is how a path hides.
        return _settled_name(unquote(name)) if name else None
    except (InvalidMessage, LookupError, ValueError, TypeError):
        return None


def _settled_name(name: str) -> str:
    """Return a name that is a plain file's in any folder: not hidden or long, no drive, no device."""
    base = re.sub(r'[<>:|?*"]', "_", safe_name(name)).lstrip(". ").rstrip(". ")
    stem, dot, suffix = base.rpartition(".")
    suffix = suffix[-20:] if dot else ""
    # File systems count bytes; room is left for a number.
    kept = (stem if dot else base).encode()[:150].decode(errors="ignore")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", kept):
        kept = f"_{kept}"
    return (kept or "media") + dot + suffix


class Download:
    """The async context manager behind `client.open_media`; one attempt's connection is held inside it.

    Args:
        delivery: the pipeline.
        call: the GET.
        options: the client's.
    """

    def __init__(self, delivery: Delivery, call: Call, options: Options) -> None:
        self._delivery = delivery
        self._call = call
        self._options = options
        self._close: Callable[[], Awaitable[None]] | None = None

    async def __aenter__(self) -> MediaStream:
        self._delivery.check()
        self._delivery.quota.earn()
        try:
            return await self._follow_to_the_file()
        except BaseException:
            await self._release()  # what fails on entering is never exited
            raise

    async def _follow_to_the_file(self) -> MediaStream:
        url = self._delivery.base_url + self._call.path
        status = 0
        for _ in range(MOST_HOPS + 1):
            opened = await self._open(url)
            if not 300 <= opened.status < 400:
                return await self._begin(opened)
            status, location = opened.status, opened.headers.get("location", "")
            await self._release()
            answered = self._delivery.without_key(Answered(opened.status, opened.headers, b""))
            url = follow(url, location, self._call, answered)
        problem = f"more than {MOST_HOPS} redirects"
        raise UnexpectedResponse(
            f"the download can't be read: {problem}", status=status, body="", problems=(problem,)
        )

    async def __aexit__(self, *_: object) -> None:
        await self._release()

    async def _release(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            await close()

    async def _open(self, url: str) -> Opened:
        delivery, options = self._delivery, self._options
        request = self._request(url)
        patience = Patience(options)
        while True:
            try:
                opened, self._close = await delivery.open(request, options, self._call, patience)
            except Unanswered as lost:
                judged = verdict(lost.reach, idempotent=True)
                error: Desk360Error = connection_error(lost, None)
                error.__cause__ = lost.__cause__
            else:
                if opened.status < 400:
                    return opened
                answered = await self._read_error(opened)
                error, judged = delivery.setback(self._call, answered, patience)
            await delivery.pause(options.retry, patience, error, judged)

    def _request(self, url: str) -> Request:
        headers = tuple((k, v) for k, v in self._delivery.headers if k != "accept")
        if urlsplit(url)[:2] != urlsplit(self._delivery.base_url)[:2]:
            headers = tuple((k, v) for k, v in headers if k not in ("authorization", "host"))
            headers = (("host", urlsplit(url).netloc), *headers)
        return Request("GET", url, (*headers, ("accept", "*/*")))

    async def _read_error(self, opened: Opened) -> Answered:
        body = b""
        try:
            async with aclosing(opened.pieces(self._options.timeout.download)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > ERROR_BYTES:
                        break
        except Unanswered:
            pass  # the status is known; what there is of the body will do
        await self._release()
        return self._delivery.without_key(Answered(opened.status, opened.headers, body))

    async def _begin(self, opened: Opened) -> MediaStream:
        """Look whether a JSON body is an error in disguise; anything else is the file."""
        pieces = opened.pieces(self._options.timeout.download)
        if "json" not in opened.headers.get("content-type", "").lower():
            return MediaStream(opened, b"", pieces)
        head = b""
        try:
            async for piece in pieces:
                head += piece
                if len(head) > ERROR_BYTES:
                    return MediaStream(opened, head, pieces)
        except Unanswered as lost:
            raise connection_error(lost, None) from lost.__cause__
        if _is_error(head):
            answered = Answered(opened.status, opened.headers, head)
            read_answer(self._call, self._delivery.without_key(answered))
        return MediaStream(opened, head, None)


def _is_error(body: bytes) -> bool:
    try:
        data = decode(body)
    except UnreadableJSON:
        return False
    fields = as_object(data)
    return data is fields and list(fields) == ["error"] and says_error(fields)


def follow(url: str, location: str, call: Call, answered: Answered) -> str:
    """Return where a redirect leads: https only, plain http to loopback hosts alone (ruling 14).

    Raises:
        RequestRefused: if it leads nowhere, or elsewhere.
    """
    refused = error_from(call, answered)
    try:
        target = urlsplit(urljoin(url, location))
        host = target.hostname or ""
        allowed = target.scheme == "https" or (target.scheme == "http" and is_loopback(host))
    except ValueError:
        raise refused from None
    if not location or not host or not allowed or target.username or answered.status in (300, 304):
        raise refused
    return target._replace(fragment="").geturl()


async def read(download: Download, max_bytes: int) -> Media:
    """Return a whole download.

    Raises:
        UnexpectedResponse: if it is over `max_bytes`.
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


async def save(download: Download, media_id: str, path: Path) -> Path:
    """Stream a download into a file: written beside its place, then renamed, so it is whole or not there.

    Raises:
        OSError: if it can't be written; nothing is left behind.
    """
    async with download as stream:
        folder = path if await _threads.run(path.is_dir) else None
        part = _Part((folder or path.parent) / f".{secrets.token_hex(8)}.part")
        try:
            await _threads.run(part.open)
            async with aclosing(stream.aiter_bytes()) as pieces:
                async for piece in pieces:
                    await _threads.run(part.write, piece)
            if folder is None:
                return await _threads.run(part.become, path)
            return await _threads.run(part.settle_in, folder, stream.filename or _name_of(media_id))
        finally:
            with anyio.CancelScope(shield=True):  # a cancelled download leaves nothing behind either
                await _threads.run(part.remove)


def _name_of(media_id: str) -> str:
    try:
        return _settled_name(media_id)
    except InvalidMessage:
        return "media"


class _Part:
    """A file that isn't whole yet, beside its place; for worker threads.

    Attributes:
        place: where it is until then.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file: FileIO | None = None

    def open(self) -> None:
        """Make the file; a cancellation after that finds it here."""
        self._file = FileIO(self.place, "xb")

    def write(self, piece: bytes) -> None:
        """Write all of a piece: an unbuffered file may take less at a time."""
        assert self._file is not None
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]

    def become(self, path: Path) -> Path:
        """Take the place of the file at `path`, at once and whole."""
        self._close()
        os.replace(self.place, path)  # noqa: PTH105  # said beside os.link
        return path

    def settle_in(self, folder: Path, name: str) -> Path:
        """Take the server's name, or that name with a number: no file is ever overwritten."""
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
            # A file system without hard links (FAT, some network shares): take the name, then its place.
            target.open("xb").close()
            os.replace(self.place, target)  # noqa: PTH105  # said beside os.link
        return target

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Leave nothing behind."""
        self._close()
        self.place.unlink(missing_ok=True)
