"""P4: a page of 20 templates, from bytes to models, over cattrs as it comes.

The peer is `cattrs.preconf.json`'s converter with its defaults, on models of the same fields; it is told what
each field is, where ours forgives neighbouring types and keeps the JSON as `.raw`.

Run: python -m benchmarks.models
"""

import asyncio
import json
from datetime import datetime
from typing import Any

from attrs import frozen
from cattrs.preconf.json import make_converter

from benchmarks.side_by_side import compare
from desk360_async import Template, _json, _wire
from desk360_async._calls import Answered
from desk360_async.sandbox import demo_account

CALLS = 30


@frozen
class Choice:
    """As ours, without `.raw`."""

    value: int | str | None = None
    label: str | None = None


@frozen
class Kind:
    """As `Category`."""

    value: int | str | None = None
    label: str | None = None
    sub_label: str | None = None
    status: int | str | None = None
    children: "tuple[Kind, ...]" = ()


@frozen
class Language:
    """As `SupportedLanguage`."""

    label: str | None = None
    value: int | None = None
    filled: bool | None = None


@frozen
class Variable:
    """As `TemplateVariable`."""

    id: str | None = None
    key: str | None = None
    value: str | None = None


@frozen
class Translation:
    """As ours."""

    language_id: int | None = None
    language: str | None = None
    header_type: Choice | None = None
    header_variables: tuple[Variable, ...] | None = None
    header: str | None = None
    header_file: Any = None
    body: str | None = None
    body_variables: tuple[Variable, ...] | None = None
    footer: str | None = None
    variables: tuple[str, ...] = ()
    buttons: tuple[dict[str, Any], ...] = ()
    editable: bool | None = None
    status: str | None = None
    status_value: int | None = None
    quality: str | None = None
    updated_at: datetime | None = None


@frozen
class PlainTemplate:
    """As `Template`."""

    id: int
    name: str | None = None
    category_editable: bool | None = None
    sendable: bool | None = None
    category: Kind | None = None
    category_label: str | None = None
    supported_languages: tuple[Language, ...] = ()
    translations: tuple[Translation, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


async def main() -> None:
    """Print the figures with orjson, if it is installed, and without."""
    rows = demo_account().templates[11][:20]
    body = json.dumps(rows, ensure_ascii=False).encode()
    call = _wire.templates_call(1, 11)
    answered = Answered(200, {"content-type": "application/json"}, body)
    plain = make_converter()

    async def ours() -> None:
        for _ in range(CALLS):
            call.read(call, answered)

    async def theirs() -> None:
        for _ in range(CALLS):
            plain.loads(body, list[PlainTemplate])

    assert [t.translations[0].body for t in call.read(call, answered)] == [
        t.translations[0].body for t in plain.loads(body, list[PlainTemplate])
    ]
    assert all(isinstance(t, Template) for t in call.read(call, answered))
    fast = _json._fast_loads
    for name, loads in (("orjson", fast), ("stdlib", None)):
        if name == "stdlib" or fast is not None:
            _json._fast_loads = loads
            sides = {"ours": ours, "cattrs": theirs}
            await compare(f"P4 {name},", sides, calls=CALLS, rounds=15, goals={"cattrs": 0.8})
    _json._fast_loads = fast


if __name__ == "__main__":
    asyncio.run(main())
