"""`desk360 send list`: every row gets a result, bad rows are skipped, and nobody is written to twice."""

import csv
import fcntl
import io
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pytest
from rich.console import Console

from desk360_async import ConfigurationError, Outcome
from desk360_async._tables import Defect, Row, Table, neutral, plain
from desk360_async.cli import _results, _session, bundle
from desk360_async.cli import serve as sandbox_command
from desk360_async.cli._results import ResultsFile, RowResult, Tally
from desk360_async.cli._terminal import Terminal, duration
from desk360_async.sandbox import Fault, Sandbox
from desk360_async.sandbox.faults import FaultKind

from .conftest import Desk360, Server, Start, interrupting

WELCOME = ("--template", "welcome", "--language", "English")
BIRTHDAY = ("--template", "birthday", "--language", "English", "--map", "body-1=name")


BOTH = pytest.mark.parametrize("name", ["results.csv", "results.xlsx"])


def results(file: Path) -> list[dict[str, str]]:
    """Read a results file; a spreadsheet by another program, each of whose phones must be text."""
    if file.suffix == ".xlsx":
        head, *rows = openpyxl.load_workbook(file).active.iter_rows()
        assert {row[1].data_type for row in rows} <= {"s"}
        names = [cell.value for cell in head]
        return [dict(zip(names, (str(cell.value or "") for cell in row), strict=True)) for row in rows]
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def written(tmp_path: Path, content: str | bytes) -> Path:
    """Write a list."""
    file = tmp_path / "list.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def rows_of(file: Path, **mapping: str) -> list[Row]:
    """Read a list as a campaign does."""
    table = Table.open(file)
    variables = [column for column in table.columns if column == "name"]
    return list(table.rows(table.mapping(variables, mapping or None), variables))


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.smoke
@pytest.mark.parametrize(
    "content",
    [
        "name,phone\nÇağla,+905551110001\n",
        "name;phone\r\nÇağla;+905551110001\r\n",
        "name\tphone\nÇağla\t+905551110001",
        "\ufeffname,phone\nÇağla,+905551110001\n",
        "sep=;\nname;phone\nÇağla;+905551110001\n",
        "name,phone\n\n , \nÇağla,+905551110001\n",
        'name , Phone\n"Çağla","+905551110001"\n',
    ],
)
def test_reads_what_spreadsheets_write(tmp_path: Path, content: str) -> None:
    """Separators, a BOM, line ends and blank rows."""
    ((line, phone, values),) = rows_of(written(tmp_path, content))
    assert (phone, values) == ("+905551110001", ("Çağla",))
    assert content.splitlines()[line - 1].startswith(("Ç", '"Ç'))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must name the columns"),
        (b"\n+905551110001\n", "must name the columns"),
        (b"\xff\xfen\x00a", "isn't complete UTF-16"),
        (b"na\xfeme,phone\n", "isn't UTF-8: 1 line can't be read, the first is line 1"),
        (b"phone,phone\n", "names 'phone' more than once"),
        (
            b"name,number\n",
            (
                "has no column for 'phone'; the columns are: name, number. "
                "Rename one, or pass mapping={'phone':'COLUMN'}, in the terminal --map phone=COLUMN"
            ),
        ),
        (b"+905551110001\n+905551110002\n", "seems to hold a recipient"),
    ],
)
def test_unusable_file_is_refused_as_a_whole(tmp_path: Path, content: bytes, problem: str) -> None:
    """Without a header that can be understood nothing is sent."""
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        rows_of(written(tmp_path, content))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """What is no file says so."""
    with pytest.raises(ConfigurationError, match="there is no such file"):
        rows_of(tmp_path / "no.csv")
    with pytest.raises(ConfigurationError, match="no regular file"):
        rows_of(tmp_path)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (b"\xe7,+905551110001\n", "isn't UTF-8: 1 line can't be read, the first is line 2"),
        (
            b'"' + b"x\n" * 30 + b'",+905551110001\n',
            "line 2: the row goes on for 31 lines",
        ),
        (b'"' + b"x" * 140_000 + b'",+905551110001\n', "line 2: field larger than field limit"),
        (b'"a,+905551110001\n', "line 2: unexpected end of data; is a quote missing?"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, rows: bytes, problem: str) -> None:
    """A part of a list would leave the others out silently."""
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        rows_of(written(tmp_path, b"name,phone\n" + rows + b"z,+905551110009\n"))


