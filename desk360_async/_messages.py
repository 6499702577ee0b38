"""Messages: what can be sent, as values. Each checks the vendor's limits when it is made; none does I/O.

They are frozen, comparable and can be pickled, so that a list, a ledger or a log can hold them. Their reprs
mask phone numbers. What is None stays off the wire; 0 and "" do not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import Attribute, evolve, field, frozen

from . import _validators as check

# At run time too: pydantic, cattrs and `typing.get_type_hints` look annotations up in this module. Lazy
# imports here saved some 5 % of the client's import, and broke all three.
from ._attachments import Attachment
from ._errors import InvalidMessage

# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Location:
    """A place on the map. Implements "Send WhatsApp Location Message".

    Attributes:
        longitude: degrees, -180 to 180.
        latitude: degrees, -90 to 90.
        name: what the place is called; empty text goes out too, and the server very probably refuses it.
        address: where it is, in words; as for the name.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    longitude: float = field(validator=check.number(-180, 180))
    latitude: float = field(validator=check.number(-90, 90))
    name: str = field(validator=check.text(0))
    address: str = field(validator=check.text(0))


@frozen
class ContactName:
    """The name on a contact card ("Send WhatsApp Contact Message"); the vendor requires the first three.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    formatted_name: str = field(validator=check.text(1))
    first_name: str = field(validator=check.text(1))
    last_name: str = field(validator=check.text(1))
    middle_name: str | None = field(default=None, validator=check.text(0, optional=True))
    suffix: str | None = field(default=None, validator=check.text(0, optional=True))
    prefix: str | None = field(default=None, validator=check.text(0, optional=True))


@frozen
class ContactPhone:
    """A number on a contact card ("Send WhatsApp Contact Message"), sent as given, in any spelling.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    phone: str = field(validator=check.text(1), repr=check.masked)
    type: str | None = field(default=None, validator=check.text(0, optional=True))
    wa_id: str | None = field(default=None, validator=check.text(0, optional=True), repr=check.masked)


@frozen
class ContactEmail:
    """An address of electronic mail on a contact card ("Send WhatsApp Contact Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    email: str = field(validator=check.text(1))
    type: str | None = field(default=None, validator=check.text(0, optional=True))


@frozen
class ContactAddress:
    """A postal address on a contact card ("Send WhatsApp Contact Message"); every field may be left out.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    street: str | None = field(default=None, validator=check.text(0, optional=True))
    city: str | None = field(default=None, validator=check.text(0, optional=True))
    state: str | None = field(default=None, validator=check.text(0, optional=True))
    zip: str | None = field(default=None, validator=check.text(0, optional=True))
    country: str | None = field(default=None, validator=check.text(0, optional=True))
    country_code: str | None = field(default=None, validator=check.text(0, optional=True))
    type: str | None = field(default=None, validator=check.text(0, optional=True))


@frozen
class ContactOrganization:
    """Where a contact works ("Send WhatsApp Contact Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    company: str | None = field(default=None, validator=check.text(0, optional=True))
    department: str | None = field(default=None, validator=check.text(0, optional=True))
    title: str | None = field(default=None, validator=check.text(0, optional=True))


@frozen
class ContactUrl:
    """A link on a contact card ("Send WhatsApp Contact Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    url: str = field(validator=check.text(1))
    type: str | None = field(default=None, validator=check.text(0, optional=True))


def _to_phones(value: Iterable[ContactPhone]) -> tuple[ContactPhone, ...]:
    return check.several(ContactPhone, value, "phones")


def _to_emails(value: Iterable[ContactEmail]) -> tuple[ContactEmail, ...]:
    return check.several(ContactEmail, value, "emails")


def _to_addresses(value: Iterable[ContactAddress]) -> tuple[ContactAddress, ...]:
    return check.several(ContactAddress, value, "addresses")


def _to_urls(value: Iterable[ContactUrl]) -> tuple[ContactUrl, ...]:
    return check.several(ContactUrl, value, "urls")


@frozen
class Contact:
    """A contact card. Implements "Send WhatsApp Contact Message".

    Attributes:
        name: the person's name.
        phones: numbers, sent as given.
        emails: addresses of electronic mail.
        addresses: postal addresses.
        urls: links.
        org: where the person works.
        birthday: a `datetime.date` or text like "2012-08-18"; kept as that text.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    name: ContactName = field(validator=check.instance_of(ContactName))
    phones: tuple[ContactPhone, ...] = field(default=(), converter=_to_phones)
    emails: tuple[ContactEmail, ...] = field(default=(), converter=_to_emails)
    addresses: tuple[ContactAddress, ...] = field(default=(), converter=_to_addresses)
    urls: tuple[ContactUrl, ...] = field(default=(), converter=_to_urls)
    org: ContactOrganization | None = field(
        default=None, validator=check.instance_of(ContactOrganization, optional=True)
    )
    birthday: str | None = field(default=None, converter=check.iso_date)


@frozen
class Button:
    """A button to press ("Send WhatsApp Interactive Message"); its id comes back by webhook.

    Attributes:
        id: 1 to 200 characters.
        title: 1 to 20 characters.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    id: str = field(validator=check.text(1, 200))
    title: str = field(validator=check.text(1, 20))


@frozen
class TextHeader:
    """A header of 1 to 60 characters ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    text: str = field(validator=check.text(1, 60))


@frozen
class ImageHeader:
    """An image, by its link ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    link: str = field(validator=check.link)


@frozen
class VideoHeader:
    """A video, by its link ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    link: str = field(validator=check.link)


@frozen
class DocumentHeader:
    """A document, by its link, with the name that the customer sees ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    link: str = field(validator=check.link)
    filename: str | None = field(default=None, validator=check.text(1, optional=True))


Header = TextHeader | ImageHeader | VideoHeader | DocumentHeader


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────


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
