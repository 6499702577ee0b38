"""Files coming down: rulings 12, 14, 15 and 27, and never a byte where the server likes."""

import gc
import gzip
import io
import json
import os
import random
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from desk360_async import (
    APIError,
    AuthenticationFailed,
    ClientStateError,
    ConnectionFailed,
    InvalidMessage,
    Media,
    NotFound,
    RateLimited,
    RequestRefused,
    RetryPolicy,
    TimedOut,
    Timeouts,
    UnexpectedResponse,
)
from desk360_async._downloads import filename_of
from tests.core.fakes import KEY, Drip, Seen, Ticket, Tokens, Wire, connect
from tests.core.vendor import BASE, PNG

pytestmark = [
    pytest.mark.anyio,
    # httpx iterates through generators of its own; those that aren't read to their end, only it could close.
    pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
]


def file(content: Any = PNG, kind: str = "image/png", status: int = 200, **headers: str) -> httpx.Response:
    """Answer with a file; a list comes in pieces."""
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": kind}
    if isinstance(content, bytes):
        return httpx.Response(status, content=content, headers=named)
    return httpx.Response(status, stream=Drip(*content), headers=named)


def names_in(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(path.name for path in folder.iterdir())


def named(disposition: str) -> httpx.Response:
    """Answer with a file of that name."""
    return file(content_disposition=disposition)


async def test_a_file_comes_as_it_is() -> None:
    """Bytes, type and name; ruling 12's Accept is for anything."""
    wire = Wire(file(kind="Image/PNG; x=y", content_disposition='attachment; filename="a.png"'))
    async with connect(wire) as client:
        assert await client.read_media("m") == Media(PNG, "image/png", "a.png")
    assert (wire.seen[0].method, wire.seen[0].headers["accept"]) == ("GET", "*/*")


async def test_a_stream_tells_what_it_knows() -> None:
    """Type, name and size, before a byte is read."""
    async with connect(Wire(lambda _: file([b"12", b"345"], content_length="5"))) as client:
        async with client.open_media("m") as media:
            assert (media.content_type, media.filename, media.size) == ("image/png", None, 5)
            assert [piece async for piece in media.aiter_bytes()] == [b"12", b"345"]
        async with client.open_media("m") as media:
            pass  # nothing has to be read


async def test_compressed_files_are_decoded_in_bounded_pieces() -> None:
    """At most 64 KiB each, whatever they decode to; their size isn't known."""
    packed = gzip.compress(bytes(5_000_000))
    wire = Wire(file([packed], content_encoding="gzip", content_length=str(len(packed))))
    async with connect(wire) as client, client.open_media("m") as media:
        assert media.size is None
        sizes = [len(piece) async for piece in media.aiter_bytes()]
    assert (sum(sizes), max(sizes)) == (5_000_000, 65536)


async def test_the_last_piece_is_not_forgotten() -> None:
    """Held back by zlib until the end."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(bytes(65537)) + packer.flush()
    async with connect(Wire(file([packed], content_encoding="deflate"))) as client:
        assert len((await client.read_media("m")).content) == 65537


ERRORS = [
    {"error": {"code": "not_found", "message": "No."}},
    {"error": "No."},
]


@pytest.mark.parametrize("body", ERRORS)
@pytest.mark.parametrize("kind", ["application/json", "application/problem+json; charset=utf-8"])
async def test_an_error_in_disguise_is_not_saved(tmp_path: Path, body: Any, kind: str) -> None:
    """Ruling 27: JSON, small, an object with `error` as its only key."""
    wire = Wire(lambda _: file([json.dumps(body).encode()], kind))
    async with connect(wire) as client:
        with pytest.raises(APIError, match="No") as caught:
            await client.save_media("m", tmp_path)
    assert caught.value.outcome is None
    assert list(tmp_path.iterdir()) == []


CUSTOMERS_JSON = [
    b'{"error": "No.", "more": 1}',
    b'{"error": null}',
    b'{"error": []}',
    b"[]",
    b"{broken",
    b"",
    b'{"error": "' + b"x" * 70_000 + b'"}',
]


@pytest.mark.parametrize("content", CUSTOMERS_JSON)
async def test_any_other_json_is_the_customers_file(content: bytes) -> None:
    """Ruling 27."""
    wire = Wire(file([content[:50], content[50:]], "application/json"))
    async with connect(wire) as client:
        assert (await client.read_media("m")).content == content


async def test_an_error_status_is_that_error() -> None:
    """With what its body says, and no file."""
    wire = Wire(
        lambda _: file([b'{"error": {"code": "model_not_found_exception"}}', b" " * 70_000, PNG], status=404)
    )
    async with connect(wire) as client:
        with pytest.raises(NotFound, match="model_not_found_exception"):
            await client.read_media("m")


async def test_an_error_whose_body_breaks_off_is_still_that_error() -> None:
    """The status is known."""
    async with connect(Wire(file([b'{"err', httpx.ReadError("gone")], status=401))) as client:
        with pytest.raises(AuthenticationFailed):
            await client.read_media("m")


# ── redirects ──────────────────────────────────────────────────────────────────────────────────────────


def moved(location: str, status: int = 302) -> httpx.Response:
    """Answer with a redirect."""
    return httpx.Response(status, headers={"location": location, "set-cookie": "a=b"})


async def test_a_redirect_is_followed_without_the_key() -> None:
    """Ruling 14: to another origin, with that host's name; the cookie stays behind."""
    wire = Wire(moved("https://cdn.example/a?b=c#d"), file())
    async with connect(wire) as client:
        assert (await client.read_media("m")).content == PNG
    first, second = wire.seen
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert (second.url, second.headers["host"]) == ("https://cdn.example/a?b=c", "cdn.example")
    assert "authorization" not in second.headers
    assert "cookie" not in second.headers
    assert KEY not in str(second)


async def test_a_redirect_at_home_keeps_the_key() -> None:
    """Same scheme, host and port."""
    wire = Wire(moved("/v1/elsewhere"), file())
    async with connect(wire) as client:
        await client.read_media("m")
    assert wire.seen[1].url == f"{BASE}/elsewhere"
    assert wire.seen[1].headers["authorization"] == f"Bearer {KEY}"


async def test_another_hosts_limit_is_none_of_ours() -> None:
    """Its headers would pause our sends."""
    learnt: list[Any] = []

    class Student(Ticket):
        def done(self, status: int, headers: Mapping[str, str]) -> None:
            learnt.append(dict(headers))

    class Teaching(Tokens):
        async def acquire(self, lane: str = "interactive", max_wait: float | None = None) -> Ticket:
            return Student([])

    wire = Wire(moved("https://cdn.example/a"), file(x_ratelimit_remaining="0"))
    async with connect(wire, limiter=Teaching()) as client:
        await client.read_media("m")
    assert "location" in learnt[0]
    assert learnt[1] == {}


NOWHERE = [
    ("http://cdn.example/a", 302),
    ("ftp://cdn.example/a", 302),
    ("file:///etc/passwd", 302),
    ("https://user@cdn.example/a", 302),
    ("https://[::1", 302),
    ("", 302),
    ("https://cdn.example/a", 304),
    ("https://cdn.example/a", 300),
]


@pytest.mark.parametrize(("location", "status"), NOWHERE)
async def test_a_redirect_elsewhere_is_refused(location: str, status: int) -> None:
    """Ruling 14: https only."""
    wire = Wire(lambda _: moved(location, status))
    async with connect(wire) as client:
        with pytest.raises(RequestRefused):
            await client.read_media("m")
    assert len(wire.seen) == 1


PRIVATE = [
    "http://127.0.0.1:8000/a", "https://127.0.0.1/a", "https://localhost/a", "https://[::1]:6379/",
    "https://169.254.169.254/", "https://10.0.0.5/", "https://192.168.1.1/", "https://[fd00::1]/", "https://0x7f.1/",
    "https://2130706433/", "https://100.64.0.1/", "https://cdn.example:44\t3/",
]  # fmt: skip


@pytest.mark.parametrize("location", PRIVATE)
async def test_a_redirect_into_a_private_network_is_refused(location: str) -> None:
    """Ruling 14: the server must not choose what is read behind the user's firewall."""
    await test_a_redirect_elsewhere_is_refused(location, 302)


@pytest.mark.parametrize(
    ("location", "requests"),
    [("http://127.0.0.1:8000/a", 2), ("http://127.0.0.1:8001/a", 1), ("http://localhost:8000/a", 1)],
)
async def test_plain_http_leads_only_to_the_loopback_server_itself(location: str, requests: int) -> None:
    """Ruling 14: only to the host and port of a `base_url` that is loopback."""
    wire = Wire(moved(location), file())
    async with connect(wire, base_url="http://127.0.0.1:8000") as client:
        with suppress(RequestRefused):
            await client.read_media("m")
    assert len(wire.seen) == requests


@pytest.mark.parametrize("late", [0.0, 4.0])
async def test_closing_waits_for_a_views_download_as_for_its_send(late: float) -> None:
    """The view's timeout counts, before the headers and between two chunks."""

    async def answer(_: Seen) -> httpx.Response:
        await anyio.sleep(late)
        return file([partial(anyio.sleep, 4.0), PNG])

    ends: list[bytes] = []
    client = connect(Wire(answer), timeout=0.3)
    view = client.with_options(timeout=Timeouts(total=9.0, download=9.0))

    async def read() -> None:
        ends.append((await view.read_media("m")).content)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0.1)
        await client.aclose()
        assert ends == [PNG]


