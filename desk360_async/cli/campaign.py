"""`desk360 campaign …`: a template to a long list, durably: plan, run, stop, resume, report, resolve."""

import shlex
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

import anyio
from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from desk360_async import ConfigurationError
from desk360_async.campaigns import (
    BatchResult,
    Campaign,
    Counts,
    Done,
    Event,
    Paused,
    Plan,
    Progress,
    Recipient,
    Report,
    Run,
)

from ._options import DEFAULTS, Common, id_or_name
from ._progress import duration
from ._session import Session, confirm, run
from ._terminal import Terminal
from .lists import columns_of

__all__ = ["app", "show_plan", "watch"]

app = App(name="campaign", help="Send a template to a long list: planned, durable, resumable.")

_GOODS = ("shoes", "the green coat", "çay")
_EVERY = 10.0  # seconds between two lines, off a terminal
Ledger = Annotated[Path | None, Parameter(name="--ledger")]


def _at(name: str, ledger: Path | None) -> Path:
    return ledger or Path(f"{name}.db")


def _standing(session: Session) -> None:
    """Refuse the sandbox that was made for this command alone: a ledger is of one server."""
    if session.sandbox is not None:
        raise ConfigurationError(
            "a campaign needs a server that stays: run `desk360 sandbox` in another terminal and give its "
            "address (--base-url http://127.0.0.1:8360), or add --live"
        )


