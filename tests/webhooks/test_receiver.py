"""`WebhookReceiver`: what it answers, and how its handlers are run. No sockets, no real time."""

import json
import logging
import threading

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from desk360_async import ClientStateError, ConfigurationError
from desk360_async.webhooks import (
    MessageReceived,
    StatusUpdate,
    TextReceived,
    UnknownEvent,
    WebhookReceiver,
    _receiver,
    parse,
)

pytestmark = pytest.mark.anyio

PHONE, SECRET = "905551112233", "a-secret-of-the-url"
VIRTUAL = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})]
)


def message(key, sender=PHONE, **fields):
    """Return a text message's object."""
    return {"id": key, "from": sender, "type": "text", "text": "Hello"} | fields


def body(*messages):
    """Return a body with these messages."""
    return json.dumps({"messages": messages}).encode()


async def post(receiver, content, secret=SECRET, **headers):
    """Post to the framework-free core; return the status."""
    return (await receiver.receive(secret, headers, content)).status


class Server:
    """A server whose `receive` waits for each message; it is named like one that opens no scope in it."""

    __module__ = "uvicorn.protocols"

    def __init__(self, messages):
        self.messages = messages

    async def receive(self):
        await anyio.lowlevel.checkpoint()
        return self.messages.pop(0) if self.messages else {"type": "http.disconnect"}


async def asgi(app, method="POST", path=f"/hooks/{SECRET}", chunks=(b"",), headers=()):
    """Make one ASGI request; return the status, the headers and the body."""
    sent = []
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await app(scope, Server(messages).receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


async def test_documented_bodies(documented):
    """Each documented body is answered with 200 and reaches the handler for its kind."""
    seen = []
    receiver = WebhookReceiver(SECRET)
    receiver.on_message(keep(seen))
    receiver.on_status(keep(seen))
    async with receiver:
        assert await asgi(receiver, chunks=[documented]) == (
            200,
            {b"content-type": b"text/plain; charset=utf-8", b"content-length": b"3"},
            b"ok\n",
        )
    assert [event.raw for event in seen] == list(json.loads(documented).values())


def keep(seen):
    """Return a handler that keeps its events in a list."""

    async def handler(event):
        seen.append(event)

    return handler


async def test_malformed_bodies(malformed):
    """A malformed body is answered with 200 and handled, or with 400 if it is no JSON object."""
    content, expected = malformed
    seen = []
    receiver = WebhookReceiver(SECRET)
    for register in (receiver.on_message, receiver.on_status, receiver.on_unknown):
        register(keep(seen))
    wanted = (
        [] if expected["events"] == "InvalidWebhook" else [event["class"] for event in expected["events"]]
    )
    async with receiver:
        assert await post(receiver, content) == (200 if wanted else 400)
    assert sorted(type(event).__name__ for event in seen) == sorted(wanted)


@pytest.mark.parametrize(
    ("secret", "status"),
    [
        ("old", 200),
        ("new", 200),
        ("wrong", 404),
        ("", 404),
        ("ol", 404),
        ("oldnew", 404),
        ("ş", 404),
        ("\ud800", 404),
    ],
)
async def test_secrets(secret, status):
    """Several secrets count at once, for a rotation; any other is 404."""
    async with WebhookReceiver(["old", "new"]) as receiver:
        assert await post(receiver, body(message("a")), secret) == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/{SECRET}", 200),
        (f"/a/b/{SECRET}", 200),
        (f"/hooks/{SECRET}/", 200),
        (f"/{SECRET}/x", 404),
        ("/", 404),
        ("", 404),
        ("/hooks", 404),
    ],
)
async def test_paths(path, status):
    """The secret is the path's last segment, wherever the app is mounted."""
    async with WebhookReceiver(SECRET) as receiver:
        assert (await asgi(receiver, path=path, chunks=[body(message("a"))]))[0] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/{SECRET}", 200),
        ("HEAD", f"/{SECRET}", 200),
        ("GET", "/wrong", 404),
        ("PUT", f"/{SECRET}", 405),
        ("PUT", "/wrong", 404),
    ],
)
async def test_methods(method, path, status):
    """A probe by GET is 200; other methods are 405, but only to those who know the secret."""
    async with WebhookReceiver(SECRET) as receiver:
        given, headers, _ = await asgi(receiver, method, path)
    assert given == status
    assert headers.get(b"allow") == (b"GET, HEAD, POST" if status == 405 else None)


