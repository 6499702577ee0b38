"""`desk360 send contact`: a card from options, or cards from a JSON file in the vendor's shape."""

import json
from pathlib import Path
from typing import Any

import cattrs
from cattrs.errors import BaseValidationError

from desk360_async import (
    ConfigurationError,
    Contact,
    ContactEmail,
    ContactName,
    ContactOrganization,
    ContactPhone,
    ContactsMessage,
    ContactUrl,
    InvalidMessage,
)

from ._options import DEFAULTS, Common
from ._single import send_one

__all__ = ["contact", "load_contacts"]


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
    common: Common = DEFAULTS,
) -> int:
    """Send a contact card, or several from a file.

    Args:
        to: The phone.
        name: The person's name, the family's name last.
        phone: A number on the card, in any spelling; may be repeated.
        email: An address; may be repeated.
        url: A link; may be repeated.
        company: Where the person works.
        birthday: Such as 2012-08-18.
        file: A JSON list of cards, in the shape of Desk360's document, in place of all that.
        common: Shared.
    """

    def make() -> ContactsMessage:
        if file is not None:
            return ContactsMessage(to, load_contacts(file))
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
        return ContactsMessage(to, [card])

    return send_one(common, make)


def load_contacts(file: Path) -> tuple[Contact, ...]:
    """Read cards from a JSON file: a list of objects, or one.

    Raises:
        ConfigurationError: if it can't be read, or holds something else.
        InvalidMessage: if a card breaks a limit.
    """
    try:
        given: Any = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--file {file}: {getattr(error, 'strerror', None) or error}") from None
    # Strict: an unknown word in a card would be dropped silently.
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        return converter.structure(given if isinstance(given, list) else [given], tuple[Contact, ...])
    except BaseValidationError as error:
        raise InvalidMessage("contacts", "; ".join(cattrs.transform_error(error))) from None
