"""Each command against the sandbox over TCP: for people, and as JSON with nothing else on stdout."""

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from desk360_async import AsyncDesk360, cli
from desk360_async.campaigns import LedgerError
from desk360_async.campaigns._storage import LedgerFile
from desk360_async.cli import script, send
from desk360_async.sandbox import Fault, StoredMedia

from .conftest import LEAVES, SECRET, Desk360, Server, Start, interrupting

pytestmark = pytest.mark.real

TO = "+905551112233"
LANGUAGE = ("--language", "English")
PLACE = ("--latitude", "41.04", "--longitude", "29.02", "--name", "Shop", "--address", "Beşiktaş")
FROM_A_LIST = ("--template", "birthday", *LANGUAGE, "--map", "body-1=name")
# Words behind each command, what a person reads on stdout, and what the JSON there holds.
RUNS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "send text": ((TO, "hi"), "Accepted: ", "message_id"),
    "send template": ((TO, "welcome", *LANGUAGE), "Accepted: ", "message_id"),
    "send list": (("people.csv", *FROM_A_LIST), "3 accepted, 0 not sent, 0 unknown", "message_id"),
    "send media": ((TO, "people.csv"), "people.csv (document)", "medias"),
    "send location": ((TO, *PLACE), "Accepted: ", "message_id"),
    "send contact": ((TO, "--name", "Ada Lovelace"), "Accepted: ", "message_id"),
    "send interactive": ((TO, "Well?", "--button", "y=Yes"), "Accepted: ", "message_id"),
    "send location-request": ((TO, "Where?"), "Accepted: ", "message_id"),
    "campaign plan": (("autumn", "people.csv", *FROM_A_LIST), "3 recipients, 3 to be sent", "bulk_requests"),
    "campaign run": (("spring",), "3 accepted · 0 not sent · 0 unknown", "accepted"),
    "campaign resume": (("spring",), "3 accepted · 0 not sent · 0 unknown", "accepted"),
    "campaign status": (("spring",), "0 accepted · 0 not sent · 0 unknown · 3 pending", "pending"),
    "campaign report": (("spring",), "0 accepted · 0 not sent · 0 unknown · 3 pending", "pending"),
    "campaign resolve": (("spring", "--sent", "--all"), "0 accepted · 0 not sent", "pending"),
    "templates list": ((), "78  welcome ", "translations"),
    "templates show": (("welcome",), "welcome (78)", "translations"),
    "integrations": ((), "11  YourIntegration1  +905554443322", "id"),
    "read": ((TO, "gBEG1"), "Marked as read: 1 of 1", "message_ids"),
    "media save": (("kept",), "note.txt (5 bytes)", "bytes"),
    "limits": ((), "requests a period", "server"),
}  # fmt: skip
# Not 0, since nobody was sent to yet.
CODES = {"campaign report": 3}
# What makes its own server, or is one; the tests below run them.
OTHERS = {
    *("campaign pause", "campaign proceed", "campaign stop"),
    *("campaign watch", "customers export", "customers opt-in", "customers opt-out", "customers show"),
    *("db check", "db init", "db migrate", "demo", "docs", "doctor", "forget", "inbox list", "inbox retry"),
    *("listen", "new", "otel dashboard", "sandbox", "sends list", "sends resolve", "trigger", "worker"),
}


