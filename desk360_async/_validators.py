"""The vendor's limits on fields, as validators and converters for attrs.

Each raises `InvalidMessage` with the field, the limit and the fix. No message class is defined here.
"""

# pyright: basic
# Pyright is on basic, since the module takes values of any type; mypy --strict checks the rest.

import datetime
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

from attrs import Attribute, has

from ._arguments import shown
from ._attachments import Attachment
from ._errors import InvalidMessage
from ._phones import E164, Phone, Phones, parse_phone, parse_phones

T = TypeVar("T")
Check = Callable[[Any, "Attribute[Any]", Any], None]
File = Attachment | str | os.PathLike[str]

MOST_ID = 2**63 - 1  # a database's widest integer; PHP turns a larger one into a float


def check_unicode(text: str, where: str) -> str:
    """Return `text` if it has no lone surrogate. With one, the server loses every field (ruling 5)."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(where, f"holds a lone surrogate at position {error.start}; remove it") from None
    return text


def check_text(value: object, where: str, *, most: int | None = None, blank: bool = False) -> str:
    """Return the text of a field or an item, if it is within its limit.

    The limit counts Unicode code points, as Laravel does.

    Raises:
        InvalidMessage: if the value is no text, blank, too long, or holds a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidMessage(where, f"must be text, not {type(value).__name__}")
    # Laravel trims a text before it checks a required field. A limit counts all characters.
    if not blank and not value.strip():
        raise InvalidMessage(where, f"is {_void(value)}; write at least 1 character")
    if most is not None and len(value) > most:
        raise InvalidMessage(where, f"has {len(value):,} characters, the limit is {most:,}; shorten it")
    return check_unicode(value, where)


def text(most: int | None = None, *, blank: bool = False, optional: bool = False) -> Check:
    """Make a check of a text field: `most` code points, blank only if allowed."""

    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if value is not None or not optional:
            check_text(value, attribute.name, most=most, blank=blank)

    return check


def texts(most: int | None = None, *, hint: str = "") -> Check:
    """Make a check of a field that holds several texts. Each item is checked like a text field."""

    def check(_: object, attribute: "Attribute[Any]", values: Sequence[object]) -> None:
        for index, value in enumerate(values):
            try:
                check_text(value, f"{attribute.name}[{index}]", most=most)
            except InvalidMessage as error:
                raise InvalidMessage(error.field, f"{error.problem}{hint}") from None

    return check


def count(least: int, most: int, noun: str, *, fix: str = "leave some out") -> Check:
    """Make a check of a field that holds `least` to `most` items; `noun` is their name in the error."""

    def check(_: object, attribute: "Attribute[Any]", value: Sequence[object]) -> None:
        at_least_one(_, attribute, value)
        if len(value) < least:
            raise InvalidMessage(attribute.name, f"holds {len(value)} {noun}; give at least {least}")
        if len(value) > most:
            raise InvalidMessage(attribute.name, f"holds {len(value)} {noun}, the limit is {most}; {fix}")

    return check


def unique(*names: str) -> Check:
    """Make a check of a field whose items must differ in each of `names`; without names, as a whole."""

    def check(_: object, attribute: "Attribute[Any]", items: Sequence[object]) -> None:
        for name in names or ("",):
            seen: set[object] = set()
            for index, item in enumerate(items):
                value = getattr(item, name) if name else item
                if value in seen:
                    where = f"{attribute.name}[{index}]"
                    problem = f"{value!r} is used by an earlier item; each must be unique"
                    raise InvalidMessage(f"{where}.{name}" if name else where, problem)
                seen.add(value)

    return check


def _void(value: str) -> str:
    return "blank" if value else "empty"


def number(least: float, most: float) -> Check:
    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidMessage(attribute.name, f"must be a number of degrees, not {type(value).__name__}")
        if not least <= value <= most:  # NaN fails this too
            problem = f"must lie between {least} and {most} degrees, got {shown(value)}"
            raise InvalidMessage(attribute.name, problem)

    return check


