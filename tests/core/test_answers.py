"""Rulings 22 to 32a: whatever comes back is a reply or a Desk360Error with the right outcome."""

import json
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import (
    APIError,
    AuthenticationFailed,
    BulkSent,
    Category,
    Choice,
    Desk360Error,
    Integration,
    MediaMessage,
    NotFound,
    Outcome,
    PermissionDenied,
    RateLimited,
    ReadMessage,
    RequestRefused,
    Sent,
    ServerError,
    SupportedLanguage,
    Template,
    TemplateBatch,
    TextMessage,
    UnexpectedResponse,
    ValidationFailed,
    _json,
    _wire,
)
from desk360_async._attachments import Attachment
from desk360_async._calls import Answered, Call
from tests.core.fakes import ID, TO
from tests.core.vendor import SAMPLES, answer_sample

PHONES = ("+905555555555", "+905551112233")
CALLS: dict[str, Call] = {
    "text": _wire.call_for(TextMessage(TO, "hi"), 11),
    "media": _wire.call_for(MediaMessage(TO, [Attachment.from_bytes("a.png", b"")]), 11),
    "bulk": _wire.call_for(TemplateBatch(PHONES, 1, language=1), 11),
    "mark": _wire.call_for(ReadMessage(TO, [ID]), 11),
    "integrations": _wire.integrations_call(1),
    "templates": _wire.templates_call(1, 11),
    "post": _wire.free_call("POST", "/x", None, None, idempotent=False),
    "get": _wire.free_call("GET", "/x", None, None, idempotent=False),
}
SENDS = ("text", "media", "bulk")


def answered(body: Any, status: int = 200, **headers: str) -> Answered:
    """Make an answer of bytes, or of anything as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answered(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def read(name: str, body: Any, status: int = 200, **headers: str) -> Any:
    """Read an answer to one of the calls."""
    return _wire.read(CALLS[name], answered(body, status, **headers))


def refused(name: str, body: Any, status: int = 200, **headers: str) -> Any:
    """Return the error that an answer is."""
    with pytest.raises(Desk360Error) as caught:
        read(name, body, status, **headers)
    return caught.value


# ── the document's own ─────────────────────────────────────────────────────────────────────────────────


def test_the_documented_id_is_the_reply() -> None:
    """A send's answer; `.raw` is the JSON as it came."""
    reply = read("text", answer_sample("send_text"))
    assert reply == Sent("gBEGkFBXUQRnAgnoOJ1ESPKBwME")
    assert reply.raw == json.loads(answer_sample("send_text"))


def test_the_documented_files_are_the_reply() -> None:
    """Media are grouped by kind; each file's raw is its own row, nothing of ours added."""
    (file,) = read("media", answer_sample("send_media")).files
    row = json.loads(answer_sample("send_media"))["medias"]["images"][0]
    assert (file.kind, file.raw) == ("images", row)
    assert (file.media_id, file.message_id) == (row["media_id"], row["message_id"])
    assert (file.url, file.name, file.type) == (row["url"], row["name"], row["type"])


def test_the_documented_phones_are_taken_and_the_others_unlisted() -> None:
    """Numbers are compared by their digits."""
    reply = read("bulk", answer_sample("send_template_bulk"))
    assert reply == BulkSent(("+905555555555",), ("+905551112233",))
    assert read("bulk", {"phones": ["905551112233", 905555555555]}).unlisted == ()


def test_the_documented_ids_are_marked() -> None:
    """Read receipts."""
    ids = ("gBEGkFBXUQRnAgn6gWf5CzaF6Ko", "gBEGkFBXUQRnAglHuQTBEMHpUdo")
    assert read("mark", answer_sample("mark_read")) == ids


def test_the_documented_integrations_have_two_shapes() -> None:
    """Ruling 23: both are accepted, and the status that live ones carry."""
    assert list(read("integrations", answer_sample("list_integrations"))) == [
        Integration(11, display_name="YourIntegration1", phone_number="+905554443322"),
        Integration(22, name="YourIntegration2", logo="+905555555555"),
    ]
    assert read("integrations", [{"id": 1, "status": 1}])[0].status == 1


