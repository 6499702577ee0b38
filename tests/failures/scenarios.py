"""The failures, a line each: what the other end does, and what the send must come to.

A script is a function of the accepted connection; an act is what the client does meanwhile.
"""

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
from attrs import field, frozen

from desk360_async import (
    AuthenticationFailed,
    ClientStateError,
    ConnectionFailed,
    InvalidMessage,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestRefused,
    ServerError,
    TimedOut,
    UnexpectedResponse,
    ValidationFailed,
)
from tests.failures.servers import Script, Wire, server_context

if TYPE_CHECKING:
    from tests.failures.matrix import Stage

Act = Callable[["Stage"], Awaitable[Any]]

CANCELLED = "cancelled"
ACCEPTED, NOT_SENT, UNKNOWN = "accepted", "not_sent", "unknown"
OK = b'{"message_id":"gBEGkFVVNDVngCBgY1"}'


@frozen
class Scenario:
    """One failure.

    Attributes:
        name: what happens.
        raised: the error's class, CANCELLED, or None for a reply.
        outcome: what the send came to.
        script: what the server does with each connection.
        arrived: how many whole requests the server must have got.
        took: how many it carried out.
        act: what the client does; None for a plain text message.
        tls: which certificate the server shows, if it speaks TLS.
        proxy: what the proxy does, where there is one.
        options: of the client.
        place: "up", or where there is no server: "refused", "full" (its backlog is), "name:…".
    """

    name: str
    raised: type[BaseException] | str | None
    outcome: str
    script: Script = lambda wire: wire.close()
    arrived: int = 0
    took: int = 0
    act: Act | None = None
    tls: str | None = None
    proxy: Script | None = None
    options: Mapping[str, Any] = field(factory=dict)
    place: str = "up"


# ── scripts ────────────────────────────────────────────────────────────────────────────────────────────


def answer(status: int, body: bytes = b"", *headers: bytes, length: int | None = None) -> bytes:
    """Return an answer's bytes; `length` may lie."""
    head = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % (len(body) if length is None else length)]
    return b"\r\n".join([*head, b"content-type: application/json", *headers, b"", b""]) + body


def says(status: int, body: bytes = b"", *headers: bytes, took: bool = False) -> Script:
    """Read a request, answer it, go on with the next."""

    def script(wire: Wire) -> None:
        while True:
            wire.read_request()
            if took:
                wire.take()
            wire.send(answer(status, body, *headers))

    return script


def sends(*pieces: bytes, took: bool = False, then: str = "close", gap: float = 0.0) -> Script:
    """Read a request, send these bytes, then close, reset or hold."""

    def script(wire: Wire) -> None:
        wire.read_request()
        if took:
            wire.take()
        for piece in pieces:
            wire.send(piece)
            if gap:
                time.sleep(gap)
        wire.cue()
        getattr(wire, then)()

    return script


def drips(data: bytes, *, took: bool = False, head: bytes = b"") -> Script:
    """Read a request, then send a byte every 20 ms."""
    return sends(head, *(data[i : i + 1] for i in range(len(data))), took=took, gap=0.02)


def at_once(then: str) -> Script:
    """Close, reset or hold without reading."""

    def script(wire: Wire) -> None:
        wire.cue()
        getattr(wire, then)()

    return script


def head_only(then: str, *pieces: bytes) -> Script:
    """Read the headers and not the body, say something, then close, reset or hold."""

    def script(wire: Wire) -> None:
        wire.read_head()
        for piece in pieces:
            wire.send(piece)
        wire.cue()
        getattr(wire, then)()

    return script


def early_413(wire: Wire) -> None:
    """Refuse the upload while it comes in, as nginx does: answer, then close once the client is done."""
    wire.read_head()
    wire.send(answer(413, b"<h1>413</h1>", b"connection: close"))
    wire.drain()


def greeting(then: Script) -> Script:
    """Answer the first request well, then do something else with what follows on the same connection."""

    def script(wire: Wire) -> None:
        wire.read_request()
        if wire.server.took == 0:
            wire.take()
            wire.send(answer(200, OK))
            then(wire)
        else:
            wire.take()
            wire.send(answer(200, OK))
            wire.hold()

    return script


