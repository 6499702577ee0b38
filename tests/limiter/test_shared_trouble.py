"""A shared limiter's store in trouble: locked, deleted, full, another user's, another clock."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from desk360_async import (
    ConfigurationError,
    HostLimiter,
    RateLimitWaitTooLong,
    _shared_limiter,
    _threads,
    _token_file,
)
from desk360_async._bucket import StoreBusy, StoreLost
from desk360_async._sqlite import SQLiteFile
from tests.limiter.virtual import run

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def locker(make: Callable[..., HostLimiter], tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Return another process's connection to the limiter's file, which exists."""

    async def touch() -> None:
        (await make().acquire()).unused()

    run("asyncio", touch)
    connection = sqlite3.connect(tmp_path / "limit.db", isolation_level=None)
    yield connection
    connection.close()


@BACKENDS
@pytest.mark.parametrize("max_wait", [0.0, 2.0])
def test_a_locked_file_ends_the_wait_at_max_wait(
    make: Callable[..., HostLimiter], locker: sqlite3.Connection, backend: str, max_wait: float
) -> None:
    """A lock is a reason to wait and no configuration error."""
    locker.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        start = anyio.current_time()
        with pytest.raises(RateLimitWaitTooLong, match="another process holds the lock") as caught:
            await make().acquire("interactive", max_wait)
        assert anyio.current_time() - start == pytest.approx(max_wait, abs=0.05)
        assert caught.value.eta >= max_wait

    run(backend, main)


@BACKENDS
def test_a_wait_for_a_locked_file_is_cancelled_at_once(
    make: Callable[..., HostLimiter], locker: sqlite3.Connection, backend: str
) -> None:
    """And goes on when the lock is free."""
    locker.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        limiter = make()
        with anyio.move_on_after(1.0) as scope:
            await limiter.acquire()
        assert scope.cancelled_caught
        locker.execute("COMMIT")
        await limiter.acquire("interactive", 0.0)

    run(backend, main)


@pytest.mark.real
@pytest.mark.anyio
async def test_an_end_under_a_lock_is_written_later(
    make: Callable[..., HostLimiter], locker: sqlite3.Connection
) -> None:
    """In real threads: the end waits in memory, and the next step writes it."""
    limiter = make(1)
    permit = await limiter.acquire()
    locker.execute("BEGIN IMMEDIATE")
    permit.unused()
    locker.execute("COMMIT")
    (await limiter.acquire("interactive", 5.0)).unused()


def wipe(path: Path) -> None:
    """Delete the limiter's files, as a cleaner of temporary files does."""
    for name in path.parent.glob(path.name + "*"):
        name.unlink()


async def take_all(limiter: HostLimiter) -> int:
    """Take tokens until the next one would have to be waited for; return their number."""
    for number in range(100):
        try:
            permit = await limiter.acquire("interactive", 0.0)
        except RateLimitWaitTooLong:
            return number
        permit.done(200, {})
    return 100


@BACKENDS
@pytest.mark.parametrize("same", [True, False])
def test_a_deleted_file_brings_no_second_limit(
    make: Callable[..., HostLimiter], tmp_path: Path, backend: str, *, same: bool
) -> None:
    """This process's tokens move to the new file, whichever of its limiters opens that."""

    async def main() -> None:
        first = make(5)
        assert await take_all(first) == 5
        wipe(tmp_path / "limit.db")
        await anyio.sleep(1.1)
        assert await take_all(first if same else make(5)) == 0
        await anyio.sleep(60)
        assert await take_all(first) == 5

    run(backend, main)


