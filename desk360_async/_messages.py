"""Messages to send, as values. Each checks the vendor's limits when it is made; none does I/O.

They are frozen, comparable and can be pickled, so that a list, a ledger or a log can hold them. Their reprs
mask phone numbers. A field that is None isn't sent; 0 and "" are sent.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import Attribute, evolve, field, frozen

from . import _validators as check

# At run time too: pydantic, cattrs and `typing.get_type_hints` look annotations up in this module. Lazy
# imports here saved some 5 % of the client's import, and broke all three.
from ._attachments import Attachment
from ._errors import InvalidMessage
from ._redaction import show_half_made

# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True, repr=False)
class Location:
    """A place on the map. Implements "Send WhatsApp Location Message".

    All fields are keyword-only: longitude and latitude are easily swapped.

    Attributes:
        longitude: degrees, -180 to 180.
        latitude: degrees, -90 to 90.
        name: the place's name, not blank.
        address: the place's address in words, not blank.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.

    Example:
        ```python
        Location(latitude=41.0422, longitude=29.0256, name="Shop", address="Beşiktaş, İstanbul")
        ```
    """

    longitude: float = field(validator=check.number(-180, 180))
    latitude: float = field(validator=check.number(-90, 90))
    name: str = field(validator=check.text())
    address: str = field(validator=check.text())


@frozen(repr=False)
class ContactName:
    """The name on a contact card ("Send WhatsApp Contact Message"); the vendor requires the first three.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.

    Example:
        ```python
        ContactName(formatted_name="Ada Lovelace", first_name="Ada", last_name="Lovelace")
        ```
    """

    formatted_name: str = field(validator=check.text())
    first_name: str = field(validator=check.text())
    last_name: str = field(validator=check.text())
    middle_name: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    suffix: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    prefix: str | None = field(default=None, validator=check.text(blank=True, optional=True))


@frozen(repr=False)
class ContactPhone:
    """A number on a contact card ("Send WhatsApp Contact Message"), sent as given, in any spelling.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    phone: str = field(converter=check.to_private, validator=check.text())
    type: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    wa_id: str | None = field(
        default=None, converter=check.to_private_or_none, validator=check.text(blank=True, optional=True)
    )


@frozen(repr=False)
class ContactEmail:
    """An e-mail address on a contact card ("Send WhatsApp Contact Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    email: str = field(validator=check.text())
    type: str | None = field(default=None, validator=check.text(blank=True, optional=True))


@frozen(repr=False)
class ContactAddress:
    """A postal address on a contact card ("Send WhatsApp Contact Message"); every field may be left out.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    street: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    city: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    state: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    zip: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    country: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    country_code: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    type: str | None = field(default=None, validator=check.text(blank=True, optional=True))