def hangs_up_as_we_write(wire: Wire) -> None:
    """Wait for the first byte of the next request, and go."""
    wire.sock.recv(1, socket.MSG_PEEK)
    wire.reset()


def hangs_up_idle(wire: Wire) -> None:
    """Close the idle connection before the next request."""
    wire.sock.shutdown(socket.SHUT_WR)
    wire.cue()
    wire.hold(0.5)


def after_tls(kind: str, then: Script) -> Script:
    """Shake hands first."""

    def script(wire: Wire) -> None:
        wire.start_tls(server_context(kind))
        then(wire)

    return script


def client_hello(then: str, *pieces: bytes) -> Script:
    """Read the first flight of TLS, say something, then close, reset or hold."""

    def script(wire: Wire) -> None:
        wire.sock.recv(65536)
        for piece in pieces:
            wire.send(piece)
        wire.cue()
        getattr(wire, then)()

    return script


def connect_answered(data: bytes, then: str = "close") -> Script:
    """As a proxy: read the CONNECT, say something, then close, reset or hold. A CONNECT is no request."""

    def script(wire: Wire) -> None:
        wire.read_head()
        wire.received.clear()
        wire._read = 0
        wire.send(data)
        wire.cue()
        getattr(wire, then)()

    return script


def tunnels(then: Script, *, tls: str = "good") -> Script:
    """As a proxy: answer the CONNECT well, and play the server behind it too."""

    def script(wire: Wire) -> None:
        wire.read_head()
        wire.received.clear()
        wire._read = 0
        wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        after_tls(tls, then)(wire)

    return script


def at_the_limit_then_well(wire: Wire) -> None:
    """Refuse the first with 503 and nothing done, so that the next shows whether it was sent again."""
    wire.read_request()
    wire.send(answer(503, b"<h1>busy</h1>"))
    wire.read_request()
    wire.take()
    wire.send(answer(200, OK))


def error_body(code: str) -> bytes:
    """Return an error as the document has it."""
    return b'{"error":{"code":"%s","message":"m"}}' % code.encode()


def limited_then_well(code: str) -> Script:
    """Refuse the first with "too many requests" in a 200, then take the second."""

    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(answer(200, error_body(code), b"retry-after: 1"))
        wire.read_request()
        wire.take()
        wire.send(answer(200, OK))

    return script


# Bodies of a 200: the reply in other spellings.
REPLIES = [
    ("a number for an id", b'{"message_id":17}'),
    ("in a list of one", b'[{"message_id":"x"}]'),
    ("behind a PHP warning", b'<b>Warning</b>: x\n{"message_id":"x"}'),
    ("behind a BOM", b'\xef\xbb\xbf{"message_id":"x"}'),
    ("with an empty error", b'{"message_id":"x","error":[]}'),
]
# Bodies of a 200 that aren't the reply: a server, a firewall or a proxy sends them.
NO_REPLIES = [
    ("an empty body", b""),
    ("a maintenance page", b"<html>We'll be back soon</html>"),
    ("a firewall's challenge", b"<script>challenge()</script>"),
    ("a failure in words", b'{"status":"fail","message":"Insufficient balance"}'),
    ("a failure without error", b'{"success":false,"errors":["quota"]}'),
    ("an error inside data", b'{"data":{"error":"x"}}'),
    ("an empty object", b"{}"),
    ("null", b"null"),
    ("half of the JSON", b'{"message_id":"gBE'),
    ("an empty id", b'{"message_id":""}'),
    ("a null id", b'{"message_id":null}'),
    ("another endpoint's answer", b'{"message_ids":["x"]}'),
]
NO_BATCHES = [
    ("an empty body", b""),
    ("a maintenance page", b"<html>"),
    ("no list", b'{"ok":true}'),
    ("success is false", b'{"success":false,"phones":["+905551234567","+905559999999"]}'),
    ("phones is null", b'{"phones":null}'),
]
BATCHES = [
    ("both are listed", b'{"phones":["+905551234567","+905559999999"]}'),
    ("one is listed", b'{"phones":["+905551234567"]}'),
    ("one has failed", b'{"phones":[{"phone":"+905551234567"},{"phone":"+905559999999","status":"failed"}]}'),
    (
        "numbers as keys",
        b'{"phones":{"+905551234567":{"message_id":"x"},"+905559999999":{"status":"error"}}}',
    ),
]
ONE_FILE = b'{"medias":{"images":[{"media_id":"m","message_id":"x"}]}}'
NO_FILES = [
    ("no files", b'{"medias":{}}'),
    ("files without ids", b'{"medias":{"images":[{"name":"a.jpg"}]}}'),
    ("files that failed", b'{"medias":{"images":[{"media_id":"m","status":"failed"}]}}'),
]
REFUSALS: list[tuple[str, type[Exception]]] = [
    ("failed_validation", ValidationFailed),
    ("authentication_exception", AuthenticationFailed),
    ("invalid_credentials", AuthenticationFailed),
    ("not_authorized", PermissionDenied),
    ("not_found", NotFound),
    ("not_found_exception", NotFound),
    ("model_not_found_exception", NotFound),
    ("method_not_allowed_exception", RequestRefused),
    ("insecure_request_exception", RequestRefused),
]


