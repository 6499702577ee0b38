"""`Campaign`: load, plan, run, report, resolve. Each opens the ledger, does its part, and closes it."""

import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import anyio
from attrs import frozen

from desk360_async import (
    AsyncDesk360,
    Attachment,
    ConfigurationError,
    InvalidMessage,
    Lane,
    RetryPolicy,
    Template,
    TemplateBatch,
    TemplateMessage,
    TokenBucket,
    Translation,
    _threads,
)
from desk360_async._arguments import count_or_share, kind_of, one_of, require_path, seconds, share, whole
from desk360_async._phones import Reader, parse_phone, spellings_of
from desk360_async._postgres import is_dsn
from desk360_async._redaction import mask_dsn
from desk360_async._tables import Table
from desk360_async._threads import Gathering
from desk360_async.campaigns._batches import Cut
from desk360_async.campaigns._hours import Hours
from desk360_async.campaigns._ledger import STATUSES, Ledger, Status
from desk360_async.campaigns._recipients import (
    Intake,
    OptOut,
    OptOutList,
    Recipient,
    Source,
    chunked,
    some_of,
)
from desk360_async.campaigns._run import Dispatch, Opening, Run, message_for
from desk360_async.campaigns._storage import open_ledger
from desk360_async.campaigns._table_ledger import TableLedger, open_tables
from desk360_async.campaigns._values import (
    CampaignError,
    Counts,
    Decision,
    News,
    NotListed,
    Plan,
    Progress,
    Report,
    Resolvable,
    Scope,
    Settings,
    Strategy,
)

if TYPE_CHECKING:
    from desk360_async.webhooks import Event as WebhookEvent

_HOURS = "Hours('09:00-20:00', zone='Europe/Istanbul')"  # an example, for errors
# Called on the event loop with the rows so far, and the share of the file that was read (None: unknown).
OnProgress = Callable[[int, float | None], None]