def test_a_row_with_more_cells_than_the_header_is_left_out(tmp_path: Path) -> None:
    """A missing cell is empty."""
    content = b"name,phone\na,+905551110001,c\na\nz,+905551110009,,\n"
    wide, short, good = rows_of(written(tmp_path, content))
    assert wide == (2, "+905551110001", Defect("too_many_cells"))
    assert short == (3, "", ("a",))
    assert good[2] == ("z",)


@pytest.mark.real
@pytest.mark.parametrize("words", [("--map", "phone=gsm no"), ("--phone-column", "gsm no")])
def test_a_phone_column_of_ones_choice(
    desk360: Desk360, server: Server, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """By the option of all commands, and by its former name, with a warning."""
    file = written(tmp_path, "who,gsm no\na,+905551110001\n")
    run = desk360("send", "list", file, *WELCOME, *words, "--base-url", server.url)
    assert (run.code, server.sandbox.received[0].phone) == (0, "+905551110001")
    assert ("--phone-column is now --map 'phone=gsm no'" in run.err) is (words[0] == "--phone-column")


def test_a_lone_column_needs_no_name(tmp_path: Path) -> None:
    """It can only hold phones."""
    assert rows_of(written(tmp_path, "numara\n+905551110001\n"))[0][1] == "+905551110001"


@pytest.mark.real
def test_a_repeat_and_a_gap_are_refused(desk360: Desk360, server: Server, tmp_path: Path) -> None:
    """A phone that came before, in any spelling, and an empty cell."""
    file = written(tmp_path, "name,phone\na,+905551110001\nb,+90 555 111 00 01\n,+905551110002\n")
    run = desk360("send", "list", file, *BIRTHDAY, "--base-url", server.url)
    assert [m.parameters for m in server.sandbox.received] == [{"body-1": "a"}]
    assert "line 3: phone: the same as in line 2" in run.err
    assert "line 4: body-1: the cell is empty" in run.err


# ── results ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "|cmd", "%0Aa"])
def test_formulas_are_neutralised(cell: str) -> None:
    """A spreadsheet shows them instead of running them; a text cell holds them as they are."""
    assert neutral(cell) == f"'{cell}"
    assert plain(neutral(cell)) == cell


@pytest.mark.parametrize("cell", ["+905551110001", "plain", "", None, 5])
def test_other_cells_stay(cell: object) -> None:
    """A phone in E.164 is no formula."""
    assert neutral(cell) == plain(neutral(cell)) == ("" if cell is None else str(cell))


@pytest.mark.parametrize(("outcomes", "code"), [("aa", 0), ("an", 3), ("au", 4), ("nu", 4), ("", 0)])
def test_exit_code_tells_the_worst(outcomes: str, code: int) -> None:
    """Unknown goes before not sent."""
    kinds = {"a": Outcome.ACCEPTED, "n": Outcome.NOT_SENT, "u": Outcome.UNKNOWN}
    tally = Tally()
    for line, letter in enumerate(outcomes):
        tally.add(RowResult(line, "", kinds[letter]))
    assert tally.exit_code() == code


def test_result_masks_its_phone() -> None:
    """In reprs and in JSON; the results file holds it whole."""
    result = RowResult(2, "+905551110001", Outcome.ACCEPTED, "gBEG1")
    assert "+9055" not in repr(result)
    assert result.as_json()["phone"] == "…0001"


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (187, "3:07 min"), (8100, "2:15 h")])
def test_duration(seconds: float, text: str) -> None:
    """As people read it."""
    assert duration(seconds) == text


# ── sending ────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.real
def test_list_arrives_and_each_row_has_its_result(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path, name: str
) -> None:
    """Parameters come from the row, and message ids go to the file."""
    out = tmp_path / name
    run = desk360("send", "list", people, *BIRTHDAY, "--out", out, "--base-url", server.url)
    assert (run.code, run.err.splitlines()[-1]) == (0, f"Results: {out}")
    received = {m.phone: m for m in server.sandbox.received}
    assert {p: m.parameters for p, m in received.items()} == {
        "+905551110001": {"body-1": "Ada"},
        "+905551110002": {"body-1": "Çağla"},
        "+905551110003": {"body-1": "小明"},
    }
    rows = results(out)
    assert {row["phone"]: row["message_id"] for row in rows} == {p: m.message_id for p, m in received.items()}
    assert {row["outcome"] for row in rows} == {"accepted"}


