"""An endpoint is complete: each place that it needs is looked at, and a failure names the file to mend."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_overloads
from unittest import mock

import attrs
import httpx
import pytest

import desk360_async
from desk360_async import (
    AsyncDesk360,
    Attachment,
    InvalidMessage,
    Message,
    ReadMessage,
    TemplateBatch,
    TemplateMessage,
    _validators,
    _wire,
    testing,
)
from desk360_async._endpoints import ENDPOINT_NAMED, ENDPOINT_OF, ENDPOINTS, Endpoint
from desk360_async.cli._table import COMMANDS, EXAMPLES, Command
from desk360_async.sandbox import records
from tests.core.fakes import TO, Wire, connect
from tests.core.vendor import CALLS, PHONE, SENDS, answer_sample, message_of, nested, request_sample

PACKAGE = Path(desk360_async.__file__).parent
ROOT = PACKAGE.parent
METHODS = {
    "list_integrations": "integrations.list",
    "list_templates": "templates.list",
    "get_media": "open_media",
}
# By endpoint: the target in the CLI's table, where it isn't `send:` and the kind.
COMMANDS_OF = {
    "list_integrations": "show:integrations",
    "list_templates": "show:list_",
    "send_template_bulk": "send:template",  # to several phones
    "send_contacts": "send:contact",
    "get_media": "show:save",
    "mark_read": "show:read",
}
MESSAGES = [endpoint for endpoint in ENDPOINTS if endpoint.message is not None]
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
each_message = pytest.mark.parametrize("endpoint", MESSAGES, ids=lambda e: e.name)


def method_of(endpoint: Endpoint) -> tuple[type, Callable[..., Any]]:
    """Return the client's method for an endpoint, and its class."""
    where = METHODS.get(endpoint.name, endpoint.name)
    owners = {"integrations": desk360_async.Integrations, "templates": desk360_async.Templates}
    owner, _, name = where.rpartition(".")
    kind = owners.get(owner, AsyncDesk360)
    assert hasattr(kind, name), f"mend desk360_async/_client.py: add {name}"
    return kind, getattr(kind, name)


def targets(commands: tuple[Command, ...]) -> set[str]:
    """Return the targets of commands and of their groups."""
    return {command.target for command in commands}.union(*(targets(c.commands) for c in commands))


def tree_of(function: Callable[..., Any]) -> ast.Module:
    """Return a function's syntax tree."""
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def names_read(function: Callable[..., Any]) -> set[str]:
    """Return the names that a function reads."""
    nodes = ast.walk(tree_of(function))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def dropped(function: Callable[..., Any]) -> set[str]:
    """Return the parameters that a function doesn't read."""
    return set(inspect.signature(function).parameters) - names_read(function) - {"self"}


