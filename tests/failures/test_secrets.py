"""The key and whole phones are in nothing that 10,000 calls and failures print, log, pickle or raise."""

import logging
import pickle
import random
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    ConfigurationError,
    Contact,
    ContactName,
    ContactPhone,
    Desk360Error,
    RetryPolicy,
    SendResult,
    TokenBucket,
)
from desk360_async._redaction import Redaction, redact_logs
from tests.failures.virtual import run

CALLS = 10_000
KEY = "1234|QwErTyUiOpAsDfGhJkLzXcVbNm0123456789abcd"
MESSAGE_ID = "gBEGkFVVNDVngCBgYkFVV01"
SOURCE = str(Path(__file__).parents[2] / "desk360_async")


class Chaos:
    """A server that answers and fails at random, and tells everybody what it was told."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer, or fail."""
        echo = (
            f"{request.headers['authorization']} {request.content.decode('utf-8', 'replace')} {request.url}"
        )
        phone = re.search(r"\+90(\d{10})", echo)
        local = phone[1] if phone else "5550000000"
        said = self.random.choice(
            [echo, f"0{local}", f"+90 {local[:3]} {local[3:6]} {local[6:8]} {local[8:]}"]
        )
        kinds = (httpx.ReadError, httpx.ConnectError, httpx.ReadTimeout, httpx.ProxyError, RuntimeError)
        if self.random.random() < 0.2:
            raise self.random.choice(kinds)("it broke")
        status = self.random.choice([200, 200, 200, 302, 400, 401, 403, 404, 422, 500, 502, 503, 600])
        return httpx.Response(status, headers=self.headers(said), content=self.body(said))

    def headers(self, said: str) -> dict[str, str]:
        """Return headers that may echo."""
        headers = {"content-type": self.random.choice(["application/json", "text/html"])}
        if self.random.random() < 0.3:
            headers["x-debug"] = re.sub(r"[^ -~]", "?", said)
            headers["location"] = "https://elsewhere.example/?k=" + KEY.replace("|", "%7C")
        return headers

    def body(self, said: str) -> bytes:
        """Return a body of any shape."""
        import json

        shapes: list[Any] = [
            {"message_id": MESSAGE_ID},
            {"error": {"code": said, "message": f"{said} {MESSAGE_ID}", "doc_url": said}},
            {"message": said, "errors": {said: [said], "to": said}},
            {"phones": [said], "medias": {"images": [{"media_id": "m-77", "message_id": MESSAGE_ID}]}},
            [{"name": said}],
            said,
        ]
        shape = self.random.choice([*shapes, None])
        return f"<h1>{said}</h1>".encode() if shape is None else json.dumps(shape).encode()


