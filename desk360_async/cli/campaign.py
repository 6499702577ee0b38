"""`desk360 campaign …`: a template to a long list: plan, run, stop, resume, report, resolve."""

import json
import math
import shlex
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import anyio
from attrs import evolve
from cyclopts import Parameter

from desk360_async import Attachment, ConfigurationError, TemplateBatch, TemplateMessage
from desk360_async._phones import parse_phone, person_of
from desk360_async._redaction import mask_dsn
from desk360_async._wire import call_for
from desk360_async.campaigns import (
    BatchResult,
    Campaign,
    Counts,
    Done,
    Event,
    LedgerError,
    Paused,
    Plan,
    Progress,
    Report,
    Run,
    campaigns_in,
    words_for,
)

from ._options import DEFAULTS, READING, SCHEDULE, Common, Reading, Schedule, id_or_name, ledger_place
from ._session import MINUTE, Session, confirm, heeding_ctrl_c, run
from ._terminal import MARGIN, Terminal, bar, counted, duration, reading_bar
from .workers import SHARES, Shares, hand_out

__all__ = [
    "code_of",
    "discard",
    "load",
    "pause",
    "plan",
    "proceed",
    "report",
    "resolve",
    "show_counts",
    "show_plan",
    "show_report",
    "show_request",
    "start",
    "status",
    "stop",
    "watch",
    "watch_page",
    "why_ended",
]

_EVERY = 10.0  # seconds between two progress lines where stderr is no terminal
_ROWS_SHOWN = 20  # number of left-out rows that a plan lists
_BAR = 10  # the least width of the bar, in columns


def show_plan(terminal: Terminal, name: str, made: Plan, *, rows_follow: bool = False) -> None:
    """Print a plan, with its warnings.

    Args:
        terminal: the terminal.
        name: the campaign's name.
        made: the plan.
        rows_follow: whether the caller lists the left-out rows next; then no warning counts them.
    """
    if terminal.json:
        fields = ("recipients", "pending", "groups", "bulk_requests", "single_requests", "tokens", "minutes")
        shown = {field: getattr(made, field) for field in fields}
        terminal.data({"name": name, **shown, "left_out": dict(made.left_out), "finish": made.finish})
        return
    recipients = counted(made.recipients, "recipient")
    terminal.say(f"Campaign {name}: {recipients}, {made.pending:,} to be sent", "bold")
    rows = [
        ("groups of equal parameters", f"{made.groups:,}"),
        ("bulk requests", f"{made.bulk_requests:,}"),
        ("single requests", f"{made.single_requests:,}"),
        (f"time, at {made.limit} requests in {made.period:g} s", duration(made.seconds)),
        ("finished, if started now", f"{made.finish:%Y-%m-%d %H:%M} UTC"),
    ]
    for label, figure in rows:
        terminal.say(f"  {label:30} {figure:>20}")
    for warning in made.warnings:
        # The lines of the rows follow, each with its reason.
        if not (rows_follow and warning.startswith("Left out")):
            terminal.note(warning, "yellow")


def show_request(terminal: Terminal, message: TemplateBatch | TemplateMessage, integration: int) -> None:
    """Print the complete request for a message, with whole phone numbers and all parameters."""
    call = call_for(message, integration)
    body: object = json.loads(call.content or b"null")
    if call.form is not None:
        body = {part.name: _shown(part.value) for part in call.form.parts}
    if terminal.json:
        terminal.data({"method": call.method, "path": f"/v1{call.path}", "body": body})
    else:
        terminal.say(f"  {call.method} /v1{call.path}\n  {json.dumps(body, ensure_ascii=False)}")


def _shown(value: str | Attachment) -> object:
    if isinstance(value, str):
        return value
    # The user's file has a path and no content. A part with content holds the phones of a long bulk send.
    return {"file": value.name} if value.content is None else {value.name: value.content.decode().split()}


async def load(session: Session, campaign: Campaign, file: Path, reading: Reading) -> Plan:
    """Load a list into a campaign's ledger, with a progress bar; an error removes a new, empty ledger.

    Raises:
        Desk360Error: as `Campaign.load` does.
    """
    for sentence in reading.former:
        session.terminal.note(f"{sentence}.", "yellow")
    ledger, is_new = campaign.ledger, not (campaign.is_shared or campaign.ledger.exists())
    try:
        with reading_bar(session.terminal) as progress:
            return await campaign.load(
                session.client,
                file,
                mapping=reading.columns or None,
                region=reading.place,
                encoding=reading.encoding,
                sheet=reading.page,
                clean=reading.clean,
                progress=progress,
            )
    except BaseException:
        with anyio.CancelScope(shield=True):
            if is_new and not await _names_in(ledger):
                discard(ledger)
        raise