def test_the_documented_template_is_read_to_the_last_field() -> None:
    """Times are aware, the other fields typed."""
    (template,) = read("templates", answer_sample("list_templates"))
    assert (template.id, template.name, template.sendable) == (75, "template_02", True)
    assert template.category == Category(
        2, "template-messages.new.custom", "template-messages.new.custom-subtitle", 1
    )
    assert template.supported_languages[1] == SupportedLanguage("Türkçe", 2, True)
    assert template.created_at == datetime(2024, 5, 30, 12, 14, 28, tzinfo=UTC)
    turkish = template.translation("türkçe")
    assert turkish.variables == ("header-1", "body-1", "body-2")
    assert turkish.header_type == Choice(4, "TEXT")
    assert [v.value for v in turkish.body_variables] == ["Ahmet Kara", "SP123456789"]
    assert (turkish.active, template.translation(1).active) == (True, False)


def test_the_documented_error_is_read_though_it_is_no_json() -> None:
    """Ruling 24: the sample lacks a brace and a comma."""
    error = refused("text", (SAMPLES / "answers" / "error.txt").read_bytes(), 400)
    assert isinstance(error, ValidationFailed)
    assert (error.code, error.message) == ("failed_validation", "The to field is required.")
    assert error.doc_url == "https://docs.desk360.com/api"


# ── ruling 22: neighbouring types ──────────────────────────────────────────────────────────────────────

ROWS = {"id": 1, "name": "a"}, {"id": 2, "name": "b"}
LISTS: list[Any] = [
    [*ROWS],
    {"0": ROWS[0], "2": ROWS[1]},
    {"data": [*ROWS]},
    {"data": {"0": ROWS[0], "7": ROWS[1]}, "meta": {"page": 1}},
    [None, ROWS[0], None, ROWS[1]],
    [{"id": "1", "name": "a"}, {"id": 2.0, "name": "b", "surprise": [1]}],
]


@pytest.mark.parametrize("body", LISTS)
def test_what_php_calls_a_list_is_one(body: Any) -> None:
    """Holes, wrapping, nulls, ids as text."""
    assert [(t.id, t.name) for t in read("templates", body)] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(("body", "count"), [({"id": 5}, 1), ([], 0), ({}, 0), ({"data": []}, 0)])
def test_an_object_is_a_list_of_one_and_nothing_is_none(body: Any, count: int) -> None:
    """PHP's empty object is `[]`."""
    assert len(read("templates", body)) == count


ODD_TEMPLATE: dict[str, Any] = {
    "id": "75",
    "name": 12,
    "sendable": "1",
    "category_editable": "no idea",
    "category": [],
    "supported_languages": {"label": "English", "value": "1", "filled": 1},
    "translations": {"0": {"language_id": "2", "header_type": "TEXT", "buttons": {}, "variables": "body-1"}},
    "created_at": "2024-05-30 12:14:28",
    "updated_at": 17,
    "creator": "unknown fields are kept",
}


def test_neighbouring_types_are_read_as_what_they_mean() -> None:
    """And what means nothing is None; the raw JSON keeps it."""
    (template,) = read("templates", [ODD_TEMPLATE])
    assert (template.id, template.name, template.sendable, template.category_editable) == (
        75,
        "12",
        True,
        None,
    )
    assert template.category == Category()
    assert template.supported_languages == (SupportedLanguage("English", 1, True),)
    assert template.created_at == datetime(2024, 5, 30, 12, 14, 28, tzinfo=UTC)
    assert template.updated_at is None
    assert read("templates", [{"id": 1, "created_at": "yesterday"}])[0].created_at is None
    assert (template.translations[0].variables, template.translations[0].header_type) == (("body-1",), None)
    assert template.raw is not None
    assert template.raw["updated_at"] == 17


NO_IDS: list[Any] = [{"name": "x"}, {"id": None}, {"id": True}, {"id": "x"}, {"id": 1.5}, "text", 7, []]


@pytest.mark.parametrize("row", NO_IDS)
def test_a_row_without_its_id_is_named(row: Any) -> None:
    """The only thing that is required."""
    error = refused("templates", [{"id": 1}, row])
    assert isinstance(error, UnexpectedResponse)
    assert (error.problems, error.outcome) == (("required field missing @ $[1].id",), None)


def test_one_id_alone_is_enough() -> None:
    """Everything else may be missing."""
    assert read("templates", [{"id": 1}])[0] == Template(1)


