# ruff: noqa: E501 - a row a line
"""The pure parts on their own: the verdict's table, decompression, and the evidence of what was sent."""

import gzip
import itertools
import random
import ssl
import zlib
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import ConfigurationError
from desk360_async._http import check_proxy, judge, library
from desk360_async._inflate import PIECE, Inflater, Undecodable
from desk360_async._outcomes import Again, Evidence, Reach, verdict

A, N, U = "accepted", "not_sent", "unknown"
NEVER, ALLOWED, BACKOFF = Again.NEVER, Again.WHEN_ALLOWED, Again.BACKOFF

# evidence, idempotent → outcome, whether it may be sent again: the table of "Did it go out?", row by row.
ROWS: list[tuple[int | Reach, bool, str, Again]] = [
    *((status, again, U, NEVER) for status in (200, 201, 204, 299) for again in (False, True)),
    *((429, again, N, ALLOWED) for again in (False, True)),
    *((status, again, N, NEVER) for status in (300, 301, 304, 400, 401, 403, 404, 418, 422) for again in (False, True)),
    *((status, False, U, NEVER) for status in (408, 409, 425, 499, 500, 502, 599, 100, 199, 600)),
    *((status, True, U, BACKOFF) for status in (408, 500, 502, 504, 599)),
    *((status, True, U, NEVER) for status in (409, 425, 499, 199, 600)),
    *((Reach.UNSTARTED, again, N, BACKOFF) for again in (False, True)),
    *((Reach.UNTRUSTED, again, N, NEVER) for again in (False, True)),
    *((Reach.REFUSED, again, N, NEVER) for again in (False, True)),
    (Reach.STARTED, False, U, NEVER),
    (Reach.STARTED, True, U, BACKOFF),
]  # fmt: skip


@pytest.mark.parametrize(("evidence", "idempotent", "outcome", "again"), ROWS)
def test_the_verdict(evidence: int | Reach, idempotent: bool, outcome: str, again: Again) -> None:
    """Rows 1 to 8."""
    assert verdict(evidence, idempotent=idempotent) == (outcome, again)


@pytest.mark.parametrize(("replied", "outcome"), [(True, A), (False, U)])
def test_only_the_reply_itself_is_accepted(replied: bool, outcome: str) -> None:
    """Rows 1 and 1b."""
    assert verdict(200, replied=replied) == (outcome, NEVER)


# ── decompression ──────────────────────────────────────────────────────────────────────────────────────


def raw_deflate(data: bytes) -> bytes:
    """Compress as servers of old do, without zlib's header."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "X-GZIP": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]) + b"\0" * 9,
    "deflate": zlib.compress,
    " Deflate ": raw_deflate,
}


def inflate(encoding: str, chunks: list[bytes]) -> list[bytes]:
    """Decode chunks to pieces."""
    inflater = Inflater(encoding)
    return [piece for chunk in chunks for piece in inflater.feed(chunk)] + [*inflater.finish()]


def cut(data: bytes, seed: int) -> list[bytes]:
    """Cut bytes at a few random places."""
    rng = random.Random(seed)
    places = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 20)))
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]


@pytest.mark.parametrize("encoding", FORMATS)
@given(data=st.binary(max_size=300), times=st.sampled_from([1, 1000]), seed=st.integers(0, 1 << 32))
@settings(max_examples=50)
def test_what_is_packed_is_unpacked(encoding: str, data: bytes, times: int, seed: int) -> None:
    """However it is cut on its way, in pieces of at most 64 KiB."""
    pieces = inflate(encoding, cut(FORMATS[encoding](data * times), seed))
    assert b"".join(pieces) == data * times
    assert encoding.strip() in ("", "identity") or all(len(piece) <= PIECE for piece in pieces)


@pytest.mark.parametrize("encoding", FORMATS)
def test_a_body_may_drip_byte_by_byte(encoding: str) -> None:
    """The first byte alone doesn't tell zlib's format from a raw one."""
    packed = FORMATS[encoding](b"Hello, hello, hello!")
    assert (
        b"".join(inflate(encoding, [packed[n : n + 1] for n in range(len(packed))]))
        == b"Hello, hello, hello!"
    )


def test_what_zlib_holds_back_comes_at_the_end() -> None:
    """All bytes were taken in, and the last piece is full."""
    inflater = Inflater("deflate")
    assert [len(piece) for piece in inflater.feed(raw_deflate(bytes(PIECE + 1)))] == [PIECE]
    assert [len(piece) for piece in inflater.finish()] == [1]


def test_an_empty_body_needs_no_end() -> None:
    """A 204 may say gzip."""
    assert inflate("gzip", [b""]) == []


BROKEN = [
    ("gzip", gzip.compress(b"x" * 999, mtime=0)[:-9]),
    ("gzip", gzip.compress(b"x", mtime=0) + b"garbage"),
    ("gzip", b"plain text"),
    ("deflate", b"plain text"),
    ("deflate", zlib.compress(b"x" * 999)[:-1]),
    ("deflate", b"x"),
    ("br", b""),
    ("gzip, gzip", b""),
    ("zstd", b""),
]


@pytest.mark.parametrize(("encoding", "body"), BROKEN)
def test_what_is_broken_is_told(encoding: str, body: bytes) -> None:
    """Cut off, garbage behind it, or an encoding that wasn't offered."""
    with pytest.raises(Undecodable):
        inflate(encoding, [body])