def arguments_given(function: Callable[..., Any], kind: type) -> set[int]:
    """Return the number of arguments in each call of a class in a function."""
    calls = [node for node in ast.walk(tree_of(function)) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == kind.__name__]
    return {len(call.args) + len(call.keywords) for call in made}


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted name of each scalar and each file in a body."""
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, dict):
        yield path.removeprefix(".")
        return
    for key, item in value.items():
        yield from leaves(item, f"{path}.{key}")


def rules_of(name: str) -> dict[str, str]:
    """Return the sandbox's rules of an endpoint's body."""
    routes = pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox").ROUTES
    found: dict[str, str] = {route.endpoint.__name__: route.rules for route in routes}.get(name, {})
    assert found, f"mend ROUTES in desk360_async/sandbox/endpoints.py: no {name} with rules"
    return found


def ruled(name: str, rules: Mapping[str, str]) -> bool:
    """Whether rules have a field; `*` stands for any key."""
    patterns = (re.escape(rule).replace(r"\*", "[^.]*") for rule in rules)
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def test_each_message_has_a_row_in_the_table() -> None:
    assert {*get_args(Message), ReadMessage} == set(ENDPOINT_OF), (
        "mend _endpoints.py, or the union in _messages.py"
    )


def test_names_headings_and_paths_are_unique() -> None:
    for field in ("name", "heading"):
        values = [getattr(endpoint, field) for endpoint in ENDPOINTS]
        assert len(set(values)) == len(values), f"mend {field} in _endpoints.py"
    assert len({(e.method, e.path) for e in ENDPOINTS}) == len(ENDPOINTS), "mend path in _endpoints.py"


@each_message
def test_a_message_is_exported(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    assert endpoint.message.__name__ in desk360_async.__all__, "mend desk360_async/__init__.py"


@each_endpoint
def test_an_endpoint_has_a_method_with_its_heading(endpoint: Endpoint) -> None:
    owner, method = method_of(endpoint)
    said = f"{inspect.getdoc(owner)} {inspect.getdoc(method)}"
    assert endpoint.heading in " ".join(said.split()), (
        f"mend the docstring of {endpoint.name} in desk360_async/_client.py: it names the vendor's heading"
    )


@each_message
def test_a_method_takes_each_field_of_its_message(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    due = {field.name for field in attrs.fields(endpoint.message)}
    if endpoint.name in SENDS:
        # A template needs no fallback: it may be sent at any time.
        due |= {"idempotency_key"} if "template" in due else {"idempotency_key", "fallback"}
    taken = set(inspect.signature(method_of(endpoint)[1]).parameters) - {"self"}
    assert taken == due, (
        f"mend {endpoint.name} in desk360_async/_client.py, or {endpoint.message.__name__} in _messages.py: "
        f"{taken ^ due} is on one side only"
    )


@each_message
def test_a_method_hands_each_parameter_on_and_masks_the_phone(endpoint: Endpoint) -> None:
    """A parameter that the method drops is sent as its default; a traceback would show a plain phone."""
    _, method = method_of(endpoint)
    where = f"mend {endpoint.name} in desk360_async/_client.py"
    assert not dropped(method), f"{where}: it drops {dropped(method)}"
    assert {"to_private", "to_private_list"} & names_read(method), f"{where}: mask the phone"


@pytest.mark.parametrize("name", SENDS)
def test_send_has_an_overload_for_each_message(name: str) -> None:
    endpoint = ENDPOINT_NAMED[name]
    overloads = [inspect.get_annotations(each) for each in get_overloads(AsyncDesk360.send)]
    fitting = [
        each for each in overloads if endpoint.message in (each["message"], *get_args(each["message"]))
    ]
    replies = {getattr(each["return"], "__name__", "") for each in fitting}
    assert endpoint.reply in replies, (
        f"mend the overloads of send in desk360_async/_client.py: none returns {endpoint.reply} for {name}"
    )


@each_message
def test_a_message_names_its_heading_and_its_error(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    said = " ".join((inspect.getdoc(endpoint.message) or "").split())
    where = f"mend the docstring of {endpoint.message.__name__} in _messages.py"
    assert f'Implements "{endpoint.heading}"' in said, where
    assert "Raises: InvalidMessage: " in said, where


@each_message
def test_a_message_masks_its_phones_by_their_type(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    assert attrs.has(endpoint.message), f"mend {endpoint.message.__name__} in _messages.py: it isn't @frozen"
    fields = attrs.fields_dict(endpoint.message)
    converters = {field.converter for field in (fields.get("to"), fields.get("phones")) if field is not None}
    assert converters, "mend _messages.py"
    assert converters <= {_validators.to_phone, _validators.to_phones}, "mend the phone in _messages.py"


@pytest.mark.anyio
@each_message
async def test_a_message_refuses_a_wrong_type_in_each_field(endpoint: Endpoint) -> None:
    message = await message_of(endpoint.name)
    for field in attrs.fields(type(message)):
        where = f"mend {field.name} of {type(message).__name__} in _messages.py"
        assert refused_here(message, field.name, object()), f"{where}: it takes any value"


@pytest.mark.anyio
@each_message
async def test_a_message_is_a_value_that_does_not_change(endpoint: Endpoint) -> None:
    """The calls give lists, which their owner may change."""
    message = await message_of(endpoint.name)
    where = f"{type(message).__name__} in _messages.py"
    for field in attrs.fields(type(message)):
        kept = getattr(message, field.name)
        assert not isinstance(kept, list), f"mend {field.name} of {where}: it isn't kept as a tuple"
        with suppress(attrs.exceptions.FrozenInstanceError):
            setattr(message, field.name, kept)
            pytest.fail(f"mend {where}: it isn't @frozen")


@each_endpoint
def test_an_endpoint_has_a_call_and_samples(endpoint: Endpoint) -> None:
    assert endpoint.name in CALLS, f"add a call of {endpoint.name} to CALLS in tests/core/vendor.py"
    request = request_sample(endpoint.name)
    assert request.method == endpoint.method, "mend method in _endpoints.py"
    assert endpoint.name == "get_media" or answer_sample(endpoint.name)


@pytest.mark.anyio
@each_message
async def test_a_call_sends_the_endpoints_message_and_reads_its_reply(endpoint: Endpoint) -> None:
    method_of(endpoint)
    assert endpoint.name in CALLS, f"add a call of {endpoint.name} to CALLS in tests/core/vendor.py"
    wire = Wire(httpx.Response(200, content=answer_sample(endpoint.name)))
    async with connect(wire) as client:
        with mock.patch.object(_wire, "call_for", wraps=_wire.call_for) as call_for:
            reply = await CALLS[endpoint.name](client)
    message = call_for.call_args.args[0]
    assert type(message) is endpoint.message, "mend tests/core/vendor.py, or the row in _endpoints.py"
    assert (TO in repr(message), PHONE in repr(message)) == (False, False), "mend the phone in _messages.py"
    name = endpoint.reply.partition("[")[0]
    assert type(reply).__name__ == name, "mend reply in _endpoints.py, or _READERS in _wire.py"
    seen = wire.seen[0]
    assert seen.method == endpoint.method, "mend method in _endpoints.py"
    assert seen.url.endswith(endpoint.path.format(integration_id=11)), "mend path in _endpoints.py"


def test_the_sandbox_has_the_same_endpoints() -> None:
    """Method, path and name; the sandbox shares no code with the client."""
    routes = pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox").ROUTES
    theirs = {(route.method, route.path.replace(":", ""), route.endpoint.__name__) for route in routes}
    ours = {(endpoint.method, endpoint.path, endpoint.name) for endpoint in ENDPOINTS}
    assert theirs == ours, "mend desk360_async/sandbox/endpoints.py"


def test_the_sandbox_has_a_kind_for_each_message() -> None:
    """The page draws and copies a kind without functions of its own by its fields."""
    sends = [endpoint.name for endpoint in ENDPOINTS if endpoint.name.startswith("send_")]
    kinds = {name.removeprefix("send_").removesuffix("_bulk") for name in sends}
    assert kinds == set(get_args(records.Kind)), "mend Kind in desk360_async/sandbox/records.py"


@each_message
def test_the_sandbox_checks_each_field_of_the_documents_request(endpoint: Endpoint) -> None:
    """The rules of a body are its OpenAPI too."""
    rules = rules_of(endpoint.name)
    sample = request_sample(endpoint.name)
    form = nested(sample.fields | dict.fromkeys(sample.files, ""))
    body = sample.json if sample.json is not None else form
    unruled = [name for name in {*body, *leaves(body)} if not ruled(name, rules)]
    assert not unruled, f"mend desk360_async/sandbox/endpoints.py: {endpoint.name} has no rule for {unruled}"


@each_message
def test_the_sandbox_checks_a_request_by_the_rules_of_its_route(endpoint: Endpoint) -> None:
    endpoints = pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox")
    rules = rules_of(endpoint.name)
    tables = {name for name, value in vars(endpoints).items() if value is rules}
    assert tables & names_read(getattr(endpoints, endpoint.name)), (
        f"mend {endpoint.name} in desk360_async/sandbox/endpoints.py: it doesn't check by {tables}"
    )


def replaced(value: Any, parts: list[str], new: Any) -> Any:
    """Return a message with the value at a rule's dotted name replaced; `*` stands for the first item.

    Raises:
        AttributeError: if the message has no attribute of that name.
    """
    if not parts or (parts == ["text"] and isinstance(value, str)):  # the wire nests a footer's text
        return new
    head, *rest = parts
    if head == "*":
        return (replaced(value[0], rest, new), *value[1:])
    return attrs.evolve(value, **{head: replaced(getattr(value, head), rest, new)})


def at(value: Any, parts: list[str]) -> Any:
    """Return the value at a rule's dotted name; None if the message has no attribute of that name."""
    for part in parts:
        if part == "*":
            value = value[0] if isinstance(value, tuple) and value else None
        elif not isinstance(value, str):
            value = getattr(value, part, None)
    return value