class Campaign:
    """A template sent to many, durably: no recipient is lost, and no recipient gets it twice.

    Implements "Bulk Send WhatsApp Message Template" and "Send WhatsApp Message Template" for long lists.
    Every recipient ends as accepted, not sent, unknown or skipped. A run never sends to an unknown recipient
    again, unless you `resolve` it as "resend".

    Args:
        name: the campaign's; a ledger may hold several.
        template: its id (int) or name (str). None: the ledger's.
        language: the id (int) or label (str) of one of its translations.
        ledger: the file that stores the campaign, on a local disk; it is made if it is missing. Or
            `postgresql://…` (extra `[postgres]`): then several runs may send side by side.
        strategy: "auto" (equal parameters share bulk requests), "bulk", or "single" (each has its own
            message id, and needs its own token). None: the ledger's, else "auto".
        batch_size: recipients per bulk request, 1 to 100,000. A crash makes at most this number unknown for
            each request on the wire. The vendor states no maximum. None: the ledger's, else 500.
        attachment: the file for a media header, or its path; known again by its name and size.
        not_listed: the state of a number that the answer to a bulk request doesn't list: "unknown" or
            "not_sent". None: the ledger's, else "unknown".
        opt_out: phones that get no message: a file with one number a line, an iterable, a function or async
            function that returns an iterable, or a `Customers`. It is read before each request. So are the
            client's own `customers`.
        schema: the schema of the tables in PostgreSQL.

    Raises:
        ConfigurationError: if an argument is unusable; the message names it.

    Example:
        ```python
        campaign = Campaign("spring", template="welcome", language="English", ledger="campaigns.db")
        await campaign.load(client, "people.csv")
        async with campaign.run(client) as events:
            async for event in events:
                print(event)
        ```
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
        schema: str = "desk360",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError("name must be text, such as 'black-friday'")
        if batch_size is not None:
            whole("batch_size", batch_size, least=1, most=100_000, meaning="recipients a bulk request")
        self._feeding: Gathering[list[Status], int] = Gathering(self._feed, close=self._stop_feeding)
        self._fed: tuple[Ledger, AsyncExitStack] | None = None
        self.name = name
        require_path(ledger, "the ledger")
        self._dsn = str(ledger) if is_dsn(ledger) else None
        self._schema = schema
        self.ledger: Path = Path(mask_dsn(self._dsn)) if self._dsn is not None else Path(ledger)
        self._template = template
        self._language = language
        self._strategy: Strategy | None = one_of("strategy", strategy, (None, "auto", "bulk", "single"))
        self._batch_size = batch_size
        self._not_listed: NotListed | None = one_of("not_listed", not_listed, (None, "unknown", "not_sent"))
        self._attachment = None if attachment is None else Attachment.of(attachment)
        self._opt_out = OptOutList(opt_out)

    def __repr__(self) -> str:
        return f"<Campaign {self.name!r} in {self.ledger.name}>"

    @property
    def is_shared(self) -> bool:
        """Whether the ledger is in PostgreSQL, so that several runs may send side by side."""
        return self._dsn is not None

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
        """Check the template, load the recipients, and return the plan, without sending.

        An input is loaded whole or not at all. Loading the same input again has no effect. A further input
        adds its new recipients; a new `strategy`, `batch_size` or `not_listed` holds from then on. Recipients
        of an earlier input keep their parameters; a row with other ones is left out as "parameters_changed".

        Args:
            client: with the integration to send from.
            recipients: the path of a `.csv`, `.xlsx` or `.ods` file (the last with the extra `excel`), or
                an iterable or async iterable of `Recipient`. Duplicates, invalid and opted-out numbers and
                rows that lack a variable are left out, with their lines.
            mapping: variable, or "phone" → the file's column; needed where the two names differ.
            region: such as "TR": numbers without `+` are read as dialled there (extra `phone`).
            encoding: of a CSV file that is neither UTF-8 nor UTF-16, such as "cp1254".
            sheet: the spreadsheet's sheet, by name or number (from 1); None: the first.
            clean: whether white space in variables becomes single spaces, since WhatsApp refuses line
                breaks, tabs and more than four spaces in a row. Without it, the plan warns of them.
            default_region: the former name of `region`.
            progress: called with the number of rows read, and the share of the file (None: unknown).

        Raises:
            InvalidMessage: if the template can't be sent, or `recipients` is no list of recipients.
            ConfigurationError: if the file or the mapping is unusable.
            CampaignError: if other settings are pinned under this name, or the ledger can't be used.
            Desk360Error: if the request for the templates fails.
        """
        template, language = self._template, self._language
        if template is None or language is None:
            raise ConfigurationError("loading needs Campaign(template=..., language=...)")
        if default_region is not None:
            warnings.warn("default_region is now called region", DeprecationWarning, stacklevel=2)
        phones = await _threads.run(Reader, region if region is not None else default_region)
        table = await table_of(recipients, encoding, sheet)
        async with (
            self._opt_out.beside(client.customers).held() as opt_out,
            self._opened(owner=True, must_exist=False) as ledger,
        ):
            await self._seed(client, ledger)
            request = await ledger.intend_look_up()
            found, requests = await _look_up(client, template, language, self._attachment)
            await ledger.conclude_look_up(request, requests)
            columns = map_columns(table, mapping, found.variables)
            pinned = await ledger.settings()
            settings = self._merge(found, client, columns, await label_of(self._attachment), pinned)
            await ledger.begin_load(settings)
            intake = Intake(found.variables, await opt_out.read(), phones, clean=clean)
            await _stage(ledger, recipients, table, columns, intake, progress)
            cut = Cut(settings.strategy, settings.batch_size)
            await ledger.finish_load(settings, request, cut, intake.warnings(table))
            return await ledger.plan(client.rate_limit)

    def _merge(
        self,
        found: "_Sendable",
        client: AsyncDesk360,
        columns: Mapping[str, str],
        file: str | None,
        pinned: Settings | None,
    ) -> Settings:
        """Return the settings that loading pins: the arguments, else the pinned ones, else the defaults."""
        return Settings(
            name=self.name,
            base_url=client.base_url,
            integration=integration_of(client),
            template=found.template,
            template_name=found.template_name,
            language=found.language,
            language_name=found.language_name,
            variables=found.variables,
            mapping=dict(columns),
            attachment=file,
            strategy=self._strategy or (pinned.strategy if pinned else "auto"),
            batch_size=self._batch_size or (pinned.batch_size if pinned else 500),
            not_listed=self._not_listed or (pinned.not_listed if pinned else "unknown"),
        )

    async def plan(self, client: AsyncDesk360, *, hours: Hours | None = None) -> Plan:
        """Return the plan for the pending recipients, at the client's present limit; no request is made.

        Args:
            client: with the rate limit.
            hours: the sending hours; `Plan.finish` includes the pauses outside them. None: all hours.

        Raises:
            ConfigurationError: if `hours` is no `Hours`.
            CampaignError: if the campaign was never loaded.
        """
        kind_of("hours", hours, Hours, _HOURS)
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.plan(client.rate_limit, hours)

    async def dry_run(self) -> AsyncIterator[TemplateBatch | TemplateMessage]:
        """Yield the messages that a run would send, in its order, without sending them.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            settings = await self._settings(ledger)
            async with self._opt_out.held() as opt_out:
                opted_out = await opt_out.read()
            _, _, upto = await ledger.outlook()
            last = 0
            while batches := await ledger.pending(last, upto):
                last = batches[-1].id
                for batch in batches:
                    left = set(batch.members) - await ledger.excepted(batch)
                    members = tuple(p for p in batch.members if p in left and p not in opted_out)
                    if members:
                        yield message_for(batch, members, settings, self._attachment)

    async def skipped(self) -> list[tuple[int, str, str]]:
        """Return (line, reason, phone as given) of the rows that were left out when loading.

        A reason is a slug, and often a colon and a detail, such as "invalid_phone: letters".

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.skipped()

    # ── during ─────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        client: AsyncDesk360,
        *,
        concurrency: int = 4,
        max_failures: float | None = None,
        stop_if_failed: float | None = None,
        drain: float = 60.0,
        signals: bool | None = None,
        lane: Lane = "bulk",
        hours: Hours | None = None,
        name: str = "",
        lease: float = 30.0,
        ledger_patience: float = 600.0,
    ) -> Run:
        """Send the rest: `async with campaign.run(client) as events: async for event in events`.

        Requests that an earlier process left on the wire become unknown first; they aren't sent again.

        Args:
            client: its limiter decides the speed; the campaign uses its bulk lane.
            concurrency: requests on the wire at most; a crash makes at most that many batches unknown.
            max_failures: the run stops once more recipients than this became not sent or unknown: a count
                (int), or a share of all recipients (float, such as 0.05). Failures of earlier runs don't
                count.
            stop_if_failed: the run stops once the share of failed recipients is above this (0.0 to 1.0). Only
                recipients with a status from `feed` during this run count, from 20 on. None: never.
            drain: seconds for requests on the wire to finish when the run stops.
            signals: whether SIGINT and SIGTERM stop the run. The second signal ends it at once; so does the
                first if the run was stopping. None: only if this process has no other handler of SIGTERM.
            lane: the priority of its requests in the limiter: "bulk" yields to "interactive".
            hours: the sending hours, such as `Hours("09:00-20:00", zone="Europe/Istanbul")`. Outside them the
                run pauses (event `Paused("hours", seconds)`), and goes on by itself. None: all hours.

            name: this run's name for people, such as "host-3". This and the next two are for PostgreSQL only.
            lease: seconds after which other runs take this one for dead, if it isn't seen (≥ 0.5).
            ledger_patience: seconds for which results are kept while the database is away.

        Raises:
            ConfigurationError: if an argument is unusable.
            InvalidMessage: on entering, if the attachment isn't there.
            CampaignError: on entering, if the campaign wasn't loaded, was loaded with other arguments, or
                runs in another process.
        """
        whole("concurrency", concurrency, least=1, most=100, meaning="requests on the wire")
        seconds("drain", drain)
        count_or_share("max_failures", max_failures)
        share("stop_if_failed", stop_if_failed)
        one_of("lane", lane, ("bulk", "interactive"))
        seconds("lease", lease, least=0.5)
        seconds("ledger_patience", ledger_patience)
        kind_of("hours", hours, Hours, _HOURS)
        return Run(
            partial(self._open_run, client, lane, (name, lease, ledger_patience)),
            client,
            self.name,
            concurrency=concurrency,
            max_failures=max_failures,
            stop_if_failed=stop_if_failed,
            drain=drain,
            signals=signals,
            hours=hours,
        )

    resume = run

    async def _open_run(
        self, client: AsyncDesk360, lane: Lane, beside: tuple[str, float, float], stack: AsyncExitStack
    ) -> Opening:
        ledger = await stack.enter_async_context(self._opened(owner=True))
        settings = await self._settings(ledger)
        self._compare(settings, client, await label_of(self._attachment))
        news: News | None = None
        if isinstance(ledger, TableLedger):
            name, lease, patience = beside
            timeout = max(client.timeout.total, client.timeout.upload)
            news = await ledger.join(
                name, lease=lease, timeout=timeout, patience=patience, observer=client.observer
            )
        else:
            await ledger.recover("crash")
        # Single attempts: the end of one must be in the ledger before the next begins.
        sender = client.with_options(
            lane=lane, max_wait=None, retry=RetryPolicy(attempts=1, max_retry_after=0.0), customers=None
        )
        await self._seed(client, ledger)
        counts, requests_left, upto = await ledger.outlook()
        opt_out = await stack.enter_async_context(self._opt_out.beside(client.customers).held())
        dispatch = Dispatch(sender, ledger, settings, self._attachment, opt_out)
        shared = None if news is None else beside[1]
        return Opening(dispatch, counts, requests_left, upto, shared, news)

    async def pause(self, reason: str = "") -> None:
        """Let all runs of the campaign, on all hosts, take no more batches until `proceed`.

        Raises:
            CampaignError: if the ledger is a file, whose run has a `pause` of its own.
        """
        await self._decide("paused", reason or "pause() was called")

    async def proceed(self) -> None:
        """Let all runs go on after `pause`, and new ones begin after `stop`.

        Raises:
            CampaignError: if the ledger is a file, whose run has a `proceed` of its own.
        """
        await self._decide("running", "")

    async def stop(self, reason: str = "") -> None:
        """End all runs of the campaign, on all hosts; none begins until `proceed`.

        Raises:
            CampaignError: if the ledger is a file, whose run has a `stop` of its own.
        """
        await self._decide("stopped", reason or "stop() was called")

    async def _decide(self, state: str, reason: str) -> None:
        async with self._shared(state) as ledger:
            await ledger.decide(state, reason)

    async def accept_failover(self, batches: int) -> int:
        """Go on after the database was promoted: the first pending batches become unknown.

        Args:
            batches: the number of requests that the replica may have lost, plus the requests on the wire.

        Returns:
            The number of recipients that became unknown.

        Raises:
            CampaignError: if the campaign runs, or the ledger is a file.
        """
        whole("batches", batches, least=0, most=1_000_000, meaning="pending batches")
        async with self._shared("resolved after a failover") as ledger:
            return await ledger.accept_failover(batches)

    @asynccontextmanager
    async def _shared(self, state: str) -> AsyncGenerator[TableLedger]:
        async with self._opened() as ledger:
            await self._settings(ledger)
            if not isinstance(ledger, TableLedger):
                raise CampaignError(
                    f"a campaign in a file can't be {state} from outside; call the method of its run, or "
                    'keep the ledger in PostgreSQL (ledger="postgresql://…")'
                )
            yield ledger

    def _compare(self, settings: Settings, client: AsyncDesk360, file: str | None) -> None:
        """Compare this campaign's arguments with the pinned settings.

        Raises:
            CampaignError: if something differs; it names the first.
        """
        template, language = self._template, self._language
        for name, pinned, given, same in (
            ("the server", settings.base_url, client.base_url, False),
            ("integration", settings.integration, integration_of(client), False),
            ("template", settings.template_name, template, _is_template(settings, template)),
            ("language", settings.language_name, language, _is_language(settings, language)),
            ("attachment", settings.attachment, file, False),
            ("strategy", settings.strategy, self._strategy, False),
            ("batch_size", settings.batch_size, self._batch_size, False),
            ("not_listed", settings.not_listed, self._not_listed, False),
        ):
            if not same and given != pinned and (given is not None or name == "attachment"):
                raise CampaignError(
                    f"the campaign {settings.name!r} was loaded for {name} {pinned!r}, not {given!r}; "
                    "run it as it was loaded, or load it under another name"
                )

    async def _seed(self, client: AsyncDesk360, ledger: Ledger) -> None:
        """Report the requests of earlier processes to the client's bucket.

        A shared limiter has counted them itself; a limiter of the user's own isn't changed.
        """
        timeout = max(client.timeout.total, client.timeout.upload)
        ages = await ledger.request_ages(client.rate_limit.period, timeout)
        if isinstance(client.limiter, TokenBucket):
            client.limiter.seed(ages)

    # ── after ──────────────────────────────────────────────────────────────────────────────────────────

    async def status(self) -> Counts:
        """Return the recipients by state, also while another process runs it.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.counts()

    async def server(self) -> str:
        """Return the URL of the server for which the campaign was loaded; it ends in `/v1`.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            return (await self._settings(ledger)).base_url

    async def report(self) -> Report:
        """Return the campaign's report.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.report()

    async def export(self, path: str | os.PathLike[str]) -> int:
        """Write the report, a line for each recipient; return how many lines.

        Args:
            path: ends in `.csv`, `.xlsx` or `.json`; mode 0600, since it holds phone numbers. In `.csv`,
                cells that a spreadsheet would take for formulas are neutralised. A spreadsheet that saves a
                `.csv` turns its phones into numbers; an `.xlsx` keeps them as text.

        Raises:
            ConfigurationError: for another ending.
            CampaignError: if the campaign was never loaded.
            OSError: if the file can't be written.
        """
        if Path(path).suffix.lower() not in (".csv", ".xlsx", ".json"):
            raise ConfigurationError(f"{path}: a report's name ends in .csv, .xlsx or .json")
        async with self._opened() as ledger:
            await self._settings(ledger)
            return await ledger.export(Path(path))

    async def resolve(
        self,
        decision: Literal["accepted", "sent", "not_sent", "resend"],
        *,
        phones: Iterable[str] | None = None,
        batch: int | None = None,
        everything: bool = False,
        state: Resolvable | None = None,
    ) -> int:
        """Decide about unknown recipients, or send again; the decision is stored with its phones.

        Args:
            decision: "accepted" (they have it; "sent" is an alias), "not_sent" (they don't have it, and shall
                not get it), or "resend" (they are pending again). With "resend", an unknown recipient may
                get the message twice; a "not_sent" one can't.
            phones: only these, under any spelling (ruling 19a).
            batch: only the recipients of this batch.
            everything: all recipients of the campaign.
            state: only recipients in this state: "unknown"; with "resend" also "not_sent" or "failed"
                (accepted, but a webhook reported that WhatsApp could not reach them). None leaves out
                recipients that were resolved as not sent, unless `phones` names them.

        Returns:
            The number of recipients.

        Raises:
            ConfigurationError: unless exactly one of `phones`, `batch` and `everything` is given, or if
                another argument is unusable.
            CampaignError: if the campaign was never loaded or is running; with "resend" also if its people
                are expired.
        """
        one_of("decision", decision, ("accepted", "sent", "not_sent", "resend"))
        decided: Decision = "accepted" if decision == "sent" else decision
        if state not in (None, "unknown") and (state not in ("not_sent", "failed") or decided != "resend"):
            raise ConfigurationError(
                f"state must be 'unknown', or to be resent 'not_sent' or 'failed', got {state!r}"
            )
        if isinstance(phones, str) or (phones is not None) + (batch is not None) + bool(everything) != 1:
            raise ConfigurationError("resolve takes one of phones=[...], batch=NUMBER, everything=True")
        numbers = None if phones is None else _spellings(phones)
        async with self._opened(owner=True) as ledger:
            settings = await self._settings(ledger)
            await ledger.recover("crash")
            cut = Cut(settings.strategy, settings.batch_size)
            return await ledger.resolve(decided, Scope(numbers, batch, state), cut)

    async def people(
        self,
        *,
        state: Literal["pending", "accepted", "not_sent", "unknown", "skipped", "failed", "unread"],
    ) -> list[Recipient]:
        """Return the recipients in a state, with their parameters: the list of another campaign.

        Args:
            state: "pending", "accepted", "not_sent", "unknown", "skipped" (opted out while it ran),
                "failed" (accepted, but WhatsApp could not reach them, as webhooks reported), or "unread"
                (accepted, not failed, and no webhook reported that they read it).

        Raises:
            ConfigurationError: for another state.
            CampaignError: if the campaign was never loaded.
        """
        known = ("pending", "accepted", "not_sent", "unknown", "skipped", "failed", "unread")
        one_of("state", state, known)
        async with self._opened() as ledger:
            await self._settings(ledger)
            return [Recipient(phone, parameters) for phone, parameters in await ledger.people(state)]

    async def watch(self, *, every: float = 1.0) -> AsyncGenerator[Progress]:
        """Yield the campaign's progress until all recipients have ended; any process may run it.

        Args:
            every: seconds between two looks at the ledger (≥ 0.01).

        Raises:
            ConfigurationError: if `every` is out of its range.
            CampaignError: if the campaign was never loaded.
        """
        seconds("every", every, least=0.01)
        began, first = anyio.current_time(), await self.status()
        counts = first
        while True:
            async with self._opened() as ledger:
                await self._settings(ledger)
                counts, requests_left, _ = await ledger.outlook()
            elapsed = anyio.current_time() - began
            rate = (counts.finished - first.finished) / elapsed if elapsed > 0 else 0.0
            left = counts.pending + counts.on_the_wire
            yield Progress(counts, requests_left, rate, left / rate if rate else None)
            if not left:
                return
            await anyio.sleep(every)

    async def feed(self, *events: "WebhookEvent") -> int:
        """Store the statuses among webhook events durably; repeats do no harm.

        Calls side by side share a commit. The ledger stays open, and closes after 5 s without a call.

        A status of a single send is found by its message id. The vendor gives no ids for bulk requests. So a
        status of their phones counts for the campaign, though it may belong to another message.

        Returns:
            How many were news of this campaign.

        Raises:
            CampaignError: if the campaign was never loaded.
        """
        from desk360_async.webhooks import StatusUpdate  # loaded only by `feed`

        statuses = [
            (event.id, event.phone, event.status)
            for event in events
            if isinstance(event, StatusUpdate) and event.status in STATUSES
        ]
        return await self._feeding.add(statuses)

    async def _feed(self, calls: list[list[Status]]) -> list[int]:
        if self._fed is None:
            async with AsyncExitStack() as stack:
                ledger = await stack.enter_async_context(self._opened())
                await self._settings(ledger)
                self._fed = ledger, stack.pop_all()
        ledger, _ = self._fed
        try:
            return await ledger.feed(calls)
        except BaseException:
            await self._stop_feeding()  # the next commit opens the ledger anew
            raise

    async def _stop_feeding(self) -> None:
        fed, self._fed = self._fed, None
        if fed is not None:
            await fed[1].aclose()

    # ── the ledger ─────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _opened(self, *, owner: bool = False, must_exist: bool = True) -> AsyncGenerator[Ledger]:
        if self._dsn is not None:
            async with open_tables(self._dsn, self.name, self._schema) as tables:
                yield tables
            return
        async with open_ledger(self.ledger, owner=owner, must_exist=must_exist) as file:
            yield Ledger(file, self.name)

    async def _settings(self, ledger: Ledger) -> Settings:
        settings = await ledger.settings()
        if settings is None:
            names = ", ".join(map(repr, await ledger.names())) or "none"
            place = self.ledger.name if self._dsn is None else mask_dsn(self._dsn)
            raise CampaignError(
                f"the ledger {place} holds no campaign {self.name!r} (it holds: {names}); load it first"
            )
        return settings


