"""The options that all commands share, and how their words are read."""

import os
import socket
from pathlib import Path
from typing import Annotated

from attrs import frozen
from cyclopts import Parameter

from desk360_async import ConfigurationError

__all__ = ["DEFAULTS", "Common", "cant_listen", "check_port", "id_or_name"]


@Parameter(name="*", group="Shared options")
@frozen(kw_only=True)
class Common:
    """The shared options.

    Attributes:
        live: Use Desk360 itself. Without it everything goes to a sandbox on this machine.
        integration: The integration's id [env: DESK360_INTEGRATION_ID; on the sandbox: 11].
        base_url: Another server [env: DESK360_BASE_URL]; without --live, a sandbox on this machine.
        key_file: A file that holds the API key [else env: DESK360_API_KEY].
        seed_file: The sandbox's integrations and templates, a JSON file.
        timeout: Seconds that one attempt may take [else: 30].
        limiter: The file in which the commands and apps of this machine share the limit with --live, or off
            [else: one in your state folder; `desk360 limits --path` prints it].
        json: Print JSON: one object, or a line for each; words and bars go to stderr.
        quiet: Say only what was asked for.
        verbose: Log every request to stderr, without the key and whole phone numbers.
    """

    live: bool = False
    integration: int | None = None
    base_url: str | None = None
    key_file: Path | None = None
    seed_file: Path | None = None
    timeout: float = 30.0
    limiter: str | None = None
    json: bool = False
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"))] = False


DEFAULTS = Common()


def check_port(port: int) -> None:
    """Refuse a port that is none.

    Raises:
        ConfigurationError: if so.
    """
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"--port {port}: a port is 0 to 65535; 0 takes a free one")


def cant_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    """Return the error for an address that can't be listened on, with the system's words."""
    # A resolver's numbers are no errnos; and asyncio writes the address into the text of the others.
    resolver = isinstance(error, socket.gaierror)
    words = error.strerror if resolver else os.strerror(error.errno or 0)
    return ConfigurationError(f"--host {host} --port {port}: {words}")


def id_or_name(word: str) -> int | str:
    """Return an id for digits, else a name; `name:75` forces a name.

    Args:
        word: as it was typed.
    """
    if word.startswith("name:"):
        return word.removeprefix("name:")
    return int(word) if word.isascii() and word.isdigit() else word
