"""The client: one pipeline, its deadlines, retries and outcomes, and its life."""

import contextlib
import copy
import itertools
import logging
import pickle
import ssl
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    AsyncDesk360,
    AuthenticationFailed,
    ClientStateError,
    ConfigurationError,
    ConnectionFailed,
    Desk360Error,
    Outcome,
    RateLimited,
    RateLimitWaitTooLong,
    RetryPolicy,
    SendResult,
    Sent,
    ServerError,
    TextMessage,
    TimedOut,
    Timeouts,
    TokenBucket,
    UnexpectedResponse,
)
from tests.core.fakes import ID, KEY, TO, Drip, Seen, Tokens, Wire, connect, sent
from tests.core.vendor import BASE

pytestmark = pytest.mark.anyio


def status(code: int, **headers: str) -> httpx.Response:
    """Answer with a bare status."""
    return httpx.Response(code, headers={name.replace("_", "-"): value for name, value in headers.items()})


def again(code: int) -> Any:
    """Answer with this status each time."""
    return lambda _: status(code)


async def hang(_: Seen) -> httpx.Response:
    """Never answer."""
    await anyio.sleep(1e6)
    raise AssertionError


async def error_of(wire: Wire, call: Any = None, **options: Any) -> Any:
    """Return what a send, or another call, raises."""
    async with connect(wire, **options) as client:
        with pytest.raises(Desk360Error) as caught:
            await (call(client) if call else client.send_text(TO, "x"))
    return caught.value


def mark(client: AsyncDesk360) -> Any:
    """Mark as read: a POST that repeats without harm."""
    return client.mark_read(TO, [ID])


def listing(client: AsyncDesk360) -> Any:
    """List: a GET."""
    return client.integrations.list()


# ── outcomes and retries ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.smoke
async def test_a_send_returns_its_id(wire: Wire) -> None:
    """And its token goes back with the answer."""
    tokens = Tokens()
    async with connect(wire, limiter=tokens) as client:
        assert await client.send_text(TO, "x") == Sent(ID)
    assert (tokens.ended, tokens.lanes) == (["done 200"], ["interactive"])


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 409, 422, 500, 502, 503, 504])
async def test_a_send_is_never_repeated_after_an_answer(code: int) -> None:
    """Rows 3 to 5: whatever it says, but for 429."""
    wire = Wire(again(code))
    await error_of(wire)
    assert len(wire.seen) == 1


@pytest.mark.parametrize("call", [mark, listing])
@pytest.mark.parametrize("code", [408, 500, 503])
async def test_what_is_idempotent_is_repeated(call: Any, code: int) -> None:
    """Three attempts in all; reads have no outcome."""
    wire = Wire(again(code))
    error = await error_of(wire, call)
    assert (type(error), len(wire.seen)) == (ServerError, 3)
    assert error.outcome is (Outcome.UNKNOWN if call is mark else None)


@pytest.mark.parametrize("call", [mark, listing])
async def test_a_refusal_is_not_repeated_even_there(call: Any) -> None:
    """401 stays 401."""
    wire = Wire(again(401))
    assert isinstance(await error_of(wire, call), AuthenticationFailed)
    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    ("error", "outcome", "attempts", "token"),
    [
        (httpx.ConnectError("refused"), "not_sent", 3, "unused"),
        (httpx.ConnectTimeout("slow"), "not_sent", 3, "unused"),
        (httpx.PoolTimeout("full"), "not_sent", 3, "unused"),
        (httpx.UnsupportedProtocol("gopher"), "not_sent", 1, "unused"),
        (httpx.InvalidURL("no"), "not_sent", 1, "unused"),
        (httpx.ReadError("gone"), "unknown", 1, "lost"),
        (httpx.WriteError("gone"), "unknown", 1, "lost"),
        (httpx.ReadTimeout("slow"), "unknown", 1, "lost"),
        (httpx.RemoteProtocolError("gone"), "unknown", 1, "lost"),
        (httpx.LocalProtocolError("what"), "unknown", 1, "lost"),
        (httpx.ProxyError("no"), "unknown", 1, "lost"),
        (ValueError("a user's transport"), "unknown", 1, "lost"),
    ],
)
async def test_without_an_answer_the_evidence_decides(
    error: Exception, outcome: str, attempts: int, token: str
) -> None:
    """Rows 6 to 8, on a transport that gives no trace."""
    wire, tokens = Wire(error), Tokens()
    found = await error_of(wire, limiter=tokens)
    assert isinstance(found, ConnectionFailed)
    assert isinstance(found, TimedOut) == isinstance(error, httpx.TimeoutException)
    assert (found.outcome, len(wire.seen), tokens.ended) == (outcome, attempts, [token] * attempts)
    assert found.__cause__ is error


