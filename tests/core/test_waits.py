"""What a call waits for, and for how long: slots, templates, the limiter, the end of a fan-out."""

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    ClientStateError,
    ConfigurationError,
    Desk360Error,
    HostLimiter,
    InvalidMessage,
    Outcome,
    RateLimited,
    RateLimitWaitTooLong,
    SendResult,
    ServerError,
    TemplateMessage,
    TextMessage,
    TimedOut,
    Timeouts,
    TokenBucket,
)
from desk360_async._pipeline import Turnstile
from desk360_async._resources import RETRIED
from tests.core.fakes import ID, TO, Seen, Tokens, Wire, connect, sent
from tests.core.test_resources import ENGLISH, listing, template, translation
from tests.core.vendor import PNG

pytestmark = pytest.mark.anyio

BY_NAME = TemplateMessage(TO, "Welcome", language="English")
END = 10_000.0  # seconds of virtual time that nothing here takes


def answering(seconds: float, answer: Callable[[Seen], httpx.Response]) -> Callable[[Seen], Awaitable[Any]]:
    """Answer after a while."""

    async def late(seen: Seen) -> httpx.Response:
        await anyio.sleep(seconds)
        return answer(seen)

    return late


async def one_token(**options: Any) -> tuple[AsyncDesk360, Wire]:
    """Make a client whose only token of a minute is away."""
    wire = Wire(listing())
    client = connect(wire, limiter=TokenBucket(1, 60), **options)
    await client.send_text(TO, "x")
    return client, wire


async def ended(call: Awaitable[object]) -> tuple[type | None, float]:
    """Return the error that a call ended with, and when."""
    try:
        await call
    except Desk360Error as error:
        return type(error), anyio.current_time()
    return None, anyio.current_time()


# ── slots ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_reads_a_file_may_send_with_every_slot_taken() -> None:
    """Readers that held their slots would wait for each other for ever."""
    wire = Wire(lambda seen: sent() if seen.method == "POST" else httpx.Response(200, content=PNG))
    client = connect(wire, max_connections=2)

    async def forward() -> None:
        async with client.open_media("m"):
            await anyio.sleep(1)
            await client.send_text(TO, "x")

    with anyio.fail_after(END):
        async with client, anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(forward)
    assert len(wire.seen) == 8


@pytest.mark.parametrize("kind", ["upload", "view"])
async def test_closing_gives_each_send_its_own_time(kind: str) -> None:
    """`upload`, or a view's `total`: what would be accepted must not become unknown."""
    client = connect(Wire(answering(15, lambda _: sent())), timeout=Timeouts(total=10, upload=20))
    view = client.with_options(timeout=20)
    picture = Attachment.from_bytes("a.png", PNG)
    accepted: list[str] = []

    async def send() -> None:
        sending = (
            client.send_template(TO, 1, language=1, attachment=picture)
            if kind == "upload"
            else view.send_text(TO, "x")
        )
        accepted.append((await sending).message_id)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(1)
        await client.aclose()
        assert anyio.current_time() >= 15
    assert accepted == [ID]


# ── turns ──────────────────────────────────────────────────────────────────────────────────────────────