def refused_here(message: Any, name: str, new: Any) -> bool:
    """Whether the message refuses a value at a rule's dotted name."""
    try:
        replaced(message, name.split("."), new)
    except InvalidMessage:
        return True
    return False


def refused_there(name: str, rule: str, new: Any) -> bool:
    """Whether the sandbox's rule refuses a value at its dotted name."""
    rules = pytest.importorskip("desk360_async.sandbox.rules", reason="needs the extra sandbox")
    new = list(new) if isinstance(new, tuple) else new
    for part in reversed(name.split(".")):
        new = [new] if part == "*" else {part: new}
    return bool(rules.check({name: rule}, new))


def sizes(rule: str) -> Iterator[int]:
    """Yield the sizes at which a limit shows: those beside each bound of the rule, 1, and a large one."""
    for bound in re.findall(r"(?:min|max):(\d+)", rule):
        yield from (int(bound) - 1, int(bound), int(bound) + 1)
    yield from (1, 10_000)


def resized(sample: Any, size: int, distinct: tuple[str, ...]) -> Any:
    """Return text or items of a size; items differ in each attribute of `distinct`, texts if it is ("",)."""
    if isinstance(sample, str):
        return "x" * size
    if not distinct:
        return (sample[0],) * size
    numbers = map(str, range(size))
    return tuple(
        n if distinct == ("",) else attrs.evolve(sample[0], **dict.fromkeys(distinct, n)) for n in numbers
    )


