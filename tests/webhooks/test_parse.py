"""`parse`: every body that Desk360 may send becomes events, and nothing else does."""

import contextlib
import json
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, datetime
from types import MappingProxyType

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import InvalidWebhook, _json
from desk360_async.webhooks import (
    ContactsReceived,
    LocationReceived,
    MediaReceived,
    MessageReceived,
    ReplyReceived,
    StatusUpdate,
    TextReceived,
    UnknownEvent,
    parse,
)

PHONE, ID = "905551112233", "ABEGkFMIcyRoAgo-sGaD-H6MgPEt"


@pytest.fixture(params=["orjson", "stdlib"])
def decoder(request, monkeypatch):
    """Run a test once with orjson and once as if it were not installed."""
    if request.param == "stdlib":
        monkeypatch.setattr(_json, "_fast_loads", None)
    return request.param


def json_values(keys):
    """Any JSON value, objects with such keys among them."""
    plain = (
        st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.integers()
    )
    return st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10)


def found(event, path):
    """Return what stands at a path such as `contacts.0.name`."""
    for step in path.split("."):
        event = event[int(step)] if step.isdecimal() else getattr(event, step)
    if isinstance(event, datetime):
        return event.isoformat()
    return list(event) if isinstance(event, tuple) else event


@pytest.mark.usefixtures("decoder")
def test_malformed_bodies(malformed):
    """A malformed body gives the events that its file's expectation names, or InvalidWebhook."""
    body, expected = malformed
    if expected["events"] == "InvalidWebhook":
        with pytest.raises(InvalidWebhook):
            parse(body)
        return
    events = parse(body)
    assert [type(event).__name__ for event in events] == [wanted["class"] for wanted in expected["events"]]
    for event, wanted in zip(events, expected["events"], strict=True):
        assert {path: found(event, path) for path in wanted.keys() - {"class"}} | {
            "class": wanted["class"]
        } == wanted


@pytest.mark.parametrize("as_given", [bytes, bytearray, memoryview, lambda b: b.decode(), json.loads])
def test_given_as(sample, as_given):
    """Bytes, text and the framework's own JSON object are read alike."""
    assert parse(as_given(sample("text"))) == parse(sample("text"))


@pytest.mark.parametrize("mapping", [OrderedDict, MappingProxyType])
def test_any_mapping(sample, mapping):
    """A mapping needn't be a dict."""
    assert parse(mapping(json.loads(sample("status")))) == parse(sample("status"))


def test_text(sample):
    """A text message has the documented fields."""
    [event] = parse(sample("text"))
    assert event == TextReceived(
        id=ID,
        sender="90xxxxxxxxxx",
        name="John Doe",
        sent_at=datetime(2021, 9, 6, 7, 39, 35, tzinfo=UTC),
        text="Hello",
        raw=json.loads(sample("text"))["messages"],
    )


def test_location(sample):
    """A location message knows where, and keeps the vendor's description."""
    match parse(sample("location")):
        case (LocationReceived(location=place, text=text, latitude=latitude),):
            assert (place.latitude, place.longitude, latitude) == (
                38.9806263495,
                -131.9428612257,
                38.9806263495,
            )
            assert (place.name, place.address) == ("Main Street Beach", "Main Street Beach, Santa Cruz, CA")
            assert text.startswith("Main Street Beach - ")


def test_contacts(sample):
    """A contact card keeps all of its parts, instant-messaging accounts too."""
    [event] = parse(sample("contacts"))
    assert isinstance(event, ContactsReceived)
    [card] = event.contacts
    assert (card.name.formatted_name, card.org.company, card.birthday) == (
        "Kerry Fisher",
        "Meta",
        "2012-08-18",
    )
    assert (card.phones[0].wa_id, card.emails[0].email) == ("16505551234", "kfish@fb.com")
    assert (card.addresses[0].country_code, card.urls[0].url) == ("us", "https://www.facebook.com")
    assert (card.ims[0].service, card.ims[0].user_id) == ("AIM", "kfish")


def test_media(sample):
    """A media message knows its media id, type, hash, caption and stored files."""
    [event] = parse(sample("image"))
    assert isinstance(event, MediaReceived)
    assert event.media_id == "83518734-56a9-4b51-8372-93f1432cfa9b"
    assert (event.mime_type, event.caption, event.sha[:8]) == ("image/jpeg", None, "7e18d97d")
    assert [(file.type, file.name[-5:], file.raw["aws"]) for file in event.attachments] == [
        ("image", ".jpeg", True)
    ]