async def test_a_certificate_error_is_not_sent_and_not_repeated() -> None:
    """Row 6: trying again can't help."""
    error = httpx.ConnectError("bad certificate")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    wire = Wire(error)
    assert (await error_of(wire)).outcome is Outcome.NOT_SENT
    assert len(wire.seen) == 1


async def test_what_was_not_sent_is_sent_after_a_while() -> None:
    """Backoff doubles, with jitter, up to its bound."""
    times: list[float] = []

    def refuse(_: Seen) -> httpx.Response:
        times.append(anyio.current_time())
        raise httpx.ConnectError("refused")

    retry = RetryPolicy(attempts=5, backoff=1, backoff_max=3)
    await error_of(Wire(refuse), retry=retry)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert [low <= gap <= 2 * low for low, gap in zip([0.5, 1, 1.5, 1.5], gaps, strict=True)] == [True] * 4


async def test_the_quota_bounds_retries_in_an_outage() -> None:
    """A client and its views together: 1.2 attempts a call over time."""
    wire = Wire(httpx.ConnectError("refused"))
    async with connect(wire) as client:
        for n in range(200):
            with pytest.raises(ConnectionFailed):
                await client.for_integration(n + 1).send_text(TO, "x")
    assert len(wire.seen) < 250


async def test_a_429_is_waited_for_and_not_counted_as_an_attempt() -> None:
    """Row 2 and ruling 31: through the limiter, for longer than it says."""
    wire = Wire(*[status(429, retry_after="5")] * 4, lambda _: sent())
    async with connect(wire, limiter=TokenBucket(), retry=RetryPolicy(attempts=1)) as client:
        began = anyio.current_time()
        assert await client.send_text(TO, "x") == Sent(ID)
    assert anyio.current_time() - began == pytest.approx(24, abs=0.5)


@pytest.mark.parametrize("code", ["too_many_requests_exception", "too_many_attempts"])
async def test_too_many_requests_in_a_200_is_waited_for_as_a_429(code: str) -> None:
    """Ruling 25: with `Retry-After` it is the document's own sample; without it the wait is a period."""
    limited = httpx.Response(200, json={"error": {"code": code}}, headers={"retry-after": "5"})
    wire = Wire(limited, limited, lambda _: sent())
    async with connect(wire, retry=RetryPolicy(attempts=1)) as client:
        began = anyio.current_time()
        assert await client.send_text(TO, "x") == Sent(ID)
        assert anyio.current_time() - began == pytest.approx(12, abs=0.1)


async def test_too_many_requests_in_a_200_is_raised_as_a_429_when_waits_are_used_up() -> None:
    body = {"error": {"code": "too_many_attempts"}}
    wire = Wire(lambda _: httpx.Response(200, json=body, headers={"retry-after": "50"}))
    error = await error_of(wire, retry=RetryPolicy(max_retry_after=10))
    assert (type(error), error.outcome, len(wire.seen)) == (RateLimited, Outcome.NOT_SENT, 1)


async def test_429s_that_last_too_long_are_raised_at_once() -> None:
    """`max_retry_after` bounds their sum."""
    wire = Wire(lambda _: status(429, retry_after="50"))
    began = anyio.current_time()
    error = await error_of(wire, limiter=TokenBucket())
    assert (type(error), error.outcome, error.retry_after) == (RateLimited, Outcome.NOT_SENT, 50)
    assert (len(wire.seen), anyio.current_time() - began < 110) == (3, True)