@BACKENDS
def test_a_new_file_with_the_inode_of_the_deleted_one_brings_no_second_limit(
    make: Callable[..., HostLimiter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(SQLiteFile, "identity", (1, 1))

    async def main() -> None:
        first = make(5)
        assert await take_all(first) == 5
        wipe(tmp_path / "limit.db")
        await anyio.sleep(1.1)
        assert await take_all(first) == 0

    run(backend, main)


@BACKENDS
def test_two_limiters_of_a_process_move_their_tokens_once(
    make: Callable[..., HostLimiter], tmp_path: Path, backend: str
) -> None:
    """Both had the old file open; together they have one limit in the new one."""

    async def main() -> None:
        one, two = make(6), make(6)
        for limiter in (one, two):
            (await limiter.acquire()).done(200, {})
        wipe(tmp_path / "limit.db")
        await anyio.sleep(1.1)
        (await one.acquire()).done(200, {})
        (await two.acquire()).done(200, {})
        assert await take_all(one) + await take_all(two) == 2

    run(backend, main)


class Full:
    """A disk that is full while `lost` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = False
        step = _token_file.TokenFile.step

        def maybe(store: Any, *args: Any) -> Any:
            if self.lost:
                raise StoreLost("the disk is full")
            return step(store, *args)

        monkeypatch.setattr(_token_file.TokenFile, "step", maybe)


@BACKENDS
def test_on_a_full_disk_a_process_goes_on_with_its_share(
    make: Callable[..., HostLimiter],
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nine tenths of its tokens, logged once; back at the file, its requests are known there."""
    caplog.set_level(logging.WARNING, "desk360_async")
    disk = Full(monkeypatch)

    async def main() -> None:
        one, two = make(20), make(20)
        for limiter in (one, two):
            for _ in range(10):
                (await limiter.acquire()).done(200, {})
        disk.lost = True
        assert [await take_all(one), await take_all(two)] == [0, 0]
        await anyio.sleep(61)
        assert [await take_all(one), await take_all(two)] == [18, 0]
        assert one.snapshot().limit == 18
        disk.lost = False
        await anyio.sleep(2)
        assert await take_all(one) + await take_all(two) <= 2
        await anyio.sleep(61)
        assert await take_all(one) == 20

    run(backend, main)
    said = [record.message for record in caplog.records]
    assert sum("allows this process 18 requests per 60 s" in message for message in said) == 1
    assert sum("is back at" in message for message in said) == 1


@BACKENDS
def test_requests_under_way_on_a_full_disk_stay_away_from_the_file(
    make: Callable[..., HostLimiter], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost ones for their grace, unused ones not at all, unfinished ones for their hold."""
    disk = Full(monkeypatch)
    disk.lost = True

    async def main() -> None:
        limiter = make(60)
        (await limiter.acquire()).unused()
        (await limiter.acquire()).lost()
        late = await limiter.acquire()
        disk.lost = False
        await anyio.sleep(1.1)
        (await limiter.acquire()).unused()
        assert limiter.snapshot().free == 58
        late.done(200, {})

    run(backend, main)


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_READONLY, False),
    ],
)
def test_a_full_disk_passes_and_a_foreign_file_does_not(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch, code: int, *, lost: bool
) -> None:
    """By SQLite's code."""
    limiter = make()
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code

    def fail(*_: object) -> None:
        raise error

    with pytest.raises(StoreLost if lost else ConfigurationError):
        limiter._store.step(limiter._model, fail)  # type: ignore[arg-type] # it never returns


@pytest.mark.parametrize(("number", "lost"), [(28, True), (13, False)])
def test_an_operating_systems_error_is_judged_by_its_number(
    make: Callable[..., HostLimiter], number: int, *, lost: bool
) -> None:
    """ENOSPC passes, EACCES doesn't."""
    limiter = make()

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(StoreLost if lost else ConfigurationError):
        limiter._store.step(limiter._model, fail)  # type: ignore[arg-type] # as above


def test_a_time_namespaces_clock_is_read_as_the_hosts(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of one boot, of which one is in a container whose clock is 1,000 s ahead."""

    async def full() -> int:
        return await take_all(make(3))

    assert run("asyncio", full) == 3
    monkeypatch.setattr(_token_file, "clock_offset", lambda: 1000.0)
    monkeypatch.setattr("desk360_async._threads.monotonic", lambda: anyio.current_time() + 1000.0)
    assert run("asyncio", full) == 0


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("monotonic 0 0\nboottime 0 0\n", 0.0),
        ("boottime 3 0\nmonotonic -5 500000000\n", -4.5),
        ("boottime 3 0\n", 0.0),
        ("garbage", 0.0),
    ],
)
def test_the_clocks_offset_is_read_from_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, offset: float
) -> None:
    """Linux lists it; elsewhere it is 0."""
    (tmp_path / "offsets").write_text(text)
    monkeypatch.setattr(_token_file, "Path", lambda _: tmp_path / "offsets")
    assert _token_file.clock_offset() == offset
    monkeypatch.setattr(_token_file, "Path", lambda _: tmp_path / "missing")
    assert _token_file.clock_offset() == 0.0


FORKS = """
import asyncio, os, sys, threading
from desk360_async import HostLimiter
limiter = HostLimiter(sys.argv[1], limit=10_000)
async def use():
    for _ in range(20):
        (await limiter.acquire("interactive", 5.0)).done(200, {})
asyncio.run(use())
stop = threading.Event()
def busy():
    while not stop.is_set():
        asyncio.run(use())
thread = threading.Thread(target=busy); thread.start()
for _ in range(15):
    child = os.fork()
    if child == 0:
        asyncio.run(use())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set(); thread.join()
print("forked")
"""


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_child_forked_beside_a_sending_thread_sends(tmp_path: Path) -> None:
    """15 forks while the parent's threads hold and release the file's mutex: no child hangs."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "limit.db")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("forked\n", "")


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a second user")
def test_another_users_file_is_refused_with_its_owner_and_the_fix(tmp_path: Path) -> None:
    """Root made it under umask 022."""
    path = tmp_path / "limit.db"
    asyncio.run(take_all(HostLimiter(path, limit=1)))
    for part in tmp_path.glob("limit.db*"):
        part.chmod(0o644)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for folder in (tmp_path, *tmp_path.parents[:3]):
                folder.chmod(0o755)
            os.setuid(65534)
            asyncio.run(HostLimiter(path, limit=1).acquire())
        except ConfigurationError as error:
            code = 0 if "root (uid 0) owns it, mode 0644" in str(error) and "chgrp" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("error", "tries"), [(StoreBusy("locked"), _shared_limiter._WRITE_TRIES), (ConfigurationError("old"), 1)]
)
def test_an_end_that_cannot_be_written_waits_for_the_next_step(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int
) -> None:
    limiter, steps = make(5), list[object]()

    def step(transition: object) -> None:
        steps.append(transition)
        raise error

    monkeypatch.setattr(limiter, "_step", step)
    limiter._write()
    assert steps == []
    end: Any = object()
    limiter._ends.append(end)
    limiter._write()
    assert (len(steps), [*limiter._ends]) == (tries, [end])


@BACKENDS
def test_an_end_without_a_thread_to_write_it_raises_nothing(
    make: Callable[..., HostLimiter], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter is going down; the next step writes it, if there is one."""

    def refuse(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    async def main() -> None:
        limiter = make(5)
        permit = await limiter.acquire()
        monkeypatch.setattr(_threads, "start", refuse)
        permit.done(200, {})
        assert len(limiter._ends) == 1

    run(backend, main)


def test_an_end_after_the_store_is_lost_leaves_the_process_with_its_share(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = make(5)

    def step(_: object) -> None:
        raise StoreLost("the disk is full")

    end: Any = object()
    limiter._ends.append(end)
    monkeypatch.setattr(limiter, "_step", step)
    limiter._write()
    assert limiter._spent.alone


def test_an_end_of_another_store_is_not_written_to_this_one(make: Callable[..., HostLimiter]) -> None:
    """The file was replaced since; its number says so, and the end's token isn't of this file."""

    async def main() -> None:
        limiter = make(1)
        permit = await limiter.acquire()
        end: Any = SimpleNamespace(origin="a deleted file", at=0.0, token=permit, how="unused")
        limiter._ends.append(end)
        limiter._step(_shared_limiter._change_nothing)
        assert not limiter._ends
        with pytest.raises(RateLimitWaitTooLong):
            await limiter.acquire(max_wait=0)

    run("asyncio", main)