@BOTH
@pytest.mark.real
def test_bad_rows_are_reported_and_skipped(
    desk360: Desk360, server: Server, tmp_path: Path, name: str
) -> None:
    """Each bad row has its line number, a result and a reason; the good ones are sent."""
    file = written(
        tmp_path,
        "name,phone\na,+905551110001\nb,=cmd()\nc,+905551110001\nd\ne,+90500000000000\nf,+905551110006\n",
    )
    out = tmp_path / name
    run = desk360("send", "list", file, *BIRTHDAY, "--out", out, "--base-url", server.url)
    assert run.code == 3
    assert [m.phone for m in server.sandbox.received] == ["+905551110001", "+905551110006"]
    rows = {row["line"]: row for row in results(out)}
    assert sorted(rows) == ["2", "3", "4", "5", "6", "7"]
    assert rows["3"]["phone"] == ("'=cmd()" if name == "results.csv" else "=cmd()")
    assert "line 4: phone: the same as in line 2" in run.err
    assert "HTTP 400" in rows["6"]["reason"]
    assert "6 rows" in run.out
    assert "2 accepted, 4 not sent, 0 unknown" in run.out
    assert "+905551110001" not in run.out + run.err


@pytest.mark.real
def test_json_lines(desk360: Desk360, server: Server, people: Path) -> None:
    """A line of JSON a row on stdout, nothing else there."""
    run = desk360("send", "list", people, *BIRTHDAY, "--json", "--base-url", server.url)
    assert sorted(row["line"] for row in run.json) == [2, 3, 4]
    assert {row["outcome"] for row in run.json} == {"accepted"}
    assert "3 accepted" in run.err
    quiet = desk360("send", "list", people, *BIRTHDAY, "--json", "-q", "--base-url", server.url)
    assert "accepted" not in quiet.err


@pytest.mark.real
def test_columns_named_like_variables_need_no_map(desk360: Desk360, server: Server, tmp_path: Path) -> None:
    """A column "body-1" fills body-1."""
    file = written(tmp_path, "body-1;phone\nAda;+905551110001\n")
    run = desk360("send", "list", file, "--template", "88", "--language", "1", "--base-url", server.url)
    assert run.code == 0
    assert server.sandbox.received[0].parameters == {"body-1": "Ada"}


@pytest.mark.real
@pytest.mark.parametrize("language", ["tr", "turkish", "TÜRKÇE"])
def test_a_language_may_be_a_code(desk360: Desk360, server: Server, people: Path, language: str) -> None:
    words = ("--template", "welcome", "--language", language, "--base-url", server.url)
    assert desk360("send", "list", people, *words).code == 0
    assert len(server.sandbox.received) == 3


@pytest.mark.real
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("--template", "birthday", "--language", "English"),
            (
                "has no column for 'body-1'; the columns are: name, phone. "
                "Rename one, or pass --map body-1=COLUMN"
            ),
        ),
        (
            (*BIRTHDAY[:4], "--map", "body-1=nam"),
            "has no column 'nam' for 'body-1'; the columns are: name, phone",
        ),
        ((*BIRTHDAY[:4], "--map", "name"), "--map name: must be VARIABLE=COLUMN"),
        (("--template", "nope", "--language", "English"), "'nope' is unknown"),
        (("--template", "birthday", "--language", "Deutsch"), "'Deutsch' is unknown; template birthday has"),
        ((*BIRTHDAY, "--phone-column", "gsm"), "has no column 'gsm'"),
    ],
)
def test_misfit_is_found_before_the_first_send(
    desk360: Desk360, server: Server, people: Path, words: tuple[str, ...], problem: str
) -> None:
    """One error instead of one a row, and no send spent."""
    run = desk360("send", "list", people, *words, "--base-url", server.url)
    assert run.code == 2
    assert problem in run.err
    assert not server.sandbox.received


@pytest.mark.real
def test_results_are_never_overwritten(desk360: Desk360, server: Server, people: Path) -> None:
    """An old results file may be the only record of what went out; and the list itself is no target."""
    run = desk360("send", "list", people, *BIRTHDAY, "--out", people, "--base-url", server.url)
    assert (run.code, server.sandbox.received) == (2, [])
    assert "exists; name another file" in run.err
    lost = people.parent / "no" / "results.csv"
    assert "--out" in desk360("send", "list", people, *BIRTHDAY, "--out", lost, "-q").err