def discard(ledger: Path) -> None:
    """Remove a ledger's files."""
    for suffix in ("", "-owner", "-wal", "-shm"):
        ledger.with_name(ledger.name + suffix).unlink(missing_ok=True)


async def _names_in(ledger: Path) -> tuple[str, ...]:
    try:
        return await campaigns_in(ledger)
    except LedgerError:
        return ()  # the file is missing, or is no ledger


async def watch(session: Session, events: Run, pending: int, *, batches: bool = True) -> Done:
    """Show a run's events until it has ended; return the end.

    Args:
        session: the session, whose terminal shows the events.
        events: the run.
        pending: the number of pending recipients when the run began.
        batches: whether the end of each request is shown.
    """
    terminal = session.terminal
    done: Done | None = None
    began = told = anyio.current_time()
    waits_until = -math.inf
    with bar(terminal) as shown:
        task = shown.add_task("Sending", total=pending, words="", visible=pending > 0)
        async for event in events:
            if isinstance(event, Progress):
                left = event.counts.pending
                figures = f"Sending  {pending - left:,}/{pending:,} "
                room = terminal.err.width - MARGIN - len(figures) - _BAR
                # In its first period a run takes the free tokens at once, at many times the lasting rate.
                is_steady = anyio.current_time() - began >= session.client.rate_limit.period
                words = _words(session, event, room, is_steady=is_steady)
                shown.update(task, completed=pending - left, words=words)
                if shown.disable and not terminal.quiet and anyio.current_time() - told >= _EVERY:
                    told = anyio.current_time()
                    terminal.note(f"{pending - left:,} of {pending:,} · {words}")
            elif isinstance(event, Done):
                done = event
            elif isinstance(event, Paused) and event.reason == "rate_limit":
                # All requests on the wire are refused and wait for the same moment: one line is enough.
                if anyio.current_time() >= waits_until:
                    _tell(terminal, event)
                waits_until = anyio.current_time() + (event.seconds or 0.0)
            elif batches or isinstance(event, Paused):
                _tell(terminal, event)
    assert done is not None
    return done


def _words(session: Session, progress: Progress, room: int, *, is_steady: bool) -> str:
    """Return the text at the right of the bar; if it is wider than `room`, its least important parts go.

    Args:
        session: the session, for its rate limit.
        progress: the run's progress.
        room: the most columns that the text may take.
        is_steady: whether the rate has settled, so that it can be shown.
    """
    counts, window = progress.counts, session.client.rate_limit
    # The minute of a sandbox made for this command is short. A rate in real minutes would look too fast.
    minute, unit = (60.0, "min") if session.sandbox is None else (MINUTE, f"minute of {MINUTE:g} s")
    # Pairs of rank and text, in the order on the screen. The part with the highest rank goes first.
    words = [(3, f"{progress.rate * minute:,.0f}/{unit}")] if is_steady else []
    words += [
        (1, f"{counts.not_sent:,} not sent"),
        (1, f"{counts.unknown:,} unknown"),
        (4, f"window {window.free}/{window.limit}"),
    ]
    if progress.eta is not None:
        words.append((2, f"{duration(progress.eta)} left"))
    for rank in (4, 3, 2, 1):
        text = " · ".join(word for _, word in words)
        if len(text) <= room:
            break
        words = [(number, word) for number, word in words if number < rank]
    return " · ".join(word for _, word in words)


def _tell(terminal: Terminal, event: Event) -> None:
    if isinstance(event, BatchResult):
        if terminal.json:
            fields = ("batch", "kind", "recipients", "accepted", "not_sent", "unknown", "skipped", "again")
            terminal.data({field: getattr(event, field) for field in fields})
        elif event.unknown or event.error:
            terminal.remark(f"batch {event.batch}: {event.error or f'{event.unknown} not listed'}")
    elif isinstance(event, Paused) and event.reason == "interrupted":
        terminal.note("Stopping: the requests on the wire finish. Ctrl-C again stops at once.")
    elif isinstance(event, Paused):
        wait = "" if event.seconds is None else f" for {duration(event.seconds)}"
        reason = "outside the sending hours" if event.reason == "hours" else event.reason.replace("_", " ")
        terminal.remark(f"Paused{wait}: {reason}")


