"""The files that 0.1.0 wrote open, and go on: campaigns, a limiter's state, an inbox."""

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from desk360_async import AsyncDesk360, HostLimiter
from desk360_async.campaigns import Campaign, Counts, Recipient
from desk360_async.campaigns._storage import migrate
from desk360_async.webhooks import SQLiteInbox
from tests.campaigns.harness import Harness, done, finish

FILES = Path(__file__).parent / "0.1.0"
RECEIVED: dict[str, list[str]] = json.loads((FILES / "received.json").read_text())
LEDGERS = {
    "loaded": Counts(accepted=40),
    "interrupted": Counts(accepted=36, unknown=4),
    "wal": Counts(accepted=36, unknown=4),
    "finished": Counts(accepted=40),
    "resolved": Counts(accepted=36, not_sent=4),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with copies of the files."""
    return Path(shutil.copytree(FILES, tmp_path / "files"))


@pytest.fixture
def harness(tmp_path: Path, anyio_backend: str) -> Harness:
    """A sandbox, a client and a folder, on each event loop."""
    return Harness(tmp_path, anyio_backend)


def sale(files: Path, name: str) -> Campaign:
    """Return the campaign of a ledger."""
    return Campaign("sale", ledger=files / f"{name}.ledger")


@pytest.mark.parametrize("name", LEDGERS)
def test_a_campaign_of_0_1_0_goes_on_and_sends_to_nobody_twice(
    harness: Harness, files: Path, name: str
) -> None:
    async def main(client: AsyncDesk360) -> Counts:
        return done(await finish(sale(files, name), client)).counts

    counts = harness.play(main)
    times = Counter(RECEIVED[name] + harness.received())
    resent = 4 if name == "resolved" else 0  # a person decided so
    assert counts == LEDGERS[name]
    assert sum(times.values()) == 40 + resent
    assert len(times) == 40


@pytest.mark.parametrize("name", LEDGERS)
def test_a_report_of_0_1_0_can_be_read(harness: Harness, files: Path, name: str) -> None:
    report = harness.play(lambda client: sale(files, name).report())
    assert report.counts.total == 40
    assert report.left_out == {"duplicate": 1, "invalid_phone": 1}
    assert len(report.resolutions) == (3 if name == "resolved" else 0)


def test_an_owner_file_of_0_1_0_whose_ledger_is_gone_does_not_stop_a_new_one(
    harness: Harness, files: Path
) -> None:
    async def main(client: AsyncDesk360) -> int:
        campaign = Campaign("sale", template="back_in_stock", language=1, ledger=files / "gone.ledger")
        return (await campaign.load(client, [])).recipients

    assert harness.play(main) == 0


async def _status(path: Path) -> tuple[int, int]:
    limiter = HostLimiter(path, limit=60, period=60.0)
    (await limiter.acquire("interactive", None)).done(200, {})
    status = limiter.snapshot()
    return status.limit, status.free


def test_a_limiter_of_0_1_0_goes_on(files: Path) -> None:
    assert anyio.run(_status, files / "limiter.sqlite")[0] == 60


async def _waiting(path: Path) -> list[str]:
    inbox = SQLiteInbox(path)
    waiting = await inbox.open()
    await inbox.aclose()
    return [getattr(event, "id", "") for _, event in waiting]


def test_an_inbox_of_0_1_0_hands_out_the_unhandled_events(files: Path) -> None:
    assert anyio.run(_waiting, files / "inbox.sqlite") == ["M3", "S1"]


def test_an_inbox_of_0_1_0_can_retry_the_failed_event(files: Path) -> None:
    async def main() -> int:
        inbox = SQLiteInbox(files / "inbox.sqlite")
        await inbox.open()
        failed = await inbox.retry_failed()
        await inbox.aclose()
        return failed

    assert anyio.run(main) == 1


@pytest.mark.parametrize("path", sorted(FILES.glob("*.ledger")), ids=lambda path: path.stem)
def test_the_samples_are_of_the_schema_that_0_1_0_wrote(path: Path, files: Path) -> None:
    """A later version must migrate them; the samples themselves stay as they are."""
    db = sqlite3.connect(files / path.name)
    assert db.execute("PRAGMA user_version").fetchone() == (3,)
    db.close()


@pytest.mark.parametrize("path", sorted(FILES.glob("*.ledger")), ids=lambda path: path.stem)
def test_each_parameter_set_of_0_1_0_keeps_its_number_and_its_digest(path: Path, files: Path) -> None:
    with closing(sqlite3.connect(files / path.name, isolation_level=None)) as db:
        before = db.execute(
            "SELECT id, campaign, digest, parameters FROM parameter_set ORDER BY id"
        ).fetchall()
        migrate(db)
        after = db.execute(
            "SELECT s.id, s.campaign, d.digest, s.parameters FROM parameter_set s "
            "JOIN set_digest d ON d.campaign = s.campaign AND d.parameter_set = s.id ORDER BY s.id"
        ).fetchall()
    assert before
    assert after == before


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_a_second_load_shares_the_parameter_sets_of_0_1_0(harness: Harness, files: Path, name: str) -> None:
    campaign = Campaign("sale", template="back_in_stock", language=1, ledger=files / f"{name}.ledger")

    async def main(client: AsyncDesk360) -> list[Recipient]:
        known = (await campaign.people(state="accepted"))[0]
        await campaign.load(client, [Recipient("+905509999999", known.parameters)])
        with closing(sqlite3.connect(campaign.ledger)) as db:
            shared = db.execute(
                "SELECT count(*), count(DISTINCT parameter_set) FROM recipient WHERE phone = 905509999999 OR "
                "phone = ?",
                (int(known.phone),),
            ).fetchone()
        assert shared == (2, 1)
        return await campaign.people(state="pending")

    assert "+905509999999" in [person.phone for person in harness.play(main)]
