"""Whatever a server says, the parsers raise nothing but our own errors, and say nothing but what may be."""

import json
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from desk360_async import Desk360Error, Outcome, ReadMessage, TemplateBatch, TextMessage, _codec, _json
from desk360_async._bucket import parse_limit, parse_remaining, refusal_wait, retry_after
from desk360_async._calls import Answered
from desk360_async._inflate import PIECE, Inflater, Undecodable
from desk360_async._redaction import Redaction, mask_phones
from desk360_async._wire import (
    call_for,
    error_from,
    explain,
    free_call,
    integrations_call,
    next_page,
    read,
    templates_call,
)

PHONE = "+905551234567"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = ["message_id", "phones", "medias", "error", "errors", "code", "message", "data", "id", "message_ids"]
answers = st.dictionaries(st.sampled_from(WORDS), json_values, max_size=4) | json_values
bodies = (
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace"))
    | answers.map(lambda value: json.dumps(value).encode())
)
types = st.sampled_from(
    ["", "application/json", "text/html", "a; charset=latin-1", "a; charset=utf-16"]
) | st.text(max_size=40).map("application/json; charset={}".format)
values = st.text(max_size=60) | st.sampled_from(
    ["0", "-1", "nan", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT", "٣"]
)
CALLS = [
    call_for(TextMessage(PHONE, "x"), 1),
    call_for(TemplateBatch([PHONE], 1, language=2), 1),
    call_for(ReadMessage(PHONE, ["a"]), 1),
    integrations_call(1),
    templates_call(1, 1),
    free_call("POST", "/x", b"{}", None, idempotent=False),
]


@given(
    st.text(max_size=200) | st.lists(st.sampled_from([*'<>;,="', " ", "rel", "next", "?page=2"])).map("".join)
)
@example('<https://a/?page=2>; rel="next"')
@example("<" * 5000)
@example('<a>;"' * 2000)
def test_link(link: str) -> None:
    """`Link` gives a page of at most nine digits, or nothing."""
    page = next_page({"link": link})
    assert page is None or 0 <= page < 10**9


@given(values, values, values)
def test_rate_headers(first: str, second: str, third: str) -> None:
    """Rate headers give plausible numbers, or nothing; a wait is never longer than an hour."""
    headers = {"retry-after": first, "date": second, "x-ratelimit-reset": third}
    headers |= {"x-ratelimit-limit": first, "x-ratelimit-remaining": second}
    asked = retry_after(headers)
    assert asked is None or asked >= 0
    assert 0 < refusal_wait(headers, period=60.0) <= 3600
    assert parse_limit(headers) in (None, *range(1, 10_001))
    assert (parse_remaining(headers) or 0) >= 0


@given(st.integers(100, 999), bodies, types, values, st.sampled_from(CALLS))
@settings(max_examples=400)
@example(200, b"[" * 100_000, "", "", CALLS[0])
@example(200, b'{"message_id":' * 2000, "", "", CALLS[0])
@example(400, b'{"error":{"code":1e999}}', "", "", CALLS[0])
def test_answer(status: int, body: bytes, kind: str, link: str, call: Any) -> None:
    """An answer is a reply or a Desk360Error, and a send's error has an outcome."""
    answered = Answered(status, {"content-type": kind, "link": link, "retry-after": link}, body)
    raised: Desk360Error | None = None
    try:
        read(call, answered)
    except Desk360Error as error:
        raised = error
    assert raised is None or (raised.outcome in list(Outcome)) == call.has_outcome


@given(st.integers(300, 999), bodies, types)
def test_error_body(status: int, body: bytes, kind: str) -> None:
    """Any refusal is an error with its status and at most 64 Ki characters of its body."""
    error = error_from(CALLS[0], Answered(status, {"content-type": kind}, body))
    assert error.status == status
    assert len(error.body) <= 64 * 1024
    explain(Answered(status, {"content-type": kind}, body))


@given(bodies, types)
def test_json(body: bytes, kind: str) -> None:
    """JSON is read, or refused by one kind of error; behind noise too."""
    for reader in (lambda: _json.decode(body, kind), lambda: _json.salvage(body, kind)):
        with suppress(_json.UnreadableJSON):
            json.dumps(reader())


@given(json_values)
def test_strict_json(value: Any) -> None:
    """What goes out is JSON that somebody else reads as the same, or it is refused."""
    try:
        sent = _codec.encode(value)
    except ValueError:
        return
    assert json.loads(sent.decode("utf-8")) == value


@given(st.binary(max_size=4000), st.integers(1, 700), st.sampled_from(["gzip", "deflate"]))
def test_inflate(content: bytes, step: int, encoding: str) -> None:
    """What was compressed comes back, however it is cut into chunks; a piece is never over 64 KiB."""
    content *= 40
    compress = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    wire = compress.compress(content) + compress.flush()
    inflater, pieces = Inflater(encoding), []
    for start in range(0, len(wire), step):
        pieces += inflater.feed(wire[start : start + step])
    pieces += inflater.finish()
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= PIECE for piece in pieces)


@given(
    st.lists(st.binary(max_size=50), max_size=8),
    st.sampled_from(["gzip", "deflate", "x-gzip", "br", "", "zstd"]),
)
def test_inflate_garbage(chunks: list[bytes], encoding: str) -> None:
    """Garbage is refused by one kind of error."""
    try:
        inflater = Inflater(encoding)
        for chunk in chunks:
            list(inflater.feed(chunk))
        list(inflater.finish())
    except Undecodable:
        pass


def test_zeros_behind_the_end() -> None:
    """Zeros behind the end of a gzip body, as many as may come, take no memory and no time."""
    compress = zlib.compressobj(wbits=31)
    inflater = Inflater("gzip")
    assert b"".join(inflater.feed(compress.compress(b"x") + compress.flush())) == b"x"
    for _ in range(500):
        assert list(inflater.feed(bytes(PIECE))) == []
    assert not inflater._stream.unused_data[PIECE:]


@given(st.text(max_size=200))
def test_redaction(text: str) -> None:
    """Masking never fails, and doing it twice changes nothing more in a log line."""
    masked = Redaction("k3yk3yk3y").clean(text)
    assert "k3yk3yk3y" not in Redaction("k3yk3yk3y").clean(f"{text} k3yk3yk3y")
    assert Redaction("k3yk3yk3y").clean(masked) == masked


@pytest.mark.parametrize(
    "written",
    [
        "+905551234567",
        "905551234567",
        "00905551234567",
        "05551234567",
        "5551234567",
        "0555 123 45 67",
        "+90 (555) 123-45-67",
        "555.123.4567",
        "%2B905551234567",
        '"905551234567"',
    ],
)
def test_spellings(written: str) -> None:
    """A phone is masked however a server writes it."""
    masked = mask_phones(
        f"number {written} is not on WhatsApp, see 7654321 and error 131026", ["905551234567"]
    )
    assert "4567" in masked
    assert "555" not in masked
    assert "123" not in masked
    assert masked.endswith("see 7654321 and error 131026")
