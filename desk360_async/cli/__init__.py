"""The command line, `desk360`: parse, build a value, make one public call, print. Needs the extra `cli`.

This module imports only the standard library: it also runs where the extra is missing, and prints
the overview of the commands without loading the parser.
"""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from io import TextIOWrapper

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
    for stream in (sys.stdout, sys.stderr):
        # A pipe of Windows takes cp1254, say: a letter that it lacks must not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        return _refuse(
            f"the command line needs {', '.join(missing)}: python -m pip install 'desk360-async[cli]'"
        )
    # Before the parser sees it: its error would repeat the key, and shells and `ps` show it to others.
    if any(word.split("=")[0] in _KEY_FLAGS for word in words):
        return _refuse(
            "the API key is never taken from the command line, where others can read it: "
            "set DESK360_API_KEY, or use --key-file PATH"
        )
    try:
        code = _run(words)
        sys.stdout.flush()  # here, where a reader that left can still be told from an error
    except KeyboardInterrupt:
        print("\ndesk360: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe left (`| head`): no error of ours. Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


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
