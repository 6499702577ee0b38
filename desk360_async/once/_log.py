"""`SendLog`: one send under one key. The claim, the intent, the result, and waits for other tasks' sends."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio

from desk360_async import (
    ConfigurationError,
    Desk360Error,
    InvalidMessage,
    KeyConflict,
    Message,
    Outcome,
    SendInProgress,
    SendUnknown,
    _arguments,
    _threads,
)
from desk360_async._observer import Notice, Observer, parse_observers
from desk360_async._phones import person_of
from desk360_async._postgres import is_dsn
from desk360_async._sqlite import SharedStore
from desk360_async.once import _records
from desk360_async.once._records import Reply, SendRecord
from desk360_async.once._store import Claim, Row, open_database, open_file

_PAGE = 100
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.5  # seconds between two looks at another's send
_FIRST_RETRY, _LONGEST_RETRY = 0.1, 5.0  # seconds between two tries to write a result


Intend: TypeAlias = Callable[[Message], Awaitable[None]]
End: TypeAlias = Callable[[Outcome, Reply | None], None]
Transmit: TypeAlias = Callable[[Intend, End], Awaitable[Reply]]


class ClaimLost(Desk360Error):
    """Another process took the claim over while this one was stopped; the message wasn't sent."""


class _Result(NamedTuple):
    """A send's end that is to be written."""

    attempt: str
    state: str
    reply: dict[str, Any] | None
    ids: tuple[str, ...]
    since: float


