"""A process's mark beside a shared file: its lock shows whether the process lives."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desk360_async._sqlite import Presence

NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The shared file; a mark stands beside it whether it is there or not."""
    return tmp_path / "inbox.db"


@pytest.fixture
def make(path: Path) -> Iterator[Callable[[], Presence]]:
    """Make processes' marks, each as in a process of its own; all leave at the end."""
    made: list[Presence] = []

    def make() -> Presence:
        made.append(Presence(path))
        return made[-1]

    yield make
    for presence in made:
        presence.leave()


def marks(path: Path) -> list[str]:
    """Return the names of the marks beside the file."""
    return [mark.name for mark in path.parent.glob("inbox.db-alive-*")]


def test_a_process_that_lives_has_not_ended(path: Path, make: Callable[[], Presence]) -> None:
    ours, others = make(), make()
    name = ours.name
    assert not ours.has_ended(name)
    assert not others.has_ended(name)
    assert (ours.name, marks(path)) == (name, [f"inbox.db-alive-{name}"])


def test_only_the_user_reads_a_mark(path: Path, make: Callable[[], Presence]) -> None:
    name = make().name
    assert path.with_name(f"inbox.db-alive-{name}").stat().st_mode & 0o777 == 0o600


def test_a_process_that_left_has_ended_and_comes_back_under_another_name(
    path: Path, make: Callable[[], Presence]
) -> None:
    ours, others = make(), make()
    name = ours.name
    for _ in range(2):
        ours.leave()
    assert others.has_ended(name)
    assert (marks(path), ours.name != name) == ([], True)


def test_a_mark_that_a_killed_process_left_is_removed(path: Path, make: Callable[[], Presence]) -> None:
    path.with_name("inbox.db-alive-dead").touch()
    assert make().has_ended("dead")
    assert marks(path) == []


def test_a_mark_that_cannot_be_read_leaves_the_verdict_to_the_lease(
    path: Path, make: Callable[[], Presence]
) -> None:
    path.with_name("inbox.db-alive-x").mkdir()
    assert not make().has_ended("x")


@pytest.mark.real
@NEEDS_FORK
def test_a_forked_child_has_a_mark_of_its_own_and_the_parent_keeps_its(
    make: Callable[[], Presence],
) -> None:
    presence, unused = make(), make()
    name = presence.name
    if (child := os.fork()) == 0:
        os._exit(0 if presence.name not in (name, unused.name) and not presence.has_ended(name) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (presence.name, make().has_ended(name)) == (name, False)
