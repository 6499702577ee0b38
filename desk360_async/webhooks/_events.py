"""The events of a webhook: frozen values, made for `match`. No parsing, no I/O.

The server may leave out any field (rulings 22 and 33 to 38). A missing id or sender is `""`. Any other
missing field is None, an empty tuple or an empty part. `.raw` is the event's own JSON object, with the data
that the fields can't express.

Two events are equal only if their `raw` is equal too, since `raw` holds more than the fields. The hash leaves
`raw` out: a dict has no hash. The classes have no slots. attrs fills the `__dict__` of a frozen instance in a
third of the time that slots take.
"""

import re
from datetime import datetime
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from desk360_async._errors import mask_phone

_OBJECT: Any = dict  # as Any: checkers would narrow to `dict[Unknown, Unknown]`
_LONG_TOKEN = re.compile(r"[\w+/=-]{16,}")
_PHONE_LIKE = re.compile(r"\+?\d(?:[\s().-]{0,2}\d){5,}")


def excerpt(value: object, limit: int = 60) -> str:
    """Return the quoted start of a text for a repr, a log or an error: numbers and ids are masked."""
    text = str(value)[:1000]  # limits the patterns' work on a hostile text of a megabyte
    text = _LONG_TOKEN.sub(_mask_match, text)
    text = _PHONE_LIKE.sub(_mask_match, text)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def _mask_match(found: re.Match[str]) -> str:
    return mask_phone(found.group())


def _repr_words(value: object) -> str:
    return "None" if value is None else excerpt(value)


def _repr_id(value: str) -> str:
    return repr(mask_phone(value)) if value else "''"


def _keys(raw: dict[str, Any]) -> str:
    return f"<keys: {excerpt(', '.join(map(str, raw)))}>"


def phone_of(sender: str) -> str | None:
    """Return a sender as E.164 (`+905…`), or None where it isn't all digits (ruling 35)."""
    digits = sender.removeprefix("+")
    # The methods of `str` take half the time of a pattern. `isdigit` alone accepts digits of other scripts.
    fits = 7 <= len(digits) <= 15 and digits[0] != "0" and digits.isascii() and digits.isdigit()
    return "+" + digits if fits else None


def user_id_of(sender: str, raw: dict[str, Any]) -> str | None:
    """Return the user id of an event's person, or None (ruling 36a)."""
    for name in ("user_id", "from_user_id"):
        found = raw.get(name)
        if found and isinstance(found, str | int):
            return str(found)
    return sender if sender and phone_of(sender) is None else None


def _words(default: str | None = None) -> Any:
    # Customers write these texts, so a name, a type or a caption may be a phone number.
    return field(default=default, repr=_repr_words)


@frozen(slots=False, kw_only=True)
class Referral:
    """The advertisement or post that a message came from ("Messages Triggered by WhatsApp Ads").

    Attributes:
        id: of the advertisement or post.
        url: of the advertisement or post.
        type: `ad` or `post`; open text.
        header: its title.
        body: its description.
        media_type: `image` or `video`; open text.
        media_url: of its picture or film.
        thumbnail_url: of a still picture from the film.
        raw: the JSON object as it came.
    """

    id: str | None = _words()
    url: str | None = _words()
    type: str | None = _words()
    header: str | None = _words()
    body: str | None = _words()
    media_type: str | None = _words()
    media_url: str | None = _words()
    thumbnail_url: str | None = _words()
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=False, hash=False)


@frozen(slots=False, kw_only=True)
class Place:
    """Where a received location is ("Location Messages").

    Attributes:
        latitude: in degrees, or None where it can't be read.
        longitude: in degrees, or None where it can't be read.
        name: of the place.
        address: of the place.
        raw: the JSON object as it came.
    """

    latitude: float | None = None
    longitude: float | None = None
    name: str | None = _words()
    address: str | None = _words()
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=False, hash=False)


@frozen(slots=False, kw_only=True)
class ReceivedFile:
    """One stored file of a received media message: an entry of `attachments` ("Media Messages").

    Attributes:
        url: where the vendor keeps it.
        name: the stored file's name; not to be used as a path.
        type: `image`, `video`, …; open text.
        raw: the JSON object as it came.
    """

    url: str | None = _words()
    name: str | None = _words()
    type: str | None = _words()
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=False, hash=False)


