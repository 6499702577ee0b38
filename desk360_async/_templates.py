"""The server's integrations, and its templates with their translations, as values.

As with the other replies, only ids are required, and `.raw` holds the JSON as it came (ruling 22).
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from attrs import field, frozen

from ._arguments import shown
from ._attachments import Attachment
from ._errors import InvalidMessage
from ._redaction import show_half_made
from ._replies import raw_field, tail

T = TypeVar("T")


@frozen
class Integration:
    """One of your WhatsApp numbers. Implements "Integrations".

    The document shows two shapes; both are accepted. Live answers also have `status` (seen, not documented).
    """

    id: int
    display_name: str | None = None
    phone_number: str | None = field(default=None, repr=tail)
    name: str | None = None
    logo: str | None = field(default=None, repr=False)
    status: int | str | None = None
    raw: Mapping[str, Any] = raw_field()


@frozen
class Choice:
    """A value with its label, as "WhatsApp Message Templates" writes header types.

    Attributes:
        value: the vendor's number or word for the choice.
        label: the choice's name.
    """

    value: int | str | None = None
    label: str | None = None
    raw: Mapping[str, Any] = raw_field()


@frozen
class Category:
    """A template's category ("WhatsApp Message Templates").

    Attributes:
        value: the vendor's number for the category.
        label: the category's name.
        sub_label: its second name (`subLabel`).
        status: the vendor's number or word; new ones may come.
        children: the categories below it.
    """

    value: int | str | None = None
    label: str | None = None
    sub_label: str | None = None
    status: int | str | None = None
    children: "tuple[Category, ...]" = ()
    raw: Mapping[str, Any] = raw_field()


# attrs keeps the annotation `Category` as text, and readers of `__init__` can't resolve it.
Category.__init__.__annotations__["children"] = tuple[Category, ...]


@frozen
class SupportedLanguage:
    """A language that a template may have ("WhatsApp Message Templates").

    Attributes:
        label: its name, such as "English".
        value: its id, as a send's `language` takes it.
        filled: whether the template has a translation in this language.
    """

    label: str | None = None
    value: int | None = None
    filled: bool | None = None
    raw: Mapping[str, Any] = raw_field()


@frozen
class TemplateVariable:
    """A variable's place in a text, with an example of its filling ("WhatsApp Message Templates")."""

    id: str | None = None
    key: str | None = None
    value: str | None = None
    raw: Mapping[str, Any] = raw_field()


ACTIVE = 2  # the document's `status_value` of "template-messages.active"; 1 is "in-review"
TEXT_HEADER = 4  # the document's `header_type.value` of "TEXT"


@frozen
class Translation:
    """A template in one language. Implements "WhatsApp Message Templates".

    Attributes:
        language_id: its language's id.
        language: its language's label, such as "English".
        header_type: the header's type: TEXT, IMAGE, VIDEO or DOCUMENT; None without a header.
        header_variables: the header's variables.
        header: the header's text, or None.
        header_file: the file that the template was made with, as the vendor describes it.
        body: the text, with `{{1}}` where a variable stands.
        body_variables: the body's variables.
        footer: the footer's text, or None.
        variables: the keys that a send must fill, such as "header-1" and "body-1".
        buttons: the buttons, as the vendor describes them.
        editable: whether the translation can be changed in the panel.
        status: the vendor's word, such as "template-messages.active"; other words may come.
        status_value: 2 is active (documented), 1 is in review; other values may come.
        quality: WhatsApp's rating, in the vendor's words.
        updated_at: when the translation was changed, or None.
    """

    language_id: int | None = None
    language: str | None = None
    header_type: Choice | None = None
    header_variables: tuple[TemplateVariable, ...] = ()
    header: str | None = None
    header_file: Any = None
    body: str | None = None
    body_variables: tuple[TemplateVariable, ...] = ()
    footer: str | None = None
    variables: tuple[str, ...] = ()
    buttons: tuple[Mapping[str, Any], ...] = ()
    editable: bool | None = None
    status: str | None = None
    status_value: int | None = None
    quality: str | None = None
    updated_at: datetime | None = None
    raw: Mapping[str, Any] = raw_field()

    @property
    def active(self) -> bool:
        """Whether the translation can be sent; one without `status_value` counts as active."""
        return self.status_value is None or self.status_value == ACTIVE

    @property
    def needs_attachment(self) -> bool:
        """Whether the header is a file: there is a header type, and it isn't text."""
        if self.header_type is None or (self.header_type.label is None and self.header_type.value is None):
            return False
        return self.header_type.value != TEXT_HEADER and (self.header_type.label or "").upper() != "TEXT"

    def check(
        self, parameters: Mapping[str, str] | None = None, attachment: Attachment | None = None
    ) -> None:
        """Check that parameters and a file fit this translation.

        Args:
            parameters: the text for each variable.
            attachment: the file for a media header.

        Raises:
            InvalidMessage: if a variable is missing or unknown, or a file is missing or surplus; the message
                lists the known names.
        """
        self._check_parameters(set(parameters or ()))
        if self.needs_attachment and attachment is None:
            kind = self.header_type.label if self.header_type else None
            raise InvalidMessage("attachment", f"is missing; the header of {self._label} is a file ({kind})")
        if attachment is not None and not self.needs_attachment:
            raise InvalidMessage("attachment", f"is not taken; the header of {self._label} is no file")

    def _check_parameters(self, given: set[str]) -> None:
        if self.raw and self.raw.get("variables") is None:
            return  # the server sent no list of variables (ruling 22), so no name is known to be wrong
        expected = ", ".join(self.variables) or "none"
        surplus = sorted(given - set(self.variables))
        if missing := [key for key in self.variables if key not in given]:
            unknown = f" and has unknown {', '.join(surplus)}" if surplus else ""
            raise InvalidMessage(
                "parameters", f"lacks {', '.join(missing)}{unknown}; {self._label} takes: {expected}"
            )
        if surplus:
            raise InvalidMessage(
                "parameters", f"has unknown {', '.join(surplus)}; {self._label} takes: {expected}"
            )

    def render(self, parameters: Mapping[str, str] | None = None) -> str:
        """Return the text as the customer will read it: header, body and footer, a blank line between.

        Args:
            parameters: the text for each variable.

        Raises:
            InvalidMessage: if a variable is missing or unknown; the message lists the variables.
        """
        filled = dict(parameters or {})
        self._check_parameters(set(filled))
        header = None if self.needs_attachment else _fill(self.header, "header", filled)
        lines = (header, _fill(self.body, "body", filled), self.footer)
        return "\n\n".join(line for line in lines if line)

    @property
    def _label(self) -> str:
        return self.language or f"language {self.language_id}"


