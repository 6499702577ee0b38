"""Files coming down: streamed, bounded, and never written where the server likes.

Implements "Get WhatsApp Media"; rulings 14 and 27.
"""

import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from email.message import Message
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import anyio

from . import _threads
from ._attempts import Options, Patience, connection_error
from ._calls import Answered, Call
from ._delivery import Delivery
from ._errors import ClientStateError, Desk360Error, InvalidMessage, UnexpectedResponse
from ._http import Opened, Request
from ._json import UnreadableJSON, as_object, decode
from ._outcomes import Unanswered, verdict
from ._places import Part, name_of, place_for, settled_name, spelled
from ._replies import Media
from ._settings import is_loopback
from ._wire import error_from, says_error
from ._wire import read as read_reply

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
        self._over = ""  # why nothing more can be read
        headers = opened.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.content_type: str | None = kind or None
        self.filename: str | None = filename_of(headers.get("content-disposition", ""))
        length = headers.get("content-length", "")
        plain = "content-encoding" not in headers
        self.size: int | None = int(length) if plain and re.fullmatch(r"[0-9]{1,15}", length) else None

    def aiter_bytes(self) -> "_Reading":
        """Yield the file's bytes; what is compressed in pieces of at most 64 KiB.

        A file comes once: where a loop is left early, the next one goes on.

        Raises:
            ConnectionFailed: if the body breaks off, or `timeout.download` seconds pass without a byte.
            ClientStateError: if it was read to its end before, broke off, or its block was left.
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
        except BaseException as error:  # a cancellation too: it ends what it strikes
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
    """One loop over a stream. No generator: one that is left early would wait for the garbage collector."""

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
    """Return the base name in a Content-Disposition, made safe; None if there is none."""
    if not disposition:
        return None
    header = Message()
    header["Content-Disposition"] = re.sub(r"[\x00-\x1f\x7f]", "_", disposition)
    try:
        name = header.get_filename()
        # Percent signs first: %2e%2e%2f is how a path hides.
        return settled_name(unquote(name)) if name else None
    except (InvalidMessage, LookupError, ValueError, TypeError):
        return None


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
        self._stream: MediaStream | None = None

    async def __aenter__(self) -> MediaStream:
        self._delivery.check()
        self._delivery.quota.earn()
        try:
            self._stream = await self._follow_to_the_file()
            return self._stream
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
        assert self._stream is not None  # what fails on entering is never exited
        try:
            await self._stream._aclose()
        finally:
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
        timeout = self._options.timeout
        # The gap between two chunks is a file's measure; an error that drips would take half a day by it.
        with anyio.move_on_after(timeout.total), suppress(Unanswered):
            async with aclosing(opened.pieces(timeout.download)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > ERROR_BYTES:
                        break
        # The status is known; what there is of the body will do.
        await self._release()
        return self._delivery.without_key(Answered(opened.status, opened.headers, body))

    async def _begin(self, opened: Opened) -> MediaStream:
        """Look whether a JSON body is an error in disguise; anything else is the file."""
        pieces = opened.pieces(self._options.timeout.download)
        if "json" not in opened.headers.get("content-type", "").lower():
            return MediaStream(opened, b"", pieces)
        head, is_whole = await _head_of(pieces)
        if not is_whole:
            return MediaStream(opened, head, pieces)
        if _is_error(head):
            answered = self._delivery.without_key(Answered(opened.status, opened.headers, head))
            head = b""  # or a traceback that shows local variables would show it
            read_reply(self._call, answered)  # it raises
        return MediaStream(opened, head, None)


async def _head_of(pieces: AsyncGenerator[bytes]) -> tuple[bytes, bool]:
    """Return what could be an error by its size, and whether that is all."""
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


async def save(download: Download, media_id: str, path: str | os.PathLike[str]) -> Path:
    """Stream a download into a file: written beside its place, then renamed, so it is whole or not there.

    Raises:
        InvalidMessage: if the folder isn't there; found before anything is asked for.
        OSError: if it can't be written; nothing is left behind.
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
            with anyio.CancelScope(shield=True):  # a cancelled download leaves nothing behind either
                await _threads.run(part.remove)
