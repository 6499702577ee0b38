"""A ledger that has forgotten, was moved, or is damaged: it is refused, or no recipient is sent to twice."""

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import anyio
import pytest

from desk360_async import AsyncDesk360
from desk360_async.campaigns import (
    BatchResult,
    Campaign,
    CampaignError,
    Counts,
    Done,
    LedgerError,
    _ledger,
    _storage,
)
from desk360_async.sandbox import Fault
from tests.campaigns.harness import Scene, done, finish, people

KEPT = "kept"


def interrupt(scene: Scene, count: int = 40) -> Path:
    """Send a part of a campaign, and return a folder with its files as they are in mid-run."""
    kept = scene.folder / KEPT

    async def main(client: AsyncDesk360) -> None:
        campaign = scene.campaign(batch_size=2)
        await campaign.load(client, people(count))
        async with campaign.run(client, concurrency=2, signals=False) as events:
            results = 0
            async for event in events:
                results += isinstance(event, BatchResult)
                if results == 6 and not kept.exists():
                    kept.mkdir()
                    for path in scene.folder.glob("ledger.db*"):
                        shutil.copy(path, kept / path.name)
                    events.abort()

    scene.play(main)
    return kept


def restore(scene: Scene, kept: Path) -> list[str]:
    """Put the files of mid-run in place, as a kill leaves them; return the phones that were sent to."""
    for path in scene.folder.glob("ledger.db*"):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy(path, scene.folder / path.name)
    return scene.received()


def resume(scene: Scene) -> Done:
    return done(scene.play(lambda client: finish(scene.campaign(), client)))


def test_an_undamaged_ledger_goes_on_after_a_kill(scene: Scene) -> None:
    restore(scene, interrupt(scene))
    assert resume(scene).end == "finished"
    assert max(Counter(scene.received()).values()) == 1
    assert len(set(scene.received())) >= 36


def test_a_ledger_without_its_wal_is_refused(scene: Scene) -> None:
    restore(scene, interrupt(scene))
    scene.ledger.with_name("ledger.db-wal").unlink()
    with pytest.raises(LedgerError, match="has forgotten requests"):
        resume(scene)


def test_an_older_copy_is_refused(scene: Scene) -> None:
    kept = interrupt(scene)
    restore(scene, kept)
    assert resume(scene).end == "finished"
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(kept / name, scene.folder / name)
    with pytest.raises(LedgerError, match=r"has forgotten requests: ledger\.db-owner records 2\d, the"):
        resume(scene)


def test_a_ledger_with_a_second_name_is_refused(scene: Scene) -> None:
    restore(scene, interrupt(scene))
    os.link(scene.ledger, scene.folder / "b.db")
    with pytest.raises(LedgerError, match="hard links"):
        resume(scene)


def test_a_lost_ledger_is_not_begun_anew(scene: Scene) -> None:
    interrupt(scene)
    scene.ledger.unlink()
    with pytest.raises(
        LedgerError, match=r"is gone, but ledger\.db-owner records .* delete ledger\.db-owner"
    ):
        scene.play(lambda client: scene.campaign().load(client, people(3)))
    assert not scene.ledger.exists()
    scene.ledger.with_name("ledger.db-owner").unlink()
    assert scene.play(lambda client: scene.campaign().load(client, people(3))).pending == 3


def test_a_lost_ledger_that_never_sent_may_be_begun_anew(scene: Scene) -> None:
    scene.play(lambda client: scene.campaign().load(client, people(3)))
    scene.ledger.unlink()
    assert scene.play(lambda client: scene.campaign().load(client, people(3))).pending == 3


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _link(path: Path) -> None:
    os.link(path, path.with_suffix(".second"))


@pytest.mark.parametrize("act", [_delete, _replace, _link])
def test_a_file_that_changes_in_mid_run_stops_it(scene: Scene, act: object) -> None:
    async def main(client: AsyncDesk360) -> tuple[Done, int]:
        campaign = scene.campaign(batch_size=2)
        await campaign.load(client, people(40))
        async with campaign.run(client, concurrency=1, signals=False) as events:
            async for event in events:
                if isinstance(event, BatchResult):
                    act(scene.ledger)  # type: ignore[operator]  # one of the three
                    break
            return await events.wait(), len(scene.received())

    end, received = scene.play(main)
    assert (end.end, received) == ("ledger", 2)
    assert "while the campaign runs" in end.reason


