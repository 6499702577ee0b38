"""The ten requests against sandboxes that differ in one fact each: the doctor names it and sends nothing."""

from typing import Any

import pytest

from desk360_async import AsyncDesk360, RateLimitStatus, RetryPolicy, TemplateMessage
from desk360_async.doctor import (
    Probe,
    Reading,
    Unlimited,
    ask,
    exhaust,
    facts_of,
    read_exhaustion,
    read_probes,
    read_sends,
    send_to,
)
from desk360_async.sandbox import Fault
from desk360_async.testing import VirtualSandbox

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1, max_retry_after=0.0)
# The facts that the rulings expect; the sandbox's own account leaves out `status` (ruling 23).
EXPECTED = {"23.status": True}
VARIANTS = [
    ("4", "4.json", False),
    ("22", "22.shape", "data"),
    ("23", "23.status", False),
    ("23", "23.names", "name"),
    ("24", "24.status", 422),
    ("24", "24.body", "laravel"),
    ("26", "26.names_field", False),
    ("27", "27.type", "text/html"),
    ("28", "28.page_size", 10),
    ("28", "28.link", False),
    ("28", "28.beyond", "rows"),
    ("29", "29.headers", False),
    ("29", "29.limit", 30),
    ("29", "29.wrong_method_counts", True),
    ("29", "29.invalid_key_counts", False),
]
# Both are tolerated, so they confirm the ruling; the fact is saved all the same.
TOLERATED = {("22", "22.shape"), ("23", "23.names")}


def sandbox_like(**facts: Any) -> VirtualSandbox:
    """Make a sandbox that follows facts."""
    return VirtualSandbox(like={"version": 1, "facts": EXPECTED | facts})


class NoLimit:
    """A limiter that never waits and learns from no answer; the clock moves a tenth of a second a request."""

    def __init__(self, sandbox: VirtualSandbox) -> None:
        self._sandbox = sandbox

    async def acquire(self, lane: str = "interactive", max_wait: float | None = None) -> "NoLimit":
        """Return at once."""
        self._sandbox.advance(seconds=0.1)
        return self

    def snapshot(self) -> RateLimitStatus:
        """Return the status of the sandbox's own limiter."""
        return self._sandbox.limiter.snapshot()

    def done(self, status: int, headers: object) -> None:
        """Learn from no answer."""

    def lost(self) -> None:
        """Learn from no answer."""

    unused = lost


async def probed(sandbox: VirtualSandbox, **options: Any) -> list[Probe]:
    """Make the ten requests."""

    def with_key(key: str) -> AsyncDesk360:
        return sandbox.client(**options | {"api_key": key}, retry=ONCE)

    wall = sandbox.throttle.wall_time
    async with sandbox.client(**options, retry=ONCE) as client:
        return [probe async for probe in ask(client, with_key=with_key, wall=wall, pause=0.0)]


def states(readings: list[Reading]) -> dict[str, str]:
    """Return the state of each reading, by its ruling."""
    return {reading.ruling: reading.state for reading in readings}


async def test_a_server_as_the_rulings_describe_it_confirms_them_all() -> None:
    readings = read_probes(await probed(sandbox_like()))
    assert set(states(readings).values()) == {"confirmed"}


@pytest.mark.parametrize(("ruling", "key", "value"), VARIANTS)
async def test_the_doctor_names_the_one_ruling_that_differs(ruling: str, key: str, value: Any) -> None:
    sandbox = sandbox_like(**{key: value})
    readings = read_probes(await probed(sandbox))
    differing = {number for number, state in states(readings).items() if state == "differs"}
    assert differing == (set() if (ruling, key) in TOLERATED else {ruling})
    assert facts_of(readings)["facts"][key] == value


@pytest.mark.parametrize(("ruling", "key", "value"), VARIANTS)
async def test_ten_requests_at_most_and_no_message(ruling: str, key: str, value: Any) -> None:
    sandbox = sandbox_like(**{key: value})
    probes = await probed(sandbox)
    assert (len(probes), len(sandbox.requests)) == (10, 10)
    assert sandbox.accepted == 0


async def test_the_run_ends_at_a_refused_key() -> None:
    sandbox = sandbox_like()
    probes = await probed(sandbox, api_key="wrong-key")
    readings = read_probes(probes)
    assert len(sandbox.requests) == 1
    assert [r.state for r in readings if r.ruling == "3"] == ["differs"]
    assert {r.state for r in readings if r.ruling != "3"} == {"not asked"}
    assert facts_of(readings)["facts"] == {}


async def test_a_429_at_request_1_says_nothing_about_the_key() -> None:
    sandbox = sandbox_like()
    sandbox.throttle.spend(60)
    readings = read_probes(await probed(sandbox, limiter=NoLimit(sandbox)))
    assert {r.state for r in readings} == {"not asked"}
    assert "used up (429) at request 1: pause other programs" in readings[0].text


