"""The sandbox's own webhooks: what it says of messages, what customers write, and how badly it may go."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import anyio
import httpx
import pytest

from desk360_async.sandbox import ReceivedMessage, Sandbox, phone_of
from desk360_async.sandbox.webhooks import ServiceWindows
from desk360_async.testing import VirtualSandbox, webhook_sample

pytestmark = pytest.mark.anyio

TO = "+905551112233"
KEY = {"Authorization": "Bearer sandbox-key"}
MESSAGES = "/integrations/11/conversations/messages"
Connect = Callable[..., httpx.AsyncClient]


class Inbox:
    """A web app's end of it: a function that keeps what it is given."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    async def __call__(self, body: bytes) -> None:
        """Take one body."""
        self.bodies.append(json.loads(body))

    @property
    def said(self) -> list[str]:
        """What each was about: a status or a text."""
        return [
            body["statuses"]["status"] if "statuses" in body else body["messages"]["text"]
            for body in self.bodies
        ]


@pytest.fixture
def inbox() -> Inbox:
    """Where webhooks go."""
    return Inbox()


@pytest.fixture
def sandbox(inbox: Inbox) -> VirtualSandbox:
    """A sandbox in virtual time that has somewhere to send them."""
    return VirtualSandbox(webhook=inbox)


def shape(value: Any) -> Any:
    """Reduce JSON to its keys and types."""
    return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else type(value)


async def test_a_message_is_delivered_and_read(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """In the document's shape, under the id that the send answered."""
    sent = await sandbox.client().send_text(TO, "Hello!")
    assert await sandbox.webhooks.deliver() == 2
    assert inbox.said == ["delivered", "read"]
    assert [body["statuses"]["id"] for body in inbox.bodies] == [sent.message_id] * 2
    assert shape(inbox.bodies[0]) == shape(json.loads(webhook_sample("status")))


@pytest.mark.parametrize(
    ("delays", "said", "seconds"),
    [
        ({}, ["delivered", "read"], 2.0),
        ({"delivered_after": 60.0, "read_after": 3600.0}, ["delivered", "read"], 3600.0),
        ({"delivered_after": 5.0, "read_after": 1.0}, ["read", "delivered"], 5.0),
        ({"read_after": None}, ["delivered"], 0.5),
        ({"delivered_after": None, "read_after": None}, [], 0.0),
    ],
)
async def test_each_has_its_delay(inbox: Inbox, delays: Any, said: list[str], seconds: float) -> None:
    """By the sandbox's clock; None means never."""
    sandbox = VirtualSandbox(webhook=inbox, **delays)
    await sandbox.client().send_text(TO, "Hello!")
    await sandbox.webhooks.deliver()
    assert (inbox.said, sandbox.clock()) == (said, seconds)


async def test_a_refused_message_is_not_spoken_of(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """Only what was taken can be delivered."""
    await sandbox.client().send_all([])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(sandbox.app), base_url="http://sandbox"
    ) as client:
        await client.post(MESSAGES, json={"to": TO})
    assert (await sandbox.webhooks.deliver(), inbox.bodies) == (0, [])


async def test_a_customer_writes(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """In the document's shape, from the customer's number without its plus."""
    identity = sandbox.reply(TO, "Where is it?", name="Grace")
    await sandbox.webhooks.deliver()
    (message,) = (body["messages"] for body in inbox.bodies)
    assert (message["id"], message["from"], message["name"]) == (identity, TO[1:], "Grace")
    assert shape(inbox.bodies[0]) == shape(json.loads(webhook_sample("text")))
    documented = json.loads(webhook_sample("image"))["messages"]["id"]
    assert (identity[:4], len(identity), phone_of(identity)) == (documented[:4], len(documented), TO)


async def test_a_customer_writes_other_things_than_text(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """The vendor's own fields go as they are."""
    location = {"latitude": 41.0, "longitude": 29.0}
    sandbox.reply(TO, type="location", location=location)
    await sandbox.webhooks.deliver()
    assert (inbox.bodies[0]["messages"]["type"], inbox.bodies[0]["messages"]["location"]) == (
        "location",
        location,
    )
    assert "text" not in inbox.bodies[0]["messages"]


@pytest.mark.parametrize("phone", ["", "905551112233", "+90xxx"])
async def test_a_customer_has_a_number(sandbox: VirtualSandbox, phone: str) -> None:
    """Or nothing is written."""
    with pytest.raises(ValueError, match="phone"):
        sandbox.reply(phone, "Hello!")


async def test_without_a_target_statuses_and_replies_reach_the_feed_when_due() -> None:
    """The page is always a target; the record of webhooks stays empty."""
    sandbox = VirtualSandbox()
    sent = await sandbox.client().send_text(TO, "Hello!")
    sandbox.clock.advance(3)
    identity = sandbox.reply(TO, "Hi")
    said = [event.as_json() for event in sandbox.feed.after(0, 100)]
    assert [
        (one["event"], one.get("status"), one.get("id")) for one in said if one["event"] != "request"
    ] == [
        ("message", None, None),
        ("status", "delivered", sent.message_id),
        ("status", "read", sent.message_id),
        ("reply", None, identity),
    ]
    assert (sandbox.webhooks.pending, sandbox.webhooks.sent) == (0, [])


async def test_an_unrecorded_sandbox_without_a_target_keeps_no_statuses() -> None:
    """A benchmark of a million messages doesn't fill the memory."""
    sandbox = VirtualSandbox(record=False)
    await sandbox.client().send_text(TO, "Hello!")
    assert (sandbox.webhooks.pending, sandbox.feed.last) == (0, 0)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("duplicates", ["delivered", "delivered", "read", "read"]),
        ("drops", []),
        ("disorder", ["read", "delivered"]),
    ],
)
async def test_trouble_comes_on_request(
    sandbox: VirtualSandbox, inbox: Inbox, trouble: str, said: list[str]
) -> None:
    """Each webhook twice, none, or the later first."""
    setattr(sandbox.webhooks, trouble, 1.0)
    await sandbox.client().send_text(TO, "Hello!")
    await sandbox.webhooks.deliver()
    assert inbox.said == said
    assert [one.dropped for one in sandbox.webhooks.sent] == [trouble == "drops"] * (len(said) or 2)


async def test_trouble_in_parts_is_repeatable(inbox: Inbox) -> None:
    """Equal seeds lose the same."""
    runs = []
    for seed in (1, 1, 2):
        sandbox = VirtualSandbox(webhook=inbox, seed=seed)
        sandbox.webhooks.drops = 0.5
        for number in range(40):
            sandbox.reply(TO, str(number))
        await sandbox.webhooks.deliver()
        runs.append([one.dropped for one in sandbox.webhooks.sent])
    assert runs[0] == runs[1] != runs[2]
    assert 10 < sum(runs[0]) < 30


async def test_an_application_is_called(inbox: Inbox) -> None:
    """With its path, and its answer is noted."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def hook(request: Request) -> Response:
        await inbox(await request.body())
        return Response(status_code=202)

    app = Starlette(routes=[Route("/hooks/secret", hook, methods=["POST"])])
    for path, status in (("/hooks/secret", 202), ("/hooks/other", 404)):
        sandbox = VirtualSandbox(webhook=(app, path))
        sandbox.reply(TO, "Hello!")
        await sandbox.webhooks.deliver()
        assert [one.status for one in sandbox.webhooks.sent] == [status]
    assert inbox.said == ["Hello!"]


async def test_an_application_may_give_no_answer() -> None:
    """Then there is no status."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"]
        assert (await receive())["type"] == "http.disconnect"

    sandbox = VirtualSandbox(webhook=(app, "/"))
    sandbox.reply(TO, "Hello!")
    await sandbox.webhooks.deliver()
    assert [one.status for one in sandbox.webhooks.sent] == [None]