def link(_: object, attribute: "Attribute[Any]", value: object) -> None:
    check_text(value, attribute.name)
    if not re.match(r"https?://[^/?#\s]", str(value)):
        raise InvalidMessage(
            attribute.name, "must be a link that starts with https:// or http:// and a host's name"
        )
    if bad := re.search(r"[\s\x00-\x1f\x7f-\x9f]", str(value)):
        problem = f"holds a space or a control character at position {bad.start()}; write %20 for a space"
        raise InvalidMessage(attribute.name, problem)


def iso_date(value: datetime.date | str | None) -> str | None:
    """Return an ISO date: the vendor's "Y-m-d"."""
    if value is None:
        return None
    if isinstance(value, datetime.date):
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    try:
        # fromisoformat also accepts "20120818" and week dates; the server refuses them.
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise InvalidMessage("birthday", "must be a datetime.date or text like '2012-08-18'")


def several(kind: type[T], value: object, where: str) -> tuple[T, ...]:
    """Return items of `kind` as a tuple. The error for a single item shows the right call."""
    items = listed(value, where)
    for index, item in enumerate(items):
        if not isinstance(item, kind):
            raise InvalidMessage(f"{where}[{index}]", _unlike(kind, item))
    return items


def _unlike(kind: type, value: object) -> str:
    """Return the problem of a value of a wrong class, with the call that makes a `kind` of ours."""
    if not has(kind):
        return f"must be {kind.__name__}, not {type(value).__name__}"
    parameters = signature(kind).parameters.values()
    due = [each for each in parameters if each.default is each.empty] or list(parameters)[:1]
    call = ", ".join(f"{each.name}=…" if each.kind is each.KEYWORD_ONLY else each.name for each in due)
    return f"must be {kind.__name__}({call}), not {type(value).__name__}"


def listed(value: object, where: str) -> tuple[Any, ...]:
    """Return an iterable as a tuple, except text, bytes, a mapping or a path.

    Raises:
        InvalidMessage: if the value is one of these, or no iterable. A `str` would be split into letters.
    """
    if isinstance(value, str | bytes | Mapping | os.PathLike) or not isinstance(value, Iterable):
        raise InvalidMessage(where, _lone(value, where))
    return tuple(value)


def _lone(value: object, where: str) -> str:
    singular = {"addresses": "address"}.get(where, where[:-1])
    if value is None:
        return f"takes a list, not None; give one, like [{singular}]"
    kind = type(value).__name__
    one = f"{kind}(...)" if has(type(value)) else singular
    return f"takes a list, not one {kind}; wrap it in a list: [{one}]"


def to_phone(value: str) -> Phone:
    if isinstance(value, str) and E164.fullmatch(value):
        return Phone(value)
    return Phone(parse_phone(value, "to"))


def to_phones(value: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(map(Phone, parse_phones(Phones(listed(value, "phones"))))) if value is not None else ()


def to_private(value: str) -> str:
    """Return a text whose repr is masked. Other values are returned unchanged; a validator refuses them."""
    return Phone(value) if isinstance(value, str) else value


def to_private_list(value: Iterable[str] | None) -> Iterable[str] | None:
    """Return phones as a tuple whose repr is their count. `listed` later refuses other values."""
    if isinstance(value, str):
        return to_private(value)
    return Phones(value) if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping) else value


def to_private_or_none(value: str | None) -> str | None:
    return None if value is None else to_private(value)


def at_least_one(_: object, attribute: "Attribute[Any]", value: Sequence[object]) -> None:
    if not value:
        raise InvalidMessage(attribute.name, "is empty; give at least one")