class SendLog(SharedStore):
    """Stores sends by key, so that two calls with the same key send one message.

    Give it to a client, `AsyncDesk360(send_log=log)`, and pass `idempotency_key=` to a send. Processes of one
    host may share the file, and those of several hosts a database. The first client opens the
    log, and the last client closes it. The clocks of the hosts must agree within the lease. With a larger
    difference, a send becomes unknown too early, but no message is sent twice.

    Args:
        path_or_dsn: a file (made if missing, mode 0600), ":memory:" for a store in memory, or
            `postgresql://…` for several hosts (extra `[postgres]`).
        keep: seconds for which accepted and unsent records are kept; unknown ones stay until resolved.
        keep_phones: store phones in the clear, which `feed` needs for sends whose message id is not known.
        settle: whether a status for the phone of an unknown send makes the send accepted. Only for accounts
            from which no other program sends.
        lease: seconds after which a stopped process loses its claim, and its request becomes unknown.
        schema: the schema of the tables in PostgreSQL.
        clock: returns the current time as an aware datetime; None for the system's.
        observer: gets the log's notices; None for log lines, () for none.

    Raises:
        ConfigurationError: if an argument is unusable.

    Example:
        ```python
        async with AsyncDesk360(send_log=SendLog("sends.db")) as client:
            await client.send_text("+905551112233", "Ready", idempotency_key="order-4711-ready")
        ```
    """

    def __init__(
        self,
        path_or_dsn: str | os.PathLike[str],
        *,
        keep: float = 2_592_000.0,
        keep_phones: bool = False,
        settle: bool = False,
        lease: float = 30.0,
        schema: str = "desk360",
        clock: Callable[[], datetime] | None = None,
        observer: Observer | Sequence[Observer] | None = None,
    ) -> None:
        super().__init__(clock)
        self._observer = parse_observers(observer)
        self._keep_phones = keep_phones
        self._settle = settle
        self._lease = _arguments.seconds("lease", lease, positive=True)
        _arguments.seconds("keep", keep)
        self._store = (
            open_database(str(path_or_dsn), keep=keep, schema=schema)
            if is_dsn(path_or_dsn)
            else open_file(path_or_dsn, keep=keep)
        )
        self._secret: bytes | None = None
        self._unwritten: dict[str, _Result] = {}
        self._is_retrying = False

    def __repr__(self) -> str:
        return f"<SendLog {self._store!r}>"

    async def _close(self) -> None:
        await self._write_pending()
        await self._store.aclose()

    # ── reading and resolving ──────────────────────────────────────────────────────────────────────────

    async def get(self, key: str) -> SendRecord | None:
        """Return the key's record, or None if no send is stored under it.

        Args:
            key: the idempotency key.

        Raises:
            InvalidMessage: if `key` is not a valid key.
            ConfigurationError: if the store can't be read.
        """
        row = await self._store.get(_arguments.check_key(key))
        return None if row is None else _record(row)

    async def unknown(self) -> AsyncIterator[SendRecord]:
        """Yield the records of all sends whose outcome is unknown, by key.

        Raises:
            ConfigurationError: if the store can't be read.
        """
        after = ""
        while rows := await self._store.unknown(after, _PAGE):
            for row in rows:
                yield _record(row)
            after = rows[-1].key

    async def resolve(
        self, key: str, how: Literal["resend", "accepted", "not_sent"], *, message_id: str = ""
    ) -> None:
        """Store a person's decision on a send whose outcome is unknown.

        Args:
            key: the idempotency key.
            how: "resend" and "not_sent" let the next call send; after "accepted" it gets a stored reply.
            message_id: the id for that reply, if it is known.

        Raises:
            InvalidMessage: if no send is stored under the key, or it was accepted.
            SendInProgress: if it is on its way now.
            ConfigurationError: if `how` is another word, or the store can't be written.
        """
        chosen = _arguments.one_of("how", how, ("resend", "accepted", "not_sent"))
        row = await self._store.resolve(_arguments.check_key(key), chosen, message_id, self._now())
        if row is None:
            raise InvalidMessage("key", f"no send is stored under {key!r}; `unknown()` lists the open ones")
        if row.state in ("waiting", "in_flight"):
            raise SendInProgress(key, since=_moment(row.since))
        if row.state == "accepted":
            raise InvalidMessage("key", f"the send under {key!r} was accepted; send again under a new key")

    async def feed(self, *events: object) -> int:
        """Store the statuses among webhook events with the sends that they belong to.

        Args:
            events: events from `desk360_async.webhooks`; all but statuses are ignored.

        Returns:
            The number of records that changed; they are durable.

        Raises:
            ConfigurationError: if the store can't be written.
        """
        from desk360_async.webhooks import StatusUpdate

        statuses = tuple(
            (event.id, event.status, str(person_of(event.phone)) if event.phone else None)
            for event in events
            if isinstance(event, StatusUpdate)
        )
        return await self._store.note(statuses, self._now(), settle=self._settle) if statuses else 0

    async def forget(self, phone: str) -> int:
        """Remove a phone from all records; keys and outcomes stay.

        Args:
            phone: the phone, E.164 with `+`.

        Returns:
            The number of records that held it.

        Raises:
            ConfigurationError: if the store can't be written.
        """
        return await self._store.forget(str(person_of(phone)))

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────

    async def send(
        self,
        key: str,
        message: Message,
        *,
        integration: int,
        base_url: str,
        timeout: float,
        max_wait: float | None,
        sleep: Callable[[float], Awaitable[None]],
        transmit: Transmit,
    ) -> Reply:
        """Send a message under a key, or return the stored reply of an earlier send.

        Args:
            key: the idempotency key.
            message: the message as given.
            integration: the integration's id.
            base_url: the server.
            timeout: seconds that one attempt may take; a lease is at least that long.
            max_wait: seconds to wait for another task's send; None waits until that send or its lease ends.
            sleep: sleeps for seconds; it raises if the client is closed meanwhile.
            transmit: sends the message. It awaits its first argument when it has a token. It calls its second
                argument once, with the outcome and the reply.

        Raises:
            KeyConflict: the key belongs to another message.
            SendInProgress: another send under the key didn't end within `max_wait`.
            SendUnknown: the earlier send's outcome is unknown.
            Desk360Error: the send's own error.
        """
        _arguments.check_key(key)
        fields = _records.hashes(message, integration, base_url, await self._hash_key())
        begun = anyio.current_time()
        pause = _FIRST_LOOK
        while True:
            claim = await self._claim(key, fields, message)
            if claim.is_mine:
                try:
                    return await self._send(claim, message, timeout, transmit)
                except ClaimLost:
                    continue
            if claim.differing:
                raise KeyConflict(key, claim.differing)
            if claim.row.state == "accepted":
                return _records.unpack(claim.row.reply or {}, message)
            if claim.row.state == "unknown":
                raise SendUnknown(key, since=_moment(claim.row.since), seen=claim.row.seen)
            left = None if max_wait is None else max_wait - (anyio.current_time() - begun)
            if left is not None and left <= 0:
                raise SendInProgress(key, since=_moment(claim.row.since))
            await sleep(pause if left is None else min(pause, left))
            pause = min(_LONGEST_LOOK, pause * 2)

    @staticmethod
    def compare(key: str, message: Message, fields: Mapping[str, str], secret: bytes) -> None:
        """Compare a message with the last send under its key, for another store that holds keys.

        The integration and the server aren't compared.

        Args:
            key: the idempotency key.
            message: the message that is asked for now.
            fields: the hashes of the last send's fields, as its row holds them.
            secret: the key of the hashes.

        Raises:
            KeyConflict: if a field differs.
        """
        asked = _records.hashes(message, 0, "", secret)
        asked |= {name: fields[name] for name in ("integration_id", "base_url") if name in fields}
        if differing := _records.conflicts(fields, asked):
            raise KeyConflict(key, differing)

    async def _hash_key(self) -> bytes:
        if self._secret is None:
            self._secret = await self._store.secret()
        return self._secret

    async def _claim(self, key: str, fields: dict[str, str], message: Message) -> Claim:
        if key in self._unwritten:
            await self._write_pending()
        phone = _records.person_in(message) if self._keep_phones else None
        attempt, now = secrets.token_hex(8), self._now()
        try:
            claim = await self._store.claim(key, attempt, fields, phone, now, now + self._lease)
        except anyio.get_cancelled_exc_class():
            # The claim may be committed already. Left alone, it would hold the key until its lease ends.
            self._unwritten.setdefault(key, _Result(attempt, Outcome.NOT_SENT.value, None, (), now))
            with anyio.CancelScope(shield=True):
                await self._write_pending()
            raise
        pending = self._unwritten.get(key)
        if pending is not None and claim.row.attempt == pending.attempt:
            # The result can't be written yet, so this process answers with the result in its memory.
            row = claim.row._replace(state=pending.state, reply=pending.reply, since=pending.since)
            return claim._replace(row=row)
        return claim

    async def _send(
        self,
        claim: Claim,
        message: Message,
        timeout: float,
        transmit: Transmit,
    ) -> Reply:
        """Send under the claim, and store the result, also after an error or a cancellation."""
        key, attempt = claim.row.key, claim.row.attempt
        ended: list[_Result] = []

        async def intend(resolved: Message) -> None:
            ids = _records.ids_of(resolved, await self._hash_key())
            now = self._now()
            if not await self._store.intend(key, attempt, ids, now, now + timeout + self._lease):
                raise ClaimLost("the claim was taken over", outcome=Outcome.NOT_SENT)

        def end(outcome: Outcome, reply: Reply | None) -> None:
            packed = _records.pack(reply, message) if reply is not None else None
            ids = _records.message_ids(reply) if reply is not None else ()
            ended.append(_Result(attempt, outcome.value, packed, ids, self._now()))

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._renew, key, attempt)
                reply = await _unwrapped(transmit(intend, end))
                tasks.cancel_scope.cancel()
        finally:
            # An error before the pipeline (a closed client) doesn't call `end`. No request was sent then.
            self._unwritten[key] = (
                ended[-1] if ended else _Result(attempt, Outcome.NOT_SENT.value, None, (), self._now())
            )
            with anyio.CancelScope(shield=True):
                await self._write_pending()
        # `reply` is bound, since the group's scope is cancelled only after the reply is there.
        if isinstance(reply, BaseException):  # pyright: ignore[reportPossiblyUnboundVariable]
            raise reply
        return reply  # pyright: ignore[reportPossiblyUnboundVariable]

    async def _renew(self, key: str, attempt: str) -> None:
        """Move the lease's end while the send waits for a token."""
        while True:
            await anyio.sleep(self._lease / 3)
            try:
                if not await self._store.renew(key, attempt, self._now() + self._lease):
                    return
            except ConfigurationError as error:
                text = f"a lease in the send log can't be renewed now: {error}"
                self._observer.notice(Notice("desk360.once.lease_not_renewed", "warning", text))

    async def _write_pending(self) -> None:
        """Write results that are pending; keep those that can't be written, and try again with backoff."""
        for key, result in list(self._unwritten.items()):
            try:
                await self._store.conclude(key, *result)
            except ConfigurationError as error:
                text = f"the end of a send can't be written to the send log; it is tried again: {error}"
                self._observer.notice(Notice("desk360.once.end_not_written", "error", text))
                self._retry()
                return
            except BaseException:  # cancelled: the background task writes the result
                self._retry()
                raise
            self._unwritten.pop(key, None)

    def _retry(self) -> None:
        if not self._is_retrying:
            self._is_retrying = True
            _threads.detach(self._retry_until_written)

    async def _retry_until_written(self) -> None:
        pause = _FIRST_RETRY
        try:
            while self._unwritten and self._users:
                await anyio.sleep(pause)
                pause = min(_LONGEST_RETRY, pause * 2)
                for key, result in list(self._unwritten.items()):
                    try:
                        await self._store.conclude(key, *result)
                    except ConfigurationError:
                        break
                    self._unwritten.pop(key, None)
        finally:
            self._is_retrying = False

    def _now(self) -> float:
        return self.now().timestamp()


async def _unwrapped(sending: Awaitable[Reply]) -> Reply | BaseException:
    """Return the reply or the error; a task group would wrap a raised error in an exception group."""
    try:
        return await sending
    except Exception as error:  # noqa: BLE001  # raised again outside the task group
        return error


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _record(row: Row) -> SendRecord:
    reply = _records.unpack(row.reply or {}, None) if row.state == "accepted" else None
    return SendRecord(
        key=row.key,
        state=row.state,  # type: ignore[arg-type]  # the schema stores the states alone
        since=_moment(row.since),
        attempts=row.attempts,
        reply=reply,
        seen=row.seen,
        resolved=row.resolved,
    )
