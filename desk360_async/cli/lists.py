"""`desk360 send list`: a template to each row of a list, as a campaign of single sends.

The ledger lies beside the results file, so after a stop the same command sends the rest. Without a results
file the ledger is temporary.
"""

import shlex
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import anyio
from attrs import evolve, frozen
from cyclopts import Parameter

from desk360_async import ConfigurationError, Desk360Error, Lane, TemplateMessage, _threads
from desk360_async.campaigns import Campaign, Counts, Done, Hours, Plan, campaigns_in

from ._options import DEFAULTS, READING, SCHEDULE, Common, Reading, Schedule, id_or_name
from ._results import ResultsFile, RowResult, Tally, check_place, check_size, is_sheet, results_in
from ._session import Session, confirm, heeding_ctrl_c, run
from ._terminal import Terminal, counted, duration
from .campaign import discard, load, show_plan, watch, why_ended

__all__ = ["Ended", "Mailing", "send_list"]

T = TypeVar("T")

# A list of at most this many recipients is sent at once, in the interactive lane. The bulk lane sends about
# one message a second.
_SHORT = 30
_CONCURRENCY = 8
_BAD_ROWS_SHOWN = 20
_ABOVE = "left out before the first send, as shown above"
_PIECE = 1 << 20  # bytes that are hashed at a time


def send_list(
    file: Path,
    /,
    *,
    template: str,
    language: str,
    reading: Reading = READING,
    attachment: Path | None = None,
    out: Path | None = None,
    lane: Literal["bulk", "interactive"] | None = None,
    dry_run: bool = False,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    schedule: Schedule = SCHEDULE,
    common: Common = DEFAULTS,
) -> int:
    """Send a template to each row of a list.

    The list is a .csv, .xlsx or .ods file with a header row. Each row gets a result: accepted, not_sent with
    the reason, or unknown. A repeated phone gets one message. Ctrl-C lets the requests on the
    wire finish; with --out, the same command sends the rest later.

    Args:
        file: The list.
        template: The template's id or name; name:75 for a name of digits.
        language: The language's id or label.
        reading: Shared.
        attachment: The file for a media header.
        out: Write the results to this .xlsx or .csv file. The ledger OUT.db beside it has each row's state.
        lane: "interactive": at once. "bulk": spread, after interactive sends [default: bulk from 31 rows].
        dry_run: Show a sample, the requests, the time and the rows that are left out, and send no message.
        yes: Send live without a confirmation.
        schedule: Shared.
        common: Shared.
    """
    if common.live and not (out or common.json or dry_run):
        raise ConfigurationError("a live send needs a place for its results: add --out results.xlsx")
    mailing = Mailing(
        file,
        id_or_name(template),
        id_or_name(language),
        reading,
        attachment,
        out,
        lane,
        dry_run=dry_run,
        sure=yes,
        hours=schedule.opening,
    )
    return run(common, mailing.send)


# ── sending ────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Place:
    """The place of a list's ledger.

    Attributes:
        ledger: the ledger's path.
        lasting: whether the ledger is kept, so that the same command sends the rest after a stop.
    """

    ledger: Path
    lasting: bool


@frozen
class Ended:
    """The end of sending a list.

    Attributes:
        tally: the counts of the rows.
        done: the end of the run; None if no row was pending.
        written: whether the results file was written.
    """

    tally: Tally
    done: Done | None
    written: bool

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return self.done is not None and self.done.end == "interrupted"

    @property
    def exit_code(self) -> int:
        """The exit code: 4, 3 or 0 by the rows, 130 after Ctrl-C, 3 without a results file."""
        code = self.tally.exit_code()
        return code or (130 if self.interrupted else 0 if self.written else 3)


