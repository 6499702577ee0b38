"""What `desk360` says before any command runs: overview, help, typos, what is missing."""

import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import desk360_async.cli as cli
from desk360_async.cli._app import app
from desk360_async.cli._table import COMMANDS, EXIT_CODES

from .conftest import GROUPS, LEAVES, Desk360


@pytest.mark.smoke
@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_overview_names_every_command_and_exit_code(desk360: Desk360, words: tuple[str, ...]) -> None:
    """Without a command, or with --help, there is an overview."""
    run = desk360(*words)
    assert run.code == 0
    assert all(f"  {command.name} " in run.out for command in COMMANDS)
    assert all(f"  {code} " in run.out for code, _ in EXIT_CODES)


@pytest.fixture(params=["60", "80", "120"])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How wide the terminal is."""
    monkeypatch.setenv("COLUMNS", request.param)
    return int(request.param)


@pytest.mark.parametrize("command", ["", *LEAVES, *GROUPS])
def test_each_command_has_help(desk360: Desk360, command: str, columns: int) -> None:
    """The help of each command has a usage line and the exit codes, and fits the terminal."""
    run = desk360(*command.split(), "--help")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"Usage: desk360 {command}")
    assert "Exit codes:\n  0 " in run.out
    # The overview is printed as it stands, without the parser.
    assert max(map(len, run.out.splitlines())) <= (columns if command else 80)


@pytest.mark.parametrize(
    "command",
    [c for c in LEAVES if c not in ("demo", "sandbox", "listen", "trigger", "docs", "new", "otel dashboard")],
)
def test_shared_options_are_everywhere(desk360: Desk360, command: str) -> None:
    """Whatever talks to a server takes the shared options."""
    helped = desk360(*command.split(), "--help").out
    for option in ("--live", "--integration", "--base-url", "--json", "--timeout", "--quiet", "--verbose"):
        assert option in helped


def test_every_target_exists() -> None:
    """The table of commands names what is there."""
    for command in [*COMMANDS, *(inner for group in COMMANDS for inner in group.commands)]:
        module, _, name = command.target.partition(":")
        assert not name or hasattr(import_module(f"desk360_async.cli.{module}"), name)


def test_version(desk360: Desk360) -> None:
    """--version prints it and nothing else."""
    assert desk360("-V").out == desk360("--version").out
    assert desk360("--version").out.strip() == cli._table.__version__


def test_typo_is_answered_with_the_right_word(desk360: Desk360) -> None:
    """A wrong command is named, with what was meant."""
    run = desk360("send", "txt")
    assert run.code == 2
    assert 'Did you mean "text"?' in run.err


def test_missing_argument_is_a_usage_error(desk360: Desk360) -> None:
    """What is missing is named."""
    run = desk360("send", "template", "+905551112233", "welcome")
    assert run.code == 2
    assert "--language" in run.err


def test_missing_extra_is_one_line(desk360: Desk360, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the line says what to install."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "cyclopts" else object())
    run = desk360("demo")
    assert (run.code, run.out) == (2, "")
    assert run.err.splitlines() == [
        "desk360: the command line needs cyclopts: python -m pip install 'desk360-async[cli]'"
    ]


@pytest.mark.parametrize("word", ["--api-key=s3cret-key-123", "--token=s3cret-key-123", "--key"])
def test_key_is_never_taken_from_the_command_line(desk360: Desk360, word: str) -> None:
    """Others can read a command line; the refusal doesn't repeat the key."""
    run = desk360("integrations", "--live", word)
    assert run.code == 2
    assert "DESK360_API_KEY" in run.err
    assert "s3cret" not in run.err + run.out