# ── acts ───────────────────────────────────────────────────────────────────────────────────────────────


async def cancelled_at_cue(stage: "Stage") -> None:
    """Cancel a text message when the server says so."""
    await stage.cancel_when(stage.cued, stage.send_text())


async def upload(stage: "Stage") -> None:
    """Send 15 MB: more than socket buffers grow to."""
    await stage.client.send_media(stage.phone, [stage.file(15_000_000)])


async def upload_cancelled_at_cue(stage: "Stage") -> None:
    """Cancel an upload when the server says so."""
    await stage.cancel_when(stage.cued, upload(stage))


async def bulk(stage: "Stage") -> None:
    """Send a template to two phones."""
    await stage.client.send_template_bulk([stage.phone, "+905559999999"], 1, language=2)


async def small_upload(stage: "Stage") -> None:
    """Send a small file."""
    await stage.client.send_media(stage.phone, [stage.file(10)])


async def two_files(stage: "Stage") -> None:
    """Send two files; the reply counts the one that is missing."""
    sent = await stage.client.send_media(stage.phone, [stage.file(10), stage.file(11)])
    assert sent.missing == 1


async def once_limited(stage: "Stage") -> None:
    """Send, with a wait of a second on the way."""
    await stage.send_text()


async def twice(stage: "Stage") -> None:
    """Send on a connection that was used before."""
    await stage.send_text()
    stage.results.clear()
    await stage.send_text()


async def twice_with_a_rest(stage: "Stage") -> None:
    """Send, wait until the server has closed the idle connection, send again."""
    await stage.send_text()
    stage.results.clear()
    await stage.cued()
    await stage.send_text()


async def stream_too_short(stage: "Stage") -> None:
    """Upload a stream that ends before the length that was promised."""
    await stage.client.send_media(stage.phone, [stage.stream(promised=1000, given=10)])


async def stream_fails(stage: "Stage") -> None:
    """Upload a stream that raises after its first block."""
    await stage.client.send_media(stage.phone, [stage.stream(promised=1000, given=10, fails=True)])


async def on_attempt_fails(stage: "Stage") -> None:
    """Fail to write the intent, token in hand."""

    async def full() -> None:
        raise OSError("no space left on device")

    await stage.client.send(stage.message, on_attempt=full)


async def cancelled_in_on_attempt(stage: "Stage") -> None:
    """Cancel while the intent is written."""
    reached, slow = stage.pause()
    await stage.cancel_when(reached, stage.client.send(stage.message, on_attempt=slow))


async def cancelled_between_attempts(stage: "Stage") -> None:
    """Cancel in the pause before the second attempt."""
    await stage.cancel_when(stage.after(0.2), stage.send_text())


async def cancelled_soon(stage: "Stage") -> None:
    """Cancel after 200 ms, wherever it is then."""
    await stage.cancel_when(stage.after(0.2), stage.send_text())


