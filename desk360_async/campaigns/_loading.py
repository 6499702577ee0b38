"""Loading: the template is checked first, then the recipients are read and staged, chunk by chunk."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import cast

from attrs import frozen

from desk360_async import AsyncDesk360, Attachment, ConfigurationError, InvalidMessage, _threads
from desk360_async._tables import Table
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._recipients import Intake, Source, chunked

# Called on the event loop with the rows so far, and the share of the file that was read (None: unknown).
OnProgress = Callable[[int, float | None], None]


@frozen
class Found:
    """A template that can be sent, by ids.

    Attributes:
        template: its id.
        template_name: its name.
        language: its id.
        language_name: its label.
        variables: what a send must fill, in the template's order.
    """

    template: int
    template_name: str | None
    language: int
    language_name: str | None
    variables: tuple[str, ...]


async def look_up(
    client: AsyncDesk360, template: int | str, language: int | str, attachment: Attachment | None
) -> tuple[Found, int]:
    """Find a template and check that it can be sent; return it, and how many requests that may have cost.

    Raises:
        InvalidMessage: if it can't be sent so; the message says why.
    """
    free = client.rate_limit.free
    found = await client.templates.get(template)
    # At least one, since a token may have come back meanwhile: too many noted only costs time.
    looked_up = max(1, free - client.rate_limit.free)
    if found.sendable is False:
        raise InvalidMessage("template", f"{found.name} ({found.id}) is not sendable")
    text = found.translation(language)
    if not text.active:
        raise InvalidMessage("language", f"{text.language} is not active ({text.status})")
    if text.language_id is None:
        raise InvalidMessage("language", f"{text.language!r} has no id in the list; use its id")
    text.check(dict.fromkeys(text.variables, "…"), attachment)
    return Found(found.id, found.name, text.language_id, text.language, text.variables), looked_up


async def table_of(recipients: Source, encoding: str | None, sheet: str | int | None) -> Table | None:
    """Open a file of recipients; None for an iterable.

    Raises:
        ConfigurationError: if the file can't be read, or an option doesn't fit it.
    """
    if isinstance(recipients, str | os.PathLike):
        path = Path(cast("os.PathLike[str]", recipients))
        return await _threads.run(partial(Table.open, path, encoding=encoding, sheet=sheet))
    for name, given in (("encoding", encoding), ("sheet", sheet)):
        if given is not None:
            raise ConfigurationError(f"{name} is for files; Recipients come as they are")
    return None


def map_columns(
    table: Table | None, mapping: Mapping[str, str] | None, variables: Sequence[str]
) -> Mapping[str, str]:
    """Return the column of each variable, and of "phone"; empty for an iterable.

    Raises:
        ConfigurationError: if one has no column.
    """
    if table is not None:
        return table.mapping(variables, mapping)
    if mapping is not None:
        raise ConfigurationError("mapping is for files; Recipients name their variables")
    return {}


async def stage(
    ledger: Ledger,
    given: Source,
    table: Table | None,
    mapping: Mapping[str, str],
    intake: Intake,
    variables: Sequence[str],
    progress: OnProgress | None,
) -> None:
    """Judge and stage all recipients.

    Raises:
        InvalidMessage: for what is no Recipient.
        ConfigurationError: if a row of the file can't be read.
    """
    await ledger.begin_load()
    rows = 0
    if table is not None:
        source = table.rows(mapping, variables)
        while number := await ledger.stage(source, intake):
            rows += number
            if progress is not None:
                progress(rows, table.done)
        return
    async with aclosing(chunked(given, variables)) as chunks:
        async for chunk in chunks:
            rows += await ledger.stage(iter(chunk), intake)
            if progress is not None:
                progress(rows, None)
