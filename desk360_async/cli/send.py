"""`desk360 send …`: one message, or one template to several phones. `desk360 send list` is in `lists`."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from desk360_async import (
    BulkSent,
    Button,
    ConfigurationError,
    Contact,
    ContactEmail,
    ContactName,
    ContactOrganization,
    ContactPhone,
    ContactsMessage,
    ContactUrl,
    Desk360Error,
    DocumentHeader,
    ImageHeader,
    InteractiveMessage,
    InvalidMessage,
    Location,
    LocationMessage,
    LocationRequestMessage,
    MediaMessage,
    Message,
    Outcome,
    SendResult,
    Sent,
    SentMedia,
    TemplateBatch,
    TemplateMessage,
    TextHeader,
    TextMessage,
    VideoHeader,
    normalize_phone,
)
from desk360_async._errors import mask_phone

from ._options import DEFAULTS, ONCE, Common, Once, id_or_name
from ._session import Session, confirm, run
from ._terminal import Terminal

__all__ = [
    "contact",
    "interactive",
    "load_contacts",
    "location",
    "location_request",
    "media",
    "template",
    "text",
]


def text(
    to: str, text: str, /, *, region: str | None = None, once: Once = ONCE, common: Common = DEFAULTS
) -> int:
    """Send text to a customer who wrote before.

    Args:
        to: The phone, such as +905551112233.
        text: 1 to 4,096 characters.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """
    return send_one(common, once, lambda: TextMessage(_phone(to, region), text))


def template(
    to: str,
    template: str,
    /,
    *,
    language: str,
    param: tuple[str, ...] = (),
    attachment: Path | None = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    region: str | None = None,
    once: Once = ONCE,
    common: Common = DEFAULTS,
) -> int:
    """Send a template to one phone, or the same to several in one request.

    Args:
        to: The phone, such as +905551112233, or several phones separated by commas.
        template: The template's id or name; name:75 for a name of digits.
        language: The language's id or label.
        param: VARIABLE=TEXT, such as body-1=Ada; may be repeated.
        attachment: The file for a media header.
        yes: Send live to several phones without a confirmation.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """
    phones = [_phone(phone, region) for phone in to.split(",") if phone.strip()]
    wanted, tongue = id_or_name(template), id_or_name(language)
    parameters = dict(_pair(word, "--param", "body-1=Ada") for word in param) or None

    def make() -> TemplateMessage | TemplateBatch:
        if len(phones) == 1:
            return TemplateMessage(
                phones[0], wanted, language=tongue, parameters=parameters, attachment=attachment
            )
        return TemplateBatch(phones, wanted, language=tongue, parameters=parameters, attachment=attachment)

    return send_one(common, once, make, recipients=len(set(phones)), sure=yes)


def location(
    to: str,
    /,
    *,
    latitude: float,
    longitude: float,
    name: str,
    address: str,
    region: str | None = None,
    once: Once = ONCE,
    common: Common = DEFAULTS,
) -> int:
    """Send a place on the map.

    Args:
        to: The phone, such as +905551112233.
        latitude: Degrees, -90 to 90.
        longitude: Degrees, -180 to 180.
        name: The place's name.
        address: The place's address.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """
    return send_one(
        common,
        once,
        lambda: LocationMessage(
            _phone(to, region), Location(longitude=longitude, latitude=latitude, name=name, address=address)
        ),
    )


def media(
    to: str, /, *files: Path, region: str | None = None, once: Once = ONCE, common: Common = DEFAULTS
) -> int:
    """Send 1 to 5 files of at most 20 MB each.

    Args:
        to: The phone, such as +905551112233.
        files: The files.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """
    for file in files:
        if file.is_dir():
            raise ConfigurationError(f"{file} is a folder; name its files, such as {file / 'invoice.pdf'}")
    return send_one(common, once, lambda: MediaMessage(_phone(to, region), files))


def interactive(
    to: str,
    body: str,
    /,
    *,
    button: tuple[str, ...],
    header_text: str | None = None,
    header_image: str | None = None,
    header_video: str | None = None,
    header_document: str | None = None,
    filename: str | None = None,
    footer: str | None = None,
    region: str | None = None,
    once: Once = ONCE,
    common: Common = DEFAULTS,
) -> int:
    """Send text with 1 to 10 buttons to press.

    Args:
        to: The phone, such as +905551112233.
        body: 1 to 1,024 characters.
        button: ID=TITLE, such as yes=Yes; repeat it for each button.
        header_text: A text header of 1 to 60 characters.
        header_image: The link of an image for the header.
        header_video: The link of a video for the header.
        header_document: The link of a document for the header.
        filename: The document's name, as the customer sees it.
        footer: A footer of 1 to 60 characters.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """

    def make() -> InteractiveMessage:
        buttons = [Button(*_pair(word, "--button", "yes=Yes")) for word in button]
        headers = [
            TextHeader(header_text) if header_text else None,
            ImageHeader(header_image) if header_image else None,
            VideoHeader(header_video) if header_video else None,
            DocumentHeader(header_document, filename) if header_document else None,
        ]
        given = [header for header in headers if header]
        if len(given) > 1:
            raise ConfigurationError("one header at most: a text, an image, a video or a document")
        return InteractiveMessage(
            _phone(to, region), body, buttons, header=given[0] if given else None, footer=footer
        )

    return send_one(common, once, make)


def location_request(
    to: str, body: str, /, *, region: str | None = None, once: Once = ONCE, common: Common = DEFAULTS
) -> int:
    """Ask for the customer's location.

    Args:
        to: The phone, such as +905551112233.
        body: 1 to 1,024 characters.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """
    return send_one(common, once, lambda: LocationRequestMessage(_phone(to, region), body))