@pytest.mark.real
def test_wrong_key_stops_the_list_and_accounts_for_every_row(
    desk360: Desk360, live: Server, tmp_path: Path
) -> None:
    """What one row meets, all would: 403 isn't tried a hundred times."""
    file = written(tmp_path, "phone\n" + "".join(f"+90555111{n:04}\n" for n in range(100)))
    live.sandbox.faults.add(Fault("status", status=403, method="POST"))
    out = tmp_path / "results.csv"
    run = desk360("send", "list", file, *WELCOME, "--live", "--yes", "--out", out)
    assert run.code == 3
    assert "Stopped early: refused: HTTP 403" in run.err
    assert len(results(out)) == 100
    assert len(live.sandbox.requests) < 30


@pytest.mark.real
@pytest.mark.parametrize(("fault", "word"), [("reset_after", "unknown"), ("reset_before", "unknown")])
def test_dead_server_stops_the_list(
    desk360: Desk360, server: Server, tmp_path: Path, fault: FaultKind, word: str
) -> None:
    """No answer five times in a row: the rest isn't tried, and each unknown is counted as one."""
    file = written(tmp_path, "phone\n" + "".join(f"+90555111{n:04}\n" for n in range(60)))
    server.sandbox.faults.add(Fault(fault, method="POST"))
    out = tmp_path / "results.csv"
    run = desk360(
        "send", "list", file, *WELCOME, "--lane", "interactive", "--out", out, "--base-url", server.url
    )
    assert run.code == 4
    assert "no usable answer 5 times in a row" in run.err
    assert "look in Desk360's panel before you send them again" in run.err
    outcomes = [row["outcome"] for row in results(out)]
    assert len(outcomes) == 60
    assert 5 <= outcomes.count(word) < 20


# ── asking ─────────────────────────────────────────────────────────────────────────────────────────────


def test_live_needs_a_place_for_results(desk360: Desk360, people: Path) -> None:
    """An unknown outcome that nobody wrote down would be lost."""
    run = desk360("send", "list", people, *BIRTHDAY, "--live")
    assert run.code == 2
    assert "add --out results.xlsx" in run.err


