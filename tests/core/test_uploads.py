# mypy: disable-error-code="arg-type,attr-defined,func-returns-value,override"
# ... since wrong calls and stand-ins are the point here.
"""Files going up: rulings 6, 8, 10, 11 and 18, read in worker threads, the same bytes at each attempt."""

import builtins
import io
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk360_async import Attachment, ConnectionFailed, InvalidMessage, MediaMessage, Outcome, _uploads
from desk360_async._attachments import guess_type, safe_name
from desk360_async._uploads import BLOCK, Form, Part, Upload, head_of, measure, tail_of
from tests.core.fakes import TO, Seen, Tokens, Wire, connect
from tests.core.vendor import PNG, answer_sample, parse_multipart

pytestmark = pytest.mark.anyio


def taken(_: Seen) -> httpx.Response:
    """The document's answer to a media message."""
    return httpx.Response(200, content=answer_sample("send_media"))


def files_of(seen: Seen) -> list[tuple[str | None, bytes]]:
    """Return the files in a form: name and content."""
    parts = parse_multipart(seen.body, seen.headers["content-type"])
    return [(name, content) for field, name, content in parts if field == "attachments[]"]


async def send_files(*files: Any, **options: Any) -> Seen:
    """Send files, and return what went out."""
    wire = Wire(taken)
    async with connect(wire, **options) as client:
        await client.send_media(TO, files)
    return wire.seen[0]


SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_arrives_as_it_is(tmp_path: Path, size: int) -> None:
    """Whatever its size beside the blocks that it is read by; the length was announced."""
    content = os.urandom(size)
    (tmp_path / "a.bin").write_bytes(content)
    seen = await send_files(tmp_path / "a.bin")
    assert files_of(seen) == [("a.bin", content)]
    assert seen.headers["content-length"] == str(len(seen.body))
    assert "transfer-encoding" not in seen.headers


@pytest.mark.parametrize("size", SIZES)
async def test_bytes_arrive_as_they_are(size: int) -> None:
    """Without a disk."""
    content = os.urandom(size)
    assert files_of(await send_files(Attachment.from_bytes("a", content))) == [("a", content)]


async def test_five_sources_arrive_in_order(tmp_path: Path) -> None:
    """Paths, bytes and streams mixed."""
    (tmp_path / "b").write_bytes(b"2")
    path = str(tmp_path / "b")

    async def stream() -> AsyncIterator[bytes]:
        yield b"3"
        yield b"4"

    third = Attachment.from_stream("c", 2, stream)
    seen = await send_files(Attachment.from_bytes("a", bytearray(b"1")), path, third, path)
    assert files_of(seen) == [("a", b"1"), ("b", b"2"), ("c", b"34"), ("b", b"2")]


async def test_a_retry_sends_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are opened anew, streams asked again; only the boundary differs."""
    monkeypatch.setattr(_uploads.secrets, "token_hex", lambda _: "b" * 32)
    (tmp_path / "a").write_bytes(b"1" * (BLOCK + 7))
    opened: list[int] = []

    async def stream() -> AsyncIterator[bytes]:
        opened.append(1)
        yield b"xyz"

    wire = Wire(httpx.Response(429, headers={"retry-after": "1"}), taken)
    async with connect(wire) as client:
        await client.send_media(TO, [tmp_path / "a", Attachment.from_stream("s", 3, stream)])
    assert wire.seen[0].body == wire.seen[1].body
    assert len(opened) == 2


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("No such file", Path.unlink),
    ("changed while it waited", lambda p: p.write_bytes(b"longer than before")),
    ("changed while it waited", lambda p: os.utime(p, (1, 1))),
    ("is a folder", lambda p: (p.unlink(), p.mkdir())),
]


@pytest.mark.parametrize(("problem", "change"), CHANGES)
async def test_what_changed_while_it_waited_is_not_sent(
    tmp_path: Path, wire: Wire, problem: str, change: Callable[[Path], object]
) -> None:
    """Found before a byte leaves; the token is unused."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)

    async def meanwhile() -> None:
        change(path)

    tokens = Tokens(wait=meanwhile)
    async with connect(wire, limiter=tokens) as client:
        with pytest.raises(InvalidMessage, match=problem) as caught:
            await client.send_media(TO, [path])
    assert caught.value.outcome is Outcome.NOT_SENT
    assert (wire.seen, tokens.ended) == ([], ["unused"])