class Turns:
    """A loop whose turns the test runs, with futures of the standard library."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.call_soon = self.soon.append
        self.create_future = Future[None]

    def turn(self) -> None:
        """Run what was to run in this turn."""
        calls, self.soon[:] = list(self.soon), []
        for call in calls:
            call()


def begun(waits: list[Any]) -> list[int]:
    """Return which sends have begun, of those that entered a turnstile."""
    return [place for place, wait in enumerate(waits) if wait is None or wait.done()]


def turnstile_on(loop: Turns, connections: int = 20) -> Turnstile:
    """Return the turnstile of a client with so many connections, bound to a loop."""
    made = Turnstile(lambda: loop, connections)
    made.loop = loop
    return made


@pytest.mark.parametrize(("connections", "a_turn"), [(1, 1), (10, 10), (20, 20), (100, 20)])
def test_as_many_sends_begin_in_a_turn_as_a_client_has_connections(connections: int, a_turn: int) -> None:
    """They begin in order, and never more than 20."""
    loop = Turns()
    turnstile = turnstile_on(loop, connections)
    waits: list[Any] = [turnstile.enter() for _ in range(50)]
    turns = [len(begun(waits))]
    while loop.soon:
        loop.turn()
        turns.append(len(begun(waits)))
        assert begun(waits) == [*range(turns[-1])]
    assert turns == [*range(a_turn, 50, a_turn), 50, 50]


def test_a_send_that_was_cancelled_before_its_turn_takes_no_place() -> None:
    loop = Turns()
    turnstile = turnstile_on(loop)
    waits: list[Any] = [turnstile.enter() for _ in range(41)]
    waits[20].cancel()
    loop.turn()
    assert begun(waits) == [*range(41)]


def test_a_send_that_comes_later_begins_later() -> None:
    """Where there is room for it as well."""
    turnstile = turnstile_on(Turns())
    turnstile.sending = 84
    waits: list[Any] = [turnstile.enter()]
    turnstile.sending = 0
    assert begun([*waits, turnstile.enter()]) == []


def test_no_send_begins_while_64_wait_for_a_connection() -> None:
    loop = Turns()
    turnstile = turnstile_on(loop)
    turnstile.sending = 85
    waits: list[Any] = [turnstile.enter() for _ in range(21)]
    turnstile.leave()
    loop.turn()
    assert begun(waits) == []
    for _ in range(3):  # three connections that come back in one turn let 20 begin, not 60
        turnstile.leave()
    loop.turn()
    assert begun(waits) == [*range(20)]


async def crowd(client: AsyncDesk360, text: str = "x", sends: int = 100) -> list[type | None]:
    """Send texts and messages at once, one more before them; return the errors, None for none."""
    errors: list[type | None] = []
    await client.send_text(TO, "x")

    async def send(number: int) -> None:
        call = client.send(TextMessage(TO, "x")) if number % 2 else client.send_text(TO, text)
        errors.append((await ended(call))[0])

    async with anyio.create_task_group() as tasks:
        for number in range(sends):
            tasks.start_soon(send, number)
    return errors


def slow(seconds: float) -> Wire:
    """Return a wire that answers the first request at once, and each other one late."""
    return Wire(lambda _: sent(), answering(seconds, lambda _: sent()))


async def test_each_send_of_a_crowd_goes_out() -> None:
    wire = slow(1)
    with anyio.fail_after(END):
        assert await crowd(connect(wire, max_connections=3)) == [None] * 100
    assert len(wire.seen) == 101


async def test_each_cancelled_send_of_a_crowd_has_a_result() -> None:
    """The sends that wait for their turn as well."""
    heard: list[SendResult] = []
    client = connect(slow(END), max_connections=1, on_result=heard.append)
    with anyio.move_on_after(1):
        await crowd(client)
    outcomes = Counter(result.outcome for result in heard)
    assert outcomes == {Outcome.ACCEPTED: 1, Outcome.UNKNOWN: 1, Outcome.NOT_SENT: 99}


async def test_a_cancelled_text_that_is_no_message_has_no_result() -> None:
    heard: list[SendResult] = []
    client = connect(slow(END), max_connections=1, on_result=heard.append)
    with anyio.move_on_after(1):
        await crowd(client, text="", sends=200)
    assert len(heard) == 101


async def test_closing_ends_each_send_of_a_crowd_that_waits() -> None:
    client = connect(slow(9), max_connections=1)
    errors: list[type | None] = []

    async def send() -> None:
        errors.extend(await crowd(client))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(1)
        await client.aclose()
    assert Counter(errors) == {ClientStateError: 99, None: 1}


# ── templates ──────────────────────────────────────────────────────────────────────────────────────────


async def test_max_wait_is_the_sum_over_a_look_up_and_its_send() -> None:
    """The second wait has what the first left over."""
    client, wire = await one_token(max_wait=70)
    assert await ended(client.send(BY_NAME)) == (RateLimitWaitTooLong, pytest.approx(60, abs=1))
    assert len(wire.seen) == 2


async def test_a_patient_loader_keeps_nobody_longer_than_he_would_wait() -> None:
    """The list comes within one request's time, or the call's own patience is over."""
    client, _ = await one_token(timeout=10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.send, BY_NAME)
        await anyio.sleep(1)
        assert await ended(client.with_options(max_wait=2).send(BY_NAME)) == (RateLimitWaitTooLong, 13)
        tasks.cancel_scope.cancel()


async def test_one_callers_impatience_is_not_anothers_failure() -> None:
    """Who waits longer loads the list himself."""
    tokens, results = Tokens(), []

    async def overtaken() -> None:
        tokens.wait = None
        await anyio.sleep(5)
        raise RateLimitWaitTooLong("overtaken", eta=60.0)

    async def send() -> None:
        results.append((await ended(client.send(BY_NAME)))[0])

    tokens.wait = overtaken
    client = connect(Wire(listing()), limiter=tokens)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(send)
            await anyio.sleep(1)
    assert results == [RateLimitWaitTooLong, None]


async def test_a_bulk_look_up_goes_in_the_lane_of_those_who_may_wait_for_it() -> None:
    """An interactive send may need the same list."""
    tokens = Tokens()
    client = connect(Wire(listing()), limiter=tokens, lane="bulk")
    await client.send(BY_NAME)
    assert tokens.lanes == ["interactive", "bulk"]


async def test_leaving_a_fan_out_does_not_wait_for_a_look_ups_token() -> None:
    """As little as for a send's own."""
    client, wire = await one_token()
    async with client.send_each([BY_NAME] * 3) as results:
        await anyio.sleep(1)
    assert anyio.current_time() < 3
    assert {result.outcome for result in results.rest} == {Outcome.NOT_SENT}
    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (translation(1, "English", status_value=1, status="in-review"), ENGLISH),
        (translation(1, "Deutsch"), ENGLISH),
    ],
)
async def test_what_an_older_list_refuses_is_looked_up_again(before: Any, after: Any) -> None:
    """It may have been approved since; once a minute is often enough."""
    rows = [template(1, "x", before)]
    wire = Wire(lambda seen: listing(rows)(seen))
    client = connect(wire)
    message = TemplateMessage(TO, "x", language="English")
    for _ in range(3):
        with pytest.raises(InvalidMessage, match="language"):
            await client.send(message)
    rows[0] = template(1, "x", after)
    await anyio.sleep(RETRIED + 1)
    assert (await client.send(message)).message_id == ID
    assert len(wire.seen) == 3


