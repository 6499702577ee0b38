"""Replies: what comes back, as values. How they are read from JSON is `_codec`'s business, not theirs.

Only ids are required; whatever else is missing, null or unreadable is None (ruling 22). Every reply has
`.raw`, the JSON as it came, so that a field which the vendor adds tomorrow is reachable today. Reprs mask
phone numbers and message ids, since an id decodes to the phone.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from attrs import field, frozen

from ._attachments import Attachment
from ._errors import Desk360Error, InvalidMessage, Outcome, mask_phone
from ._messages import Message

T = TypeVar("T")


def _tail(value: object) -> str:
    return "None" if value is None else repr(mask_phone(str(value)))


def _raw() -> Any:
    return field(factory=dict, repr=False, eq=False, kw_only=True)


def _counted(value: Sequence[object]) -> str:
    return f"<{len(value)}>"


@frozen
class Sent:
    """Desk360 took the message; whether WhatsApp delivered it comes by webhook.

    Attributes:
        message_id: opaque; webhooks about this message carry it.
    """

    message_id: str = field(repr=_tail)
    raw: Mapping[str, Any] = _raw()


@frozen
class BulkSent:
    """Desk360 took a batch. The vendor gives no message ids here.

    Attributes:
        phones: the numbers that the server listed as taken, as it wrote them.
        unlisted: the numbers that we asked for and the server did not list.
    """

    phones: tuple[str, ...] = field(repr=_counted)
    unlisted: tuple[str, ...] = field(default=(), repr=_counted)
    raw: Mapping[str, Any] = _raw()


@frozen
class SentFile:
    """One file of a media message.

    Attributes:
        media_id: opaque; `client.open_media` takes it.
        message_id: opaque; webhooks about this file carry it.
        kind: the group that the server put it in, such as "images".
        url: where the vendor keeps it.
        name: the file's name.
        type: the vendor's type, such as "image".
        content_type: its media type.
    """

    media_id: str | None = None
    message_id: str | None = field(default=None, repr=_tail)
    kind: str | None = None
    url: str | None = field(default=None, repr=False)
    name: str | None = None
    type: str | None = None
    content_type: str | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class SentMedia:
    """Desk360 took a media message.

    Attributes:
        files: one per attachment that the server listed.
    """

    files: tuple[SentFile, ...]
    raw: Mapping[str, Any] = _raw()


@frozen
class Integration:
    """A WhatsApp number of yours. Implements "Integrations".

    The document shows two shapes; both are accepted. Live ones also carry `status` (seen, not documented).
    """

    id: int
    display_name: str | None = None
    phone_number: str | None = field(default=None, repr=_tail)
    name: str | None = None
    logo: str | None = field(default=None, repr=False)
    status: int | str | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class Choice:
    """A value with its label, as the vendor writes categories and header types."""

    value: int | str | None = None
    label: str | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class SupportedLanguage:
    """A language that a template may have; `filled` says whether it has a translation."""

    label: str | None = None
    value: int | None = None
    filled: bool | None = None
    raw: Mapping[str, Any] = _raw()


@frozen
class TemplateVariable:
    """A variable's place in a text, with an example of what may stand there."""

    id: str | None = None
    key: str | None = None
    value: str | None = None
    raw: Mapping[str, Any] = _raw()


ACTIVE = 2  # the document's `status_value` of "template-messages.active"; 1 is "in-review"
TEXT_HEADER = 4  # the document's `header_type.value` of "TEXT"


@frozen
class Translation:
    """A template in one language. Implements "WhatsApp Message Templates".

    Attributes:
        variables: the keys that a send must fill, such as "header-1" and "body-1".
        status_value: 2 is active (documented), 1 is in review; others are open.
    """

    language_id: int | None = None
    language: str | None = None
    header_type: Choice | None = None
    header_variables: tuple[TemplateVariable, ...] = ()
    header: str | None = None
    header_file: Any = None
    body: str | None = None
    body_variables: tuple[TemplateVariable, ...] = ()
    footer: str | None = None
    variables: tuple[str, ...] = ()
    buttons: tuple[Mapping[str, Any], ...] = ()
    editable: bool | None = None
    status: str | None = None
    status_value: int | None = None
    quality: str | None = None
    updated_at: datetime | None = None
    raw: Mapping[str, Any] = _raw()

    @property
    def active(self) -> bool:
        """Whether it can be sent; what carries no `status_value` is given the benefit of the doubt."""
        return self.status_value is None or self.status_value == ACTIVE

    @property
    def needs_attachment(self) -> bool:
        """Whether the header is a file: there is a header type, and it isn't text."""
        if self.header_type is None or (self.header_type.label is None and self.header_type.value is None):
            return False
        return self.header_type.value != TEXT_HEADER and (self.header_type.label or "").upper() != "TEXT"

    def check(
        self, parameters: Mapping[str, str] | None = None, attachment: Attachment | None = None
    ) -> None:
        """Check that a send would fill this translation.

        Args:
            parameters: variable → text.
            attachment: the file for a media header.

        Raises:
            InvalidMessage: if a variable is missing or unknown, or a file is missing or surplus; the
                message lists what there is.
        """
        given, wanted = set(parameters or ()), set(self.variables)
        expected = ", ".join(self.variables) or "none"
        if missing := [key for key in self.variables if key not in given]:
            raise InvalidMessage("parameters", f"lacks {', '.join(missing)}; {self._label} takes: {expected}")
        if surplus := sorted(given - wanted):
            raise InvalidMessage(
                "parameters", f"has unknown {', '.join(surplus)}; {self._label} takes: {expected}"
            )
        if self.needs_attachment and attachment is None:
            kind = self.header_type.label if self.header_type else None
            raise InvalidMessage("attachment", f"is missing; the header of {self._label} is a file ({kind})")
        if attachment is not None and not self.needs_attachment:
            raise InvalidMessage("attachment", f"is not taken; the header of {self._label} is no file")

    def render(self, parameters: Mapping[str, str] | None = None) -> str:
        """Return the text as the customer will read it: header, body and footer, a blank line between.

        A variable that `parameters` doesn't fill stays as it is, `{{1}}`.
        """
        filled = dict(parameters or {})
        header = None if self.needs_attachment else _fill(self.header, "header", filled)
        lines = (header, _fill(self.body, "body", filled), self.footer)
        return "\n\n".join(line for line in lines if line)

    @property
    def _label(self) -> str:
        return self.language or f"language {self.language_id}"