async def test_a_retry_after_on_a_success_delays_the_next() -> None:
    """Ruling 30: the result is returned at once."""
    wire = Wire(lambda _: httpx.Response(200, json={"message_id": ID}, headers={"retry-after": "26"}))
    async with connect(wire, limiter=TokenBucket()) as client:
        began = anyio.current_time()
        await client.send_text(TO, "x")
        assert anyio.current_time() == began
        await client.send_text(TO, "x")
        assert anyio.current_time() - began == pytest.approx(27, abs=0.1)


GARBAGE = [
    {"x-ratelimit-limit": "many", "x-ratelimit-remaining": "\u0663"},
    {"x-ratelimit-limit": "0", "x-ratelimit-remaining": "-99999999999"},
    {"x-ratelimit-limit": "1e3", "x-ratelimit-reset": "tomorrow"},
    {"retry-after": "soon"},
]


@pytest.mark.parametrize("headers", GARBAGE)
async def test_garbage_in_rate_headers_changes_nothing(headers: dict[str, str]) -> None:
    """Ruling 29: what isn't a plausible number is ignored."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    wire = Wire(lambda _: httpx.Response(200, json={"message_id": ID}, headers=raw))
    async with connect(wire, limiter=TokenBucket()) as client:
        began = anyio.current_time()
        for _ in range(3):
            await client.send_text(TO, "x")
        assert (anyio.current_time(), client.rate_limit.limit) == (began, 60)


async def test_max_wait_bounds_the_waits_for_tokens() -> None:
    """In sum; the error says how long it would take."""
    wire = Wire(lambda _: status(429, retry_after="3"))
    error = await error_of(wire, limiter=TokenBucket(), max_wait=6)
    assert (type(error), error.outcome, len(wire.seen)) == (RateLimitWaitTooLong, Outcome.NOT_SENT, 2)
    assert error.eta > 0


# ── bodies ─────────────────────────────────────────────────────────────────────────────────────────────


def dripping(*pieces: Any, **headers: str) -> Any:
    """Answer with a body in pieces, each time."""
    return lambda _: httpx.Response(200, stream=Drip(*pieces), headers=headers)


WHOLE = b'{"message_id": "x"}'
BODIES = [
    ([WHOLE[:5], httpx.ReadError("gone")], {}, "cut off"),
    ([WHOLE[:5], lambda: anyio.sleep(99)], {}, "didn't end within 30 s"),
    ([b" " * 4_000_000] * 3, {}, "over 8 MiB"),
    ([WHOLE], {"content-encoding": "br"}, "wasn't asked for"),
    ([WHOLE], {"content-encoding": "gzip"}, "broken"),
    ([WHOLE] * 2000, {"content-encoding": "gzip"}, "broken"),
]


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.parametrize(("pieces", "headers", "problem"), BODIES)
async def test_a_success_whose_body_fails_is_unknown_and_not_repeated(
    pieces: list[Any], headers: dict[str, str], problem: str
) -> None:
    """Row 1b: the reply itself was not seen."""
    wire = Wire(dripping(*pieces, **headers))
    error = await error_of(wire)
    assert (type(error), error.outcome, len(wire.seen)) == (UnexpectedResponse, Outcome.UNKNOWN, 1)
    assert problem in error.problems[0]


async def test_a_read_whose_body_is_cut_off_is_repeated() -> None:
    """It needs it whole."""
    wire = Wire(dripping(b"[", httpx.ReadError("gone")), lambda _: httpx.Response(200, json=[{"id": 1}]))
    async with connect(wire) as client:
        assert [i.id for i in await client.integrations.list()] == [1]
    assert isinstance(
        await error_of(Wire(dripping(b"[", httpx.ReadError("gone"))), listing), ConnectionFailed
    )


async def test_a_receipt_whose_body_is_cut_off_is_not_repeated() -> None:
    """Row 1b holds for idempotent calls too: no token is wasted on it."""
    wire = Wire(dripping(b"[", httpx.ReadError("gone")))
    error = await error_of(wire, mark)
    assert (type(error), error.outcome, len(wire.seen)) == (UnexpectedResponse, Outcome.UNKNOWN, 1)


async def test_an_answer_in_time_is_a_matter_of_total() -> None:
    """One attempt, from its slot on."""
    wire = Wire(hang)
    error = await error_of(wire, timeout=3)
    assert (type(error), error.outcome) == (TimedOut, Outcome.UNKNOWN)
    assert "within 3 s" in str(error)


async def test_waiting_for_a_slot_is_not_counted() -> None:
    """Nor is waiting for a token; and no more are on the wire than `max_connections`."""
    now = most = 0

    async def slow(_: Seen) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(2)
        now -= 1
        return sent()

    async def wait() -> None:
        await anyio.sleep(50)

    client = connect(Wire(slow), timeout=3, max_connections=2, limiter=Tokens(wait=wait))
    async with client, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(client.send_text, TO, "x")
    assert most == 2


@pytest.mark.parametrize("where", [b"", KEY.encode()])
async def test_an_answer_that_echoes_the_key_is_masked(where: bytes) -> None:
    """A debug page of the server's, in a body or a header."""
    body = b'{"error": "you sent Bearer ' + where + b'"}'
    wire = Wire(httpx.Response(500, content=body, headers={"x-sent": where.decode()}))
    error = await error_of(wire)
    assert KEY not in f"{error} {error.body} {error.headers} {error.message}"