@frozen(repr=False)
class ContactOrganization:
    """Where a contact works ("Send WhatsApp Contact Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    company: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    department: str | None = field(default=None, validator=check.text(blank=True, optional=True))
    title: str | None = field(default=None, validator=check.text(blank=True, optional=True))


@frozen(repr=False)
class ContactUrl:
    """A link on a contact card ("Send WhatsApp Contact Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    url: str = field(validator=check.text())
    type: str | None = field(default=None, validator=check.text(blank=True, optional=True))


def _to_phones(value: Iterable[ContactPhone]) -> tuple[ContactPhone, ...]:
    return check.several(ContactPhone, value, "phones")


def _to_emails(value: Iterable[ContactEmail]) -> tuple[ContactEmail, ...]:
    return check.several(ContactEmail, value, "emails")


def _to_addresses(value: Iterable[ContactAddress]) -> tuple[ContactAddress, ...]:
    return check.several(ContactAddress, value, "addresses")


def _to_urls(value: Iterable[ContactUrl]) -> tuple[ContactUrl, ...]:
    return check.several(ContactUrl, value, "urls")


@frozen(repr=False)
class Contact:
    """A contact card. Implements "Send WhatsApp Contact Message".

    Attributes:
        name: the person's name.
        phones: numbers, sent as given.
        emails: e-mail addresses.
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


@frozen(repr=False)
class Button:
    """A button to press ("Send WhatsApp Interactive Message"); its id comes back by webhook.

    Attributes:
        id: 1 to 200 characters.
        title: 1 to 20 characters.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    id: str = field(validator=check.text(200))
    title: str = field(validator=check.text(20))


@frozen(repr=False)
class TextHeader:
    """A header of 1 to 60 characters ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    text: str = field(validator=check.text(60))


@frozen(repr=False)
class ImageHeader:
    """An image, by its link ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    link: str = field(validator=check.link)


@frozen(repr=False)
class VideoHeader:
    """A video, by its link ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    link: str = field(validator=check.link)


@frozen(repr=False)
class DocumentHeader:
    """A document, by its link, with the name that the customer sees ("Send WhatsApp Interactive Message").

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    link: str = field(validator=check.link)
    filename: str | None = field(default=None, validator=check.text(optional=True))


Header = TextHeader | ImageHeader | VideoHeader | DocumentHeader


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────


@frozen(repr=False)
class TextMessage:
    """Text of 1 to 4,096 characters, to a customer who wrote before. Implements "Send WhatsApp Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.

    Example:
        ```python
        reply = await client.send(TextMessage("+905551112233", "Hello"))
        ```
    """

    to: str = field(converter=check.to_phone)
    text: str = field(validator=check.text(4096))


@frozen(repr=False)
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

    Example:
        ```python
        TemplateMessage("+905551112233", "birthday", language="English", parameters={"body-1": "Ada"})
        ```
    """

    to: str = field(converter=check.to_phone)
    template: int | str = field(validator=check.id_or_name)
    language: int | str = field(validator=check.id_or_name, kw_only=True)
    parameters: Mapping[str, str] | None = field(
        default=None, converter=check.to_parameters, kw_only=True, hash=False
    )
    attachment: Attachment | None = field(default=None, converter=check.to_attachment, kw_only=True)


@frozen(repr=False)
class TemplateBatch:
    """A template with the same parameters to many phones. Implements "Bulk Send WhatsApp Message Template".

    Attributes:
        phones: at least one, E.164 with `+`; duplicates are sent once, the order is kept. With
            `destinations_file`, None or ().
        template: its id (int), or its name (str), which is looked up in the cached list.
        language: the id (int) or label (str) of one of its translations.
        parameters: variable → text, shared by all.
        attachment: the file for a media header.
        destinations_file: a file of phones instead of `phones`: one column, no header, one number a line.
            Each line is checked before a request is spent.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    phones: tuple[str, ...] = field(converter=check.to_phones, repr=check.counted)
    template: int | str = field(validator=check.id_or_name)
    language: int | str = field(validator=check.id_or_name, kw_only=True)
    parameters: Mapping[str, str] | None = field(
        default=None, converter=check.to_parameters, kw_only=True, hash=False
    )
    attachment: Attachment | None = field(default=None, converter=check.to_attachment, kw_only=True)
    destinations_file: Attachment | None = field(default=None, converter=check.to_destinations, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.destinations_file is None:
            if not self.phones:
                raise InvalidMessage("phones", "is empty; give at least one")
        elif self.phones:
            raise InvalidMessage("destinations_file", "takes the place of phones; give one of the two")


@frozen(repr=False)
class LocationMessage:
    """A place on the map. Implements "Send WhatsApp Location Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone)
    location: Location = field(validator=check.instance_of(Location))


def _contacts(value: Iterable[Contact]) -> tuple[Contact, ...]:
    return check.several(Contact, value, "contacts")


@frozen(repr=False)
class ContactsMessage:
    """One or more contact cards. Implements "Send WhatsApp Contact Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone)
    contacts: tuple[Contact, ...] = field(converter=_contacts, validator=check.at_least_one)


@frozen(repr=False)
class MediaMessage:
    """1 to 5 files of at most 20 MB each. Implements "Send WhatsApp Media Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone)
    attachments: tuple[Attachment, ...] = field(
        converter=check.to_attachments, validator=check.count(1, 5, "files", fix="send the others separately")
    )


def _buttons(value: Iterable[Button]) -> tuple[Button, ...]:
    return check.several(Button, value, "buttons")


def _header(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None and not isinstance(value, TextHeader | ImageHeader | VideoHeader | DocumentHeader):
        raise InvalidMessage("header", "must be a TextHeader, ImageHeader, VideoHeader or DocumentHeader")


@frozen(repr=False)
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

    to: str = field(converter=check.to_phone)
    body: str = field(validator=check.text(1024))
    buttons: tuple[Button, ...] = field(
        converter=_buttons, validator=[check.count(1, 10, "buttons"), check.unique("id", "title")]
    )
    header: Header | None = field(default=None, validator=_header, kw_only=True)
    footer: str | None = field(default=None, validator=check.text(60, optional=True), kw_only=True)


@frozen(repr=False)
class LocationRequestMessage:
    """Asks for the customer's location; the body has 1 to 1,024 characters.

    Implements "Send WhatsApp Location Request Interactive Message".

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone)
    body: str = field(validator=check.text(1024))


_MESSAGE_IDS = check.texts(hint="; give a message's id as its webhook brought it")


@frozen(repr=False)
class ReadMessage:
    """Marks a customer's messages as read. Implements "Read WhatsApp Message".

    Attributes:
        to: the customer's phone, E.164 with `+`.
        message_ids: at least one id, as webhooks brought them.

    Raises:
        InvalidMessage: if a field breaks a limit; it names the field, the limit and the fix.
    """

    to: str = field(converter=check.to_phone)
    message_ids: tuple[str, ...] = field(
        converter=check.to_message_ids, validator=[check.at_least_one, _MESSAGE_IDS], repr=check.counted
    )


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
"""The messages that `client.send` takes."""


def phones_of(message: Message | ReadMessage) -> tuple[str, ...]:
    """Return the phones that a message goes to; the phones of a file only if its bytes are loaded."""
    if not isinstance(message, TemplateBatch):
        return (message.to,)
    file = message.destinations_file
    return check.phones_of_file(file.content) if file and file.content is not None else message.phones


def attachments_of(message: Message | ReadMessage) -> tuple[Attachment, ...]:
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


show_half_made(globals())