def _loaded(settings: Settings) -> Template:
    text = Translation(language_id=settings.language, language=settings.language_name)
    return Template(id=settings.template, name=settings.template_name, translations=(text,))


def _is_template(settings: Settings, given: int | str | None) -> bool:
    return given is not None and _loaded(settings).matches(given)


def _is_language(settings: Settings, given: int | str | None) -> bool:
    """Return whether a language means the pinned one, by the rules by which it was found."""
    try:
        return given is not None and bool(_loaded(settings).translation(given))
    except InvalidMessage:
        return False


async def campaigns_in(ledger: str | os.PathLike[str], *, schema: str = "desk360") -> tuple[str, ...]:
    """Return the names of the campaigns that a ledger holds, in the order in which they were loaded.

    Args:
        ledger: the ledger's file, or `postgresql://…`.
        schema: the schema of the tables in PostgreSQL.

    Raises:
        LedgerError: if there is no ledger, or it can't be read.
        ConfigurationError: if the database refuses us.
    """
    if is_dsn(ledger):
        async with open_tables(str(ledger), "", schema) as tables:
            return await tables.names()
    async with open_ledger(Path(ledger), owner=False) as file:
        return await Ledger(file, "").names()


@frozen
class _Sendable:
    """A template that can be sent, by ids and names, and the variables that a send must fill."""

    template: int
    template_name: str | None
    language: int
    language_name: str | None
    variables: tuple[str, ...]


