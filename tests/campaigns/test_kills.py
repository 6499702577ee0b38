"""kill -9 at one system call after another; more points by `nox -s killpoints`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from desk360_async.campaigns import Campaign, Recipient
from desk360_async.sandbox import Sandbox
from tests.campaigns.harness import phone
from tests.campaigns.killing import CALLS, ROOT, SHAPES, WORKER, Range, Shape, strace
from tests.campaigns.worker import PERIOD

pytestmark = [pytest.mark.real, pytest.mark.processes]
TRACER = strace()
POINTS = [(call, (2, 6, 11, 17)) for call in CALLS] if TRACER else [("step", tuple(range(2, 34, 2)))]


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Range]]:
    """Two sandboxes over TCP with a short minute, and ledgers to be copied: most of a kill is waiting."""
    with ExitStack() as stack:
        made = []
        for _ in range(2):
            sandbox = Sandbox(keep=None, period=PERIOD)
            server = stack.enter_context(sandbox.serve_in_thread())
            made.append(Range(tmp_path_factory.mktemp("kills"), sandbox, server, TRACER))
        yield made


@pytest.fixture(scope="module")
def shooting(lanes: list[Range]) -> Range:
    """One of them."""
    return lanes[0]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)
@pytest.mark.parametrize(
    ("call", "numbers"), POINTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_nobody_is_lost_or_sent_to_twice(
    lanes: list[Range], shape: Shape, call: str, numbers: tuple[int, ...]
) -> None:
    """Whichever call the process dies in."""

    def shoot(place: Range, points: tuple[int, ...]) -> None:
        for number in points:
            ledger = place.loaded(shape)
            assert place.kill(ledger, shape, call, number), "the point was not reached"
            place.survive(ledger, shape, 1)

    with ThreadPoolExecutor() as both:
        list(both.map(shoot, lanes, (numbers[::2], numbers[1::2])))


def test_a_recovery_can_be_killed_as_well(shooting: Range) -> None:
    """And recovered from."""
    shape, call = SHAPES["concurrent"], POINTS[0][0]
    ledger = shooting.loaded(shape)
    assert shooting.kill(ledger, shape, call, 20)
    assert shooting.kill(ledger, shape, call, 3)
    shooting.survive(ledger, shape, 2)


@pytest.mark.skipif(TRACER is None, reason="needs a strace that may trace")
@pytest.mark.parametrize(
    ("call", "error", "number"),
    [
        ("pwrite64", "ENOSPC", 20),
        ("pwrite64", "ENOSPC", 19),
        ("pwrite64", "EIO", 20),
        ("pwrite64", "EIO", 19),
        ("fdatasync", "EIO", 8),
        ("fdatasync", "EIO", 14),
    ],
)
def test_a_failing_disk_stops_it(shooting: Range, call: str, error: str, number: int) -> None:
    """The kernel's own errors: it ends with the reason, and nobody gets the message twice afterwards."""
    shape = SHAPES["bulk"]
    ledger = shooting.loaded(shape)
    ended = shooting.disturb(ledger, shape, call, f"error={error}:when={number}+")
    assert ended.stdout.startswith(b"ledger "), ended.stderr
    shooting.survive(ledger, shape, 1)


@pytest.mark.skipif(TRACER is None, reason="needs a strace that may trace")
@pytest.mark.parametrize("number", [1, 8, 14])
def test_a_disk_that_fails_while_the_ledger_opens_is_an_error(shooting: Range, number: int) -> None:
    """`run` raises it before the first request, and a later run sends to all."""
    shape = SHAPES["bulk"]
    ledger = shooting.loaded(shape)
    ended = shooting.disturb(ledger, shape, "pwrite64", f"error=ENOSPC:when={number}+")
    assert b"LedgerError: the ledger " in ended.stderr.splitlines()[-1]
    assert shooting.survive(ledger, shape, 1).accepted == shape.recipients


def load_many(shooting: Range, ledger: Path, count: int) -> Campaign:
    """Load a campaign of so many recipients, with seven sets of parameters."""
    campaign = Campaign("kill", template="back_in_stock", language=1, ledger=ledger, batch_size=100)
    people = (Recipient(phone(n), {"body-1": f"offer {n % 7}"}) for n in range(1, count + 1))

    async def load() -> None:
        async with shooting.client() as client:
            await campaign.load(client, people)

    anyio.run(load)
    return campaign


def test_twenty_thousand_survive_three_kills(shooting: Range, tmp_path: Path) -> None:
    """Compared recipient by recipient with what the server received."""
    count, ledger = 20_000, tmp_path / "many.db"
    shooting.sandbox.reset()
    load_many(shooting, ledger, count)
    command = [sys.executable, str(WORKER), str(ledger), shooting.server.url, "4"]
    for kill in range(3):
        with subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)}) as process:
            while shooting.sandbox.accepted < (kill + 1) * 4000:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.005)
            process.kill()
    shape = Shape("many", "auto", count, 100, 4)
    counts = shooting.survive(ledger, shape, 3)
    assert counts.accepted + counts.unknown == count