@pytest.mark.real
def test_live_list_off_a_terminal_needs_yes(
    desk360: Desk360, live: Server, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there to be asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    run = desk360("send", "list", people, *BIRTHDAY, "--live", "--json")
    assert run.code == 2
    assert "a live send to 3 recipients must be confirmed" in run.json[0]["reason"]
    assert not live.sandbox.received


@pytest.mark.real
@pytest.mark.parametrize(("typed", "code", "sent"), [("3", 0, 3), ("yes", 2, 0), ("", 2, 0)])
def test_number_of_recipients_is_typed(
    desk360: Desk360,
    live: Server,
    people: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    code: int,
    sent: int,
) -> None:
    """The number, and nothing else, lets a live list go."""
    monkeypatch.setattr(_session.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: typed)
    run = desk360("send", "list", people, *BIRTHDAY, "--live", "--json")
    assert (run.code, len(live.sandbox.received)) == (code, sent)


def test_ctrl_c_that_input_drops_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`input` clears an exception that comes while it flushes stderr; the line after it is no answer."""

    class Interrupted(io.StringIO):
        presses = 0

        def flush(self) -> None:
            if self.presses == 0 and sys._getframe(1).f_code.co_name == "answer":  # called by `input` itself
                self.presses += 1
                signal.raise_signal(signal.SIGINT)

    stderr = Interrupted()
    monkeypatch.setattr("sys.stdin", io.StringIO("3\n"))
    monkeypatch.setattr("sys.stderr", stderr)
    with pytest.raises(KeyboardInterrupt):
        _session.answer(Terminal(), "Type 3 to go on:")
    assert stderr.presses == 1


@pytest.mark.real
@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x04", 2)])
def test_leaving_the_question_sends_nothing(
    live: Server, people: Path, tmp_path: Path, key: bytes, code: int
) -> None:
    """Ctrl-C and Ctrl-D at once, whatever is typed after them."""
    ours, theirs = pty.openpty()
    words = ("send", "list", people, *BIRTHDAY, "--live", "--out", tmp_path / "results.csv")
    with os.fdopen(ours, "r+b", buffering=0) as terminal, subprocess.Popen(
        [sys.executable, "-m", "desk360_async.cli", *map(str, words)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"to go on:" not in shown:
            shown += terminal.read(4096)
        terminal.write(key + b"3\n")
    assert process.returncode == code
    assert not live.sandbox.received
    assert not (tmp_path / "results.csv").exists()


# ── in the terminal ────────────────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.real
def test_ctrl_c_finishes_what_is_on_the_wire_and_accounts_for_the_rest(
    desk360: Desk360, tmp_path: Path, name: str
) -> None:
    """One Ctrl-C: no unknown, and a result for every row; the server agrees on who got it."""
    file = written(tmp_path, "phone\n" + "".join(f"+90555111{n:04}\n" for n in range(2000)))
    out = tmp_path / name
    made = Sandbox(limit=60, period=60.0)
    with made.serve_in_thread() as server, interrupting(lambda: made.accepted >= 5):
        run = desk360("send", "list", file, *WELCOME, "--out", out, "--base-url", server.url)
    rows = results(out)
    assert run.code == 3
    assert "Stopping: the requests on the wire finish" in run.err
    assert "Stopped early: interrupted" in run.err
    assert "The same command sends the rest." in run.err
    assert len(rows) == 2000
    assert {row["phone"] for row in rows if row["outcome"] == "accepted"} == {m.phone for m in made.received}
    assert not [row for row in rows if row["outcome"] == "unknown"]


@BOTH
@pytest.mark.real
def test_the_same_command_goes_on_and_another_list_is_refused(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path, name: str
) -> None:
    """A stopped list is resumed by its own command; each phone gets one message."""
    out = tmp_path / name
    words = (*BIRTHDAY, "--out", out, "--base-url", server.url)
    server.sandbox.faults.add(Fault("status", status=403, method="POST", after=1))
    assert desk360("send", "list", people, *words, "--lane", "bulk").code == 3
    server.sandbox.faults.clear()
    assert desk360("send", "list", people, *words).code == 0
    assert sorted(m.phone for m in server.sandbox.received) == sorted(row["phone"] for row in results(out))
    other = written(tmp_path, "name,phone\nAda,+905551110009\n")
    refused = desk360("send", "list", other, *words)
    assert (refused.code, "holds the results of another list (people.csv)" in refused.err) == (2, True)
    assert len(server.sandbox.received) == 3


@pytest.mark.real
def test_results_under_another_ending_come_from_the_report_and_send_nothing(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path
) -> None:
    """Another ending means another ledger, and a second message to everybody."""
    out, sheet = tmp_path / "results.csv", tmp_path / "results.xlsx"
    words = ("send", "list", people, *BIRTHDAY, "--base-url", server.url, "--out")
    run = desk360(*words, out)
    assert f"A spreadsheet program shows the phones of {out} as numbers. {sheet} keeps" in run.err
    refused = desk360(*words, sheet)
    assert (refused.code, f"with --out {out} goes on" in refused.err) == (2, True)
    for text in (run.err, refused.err):
        command = re.search("desk360 (campaign report .*xlsx)", text)
        assert command
        assert desk360(*shlex.split(command[1])).code == 0
        assert {row["phone"] for row in results(sheet)} == {row["phone"] for row in results(out)}
    assert len(server.sandbox.received) == 3


@pytest.mark.real
def test_results_in_a_spreadsheet_are_a_list_again(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path
) -> None:
    """Phones, names and lines as another program reads them, and as the next command does."""
    out = tmp_path / "results.xlsx"
    words = (*WELCOME, "--base-url", server.url, "--out")
    assert desk360("send", "list", people, *words, out).code == 0
    assert desk360("send", "list", out, *words, tmp_path / "again.xlsx").code == 0
    again = results(tmp_path / "again.xlsx")
    assert [row["phone"] for row in again] == [row["phone"] for row in results(out)]
    assert sorted(m.phone for m in server.sandbox.received) == sorted(2 * [row["phone"] for row in again])


@pytest.mark.real
def test_a_list_longer_than_a_sheet_is_refused_before_a_send(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names a file that is long enough, and leaves no ledger."""
    monkeypatch.setattr(_results, "MOST_ROWS", 3)
    words = ("send", "list", people, *BIRTHDAY, "--base-url", server.url, "--out", tmp_path / "r.xlsx")
    run = desk360(*words)
    assert (run.code, f"the list has 3; name it {tmp_path / 'r.csv'}" in run.err) == (2, True)
    assert ([*tmp_path.glob("r.*")], server.sandbox.received) == ([], [])


@pytest.mark.real
def test_a_429_of_another_program_is_waited_out_and_explained_in_words_of_the_terminal(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path
) -> None:
    """The refused rows go out after the wait; commands share the limit in the file that they name."""
    refusal = Fault("status", status=429, method="POST", times=2, headers={"Retry-After": "1"})
    server.sandbox.faults.add(refusal)
    words = ("send", "list", people, *BIRTHDAY, "--base-url", server.url)
    run = desk360(*words, "--limiter", tmp_path / "limit.db")
    assert (run.code, "3 accepted, 0 not sent, 0 unknown" in run.out) == (0, True)
    assert (tmp_path / "limit.db").exists()
    assert run.err.count("rate limit (429): it was not sent. Sends go on in 1 s.") == 1
    assert run.err.count("Paused for ") == 1
    assert "Another program sends from this address. With the same --limiter PATH" in run.err
    assert "HostLimiter" not in run.err


@pytest.mark.real
def test_a_dry_run_of_a_list_shows_a_sample_and_the_forecast(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path
) -> None:
    """Nothing is sent, and no file is left."""
    before = set(tmp_path.iterdir())
    run = desk360("send", "list", people, *BIRTHDAY, "--dry-run", "--base-url", server.url)
    assert (run.code, server.sandbox.received) == (0, [])
    assert "│ Happy birthday, Ada" in run.out
    assert "3 requests, 3 s at 60 in 60 s; 0 rows left out" in run.out
    assert set(tmp_path.iterdir()) == before


@BOTH
@pytest.mark.real
def test_second_ctrl_c_stops_at_once_and_says_what_is_unknown(
    desk360: Desk360, tmp_path: Path, name: str
) -> None:
    """What the server holds back is unknown then."""
    file = written(tmp_path, "phone\n" + "".join(f"+90555111{n:04}\n" for n in range(40)))
    out = tmp_path / name
    made = Sandbox()
    made.faults.add(Fault("stall", method="POST"))
    began = time.monotonic()
    with made.serve_in_thread() as server, interrupting(lambda: made.accepted >= 8, 0.0, 1.0):
        words = (*WELCOME, "--lane", "interactive", "--out", out, "--base-url", server.url)
        run = desk360("send", "list", file, *words)
    assert run.code == 4
    assert time.monotonic() - began < 20
    assert [row["outcome"] for row in results(out)].count("unknown") == 8
    assert len(results(out)) == 40


@BOTH
@pytest.mark.real
def test_ctrl_c_while_the_results_are_written_leaves_them_whole(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Two presses in quick succession: the run hears the first, and the second comes after it."""
    whole = ResultsFile.write

    def pressed(file: ResultsFile, result: RowResult) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        whole(file, result)

    monkeypatch.setattr(ResultsFile, "write", pressed)
    out = tmp_path / name
    run = desk360("send", "list", people, *BIRTHDAY, "--out", out, "--base-url", server.url)
    assert (run.code, len(results(out)), "3 accepted" in run.out + run.err) == (0, 3, True)


@pytest.mark.real
def test_sandbox_ends_with_ctrl_c(desk360: Desk360, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where it listens, and what it took."""
    listening = threading.Event()
    told = sandbox_command._tell

    def tell(*about: Any) -> None:
        told(*about)
        listening.set()

    monkeypatch.setattr(sandbox_command, "_tell", tell)
    with interrupting(listening.is_set, 0.5):
        run = desk360("sandbox", "--port", "0")
    assert run.code == 0
    assert "listens at http://127.0.0.1:" in run.out
    assert "0 messages taken" in run.err


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let the system refuse to write files above a size in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@BOTH
@pytest.mark.parametrize("size", [0, 20, 100_000])
def test_a_results_file_that_the_system_cuts_short_is_not_there(tmp_path: Path, name: str, size: int) -> None:
    """At the first byte, at the first full buffer and at a later one; the rows behind it are dropped."""
    with no_file_above(size), ResultsFile(tmp_path / name) as file:
        for line in range(10_000):
            file.write(RowResult(line, "+905551110001", Outcome.ACCEPTED, os.urandom(20).hex()))
    assert (file.problem and file.problem.strerror, [*tmp_path.iterdir()]) == ("File too large", [])


@BOTH
def test_results_that_can_not_be_read_to_their_end_leave_the_file_before(tmp_path: Path, name: str) -> None:
    """Half of the results under the file's name would pass for all of them."""
    (tmp_path / name).write_text("before")
    with pytest.raises(OSError, match="torn"), ResultsFile(tmp_path / name) as file:
        file.write(RowResult(2, "+905551110001", Outcome.ACCEPTED))
        raise OSError("torn")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "before")]


