"""The feed and the routes over it: numbers without gaps, cursors, event streams that end."""

import json
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import httpx
import pytest

from desk360_async._endpoints import ENDPOINTS
from desk360_async.sandbox import Sandbox
from desk360_async.sandbox.records import Feed

TO = "+905551112233"
KEY = {"Authorization": "Bearer sandbox-key"}
MESSAGES = "/v1/integrations/11/conversations/messages"


@pytest.mark.parametrize(
    ("cursor", "limit", "numbers"),
    [(0, 9, [3, 4, 5]), (3, 9, [4, 5]), (4, 1, [5]), (5, 9, []), (99, 2, [3, 4])],
)
def test_a_cursor_goes_on_where_it_ended(cursor: int, limit: int, numbers: list[int]) -> None:
    """The oldest of five events are forgotten; a cursor of an earlier run reads from the start."""
    feed = Feed(keep=3)
    for n in range(5):
        feed.publish("reset", {"n": n})
    assert [event.number for event in feed.after(cursor, limit)] == numbers


def test_numbers_have_no_gaps_with_many_threads() -> None:
    """Each event gets its own number, in the order of the deque."""
    feed = Feed()
    threads = [
        threading.Thread(target=lambda: [feed.publish("reset", {}) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.number for event in feed.after(0, 9_999)] == list(range(1, 801))


def frames(text: str) -> list[tuple[str, Any]]:
    """Split an event stream into names and values."""
    lines = [frame.split("\n") for frame in text.split("\n\n") if frame.startswith("event")]
    return [(rows[0].removeprefix("event: "), json.loads(rows[-1].removeprefix("data: "))) for rows in lines]


def read_until(url: str, wanted: str, headers: dict[str, str] | None = None) -> list[tuple[str, Any]]:
    """Read an event stream until a text occurs in it."""
    text = ""
    with httpx.stream("GET", f"{url}/_sandbox/events", headers=headers, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for chunk in answer.iter_text():
            text += chunk
            if wanted in text:
                return frames(text)
    raise AssertionError("the stream ended")


@pytest.mark.real
def test_an_event_stream_tells_all_that_happened() -> None:
    """First the settings, then the events, then the state; the last id goes on where it ended."""
    sandbox = Sandbox(delivered_after=0.0, read_after=None)
    with sandbox.serve_in_thread() as running:
        httpx.post(f"{running.url}{MESSAGES}", headers=KEY, json={"to": TO, "text": "Hi"})
        told = read_until(running.url, '"used"')
        events = [event["event"] for name, value in told if name == "events" for event in value["events"]]
        again = read_until(running.url, '"used"', {"Last-Event-ID": str(sandbox.feed.last)})
    assert [name for name, _ in told] == ["hello", "events", "state"]
    assert sorted(events) == ["message", "request", "status"]
    assert [name for name, _ in again] == ["hello", "state"]
    paths = again[0][1]["paths"]  # by which the page copies a message as a request
    sends = {one.name.removeprefix("send_"): one for one in ENDPOINTS if one.name.startswith("send_")}
    assert paths == {kind: one.path.partition("conversations")[2] for kind, one in sends.items()}


@pytest.mark.real
def test_the_state_does_not_wait_for_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form without its values sent nothing in the page's first tenth of a second, and said nothing."""
    monkeypatch.setattr("desk360_async.sandbox.control._POLL", 60)
    with Sandbox(limit=7).serve_in_thread() as running:
        told = read_until(running.url, '"used"')
    assert [name for name, _ in told] == ["hello", "state"]
    assert told[1][1]["limit"]["limit"] == 7


@pytest.mark.real
def test_a_message_is_read_after_it_was_delivered_with_several_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread that settles meanwhile waits for its turn."""
    sandbox = Sandbox(delivered_after=0.0, read_after=0.0)
    publish = sandbox.feed.publish

    def slowly(kind: Any, value: Any) -> None:
        if kind == "status" and value["status"] == "delivered":
            others.append(threading.Thread(target=sandbox.webhooks.settle))
            others[0].start()
            others[0].join(0.2)
        publish(kind, value)

    others: list[threading.Thread] = []
    monkeypatch.setattr(sandbox.feed, "publish", slowly)
    sandbox._store.take(TO, "text", 11, text="Hi")
    others[0].join()
    statuses = [event.value["status"] for event in sandbox.feed.after(0, 9) if event.kind == "status"]
    assert statuses == ["delivered", "read"]


@pytest.mark.anyio
async def test_a_body_of_many_levels_is_logged_in_part() -> None:
    """PHP reads 512 levels, and the request is answered by its rules."""
    sandbox = Sandbox()
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=KEY) as client:
        body = b'{"to": ' + b"[" * 510 + b"]" * 510 + b"}"
        headers = {"Content-Type": "application/json"}
        assert (await client.post(MESSAGES, content=body, headers=headers)).status_code == 400
        (entry,) = (await client.get("/_sandbox/requests")).json()
    assert json.dumps(entry["body"], ensure_ascii=False) == '{"to": ' + "[" * 99 + '"…"' + "]" * 99 + "}"


@pytest.mark.anyio
async def test_routes_change_statuses_and_resend_and_reseed() -> None:
    """With the reason where something is missing."""
    sandbox = Sandbox(webhook=_swallow)
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox/_sandbox") as client:
        await client.post(f"http://sandbox{MESSAGES}", headers=KEY, json={"to": TO, "text": "Hi"})
        sent = sandbox.received[0].message_id
        answers = [
            await client.post(f"/messages/{sent}/status", json={"status": "read"}),
            await client.post("/messages/x/status", json={"status": "read"}),
            await client.post("/webhooks/1/resend", json={}),
            await client.put("/seed", json={"seed": 5}),
            await client.put("/seed", json={"seed": "x"}),
            await client.post("/faults", json={"preset": "flaky"}),
            await client.post("/faults", json={"preset": "x"}),
            await client.delete("/faults?kind=slow", headers={"Content-Type": "application/json"}),
            await client.get("/media/none"),
            await client.get("/page/none"),
        ]
    assert [answer.status_code for answer in answers] == [202, 400, 404, 200, 400, 201, 400, 204, 404, 404]
    assert [fault.kind for fault in sandbox.faults] == ["status", "reset_before", "reset_after"]


async def _swallow(_body: bytes) -> None:
    """Take a webhook."""


@pytest.mark.anyio
async def test_an_uploaded_file_is_served_as_an_attachment() -> None:
    """With its own type, and without sniffing: a page of a customer can't run here."""
    sandbox = Sandbox()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(sandbox.app), base_url="http://sandbox", headers=KEY
    ) as client:
        files = {"attachments[]": ("a.html", b"<script>alert(1)</script>", "text/html")}
        await client.post(f"{MESSAGES}/medias", data={"to": TO}, files=files)
        answer = await client.get(f"/_sandbox/media/{sandbox.received[0].content}")
    assert (answer.headers["Content-Disposition"], answer.headers["X-Content-Type-Options"]) == (
        "attachment",
        "nosniff",
    )


_SCRIPT = """
from desk360_async.sandbox import Sandbox, run
run(Sandbox(), port=0, on_start=lambda server: print(server.url, flush=True))
"""


@pytest.mark.real
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C can't be sent to one process on Windows")
def test_ctrl_c_ends_an_open_event_stream_at_once() -> None:
    """Uvicorn alone would wait its 3 seconds for it."""
    with subprocess.Popen([sys.executable, "-c", _SCRIPT], stdout=-1, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.stream("GET", f"{url}/_sandbox/events", timeout=10) as answer:
            chunks = answer.iter_text()
            next(chunks)
            began = time.perf_counter()
            process.send_signal(signal.SIGINT)
            for _ in chunks:
                pass
        assert process.wait(timeout=10) == 0
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ([], "is needed"),
        ({"facts": 5}, "is needed"),
        ({"version": 2, "facts": {}}, "is needed"),
        ({"facts": {"24.status": 500}}, "invalid_status"),
        ({"facts": {"28.page_size": "x"}}, "like: "),
        ({"facts": {"32.window": "x"}}, "window"),
    ],
)
def test_facts_that_make_no_sense_are_named(facts: Any, message: str, tmp_path: Any) -> None:
    """As a mapping and as a file."""
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=message):
        Sandbox(like=tmp_path / "facts.json")