def test_a_step_of_the_wall_clock_does_not_empty_the_window(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(client: AsyncDesk360) -> list[float]:
        campaign = scene.campaign(batch_size=1, strategy="single")
        await campaign.load(client, people(3))
        await finish(campaign, client)
        monkeypatch.setattr(_ledger, "now", lambda: 1e10)
        async with campaign._opened(owner=True) as ledger:
            await ledger.settings()
            return await ledger.request_ages(60.0, 1.0)

    assert len(scene.play(main)) == 5  # the look-up counts as two


@pytest.mark.parametrize("content", [b"", b"123", b"\0" * 200, b"process 1 request 99999999"])
def test_an_owner_file_without_a_whole_record_does_not_count(scene: Scene, content: bytes) -> None:
    restore(scene, interrupt(scene))
    scene.ledger.with_name("ledger.db-owner").write_bytes(content)
    assert resume(scene).end == "finished"
    assert max(Counter(scene.received()).values()) == 1


def test_a_report_can_be_read_where_nothing_can_be_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = interrupt(scene)
    restore(scene, kept)
    monkeypatch.setattr(_storage, "writable", lambda path: False)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    counts = scene.play(lambda client: scene.campaign().report()).counts
    assert counts.total == 40
    assert counts.accepted >= 10
    after = {path.name: path.read_bytes() for path in scene.folder.glob("ledger.db*")}
    assert after == before


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────


def _truncate(content: bytearray, rng: random.Random) -> bytearray:
    return content[: rng.randrange(len(content))]


def _zero_a_page(content: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(max(1, len(content) // 4096)) * 4096
    content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    return content


def _overwrite_a_page(content: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(max(1, len(content) // 4096)) * 4096
    content[at : at + 4096] = rng.randbytes(len(content[at : at + 4096]))
    return content


def _swap_pages(content: bytearray, rng: random.Random) -> bytearray:
    pages = [content[n : n + 4096] for n in range(0, len(content), 4096)]
    one, two = rng.randrange(len(pages)), rng.randrange(len(pages))
    pages[one], pages[two] = pages[two], pages[one]
    return bytearray(b"".join(pages))


def flip_a_bit(content: bytearray, rng: random.Random) -> bytearray:
    """Flip one bit, which SQLite can't notice in the middle of a value."""
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


DAMAGES = (_truncate, _zero_a_page, _overwrite_a_page, _swap_pages)


def outcome_of_damage(scene: Scene, kept: Path, rng: random.Random, kinds: tuple[object, ...]) -> str:
    """Damage one of the files of mid-run, and resume; return "refused", "finished" or "twice"."""
    before = Counter(restore(scene, kept))
    path = scene.folder / rng.choice(sorted(p.name for p in kept.iterdir()))
    damage = rng.choice((*kinds, None))
    if damage is None:
        path.unlink()
    elif path.stat().st_size:
        path.write_bytes(damage(bytearray(path.read_bytes()), rng))  # type: ignore[operator]  # one of ours
    try:
        end = resume(scene).end
    except (CampaignError, LedgerError):
        end = "refused"
    after = Counter(scene.received())
    return "twice" if any(number > 1 for number in (after - before + before).values()) else end


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_ledger_is_refused_or_sends_to_nobody_twice(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, "asyncio")
    assert outcome_of_damage(scene, interrupt(scene), random.Random(seed), DAMAGES) != "twice"


def sweep(number: int) -> None:
    """Damage a ledger many times, and print the outcomes; single flipped bits apart."""
    import tempfile

    for name, kinds in (("damage", DAMAGES), ("flipped bits", (flip_a_bit,))):
        outcomes: Counter[str] = Counter()
        for seed in range(number):
            with tempfile.TemporaryDirectory() as folder:
                scene = Scene(Path(folder), "asyncio")
                outcomes[outcome_of_damage(scene, interrupt(scene), random.Random(seed), kinds)] += 1
        print(f"{number} x {name}: {dict(outcomes)}")


# ── numbers after a failure, exit codes and the rest of a run ──────────────────────────────────────────


@pytest.fixture
def broken_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each result fail to be written."""
    conclude = _storage.LedgerFile.write

    async def write(self: _storage.LedgerFile, work: object, *given: object) -> object:
        if getattr(getattr(work, "func", None), "__name__", "") == "conclude":
            self.failure = OSError("disk I/O error")
            raise LedgerError("the ledger can't be written: disk I/O error")
        return await conclude(self, work, *given)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(_storage.LedgerFile, "write", write)


def test_results_that_cannot_be_written_are_unknown(scene: Scene, broken_after: None) -> None:
    async def main(client: AsyncDesk360) -> Done:
        await scene.campaign(batch_size=2).load(client, people(40))
        scene.sandbox.faults.add(Fault("latency", delay=5))
        return done(await finish(scene.campaign(), client, concurrency=4))

    end = scene.play(main)
    assert end.end == "ledger"
    assert end.counts == Counts(unknown=8, pending=32)
    assert len(scene.received()) == 8


def test_another_task_may_leave_the_run(scene: Scene) -> None:
    async def main(client: AsyncDesk360) -> Counts:
        await scene.campaign().load(client, people(3))
        run = scene.campaign().run(client)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.__aenter__)
        await run.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.__aexit__, None, None, None)
        return await scene.campaign().status()

    assert scene.play(main) == Counts(accepted=3)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("mine"), GeneratorExit()])
def test_the_callers_own_exceptions_leave_the_run_as_they_are(scene: Scene, error: BaseException) -> None:
    async def main(client: AsyncDesk360) -> BaseException | None:
        await scene.campaign(batch_size=1).load(client, people(9))
        try:
            async with scene.campaign().run(client) as events:
                async for _ in events:
                    raise error
        except BaseException as raised:  # noqa: BLE001  # compared
            return raised
        return None

    assert scene.play(main) is error


def test_people_of_a_state_are_the_list_of_another_campaign(scene: Scene) -> None:
    async def main(client: AsyncDesk360) -> int:
        await scene.campaign().load(client, people(3))
        listed = await scene.campaign().people(state="pending")
        assert [(p.phone, p.parameters) for p in listed] == [(p.phone, p.parameters) for p in people(3)]
        return (
            await Campaign("next", template="back_in_stock", language=1, ledger=scene.ledger).load(
                client, listed
            )
        ).pending

    assert scene.play(main) == 3


def test_a_campaign_is_watched_to_its_end(scene: Scene) -> None:
    async def main(client: AsyncDesk360) -> list[int]:
        await scene.campaign(batch_size=1).load(client, people(120))
        seen: list[int] = []

        async def watch() -> None:
            seen.extend([p.counts.accepted async for p in scene.campaign().watch(every=5.0)])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await finish(scene.campaign(), client)
        return seen

    seen = scene.play(main)
    assert seen == sorted(seen)
    assert (seen[-1], len(seen) > 2) == (120, True)


if __name__ == "__main__":
    sweep(300)
