"""`Campaign`: load, plan, run, resume, report, resolve. Each opens the ledger, does its part, closes it."""

import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attrs import evolve

from desk360_async import (
    AsyncDesk360,
    Attachment,
    ConfigurationError,
    RetryPolicy,
    TemplateBatch,
    TemplateMessage,
    _threads,
)
from desk360_async._phones import Reader, parse_phone
from desk360_async.campaigns import _deliveries, _export, _ledger, _resolutions, _tallies
from desk360_async.campaigns._client_facts import seed, timeout_of
from desk360_async.campaigns._cuts import Cut
from desk360_async.campaigns._dispatch import Dispatch, message_for
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._loading import OnProgress, look_up, map_columns, stage, table_of
from desk360_async.campaigns._pins import Choices, label_of
from desk360_async.campaigns._plan import Plan, make_plan
from desk360_async.campaigns._problems import CampaignError
from desk360_async.campaigns._recipients import Intake, OptOut, OptOutList, Source
from desk360_async.campaigns._resolutions import Decision, From, Scope
from desk360_async.campaigns._run import Run
from desk360_async.campaigns._states import Counts, NotListed, Report, Settings, Strategy
from desk360_async.campaigns._storage import Storage

if TYPE_CHECKING:
    from desk360_async.webhooks import Event as WebhookEvent
    from desk360_async.webhooks import StatusUpdate


