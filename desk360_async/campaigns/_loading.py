"""Loading: the template is checked first, then the recipients are read and staged, chunk by chunk."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from attrs import field, frozen

from desk360_async import AsyncDesk360, Attachment, ConfigurationError, InvalidMessage, _threads
from desk360_async._tables import Row, Table
from desk360_async.campaigns._ledger import Ledger
from desk360_async.campaigns._recipients import Intake, Source, chunked


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


@frozen
class Given:
    """Recipients as they were given.

    Attributes:
        recipients: an iterable, or what `rows` reads.
        rows: a CSV file's rows; None for an iterable.
        mapping: variable, and "phone", → the file's column; empty for an iterable.
    """

    recipients: Source
    rows: Iterator[Row] | None = None
    mapping: Mapping[str, str] = field(factory=dict[str, str])


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


async def source_of(recipients: Source, mapping: Mapping[str, str] | None, variables: Sequence[str]) -> Given:
    """Open a CSV file and map its columns; leave an iterable as it is.

    Raises:
        ConfigurationError: if the file or the mapping is unusable.
    """
    if isinstance(recipients, str | os.PathLike):
        table = await _threads.run(Table.open, Path(recipients))
        columns = table.mapping(variables, mapping)
        return Given(recipients, table.rows(columns, variables), columns)
    if mapping is not None:
        raise ConfigurationError("mapping is for CSV files; Recipients name their variables")
    return Given(recipients)


async def stage(ledger: Ledger, given: Given, intake: Intake, variables: Sequence[str]) -> None:
    """Judge and stage all recipients.

    Raises:
        InvalidMessage: for what is no Recipient.
    """
    await ledger.begin_load()
    if given.rows is not None:
        while await ledger.stage(given.rows, intake):
            pass
        return
    async with aclosing(chunked(given.recipients, variables)) as chunks:
        async for chunk in chunks:
            await ledger.stage(iter(chunk), intake)