async def test_cookies_are_dropped(wire: Wire) -> None:
    """They would decide about the next request."""
    wire.answers = [lambda _: httpx.Response(200, json={"message_id": ID}, headers={"set-cookie": "a=b"})]
    async with connect(wire) as client:
        await client.send_text(TO, "x")
        await client.send_text(TO, "x")
    assert "cookie" not in wire.seen[1].headers


# ── on_attempt, on_result, cancellation ────────────────────────────────────────────────────────────────


async def test_on_attempt_runs_with_the_token_before_a_byte(wire: Wire) -> None:
    """Once an attempt."""
    heard: list[int] = []

    async def note() -> None:
        heard.append(len(wire.seen))

    wire.answers = [httpx.ConnectError("refused"), lambda _: sent()]
    async with connect(wire) as client:
        await client.send(TextMessage(TO, "x"), on_attempt=note)
    assert heard == [0, 1]


async def test_if_on_attempt_raises_nothing_was_sent(wire: Wire) -> None:
    """The token is unused, and the error comes out as it is."""
    heard: list[SendResult] = []
    tokens = Tokens()

    async def refuse() -> None:
        raise LookupError

    async with connect(wire, limiter=tokens, on_result=heard.append) as client:
        with pytest.raises(LookupError):
            await client.send(TextMessage(TO, "x"), on_attempt=refuse)
    assert (wire.seen, tokens.ended, [r.outcome for r in heard]) == ([], ["unused"], [Outcome.NOT_SENT])