async def _short() -> AsyncIterator[bytes]:
    yield b"12"


async def _long() -> AsyncIterator[bytes]:
    yield b"12"
    yield b"34"


async def _broken() -> AsyncIterator[bytes]:
    yield b"1"
    raise OSError("the bucket is away")


async def _numbers() -> AsyncIterator[Any]:
    yield 3


class _Plain:
    """An async iterator that is no generator."""

    def __aiter__(self) -> "_Plain":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def _refuse() -> AsyncIterator[bytes]:
    raise PermissionError("no access")


async def _fails() -> AsyncIterator[bytes]:
    raise OSError("the bucket is away")
    yield b""


async def _huge() -> AsyncIterator[bytes]:
    yield b"1234"


async def _coroutine() -> bytes:
    return b"123"


async def _hangs() -> AsyncIterator[bytes]:
    await anyio.sleep(1e6)
    yield b"123"


UNOPENED: list[tuple[Any, str, str]] = [
    (_refuse, "attachment", "stream failed: PermissionError"),
    (_fails, "attachment", "stream failed: OSError"),
    (_numbers, "attachment", "stream failed: TypeError"),
    (_Plain, "attachment", "another length"),
    (_huge, "attachment", "another length"),
    (_hangs, "attachment", "gave no bytes within 120 s"),
    (lambda: None, "attachment.open", "gave NoneType; open must give .* `async def` with `yield`"),
    (lambda: _coroutine(), "attachment.open", "gave coroutine; open must give"),
    (lambda: b"123", "attachment.open", r"gave bytes; .*from_bytes\(name, content\)"),
    (lambda: io.BytesIO(b"123"), "attachment.open", r"gave BytesIO; .*from_path\(path\)"),
]


@pytest.mark.parametrize(("stream", "field", "problem"), UNOPENED)
async def test_a_stream_that_cant_be_opened_costs_nothing(
    wire: Wire, stream: Any, field: str, problem: str
) -> None:
    """Its first block is asked for before a byte leaves; those before it are closed."""
    closed: list[int] = []

    async def fine() -> AsyncIterator[bytes]:
        try:
            yield b"1"
        finally:
            closed.append(1)

    tokens = Tokens()
    files = [Attachment.from_stream("a", 1, fine), Attachment.from_stream("b", 3, stream)]
    async with connect(wire, limiter=tokens) as client:
        with pytest.raises(InvalidMessage, match=problem) as caught:
            await client.send_media(TO, files)
    assert (caught.value.field, caught.value.outcome) == (field, Outcome.NOT_SENT)
    assert (wire.seen, tokens.ended, closed) == ([], ["unused"], [1])


async def test_a_stream_stays_in_one_task() -> None:
    """What it opens around its blocks, it can close."""

    async def scoped() -> AsyncIterator[bytes]:
        with anyio.fail_after(60):
            yield b"1"
            await anyio.sleep(1)
            yield b"2"

    assert files_of(await send_files(Attachment.from_stream("a", 2, scoped))) == [("a", b"12")]


async def test_what_a_stream_says_to_its_end_changes_nothing() -> None:
    """All of it was there."""

    async def sulking() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            yield b""
        finally:
            raise OSError

    async def full() -> AsyncIterator[bytes]:
        yield b"123"

    wire = Wire()
    files = [Attachment.from_stream("a", 1, sulking), Attachment.from_stream("b", 1, full)]
    async with connect(wire) as client:
        with pytest.raises(InvalidMessage, match="'b' has another length"):
            await client.send_media(TO, files)


