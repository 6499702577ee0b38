"""`desk360 campaign …`: a template to a long list, durably: plan, run, stop, resume, report, resolve."""

import shlex
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import anyio
from cyclopts import Parameter

from desk360_async import ConfigurationError
from desk360_async._phones import parse_phone
from desk360_async.campaigns import Campaign, Done

from ._campaigning import code_of, show_counts, show_plan, show_report, show_request, watch
from ._options import DEFAULTS, Common, id_or_name
from ._session import Session, confirm, run
from ._terminal import Terminal
from .lists import columns_of

__all__ = ["plan", "report", "resolve", "start", "status", "watch_page"]

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


def plan(
    name: str,
    file: Path,
    /,
    *,
    template: str,
    language: str,
    map: tuple[str, ...] = (),  # noqa: A002  # the option's name
    default_region: str | None = None,
    strategy: Literal["auto", "bulk", "single"] | None = None,
    batch_size: int | None = None,
    not_listed: Literal["unknown", "not_sent"] | None = None,
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
        strategy: "auto" lets equal parameters share bulk requests, "single" gives each a message id
            [else: auto].
        batch_size: Recipients a bulk request: what one crash makes unknown [else: 500].
        not_listed: What a number is that a bulk answer doesn't list [else: unknown].
        attachment: The file for a media header.
        opt_out: A file with a number a line, who are never written to.
        ledger: The ledger's file [else: NAME.db].
        dry_run: Show the very requests too, whole phone numbers included.
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
            session.client, file, mapping=columns_of(map) or None, region=default_region
        )
        show_plan(session.terminal, name, made)
        if made.left_out and not session.terminal.json:
            for line, reason, _ in (await campaign.skipped())[:20]:
                session.terminal.remark(f"  line {line:,}: {reason}")
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
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    common: Common = DEFAULTS,
) -> int:
    """Send what is pending. Ctrl-C finishes what is on the wire, and can be resumed; twice ends at once.

    Args:
        name: The campaign's.
        ledger: The ledger's file [else: NAME.db].
        attachment: The file for a media header, as it was planned.
        opt_out: A file with a number a line; read before each batch.
        concurrency: Requests on the wire at most [else: 4].
        max_failures: Stop after more than so many not sent or unknown in this run: a count (100) or a
            share (5%).
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
        options = {
            "ledger": ledger,
            "attachment": attachment,
            "opt-out": opt_out,
            "max-failures": max_failures,
        }
        return _ended(session.terminal, done, _resuming(name, options, common))

    return run(common, work)


def _most(text: str) -> float:
    """Read a count, or a share such as 5%."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else int(text)
    except ValueError:
        raise ConfigurationError(
            f"--max-failures {text}: must be a count, such as 100, or a share, such as 5%"
        ) from None


def _resuming(name: str, options: Mapping[str, object], common: Common) -> str:
    shared = {"base-url": common.base_url, "integration": common.integration, "key-file": common.key_file}
    given = [(option, value) for option, value in {**options, **shared}.items() if value is not None]
    words = ["desk360", "campaign", "resume", name, *(["--live"] if common.live else [])]
    return shlex.join([*words, *(word for option, value in given for word in (f"--{option}", str(value)))])


def _ended(terminal: Terminal, done: Done, resuming: str) -> int:
    show_counts(terminal, done.counts)
    if done.end != "finished":
        terminal.note(f"Not finished ({done.end}): {done.reason}", "yellow")
        terminal.note(f"Go on with:  {resuming}")
    if done.counts.unknown:
        terminal.note("Unknown may have gone out, and is not sent again: see `desk360 campaign resolve`.")
    return code_of(done.counts, done)


def _offline(common: Common, work: Callable[[Terminal], Awaitable[int]]) -> int:
    """Do what needs no server."""
    return anyio.run(work, Terminal(json=common.json, quiet=common.quiet))


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
        ledger: The ledger's file [else: NAME.db].
        port: The page's port on this machine; 0 takes a free one [else: 0].
        open: Open the page in the browser.
        common: Shared.
    """
    from ._page import open_browser, serve_campaign

    terminal = Terminal(json=common.json, quiet=common.quiet)

    def started(url: str) -> None:
        terminal.say(f"Campaign {name} at {url}; Ctrl-C ends the page, and not the campaign.", "bold")
        terminal.out.file.flush()
        if open:
            open_browser(url)

    file = _at(name, ledger)
    serve_campaign(Campaign(name, ledger=file), name, file, port, started)
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
    """Show what became of a campaign: exit code 0 all accepted, 3 some not sent (yet), 4 some unknown.

    Args:
        name: The campaign's.
        out: Write everybody to this file, .csv or .json.
        html: Write the report with plots to this file, without a phone.
        ledger: The ledger's file [else: NAME.db].
        common: Shared.
    """

    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=_at(name, ledger))
        made = await campaign.report()
        show_report(terminal, made)
        if out is not None:
            terminal.remark(f"{await campaign.export(out):,} lines in {out}")
        if html is not None:
            from desk360_async.campaigns._html import render

            await anyio.Path(html).write_text(render(made), encoding="utf-8")
            terminal.remark(f"The report with plots: {html}")
        return code_of(made.counts)

    return _offline(common, work)


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
    state: Literal["unknown", "not_sent"] | None = None,
    ledger: Ledger = None,
    common: Common = DEFAULTS,
) -> int:
    """Say what unknown recipients are, or send again; it is written down.

    Args:
        name: The campaign's.
        sent: They have it.
        not_sent: They don't have it, and shan't.
        resend: Those unknown or not sent are pending again; whoever was unknown and did get the first
            message gets a second.
        phone: Only this phone; may be repeated.
        batch: Only those of this batch.
        all: Everybody in the campaign.
        state: Only those in this state; with --resend, "not_sent" is the safe one.
        ledger: The ledger's file [else: NAME.db].
        common: Shared.
    """
    if sent + not_sent + resend != 1:
        raise ConfigurationError("say one of --sent, --not-sent, --resend")
    decision: Literal["sent", "not_sent", "resend"] = "sent" if sent else "not_sent" if not_sent else "resend"

    async def work(terminal: Terminal) -> int:
        campaign = Campaign(name, ledger=_at(name, ledger))
        number = await campaign.resolve(
            decision, phones=phone or None, batch=batch, everything=all, state=state
        )
        terminal.remark(f"{number:,} resolved: {decision.replace('_', ' ')}")
        show_counts(terminal, await campaign.status())
        return _missed(terminal, number, 1 if batch is not None else len({*map(parse_phone, phone)}))

    return _offline(common, work)


def _missed(terminal: Terminal, number: int, named: int) -> int:
    """Return the exit code; say so if somebody was named whom it wasn't for."""
    if number >= named:
        return 0
    terminal.note("Not all that you named were unknown (or not sent, to be resent).", "yellow")
    return 3
