"""Each public name is documented: a sentence, its parameters, their units, and the errors that it raises.

A test can't see meaning. So these tests ask for form only where a reader would miss it: a unit, a `Raises`.
"""

import ast
import inspect
import pydoc
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import desk360_async
from desk360_async import AsyncDesk360

PACKAGES = sorted(
    path.parent.name
    for path in Path(str(desk360_async.__file__)).parent.glob("*/__init__.py")
    if path.parent.name not in ("cli", "guide")
)
MODULES = {"": desk360_async} | {name: import_module(f"desk360_async.{name}") for name in PACKAGES}
# The JSON as it came; `_replies` explains it once for all replies.
EXPLAINED_ONCE = {"raw"}
# Only the package makes these, so their constructors aren't public.
MADE_BY_THE_PACKAGE = {"Integrations", "MediaStream", "Results", "Run", "Templates", "Webhooks"}
UNIT = re.compile(r"\b(seconds?|minutes?|hours?|degrees|share|clock|time|a minute)\b", re.IGNORECASE)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class defines itself."""
    for name, found in vars(kind).items():
        inner = getattr(found, "fget", None) or getattr(found, "__func__", found)
        if not name.startswith("_") and inspect.isfunction(inner):
            yield name, inner


def public() -> Iterator[tuple[str, Any]]:
    """Yield each public name, and each public method and property of the package's classes."""
    for package, module in MODULES.items():
        for name in module.__all__:
            full, value = f"{package}.{name}".lstrip("."), getattr(module, name)
            yield full, value
            if is_ours(value) and inspect.isclass(value):
                yield from ((f"{full}.{member}", inner) for member, inner in members(value))


def is_ours(value: Any) -> bool:
    """Return whether the value is a class or a function of the package, and no alias or constant."""
    described = inspect.isclass(value) or inspect.isfunction(value)
    return described and value.__module__.startswith("desk360_async")


NAMES = dict(public())
OURS = [pytest.param(value, id=name) for name, value in NAMES.items() if is_ours(value)]
FUNCTIONS = [parameter for parameter in OURS if inspect.isfunction(parameter.values[0])]
CLASSES = [parameter for parameter in OURS if inspect.isclass(parameter.values[0])]


def place(value: Any) -> str:
    """Return the words of a failure: the name and the file to mend."""
    return f"mend the docstring of {value.__qualname__} in {value.__module__.replace('.', '/')}.py"


def doc(value: Any) -> str:
    """Return a docstring on one line; a class's with its constructor's."""
    texts = (value.__doc__, value.__init__.__doc__ if inspect.isclass(value) else None)
    return " ".join(" ".join(text or "" for text in texts).split())