def compare(message: Any, name: str, rules: Mapping[str, str]) -> None:
    """Try sizes, an empty value and repeated items of a field on the message and on the sandbox's rules."""
    where = f"mend {name} in _messages.py, or in desk360_async/sandbox/endpoints.py"
    rule, sample = rules[name], at(message, name.split("."))
    items = f"{name}.*"
    distinct = tuple(
        field.removeprefix(items).removeprefix(".")
        for field, text in rules.items()
        if field.startswith(items) and "distinct" in text.split("|")
    )
    for size in sizes(rule):
        new = resized(sample, size, distinct)
        assert refused_here(message, name, new) == refused_there(name, rule, new), f"{where}: size {size}"
    required = "required" in rule.split("|")
    if required or hasattr(message, name.removesuffix(".*")):  # a part's field may be stricter here
        assert refused_here(message, name, type(sample)()) == required, f"{where}: required"
    if isinstance(sample, tuple):
        repeated = sample[:1] * max(2, len(sample))
        assert refused_here(message, name, repeated) == bool(distinct), f"{where}: distinct"


@pytest.mark.anyio
@each_message
async def test_the_sandbox_has_the_messages_limits(endpoint: Endpoint) -> None:
    """They share no code, so each limit is tried on both."""
    rules = rules_of(endpoint.name)
    message = await message_of(endpoint.name)
    for name, rule in rules.items():
        sample = at(message, name.split("."))
        kind = "string" if isinstance(sample, str) else "array" if isinstance(sample, tuple) else None
        if kind in rule.split("|"):  # the wire nests or names other fields differently
            compare(message, name, rules)