def test_a_file_of_facts_that_is_not_json_is_named(tmp_path: Any) -> None:
    """With its path."""
    (tmp_path / "facts.json").write_text("{")
    with pytest.raises(ValueError, match=r"facts\.json: not a JSON file"):
        Sandbox(like=tmp_path / "facts.json")


def test_a_sandbox_behaves_like_the_server_of_the_facts() -> None:
    """422 in Laravel's shape, other pages, no rate headers, another limit; unknown keys are skipped."""
    facts = {"24.status": 422, "28.page_size": 5, "29.headers": False, "29.limit": 9, "32.window": "aligned",
             "32.period": 30, "99.unknown": 1}  # fmt: skip

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(sandbox.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=KEY) as client:
            path = "/v1/integrations/11/conversations/templates"
            return await client.post(MESSAGES, json={"to": TO, "text": ""}), await client.get(path)

    sandbox = Sandbox(like={"version": 1, "facts": facts})
    refused, page = anyio.run(ask)
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["text"])
    assert (len(page.json()), "X-RateLimit-Limit" in page.headers) == (5, False)
    throttle = sandbox.throttle
    assert (throttle.limit, throttle.rule, throttle.period) == (9, "aligned", 30)


@pytest.mark.parametrize("window", ["first_hit", "aligned", "sliding_log", "token_bucket"])
def test_the_limit_can_be_looked_at_without_counting(window: Any) -> None:
    """Used requests, and when the window ends."""
    sandbox = Sandbox(limit=3, window=window)
    assert (sandbox.throttle.status()["used"], sandbox.throttle.status()["ends"]) == (0, None)
    sandbox.spend(2)
    status = sandbox.throttle.status()
    assert (status["used"], (status["ends"] is None) == (window == "token_bucket")) == (2, True)
    sandbox.spend(2)
    assert sandbox.throttle.status()["used"] == 3
