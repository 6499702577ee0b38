"""The asyncio-native Python SDK for the Desk360 WhatsApp Business API.

Start with `AsyncDesk360`. Every send ends with an outcome: accepted, not sent or unknown. An error has it as
`.outcome`. The client never repeats an unknown send unless you ask for it. Webhooks, campaigns, the sandbox
and the testing kit are separate packages: `desk360_async.webhooks`, `.campaigns`, `.sandbox`, `.testing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._attachments import Attachment
    from ._bucket import ServerLimit
    from ._client import AsyncDesk360
    from ._downloads import MediaStream
    from ._errors import (
        APIError,
        AuthenticationFailed,
        ClientStateError,
        ConfigurationError,
        ConnectionFailed,
        Desk360Error,
        InvalidMessage,
        InvalidWebhook,
        KeyConflict,
        NotFound,
        OptedOut,
        Outcome,
        PermissionDenied,
        RateLimited,
        RateLimitWaitTooLong,
        RequestRefused,
        SendInProgress,
        SendUnknown,
        ServerError,
        TimedOut,
        UnexpectedResponse,
        ValidationFailed,
        WindowClosed,
    )
    from ._fanout import Results
    from ._http import Transport
    from ._limiter import (
        Lane,
        Permit,
        RateLimiter,
        RateLimitStatus,
        TokenBucket,
    )
    from ._messages import (
        Button,
        Contact,
        ContactAddress,
        ContactEmail,
        ContactName,
        ContactOrganization,
        ContactPhone,
        ContactsMessage,
        ContactUrl,
        DocumentHeader,
        ImageHeader,
        InteractiveMessage,
        Location,
        LocationMessage,
        LocationRequestMessage,
        MediaMessage,
        Message,
        ReadMessage,
        TemplateBatch,
        TemplateMessage,
        TextHeader,
        TextMessage,
        VideoHeader,
    )
    from ._observer import AttemptEnd, LogObserver, Notice, Observer, Operation, OperationEnd
    from ._phones import normalize_phone
    from ._redaction import redact_logs
    from ._replies import (
        Answer,
        BulkSent,
        Media,
        Page,
        SendResult,
        Sent,
        SentFile,
        SentMedia,
    )
    from ._resources import (
        Integrations,
        Templates,
    )
    from ._settings import (
        RetryPolicy,
        Timeouts,
    )
    from ._shared_limiter import HostLimiter, PostgresLimiter
    from ._templates import (
        Category,
        Choice,
        Integration,
        SupportedLanguage,
        Template,
        TemplateVariable,
        Translation,
    )
    from ._version import __version__

__all__ = [
    "APIError",
    "Answer",
    "AsyncDesk360",
    "Attachment",
    "AttemptEnd",
    "AuthenticationFailed",
    "BulkSent",
    "Button",
    "Category",
    "Choice",
    "ClientStateError",
    "ConfigurationError",
    "ConnectionFailed",
    "Contact",
    "ContactAddress",
    "ContactEmail",
    "ContactName",
    "ContactOrganization",
    "ContactPhone",
    "ContactUrl",
    "ContactsMessage",
    "Desk360Error",
    "DocumentHeader",
    "HostLimiter",
    "ImageHeader",
    "Integration",
    "Integrations",
    "InteractiveMessage",
    "InvalidMessage",
    "InvalidWebhook",
    "KeyConflict",
    "Lane",
    "Location",
    "LocationMessage",
    "LocationRequestMessage",
    "LogObserver",
    "Media",
    "MediaMessage",
    "MediaStream",
    "Message",
    "NotFound",
    "Notice",
    "Observer",
    "Operation",
    "OperationEnd",
    "OptedOut",
    "Outcome",
    "Page",
    "PermissionDenied",
    "Permit",
    "PostgresLimiter",
    "RateLimitStatus",
    "RateLimitWaitTooLong",
    "RateLimited",
    "RateLimiter",
    "ReadMessage",
    "RequestRefused",
    "Results",
    "RetryPolicy",
    "SendInProgress",
    "SendResult",
    "SendUnknown",
    "Sent",
    "SentFile",
    "SentMedia",
    "ServerError",
    "ServerLimit",
    "SupportedLanguage",
    "Template",
    "TemplateBatch",
    "TemplateMessage",
    "TemplateVariable",
    "Templates",
    "TextHeader",
    "TextMessage",
    "TimedOut",
    "Timeouts",
    "TokenBucket",
    "Translation",
    "Transport",
    "UnexpectedResponse",
    "ValidationFailed",
    "VideoHeader",
    "WindowClosed",
    "__version__",
    "normalize_phone",
    "redact_logs",
]

# A module is loaded when one of its names is first used. So a webhook handler loads no HTTP client, and an
# unused part costs no time.
_HOMES = {
    "_attachments": "Attachment",
    "_client": "AsyncDesk360",
    "_downloads": "MediaStream",
    "_errors": (
        "APIError AuthenticationFailed ClientStateError ConfigurationError ConnectionFailed Desk360Error "
        "InvalidMessage InvalidWebhook KeyConflict NotFound OptedOut Outcome PermissionDenied "
        "RateLimitWaitTooLong RateLimited RequestRefused SendInProgress SendUnknown ServerError TimedOut "
        "UnexpectedResponse ValidationFailed WindowClosed"
    ),
    "_fanout": "Results",
    "_shared_limiter": "HostLimiter PostgresLimiter",
    "_http": "Transport",
    "_bucket": "ServerLimit",
    "_limiter": "Lane Permit RateLimitStatus RateLimiter TokenBucket",
    "_messages": (
        "Button Contact ContactAddress ContactEmail ContactName ContactOrganization ContactPhone ContactUrl "
        "ContactsMessage DocumentHeader ImageHeader InteractiveMessage Location LocationMessage "
        "LocationRequestMessage MediaMessage Message ReadMessage TemplateBatch TemplateMessage TextHeader "
        "TextMessage VideoHeader"
    ),
    "_observer": "AttemptEnd LogObserver Notice Observer Operation OperationEnd",
    "_phones": "normalize_phone",
    "_redaction": "redact_logs",
    "_replies": "Answer BulkSent Media Page SendResult Sent SentFile SentMedia",
    "_resources": "Integrations Templates",
    "_settings": "RetryPolicy Timeouts",
    "_templates": "Category Choice Integration SupportedLanguage Template TemplateVariable Translation",
    "_version": "__version__",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

# Type checkers would accept every name if they saw this function.
if not TYPE_CHECKING:  # pragma: no branch  # at run time it never is

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'desk360_async' has no attribute {name!r}")
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