async def _look_up(
    client: AsyncDesk360, template: int | str, language: int | str, attachment: Attachment | None
) -> tuple[_Sendable, int]:
    """Find a template and check that it can be sent; return it, and the number of requests made.

    Raises:
        InvalidMessage: if it can't be sent.
    """
    used = _in_use(client)
    found = await client.templates.get(template)
    # At least one: a token may have come back meanwhile. A count that is too high only costs time.
    requests = max(1, _in_use(client) - used)
    if found.sendable is False:
        raise InvalidMessage("template", f"{found.name} ({found.id}) is not sendable")
    text = found.translation(language)
    if not text.active:
        raise InvalidMessage("language", f"{text.language} is not active ({text.status})")
    if text.language_id is None:
        raise InvalidMessage("language", f"{text.language!r} has no id in the list; use its id")
    text.check(dict.fromkeys(text.variables, "…"), attachment)
    return _Sendable(found.id, found.name, text.language_id, text.language, text.variables), requests


def _in_use(client: AsyncDesk360) -> int:
    """Return the tokens in use; the free tokens alone won't do, since an answer may change the limit."""
    status = client.rate_limit
    return status.limit - status.free


async def table_of(recipients: Source, encoding: str | None, sheet: str | int | None) -> Table | None:
    """Open a file of recipients; None for an iterable.

    Raises:
        ConfigurationError: if the file can't be read, or an option doesn't fit it.
    """
    if isinstance(recipients, str | os.PathLike):
        path = Path(cast("os.PathLike[str]", recipients))
        return await _threads.run(partial(Table.open, path, encoding=encoding, sheet=sheet))
    for name, given in (("encoding", encoding), ("sheet", sheet)):
        if given is not None:
            raise ConfigurationError(f"{name} is for files; leave it out for an iterable of Recipient")
    return None