def test_referral(sample):
    """A message from an advertisement carries it whole."""
    [event] = parse(sample("referral"))
    fields = attrs.asdict(event.referral)
    assert fields.pop("raw") == fields == json.loads(sample("referral"))["messages"]["referral"]


def test_status(sample):
    """A status update has the sent message's id, the customer, and the status as it came."""
    [event] = parse(sample("status"))
    assert event == StatusUpdate(
        id="gBEGkFBXUQRnAglM82HET_hbwJs",
        sender="90xxxxxxxxxx",
        status="delivered|read",
        raw=json.loads(sample("status"))["statuses"],
    )


def test_raw_is_the_event_s_own_object(documented):
    """Every event keeps its own object, unchanged."""
    [event] = parse(documented)
    assert event.raw in json.loads(documented).values()


@pytest.mark.usefixtures("decoder")
@settings(max_examples=60)
@given(
    json_values(st.text() | st.sampled_from(["messages", "statuses", "body", "id", "type", "text", "data"]))
)
def test_no_object_raises(value):
    """No JSON object raises, but an empty one; whatever is nested in it."""
    body = {"messages": value, "statuses": value, "body": value}
    for event in parse(json.dumps(body)):
        assert repr(event)
        assert isinstance(event, MessageReceived | StatusUpdate | UnknownEvent)


@pytest.mark.parametrize("kind", ["text", "location", "contacts", "image", "button", "sticker", "x"])
@settings(max_examples=60)
@given(value=json_values(st.text()))
def test_no_message_raises(kind, value):
    """A message's parts may be anything: all fields of the event can be read."""
    names = ("from", "name", "timestamp", "text", "referral", "attachments", "context", kind)
    [event] = parse({"messages": {"id": "a", "type": kind} | dict.fromkeys(names, value)})
    assert repr(event)
    assert (event.phone, event.replies_to) is not None


@given(st.binary())
def test_bytes_at_random(body):
    """Bytes at random give events or InvalidWebhook, never another error."""
    with contextlib.suppress(InvalidWebhook):
        assert parse(body)


@pytest.mark.parametrize("body", [None, 17, ["messages"], object()])
def test_other_types(body):
    """What is neither bytes, text nor a mapping is refused by name."""
    with pytest.raises(InvalidWebhook, match=f"not {type(body).__name__}"):
        parse(body)


@pytest.mark.usefixtures("decoder")
def test_text_with_half_characters():
    """Text that Python calls a str but no encoding takes comes out mended."""
    assert parse('{"statuses": {"id": "a", "status": "\ud83d"}}')[0].status == "\ufffd"


def test_excerpt_is_short_and_masked():
    """The error shows the body's beginning without a number or an id in whole, and the problem."""
    with pytest.raises(InvalidWebhook) as caught:
        parse(b'{"id": "' + ID.encode() + b'", "from": "' + PHONE.encode() + b'", ' + b"x" * 9999)
    message = str(caught.value)
    assert len(message) < 300
    assert ID not in message
    assert PHONE not in message
    assert "…2233" in message
    assert caught.value.problems


@pytest.mark.parametrize("name", [PHONE, f"+{PHONE}", "+90 555 111 22 33", "(0555) 111-22-33", ID])
def test_repr_masks(name):
    """An event's repr holds no whole number and no whole id, wherever the customer wrote it."""
    [event] = parse(
        {"messages": {"id": ID, "from": PHONE, "type": name, "name": name, "text": f"call {name}!"}}
    )
    for secret in (ID, PHONE, name):
        assert secret not in repr(event)
    assert "…gPEt" in repr(event)


def test_repr_of_an_unknown_event():
    """An unknown event's repr shows its keys alone."""
    assert repr(parse({"ping": PHONE})[0]) == "UnknownEvent(raw=<keys: 'ping'>)"


def test_events_are_frozen(documented):
    """No field of an event can be set."""
    [event] = parse(documented)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.id = "other"


def test_events_have_a_hash(documented):
    """Equal events have equal hashes, so they can stand in sets."""
    assert len({*parse(documented), *parse(documented)}) == 1


def test_events_have_all_their_fields(documented):
    """What `parse` builds has every field of its class, as the constructor would have set them."""
    [event] = parse(documented)
    assert (
        type(event)(**{field.name: getattr(event, field.name) for field in attrs.fields(type(event))})
        == event
    )


@pytest.mark.parametrize("kind", ["text", "image", "contacts", "location", "button", "reaction"])
def test_constructor_and_parse_agree(kind):
    """The fields of an empty message are the constructor's defaults, but for its type."""
    [event] = parse({"messages": {"id": "a", "type": kind}})
    assert event == type(event)(id="a", type=kind, raw=event.raw)