async def test_the_wait_for_a_stream_counts() -> None:
    """`upload` bounds the whole attempt."""

    async def slow() -> AsyncIterator[bytes]:
        await anyio.sleep(100)
        yield b"1"

    async def late(seen: Seen) -> httpx.Response:
        await anyio.sleep(30)
        return taken(seen)

    began = anyio.current_time()
    async with connect(Wire(late)) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.send_media(TO, [Attachment.from_stream("a", 1, slow)])
    assert (caught.value.outcome, anyio.current_time() - began) == (Outcome.UNKNOWN, 120)


STREAMS: list[tuple[Any, str]] = [
    (_short, "another length"),
    (_long, "another length"),
    (_broken, "stream failed: OSError"),
]


@pytest.mark.parametrize(("stream", "problem"), STREAMS)
async def test_a_stream_that_breaks_its_word_leaves_the_outcome_unknown(
    wire: Wire, stream: Any, problem: str
) -> None:
    """The headers were out, and half a body is the server's own affair; it isn't sent again."""
    tokens = Tokens()
    async with connect(wire, limiter=tokens) as client:
        with pytest.raises(InvalidMessage, match=problem) as caught:
            await client.send_media(TO, [Attachment.from_stream("a", 3, stream)])
    assert caught.value.outcome is Outcome.UNKNOWN
    assert (wire.seen, tokens.ended) == ([], ["lost"])