def _fill(text: str | None, part: str, parameters: Mapping[str, str]) -> str | None:
    # The text is split first: a parameter that contains "{{2}}" must not be filled again.
    if text is None:
        return None
    head, *rest = text.split("{{")
    for piece in rest:
        number, closing, tail = piece.partition("}}")
        known = parameters.get(f"{part}-{number.strip()}") if closing else None
        head += "{{" + piece if known is None else known + tail
    return head


def fold(name: str) -> str:
    """Return a name's form for comparison: Unicode-normalised, without spaces around it, case kept."""
    return unicodedata.normalize("NFC", name).strip()


@frozen
class Template:
    """A message template with its translations. Implements "WhatsApp Message Templates"."""

    id: int
    name: str | None = None
    category_editable: bool | None = None
    sendable: bool | None = None
    category: Category | None = None
    category_label: str | None = None
    supported_languages: tuple[SupportedLanguage, ...] = ()
    translations: tuple[Translation, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    raw: Mapping[str, Any] = raw_field()

    def _by_code(self, language: str) -> list[Translation]:
        """Return the translations of a language, given by its code, its own label or its English label."""
        wanted = _case_folded(language)
        labels = next((names for code, names in _LABELS.items() if wanted in (code, *names)), ())
        return [t for t in self.translations if t.language and _case_folded(fold(t.language)) in labels]

    def matches(self, template: int | str) -> bool:
        """Return whether this template has that id, or that name (Unicode-normalised and case-folded).

        Raises:
            InvalidMessage: if it is neither an id (int) nor a name (str).
        """
        if isinstance(template, bool) or not isinstance(template, int | str):
            kind = type(template).__name__
            raise InvalidMessage("template", f"must be its id (int) or its name (str), not {kind}")
        if isinstance(template, int):
            return template == self.id
        return bool(matching((self,), template, lambda named: named.name))

    def translation(self, language: int | str) -> Translation:
        """Return the translation in a language.

        Args:
            language: the language's id (int) or label (str). Labels are compared Unicode-normalised: exactly
                first, then case-folded. A code such as "tr" is accepted if one translation fits it.

        Raises:
            InvalidMessage: if there is no match, or more than one; the message lists the languages.
        """
        if isinstance(language, bool) or not isinstance(language, int | str):
            problem = f"must be an id (int) or a label (str), not {type(language).__name__}"
            raise InvalidMessage("language", problem)
        if isinstance(language, int):
            found = [t for t in self.translations if t.language_id == language]
        else:
            found = matching(self.translations, language, lambda t: t.language)
            found = found or self._by_code(language.strip())
        if len(found) == 1:
            return found[0]
        there_is = ", ".join(f"{t.language} ({t.language_id})" for t in self.translations) or "none"
        problem = "is ambiguous" if found else "is unknown"
        asked = repr(language) if isinstance(language, str) else shown(language)
        raise InvalidMessage(
            "language", f"{asked} {problem}; template {self.name or self.id} has: {there_is}"
        )


# ISO 639-1 code → the language's labels, case-folded: in the language itself and in English.
_LABELS = {
    "ar": ("العربية", "arabic"),
    "de": ("deutsch", "german"),
    "en": ("english",),
    "es": ("español", "spanish"),
    "fr": ("français", "french"),
    "it": ("italiano", "italian"),
    "ru": ("русский", "russian"),
    "tr": ("türkçe", "turkish"),
}


def matching(items: Sequence[T], name: str, name_of: Callable[[T], str | None]) -> list[T]:
    """Return the items that have this name: the exact matches, else the case-folded matches."""
    wanted = fold(name)
    named = [(fold(text), item) for item in items if (text := name_of(item)) is not None]
    exact = [item for text, item in named if text == wanted]
    return exact or [item for text, item in named if _case_folded(text) == _case_folded(wanted)]


def _case_folded(name: str) -> str:
    # Turkish has a dotted and a dotless letter i. Unicode doesn't fold I to the dotless i. It doesn't fold
    # the dotted capital to i either.
    return name.casefold().replace("i\u0307", "i").replace("\u0131", "i")


show_half_made(globals())