async def test_the_run_ends_at_a_429_and_repeats_no_request() -> None:
    sandbox = sandbox_like()
    sandbox.throttle.spend(58)
    probes = await probed(sandbox, limiter=NoLimit(sandbox))
    assert [probe.status for probe in probes] == [200, 200, 429]
    assert len(sandbox.requests) == 3
    readings = {reading.ruling: reading for reading in read_probes(probes)}
    assert "used up (429) at request 3: pause other programs" in readings["28"].text
    assert readings["28"].facts == {}


@pytest.mark.parametrize("kind", ["status", "reset_before", "reset_after", "blank"])
async def test_a_request_that_fails_is_not_repeated(kind: Any) -> None:
    """The server fails from request 2 on."""
    sandbox = sandbox_like()
    status = 503 if kind == "status" else None
    sandbox.faults.add(Fault(kind, status=status, after=1, times=None))
    probes = await probed(sandbox, limiter=NoLimit(sandbox))
    # A wrong method is answered before the other faults strike.
    struck = 9 if kind == "reset_before" else 8
    assert (len(probes), sandbox.faults.struck, sandbox.accepted) == (10, struck, 0)


@pytest.mark.parametrize("window", ["first_hit", "sliding_log", "aligned"])
async def test_exhausting_the_limit_shows_the_kind_of_window(window: str) -> None:
    sandbox = sandbox_like(**{"32.window": window})
    wall = sandbox.throttle.wall_time
    sandbox.advance(seconds=80 - wall() % 60)  # an aligned window ends in 40 s

    async with sandbox.client(retry=ONCE, limiter=NoLimit(sandbox)) as client:
        probes = []
        async for probe in exhaust(client, wall=wall):
            probes.append(probe)
            if probe.status == 429:
                sandbox.advance(seconds=1.0)
    readings = read_exhaustion(probes)
    facts = facts_of(readings)["facts"]
    assert facts["32.window"] == window
    assert states(readings)["31"] == "confirmed"


async def test_an_unlimited_client_meets_the_servers_429() -> None:
    """A TokenBucket learns the limit from the answers, waits by itself, and no window is seen."""
    sandbox = sandbox_like()
    async with sandbox.client(retry=ONCE, limiter=Unlimited()) as client:
        sends = exhaust(client, wall=sandbox.throttle.wall_time, patience=0.0)
        statuses = [probe.status async for probe in sends]
    assert statuses == [200] * 60 + [429]


async def test_an_integration_of_another_key_confirms_no_ruling_of_its_paths() -> None:
    sandbox = sandbox_like()
    async with sandbox.client(retry=ONCE) as client:
        wall = sandbox.throttle.wall_time
        asked = ask(
            client, with_key=lambda _: sandbox.client(api_key="x", retry=ONCE), wall=wall, integration=9
        )
        found = states(read_probes([probe async for probe in asked]))
    assert {number for number, state in found.items() if state == "confirmed"} == {"3", "22", "23", "29"}


@pytest.mark.parametrize(("files", "state"), [(False, "confirmed"), (True, "differs")])
async def test_sends_that_a_person_allows_are_read(files: bool, state: str) -> None:
    """The message with a button reaches the phone once: with its file, or without one."""
    sandbox = sandbox_like(**{"16.files": files})
    message = TemplateMessage("+905551112233", "welcome", language="English")
    async with sandbox.client(retry=ONCE) as client:
        sends = send_to(client, message, wall=sandbox.throttle.wall_time, pause=0.0)
        readings = read_sends([probe async for probe in sends])
    assert [message.kind for message in sandbox.received] == [*["template"] * 4, "text", "interactive"]
    assert states(readings) == {"16": state, "21": "confirmed", "19": "confirmed", "17": "confirmed"}
    assert facts_of(readings)["facts"]["16.files"] is files


async def test_no_fact_holds_a_key_or_a_phone() -> None:
    sandbox = sandbox_like()
    text = str(facts_of(read_probes(await probed(sandbox))))
    assert sandbox.api_key not in text
    assert "5554443322" not in text


@pytest.mark.parametrize(
    ("reading", "line"),
    [
        (Reading("4", "confirmed", "JSON bodies are read"), "ruling 4: confirmed: JSON bodies are read"),
        (
            Reading("24", "differs", "refused fields answer 422"),
            "ruling 24: differs: refused fields answer 422",
        ),
        (Reading("31", "not asked"), "ruling 31: not asked"),
    ],
)
def test_a_reading_is_one_line_of_the_report(reading: Reading, line: str) -> None:
    assert reading.line() == line
