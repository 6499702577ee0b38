"""An endpoint is complete: each place that it needs is looked at, and a failure names the file to mend."""

import ast
import inspect
import textwrap
from pathlib import Path
from typing import get_args
from unittest import mock

import attrs
import httpx
import pytest

import desk360_async
from desk360_async import AsyncDesk360, Message, ReadMessage, _validators, _wire
from desk360_async._endpoints import ENDPOINT_OF, ENDPOINTS, Endpoint
from desk360_async.sandbox import records
from desk360_async.testing import ANSWERS
from tests.core.fakes import TO, Wire, connect
from tests.core.vendor import CALLS, PHONE, SAMPLES, answer_sample

PACKAGE = Path(desk360_async.__file__).parent
ROOT = PACKAGE.parent
METHODS = {
    "list_integrations": "integrations.list",
    "list_templates": "templates.list",
    "get_media": "open_media",
}
MESSAGES = [endpoint for endpoint in ENDPOINTS if endpoint.message is not None]
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
each_message = pytest.mark.parametrize("endpoint", MESSAGES, ids=lambda e: e.name)


def holds(path: Path, text: str) -> bool:
    """Whether a file, or a Python file of a folder, holds a text."""
    files = path.glob("*.py") if path.is_dir() else [path]
    return any(text in file.read_text(encoding="utf-8") for file in files)


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
    where = METHODS.get(endpoint.name, endpoint.name)
    owner: type = AsyncDesk360
    for part in where.split(".")[:-1]:
        owner = {"integrations": desk360_async.Integrations, "templates": desk360_async.Templates}[part]
    method = getattr(owner, where.split(".")[-1], None)
    assert method is not None, "mend desk360_async/_client.py"
    said = f"{inspect.getdoc(owner)} {inspect.getdoc(method)}"
    assert endpoint.heading in " ".join(said.split()), (
        "mend the method's docstring: it names the vendor's heading"
    )


@each_message
def test_a_method_hands_each_parameter_on_and_masks_the_phone(endpoint: Endpoint) -> None:
    """A parameter that the method drops is sent as its default; a traceback would show a plain phone."""
    method = getattr(AsyncDesk360, endpoint.name)
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    read = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    dropped = set(inspect.signature(method).parameters) - read - {"self"}
    assert not dropped, f"mend {endpoint.name} in _client.py: it drops {dropped}"
    assert {"to_private", "to_private_list"} & read, f"mend {endpoint.name} in _client.py: mask the phone"


@each_message
def test_a_message_names_its_heading(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    said = " ".join((inspect.getdoc(endpoint.message) or "").split())
    assert f'Implements "{endpoint.heading}"' in said, "mend the docstring in _messages.py"


@each_message
def test_a_message_masks_its_phones_by_their_type(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    fields = attrs.fields_dict(endpoint.message)
    converters = {field.converter for field in (fields.get("to"), fields.get("phones")) if field is not None}
    assert converters, "mend _messages.py"
    assert converters <= {_validators.to_phone, _validators.to_phones}, "mend the phone in _messages.py"


@each_endpoint
def test_an_endpoint_has_a_call_and_samples(endpoint: Endpoint) -> None:
    assert endpoint.name in CALLS, "mend tests/core/vendor.py"
    request = SAMPLES / "requests" / f"{endpoint.name}.curl"
    assert request.exists(), f"add the vendor's request as {request.relative_to(ROOT)}"
    folder = "desk360_async/testing/samples/answers"
    assert endpoint.name in (*ANSWERS, "get_media"), f"add the answer to {folder}"


@pytest.mark.anyio
@each_message
async def test_a_call_sends_the_endpoints_message_and_reads_its_reply(endpoint: Endpoint) -> None:
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


def test_the_sandbox_checks_and_keeps_each_message() -> None:
    """Its rules of a body are its OpenAPI too; its page draws each kind."""
    sandbox = pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox")
    bare = [route.path for route in sandbox.ROUTES if route.method == "POST" and not route.rules]
    assert not bare, f"mend desk360_async/sandbox/endpoints.py: rules for {bare}"
    sends = [endpoint.name for endpoint in ENDPOINTS if endpoint.name.startswith("send_")]
    kinds = {name.removeprefix("send_").removesuffix("_bulk") for name in sends}
    assert kinds == set(get_args(records.Kind)), "mend Kind in desk360_async/sandbox/records.py"
    page = (PACKAGE / "sandbox" / "page" / "page.js").read_text(encoding="utf-8")
    undrawn = [kind for kind in kinds if kind not in page]
    assert not undrawn, f"mend desk360_async/sandbox/page/page.js: it draws no {undrawn}"


def test_the_sandboxs_openapi_has_the_vendors_headings() -> None:
    routes = pytest.importorskip("desk360_async.sandbox.endpoints", reason="needs the extra sandbox").ROUTES
    headings = {endpoint.name: endpoint.heading for endpoint in ENDPOINTS}
    for route in routes:
        said = (route.endpoint.__doc__ or "").strip().rstrip(".")
        name = route.endpoint.__name__
        assert headings[name] in said, f"mend the docstring of {name} in desk360_async/sandbox/endpoints.py"


@each_message
def test_a_message_has_a_command(endpoint: Endpoint) -> None:
    assert endpoint.message is not None
    cli = PACKAGE / "cli"
    found = holds(cli, endpoint.message.__name__) or holds(cli, endpoint.name)
    assert found or endpoint.name == "send_template_bulk", "mend desk360_async/cli"  # campaigns send batches


@each_endpoint
def test_an_endpoint_is_documented_and_typed(endpoint: Endpoint) -> None:
    where = METHODS.get(endpoint.name, endpoint.name)
    assert holds(ROOT / "tests" / "typing" / "api.py", where), "mend tests/typing/api.py"
    guide = PACKAGE / "guide"
    pages = [ROOT / "README.md", *(guide.glob("*.md") if guide.exists() else [])]
    assert any(holds(page, where) for page in pages), "mend README.md"