@pytest.mark.parametrize(("value", "status"), [("token", 200), ("wrong", 404), (None, 404)])
async def test_header_token(value, status):
    """A header token, if there is to be one, must be right; its name is in any case."""
    headers = [(b"X-TOKEN", value.encode())] if value else []
    async with WebhookReceiver(SECRET, header_token=("X-Token", "token")) as receiver:
        assert (await asgi(receiver, chunks=[body(message("a"))], headers=headers))[0] == status


NO_SECRETS = [
    "",
    [],
    ["", "a"],
    "a/b",
    "a b",
    "a?b",
    ".",
    "..",
    "a%41",
    "a%b",
    "ş",
    "a\x00",
    'a"b',
    ["a", "{}"],
]


@pytest.mark.parametrize("secret", [*NO_SECRETS, None, b"abc", [b"abc"], 17])
def test_unusable_secrets(secret):
    """A secret must be one segment of a path, without escapes: servers decode those before."""
    with pytest.raises(ConfigurationError, match=r"^secret .*(must be|make one)"):
        WebhookReceiver(secret)


@pytest.mark.parametrize("secret", ["aZ09-_", "a.b~c", "!$&'()*+,;=:@"])
async def test_usable_secrets(secret):
    """All that stands for itself in a path may be in a secret."""
    async with WebhookReceiver(secret) as receiver:
        assert (await asgi(receiver, path=f"/{secret}", chunks=[body(message("a"))]))[0] == 200


@pytest.mark.parametrize(
    "token",
    [
        ("X-T", ""),
        ("", "abc"),
        ("X T", "abc"),
        ("X-T", " abc"),
        ("X-T", "ş"),
        ("X-T",),
        "ab",
        ("X-T", None),
        17,
    ],
)
def test_unusable_tokens(token):
    """A token that no header can hold is refused: an empty one would let requests without it in."""
    with pytest.raises(ConfigurationError, match=r"^header_token.* must be") as refused:
        WebhookReceiver(SECRET, header_token=token)
    assert "abc" not in str(refused.value).replace("'abc'", "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_body", 0),
        ("max_body", -1),
        ("max_body", 1e6),
        ("read_timeout", 0),
        ("read_timeout", -1),
        ("read_timeout", float("nan")),
        ("read_timeout", None),
        ("queue_size", 0),
        ("concurrency", 0),
        ("concurrency", True),
        ("concurrency", "8"),
        ("drain_timeout", -1),
        ("remember", -1),
        ("inbox", "inbox.db"),
    ],
)
def test_unusable_arguments(field, value):
    """What makes no sense is refused by its name when the receiver is made."""
    with pytest.raises(ConfigurationError, match=rf"^{field} .*must be"):
        WebhookReceiver(SECRET, **{field: value})


async def test_unopened(caplog):
    """A receiver that nobody opened answers 503 and logs how to open it, once."""
    receiver = WebhookReceiver(SECRET)
    answers = [await asgi(receiver, chunks=[body(message("a"))]) for _ in range(3)]
    assert {(status, headers[b"retry-after"]) for status, headers, _ in answers} == {(503, b"5")}
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "async with receiver:" in record.message


async def test_opened_twice():
    """Opening an open receiver is an error that says where to open it; a closed one can be opened again."""
    async with WebhookReceiver(SECRET) as receiver:
        with pytest.raises(ClientStateError, match="lifespan"):
            await receiver.__aenter__()
    async with receiver:
        assert await post(receiver, body(message("a"))) == 200