async def test_a_wrong_parameter_costs_no_second_look() -> None:
    """However old the list is: the caller's own mistake is no reason to ask again."""
    wire = Wire(listing())
    client = connect(wire)
    await client.templates.preload()
    await anyio.sleep(RETRIED + 1)
    with pytest.raises(InvalidMessage, match="parameters"):
        await client.send_template(TO, "Welcome", language="English", parameters={"body-9": "x"})
    assert len(wire.seen) == 1


async def test_a_look_up_that_fails_says_so() -> None:
    """A ServerError would else read as if the message might be out."""
    results: list[SendResult] = []
    client = connect(Wire(lambda _: httpx.Response(500)), on_result=results.append)
    with pytest.raises(ServerError, match=r"while looking up the template: HTTP 500.*was not sent"):
        await client.send(BY_NAME)
    assert [result.outcome for result in results] == [Outcome.NOT_SENT]


@pytest.mark.parametrize("name", [None, True, 1.5, b"x"])
async def test_a_template_is_named_by_a_number_or_a_name(name: Any) -> None:
    """Anything else costs no request."""
    wire = Wire(listing())
    with pytest.raises(InvalidMessage, match=r"template: must be its id \(int\) or its name \(str\)"):
        await connect(wire).templates.get(name)
    assert wire.seen == []