@pytest.mark.parametrize("body", [[{"message_id": ID}], {"message_id": ID, "new": 1}])
def test_a_message_id_is_found_where_it_may_stand(body: Any) -> None:
    """A list of one object is that object."""
    assert read("text", body) == Sent(ID)


def test_a_number_may_be_a_message_id() -> None:
    """Ids are opaque text."""
    assert read("text", {"message_id": 17}) == Sent("17")


MEDIAS = [
    {"images": {"message_id": ID}},
    {"images": [{"message_id": ID}, None, "odd"]},
    [{"media_id": "m"}],
    {"files": {"3": {"media_id": "m"}}},
]


@pytest.mark.parametrize("medias", MEDIAS)
def test_files_are_found_however_they_are_grouped(medias: Any) -> None:
    """One object for a list of one, no groups, holes."""
    assert len(read("media", {"medias": medias}).files) == 1


# ── rulings 24 and 25: errors ──────────────────────────────────────────────────────────────────────────

STATUSES = [
    (400, ValidationFailed, "not_sent"),
    (401, AuthenticationFailed, "not_sent"),
    (403, PermissionDenied, "not_sent"),
    (404, NotFound, "not_sent"),
    (422, ValidationFailed, "not_sent"),
    (429, RateLimited, "not_sent"),
    *(
        (status, RequestRefused, "not_sent")
        for status in (301, 302, 304, 308, 402, 405, 406, 410, 413, 415, 451)
    ),
    *(
        (status, ServerError, "unknown")
        for status in (408, 409, 425, 499, 500, 502, 503, 504, 599, 600, 199, 999)
    ),
]


@pytest.mark.parametrize(("status", "kind", "outcome"), STATUSES)
@pytest.mark.parametrize("name", CALLS)
def test_the_status_decides_the_class(name: str, status: int, kind: type[APIError], outcome: str) -> None:
    """The status decides the class (ruling 24); reads have no outcome."""
    error = refused(name, b"", status)
    assert type(error) is kind
    assert error.outcome == (outcome if CALLS[name].has_outcome else None)
    assert (error.status, error.code, error.message, error.body) == (status, None, None, "")


DOCUMENTED = {"error": {"code": 1001, "message": "No.", "doc_url": "https://d"}}
BODIES: list[tuple[Any, tuple[str | None, str | None, str | None]]] = [
    (DOCUMENTED, ("1001", "No.", "https://d")),
    ([DOCUMENTED], ("1001", "No.", "https://d")),
    ({"error": "No."}, (None, "No.", None)),
    ({"message": "No.", "errors": {}}, (None, "No.", None)),
    ({"code": "c", "message": "No.", "doc_url": "d"}, ("c", "No.", "d")),
    ({"error": {"code": [], "message": {"to": "x"}, "doc_url": True}}, (None, None, None)),
    (b"<html>502 Bad Gateway</html>", (None, None, None)),
    (b'{"error": {"code": "c", "mess', ("c", None, None)),
    (b"\xff\xfe\x00", (None, None, None)),
    (b"", (None, None, None)),
    (b"[" * 5000, (None, None, None)),
    (b"\xef\xbb\xbf" + json.dumps(DOCUMENTED).encode(), ("1001", "No.", "https://d")),
]


@pytest.mark.parametrize(("body", "said"), BODIES)
def test_any_body_gives_an_error_with_what_there_is(body: Any, said: tuple[str | None, ...]) -> None:
    """Ruling 24: documented, text, Laravel's, HTML, broken, empty."""
    error = refused("text", body, 400)
    assert (error.code, error.message, error.doc_url) == said


SAID = {"error": {"code": "c", "message": "Geçersiz numara ışığı."}}
SPELLED_ERRORS = [
    (json.dumps(SAID).encode("utf-16"), "application/json; charset=utf-16"),
    (json.dumps(SAID, ensure_ascii=False).encode("iso-8859-9"), "application/json; charset=ISO-8859-9"),
    (b"\xef\xbb\xbf" + json.dumps(SAID, ensure_ascii=False).encode(), "application/json"),
    (
        b"<b>Warning</b>: \xfe\n" + json.dumps(SAID, ensure_ascii=False).encode("iso-8859-9"),
        "text/html; charset=iso-8859-9",
    ),
]


