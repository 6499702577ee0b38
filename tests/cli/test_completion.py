"""`desk360 --install-completion`: a script for each shell, and what bash makes of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import GROUPS, LEAVES, Desk360

pytestmark = pytest.mark.real
# What a shell calls to check a script without running it.
CHECKS = {"bash": ("bash", "-n"), "zsh": ("zsh", "-n"), "fish": ("fish", "--no-execute")}
# Completes the words that it is given, as pressing Tab behind the last one would.
TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$(complete -p desk360 | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, which the installation writes to."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def installed(desk360: Desk360, home: Path, shell: str) -> Path:
    """Install the completion for a shell, and return its script."""
    assert desk360("--install-completion", "--shell", shell).code == 0
    (script,) = (path for path in home.rglob("*desk360*") if path.is_file())
    return script


@pytest.mark.parametrize("shell", CHECKS)
def test_each_command_is_in_the_script(desk360: Desk360, home: Path, shell: str) -> None:
    """Those that are loaded only when they are run, too, and the options of each."""
    script = installed(desk360, home, shell)
    text = script.read_text(encoding="utf-8")
    words = {word for command in [*GROUPS, *LEAVES] for word in command.split()}
    options = {"live", "region", "delivered-after", "strategy", "location-request", "language"}
    assert [word for word in words | options if not re.search(rf"\b{word}\b", text)] == []
    if shutil.which(CHECKS[shell][0]):
        subprocess.run([*CHECKS[shell], script], check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("se",), ["send", "sends"]),
        (("send", "lo"), ["location", "location-request"]),
        (("templates", ""), ["list", "show"]),
        (("send", "text", "--ti"), ["--timeout"]),
        (("campaign", "plan", "spring", "people.csv", "--strategy", "b"), ["bulk"]),
        (("trigger", "s"), ["status"]),
    ],
)
def test_tab_completes(desk360: Desk360, home: Path, words: tuple[str, ...], expected: list[str]) -> None:
    """Commands, options and choices."""
    script = installed(desk360, home, "bash")
    command = ["bash", "--norc", "-c", TAB, "bash", str(script), "desk360", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == expected
