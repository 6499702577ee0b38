"""`Customers`: each person's service window and opt-out, fed by webhooks, read by clients and campaigns."""

import csv
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import anyio
from attrs import frozen

from desk360_async import ConfigurationError, InvalidMessage, _threads
from desk360_async._observer import Notice, Observer, parse_observers
from desk360_async._phones import Reader, parse_phone
from desk360_async._postgres import is_dsn
from desk360_async._sqlite import SharedStore, create
from desk360_async._tables import Defect, Table, fold, neutral
from desk360_async._threads import Gathering
from desk360_async.customers._store import Note, OptOuts, Row, Store, open_database, open_file
from desk360_async.customers._words import (
    DEFAULT_OPT_IN_WORDS,
    DEFAULT_OPT_OUT_WORDS,
    wish_of,
    words_of,
)
from desk360_async.webhooks import MessageReceived

WINDOW = timedelta(hours=24)
"""Time after a customer's message in which free messages arrive (WhatsApp's customer service window)."""

OnOptOut: TypeAlias = Callable[[MessageReceived], Awaitable[None]]
"""A function that is awaited with the message of each new opt-out."""


@frozen
class Window:
    """A person's customer service window.

    Attributes:
        state: "open"; "closed"; or "unknown" if no message of the person is stored.
        ends: when it ends or ended, an aware datetime; None if unknown.
    """

    state: Literal["open", "closed", "unknown"]
    ends: datetime | None = None