@pytest.mark.parametrize(("body", "kind"), SPELLED_ERRORS)
@pytest.mark.parametrize("status", [200, 400])
def test_an_errors_charset_is_honoured(body: bytes, kind: str, status: int) -> None:
    """Ruling 32a: for a refusal as for a success; the body that is kept can be read too."""
    error = refused("text", body, status, content_type=kind)
    assert (error.code, error.message) == ("c", "Geçersiz numara ışığı.")
    assert "\ufffd" not in error.body
    assert "numara" in error.body


def test_an_error_in_an_unknown_charset_keeps_its_text() -> None:
    """As far as it is UTF-8."""
    error = refused("text", b"<p>\xff No.</p>", 400, content_type="text/html; charset=klingon")
    assert (error.message, error.body) == (None, "<p>\ufffd No.</p>")


def test_a_warning_in_front_of_an_error_hides_nothing() -> None:
    """Ruling 32a: Laravel's errors by field stand behind it."""
    noise = b"<br />\n<b>Warning</b>: x in <b>y.php</b><br />\n"
    body = noise + json.dumps({"message": "Invalid.", "errors": {"to": ["is required"]}}).encode()
    error = refused("text", body, 400)
    assert (error.message, error.errors) == ("Invalid.", {"to": ("is required",)})


def test_a_long_error_is_understood() -> None:
    """More is read of it than what is kept."""
    error = refused("text", {"errors": {"x" * 70_000: ["bad"]}, "message": "No."}, 422)
    assert (error.message, len(error.errors), len(error.body)) == ("No.", 1, 65536)


def test_laravels_errors_are_told_by_field() -> None:
    """Ruling 24: with 422, and inside the documented object."""
    errors = {"to": ["bad", 7], "text": "long", "x": None}
    for body in ({"message": "m", "errors": errors}, {"error": {"errors": errors}}):
        assert refused("text", body, 422).errors == {"to": ("bad", "7"), "text": ("long",), "x": ()}


def test_an_error_tells_how_long_to_wait() -> None:
    """Ruling 31: seconds, or nothing where it is garbage."""
    assert refused("text", b"", 429, retry_after="26").retry_after == 26
    assert refused("text", b"", 429, retry_after="soon").retry_after is None


# code → class, outcome: as the status of the same meaning has them.
CODES = [
    ("failed_validation", ValidationFailed, Outcome.NOT_SENT),
    ("authentication_exception", AuthenticationFailed, Outcome.NOT_SENT),
    ("invalid_credentials", AuthenticationFailed, Outcome.NOT_SENT),
    ("not_authorized", PermissionDenied, Outcome.NOT_SENT),
    ("not_found", NotFound, Outcome.NOT_SENT),
    ("not_found_exception", NotFound, Outcome.NOT_SENT),
    ("model_not_found_exception", NotFound, Outcome.NOT_SENT),
    ("method_not_allowed_exception", RequestRefused, Outcome.NOT_SENT),
    ("insecure_request_exception", RequestRefused, Outcome.NOT_SENT),
    ("too_many_requests_exception", RateLimited, Outcome.NOT_SENT),
    ("too_many_attempts", RateLimited, Outcome.NOT_SENT),
    ("internal_server_error", ServerError, Outcome.UNKNOWN),
    ("quota", ServerError, Outcome.UNKNOWN),
    (1001, ServerError, Outcome.UNKNOWN),
    (None, ServerError, Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("code", "kind", "outcome"), CODES)
@pytest.mark.parametrize("name", CALLS)
def test_an_errors_code_on_a_200_decides_class_and_outcome(
    name: str, code: Any, kind: type[APIError], outcome: Outcome
) -> None:
    """Ruling 25."""
    found = refused(name, {"error": {"code": code, "message": "No."}})
    assert (type(found), found.status, found.message) == (kind, 200, "No.")
    assert found.outcome == (outcome if CALLS[name].has_outcome else None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [("No.", ServerError), ("failed_validation", ValidationFailed), ({"x": 1}, ServerError)],
)
def test_an_error_of_text_may_be_its_code(error: Any, kind: type[APIError]) -> None:
    """Ruling 25: without a code the error proves nothing."""
    assert type(refused("text", {"error": error})) is kind


LIMITED: list[Any] = [
    {"error": {"code": "too_many_requests_exception"}},
    {"error": {"code": "too_many_attempts", "message": "Wait."}},
    {"error": "too_many_attempts"},
    [{"error": {"code": "too_many_attempts"}, "phones": []}],
]


@pytest.mark.parametrize("body", LIMITED)
def test_too_many_requests_on_a_200_becomes_a_429_that_shows_its_200(body: Any) -> None:
    """Ruling 25: the pipeline waits for it as for a 429."""
    found = _wire.as_refusal(answered(body))
    assert (found.status, found.sent_as) == (429, 200)
    error = _wire.error_from(CALLS["text"], found)
    assert (type(error), error.status, error.outcome) == (RateLimited, 200, Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": "too_many_attempts"}, "message_id": ID}, 200),
        ({"error": {"code": "too_many_attempts"}, "phones": [TO]}, 200),
        ({"error": {"code": "failed_validation", "message": "too_many_x"}}, 200),
        ({"error": [], "code": "too_many_attempts"}, 200),
        (b"too_many_attempts", 200),
        ({"error": {"code": "too_many_attempts"}}, 500),
    ],
)
def test_another_answer_stays_as_it_is(body: Any, status: int) -> None:
    """An id beside the error wins, and so does a status that is no success."""
    came = answered(body, status)
    assert _wire.as_refusal(came) is came


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("text", {"message_id": ID}),
        ("media", {"medias": {"images": [{"message_id": ID}]}}),
        ("bulk", {"phones": ["+905555555555"]}),
        ("mark", {"message_ids": [ID]}),
    ],
)
def test_an_error_beside_an_id_is_kept_raw(name: str, body: dict[str, Any]) -> None:
    """Ruling 25: the send was accepted."""
    reply = read(name, body | {"error": {"code": "c"}})
    assert name == "mark" or reply.raw["error"] == {"code": "c"}


