"""Each page of the guide runs as it stands, for a reader with a fresh folder and no account."""

import inspect
import re
from pathlib import Path

import pytest

import desk360_async
from desk360_async import AsyncDesk360

from .pages import Reader, blocks_of

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "desk360_async" / "guide"
PAGES = sorted(page.stem for page in GUIDE.glob("*.md"))
RUN = [
    name
    for name in PAGES
    if any(b.language in ("python", "console") for b in blocks_of(GUIDE / f"{name}.md"))
]
BASES = {"APIError", "Desk360Error"}  # the page explains them in its text
_LINK = re.compile(r"\]\(([^)#]+)")


@pytest.mark.real
@pytest.mark.parametrize("name", RUN)
def test_a_page_runs_from_its_first_block_to_its_last(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader copies blocks and expects that they work."""
    frameworks = ("aiohttp", "celery", "django", "fastapi", "flask", "litestar", "opentelemetry", "psycopg")
    for framework in frameworks:
        if re.search(rf"^(from|import) {framework}", (GUIDE / f"{name}.md").read_text("utf-8"), re.MULTILINE):
            pytest.importorskip(framework)
    Reader(GUIDE / f"{name}.md", tmp_path, monkeypatch).follow()


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDE.rglob("*.md")], ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """Pages link to each other and to files of the repository."""
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_the_readme_links_to_each_page(name: str) -> None:
    """A page without a link is a page without readers."""
    assert f"(desk360_async/guide/{name}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def rows(name: str) -> str:
    """Return the first column of the tables of a page."""
    lines = (GUIDE / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.split("|")[1] for line in lines if line.startswith("| `"))


def test_each_error_has_a_row() -> None:
    """A class without a row is one that no reader can handle."""
    kinds = [getattr(desk360_async, name) for name in desk360_async.__all__]
    errors = {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, Exception)}
    assert {name for name in errors - BASES if f"`{name}`" not in rows("errors")} == set()


def test_each_setting_has_a_row() -> None:
    """The constructor's arguments are all explained."""
    names = inspect.signature(AsyncDesk360).parameters
    assert [name for name in names if f"`{name}`" not in rows("settings")] == []
