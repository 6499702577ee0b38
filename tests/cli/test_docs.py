"""`desk360 docs`: a page by its name."""

import os
import pydoc
from typing import Any

import pytest
from rich.console import Console

from .conftest import Desk360


def test_a_topic_prints_its_page(desk360: Desk360) -> None:
    """Off a terminal the page is printed as Markdown."""
    run = desk360("docs", "rulings")
    assert (run.code, run.out.startswith("# ")) == (0, True)


def test_without_a_topic_the_pages_are_listed(desk360: Desk360) -> None:
    """The list stands behind the README."""
    assert "rulings" in desk360("docs").out.splitlines()[-1]


def test_a_misspelt_topic_is_answered_with_the_right_one(desk360: Desk360) -> None:
    """An unknown topic is a wrong word: exit code 2."""
    run = desk360("docs", "rulngs")
    assert (run.code, run.out) == (2, "")
    assert "did you mean rulings?" in run.err


@pytest.mark.parametrize("own", [None, "-i"])
def test_a_page_in_less_has_styles(
    desk360: Desk360, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    """Without -R it shows their codes; the user's own options stay."""
    seen: list[str] = []
    monkeypatch.delenv("LESS", raising=False)
    if own is not None:
        monkeypatch.setenv("LESS", own)

    def page(text: str, *_: Any) -> None:
        seen.append(os.environ["LESS"])

    monkeypatch.setattr(pydoc, "pager", page)
    monkeypatch.setattr(Console, "is_terminal", True)
    assert desk360("docs", "start").code == 0
    assert (seen, os.environ.get("LESS")) == (["-i -R" if own else "-R"], own)