def why_ended(done: Done) -> str:
    """Return a text for people: why a run ended before its last recipient."""
    if done.end == "interrupted":
        return "interrupted; the requests on the wire have ended"
    return f"{done.end.replace('_', ' ')}: {done.reason}"


def code_of(counts: Counts, done: Done | None = None) -> int:
    """Return the exit code of a run, or of a report if `done` is None."""
    # A request that is on the wire after a run's end was left there by a crash.
    if counts.unknown or counts.on_the_wire:
        return 4
    if counts.not_sent or (done is not None and done.end not in ("finished", "interrupted", "stopped")):
        return 3
    if done is None:
        return 3 if counts.pending else 0
    return 0 if done.end == "finished" else 130


def show_counts(terminal: Terminal, counts: Counts) -> None:
    """Print recipients by state."""
    fields = ("accepted", "not_sent", "unknown", "skipped", "pending", "on_the_wire")
    if terminal.json:
        terminal.data({field: getattr(counts, field) for field in fields})
        return
    shown = [f"{getattr(counts, field):,} {field.replace('_', ' ')}" for field in fields]
    terminal.say(" · ".join(shown[:3] + [s for s in shown[3:] if not s.startswith("0 ")]))


def show_report(terminal: Terminal, made: Report) -> None:
    """Print a report."""
    show_counts(terminal, made.counts)
    if terminal.json:
        return
    for (state, reason), number in made.reasons.items():
        terminal.item(f"  {number:>9,} ", f"{state.replace('_', ' ')}: {words_for(reason)}")
    for reason, number in made.left_out.items():
        terminal.item(f"  {number:>9,} ", f"left out when planned: {words_for(reason)}")
    if made.delivered or made.failed:
        webhooks = f"delivered, {made.read:,} read, {made.failed:,} failed (webhooks)"
        terminal.item(f"  {made.delivered:>9,} ", webhooks)
    if made.started and made.ended:
        seconds = (made.ended - made.started).total_seconds()
        noun = "request" if made.requests == 1 else "requests"
        terminal.item(f"  {made.requests:>9,} ", f"{noun} in {duration(seconds)}, look-ups included")
    for line in made.resolutions:
        terminal.item("  resolved ", line)


Ledger = Annotated[str | None, Parameter(name="--ledger")]


def _standing(session: Session) -> None:
    """Refuse a sandbox that ends with the command, since a ledger belongs to one server."""
    if session.sandbox is not None:
        raise ConfigurationError(
            "a campaign needs a server that keeps running: run `desk360 sandbox` in another terminal and "
            "give its address (--base-url http://127.0.0.1:8360), or add --live"
        )


def plan(
    name: str,
    file: Path,
    /,
    *,
    template: str,
    language: str,
    reading: Reading = READING,
    strategy: Literal["auto", "bulk", "single"] | None = None,
    batch_size: int | None = None,
    not_listed: Literal["unknown", "not_sent"] | None = None,
    attachment: Path | None = None,
    opt_out: Path | None = None,
    ledger: Ledger = None,
    dry_run: bool = False,
    schedule: Schedule = SCHEDULE,
    common: Common = DEFAULTS,
) -> int:
    """Load a list into a campaign's ledger, and show the requests and the time, without sending.

    Args:
        name: The campaign's name, for the other commands too.
        file: The list, .csv, .xlsx or .ods, with a header row.
        template: The template's id or name; name:75 for a name of digits.
        language: The language's id or label.
        reading: Shared.
        strategy: "auto" or "bulk": equal parameters share requests. "single": one phone each [default: auto].
        batch_size: Most recipients in a bulk request; a crash can make them all unknown [default: 500].
        not_listed: State of a number that a bulk answer doesn't list [default: unknown].
        attachment: The file for a media header.
        opt_out: A file with one phone number a line; these people get no message.
        ledger: The ledger: a file, or a PostgreSQL DSN [env: DESK360_LEDGER; default: NAME.db].
        dry_run: Print the requests too, with whole phone numbers.
        schedule: Shared.
        common: Shared.
    """
    hours = schedule.opening

    async def work(session: Session) -> int:
        _standing(session)
        campaign = Campaign(
            name,
            template=id_or_name(template),
            language=id_or_name(language),
            ledger=ledger_place(name, ledger),
            strategy=strategy,
            batch_size=batch_size,
            attachment=attachment,
            not_listed=not_listed,
            opt_out=opt_out,
        )
        made = await load(session, campaign, file, reading)
        if hours is not None:
            made = evolve(await campaign.plan(session.client, hours=hours), warnings=made.warnings)
        left_out = await campaign.skipped()
        show_plan(session.terminal, name, made, rows_follow=0 < len(left_out) <= _ROWS_SHOWN)
        if not session.terminal.json:
            for line, reason, phone in left_out[:_ROWS_SHOWN]:
                words = words_for(reason, phone, reading.place)
                session.terminal.item(f"  line {line:,}: ", words, remark=True)
        if not made.recipients:
            session.terminal.note(f"{file} has no row that can be sent to.", "yellow")
        if dry_run:
            async for message in campaign.dry_run():
                show_request(session.terminal, message, session.client.integration_id or 0)
        return 0

    return run(common, work)