@BOTH
@pytest.mark.real
def test_a_results_file_that_cannot_be_written_costs_no_result(
    desk360: Desk360,
    server: Server,
    people: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    """Each message goes out and is in the ledger; the same command writes the file, and sends nothing."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "results.csv")

    out = tmp_path / name
    words = ("send", "list", people, *BIRTHDAY, "--out", out, "--base-url", server.url)
    with monkeypatch.context() as on_a_full_disk:
        on_a_full_disk.setattr(_results, "create", full)
        run = desk360(*words)
    assert (run.code, out.exists()) == (3, False)
    assert "3 accepted, 0 not sent, 0 unknown" in run.out
    assert f"--out {out}: No space left on device. Each row's state is in {out}.db" in run.err
    assert desk360(*words).code == 0
    assert ([row["outcome"] for row in results(out)], len(server.sandbox.received)) == (["accepted"] * 3, 3)


@pytest.mark.real
def test_a_closed_stdout_costs_no_result(server: Server, tmp_path: Path) -> None:
    """Each row is sent to and is in the file, though the reader of stdout leaves after a line."""
    file = written(tmp_path, "phone\n" + "".join(f"+90555111{n:04}\n" for n in range(20)))
    out = tmp_path / "results.csv"
    command = [
        sys.executable,
        "-m",
        "desk360_async.cli",
        "send",
        "list",
        file,
        *WELCOME,
        "--json",
        "--out",
        out,
    ]
    process = subprocess.Popen([*command, "--base-url", server.url], stdout=-1, stderr=-1)
    assert process.stdout
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, b"Traceback" in err) == (0, False)
    assert [row["outcome"] for row in results(out)] == ["accepted"] * 20
    assert len(server.sandbox.received) == 20


@pytest.mark.real
def test_ctrl_c_while_a_file_is_read_ends_it_before_a_send(
    start: Start, server: Server, tmp_path: Path
) -> None:
    """200,000 rows take seconds; the command doesn't wait for them, and leaves no ledger."""
    file = written(tmp_path, "phone\n" + "".join(f"+90555{n:07}\n" for n in range(1, 200_000)))
    words = ("--out", str(tmp_path / "results.csv"), "--base-url", server.url)
    command = start("send", "list", str(file), *WELCOME, *words)
    while not server.sandbox.counted:
        assert command.process.poll() is None
        time.sleep(0.01)
    began = time.monotonic()
    code, err = command.stop()
    assert (code, "desk360: interrupted" in err, server.sandbox.received) == (130, True, [])
    assert time.monotonic() - began < 5
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]


