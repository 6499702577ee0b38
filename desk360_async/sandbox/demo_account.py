# ruff: noqa: RUF001 - a dotless i is a letter of Turkish, and meant
"""The account that a sandbox has when none is given: the document's two integrations, 25 templates and 3.

Template 75 of integration 11 is the document's own sample, word for word. 25 templates make a second page.
"""

from typing import Any

from desk360_async.sandbox.account import ACTIVE, IN_REVIEW, Account, complete_template

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
