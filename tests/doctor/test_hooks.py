"""The webhooks that the doctor notes: each ruling's reading, and that no fact holds a person's data."""

import json
from typing import Any

import pytest

from desk360_async.doctor import Hook, HookRecorder, Reading, read_hooks

PHONE = "905551112233"
PRESS = {"interactive": {"button_reply": {"id": "yes", "title": "Yes"}}}
HEADERS = ("content-type", "host", "x-forwarded-for")


def status(word: str) -> bytes:
    """Return the body of a status update."""
    return json.dumps({"statuses": {"id": "gBEG", "recipient_id": PHONE, "status": word}}).encode()


def message(**fields: Any) -> bytes:
    """Return the body of a customer's message."""
    known = {"from": PHONE, "id": "ABEG", "timestamp": "1700000000", "type": "text"}
    return json.dumps({"messages": known | fields}).encode()


def post(body: bytes, *, headers: tuple[str, ...] = HEADERS, answer: int = 200) -> Hook:
    """Return a webhook."""
    return Hook("POST", headers, body, answer)


PROBE = Hook("GET", HEADERS, b"", 200)
AS_RULED = (
    PROBE,
    post(status("delivered"), answer=500),
    post(status("delivered")),
    post(status("read")),
    post(message(text={"body": "hi"})),
)


def reading(ruling: str, *hooks: Hook) -> Reading:
    """Return the reading of one ruling."""
    return next(found for found in read_hooks(hooks) if found.ruling == ruling)


def test_webhooks_as_the_rulings_describe_them_confirm_them_all() -> None:
    assert {found.state for found in read_hooks(AS_RULED)} == {"confirmed"}


def test_without_a_webhook_no_ruling_is_settled() -> None:
    found = read_hooks([PROBE])
    assert {one.state for one in found} == {"not asked"}
    assert all("no webhook came in" in one.text for one in found)


@pytest.mark.parametrize(
    ("ruling", "hook", "words"),
    [
        ("33", post(b"no JSON"), "1 of 1 webhooks can't be read"),
        ("33", post(b'{"calls": {"id": "x"}}'), "1 of 1 webhooks can't be read"),
        ("35", post(message(**{"from": "ada.lovelace"})), "use `.phone`"),
        ("38", post(status("failed")), "handle failed in your code"),
        (
            "39",
            post(status("read"), headers=(*HEADERS, "x-desk360-token")),
            "carry the header x-desk360-token",
        ),
        ("41", post(status("read"), answer=500), "didn't come again"),
    ],
)
def test_a_webhook_that_differs_is_named_with_what_to_do(ruling: str, hook: Hook, words: str) -> None:
    found = reading(ruling, hook)
    assert found.state == "differs"
    assert words in found.text


@pytest.mark.parametrize(("ruling", "hook"), [("35", status("read")), ("38", message()), ("41", message())])
def test_a_ruling_without_its_event_is_not_asked(ruling: str, hook: bytes) -> None:
    hooks = [post(hook)] if ruling != "35" else [post(b'{"statuses": {"status": "read"}}')]
    assert reading(ruling, *hooks).state == "not asked"


def test_no_probe_leaves_ruling_40_open() -> None:
    assert reading("40", post(status("read"))).state == "not asked"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (PRESS, "interactive.button_reply"),
        ({"button": {"text": "Yes", "payload": "yes"}}, "button"),
        ({"button_id": "yes"}, "button_id"),
    ],
)
def test_the_place_of_a_pressed_buttons_id_is_a_fact(fields: dict[str, Any], place: str) -> None:
    found = reading("33", post(message(type="interactive", **fields)))
    assert found.facts["33.press"] == [place]


def test_no_fact_and_no_line_holds_a_phone_a_text_or_an_id() -> None:
    found = read_hooks([*AS_RULED, post(message(type="interactive", **PRESS))])
    shown = "".join(one.line() + json.dumps(dict(one.facts)) for one in found)
    assert not [secret for secret in (PHONE, "gBEG", "ABEG", "hi there", '"yes"') if secret in shown]


@pytest.mark.anyio
async def test_the_first_status_is_answered_with_500_and_all_others_with_200() -> None:
    recorder = HookRecorder()
    for body in (message(), status("delivered"), status("delivered"), b""):
        await deliver(recorder, body)
    assert [hook.answer for hook in recorder.hooks] == [200, 500, 200, 200]
    assert recorder.hooks[0].headers == ("host", "x-token")


async def deliver(recorder: HookRecorder, body: bytes) -> None:
    """Give a recorder one request, in two pieces."""
    pieces = [{"body": body[:5], "more_body": True}, {"body": body[5:]}]

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def send(_: dict[str, Any]) -> None:
        """Drop the answer."""

    headers = [(b"Host", b"x"), (b"X-Token", b"s3cret")]
    await recorder({"type": "http", "method": "POST", "headers": headers}, receive, send)
