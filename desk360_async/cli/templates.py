"""`desk360 templates …`: what can be sent to somebody who didn't write first."""

from desk360_async import Template, Translation

from ._options import DEFAULTS, Common, id_or_name
from ._session import Session, run
from ._terminal import Terminal

__all__ = ["list_", "show"]


def list_(*, common: Common = DEFAULTS) -> int:
    """List the message templates, with the languages that can be sent.

    Args:
        common: Shared.
    """

    async def work(session: Session) -> int:
        # Page by page: the first rows are there while the last are still waited for.
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
        language: One language's id or label [else: all].
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
    for line in translation.render().splitlines():
        terminal.say(f"  │ {line}")


def _languages(template: Template) -> str:
    return ", ".join(f"{text.language} ({text.language_id})" for text in template.translations if text.active)


def _state(template: Template, before: str = "") -> str:
    return f"{before}not sendable" if template.sendable is False else ""