async def test_on_result_hears_the_end_of_every_send(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises is logged, and the send is what it is."""
    heard: list[SendResult] = []

    def listen(result: SendResult) -> None:
        heard.append(result)
        raise LookupError

    wire.answers = [status(500), lambda _: sent()]
    async with connect(wire, on_result=listen) as client:
        with pytest.raises(ServerError):
            await client.send_text(TO, "x")
        assert await client.send_text(TO, "y") == Sent(ID)
    assert [(r.outcome, r.reply, type(r.error)) for r in heard] == [
        (Outcome.UNKNOWN, None, ServerError),
        (Outcome.ACCEPTED, Sent(ID), type(None)),
    ]
    assert "on_result failed" in caplog.text


CANCELLED: list[tuple[Any, Any, Outcome, list[str]]] = [
    (lambda: anyio.sleep(99), None, Outcome.NOT_SENT, []),
    (None, hang, Outcome.UNKNOWN, ["lost"]),
    (None, dripping(WHOLE[:3], lambda: anyio.sleep(99)), Outcome.UNKNOWN, ["lost"]),
    (None, httpx.ConnectError("refused"), Outcome.NOT_SENT, ["unused"]),
]


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.parametrize(("wait", "answer", "outcome", "ended"), CANCELLED)
async def test_a_cancelled_send_is_told_by_how_far_it_got(
    wait: Any, answer: Any, outcome: Outcome, ended: list[str]
) -> None:
    """Waiting for a token, on the wire, in the body, between two attempts."""
    heard: list[SendResult] = []
    tokens = Tokens(wait=wait)
    retry = RetryPolicy(backoff=100, backoff_max=100)
    async with connect(Wire(answer), limiter=tokens, on_result=heard.append, retry=retry) as client:
        with anyio.move_on_after(1):
            await client.send_text(TO, "x")
    assert ([r.outcome for r in heard], tokens.ended) == ([outcome], ended)
    assert "ended by Cancelled" in str(heard[0].error)


async def test_attempts_are_logged_without_secrets(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the key nor a phone nor a media id."""
    caplog.set_level(logging.INFO, "desk360_async")
    wire.answers = [lambda _: sent(), httpx.ReadError(f"{TO} {KEY}")]
    async with connect(wire) as client:
        await client.send_text(TO, "x")
        with pytest.raises(ConnectionFailed):
            await client.request("POST", f"/x/{TO[1:]}")
    lines = [r.getMessage() for r in caplog.records if r.name == "desk360_async"]
    assert lines == [
        "send_text: 200 after 0.000 s (attempt 1)",
        "request: ConnectionFailed after 0.000 s (attempt 1)",
        "request: it is unknown whether it went out: ConnectionFailed",
    ]


# ── life ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_repr_shows_no_key() -> None:
    """Host, integration and lane."""
    client = AsyncDesk360(KEY, integration_id=11)
    assert repr(client) == "<AsyncDesk360 public-api.desk360.com integration_id=11 lane='interactive'>"


def test_a_client_can_neither_be_pickled_nor_copied() -> None:
    """It holds connections and the key."""
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(AsyncDesk360(KEY))
    with pytest.raises(TypeError, match="can't be pickled"):
        copy.copy(AsyncDesk360(KEY))


def test_a_plain_with_names_the_async_one() -> None:
    with pytest.raises(TypeError, match="use 'async with AsyncDesk360"), AsyncDesk360(KEY):
        pass


def test_a_client_may_be_made_without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """And from the environment alone."""
    monkeypatch.setenv("DESK360_API_KEY", f"Bearer {KEY}\n")
    monkeypatch.setenv("DESK360_INTEGRATION_ID", "22")
    monkeypatch.setenv("DESK360_BASE_URL", "http://127.0.0.1:8000")
    assert repr(AsyncDesk360()) == "<AsyncDesk360 127.0.0.1:8000 integration_id=22 lane='interactive'>"


async def test_closing_closes_the_transport(wire: Wire) -> None:
    """Twice is once; a client that was never used closes too."""
    client = connect(wire)
    async with client:
        await client.send_text(TO, "x")
    await client.aclose()
    assert wire.closed
    await connect(Wire()).aclose()


async def test_closing_lets_the_wire_finish_and_ends_the_waits() -> None:
    """Bounded by `timeout.total`; two may close at once."""
    results: list[SendResult] = []

    async def slow(_: Seen) -> httpx.Response:
        await anyio.sleep(5)
        return sent()

    tokens = Tokens()
    client = connect(Wire(slow), limiter=tokens, on_result=results.append)

    async def send() -> None:
        with contextlib.suppress(ClientStateError):
            await client.send_text(TO, "x")

    async def never() -> None:
        await anyio.sleep(1e6)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(1)
        tokens.wait = never
        tasks.start_soon(send)
        await anyio.sleep(1)
        tasks.start_soon(client.aclose)
        tasks.start_soon(client.aclose)
    assert sorted(r.outcome for r in results) == [Outcome.ACCEPTED, Outcome.NOT_SENT]
    assert anyio.current_time() < 20


async def test_closing_waits_no_longer_than_an_attempt_may_take() -> None:
    """What hangs is cut."""
    client = connect(Wire(hang), timeout=Timeouts(total=10, upload=1000))

    async def send() -> None:
        with pytest.raises(TimedOut):
            await client.send_text(TO, "x")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(1)
        began = anyio.current_time()
        await client.aclose()
        assert anyio.current_time() - began <= 10


async def test_what_waits_for_a_slot_when_the_client_closes_is_not_sent() -> None:
    """The drain was too short for it."""
    outcomes: list[Outcome | None] = []
    client = connect(Wire(hang), max_connections=1, timeout=Timeouts(total=10))
    slow = client.with_options(timeout=100)

    async def send(sender: AsyncDesk360) -> None:
        with pytest.raises(Desk360Error) as caught:
            await sender.send_text(TO, "x")
        outcomes.append(caught.value.outcome)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, slow)
        await anyio.sleep(1)
        tasks.start_soon(send, client)
        await anyio.sleep(1)
        await client.aclose()
    assert outcomes == [Outcome.UNKNOWN, Outcome.NOT_SENT]


