"""Kill a process that sends under keys at one system call after another: `python -m tests.once.killing 60`.

Afterwards each key is asked for once more, and its record is compared with the server's.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

from tests.campaigns.killing import ROOT, strace
from tests.once.racing import accepted, sandbox, settle
from tests.once.worker import KEYS

WORKER = Path(__file__).with_name("worker.py")
# SQLite writes and syncs in a worker thread; the sockets are the main thread's.
CALLS = ("pwrite64", "fdatasync", "sendto", "recvfrom")


def trace(*options: str, url: str, path: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the worker under strace with options of its own."""
    tracer = strace()
    assert tracer is not None
    command = [tracer, "-f", "-qq", *options, sys.executable, str(WORKER), url, str(path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)


def kill_at(call: str, number: int, url: str, path: Path) -> bool:
    """Kill the worker at the n-th call; return whether it came that far."""
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    ended = trace("-o", os.devnull, "-e", f"trace={call}", "-e", inject, url=url, path=path)
    return ended.returncode != 0


def look(url: str, path: Path) -> int:
    """Ask for each key once more, compare with the server's record, and return the unknown ones.

    Raises:
        AssertionError: a key was sent twice or lost, or its state doesn't fit.
    """
    lost, unfitting, unknown = anyio.run(settle, url, path, KEYS)
    assert (lost, unfitting) == (0, 0)
    assert max(accepted(url).values()) == 1, "a key was sent twice"
    return unknown


def sweep(most: int) -> tuple[int, int]:
    """Kill at up to `most` points of each call; return the kills and the unknown keys."""
    kills = unknown = 0
    for call in CALLS:
        for number in range(1, most + 1):
            with tempfile.TemporaryDirectory() as folder, sandbox() as url:
                path = Path(folder) / "sends.db"
                if not kill_at(call, number, url, path):
                    break
                kills += 1
                unknown += look(url, path)
    return kills, unknown


if __name__ == "__main__":
    if shutil.which("strace") is None:
        sys.exit("this needs strace")
    done, open_keys = sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
    print(
        f"{done} kills at {done} points: 0 keys lost, 0 sent twice, 0 falsely accepted, {open_keys} unknown"
    )
