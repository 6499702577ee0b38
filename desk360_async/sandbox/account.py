# ruff: noqa: RUF001 - a dotless i is a letter of Turkish, and meant
"""The account behind the sandbox: integrations and templates in the vendor's shape, and its seed file.

A seed file is JSON: `{"integrations": [{"id": 11, "display_name": "Shop", "templates": [...]}]}`. A template
may be a copy of the real API's answer. It may also be as short as
`{"id": 1, "name": "hi", "translations": [{"language_id": 1, "body": "Hello {{1}}"}]}`: the other fields are
filled in.

The demo's account has the document's two integrations. Integration 11 has 25 templates (two pages), and
integration 22 has 3. Template 75 of integration 11 is the document's own sample, word for word.

A file with one template on each line is a seed file too; its templates belong to integration 11. The command
`desk360 templates list --live --json > templates.json` writes such a file of your own templates.
"""

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

from attrs import field, frozen

from desk360_async.sandbox.forms import is_list, is_map

LANGUAGES = {1: "English", 2: "Türkçe"}
HEADER_TYPES = {"IMAGE": 1, "VIDEO": 2, "DOCUMENT": 3, "TEXT": 4}
ACTIVE: dict[str, Any] = {"status": "template-messages.active", "status_value": 2}
IN_REVIEW: dict[str, Any] = {"status": "template-messages.in-review", "status_value": 1}
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_SEEDED_AT = "2024-05-30T12:14:28.000000Z"


@frozen
class Account:
    """The lists under "Integrations" and "WhatsApp Message Templates", in the vendor's shape.

    Attributes:
        integrations: as the API lists them.
        templates: an integration's id → its templates, as the API lists them.
    """

    integrations: tuple[dict[str, Any], ...]
    templates: dict[int, tuple[dict[str, Any], ...]] = field(repr=False)

    def template(self, integration_id: int, template_id: int) -> dict[str, Any] | None:
        """Find one template, or None."""
        found = (row for row in self.templates.get(integration_id, ()) if row["id"] == template_id)
        return next(found, None)


def is_active(translation: dict[str, Any]) -> bool:
    """Whether WhatsApp has approved a translation; by the document, only "active" templates are sent."""
    return bool(translation["status"] == ACTIVE["status"])


def header_label(translation: dict[str, Any]) -> str | None:
    """Name the header's type (TEXT, IMAGE, VIDEO, DOCUMENT), or None if there is no header type."""
    header: dict[str, Any] | None = translation.get("header_type")
    return header.get("label") if header else None


