# ruff: noqa: E501 - a row a line
"""Values: phones, messages, replies and errors, as users hold them."""

import copy
import datetime
import pickle
import typing
from typing import Any

import attrs
import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import desk360_async
from desk360_async import (
    APIError,
    Attachment,
    BulkSent,
    Contact,
    ContactName,
    ContactPhone,
    ContactsMessage,
    Desk360Error,
    Integration,
    InvalidMessage,
    InvalidWebhook,
    Media,
    MediaMessage,
    Outcome,
    Page,
    RateLimitWaitTooLong,
    SendResult,
    Sent,
    SentFile,
    SentMedia,
    Template,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
    TimedOut,
    Translation,
    UnexpectedResponse,
)
from desk360_async._errors import mask_phone
from desk360_async._phones import digits_of, parse_phone
from desk360_async._validators import refused_by_whatsapp
from tests.core.fakes import ID, TO

SPELLINGS = [
    "+905551112233",
    " +90 555 111 22 33 ",
    "+90-555-111-22-33",
    "+90.555.111.2233",
    "+90 (555) 1112233",
    "+90 [555] 111/2233".replace("/", ""),
    "\u202a+90\u00a0555\u200e111\u20112233\u202c",
    "\ufeff+905551112233",
]


@pytest.mark.parametrize("written", SPELLINGS)
def test_a_phone_is_read_as_people_write_it(written: str) -> None:
    """Ruling 19: spaces, dashes, dots, brackets, NBSP and bidi marks."""
    assert parse_phone(written) == TO


@given(st.text())
def test_what_is_read_is_e164(text: str) -> None:
    """Ruling 19: or an error that shows no more than four characters of it."""
    try:
        phone = parse_phone(text)
    except InvalidMessage as error:
        phone = TO
        found = str(error)
        assert len(text) < 12 or text not in found
    assert phone[0] == "+"
    assert 7 <= len(digits_of(phone)) == len(phone) - 1 <= 15


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_every_e164_number_is_kept_as_it_is(phone: str) -> None:
    """Ruling 19."""
    assert parse_phone(phone) == phone


def test_a_mask_shows_four_characters_at_most() -> None:
    """Of long ones; of short ones nothing."""
    assert [mask_phone(p) for p in (TO, "12345", "1234", "")] == ["…2233", "…2345", "…", "…"]