@pytest.mark.parametrize("error", [None, False, [], "", 0, {}])
def test_an_empty_error_is_none(error: Any) -> None:
    """Ruling 25."""
    assert read("text", {"message_id": ID, "error": error}) == Sent(ID)
    assert type(refused("text", {"error": error})) is UnexpectedResponse


@pytest.mark.parametrize(("name", "body"), [("bulk", {"phones": []}), ("mark", {"message_ids": []})])
def test_an_error_beside_an_empty_list_is_an_error(name: str, body: dict[str, Any]) -> None:
    """Nothing usable stands beside it."""
    assert refused(name, body | {"error": {"code": "not_found"}}).outcome is Outcome.NOT_SENT


# ── ruling 26: successes that can't be read ────────────────────────────────────────────────────────────

UNREADABLE: list[Any] = [
    b"",
    b" \r\n",
    b"<html>",
    b"{",
    b"NaN",
    b"\xff",
    [],
    {},
    None,
    "text",
    7,
    {"message_id": ""},
    {"message_id": True},
    {"status": "fail", "message": "Insufficient balance"},
    {"success": False, "errors": ["quota"]},
    {"data": {"error": "x"}},
    b"<html>We'll be back soon</html>",
]


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("name", SENDS)
def test_a_success_without_the_reply_is_unknown(name: str, body: Any) -> None:
    """A maintenance page comes with 200 too (ruling 26)."""
    error = refused(name, body, 201)
    assert type(error) is UnexpectedResponse
    assert error.outcome is Outcome.UNKNOWN
    assert error.status == 201
    assert error.problems[0] in str(error)


@pytest.mark.parametrize("phones", [None, "+905555555555", 7, True])
def test_a_batch_without_a_list_is_unknown(phones: Any) -> None:
    """Ruling 26: `{"phones": null}` too."""
    assert refused("bulk", {"phones": phones}).outcome is Outcome.UNKNOWN


OTHER = "+905555555555"
ROWS_OF_A_BATCH: list[Any] = [
    [{"phone": OTHER, "message_id": ID}, {"phone": TO, "error": "not on WhatsApp"}],
    [{"phone": OTHER, "error": None}, {"phone": TO, "errors": ["x"]}],
    [{"phone": OTHER, "status": "sent"}, {"phone": TO, "status": "failed"}],
    [{"phone": OTHER, "status": 1}, {"phone": TO, "status": "ERROR"}],
    [OTHER, {"phone": TO, "status": "invalid"}],
    [OTHER, {"phone": TO, "success": False}],
    [OTHER, True, {"x": 1}, None],
    {"0": {"phone": OTHER}, "7": {"phone": TO, "success": "false"}},
    {OTHER: {"message_id": ID}, TO: {"status": "failed"}},
    {OTHER: [], TO: None},
    {OTHER: "sent", TO: "failed"},
    {OTHER: True, TO: False},
]