def start(
    name: str,
    /,
    *,
    ledger: Ledger = None,
    attachment: Path | None = None,
    opt_out: Path | None = None,
    concurrency: int = 4,
    max_failures: str | None = None,
    stop_if_failed: str | None = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    schedule: Schedule = SCHEDULE,
    shares: Shares = SHARES,
    common: Common = DEFAULTS,
) -> int:
    """Send to the pending recipients. Ctrl-C lets the requests on the wire finish; twice ends at once.

    Args:
        name: The campaign's name.
        ledger: The ledger: a file, or a PostgreSQL DSN [env: DESK360_LEDGER; default: NAME.db].
        attachment: The file for a media header, the same as in the plan.
        opt_out: A file with one phone number a line, read before each batch; these people get no message.
        concurrency: Most requests on the wire at the same time [default: 4].
        max_failures: Stop after more failures than this count (100) or share (5%) of the run.
        stop_if_failed: Stop if more than this share (20%) of this run's webhook statuses is "failed".
        yes: Send live without a confirmation.
        schedule: Shared.
        shares: Shared.
        common: Shared.
    """
    hours = schedule.opening
    most = None if max_failures is None else _most(max_failures)
    share = None if stop_if_failed is None else _share(stop_if_failed)
    if shares.are_asked_for:
        _check_for_workers(opt_out, stop_if_failed)
        return hand_out(
            *(name, ledger_place(name, ledger), shares),
            concurrency=concurrency,
            max_failures=most,
            hours=hours,
            attachment=attachment,
            yes=yes,
            common=common,
        )

    async def work(session: Session) -> int:
        _standing(session)
        campaign = Campaign(name, ledger=ledger_place(name, ledger), attachment=attachment, opt_out=opt_out)
        pending = (await campaign.plan(session.client)).pending
        confirm(session, pending, sure=yes)
        options = {
            "ledger": ledger and mask_dsn(ledger),
            "attachment": attachment,
            "opt-out": opt_out,
            "max-failures": max_failures,
            "stop-if-failed": stop_if_failed,
            "hours": schedule.hours,
            "days": schedule.days,
            "zone": schedule.zone,
        }
        with heeding_ctrl_c() as deafen:
            async with campaign.run(
                session.client,
                concurrency=concurrency,
                max_failures=most,
                stop_if_failed=share,
                signals=True,
                hours=hours,
            ) as events:
                deafen()
                done = await watch(session, events, pending)
            return _ended(session.terminal, done, _resuming(name, options, common))

    return run(common, work)


def _check_for_workers(opt_out: Path | None, stop_if_failed: str | None) -> None:
    if opt_out is not None:
        raise ConfigurationError("--opt-out is an option of the workers: `desk360 worker --opt-out PATH`")
    if stop_if_failed is not None:
        raise ConfigurationError("--stop-if-failed works without --shares only: workers have no such option")


def _most(text: str) -> float:
    """Return a count as an int, or a share such as 5% as a float (0.05)."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else int(text)
    except ValueError:
        raise ConfigurationError(
            f"--max-failures {text}: must be a count, such as 100, or a share, such as 5%"
        ) from None


def _share(text: str) -> float:
    """Return a share, such as 20% or 0.2, as a float (0.2)."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ConfigurationError(f"--stop-if-failed {text}: must be a share, such as 20% or 0.2") from None


