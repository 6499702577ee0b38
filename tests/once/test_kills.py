"""Real processes that share a log, race for a key and are killed."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from desk360_async.once import SendLog
from tests.campaigns.killing import strace
from tests.once import killing, racing

pytestmark = [pytest.mark.real, pytest.mark.processes]
needs_strace = pytest.mark.skipif(strace() is None, reason="needs a strace that may trace")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A sandbox in a process of its own."""
    with racing.sandbox() as address:
        yield address


def test_processes_that_race_and_are_killed_send_a_key_once() -> None:
    command = [sys.executable, "-m", "tests.once.racing", "--races", "40"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 keys sent twice, 0 lost" in ended.stdout


@needs_strace
@pytest.mark.parametrize(
    ("call", "number"), [("pwrite64", 9), ("fdatasync", 5), ("sendto", 1), ("sendto", 2), ("recvfrom", 1)]
)
def test_a_kill_at_a_system_call_leaves_every_key_right(call: str, number: int, tmp_path: Path) -> None:
    with racing.sandbox() as url:
        assert killing.kill_at(call, number, url, tmp_path / "sends.db")
        killing.look(url, tmp_path / "sends.db")


@needs_strace
def test_no_request_begins_before_its_intent_is_on_the_disk(url: str, tmp_path: Path) -> None:
    """After a power cut the disk holds what was synced: nothing may be written but unsynced at a POST."""
    log = tmp_path / "calls"
    options = ("-y", "-o", str(log), "-e", "trace=pwrite64,fdatasync,sendto,sendmsg,write")
    killing.trace(*options, url=url, path=tmp_path / "sends.db")
    unsynced, posts = False, 0
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*sends\.db-wal>", line):
            unsynced = True
        elif re.search(r"fdatasync\(\d+<[^>]*sends\.db-wal>", line):
            unsynced = False
        elif "POST /v1" in line:
            posts += 1
            assert not unsynced, line
    assert posts == 9


async def _ask(url: str, log: SendLog, key: str) -> bool:
    async with racing.client(url, log) as client:
        return (await client.send_text(racing.PHONE, key, idempotency_key=key)).replayed


def test_two_loops_in_threads_share_one_log(url: str, tmp_path: Path) -> None:
    log, replayed = SendLog(tmp_path / "sends.db"), []

    def run() -> None:
        replayed.extend(anyio.run(_ask, url, log, f"thread-{number}") for number in range(10))

    log.join()  # the threads' clients come and go
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anyio.run(log.leave)
    assert sorted(replayed) == [False] * 10 + [True] * 10
    assert {racing.accepted(url)[f"thread-{number}"] for number in range(10)} == {1}