@pytest.fixture
def harness(
    desk360: Desk360, server: Server, people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Server:
    """A sandbox that the environment names, with a file to be had, a list, and a campaign that is planned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DESK360_BASE_URL", server.url)
    server.sandbox.media.put(StoredMedia("kept", 11, "note.txt", "text/plain", b"hello"))
    assert desk360("campaign", "plan", "spring", people, *FROM_A_LIST).code == 0
    return server


def failing_at(number: int) -> Callable[..., Any]:
    """Return a `_once` that fails from its n-th call on, as on a disk that is full."""
    once, calls = LedgerFile._once, 0

    async def work(self: LedgerFile, run: Any, what: Callable[..., Any], *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < number:
            return await once(self, run, what, *given)
        self.failure = sqlite3.OperationalError("disk I/O error")
        raise LedgerError(self.explain(self.failure))

    return work


def test_each_command_is_run_here() -> None:
    differing = {*RUNS, *OTHERS} ^ {*LEAVES}
    assert not differing, f"mend RUNS in tests/cli/test_each_command.py: {differing}"


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("command", RUNS)
def test_for_people(desk360: Desk360, command: str) -> None:
    """The result is on stdout, where it leads on stderr."""
    words, expected, _ = RUNS[command]
    run = desk360(*command.split(), *words)
    assert (run.code, expected in run.out) == (CODES.get(command, 0), True)
    offline = command in ("campaign status", "campaign report", "campaign resolve")
    assert run.err.startswith("Not live: requests go to the sandbox at") is not offline
    assert TO not in run.out + run.err


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("command", RUNS)
def test_as_json(desk360: Desk360, command: str) -> None:
    """One object, or one a line, and nothing else on stdout."""
    words, _, field = RUNS[command]
    run = desk360(*command.split(), *words, "--json")
    assert run.code == CODES.get(command, 0)
    assert run.json
    assert all(field in value for value in run.json)


def test_the_demo_as_json(desk360: Desk360) -> None:
    """The list's results, the plan, the batches and the end."""
    rows = desk360("demo", "--count", "5", "--campaign", "300", "--json").json
    assert [row["line"] for row in rows if "line" in row] != []
    assert [row["recipients"] for row in rows if row.get("name") == "demo"] == [300]
    assert rows[-1]["accepted"] == 300


@pytest.mark.usefixtures("harness")
def test_a_campaign_is_watched_and_reported_as_a_page(desk360: Desk360, start: Start, tmp_path: Path) -> None:
    """The page is on this machine; the file has the same numbers, and no phone."""
    ledger = str(tmp_path / "spring.db")
    command = start("campaign", "watch", "spring", "--ledger", ledger)
    url = command.line().split(" at ")[1].split(";")[0]
    assert httpx.get(url).text.startswith("<!doctype html>")
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 421
    assert command.stop()[0] == 0
    assert desk360("campaign", "report", "spring", "--ledger", ledger, "--html", "r.html").code == 3
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert ("3 recipients" in text, TO in text) == (True, False)


def test_the_sandbox_as_json(start: Start) -> None:
    """Where it listens, on a line that a script can wait for."""
    command = start("sandbox", "--port", "0", "--json", "--limit", "7")
    said = json.loads(command.line())
    assert said["url"].startswith("http://127.0.0.1:")
    assert (said["api_key"], said["integrations"], said["limit"]) == ("sandbox-key", [11, 22], 7)
    httpx.get(f"{said['url']}/_sandbox/received")  # until it answers, it doesn't care for signals either
    assert command.stop()[0] == 0


def test_the_container_s_command_starts_a_sandbox_that_other_machines_reach(start: Start) -> None:
    """As `.docker/sandbox.Dockerfile` starts it; the lines to copy name an address of this machine."""
    text = (Path(__file__).parents[2] / ".docker" / "sandbox.Dockerfile").read_text(encoding="utf-8")
    words = json.loads(text.partition("ENTRYPOINT")[2])
    command = start(*words[1:], "--port", "0")
    first = command.line()
    assert first.startswith("A sandbox for Desk360 listens at http://0.0.0.0:")
    lines = [command.line() for _ in range(6)]
    url = lines[-1].removeprefix("export DESK360_BASE_URL=")
    assert url.startswith("http://127.0.0.1:")
    asked = httpx.get(f"{url}/_sandbox/received", headers={"Host": "sandbox"})
    assert (asked.status_code, command.stop()[0]) == (200, 0)


@pytest.mark.parametrize("command", ["sandbox", "listen"])
def test_a_port_that_is_taken_is_named(desk360: Desk360, server: Server, command: str) -> None:
    """In one line, with the option that mends it."""
    port = server.url.rpartition(":")[2]
    run = desk360(command, "--port", port)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"desk360: --host 127.0.0.1 --port {port}: Address already in use\n"


# ── what a campaign's commands say beside ──────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("harness")
def test_a_dry_run_shows_the_requests(desk360: Desk360) -> None:
    """Whole, as nothing else does: that is what it is asked for."""
    run = desk360("campaign", "plan", "spring", "people.csv", *FROM_A_LIST, "--dry-run")
    assert run.out.count("POST /v1/integrations/11/conversations/templates/send\n") == 3
    assert '[{"phone": "+905551110001", "parameters": {"body-1": "Ada"}}]' in run.out


def test_the_way_on_has_what_a_campaign_needs_again(
    desk360: Desk360, harness: Server, tmp_path: Path
) -> None:
    """Whoever copies it sends the same, and still to nobody who opted out."""
    (tmp_path / "never.txt").write_text("+905551110003\n")
    harness.sandbox.faults.add(Fault("status", status=500))
    words = ("spring", "--opt-out", "never.txt", "--max-failures", "0", "--base-url", harness.url)
    run = desk360("campaign", "run", "--concurrency", "1", *words)
    assert run.code == 4
    way_on = run.err.partition("Go on with:  desk360 ")[2].splitlines()[0].split()
    assert way_on[:3] == ["campaign", "resume", "spring"]
    assert set(words) <= set(way_on)
    harness.sandbox.faults.clear()
    assert "1 skipped" in desk360(*way_on).out


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize(("share", "code"), [("20%", 0), ("0.2", 0), ("many", 2), ("120%", 2)])
def test_a_run_takes_the_share_of_failed_statuses_that_ends_it(
    desk360: Desk360, share: str, code: int
) -> None:
    run = desk360("campaign", "run", "spring", "--stop-if-failed", share)
    assert (run.code, "share" in run.err) == (code, code == 2)


@pytest.mark.parametrize(("number", "accepted"), [(11, 0), (13, 1), (15, 2)])
def test_a_result_that_the_ledger_cant_store_is_unknown(
    desk360: Desk360, harness: Server, monkeypatch: pytest.MonkeyPatch, number: int, accepted: int
) -> None:
    """The numbers are true, the code is that of unknowns, and a resumed run doesn't send again."""
    with monkeypatch.context() as disk:
        disk.setattr(LedgerFile, "_once", failing_at(number))
        run = desk360("campaign", "run", "spring", "--concurrency", "1")
    assert len(harness.sandbox.received) == accepted + 1
    assert run.out.startswith(f"{accepted} accepted · 0 not sent · 1 unknown")
    assert (run.code, "Fix the cause" in run.err) == (4, True)
    assert desk360("campaign", "resume", "spring").out.startswith("2 accepted · 0 not sent · 1 unknown")
    assert len(harness.sandbox.received) == 3


@pytest.mark.usefixtures("harness")
def test_what_was_resolved_is_in_the_report(desk360: Desk360, harness: Server) -> None:
    """How many requests there were, who is what and why, and who said so."""
    harness.sandbox.faults.add(Fault("status", status=500))
    assert desk360("campaign", "run", "spring").code == 4
    assert "unknown: " in desk360("campaign", "report", "spring").out
    assert desk360("campaign", "resolve", "spring", "--not-sent", "--phone", "+905551110001").code == 0
    report = desk360("campaign", "report", "spring", "--out", "all.csv")
    assert report.code == 4
    assert "1 not sent" in report.out
    assert "resolved " in report.out
    assert "requests in " in report.out
    assert "3 lines in all.csv; a spreadsheet program shows its phones as numbers: use .xlsx" in report.err


# ── Ctrl-C ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("send", "text", TO, "hi"), 4, "unknown whether it was sent: interrupted while it was on the wire"),
        (("templates", "list"), 130, "\ndesk360: interrupted\n"),
    ],
)
def test_ctrl_c_on_the_wire_tells_a_send_from_a_read(
    start: Start, server: Server, words: tuple[str, ...], code: int, said: str
) -> None:
    """Whoever took an interrupted send for one that did not happen would send it again."""
    server.sandbox.faults.add(Fault("stall"))
    command = start(*words, "--base-url", server.url)
    while not server.sandbox.counted:
        assert command.process.poll() is None
        time.sleep(0.01)
    ended, err = command.stop()
    assert (ended, said in err, "Traceback" in err) == (code, True, False)


