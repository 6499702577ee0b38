"""Commands that show or copy files of the package: `desk360 docs`, `new` and `otel dashboard`."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from desk360_async import ConfigurationError

from ._options import DEFAULTS, Common
from ._terminal import Terminal

__all__ = ["dashboard", "docs", "new"]


def docs(*page: str) -> int:
    """Show a page of the guide, in a pager on a terminal; without a page, the README and the pages' names.

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

        with _styles_in_less(), terminal.out.pager(styles=True):
            terminal.out.print(Markdown(text))
    else:
        terminal.out.file.write(text)
    return 0


@contextmanager
def _styles_in_less() -> Generator[None]:
    """Give `less` the option -R, without which it shows the codes of styles."""
    before = os.environ.get("LESS")
    os.environ["LESS"] = f"{before or ''} -R".lstrip()
    try:
        yield
    finally:
        if before is None:
            del os.environ["LESS"]
        else:
            os.environ["LESS"] = before


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
        raise ConfigurationError(
            "the package isn't installed, so its README isn't either; read README.md in the checkout"
        ) from None
    # The README is the body of the metadata, or its field Description. `json` returns both as "description".
    return str(described.json["description"])


def new(
    kind: Literal["fastapi", "django", "campaign"],
    folder: Path,
    /,
    *,
    common: Annotated[Common, Parameter(show=False)] = DEFAULTS,
) -> int:
    """Write a small app and its tests, which pass without a change. The folder must be new or empty.

    Args:
        kind: fastapi or django: a web app that sends and receives. campaign: a script that sends to a list.
        folder: The folder of the new files.
        common: Shared.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} exists and isn't an empty folder; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    # Only files: the folder `__pycache__` may stand beside them.
    sources = [
        source for source in files("desk360_async.cli").joinpath("apps", kind).iterdir() if source.is_file()
    ]
    for source in sources:
        folder.joinpath(source.name).write_bytes(source.read_bytes())
    names = sorted(source.name for source in sources)
    terminal = Terminal(json=common.json, quiet=common.quiet)
    if terminal.json:
        terminal.data({"folder": str(folder), "files": names})
        return 0
    terminal.remark(f"Wrote {', '.join(names)}.")
    terminal.say(f'cd "{folder}" && python -m pip install -r requirements.txt')
    terminal.say("python -m pytest")
    terminal.remark("README.md shows how to run it against a sandbox.")
    return 0


def dashboard() -> int:
    """Print a Grafana dashboard of eight panels as JSON, to import with a Prometheus data source."""
    from desk360_async.otel import dashboard as dashboard_text  # needs the extra `otel`

    Terminal().out.file.write(dashboard_text())
    return 0
