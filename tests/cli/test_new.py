"""`desk360 new`: what it writes, whether its tests pass, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Desk360

KINDS = ("fastapi", "django", "campaign")


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_the_tests_of_a_new_app_pass_as_they_are(desk360: Desk360, tmp_path: Path, kind: str) -> None:
    """They run as a user runs them, in a process of their own."""
    assert desk360("new", kind, tmp_path / "app").code == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = subprocess.run(command, cwd=tmp_path / "app", capture_output=True, text=True, timeout=150)
    assert tests.returncode == 0, tests.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_app_is_the_package_s_files_and_two_commands(
    desk360: Desk360, tmp_path: Path, kind: str
) -> None:
    """Both commands stand on stdout, a line each."""
    run = desk360("new", kind, tmp_path / "a" / "b")
    written = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert {"README.md", "requirements.txt"} < written
    assert run.out.splitlines() == [
        f'cd "{tmp_path / "a" / "b"}" && python -m pip install -r requirements.txt',
        "python -m pytest",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_app_requires_the_command_line_that_its_readme_uses(
    desk360: Desk360, tmp_path: Path, kind: str
) -> None:
    """The extra `cli` also has the numbering plans by which the campaign's test reads its list."""
    desk360("new", kind, tmp_path)
    assert "\ndesk360 sandbox" in (tmp_path / "README.md").read_text("utf-8")
    assert "desk360-async[cli,testing]" in (tmp_path / "requirements.txt").read_text("utf-8")


def test_a_new_app_as_json_is_its_folder_and_files(desk360: Desk360, tmp_path: Path) -> None:
    """One object."""
    [shown] = desk360("new", "campaign", tmp_path, "--json").json
    assert (shown["folder"], "spring.py" in shown["files"]) == (str(tmp_path), True)


def test_a_folder_that_holds_a_file_is_refused(desk360: Desk360, tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "shop.py").write_text("mine", "utf-8")
    run = desk360("new", "fastapi", tmp_path)
    assert (run.code, run.err) == (
        2,
        f"desk360: {tmp_path} exists and isn't an empty folder; name another one\n",
    )
    assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_the_folder_s_place_is_refused(desk360: Desk360, tmp_path: Path) -> None:
    """It stays."""
    file = tmp_path / "shop"
    file.write_text("mine", "utf-8")
    assert (desk360("new", "django", file).code, file.read_text("utf-8")) == (2, "mine")