async def test_a_location_that_is_no_url_is_an_error_of_ours() -> None:
    """The HTTP library refuses it."""
    wire = Wire(moved("https://cdn.example/" + "x" * 70_000), file())
    async with connect(wire) as client:
        with pytest.raises(ConnectionFailed, match="InvalidURL"):
            await client.read_media("m")


async def test_redirects_end_after_five_hops() -> None:
    """Ruling 14."""
    wire = Wire(lambda _: moved("/v1/again"))
    async with connect(wire) as client:
        with pytest.raises(UnexpectedResponse, match="more than 5 redirects"):
            await client.read_media("m")
    assert len(wire.seen) == 6


@pytest.mark.parametrize("call", [lambda c: c.integrations.list(), lambda c: c.request("POST", "/x")])
async def test_nothing_else_is_redirected(call: Callable[[Any], Any]) -> None:
    """Ruling 14: the key stays at home."""
    wire = Wire(lambda _: moved("https://evil.example/"))
    async with connect(wire) as client:
        with pytest.raises(RequestRefused):
            await call(client)
    assert len(wire.seen) == 1


# ── trouble on the way ─────────────────────────────────────────────────────────────────────────────────


async def test_a_download_is_tried_again_before_its_first_byte() -> None:
    """A read repeats without harm: 5xx, a lost connection, a 429."""
    retry_after = httpx.Response(429, headers={"retry-after": "1"})
    wire = Wire(httpx.Response(503), retry_after, httpx.ReadError("gone"), file())
    async with connect(wire) as client:
        assert (await client.read_media("m")).content == PNG
    assert len(wire.seen) == 4


