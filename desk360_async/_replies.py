"""Replies, as values. `_codec` reads them from JSON.

Only ids are required; any other field that is missing, null or unreadable is None (ruling 22). Every reply
has `.raw`, the JSON as it came. It holds also the fields that the vendor adds later. Reprs mask phone numbers
and message ids, since an id decodes to the phone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from attrs import field, frozen

from ._errors import Desk360Error, Outcome, mask_phone
from ._messages import Message
from ._redaction import masked_repr, show_half_made

T = TypeVar("T")
if TYPE_CHECKING:
    import typing_extensions

    # The default keeps a bare `SendResult` a valid annotation. Python's own TypeVar has defaults since 3.13.
    Item = typing_extensions.TypeVar("Item", default=Any)
else:
    Item = TypeVar("Item")


def tail(value: object) -> str:
    """Show the last characters of a phone or an id in a repr."""
    return "None" if value is None else repr(mask_phone(str(value)))


def raw_field() -> Any:
    """Declare the field `raw`."""
    return field(factory=dict[str, Any], repr=False, eq=False, kw_only=True)


def ours(default: Any) -> Any:
    """Declare a field that the client fills; the server's answers don't contain it."""
    return field(default=default, metadata={"ours": True})


def _counted(value: Sequence[object]) -> str:
    return f"<{len(value)}>"


@frozen(repr=False)
class Sent:
    """Desk360 took the message; a webhook reports later whether WhatsApp delivered it.

    It is the answer under "Send WhatsApp Message", and under all other sends of one message.

    Attributes:
        message_id: opaque; webhooks about this message carry it.
        replayed: whether it is the stored reply of an earlier send under the same idempotency key.
    """

    message_id: str = field(repr=tail)
    replayed: bool = ours(default=False)
    raw: Mapping[str, Any] = raw_field()


@frozen(repr=False)
class BulkSent:
    """Desk360 took a batch ("Bulk Send WhatsApp Message Template"); the vendor gives no message ids here.

    Attributes:
        phones: the numbers that the server listed as taken, as it wrote them.
        unlisted: the numbers that we asked for and the server did not list.
        opted_out: the numbers that the client left out, since these customers opted out.
        replayed: whether it is the stored reply of an earlier send under the same idempotency key.
    """

    phones: tuple[str, ...] = field(repr=_counted)
    unlisted: tuple[str, ...] = field(default=(), repr=_counted, metadata={"ours": True})
    opted_out: tuple[str, ...] = field(default=(), repr=_counted, metadata={"ours": True})
    replayed: bool = ours(default=False)
    raw: Mapping[str, Any] = raw_field()


@frozen(repr=False)
class SentFile:
    """One file of a media message ("Send WhatsApp Media Message").

    Attributes:
        media_id: opaque; `client.open_media` takes it.
        message_id: opaque; webhooks about this file carry it.
        kind: the file's group in the server's answer, such as "images".
        url: the file's address at the vendor.
        name: the file's name.
        type: the vendor's type, such as "image".
        content_type: its media type.
        aws: whether the vendor keeps it on AWS.
    """

    media_id: str | None = None
    message_id: str | None = field(default=None, repr=tail)
    kind: str | None = None
    url: str | None = field(default=None, repr=False)
    name: str | None = None
    type: str | None = None
    content_type: str | None = None
    aws: bool | None = None
    raw: Mapping[str, Any] = raw_field()


@frozen(repr=False)
class SentMedia:
    """Desk360 took a media message ("Send WhatsApp Media Message").

    Attributes:
        files: one per attachment that the server listed.
        missing: the number of attachments that the server did not list.
        replayed: whether it is the stored reply of an earlier send under the same idempotency key.
    """

    files: tuple[SentFile, ...]
    missing: int = ours(default=0)
    replayed: bool = ours(default=False)
    raw: Mapping[str, Any] = raw_field()


@frozen(repr=False)
class Page(Sequence[T], Generic[T]):
    """One page of a list: a sequence of at most 20. Implements "Pagination".

    Attributes:
        items: the page's values.
        number: the page's number, from 1.
        has_next: whether the server names a later page.
        following: the number of the next page that the server names; None if it names none.
    """

    items: tuple[T, ...]
    number: int
    has_next: bool
    following: int | None = field(default=None, repr=False, eq=False, kw_only=True)
    raw: Any = field(factory=list[Any], repr=False, eq=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self.items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)


@frozen(repr=False)
class Answer:
    """The result of `client.request`.

    Attributes:
        status: the HTTP status, 200 to 299.
        headers: names in lower case.
        data: the decoded JSON; None for an empty body.
    """

    status: int
    headers: Mapping[str, str] = field(repr=masked_repr)
    data: Any = field(repr=masked_repr)


@frozen(repr=False)
class Media:
    """A downloaded file ("Get WhatsApp Media").

    Attributes:
        content: its bytes.
        content_type: its media type, or None.
        filename: the base name of the server's file name, or None.
    """

    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    content_type: str | None = None
    filename: str | None = None


Reply = Sent | BulkSent | SentMedia


@frozen(repr=False)
class SendResult(Generic[Item]):
    """The result of one send; generic in the type of its item.

    Attributes:
        index: its place in the input, from 0.
        item: the input's item at that place.
        message: the message, or None where `build` raised.
        outcome: whether the message went out.
        reply: Desk360's reply; None if there is an error.
        error: the reason why there is no reply; None if there is a reply.
    """

    index: int
    item: Item = field(repr=False)
    message: Message | None
    outcome: Outcome
    reply: Reply | None = None
    error: Desk360Error | None = None

    def unwrap(self) -> Reply:
        """Return the reply.

        Raises:
            Desk360Error: the error, if there is no reply.
        """
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        return self.reply


show_half_made(globals())
