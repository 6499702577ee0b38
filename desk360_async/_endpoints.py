"""The vendor's endpoints: one row each. The wire, the tests and the documentation use this table.

For a new endpoint write its message first (see the guide's page *The house*), then its row here. Then
`tests/core/test_endpoints.py` names each further place that the endpoint needs.
"""

from typing import Literal

from attrs import frozen

from . import _messages as m

_CONVERSATIONS = "/integrations/{integration_id}/conversations"


@frozen(kw_only=True)
class Endpoint:
    """One endpoint of the API.

    Attributes:
        name: the name of the client's method, and of the samples.
        heading: the vendor's heading.
        method: the HTTP method.
        path: the path below the base URL; the client fills in `{integration_id}` and `{media_id}`.
        message: the type of the message that makes the request, or None for a GET.
        reply: the type of the client's result.
        idempotent: whether a repeated request does no harm.
        files: whether the message may carry files.
    """

    name: str
    heading: str
    method: Literal["GET", "POST"] = "POST"
    path: str
    message: type | None = None
    reply: str = "Sent"
    idempotent: bool = False
    files: bool = False


ENDPOINTS = (
    Endpoint(
        name="list_integrations",
        heading="Integrations",
        method="GET",
        path="/integrations",
        reply="Page[Integration]",
        idempotent=True,
    ),
    Endpoint(
        name="list_templates",
        heading="WhatsApp Message Templates",
        method="GET",
        path=f"{_CONVERSATIONS}/templates",
        reply="Page[Template]",
        idempotent=True,
    ),
    Endpoint(
        name="send_template",
        heading="Send WhatsApp Message Template",
        path=f"{_CONVERSATIONS}/templates/send",
        message=m.TemplateMessage,
        files=True,
    ),
    Endpoint(
        name="send_template_bulk",
        heading="Bulk Send WhatsApp Message Template",
        path=f"{_CONVERSATIONS}/templates/send/bulk",
        message=m.TemplateBatch,
        files=True,
        reply="BulkSent",
    ),
    Endpoint(
        name="send_text",
        heading="Send WhatsApp Message",
        path=f"{_CONVERSATIONS}/messages",
        message=m.TextMessage,
    ),
    Endpoint(
        name="send_location",
        heading="Send WhatsApp Location Message",
        # Six samples have this path; the heading has `/messages` (ruling 2).
        path=f"{_CONVERSATIONS}/messages/locations",
        message=m.LocationMessage,
    ),
    Endpoint(
        name="send_contacts",
        heading="Send WhatsApp Contact Message",
        path=f"{_CONVERSATIONS}/messages/contacts",
        message=m.ContactsMessage,
    ),
    Endpoint(
        name="send_media",
        heading="Send WhatsApp Media Message",
        path=f"{_CONVERSATIONS}/messages/medias",
        message=m.MediaMessage,
        files=True,
        reply="SentMedia",
    ),
    Endpoint(
        name="get_media",
        heading="Get WhatsApp Media",
        method="GET",
        path=f"{_CONVERSATIONS}/messages/medias/{{media_id}}",
        reply="Media",
        idempotent=True,
    ),
    Endpoint(
        name="send_interactive",
        heading="Send WhatsApp Interactive Message",
        path=f"{_CONVERSATIONS}/messages/interactive",
        message=m.InteractiveMessage,
    ),
    Endpoint(
        name="send_location_request",
        heading="Send WhatsApp Location Request Interactive Message",
        path=f"{_CONVERSATIONS}/messages/interactive/location-request",
        message=m.LocationRequestMessage,
    ),
    Endpoint(
        name="mark_read",
        heading="Read WhatsApp Message",
        path=f"{_CONVERSATIONS}/messages/reads",
        message=m.ReadMessage,
        reply="tuple[str, ...]",
        idempotent=True,
    ),
)
ENDPOINT_OF = {endpoint.message: endpoint for endpoint in ENDPOINTS if endpoint.message is not None}
ENDPOINT_NAMED = {endpoint.name: endpoint for endpoint in ENDPOINTS}