async def test_a_pause_between_attempts_ends_when_the_client_closes() -> None:
    """With the error that it had."""
    client = connect(Wire(httpx.ConnectError("refused")), retry=RetryPolicy(backoff=1000, backoff_max=1000))

    async def send() -> None:
        with pytest.raises(ConnectionFailed):
            await client.send_text(TO, "x")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(1)
        await client.aclose()
    assert anyio.current_time() < 10


async def test_a_limiter_that_answers_too_late_gets_its_token_back(wire: Wire) -> None:
    """The client closed while it was being served."""
    tokens = Tokens()
    client = connect(wire, limiter=tokens)

    async def close() -> None:
        with anyio.CancelScope(shield=True):
            await client.aclose()

    tokens.wait = close
    with pytest.raises(ClientStateError, match="nothing was sent"):
        await client.send_text(TO, "x")
    assert wire.seen == []


# ── views ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_view_shares_pool_and_bucket(wire: Wire) -> None:
    """Only what is said differs."""
    tokens = Tokens()
    async with connect(wire, limiter=tokens) as client:
        view = client.for_integration(22).with_options(
            lane="bulk", timeout=9, retry=RetryPolicy(), max_wait=None
        )
        await view.send_text(TO, "x")
        await client.send_text(TO, "x")
        assert repr(view) == "<AsyncDesk360 public-api.desk360.com integration_id=22 lane='bulk'>"
    assert [s.url.split("/")[5] for s in wire.seen] == ["22", "11"]
    assert tokens.lanes == ["bulk", "interactive"]


async def test_a_view_can_not_be_closed(wire: Wire) -> None:
    """It lives as long as its client."""
    async with connect(wire) as client:
        view = client.for_integration(22)
        with pytest.raises(ClientStateError, match="close the client that it was made from"):
            await view.aclose()
        with pytest.raises(ClientStateError, match="without 'async with'"):
            await view.__aenter__()


@pytest.mark.parametrize(
    "options",
    [
        {"integration_id": None},
        {"integration_id": "x"},
        {"lane": "x"},
        {"timeout": 0},
        {"retry": 1},
        {"max_wait": -1},
    ],
)
def test_a_view_checks_its_options(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Like the client; but the environment's integration is only the client's."""
    monkeypatch.setenv("DESK360_INTEGRATION_ID", "22")
    view: Any = AsyncDesk360(KEY).with_options
    if options == {"integration_id": None}:
        assert "integration_id=None" in repr(view(**options))
    else:
        with pytest.raises(ValueError):
            view(**options)


async def test_clients_of_one_loop_and_host_share_a_bucket() -> None:
    """The limit is per IP address, however the URL is written."""
    first = AsyncDesk360(KEY, integration_id=1, transport=Wire())
    second = AsyncDesk360(
        "other", integration_id=1, transport=Wire(), base_url="https://public-api.desk360.com:443/v1/"
    )
    async with first, second:
        await first.send_text(TO, "x")
        free = first.rate_limit.free
        await second.send_text(TO, "x")
        assert first.rate_limit.free == free - 1


# ── the way out ────────────────────────────────────────────────────────────────────────────────────────

PATHS = [
    ("/tags", None, "/tags"),
    ("tags/", None, "/tags"),
    ("", None, ""),
    ("/tags?a=b", {"c": "d e", "f": [1, 2], "g": None, "h": True}, "/tags?a=b&c=d%20e&f=1&f=2&h=true"),
    ("/tags", {"a/b": "ü"}, "/tags?a%2Fb=%C3%BC"),
    ("/a%2Fb/..c", {}, "/a%2Fb/..c"),
]


@pytest.mark.parametrize(("path", "params", "url"), PATHS)
async def test_a_free_request_goes_below_v1(path: str, params: Any, url: str) -> None:
    """Ruling 13: without a final slash."""
    wire = Wire(httpx.Response(200, json={"a": 1}, headers={"X-A": "b"}))
    async with connect(wire) as client:
        answer = await client.request("get", path, params=params)
    assert (wire.seen[0].method, wire.seen[0].url) == ("GET", BASE + url)
    assert (answer.status, answer.data, answer.headers["x-a"]) == (200, {"a": 1}, "b")


async def test_a_free_request_carries_json(wire: Wire) -> None:
    """And is repeated only if it is said to be harmless."""
    wire.answers = [again(500)]
    async with connect(wire) as client:
        with pytest.raises(ServerError):
            await client.request("POST", "/x", json={"ü": None})
        with pytest.raises(ServerError):
            await client.request("PUT", "/x", json=[], idempotent=True)
    assert [(s.method, s.body) for s in wire.seen] == [("POST", '{"ü":null}'.encode())] + [("PUT", b"[]")] * 3


async def test_a_variable_that_whatsapp_refuses_is_warned_of_once(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Desk360 may accept such a message; the refusal then comes as a `failed` status."""
    wire.answers += [sent()] * 4
    async with connect(wire) as client:
        for text in ["Ada\nLovelace", "Bora\nCan", "Ada", "A\tB"]:
            await client.send_template(TO, 75, language=1, parameters={"body-1": text})
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(",")[0] for text in warnings] == [
        "template 75: body-1 holds a line break",
        "template 75: body-1 holds a tab",
    ]