def pressed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a press of Ctrl-C before it."""

    def press(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return function(*given)

    return press


@pytest.mark.parametrize("place", [(send, "_tell"), (AsyncDesk360, "_report")])
def test_ctrl_c_after_a_message_was_accepted_leaves_its_id_and_the_code_0(
    desk360: Desk360, server: Server, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    """With 130 a user would send it again."""
    monkeypatch.setattr(*place, pressed(getattr(*place)))
    run = desk360("send", "text", TO, "hi", "--base-url", server.url)
    assert (run.code, run.out.count("Accepted: "), len(server.sandbox.received)) == (0, 1, 1)


@pytest.mark.parametrize("words", [("templates", "list"), ("send", "text", TO, "hi")])
def test_ctrl_c_after_the_work_is_ignored_until_the_process_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The interpreter takes some time to end; a shell would read "interrupted" then."""
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["desk360", *words, "--base-url", server.url])
    try:
        assert script() == 0
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_after_a_command_without_requests_is_ignored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["desk360", "--version"])
    try:
        assert script() == 0
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_second_ctrl_c_leaves_the_code_of_an_unknown_send(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first comes while the request is on the wire, the second after the command's end."""
    before = signal.getsignal(signal.SIGINT)
    server.sandbox.faults.add(Fault("stall"))
    # A signal from a thread of this process may be handled only when the loop wakes: here, after 2 s.
    words = ("send", "text", TO, "hi", "--base-url", server.url, "--timeout", "2")
    monkeypatch.setattr(sys, "argv", ["desk360", *words])
    try:
        with interrupting(lambda: server.sandbox.counted > 0):
            assert script() == 4
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("ends", [True, False])
def test_ctrl_c_ends_the_process_though_a_thread_goes_on(monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """After a third Ctrl-C within a wait, the process waited for an idle thread until a fourth one."""
    exits, end = list[int](), threading.Event()
    thread = threading.Thread(target=end.wait)

    def interrupted(_: list[str]) -> int:
        thread.start()
        if ends:
            threading.Timer(0.1, end.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    monkeypatch.setattr(cli, "_PATIENCE", 5.0 if ends else 0.1)
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(sys, "argv", ["desk360", "templates", "list"])
    assert script() == 130
    assert exits == ([] if ends else [130])
    end.set()
    thread.join()


def test_a_command_restores_the_handler_of_ctrl_c(desk360: Desk360, server: Server) -> None:
    """Programs may call `main`."""
    before = signal.getsignal(signal.SIGINT)
    desk360("templates", "list", "--base-url", server.url)
    assert signal.getsignal(signal.SIGINT) is before


# ── errors as JSON ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("sned",), 2, {"outcome": "not_sent", "error": "ConfigurationError"}),
        (("send", "text", TO, "hi", "--lvie"), 2, {"outcome": "not_sent", "error": "ConfigurationError"}),
        (("send", "text", "0555", "hi"), 2, {"outcome": "not_sent", "error": "InvalidMessage"}),
        (("media", "save", "nobodys"), 3, {"outcome": None, "error": "NotFound"}),
        (("media", "save", "kept", "no/file"), 2, {"outcome": "not_sent", "error": "InvalidMessage"}),
        (("campaign", "report", "nobodys"), 2, {"error": "LedgerError"}),
    ],
)
def test_errors_are_objects_too(
    desk360: Desk360, words: tuple[str, ...], code: int, expected: dict[str, Any]
) -> None:
    """On stdout, each with its outcome, its class and the reason."""
    run = desk360(*words, "--json")
    (shown,) = run.json
    assert run.code == code
    assert expected.items() <= shown.items()
    assert shown["reason"]


def test_whose_file_it_is(desk360: Desk360, tmp_path: Path) -> None:
    """A file that isn't there is named with its option."""
    for command in ("sandbox", "integrations"):
        run = desk360(command, "--seed-file", tmp_path / "none.json")
        assert run.code == 2
        assert run.err.endswith(f"desk360: --seed-file {tmp_path / 'none.json'}: No such file or directory\n")


def test_a_secret_is_not_repeated_by_the_listener(desk360: Desk360) -> None:
    """A secret that can't be one is refused, without showing it."""
    run = desk360("listen", "--port", "0", "--secret", f"{SECRET}/x")
    assert run.code == 2
    assert SECRET not in run.err