def load_account(path: str | PathLike[str]) -> Account:
    """Read a seed file.

    Raises:
        OSError: if the file can't be read.
        ValueError: if the file isn't JSON of a seed file's shape; the message names the field.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        templates = _lines_of_templates(text)
        document = json.loads(text) if templates is None else {"integrations": [{"id": 11} | templates]}
    except ValueError as error:
        msg = f"{path}: not a JSON file in UTF-8: {error}"
        raise ValueError(msg) from error
    return parse_account(document)


def _lines_of_templates(text: str) -> dict[str, Any] | None:
    """Return the templates of a file with one template on each line; None for any other file."""
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return None
    if not rows or not all(is_map(row) and "translations" in row for row in rows):
        return None
    return {"display_name": "Shop", "templates": rows}


def parse_account(document: Any) -> Account:
    """Build an account out of a seed file's JSON.

    Args:
        document: the decoded JSON.

    Raises:
        ValueError: if the JSON isn't a seed file's; the message names the defect and its place.
    """
    rows = _list(document, "integrations", "the seed file")
    integrations: list[dict[str, Any]] = []
    templates: dict[int, tuple[dict[str, Any], ...]] = {}
    for number, row in enumerate(rows):
        where = f"integrations[{number}]"
        identity = _id(row, "id", where)
        if identity in templates:
            msg = f"{where}: integration {identity} is there twice"
            raise ValueError(msg)
        integrations.append({key: value for key, value in row.items() if key != "templates"})
        given = _list(row, "templates", where) if "templates" in row else []
        templates[identity] = tuple(
            complete_template(template, f"{where}.templates[{index}]") for index, template in enumerate(given)
        )
    return Account(tuple(integrations), templates)


def complete_template(given: Any, where: str = "template") -> dict[str, Any]:
    """Return a template with all fields that the API lists; a field that is not given gets a default."""
    identity = _id(given, "id", where)
    rows = _list(given, "translations", where)
    translations = [
        complete_translation(row, f"{where}.translations[{number}]") for number, row in enumerate(rows)
    ]
    if not translations:
        msg = f"{where}.translations: must not be empty"
        raise ValueError(msg)
    category: dict[str, Any] = {
        "value": 2,
        "label": "template-messages.new.custom",
        "subLabel": "template-messages.new.custom-subtitle",
        "status": 1,
        "children": [],
    }
    languages = [
        {"label": row["language"], "value": row["language_id"], "filled": True} for row in translations
    ]
    defaults: dict[str, Any] = {
        "id": identity,
        "name": f"template_{identity}",
        "category_editable": False,
        "sendable": any(map(is_active, translations)),
        "category": category,
        "category_label": category["label"],
        "supported_languages": languages,
    }
    dates = {"created_at": _SEEDED_AT, "updated_at": _SEEDED_AT}
    template: dict[str, Any] = defaults | dates | given | {"translations": translations}
    return template


def complete_translation(given: Any, where: str = "translation") -> dict[str, Any]:
    """Return a translation with all fields; its variables are the placeholders of its header and body."""
    language_id = _id(given, "language_id", where)
    body, header = given.get("body") or "", given.get("header")
    header_keys, body_keys = placeholders(header or ""), placeholders(body)
    header_type = given.get("header_type", "TEXT" if header else None)
    if isinstance(header_type, str):
        if header_type not in HEADER_TYPES:
            msg = f"{where}.header_type: {header_type!r} is none of {', '.join(HEADER_TYPES)}"
            raise ValueError(msg)
        header_type = {"value": HEADER_TYPES[header_type], "label": header_type}
    defaults = {
        "language_id": language_id,
        "language": LANGUAGES.get(language_id, f"Language {language_id}"),
        "header_variables": _examples(header_keys),
        "header": None,
        "header_file": None,
        "body": body,
        "body_variables": _examples(body_keys),
        "footer": None,
        "variables": [f"header-{key}" for key in header_keys] + [f"body-{key}" for key in body_keys],
        "buttons": [],
        "editable": True,
        "quality": "template-messages.quality-unavailable",
        "updated_at": _SEEDED_AT,
    }
    translation: dict[str, Any] = defaults | ACTIVE | given | {"header_type": header_type}
    return translation


def placeholders(text: str) -> list[str]:
    """List the keys of `{{1}}`, `{{2}}` … in a text, each once, in order."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(text)))


def _examples(keys: list[str]) -> list[dict[str, str]] | None:
    return [{"id": "", "key": key, "value": f"Sample {key}"} for key in keys] or None


def _list(row: Any, name: str, where: str) -> list[Any]:
    value = row.get(name) if is_map(row) else None
    if not is_list(value):
        msg = f"{where}: {name!r} must be a list"
        raise ValueError(msg)
    return value


def _id(row: Any, name: str, where: str) -> int:
    value = row.get(name) if is_map(row) else None
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{where}: {name!r} must be an integer"
        raise ValueError(msg)
    return value


_INTEGRATIONS = (
    {"id": 11, "display_name": "YourIntegration1", "phone_number": "+905554443322"},
    {"id": 22, "name": "YourIntegration2", "logo": "+905555555555"},
)

_DOCUMENTED_TEMPLATE: dict[str, Any] = {
    "id": 75,
    "name": "template_02",
    "sendable": True,
    "translations": [
        {
            "language_id": 1,
            "body": "English content test",
            **IN_REVIEW,
            "updated_at": "2024-05-31T06:33:30.000000Z",
        },
        {
            "language_id": 2,
            "header": "Merhaba {{1}} ,",
            "header_variables": [{"id": "", "key": "1", "value": "Header 1"}],
            "body": "Merhaba {{1}}, Sipariş takip numaranız: {{2}} Bu takip numarası ile siparişinizin "
            "durumunu sorgulayabilirsiniz.",
            "body_variables": [
                {"id": "", "key": "1", "value": "Ahmet Kara"},
                {"id": "", "key": "2", "value": "SP123456789"},
            ],
            **ACTIVE,
            "updated_at": "2024-05-30T12:16:37.000000Z",
        },
    ],
    "updated_at": "2024-05-31T06:33:30.000000Z",
}