def described(value: Any) -> dict[str, str]:
    """Return the description of each name in a docstring's sections, those of a class's bases included.

    A method of an observer is described once, in the protocol.
    """
    protocol = vars(desk360_async.Observer).get(getattr(value, "__name__", ""))
    kinds = reversed(value.__mro__[:-1]) if inspect.isclass(value) else (protocol or value, value)
    texts = "\n".join(
        inspect.cleandoc(text or "") for kind in kinds for text in (kind.__doc__, kind.__init__.__doc__)
    )
    lines = re.findall(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", texts, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in lines}


def parameters(value: Any) -> dict[str, str]:
    """Return a function's parameters, or a class's fields or constructor's, with their annotations."""
    if attrs.has(value):
        return {field.name: str(field.type) for field in attrs.fields(value) if field.name[0] != "_"}
    if inspect.isclass(value) and issubclass(value, tuple):
        return {name: str(kind) for name, kind in inspect.get_annotations(value).items()}
    if inspect.isclass(value) and (value.__name__ in MADE_BY_THE_PACKAGE or "__init__" not in vars(value)):
        return {}
    found = inspect.signature(value).parameters.values()
    taken = {p.name: str(p.annotation) for p in found if p.name not in ("self", "cls")}
    if inspect.isclass(value) and issubclass(value, Exception):
        # Only the package makes errors; a reader needs the attributes that `__init__` sets.
        return {name: kind for name, kind in taken.items() if name in value.__init__.__code__.co_names}
    return taken


@pytest.mark.parametrize("value", OURS)
def test_a_public_name_has_a_sentence(value: Any) -> None:
    """The first line is one sentence that ends with a full stop."""
    first = inspect.cleandoc(value.__doc__ or "").partition("\n")[0]
    assert re.fullmatch(r"[A-Z0-9`].*\.", first), place(value)


def sources(module: ModuleType) -> Iterator[list[ast.stmt]]:
    """Yield the statements of each module of a package."""
    for path in Path(str(module.__file__)).parent.glob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8")).body


@pytest.mark.parametrize(
    "name", [name for name, value in NAMES.items() if not is_ours(value) and name[0] != "_"]
)
def test_an_alias_or_a_constant_has_a_text_beneath(name: str) -> None:
    """They can't carry a docstring; the reference shows the string below their definition."""
    package, _, alone = name.rpartition(".")
    defined = re.compile(rf"{alone}\b[^=]*=")
    beneath = [
        after
        for body in sources(MODULES[package])
        for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and defined.match(ast.unparse(statement))
    ]
    assert len(beneath) == 1
    assert isinstance(beneath[0], ast.Expr)
    assert isinstance(beneath[0].value, ast.Constant)


@pytest.mark.parametrize("value", OURS)
def test_a_section_lists_every_parameter(value: Any) -> None:
    """A list of parameters or fields that is there is complete."""
    if re.search(r"^ *(Args|Attributes):$", value.__doc__ or "", re.MULTILINE):
        assert set(parameters(value)) - set(described(value)) - EXPLAINED_ONCE == set(), place(value)


@pytest.mark.parametrize("value", OURS)
def test_a_number_is_described_with_its_unit(value: Any) -> None:
    """Each int is described, unless it is an id, and each float has its unit."""
    said = described(value)
    for name, kind in parameters(value).items():
        if re.search(r"\b(int|float)\b", kind) and "str" not in kind and not re.search(r"(^|_)id$", name):
            assert "float" not in kind or UNIT.search(said[name]), name
            assert said[name], name


@pytest.mark.parametrize("value", FUNCTIONS)
def test_a_returned_float_has_its_unit(value: Any) -> None:
    """The docstring of a function that returns a float names the unit."""
    if "float" in str(inspect.signature(value).return_annotation):
        assert UNIT.search(doc(value))


@pytest.mark.parametrize("value", FUNCTIONS)
def test_a_function_that_raises_has_a_raises_section(value: Any) -> None:
    """Errors raised in the function's own body are documented."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    raises = any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))
    assert not raises or "Raises:" in doc(value)


@pytest.mark.parametrize("value", [p for p in CLASSES if issubclass(p.values[0], Enum)])
def test_each_member_of_an_enum_is_described(value: type[Enum]) -> None:
    """A reader sees each member's meaning without the source."""
    assert set(value.__members__) == set(described(value))


SENDS = [
    name
    for name, value in vars(AsyncDesk360).items()
    if inspect.isfunction(value) and name.startswith(("send", "mark_read"))
]


@pytest.mark.parametrize("name", SENDS)
def test_a_send_documents_its_arguments_its_reply_and_its_errors(name: str) -> None:
    """`help(AsyncDesk360.send_text)` needs no look at the code."""
    method = getattr(AsyncDesk360, name)
    text = inspect.getdoc(method) or ""
    assert [section for section in ("Args:", "Returns:", "Raises:") if section not in text] == [], place(
        method
    )


# The names that the guide's first pages use.
FREQUENT = [
    *("AsyncDesk360", "AsyncDesk360.send_template", "AsyncDesk360.send_text", "AsyncDesk360.send_media"),
    *("AsyncDesk360.send_template_bulk", "AsyncDesk360.send_interactive", "AsyncDesk360.send_contacts"),
    *("AsyncDesk360.send_location", "AsyncDesk360.send_each", "AsyncDesk360.send_all"),
    *("AsyncDesk360.save_media", "AsyncDesk360.open_media", "Attachment", "HostLimiter", "Location"),
    *("TemplateMessage", "TextMessage", "Desk360Error", "normalize_phone", "campaigns.Campaign"),
    *("webhooks.WebhookReceiver", "webhooks.parse", "testing.sandbox_client", "once.SendLog"),
]


@pytest.mark.parametrize("name", FREQUENT)
def test_a_frequent_name_has_an_example(name: str) -> None:
    """The twenty most used names, and some more."""
    value: Any = import_module("desk360_async")
    for part in name.split("."):
        value = getattr(value, part) if hasattr(value, part) else import_module(f"desk360_async.{part}")
    assert "Example:" in (inspect.getdoc(value) or "")


def test_help_on_the_client_shows_templates_and_integrations() -> None:
    """They are properties with a text, not bare annotations."""
    shown = pydoc.plain(pydoc.render_doc(AsyncDesk360))
    assert "integrations\n |      Your WhatsApp numbers" in shown
    assert "templates\n |      The integration's templates" in shown