# ── the limiter ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_429_is_waited_for_though_the_users_limiter_has_no_gate() -> None:
    """Its two methods are all that a limiter must have."""
    wire = Wire(httpx.Response(429, headers={"retry-after": "5"}), sent())
    await connect(wire).send_text(TO, "x")
    assert (len(wire.seen), anyio.current_time()) == (2, 6)


@pytest.mark.parametrize("kind", ["bucket", "host"])
async def test_a_token_is_away_for_as_long_as_its_attempt_may_take(tmp_path: Path, kind: str) -> None:
    """Longer than a limiter allows for by itself: else the next would go out beside it."""
    started: list[float] = []

    async def slow(_: Seen) -> httpx.Response:
        started.append(anyio.current_time())
        await anyio.sleep(500)
        return sent()

    limiter = TokenBucket(1, 60) if kind == "bucket" else HostLimiter(tmp_path / "tokens.db", limit=1)
    client = connect(Wire(slow), limiter=limiter, timeout=Timeouts(total=1000))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.send_text, TO, "x")
        tasks.start_soon(client.send_text, TO, "y")
    assert started[1] - started[0] >= 560


async def test_looking_at_the_limit_binds_a_client_to_no_loop() -> None:
    """The limiter is the one of the loop in which the client is used."""
    client = connect(Wire(), limiter=None)
    assert client.rate_limit.limit == 60
    assert client._pipeline._limiter is None
    await client.send_text(TO, "x")
    assert client.rate_limit.in_flight + client.rate_limit.free < 60


# ── the end ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_transport_that_was_never_used_is_closed_too() -> None:
    """It was the client's to close."""
    wire = Wire()
    async with connect(wire):
        pass
    assert wire.closed


async def test_a_source_is_closed_when_the_fan_out_is_left() -> None:
    """Its `finally` may hold a file open."""
    closed: list[bool] = []

    async def source() -> AsyncIterator[TextMessage]:
        try:
            while True:
                yield TextMessage(TO, "x")
        finally:
            closed.append(True)

    async with connect(Wire()).send_each(source()) as results:
        async for _ in results:
            break
    assert closed == [True]


async def test_an_error_of_a_source_that_is_closed_comes_out() -> None:
    """It is the caller's own."""

    async def source() -> AsyncIterator[TextMessage]:
        try:
            while True:
                yield TextMessage(TO, "x")
        finally:
            raise OSError("its disk is full")

    with pytest.raises(OSError, match="disk"):
        async with connect(Wire()).send_each(source()) as results:
            async for _ in results:
                break


async def test_what_on_attempt_raises_is_the_callers_and_nothing_was_sent() -> None:
    """Be it another send's error, with an outcome of its own."""
    results: list[SendResult] = []
    theirs = TimedOut("another message", outcome=Outcome.UNKNOWN)

    async def refuse() -> None:
        raise theirs

    wire = Wire()
    with pytest.raises(TimedOut) as caught:
        await connect(wire, on_result=results.append).send(TextMessage(TO, "x"), on_attempt=refuse)
    assert (caught.value, theirs.outcome) == (theirs, Outcome.UNKNOWN)
    assert [result.outcome for result in results] == [Outcome.NOT_SENT]
    assert wire.seen == []


async def close_while(client: AsyncDesk360, call: Callable[[], Awaitable[object]]) -> list[type | None]:
    """Close a client a second after a call began; return what the call ended with."""
    kinds: list[type | None] = []

    async def make() -> None:
        kinds.append((await ended(call()))[0])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make)
        await anyio.sleep(1)
        await client.aclose()
    return kinds


