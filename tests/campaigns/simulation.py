"""The real client and campaign in virtual time, an in-memory server, and a seeded schedule of faults.

`simulate(seed)` plays one life story of a campaign: loads, runs, crashes between any two steps, ledger
errors, stops, resolutions; then it checks the invariants and raises `Violation` if one doesn't hold.
"""

import argparse
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
from attrs import Factory, define, evolve, field

from desk360_async import AsyncDesk360, Desk360Error, TokenBucket
from desk360_async.campaigns import BatchResult, Campaign, Done, LedgerError, Recipient, _ledger, _storage
from desk360_async.campaigns._report import lines
from tests.campaigns.harness import phone
from tests.limiter import virtual

PERIOD, LIMIT = 60.0, 4  # few tokens, so that a restart that forgets them is seen
LIVES = 40  # after so many, nothing goes wrong any more
MEMORY = Path("/dev/shm")  # where a sync costs nothing


class Violation(AssertionError):
    """An invariant doesn't hold."""


class Crash(BaseException):
    """The process is gone; nothing of it runs any more."""


# kind → (whether the client must take it for not sent, how likely the server acts on it)
FAULTS: dict[str, tuple[bool, float]] = {
    "garbage": (False, 1.0),
    "empty": (False, 1.0),
    "error_on_200": (True, 0.0),
    "fail_on_200": (False, 0.5),
    "internal_on_200": (False, 0.5),
    "too_many_on_200": (True, 0.0),
    "rows_failed": (False, 0.0),
    "429": (True, 0.0),
    "302": (True, 0.0),
    "400": (True, 0.0),
    "401": (True, 0.0),
    "403": (True, 0.0),
    "404": (True, 0.0),
    "413": (True, 0.0),
    "paused": (True, 0.0),
    "408": (False, 0.5),
    "409": (False, 0.5),
    "425": (False, 0.5),
    "499": (False, 0.5),
    "500": (False, 0.5),
    "502": (False, 0.5),
    "504": (False, 0.5),
    "connect": (True, 0.0),
    "connect_timeout": (True, 0.0),
    "read_error": (False, 0.5),
    "read_timeout": (False, 0.5),
    "disconnected": (False, 0.5),
    "partial": (False, 0.5),
}
BULK_ONLY = ("partial", "rows_failed")
_RAISED: dict[str, type[httpx.TransportError]] = {
    "connect": httpx.ConnectError,
    "connect_timeout": httpx.ConnectTimeout,
    "read_error": httpx.ReadError,
    "read_timeout": httpx.ReadTimeout,
    "disconnected": httpx.RemoteProtocolError,
}


@define
class World:
    """Everything around the campaign, drawn from one seed; and what really happened."""

    seed: int
    rng: random.Random
    recipients: list[Recipient]
    bad: set[str]
    absent: set[str]
    opted_out: set[str]
    fault_share: float
    crash_share: float
    error_share: float
    names: bool
    trusting: bool = False
    calm: bool = False
    stuck: bool = False
    dead: bool = False
    processed: Counter[str] = field(factory=Counter)
    confirmed: Counter[str] = field(factory=Counter)
    may_have: Counter[str] = field(factory=Counter)
    resends: Counter[str] = field(factory=Counter)
    arrivals: deque[float] = field(factory=deque)
    log: list[str] = Factory(list)
    problems: list[str] = Factory(list)

    def note(self, what: str) -> None:
        """Write a line of the story."""
        self.log.append(f"{anyio.current_time():.3f} {what}")

    def step(self, where: str) -> None:
        """Crash here, perhaps; and always, once crashed."""
        if self.dead or (not self.calm and self.rng.random() < self.crash_share):
            if not self.dead:
                self.note(f"crash at {where}")
            self.dead = True
            raise Crash(where)

    def error(self) -> bool:
        """Say whether the disk fails here."""
        return not self.calm and self.rng.random() < self.error_share


