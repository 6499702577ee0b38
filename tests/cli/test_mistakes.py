"""The likeliest mistakes of a newcomer: each ends in a line with the place, the limit and the fix."""

import sys
from pathlib import Path
from typing import Any

import pytest
from cyclopts.completion.detect import ShellDetectionError
from rich.console import Console

from desk360_async.campaigns import Counts, Progress
from desk360_async.cli._session import Session
from desk360_async.cli._terminal import Terminal, counted, spoken
from desk360_async.cli.campaign import _words

from .conftest import Desk360, Server

TO = "+905551112233"
BIRTHDAY = ("--template", "birthday", "--language", "English", "--map", "body-1=name")
FILES = {
    "wrong-header.csv": b"tel no,isim\n+905551110001,Ada\n",
    "no-header.csv": b"+905551110001,Ada\n+905551110002,Bora\n",
    "turkish.csv": "phone;name\n+905551110001;Şule\n".encode("cp1254"),
    "quote.csv": b'phone,name\n+905551110001,"Ada\n+905551110002,Bora\n',
    "empty.csv": b"",
    "people.csv": b"phone,name\n+905551110001,Ada\n",
}


def one_line(desk360: Desk360, *words: object) -> str:
    """Run a command that is refused; return its last line but the pointer to the help."""
    run = desk360(*words)
    assert (run.code, run.out, "Traceback" in run.err) == (2, "", False)
    # A bar of rich's lowest version leaves an empty line where it stood.
    lines = [line for line in run.err.splitlines() if line and not line.startswith(("Not live", "See: "))]
    assert len(lines) == 1, run.err
    return lines[0]


