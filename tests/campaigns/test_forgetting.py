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
from tests.campaigns.harness import Harness, done, finish, people

KEPT = "kept"


def interrupt(harness: Harness, count: int = 40) -> Path:
    """Send a part of a campaign, and return a folder with its files as they are in mid-run."""
    kept = harness.folder / KEPT

    async def main(client: AsyncDesk360) -> None:
        campaign = harness.campaign(batch_size=2)
        await campaign.load(client, people(count))
        async with campaign.run(client, concurrency=2, signals=False) as events:
            results = 0
            async for event in events:
                results += isinstance(event, BatchResult)
                if results == 6 and not kept.exists():
                    kept.mkdir()
                    for path in harness.folder.glob("ledger.db*"):
                        shutil.copy(path, kept / path.name)
                    events.abort()

    harness.play(main)
    return kept


def restore(harness: Harness, kept: Path) -> list[str]:
    """Put the files of mid-run in place, as a kill leaves them; return the phones that were sent to."""
    for path in harness.folder.glob("ledger.db*"):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy(path, harness.folder / path.name)
    return harness.received()


def resume(harness: Harness) -> Done:
    return done(harness.play(lambda client: finish(harness.campaign(), client)))


def test_an_undamaged_ledger_goes_on_after_a_kill(harness: Harness) -> None:
    restore(harness, interrupt(harness))
    assert resume(harness).end == "finished"
    assert max(Counter(harness.received()).values()) == 1
    assert len(set(harness.received())) >= 36


def test_a_ledger_without_its_wal_is_refused(harness: Harness) -> None:
    restore(harness, interrupt(harness))
    harness.ledger.with_name("ledger.db-wal").unlink()
    with pytest.raises(LedgerError, match="has forgotten requests"):
        resume(harness)


def test_an_older_copy_is_refused(harness: Harness) -> None:
    kept = interrupt(harness)
    restore(harness, kept)
    assert resume(harness).end == "finished"
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(kept / name, harness.folder / name)
    with pytest.raises(LedgerError, match=r"has forgotten requests: ledger\.db-owner records 2\d, the"):
        resume(harness)


def test_a_ledger_with_a_second_name_is_refused(harness: Harness) -> None:
    restore(harness, interrupt(harness))
    os.link(harness.ledger, harness.folder / "b.db")
    with pytest.raises(LedgerError, match="hard links"):
        resume(harness)


def test_a_lost_ledger_is_not_begun_anew(harness: Harness) -> None:
    interrupt(harness)
    harness.ledger.unlink()
    with pytest.raises(
        LedgerError, match=r"is gone, but ledger\.db-owner records .* delete ledger\.db-owner"
    ):
        harness.play(lambda client: harness.campaign().load(client, people(3)))
    assert not harness.ledger.exists()
    harness.ledger.with_name("ledger.db-owner").unlink()
    assert harness.play(lambda client: harness.campaign().load(client, people(3))).pending == 3


def test_a_lost_ledger_that_never_sent_may_be_begun_anew(harness: Harness) -> None:
    harness.play(lambda client: harness.campaign().load(client, people(3)))
    harness.ledger.unlink()
    assert harness.play(lambda client: harness.campaign().load(client, people(3))).pending == 3


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _link(path: Path) -> None:
    os.link(path, path.with_suffix(".second"))


@pytest.mark.parametrize("act", [_delete, _replace, _link])
def test_a_file_that_changes_in_mid_run_stops_it(harness: Harness, act: object) -> None:
    async def main(client: AsyncDesk360) -> tuple[Done, int]:
        campaign = harness.campaign(batch_size=2)
        await campaign.load(client, people(40))
        async with campaign.run(client, concurrency=1, signals=False) as events:
            async for event in events:
                if isinstance(event, BatchResult):
                    act(harness.ledger)  # type: ignore[operator]  # one of the three
                    break
            return await events.wait(), len(harness.received())

    end, received = harness.play(main)
    assert (end.end, received) == ("ledger", 2)
    assert "while the campaign runs" in end.reason