def map_columns(
    table: Table | None, mapping: Mapping[str, str] | None, variables: Sequence[str]
) -> Mapping[str, str]:
    """Return the column of each variable, and of "phone"; empty for an iterable.

    Raises:
        ConfigurationError: if one has no column.
    """
    if table is not None:
        return table.mapping(variables, mapping)
    if mapping is not None:
        raise ConfigurationError("mapping is for files; Recipients name their variables")
    return {}


async def _stage(
    ledger: Ledger,
    given: Source,
    table: Table | None,
    mapping: Mapping[str, str],
    intake: Intake,
    progress: OnProgress | None,
) -> None:
    """Judge and stage all recipients.

    Raises:
        InvalidMessage: for an item that is no Recipient.
        ConfigurationError: if a row of the file can't be read.
    """
    rows = 0
    if table is not None:
        source = table.blocks(mapping, intake.variables)
        # A block is judged as soon as it is read: reading many first misses the CPU's caches.
        while more := await ledger.stage(some_of(source), intake):
            rows += more
            if progress is not None:
                progress(rows, table.done)
        return
    async with aclosing(chunked(given, intake.variables)) as chunks:
        async for given_rows in chunks:
            rows += await ledger.stage([given_rows], intake)
            if progress is not None:
                progress(rows, None)


async def label_of(attachment: Attachment | None) -> str | None:
    """Return a file's name and size, by which a campaign recognises it.

    Raises:
        InvalidMessage: if it isn't there.
    """
    if attachment is None:
        return None
    size = attachment.size
    if attachment.path is not None:
        try:
            size = (await _threads.run(Path.stat, attachment.path)).st_size
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its path holds a character that no path may have"
            problem = f"{attachment.name!r}: {why}; give the path of a file that can be read"
            raise InvalidMessage("attachment", problem) from error
    return f"{attachment.name} ({size:,} bytes)"


def integration_of(client: AsyncDesk360) -> int:
    """Return the integration that the client sends from.

    Raises:
        ConfigurationError: if it has none.
    """
    if client.integration_id is None:
        raise ConfigurationError(
            "a campaign needs an integration: pass AsyncDesk360(integration_id=...), set the environment "
            "variable DESK360_INTEGRATION_ID, or use client.for_integration(...)"
        )
    return client.integration_id


def _spellings(phones: Iterable[str]) -> frozenset[int]:
    """Return the numbers under which a campaign may have these persons.

    Raises:
        InvalidMessage: if one is no phone number.
    """
    return frozenset(number for phone in phones for number in spellings_of(parse_phone(phone, "phones")))