@pytest.mark.real
@pytest.mark.parametrize("content", [b"name,tel no\nAda,+905551110001\n", b"\xff\xfen\x00a", b""])
def test_a_refused_list_leaves_no_file(
    desk360: Desk360, server: Server, tmp_path: Path, content: bytes
) -> None:
    """Neither a ledger nor its owner file."""
    file = written(tmp_path, content)
    for words in (
        ("send", "list", file),
        ("campaign", "plan", "spring", file, "--ledger", tmp_path / "s.db"),
    ):
        assert desk360(*words, *BIRTHDAY[:4], "--base-url", server.url).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]


@pytest.mark.real
def test_sending_hours_need_a_zone_and_pause_a_list(
    desk360: Desk360, server: Server, people: Path, tmp_path: Path
) -> None:
    """The plan ends in the hours; a zone that is missing is named."""
    words = (*BIRTHDAY, "--base-url", server.url)
    assert "need --zone" in desk360("send", "list", people, *words, "--hours", "09:00-20:00").err
    hours = ("--hours", "00:00-24:00", "--days", "mon-sun", "--zone", "Europe/Istanbul")
    assert desk360("send", "list", people, *words, *hours).code == 0
    assert len(server.sandbox.received) == 3
    assert desk360("campaign", "plan", "s", people, *words, *hours, "--ledger", tmp_path / "s.db").code == 0