class Server(httpx.AsyncBaseTransport):
    """Desk360 in memory."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or fail, as the world wants it."""
        world = self.world
        world.step("before the server")
        await anyio.sleep(world.rng.uniform(0.01, 2.0))
        world.step("on the way")
        if request.method == "GET":
            self.count()
            translation = {"language_id": 1, "language": "English", "body": "{{1}}", "variables": ["body-1"]}
            return httpx.Response(200, json=[{"id": 7, "name": "offer", "translations": [translation]}])
        fields = json.loads(await request.aread())
        asked = [row["phone"] for row in fields["destinations"]]
        bulk = request.url.path.endswith("/bulk")
        kinds = [*FAULTS, *["partial"] * 4] if bulk else [k for k in FAULTS if k not in BULK_ONLY]
        kind = world.rng.choice(kinds) if not world.calm and world.rng.random() < world.fault_share else "ok"
        world.note(f"POST {len(asked)} {kind}")
        answer = self.act(kind, asked, bulk=bulk)
        world.step("before the answer")
        await anyio.sleep(world.rng.uniform(0.01, 2.0))
        world.step("after the answer")
        if kind in _RAISED:
            raise _RAISED[kind](kind)
        return answer

    def count(self) -> None:
        """Count a request against the window; none may hold more than the limit (I5)."""
        now, arrivals = anyio.current_time(), self.world.arrivals
        while arrivals and arrivals[0] <= now - PERIOD:
            arrivals.popleft()
        arrivals.append(now)
        if len(arrivals) > LIMIT:
            self.world.problems.append(f"I5: {len(arrivals)} requests in one window at {now:.1f}")

    def act(self, kind: str, asked: list[str], *, bulk: bool) -> httpx.Response:
        """Do what the server does, and return what it would answer."""
        world = self.world
        not_sent, likely = FAULTS.get(kind, (False, 1.0))
        if kind not in ("429", "connect", "connect_timeout"):
            self.count()
        if not not_sent and any(p in world.bad for p in asked):
            # Validation comes first; only what fails before it or after it may hide that.
            if kind in ("ok", "garbage", "empty", "partial"):
                return self.refused(asked, world.bad)
            likely = 0.0
        if not not_sent:
            world.may_have.update(asked)
        taken = [p for p in asked if p not in world.absent] if bulk else asked
        if not bulk and asked[0] in world.absent and not not_sent:
            world.may_have.subtract(asked)
            return self.refused(asked, world.absent) if kind not in _RAISED else httpx.Response(500)
        listed = taken
        if kind == "partial":
            listed = [p for p in taken if world.rng.random() < 0.5]
            taken = [p for p in taken if p in listed or world.rng.random() < likely]
        elif world.rng.random() >= likely:
            taken = []
        if not not_sent:
            world.processed.update(taken)
        listed = [] if kind == "rows_failed" else listed
        if kind in ("ok", "partial"):
            world.confirmed.update(set(listed) & set(taken))
        if world.trusting and bulk and kind in ("ok", "partial", "rows_failed"):
            world.may_have.subtract(set(asked) - set(listed))  # so says the user
        return self.answer(kind, asked if kind == "rows_failed" else listed, bulk=bulk)

    def refused(self, asked: list[str], because: set[str]) -> httpx.Response:
        """Refuse numbers; a terse server doesn't say which field it was."""
        if not self.world.names:
            return self.refusal(422)
        named = {f"destinations.{n}.phone": ["No."] for n, p in enumerate(asked) if p in because}
        return httpx.Response(422, json={"message": "No.", "errors": named})

    def refusal(self, status: int, code: str = "failed_validation") -> httpx.Response:
        """Return an error as the document writes it."""
        return httpx.Response(status, json={"error": {"code": code, "message": "No."}})

    def answer(self, kind: str, listed: list[str], *, bulk: bool) -> httpx.Response:
        """Return the answer of a kind."""
        if kind in ("ok", "partial"):
            made = f"id-{self.world.rng.random()}"
            return httpx.Response(200, json={"phones": listed} if bulk else {"message_id": made})
        if kind == "garbage":
            return httpx.Response(200, content=b"<html>fine")
        if kind == "empty":
            return httpx.Response(200)
        if kind == "rows_failed":
            return httpx.Response(200, json={"phones": [{"phone": p, "status": "failed"} for p in listed]})
        if kind == "fail_on_200":
            return httpx.Response(200, json={"status": "fail", "message": "Insufficient balance"})
        if kind == "internal_on_200":
            return self.refusal(200, "internal_server_error")
        if kind == "too_many_on_200":
            return self.refusal(200, "too_many_requests_exception")
        if kind == "429":
            return httpx.Response(429, headers={"retry-after": str(self.world.rng.randint(0, 20))})
        if kind == "error_on_200":
            return self.refusal(200, "model_not_found_exception")
        if kind == "paused":
            return httpx.Response(422, json={"message": "No.", "errors": {"template_id": ["Paused."]}})
        if kind == "400":
            return self.refusal(400, "insecure_request_exception")
        return httpx.Response(int(kind)) if kind.isdigit() else httpx.Response(200)