@pytest.mark.parametrize(
    ("command", "fix"),
    [
        ("send text 05551112233 Hi",
         "like '+905551112233'; for local numbers name their region: --region TR"),
        ("send text 905551112233 Hi", "must start with '+' and the country code"),
        ("send text 05551112233 Hi --region XX", "region is two letters, such as 'TR', got 'XX'"),
        ("send text +905551112233 Your order", "too many words: order; write a text with spaces in quotes"),
        ("send text +905551112233", "parameter TEXT requires an argument"),
        ("send text +905551112233 Hi --live",
         "set the environment variable DESK360_API_KEY, or use --key-file"),
        ("send text +905551112233 Hi --imeout 3", "Did you mean --timeout?"),
        ("send txt +905551112233 Hi", 'Did you mean "text"?'),
        ("sned text", 'Did you mean "send"?'),
        ("send text +905551112233 Hi --log no/folder.db --key k",
         "the folder no doesn't exist; make it first"),
        ("send template +905551112233 birthdy --language English", "did you mean 'birthday'?"),
        ("send template +905551112233 birthday --language Englsh",
         "template birthday has: English (1), Türkçe (2)"),
        ("send template +905551112233 birthday --language tr", "lacks body-1; Türkçe takes: body-1"),
        ("send media +905551112233 missing.pdf", "'missing.pdf': No such file or directory; give the path"),
        ("send list missing.csv BIRTHDAY", "missing.csv: there is no such file"),
        ("send list wrong-header.csv BIRTHDAY",
         "the columns are: tel no, isim. Rename one, or pass --map body-1=COLUMN"),
        ("send list no-header.csv BIRTHDAY", "the first line must name the columns"),
        ("send list turkish.csv BIRTHDAY",
         "the first is line 2. Save it as CSV UTF-8, or name its encoding, such as --encoding cp1254"),
        ("send list quote.csv BIRTHDAY", "quote.csv, line 2: unexpected end of data; is a quote missing?"),
        ("send list empty.csv BIRTHDAY", "its first line is empty; it must name the columns"),
        ("send list people.csv BIRTHDAY --out no/results.csv", "the folder no doesn't exist; make it first"),
        ("send list people.csv BIRTHDAY --encoding utf9", "there is no encoding 'utf9'; one is 'utf-8'"),
        ("campaign plan c people.csv BIRTHDAY", "run `desk360 sandbox` in another terminal"),
        ("campaign report nothing", "load the campaign first, in the terminal with `desk360 campaign plan`"),
        ("campaign resolve c --all", "give one of --accepted, --not-sent, --resend"),
        ("campaign resolve c --accepted", "give one of --phone PHONE, --batch NUMBER, --all"),
        ("docs campains", "did you mean campaigns? `desk360 docs` lists"),
        ("new flask shop", 'Choose from: "fastapi", "django", "campaign"'),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_the_fix_in_one_line(
    desk360: Desk360, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, fix: str
) -> None:
    """In the terminal's own words, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    for name in ("DESK360_API_KEY", "DESK360_BASE_URL", "DESK360_INTEGRATION_ID"):
        monkeypatch.delenv(name, raising=False)
    for file, content in FILES.items():
        (tmp_path / file).write_bytes(content)
    words = command.replace("BIRTHDAY", " ".join(BIRTHDAY)).split()
    line = one_line(desk360, *words)
    assert fix in line
    assert "region='TR'" not in line


@pytest.mark.parametrize(
    "words",
    [
        ("read", "05551112233", "gBEG1"),
        ("customers", "opt-out", "05551112233", "--customers", "customers.db"),
    ],
)
def test_no_command_names_an_option_that_it_lacks(
    desk360: Desk360, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """`--region` belongs to sends and lists."""
    monkeypatch.chdir(tmp_path)
    assert one_line(desk360, *words).endswith("like '+905551112233'")


def test_a_send_reads_a_local_number_by_its_region(desk360: Desk360, server: Server) -> None:
    """As a list does."""
    words = ("send", "text", "0555 111 22 33", "Hi", "--region", "TR", "--base-url", server.url)
    assert desk360(*words).code == 0
    assert [message.phone for message in server.sandbox.received] == [TO]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name their region: region='TR', in the terminal --region TR", "name their region: --region TR"),
        ("region: normalize_phone(text, region='TR'), in the terminal --region TR", "region: --region TR"),
        ("such as encoding='cp1254', in the terminal --encoding cp1254", "such as --encoding cp1254"),
        ("clean=True (in the terminal --clean) folds white space", "--clean folds white space"),
        ("A body with a=b, in the terminal", "A body with a=b, in the terminal"),
    ],
)
def test_errors_name_the_option_alone(text: str, expected: str) -> None:
    """The argument is for programs."""
    assert spoken(text) == expected


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2000, "2,000 rows")])
def test_one_is_singular(number: int, text: str) -> None:
    """Each other number is plural."""
    assert counted(number, "row") == text


@pytest.mark.parametrize(("rows", "more"), [(2, ""), (25, "… and 5 more lines")])
def test_a_row_that_was_left_out_is_explained_once(
    desk360: Desk360, tmp_path: Path, rows: int, more: str
) -> None:
    """Before the first send; the end counts those rows, and explains only the others."""
    file = tmp_path / "people.csv"
    file.write_text("phone,name\n" + "letters,Ada\n" * rows, "utf-8")
    run = desk360("send", "list", file, *BIRTHDAY)
    assert run.code == 3
    assert run.err.count("letters in it") == min(rows, 20)
    assert run.out.count("letters in it") == (rows > 20)
    assert f"{min(rows, 20)} not sent: left out before the first send, as shown above" in run.out
    assert more in run.err


def test_a_quiet_list_has_its_reasons_in_the_result(desk360: Desk360, tmp_path: Path) -> None:
    """Since no line goes before it."""
    file = tmp_path / "people.csv"
    file.write_text("phone,name\nletters,Ada\n", "utf-8")
    assert "letters in it" in desk360("send", "list", file, *BIRTHDAY, "--quiet").out


@pytest.mark.parametrize("rows", [1, 25])
def test_a_plan_names_the_rows_that_it_leaves_out_once(
    desk360: Desk360, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """By line, and above 20 rows by reason too."""
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("phone,name\n+905551110001,Ada\n" + "letters,Ada\n" * rows, "utf-8")
    run = desk360("campaign", "plan", "c", "people.csv", *BIRTHDAY, "--base-url", server.url)
    assert run.out.startswith("Campaign c: 1 recipient, 1 to be sent")
    assert ("Left out when loading" in run.err) == (rows > 20)
    assert "  line 3: no phone number: letters in it" in run.err


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (30, "1,234 not sent · 12 unknown"),
        (50, "1,234 not sent · 12 unknown · 55:33 h left"),
        (60, "60/min · 1,234 not sent · 12 unknown · 55:33 h left"),
        (90, "60/min · 1,234 not sent · 12 unknown · window 3/60 · 55:33 h left"),
        (20, ""),
    ],
)
def test_the_words_behind_a_bar_fit_the_terminal(width: int, text: str) -> None:
    """The least important go first; a bar without room for any has none."""

    class Client:
        class rate_limit:  # noqa: N801  # the client's attribute
            free, limit = 3, 60

    client: Any = Client()
    session = Session(client, Terminal(), None, None)  # type: ignore[arg-type]  # no option is read
    progress = Progress(Counts(1, 0, 1, 1234, 12, 0), 9, 1.0, 199_980.0)
    assert _words(session, progress, width, is_steady=True) == text


def test_a_table_in_a_pipe_has_no_padding(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A narrow terminal behind the pipe would fold each line."""
    Terminal().table(("Id", "Name"), [(1, "a"), (2, "a long name")])
    assert capsys.readouterr().out == "Id  Name\n1   a\n2   a long name\n"


def test_a_table_on_a_terminal_is_rich_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its styles."""
    console = Console(force_terminal=True, width=40, record=True, file=sys.stderr)
    Terminal(out=console).table(("Id", "Name"), [(1, "a")])
    assert "Id" in console.export_text()


def test_an_unknown_shell_is_answered_with_the_option(
    desk360: Desk360, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the overview explains."""

    def fail() -> None:
        raise ShellDetectionError

    monkeypatch.setattr("cyclopts.completion.detect.detect_shell", fail)
    run = desk360("--install-completion")
    assert (run.code, "specify --shell explicitly" in run.err) == (2, True)
    assert "--install-completion [--shell SHELL]" in desk360("--help").out
