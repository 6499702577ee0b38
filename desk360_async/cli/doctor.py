"""`desk360 doctor`: look at this machine, and with `--live` learn how the vendor's server behaves."""

import json
import os
import sys
import time
from collections.abc import Sequence
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
    Probe,
    Reading,
    Subject,
    ask,
    examine,
    exhaust,
    facts_of,
    read_exhaustion,
    read_probes,
    read_sends,
    send_to,
)

from ._options import DEFAULTS, Common, id_or_name
from ._session import limiter_path, live_limiter, read_key
from ._terminal import Terminal

__all__ = ["doctor"]

_MARKS = {"ok": ("ok      ", "green"), "warning": ("warning ", "yellow"), "problem": ("problem ", "red")}
_STATES = {"confirmed": "green", "differs": "yellow", "not asked": "dim"}
_TEN = (
    "Ten requests, 2 s apart; none of them can send a message:",
    "  1 list integrations · 2 list templates · 3 a page far behind · 4 a wrong key",
    "  5 an empty text to this integration's own number · 6 a template without destinations",
    "  7 a bulk without phones · 8 a wrong method · 9 an unknown media id · 10 list integrations",
)
_NOT_ASKED = {"31": "add --exhaust", "32": "add --exhaust", "17": "add --send-to", "21": "add --send-to"}


class _Plan(NamedTuple):
    """The permissions of a live run."""

    exhaust: bool
    template: TemplateMessage | None
    yes: bool


def doctor(
    *,
    exhaust_limit: Annotated[bool, Parameter(name="--exhaust")] = False,
    send_to_phone: Annotated[str | None, Parameter(name="--send-to")] = None,
    template: str | None = None,
    language: str | None = None,
    save: Path | None = None,
    yes: bool = False,
    ledger: Path | None = None,
    secret_file: Path | None = None,
    port: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Look at this machine; with --live, learn how the vendor's server behaves.

    Without --live no request is made and no key is needed: exit code 0, or 1 if something is to be mended.
    With --live ten requests are made that can't send a message: exit code 0 at the end, 3 if stopped early.

    Args:
        exhaust_limit: also use up one minute of the limit, about 62 requests, to see the server's window.
        send_to_phone: also send a template twice and a text to this phone of yours. It costs money.
        template: the template for --send-to, by id or name.
        language: the template's language, by id or name.
        save: write the facts to this file, for `desk360 sandbox --like FILE`.
        yes: make the requests without a question.
        ledger: look at this ledger and its folder too.
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
            ledger=ledger,
            limiter=limiter_path(common),
            secret=secret,
            port=port,
        )
        return _offline(subject, terminal)
    message = _template_for(send_to_phone, template, language)
    plan = _Plan(exhaust_limit, message, yes)
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
        words = f"{problems} to mend" if problems else "nothing to mend"
        terminal.say(f"{len(findings)} looks, {words}. No request was made; --live asks the server.")
    return 1 if problems else 0


async def _live(common: Common, terminal: Terminal, plan: _Plan, save: Path | None) -> int:
    _ask_first(terminal, plan)
    key = read_key(common.key_file)
    probes: list[Probe] = []
    readings: list[Reading] = []
    async with _client(common, key, live_limiter(common)) as client:
        async for probe in ask(
            client,
            integration=common.integration or client.integration_id,
            with_key=lambda other: _client(common, other),
            wall=time.time,
        ):
            probes.append(probe)
            terminal.remark(f"  {len(probes):>2} {probe.name}: {probe.status or probe.error}")
        readings += read_probes(probes)
        complete = probes[-1].name == "integrations again"
        if complete and plan.template is not None:
            sends = [p async for p in send_to(client, plan.template.to, plan.template, wall=time.time)]
            readings += read_sends(sends)
    if complete and plan.exhaust:
        async with _client(common, key, TokenBucket(10_000, 60.0)) as client:
            readings += read_exhaustion([p async for p in exhaust(client, wall=time.time)])
    _report(readings, terminal)
    if save is not None:
        text = json.dumps(facts_of(readings), indent=1) + "\n"
        await anyio.Path(save).write_text(text, encoding="utf-8")
        terminal.note(f"Facts: {save}. `desk360 sandbox --like {save}` behaves like this server.")
    return 0 if complete else 3


def _ask_first(terminal: Terminal, plan: _Plan) -> None:
    lines = [*_TEN]
    if plan.exhaust:
        lines.append("Then about 62 requests that use up one minute of the limit; other programs here wait.")
    if plan.template is not None:
        name = plan.template.template
        lines.append(f"Then template {name} twice and a text to your phone. Each template costs money.")
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
    differing = sum(reading.state == "differs" for reading in shown)
    terminal.say(f"{differing} differ; `desk360 docs rulings` explains each number.")
