"""The pipeline's input and output: a call and an answer, as values."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import field, frozen

from ._redaction import masked_repr

if TYPE_CHECKING:
    from ._uploads import Form


class Answered(NamedTuple):
    """An answer as it came off the wire.

    Attributes:
        status: the HTTP status.
        headers: names in lower case.
        body: decompressed, at most 8 MiB.
        damage: the problem with the body, if it can't be read after the status; else empty.
        cut: whether the network caused the damage, so that another attempt may read the whole body.
        sent_as: the status on the wire, if `status` is 429 only by the body's meaning (ruling 25).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    damage: str = ""
    cut: bool = False
    sent_as: int | None = None

    def __repr__(self) -> str:
        # The body holds phones and message ids, and a traceback with local variables prints the repr.
        return f"<Answered {self.status}, {len(self.body)} bytes>"


@frozen
class Call:
    """One request, which can be sent several times, and the function that reads its answer.

    Attributes:
        method: GET or POST, or the method that the user gave.
        path: the path below the base URL, with its query.
        read: a function (call, answered) → reply, for a 2xx.
        content: the JSON body.
        form: the multipart body, if the request uploads files.
        idempotent: whether a repeated request does no harm.
        has_outcome: whether its errors have an outcome; errors of reads have none.
        files: the number of files to upload.
        phones: the phones in the request, which are masked in the server's error texts.
        asked: the list in the request; the answer's list is compared with it.
        name: the client's method, for observers.
        template: the path's template, for observers; empty for the user's own path.
    """

    method: str
    path: str = field(repr=masked_repr)
    read: Callable[["Call", Answered], Any]
    content: bytes | None = field(default=None, repr=False)
    form: "Form | None" = field(default=None, repr=False)
    idempotent: bool = False
    has_outcome: bool = True
    files: int = 0
    phones: Collection[str] = field(default=(), repr=False)
    asked: tuple[str, ...] = field(default=(), repr=False)
    name: str = "request"
    template: str = ""