def client_of(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> AsyncDesk360:
    """Return a client of a server that is a function."""
    return AsyncDesk360(
        KEY,
        integration_id=1,
        base_url="https://api.example",
        transport=httpx.MockTransport(answer),
        retry=RetryPolicy(attempts=2),
        limiter=TokenBucket(limit=10_000, period=1.0),
        **options,
    )


async def one_call(client: AsyncDesk360, index: int, phone: str) -> Any:
    """Make a call of one of many kinds."""
    card = Contact(ContactName("A", "B", "C"), phones=[ContactPhone(phone)])
    calls = [
        lambda: client.send_text(phone, "x"),
        lambda: client.send_template(phone, 1, language=2),
        lambda: client.send_template_bulk([phone, "+905550000001"], 1, language=2),
        lambda: client.send_contacts(phone, [card]),
        lambda: client.send_media(phone, [Attachment.from_bytes("a.jpg", b"x")]),
        lambda: client.mark_read(phone, [MESSAGE_ID]),
        lambda: client.integrations.list(),
        lambda: client.templates.list(),
        lambda: client.request("POST", f"/contacts/{phone}", json={"phone": phone}),
        lambda: client.read_media("m-77"),
        lambda: client.send_text(phone, ""),
        lambda: client.send_text(phone.replace("+", "(0)"), "x"),
        lambda: client.send_template_bulk([phone, "letters"], 1, language=2),
        lambda: client.send_template_bulk(phone, 1, language=2),
    ]
    return await calls[index % len(calls)]()


def shows(error: BaseException) -> Iterator[str]:
    """Yield all that an error shows, or gives to those who look inside."""
    yield "".join(traceback.format_exception(error))
    yield repr(error)
    yield repr({name: value for name, value in vars(error).items() if name != "outcome"})
    yield pickle.dumps(error).decode("latin-1")


def shows_locals(error: BaseException) -> str:
    """Return what a traceback with local variables shows of our own frames."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_code.co_filename.startswith(SOURCE)]
    return "".join(f"{name}={value!r}" for frame in ours for name, value in frame.f_locals.items())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """All that is logged at DEBUG, with our filter on the HTTP stack's loggers."""
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, handler = logging.getLogger(), Keeping()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    redact_logs(KEY)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def test_search(
    logged: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 hits for the key, the phones and message ids; the caller's own arguments are his."""
    monkeypatch.setattr(
        "linecache.checkcache", lambda *_: None
    )  # it looks at each source file again and again
    # Carets add nothing to the text, and are found by parsing each line.
    monkeypatch.setattr("traceback._extract_caret_anchors_from_line_segment", lambda _: None, raising=False)
    shown: list[tuple[str, str]] = []
    ends: list[SendResult] = []

    async def work() -> None:
        client = client_of(Chaos(360), on_result=ends.append)
        for index in range(CALLS):
            phone = f"+90555{index:07d}"
            try:
                reply = await one_call(client, index, phone)
            except Desk360Error as error:
                shown.extend((phone, text) for text in shows(error))
            else:
                shown.append((phone, repr(reply)))
            shown.extend((phone, repr(end)) for end in ends)
            ends.clear()
        shown.append(("", repr(client)))
        await client.aclose()

    run(work)
    out = capfd.readouterr()
    everything = [text for _, text in shown] + logged + [out.out, out.err]
    assert len(everything) > 4 * CALLS
    hits = [text for text in everything if KEY.partition("|")[2] in text]
    hits += [text for text in everything if MESSAGE_ID in text]
    hits += [text for phone, text in shown if phone and phone[3:] in re.sub(r"[ ().-]", "", text)]
    hits += [line for line in logged if re.search(r"555[0-9]{7}", line)]
    print(
        f"{len(everything):,} texts of {CALLS:,} calls searched, "
        f"{len(logged):,} of them log lines: {len(hits)} hits"
    )
    assert not hits, hits[0]


# The kinds of `one_call` that send to a phone.
PHONE_IS_MASKED = (0, 1, 2, 3, 4, 5, 10, 12, 13)


@pytest.mark.parametrize("kind", range(14))
@pytest.mark.parametrize("status", [0, 307, 422, 500])
def test_local_variables(kind: int, status: int) -> None:
    """A traceback that shows our frames' local variables doesn't show the key."""

    def answer(request: httpx.Request) -> httpx.Response:
        if not status:
            raise httpx.ReadError("it broke")
        return httpx.Response(status, json={"message": "no"})

    async def work() -> str:
        async with client_of(answer) as client:
            try:
                await one_call(client, kind, "+905551234567")
            except Desk360Error as error:
                return shows_locals(error)
        return ""

    shown = run(work)
    assert "self=" in shown
    assert KEY.partition("|")[2] not in shown
    if kind in PHONE_IS_MASKED:
        assert "5551234567" not in shown


@pytest.mark.parametrize("environ", [False, True])
@pytest.mark.parametrize("key", ["s3cretS3cret\nx", "\u00e9s3cretS3cret", "Bearer \u00e9s3cretS3cret"])
def test_a_refused_key_is_in_no_frame(key: str, environ: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback with local variables doesn't show it, nor does the environment that it came from."""
    if environ:
        monkeypatch.setenv("DESK360_API_KEY", key)
    with pytest.raises(ConfigurationError) as caught:
        AsyncDesk360(None if environ else key)
    assert "s3cret" not in shows_locals(caught.value)


@pytest.mark.parametrize("name", ["DESK360_BASE_URL", "DESK360_INTEGRATION_ID"])
def test_a_refused_variable_does_not_show_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key stands in the same environment."""
    monkeypatch.setenv("DESK360_API_KEY", KEY)
    monkeypatch.setenv(name, "nonsense")
    with pytest.raises(ConfigurationError) as caught:
        AsyncDesk360()
    assert KEY not in shows_locals(caught.value)


def test_proxy_password_is_not_shown() -> None:
    """A proxy's URL may hold a password: a wrong one isn't repeated, nor is a wrong key."""
    for options in (
        {"proxy": "nonsense://u:s3cret@p"},
        {"api_key": "s3cret\nx"},
        {"base_url": "https://u:s3cret@h"},
    ):
        with pytest.raises(ConfigurationError) as caught:
            AsyncDesk360(**{"api_key": "k", **options})
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "httpcore2.proxy"])
def test_filter(name: str, logged: list[str]) -> None:
    """The filter masks arguments and tracebacks, and lets every record pass."""
    try:
        raise RuntimeError(f"{KEY} +905551234567")
    except RuntimeError:
        logging.getLogger(name).warning(
            "to %s: Bearer abc.def %s", "+905551234567", MESSAGE_ID, exc_info=True
        )
    assert "to +…4567: Bearer [key] …VV01" in logged[-1]
    assert "RuntimeError: 1234|[key] +…4567" in logged[-1]


def test_filter_is_installed_once() -> None:
    """Installing it again replaces it."""
    redact_logs("a" * 20)
    redact_logs(KEY)
    filters = [f for f in logging.getLogger("httpx").filters if isinstance(f, Redaction)]
    assert len(filters) == 1
