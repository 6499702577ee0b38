"""What can be pickled and copied is, by value; what can't says so."""

import copy
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

import desk360_async as d
from desk360_async._endpoints import ENDPOINT_OF
from tests.core.vendor import SENDS, message_of

PHONE = "+905551234567"
ROW: dict[str, Any] = {"id": 1, "name": "x", "languages": [{"id": 2, "label": "Türkçe"}]}

ERRORS = [
    d.Desk360Error("x", outcome=d.Outcome.UNKNOWN),
    d.ConfigurationError("x"),
    d.InvalidMessage("text", "is too long"),
    d.ClientStateError("closed"),
    d.RateLimitWaitTooLong("x", eta=2.5),
    d.KeyConflict("order-1", ["text", "to"]),
    d.SendInProgress("order-1", since=datetime(2026, 11, 28, tzinfo=UTC)),
    d.SendUnknown("order-1", since=datetime(2026, 11, 28, tzinfo=UTC), seen="read"),
    d.WindowClosed(PHONE, since=datetime(2026, 11, 28, tzinfo=UTC)),
    d.OptedOut(PHONE, since=datetime(2026, 11, 28, tzinfo=UTC)),
    *(
        kind(
            422, code="1", message="m", doc_url="u", body="b", headers={"a": "b"}, errors={"to": ["x", "y"]},
            retry_after=1.5, outcome=d.Outcome.NOT_SENT, hint="h",
        )
        for kind in (
            d.APIError, d.ValidationFailed, d.AuthenticationFailed, d.PermissionDenied, d.NotFound,
            d.RequestRefused, d.RateLimited, d.ServerError,
        )
    ),
    d.ConnectionFailed("x", outcome=d.Outcome.UNKNOWN),
    d.TimedOut("x", outcome=d.Outcome.NOT_SENT),
    d.UnexpectedResponse("x", status=200, body="b", problems=["p"], outcome=d.Outcome.ACCEPTED),
    d.InvalidWebhook("x", problems=["p"]),
]  # fmt: skip

PLACE = d.Location(longitude=28.97, latitude=41.01, name="Ofis", address="İstanbul")
CARD = d.Contact(
    d.ContactName("Ada L.", "Ada", "L."),
    phones=[d.ContactPhone(PHONE)],
    emails=[d.ContactEmail("a@example.com")],
    addresses=[d.ContactAddress(city="İzmir")],
    urls=[d.ContactUrl("https://example.com")],
    org=d.ContactOrganization("x"),
)
FILE = d.Attachment.from_bytes("a.pdf", b"x")
MESSAGES = [
    d.TextMessage(PHONE, "x"),
    d.TemplateMessage(PHONE, 1, language="Türkçe", parameters={"body-1": "Ada"}),
    d.TemplateBatch([PHONE], 1, language=2),
    d.LocationMessage(PHONE, PLACE),
    d.ContactsMessage(PHONE, [CARD]),
    d.MediaMessage(PHONE, [FILE]),
    *(
        d.InteractiveMessage(PHONE, "x", [d.Button("1", "ja")], header=header, footer="f")
        for header in (
            d.TextHeader("x"),
            d.ImageHeader("https://example.com/a.png"),
            d.VideoHeader("https://example.com/a.mp4"),
            d.DocumentHeader("https://example.com/a.pdf", "a.pdf"),
        )
    ),
    d.LocationRequestMessage(PHONE, "x"),
    d.ReadMessage(PHONE, ["a"]),
]

