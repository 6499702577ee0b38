"""`desk360 listen` and `desk360 trigger`: webhooks in the terminal, with each other and the sandbox."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from desk360_async.cli._terminal import Terminal
from desk360_async.cli.serve import _showing
from desk360_async.testing import WEBHOOKS, webhook_sample
from desk360_async.webhooks import MessageReceived, StatusUpdate, UnknownEvent, parse

from .conftest import SECRET, Desk360, Start

pytestmark = pytest.mark.real


@pytest.mark.parametrize("kind", WEBHOOKS)
def test_each_example_can_be_triggered(desk360: Desk360, hook: Any, kind: str) -> None:
    """As an event from a number that can be answered, and never the same twice."""
    url, app = hook
    for _ in range(2):
        run = desk360("trigger", kind, "--to", url, "--phone", "+4915112345678")
        assert (run.code, run.out) == (0, f"{kind} from …5678: HTTP 200\n")
    first, second = (event for body in app.got for event in parse(body))
    assert isinstance(first, StatusUpdate if kind == "status" else MessageReceived)
    assert (first.phone, first.id == second.id) == ("+4915112345678", False)


def test_an_unknown_kind_can_be_triggered(desk360: Desk360, hook: Any) -> None:
    """To see whether the app is ready for it."""
    url, app = hook
    assert desk360("trigger", "unknown", "--to", url).code == 0
    (event,) = parse(app.got[0])
    assert isinstance(event, UnknownEvent)


def test_what_is_said_can_be_chosen(desk360: Desk360, hook: Any) -> None:
    """The text, and the status."""
    url, app = hook
    desk360("trigger", "text", "--to", url, "--text", "Nerede? 📦")
    desk360("trigger", "status", "--to", url, "--status", "read")
    events = [json.loads(body) for body in app.got]
    assert (events[0]["messages"]["text"], events[1]["statuses"]["status"]) == ("Nerede? 📦", "read")


@pytest.mark.parametrize("kind", WEBHOOKS)
def test_an_example_can_go_word_for_word(desk360: Desk360, hook: Any, kind: str) -> None:
    """Byte by byte as in the document."""
    url, app = hook
    run = desk360("trigger", kind, "--to", url, "--verbatim")
    assert (run.out, app.got) == (f"{kind} as in the document: HTTP 200\n", [webhook_sample(kind)])


@pytest.mark.parametrize(("status", "code"), [(204, 0), (404, 3), (503, 3)])
def test_the_apps_answer_is_the_result(desk360: Desk360, hook: Any, status: int, code: int) -> None:
    """In words, in JSON and in the exit code."""
    url, app = hook
    app.status = status
    run = desk360("trigger", "text", "--to", url, "--json")
    assert (run.code, run.json[0]["status"]) == (code, status)


def test_nobody_there_is_said(desk360: Desk360) -> None:
    """With a guess why."""
    run = desk360("trigger", "text", "--to", "http://127.0.0.1:1/hook")
    assert (run.code, run.out, run.err) == (3, "", "no answer: is your web app running there?\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("trigger", "text", "--to", "127.0.0.1:8000"), "--to: a URL like http://127.0.0.1:8000"),
        (("trigger", "text", "--to", "https://example.test/"), "pass --allow-remote if you mean it"),
        (("listen", "--host", "0.0.0.0"), "add --allow-remote if you mean it"),
        (("listen", "--port", "0", "--secret", "a/b"), "secret"),
        (("sandbox", "--webhook", "https://example.test/"), "pass --allow-remote-webhook if you mean it"),
    ],
)
def test_what_can_not_be_is_refused(desk360: Desk360, words: tuple[str, ...], problem: str) -> None:
    """With the fix."""
    run = desk360(*words)
    assert (run.code, problem in run.err) == (2, True)


def test_what_is_triggered_is_heard(desk360: Desk360, start: Start, tmp_path: Path) -> None:
    """Each event on a line, masked; recorded whole; repeats are counted; Ctrl-C ends it well."""
    record = tmp_path / "events.jsonl"
    listener = start("listen", "--port", "0", "--secret", SECRET, "--record", str(record))
    url = listener.line().split()[2].rstrip(";")
    assert url.endswith(f"/{SECRET}")
    for kind in ("text", "status", "unknown"):
        assert desk360("trigger", kind, "--to", url, "--text", "Hello 📦").code == 0
    heard = [listener.line().split("  ", 1)[1] for _ in range(3)]
    assert heard[0] == "message   text from …2233: Hello 📦"
    assert heard[1].startswith("status    delivered to …2233, trigger-")
    assert heard[2].startswith('unknown   {"calls": ')
    assert '"from": "…2233"' in heard[2]
    for _ in range(2):
        desk360("trigger", "text", "--to", url, "--verbatim")
    assert listener.line().endswith(": Hello")
    assert desk360("trigger", "text", "--to", url.replace(SECRET, "another")).code == 3
    assert listener.stop() == (0, "\n5 events, 1 of them repeats.\n")
    rows = [json.loads(line) for line in record.read_text("utf-8").splitlines()]
    assert [row["kind"] for row in rows] == ["TextReceived", "StatusUpdate", "UnknownEvent", "TextReceived"]
    assert rows[0]["event"]["from"] == "905551112233"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listening_ends_with_ctrl_c(desk360: Desk360, host: str) -> None:
    """In this process: the URL is told with a secret of its own, and what was heard is counted."""
    shown = f"[{host}]" if ":" in host else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as free:
        port = free.getsockname()[1]

    def press() -> None:
        # An answer shows that the server has begun, and with it its care for the signal.
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://{shown}:{port}/")
                os.kill(os.getpid(), signal.SIGINT)
                return

    presser = threading.Thread(target=press)
    presser.start()
    run = desk360("listen", "--host", host, "--port", port)
    presser.join()
    assert re.match(
        rf"Webhooks for http://{re.escape(shown)}:{port}/[\w-]{{32}}; Ctrl-C stops it\.\n", run.out
    )
    assert (run.code, run.err) == (0, "\n0 events, 0 of them repeats.\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text", "message   text from …xxxx: Hello"),
        ("image", "message   image from …xxxx"),
        ("status", "status    delivered|read to …xxxx, gBEG"),
    ],
)
@pytest.mark.anyio
async def test_events_are_shown_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, words: str
) -> None:
    """A line each, and the whole of it in the record."""
    with (tmp_path / "record").open("a", encoding="utf-8") as record:
        receiver = _showing(Terminal(), SECRET, record)
        async with receiver:
            await receiver.receive(SECRET, {}, webhook_sample(name))
    assert words in capsys.readouterr().out
    (kept,) = (json.loads(line)["event"] for line in (tmp_path / "record").read_text("utf-8").splitlines())
    assert kept in json.loads(webhook_sample(name)).values()


@pytest.mark.anyio
async def test_events_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines as in the record."""
    receiver = _showing(Terminal(json=True), SECRET, None)
    async with receiver:
        await receiver.receive(SECRET, {}, b'{"calls": {"id": "1"}}')
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["kind"], json.loads(line)["event"]) == ("UnknownEvent", {"calls": {"id": "1"}})


def test_the_sandbox_is_heard(start: Start) -> None:
    """What became of a message, and what a customer writes, from one command to the other."""
    listener = start("listen", "--port", "0", "--json")
    url = listener.process.stderr.readline().split()[2].rstrip(";") if listener.process.stderr else ""
    sandbox = start(
        "sandbox", "--port", "0", "--webhook", url, "--delivered-after", "0", "--read-after", "0.1"
    )
    server = sandbox.line().split()[6].rstrip(";")
    headers = {"Authorization": "Bearer sandbox-key"}
    body = {"to": "+905551112233", "text": "Hello!"}
    httpx.post(
        f"{server}/v1/integrations/11/conversations/messages", json=body, headers=headers
    ).raise_for_status()
    heard = [json.loads(listener.line()) for _ in range(2)]
    assert [row["event"]["status"] for row in heard] == ["delivered", "read"]
    httpx.post(f"{server}/_sandbox/reply", json={"phone": "+905551112233", "text": "Hi"}).raise_for_status()
    assert json.loads(listener.line())["event"]["text"] == "Hi"
    assert (sandbox.stop()[0], listener.stop()[0]) == (0, 0)
