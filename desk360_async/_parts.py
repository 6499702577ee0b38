"""Parts of messages: locations, contact cards, buttons and headers, as values that check themselves.

They are frozen, comparable and can be pickled. What is None stays off the wire; 0 and "" do not.
"""

from collections.abc import Iterable

from attrs import field, frozen

from . import _checks as check


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


def _phones(value: Iterable[ContactPhone]) -> tuple[ContactPhone, ...]:
    return check.several(ContactPhone, value, "phones")


def _emails(value: Iterable[ContactEmail]) -> tuple[ContactEmail, ...]:
    return check.several(ContactEmail, value, "emails")


def _addresses(value: Iterable[ContactAddress]) -> tuple[ContactAddress, ...]:
    return check.several(ContactAddress, value, "addresses")


def _urls(value: Iterable[ContactUrl]) -> tuple[ContactUrl, ...]:
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
    phones: tuple[ContactPhone, ...] = field(default=(), converter=_phones)
    emails: tuple[ContactEmail, ...] = field(default=(), converter=_emails)
    addresses: tuple[ContactAddress, ...] = field(default=(), converter=_addresses)
    urls: tuple[ContactUrl, ...] = field(default=(), converter=_urls)
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