async def test_a_download_gives_up_after_its_attempts() -> None:
    """And says why."""
    async with connect(Wire(httpx.ConnectError("refused")), retry=RetryPolicy(attempts=2)) as client:
        with pytest.raises(ConnectionFailed, match="refused") as caught:
            await client.read_media("m")
    assert caught.value.outcome is None


async def test_a_429_that_lasts_too_long_is_raised() -> None:
    """`max_retry_after` in sum."""
    wire = Wire(lambda _: httpx.Response(429, headers={"retry-after": "100"}))
    async with connect(wire) as client:
        with pytest.raises(RateLimited):
            await client.read_media("m")
    assert len(wire.seen) == 2


BROKEN: list[tuple[list[Any], type[Exception], str]] = [
    ([PNG, httpx.ReadError("gone")], ConnectionFailed, "cut off"),
    ([PNG, httpx.ReadTimeout("late")], TimedOut, "cut off"),
    ([PNG, lambda: anyio.sleep(31)], TimedOut, "no further byte within 30 s"),
]


@pytest.mark.parametrize("kind", ["image/png", "application/json"])
@pytest.mark.parametrize(("pieces", "error", "problem"), BROKEN)
async def test_a_file_that_breaks_off_is_no_file(
    tmp_path: Path, kind: str, pieces: list[Any], error: type[Exception], problem: str
) -> None:
    """Nothing is left behind, neither on disk nor on the wire."""
    body = Drip(*pieces)
    async with connect(Wire(httpx.Response(200, stream=body, headers={"content-type": kind}))) as client:
        with pytest.raises(error, match=problem):
            await client.save_media("m", tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    assert body.closed


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_what_cant_be_decoded_is_no_file(encoding: str) -> None:
    """Broken, or in an encoding that wasn't asked for."""
    async with connect(Wire(file([PNG], content_encoding=encoding))) as client:
        with pytest.raises(ConnectionFailed, match=r"(broken|asked for)"):
            await client.read_media("m")


async def test_no_header_in_time_is_a_timeout() -> None:
    """`total` bounds them."""

    async def late(_: Seen) -> httpx.Response:
        await anyio.sleep(99)
        return file()

    async with connect(Wire(late), timeout=Timeouts(total=2), retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(TimedOut, match="no answer within 2 s"):
            await client.read_media("m")


async def drip() -> None:
    """Let a byte take 20 seconds."""
    await anyio.sleep(20)


@pytest.mark.parametrize("status", [404, 500])
async def test_an_error_that_drips_ends_with_total(status: int) -> None:
    """The gap between two chunks is a file's measure; what came of the error is kept."""
    body = Drip(b'{"message": "No."', drip, b" ", *[drip, b" "] * 1000)
    began = anyio.current_time()
    async with connect(Wire(httpx.Response(status, stream=body)), retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(APIError, match="No") as caught:
            await client.read_media("m")
    assert (caught.value.status, anyio.current_time() - began) == (status, 30)
    assert body.closed


async def test_a_loop_that_is_left_goes_on_in_the_next() -> None:
    """Nothing of the file is lost between them, and nothing waits for the garbage collector."""
    async with connect(Wire(file([b"1", b"2", b"3"]))) as client, client.open_media("m") as media:
        async for first in media.aiter_bytes():
            assert first == b"1"
            break
        async with aclosing(media.aiter_bytes()) as pieces:
            assert await anext(pieces) == b"2"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        assert [piece async for piece in media.aiter_bytes()] == [b"3"]
    gc.collect()


@pytest.mark.parametrize("kind", ["image/png", "application/json"])
async def test_a_file_comes_once(kind: str) -> None:
    """Whoever reads it again is told, and not given an empty file."""
    async with connect(Wire(file([b"1"], kind))) as client, client.open_media("m") as media:
        assert [piece async for piece in media.aiter_bytes()] == [b"1"]
        with pytest.raises(ClientStateError, match=r"was read to its end; open it again"):
            media.aiter_bytes()


async def test_a_file_is_read_inside_its_block() -> None:
    """Afterwards its connection is another's."""
    async with connect(Wire(file([b"1", b"2"]))) as client:
        async with client.open_media("m") as media:
            pieces = media.aiter_bytes()
        with pytest.raises(ClientStateError, match="is closed"):
            await anext(pieces)
        with pytest.raises(ClientStateError, match="is closed"):
            media.aiter_bytes()


async def test_a_file_that_was_interrupted_is_not_cut_short() -> None:
    """A timeout of the user's own ends the download; the rest isn't taken for its end."""
    body = file([b"1", lambda: anyio.sleep(20), b"2"])
    async with connect(Wire(body)) as client, client.open_media("m") as media:
        with anyio.move_on_after(1):
            async for _ in media.aiter_bytes():
                pass
        with pytest.raises(ClientStateError, match="broke off; open it again"):
            media.aiter_bytes()


async def test_a_file_over_max_bytes_is_refused() -> None:
    """Memory is the caller's to grant."""
    async with connect(Wire(file([b"123", b"456"]))) as client:
        with pytest.raises(UnexpectedResponse, match="max_bytes=5; use save_media"):
            await client.read_media("m", max_bytes=5)


@pytest.mark.parametrize("where", ["headers", "json", "body"])
async def test_a_cancelled_download_leaves_nothing_behind(tmp_path: Path, where: str) -> None:
    """Wherever it was; its slot and its token are free again."""

    async def hang(_: Any = None) -> Any:
        await anyio.sleep(25)

    answers: dict[str, Any] = {
        "headers": hang,
        "json": file([b"{", hang], "application/json"),
        "body": file([PNG, hang]),
    }
    wire = Wire(answers[where], lambda _: file())
    async with connect(wire, max_connections=1) as client:
        with anyio.move_on_after(1) as scope:
            await client.save_media("m", tmp_path)
        assert scope.cancelled_caught
        assert list(tmp_path.iterdir()) == []
        assert (await client.read_media("m")).content == PNG


async def test_leaving_a_download_early_gives_its_slot_back() -> None:
    """The rest isn't read."""
    body = Drip(b"1", b"2")
    wire = Wire(httpx.Response(200, stream=body), lambda _: file())
    async with connect(wire, max_connections=1) as client:
        async with client.open_media("m") as media, aclosing(media.aiter_bytes()) as pieces:
            assert await anext(pieces) == b"1"
        assert body.closed
        assert (await client.read_media("m")).content == PNG


# ── where it is saved ──────────────────────────────────────────────────────────────────────────────────


async def test_a_file_is_saved_where_it_is_told(tmp_path: Path) -> None:
    """In place of what was there."""
    (tmp_path / "a").write_bytes(b"old")
    async with connect(Wire(named('attachment; filename="b"'))) as client:
        assert await client.save_media("m", str(tmp_path / "a")) == tmp_path / "a"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": PNG}


async def test_a_folder_gets_the_servers_names_numbered(tmp_path: Path) -> None:
    """No file is overwritten."""
    wire = Wire(
        *[named(f'attachment; filename="{name}"') for name in ("a.b.png", "a.b.png", "noext", "noext")]
    )
    async with connect(wire) as client:
        saved = [(await client.save_media("m", tmp_path)).name for _ in range(4)]
    assert saved == ["a.b.png", "a.b (2).png", "noext", "noext (2)"]
    assert names_in(tmp_path) == sorted(saved)


@pytest.mark.parametrize(
    ("media_id", "name"), [("m-1", "m-1"), ("a/b", "b"), ("a/..", "media"), ("/", "media")]
)
async def test_a_nameless_file_is_called_by_its_id(tmp_path: Path, media_id: str, name: str) -> None:
    """Or by what it is, where the id is no name."""
    async with connect(Wire(file())) as client:
        assert await client.save_media(media_id, tmp_path) == tmp_path / name


async def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT, some network shares: still no file is overwritten."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    async with connect(Wire(lambda _: named('attachment; filename="a"'))) as client:
        saved = [(await client.save_media("m", tmp_path)).name for _ in range(2)]
    assert names_in(tmp_path) == saved == ["a", "a (2)"]


NO_FOLDERS: list[tuple[Any, str]] = [
    ("no/folder/a.png", "no/folder' does not exist; make that folder first"),
    ("file/a.png", "file' is no folder"),
    # What `Path` forgets or doesn't take.
    ("no/.", "no' does not exist"),
    ("file/", "file' is no folder"),
    ("", "is empty"),
    ("a\0b", "holds a NUL"),
    ("\ud800", "not valid Unicode"),
    (None, "must be text or a pathlib.Path, not NoneType"),
    (b"a", "must be text or a pathlib.Path, not bytes"),
]


@pytest.mark.parametrize("folder", ["downloads/", "down/loads/"])
async def test_a_slash_at_the_end_makes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """A second save finds the folder, and takes another name."""
    monkeypatch.chdir(tmp_path)
    async with connect(Wire(lambda _: named('attachment; filename="a"'))) as client:
        saved = [await client.save_media("m", folder) for _ in range(2)]
    assert saved == [Path(folder, "a"), Path(folder, "a (2)")]


@pytest.mark.parametrize(("path", "problem"), NO_FOLDERS)
async def test_what_is_no_place_for_a_file_costs_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, problem: str
) -> None:
    """The error names it; a dot at the end makes no folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    wire, tokens = Wire(lambda _: file()), Tokens()
    async with connect(wire, limiter=tokens) as client:
        with pytest.raises(InvalidMessage, match=problem) as caught:
            await client.save_media("m", path)
    assert (caught.value.field, wire.seen, tokens.ended) == ("path", [], [])
    assert names_in(tmp_path) == ["file"]


async def test_a_folder_that_cant_be_written_is_the_systems_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the folder, not a file that nobody asked for; the connection is given back."""

    def deny(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("desk360_async._downloads.FileIO", deny)
    async with connect(Wire(lambda _: file()), max_connections=1) as client:
        for _ in range(2):
            with pytest.raises(PermissionError) as caught:
                await client.save_media("m", tmp_path / "a")
            assert caught.value.filename == str(tmp_path)


async def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the system's."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("desk360_async._downloads.FileIO", type("F", (io.FileIO,), {"write": full}))
    async with connect(Wire(file())) as client:
        with pytest.raises(OSError, match="No space left"):
            await client.save_media("m", tmp_path)
    assert list(tmp_path.iterdir()) == []


DISPOSITIONS = [
    ("", None),
    ("attachment", None),
    ("attachment; filename=a.png", "a.png"),
    ('attachment; filename="../../etc/passwd"', "passwd"),
    ('attachment; filename="..\\\\..\\\\x.png"', "x.png"),
    ('attachment; filename="%2e%2e%2fx.png"', "x.png"),
    ("attachment; filename*=UTF-8''..%2F%F0%9F%93%A6.png", "📦.png"),
    ("attachment; filename*=klingon''a.png", "a.png"),
    ('attachment; filename=".bashrc"', "bashrc"),
    ('attachment; filename="C:evil.exe"', "C_evil.exe"),
    ('attachment; filename="a.txt:stream"', "a.txt_stream"),
    ('attachment; filename="CON.txt"', "_CON.txt"),
    ('attachment; filename=".."', None),
    ('attachment; filename="a. . "', "a"),
    ('attachment; filename="   "', None),
    (f'attachment; filename="{"é" * 300}.png"', "é" * 75 + ".png"),
    (f'attachment; filename="{"x" * 300}"', "x" * 150),
    ('attachment; filename="a\x00b\x1b.png"', "a_b_.png"),
]


@pytest.mark.parametrize(("disposition", "name"), DISPOSITIONS)
def test_a_name_from_the_server_is_made_harmless(disposition: str, name: str | None) -> None:
    """Ruling 27: base name only; not hidden, no device, not longer than file systems take."""
    assert filename_of(disposition) == name


PIECES = [
    *(
        "..",
        "/",
        "\\",
        "%2e",
        "%2f",
        "%5c",
        "%00",
        "\0",
        "\r\n",
        '"',
        "'",
        ";",
        "=",
        "*",
        ":",
        "C:",
        "~",
        "$HOME",
    ),
    *(
        ".",
        " ",
        "CON",
        "a",
        "é",
        "📦",
        "\u202e",
        "\udcff",
        "filename=",
        "UTF-8''",
        "x" * 300,
        "(",
        "\\\\",
        "//",
        "%",
    ),
]


def hostile(rng: random.Random) -> str:
    """Make up a Content-Disposition."""
    name = "".join(rng.choices(PIECES, k=rng.randint(1, 8)))
    return rng.choice(
        [
            f'attachment; filename="{name}"',
            f"attachment; filename={name}",
            f"attachment; filename*=UTF-8''{name}",
            name,
        ]
    )


def test_ten_thousand_hostile_names_are_one_files_name(tmp_path: Path) -> None:
    """Each is plain, and the file system takes it."""
    rng = random.Random(27)
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in {filename_of(hostile(rng)) for _ in range(10_000)} - {None}:
        assert name is not None
        assert Path(name).name == name
        assert not name.startswith(".")
        (folder / name).touch(exist_ok=False)
    assert names_in(tmp_path) == ["downloads"]


async def test_hostile_names_stay_in_the_folder(tmp_path: Path) -> None:
    """Through the whole of a download, and none replaces another."""
    rng = random.Random(28)
    folder = tmp_path / "downloads"
    folder.mkdir()

    def answer(_: Seen) -> httpx.Response:
        raw = re.sub(rb"[\r\n\0]", b"", hostile(rng).encode("utf-8", "replace"))
        return httpx.Response(200, content=PNG, headers=[(b"content-disposition", raw)])

    async with connect(Wire(answer)) as client:
        for _ in range(100):
            await client.save_media("m", folder)
    assert (names_in(tmp_path), len(names_in(folder))) == (["downloads"], 100)


BOMB = """
import asyncio, resource, zlib, httpx
from desk360_async import AsyncDesk360
# The same block again and again: each ends at a byte's border, and refers to nothing before it.
chunk, crc = bytes(1 << 20), 0
packer = zlib.compressobj(9, zlib.DEFLATED, -15)
block = packer.compress(chunk) + packer.flush(zlib.Z_FULL_FLUSH)
for _ in range(1024):
    crc = zlib.crc32(chunk, crc)
sizes = crc.to_bytes(4, "little") + (1 << 30).to_bytes(4, "little")
packed = bytes.fromhex("1f8b08000000000000ff") + block * 1024 + packer.flush() + sizes
class Body(httpx.AsyncByteStream):
    async def __aiter__(self):
        for start in range(0, len(packed), 65536):
            yield packed[start : start + 65536]
async def main():
    answer = lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Body())
    async with AsyncDesk360("key", integration_id=1, transport=httpx.MockTransport(answer)) as client:
        async with client.open_media("m") as media:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            size = 0
            async for piece in media.aiter_bytes():
                size += len(piece)
        print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
asyncio.run(main())
"""


@pytest.mark.real
@pytest.mark.respx  # a process of its own, without this suite's other HTTP stack
async def test_a_bomb_does_not_grow_in_memory(anyio_backend: Any) -> None:
    """1 GiB out of 1 MiB: at most 16 MiB more."""
    if anyio_backend[0] == "trio":
        pytest.skip("the same process again")
    done = await anyio.run_process([sys.executable, "-c", BOMB])
    size, grown = map(int, done.stdout.split())
    assert size == 1 << 30
    assert grown <= 16 * 1024


async def test_a_bomb_in_an_answer_ends_at_eight_mebibytes() -> None:
    """Ruling 32a: JSON is never that large."""
    packed = zlib.compress(b" " * 20_000_000)
    answer = httpx.Response(200, stream=Drip(packed), headers={"content-encoding": "deflate"})
    async with connect(Wire(answer)) as client:
        with pytest.raises(UnexpectedResponse, match="over 8 MiB"):
            await client.integrations.list()
