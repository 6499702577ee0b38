"""`desk360 campaign …`: the commands in this process, and a captured terminal."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from desk360_async import AsyncDesk360
from desk360_async.campaigns import Counts, Done
from desk360_async.cli import campaign as commands
from desk360_async.cli import main
from desk360_async.cli._options import Common
from desk360_async.cli._session import Session
from desk360_async.cli._terminal import Terminal
from desk360_async.cli.campaign import code_of, watch
from desk360_async.sandbox import Fault, ReceivedRequest, Sandbox
from tests.campaigns.harness import Harness, people, phone
from tests.campaigns.killing import ROOT

pytestmark = pytest.mark.usefixtures("counted_children")

PLAN = ("campaign", "plan", "sale", "people.csv", "--template", "back_in_stock", "--language", "English")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox over TCP, a folder to work in, and a list of 60 in it, of whom one number is none."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{phone(n)},offer {n % 2}" for n in range(1, 61)] + ["nobody,x"]
    Path("people.csv").write_text("\n".join(["phone,body-1", *rows]) + "\n")
    made = Sandbox(limit=10_000, period=1.0, keep=None)
    with made.serve_in_thread() as server:
        monkeypatch.setenv("DESK360_BASE_URL", server.url)
        yield made


def desk360(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command in this process."""
    capsys.readouterr()
    code = main(list(words))
    return code, *capsys.readouterr()


def json_rows(out: str) -> list[dict[str, Any]]:
    """Return the values, one a line."""
    return [json.loads(line) for line in out.splitlines()]


def sent(sandbox: Sandbox) -> list[ReceivedRequest]:
    """Return the requests that were no look-ups."""
    return [request for request in sandbox.requests if request.method == "POST"]