def _resuming(name: str, options: Mapping[str, object], common: Common) -> str:
    shared = {
        "base-url": common.base_url,
        "integration": common.integration,
        "key-file": common.key_file,
        "limiter": common.limiter,
    }
    given = [(option, value) for option, value in {**options, **shared}.items() if value is not None]
    words = ["desk360", "campaign", "resume", name, *(["--live"] if common.live else [])]
    return shlex.join([*words, *(word for option, value in given for word in (f"--{option}", str(value)))])


def _ended(terminal: Terminal, done: Done, resuming: str) -> int:
    show_counts(terminal, done.counts)
    if done.end != "finished":
        terminal.note(f"Not finished: {why_ended(done)}", "yellow")
        terminal.command(f"Go on with:  {resuming}")
    if done.counts.unknown:
        terminal.note(
            "Unknown recipients may have the message, and aren't tried again: see `desk360 campaign resolve`."
        )
    return code_of(done.counts, done)


def _offline(common: Common, work: Callable[[Terminal], Awaitable[int]]) -> int:
    """Do work that needs no server."""
    return anyio.run(work, Terminal(json=common.json, quiet=common.quiet))


def status(name: str, /, *, ledger: Ledger = None, common: Common = DEFAULTS) -> int:
    """Show a campaign's counts, also while it runs.

    Args:
        name: The campaign's name.
        ledger: The ledger: a file, or a PostgreSQL DSN [env: DESK360_LEDGER; default: NAME.db].
        common: Shared.
    """

    async def work(terminal: Terminal) -> int:
        show_counts(terminal, await Campaign(name, ledger=ledger_place(name, ledger)).status())
        return 0

    return _offline(common, work)


def watch_page(
    name: str,
    /,
    *,
    ledger: Ledger = None,
    port: int = 0,
    open: bool = False,  # noqa: A002  # the option's name
    common: Common = DEFAULTS,
) -> int:
    """Show a campaign in the browser, also while another process runs it, until Ctrl-C.

    Args:
        name: The campaign's name.
        ledger: The ledger: a file, or a PostgreSQL DSN [env: DESK360_LEDGER; default: NAME.db].
        port: The page's port on this machine; 0 takes a free one [default: 0].
        open: Open the page in the browser.
        common: Shared.
    """
    from ._page import open_browser, serve_campaign

    terminal = Terminal(json=common.json, quiet=common.quiet)

    def started(url: str) -> None:
        terminal.say(f"Campaign {name} at {url}; Ctrl-C ends the page, and the campaign goes on.", "bold")
        terminal.out.file.flush()
        if open:
            open_browser(url)

    place = ledger_place(name, ledger)
    serve_campaign(Campaign(name, ledger=place), place, port, started)
    return 0


def report(
    name: str,
    /,
    *,
    out: Path | None = None,
    html: Path | None = None,
    ledger: Ledger = None,
    common: Common = DEFAULTS,
) -> int:
    """Show the result of a campaign: exit code 0 all accepted, 3 some not sent (yet), 4 some unknown.

    Args:
        name: The campaign's name.
        out: Write all recipients to this file: .csv, .xlsx or .json.
        html: Write the report with plots to this file, without phone numbers.
        ledger: The ledger: a file, or a PostgreSQL DSN [env: DESK360_LEDGER; default: NAME.db].
        common: Shared.
    """

    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=ledger_place(name, ledger))
        made = await campaign.report()
        show_report(terminal, made)
        if out is not None:
            hint = (
                "; a spreadsheet program shows its phones as numbers: use .xlsx for one"
                if out.suffix.lower() == ".csv"
                else ""
            )
            terminal.remark(f"{await campaign.export(out):,} lines in {out}{hint}")
        if html is not None:
            await anyio.Path(html).write_text(made.to_html(), encoding="utf-8")
            terminal.remark(f"The report with plots: {html}")
        return code_of(made.counts)

    return _offline(common, work)


def pause(name: str, /, *, reason: str = "", ledger: Ledger = None, common: Common = DEFAULTS) -> int:
    """Pause all runs of a campaign in PostgreSQL, on all hosts: they take no more batches.

    Args:
        name: The campaign's name.
        reason: A note that the runs' events repeat.
        ledger: The ledger, a PostgreSQL DSN [env: DESK360_LEDGER].
        common: Shared.
    """
    return _decide(common, name, ledger, "paused", lambda campaign: campaign.pause(reason))


