"""The file that the processes of a host share: its clock, what is believed of it, and who may open it."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from desk360_async import ConfigurationError, HostLimiter, RateLimitWaitTooLong, _sqlite, _token_file
from tests.limiter.virtual import run


def test_a_reboot_is_bridged_by_the_wall_clock(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock begins anew; what was away is back by the time of day."""

    async def full() -> None:
        for _ in range(3):
            (await make(3).acquire()).done(200, {})

    async def later() -> float:
        with pytest.raises(RateLimitWaitTooLong) as caught:
            await make(3).acquire("interactive", 1.0)
        return caught.value.eta

    def boot(name: str, wall: float) -> None:
        monkeypatch.setattr(_token_file, "boot_id", lambda: name)
        monkeypatch.setattr(_token_file, "time", SimpleNamespace(time=lambda: wall, monotonic=lambda: 0.0))

    boot("one", 1e9)
    run("asyncio", full)
    boot("another", 1e9 + 20)
    assert run("asyncio", later) == pytest.approx(40.05)
    boot("a third", 1e9 - 10_000)
    assert run("asyncio", later) == pytest.approx(40.05)


def test_nothing_in_the_file_is_further_off_than_a_token_can_be(
    make: Callable[..., HostLimiter], tmp_path: Path
) -> None:
    """Some clock was wrong: clamped, so that nobody waits for ever."""

    async def status() -> float:
        limiter = make(1)
        with pytest.raises(RateLimitWaitTooLong) as caught:
            await limiter.acquire("interactive", 1.0)
        return caught.value.eta

    async def touch() -> None:
        (await make(1).acquire()).done(200, {})

    run("asyncio", touch)
    with sqlite3.connect(tmp_path / "limit.db") as db:
        db.execute("UPDATE token SET returns = 1e9")
        db.execute("UPDATE state SET gate = 1e9")
    db.close()
    assert run("asyncio", status) <= 211


def test_a_learned_limit_outlives_the_process_but_a_configured_one_does_not(
    make: Callable[..., HostLimiter],
) -> None:
    """Who is started with another limit, and has learned nothing, gets that."""

    async def limit(configured: int, told: int | None = None, **options: bool) -> int:
        limiter = make(configured, **options)
        for _ in range(2):
            (await limiter.acquire()).done(200, {} if told is None else {"x-ratelimit-limit": str(told)})
        (await limiter.acquire()).unused()
        return limiter.snapshot().limit

    assert run("asyncio", limit, 60) == 60
    assert run("asyncio", limit, 30) == 30
    assert run("asyncio", limit, 30, 100) == 100
    assert run("asyncio", limit, 60) == 100


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, backend: str) -> None:
    """And so is the fix."""

    async def main(path: Path, fix: str) -> None:
        limiter = HostLimiter(path)
        with pytest.raises(ConfigurationError, match=fix):
            await limiter.acquire()
        limiter.close()

    (tmp_path / "garbage").write_text("no database " * 1000)
    run(backend, main, tmp_path, "it is a folder; name a file in it")
    run(backend, main, tmp_path / "missing" / "limit.db", "doesn't exist; make it first")
    run(backend, main, tmp_path / "garbage", "a file on a local disk")


def test_an_end_that_cannot_be_written_is_no_error(make: Callable[..., HostLimiter], tmp_path: Path) -> None:
    """The token comes back at its pessimistic time; nothing is raised into the request."""

    async def main() -> None:
        limiter = make()
        permit = await limiter.acquire()
        limiter.close()
        for file in tmp_path.iterdir():
            file.unlink()
        tmp_path.rmdir()
        permit.done(200, {})

    run("asyncio", main)


def test_a_machine_without_boot_ids_goes_by_the_minute_of_its_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than Linux; the wall clock may be corrected by seconds."""
    monkeypatch.setattr(_token_file, "Path", lambda _: Path("/nowhere/boot_id"))
    clocks = SimpleNamespace(time=lambda: 7290.0, monotonic=lambda: 60.0)
    monkeypatch.setattr(_token_file, "time", clocks)
    assert _token_file.boot_id() == "120"


def test_a_child_process_leaves_its_parents_connection_alone(
    make: Callable[..., HostLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To use it, or only to close it, would break the parent's locks."""
    file = make()._store.file
    with file.transaction() as parents:
        pass
    monkeypatch.setattr("desk360_async._sqlite.os.getpid", lambda: -1)
    with file.transaction() as childs:
        assert childs is not parents
    file.close()
    monkeypatch.undo()
    assert parents.execute("SELECT count(*) FROM state").fetchone() == (0,)
    _sqlite._orphans.pop().close()


@pytest.mark.real
@pytest.mark.anyio
async def test_a_fork_opens_the_file_anew(make: Callable[..., HostLimiter]) -> None:
    """And leaves its parent's connection alone."""
    limiter = make(5, period=50.0)
    (await limiter.acquire()).done(200, {})
    limiter.close()
    await limiter.acquire()
    if (child := os.fork()) == 0:
        os._exit(limiter._step(lambda bucket, *_: bucket.free))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert (await limiter.acquire()) is not None