@pytest.mark.parametrize(
    ("size", "status"), [(1024, 200), (1025, 413), (4096, 413), (8192, 413), (100_000, 413)]
)
@pytest.mark.parametrize("piece", [100, 200_000])
async def test_body_limit(size, status, piece):
    """The limit is counted while reading, whatever the pieces."""
    content = body(message("a")).ljust(size)
    chunks = [content[at : at + piece] for at in range(0, size, piece)]
    async with WebhookReceiver(SECRET, max_body=1024) as receiver:
        assert (await asgi(receiver, chunks=chunks))[0] == status
        assert await post(receiver, content) == status


@VIRTUAL
async def test_slow_body():
    """A body that doesn't come in time is 408."""

    async def drip():
        for byte in body(message("a")):
            await anyio.sleep(1)
            yield bytes([byte])

    async with WebhookReceiver(SECRET, read_timeout=10) as receiver:
        started = anyio.current_time()
        assert await post(receiver, drip()) == 408
    assert anyio.current_time() - started == 10


async def test_a_middleware_that_waits_for_the_body_in_a_scope_of_its_own(sample):
    """As Starlette's BaseHTTPMiddleware does: its scope begins and ends inside the deadline's."""
    receiver = WebhookReceiver(SECRET)

    async def middleware(scope, receive, send):
        async def receive_or_leave():
            async with anyio.create_task_group():
                return await receive()

        await receiver(scope, receive_or_leave, send)

    async with receiver:
        status, _, _ = await asgi(middleware, chunks=[b"", sample("text")])
    assert (status, receiver.stats.handled) == (200, 1)


async def test_client_gone():
    """A client that goes away while sending gets no answer, and nothing is handled."""
    sent = []

    async def receive():
        await anyio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async with WebhookReceiver(SECRET) as receiver:
        await receiver(
            {"type": "http", "method": "POST", "path": f"/{SECRET}", "headers": []}, receive, sent.append
        )
        assert sent == []
        assert receiver.stats.received == 0