class Customers(SharedStore):
    """Stores when customers last wrote, and who opted out; WhatsApp's rules depend on both.

    Feed it with webhooks, `receiver.feed(customers)`, and give it to clients, `AsyncDesk360(customers=...)`,
    and campaigns. The store opens at the first await. It closes with its last client or receiver, or
    at the end of `async with customers`. Phones are compared by person, in all spellings (ruling 19a).

    Args:
        path_or_dsn: a file (made if missing, mode 0600; processes of one host may share it), ":memory:", or
            `postgresql://…` for several hosts (extra `[postgres]`).
        opt_out_words: a message that is one of these words opts its sender out. They replace the defaults.
        opt_in_words: a message that is one of these words undoes an opt-out.
        on_opt_out: awaited once for each opt-out by message, after its commit. Its error is logged.
        clock: returns the current time as an aware datetime; None for the system's.
        schema: the schema of the tables in PostgreSQL.
        observer: gets the store's notices; None for log lines, () for none.

    Raises:
        ConfigurationError: if an argument is unusable.
    """

    def __init__(
        self,
        path_or_dsn: str | os.PathLike[str],
        *,
        opt_out_words: Iterable[str] = DEFAULT_OPT_OUT_WORDS,
        opt_in_words: Iterable[str] = DEFAULT_OPT_IN_WORDS,
        on_opt_out: OnOptOut | None = None,
        clock: Callable[[], datetime] | None = None,
        schema: str = "desk360",
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        self._observer = parse_observers(observer)
        self._out = words_of("opt_out_words", opt_out_words)
        self._back = words_of("opt_in_words", opt_in_words)
        if both := sorted(self._out & self._back):
            raise ConfigurationError(f"{both[0]!r} is an opt-out word and an opt-in word; take it out of one")
        if on_opt_out is not None and not callable(on_opt_out):
            raise ConfigurationError("on_opt_out must be an async function of a message")
        self._on_opt_out = on_opt_out
        super().__init__(clock)
        self._store = _store_of(path_or_dsn, schema)
        self._feeding: Gathering[list[Note], tuple[int, list[int]]] = Gathering(
            self._store.note, close=self._close_unused
        )

    def __repr__(self) -> str:
        return f"<Customers {self._store!r}>"

    async def _close(self) -> None:
        await self._feeding.aclose()
        await self._store.aclose()

    async def _close_unused(self) -> None:
        if not self._users and not self._store.in_memory:
            await self._store.aclose()

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────

    async def window(self, phone: str) -> Window:
        """Return a person's customer service window.

        Args:
            phone: E.164 with `+`.

        Raises:
            InvalidMessage: if it is no phone number.
            ConfigurationError: if the store can't be read.
        """
        row = await self._store.get(parse_phone(phone, "phone"))
        if row.heard is None:
            return Window("unknown")
        ends = datetime.fromtimestamp(row.heard, UTC) + WINDOW
        return Window("open" if self.now() < ends else "closed", ends)

    async def opted_out(self, phone: str) -> bool:
        """Return whether a person has opted out.

        Args:
            phone: E.164 with `+`.

        Raises:
            InvalidMessage: if it is no phone number.
            ConfigurationError: if the store can't be read.
        """
        return (await self._store.get(parse_phone(phone, "phone"))).opted_out is not None

    async def opt_outs(self) -> OptOuts:
        """Return all people who have opted out now: `phone in opt_outs`, `opt_outs.since(phone)`.

        Raises:
            ConfigurationError: if the store can't be read.
        """
        return await self._store.opt_outs()

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────

    async def opt_out(self, phone: str, reason: str = "") -> None:
        """Store durably that a person has opted out.

        Args:
            phone: E.164 with `+`.
            reason: a note for people, such as "asked by phone".

        Raises:
            InvalidMessage: if it is no phone number.
            ConfigurationError: if the store can't be written.
        """
        await self._store.opt_out(parse_phone(phone, "phone"), reason, self.now().timestamp())

    async def opt_in(self, phone: str) -> None:
        """Undo a person's opt-out durably.

        Args:
            phone: E.164 with `+`.

        Raises:
            InvalidMessage: if it is no phone number.
            ConfigurationError: if the store can't be written.
        """
        await self._store.opt_in(parse_phone(phone, "phone"))

    async def feed(self, *events: object) -> int:
        """Store the messages among webhook events durably; repeats change nothing.

        Concurrent calls share a commit. A message of a person without a number is ignored.

        Args:
            events: events from `desk360_async.webhooks`; all but messages are ignored.

        Returns:
            The number of messages that changed a window or an opt-out.

        Raises:
            ConfigurationError: if the store can't be written.
        """
        messages = [event for event in events if isinstance(event, MessageReceived) and event.phone]
        if not messages:
            return 0
        now = self.now().timestamp()
        with anyio.CancelScope(shield=True):  # a commit takes milliseconds, and returns the new opt-outs
            news, opt_outs = await self._feeding.add([self._note(message, now) for message in messages])
        # The names below are bound, since a shielded scope swallows no error.
        if self._on_opt_out is not None:
            for place in opt_outs:  # pyright: ignore[reportPossiblyUnboundVariable]
                await self._answer(self._on_opt_out, messages[place])
        return news  # pyright: ignore[reportPossiblyUnboundVariable]

    def _note(self, message: MessageReceived, now: float) -> Note:
        # A time in the future comes from a wrong clock. It must not keep a window open for longer.
        at = now if message.sent_at is None else min(now, message.sent_at.timestamp())
        return Note(message.phone or "", at, wish_of(message, self._out, self._back), message.id)

    async def _answer(self, on_opt_out: OnOptOut, message: MessageReceived) -> None:
        try:
            await on_opt_out(message)
        except Exception as error:  # noqa: BLE001  # the caller's own error; a repeat would not call it again
            text = "on_opt_out failed; the opt-out is stored"
            facts = {"callback": "on_opt_out"}
            self._observer.notice(Notice("desk360.customers.callback_failed", "error", text, facts, error))

    # ── lists ──────────────────────────────────────────────────────────────────────────────────────────

    async def export(self, path: str | os.PathLike[str]) -> int:
        """Write people to a CSV file: phone, last_message, opted_out, reason. Forgotten people aren't in it.

        Args:
            path: the file, replaced if it exists; mode 0600, since it holds phone numbers.

        Returns:
            The number of rows, without the header.

        Raises:
            ConfigurationError: if the store can't be read.
            OSError: if the file can't be written.
        """
        people = await self._store.people()
        await _threads.run(write_list, Path(path), people)
        return len(people)

    async def load(self, path: str | os.PathLike[str]) -> int:
        """Add the people of a list to the store, all or none; stored opt-outs stay.

        Args:
            path: a CSV file or spreadsheet with a column of phones. Without a column "opted_out" each
                person in it has opted out. Columns as `export` writes them: "last_message" and "opted_out"
                are ISO times, "reason" is text.

        Returns:
            The number of rows.

        Raises:
            ConfigurationError: if the file can't be read, or a cell is no phone or time. The message names
                the line.
        """
        now = self.now().timestamp()
        rows = await _threads.run(read_list, Path(path), now)
        return await self._store.merge(rows)

    async def forget(self, phone: str) -> int:
        """Remove a person's number and times; an opt-out stays, under a keyed hash of the number.

        Args:
            phone: E.164 with `+`.

        Returns:
            1 if the person was stored, else 0.

        Raises:
            InvalidMessage: if it is no phone number.
            ConfigurationError: if the store can't be written.
        """
        return await self._store.forget(parse_phone(phone, "phone"))


def _store_of(given: Any, schema: str) -> Store:
    if is_dsn(given):
        return open_database(given, schema)
    if not isinstance(given, str | os.PathLike):
        given_type = type(given).__name__
        raise ConfigurationError(f"Customers needs a file's path, ':memory:' or a DSN, not {given_type}")
    return open_file(cast("str | os.PathLike[str]", given))


# ── lists of people: CSV files and spreadsheets, and the store's rows ─────────────────────────────────────

COLUMNS = ("phone", "last_message", "opted_out", "reason")


def write_list(path: Path, people: list[Row]) -> None:
    """Write people to a CSV file with the columns of `COLUMNS`; it blocks.

    Raises:
        OSError: if the file can't be written.
    """
    create(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in people:
            cells = (row.phone, _iso(row.heard), _iso(row.opted_out), row.reason)
            writer.writerow([neutral(cell) for cell in cells])


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def read_list(path: Path, now: float) -> list[Row]:
    """Return the people of a list; it blocks.

    Args:
        path: a CSV file or a spreadsheet.
        now: the time of opt-outs without a time, seconds since the epoch.

    Raises:
        ConfigurationError: if the file can't be read, or a cell is no phone or time. The message names the
            line.
    """
    table = Table.open(path)
    columns = {fold(column) for column in table.columns}
    present = [name for name in COLUMNS[1:] if name in columns]
    if table.is_headless and len(table.columns) == 1:
        raise ConfigurationError(f"{path}: the first line must name the column; write 'phone' above the list")
    mapping = table.mapping(present, None)
    reader = Reader()
    people: list[Row] = []
    for line, phone, values in table.rows(mapping, present):
        try:
            if isinstance(values, Defect):
                raise ConfigurationError(f"{values.reason.replace('_', ' ')}")
            cells: dict[str, Any] = dict(zip(present, values, strict=True))
            people.append(_person(reader.read(phone), cells, now))
        except InvalidMessage as error:
            raise ConfigurationError(f"{path}, line {line}: {error.problem}") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}, line {line}: {error}") from None
    return people


def _person(phone: str, cells: dict[str, Any], now: float) -> Row:
    opted_out = _seconds("opted_out", cells["opted_out"], now) if "opted_out" in cells else now
    heard = _seconds("last_message", cells.get("last_message", ""), now)
    reason = str(cells.get("reason", "")).removeprefix("'")
    return Row("", phone=phone, heard=heard, opted_out=opted_out, reason=reason)


def _seconds(column: str, cell: object, now: float) -> float | None:
    """Return a cell's time in seconds since the epoch, at most `now`; None for an empty cell."""
    text = str(cell).strip()
    if not text:
        return None
    if fold(text) in ("yes", "true", "1", "evet"):
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = f"{column} holds {text!r}; write an ISO time such as 2026-11-28T12:00:00+00:00"
        raise ConfigurationError(problem) from None
    return min(now, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
