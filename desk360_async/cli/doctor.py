"""`desk360 doctor`: check this machine, and with `--live` test how the vendor's server behaves."""

import json
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import anyio
from cyclopts import Parameter

from desk360_async import (
    AsyncDesk360,
    ConfigurationError,
    Observer,
    RateLimiter,
    RetryPolicy,
    TemplateMessage,
)
from desk360_async._arguments import parse_base_url
from desk360_async.doctor import (
    HookRecorder,
    Probe,
    Reading,
    Subject,
    Unlimited,
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

from ._options import DEFAULTS, Common, id_or_name
from ._session import answer, limiter_path, live_limiter, read_key
from ._terminal import Terminal

__all__ = ["doctor"]

_MARKS = {"ok": ("ok      ", "green"), "warning": ("warning ", "yellow"), "problem": ("problem ", "red")}
_STATES = {"confirmed": "green", "differs": "yellow", "not asked": "dim"}
_TEN = (
    "  1 list integrations · 2 list templates · 3 a page beyond the last one · 4 a wrong key",
    "  5 an empty text to this integration's own number · 6 a template without destinations",
    "  7 a bulk without phones · 8 a wrong method · 9 an unknown media id · 10 list integrations",
    "The server should refuse requests 4 to 9.",
)
_PLAN_OF = {
    "integrations": "1 list integrations",
    "templates": "2 list templates",
    "beyond": "3 a page beyond the last one",
    "invalid key": "4 a wrong key",
    "empty text": "5 an empty text",
    "no destinations": "6 a template without destinations",
    "no phones": "7 a bulk without phones",
    "wrong method": "8 a wrong method",
    "no media": "9 an unknown media id",
    "integrations again": "10 list integrations",
}
_NOT_ASKED = {
    "16": "add --send-to to see whether interactive messages take files",
    "17": "add --send-to to see the answer to a text",
    "19": "add --send-to to see the phones of a bulk answer",
    "21": "add --send-to to see the ids of two destinations",
    "31": "add --exhaust to see Retry-After",
    "32": "add --exhaust to see the limit's window",
    "33": "add --send-to and --webhook-port to see the shape of webhooks",
    "35": "add --send-to and --webhook-port to see the sender in webhooks",
    "38": "add --send-to and --webhook-port to see the statuses in webhooks",
    "39": "add --send-to and --webhook-port to see the headers of webhooks",
    "40": "add --send-to and --webhook-port to see the panel's probe of the URL",
    "41": "add --send-to and --webhook-port to see whether a failed webhook is repeated",
}
_PATIENCE = 60.0  # seconds in which webhooks are recorded


class _Plan(NamedTuple):
    """The requests that the user allows in a live run."""

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
    """Check this machine; with --live, test how the vendor's server behaves.

    Without --live no request is made and no key is needed. The exit code is 0, or 1 if a check found a
    problem. With --live the doctor makes ten requests that can't send a message. The exit code is 0 after all
    ten, and 3 if it stopped early.

    Args:
        exhaust_limit: With --live: use up one minute of the rate limit too, to see the server's window.
        send_to_phone: With --live: send this phone a template four times, a text and a button; costs money.
        template: The template for --send-to, by id or name.
        language: The template's language, by id or name.
        webhook_port: With --send-to: record webhooks at this port for a minute; needs a tunnel to the port.
        save: With --live: write the facts to this file, for `desk360 sandbox --like FILE`.
        yes: Ask no question before the requests.
        ledger: Check this ledger and its folder too, or this database [env: DESK360_LEDGER].
        secret_file: Check the webhook secret in this file too.
        port: Check that this port of 127.0.0.1 is free, too.
        common: Shared.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    if not common.live:
        given = {
            "--exhaust": exhaust_limit,
            "--send-to": send_to_phone,
            "--webhook-port": webhook_port,
            "--save": save,
        }
        for option in (option for option, value in given.items() if value not in (None, False)):
            raise ConfigurationError(f"{option} needs --live: without it no request is made")
        return _offline(_subject(common, ledger, secret_file, port), terminal)
    message = _template_for(send_to_phone, template, language)
    if webhook_port is not None and message is None:
        raise ConfigurationError("--webhook-port needs --send-to: the webhooks report its messages")
    if webhook_port is not None:
        _listener(webhook_port).close()
    plan = _Plan(exhaust_limit, message, webhook_port, yes)
    return anyio.run(_live, common, terminal, plan, save)


def _subject(common: Common, ledger: str | None, secret_file: Path | None, port: int | None) -> Subject:
    """Return the settings and files to examine."""
    secret = None
    if secret_file is not None:
        try:
            secret = secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it isn't text in UTF-8"
            raise ConfigurationError(f"--secret-file {secret_file}: {why}") from None
    try:
        limiter = limiter_path(common)
    except ConfigurationError:
        limiter = None  # the base URL is unusable, which `examine` reports
    return Subject(
        environ=os.environ,
        key=read_key(common.key_file) if common.key_file is not None else None,
        base_url=common.base_url,
        ledger=ledger or os.environ.get("DESK360_LEDGER", "").strip() or None,
        limiter=limiter,
        secret=secret,
        port=port,
    )


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
        numbers = ((len(findings), "check"), (problems, "problem"), (warnings, "warning"))
        counts = ", ".join(f"{number} {noun}" + ("" if number == 1 else "s") for number, noun in numbers)
        terminal.say(f"{counts}. No request was made; `desk360 doctor --live` tests the server.")
    return 1 if problems else 0


async def _live(common: Common, terminal: Terminal, plan: _Plan, save: Path | None) -> int:
    key = read_key(common.key_file)
    server = urlsplit(parse_base_url(common.base_url, allow_http=False)).netloc
    _ask_first(terminal, plan, server)
    async with _client(common, key, live_limiter(common)) as client:
        probes = await _ask_ten(common, terminal, client)
        readings = read_probes(probes)
        complete = probes[-1].name == "integrations again"
        if complete and plan.template is not None:
            chosen, _ = own_number(probes[0], common.integration or client.integration_id)
            assert chosen is not None  # without an integration the ten requests stop early
            readings += await _send(
                client.for_integration(chosen), plan.template, plan.webhook_port, terminal
            )
    if complete and plan.exhaust:
        terminal.remark("  The limit is being used up; this takes up to 3 minutes.")
        # `--exhaust` provokes answers with 429. An observer would log a warning for each.
        observer = None if common.verbose else ()
        async with _client(common, key, Unlimited(), observer) as client:
            readings += read_exhaustion([p async for p in exhaust(client, wall=time.time)])
    _report(readings, terminal)
    if save is not None:
        text = json.dumps(facts_of(readings), indent=1) + "\n"
        await anyio.Path(save).write_text(text, encoding="utf-8")
        terminal.note(f"Facts are in {save}. `desk360 sandbox --like {save}` behaves like this server.")
    if not complete:
        terminal.note(
            f"Stopped after request {len(probes)} of 10. The first line that isn't confirmed names the fix.",
            "yellow",
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
        number, _, label = _PLAN_OF[probe.name].partition(" ")
        terminal.remark(f"  {number:>2} {label}: {probe.status or probe.error}")
    return probes


async def _send(
    client: AsyncDesk360, template: TemplateMessage, port: int | None, terminal: Terminal
) -> list[Reading]:
    """Send the messages that the user allowed, and record their webhooks if a port is given."""
    recorder = HookRecorder()
    async with _listening(recorder, port):
        probes: list[Probe] = []
        async for probe in send_to(client, template, wall=time.time):
            probes.append(probe)
            terminal.remark(f"  send {probe.name}: {probe.status or ''} {probe.error}".rstrip())
        if port is not None:
            terminal.note(
                f"The doctor records webhooks for {_PATIENCE:g} s. Read the messages on the phone and answer "
                "one. Press its button."
            )
            await anyio.sleep(_PATIENCE)
    return [*read_sends(probes), *(read_hooks(recorder.hooks) if port is not None else ())]


@asynccontextmanager
async def _listening(app: HookRecorder, port: int | None) -> AsyncGenerator[None]:
    """Serve an application on a port of 127.0.0.1; without a port, do not serve."""
    if port is None:
        yield
        return
    from uvicorn import Config, Server

    class WithoutSignals(Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            """Leave Ctrl-C to the command."""
            yield

    listener = _listener(port)
    server = WithoutSignals(Config(app, lifespan="off", ws="none", log_config=None, access_log=False))
    with listener:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            try:
                yield
            finally:
                server.should_exit = True


def _listener(port: int) -> socket.socket:
    if not 1 <= port <= 65_535:
        raise ConfigurationError(f"--webhook-port {port}: choose a number from 1 to 65535")
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        words = os.strerror(error.errno or 0)
        raise ConfigurationError(f"--webhook-port {port}: {words}; choose another port") from None


def _ask_first(terminal: Terminal, plan: _Plan, server: str) -> None:
    lines = [f"Ten requests to {server}, 2 s apart. None of them can send a message:", *_TEN]
    if plan.template is not None:
        name = plan.template.template
        lines.append(
            f"Then template {name} four times (alone, twice in one request, in bulk), a text and a message "
            f"with a button to {plan.template.to}. Each template costs money."
        )
    if plan.exhaust:
        lines.append(
            "Then about 120 GET requests: the first ones use up one minute of the limit, and the others wait "
            "for its end. Other programs behind this address get 429 meanwhile."
        )
    for line in lines:
        terminal.note(line)
    if plan.yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal for the question: add --yes to make these requests")
    if answer(terminal, "Type yes to go on:").lower() not in ("yes", "y"):
        raise ConfigurationError("not confirmed; no request was made")


def _client(
    common: Common,
    key: str | None,
    limiter: RateLimiter | None = None,
    observer: Sequence[Observer] | None = None,
) -> AsyncDesk360:
    return AsyncDesk360(
        key,
        integration_id=common.integration,
        base_url=common.base_url,
        timeout=common.timeout,
        retry=RetryPolicy(attempts=1, max_retry_after=0.0),
        limiter=limiter,
        user_agent="doctor",
        observer=observer,
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