async def test_a_functions_answer_is_its_status() -> None:
    """An int, or whatever has a status."""

    async def refuse(body: bytes) -> int:
        return 503

    sandbox = VirtualSandbox(webhook=refuse)
    sandbox.reply(TO, "Hello!")
    await sandbox.webhooks.deliver()
    assert [one.status for one in sandbox.webhooks.sent] == [503]


async def test_what_a_webhook_brings_about_is_told_as_well(sandbox: VirtualSandbox) -> None:
    """An answer to a customer is delivered and read in the same go."""
    client = sandbox.client()

    async def answer(body: bytes) -> None:
        if "messages" in json.loads(body):
            await client.send_text(TO, "Soon!")

    sandbox.webhooks.target = answer
    sandbox.reply(TO, "Where is it?")
    assert await sandbox.webhooks.deliver() == 3


async def test_a_reset_forgets_them(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """Those to come, too."""
    sandbox.reply(TO, "Hello!")
    sandbox.reset()
    assert (await sandbox.webhooks.deliver(), inbox.bodies, sandbox.webhooks.sent) == (0, [], [])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://[::1",
    ],
)
def test_a_target_is_a_url(url: str) -> None:
    """Said when the sandbox is made, not when the first webhook is lost."""
    with pytest.raises(ValueError):
        Sandbox(webhook=url)


