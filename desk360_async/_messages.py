"""Messages: what can be sent, as values. Each checks the vendor's limits when it is made; none does I/O.

They are frozen, comparable and can be pickled, so that a list, a ledger or a log can hold them. Their reprs
mask phone numbers. What is None stays off the wire; 0 and "" do not.
"""

import datetime
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import Attribute, evolve, field, frozen

from ._attachments import Attachment, as_attachment
from ._errors import InvalidMessage, mask_phone
from ._phones import parse_phone, parse_phones

T = TypeVar("T")
Check = Callable[[Any, "Attribute[Any]", Any], None]


def check_unicode(text: str, where: str) -> str:
    """Return `text` if it can be encoded; a lone surrogate makes all fields vanish on the server (ruling 5)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(where, f"holds a lone surrogate at position {error.start}; remove it") from None
    return text


def _text(least: int, most: int | None = None, *, optional: bool = False) -> Check:
    """Check for text of so many Unicode code points, as Laravel counts."""

    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str):
            raise InvalidMessage(attribute.name, f"must be text, not {type(value).__name__}")
        if len(value) < least:
            raise InvalidMessage(attribute.name, f"is empty; write at least {least} character")
        if most is not None and len(value) > most:
            raise InvalidMessage(
                attribute.name, f"has {len(value):,} characters, the limit is {most:,}; shorten it"
            )
        check_unicode(value, attribute.name)

    return check


def _number(least: float, most: float) -> Check:
    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidMessage(attribute.name, f"must be a number of degrees, not {type(value).__name__}")
        if not math.isfinite(value) or not least <= value <= most:
            raise InvalidMessage(attribute.name, f"must lie between {least} and {most} degrees, got {value}")

    return check


def _link(_: object, attribute: "Attribute[Any]", value: object) -> None:
    _text(1)(_, attribute, value)
    if not re.match(r"https?://[^/\s]", str(value)):
        raise InvalidMessage(attribute.name, "must be a link that starts with https:// or http://")


def _birthday(value: object) -> str | None:
    """Return an ISO date: the vendor's "Y-m-d"."""
    if value is None:
        return None
    if isinstance(value, datetime.date):
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    try:
        # fromisoformat takes "20120818" and week dates too, which the server doesn't.
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise InvalidMessage("birthday", "must be a datetime.date or text like '2012-08-18'")


def _several(kind: type[T], where: str) -> Callable[[Any], tuple[T, ...]]:
    """Convert a sequence of `kind` to a tuple; one alone gets the right call in the message."""

    def convert(value: Any) -> tuple[T, ...]:
        items = listed(value, where)
        for index, item in enumerate(items):
            if not isinstance(item, kind):
                problem = f"must be a {kind.__name__}, not {type(item).__name__}"
                raise InvalidMessage(f"{where}[{index}]", problem)
        return items

    return convert


def listed(value: Any, where: str) -> tuple[Any, ...]:
    """Return any iterable but text, bytes and mappings as a tuple.

    Raises:
        InvalidMessage: for one value where a list is due; a `str` would be taken letter by letter.
    """
    if isinstance(value, str | bytes | Mapping | os.PathLike) or not isinstance(value, Iterable):
        raise InvalidMessage(
            where, f"takes a list, not one {type(value).__name__}; wrap it in a list: [{where[:-1]}]"
        )
    return tuple(value)


def _phone(value: Any) -> str:
    return parse_phone(value, "to")


def _phones(value: Any) -> tuple[str, ...]:
    return parse_phones(listed(value, "phones"), "phones")


def _at_least_one(_: object, attribute: "Attribute[Any]", value: Sequence[object]) -> None:
    if not value:
        raise InvalidMessage(attribute.name, "is empty; give at least one")