def scalars(value: Any) -> Iterator[str]:
    """Yield each scalar in a value as text, and of a file its name."""
    if isinstance(value, Attachment):
        yield value.name
    elif attrs.has(type(value)):
        yield from scalars([getattr(value, field.name) for field in attrs.fields(type(value))])
    elif isinstance(value, Mapping):
        yield from scalars(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from scalars(item)
    elif value is not None:
        yield str(value)


@pytest.mark.anyio
@pytest.mark.parametrize("name", SENDS)
async def test_the_sandbox_keeps_each_field_of_a_message(name: str) -> None:
    """A user's test asserts on what the sandbox kept, and the page shows it."""
    pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox")
    message = await message_of(name)
    if isinstance(message, TemplateMessage | TemplateBatch):
        message = attrs.evolve(message, template=75, language=2)
    async with testing.sandbox_client() as (client, sandbox):
        await client.send(message)
    (taken,) = sandbox.received
    shown = [taken.phone, taken.text, taken.content, taken.parameters, taken.template_id, taken.language_id]
    lost = {*scalars(message)} - {*scalars(shown), *(file.name for file in taken.files)}
    assert not lost, f"mend {name} in desk360_async/sandbox/endpoints.py: it doesn't keep {lost}"


@each_message
def test_the_sandbox_knows_each_rule_of_a_field(endpoint: Endpoint) -> None:
    rules = pytest.importorskip("desk360_async.sandbox.rules", reason="needs the extra sandbox")
    known = {*rules._PRESENCE, *rules._CONTENT, "distinct"}
    kinds = {name for name, rule in rules._CONTENT.items() if "type" in rule.schema} | {"array"}
    for field, text in rules_of(endpoint.name).items():
        names = {rule.name for rule in rules.parse_rules(text)}
        assert names <= known, f"mend desk360_async/sandbox/rules.py: it has no {names - known} ({field})"
        assert names & kinds, (
            f"mend {field} of {endpoint.name} in desk360_async/sandbox/endpoints.py: it has no type, such as "
            "string; or the schema of its type in desk360_async/sandbox/rules.py"
        )


def test_the_sandboxs_openapi_has_the_vendors_headings() -> None:
    routes = pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox").ROUTES
    headings = {endpoint.name: endpoint.heading for endpoint in ENDPOINTS}
    for route in routes:
        said = (route.endpoint.__doc__ or "").strip().rstrip(".")
        name = route.endpoint.__name__
        where = "desk360_async/sandbox/endpoints.py"
        assert name in headings, f"mend {where}: {name} is no endpoint"
        assert headings[name] in said, f"mend the docstring of {name} in {where}"


@each_endpoint
def test_an_endpoint_has_a_command(endpoint: Endpoint) -> None:
    target = COMMANDS_OF.get(endpoint.name, f"send:{endpoint.name.removeprefix('send_')}")
    assert target in targets(COMMANDS), f"mend desk360_async/cli/_table.py: add a command with {target!r}"


@pytest.mark.parametrize("name", SENDS)
def test_a_command_hands_each_option_on_and_each_field_over(name: str) -> None:
    pytest.importorskip("cyclopts", reason="needs the extra cli")
    send = import_module("desk360_async.cli.send")
    target = COMMANDS_OF.get(name, f"send:{name.removeprefix('send_')}")
    command = target.removeprefix("send:")
    where = f"mend {command} in desk360_async/cli/send.py"
    assert command in {*send.__all__} & {*vars(send)}, f"{where}: add it, and its name to __all__"
    function = getattr(send, command)
    assert not dropped(function), f"{where}: it drops {dropped(function)}"
    taken = set(inspect.signature(function).parameters)
    assert {"region", "once", "common"} <= taken, f"{where}: it takes region, once and common"
    lines = (inspect.getdoc(function) or "Without help").splitlines()
    assert lines[0].endswith("."), f"{where}: its help begins with a sentence"
    described = {line.partition(":")[0].strip() for line in lines}
    assert taken <= described, f"{where}: its help lacks {taken - described}"
    assert target in EXAMPLES, f"mend EXAMPLES in desk360_async/cli/_table.py: add {target!r}"
    message = ENDPOINT_NAMED[name].message
    assert message is not None
    assert hasattr(send, message.__name__), f"{where}: import {message.__name__}"
    if message is not TemplateBatch:  # a command takes no file of phones
        due = {len(attrs.fields(message))}
        assert arguments_given(function, message) == due, f"{where}: it doesn't fill each field"


@each_endpoint
def test_an_endpoint_is_documented_and_typed(endpoint: Endpoint) -> None:
    where = METHODS.get(endpoint.name, endpoint.name)
    typed = (ROOT / "tests" / "typing" / "api.py").read_text(encoding="utf-8")
    assert f".{where}(" in typed, f"mend tests/typing/api.py: call {where}"
    guide = "".join(page.read_text(encoding="utf-8") for page in (PACKAGE / "guide").glob("*.md"))
    assert re.search(rf"\b{where}\b", guide), f"mend desk360_async/guide/messages.md: call {where}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`{where}`" in readme, f"mend README.md: name {where}"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"`{where}`" in changes, f"mend CHANGELOG.md: name {where}"