@pytest.mark.parametrize(
    "url", ["http://example.test/", "https://192.0.2.1/hook", "http://127.0.0.1.example.test/"]
)
def test_other_machines_are_spared(url: str) -> None:
    """Unless they are meant."""
    with pytest.raises(ValueError, match="allow_remote_webhook=True"):
        Sandbox(webhook=url)
    assert Sandbox(webhook=url, allow_remote_webhook=True).webhooks.target == url


@pytest.mark.parametrize("url", ["http://localhost:1/", "http://127.0.0.2/a?b=c", "https://[::1]:8443/x"])
def test_this_machine_is_not(url: str) -> None:
    """By any of its names."""
    assert Sandbox(webhook=url).webhooks.target == url


async def test_a_reply_can_be_asked_for_over_http(
    sandbox: VirtualSandbox, inbox: Inbox, connect: Connect
) -> None:
    """By tests in other languages."""
    async with connect(sandbox) as client:
        url = "http://sandbox/_sandbox/reply"
        answer = await client.post(url, json={"phone": TO, "text": "Hi", "referral": {"x": 1}})
        refused = [
            (await client.post(url, json=body)).status_code
            for body in ({}, {"phone": TO, "text": "a", "name": 5})
        ]
    await sandbox.webhooks.deliver()
    assert (answer.status_code, answer.json()["id"]) == (202, inbox.bodies[0]["messages"]["id"])
    assert inbox.bodies[0]["messages"]["referral"] == {"x": 1}
    assert refused == [400, 202]


async def test_trouble_can_be_asked_for_over_http(sandbox: VirtualSandbox, connect: Connect) -> None:
    """And looked at."""
    async with connect(sandbox) as client:
        url = "http://sandbox/_sandbox/webhooks"
        changed = await client.put(url, json={"duplicates": 1, "read_after": None})
        assert (changed.json()["duplicates"], changed.json()["read_after"]) == (1, None)
        await sandbox.client().send_text(TO, "Hello!")
        await sandbox.webhooks.deliver()
        record = (await client.get(url)).json()
    assert [one["body"]["statuses"]["status"] for one in record["sent"]] == ["delivered"] * 2
    assert record["pending"] == 0


@pytest.mark.parametrize(
    "settings", [{"drops": 2}, {"drops": None}, {"read_after": -1}, {"disorder": "x"}, {"target": "http://a"}]
)
async def test_impossible_trouble_is_refused(
    sandbox: VirtualSandbox, connect: Connect, settings: Any
) -> None:
    """With nothing changed; and where webhooks go isn't for strangers to say."""
    async with connect(sandbox) as client:
        answer = await client.put("http://sandbox/_sandbox/webhooks", json={"duplicates": 1} | settings)
    assert (answer.status_code, sandbox.webhooks.duplicates) == (400, 0.0)


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """A web server by somebody else, with what it was sent."""
    got: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(
                (
                    self.path,
                    self.headers["Content-Type"],
                    json.loads(self.rfile.read(int(self.headers["Content-Length"]))),
                )
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Hook) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/hooks/secret?a=b", got
        http.shutdown()
        thread.join()


async def until(done: Callable[[], object]) -> None:
    """Wait, in real time, for another thread."""
    with anyio.fail_after(5):
        while not done():
            await anyio.sleep(0.005)


@pytest.mark.real
async def test_a_url_is_posted_to_as_time_passes(server: tuple[str, list[Any]], connect: Connect) -> None:
    """Nobody has to ask for it, whatever event loop there is."""
    url, got = server
    sandbox = Sandbox(webhook=url, delivered_after=0.01, read_after=0.03)
    async with connect(sandbox) as client:
        await client.post(MESSAGES, json={"to": TO, "text": "Hello!"})
    await until(lambda: len(sandbox.webhooks.sent) == 2)
    assert [(path, kind) for path, kind, _ in got] == [("/hooks/secret?a=b", "application/json")] * 2
    assert [body["statuses"]["status"] for *_, body in got] == ["delivered", "read"]
    assert [one.status for one in sandbox.webhooks.sent] == [200, 200]


@pytest.mark.real
async def test_the_thread_ends_when_nothing_is_due(server: tuple[str, list[Any]]) -> None:
    """And another comes when there is something again; a reset ends it at once."""
    sandbox = Sandbox(webhook=server[0], delivered_after=3600.0)
    for _ in range(2):
        sandbox.reply(TO, "Hello!")
        await until(lambda: not alive())
    sandbox.webhooks.announce(sandbox._store.take(TO, "text", 11))
    assert alive()
    sandbox.reset()
    await until(lambda: not alive())


def alive() -> list[threading.Thread]:
    """Return the threads that send webhooks."""
    return [thread for thread in threading.enumerate() if thread.name == "desk360-webhooks"]


