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
        damage: the body's defect after the status was seen; empty without one.
        cut: whether that was the network's doing, so that another attempt may read it whole.
        sent_as: the status on the wire if `status` is 429 only by the body's meaning (ruling 25).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    damage: str = ""
    cut: bool = False
    sent_as: int | None = None

    def __repr__(self) -> str:
        # Tracebacks that show local variables print reprs; phones and message ids are in the body.
        return f"<Answered {self.status}, {len(self.body)} bytes>"


@frozen
class Call:
    """One request, ready to go out as often as needed, and the way to read its answer.

    Attributes:
        method: GET or POST, or the user's own.
        path: below the base URL, with its query.
        read: (call, answered) → reply, for a 2xx.
        content: the JSON body.
        form: the multipart body, where files go up.
        idempotent: whether repeating it does no harm.
        has_outcome: whether its errors have an outcome; reads have none.
        files: the number of files that go up.
        phones: the phones in it, to be masked in the server's words.
        asked: the request's list, to compare the answer with.
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