@pytest.mark.parametrize("change", [-1, 1])
async def test_a_file_that_changes_while_it_is_sent_leaves_the_outcome_unknown(
    tmp_path: Path, change: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1" * (8 * BLOCK))

    class Meddling(Wire):
        """Changes the file once its first bytes have come."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            body = aiter(request.stream)  # type: ignore[arg-type]  # an async client's
            await anext(body)
            os.truncate(path, 8 * BLOCK + change)
            async for _ in body:
                """Read on."""
            raise AssertionError("the body came to its end")

    async with connect(Meddling()) as client:
        with pytest.raises(InvalidMessage, match="'a' changed while it was sent") as caught:
            await client.send_media(TO, [path])
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_block_of_any_size_arrives_whole() -> None:
    content = bytes(range(256)) * 5000

    async def at_once() -> AsyncIterator[bytes]:
        yield content

    stream = Attachment.from_stream("a", len(content), at_once)
    assert files_of(await send_files(stream)) == [("a", content)]


async def test_an_early_answer_ends_the_upload(tmp_path: Path) -> None:
    """A server may refuse before it has read everything; the stream is closed at once."""
    closed: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            for _ in range(1000):
                yield b"x" * 1000
        finally:
            closed.append(1)

    class Hasty(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            body = aiter(request.stream)
            for _ in range(5):
                await anext(body)
            return httpx.Response(413)

    async with connect(Hasty()) as client:
        with pytest.raises(Exception, match="413"):
            await client.send_media(TO, [Attachment.from_stream("a", 1_000_000, endless)])
    assert closed == [1]


async def test_a_failure_before_the_upload_closes_everything(tmp_path: Path, wire: Wire) -> None:
    """`on_attempt` raises: nothing was sent, and nothing stays open."""
    (tmp_path / "a").write_bytes(PNG)

    async def refuse() -> None:
        raise LookupError

    async with connect(wire) as client:
        with pytest.raises(LookupError):
            await client.send(MediaMessage(TO, [tmp_path / "a"]), on_attempt=refuse)
    assert wire.seen == []


async def test_a_lost_connection_closes_the_files(tmp_path: Path) -> None:
    """A warning would tell otherwise."""
    (tmp_path / "a").write_bytes(PNG)
    async with connect(Wire(httpx.ReadError("gone"))) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.send_media(TO, [tmp_path / "a"])
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.real
async def test_no_file_is_touched_on_the_loops_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither opened nor read nor measured nor closed there; not even for its type."""
    paths = [tmp_path / name for name in ("a.png", "b.docx", "c")]
    for path in paths:
        path.write_bytes(os.urandom(3 * BLOCK))
    touched: set[int] = set()

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if args and any(str(p) in str(args[0]) for p in paths):
                touched.add(threading.get_ident())
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    class Watched(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            touched.add(threading.get_ident())
            return super().read(size)

        def close(self) -> None:
            touched.add(threading.get_ident())
            super().close()

    for name in ("open", "stat", "lstat"):
        watch(os, name)
    watch(builtins, "open")
    monkeypatch.setattr(_uploads, "FileIO", Watched)
    await send_files(*paths)
    assert touched
    assert threading.get_ident() not in touched


@pytest.mark.real
async def test_a_pipe_does_not_hold_the_thread(tmp_path: Path, wire: Wire) -> None:
    """Opening it would wait for a writer."""
    os.mkfifo(tmp_path / "pipe")
    async with connect(wire) as client:
        began = time.monotonic()
        with pytest.raises(InvalidMessage, match="not a regular file"):
            await client.send_media(TO, [tmp_path / "pipe"])
        assert time.monotonic() - began < 5


async def test_a_cancelled_upload_leaves_nothing_open(tmp_path: Path) -> None:
    """A warning would tell otherwise."""
    (tmp_path / "a").write_bytes(PNG)

    async def hang(_: Seen) -> httpx.Response:
        await anyio.sleep(1e6)
        raise AssertionError

    async with connect(Wire(hang)) as client:
        with anyio.move_on_after(1) as scope:
            await client.send_media(TO, [tmp_path / "a"])
    assert scope.cancelled_caught


async def test_uploads_have_a_deadline_of_their_own() -> None:
    """`upload` takes the place of `total`."""

    async def slow(seen: Seen) -> httpx.Response:
        await anyio.sleep(100)
        return taken(seen)

    assert await send_files(Attachment.from_bytes("a", PNG)) is not None
    wire = Wire(slow)
    async with connect(wire) as client:
        await client.send_media(TO, [Attachment.from_bytes("a", PNG)])
        with pytest.raises(ConnectionFailed, match="within 30 s"):
            await client.send_text(TO, "x")


# ── attachments ────────────────────────────────────────────────────────────────────────────────────────

NAMES = [
    ("invoice.pdf", "invoice.pdf"),
    ("/etc/passwd", "passwd"),
    ("..\\..\\a.png", "a.png"),
    ('a"b.png', "a_b.png"),
    ("a\r\nX: y.png", "a__X: y.png"),
    ("a\0.png", "a_.png"),
    ("exe\u202egpj.scr", "exe_gpj.scr"),
    ("📦 fatura ığüşöç.pdf", "📦 fatura ığüşöç.pdf"),
    ("x" * 300 + ".png", "x" * 300 + ".png"),
]


@pytest.mark.parametrize(("name", "kept"), NAMES)
async def test_names_are_base_names_without_what_ends_a_header(name: str, kept: str) -> None:
    """Ruling 10: raw UTF-8, never `filename*=`."""
    seen = await send_files(Attachment.from_bytes(name, PNG))
    assert files_of(seen) == [(kept, PNG)]
    assert f'filename="{kept}"\r\n'.encode() in seen.body
    assert b"filename*" not in seen.body


@pytest.mark.parametrize("name", ["", "/", "..", " . ", "a/", 7, None, "\ud800.png"])
def test_a_name_of_nothing_is_refused(name: Any) -> None:
    """With the way out."""
    with pytest.raises(InvalidMessage) as caught:
        Attachment.from_bytes(name, b"")
    assert caught.value.field == "attachment.name"


TYPES = [
    ("a.png", "image/png"),
    ("A.JPG", "image/jpeg"),
    ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("a?b#c.webp", "image/webp"),
    ("a.ogg", "audio/ogg"),
    ("a.unheard-of", "application/octet-stream"),
    ("png", "image/png"),
    ("", "application/octet-stream"),
]


@pytest.mark.parametrize(("name", "kind"), TYPES)
def test_the_type_is_guessed_from_the_name(name: str, kind: str) -> None:
    """Ruling 11: alike on every machine and every Python."""
    assert guess_type(name) == kind


def test_the_user_may_say_the_type() -> None:
    """Ruling 11; what could end the header is refused."""
    assert (
        Attachment.from_bytes("a", b"", content_type="text/csv; charset=utf-8").media_type
        == "text/csv; charset=utf-8"
    )
    for bad in ("png", "image/png\r\nX: y", "image/", 7):
        with pytest.raises(InvalidMessage, match="image/png"):
            Attachment.from_bytes("a", b"", content_type=bad)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Attachment(name="a"), "from_path, from_bytes or from_stream"),
        (lambda: Attachment(name="a", content=b"", path=Path("b")), "from_path, from_bytes or from_stream"),
        (lambda: Attachment.from_bytes("a", "text"), r"must be bytes, not str.*from_path"),
        (lambda: Attachment.from_stream("a", True, _short), "an int, not bool"),
        (lambda: Attachment(name="a", open=_short), "a stream's length must be known"),
        (lambda: Attachment.from_stream("a", -1, _short), "must not be negative"),
        (lambda: Attachment.from_stream("a", 5, b"bytes"), "fresh async iterator"),
        (lambda: Attachment.from_stream("a", 5, _coroutine), "`async def` with `yield`"),
        (lambda: MediaMessage(TO, [io.BytesIO()]), "can't be read twice"),
    ],
)
def test_an_attachment_has_one_source_of_known_length(make: Callable[[], object], problem: str) -> None:
    """Found when it is made."""
    with pytest.raises(InvalidMessage, match=problem):
        make()