async def test_websockets_are_closed():
    """A websocket is closed, not an error."""
    sent = []

    async def send(message):
        sent.append(message)

    await WebhookReceiver(SECRET)({"type": "websocket"}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_matching():
    """Handlers are chosen by class, type or status; all that match run, in the order of registration."""
    receiver, seen = WebhookReceiver(SECRET), []

    def note(name):
        async def handler(event):
            seen.append((name, event.id))

        return handler

    receiver.on_message(note("any message"))
    receiver.on_message(TextReceived)(note("texts"))
    receiver.on_message("image", TextReceived)(note("images and texts"))
    receiver.on_status()(note("any status"))
    receiver.on_status("read", "deleted")(note("read"))
    receiver.on_unknown()(note("unknown"))
    async with receiver:
        for content in (
            {"messages": message("t")},
            {"messages": message("i", type="image")},
            {"statuses": {"id": "r", "from": PHONE, "status": "read"}},
            {"statuses": {"id": "d", "from": PHONE, "status": "delivered"}},
            {"ping": 1},
        ):
            await post(receiver, json.dumps(content).encode())
    texts = [("any message", "t"), ("texts", "t"), ("images and texts", "t")]
    images = [("any message", "i"), ("images and texts", "i")]
    statuses = [("any status", "r"), ("read", "r"), ("any status", "d")]
    assert [pair for pair in seen if pair[1]] == texts + images + statuses
    assert ("unknown", "") in seen


@pytest.mark.parametrize(
    "wrong", [lambda event: None, 17, StatusUpdate, (TextReceived, StatusUpdate), (TextReceived, print)]
)
def test_wrong_registrations(wrong):
    """Only async functions are handlers, and only classes of messages and types choose messages."""
    receiver = WebhookReceiver(SECRET)
    with pytest.raises(ConfigurationError):
        receiver.on_message(*(wrong if isinstance(wrong, tuple) else [wrong]))


def test_a_plain_function_is_named_in_its_refusal():
    """By its own name, not by an address in memory."""

    def answer(event):
        """Forget `async`."""

    with pytest.raises(ConfigurationError, match=r"^the handler answer must be an `async def` function"):
        WebhookReceiver(SECRET).on_message(TextReceived)(answer)


async def test_callable_objects():
    """An object whose call is async is a handler too."""
    seen = []

    class Greeter:
        async def __call__(self, event):
            seen.append(event.id)

    receiver = WebhookReceiver(SECRET)
    receiver.on_message(Greeter())
    async with receiver:
        await post(receiver, body(message("a")))
    assert seen == ["a"]


async def test_failures(caplog):
    """A handler's error is logged without the number or the id, counted, and stops nothing."""
    receiver, seen = WebhookReceiver(SECRET), []

    @receiver.on_message
    async def fails(event):
        raise LookupError("nobody")

    receiver.on_message(keep(seen))
    async with receiver:
        assert await post(receiver, body(message("ABEGkFMIcyRoAgo"), message("b"))) == 200
    assert len(seen) == 2
    assert (receiver.stats.handled, receiver.stats.failed) == (2, 2)
    assert [record.exc_info[0] for record in caplog.records] == [LookupError, LookupError]
    assert PHONE not in caplog.text
    assert "ABEGkFMIcyRoAgo" not in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_cancelled_from_within():
    """On asyncio a handler may end cancelled by its own doing: a failure like others; its lane goes on."""
    import asyncio

    receiver, seen = WebhookReceiver(SECRET), []

    @receiver.on_message
    async def awaits_a_cancelled_task(event):
        seen.append(event.id)
        task = asyncio.ensure_future(asyncio.sleep(1))
        task.cancel()
        await task

    async with receiver:
        await post(receiver, body(message("a"), message("b")))
    assert seen == ["a", "b"]
    assert receiver.stats.failed == 2


async def test_repeats():
    """A repeat is 200 and not handled again; another status of the same message is no repeat."""
    receiver, seen = WebhookReceiver(SECRET), []
    receiver.on_message(keep(seen))
    receiver.on_status(keep(seen))
    statuses = [{"id": "a", "from": PHONE, "status": status} for status in ("delivered", "read", "read")]
    async with receiver:
        for _ in range(2):
            assert await post(receiver, body(message("a"), message("a"))) == 200
            assert await post(receiver, json.dumps({"statuses": statuses}).encode()) == 200
    assert [getattr(event, "status", "message") for event in seen] == ["message", "delivered", "read"]
    assert (receiver.stats.received, receiver.stats.duplicates) == (10, 7)


async def test_no_id_no_repeat():
    """Events without an id are never taken for repeats."""
    receiver, seen = WebhookReceiver(SECRET), []
    receiver.on_message(keep(seen))
    async with receiver:
        await post(receiver, body(message("")))
        await post(receiver, body(message("")))
    assert len(seen) == 2


async def test_memory_of_repeats_is_bounded():
    """Only the last events are remembered."""
    receiver, seen = WebhookReceiver(SECRET, remember=2), []
    receiver.on_message(keep(seen))
    async with receiver:
        for key in ("a", "b", "b", "c", "a"):
            await post(receiver, body(message(key)))
    assert [event.id for event in seen] == ["a", "b", "c", "a"]


async def test_handlers_run_outside_the_request():
    """The answer doesn't wait for the handler; one customer's next event does, another's doesn't."""
    receiver, gate, seen = WebhookReceiver(SECRET), anyio.Event(), []

    @receiver.on_message
    async def slow(event):
        seen.append(event.id)
        if event.id == "a":
            await gate.wait()

    async with receiver:
        for key, sender in (("a", PHONE), ("b", PHONE), ("c", "905550000000")):
            assert await post(receiver, body(message(key, sender))) == 200
        await anyio.wait_all_tasks_blocked()
        assert sorted(seen) == ["a", "c"]
        gate.set()
    assert seen[2:] == ["b"]


async def test_concurrency():
    """No more handlers run at once than allowed."""
    receiver, running, most = WebhookReceiver(SECRET, concurrency=2), 0, 0

    @receiver.on_message
    async def handler(event):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.wait_all_tasks_blocked()
        running -= 1

    async with receiver:
        await post(receiver, body(*(message(str(n), f"9055500000{n:02}") for n in range(10))))
    assert most == 2


async def test_a_large_body_is_parsed_in_a_thread(monkeypatch):
    """A megabyte of events would hold up the loop; a usual body isn't worth a thread."""
    threads = []

    def parsed(content):
        threads.append(threading.current_thread())
        return parse(content)

    monkeypatch.setattr(_receiver, "parse", parsed)
    async with WebhookReceiver(SECRET) as receiver:
        assert await post(receiver, body(message("a"))) == 200
        assert await post(receiver, body(message("b")).ljust(100_000)) == 200
        assert await post(receiver, b"garbage" * 10_000) == 400
    assert [thread is threading.current_thread() for thread in threads] == [True, False, False]


async def test_full_queue(caplog):
    """A full queue is 503, said once, and forgets nothing: a later repeat is taken."""
    receiver, gate, seen = WebhookReceiver(SECRET, queue_size=2), anyio.Event(), []

    @receiver.on_message
    async def slow(event):
        await gate.wait()
        seen.append(event.id)

    async with receiver:
        statuses = [await post(receiver, body(message(key))) for key in "abcc"]
        gate.set()
        await anyio.wait_all_tasks_blocked()
        statuses.append(await post(receiver, body(message("c"))))
    assert statuses == [200, 200, 503, 503, 200]
    assert seen == ["a", "b", "c"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_body_larger_than_the_queue():
    """A body with more events than the queue holds is taken when the queue is empty, or never would be."""
    receiver, seen = WebhookReceiver(SECRET, queue_size=2), []
    receiver.on_message(keep(seen))
    async with receiver:
        assert await post(receiver, body(*map(message, "abcde"))) == 200
    assert len(seen) == 5


@VIRTUAL
async def test_stop_drains():
    """Leaving the block waits for what is queued, and takes no more."""
    receiver, seen = WebhookReceiver(SECRET), []

    @receiver.on_message
    async def slow(event):
        await anyio.sleep(1)
        seen.append(event.id)
        assert await post(receiver, body(message("late"))) == 503

    async with receiver:
        await post(receiver, body(*map(message, "abc")))
    assert seen == ["a", "b", "c"]


@VIRTUAL
async def test_stop_is_bounded(caplog):
    """A stop waits no longer than it may, and says how many events are lost."""
    receiver = WebhookReceiver(SECRET, drain_timeout=5)
    receiver.on_message(hang)
    async with receiver:
        await post(receiver, body(*map(message, "abc")))
        started = anyio.current_time()
    assert anyio.current_time() - started == 5
    assert "3 events not handled; they are lost" in caplog.text


async def hang(event):
    """Never end."""
    await anyio.sleep_forever()


async def test_stop_when_cancelled(caplog):
    """A host that is cancelled doesn't wait for the queue, since its handlers are cancelled with it."""
    receiver = WebhookReceiver(SECRET)
    receiver.on_message(hang)
    with anyio.CancelScope() as scope:
        async with receiver:
            await post(receiver, body(message("a")))
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert "1 events not handled; they are lost" in caplog.text


async def test_closed_while_reading():
    """A body that comes in when the receiver has closed meanwhile is 503."""
    receiver, closed, statuses = WebhookReceiver(SECRET), anyio.Event(), []

    async def late():
        await closed.wait()
        yield body(message("a"))

    async def request():
        statuses.append(await post(receiver, late()))

    async with anyio.create_task_group() as tasks:
        async with receiver:
            tasks.start_soon(request)
            await anyio.wait_all_tasks_blocked()
        closed.set()
    assert statuses == [503]


async def test_lifespan():
    """Served on its own, a receiver is opened and closed by the server's lifespan."""
    receiver, sent = WebhookReceiver(SECRET), []

    async def receive():
        if not sent:
            return {"type": "lifespan.startup"}
        assert await post(receiver, body(message("a"))) == 200
        return {"type": "lifespan.shutdown"}

    async def send(message):
        sent.append(message["type"])

    await receiver({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert await post(receiver, b"") == 503


@pytest.mark.parametrize("late", [False, True])
async def test_lifespan_failures(late):
    """A failure at the start is told to the server; one at the end only raises."""
    receiver, sent = WebhookReceiver(SECRET), []

    async def receive():
        if sent and late:
            raise OSError("too late")
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message["type"])

    async with anyio.create_task_group():
        if late:
            with pytest.raises((OSError, ExceptionGroup)):
                await receiver({"type": "lifespan"}, receive, send)
        else:
            async with receiver:
                with pytest.raises(ClientStateError):
                    await receiver({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete" if late else "lifespan.startup.failed"]


def test_repr():
    """The repr shows the state and no secret."""
    assert repr(WebhookReceiver(SECRET)) == "<WebhookReceiver: closed, 0 handled, 0 failed>"


async def test_unhandled_events_are_counted():
    """An event that nobody asked for is 200, and counted."""
    async with WebhookReceiver(SECRET) as receiver:
        assert await post(receiver, body(message("a"))) == 200
        await anyio.wait_all_tasks_blocked()
        assert repr(receiver) == "<WebhookReceiver: 0 queued, 1 handled, 0 failed>"
    assert receiver.stats.unhandled == 1


def test_decorators_give_the_function_back():
    """A decorated function stays what it was."""
    receiver = WebhookReceiver(SECRET)

    async def handler(event: MessageReceived | StatusUpdate | UnknownEvent) -> None: ...

    for register in (
        receiver.on_message,
        receiver.on_status,
        receiver.on_unknown,
        receiver.on_message("text"),
    ):
        assert register(handler) is handler


async def test_any_task_may_open_and_close_it():
    """Fixtures and frameworks open it in one task and close it in another."""
    receiver, seen = WebhookReceiver(SECRET), []
    receiver.on_message(keep(seen))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.__aenter__)
    assert await post(receiver, body(message("a"))) == 200
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.__aexit__, None, None, None)
    assert [event.id for event in seen] == ["a"]
    assert await post(receiver, body(message("b"))) == 503


async def test_two_receivers_close_in_the_order_of_opening():
    """Neither holds a task group of the other's task."""
    one, two = WebhookReceiver(SECRET), WebhookReceiver(SECRET)
    for receiver in (one, two):
        await receiver.__aenter__()
    for receiver in (one, two):
        await receiver.__aexit__(None, None, None)
    assert (one.queued, two.queued) == (0, 0)


async def test_a_reopened_receiver_has_forgotten_the_repeats():
    """A receiver of the module serves one test after the other."""
    receiver, seen = WebhookReceiver(SECRET), []
    receiver.on_message(keep(seen))
    for _ in range(2):
        async with receiver:
            await post(receiver, body(message("a")))
    assert len(seen) == 2


async def test_a_status_named_message_hides_no_message():
    """Their keys are apart."""
    receiver, seen = WebhookReceiver(SECRET), []
    receiver.on_message(keep(seen))
    receiver.on_status(keep(seen))
    async with receiver:
        await post(receiver, b'{"statuses": [{"id": "X1", "status": "message"}]}')
        await post(receiver, body(message("X1")))
    assert len(seen) == 2


async def test_people_without_a_number_have_queues_of_their_own():
    """Ruling 36a: one of them doesn't wait for another."""
    receiver, gate, seen = WebhookReceiver(SECRET), anyio.Event(), []

    @receiver.on_message
    async def slow(event):
        seen.append(event.user_id)
        if event.user_id == "US.1":
            await gate.wait()

    async with receiver:
        users = ("US.1", "US.1", "US.2")
        await post(receiver, body(*(message(str(n), "", user_id=user) for n, user in enumerate(users))))
        await anyio.wait_all_tasks_blocked()
        assert seen == ["US.1", "US.2"]
        gate.set()


async def test_messages_pass_statuses():
    """A campaign's statuses fill neither the queue nor the handlers that customers' messages need."""
    receiver, gate, seen = WebhookReceiver(SECRET, queue_size=10, concurrency=4), anyio.Event(), []
    receiver.on_message(keep(seen))

    @receiver.on_status
    async def slow(event):
        await gate.wait()

    async with receiver:
        statuses = [{"id": str(n), "from": f"90555{n:07}", "status": "read"} for n in range(20)]
        assert await post(receiver, json.dumps({"statuses": statuses}).encode()) == 200
        assert await post(receiver, b'{"statuses": {"id": "x", "status": "read"}}') == 503
        assert await post(receiver, body(message("a"))) == 200
        await anyio.wait_all_tasks_blocked()
        assert [event.id for event in seen] == ["a"]
        gate.set()


class Shelf:
    """A store that takes events, or raises for so many calls."""

    def __init__(self, failures=0):
        self.calls, self.failures = [], failures

    async def feed(self, *events):
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.calls.append([event.id for event in events])
        return len(events)


@VIRTUAL
async def test_stores_are_fed_in_groups():
    """Messages and statuses, gathered for 0.3 s; other objects are not handed on."""
    receiver, shelf = WebhookReceiver(SECRET), Shelf()
    receiver.feed(shelf)
    async with receiver:
        await post(receiver, body(message("a")))
        await anyio.sleep(0.1)
        await post(receiver, b'{"statuses": {"id": "b", "status": "read"}, "ping": 1}')
        await post(receiver, b'{"ping": 1}')
        assert shelf.calls == []
        await anyio.sleep(0.25)
        assert shelf.calls == [["a", "b"]]
        await post(receiver, body(message("c")))
    assert shelf.calls == [["a", "b"], ["c"]]
    assert receiver.stats.handled == 4


@VIRTUAL
async def test_a_store_that_fails_gets_the_events_again(caplog):
    """The other store isn't fed twice, and the message's handler doesn't wait."""
    receiver, failing, other, seen = WebhookReceiver(SECRET), Shelf(failures=2), Shelf(), []
    receiver.feed(failing, other)
    receiver.on_message(keep(seen))
    async with receiver:
        await post(receiver, body(message("a")))
        await anyio.sleep(0.01)
        assert len(seen) == 1
        await anyio.sleep(3)
    assert (failing.calls, other.calls) == ([["a"]], [["a"]])
    assert "did not take 1 events; next try in 0.5 s" in caplog.text


@VIRTUAL
async def test_a_store_that_fails_holds_up_no_other_store():
    """An opt-out is stored while a campaign's ledger takes no statuses."""
    receiver, failing, other = WebhookReceiver(SECRET, drain_timeout=0), Shelf(failures=100), Shelf()
    receiver.feed(failing, other)
    async with receiver:
        await post(receiver, body(message("a")))
        await anyio.sleep(1)
        await post(receiver, body(message("b")))
        await anyio.sleep(1)
    assert (failing.calls, other.calls) == ([], [["a"], ["b"]])


async def test_feed_comes_before_the_opening():
    """And takes stores only."""
    with pytest.raises(ConfigurationError, match="has no `feed`"):
        WebhookReceiver(SECRET).feed("campaign")
    async with WebhookReceiver(SECRET) as receiver:
        with pytest.raises(ClientStateError, match="before `async with receiver:`"):
            receiver.feed(Shelf())