@pytest.mark.real
@pytest.mark.parametrize("command", ["list", "campaign"])
def test_outside_the_sending_hours_nothing_is_sent(
    start: Start, server: Server, people: Path, tmp_path: Path, command: str
) -> None:
    """The hours are those of a day that isn't near; Ctrl-C ends the pause."""
    days = (datetime.now(UTC) + timedelta(days=3)).strftime("%a").lower()
    base, out = ("--base-url", server.url), str(tmp_path / "results.csv")
    words = ["send", "list", str(people), *BIRTHDAY, "--out", out]
    if command == "campaign":
        ledger = ("--ledger", str(tmp_path / "s.db"))
        assert start("campaign", "plan", "s", str(people), *BIRTHDAY, *ledger, *base).process.wait(60) == 0
        words = ["campaign", "run", "s", *ledger]
    run = start(*words, *base, "--hours", "09:00-20:00", "--days", days, "--zone", "UTC")
    assert run.process.stderr
    while "outside the sending hours" not in (line := run.process.stderr.readline()):
        assert line
    code, err = run.stop()
    ended = (3 if command == "list" else 130, True, [])
    assert (code, "interrupted" in err, server.sandbox.received) == ended


@pytest.mark.real
def test_bar_on_a_terminal(tmp_path: Path, people: Path) -> None:
    """On a terminal there is a bar with the refusals and the time left; three rows make no rate."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "desk360_async.cli", "send", "list", str(people), *BIRTHDAY]
    env = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    assert "━" in shown.decode()
    assert re.search(r"3/3\S* 0 not sent · 0 unknown · .*0 s left", shown.decode())


@pytest.mark.real
def test_demo(desk360: Desk360, tmp_path: Path) -> None:
    """An invalid number, a duplicate, a refused one and a lost answer: all accounted for, none sent twice."""
    out = tmp_path / "demo.csv"
    run = desk360("demo", "--count", "40", "--campaign", "0", "--out", out)
    assert run.code == 0
    assert "36 accepted, 3 not sent, 1 unknown" in run.out
    assert "Next: `desk360 sandbox`" in run.err
    assert "this sandbox takes 60 in 3 s" in run.err
    assert "37 messages taken, 37 different phones, 0 refusals" in run.err
    assert len(results(out)) == 40


@pytest.mark.real
@pytest.mark.parametrize(("count", "code"), [("1", 0), ("2", 0), ("3", 0), ("0", 2), ("-5", 2)])
def test_the_demo_takes_any_count(desk360: Desk360, count: str, code: int) -> None:
    """A short list lacks the rows that can't be sent to."""
    run = desk360("demo", "--count", count, "--campaign", "0")
    assert run.code == code
    assert "Traceback" not in run.err


@pytest.mark.real
@pytest.mark.parametrize(
    ("count", "people", "next_part"), [("200", "300", "And now"), ("4", "20000", "It goes on")]
)
def test_ctrl_c_ends_the_demo(
    desk360: Desk360, monkeypatch: pytest.MonkeyPatch, count: str, people: str, next_part: str
) -> None:
    """In the list and in the campaign; what comes behind isn't begun."""
    made: list[Sandbox] = []
    make = _session._made

    def remember(common: Any) -> Any:
        sandbox, chosen = make(common)
        made.append(sandbox)
        return sandbox, chosen

    monkeypatch.setattr(_session, "_made", remember)
    with interrupting(lambda: bool(made) and made[0].accepted >= 10):
        run = desk360("demo", "--count", count, "--campaign", people)
    assert (run.code, next_part in run.err) == (130, False)


@pytest.mark.parametrize(
    "words", [("--host", "0.0.0.0"), ("--limit", "0"), ("--seed-file", os.devnull), ("--port", "99999")]
)
def test_sandbox_refuses_nonsense(desk360: Desk360, words: tuple[str, ...]) -> None:
    """An address that others reach needs a flag; settings must make sense."""
    run = desk360("sandbox", *words)
    assert run.code == 2
    assert run.err.startswith("desk360: ")


def test_docs(desk360: Desk360, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide is the README that the package was built with."""
    described = SimpleNamespace(json={"description": "# desk360-async\n"})
    monkeypatch.setattr(bundle, "metadata", lambda _: described)
    assert desk360("docs").out.startswith("# desk360-async\n\nPages of the guide: ")

    with monkeypatch.context() as on_a_terminal:
        on_a_terminal.setattr(Console, "is_terminal", True)
        shown = desk360("docs").out  # each version of rich draws its own headings
        assert ("desk360-async" in shown, "#" in shown) == (True, False)

    def missing(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(bundle, "metadata", missing)
    assert desk360("docs").code == 2