def _phone(text: str, region: str | None) -> str:
    """Return a phone for a message: with a region in E.164, without one as it was typed.

    Raises:
        InvalidMessage: if it is neither a number of that region nor an international number.
        ConfigurationError: if there is no such region, or the extra `phone` is missing.
    """
    return text if region is None else normalize_phone(text, region=region)


def _pair(word: str, option: str, example: str) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    if not name or not equals:
        raise ConfigurationError(f"{option} {word}: must be like {option} {example}")
    return name, text


def contact(
    to: str,
    /,
    *,
    name: str | None = None,
    phone: tuple[str, ...] = (),
    email: tuple[str, ...] = (),
    url: tuple[str, ...] = (),
    company: str | None = None,
    birthday: str | None = None,
    file: Path | None = None,
    region: str | None = None,
    once: Once = ONCE,
    common: Common = DEFAULTS,
) -> int:
    """Send a contact card, or several from a file.

    Args:
        to: The phone, such as +905551112233.
        name: The person's name, with the family name last.
        phone: A number on the card, in any spelling; may be repeated.
        email: An address; may be repeated.
        url: A link; may be repeated.
        company: The person's company.
        birthday: The birthday, such as 2012-08-18.
        file: A JSON file with cards, in the shape of Desk360's document; replaces the other options.
        region: The country of a number without +, such as TR.
        once: Shared.
        common: Shared.
    """

    def make() -> ContactsMessage:
        if file is not None:
            return ContactsMessage(_phone(to, region), load_contacts(file))
        if name is None:
            raise ConfigurationError("a card needs --name, or --file for cards from a file")
        first, _, last = name.strip().rpartition(" ")
        card = Contact(
            # The vendor requires both; a person with one name has it twice.
            ContactName(name, first or last, last),
            phones=[ContactPhone(number) for number in phone],
            emails=[ContactEmail(address) for address in email],
            urls=[ContactUrl(link) for link in url],
            org=ContactOrganization(company) if company else None,
            birthday=birthday,
        )
        return ContactsMessage(_phone(to, region), [card])

    return send_one(common, once, make)


def load_contacts(file: Path) -> tuple[Contact, ...]:
    """Read cards from a JSON file that holds an object or a list of objects.

    Raises:
        ConfigurationError: if the file can't be read, or isn't JSON.
        InvalidMessage: if a card breaks a limit.
    """
    try:
        given: Any = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--file {file}: {getattr(error, 'strerror', None) or error}") from None
    import cattrs  # slow to load, and no other message needs it
    from cattrs.errors import BaseValidationError

    # Strict: otherwise an unknown field of a card would be dropped silently.
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        return converter.structure(given if isinstance(given, list) else [given], tuple[Contact, ...])
    except BaseValidationError as error:
        raise InvalidMessage("contacts", "; ".join(cattrs.transform_error(error))) from None


def send_one(
    common: Common, once: Once, make: Callable[[], Message], *, recipients: int = 1, sure: bool = True
) -> int:
    """Make a message, send it, and print the result.

    Args:
        common: the shared options.
        once: the idempotency key and its send log.
        make: a function that returns the message, or raises InvalidMessage.
        recipients: the number of recipients.
        sure: whether to send without a confirmation.

    Raises:
        Desk360Error: if the message isn't accepted; `.outcome` is "not_sent" or "unknown".
    """
    message = make()  # before a sandbox starts or a connection opens, so a mistake costs no request

    async def work(session: Session) -> int:
        confirm(session, recipients, sure=sure)
        reply = await session.client.send(message, idempotency_key=once.key)
        codes.append(_tell(session.terminal, reply))
        return codes[0]

    ended: list[SendResult] = []
    codes: list[int] = []
    try:
        return run(common, work, ended.append, once.open())
    except KeyboardInterrupt:
        # 130 reads as not sent, and a user would send it again. A second Ctrl-C would make it 130 too.
        if not codes and (not ended or ended[-1].outcome is Outcome.NOT_SENT):
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if codes:
            return codes[0]
        if ended[-1].reply is None:
            raise Desk360Error("interrupted while it was on the wire", outcome=Outcome.UNKNOWN) from None
        return _tell(Terminal(json=common.json, quiet=common.quiet), ended[-1].reply)


def _tell(terminal: Terminal, reply: Sent | BulkSent | SentMedia) -> int:
    """Print a reply, and return the exit code."""
    if terminal.json:
        terminal.data({"outcome": "accepted", **({"replayed": True} if reply.replayed else {}), **reply.raw})
    elif isinstance(reply, BulkSent):
        return _tell_bulk(terminal, reply)
    elif isinstance(reply, SentMedia):
        _tell_files(terminal, reply)
    else:
        before = " before, under this key" if reply.replayed else ""
        terminal.say(f"Accepted{before}: {reply.message_id}", "green")
    return 4 if isinstance(reply, BulkSent) and reply.unlisted else 0


def _tell_files(terminal: Terminal, reply: SentMedia) -> None:
    terminal.say(f"Accepted: {len(reply.files)} of the files are listed.", "green")
    for file in reply.files:
        terminal.say(f"  {file.name} ({file.type})")
        terminal.say(f"    message {file.message_id}")
        terminal.say(f"    media   {file.media_id}")


def _tell_bulk(terminal: Terminal, reply: BulkSent) -> int:
    terminal.say(f"Accepted for {len(reply.phones):,} phones.", "green")
    if not reply.unlisted:
        return 0
    terminal.say(f"Unknown for {len(reply.unlisted):,}, which the server did not list:", "yellow")
    for phone in reply.unlisted:
        terminal.say(f"  {mask_phone(phone)}")
    return 4