@pytest.mark.real
def test_a_campaign_is_planned_run_and_reported(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0: all accepted."""
    code, out, err = desk360(capsys, *PLAN)
    assert (code, sandbox.accepted) == (0, 0)
    assert "60 recipients, 60 to be sent" in out
    assert "line 62: no phone number: " in err
    assert desk360(capsys, "campaign", "run", "sale")[:2] == (0, "60 accepted · 0 not sent · 0 unknown\n")
    code, out, _ = desk360(capsys, "campaign", "report", "sale", "--out", "report.csv")
    assert code == 0
    assert "left out when planned: no phone number" in out
    assert len(Path("report.csv").read_text().splitlines()) == 62


@pytest.mark.real
def test_json_is_a_value_a_line(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts."""
    _, out, _ = desk360(capsys, *PLAN, "--json")
    assert json.loads(out)["bulk_requests"] == 2
    _, out, _ = desk360(capsys, "campaign", "run", "sale", "--json")
    assert [json.loads(line)["accepted"] for line in out.splitlines()] == [30, 30, 60]


@pytest.mark.real
def test_unknowns_are_exit_code_4_until_resolved(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what is resolved to be resent goes out by `resume`."""
    desk360(capsys, *PLAN)
    sandbox.faults.add(Fault("status", status=502, times=1))
    assert desk360(capsys, "campaign", "run", "sale")[0] == 4
    code, out, _ = desk360(capsys, "campaign", "resolve", "sale", "--resend", "--all")
    assert (code, out) == (0, "30 accepted · 0 not sent · 0 unknown · 30 pending\n")
    assert desk360(capsys, "campaign", "resume", "sale")[0] == 0


@pytest.mark.real
def test_refused_numbers_are_exit_code_3(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Not sent, and said so."""
    Path("people.csv").write_text("phone,body-1\n+905550000000,x\n+905551112233,y\n")
    desk360(capsys, *PLAN)
    code, out, _ = desk360(capsys, "campaign", "run", "sale")
    assert (code, out) == (3, "1 accepted · 1 not sent · 0 unknown\n")


@pytest.mark.real
def test_whoever_is_still_pending_is_exit_code_3(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report that says 0 would say that all were accepted."""
    desk360(capsys, *PLAN)
    code, out, _ = desk360(capsys, "campaign", "report", "sale")
    assert (code, out.splitlines()[0]) == (3, "0 accepted · 0 not sent · 0 unknown · 60 pending")
    desk360(capsys, "campaign", "run", "sale")
    assert desk360(capsys, "campaign", "report", "sale")[0] == 0


@pytest.mark.parametrize(
    ("counts", "done", "code"),
    [
        (Counts(accepted=1), None, 0),
        (Counts(accepted=1, pending=1), None, 3),
        (Counts(accepted=1, on_the_wire=1), None, 4),
        (Counts(not_sent=1, unknown=1), None, 4),
        (Counts(pending=1), Done("interrupted", Counts()), 130),
        (Counts(pending=1), Done("refused", Counts()), 3),
        (Counts(skipped=1), Done("finished", Counts()), 0),
    ],
)
def test_the_exit_code_tells_the_worst(counts: Counts, done: Done | None, code: int) -> None:
    """What a crash left on the wire may have gone out."""
    assert code_of(counts, done) == code


@pytest.mark.real
@pytest.mark.parametrize(
    ("words", "code", "resolved"),
    [
        (("--sent", "--phone", phone(1)), 3, 0),
        (("--sent", "--batch", "1"), 3, 0),
        (("--sent", "--all"), 0, 0),
        (("--resend", "--all", "--state", "not_sent"), 0, 0),
    ],
)
def test_a_resolution_that_was_for_nobody_is_said(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, resolved: int
) -> None:
    """If somebody was named, who isn't unknown."""
    desk360(capsys, *PLAN)
    ended, _, err = desk360(capsys, "campaign", "resolve", "sale", *words)
    assert ended == code
    assert f"{resolved} resolved" in err
    assert ("Some of them were not unknown" in err) is (code == 3)


@pytest.mark.real
def test_a_dry_run_shows_the_very_requests(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Method, path and body, phones whole: as the server then gets them."""
    rows = json_rows(desk360(capsys, *PLAN, "--dry-run", "--json")[1])[1:]
    assert sandbox.accepted == 0
    desk360(capsys, "campaign", "run", "sale")
    got = [(request.method, request.path, request.body) for request in sent(sandbox)]
    assert [(row["method"], row["path"], row["body"]) for row in rows] == got
    assert phone(7) in desk360(capsys, *PLAN[:2], "again", *PLAN[3:], "--dry-run")[1]


@pytest.mark.real
@pytest.mark.parametrize(("size", "shown"), [(30, phone(2)), (1000, '{"destinations.csv": ["+9055')])
def test_a_dry_run_shows_forms(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], size: int, shown: str
) -> None:
    """Of a file that goes along the name; phones that are too many for a form go as a file, shown whole."""
    Path("invoice.pdf").write_bytes(b"%PDF")
    Path("people.csv").write_text("\n".join(["phone,body-1", *(f"{phone(n)},x" for n in range(1, size + 1))]))
    words = ("--template", "invoice", "--language", "English", "--attachment", "invoice.pdf", "--dry-run")
    code, out, _ = desk360(capsys, *PLAN[:4], *words, "--batch-size", "1000")
    assert code == 0
    assert "POST /v1/integrations/11/conversations/templates/send/bulk" in out
    assert '"attachment": {"file": "invoice.pdf"}' in out
    assert shown in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("campaign", "resolve", "sale", "--all"), "give one of"),
        (("campaign", "resolve", "sale", "--sent"), "give one of --phone"),
        (("campaign", "run", "sale", "--max-failures", "many"), "must be a count"),
    ],
)
def test_a_wrong_word_is_explained(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    """Exit code 2."""
    desk360(capsys, *PLAN)
    code, _, err = desk360(capsys, *words)
    assert code == 2
    assert message in err


def test_a_server_that_does_not_stay_is_refused(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger belongs to one server."""
    monkeypatch.delenv("DESK360_BASE_URL")
    code, _, err = desk360(capsys, *PLAN)
    assert (code, "a server that keeps running" in err) == (2, True)


def captured(words: tuple[str, ...], interrupt_at: str | None = None) -> tuple[int, str]:
    """Run the command on a terminal of its own; press Ctrl-C once it shows a text."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "110"}
    command = [sys.executable, "-m", "desk360_async.cli", *words]
    shown = ""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        while True:
            try:
                shown += os.read(ours, 4096).decode("utf-8", "replace")
            except OSError:  # Linux's way to say that the terminal is closed
                break
            if interrupt_at and interrupt_at in shown:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
        code = process.wait()
    os.close(ours)
    return code, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.real
def test_ctrl_c_finishes_what_is_on_the_wire_and_says_how_to_go_on(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 130, 0 unknown, and nobody gets it twice."""
    desk360(capsys, *PLAN, "--batch-size", "2")
    sandbox.faults.add(Fault("latency", delay=0.2))
    code, shown = captured(("campaign", "run", "sale"), interrupt_at="not sent")
    assert code == 130
    assert "Go on with:  desk360 campaign resume sale" in shown
    sandbox.faults.clear()
    code, shown = captured(("campaign", "resume", "sale"))
    assert code == 0
    assert "60 accepted · 0 not sent · 0 unknown" in shown
    assert sandbox.accepted == len({message.phone for message in sandbox.received}) == 60


@pytest.mark.real
def test_a_second_ctrl_c_while_a_run_ends_leaves_the_summary_and_the_code(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the run hears no signal any more: before the summary, and behind it."""
    show, close = commands.show_counts, AsyncDesk360.aclose

    def pressed(terminal: Terminal, counts: Counts) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        show(terminal, counts)

    async def pressed_again(client: AsyncDesk360) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await close(client)

    desk360(capsys, *PLAN)
    sandbox.faults.add(Fault("status", status=502, times=1))
    monkeypatch.setattr(commands, "show_counts", pressed)
    monkeypatch.setattr(AsyncDesk360, "aclose", pressed_again)
    code, out, err = desk360(capsys, "campaign", "run", "sale")
    assert (code, out) == (4, "30 accepted · 0 not sent · 30 unknown\n")
    assert "see `desk360 campaign resolve`" in err


def test_a_rate_is_shown_after_a_whole_window(harness: Harness) -> None:
    """The tokens that are free at the start would make it many times the limit."""
    words = io.StringIO()
    terminal = Terminal(err=Console(file=words, width=1000))

    async def show(client: AsyncDesk360) -> Done:
        campaign = harness.campaign(strategy="single")
        await campaign.load(client, people(150))
        async with campaign.run(client) as events:
            return await watch(Session(client, terminal, Common()), events, 150)

    assert harness.play(show).counts.accepted == 150
    early, *_ = lines = words.getvalue().splitlines()
    rates = [int(rate) for line in lines for rate in re.findall("([0-9]+)/min", line)]
    assert (early.startswith(" of 150", 2), "/min" in early) == (True, False)
    assert 5 <= len(lines) - len(rates) < len(lines)  # a line every ten seconds, and a rate after sixty
    assert max(rates) <= 75


@pytest.mark.real
def test_the_demo_stops_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """On a sandbox of its own, where a list was sent before."""
    code, out, err = desk360(capsys, "demo", "--count", "4", "--campaign", "300")
    assert code == 0
    assert "Campaign demo: 300 recipients, 300 to be sent" in out
    assert "Stopped in the middle" in err
    assert "300 accepted · 0 not sent · 0 unknown" in out
    assert "The sandbox counts 301 messages taken, 301 different phones, 0 refusals" in err


@pytest.mark.real
def test_a_second_signal_ends_it_at_once(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """What is on the wire is unknown then."""
    desk360(capsys, *PLAN)
    sandbox.faults.add(Fault("stall", delay=30.0))
    command = [sys.executable, "-m", "desk360_async.cli", "campaign", "run", "sale"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        while sandbox.counted < 3:  # the list of templates isn't asked for by `run`
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 4
    assert "unknown" in out