@frozen(slots=False, kw_only=True)
class CardName:
    """The name on a contact card ("Contact Messages")."""

    formatted_name: str | None = _words()
    first_name: str | None = _words()
    last_name: str | None = _words()
    middle_name: str | None = _words()
    suffix: str | None = _words()
    prefix: str | None = _words()


@frozen(slots=False, kw_only=True)
class CardPhone:
    """A phone number on a contact card ("Contact Messages").

    Attributes:
        phone: as the customer typed it.
        type: such as `HOME`; open text.
        wa_id: its WhatsApp id, digits only.
    """

    phone: str | None = _words()
    type: str | None = _words()
    wa_id: str | None = _words()


@frozen(slots=False, kw_only=True)
class CardEmail:
    """An e-mail address on a contact card ("Contact Messages")."""

    email: str | None = _words()
    type: str | None = _words()


@frozen(slots=False, kw_only=True)
class CardAddress:
    """A postal address on a contact card ("Contact Messages")."""

    street: str | None = _words()
    city: str | None = _words()
    state: str | None = _words()
    zip: str | None = _words()
    country: str | None = _words()
    country_code: str | None = _words()
    type: str | None = _words()


@frozen(slots=False, kw_only=True)
class CardOrganization:
    """The organization on a contact card ("Contact Messages")."""

    company: str | None = _words()
    department: str | None = _words()
    title: str | None = _words()


@frozen(slots=False, kw_only=True)
class CardUrl:
    """A web address on a contact card ("Contact Messages")."""

    url: str | None = _words()
    type: str | None = _words()


@frozen(slots=False, kw_only=True)
class CardIm:
    """An instant-messaging account on a contact card, such as `AIM` and `kfish` ("Contact Messages")."""

    service: str | None = _words()
    user_id: str | None = _words()


@frozen(slots=False, kw_only=True)
class ContactCard:
    """One received contact ("Contact Messages").

    Attributes:
        name: the name's parts.
        org: the organization, or None.
        birthday: the text as received; an ISO date only if the customer's phone wrote one.
        phones: numbers as typed, and their WhatsApp ids.
        emails: e-mail addresses.
        addresses: postal addresses.
        urls: web addresses.
        ims: instant-messaging accounts.
        raw: the JSON object as it came.
    """

    name: CardName = CardName()
    org: CardOrganization | None = None
    birthday: str | None = _words()
    phones: tuple[CardPhone, ...] = ()
    emails: tuple[CardEmail, ...] = ()
    addresses: tuple[CardAddress, ...] = ()
    urls: tuple[CardUrl, ...] = ()
    ims: tuple[CardIm, ...] = ()
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=False, hash=False)


@frozen(slots=False, kw_only=True)
class MessageReceived:
    """A message from a customer ("Received Messages Examples"). Types without a subclass have this class.

    Attributes:
        id: the message's id, opaque; "" if there was none.
        sender: the customer's number as received, without `+`; "" if there was none.
        name: the customer's name, or None.
        sent_at: when the customer sent it, in UTC, or None.
        type: the vendor's word (`text`, `image`, `reaction`, …), open text. A missing type is inferred, or is
            `unknown`.
        text: the text; a button's title on a button reply; None without one.
        referral: the advertisement that led here, or None.
        raw: the event's own JSON object as it came.
    """

    id: str = field(default="", repr=_repr_id)
    sender: str = field(default="", repr=_repr_id)
    name: str | None = _words()
    sent_at: datetime | None = None
    type: str = _words("unknown")
    text: str | None = _words()
    referral: Referral | None = None
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=False, hash=False)

    @property
    def phone(self) -> str | None:
        """The sender as E.164 (`+905…`), the number for a reply; None where the sender isn't a number."""
        return phone_of(self.sender)

    @property
    def user_id(self) -> str | None:
        """The customer's user id: `user_id`, `from_user_id`, or a `from` that is no number (ruling 36a)."""
        return user_id_of(self.sender, self.raw)

    @property
    def replies_to(self) -> str | None:
        """The id of the message that the customer quoted or answered, or None."""
        context: Any = self.raw.get("context")
        if type(context) is not _OBJECT:
            return None
        found: Any = context.get("id", context.get("message_id"))
        return found if isinstance(found, str) else None