def world_of(seed: int) -> World:
    """Draw a world."""
    rng = random.Random(seed)
    count, sets = rng.randint(1, 60), rng.randint(1, 4)
    given = [Recipient(phone(n), {"body-1": f"offer {rng.randrange(sets)}"}) for n in range(1, count + 1)]
    phones = [recipient.phone for recipient in given]
    given += [rng.choice(given) for _ in range(rng.choice([0, 0, 3]))]
    given += [Recipient("nonsense", {"body-1": "x"})] * rng.choice([0, 1])
    rng.shuffle(given)
    return World(
        seed,
        rng,
        given,
        bad={p for p in phones if rng.random() < rng.choice([0, 0, 0.05])},
        absent={p for p in phones if rng.random() < rng.choice([0, 0.1])},
        opted_out={p for p in phones if rng.random() < rng.choice([0, 0.1])},
        fault_share=rng.choice([0.0, 0.1, 0.4]),
        crash_share=rng.choice([0.0, 0.01, 0.04]),
        error_share=rng.choice([0.0, 0.0, 0.03]),
        names=rng.random() < 0.5,
    )


def simulate(seed: int) -> list[str]:
    """Play one story; return its log.

    Raises:
        Violation: if an invariant doesn't hold; the message names the seed.
    """
    world = world_of(seed)
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    once, now = _storage.LedgerFile._once, _ledger.now
    try:
        _storage.LedgerFile._once = _failing(world, once)  # type: ignore[method-assign]  # a fault's place
        _ledger.now = lambda: 1e9 + anyio.current_time()
        virtual.run("asyncio", live, world, folder)
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}") from None
    except Exception as error:
        raise Violation(f"seed {seed}: {type(error).__name__}: {error}") from error
    finally:
        _storage.LedgerFile._once, _ledger.now = once, now  # type: ignore[method-assign]  # a fault's place
        shutil.rmtree(folder)
    return world.log


def _failing(world: World, once: Callable[..., Any]) -> Callable[..., Any]:
    async def work(self: _storage.LedgerFile, run: Any, what: Callable[..., Any], *given: Any) -> Any:
        world.step("before the ledger")

        def disturbed(connection: sqlite3.Connection, *given: Any) -> Any:
            if world.error():
                world.note("EIO before the write")
                raise sqlite3.OperationalError("disk I/O error")
            return what(connection, *given)

        answer = await once(self, run, disturbed, *given)
        if world.error():
            world.note("EIO after the write")
            self.failure = sqlite3.OperationalError("disk I/O error")
            raise LedgerError("disk I/O error")
        world.step("after the ledger")
        return answer

    return work


