"""`desk360 new`: a small app with its tests, copied from the package into a folder."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from desk360_async import ConfigurationError

from ._options import DEFAULTS, Common
from ._terminal import Terminal

__all__ = ["new"]


def new(
    kind: Literal["fastapi", "django", "campaign"],
    folder: Path,
    /,
    *,
    common: Annotated[Common, Parameter(show=False)] = DEFAULTS,
) -> int:
    """Write a small app with its tests, which pass as they are. The folder must be new or empty.

    Args:
        kind: fastapi or django, a web app that sends and receives; or campaign, a script on a list.
        folder: Where the files go.
        common: Shared.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} exists and isn't an empty folder; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    # A run of the tests inside the package leaves folders of compiled files.
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
