"""`desk360 doctor`: look at this machine, and with `--live` learn how the vendor's server behaves."""

import json
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import anyio
from cyclopts import Parameter

from desk360_async import (
    AsyncDesk360,
    ConfigurationError,
    RateLimiter,
    RetryPolicy,
    TemplateMessage,
    TokenBucket,
)
from desk360_async.doctor import (
    HookRecorder,
    Probe,
    Reading,
    Subject,
    ask,
    examine,
    exhaust,
    facts_of,
    own_number,
    read_exhaustion,
    read_hooks,
    read_probes,
    read_sends,
    send_to,
)

from ._options import DEFAULTS, Common, cant_listen, id_or_name
from ._session import limiter_path, live_limiter, read_key
from ._terminal import Terminal

__all__ = ["doctor"]

_MARKS = {"ok": ("ok      ", "green"), "warning": ("warning ", "yellow"), "problem": ("problem ", "red")}
_STATES = {"confirmed": "green", "differs": "yellow", "not asked": "dim"}
_TEN = (
    "Ten requests, 2 s apart; none of them can send a message:",
    "  1 list integrations · 2 list templates · 3 a page beyond the last one · 4 a wrong key",
    "  5 an empty text to this integration's own number · 6 a template without destinations",
    "  7 a bulk without phones · 8 a wrong method · 9 an unknown media id · 10 list integrations",
)
_NOT_ASKED = {
    **dict.fromkeys(("17", "19", "21"), "add --send-to"),
    **dict.fromkeys(("31", "32"), "add --exhaust"),
    **dict.fromkeys(("33", "35", "38", "39", "40", "41"), "add --send-to and --webhook-port"),
}
_PATIENCE = 60.0  # seconds in which webhooks should come in


class _Plan(NamedTuple):
    """The permissions of a live run."""

    exhaust: bool
    template: TemplateMessage | None
    webhook_port: int | None
    yes: bool