REPLIES = [
    d.Sent("gBEGx", raw={"message_id": "gBEGx"}),
    d.BulkSent(("905551234567",), (), raw={}),
    d.SentMedia((d.SentFile(media_id="1"),), raw={}),
    d.Answer(200, {"a": "b"}, {"x": [1]}),
    d.Media(b"x", "image/png", "a.png"),
    d.Page((1, 2), 1, False, following=None, raw=[]),
    d.SendResult(0, "row", MESSAGES[0], d.Outcome.ACCEPTED, d.Sent("a", raw={}), None),
]
STATUS = d.TokenBucket(limit=60, period=60.0).snapshot()
SETTINGS = [
    d.Timeouts(total=3.0),
    d.RetryPolicy(attempts=2),
    d.Outcome.UNKNOWN,
    STATUS,
    d.ServerLimit(60, 59, None),
]
ROWS = [
    d.Category(1, children=(d.Category(2),)),
    d.Choice(),
    d.SupportedLanguage(),
    d.TemplateVariable(),
    d.Translation(1),
]
PARTS = [*ROWS, PLACE, CARD, FILE, d.Button("1", "ja"), d.TextHeader("x"), d.SentFile(media_id="1")]


def same(error: Any) -> tuple[Any, ...]:
    """Return all that makes an error what it is."""
    return type(error), error.args, vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors(error: d.Desk360Error, protocol: int) -> None:
    """Errors come back with their class, text, outcome and all attributes."""
    assert same(pickle.loads(pickle.dumps(error, protocol))) == same(error)
    assert same(copy.copy(error)) == same(copy.deepcopy(error)) == same(error)


@pytest.mark.parametrize("value", MESSAGES + REPLIES + SETTINGS + PARTS, ids=lambda v: type(v).__name__)
def test_values(value: Any) -> None:
    """Messages, replies, results and settings come back equal, what came from the server included."""
    for back in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert back == value
        assert type(back) is type(value)
        assert getattr(back, "raw", None) == getattr(value, "raw", None)


@pytest.mark.anyio
@pytest.mark.parametrize("name", SENDS)
async def test_the_documents_messages(name: str) -> None:
    """The message of each endpoint, a new one included."""
    message = await message_of(name)
    assert pickle.loads(pickle.dumps(message)) == copy.copy(message) == copy.deepcopy(message) == message


def rows() -> Mapping[str, Any]:
    """Return rows of lists, read from JSON."""
    from desk360_async._codec import structure

    return {kind.__name__: structure(ROW, kind) for kind in (d.Integration, d.Template)}


@pytest.mark.parametrize("name", ["Integration", "Template"])
def test_rows(name: str) -> None:
    """The rows of lists come back equal, with all that is inside them."""
    row = rows()[name]
    assert pickle.loads(pickle.dumps(row)) == row
    assert pickle.loads(pickle.dumps(row)).raw == row.raw


def test_client() -> None:
    """A client holds connections and the key: it can't be pickled, and says what to do."""
    with pytest.raises(TypeError, match="make one where it is needed"):
        pickle.dumps(d.AsyncDesk360("k"))


# Alive, and so tied to their process; protocols and aliases; or inside others that are here.
_NOT_VALUES = {
    "AsyncDesk360", "AttemptEnd", "HostLimiter", "LogObserver", "Observer", "Operation", "OperationEnd",
    "Integrations", "Lane", "MediaStream", "Message", "Notice", "Permit",
    "PostgresLimiter", "RateLimiter", "Results", "Templates", "TokenBucket", "Transport", "__version__",
    "normalize_phone", "redact_logs",
}  # fmt: skip


def test_complete() -> None:
    """Every public class is pickled here, or is named as one that is no value."""
    shown = {type(value).__name__ for value in [*ERRORS, *MESSAGES, *REPLIES, *SETTINGS, *PARTS]}
    shown |= {kind.__name__ for kind in ENDPOINT_OF}
    shown |= {"Integration", "Template", "ContactName", "ContactPhone", "ContactEmail", "ContactAddress"}
    shown |= {"ContactOrganization", "ContactUrl", "ImageHeader", "VideoHeader", "DocumentHeader"}
    unseen = set(d.__all__) - shown - _NOT_VALUES
    assert not unseen, f"add {unseen} to a list of tests/failures/test_pickles.py"
