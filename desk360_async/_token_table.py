"""The bucket's state as one row of a PostgreSQL table, which the hosts behind one address read and write.

A step reads the row and its version, runs the pure transition, and writes if the version is still the same.
It holds no lock between two round trips. So a process that freezes during a step stops no other process.
"""

import json
import math
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import evolve

from desk360_async import _threads
from desk360_async._bucket import GRACE, Bucket, Lane, StoreBusy, StoreLost, Waits
from desk360_async._errors import ConfigurationError
from desk360_async._postgres import LOCK_TIMEOUT, Database, fix_for, is_busy, is_lost, run_prepared
from desk360_async._token_file import FIELDS, TIMES

__all__ = ["TokenTable"]

T = TypeVar("T")

# Attempts of one step if other processes write first. After the last one the step raises StoreBusy, and the
# task waits.
_TRIES = 20
_PAUSE = 0.005  # the longest pause between two attempts in seconds; each is random

_READ = (
    "SELECT state, version, extract(epoch FROM clock_timestamp())::float8"
    " FROM {schema}.egress WHERE name = %s"
)
_NEW = "INSERT INTO {schema}.egress (name, state) VALUES (%s, '') ON CONFLICT DO NOTHING"
# One statement is one transaction. The settings end with the transaction. PostgreSQL reads them before it
# locks the row.
_WRITE = """
WITH setting AS MATERIALIZED (
    SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', %s, true)
)
UPDATE {schema}.egress SET state = %s, version = version + 1
FROM setting WHERE name = %s AND version = %s
"""


class TokenTable:
    """A bucket's state in PostgreSQL, by the name of an egress address.

    Args:
        database: the database.
        egress: the name of the address from which the requests go out.
        durable: whether each step waits for the disk. If not, a crash of the database may lose the tokens
            of its last second. That costs refusals, but no message.
    """

    def __init__(self, database: Database, egress: str, *, durable: bool) -> None:
        self.database = database
        self._egress = egress
        self._synchronous = "on" if durable else "off"

    @property
    def name(self) -> str:
        """Return the egress and the database, without the password."""
        return f"{self._egress!r} in {self.database.name} ({self.database.schema})"

    @property
    def identity(self) -> object:
        """Return the store's name: it identifies the row for ever, since a row is never replaced."""
        return self.name

    def displaced(self) -> str | None:
        """Return None, since a row is never replaced by another row of the same name."""
        return None

    def step(self, model: Bucket, transition: Callable[[Bucket, Waits, float, float], T]) -> T:
        """Run one transition on the state; run it again if another process wrote the row first.

        Args:
            model: a bucket with this process's arguments, for an egress that is new.
            transition: called with the state, the waits, the time on the database's clock, and the time on
                this process's monotonic clock.

        Raises:
            StoreBusy: other processes wrote the row first in each attempt, or hold the row's lock.
            StoreLost: the database answered before, and is lost now.
            ConfigurationError: the database can't be used.
        """
        try:
            with self.database.connection() as connection:
                for _ in range(_TRIES):
                    done, result = self._try(connection, model, transition)
                    if done:
                        return result
                    time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - no secret
        except ConfigurationError:
            raise
        except Exception as error:
            if is_busy(error):
                raise StoreBusy(f"another process holds {self.name}") from error
            if is_lost(error) and self.database.ready:
                raise StoreLost(f"{self.name} is lost ({str(error).strip()})") from error
            why = f"({str(error).strip()}){fix_for(error)}"
            raise ConfigurationError(f"{self.name} can't be used {why}") from error
        raise StoreBusy(f"other processes keep {self.name} busy")

    def _try(
        self, connection: Any, model: Bucket, transition: Callable[[Bucket, Waits, float, float], T]
    ) -> tuple[bool, T]:
        # This clock is read before the database's clock. So a request's end never seems older than it is.
        local = _threads.monotonic()
        read, write = (text.replace("{schema}", self.database.schema) for text in (_READ, _WRITE))
        row = run_prepared(connection, read, (self._egress,)).fetchone()
        if row is None:
            self.database.execute(connection, _NEW, (self._egress,))
            row = run_prepared(connection, read, (self._egress,)).fetchone()
        state, version, now = row
        bucket, waits = _load(state, model, now)
        result = transition(bucket, waits, now, local)
        text = _dump(bucket, waits, learned=bucket.limit != model.limit)
        if text == state:
            return True, result
        written = run_prepared(
            connection, write, (str(LOCK_TIMEOUT), self._synchronous, text, self._egress, version)
        )
        return written.rowcount == 1, result

    def close(self) -> None:
        """Close the connections; the next step opens them again."""
        self.database.close()


def _load(state: str, model: Bucket, now: float) -> tuple[Bucket, Waits]:
    """Return the state and the waits from the packed text, at the time `now`."""
    bucket = evolve(model, away=[], in_flight={})
    if not state:
        return bucket, Waits({})
    packed: dict[str, Any] = json.loads(state)
    # A stored time later than `latest`: the database's clock was set, or another limiter had a longer period.
    latest = now + max(bucket.hold, 2 * bucket.period + GRACE)
    for name in FIELDS:
        if name != "limit" or (packed[name] is not None and bucket.learn):
            value = packed[name]
            if name in TIMES:
                value = -math.inf if value is None else min(value, latest)
            setattr(bucket, name, value)
    bucket.away = [min(at, latest) for at in packed["away"]]
    bucket.in_flight = {number: min(at, latest) for number, at in packed["in_flight"]}
    bucket.sweep(now)
    noted: dict[tuple[str, Lane], float] = {(process, lane): at for process, lane, at in packed["waits"]}
    return bucket, Waits(noted)


def _dump(bucket: Bucket, waits: Waits, *, learned: bool) -> str:
    """Return the state and the waits as JSON; an infinite time becomes null, since JSON has no infinity."""
    packed: dict[str, Any] = {name: getattr(bucket, name) for name in FIELDS}
    for name in TIMES:
        packed[name] = None if math.isinf(packed[name]) else packed[name]
    if not learned:
        # Without a stored limit, a process that is started with another limit uses its own limit.
        packed["limit"] = None
    packed["away"] = bucket.away
    packed["in_flight"] = list(bucket.in_flight.items())
    packed["waits"] = [[process, lane, at] for (process, lane), at in waits.noted.items()]
    return json.dumps(packed, separators=(",", ":"))
