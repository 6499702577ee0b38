"""Commands that get something from the server: templates, integrations, limits and files; and `read`."""

from desk360_async import Template, Translation

from ._options import DEFAULTS, Common, id_or_name
from ._session import Session, limiter_path, run
from ._terminal import Terminal

__all__ = ["integrations", "limits", "list_", "read", "save", "show"]


def list_(*, common: Common = DEFAULTS) -> int:
    """List the message templates, with the languages that can be sent.

    Args:
        common: Shared.
    """

    async def work(session: Session) -> int:
        # Page by page: with `--json` the first rows are printed before the last page has come.
        shown: list[Template] = []
        async for template in session.client.templates.iter():
            if session.terminal.json:
                session.terminal.data(template.raw)
            shown.append(template)
        if not session.terminal.json:
            rows = (
                (template.id, template.name, _languages(template), _state(template)) for template in shown
            )
            session.terminal.table(("Id", "Name", "Languages", ""), rows, wide=("Name", "Languages"))
        return 0

    return run(common, work)


def show(template: str, /, *, language: str | None = None, common: Common = DEFAULTS) -> int:
    """Show a template: its texts, and the variables that a send must fill.

    Args:
        template: The template's id or name; name:75 for a name of digits.
        language: The id or label of one language [default: all].
        common: Shared.
    """

    async def work(session: Session) -> int:
        found = await session.client.templates.get(id_or_name(template))
        texts = found.translations if language is None else [found.translation(id_or_name(language))]
        if session.terminal.json:
            session.terminal.data(found.raw)
            return 0
        session.terminal.say(f"{found.name} ({found.id}){_state(found, ', ')}", "bold")
        for translation in texts:
            _show(session.terminal, translation)
        return 0

    return run(common, work)


def _show(terminal: Terminal, translation: Translation) -> None:
    status = "" if translation.active else f" — not active ({translation.status})"
    terminal.say(f"\n{translation.language} ({translation.language_id}){status}")
    terminal.say(f"  variables   {', '.join(translation.variables) or 'none'}")
    if translation.needs_attachment:
        kind = translation.header_type.label if translation.header_type else "file"
        terminal.say(f"  header      a file ({kind}): --attachment PATH")
    terminal.quote(_with_places(translation))


def _with_places(translation: Translation) -> str:
    """Return the text with `{{1}}` where a variable stands."""
    parts = {name: f"{{{{{name.rpartition('-')[2]}}}}}" for name in translation.variables}
    return translation.render(parts)


def _languages(template: Template) -> str:
    return ", ".join(f"{text.language} ({text.language_id})" for text in template.translations if text.active)


def _state(template: Template, before: str = "") -> str:
    return f"{before}not sendable" if template.sendable is False else ""


def integrations(*, common: Common = DEFAULTS) -> int:
    """List your WhatsApp numbers and their ids; --integration takes such an id.

    Args:
        common: Shared.
    """

    async def work(session: Session) -> int:
        rows = [row async for row in session.client.integrations.iter()]
        if session.terminal.json:
            for row in rows:
                session.terminal.data(row.raw)
        else:
            shown = ((row.id, row.display_name or row.name, row.phone_number) for row in rows)
            session.terminal.table(("Id", "Name", "Number"), shown, wide=("Name",))
        return 0

    return run(common, work)


_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "retry-after", "x-ratelimit-reset")


def limits(*, path: bool = False, common: Common = DEFAULTS) -> int:
    """Show the rate limit as the server and as this machine counts it, by one request.

    Args:
        path: Print only the path of the file that shares the limit, for `HostLimiter(PATH)`; no request.
        common: Shared.
    """
    if path:
        print(limiter_path(common) or "off")
        return 0

    async def work(session: Session) -> int:
        answer = await session.client.request("GET", "integrations")
        ours = session.client.rate_limit
        said = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
        paused = None if ours.paused_until is None else max(0.0, ours.paused_until - ours.as_of)
        if session.terminal.json:
            counts = {"limit": ours.limit, "period": ours.period, "reserve": ours.reserve, "free": ours.free}
            waits = {"in_flight": ours.in_flight, "next_token": ours.next_token, "paused_for": paused}
            session.terminal.data({"server": said, "client": counts | waits})
            return 0
        rows = [
            ("requests a period", said.get("x-ratelimit-limit"), f"{ours.limit} in {ours.period:g} s"),
            ("free now", said.get("x-ratelimit-remaining"), ours.free),
            ("kept for interactive sends", None, ours.reserve),
            ("seconds to the next token", said.get("retry-after"), f"{ours.next_token:.1f}"),
            ("paused for seconds", None, None if paused is None else f"{paused:.1f}"),
        ]
        session.terminal.table(("", "Server", "Client"), rows)
        return 0

    return run(common, work)


def save(media_id: str, path: str = ".", /, *, common: Common = DEFAULTS) -> int:
    """Save a file that a customer sent; it appears only when it is complete.

    The sandbox that a command makes for itself has one file; its id is "sample".

    Args:
        media_id: The file's id from a webhook.
        path: A file or folder; a missing folder is made if / ends its name [default: this folder].
        common: Shared.
    """

    async def work(session: Session) -> int:
        saved = await session.client.save_media(media_id, path)
        size = saved.stat().st_size
        if session.terminal.json:
            session.terminal.data({"path": str(saved), "bytes": size})
        else:
            session.terminal.say(f"{saved} ({size:,} bytes)")
        return 0

    return run(common, work)


def read(to: str, /, *message_ids: str, common: Common = DEFAULTS) -> int:
    """Mark a customer's messages as read; a repeat does no harm.

    Args:
        to: The customer's phone.
        message_ids: The messages' ids from webhooks.
        common: Shared.
    """

    async def work(session: Session) -> int:
        marked = await session.client.mark_read(to, message_ids)
        if session.terminal.json:
            session.terminal.data({"message_ids": marked})
        else:
            session.terminal.say(f"Marked as read: {len(marked):,} of {len(message_ids):,}")
        return 0 if len(marked) >= len(message_ids) else 3

    return run(common, work)