async def test_closing_ends_the_wait_that_a_429_asked_for() -> None:
    """With the 429."""
    client = connect(Wire(httpx.Response(429, headers={"retry-after": "50"})))
    assert await close_while(client, lambda: client.send_text(TO, "x")) == [RateLimited]
    assert anyio.current_time() < 5


async def test_a_download_that_waits_for_a_slot_is_not_begun_on_a_closed_client() -> None:
    """Whoever holds the slot is given the time."""
    wire = Wire(answering(5, lambda _: sent()))
    client = connect(wire, max_connections=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.send_text, TO, "x")
        await anyio.sleep(1)
        assert await close_while(client, lambda: client.read_media("m")) == [ClientStateError]
    assert len(wire.seen) == 1


@pytest.mark.parametrize("closing", [True, False])
async def test_a_pool_is_made_once(monkeypatch: pytest.MonkeyPatch, closing: bool) -> None:
    """However many wait for it; for a client that was closed meanwhile it is closed at once."""
    pools: list[Wire] = []

    async def slow(*_: object, **__: object) -> Wire:
        await anyio.sleep(5)
        pools.append(Wire())
        return pools[-1]

    monkeypatch.setattr("desk360_async._pipeline.own_transport", slow)
    client = connect(None)
    kinds: list[type | None] = []

    async def send() -> None:
        kinds.append((await ended(client.send_text(TO, "x")))[0])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(send)
        await anyio.sleep(1)
        if closing:
            await client.aclose()
    assert kinds == [ClientStateError if closing else None] * 2
    assert [pool.closed for pool in pools] == [closing] * len(pools)


# ── what a client is made of ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"transport": object()}, "transport must be an httpx.AsyncBaseTransport, not object"),
        ({"limiter": 60}, "limiter must be a TokenBucket, a HostLimiter or a RateLimiter, not int"),
        ({"verify": "/certificates.pem"}, r"verify must be an ssl.SSLContext.*cafile"),
        ({"on_result": "x"}, "on_result must be a function, not str"),
        ({"retry": 3}, "retry must be a RetryPolicy, not int"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_at_once(options: dict[str, Any], problem: str) -> None:
    """The first send would be too late to find out."""
    with pytest.raises(ConfigurationError, match=problem):
        AsyncDesk360("k", **options)


def test_an_option_that_is_not_given_reads_so() -> None:
    """In help and in editors."""
    assert str(inspect.signature(AsyncDesk360.with_options)).count(" = ...") == 7


def test_a_view_for_no_integration_is_refused() -> None:
    """It would fail at each send."""
    with pytest.raises(ConfigurationError, match="integration_id"):
        AsyncDesk360("k").for_integration(None)  # type: ignore[arg-type]  # what is wrong about it


def test_the_limit_is_read_inside_a_loop() -> None:
    """Outside of it there is none to be read."""
    with pytest.raises(ClientStateError, match="event loop"):
        _ = AsyncDesk360("k").rate_limit


async def test_a_message_is_made_at_once() -> None:
    """An async function would make coroutines that nobody awaits."""

    async def build(_: object) -> TextMessage:
        return TextMessage(TO, "x")

    with pytest.raises(ConfigurationError, match="plain function"):
        connect(Wire()).send_each([1], build=build)  # type: ignore[arg-type]  # what is wrong about it


@pytest.mark.parametrize("path", ["/v1/integrations", "/integrations", "integrations/"])
async def test_a_path_may_be_written_as_the_vendor_writes_it(path: str) -> None:
    """With its `/v1` or without."""
    wire = Wire(httpx.Response(200, json={}))
    await connect(wire).request("GET", path)
    assert wire.seen[0].url == "https://public-api.desk360.com/v1/integrations"


async def test_a_query_is_a_mapping() -> None:
    """A list of pairs would be cut short somewhere below."""
    with pytest.raises(InvalidMessage, match="params: must map names to values, not list"):
        await connect(Wire()).request("GET", "/x", params=[("page", 1)])  # type: ignore[arg-type]  # so it is
