r"""The corpus of malformed answers: files that hold an HTTP answer and what it must come to.

A file's first lines, up to the first blank one, say what is expected; then comes the answer. In the answer
`\n` ends a header line, and the body stands behind the next blank line. Lines of the first part:

    call: text | bulk | media | read | page | request      (what is called; text unless said)
    outcome: accepted | not_sent | unknown | none
    raises: the class of the error; or
    reply: what the reply's repr holds
    says: a piece of the error's message
    encode: gzip | deflate | base64 | a charset, done to the body before it is sent
    repeat: how often the body stands there
"""

import base64
import gzip
import zlib
from pathlib import Path
from typing import Any

import httpx
from attrs import field, frozen

FOLDER = Path(__file__).parents[1] / "samples" / "malformed"


@frozen
class MalformedAnswer:
    """One file.

    Attributes:
        expected: the lines of its first part.
        status: of the answer.
        headers: of the answer.
        body: of the answer, encoded.
    """

    name: str
    expected: dict[str, str]
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = field(repr=False)

    def response(self) -> httpx.Response:
        """Return the answer, with its body still to be read, as from the wire."""
        return httpx.Response(self.status, headers=self.headers, stream=_InPieces(self.body))


class _InPieces(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> Any:
        for start in range(0, len(self._body), 65536):
            yield self._body[start : start + 65536]


def load(path: Path) -> MalformedAnswer:
    """Read a file of the corpus."""
    says, _, answer = path.read_bytes().partition(b"\n\n")
    head, _, body = answer.partition(b"\n\n")
    expected = dict(line.split(": ", 1) for line in says.decode().splitlines())
    status, *lines = head.split(b"\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    body = body.removesuffix(b"\n") * int(expected.get("repeat", "1"))
    return MalformedAnswer(
        path.stem, expected, int(status), headers, _encode(body, expected.get("encode", ""))
    )


def _encode(body: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(body, 9)
    if how == "deflate":
        return zlib.compress(body, 9)
    if how == "half a gzip":
        return gzip.compress(body, 9)[:-12]
    if how == "base64":
        return base64.b64decode(body)
    return body.decode().encode(how) if how else body