def _fill(text: str | None, part: str, parameters: Mapping[str, str]) -> str | None:
    # Split, so that a text which itself contains "{{2}}" isn't filled in turn.
    if text is None:
        return None
    head, *rest = text.split("{{")
    for piece in rest:
        number, closing, tail = piece.partition("}}")
        known = parameters.get(f"{part}-{number.strip()}") if closing else None
        head += "{{" + piece if known is None else known + tail
    return head


def fold(name: str) -> str:
    """Return a name as names are compared: Unicode-normalised, blanks around it dropped, case kept."""
    return unicodedata.normalize("NFC", name).strip()


@frozen
class Template:
    """A message template with its translations. Implements "WhatsApp Message Templates"."""

    id: int
    name: str | None = None
    category_editable: bool | None = None
    sendable: bool | None = None
    category: Choice | None = None
    category_label: str | None = None
    supported_languages: tuple[SupportedLanguage, ...] = ()
    translations: tuple[Translation, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    raw: Mapping[str, Any] = _raw()

    def translation(self, language: int | str) -> Translation:
        """Return the translation in a language.

        Args:
            language: its id (int) or label (str); Unicode-normalised, exact first, then case-folded.

        Raises:
            InvalidMessage: if there is none, or more than one; the message lists what there is.
        """
        if isinstance(language, int):
            found = [t for t in self.translations if t.language_id == language]
        else:
            found = matching(self.translations, language, lambda t: t.language)
        if len(found) == 1:
            return found[0]
        there_is = ", ".join(f"{t.language} ({t.language_id})" for t in self.translations) or "none"
        problem = "is ambiguous" if found else "is unknown"
        raise InvalidMessage(
            "language", f"{language!r} {problem}; template {self.name or self.id} has: {there_is}"
        )


def matching(items: Sequence[T], name: str, name_of: Any) -> list[T]:
    """Return the items of that name: those that match exactly, else those that match case-folded."""
    wanted = fold(name)
    named = [(fold(name_of(item)), item) for item in items if isinstance(name_of(item), str)]
    exact = [item for text, item in named if text == wanted]
    return exact or [item for text, item in named if text.casefold() == wanted.casefold()]


@frozen
class Page(Sequence[T], Generic[T]):
    """One page of a list: a sequence of at most 20. Implements "Pagination".

    Attributes:
        items: what it holds.
        number: the page's number, from 1.
        has_next: whether the server names a later page.
        following: the page that the server calls next, if it names one at all.
    """

    items: tuple[T, ...]
    number: int
    has_next: bool
    following: int | None = field(default=None, repr=False, eq=False, kw_only=True)
    raw: Any = field(factory=list, repr=False, eq=False, kw_only=True)

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


@frozen
class Answer:
    """What `client.request` returns.

    Attributes:
        status: the HTTP status, 200 to 299.
        headers: names in lower case.
        data: the decoded JSON; None for an empty body.
    """

    status: int
    headers: Mapping[str, str]
    data: Any


@frozen
class Media:
    """A downloaded file.

    Attributes:
        content: its bytes.
        content_type: its media type, or None.
        filename: the base name of the name that the server gave, or None.
    """

    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    content_type: str | None = None
    filename: str | None = None


Reply = Sent | BulkSent | SentMedia


@frozen
class SendResult:
    """How one send ended.

    Attributes:
        index: its place in the input, from 0.
        item: what the input held there.
        message: the message, or None where `build` refused the item.
        outcome: whether it went out.
        reply: what Desk360 answered, if it took the message and the answer could be read.
        error: why there is no reply.
    """

    index: int
    item: Any = field(repr=False)
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
