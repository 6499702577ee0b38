"""The command line, `desk360`: parse, build a value, make one public call, print. Needs the extra `cli`.

This module imports nothing but the standard library: it also runs where the extra is missing, and prints
the overview of the commands, and the help of each, without loading what only a command needs.
"""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from ._commands import overview

__all__ = ["main"]

_NEEDED = ("cyclopts", "rich", "starlette", "python_multipart", "uvicorn")
_KEY_FLAGS = ("--key", "--api-key", "--apikey", "--api_key", "--token", "--password")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `desk360` and return its exit code.

    Args:
        argv: the words after the command's name; `sys.argv`'s by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
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
    if words in ([], ["--help"], ["-h"]):
        print(overview())
        return 0
    from ._help import help_for

    if text := help_for(words):
        print(text)
        return 0
    from ._app import run

    return run(words)


def _refuse(problem: str) -> int:
    print(f"desk360: {problem}", file=sys.stderr)
    return 2
