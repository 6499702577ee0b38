"""What `desk360` says before any command runs: overview, help, typos, what is missing."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import desk360_async.cli as cli
from desk360_async.cli._commands import COMMANDS, EXIT_CODES

from .conftest import Desk360

GROUPS = ["send", "templates", "media", "campaign"]
LEAVES = [
    *(command.name for command in COMMANDS if command.name not in GROUPS),
    *(f"send {kind}" for kind in ("text", "template", "location", "contact", "media", "interactive")),
    *("send location-request", "send list", "templates list", "templates show", "media save"),
]


@pytest.mark.smoke
@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_overview_names_every_command_and_exit_code(desk360: Desk360, words: tuple[str, ...]) -> None:
    """Without a command, or with --help, there is an overview."""
    run = desk360(*words)
    assert run.code == 0
    assert all(f"  {command.name} " in run.out for command in COMMANDS)
    assert all(f"  {code} " in run.out for code, _ in EXIT_CODES)


@pytest.mark.parametrize("command", LEAVES + GROUPS)
def test_each_command_has_help(desk360: Desk360, command: str) -> None:
    """The help of each command has a usage line, and explains every option that it lists."""
    run = desk360(*command.split(), "--help")
    assert run.code == 0
    assert f"Usage: desk360 {command}" in run.out
    assert "Exit codes" in run.out


@pytest.mark.parametrize(
    "command", [c for c in LEAVES if c not in ("demo", "sandbox", "listen", "trigger", "docs")]
)
def test_shared_options_are_everywhere(desk360: Desk360, command: str) -> None:
    """Whatever talks to a server takes the shared options."""
    helped = desk360(*command.split(), "--help").out
    for option in ("--live", "--integration", "--base-url", "--json", "--timeout", "--quiet", "--verbose"):
        assert option in helped


def test_each_option_is_explained() -> None:
    """A parameter without a line in its function's docstring would have no help."""
    for module in Path(cli.__file__).parent.glob("[a-z]*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(a.arg == "common" for a in node.args.kwonlyargs):
                names = {a.arg for a in (*node.args.posonlyargs, *node.args.kwonlyargs)}
                said = ast.get_docstring(node) or ""
                assert not {name for name in names if f"\n    {name}: " not in said}, node.name


def test_every_target_exists() -> None:
    """The table of commands names what is there."""
    for command in COMMANDS:
        module, _, name = command.target.partition(":")
        assert hasattr(import_module(f"desk360_async.cli.{module}"), name)


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
def test_overview_loads_neither_the_parser_nor_httpx() -> None:
    """The first thing that people type must be quick."""
    code = (
        "import sys; from desk360_async.cli import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('httpx', 'cyclopts', 'rich', 'attrs')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.real
def test_help_of_a_command_does_not_load_httpx() -> None:
    """Help needs no HTTP client."""
    code = (
        "import sys; from desk360_async.cli import main; main(['send', 'text', '--help']);"
        "sys.exit('httpx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
