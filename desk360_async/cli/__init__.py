"""The command line, `desk360`: parse, build a value, make one public call, print. Needs the extra `cli`.

This module imports only the standard library: it also runs where the extra is missing, and prints
the overview of the commands without loading the parser.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

from ._table import overview

__all__ = ["main"]

_NEEDED = ("cyclopts", "rich", "starlette", "python_multipart", "uvicorn")
_KEY_FLAGS = ("--key", "--api-key", "--apikey", "--api_key", "--token", "--password")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `desk360` and return its exit code.

    Args:
        argv: the words after the command's name; `sys.argv`'s by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # its descriptor was closed before the start (`>&-`)
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open until the exit
    for stream in (sys.stdout, sys.stderr):
        # A pipe of Windows takes cp1254, say: a letter that it lacks must not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        return _refuse(
            f"the command line needs {', '.join(missing)}: python -m pip install 'desk360-async[cli]'"
        )
    # Before the parser sees it: its error would repeat the key, and shells and `ps` show it to others.
    # `send --key` with a send log is the name of a send.
    flags = {word.split("=")[0] for word in words}
    has_log = "DESK360_SEND_LOG" in os.environ or "--log" in flags
    names_a_send = words[:1] == ["send"] and has_log
    if words[:1] == ["send"] and not has_log and flags.intersection(_KEY_FLAGS) == {"--key"}:
        return _refuse(
            "--key names a send, and needs a send log: add --log PATH, or set DESK360_SEND_LOG "
            "(the API key comes from DESK360_API_KEY, or from --key-file PATH)"
        )
    if any(w.split("=")[0] in _KEY_FLAGS and not (names_a_send and w.startswith("--key")) for w in words):
        return _refuse(
            "the API key is never taken from the command line, where others can read it: "
            "set DESK360_API_KEY, or use --key-file PATH"
        )
    output = Output(sys.stdout)
    sys.stdout = cast("TextIO", output)
    try:
        code = _run(words)
        output.flush()
    except KeyboardInterrupt:
        print("\ndesk360: interrupted", file=sys.stderr)
        return 130
    finally:
        sys.stdout = output.stream
    return code if output.error is None else _incomplete(words, code, output.error)


class Output:
    """A stream whose failure drops the text behind it, while the command goes on.

    Attributes:
        stream: the stream.
        error: the first failure, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        return self._attempt(self.stream.write, text) or len(text)

    def flush(self) -> None:
        """Hand the text to the operating system."""
        self._attempt(self.stream.flush)

    def _attempt(self, work: Callable[..., int | None], *args: str) -> int | None:
        if self.error is None:
            try:
                return work(*args)
            except OSError as error:
                self.error = error
                # Python would complain at its exit.
                with suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _incomplete(words: list[str], code: int, error: OSError) -> int:
    """Return the exit code of a command whose output could not be written.

    A single send's end is then unknown to its caller. A list's and a campaign's is in their ledger. A pipe
    whose reader left (`| head`) is no error.
    """
    if isinstance(error, BrokenPipeError):
        return code
    print(f"desk360: the output isn't complete: {error.strerror or error}", file=sys.stderr)
    if code or words[:2] == ["send", "list"] or words[:2] in (["campaign", "run"], ["campaign", "resume"]):
        return code
    return 4 if words[0] == "send" else 3


def _run(words: list[str]) -> int:
    if words in ([], ["--help"], ["-h"], ["help"]):
        print(overview())
        return 0
    if words == ["-V"]:
        words = ["--version"]
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    from ._app import run

    return run(words)


def _refuse(problem: str) -> int:
    print(f"desk360: {problem}", file=sys.stderr)
    return 2
