"""Real processes on one `HostLimiter` against a real server, one of them killed again and again."""

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from desk360_async.sandbox import Sandbox

SECONDS = 30.0
ROOT = Path(__file__).parents[2]


def await_traffic(sandbox: Sandbox, least: float, most: float) -> None:
    """Return after `least` seconds and then as soon as a request is counted, after `most` at the latest.

    The tokens come back together, and between those bursts nothing is under way that a kill could hurt.
    """
    start = time.monotonic()
    time.sleep(least)
    before = sandbox.counted
    while sandbox.counted == before and time.monotonic() < start + most:
        time.sleep(0.001)


def run(folder: Path, *, kill: bool) -> tuple[float, int]:
    """Let four processes send for 30 s at 60 per 6 s; return the share of the limit used and the refusals."""
    sandbox = Sandbox(limit=60, period=6.0)
    folder.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(sandbox.serve_in_thread())
        module = [sys.executable, "-m", "tests.limiter.host_worker"]

        def start() -> subprocess.Popen[bytes]:
            command = [*module, str(folder / "limit.db"), server.url]
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT))
            stack.callback(process.kill)
            return process

        workers = [start() for _ in range(4)]
        patience = time.monotonic() + 90
        while not sandbox.counted:
            assert time.monotonic() < patience, "no worker came up"
            time.sleep(0.01)
        begin = time.monotonic()
        while kill and time.monotonic() < begin + SECONDS - 3.3:
            await_traffic(sandbox, 2.7, 3.3)
            workers.pop(random.randrange(4)).kill()
            workers.append(start())
        time.sleep(begin + SECONDS - time.monotonic())
        counted, seconds = sandbox.counted, time.monotonic() - begin
        refusals = sandbox.refusals
    used = counted / (seconds * 60 / 6.0)
    killed = ", one killed every 3 s" if kill else ""
    print(f"{counted} requests in {seconds:.1f} s, {used:.3f} of the limit, {refusals} refused{killed}")
    return used, refusals


@pytest.mark.real
@pytest.mark.processes
def test_four_processes_are_never_refused(tmp_path: Path) -> None:
    """97 % used; and nothing refused either, in another four of which one is killed again and again."""
    with ThreadPoolExecutor() as both:  # side by side, since each takes 30 s
        killed = both.submit(run, tmp_path / "killed", kill=True)
        used, refusals = run(tmp_path / "steady", kill=False)
    assert (refusals, killed.result()[1]) == (0, 0)
    assert used >= 0.97
    assert killed.result()[0] >= 0.5