@pytest.mark.parametrize("phones", ROWS_OF_A_BATCH)
def test_a_batchs_rows_are_believed(phones: Any) -> None:
    """Rulings 22 and 26: a row that reports a failure takes no number."""
    assert read("bulk", {"phones": phones}) == BulkSent((OTHER,), (TO,))


def test_numbers_without_plus_may_be_the_keys() -> None:
    """They are no indices of a PHP list."""
    assert read("bulk", {"phones": {"905555555555": {}, "905551112233": {}}}).unlisted == ()


@pytest.mark.parametrize("failure", [{"success": False}, {"status": "error"}, {"errors": ["quota"]}])
def test_a_batch_that_reports_a_failure_is_unknown(failure: dict[str, Any]) -> None:
    """Its list alone is no proof (ruling 26)."""
    error = refused("bulk", {"phones": list(PHONES), **failure})
    assert (type(error), error.outcome) == (UnexpectedResponse, Outcome.UNKNOWN)


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([{"media_id": "m"}, {"media_id": "n"}], 0),
        ([{"media_id": "m"}], 1),
        ([{"media_id": "m"}, {"media_id": "n", "status": "failed"}], 1),
        ([{"media_id": "m"}] * 3, 0),
    ],
)
def test_files_that_the_answer_lacks_are_counted(rows: list[Any], missing: int) -> None:
    """Ruling 26."""
    files = [Attachment.from_bytes("a.png", b""), Attachment.from_bytes("b.png", b"")]
    call = _wire.call_for(MediaMessage(TO, files), 11)
    assert _wire.read(call, answered({"medias": {"images": rows}})).missing == missing


def test_a_batch_that_lists_nobody_leaves_all_unlisted() -> None:
    """What isn't a number is nobody."""
    assert read("bulk", {"phones": [{"x": 1}, None]}) == BulkSent((), PHONES)


@pytest.mark.parametrize(
    "medias", [{"images": []}, {"images": ["x"]}, {"images": [{"name": "a"}]}, [], "x", {}]
)
def test_files_without_an_id_are_unreadable(medias: Any) -> None:
    """No file is proof of no send."""
    assert refused("media", {"medias": medias}).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("body", [b"", b"\n"])
def test_an_empty_receipt_marks_what_was_asked(body: bytes) -> None:
    """Ruling 26: `mark_read`."""
    assert read("mark", body, 204) == (ID,)


def test_a_free_call_may_answer_nothing() -> None:
    """204, or JSON, or an error that says so."""
    assert read("post", b"", 204).data is None
    assert read("get", [1]).data == [1]
    assert refused("post", b"<html>").outcome is Outcome.UNKNOWN
    assert refused("get", b"<html>").outcome is None


def test_a_damaged_body_is_told_by_its_damage() -> None:
    """Ruling 32a: too large, cut off, in an encoding that wasn't asked for."""
    with pytest.raises(UnexpectedResponse, match="over 8 MiB") as caught:
        _wire.read(CALLS["text"], Answered(200, {}, b"{}", "the body is over 8 MiB"))
    assert (caught.value.problems, caught.value.outcome) == (("the body is over 8 MiB",), Outcome.UNKNOWN)


# ── ruling 28: pagination ──────────────────────────────────────────────────────────────────────────────

LINKS = [
    ("<https://public-api.desk360.com/v1/integrations?page=2>; rel=next", 2),
    ('<https://x/?page=3>; rel="next"', 3),
    ("<https://x/?page=3>; REL=Next", 3),
    ('<https://x/?page=1>; rel="prev", <https://x/?a=b&page=4>; rel="last next"', 4),
    ('<https://x/?page=5>; title="a, b; rel=prev"; rel=next', 5),
    ('<https://x/?page=5>; title="\\"; rel=next"', None),
    ('<https://x/?page=6>; rel="prev next" ; x=y', 6),
    ("<?page=7>;rel=next", 7),
    ("<https://x/?page=2&page=8>; rel=next", 8),
    ("<https://x/?page=2>; rel=nextish", None),
    ("<https://x/?page=2>", None),
    ("<https://x/?page=two>; rel=next", None),
    ("<https://x/?page=-2>; rel=next", None),
    ("<https://x/?page=٢>; rel=next", None),
    ("<https://x/?page=12345678901>; rel=next", None),
    ("<https://x/>; rel=next", None),
    ("<https://[/?page=2>; rel=next", None),
    ("garbage", None),
    ("", None),
]