# id, name, English body, Turkish body (None: not translated), further fields of every translation
_SHORT: tuple[tuple[int, str, str, str | None, dict[str, Any]], ...] = (
    (76, "order_shipped", "Hi {{1}}, order {{2}} is on its way 📦", "{{1}}, {{2}} yola çıktı 📦", {}),
    (77, "order_delivered", "Order {{1}} has been delivered.", "{{1}} teslim edildi.", {}),
    (78, "welcome", "Welcome to our shop!", "Mağazamıza hoş geldiniz!", {}),
    (79, "invoice", "Your invoice for {{1}}", "{{1}} faturanız", {"header_type": "DOCUMENT"}),
    (80, "catalogue", "Our new season is here ✨", "Yeni sezon geldi ✨", {"header_type": "IMAGE"}),
    (81, "how_to", "How to use {{1}}, in a minute", None, {"header_type": "VIDEO"}),
    (82, "appointment", "See you on {{1}} at {{2}}", "{{1}} günü saat {{2}}'de görüşürüz", {}),
    (83, "appointment_cancelled", "We cancelled {{1}}", "{{1}} iptal edildi", {"footer": "Reply STOP"}),
    (84, "payment_due", "{{1}} is due on {{2}}", "{{1}} için son gün {{2}}", {}),
    (85, "payment_received", "Thank you, we received {{1}}", "Teşekkürler, {{1}} alındı", {}),
    (86, "back_in_stock", "{{1}} is back 🎉", "{{1}} yeniden stokta 🎉", {}),
    (87, "feedback", "How was {{1}}?", "{{1}} nasıldı?", {}),
    (88, "birthday", "Happy birthday, {{1}} 🎂", "Doğum günün kutlu olsun, {{1}} 🎂", {}),
    (89, "new_year", "A happy new year!", "Mutlu yıllar!", {}),
    (90, "draft_campaign", "Up to {{1}} off", "{{1}} indirim", IN_REVIEW),
    (91, "draft_notice", "Opening hours change", None, IN_REVIEW),
    (92, "retired_offer", "Last chance: {{1}}", None, {"sendable": False}),
    (93, "ticket_opened", "We opened ticket {{1}}", "{{1}} numaralı talep açıldı", {"header": "Ticket"}),
    (94, "ticket_closed", "Ticket {{1}} is closed", "{{1}} numaralı talep kapandı", {"header": "Ticket"}),
    (95, "refund", "Your refund of {{1}} is done", "{{1}} iade edildi", {}),
    (96, "cart", "Your cart is waiting, {{1}} 🛒", "Sepetin bekliyor, {{1}} 🛒", {}),
    (97, "survey", "Three questions, {{1}}", "{{1}}, üç sorumuz var", {"header": "{{1}}"}),
    (98, "table_booked", "A table for {{1}}, {{2}}", "{{2}} için {{1}} kişilik masa", {}),
    (99, "ÇAĞRI", "Please call us", "Lütfen bizi arayın: ığüşöç İĞÜŞÖÇ", {}),
)

_OTHER: tuple[tuple[int, str, str, str | None, dict[str, Any]], ...] = (
    (175, "hello", "Hello {{1}}", "Merhaba {{1}}", {}),
    (176, "code", "Your code is {{1}}", "Kodunuz {{1}}", {}),
    (177, "goodbye", "Goodbye 👋", None, {}),
)


def _template(
    number: int, name: str, english: str, turkish: str | None, more: dict[str, Any]
) -> dict[str, Any]:
    shared = {key: value for key, value in more.items() if key != "sendable"}
    bodies = {1: english} if turkish is None else {1: english, 2: turkish}
    translations = [{"language_id": language, "body": body} | shared for language, body in bodies.items()]
    own = {"sendable": more["sendable"]} if "sendable" in more else {}
    return complete_template({"id": number, "name": name, "translations": translations} | own)


def demo_account() -> Account:
    """Build the default account; each call gives fresh objects, so that a test may change them."""
    first = (complete_template(_DOCUMENTED_TEMPLATE), *(_template(*row) for row in _SHORT))
    second = tuple(_template(*row) for row in _OTHER)
    return Account(tuple(dict(row) for row in _INTEGRATIONS), {11: first, 22: second})