class Campaign:
    """A template sent to many, durably: nobody is lost, and nobody is sent to twice.

    Implements "Bulk Send WhatsApp Message Template" and "Send WhatsApp Message Template" for long lists.
    Every recipient ends as accepted, not sent, unknown or skipped; what is unknown is never sent again
    unless you `resolve` it so.

    Args:
        name: the campaign's; a ledger may hold several.
        template: its id (int) or name (str). None runs what the ledger pins.
        language: the id (int) or label (str) of one of its translations.
        ledger: the file that remembers everything; made when it isn't there. On a local disk.
        strategy: "auto" (equal parameters share bulk requests), "bulk", or "single" (each has its own
            message id, and needs its own token). None: what the ledger pins, else "auto".
        batch_size: recipients a bulk request, 1 to 100,000. One crash makes at most so many unknown per
            request on the wire; the vendor states no maximum. None: what the ledger pins, else 500.
        attachment: the file for a media header, or its path; known again by its name and size.
        not_listed: what a number becomes that the answer to a bulk request doesn't list: "unknown" or
            "not_sent". None: what the ledger pins, else "unknown".
        opt_out: who is never written to: a file with a number a line, an iterable, or a function, also an
            async one, that returns one; read before each batch.

    Raises:
        ConfigurationError: if an argument is unusable; the message names it.
    """

    def __init__(
        self,
        name: str,
        *,
        template: int | str | None = None,
        language: int | str | None = None,
        ledger: str | os.PathLike[str],
        strategy: Strategy | None = None,
        batch_size: int | None = None,
        attachment: Attachment | str | os.PathLike[str] | None = None,
        not_listed: NotListed | None = None,
        opt_out: OptOut = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError("name must be text, such as 'black-friday'")
        self.name = name
        self.ledger: Path = Path(ledger)
        self._attachment = _as_attachment(attachment)
        self._choices = Choices(template, language, self._attachment, strategy, batch_size, not_listed)
        self._opt_out = OptOutList(opt_out)

    def __repr__(self) -> str:
        return f"<Campaign {self.name!r} in {self.ledger.name}>"

    # ── before ─────────────────────────────────────────────────────────────────────────────────────────

    async def load(
        self,
        client: AsyncDesk360,
        recipients: Source,
        *,
        mapping: Mapping[str, str] | None = None,
        region: str | None = None,
        encoding: str | None = None,
        sheet: str | int | None = None,
        clean: bool = False,
        default_region: str | None = None,
        progress: OnProgress | None = None,
    ) -> Plan:
        """Check the template, take in recipients, and plan; nothing is sent. The same input adds nobody.

        It is taken in whole or not at all. A further input adds whoever is new; a `strategy`, `batch_size`
        or `not_listed` that is given then holds from then on. Those who are there already keep their
        parameters, and are left out as "parameters_changed" if the input has others.

        Args:
            client: with the integration to send from.
            recipients: the path of a `.csv`, `.xlsx` or `.ods` file (the last two with the extra `excel`), or
                an iterable or async iterable of `Recipient`. Duplicates, invalid and opted-out numbers and
                rows that lack a variable are left out, with their lines.
            mapping: variable, or "phone", → the file's column, where they aren't of the same name.
            region: such as "TR": numbers without `+` are read as dialled there (extra `phone`).
            encoding: of a CSV file that is neither UTF-8 nor UTF-16, such as "cp1254".
            sheet: the spreadsheet's sheet, by name or number (from 1); None: the first.
            clean: whether white space in variables is folded into single blanks, since WhatsApp refuses line
                breaks, tabs and more than four blanks in a row. Without it, the plan warns of them.
            default_region: the former name of `region`.
            progress: called with the number of rows read, and the share of the file (None: unknown).

        Raises:
            InvalidMessage: if the template can't be sent, or `recipients` is no list of recipients.
            ConfigurationError: if the file or the mapping is unusable.
            CampaignError: if something else is pinned under this name, or the ledger can't be used.
            Desk360Error: if the templates can't be had.
        """
        choices = self._choices
        if choices.template is None or choices.language is None:
            raise ConfigurationError("loading needs Campaign(template=..., language=...)")
        if default_region is not None:
            warnings.warn("default_region is now called region", DeprecationWarning, stacklevel=2)
        phones = await _threads.run(Reader, region if region is not None else default_region)
        table = await table_of(recipients, encoding, sheet)
        async with self._opened(owner=True) as ledger:
            await self._seed(client, ledger)
            request = await ledger.intend_look_up()
            found, looked_up = await look_up(client, choices.template, choices.language, self._attachment)
            await ledger.conclude_look_up(request, looked_up)
            columns = map_columns(table, mapping, found.variables)
            file = await label_of(self._attachment)
            pinned = await ledger.settings()
            settings = choices.settings(self.name, client, found, columns, file, pinned)
            await ledger.pin(settings)
            intake = Intake(found.variables, await self._opt_out.read(), phones, clean=clean)
            await stage(ledger, recipients, table, columns, intake, found.variables, progress)
            await ledger.finish_load(Cut(settings.strategy, settings.batch_size))
            plan = await self._plan(ledger, client)
            return evolve(plan, warnings=(*plan.warnings, *intake.warnings(table)))

    async def plan(self, client: AsyncDesk360) -> Plan:
        """Return what sending the rest takes, at the client's present limit; no request is made.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await self._plan(ledger, client)

    async def _plan(self, ledger: Ledger, client: AsyncDesk360) -> Plan:
        counts, needed, _ = await ledger.outlook()
        groups = await ledger.read(_tallies.groups)
        left_out = await ledger.read(_tallies.left_out)
        return make_plan(counts, needed, groups, left_out, client.rate_limit, _ledger.now())

    async def dry_run(self) -> AsyncIterator[TemplateBatch | TemplateMessage]:
        """Yield the very messages that a run would send, in its order; nothing is sent.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            settings = await self._settings(ledger)
            opted_out = await self._opt_out.read()
            _, _, upto = await ledger.outlook()
            last = 0
            while batches := await ledger.pending(last, upto):
                last = batches[-1].id
                for batch in batches:
                    leave = opted_out | await ledger.excepted(batch)
                    members = tuple(phone for phone in batch.members if phone not in leave)
                    if members:
                        yield message_for(batch, members, settings, self._attachment)

    async def skipped(self) -> list[tuple[int, str, str]]:
        """Return (line, reason, phone as given) of the rows that were left out when loading.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.read(_tallies.skipped)

    # ── during ─────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        client: AsyncDesk360,
        *,
        concurrency: int = 4,
        max_failures: float | None = None,
        drain: float = 60.0,
        signals: bool | None = None,
    ) -> Run:
        """Send what is pending: `async with campaign.run(client) as events: async for event in events`.

        What an earlier process left on the wire becomes unknown first; nothing of it is sent again.

        Args:
            client: its limiter decides the speed; the campaign uses its bulk lane.
            concurrency: requests on the wire at most; a crash makes at most that many batches unknown.
            max_failures: it stops once more recipients than that became not sent or unknown in this run: a
                count (int), or a share of all recipients (float, such as 0.05). Those of earlier runs don't
                count, since resuming says to go on.
            drain: seconds that requests on the wire are given to finish when it stops.
            signals: whether SIGINT and SIGTERM stop it; the second ends it at once, or the first if it was
                stopping anyway. None: if nobody else in this process handles SIGTERM.

        Raises:
            ConfigurationError: if an argument is unusable.
            InvalidMessage: on entering, if the attachment isn't there.
            CampaignError: on entering, if the campaign wasn't loaded, was loaded with something else than
                it was made with now, or another process runs it.
        """
        _check_run(concurrency, max_failures, drain)
        return Run(
            partial(self._prepare, client),
            client,
            concurrency=concurrency,
            max_failures=max_failures,
            drain=drain,
            signals=signals,
        )

    resume = run

    async def _prepare(self, client: AsyncDesk360, stack: AsyncExitStack, run: Run) -> None:
        ledger = await stack.enter_async_context(self._opened(owner=True, must_exist=True))
        settings = await self._settings(ledger)
        self._choices.check(settings, client, await label_of(self._attachment))
        await ledger.recover("crash")
        # Single attempts: whatever ends one must be in the ledger before the next begins.
        sender = client.with_options(
            lane="bulk", max_wait=None, retry=RetryPolicy(attempts=1, max_retry_after=0.0)
        )
        await self._seed(client, ledger)
        counts, needed, upto = await ledger.outlook()
        dispatch = Dispatch(sender, ledger, settings, self._attachment, self._opt_out)
        run._begin(ledger, dispatch, counts, requests_left=sum(n for _, n, _ in needed), upto=upto)

    async def _seed(self, client: AsyncDesk360, ledger: Ledger) -> None:
        period = client.rate_limit.period
        seed(client, await ledger.request_ages(period, timeout_of(client)))

    # ── after ──────────────────────────────────────────────────────────────────────────────────────────

    async def status(self) -> Counts:
        """Return the recipients by state, also while another process runs it.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.counts()

    async def report(self) -> Report:
        """Return what became of it.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.read(_tallies.report_now, self.name)

    async def export(self, path: str | os.PathLike[str]) -> int:
        """Write the report, a line for each recipient; return how many lines.

        Args:
            path: ends in `.csv` (cells that a spreadsheet would take for formulas are neutralised) or
                `.json`; mode 0600, since it holds phone numbers.

        Raises:
            ConfigurationError: for another ending.
            CampaignError: if the campaign was never loaded.
            OSError: if the file can't be written.
        """
        if Path(path).suffix.lower() not in (".csv", ".json"):
            raise ConfigurationError(f"{path}: a report's name ends in .csv or .json")
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.read(_export.write, Path(path), self.name)

    async def resolve(
        self,
        decision: Decision,
        *,
        phones: Iterable[str] | None = None,
        batch: int | None = None,
        everything: bool = False,
        state: From | None = None,
    ) -> int:
        """Say what unknown recipients are, or send again; it is written down who was meant, how and when.

        Args:
            decision: "sent" (they have it), "not_sent" (they don't, and shan't), or "resend": those unknown
                or not sent are pending again. Whoever was unknown and did get it gets a second message;
                of those not sent nobody did.
            phones: only these.
            batch: only those of this batch.
            everything: everybody in the campaign.
            state: only those in this state, "unknown" or "not_sent"; the latter can be resent only. None
                leaves out those who were resolved as not sent, unless `phones` names them.

        Returns:
            How many recipients that were.

        Raises:
            ConfigurationError: unless exactly one of `phones`, `batch` and `everything` is given, or if
                another argument is unusable.
            CampaignError: if the campaign was never loaded, or it runs.
        """
        if decision not in ("sent", "not_sent", "resend"):
            raise ConfigurationError(f"decision must be 'sent', 'not_sent' or 'resend', got {decision!r}")
        if state not in (None, "unknown") and (state != "not_sent" or decision != "resend"):
            raise ConfigurationError(f"state must be 'unknown', or 'not_sent' to be resent, got {state!r}")
        if isinstance(phones, str) or (phones is not None) + (batch is not None) + bool(everything) != 1:
            raise ConfigurationError("resolve takes one of phones=[...], batch=NUMBER, everything=True")
        numbers = None if phones is None else frozenset(int(parse_phone(p, "phones")) for p in phones)
        async with self._opened(owner=True, must_exist=True) as ledger:
            settings = await self._settings(ledger)
            await ledger.recover("crash")
            cut = Cut(settings.strategy, settings.batch_size)
            return await ledger.read(_resolutions.resolve, decision, Scope(numbers, batch, state), cut)

    async def feed(self, *events: "WebhookEvent") -> int:
        """Take in webhook events; others than `StatusUpdate` are ignored, and repeats do no harm.

        Single sends are known by their message id. The vendor gives none for bulk, so a status of such a
        phone counts for the campaign, though it may be another message's.

        Returns:
            How many were news of this campaign.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        # By what they have, not by their class: loading that would load all of the webhooks.
        statuses = [cast("StatusUpdate", event) for event in events if hasattr(event, "status")]
        told = [(s.id, s.phone, s.status) for s in statuses if s.status in _deliveries.KNOWN]
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.read(_deliveries.record, told) if told else 0

    # ── the ledger ─────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _opened(self, *, owner: bool = False, must_exist: bool = False) -> AsyncGenerator[Ledger]:
        if must_exist and not self.ledger.exists():
            raise CampaignError(f"there is no ledger {self.ledger}; load the campaign first")
        async with Storage(self.ledger, owner=owner) as storage:
            yield Ledger(storage, self.name)

    async def _settings(self, ledger: Ledger) -> Settings:
        settings = await ledger.settings()
        if settings is None:
            names = ", ".join(map(repr, await ledger.names())) or "none"
            raise CampaignError(
                f"the ledger {self.ledger.name} holds no campaign {self.name!r} (it holds: {names}); "
                "load it first"
            )
        return settings


async def campaigns_in(ledger: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the campaigns that a ledger holds, in the order in which they were loaded.

    Raises:
        LedgerError: if there is no ledger, or it can't be read.
    """
    async with Storage(Path(ledger), owner=False) as storage:
        return await Ledger(storage, "").names()


def _as_attachment(given: Attachment | str | os.PathLike[str] | None) -> Attachment | None:
    # A message does the checking, and explains it.
    return TemplateMessage("+15550000000", 1, language=1, attachment=given).attachment


def _check_run(concurrency: int, max_failures: float | None, drain: float) -> None:
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 100:
        raise ConfigurationError(f"concurrency must be 1 to 100 requests, got {concurrency!r}")
    if max_failures is not None and (
        isinstance(max_failures, bool)
        or not max_failures >= 0
        or (isinstance(max_failures, float) and max_failures > 1)
    ):
        raise ConfigurationError(
            f"max_failures must be a count (int) or a share of 0.0 to 1.0 (float), got {max_failures!r}"
        )
    if isinstance(drain, bool) or not isinstance(drain, int | float) or not drain >= 0:
        raise ConfigurationError(f"drain must be seconds, 0 or more, got {drain!r}")
