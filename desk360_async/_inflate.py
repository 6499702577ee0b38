"""Decompression in bounded pieces: a bomb of 56 kB must not become 57 MB in memory at once (ruling 32a)."""

import zlib
from collections.abc import Iterator

PIECE = 64 * 1024  # bytes that one step may yield

ENCODINGS = "gzip, deflate"  # other encodings aren't offered: they can't be decoded in bounded pieces


class Undecodable(ValueError):
    """The compressed data is broken, or in an encoding that the client didn't offer."""


class Inflater:
    """Decodes a body's content encoding piece by piece.

    Args:
        encoding: the value of Content-Encoding, in any case; empty for none.

    Raises:
        Undecodable: for an encoding that wasn't offered.
    """

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Undecodable("the body is in a content encoding that wasn't asked for")
        self._plain = name in ("", "identity")
        self._deflate = name == "deflate"
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._started = False
        self._head = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield a chunk's decoded bytes, at most 64 KiB at a time.

        Raises:
            Undecodable: if the data is broken.
        """
        if self._plain:
            if chunk:
                yield chunk
            return
        if self._deflate and not self._started:
            # The first two bytes distinguish zlib's format from raw deflate.
            chunk, self._head = self._head + chunk, b""
            if len(chunk) < 2:
                self._head = chunk
                return
        while chunk := self._next_member(chunk):
            piece = self._decompress(chunk)
            if piece:
                yield piece
            # After a member's end zlib collects all further bytes in `unused_data`. They are taken out in
            # each turn, so that they don't pile up there.
            chunk = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def _next_member(self, chunk: bytes) -> bytes:
        """Return the bytes to decode; at a member's end, skip zeros and begin the next member.

        A gzip file may hold several members, and zeros after the last one.
        """
        if self._stream.eof:
            chunk = chunk.lstrip(b"\0")
            if chunk:
                self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        return chunk

    def _decompress(self, chunk: bytes) -> bytes:
        started, self._started = self._started, True
        try:
            return self._stream.decompress(chunk, PIECE)
        except zlib.error:
            if started or not self._deflate:
                raise Undecodable("the compressed body is broken") from None
        try:
            # "deflate" should be zlib's format, but old servers send raw deflate.
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._stream.decompress(chunk, PIECE)
        except zlib.error:
            raise Undecodable("the compressed body is broken") from None

    def finish(self) -> Iterator[bytes]:
        """Yield the remaining decoded bytes at the end of the body.

        Raises:
            Undecodable: if the compressed data stops too early.
        """
        if self._head:
            raise Undecodable("the compressed body stops too early")
        if self._plain or not self._started:
            return
        while not self._stream.eof:
            piece = self._decompress(self._stream.unconsumed_tail)
            if not piece:
                raise Undecodable("the compressed body stops too early")
            yield piece
