"""`desk360 docs`: the guide, which is the README that the package was built with."""

from importlib.metadata import PackageNotFoundError, metadata

from desk360_async import ConfigurationError

from ._terminal import Terminal

__all__ = ["docs"]


def docs() -> int:
    """Print the guide."""
    terminal = Terminal()
    text = _guide()
    if terminal.out.is_terminal:
        from rich.markdown import Markdown  # slow to load, and only a terminal needs it

        terminal.out.print(Markdown(text))
    else:
        terminal.out.file.write(text)
    return 0


def _guide() -> str:
    try:
        described = metadata("desk360-async")
    except PackageNotFoundError:
        raise ConfigurationError("the package isn't installed, so its guide isn't; read README.md") from None
    # The message's body, which `json` calls so whichever way it is stored.
    return str(described.json["description"])