def _id_or_name(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidMessage(
            attribute.name, f"must be an id (int) or a name (str), not {type(value).__name__}"
        )
    if isinstance(value, int) and value < 1:
        raise InvalidMessage(attribute.name, f"an id is 1 or more, got {value}")
    if isinstance(value, str):
        if not value.strip():
            raise InvalidMessage(attribute.name, "is empty; give an id or a name")
        check_unicode(value, attribute.name)


def _parameters(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        problem = (
            f"must map the template's variables to text, like {{'body-1': 'Ada'}}, not {type(value).__name__}"
        )
        raise InvalidMessage("parameters", problem)
    return {_parameter_key(key): _parameter(key, text) for key, text in value.items()}


def _parameter_key(key: object) -> str:
    # Brackets would nest the key in a form (PHP), and NUL cuts it.
    if not isinstance(key, str) or not key or re.search(r"[\[\]\x00-\x1f]", key):
        raise InvalidMessage("parameters", f"{key!r} can't be a variable's name; they look like 'body-1'")
    return check_unicode(key, "parameters")


def _parameter(key: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        problem = f"must be text, as the customer shall read it, not {type(value).__name__}"
        raise InvalidMessage(f"parameters[{key!r}]", problem)
    return check_unicode(value, f"parameters[{key!r}]")


def _attachment(value: object) -> Attachment | None:
    return None if value is None else as_attachment(value)


def _attachments(value: Any) -> tuple[Attachment, ...]:
    if isinstance(value, Attachment):
        raise InvalidMessage(
            "attachments", "takes a list, not one Attachment; wrap it in a list: [attachment]"
        )
    items = listed(value, "attachments")
    return tuple(as_attachment(item, f"attachments[{index}]") for index, item in enumerate(items))


def _masked(value: Any) -> str:
    return repr(mask_phone(str(value))) if value is not None else "None"


def _counted(value: Sequence[object]) -> str:
    return f"<{len(value)}>"


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Location:
    """A place on the map. Implements "Send WhatsApp Location Message".

    Attributes:
        longitude: degrees, -180 to 180.
        latitude: degrees, -90 to 90.
        name: what the place is called.
        address: where it is, in words.
    """

    longitude: float = field(validator=_number(-180, 180))
    latitude: float = field(validator=_number(-90, 90))
    name: str = field(validator=_text(0))
    address: str = field(validator=_text(0))


@frozen
class ContactName:
    """The name on a contact card; the first three are required by the vendor."""

    formatted_name: str = field(validator=_text(1))
    first_name: str = field(validator=_text(1))
    last_name: str = field(validator=_text(1))
    middle_name: str | None = field(default=None, validator=_text(0, optional=True))
    suffix: str | None = field(default=None, validator=_text(0, optional=True))
    prefix: str | None = field(default=None, validator=_text(0, optional=True))


@frozen
class ContactPhone:
    """A number on a contact card, sent as given: a card may show any spelling."""

    phone: str = field(validator=_text(1), repr=_masked)
    type: str | None = field(default=None, validator=_text(0, optional=True))
    wa_id: str | None = field(default=None, validator=_text(0, optional=True), repr=_masked)


@frozen
class ContactEmail:
    """An address of electronic mail on a contact card."""

    email: str = field(validator=_text(1))
    type: str | None = field(default=None, validator=_text(0, optional=True))


@frozen
class ContactAddress:
    """A postal address on a contact card; every field may be left out."""

    street: str | None = field(default=None, validator=_text(0, optional=True))
    city: str | None = field(default=None, validator=_text(0, optional=True))
    state: str | None = field(default=None, validator=_text(0, optional=True))
    zip: str | None = field(default=None, validator=_text(0, optional=True))
    country: str | None = field(default=None, validator=_text(0, optional=True))
    country_code: str | None = field(default=None, validator=_text(0, optional=True))
    type: str | None = field(default=None, validator=_text(0, optional=True))


@frozen
class ContactOrganization:
    """Where a contact works."""

    company: str | None = field(default=None, validator=_text(0, optional=True))
    department: str | None = field(default=None, validator=_text(0, optional=True))
    title: str | None = field(default=None, validator=_text(0, optional=True))


@frozen
class ContactUrl:
    """A link on a contact card."""

    url: str = field(validator=_text(1))
    type: str | None = field(default=None, validator=_text(0, optional=True))


def _is(kind: type, *, optional: bool = False) -> Check:
    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if not isinstance(value, kind) and not (optional and value is None):
            problem = f"must be a {kind.__name__}, not {type(value).__name__}"
            raise InvalidMessage(attribute.name, problem)

    return check


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
    """

    name: ContactName = field(validator=_is(ContactName))
    phones: tuple[ContactPhone, ...] = field(default=(), converter=_several(ContactPhone, "phones"))
    emails: tuple[ContactEmail, ...] = field(default=(), converter=_several(ContactEmail, "emails"))
    addresses: tuple[ContactAddress, ...] = field(default=(), converter=_several(ContactAddress, "addresses"))
    urls: tuple[ContactUrl, ...] = field(default=(), converter=_several(ContactUrl, "urls"))
    org: ContactOrganization | None = field(default=None, validator=_is(ContactOrganization, optional=True))
    birthday: str | None = field(default=None, converter=_birthday)


@frozen
class Button:
    """A button to press; its id comes back by webhook. Id: 1 to 200 characters, title: 1 to 20."""

    id: str = field(validator=_text(1, 200))
    title: str = field(validator=_text(1, 20))


@frozen
class TextHeader:
    """A header of 1 to 60 characters."""

    text: str = field(validator=_text(1, 60))


@frozen
class ImageHeader:
    """An image, by its link."""

    link: str = field(validator=_link)


@frozen
class VideoHeader:
    """A video, by its link."""

    link: str = field(validator=_link)


@frozen
class DocumentHeader:
    """A document, by its link, with the name that the customer sees."""

    link: str = field(validator=_link)
    filename: str | None = field(default=None, validator=_text(1, optional=True))


Header = TextHeader | ImageHeader | VideoHeader | DocumentHeader


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────


@frozen
class TextMessage:
    """Text of 1 to 4,096 characters, to a customer who wrote before. Implements "Send WhatsApp Message"."""

    to: str = field(converter=_phone, repr=_masked)
    text: str = field(validator=_text(1, 4096))


@frozen
class TemplateMessage:
    """A template to one phone. Implements "Send WhatsApp Message Template".

    Attributes:
        to: the phone, E.164 with `+`.
        template: its id (int), or its name (str), which is looked up in the cached list.
        language: the id (int) or label (str) of one of its translations.
        parameters: variable → text, the keys as in `translation.variables`, such as "body-1".
        attachment: the file for a media header.
    """

    to: str = field(converter=_phone, repr=_masked)
    template: int | str = field(validator=_id_or_name)
    language: int | str = field(validator=_id_or_name, kw_only=True)
    parameters: Mapping[str, str] | None = field(
        default=None, converter=_parameters, kw_only=True, hash=False
    )
    attachment: Attachment | None = field(default=None, converter=_attachment, kw_only=True)


@frozen
class TemplateBatch:
    """A template with the same parameters to many phones. Implements "Bulk Send WhatsApp Message Template".

    Attributes:
        phones: at least one, E.164 with `+`; duplicates are sent once, the order is kept.
        template: its id (int), or its name (str), which is looked up in the cached list.
        language: the id (int) or label (str) of one of its translations.
        parameters: variable → text, shared by all.
        attachment: the file for a media header.
    """

    phones: tuple[str, ...] = field(converter=_phones, validator=_at_least_one, repr=_counted)
    template: int | str = field(validator=_id_or_name)
    language: int | str = field(validator=_id_or_name, kw_only=True)
    parameters: Mapping[str, str] | None = field(
        default=None, converter=_parameters, kw_only=True, hash=False
    )
    attachment: Attachment | None = field(default=None, converter=_attachment, kw_only=True)


@frozen
class LocationMessage:
    """A place on the map. Implements "Send WhatsApp Location Message"."""

    to: str = field(converter=_phone, repr=_masked)
    location: Location = field(validator=_is(Location))


@frozen
class ContactsMessage:
    """One or more contact cards. Implements "Send WhatsApp Contact Message"."""

    to: str = field(converter=_phone, repr=_masked)
    contacts: tuple[Contact, ...] = field(converter=_several(Contact, "contacts"), validator=_at_least_one)


def _five_files(_: object, attribute: "Attribute[Any]", value: Sequence[object]) -> None:
    _at_least_one(_, attribute, value)
    if len(value) > 5:
        raise InvalidMessage(
            attribute.name, f"holds {len(value)} files, the limit is 5; send the others separately"
        )


@frozen
class MediaMessage:
    """1 to 5 files of at most 20 MB each. Implements "Send WhatsApp Media Message"."""

    to: str = field(converter=_phone, repr=_masked)
    attachments: tuple[Attachment, ...] = field(converter=_attachments, validator=_five_files)


def _ten_buttons(_: object, attribute: "Attribute[Any]", buttons: Sequence[Button]) -> None:
    _at_least_one(_, attribute, buttons)
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
    """

    to: str = field(converter=_phone, repr=_masked)
    body: str = field(validator=_text(1, 1024))
    buttons: tuple[Button, ...] = field(converter=_several(Button, "buttons"), validator=_ten_buttons)
    header: Header | None = field(default=None, validator=_header, kw_only=True)
    footer: str | None = field(default=None, validator=_text(1, 60, optional=True), kw_only=True)


@frozen
class LocationRequestMessage:
    """Asks for the customer's location; the body has 1 to 1,024 characters.

    Implements "Send WhatsApp Location Request Interactive Message".
    """

    to: str = field(converter=_phone, repr=_masked)
    body: str = field(validator=_text(1, 1024))


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


def phones_of(message: Message) -> tuple[str, ...]:
    """Return the phones that a message goes to."""
    return message.phones if isinstance(message, TemplateBatch) else (message.to,)


def attachments_of(message: Message) -> tuple[Attachment, ...]:
    """Return the files that a message carries."""
    match message:
        case MediaMessage(attachments=files):
            return files
        case (
            TemplateMessage(attachment=Attachment() as file) | TemplateBatch(attachment=Attachment() as file)
        ):
            return (file,)
        case _:
            return ()


def with_ids(
    message: TemplateMessage | TemplateBatch, template: int, language: int
) -> TemplateMessage | TemplateBatch:
    """Return the message with names replaced by ids."""
    if message.template == template and message.language == language:
        return message
    return evolve(message, template=template, language=language)