def test_a_step_of_the_wall_clock_does_not_empty_the_window(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(client: AsyncDesk360) -> list[float]:
        campaign = harness.campaign(batch_size=1, strategy="single")
        await campaign.load(client, people(3))
        await finish(campaign, client)
        monkeypatch.setattr(_ledger, "now", lambda: 1e10)
        async with campaign._opened(owner=True) as ledger:
            await ledger.settings()
            return await ledger.request_ages(60.0, 1.0)

    assert len(harness.play(main)) == 5  # the look-up counts as two


@pytest.mark.parametrize("content", [b"", b"123", b"\0" * 200, b"process 1 request 99999999"])
def test_an_owner_file_without_a_whole_record_does_not_count(harness: Harness, content: bytes) -> None:
    restore(harness, interrupt(harness))
    harness.ledger.with_name("ledger.db-owner").write_bytes(content)
    assert resume(harness).end == "finished"
    assert max(Counter(harness.received()).values()) == 1


def test_a_report_can_be_read_where_nothing_can_be_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = interrupt(harness)
    restore(harness, kept)
    monkeypatch.setattr(_storage, "writable", lambda path: False)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    counts = harness.play(lambda client: harness.campaign().report()).counts
    assert counts.total == 40
    assert counts.accepted >= 10
    after = {path.name: path.read_bytes() for path in harness.folder.glob("ledger.db*")}
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


def outcome_of_damage(harness: Harness, kept: Path, rng: random.Random, kinds: tuple[object, ...]) -> str:
    """Damage one of the files of mid-run, and resume; return "refused", "finished" or "twice"."""
    before = Counter(restore(harness, kept))
    path = harness.folder / rng.choice(sorted(p.name for p in kept.iterdir()))
    damage = rng.choice((*kinds, None))
    if damage is None:
        path.unlink()
    elif path.stat().st_size:
        path.write_bytes(damage(bytearray(path.read_bytes()), rng))  # type: ignore[operator]  # one of ours
    try:
        end = resume(harness).end
    except (CampaignError, LedgerError):
        end = "refused"
    after = Counter(harness.received())
    return "twice" if any(number > 1 for number in (after - before + before).values()) else end


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_ledger_is_refused_or_sends_to_nobody_twice(tmp_path: Path, seed: int) -> None:
    harness = Harness(tmp_path, "asyncio")
    assert outcome_of_damage(harness, interrupt(harness), random.Random(seed), DAMAGES) != "twice"


def sweep(number: int) -> None:
    """Damage a ledger many times, and print the outcomes; single flipped bits apart."""
    import tempfile

    for name, kinds in (("damage", DAMAGES), ("flipped bits", (flip_a_bit,))):
        outcomes: Counter[str] = Counter()
        for seed in range(number):
            with tempfile.TemporaryDirectory() as folder:
                harness = Harness(Path(folder), "asyncio")
                outcomes[outcome_of_damage(harness, interrupt(harness), random.Random(seed), kinds)] += 1
        print(f"{number} x {name}: {dict(outcomes)}")


# ── numbers after a failure, exit codes and the rest of a run ──────────────────────────────────────────


@pytest.fixture
def broken_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each result fail to be written."""
    together = _storage.LedgerFile.share

    async def share(self: _storage.LedgerFile, work: object, *given: object) -> object:
        if getattr(work, "__name__", "") == "_conclude_in":
            self.failure = OSError("disk I/O error")
            raise LedgerError("the ledger can't be written: disk I/O error")
        return await together(self, work, *given)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(_storage.LedgerFile, "share", share)


def test_results_that_cannot_be_written_are_unknown(harness: Harness, broken_after: None) -> None:
    async def main(client: AsyncDesk360) -> Done:
        await harness.campaign(batch_size=2).load(client, people(40))
        harness.sandbox.faults.add(Fault("latency", delay=5))
        return done(await finish(harness.campaign(), client, concurrency=4))

    end = harness.play(main)
    assert end.end == "ledger"
    assert end.counts == Counts(unknown=8, pending=32)
    assert len(harness.received()) == 8


def test_another_task_may_leave_the_run(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> Counts:
        await harness.campaign().load(client, people(3))
        run = harness.campaign().run(client)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.__aenter__)
        await run.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.__aexit__, None, None, None)
        return await harness.campaign().status()

    assert harness.play(main) == Counts(accepted=3)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("mine"), GeneratorExit()])
def test_the_callers_own_exceptions_leave_the_run_as_they_are(harness: Harness, error: BaseException) -> None:
    async def main(client: AsyncDesk360) -> BaseException | None:
        await harness.campaign(batch_size=1).load(client, people(9))
        try:
            async with harness.campaign().run(client) as events:
                async for _ in events:
                    raise error
        except BaseException as raised:  # noqa: BLE001  # compared
            return raised
        return None

    assert harness.play(main) is error


def test_people_of_a_state_are_the_list_of_another_campaign(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> int:
        await harness.campaign().load(client, people(3))
        listed = await harness.campaign().people(state="pending")
        assert [(p.phone, p.parameters) for p in listed] == [(p.phone, p.parameters) for p in people(3)]
        return (
            await Campaign("next", template="back_in_stock", language=1, ledger=harness.ledger).load(
                client, listed
            )
        ).pending

    assert harness.play(main) == 3


def test_a_campaign_is_watched_to_its_end(harness: Harness) -> None:
    async def main(client: AsyncDesk360) -> list[int]:
        await harness.campaign(batch_size=1).load(client, people(120))
        seen: list[int] = []

        async def watch() -> None:
            seen.extend([p.counts.accepted async for p in harness.campaign().watch(every=5.0)])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await finish(harness.campaign(), client)
        return seen

    seen = harness.play(main)
    assert seen == sorted(seen)
    assert (seen[-1], len(seen) > 2) == (120, True)


if __name__ == "__main__":
    sweep(300)