@pytest.mark.parametrize(("link", "page"), LINKS)
def test_only_the_page_of_a_next_link_is_used(link: str, page: int | None) -> None:
    """Quoted or not, several links, any case; commas in quotes don't split."""
    assert _wire.next_page({"link": link}) == page


@pytest.mark.parametrize(
    "link", ["<" * 60_000, '<x>; a="' + '\\"' * 30_000, "<x>" + "," * 60_000, "<x>;" + "a" * 60_000]
)
def test_a_hostile_link_is_read_in_no_time(link: str) -> None:
    """Linear, or this test would outlast the others together."""
    assert _wire.next_page({"link": link}) is None


@pytest.mark.parametrize(
    ("link", "has_next"), [("<?page=2>; rel=next", True), ("<?page=1>; rel=next", False), ("", False)]
)
def test_a_page_knows_whether_one_follows(link: str, has_next: bool) -> None:
    """Only a `next` that grows counts."""
    page = read("integrations", [{"id": 1}], link=link)
    assert (page.number, page.has_next, len(page), page[0].id, [*page[:1]]) == (1, has_next, 1, 1, [page[0]])


# ── ruling 32a: text ───────────────────────────────────────────────────────────────────────────────────

TEXTS = [
    (b'\xef\xbb\xbf{"message_id": "x"}', "application/json"),
    ('{"message_id": "x", "a": "ü"}'.encode("latin-1"), "application/json; charset=ISO-8859-1"),
    ('{"message_id": "x"}'.encode("utf-16"), 'application/json; Charset="utf-16"'),
    (b'{"message_id": "x", "lone": "\\ud800"}', "application/json"),
    (b'<br />\n<b>Warning</b>: foo in <b>x.php</b> on line <b>3</b><br />\n{"message_id": "x"}', "text/html"),
    (b'[not json]\n{nor this}\n{"message_id": "x"}', ""),
]