def doctor(
    *,
    exhaust_limit: Annotated[bool, Parameter(name="--exhaust")] = False,
    send_to_phone: Annotated[str | None, Parameter(name="--send-to")] = None,
    template: str | None = None,
    language: str | None = None,
    webhook_port: int | None = None,
    save: Path | None = None,
    yes: bool = False,
    ledger: str | None = None,
    secret_file: Path | None = None,
    port: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Look at this machine; with --live, learn how the vendor's server behaves.

    Without --live no request is made and no key is needed: exit code 0, or 1 if something is to be mended.
    With --live ten requests are made that can't send a message: exit code 0 at the end, 3 if stopped early.

    Args:
        exhaust_limit: also use up one minute of the limit, about 62 requests, to see the server's window.
        send_to_phone: also send a template four times and a text to this phone of yours. It costs money.
        template: the template for --send-to, by id or name.
        language: the template's language, by id or name.
        webhook_port: after --send-to, note for a minute the webhooks that come to this port of this machine;
            let the panel's webhook URL lead there, by a tunnel.
        save: write the facts to this file, for `desk360 sandbox --like FILE`.
        yes: make the requests without a question.
        ledger: look at this ledger and its folder too, or at this database [env: DESK360_LEDGER].
        secret_file: look at the webhook secret in this file too.
        port: look whether this port is free.
        common: Shared.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    if not common.live:
        secret = secret_file.read_text(encoding="utf-8").strip() if secret_file else None
        subject = Subject(
            environ=os.environ,
            base_url=common.base_url,
            ledger=ledger or os.environ.get("DESK360_LEDGER", "").strip() or None,
            limiter=limiter_path(common),
            secret=secret,
            port=port,
        )
        return _offline(subject, terminal)
    message = _template_for(send_to_phone, template, language)
    if webhook_port is not None and message is None:
        raise ConfigurationError("--webhook-port needs --send-to: the webhooks are those of its messages")
    plan = _Plan(exhaust_limit, message, webhook_port, yes)
    return anyio.run(_live, common, terminal, plan, save)


def _template_for(phone: str | None, template: str | None, language: str | None) -> TemplateMessage | None:
    if phone is None:
        return None
    if template is None or language is None:
        raise ConfigurationError(
            "--send-to needs --template and --language: it sends that template to your phone"
        )
    return TemplateMessage(phone, id_or_name(template), language=id_or_name(language))


def _offline(subject: Subject, terminal: Terminal) -> int:
    findings = list(examine(subject))
    if terminal.json:
        shown = [{"name": f.name, "state": f.state, "text": f.text, "mend": f.mend} for f in findings]
        terminal.data({"findings": shown})
    for found in findings if not terminal.json else ():
        mark, style = _MARKS[found.state]
        terminal.say(f"{mark}{found.name}: {found.text}", style if found.state != "ok" else "")
        if found.mend:
            terminal.say(f"          → {found.mend}")
    problems = sum(found.state == "problem" for found in findings)
    if not terminal.json:
        warnings = sum(found.state == "warning" for found in findings)
        counts = f"{len(findings)} checks, {problems} problems, {warnings} warnings"
        terminal.say(f"{counts}. No request was made; `desk360 doctor --live` asks the server.")
    return 1 if problems else 0


async def _live(common: Common, terminal: Terminal, plan: _Plan, save: Path | None) -> int:
    _ask_first(terminal, plan)
    key = read_key(common.key_file)
    async with _client(common, key, live_limiter(common)) as client:
        probes = await _ask_ten(common, terminal, client)
        readings = read_probes(probes)
        complete = probes[-1].name == "integrations again"
        if complete and plan.template is not None:
            chosen, _ = own_number(probes[0], common.integration or client.integration_id)
            assert chosen is not None  # the ten requests end without one
            readings += await _send(
                client.for_integration(chosen), plan.template, plan.webhook_port, terminal
            )
    if complete and plan.exhaust:
        async with _client(common, key, TokenBucket(10_000, 60.0)) as client:
            readings += read_exhaustion([p async for p in exhaust(client, wall=time.time)])
    _report(readings, terminal)
    if save is not None:
        text = json.dumps(facts_of(readings), indent=1) + "\n"
        await anyio.Path(save).write_text(text, encoding="utf-8")
        terminal.note(f"Facts: {save}. `desk360 sandbox --like {save}` behaves like this server.")
    if not complete:
        terminal.note(
            f"Stopped after request {len(probes)} of 10: mend the first line that differs.", "yellow"
        )
    return 0 if complete else 3


async def _ask_ten(common: Common, terminal: Terminal, client: AsyncDesk360) -> list[Probe]:
    """Make the ten requests, and print each one's answer."""
    probes: list[Probe] = []
    async for probe in ask(
        client,
        integration=common.integration or client.integration_id,
        with_key=lambda other: _client(common, other),
        wall=time.time,
    ):
        probes.append(probe)
        terminal.remark(f"  {len(probes):>2} {probe.name}: {probe.status or probe.error}")
    return probes


async def _send(
    client: AsyncDesk360, template: TemplateMessage, port: int | None, terminal: Terminal
) -> list[Reading]:
    """Send the messages that the user allowed, and note their webhooks if a port is given."""
    recorder = HookRecorder()
    async with _listening(recorder, port):
        probes: list[Probe] = []
        async for probe in send_to(client, template, wall=time.time):
            probes.append(probe)
            terminal.remark(f"  sent {probe.name}: {probe.status or probe.error}")
        if port is not None:
            terminal.note(
                f"Webhooks are noted for {_PATIENCE:g} s. Read the messages on the phone, answer one, "
                "and press a button if one has a button."
            )
            await anyio.sleep(_PATIENCE)
    return [*read_sends(probes), *(read_hooks(recorder.hooks) if port is not None else ())]


@asynccontextmanager
async def _listening(app: HookRecorder, port: int | None) -> AsyncGenerator[None]:
    """Serve an application on a port of the loopback; without a port, serve none."""
    if port is None:
        yield
        return
    from uvicorn import Config, Server

    class WithoutSignals(Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            """Leave Ctrl-C to the command."""
            yield

    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise cant_listen("127.0.0.1", port, error) from None
    server = WithoutSignals(Config(app, lifespan="off", ws="none", log_config=None, access_log=False))
    with listener:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            try:
                yield
            finally:
                server.should_exit = True


def _ask_first(terminal: Terminal, plan: _Plan) -> None:
    lines = [*_TEN]
    if plan.exhaust:
        lines.append("Then about 62 requests that use up one minute of the limit; other programs here wait.")
    if plan.template is not None:
        name = plan.template.template
        lines.append(
            f"Then template {name} four times (alone, twice in one request, in bulk) and a text to your "
            "phone. Each template costs money."
        )
    for line in lines:
        terminal.note(line)
    if plan.yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("no terminal to ask in: add --yes to make these requests")
    terminal.note("Type yes to go on:")
    if input().strip().lower() not in ("yes", "y"):
        raise ConfigurationError("not confirmed; no request was made")


def _client(common: Common, key: str | None, limiter: RateLimiter | None = None) -> AsyncDesk360:
    return AsyncDesk360(
        key,
        integration_id=common.integration,
        base_url=common.base_url,
        timeout=common.timeout,
        retry=RetryPolicy(attempts=1, max_retry_after=0.0),
        limiter=limiter,
        user_agent="doctor",
    )


def _report(readings: Sequence[Reading], terminal: Terminal) -> None:
    asked = {reading.ruling for reading in readings}
    rest = [Reading(number, "not asked", how) for number, how in _NOT_ASKED.items() if number not in asked]
    shown = sorted([*readings, *rest], key=lambda reading: int(reading.ruling.rstrip("ab")))
    if terminal.json:
        rows = [{"ruling": r.ruling, "state": r.state, "text": r.text, "facts": dict(r.facts)} for r in shown]
        terminal.data({"readings": rows})
        return
    for reading in shown:
        terminal.say(reading.line(), _STATES[reading.state])
    counts = ", ".join(f"{sum(r.state == state for r in shown)} {state}" for state in _STATES)
    terminal.say(f"{counts}; `desk360 docs rulings` explains each number.")
