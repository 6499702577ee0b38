"""`desk360 sends` and `desk360 inbox`: what is kept in files for a person to decide."""

import json
from pathlib import Path

import anyio
import pytest

from desk360_async.sandbox import Fault
from desk360_async.testing import webhook_sample
from desk360_async.webhooks import SQLiteInbox, WebhookReceiver

from .conftest import SECRET, Desk360, Server

pytestmark = pytest.mark.real
TO = "+905551112233"


def test_a_send_under_a_key_is_sent_once(desk360: Desk360, server: Server, tmp_path: Path) -> None:
    """The same command again prints the stored reply."""
    words = (
        "send",
        "text",
        TO,
        "hi",
        "--key",
        "order-1",
        "--log",
        tmp_path / "s.db",
        "--base-url",
        server.url,
    )
    first, again = desk360(*words), desk360(*words)
    assert (first.code, again.code, len(server.sandbox.received)) == (0, 0, 1)
    assert "Accepted before, under this key: " in again.out
    assert desk360(*words, "--json").json[0]["replayed"] is True


@pytest.mark.parametrize(("how", "sent"), [("--resend", 2), ("--not-sent", 2), ("--accepted", 1)])
def test_an_unknown_send_waits_for_a_decision(
    desk360: Desk360, server: Server, tmp_path: Path, how: str, sent: int
) -> None:
    """It is listed until then; the next send under the key obeys."""
    log = ("--log", tmp_path / "s.db")
    words = ("send", "text", TO, "hi", "--key", "order-1", *log, "--base-url", server.url)
    server.sandbox.faults.add(Fault("reset_after", times=1))
    assert (desk360(*words).code, desk360(*words).code) == (4, 4)
    listed = desk360("sends", "list", *log)
    assert (listed.code, "order-1" in listed.out) == (4, True)
    assert desk360("sends", "list", *log, "--json").json[0]["key"] == "order-1"
    assert desk360("sends", "resolve", "order-1", how, *log).code == 0
    assert desk360("sends", "list", *log).code == 0
    assert (desk360(*words).code, len(server.sandbox.received)) == (0, sent)


def test_a_decision_is_one_and_a_log_is_named(desk360: Desk360, tmp_path: Path) -> None:
    """Both are found before a file is made."""
    assert "give one of --resend" in desk360("sends", "resolve", "k", "--resend", "--accepted").err
    assert "add --log PATH" in desk360("sends", "list").err
    assert "add --log PATH" in desk360("sends", "list", "--unknown").err
    assert desk360("sends", "resolve", "k", "--resend", "--log", tmp_path / "s.db", "--json").code == 2


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An inbox with one event that was given up."""
    file = tmp_path / "inbox.db"

    async def fail(event: object) -> None:
        raise RuntimeError

    async def receive() -> None:
        kept = SQLiteInbox(file)
        receiver = WebhookReceiver(secret=SECRET, inbox=kept, attempts=1)
        receiver.on_message(fail)
        async with receiver:
            await receiver.receive(SECRET, {}, webhook_sample("text"))
            while not await kept.dead_letters():
                await anyio.sleep(0.01)

    anyio.run(receive)
    return file


def test_an_event_that_was_given_up_is_listed_and_retried(desk360: Desk360, inbox: Path) -> None:
    """The list masks phones, and its code is 3 while there is one."""
    listed = desk360("inbox", "list", inbox)
    assert (listed.code, "1 attempts, RuntimeError: TextReceived" in listed.out) == (3, True)
    (shown,) = desk360("inbox", "list", inbox, "--json").json
    assert (shown["error"], json.loads(webhook_sample("text")).popitem()[1]) == (
        "RuntimeError",
        shown["event"],
    )
    assert desk360("inbox", "retry", inbox, "999").code == 3
    assert desk360("inbox", "retry", inbox, shown["row"]).out == "1 events are handled again.\n"
    assert desk360("inbox", "list", inbox).code == 0


@pytest.mark.parametrize("name", ["none.db", "."])
def test_an_inbox_that_is_not_there_is_named(desk360: Desk360, tmp_path: Path, name: str) -> None:
    """No file is made."""
    run = desk360("inbox", "list", tmp_path / name)
    assert (run.code, "name the inbox's file" in run.err, [*tmp_path.iterdir()]) == (2, True, [])


def test_a_mistyped_send_log_is_refused_and_not_made(desk360: Desk360, tmp_path: Path) -> None:
    """An empty new log would say that no send is unknown."""
    run = desk360("sends", "list", "--log", str(tmp_path / "snds.db"))
    assert (run.code, "there is no such file" in run.err, list(tmp_path.iterdir())) == (2, True, [])