async def live(world: World, folder: Path) -> None:
    """Play the campaign's lives, until it is finished; then check."""
    rng = world.rng
    options: dict[str, Any] = {
        "strategy": rng.choice(["auto", "auto", "bulk", "single"]),
        "batch_size": rng.randint(2, 20),
        "not_listed": rng.choice(["unknown", "unknown", "not_sent"]),
    }
    world.trusting = options["not_listed"] == "not_sent"
    if world.trusting:
        # Whoever says so trusts the list; a server that sends to more than it lists breaks that promise.
        FAULTS["partial"] = (False, 0.0)
    else:
        FAULTS["partial"] = (False, 0.5)
    concurrency = rng.randint(1, 4)

    def campaign() -> Campaign:
        return Campaign(
            "c",
            template="offer",
            language=1,
            ledger=folder / "l.db",
            opt_out=sorted(world.opted_out),
            **options,
        )

    loaded = False
    for life in range(LIVES + 20):
        world.calm, world.dead = life >= LIVES, False
        before = await unknowns(world, campaign()) if loaded else 0
        story = len(world.log)
        try:
            async with AsyncDesk360(
                "key-key-key",
                integration_id=1,
                base_url="http://127.0.0.1",
                transport=Server(world),
                limiter=TokenBucket(LIMIT, PERIOD),
            ) as client:
                if not loaded or rng.random() < 0.1:
                    await campaign().load(client, world.recipients)
                    loaded = True
                end = await one_run(world, campaign(), client, concurrency)
                if end == "finished" and not await resend(world, campaign()):
                    break
                if end == "refused" and world.calm and not world.names:
                    # Nobody is left whose acceptance could tell whether it is the numbers' own fault.
                    world.stuck = True
                    break
        except Crash:
            pass
        except BaseExceptionGroup as group:
            if group.split(Crash)[1] is not None:
                raise
        except Desk360Error as error:
            world.note(f"{type(error).__name__}")
        if world.dead and loaded:
            told = sum(int(line.split()[-1]) for line in world.log[story:] if " batch " in line)
            # A batch in whose result the crash came may be there without having been told of.
            new = await unknowns(world, campaign()) - before - told
            if new > concurrency * options["batch_size"]:
                raise Violation(f"I4: {new} unknown by one crash")
        await anyio.sleep(rng.choice([0, 1, rng.uniform(0, 90)]))
    else:
        raise Violation("never finished")
    world.calm = True
    await check(world, campaign())


async def one_run(
    world: World, campaign: Campaign, client: AsyncDesk360, concurrency: int, lease: float = 30.0
) -> str:
    """Run once, stopping at some moment, perhaps; return how it ended."""
    rng = world.rng
    patience = rng.choice([None, None, None, rng.randint(1, 10)])
    how = rng.choice(["stop", "abort", "leave", "pause"])
    end = "left"
    async with campaign.run(client, concurrency=concurrency, signals=False, lease=lease) as run:
        async for event in run:
            if isinstance(event, BatchResult):
                world.note(f"batch {event.batch} {event.accepted} {event.not_sent} {event.unknown}")
            if isinstance(event, Done):
                end = event.end
                world.note(f"done {event.end} {event.counts}")
            if patience is not None and not world.calm:
                patience -= 1
                if patience == 0:
                    if how == "leave":
                        break
                    if how == "pause":
                        run.pause()
                        await anyio.sleep(rng.uniform(0, 30))
                        run.proceed()
                    elif how == "stop":
                        run.stop()
                    else:
                        run.abort()
    return end


async def resend(world: World, campaign: Campaign) -> bool:
    """Resolve some unknowns to be sent again, perhaps; tell whether there were any."""
    if world.calm or world.rng.random() < 0.7:
        return False
    found = await states(campaign)
    chosen = [p for p, s in found.items() if s in ("unknown", "not_sent") and world.rng.random() < 0.5]
    if not chosen:
        return False
    # Before it is committed: a crash may come after. Who was not sent to can't get a second message.
    world.resends.update(p for p in chosen if found[p] == "unknown")
    await campaign.resolve("resend", phones=chosen)
    return True


_EXCEPTED_ALONE = (
    "SELECT b.id FROM batch b JOIN exception e ON e.batch = b.id WHERE b.state = 'pending' AND b.size = 1"
)


async def states(campaign: Campaign) -> dict[str, str]:
    """Return every recipient's state, as the report has it.

    Raises:
        Violation: if one is there twice, or is alone in a pending batch and excepted from it.
    """
    async with campaign._opened() as ledger:
        await ledger.settings()
        rows = await ledger.file.read(lambda db: list(lines(db, ledger.id)))
        excepted = await ledger.file.read(lambda db: db.execute(_EXCEPTED_ALONE).fetchall())
    if excepted:  # a run doesn't ask for the exceptions of such a batch
        raise Violation(f"the pending batches {excepted} have one recipient each, and it is excepted")
    rows = [row for row in rows if row[4] is not None]
    if len({row[1] for row in rows}) != len(rows):
        raise Violation("I2: a recipient is in the ledger's batches twice")
    return {row[1]: row[2] for row in rows}


