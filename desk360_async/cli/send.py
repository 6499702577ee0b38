"""`desk360 send …`: one message; a whole list is in `lists`, and contact cards are in `contacts`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from desk360_async import (
    Button,
    ConfigurationError,
    DocumentHeader,
    ImageHeader,
    InteractiveMessage,
    Location,
    LocationMessage,
    LocationRequestMessage,
    MediaMessage,
    TemplateBatch,
    TemplateMessage,
    TextHeader,
    TextMessage,
    VideoHeader,
)

from ._options import DEFAULTS, Common, id_or_name
from ._single import send_one

__all__ = ["interactive", "location", "location_request", "media", "template", "text"]


def text(to: str, text: str, /, *, common: Common = DEFAULTS) -> int:
    """Send text to a customer who wrote before.

    Args:
        to: The phone.
        text: 1 to 4,096 characters.
        common: Shared.
    """
    return send_one(common, lambda: TextMessage(to, text))


def template(
    to: str,
    template: str,
    /,
    *,
    language: str,
    param: tuple[str, ...] = (),
    attachment: Path | None = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    common: Common = DEFAULTS,
) -> int:
    """Send a template to one phone, or the same to several in one request.

    Args:
        to: The phone, or several with commas between.
        template: The template's id or name; name:75 for a name of digits.
        language: The language's id or label.
        param: VARIABLE=TEXT, such as body-1=Ada; may be repeated.
        attachment: The file for a media header.
        yes: Send live to several without asking for their number.
        common: Shared.
    """
    phones = [phone for phone in to.split(",") if phone.strip()]
    wanted, tongue = id_or_name(template), id_or_name(language)
    parameters = dict(_pair(word, "--param", "body-1=Ada") for word in param) or None

    def make() -> TemplateMessage | TemplateBatch:
        if len(phones) == 1:
            return TemplateMessage(
                phones[0], wanted, language=tongue, parameters=parameters, attachment=attachment
            )
        return TemplateBatch(phones, wanted, language=tongue, parameters=parameters, attachment=attachment)

    return send_one(common, make, recipients=len(set(phones)), sure=yes)


def location(
    to: str,
    /,
    *,
    latitude: float,
    longitude: float,
    name: str,
    address: str,
    common: Common = DEFAULTS,
) -> int:
    """Send a place on the map.

    Args:
        to: The phone.
        latitude: Degrees, -90 to 90.
        longitude: Degrees, -180 to 180.
        name: What the place is called.
        address: Where it is, in words.
        common: Shared.
    """
    return send_one(
        common,
        lambda: LocationMessage(
            to, Location(longitude=longitude, latitude=latitude, name=name, address=address)
        ),
    )


def media(to: str, /, *files: Path, common: Common = DEFAULTS) -> int:
    """Send 1 to 5 files of at most 20 MB each.

    Args:
        to: The phone.
        files: The files.
        common: Shared.
    """
    return send_one(common, lambda: MediaMessage(to, files))


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
    common: Common = DEFAULTS,
) -> int:
    """Send text with 1 to 10 buttons to press.

    Args:
        to: The phone.
        body: 1 to 1,024 characters.
        button: ID=TITLE, such as yes=Yes; repeat it for each button.
        header_text: A header of 1 to 60 characters.
        header_image: An image as header: its link.
        header_video: A video as header: its link.
        header_document: A document as header: its link.
        filename: The document's name, as the customer sees it.
        footer: 1 to 60 characters.
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
        return InteractiveMessage(to, body, buttons, header=given[0] if given else None, footer=footer)

    return send_one(common, make)


def location_request(to: str, body: str, /, *, common: Common = DEFAULTS) -> int:
    """Ask for the customer's location.

    Args:
        to: The phone.
        body: 1 to 1,024 characters.
        common: Shared.
    """
    return send_one(common, lambda: LocationRequestMessage(to, body))


def _pair(word: str, option: str, example: str) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    if not name or not equals:
        raise ConfigurationError(f"{option} {word}: must be like {option} {example}")
    return name, text