def id_or_name(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidMessage(
            attribute.name, f"must be an id (int) or a name (str), not {type(value).__name__}"
        )
    if isinstance(value, int) and not 1 <= value <= MOST_ID:
        raise InvalidMessage(attribute.name, f"an id is 1 to {MOST_ID:,}, got {shown(value)}")
    if isinstance(value, str):
        if not value.strip():
            raise InvalidMessage(attribute.name, f"is {_void(value)}; give an id or a name")
        check_unicode(value, attribute.name)


def to_message_ids(value: Iterable[str]) -> tuple[str, ...]:
    return listed(value, "message_ids")


def to_parameters(value: Mapping[str, str | int] | None) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        problem = (
            f"must map the template's variables to text, like {{'body-1': 'Ada'}}, not {type(value).__name__}"
        )
        raise InvalidMessage("parameters", problem)
    return {_parameter_key(key): _parameter(key, text) for key, text in value.items()}


def _parameter_key(key: object) -> str:
    # In a form, PHP nests a key with brackets, and cuts a key at NUL.
    if not isinstance(key, str) or not key or re.search(r"[\[\]\x00-\x1f]", key):
        raise InvalidMessage("parameters", f"{key!r} can't be a variable's name; they look like 'body-1'")
    return check_unicode(key, "parameters")


def _parameter(key: str, value: object) -> str:
    where = f"parameters[{key!r}]"
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            raise InvalidMessage(where, f"is {shown(value)}; no customer can read it") from None
    if not isinstance(value, str):
        problem = f"must be text, as the customer shall read it, not {type(value).__name__}"
        raise InvalidMessage(where, problem)
    if not value.strip():
        # The document has "Required parameters for the template". Laravel turns an empty text into null.
        raise InvalidMessage(where, f"is {_void(value)}; a template's variable must be filled, as with '-'")
    if "\0" in value:
        raise InvalidMessage(where, f"holds NUL at position {value.index(chr(0))}; remove it")
    return check_unicode(value, where)


def refused_by_whatsapp(text: str) -> str | None:
    """Return the reason why WhatsApp refuses a template's parameter; None if it accepts the text.

    Desk360 may accept such a message: the refusal then comes as a `failed` status, or not at all.
    """
    if "\n" in text or "\r" in text:
        return "a line break"
    if "\t" in text:
        return "a tab"
    if "     " in text:
        return "more than four spaces in a row"
    # Cf: zero-width spaces and bidi marks; Zs: spaces; Cc: control characters.
    if not any(unicodedata.category(c)[0] not in "CZ" for c in text):
        return "invisible characters only"
    return None


def to_attachment(value: File | None) -> Attachment | None:
    return None if value is None else Attachment.of(value)


def to_attachments(value: Iterable[File]) -> tuple[Attachment, ...]:
    items = listed(value, "attachments")
    return tuple(Attachment.of(item, f"attachments[{index}]") for index, item in enumerate(items))


def to_destinations(value: File | None) -> Attachment | None:
    """Return the destinations' file. If its bytes are in memory, each line is checked (ruling 20)."""
    if value is None:
        return None
    file = Attachment.of(value, "destinations_file")
    if file.content is not None:
        phones_of_file(file.content)
    return file


def phones_of_file(content: bytes) -> tuple[str, ...]:
    """Return the numbers of a destinations file: one column, no header, one number a line (ruling 20).

    Raises:
        InvalidMessage: if a line is no phone number (the message names the line), or the file has no number.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = content[: error.start].count(b"\n") + 1
        raise InvalidMessage("destinations_file", f"isn't UTF-8 in line {bad}; save it as UTF-8") from None
    phones: list[str] = []
    for line, cell in enumerate(text.splitlines(), 1):
        if phone := cell.strip().strip('"'):
            phones.append(parse_phone(phone, f"destinations_file, line {line}"))
    if not phones:
        raise InvalidMessage(
            "destinations_file", "holds no number; write one number a line, without a header"
        )
    return tuple(map(Phone, parse_phones(phones, "destinations_file")))


def counted(value: Sequence[object]) -> str:
    return f"<{len(value)}>"


def instance_of(kind: type, *, optional: bool = False) -> Check:
    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if not isinstance(value, kind) and not (optional and value is None):
            raise InvalidMessage(attribute.name, _unlike(kind, value))

    return check