def proceed(name: str, /, *, ledger: Ledger = None, common: Common = DEFAULTS) -> int:
    """Undo a pause or a stop of a campaign in PostgreSQL: paused runs go on, and new runs may begin.

    Args:
        name: The campaign's name.
        ledger: The ledger, a PostgreSQL DSN [env: DESK360_LEDGER].
        common: Shared.
    """
    return _decide(common, name, ledger, "goes on", lambda campaign: campaign.proceed())


def stop(name: str, /, *, reason: str = "", ledger: Ledger = None, common: Common = DEFAULTS) -> int:
    """End all runs of a campaign in PostgreSQL, on all hosts; new runs may begin after `campaign proceed`.

    Args:
        name: The campaign's name.
        reason: A note that the runs' events repeat.
        ledger: The ledger, a PostgreSQL DSN [env: DESK360_LEDGER].
        common: Shared.
    """
    return _decide(common, name, ledger, "stopped", lambda campaign: campaign.stop(reason))


def _decide(
    common: Common, name: str, ledger: str | None, word: str, decide: Callable[[Campaign], Awaitable[None]]
) -> int:
    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=ledger_place(name, ledger))
        await decide(campaign)
        terminal.note(f"{name}: {word}; its runs follow within seconds.")
        show_counts(terminal, await campaign.status())
        return 0

    return _offline(common, work)


def resolve(
    name: str,
    /,
    *,
    accepted: bool = False,
    not_sent: bool = False,
    resend: bool = False,
    sent: Annotated[bool, Parameter(show=False)] = False,
    phone: tuple[str, ...] = (),
    batch: int | None = None,
    all: bool = False,  # noqa: A002  # the option's name
    state: Literal["unknown", "not_sent", "failed"] | None = None,
    after_failover: int | None = None,
    ledger: Ledger = None,
    common: Common = DEFAULTS,
) -> int:
    """Store a decision about unknown recipients: they have the message, don't have it, or get it again.

    Args:
        name: The campaign's name.
        accepted: The recipients have the message.
        not_sent: The recipients don't have the message, and don't get it.
        resend: Send again. An unknown recipient who got the first message gets a second one.
        sent: The former name of --accepted.
        phone: Decide about this phone; may be repeated.
        batch: Decide about the recipients of this batch.
        all: Decide about all recipients of the campaign.
        state: Only recipients in this state. "failed" is WhatsApp's status. A resend of "not_sent" is safe.
        after_failover: After a promotion of the database: make the first N pending batches unknown.
        ledger: The ledger: a file, or a PostgreSQL DSN [env: DESK360_LEDGER; default: NAME.db].
        common: Shared.
    """
    if after_failover is not None:
        if accepted or sent or not_sent or resend or phone or batch is not None or all or state is not None:
            raise ConfigurationError(
                "--after-failover N takes no other option; then resolve the unknown ones"
            )
        return _after_failover(common, name, ledger, after_failover)
    if (accepted or sent) + not_sent + resend != 1:
        raise ConfigurationError("give one of --accepted, --not-sent, --resend, or --after-failover N")
    if bool(phone) + (batch is not None) + all != 1:
        raise ConfigurationError("give one of --phone PHONE, --batch NUMBER, --all")
    decision: Literal["accepted", "not_sent", "resend"]
    decision = "resend" if resend else "not_sent" if not_sent else "accepted"

    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=ledger_place(name, ledger))
        number = await campaign.resolve(
            decision, phones=phone or None, batch=batch, everything=all, state=state
        )
        terminal.remark(f"{number:,} resolved: {decision.replace('_', ' ')}")
        show_counts(terminal, await campaign.status())
        return _missed(
            terminal, number, 1 if batch is not None else len({person_of(parse_phone(p)) for p in phone})
        )

    return _offline(common, work)


def _after_failover(common: Common, name: str, ledger: str | None, batches: int) -> int:
    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=ledger_place(name, ledger))
        number = await campaign.accept_failover(batches)
        terminal.remark(f"{number:,} are unknown now: the promoted database may have lost their requests")
        show_counts(terminal, await campaign.status())
        return 0

    return _offline(common, work)


def _missed(terminal: Terminal, number: int, named: int) -> int:
    """Return the exit code; print a line if a named recipient wasn't resolved."""
    if number >= named:
        return 0
    terminal.note("Some of them were not unknown (for a resend: neither unknown nor not sent).", "yellow")
    return 3