def test_attachments_are_values() -> None:
    """Frozen, comparable, and without their content in the repr."""
    one = Attachment.from_bytes("a", b"x" * 100)
    assert one == Attachment.from_bytes("a", b"x" * 100)
    assert repr(one) == "Attachment(name='a', size=100, content_type=None)"
    assert one == Attachment(name="a", content=b"x" * 100)


# ── the form's bytes, by somebody else's parser ────────────────────────────────────────────────────────


def test_a_part_is_written_byte_for_byte() -> None:
    """Keys with quotes and backslashes as PHP unescapes them."""
    part = Part('p[a"b\\c]', "v")
    assert head_of(part, "B") == b'--B\r\nContent-Disposition: form-data; name="p[a\\"b\\\\c]"\r\n\r\n'
    assert tail_of("B") == b"--B--\r\n"


async def body_of(parts: list[Part]) -> tuple[bytes, str]:
    """Return the bytes of a form, and its type."""
    form = Form(tuple(parts))
    upload = Upload(form, await measure(form))
    await upload.open()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upload.pump)
            body = b"".join([block async for block in upload])
    finally:
        await upload.aclose()
    assert len(body) == upload.length
    return body, upload.content_type


def is_name(text: str) -> bool:
    """Whether anything is left of it."""
    try:
        return bool(safe_name(text))
    except InvalidMessage:
        return False


FILE_NAMES = st.text(
    st.characters(codec="utf-8") | st.sampled_from('"\\/\r\n\0;=%\u202e\u2066📦'), min_size=1, max_size=300
).filter(is_name)
CONTENTS = st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1]).map(os.urandom) | st.binary(max_size=50)


@st.composite
def forms(draw: Any) -> list[Part]:
    """Draw a form: fields and files in any order."""
    texts = st.builds(
        Part, st.sampled_from(["to", "template_id"]), st.text(st.characters(codec="utf-8"), max_size=20)
    )
    files = st.builds(
        lambda name, content: Part("attachments[]", Attachment.from_bytes(name, content)),
        FILE_NAMES,
        CONTENTS,
    )
    return list(draw(st.lists(texts | files, max_size=6)))


@given(forms())
@settings(max_examples=100, deadline=None)
def test_any_form_is_read_back_by_python_multipart(parts: list[Part]) -> None:
    """Names with emoji, quotes, CR and LF, bidi marks, 300 characters; any size beside the block's."""
    body, kind = anyio.run(body_of, parts)
    sent = [
        (p.name, p.value.name, p.value.content)
        if isinstance(p.value, Attachment)
        else (p.name, None, p.value.encode())
        for p in parts
    ]
    assert parse_multipart(body, kind) == sent if sent else body == tail_of(kind[-32:])
