"""`desk360 docs`: the pages of the guide, which the package holds, and its README."""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files

from desk360_async import ConfigurationError

from ._terminal import Terminal

__all__ = ["docs"]


def docs(*page: str) -> int:
    """Show a page of the guide, in a pager on a terminal; without a page, the README and the list of pages.

    Args:
        page: The page's name, such as start, or recipes flask.
    """
    terminal = Terminal()
    pages = _pages()
    if page:
        text = _page(page, pages)
    else:
        text = f"{_readme().rstrip()}\n\nPages of the guide: {', '.join(pages)} (`desk360 docs PAGE`)\n"
    if terminal.out.is_terminal:
        from rich.markdown import Markdown  # slow to load, and only a terminal needs it

        with terminal.out.pager(styles=True):
            terminal.out.print(Markdown(text))
    else:
        terminal.out.file.write(text)
    return 0


def _pages() -> dict[str, str]:
    """Return the guide's pages by name; a page in a folder is named `folder/page`."""
    found: dict[str, str] = {}
    for entry in files("desk360_async").joinpath("guide").iterdir():
        inner = entry.iterdir() if entry.is_dir() else [entry]
        lead = f"{entry.name}/" if entry.is_dir() else ""
        found |= {
            f"{lead}{page.name.removesuffix('.md')}": page.read_text(encoding="utf-8")
            for page in inner
            if page.name.endswith(".md")
        }
    return dict(sorted(found.items()))


def _page(topic: Sequence[str], pages: dict[str, str]) -> str:
    name = "/".join(topic).lower()
    if name in pages:
        return pages[name]
    meant = get_close_matches(name, pages, n=1)
    guess = f"did you mean {meant[0]}? " if meant else ""
    raise ConfigurationError(
        f"the guide has no page {' '.join(topic)!r}; {guess}`desk360 docs` lists its {len(pages)} pages"
    )


def _readme() -> str:
    try:
        described = metadata("desk360-async")
    except PackageNotFoundError:
        raise ConfigurationError("the package isn't installed, so its guide isn't; read README.md") from None
    # The message's body, which `json` calls so whichever way it is stored.
    return str(described.json["description"])