async def test_a_callable_key_is_asked_again_once_after_a_401() -> None:
    """Keys rotate; the refused call is repeated with the new one."""
    keys = iter(["old-key", "new-key", "third-key"])
    wire = Wire(httpx.Response(401), lambda _: sent())
    async with AsyncDesk360(lambda: next(keys), integration_id=1, transport=wire, limiter=Tokens()) as client:
        await client.send_text(TO, "x")
        await client.send_text(TO, "x")
    assert [seen.headers["authorization"] for seen in wire.seen] == [
        "Bearer old-key", "Bearer new-key", "Bearer new-key",
    ]  # fmt: skip
    assert next(keys) == "third-key"


@pytest.mark.parametrize(
    ("keys", "requests"), [(["same", "same"], 1), (["a", "b", "c"], 2), (["a", KeyError("x")], 1)]
)
async def test_a_401_ends_the_call_if_no_other_key_helps(keys: list[Any], requests: int) -> None:
    """The function is asked once a call."""
    wire, left = Wire(httpx.Response(401)), list(keys)

    def next_key() -> str:
        key = left.pop(0)
        if isinstance(key, Exception):
            raise key
        return str(key)

    async with AsyncDesk360(next_key, integration_id=1, transport=wire, limiter=Tokens()) as client:
        with pytest.raises((AuthenticationFailed, ConfigurationError)) as caught:
            await client.send_text(TO, "x")
    assert (caught.value.outcome, len(wire.seen)) == (Outcome.NOT_SENT, requests)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (5, r"api_key\(\) must return the key as text, and returned int"),
        (None, "returned NoneType"),
        (" ", "returned an empty text"),
        ("two words", "the API key holds a space"),
    ],
)
async def test_a_key_of_a_function_is_checked_like_any_other(given: Any, problem: str, wire: Wire) -> None:
    """It is found before a request is spent."""
    client = AsyncDesk360(lambda: given, integration_id=1, transport=wire, limiter=Tokens())
    with pytest.raises(ConfigurationError, match=problem):
        await client.send_text(TO, "x")
    assert wire.seen == []


async def test_the_first_429_names_the_shared_limiters(caplog: pytest.LogCaptureFixture) -> None:
    """The limiter had given a token: another program uses the address."""
    wire = Wire(status(429), status(429), lambda _: sent())
    async with connect(wire) as client:
        await client.send_text(TO, "x")
    hints = [record for record in caplog.records if "HostLimiter" in record.getMessage()]
    assert [(record.levelname, "PostgresLimiter" in record.getMessage()) for record in hints] == [
        ("WARNING", True)
    ]


def test_a_coroutine_function_gives_no_key() -> None:
    """It would have to be awaited."""

    async def fetch() -> str:
        return "k"

    with pytest.raises(ConfigurationError, match="plain function"):
        AsyncDesk360(fetch)  # type: ignore[arg-type]  # wrong