async def cancelled_in_line_for_a_token(stage: "Stage") -> None:
    """Cancel while all tokens are away."""
    await stage.send_text()
    stage.results.clear()
    await stage.cancel_when(stage.after(0.2), stage.send_text())


async def cancelled_in_line_for_a_slot(stage: "Stage") -> None:
    """Cancel the second of two sends that share one connection."""
    await stage.cancel_the_second()


async def closed_meanwhile(stage: "Stage") -> None:
    """Close the client while the server thinks, and don't wait for that."""
    await stage.while_closing(stage.client.with_options(timeout=5.0).send(stage.message))


async def closed_in_line_for_a_slot(stage: "Stage") -> None:
    """Close the client while a send waits for the only connection, past the drain's end."""
    await stage.while_closing_with_one_more()


PROXIED = "proxied"
SHORT: dict[str, Any] = {"timeout": 0.3}
UPLOAD_SHORT: dict[str, Any] = {"upload": 0.4}
ONE_SLOT: dict[str, Any] = {"max_connections": 1}


def _users_own(**options: Any) -> dict[str, Any]:
    return {"transport": lambda context: httpx.AsyncHTTPTransport(verify=context, **options)}


S = Scenario
CF = ConnectionFailed

SCENARIOS = [
    # Nothing was started.
    S("DNS: unknown name", CF, NOT_SENT, place="name:gone"),
    S("DNS: fails for now", CF, NOT_SENT, place="name:again"),
    S(
        "DNS: slower than the connect timeout",
        TimedOut,
        NOT_SENT,
        place="name:slow",
        options={"connect": 0.1},
    ),
    S("connection refused", CF, NOT_SENT, place="refused"),
    S("connect timeout", TimedOut, NOT_SENT, place="full", options={"connect": 0.1}),
    S("total timeout while connecting", TimedOut, NOT_SENT, place="full", options=SHORT),
    S("TLS: self-signed certificate", CF, NOT_SENT, after_tls("self-signed", says(200)), tls="self-signed"),
    S("TLS: unknown authority", CF, NOT_SENT, after_tls("unknown authority", says(200)), tls="bad"),
    S("TLS: certificate of another host", CF, NOT_SENT, after_tls("wrong host", says(200)), tls="bad"),
    S("TLS: expired certificate", CF, NOT_SENT, after_tls("expired", says(200)), tls="bad"),
    S("TLS: handshake closed", CF, NOT_SENT, client_hello("close"), tls="bad"),
    S("TLS: handshake reset", CF, NOT_SENT, client_hello("reset"), tls="bad"),
    S("TLS: handshake stalls", TimedOut, NOT_SENT, client_hello("hold"), tls="bad", options={"connect": 0.2}),
    S(
        "TLS: total timeout in the handshake",
        TimedOut,
        NOT_SENT,
        client_hello("hold"),
        tls="bad",
        options=SHORT,
    ),
    S("TLS: the server speaks plain HTTP", CF, NOT_SENT, client_hello("close", answer(400)), tls="bad"),
    S(
        "TLS: garbage in the handshake",
        CF,
        NOT_SENT,
        client_hello("close", b"\x16\x03\x01" + bytes(99)),
        tls="bad",
    ),
    S("TLS: no protocol in common", CF, NOT_SENT, after_tls("old protocol", says(200)), tls="newest only"),
    S("proxy: refused", CF, NOT_SENT, tls="good", proxy=PROXIED, options={"proxy": "refused"}),
    S("proxy: CONNECT 403", CF, NOT_SENT, tls="good", proxy=connect_answered(answer(403))),
    S("proxy: CONNECT 407", CF, NOT_SENT, tls="good", proxy=connect_answered(answer(407))),
    S("proxy: CONNECT 502", CF, NOT_SENT, tls="good", proxy=connect_answered(answer(502))),
    S("proxy: CONNECT closed", CF, NOT_SENT, tls="good", proxy=connect_answered(b"")),
    S("proxy: CONNECT reset", CF, NOT_SENT, tls="good", proxy=connect_answered(b"", "reset")),
    S(
        "proxy: CONNECT answered with garbage",
        CF,
        NOT_SENT,
        tls="good",
        proxy=connect_answered(b"\x00\xff\r\n\r\n"),
    ),
    S("proxy: CONNECT answered by half", CF, NOT_SENT, tls="good", proxy=connect_answered(b"HTTP/1.1 20")),
    S(
        "proxy: CONNECT stalls",
        TimedOut,
        NOT_SENT,
        tls="good",
        proxy=connect_answered(b"", "hold"),
        options=SHORT,
    ),
    S(
        "proxy: TLS behind it closed",
        CF,
        NOT_SENT,
        tls="good",
        proxy=connect_answered(b"HTTP/1.1 200 OK\r\n\r\n", "close"),
    ),
    S(
        "proxy: TLS behind it is another host's",
        CF,
        NOT_SENT,
        tls="good",
        proxy=tunnels(says(200), tls="wrong host"),
    ),
    S("user's transport: refused", CF, NOT_SENT, place="refused", options=_users_own()),
    S(
        "user's transport: bad certificate",
        CF,
        NOT_SENT,
        after_tls("wrong host", says(200)),
        tls="bad",
        options=_users_own(),
    ),
    S(
        "user's transport: connect timeout",
        TimedOut,
        NOT_SENT,
        place="full",
        options={"connect": 0.1, **_users_own()},
    ),
    S("the intent can't be written", OSError, NOT_SENT, act=on_attempt_fails),
    # Cancelled before it was started.
    S(
        "cancelled in line for a token",
        CANCELLED,
        NOT_SENT,
        says(200, OK, took=True),
        1,
        1,
        cancelled_in_line_for_a_token,
        options={"limit": 1},
    ),
    S(
        "cancelled in line for a connection",
        CANCELLED,
        NOT_SENT,
        sends(then="hold"),
        1,
        act=cancelled_in_line_for_a_slot,
        options=ONE_SLOT,
    ),
    S("cancelled while the intent is written", CANCELLED, NOT_SENT, act=cancelled_in_on_attempt),
    S("cancelled in DNS", CANCELLED, NOT_SENT, act=cancelled_soon, place="name:slow"),
    S("cancelled while connecting", CANCELLED, NOT_SENT, act=cancelled_soon, place="full"),
    S(
        "cancelled in the TLS handshake",
        CANCELLED,
        NOT_SENT,
        client_hello("hold"),
        act=cancelled_at_cue,
        tls="bad",
    ),
    S(
        "cancelled in CONNECT",
        CANCELLED,
        NOT_SENT,
        act=cancelled_at_cue,
        tls="good",
        proxy=connect_answered(b"", "hold"),
    ),
    S(
        "cancelled between two attempts",
        CANCELLED,
        NOT_SENT,
        act=cancelled_between_attempts,
        place="refused",
        options={"backoff": 5.0},
    ),
    S(
        "closed in line for a connection",
        ClientStateError,
        NOT_SENT,
        sends(then="hold"),
        1,
        act=closed_in_line_for_a_slot,
        options={**ONE_SLOT, **SHORT},
    ),
    # Started, and no answer.
    S("TLS: closed after the handshake", CF, UNKNOWN, after_tls("good", at_once("close")), tls="good"),
    S(
        "TLS: the server wants a certificate of ours",
        CF,
        UNKNOWN,
        after_tls("client certificate", says(200)),
        tls="good",
    ),
    S(
        "TLS: cut after the request, which was carried out",
        CF,
        UNKNOWN,
        after_tls("good", sends(took=True)),
        1,
        1,
        tls="good",
    ),
    S(
        "tunnel cut after the request",
        CF,
        UNKNOWN,
        tls="good",
        proxy=tunnels(sends(took=True)),
        arrived=1,
        took=1,
    ),
    S("closed at once", CF, UNKNOWN, at_once("close")),
    S("reset at the first byte", CF, UNKNOWN, hangs_up_as_we_write),
    S("reset before the body", CF, UNKNOWN, head_only("reset"), act=upload),
    S("closed in the middle of the body", CF, UNKNOWN, head_only("close"), act=upload),
    S("reset after the body, carried out", CF, UNKNOWN, sends(took=True, then="reset"), 1, 1),
    S("reset after the body, not carried out", CF, UNKNOWN, sends(then="reset"), 1),
    S("closed after the body, carried out", CF, UNKNOWN, sends(took=True), 1, 1),
    S("closed after the body, not carried out", CF, UNKNOWN, sends(), 1),
    S("keep-alive: reset as we write", CF, UNKNOWN, greeting(hangs_up_as_we_write), 1, 1, twice),
    S("half a status line", CF, UNKNOWN, sends(b"HTTP/1.1 20", took=True), 1, 1),
    S("half the headers", CF, UNKNOWN, sends(b"HTTP/1.1 200 OK\r\ncontent-le", took=True), 1, 1),
    S("garbage for an answer", CF, UNKNOWN, sends(b"\x00\x01\x02\r\n\r\n", took=True), 1, 1),
    S(
        "a header of a megabyte",
        CF,
        UNKNOWN,
        sends(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 10**6, took=True),
        1,
        1,
    ),
    S("100 Continue, then closed", CF, UNKNOWN, sends(b"HTTP/1.1 100 Continue\r\n\r\n"), 1),
    S("no answer", TimedOut, UNKNOWN, sends(took=True, then="hold"), 1, 1, options=SHORT),
    S("the status line drips", TimedOut, UNKNOWN, drips(b"HTTP/1.1 200 " + b"O" * 99), 1, options=SHORT),
    S(
        "103 for ever",
        TimedOut,
        UNKNOWN,
        sends(*[b"HTTP/1.1 103 E\r\n\r\n"] * 99, gap=0.01),
        1,
        options=SHORT,
    ),
    S("the server reads no body", TimedOut, UNKNOWN, head_only("hold"), act=upload, options=UPLOAD_SHORT),
    S("the stream ends too early", InvalidMessage, UNKNOWN, sends(), act=stream_too_short),
    S("the stream fails", InvalidMessage, UNKNOWN, sends(), act=stream_fails),
    S("user's transport: reset", CF, UNKNOWN, sends(then="reset"), 1, options=_users_own()),
    S(
        "user's transport: no answer",
        TimedOut,
        UNKNOWN,
        sends(then="hold"),
        1,
        options={**SHORT, **_users_own()},
    ),
    S("cancelled before the server read a byte", CANCELLED, UNKNOWN, at_once("hold"), 1, act=cancelled_soon),
    S("cancelled while the body goes up", CANCELLED, UNKNOWN, head_only("hold"), act=upload_cancelled_at_cue),
    S(
        "cancelled while the server thinks",
        CANCELLED,
        UNKNOWN,
        sends(took=True, then="hold"),
        1,
        1,
        cancelled_at_cue,
    ),
    S(
        "cancelled in the status line",
        CANCELLED,
        UNKNOWN,
        sends(b"HTTP/1.1 2", then="hold"),
        1,
        act=cancelled_at_cue,
    ),
    S(
        "cancelled on a user's transport",
        CANCELLED,
        UNKNOWN,
        sends(then="hold"),
        1,
        act=cancelled_at_cue,
        options=_users_own(),
    ),
    S(
        "closed while the server thinks",
        CF,
        UNKNOWN,
        sends(took=True, then="hold"),
        1,
        1,
        closed_meanwhile,
        options=SHORT,
    ),
    # Answered with a refusal.
    S("early 413", RequestRefused, NOT_SENT, early_413, act=upload),  # the client stops writing
    S("302 elsewhere", RequestRefused, NOT_SENT, says(302, b"", b"location: http://127.0.0.2/"), 1),
    S("307 elsewhere", RequestRefused, NOT_SENT, says(307, b"", b"location: http://127.0.0.2/"), 1),
    S("308 to nonsense", RequestRefused, NOT_SENT, says(308, b"", b"location: http://[::::/"), 1),
    S("400", ValidationFailed, NOT_SENT, says(400, b'{"error":{"code":"1001"}}'), 1),
    S("401", AuthenticationFailed, NOT_SENT, says(401), 1),
    S("403", PermissionDenied, NOT_SENT, says(403), 1),
    S("422, body cut", ValidationFailed, NOT_SENT, sends(answer(422, b"{", length=99)), 1),
    S("429", RateLimited, NOT_SENT, says(429, b"", b"retry-after: 9"), 1, options={"max_retry_after": 1.0}),
    S("forwarding proxy: 407", RequestRefused, NOT_SENT, proxy=says(407), arrived=1),
    S(
        "cancelled in the body of a 400",
        CANCELLED,
        NOT_SENT,
        sends(answer(400, b"{", length=9), then="hold"),
        1,
        act=cancelled_at_cue,
    ),
    # Answered with what proves nothing.
    *(
        S(f"{status}, carried out", ServerError, UNKNOWN, says(status, took=True), 1, 1)
        for status in (408, 409, 425, 499, 500, 502, 503, 504, 600)
    ),
    S("101", CF, UNKNOWN, sends(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), 1),
    S("503 isn't sent again", ServerError, UNKNOWN, at_the_limit_then_well, 1),
    S("forwarding proxy: 502", ServerError, UNKNOWN, proxy=says(502), arrived=1),
    S(
        "cancelled in the body of a 500",
        CANCELLED,
        UNKNOWN,
        sends(answer(500, b"{", length=9), then="hold"),
        1,
        act=cancelled_at_cue,
    ),
    S(
        "bulk: the body is cut",
        UnexpectedResponse,
        UNKNOWN,
        sends(answer(200, b'{"ph', length=99), took=True),
        1,
        1,
        bulk,
    ),
    # Answered with success and the reply (row 1), or with a 2xx that isn't the reply (row 1b).
    S("200", None, ACCEPTED, says(200, OK, took=True), 1, 1),
    S("200 over TLS", None, ACCEPTED, after_tls("good", says(200, OK, took=True)), 1, 1, tls="good"),
    S(
        "200 through a tunnel",
        None,
        ACCEPTED,
        tls="good",
        proxy=tunnels(says(200, OK, took=True)),
        arrived=1,
        took=1,
    ),
    S("200 through a forwarding proxy", None, ACCEPTED, proxy=says(200, OK, took=True), arrived=1, took=1),
    S("keep-alive: closed while idle", None, ACCEPTED, greeting(hangs_up_idle), 2, 2, twice_with_a_rest),
    S(
        "100 Continue, then 200",
        None,
        ACCEPTED,
        sends(b"HTTP/1.1 100 C\r\n\r\n", answer(200, OK), took=True),
        1,
        1,
    ),
    S("the body is cut", UnexpectedResponse, UNKNOWN, sends(answer(200, OK, length=999), took=True), 1, 1),
    S(
        "a chunk is cut",
        UnexpectedResponse,
        UNKNOWN,
        sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\n{", took=True),
        1,
        1,
    ),
    S(
        "the body is reset",
        UnexpectedResponse,
        UNKNOWN,
        sends(answer(200, b"{", length=999), took=True, then="reset", gap=0.1),
        1,
        1,
    ),
    S(
        "the body stalls",
        UnexpectedResponse,
        UNKNOWN,
        sends(answer(200, b"{", length=9), took=True, then="hold"),
        1,
        1,
        options=SHORT,
    ),
    S(
        "the body drips",
        UnexpectedResponse,
        UNKNOWN,
        drips(b" " * 99, took=True, head=answer(200, b"", length=99)),
        1,
        1,
        options=SHORT,
    ),
    S("the body is HTML", UnexpectedResponse, UNKNOWN, says(200, b"<html>", took=True), 1, 1),
    S("204", UnexpectedResponse, UNKNOWN, sends(b"HTTP/1.1 204 No\r\n\r\n", took=True), 1, 1),
    S(
        "cancelled in the body of a 200",
        CANCELLED,
        UNKNOWN,
        sends(answer(200, b"{", length=9), took=True, then="hold"),
        1,
        1,
        cancelled_at_cue,
    ),
    *(
        S(f"{status} with the reply", None, ACCEPTED, says(status, OK, took=True), 1, 1)
        for status in (201, 202, 203, 206, 299)
    ),
    *(
        S(f"200 with the reply, {how}", None, ACCEPTED, says(200, body, took=True), 1, 1)
        for how, body in REPLIES
    ),
    *(
        S(f"{how}, {fate}", UnexpectedResponse, UNKNOWN, says(200, body, took=bool(took)), 1, took)
        for how, body in NO_REPLIES
        for took, fate in ((1, "carried out"), (0, "not carried out"))
    ),
    *(
        S(
            f"bulk: {how}, {fate}",
            UnexpectedResponse,
            UNKNOWN,
            says(200, body, took=bool(took)),
            1,
            took,
            bulk,
        )
        for how, body in NO_BATCHES
        for took, fate in ((1, "carried out"), (0, "not carried out"))
    ),
    *(S(f"bulk: {how}", None, ACCEPTED, says(200, body, took=True), 1, 1, bulk) for how, body in BATCHES),
    *(
        S(f"media: {how}", UnexpectedResponse, UNKNOWN, says(200, body, took=True), 1, 1, small_upload)
        for how, body in NO_FILES
    ),
    S("media: one file of two is listed", None, ACCEPTED, says(200, ONE_FILE, took=True), 1, 1, two_files),
    # Answered with an error in a 200 (row 1a): its code decides.
    *(S(f"200 with {code}", kind, NOT_SENT, says(200, error_body(code)), 1) for code, kind in REFUSALS),
    *(
        S(f"200 with {code}, carried out", ServerError, UNKNOWN, says(200, error_body(code), took=True), 1, 1)
        for code in ("internal_server_error", "1001", "quota_exceeded", "")
    ),
    S("200 with an error of text", ServerError, UNKNOWN, says(200, b'{"error":"no"}', took=True), 1, 1),
    S(
        "200 with an error beside the id",
        None,
        ACCEPTED,
        says(200, b'{"error":{"code":"failed_validation"},"message_id":"x"}', took=True),
        1,
        1,
    ),
    *(
        S(f"200 with {code}, then well", None, ACCEPTED, limited_then_well(code), 2, 1, act=once_limited)
        for code in ("too_many_requests_exception", "too_many_attempts")
    ),
    *(
        S(
            f"200 with {code}, no wait left",
            RateLimited,
            NOT_SENT,
            says(200, error_body(code), b"retry-after: 9"),
            1,
            options={"max_retry_after": 1.0},
        )
        for code in ("too_many_requests_exception", "too_many_attempts")
    ),
    # Two answers for one request, and what a status that allows no body leaves behind.
    S("304 with a body", RequestRefused, NOT_SENT, sends(b"HTTP/1.1 304 N\r\n\r\n" + OK), 1),
    S(
        "204 with the reply behind it",
        UnexpectedResponse,
        UNKNOWN,
        sends(b"HTTP/1.1 204 N\r\n\r\n" + OK, took=True),
        1,
        1,
    ),
    S(
        "a length shorter than the reply",
        UnexpectedResponse,
        UNKNOWN,
        sends(answer(200, OK, length=9), took=True),
        1,
        1,
    ),
    S(
        "gzip that isn't",
        UnexpectedResponse,
        UNKNOWN,
        says(200, OK, b"content-encoding: gzip", took=True),
        1,
        1,
    ),
    S(
        "an encoding nobody asked for",
        UnexpectedResponse,
        UNKNOWN,
        says(200, OK, b"content-encoding: br", took=True),
        1,
        1,
    ),
    *(
        S(f"{status}", RequestRefused, NOT_SENT, says(status), 1)
        for status in (300, 301, 303, 402, 405, 406, 410, 411, 413, 414, 415, 421, 451)
    ),
    S("404", NotFound, NOT_SENT, says(404), 1),
    S("422", ValidationFailed, NOT_SENT, says(422, b'{"message":"m","errors":{"to":["x"]}}'), 1),
    *(
        S(f"bulk: {status}, carried out", ServerError, UNKNOWN, says(status, took=True), 1, 1, bulk)
        for status in (408, 500, 502, 503, 504)
    ),
    *(
        S(f"{status}, not carried out", ServerError, UNKNOWN, says(status), 1)
        for status in (408, 500, 502, 504, 599)
    ),
]