def test_ctrl_c_is_no_traceback(desk360: Desk360, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt ends with 130 and a word."""

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "overview", interrupted)
    run = desk360()
    assert (run.code, run.err) == (130, "\ndesk360: interrupted\n")


@pytest.mark.real
def test_leaving_reader_is_no_error() -> None:
    """`desk360 | head` ends quietly."""
    shell = f"{sys.executable} -m desk360_async.cli | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("command", [*LEAVES, *GROUPS])
def test_each_help_page_has_an_example(desk360: Desk360, command: str) -> None:
    """The example begins with the command's own words."""
    _, _, example = desk360(*command.split(), "--help").out.partition("Example:\n")
    assert " ".join(example.split()).startswith(f"desk360 {command}")


@pytest.mark.parametrize("command", [leaf for leaf in LEAVES if leaf != "templates list"])
def test_an_example_parses(desk360: Desk360, command: str) -> None:
    """An example that the parser refuses would mislead."""
    _, _, rest = desk360(*command.split(), "--help").out.partition("Example:\n")
    words = shlex.split(rest.partition("\n\n")[0])[1:]
    app().parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("words", ["send text --help", "help send text"])
def test_help_may_stand_before_a_command(desk360: Desk360, words: str) -> None:
    """`desk360 help send text` is `desk360 send text --help`."""
    run = desk360(*words.split())
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("Usage: desk360 send text")


def test_a_group_alone_lists_its_commands(desk360: Desk360) -> None:
    """Each command stands beside its summary."""
    assert "Send text to a customer who wrote before." in desk360("send").out


@pytest.mark.real
@pytest.mark.smoke
def test_the_overview_loads_neither_the_parser_nor_httpx() -> None:
    """The first word that people type must be quick."""
    code = (
        "import sys; from desk360_async.cli import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('httpx', 'cyclopts', 'rich', 'attrs', 'anyio')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.real
@pytest.mark.parametrize("encoding", ["cp1254", "cp857", "ascii"])
def test_output_in_another_encoding_is_no_traceback(encoding: str) -> None:
    """A letter that the encoding lacks is replaced."""
    command = [sys.executable, "-m", "desk360_async.cli", "docs"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_missing_integration_is_named_by_its_option(
    desk360: Desk360, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is in the words of the terminal."""
    monkeypatch.setenv("DESK360_API_KEY", "a-key-of-some-length")
    monkeypatch.delenv("DESK360_INTEGRATION_ID", raising=False)
    run = desk360("send", "text", "+905551112233", "hi", "--live")
    assert run.code == 2
    assert "--integration ID" in run.err
    assert "AsyncDesk360" not in run.err


@pytest.mark.real
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 3),
        ("templates list", 3),
        ("send text +905551112233 hi", 4),
        ("demo --count 2 --campaign 0", 3),
    ],
)
def test_a_full_disk_for_the_output_is_one_line(words: str, code: int) -> None:
    """Of a single send it is code 4: the caller can't know the message's end."""
    command = [sys.executable, "-m", "desk360_async.cli", *words.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == "desk360: the output isn't complete: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.real
@pytest.mark.parametrize("words", ["send text +905550000000 hi --json", "send text +90500000000000 hi"])
def test_a_leaving_reader_leaves_a_sends_code(words: str) -> None:
    """A refused send is 3, also where its output was closed."""
    shell = f"{sys.executable} -m desk360_async.cli {words} 2>/dev/null | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False, text=True)
    assert done.stdout == "3\n"


@pytest.mark.real
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_streams_closed_before_the_start_leave_a_sends_code(closed: str) -> None:
    """Python has no stream at all then."""
    shell = f"{sys.executable} -m desk360_async.cli send text +905551112233 hi --json {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_key_of_a_send_without_a_log_is_answered_with_the_log(desk360: Desk360) -> None:
    """The word behind it may be an API key, so it isn't repeated."""
    run = desk360("send", "text", "+905551112233", "hi", "--key", "order-1")
    assert (run.code, "add --log PATH" in run.err, "order-1" in run.err) == (2, True, False)


@pytest.mark.parametrize("name", ["results.xls", "results.ODS"])
def test_the_results_of_a_list_are_no_other_spreadsheet(desk360: Desk360, name: str) -> None:
    """CSV under such a name doesn't open."""
    run = desk360("send", "list", "people.csv", "--template", "1", "--language", "1", "--out", name)
    problem = f"desk360: --out {name}: the results are an .xlsx or a .csv file; name it results.xlsx\n"
    assert (run.code, run.err.endswith(problem)) == (2, True)
