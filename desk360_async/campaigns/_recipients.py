"""Recipients as they are given: an iterable, an async iterable, or a CSV file; each with its line number.

Nothing is judged here; that is `_intake`'s business.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from attrs import field, frozen

from desk360_async import InvalidMessage
from desk360_async._errors import mask_phone
from desk360_async.campaigns._tables import Row, Table, Values

__all__ = ["CHUNK", "Recipient", "Row", "Source", "Table", "Values", "chunked", "row_of"]

CHUNK = 5000


@frozen
class Recipient:
    """Somebody whom the campaign shall reach.

    Attributes:
        phone: E.164 with `+`; blanks, dashes, dots and brackets are forgiven.
        parameters: variable → text, such as {"body-1": "Ada"}; those with equal ones share requests.
    """

    phone: str = field(repr=lambda phone: repr(mask_phone(str(phone))))
    parameters: Mapping[str, str] | None = field(default=None, repr=lambda given: f"<{len(given or ())}>")


Source = str | os.PathLike[str] | Iterable[Recipient] | AsyncIterable[Recipient]


def row_of(line: int, given: object, variables: Sequence[str]) -> Row:
    """Return a recipient as a row. What it lacks is None there; what it has too much makes it refused.

    Raises:
        InvalidMessage: if it is no Recipient at all.
    """
    if not isinstance(given, Recipient):
        raise InvalidMessage(
            f"recipients[{line - 1}]",
            f"must be a Recipient(phone, parameters), not {type(given).__name__}",
        )
    parameters = given.parameters or {}
    values = tuple(parameters.get(variable) for variable in variables)
    if len(parameters) > sum(variable in parameters for variable in variables):
        surplus = ", ".join(sorted(map(str, set(parameters) - set(variables))))
        return line, given.phone, (*values, surplus)
    return line, given.phone, values


async def chunked(source: Any, variables: Sequence[str]) -> AsyncGenerator[list[Row], None]:
    """Yield an iterable's recipients as rows, by the chunk, numbered from 1.

    Raises:
        InvalidMessage: for what is no iterable of Recipients.
    """
    if isinstance(source, Mapping | bytes | Recipient) or not isinstance(source, Iterable | AsyncIterable):
        raise InvalidMessage(
            "recipients", "takes a CSV file's path, or an (async) iterable of Recipient; wrap one in a list"
        )
    line = 0
    if isinstance(source, AsyncIterable):
        chunk: list[Row] = []
        given: object
        async for given in cast("AsyncIterable[object]", source):
            line += 1
            chunk.append(row_of(line, given, variables))
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
        yield chunk
        return
    # Pulled on the loop's own thread: a caller's generator may not be one for another.
    items = iter(cast("Iterable[object]", source))
    while chunk := [row_of(n, given, variables) for n, given in enumerate(islice(items, CHUNK), line + 1)]:
        line = chunk[-1][0]
        yield chunk