@app.command
def plan(
    name: str,
    file: Path,
    /,
    *,
    template: str,
    language: str,
    map: tuple[str, ...] = (),  # noqa: A002  # the option's name
    default_region: str | None = None,
    strategy: Literal["auto", "bulk", "single"] = "auto",
    batch_size: int = 500,
    not_listed: Literal["unknown", "not_sent"] = "unknown",
    attachment: Path | None = None,
    opt_out: Path | None = None,
    ledger: Ledger = None,
    dry_run: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Load a CSV file into a campaign's ledger, and show what sending takes. Nothing is sent.

    Args:
        name: The campaign's; it comes again in the other commands.
        file: The list: a header row, separated by ',' ';' or tab, UTF-8.
        template: The template's id or name; name:75 for a name of digits.
        language: The language's id or label.
        map: VARIABLE=COLUMN, such as body-1=name, or phone=COLUMN; may be repeated.
        default_region: Such as TR: numbers without + are read as of there (extra "phone").
        strategy: "auto" lets equal parameters share bulk requests; "single" gives each a message id.
        batch_size: Recipients a bulk request: what one crash makes unknown.
        not_listed: What a number is that a bulk answer doesn't list.
        attachment: The file for a media header.
        opt_out: A file with a number a line, who are never written to.
        ledger: The ledger's file [else: NAME.db].
        dry_run: Show the messages too.
        common: Shared.
    """

    async def work(session: Session) -> int:
        _standing(session)
        campaign = Campaign(
            name,
            template=id_or_name(template),
            language=id_or_name(language),
            ledger=_at(name, ledger),
            strategy=strategy,
            batch_size=batch_size,
            attachment=attachment,
            not_listed=not_listed,
            opt_out=opt_out,
        )
        made = await campaign.load(
            session.client, file, mapping=columns_of(map) or None, default_region=default_region
        )
        show_plan(session.terminal, name, made)
        if made.left_out and not session.terminal.json:
            for line, reason, _ in (await campaign.skipped())[:20]:
                session.terminal.remark(f"  line {line}: {reason}")
        if dry_run:
            async for message in campaign.dry_run():
                session.terminal.say(f"  {message}")
        return 0

    return run(common, work)


@app.command
def demo(
    *,
    count: int = 3000,
    json: bool = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False,
) -> int:
    """Plan, start, stop, resume and report a made-up campaign on a sandbox; nothing leaves this machine.

    Args:
        count: How many recipients the list has.
        json: Print JSON lines; words and bars go to stderr.
        quiet: Say only what was asked for.
    """

    async def work(session: Session) -> int:
        with tempfile.TemporaryDirectory() as folder:
            return await _demonstrate(session, Path(folder), count)

    return run(Common(json=json, quiet=quiet, base_url=""), work)


async def _demonstrate(session: Session, folder: Path, count: int) -> int:
    terminal = session.terminal
    campaign = Campaign(
        "demo", template="back_in_stock", language="English", ledger=folder / "demo.db", batch_size=50
    )
    # +999 is no country's code: whatever goes wrong, nobody's phone rings.
    people = (Recipient(f"+99955{n:07}", {"body-1": _GOODS[n % len(_GOODS)]}) for n in range(1, count + 1))
    made = await campaign.load(session.client, people)
    show_plan(terminal, "demo", made)
    taken = 0
    async with campaign.run(session.client) as events:
        async for event in events:
            taken += event.accepted if isinstance(event, BatchResult) else 0
            if taken > made.pending / 3:
                break
    terminal.remark(f"Stopped in the middle, after {taken:,}; a crash would do as well. It goes on:")
    async with campaign.resume(session.client) as events:
        done = await watch(session, events, (await campaign.status()).pending)
    _show_report(terminal, await campaign.report())
    assert session.sandbox is not None
    terminal.remark(f"The sandbox says: {session.sandbox.accepted:,} messages taken.")
    return code_of(done.counts, done)


def show_plan(terminal: Terminal, name: str, made: Plan) -> None:
    """Print a plan."""
    if terminal.json:
        fields = ("recipients", "pending", "groups", "bulk_requests", "single_requests", "tokens", "minutes")
        shown = {field: getattr(made, field) for field in fields}
        terminal.data({"name": name, **shown, "left_out": dict(made.left_out), "finish": made.finish})
        return
    terminal.say(f"Campaign {name}: {made.recipients:,} recipients, {made.pending:,} to be sent", "bold")
    rows = [
        ("groups of equal parameters", f"{made.groups:,}"),
        ("bulk requests", f"{made.bulk_requests:,}"),
        ("single requests", f"{made.single_requests:,}"),
        (f"at {made.limit} requests in {made.period:g} s", duration(made.seconds)),
        ("finished, if started now", f"{made.finish:%Y-%m-%d %H:%M} UTC"),
    ]
    for what, figure in rows:
        terminal.say(f"  {what:28} {figure:>20}")
    for warning in made.warnings:
        terminal.note(warning, "yellow")


def start(
    name: str,
    /,
    *,
    ledger: Ledger = None,
    attachment: Path | None = None,
    opt_out: Path | None = None,
    concurrency: int = 4,
    max_failures: str | None = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    common: Common = DEFAULTS,
) -> int:
    """Send what is pending. Ctrl-C finishes what is on the wire, and can be resumed; twice ends at once.

    Args:
        name: The campaign's.
        ledger: The ledger's file [else: NAME.db].
        attachment: The file for a media header, as it was planned.
        opt_out: A file with a number a line; read before each batch.
        concurrency: Requests on the wire at most.
        max_failures: Stop after so many not sent or unknown: a count (100) or a share (5%).
        yes: Send live without asking for the number of recipients.
        common: Shared.
    """

    async def work(session: Session) -> int:
        _standing(session)
        campaign = Campaign(name, ledger=_at(name, ledger), attachment=attachment, opt_out=opt_out)
        pending = (await campaign.plan(session.client)).pending
        confirm(session, pending, sure=yes)
        most = None if max_failures is None else _most(max_failures)
        async with campaign.run(
            session.client, concurrency=concurrency, max_failures=most, signals=True
        ) as events:
            done = await watch(session, events, pending)
        return _ended(session.terminal, done, _resuming(name, ledger, common))

    return run(common, work)


app.command(start, name="run", help="Send what is pending. Ctrl-C finishes what is on the wire.")
app.command(start, name="resume", help="Go on after a stop, a crash or a power cut.")


def _most(text: str) -> float:
    """Read a count, or a share such as 5%."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else int(text)
    except ValueError:
        raise ConfigurationError(
            f"--max-failures {text}: must be a count, such as 100, or a share, such as 5%"
        ) from None


def _resuming(name: str, ledger: Path | None, common: Common) -> str:
    words = ["desk360", "campaign", "resume", name]
    words += ["--ledger", str(ledger)] if ledger else []
    words += ["--live"] if common.live else []
    words += ["--base-url", common.base_url] if common.base_url else []
    words += ["--integration", str(common.integration)] if common.integration else []
    return shlex.join(words)


async def watch(session: Session, events: Run, pending: int) -> Done:
    """Show a run's events until it has ended; return the end."""
    terminal = session.terminal
    done: Done | None = None
    told = anyio.current_time()
    bar = Bar(
        TextColumn("Sending"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        console=terminal.err,
        expand=True,
        disable=not terminal.err.is_terminal or terminal.quiet,
    )
    with bar:
        task = bar.add_task("", total=pending, words="")
        async for event in events:
            if isinstance(event, Progress):
                left = event.counts.pending
                words = _words(session, event)
                bar.update(task, completed=pending - left, words=words)
                if bar.disable and not terminal.quiet and anyio.current_time() - told >= _EVERY:
                    told = anyio.current_time()
                    terminal.note(f"{pending - left:,} of {pending:,} · {words}")
            elif isinstance(event, Done):
                done = event
            else:
                _tell(terminal, event)
    assert done is not None
    return done


def _words(session: Session, progress: Progress) -> str:
    counts, window = progress.counts, session.client.rate_limit
    parts = [
        f"{progress.rate * 60:,.0f}/min",
        f"{counts.not_sent:,} not sent",
        f"{counts.unknown:,} unknown",
        f"window {window.free}/{window.limit}",
    ]
    if progress.eta is not None:
        parts.append(f"{duration(progress.eta)} left")
    return " · ".join(parts)


def _tell(terminal: Terminal, event: Event) -> None:
    if isinstance(event, BatchResult):
        if terminal.json:
            fields = ("batch", "kind", "recipients", "accepted", "not_sent", "unknown", "skipped", "again")
            terminal.data({field: getattr(event, field) for field in fields})
        elif event.unknown or event.error:
            terminal.remark(f"batch {event.batch}: {event.error or f'{event.unknown} not listed'}")
    elif isinstance(event, Paused):
        wait = "" if event.seconds is None else f" for {duration(event.seconds)}"
        terminal.remark(f"Paused{wait}: {event.reason.replace('_', ' ')}")


def _ended(terminal: Terminal, done: Done, resuming: str) -> int:
    show_counts(terminal, done.counts)
    if done.end != "finished":
        terminal.note(f"Not finished ({done.end}): {done.reason}", "yellow")
        terminal.note(f"Go on with:  {resuming}")
    if done.counts.unknown:
        terminal.note("Unknown may have gone out, and is not sent again: see `desk360 campaign resolve`.")
    return code_of(done.counts, done)


def code_of(counts: Counts, done: Done | None = None) -> int:
    """Return the exit code for an end."""
    if counts.unknown:
        return 4
    if counts.not_sent or (done is not None and done.end not in ("finished", "interrupted", "stopped")):
        return 3
    return 0 if done is None or done.end == "finished" else 130


def show_counts(terminal: Terminal, counts: Counts) -> None:
    """Print recipients by state."""
    fields = ("accepted", "not_sent", "unknown", "skipped", "pending", "on_the_wire")
    if terminal.json:
        terminal.data({field: getattr(counts, field) for field in fields})
        return
    shown = [f"{getattr(counts, field):,} {field.replace('_', ' ')}" for field in fields]
    terminal.say(" · ".join(shown[:3] + [s for s in shown[3:] if not s.startswith("0 ")]))


def _offline(common: Common, work: Callable[[Terminal], Awaitable[int]]) -> int:
    """Do what needs no server."""
    return anyio.run(work, Terminal(json=common.json, quiet=common.quiet))


@app.command
def status(name: str, /, *, ledger: Ledger = None, common: Common = DEFAULTS) -> int:
    """Show how far a campaign is, also while it runs.

    Args:
        name: The campaign's.
        ledger: The ledger's file [else: NAME.db].
        common: Shared.
    """

    async def work(terminal: Terminal) -> int:
        show_counts(terminal, await Campaign(name, ledger=_at(name, ledger)).status())
        return 0

    return _offline(common, work)


@app.command
def report(name: str, /, *, out: Path | None = None, ledger: Ledger = None, common: Common = DEFAULTS) -> int:
    """Show what became of a campaign: 0 all accepted, 3 some not sent, 4 some unknown.

    Args:
        name: The campaign's.
        out: Write everybody to this file, .csv or .json.
        ledger: The ledger's file [else: NAME.db].
        common: Shared.
    """

    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=_at(name, ledger))
        made = await campaign.report()
        _show_report(terminal, made)
        if out is not None:
            terminal.remark(f"{await campaign.export(out):,} lines in {out}")
        return code_of(made.counts)

    return _offline(common, work)


def _show_report(terminal: Terminal, made: Report) -> None:
    show_counts(terminal, made.counts)
    if terminal.json:
        return
    for (state, reason), number in made.reasons.items():
        terminal.say(f"  {number:>9,} {state.replace('_', ' ')}: {reason}")
    for reason, number in made.left_out.items():
        terminal.say(f"  {number:>9,} left out when planned: {reason}")
    if made.delivered or made.failed:
        terminal.say(
            f"  {made.delivered:>9,} delivered, {made.read:,} read, {made.failed:,} failed (webhooks)"
        )
    if made.started and made.ended:
        seconds = (made.ended - made.started).total_seconds()
        terminal.say(f"  {made.requests:>9,} requests in {duration(seconds)}")
    for line in made.resolutions:
        terminal.say(f"  resolved {line}")


@app.command
def resolve(
    name: str,
    /,
    *,
    sent: bool = False,
    not_sent: bool = False,
    resend: bool = False,
    phone: tuple[str, ...] = (),
    batch: int | None = None,
    all: bool = False,  # noqa: A002  # the option's name
    ledger: Ledger = None,
    common: Common = DEFAULTS,
) -> int:
    """Say what unknown recipients are; it is written down.

    Args:
        name: The campaign's.
        sent: They have it.
        not_sent: They don't have it, and shan't.
        resend: They are pending again; whoever did get the first message gets a second.
        phone: Only this phone; may be repeated.
        batch: Only those of this batch.
        all: All unknowns of the campaign.
        ledger: The ledger's file [else: NAME.db].
        common: Shared.
    """
    if sent + not_sent + resend != 1:
        raise ConfigurationError("say one of --sent, --not-sent, --resend")
    decision: Literal["sent", "not_sent", "resend"] = "sent" if sent else "not_sent" if not_sent else "resend"

    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=_at(name, ledger))
        number = await campaign.resolve(decision, phones=phone or None, batch=batch, everything=all)
        terminal.remark(f"{number:,} resolved: {decision.replace('_', ' ')}")
        show_counts(terminal, await campaign.status())
        return 0

    return _offline(common, work)
