"""`deliver(batch)`: a token, the intent, the POST, the result; exactly in that order.

A crash between the token and the intent wastes a token. An intent taken before the wait for a token would
make ten times as many unknowns. If the result can't be written, the campaign stops.
"""

from collections.abc import Callable

import anyio
from attrs import field, frozen

from desk360_async import AsyncDesk360, Attachment, Desk360Error, TemplateBatch, TemplateMessage
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._problems import CampaignError
from desk360_async.campaigns._recipients import OptOutList
from desk360_async.campaigns._states import Batch, Result, Settings
from desk360_async.campaigns._verdicts import judge_bulk, judge_error


@frozen
class Delivered:
    """How one attempt at a batch ended, once that is in the ledger.

    Attributes:
        batch: what was to be sent.
        sent: how many recipients the request had.
        skipped: how many were left out, since they opted out.
        result: how it ended; None if nobody was left to send to.
        following: the batches that it leaves to be sent.
        error: why it failed, if it did.
    """

    batch: Batch
    sent: int
    skipped: int
    result: Result | None
    following: list[Batch] = field(factory=list["Batch"])
    error: Desk360Error | None = None


class _OptedOutMeanwhile(Exception):
    """Raised with the token in hand, before a byte left: the message must be made anew."""


class Dispatch:
    """Delivers batches, one attempt each; may be used by several tasks.

    Args:
        client: a view whose calls are single attempts: whatever ends one must be in the ledger before the
            next begins.
        ledger: the campaign's.
        settings: what it pins.
        attachment: the file for a media header.
        opt_out: who is never written to.
    """

    def __init__(
        self,
        client: AsyncDesk360,
        ledger: Ledger,
        settings: Settings,
        attachment: Attachment | None,
        opt_out: OptOutList,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings
        self._attachment = attachment
        self._opt_out = opt_out

    async def deliver(self, batch: Batch, may_begin: Callable[[], bool]) -> Delivered | None:
        """Make one attempt at a batch.

        Args:
            batch: pending, and nobody else's.
            may_begin: asked with the token in hand, before the intent; False gives the token back.

        Returns:
            How it ended; None if it was stopped before its intent: the batch is pending as before.

        Raises:
            LedgerError: if the ledger failed; then nothing is sent any more.
            CampaignError: if the opt-out list can't be read.
        """
        skipped = 0
        while True:
            members, left_out = await self._members(batch)
            if left_out or not members:
                await self._ledger.skip(batch, left_out)
                skipped += len(left_out)
            if not members:
                return Delivered(batch, 0, skipped, None)
            try:
                return await self._attempt(batch, members, skipped, may_begin)
            except _OptedOutMeanwhile:
                continue

    async def _members(self, batch: Batch) -> tuple[tuple[int, ...], list[int]]:
        excepted = await self._ledger.excepted(batch)
        opted_out = await self._opt_out.read()
        rest = [phone for phone in batch.members if phone not in excepted]
        return tuple(p for p in rest if p not in opted_out), [p for p in rest if p in opted_out]

    async def _attempt(
        self, batch: Batch, members: tuple[int, ...], skipped: int, may_begin: Callable[[], bool]
    ) -> Delivered | None:
        request: int | None = None

        async def intend() -> None:
            nonlocal request
            if not (await self._opt_out.read()).isdisjoint(members):
                raise _OptedOutMeanwhile
            if not may_begin():
                raise _Stopped
            request = await self._ledger.intend(batch)

        error: Desk360Error | None = None
        try:
            message = message_for(batch, members, self._settings, self._attachment)
            if isinstance(message, TemplateBatch):
                bulk = await self._client.send(message, on_attempt=intend)
                result = judge_bulk(bulk, self._settings.not_listed)
            else:
                single = await self._client.send(message, on_attempt=intend)
                result = Result("accepted", message_id=single.message_id)
        except _Stopped:
            return None
        except CampaignError:
            raise
        except Desk360Error as failure:
            error = failure
            result = judge_error(failure, len(members), batch.parameters)
        following: list[Batch] = []
        with anyio.CancelScope(shield=True):  # what is known by now must not become unknown
            following = await self._ledger.conclude(batch, request, result)
        return Delivered(batch, len(members), skipped, result, following, error)


class _Stopped(Exception):
    """Raised with the token in hand, before a byte left: the campaign takes no more."""


def message_for(
    batch: Batch, members: tuple[int, ...], settings: Settings, attachment: Attachment | None
) -> TemplateMessage | TemplateBatch:
    """Return the very message that a batch goes out as."""
    phones = [f"+{phone}" for phone in members]
    parameters = batch.parameters or None
    if batch.kind == "single":
        return TemplateMessage(
            phones[0],
            settings.template,
            language=settings.language,
            parameters=parameters,
            attachment=attachment,
        )
    return TemplateBatch(
        phones, settings.template, language=settings.language, parameters=parameters, attachment=attachment
    )