@frozen
class Mailing:
    """A list, the template that each row gets, and the options.

    Attributes:
        file: the list.
        template: the template's id or name.
        language: the language's id or label.
        reading: how the list is read.
        attachment: the file for a media header.
        out: the results file, or None.
        lane: "interactive", "bulk", or None to choose by the list's length.
        dry_run: whether to show a forecast and send nothing.
        sure: whether to send without a confirmation.
        hours: the sending hours, or None.
    """

    file: Path
    template: int | str
    language: int | str
    reading: Reading = READING
    attachment: Path | None = None
    out: Path | None = None
    lane: Lane | None = None
    dry_run: bool = False
    sure: bool = False
    hours: Hours | None = None

    async def send(self, session: Session) -> int:
        """Send the list, and return the exit code.

        Raises:
            Desk360Error: as `deliver` does.
        """
        ended = await self.deliver(session)
        return 0 if ended is None else ended.exit_code

    async def deliver(self, session: Session) -> Ended | None:
        """Load the list, ask for confirmation, send, and show the result; return None for a dry run.

        Raises:
            ConfigurationError: if the file or the settings don't fit the template, or `out` belongs to
                another list.
            Desk360Error: if the request for the templates fails, or the ledger can't be used.
        """
        began = anyio.current_time()
        async with self._placed(session) as place:
            name = await _threads.run(_name_of, self.file)
            await self._refuse_another(name, place)
            campaign = Campaign(
                name,
                template=self.template,
                language=self.language,
                ledger=place.ledger,
                strategy="single",
                attachment=self.attachment,
            )
            plan = await self._loaded(session, campaign, place)
            lane: Lane = self.lane or ("interactive" if plan.pending <= _SHORT else "bulk")
            shown = await self._announce(session, campaign, plan, place, lane)
            if self.dry_run:
                return None
            confirm(session, plan.pending, sure=self.sure)
            with heeding_ctrl_c() as deafen:
                done = (
                    await self._sent(session, campaign, plan.pending, lane, deafen) if plan.pending else None
                )
                deafen()
                tally, problem = await self._finish(session.terminal, campaign, place, done, plan, shown)
                ended = Ended(tally, done, problem is None)
                self._sum_up(session.terminal, ended, place, problem, anyio.current_time() - began)
                if self.out is not None and ended.written:
                    self._name_results(session.terminal, self.out, name, place)
            return ended

    # ── before ─────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _placed(self, session: Session) -> AsyncGenerator[Place]:
        """Yield the ledger's place; a temporary ledger is removed at the end."""
        if self.out is not None and not self.dry_run:
            check_place(self.out)
            place = Place(_ledger_of(self.out), lasting=True)
            goes_on = session.sandbox is None and place.ledger.exists()
            if self.out.exists() and not goes_on:
                raise ConfigurationError(f"--out {self.out}: exists; name another file")
            if session.sandbox is None:
                yield place
                return
        folder = Path(tempfile.mkdtemp(prefix="desk360-list-"))
        try:
            yield Place(folder / "list.db", lasting=False)
        finally:
            if session.common.live and session.terminal.is_cut and not self.dry_run:
                session.terminal.note(f"Each row's state is in {folder / 'list.db'}.", "yellow")
            else:
                shutil.rmtree(folder, ignore_errors=True)

    async def _refuse_another(self, name: str, place: Place) -> None:
        """Refuse another list's ledger, and a second results file that differs only in its suffix.

        Raises:
            ConfigurationError: in both cases. The first would mix the results of two lists. The second would
                send the message to all recipients again.
        """
        if self.out is not None and place.lasting:
            for twin in (self.out.with_suffix(".csv"), self.out.with_suffix(".xlsx")):
                ledger = _ledger_of(twin)
                if twin != self.out and ledger.exists() and name in await campaigns_in(ledger):
                    raise ConfigurationError(
                        f"--out {self.out}: this list's results go to {twin}. The same command with "
                        f"--out {twin} goes on, without sending twice. This command writes the results as "
                        f"{self.out.suffix}: {_rewriting(name, ledger, self.out)}"
                    )
        if not place.ledger.exists():
            return
        others = [other for other in await campaigns_in(place.ledger) if other != name]
        if others:
            raise ConfigurationError(
                f"--out {self.out}: holds the results of another list ({others[0].rpartition(' ')[0]}), or "
                f"{self.file} has changed since. Name another file; a phone of both lists gets two messages. "
                "`desk360 campaign plan` takes in new rows of a list that was sent before"
            )

    async def _loaded(self, session: Session, campaign: Campaign, place: Place) -> Plan:
        """Load the list. If a spreadsheet can't hold the results, remove a new ledger and raise the error."""
        is_new = not place.ledger.exists()
        plan = await load(session, campaign, self.file, self.reading)
        try:
            if self.out is not None:
                check_size(self.out, plan.recipients + sum(plan.left_out.values()))
        except ConfigurationError:
            if is_new:
                discard(place.ledger)
            raise
        if self.hours is not None:
            within = await campaign.plan(session.client, hours=self.hours)
            plan = evolve(plan, finish=within.finish)
        return plan

    async def _announce(
        self, session: Session, campaign: Campaign, plan: Plan, place: Place, lane: Lane
    ) -> frozenset[int]:
        """Show the rows that are left out; before a live send or in a dry run, a sample and the forecast.

        Returns:
            The lines whose reason was shown.
        """
        terminal = session.terminal
        left_out = sum(plan.left_out.values())
        terminal.remark(
            f"{self.file.name}: {counted(plan.recipients + left_out, 'row')}, {plan.pending:,} to send to, "
            f"lane {lane}"
        )
        if plan.recipients > plan.pending:
            terminal.remark(f"{plan.recipients - plan.pending:,} already have their result.")
        shown = await self._show_left_out(terminal, campaign, place) if left_out else frozenset[int]()
        for warning in plan.warnings:
            # The forecast shows the requests, and the lines above show the rows that are left out.
            if not warning.startswith(("Left out", f"{plan.tokens:,} requests")):
                terminal.note(warning, "yellow")
        if not plan.recipients:
            terminal.note(f"{self.file} has no row that can be sent to.", "yellow")
        if self.dry_run or session.common.live:
            await self._forecast(session, campaign, plan)
        return shown

    async def _show_left_out(self, terminal: Terminal, campaign: Campaign, place: Place) -> frozenset[int]:
        def bad_rows(results: Iterable[RowResult]) -> list[RowResult]:
            return [row for row in results if row.line in skipped]

        skipped = {line for line, _, _ in await campaign.skipped()}
        rows = await self._read(campaign, place, bad_rows)
        for row in rows[:_BAD_ROWS_SHOWN]:
            terminal.item(f"line {row.line:,}: ", row.reason or "", remark=True)
        if len(rows) > _BAD_ROWS_SHOWN:
            terminal.remark(f"… and {len(rows) - _BAD_ROWS_SHOWN:,} more lines that can't be sent to.")
        return frozenset() if terminal.quiet else frozenset(row.line for row in rows[:_BAD_ROWS_SHOWN])

    async def _forecast(self, session: Session, campaign: Campaign, plan: Plan) -> None:
        terminal, sample = session.terminal, ""
        async for message in campaign.dry_run():
            template = await session.client.templates.get(message.template)
            parameters = message.parameters if isinstance(message, TemplateMessage) else None
            sample = template.translation(message.language).render(parameters)
            break
        if self.dry_run and terminal.json:
            show_plan(terminal, self.file.name, plan)
            return
        if sample:
            terminal.say("The first message:")
            terminal.quote(sample)
        left_out = counted(sum(plan.left_out.values()), "row")
        terminal.say(
            f"{counted(plan.tokens, 'request')}, {duration(plan.seconds)} at {plan.limit} in "
            f"{plan.period:g} s; {left_out} left out",
            "bold",
        )

    # ── during ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _sent(
        self, session: Session, campaign: Campaign, pending: int, lane: Lane, deafen: Callable[[], None]
    ) -> Done:
        async with campaign.run(
            session.client, concurrency=_CONCURRENCY, signals=True, lane=lane, hours=self.hours
        ) as events:
            deafen()
            return await watch(session, events, pending, batches=False)

    # ── after ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(
        self,
        terminal: Terminal,
        campaign: Campaign,
        place: Place,
        done: Done | None,
        plan: Plan,
        shown: frozenset[int],
    ) -> tuple[Tally, str | None]:
        """Write the results file and the lines of JSON; return the counts, and the write error or None."""

        def write(results: Iterable[RowResult]) -> tuple[Tally, str | None]:
            tally = Tally()
            with ResultsFile(self.out) as file:
                for result in results:
                    tally.add(evolve(result, reason=_ABOVE) if result.line in shown else result)
                    file.write(result)
                    if terminal.json:
                        terminal.data(result.as_json())
            return tally, None if file.problem is None else str(file.problem.strerror)

        try:
            return await self._read(campaign, place, write)
        except (OSError, Desk360Error) as error:
            # The messages are sent already. So the run's counts replace the counts of the rows.
            counts = done.counts if done is not None else Counts()
            waiting = counts.pending + counts.skipped + sum(plan.left_out.values())
            tally = Tally(counts.accepted, counts.not_sent + waiting, counts.unknown + counts.on_the_wire)
            return tally, getattr(error, "strerror", None) or str(error)

    async def _read(self, campaign: Campaign, place: Place, work: Callable[[Iterator[RowResult]], T]) -> T:
        """Run `work` on the results in a thread; return its result."""
        waiting = "not sent yet" if place.lasting else "stopped before it was sent"

        def read(report: Path) -> T:
            with report.open(encoding="utf-8-sig", newline="") as rows:
                return work(results_in(rows, self.reading.place, waiting))

        with tempfile.TemporaryDirectory(prefix="desk360-list-") as folder:
            report = Path(folder) / "report.csv"
            await campaign.export(report)
            return await _threads.run(read, report)

    def _sum_up(
        self, terminal: Terminal, ended: Ended, place: Place, problem: str | None, seconds: float
    ) -> None:
        tally, done = ended.tally, ended.done
        if not (terminal.json and terminal.quiet):
            terminal.say(
                f"{counted(tally.total, 'row')} in {duration(seconds)}: {tally.accepted:,} accepted, "
                f"{tally.not_sent:,} not sent, {tally.unknown:,} unknown",
                "bold",
            )
            for (outcome, reason), count in tally.counts.most_common(20):
                lines = ", ".join(f"{line:,}" for line in tally.lines[outcome, reason])
                more = ", …" if count > len(tally.lines[outcome, reason]) else ""
                word = outcome.replace("_", " ")
                noun = "line" if count == 1 else "lines"
                terminal.item(f"  {count:>6,} ", f"{word}: {reason} ({noun} {lines}{more})")
        if tally.unknown:
            terminal.note(
                "Unknown rows may have gone out: look in Desk360's panel before you send them again."
            )
        if done is not None and done.end != "finished":
            terminal.note(f"Stopped early: {why_ended(done)}", "red")
            if place.lasting:
                terminal.note("The same command sends the rest.")
        if problem is not None:
            again = f"Each row's state is in {place.ledger}: fix the cause, and give the same command again."
            lead = "the results can't be read" if self.out is None else f"--out {self.out}"
            terminal.note(f"{lead}: {problem}. {again if place.lasting else ''}".rstrip(), "red")

    def _name_results(self, terminal: Terminal, out: Path, name: str, place: Place) -> None:
        sheet = out.with_suffix(".xlsx")
        if is_sheet(out) or terminal.quiet:
            pass
        elif place.lasting:
            lead = f"A spreadsheet program shows the phones of {out} as numbers. {sheet} keeps them as text:"
            terminal.remark(lead)
            terminal.command(f"  {_rewriting(name, place.ledger, sheet)}")
        else:
            terminal.remark(
                f"A spreadsheet program shows the phones of {out} as numbers; {sheet} keeps them as text."
            )
        terminal.remark(f"Results: {out}")


def _ledger_of(out: Path) -> Path:
    """Return the ledger beside a results file."""
    return out.with_name(f"{out.name}.db")


def _rewriting(name: str, ledger: Path, out: Path) -> str:
    """Return the command that writes a campaign's report, and sends no message."""
    return shlex.join(["desk360", "campaign", "report", name, "--ledger", str(ledger), "--out", str(out)])


def _name_of(file: Path) -> str:
    """Return a name for a list's campaign: the file's name, and a digest of its content.

    Raises:
        ConfigurationError: if the file can't be read.
    """
    digest = blake2b(digest_size=8)
    try:
        if file.is_file():  # else the table's reader raises the error
            with file.open("rb") as content:
                while piece := content.read(_PIECE):
                    digest.update(piece)
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}") from error
    return f"{file.name} {digest.hexdigest()}"