@pytest.mark.parametrize(("body", "kind"), TEXTS)
@pytest.mark.parametrize("fast", [True, False])
def test_text_is_decoded_as_it_says(
    body: bytes, kind: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A BOM is skipped, a charset honoured, a PHP warning passed over; alike with orjson and without."""
    if not fast:
        monkeypatch.setattr(_json, "_fast_loads", None)
    assert read("text", body, content_type=kind) == Sent("x")


ODD_JSON = [b"[" * 5000, b"[NaN]", b"[Infinity]", b"\x00", b"9" * 5000, b'{"a":' * 2000]


@pytest.mark.parametrize("body", ODD_JSON)
@pytest.mark.parametrize(
    "kind",
    [
        "x; charset=iso-8859-99",
        "x; charset=utf-99",
        "",
        "x; charset=klingon",
        "x; charset=rot13",
        "x; charset=utf-16",
        "x; charset=idna",
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_what_cant_be_decoded_is_unreadable(
    body: bytes, kind: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too deep, NaN, wrong or unknown charset; never another exception."""
    if not fast:
        monkeypatch.setattr(_json, "_fast_loads", None)
    error = refused("text", body, content_type=kind)
    assert isinstance(error, UnexpectedResponse)


# ── anything at all ────────────────────────────────────────────────────────────────────────────────────

_KEYS = ["id", "data", "error", "message_id", "message_ids", "medias", "phones", "code", "message", "errors"]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(_KEYS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_BODIES: st.SearchStrategy[bytes] = st.binary(max_size=60) | _JSON.map(
    lambda value: json.dumps(value).encode()
)
_HEADERS: st.SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(["content-type", "link", "retry-after", "date", "x-ratelimit-reset", "location"]),
    st.text(max_size=40)
    | st.sampled_from(
        ["<?page=2>; rel=next", "application/json; charset=utf-7", "-1", "Wed, 21 Oct 2015 07:28:00 GMT"]
    ),
)


@pytest.mark.parametrize("name", CALLS)
@given(status=st.integers(100, 999) | st.just(200), headers=_HEADERS, body=_BODIES)
@settings(max_examples=80, deadline=None)
def test_nothing_but_a_reply_or_our_error(
    name: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """An error is never ACCEPTED: that needs the reply itself."""
    call = CALLS[name]
    error: Any = None
    try:
        _wire.read(call, Answered(status, headers, body))
    except Desk360Error as found:
        error = found
    assert (error is None) <= (200 <= status < 300)
    if error is not None:
        assert (error.outcome is None) == (not call.has_outcome)
        assert error.outcome is not Outcome.ACCEPTED


# ── what nobody may read by accident ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "written", ["+905551112233", "905551112233", "5551112233", "90 555 111 22 33", "0555-111-2233"]
)
@pytest.mark.parametrize(
    "wrap",
    [lambda t: {"error": t}, lambda t: {"message": "m", "errors": {t: [t]}}, lambda t: f"<p>{t}".encode()],
)
def test_an_error_masks_the_calls_phone(written: str, wrap: Callable[[str], Any]) -> None:
    """However the server writes it, and wherever."""
    error = refused("text", wrap(f"{written} via {ID}"), 422, x_echo=written)
    told = f"{error} {error.body} {error.message} {error.errors} {error.headers}"
    assert "1112233" not in "".join(c for c in told if c.isdigit())
    assert ID not in told


OTHERS = [
    ("Number +905554443322 is blocked", "Number +…3322 is blocked"),
    ("+90 555 444 33 22", "+…3322"),
    ("?to=%2B905554443322&x=1", "?to=%2B…3322&x=1"),
    ("wa.me/905554443322", "wa.me/…3322"),
    ("(5554443322)", "(…3322)"),
    ("+4915112345678, 2024", "+…5678, 2024"),
]
# What no phone is: times, ids of rows, a media's UUID, fractions, a hash, one digit too many.
NO_PHONES = [
    "template 1234567, at 1717071268, or 1717071268123",
    "9f119afbf6d9-123456789012-44f5",
    "took 0.1234567890123 s",
    "sha 1234567890ab",
    "1234567890123456",
    "2024-05-30 12:14:28+00:00",
]


@pytest.mark.parametrize(("written", "masked"), OTHERS)
@pytest.mark.parametrize("name", ["text", "get"])
def test_an_error_masks_anybodys_phone(name: str, written: str, masked: str) -> None:
    """The server may speak of others than the call's own; reads have none of their own."""
    error = refused(name, {"error": {"message": written}, "more": {written: written}}, 403, x_echo=written)
    assert (error.message, error.headers["x-echo"]) == (masked, masked)
    assert json.loads(error.body) == {"error": {"message": masked}, "more": {masked: masked}}


@pytest.mark.parametrize("written", NO_PHONES)
def test_an_error_keeps_what_is_no_phone(written: str) -> None:
    """Ids and times are what an error is searched for."""
    assert refused("text", {"message": written}, 403).message == written


@pytest.mark.parametrize("written", ["+905554443322", "\\u002b905554443322", "905554443322"])
def test_a_list_that_cant_be_read_masks_its_phones(written: str) -> None:
    """JSON may write the plus as an escape."""
    error = refused("integrations", f'[{{"id": null, "phone_number": "{written}"}}]'.encode())
    assert "…3322" in error.body
    assert "905554443322" not in error.body


LEAKY: list[tuple[str, Any, int]] = [
    ("text", {"to": TO, "id": ID}, 200),
    ("text", [{"to": TO, "message_id": None}], 200),
    ("text", {"error": {"message": TO}}, 422),
    ("media", {"medias": {"images": [{"name": TO}]}}, 200),
    ("bulk", {"phones": TO}, 200),
    ("mark", {"error": {"message": ID}, "message_ids": []}, 200),
    ("templates", [{"name": TO}], 200),
    ("post", {"error": {"message": TO}}, 200),
]


@pytest.mark.parametrize(("name", "body", "status"), LEAKY)
def test_local_variables_show_no_answer(name: str, body: Any, status: int) -> None:
    """Some tracebacks print what the frames hold: a body's length is enough."""
    error = refused(name, body, status)
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    told = repr([frame.locals for frame in frames if frame.filename.endswith(("_wire.py", "_wire.py"))])
    assert f"<Answered {status}, " in told
    assert TO[1:] not in told
    assert ID not in told


def test_a_calls_repr_masks_its_path() -> None:
    """The user's own may hold a phone."""
    assert TO[1:] not in repr(_wire.free_call("GET", f"/contacts/{TO}", None, None, idempotent=True))
