"""The command line, `desk360`: parse, build a value, make one public call, print. Needs the extra `cli`.

This module imports only the standard library. So it also runs where the extra is missing, and it prints
the overview of the commands without the parser.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

from ._table import overview

__all__ = ["main", "script"]

_NEEDED = ("cyclopts", "rich", "starlette", "python_multipart", "uvicorn")
_INTERRUPTED = 130  # the exit code after Ctrl-C
_PATIENCE = 5.0  # seconds after Ctrl-C in which a busy thread may end
_KEY_FLAGS = ("--key", "--api-key", "--apikey", "--api_key", "--token", "--password")


def script() -> int:
    """Run `desk360` as the program of this process, and return its exit code.

    A command that has done its work leaves Ctrl-C ignored, so that the code stays the command's own.
    """
    code = _run_main(sys.argv[1:])
    if code == _INTERRUPTED:
        _end_threads(code)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _end_threads(code: int) -> None:
    """Wait for the threads that Python waits for at its exit; end the process if one goes on.

    A third Ctrl-C ends the event loop before its threads. A thread that is idle then would wait for ever.
    """
    deadline = time.monotonic() + _PATIENCE
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                for stream in filter(None, (sys.stdout, sys.stderr)):
                    with suppress(OSError, ValueError):  # a reader that has gone, a closed stream
                        stream.flush()
                os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `desk360` in this process, and return its exit code; the handler of Ctrl-C is restored.

    Args:
        argv: the words after the command's name; None for those of `sys.argv`.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        return _run_main(sys.argv[1:] if argv is None else argv)
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _run_main(argv: Sequence[str]) -> int:
    words = list(argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # its descriptor was closed before the start (`>&-`)
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open until the exit
    for stream in (sys.stdout, sys.stderr):
        # A pipe on Windows has an encoding such as cp1254. A letter that it lacks must not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        return _refuse(
            f"the command line needs {', '.join(missing)}: python -m pip install 'desk360-async[cli]'"
        )
    # This check comes before the parser, whose error would repeat the key. A shell's history and `ps` show
    # the command line to other users. With a send log, `send --key` is the name of a send, and is allowed.
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
        return _INTERRUPTED
    finally:
        sys.stdout = output.stream
    return code if output.error is None else _incomplete(words, code, output.error)


class Output:
    """A stream that drops all text after its first write error, so that the command goes on.

    Attributes:
        stream: the stream that gets the text.
        error: the first write error, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it after an error; return the number of characters."""
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
                # At exit Python flushes the stream again, and would report the same error.
                with suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _incomplete(words: list[str], code: int, error: OSError) -> int:
    """Return the exit code of a command whose output could not be written.

    The caller of a single send can't see its outcome then, so the code is 4. The outcomes of a list and of a
    campaign are in the ledger, so their code stays. A pipe that its reader closed (`| head`) is no error.
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