@pytest.mark.usefixtures("decoder")
def test_big_ids_stay_apart():
    """Ids of more than 64 bits are never rounded into each other."""
    ids = [parse(b'{"statuses": {"id": %d%d}}' % (10**30, last))[0].id for last in (1, 2)]
    assert ids[0] != ids[1] or ids == ["", ""]


def test_reply_from_a_constructor():
    """A user's test may build an event of its own."""
    assert ReplyReceived(id="a", sender=PHONE, title="Yes").phone == f"+{PHONE}"


def test_phone_of_a_status():
    """A status update knows the customer's number as E.164."""
    assert StatusUpdate(sender=PHONE).phone == f"+{PHONE}"


def test_text_of_many_parts():
    """Text is checked for depth as bytes are."""
    assert parse(json.dumps({"ping": [[]] * 200}))
    with pytest.raises(InvalidWebhook, match="100 levels"):
        parse('{"a":' + "[" * 150 + "]" * 150 + "}")


def test_without_orjson():
    """Where orjson isn't installed, the standard library reads the same."""
    code = """import sys; sys.modules["orjson"] = None
from desk360_async.webhooks import parse; print(parse('{"a": 1}'))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(UnknownEvent(raw=<keys: 'a'>),)\n"


def test_nothing_heavy_is_imported():
    """Importing the webhooks loads neither SQLite nor a web framework."""
    code = "import sys, desk360_async.webhooks; print({'sqlite3', 'starlette', 'aiohttp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("fields", "phone", "user_id"),
    [
        ({"from": "", "from_user_id": "US.1"}, None, "US.1"),
        ({"from": "", "user_id": "US.1"}, None, "US.1"),
        ({"from": "US.13491208655302741918"}, None, "US.13491208655302741918"),
        ({"from": PHONE, "user_id": "US.1"}, f"+{PHONE}", "US.1"),
        ({"from": PHONE}, f"+{PHONE}", None),
        ({"from": PHONE, "user_id": ["US.1"]}, f"+{PHONE}", None),
        ({}, None, None),
    ],
)
@pytest.mark.parametrize("kind", ["messages", "statuses"])
def test_a_person_without_a_number_has_a_user_id(kind, fields, phone, user_id):
    """Ruling 36a."""
    [event] = parse({kind: {"id": "a"} | fields})
    assert (event.phone, event.user_id) == (phone, user_id)


@pytest.mark.parametrize("answers", ['{"rating": "5"}', {"rating": "5"}])
@pytest.mark.parametrize("where", ["interactive", None])
def test_the_answers_to_a_flow_are_a_reply_with_answers(answers, where):
    """A flow has no button's id."""
    flow = {"nfm_reply": {"name": "flow", "body": "Sent", "response_json": answers}}
    [event] = parse({"messages": {"id": "a", "type": "interactive"} | ({where: flow} if where else flow)})
    assert isinstance(event, ReplyReceived)
    assert (event.title, event.text, event.answers, event.reply_id) == (
        "Sent",
        "Sent",
        {"rating": "5"},
        None,
    )


@pytest.mark.parametrize("answers", ["{", "17", None, [], '"x"'])
def test_unreadable_answers_to_a_flow_stay_in_raw(answers):
    """The event is there all the same."""
    [event] = parse({"messages": {"type": "interactive", "nfm_reply": {"response_json": answers}}})
    assert isinstance(event, ReplyReceived)
    assert event.answers == {}


BUTTON = {"id": "b1", "title": "Yes"}


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "interactive", "interactive": {"type": "button_reply", "button_reply": BUTTON}},
        {"type": "interactive", "button_reply": BUTTON},
        {"type": "interactive", "interactive": BUTTON},
        {"type": "button", "button": BUTTON},
        {"type": "button", "button": {"payload": "b1", "text": "Yes"}},
        {"type": "button", "text": "Yes", "button_id": "b1"},
        {"type": "interactive", "text": "Yes", "interactive": {"button_id": "b1"}},
        {"type": "button", "button": "Yes", "button_id": "b1"},
        {"type": "text_button", "button_reply": BUTTON},
        {"button_reply": BUTTON},
        {"text": "Yes", "button_id": "b1"},
        {"type": "text", "text": "Yes", "button_id": "b1"},
    ],
)
def test_a_button_s_id_is_found_wherever_it_stands(fields):
    """Ruling 33."""
    [event] = parse({"messages": {"id": "a", "from": PHONE} | fields})
    assert isinstance(event, ReplyReceived)
    assert (event.reply_id, event.title, event.text) == ("b1", "Yes", "Yes")
