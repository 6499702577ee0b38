"""What a campaign's commands show: its plan, its run, its end."""

import json

import anyio

from desk360_async import Attachment, TemplateBatch, TemplateMessage
from desk360_async._calls import Call
from desk360_async._wire import call_for
from desk360_async.campaigns import BatchResult, Counts, Done, Event, Paused, Plan, Progress, Report, Run

from ._progress import bar, duration
from ._session import Session
from ._terminal import Terminal

__all__ = ["code_of", "show_counts", "show_plan", "show_report", "show_request", "watch"]

_EVERY = 10.0  # seconds between two lines, off a terminal


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
        (f"time, at {made.limit} requests in {made.period:g} s", duration(made.seconds)),
        ("finished, if started now", f"{made.finish:%Y-%m-%d %H:%M} UTC"),
    ]
    for what, figure in rows:
        terminal.say(f"  {what:30} {figure:>20}")
    for warning in made.warnings:
        terminal.note(warning, "yellow")


def show_request(terminal: Terminal, message: TemplateBatch | TemplateMessage, integration: int) -> None:
    """Print the request that sends a message, whole: who asks for it wants to see who gets what."""
    call = call_for(message, integration)
    if terminal.json:
        terminal.data({"method": call.method, "path": f"/v1{call.path}", "body": _body_of(call)})
    else:
        body = json.dumps(_body_of(call), ensure_ascii=False)
        terminal.say(f"  {call.method} /v1{call.path}\n  {body}")


def _body_of(call: Call) -> object:
    if call.form is None:
        return json.loads(call.content or b"null")
    return {part.name: _shown(part.value) for part in call.form.parts}


def _shown(value: str | Attachment) -> object:
    if isinstance(value, str):
        return value
    # The user's file is a path here; what has content is the phones, where they are too many for a form.
    return {"file": value.name} if value.content is None else {value.name: value.content.decode().split()}


async def watch(session: Session, events: Run, pending: int) -> Done:
    """Show a run's events until it has ended; return the end."""
    terminal = session.terminal
    done: Done | None = None
    told = anyio.current_time()
    with bar(terminal) as shown:
        task = shown.add_task("Sending", total=pending, words="")
        async for event in events:
            if isinstance(event, Progress):
                left = event.counts.pending
                words = _words(session, event)
                shown.update(task, completed=pending - left, words=words)
                if shown.disable and not terminal.quiet and anyio.current_time() - told >= _EVERY:
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
    parts = [f"{progress.rate * 60:,.0f}/min", f"{counts.not_sent:,} not sent", f"{counts.unknown:,} unknown"]
    if session.terminal.err.width >= 100:  # else nothing is left for the bar
        parts.append(f"window {window.free}/{window.limit}")
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


def code_of(counts: Counts, done: Done | None = None) -> int:
    """Return the exit code for an end; without one, for what a report shows."""
    # What is on the wire after a run's end was left there by a crash.
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
    show_counts(terminal, made.counts)
    if terminal.json:
        return
    for (state, reason), number in made.reasons.items():
        terminal.item(f"  {number:>9,} ", f"{state.replace('_', ' ')}: {reason}")
    for reason, number in made.left_out.items():
        terminal.item(f"  {number:>9,} ", f"left out when planned: {reason}")
    if made.delivered or made.failed:
        webhooks = f"delivered, {made.read:,} read, {made.failed:,} failed (webhooks)"
        terminal.item(f"  {made.delivered:>9,} ", webhooks)
    if made.started and made.ended:
        seconds = (made.ended - made.started).total_seconds()
        terminal.item(f"  {made.requests:>9,} ", f"requests in {duration(seconds)}")
    for line in made.resolutions:
        terminal.item("  resolved ", line)