VALUES: list[tuple[Any, str]] = [
    (TextMessage(TO, "hi"), "TextMessage(to='…2233', text='hi')"),
    (TemplateBatch([TO, "+905551112234"], 1, language=2), "TemplateBatch(phones=<2>, template=1, language=2, parameters=None, attachment=None, destinations_file=None)"),
    (ContactPhone("+1 650", None, "1650123"), "ContactPhone(phone='… 650', type=None, wa_id='…0123')"),
    (Sent(ID), "Sent(message_id='…BwME', replayed=False)"),
    (BulkSent((TO,)), "BulkSent(phones=<1>, unlisted=<0>, opted_out=<0>, replayed=False)"),
    (Integration(1, phone_number=TO, logo=TO), "Integration(id=1, display_name=None, phone_number='…2233', name=None, status=None)"),
    (Media(b"12"), "Media(content=<2 bytes>, content_type=None, filename=None)"),
    (Page((1,), 1, False), "Page(items=(1,), number=1, has_next=False)"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_reprs_hold_no_whole_phone(value: Any, text: str) -> None:
    """Nor a message id: it decodes to one."""
    assert repr(value) == text


MESSAGES = [
    TextMessage(TO, "hi"),
    TemplateMessage(TO, 1, language=2, parameters={"body-1": "x"}),
    MediaMessage(TO, [Attachment.from_bytes("a", b"x")]),
    ContactsMessage(TO, [Contact(ContactName("a", "b", "c"), birthday=datetime.date(2012, 8, 18))]),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_frozen_comparable_and_picklable(message: Any) -> None:
    """So that a list, a ledger or a log can hold them."""
    assert pickle.loads(pickle.dumps(message)) == message == copy.deepcopy(message)
    assert hash(message) == hash(copy.copy(message))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.to = "x"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (10**5000, r"parameters\['body-1'\].*no customer can read it"),
        ("a\0b", r"parameters\['body-1'\].*holds NUL at position 1"),
        (" ", r"parameters\['body-1'\].*must be filled"),
        (1.5, r"parameters\['body-1'\].*not float"),
    ],
    ids=["5,001 digits", "NUL", "blank", "a float"],
)
def test_a_parameter_that_no_customer_can_read_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(InvalidMessage, match=problem):
        TemplateMessage(TO, 1, language=1, parameters={"body-1": value})


def test_parameters_are_text_and_numbers_become_it() -> None:
    """As the customer shall read them."""
    assert TemplateMessage(TO, 1, language=1, parameters={"body-1": 5}).parameters == {"body-1": "5"}


def test_birthdays_are_iso_text() -> None:
    """Dates, datetimes and text; years have four digits."""
    name = ContactName("a", "b", "c")
    for given_ in (
        datetime.date(12, 8, 18),
        datetime.datetime(12, 8, 18, 5, tzinfo=datetime.UTC),
        "0012-08-18",
    ):
        assert Contact(name, birthday=given_).birthday == "0012-08-18"


@pytest.mark.parametrize("language", [None, True, 1.5, b"English"])
def test_a_language_is_an_id_or_a_label(language: Any) -> None:
    """True is no id, though it equals 1."""
    template = Template(1, translations=(Translation(language_id=1, language="English"),))
    with pytest.raises(InvalidMessage, match=f"must be an id.*not {type(language).__name__}"):
        template.translation(language)


@pytest.mark.parametrize("wanted", [None, True, 1.5, b"welcome"])
def test_a_template_is_matched_by_an_id_or_a_name(wanted: Any) -> None:
    """True is no id, though it equals 1."""
    with pytest.raises(InvalidMessage, match=f"must be its id.*not {type(wanted).__name__}"):
        Template(1, name="welcome").matches(wanted)


@pytest.mark.parametrize("language", [7, 10**5000], ids=["small", "5,000 digits"])
def test_an_unknown_language_lists_what_there_is(language: int) -> None:
    """However it is written."""
    template = Template(1, translations=(Translation(language_id=1, language="English"),))
    with pytest.raises(InvalidMessage, match=r"is unknown; template 1 has: English \(1\)"):
        template.translation(language)


MODELS = [
    value
    for name in desk360_async.__all__
    if isinstance(value := getattr(desk360_async, name), type) and attrs.has(value)
]


@pytest.mark.parametrize("model", MODELS)
def test_annotations_mean_something_at_run_time(model: type[Any]) -> None:
    """For pydantic, cattrs and other readers of types: each name is found where it is written."""
    hints = typing.get_type_hints(model)
    assert all(hints[field.name] is not None for field in attrs.fields(attrs.resolve_types(model)))
    assert typing.get_type_hints(model.__init__)


@pytest.mark.parametrize("message", MESSAGES)
def test_cattrs_alone_writes_messages(message: Any) -> None:
    """Those who keep them somewhere have a converter of their own."""
    fields = cattrs.unstructure(message)
    assert fields["to"] == TO
    assert set(fields) == {field.name for field in attrs.fields(type(message))}


def test_a_page_is_a_sequence() -> None:
    """Of its items."""
    page = Page((1, 2, 3), 1, True)
    assert (len(page), page[0], page[1:], [*page], 2 in page, page.index(3)) == (
        3,
        1,
        (2, 3),
        [1, 2, 3],
        True,
        2,
    )


def test_raw_takes_no_part_in_comparing() -> None:
    """It is the JSON as it came."""
    assert Sent(ID, raw={"a": 1}) == Sent(ID)
    assert SentMedia((SentFile(raw={"a": 1}),)) == SentMedia((SentFile(),))


def test_unwrap_gives_the_reply_or_raises() -> None:
    """Like a result's value elsewhere."""
    assert SendResult(0, None, None, Outcome.ACCEPTED, Sent(ID)).unwrap() == Sent(ID)
    with pytest.raises(TimedOut):
        SendResult(0, None, None, Outcome.UNKNOWN, None, TimedOut("x")).unwrap()


ERRORS: list[Desk360Error] = [
    Desk360Error("x", outcome=Outcome.UNKNOWN),
    desk360_async.ConfigurationError("x"),
    InvalidMessage("to", "is empty"),
    desk360_async.ClientStateError("x"),
    RateLimitWaitTooLong("x", eta=2.5),
    *(
        getattr(desk360_async, name)(429, code="c", message="m", doc_url="d", body="b", headers={"a": "b"},
                                     errors={"to": ["x"]}, retry_after=5.0, outcome=Outcome.NOT_SENT, hint="h")
        for name in ("APIError", "ValidationFailed", "AuthenticationFailed", "PermissionDenied", "NotFound",
                     "RequestRefused", "RateLimited", "ServerError")
    ),
    desk360_async.ConnectionFailed("x", outcome=Outcome.UNKNOWN),
    TimedOut("x"),
    UnexpectedResponse("x", status=200, body="b", problems=["p"], outcome=Outcome.ACCEPTED),
    InvalidWebhook("x", problems=["p"]),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_errors_can_be_pickled_and_copied(error: Desk360Error) -> None:
    """With all that they carry."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert (str(twin), twin.__dict__) == (str(error), error.__dict__)


def test_the_tree_of_errors_is_the_contracts() -> None:
    """Each can be caught by what it is of Python's own, too."""
    kinds = [
        value
        for name in desk360_async.__all__
        if isinstance(value := getattr(desk360_async, name, None), type)
    ]
    ours = {kind: kind.__mro__ for kind in kinds if issubclass(kind, Exception)}
    assert all(Desk360Error in bases for bases in ours.values())
    assert issubclass(InvalidMessage, ValueError)
    assert issubclass(desk360_async.ConfigurationError, ValueError)
    assert issubclass(desk360_async.ConnectionFailed, ConnectionError)
    assert issubclass(TimedOut, TimeoutError)
    assert {kind for kind, bases in ours.items() if APIError in bases} == {
        type(e) for e in ERRORS if isinstance(e, APIError)
    }


def test_an_api_error_reads_well() -> None:
    """Status, code, words, and a hint where there is one."""
    assert (
        str(APIError(404, code="not_found", message="No.", hint="check the ids"))
        == "HTTP 404: not_found: No. (check the ids)"
    )
    assert str(APIError(500)) == "HTTP 500: no explanation"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\nb", "a line break"),
        ("a\rb", "a line break"),
        ("a\tb", "a tab"),
        ("a     b", "more than four spaces in a row"),
        ("\u200b\u200f", "invisible characters only"),
        ("a    b", None),
    ],
)
def test_whatsapp_refuses_a_parameter_for_its_spaces(text: str, reason: str | None) -> None:
    assert refused_by_whatsapp(text) == reason