@frozen(slots=False, kw_only=True)
class TextReceived(MessageReceived):
    """A text ("Text Messages"); `.text` is "" where there was none."""

    type: str = _words("text")
    text: str = _words("")


@frozen(slots=False, kw_only=True)
class LocationReceived(MessageReceived):
    """A location ("Location Messages"); `.text` is the vendor's description of it.

    Attributes:
        location: where it is.
    """

    type: str = _words("location")
    location: Place = Place()

    @property
    def latitude(self) -> float | None:
        """The location's latitude in degrees, or None where it can't be read."""
        return self.location.latitude

    @property
    def longitude(self) -> float | None:
        """The location's longitude in degrees, or None where it can't be read."""
        return self.location.longitude


@frozen(slots=False, kw_only=True)
class ContactsReceived(MessageReceived):
    """Contact cards ("Contact Messages").

    Attributes:
        contacts: the cards.
    """

    type: str = _words("contacts")
    contacts: tuple[ContactCard, ...] = ()


@frozen(slots=False, kw_only=True)
class MediaReceived(MessageReceived):
    """An image, video, audio, voice message, document or sticker ("Media Messages").

    Attributes:
        media_id: for `client.open_media`, `read_media` and `save_media`; None if there was none.
        mime_type: such as `image/jpeg`, or None.
        sha: the content's SHA-256 in hexadecimal, or None.
        caption: the customer's text beneath it, or None.
        filename: a document's name, or None; not to be used as a path.
        attachments: the files as the vendor stored them.
    """

    type: str = _words("image")
    media_id: str | None = _words()
    mime_type: str | None = _words()
    sha: str | None = _words()
    caption: str | None = _words()
    filename: str | None = _words()
    attachments: tuple[ReceivedFile, ...] = ()


@frozen(slots=False, kw_only=True)
class ReplyReceived(MessageReceived):
    """A press on a button, a choice from a list, or the answers to a flow (types `button`, `interactive`).

    Attributes:
        reply_id: the id of the `Button(id, title)` that was sent, or the payload of a template's button; None
            for a flow.
        title: the words on the button, or a flow's `body`; `.text` has the same words.
        description: a list row's second line, or None.
        answers: a flow's answers by field (its `response_json`); empty for buttons and lists.
    """

    type: str = _words("interactive")
    reply_id: str | None = _words()
    title: str | None = _words()
    description: str | None = _words()
    answers: dict[str, Any] = field(factory=dict[str, Any], repr=_keys, hash=False)


@frozen(slots=False, kw_only=True)
class StatusUpdate:
    """The state of a sent message ("Status Updates"). Updates have no time, and no guaranteed order.

    Attributes:
        id: the sent message's id, opaque; "" if there was none.
        sender: the customer's number as received (the wire's `from`); "" if there was none.
        status: `delivered` or `read`, open text. `sent`, `failed` and `deleted` were also seen on WhatsApp.
        raw: the event's own JSON object as it came.
    """

    id: str = field(default="", repr=_repr_id)
    sender: str = field(default="", repr=_repr_id)
    status: str = _words("")
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=False, hash=False)

    @property
    def phone(self) -> str | None:
        """The customer's number as E.164 (`+905…`); None where it isn't a number."""
        return phone_of(self.sender)

    @property
    def user_id(self) -> str | None:
        """The customer's user id: `user_id`, `from_user_id`, or a `from` that is no number (ruling 36a)."""
        return user_id_of(self.sender, self.raw)


@frozen(slots=False, kw_only=True)
class UnknownEvent:
    """An object that is neither a message nor a status update.

    Attributes:
        raw: the JSON object as it came.
    """

    id: ClassVar[str] = ""
    sender: ClassVar[str] = ""
    user_id: ClassVar[None] = None
    raw: dict[str, Any] = field(factory=dict[str, Any], repr=_keys, hash=False)


Event: TypeAlias = MessageReceived | StatusUpdate | UnknownEvent
"""A message, a status update or an unknown object, made for `match`."""