async def unknowns(world: World, campaign: Campaign) -> int:
    """Count the unknowns, with what a crash left on the wire; nothing goes wrong meanwhile."""
    was, world.calm, world.dead = (world.calm, world.dead), True, False
    counts = await campaign.status()
    world.calm, world.dead = was
    return counts.unknown + counts.on_the_wire


async def check(world: World, campaign: Campaign) -> None:
    """Check the invariants of a finished campaign."""
    if world.problems:
        raise Violation(world.problems[0])
    report = await campaign.report()
    found = await states(campaign)
    given = {recipient.phone for recipient in world.recipients if recipient.phone != "nonsense"}
    if set(found) != given - world.opted_out:
        raise Violation(f"I2: lost {given - world.opted_out - set(found)}, gained {set(found) - given}")
    counts = report.counts
    waiting = {number for number, state in found.items() if state == "pending"}
    if world.stuck and waiting <= world.bad | world.absent:
        counts = evolve(counts, pending=0, not_sent=counts.not_sent + counts.pending)
    if (
        counts.pending
        or counts.on_the_wire
        or counts.total + sum(report.left_out.values()) != len(world.recipients)
    ):
        raise Violation(f"I2: {counts} and {report.left_out} don't add up to {len(world.recipients)}")
    told = Counter(found.values())
    if (told["accepted"], told["unknown"]) != (counts.accepted, counts.unknown):
        raise Violation(f"I2: {counts}, but the report lists {dict(told)}")
    for number, state in found.items():
        _check_recipient(world, number, state)


def _check_recipient(world: World, number: str, state: str) -> None:
    allowed = 1 + world.resends[number]
    if world.processed[number] > allowed or world.may_have[number] > allowed:
        raise Violation(f"I1: {number} was sent to {world.processed[number]} times, {state}")
    if state == "accepted" and not 1 <= world.processed[number] <= allowed:
        raise Violation(f"I3: {number} is accepted, and the server never had it")
    if state == "accepted" and not world.confirmed[number]:
        raise Violation(f"I3: {number} is accepted, and the server never said so")
    if state == "not_sent" and not world.trusting and number not in world.bad | world.absent:
        raise Violation(f"I3: {number} was given up for what wasn't its fault")
    if state in ("not_sent", "skipped", "pending") and world.processed[number] and not world.resends[number]:
        raise Violation(f"I3: {number} is {state}, and the server has it")
    if number in world.opted_out and world.processed[number]:
        raise Violation(f"{number} opted out, and was sent to")


def main() -> None:
    """Play many stories, and print what came of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--postgres", action="store_true", help="2 to 4 runs side by side, in PostgreSQL")
    given = parser.parse_args()
    if given.postgres:
        from tests.campaigns import side_by_side
        from tests.postgres import cluster

        with cluster(fsync=True, within=MEMORY if MEMORY.is_dir() else None) as server:
            dsn = server.socket_dsn
            with side_by_side.connected(dsn):
                tell(given, lambda seed: side_by_side.simulate(seed, dsn))
    else:
        tell(given, simulate)


def tell(given: argparse.Namespace, simulate: Callable[[int], list[str]]) -> None:
    """Play the stories, print their events, and exit with 1 for a broken invariant."""
    told: Counter[str] = Counter()
    broken = 0
    for seed in range(given.first, given.first + given.seeds):
        try:
            log = simulate(seed)
        except Violation as violation:
            broken += 1
            print(violation, flush=True)
            continue
        words = [line.split(" ", 1)[1].split() for line in log]
        told.update(" ".join(line[:1]) if line[0] != "POST" else "POST" for line in words)
        told.update(f"POST {line[2]}" for line in words if line[0] == "POST")
    print(f"{given.seeds:,} stories from seed {given.first}, {broken} with a broken invariant")
    print(", ".join(f"{number:,} {what}" for what, number in told.most_common()))
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