@pytest.mark.real
@pytest.mark.parametrize("clock", ["real", "virtual"])
async def test_nobody_there_is_no_answer(clock: str) -> None:
    """It is noted, and not tried again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    sandbox = VirtualSandbox(webhook=url) if clock == "virtual" else Sandbox(webhook=url)
    sandbox.reply(TO, "Hello!")
    await sandbox.webhooks.deliver()
    await until(lambda: sandbox.webhooks.sent)
    assert [(one.status, one.dropped) for one in sandbox.webhooks.sent] == [(None, False)]


@pytest.mark.parametrize("value", ["a\nb", "a\tb", "a     b", "\u200b", "\u200e\u00a0"])
async def test_a_variable_that_whatsapp_refuses_fails_after_acceptance(
    sandbox: VirtualSandbox, inbox: Inbox, value: str
) -> None:
    """Line breaks, tabs, more than four spaces in a row, nothing visible."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(sandbox.app), base_url="http://sandbox", headers=KEY
    ) as client:
        row = {"phone": TO, "parameters": {"body-1": value}}
        body = {"template_id": 88, "language_id": 1, "destinations": [row]}
        answer = await client.post("/integrations/11/conversations/templates/send", json=body)
    await sandbox.webhooks.deliver()
    assert (answer.status_code, inbox.said) == (200, ["failed"])


async def test_a_status_of_a_message_reaches_the_receiver_in_one_line(
    sandbox: VirtualSandbox, inbox: Inbox
) -> None:
    """By the message or by its id; awaiting the call sends it."""
    sandbox.webhooks.delivered_after = sandbox.webhooks.read_after = None
    sent = await sandbox.client().send_text(TO, "Hello!")
    assert await sandbox.status(sandbox.received[0], "failed") == sent.message_id
    await sandbox.status(sent.message_id, "read")
    assert inbox.said == ["failed", "read"]


async def test_a_reply_reaches_the_receiver_in_one_line(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """Webhooks that are due later stay scheduled."""
    await sandbox.client().send_text(TO, "Hello!")
    await sandbox.reply(TO, "Hi")
    assert (inbox.said, sandbox.webhooks.pending) == (["Hi"], 2)


@pytest.mark.parametrize(("identity", "status"), [("x", "read"), ("", "read"), (None, ""), (None, 5)])
def test_a_status_needs_a_message_and_a_text(sandbox: VirtualSandbox, identity: Any, status: Any) -> None:
    """The error names which of both is missing."""
    known = "gBEGkFBXUQRnAglW0luHY8xsrFk"
    with pytest.raises(ValueError, match="message: " if identity is not None else "status: "):
        sandbox.status(known if identity is None else identity, status)


async def test_a_webhook_can_be_sent_again(sandbox: VirtualSandbox, inbox: Inbox) -> None:
    """By its number; an unknown number is none."""
    await sandbox.reply(TO, "Hi")
    assert (sandbox.webhooks.resend(1), sandbox.webhooks.resend(9)) == (True, False)
    await sandbox.webhooks.deliver()
    assert (inbox.said, [one.number for one in sandbox.webhooks.sent]) == (["Hi", "Hi"], [1, 2])


async def test_a_free_message_outside_the_service_window_fails(inbox: Inbox) -> None:
    sandbox = VirtualSandbox(webhook=inbox, read_after=None)
    async with sandbox.client(customers=None) as client:
        await client.send_text(TO, "x")  # never heard of: let through
        await sandbox.webhooks.deliver()
        await sandbox.reply(TO, "Merhaba")
        sandbox.advance(hours=23)
        await client.send_text(TO, "x")
        sandbox.advance(hours=1)
        await client.send_text(TO, "x")
        await client.send_template(TO, "welcome", language="English")
        await sandbox.webhooks.deliver()
    assert sorted(inbox.said) == ["Merhaba", "delivered", "delivered", "delivered", "failed"]


async def test_a_reset_sandbox_forgets_service_windows(inbox: Inbox) -> None:
    sandbox = VirtualSandbox(webhook=inbox, read_after=None)
    async with sandbox.client() as client:
        await sandbox.reply(TO, "Merhaba")
        sandbox.advance(hours=24)
        sandbox.reset()
        await client.send_text(TO, "x")
        await sandbox.webhooks.deliver()
    assert inbox.said == ["Merhaba", "delivered"]


def test_the_latest_service_windows_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServiceWindows, "_MOST", 2)
    windows = ServiceWindows()
    for number in range(3):
        windows.hear(f"+90555000000{number}", 0.0)
    closed = [
        windows.is_closed(ReceivedMessage(f"+90555000000{number}", "text", "", 11, 1e6))
        for number in range(3)
    ]
    assert closed == [False, True, True]
