"""Messages: what can be sent, as values. Each checks the vendor's limits when it is made; none does I/O.

They are frozen, comparable and can be pickled, so that a list, a ledger or a log can hold them. Their reprs
mask phone numbers. What is None stays off the wire; 0 and "" do not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import Attribute, evolve, field, frozen

from . import _checks as check

# At run time too: pydantic, cattrs and `typing.get_type_hints` look annotations up in this module. Lazy
# imports here saved some 5 % of the client's import, and broke all three.
from ._attachments import Attachment
from ._errors import InvalidMessage
from ._parts import Button, Contact, DocumentHeader, Header, ImageHeader, Location, TextHeader, VideoHeader


@frozen
class TextMessage:
    """Text of 1 to 4,096 characters, to a customer who wrote before. Implements "Send WhatsApp Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    text: str = field(validator=check.text(1, 4096))


@frozen
class TemplateMessage:
    """A template to one phone. Implements "Send WhatsApp Message Template".

    Attributes:
        to: the phone, E.164 with `+`.
        template: its id (int), or its name (str), which is looked up in the cached list.
        language: the id (int) or label (str) of one of its translations.
        parameters: variable → text, the keys as in `translation.variables`, such as "body-1".
        attachment: the file for a media header.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    template: int | str = field(validator=check.id_or_name)
    language: int | str = field(validator=check.id_or_name, kw_only=True)
    parameters: Mapping[str, str] | None = field(
        default=None, converter=check.to_parameters, kw_only=True, hash=False
    )
    attachment: Attachment | None = field(default=None, converter=check.to_attachment, kw_only=True)


@frozen
class TemplateBatch:
    """A template with the same parameters to many phones. Implements "Bulk Send WhatsApp Message Template".

    Attributes:
        phones: at least one, E.164 with `+`; duplicates are sent once, the order is kept.
        template: its id (int), or its name (str), which is looked up in the cached list.
        language: the id (int) or label (str) of one of its translations.
        parameters: variable → text, shared by all.
        attachment: the file for a media header.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    phones: tuple[str, ...] = field(
        converter=check.to_phones, validator=check.at_least_one, repr=check.counted
    )
    template: int | str = field(validator=check.id_or_name)
    language: int | str = field(validator=check.id_or_name, kw_only=True)
    parameters: Mapping[str, str] | None = field(
        default=None, converter=check.to_parameters, kw_only=True, hash=False
    )
    attachment: Attachment | None = field(default=None, converter=check.to_attachment, kw_only=True)


@frozen
class LocationMessage:
    """A place on the map. Implements "Send WhatsApp Location Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    location: Location = field(validator=check.instance_of(Location))


def _contacts(value: Iterable[Contact]) -> tuple[Contact, ...]:
    return check.several(Contact, value, "contacts")


@frozen
class ContactsMessage:
    """One or more contact cards. Implements "Send WhatsApp Contact Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    contacts: tuple[Contact, ...] = field(converter=_contacts, validator=check.at_least_one)


def _five_files(_: object, attribute: "Attribute[Any]", value: Sequence[object]) -> None:
    check.at_least_one(_, attribute, value)
    if len(value) > 5:
        raise InvalidMessage(
            attribute.name, f"holds {len(value)} files, the limit is 5; send the others separately"
        )


@frozen
class MediaMessage:
    """1 to 5 files of at most 20 MB each. Implements "Send WhatsApp Media Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    attachments: tuple[Attachment, ...] = field(converter=check.to_attachments, validator=_five_files)


def _buttons(value: Iterable[Button]) -> tuple[Button, ...]:
    return check.several(Button, value, "buttons")


def _ten_buttons(_: object, attribute: "Attribute[Any]", buttons: Sequence[Button]) -> None:
    check.at_least_one(_, attribute, buttons)
    if len(buttons) > 10:
        raise InvalidMessage("buttons", f"holds {len(buttons)} buttons, the limit is 10; leave some out")
    for name in ("id", "title"):
        seen: set[str] = set()
        for index, button in enumerate(buttons):
            value = getattr(button, name)
            if value in seen:
                problem = f"{value!r} stands on an earlier button too; each must be unique"
                raise InvalidMessage(f"buttons[{index}].{name}", problem)
            seen.add(value)


def _header(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and not isinstance(value, TextHeader | ImageHeader | VideoHeader | DocumentHeader):
        raise InvalidMessage("header", "must be a TextHeader, ImageHeader, VideoHeader or DocumentHeader")


@frozen
class InteractiveMessage:
    """A text with buttons. Implements "Send WhatsApp Interactive Message".

    Attributes:
        to: the phone, E.164 with `+`.
        body: 1 to 1,024 characters.
        buttons: 1 to 10, their ids and titles unique.
        header: text, or an image, a video or a document by its link.
        footer: 1 to 60 characters.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    body: str = field(validator=check.text(1, 1024))
    buttons: tuple[Button, ...] = field(converter=_buttons, validator=_ten_buttons)
    header: Header | None = field(default=None, validator=_header, kw_only=True)
    footer: str | None = field(default=None, validator=check.text(1, 60, optional=True), kw_only=True)


@frozen
class LocationRequestMessage:
    """Asks for the customer's location; the body has 1 to 1,024 characters.

    Implements "Send WhatsApp Location Request Interactive Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone, repr=check.masked)
    body: str = field(validator=check.text(1, 1024))


Message = (
    TextMessage
    | TemplateMessage
    | TemplateBatch
    | LocationMessage
    | ContactsMessage
    | MediaMessage
    | InteractiveMessage
    | LocationRequestMessage
)
"""Whatever `client.send` takes."""


def phones_of(message: Message) -> tuple[str, ...]:
    """Return the phones that a message goes to."""
    return message.phones if isinstance(message, TemplateBatch) else (message.to,)


def attachments_of(message: Message) -> tuple[Attachment, ...]:
    """Return the files that a message carries."""
    if isinstance(message, MediaMessage):
        return message.attachments
    if isinstance(message, TemplateMessage | TemplateBatch) and message.attachment is not None:
        return (message.attachment,)
    return ()


def with_ids(
    message: TemplateMessage | TemplateBatch, template: int, language: int
) -> TemplateMessage | TemplateBatch:
    """Return the message with names replaced by ids."""
    return evolve(message, template=template, language=language)