# ── evidence ───────────────────────────────────────────────────────────────────────────────────────────


def evidence(*, trusted: bool = True, handed: bool = True, seen: bool = True, starts: int = 0) -> Evidence:
    """Make the trace of an attempt."""
    found = Evidence(trusted=trusted)
    found.handed, found.seen, found.starts = handed, seen, starts
    return found


def cause(error: Exception, *chain: Exception) -> Exception:
    """Chain causes behind an error."""
    last = error
    for link in chain:
        last.__cause__ = link
        last = link
    return error


BAD_CERTIFICATE = ssl.SSLCertVerificationError("self-signed")
JUDGED: list[tuple[Exception, Evidence, Reach]] = [
    (httpx.ReadError(""), evidence(starts=1), Reach.STARTED),
    (httpx.ConnectError(""), evidence(starts=1), Reach.STARTED),
    (httpx.ConnectError(""), evidence(), Reach.UNSTARTED),
    (httpx.ConnectError(""), evidence(trusted=False, seen=False), Reach.UNSTARTED),
    (cause(httpx.ConnectError(""), OSError(), BAD_CERTIFICATE), evidence(), Reach.UNTRUSTED),
    (cause(httpx.ConnectError(""), *(OSError() for _ in range(12))), evidence(), Reach.UNSTARTED),
    (httpx.ProxyError(""), evidence(), Reach.UNSTARTED),
    (httpx.ReadTimeout(""), evidence(), Reach.UNSTARTED),
    (httpx.ReadTimeout(""), evidence(seen=False), Reach.STARTED),
    (httpx.ReadTimeout(""), evidence(trusted=False), Reach.STARTED),
    (httpx.InvalidURL(""), evidence(handed=False), Reach.REFUSED),
    (httpx.UnsupportedProtocol(""), evidence(), Reach.REFUSED),
    (RuntimeError(""), evidence(handed=False), Reach.UNSTARTED),
]


@pytest.mark.parametrize(("error", "trace", "reach"), JUDGED)
def test_the_evidence_is_judged(error: Exception, trace: Evidence, reach: Reach) -> None:
    """The exception's class alone is no proof; absence of evidence counts on our transport only."""
    assert judge(error, trace, library("httpx")) is reach


class _Target:
    def __init__(self, target: bytes) -> None:
        self.url = self
        self.target = target


async def _trace(*events: Any) -> Evidence:
    found = evidence(seen=False)
    for name, info in events:
        await found(name, info)
    return found


START, FAIL = "http11.send_request_headers.started", "http11.send_request_headers.failed"


@pytest.mark.parametrize(
    ("events", "reach"),
    [
        ([("connection.connect_tcp.started", {})], Reach.UNSTARTED),
        ([(START, {"request": _Target(b"/v1/x")})], Reach.STARTED),
        ([(START, {"request": _Target(b"host:443")})], Reach.UNSTARTED),
        ([(START, {"request": _Target(b"/x")}), (FAIL, {"exception": OSError()})], Reach.STARTED),
    ],
)
def test_a_trace_tells_whether_our_headers_were_started(events: list[Any], reach: Reach) -> None:
    """Not a proxy's CONNECT, which goes to a host and a port."""
    assert anyio.run(_trace, *events).reach is reach


def test_headers_that_the_library_refuses_were_not_started() -> None:
    """Row 7: h11 makes no bytes of them."""
    events = [(START, {"request": _Target(b"/x")}), (FAIL, {"exception": httpx.LocalProtocolError("")})]
    trace = anyio.run(_trace, *events)
    assert (trace.refused, judge(httpx.LocalProtocolError(""), trace, library("httpx"))) == (
        True,
        Reach.REFUSED,
    )


def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is sent, with the way to get it."""
    monkeypatch.setattr("desk360_async._http.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'httpx\[socks\]'"):
        check_proxy("socks5://127.0.0.1:1080")
    check_proxy("http://127.0.0.1:3128")
    check_proxy(None)
