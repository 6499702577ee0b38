"""What `desk360` says before any command runs: overview, help, typos, what is missing."""

import re
import subprocess
import sys
from importlib import import_module

import pytest
from cyclopts.argument import Argument

import desk360_async.cli as cli
from desk360_async.cli import _help
from desk360_async.cli._app import app
from desk360_async.cli._commands import COMMANDS, EXIT_CODES
from desk360_async.cli._help import help_for

from .conftest import GROUPS, LEAVES, Desk360


@pytest.mark.smoke
@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_overview_names_every_command_and_exit_code(desk360: Desk360, words: tuple[str, ...]) -> None:
    """Without a command, or with --help, there is an overview."""
    run = desk360(*words)
    assert run.code == 0
    assert all(f"  {command.name} " in run.out for command in COMMANDS)
    assert all(f"  {code} " in run.out for code, _ in EXIT_CODES)


@pytest.fixture(params=["80", "120"])
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
    assert max(map(len, run.out.splitlines())) <= columns


def parsed(command: str) -> list[Argument]:
    """Return what the parser knows of a command."""
    root = found = app()
    for word in command.split():
        found = found[word]
    arguments = found.assemble_argument_collection(default_parameter=root.default_parameter)
    return [argument for argument in arguments if argument.show]


def listed(text: str, title: str) -> dict[str, str]:
    """Return what a help's sections of that title say of each line's lead."""
    sections = re.findall(rf"^{title}:\n((?:  .+\n)+)", text, re.MULTILINE)
    rows = re.findall(r"^  (\S+(?: \S+)*)\s+(.+(?:\n {4,}.+)*)", "".join(sections), re.MULTILINE)
    return {lead: " ".join(said.split()) for lead, said in rows}


@pytest.mark.parametrize("command", LEAVES)
def test_help_tells_of_each_option_that_there_is(desk360: Desk360, command: str) -> None:
    """What the help says is what the parser takes: names, what is required, what may be left out."""
    text = desk360(*command.split(), "--help").out
    options = [a for a in parsed(command) if a.name.startswith("--")]
    said = listed(text, "(?:Options|Shared options)")
    assert {name for lead in said for name in re.findall(r"--?[a-z-]+", lead)} == {
        name for argument in options for name in argument.names
    }
    required = {re.findall(r"--[a-z-]+", lead)[0] for lead, words in said.items() if "[required]" in words}
    assert required == {argument.name for argument in options if argument.required}
    assert all(len(words) > 8 for words in said.values())


@pytest.mark.parametrize("command", LEAVES)
def test_help_tells_of_each_argument_that_there_is(desk360: Desk360, command: str) -> None:
    """Arguments stand in their order, and in brackets if they may be left out."""
    said = listed(desk360(*command.split(), "--help").out, "Arguments")
    arguments = [argument for argument in parsed(command) if not argument.name.startswith("--")]
    assert [lead.strip("[]…") for lead in said] == [argument.name for argument in arguments]
    optional = [lead.startswith("[") for lead in said if not lead.endswith("…")]
    assert optional == [
        not a.required for a in arguments if a.field_info.kind is not a.field_info.VAR_POSITIONAL
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("send text --to -- --help", None),
        ("send txt --help", None),
        ("sned --help", None),
        ("send", "Usage: desk360 send COMMAND"),
        ("send -h", "Usage: desk360 send COMMAND"),
        ("read +905551112233 -h", "Usage: desk360 read TO"),
        ("campaign", "Usage: desk360 campaign COMMAND"),
        ("templates list", None),
    ],
)
def test_who_asks_for_help(words: str, expected: str | None) -> None:
    """A group alone does; a typo doesn't, and gets the parser's answer."""
    text = help_for(words.split())
    assert text is None if expected is None else str(text).startswith(expected)


def test_help_without_sources_is_the_parsers(desk360: Desk360, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only compiled modules were installed, there is help all the same."""

    def missing(_: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(_help, "_tree", missing)
    run = desk360("send", "template", "--help")
    assert run.code == 0
    assert "--language" in run.out
    assert "Exit codes:" in run.out


@pytest.mark.parametrize(
    "command", [c for c in LEAVES if c not in ("demo", "sandbox", "listen", "trigger", "docs")]
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
    assert desk360("--version").out.strip() == cli._commands.__version__


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


@pytest.mark.real
@pytest.mark.smoke
@pytest.mark.parametrize(
    "words", [["--help"], ["send"], ["send", "text", "--help"], ["campaign", "plan", "-h"]]
)
def test_help_loads_neither_the_parser_nor_httpx(words: list[str]) -> None:
    """The first thing that people type must be quick."""
    code = (
        f"import sys; from desk360_async.cli import main; main({words});"
        "sys.exit(any(name in sys.modules for name in ('httpx', 'cyclopts', 'rich', 'attrs', 'anyio')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
