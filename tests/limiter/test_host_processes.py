"""Real processes on one `HostLimiter` against a real server, one of them killed again and again."""

import random
import subprocess
import sys
import time
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


@pytest.mark.real
@pytest.mark.parametrize("kill", [False, True])
def test_four_processes_are_never_refused(tmp_path: Path, kill: bool) -> None:
    """60 per 6 s for 30 s: nothing refused, 97 % used; with a SIGKILL every 3 s, nothing refused either."""
    sandbox = Sandbox(limit=60, period=6.0)
    with ExitStack() as stack:
        server = stack.enter_context(sandbox.serve_in_thread())

        def start() -> subprocess.Popen[bytes]:
            arguments = [
                sys.executable,
                "-m",
                "tests.limiter.host_worker",
                str(tmp_path / "limit.db"),
                server.url,
            ]
            process = stack.enter_context(subprocess.Popen(arguments, cwd=ROOT))
            stack.callback(process.kill)
            return process

        workers = [start() for _ in range(4)]
        patience = time.monotonic() + 20
        while not sandbox.counted:
            assert time.monotonic() < patience, "no worker came up"
            time.sleep(0.01)
        begin = time.monotonic()
        while kill and time.monotonic() < begin + SECONDS - 3.3:
            await_traffic(sandbox, 2.7, 3.3)
            victim = workers.pop(random.randrange(4))
            victim.kill()
            workers.append(start())
        time.sleep(begin + SECONDS - time.monotonic())
        counted, seconds = sandbox.counted, time.monotonic() - begin
        refusals = sandbox.refusals
    used = counted / (seconds * 60 / 6.0)
    print(f"{counted} requests in {seconds:.1f} s, {used:.3f} of the limit, {refusals} refused")
    assert refusals == 0
    assert used >= (0.5 if kill else 0.97)
