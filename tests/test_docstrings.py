"""Each public name is documented: a sentence, parameters, units, errors, and the vendor's heading."""

import ast
import inspect
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

MODULES = {
    name: import_module(f"desk360_async.{name}") for name in ("campaigns", "sandbox", "testing", "webhooks")
}
MODULES = {"": import_module("desk360_async")} | MODULES

# The headings of the vendor's document, and the captions of its webhooks, as it spells them; under each, what
# mirrors that part. A name of another package than the first stands with its package.
MIRRORS = {
    "Rate Limit": "AsyncDesk360.rate_limit HostLimiter RateLimitStatus TokenBucket",
    "Authentication": "AsyncDesk360 AuthenticationFailed",
    "Attachments": "Attachment",
    "Errors": "APIError NotFound RateLimited RequestRefused ServerError ValidationFailed",
    "Error Codes": "PermissionDenied",
    "Pagination": "Page",
    "Integrations": "Integration Integrations sandbox.Account",
    "WhatsApp Message Templates": """
        Choice SupportedLanguage Template TemplateVariable Templates Translation""",
    "Send WhatsApp Message Template": "TemplateMessage AsyncDesk360.send_template",
    "Bulk Send WhatsApp Message Template": """
        BulkSent TemplateBatch AsyncDesk360.send_template_bulk campaigns.Campaign""",
    "Send WhatsApp Message": "Sent TextMessage AsyncDesk360.send_text",
    "Send WhatsApp Location Message": "Location LocationMessage AsyncDesk360.send_location",
    "Send WhatsApp Contact Message": """
        Contact ContactAddress ContactEmail ContactName ContactOrganization ContactPhone ContactUrl
        ContactsMessage AsyncDesk360.send_contacts""",
    "Send WhatsApp Media Message": "MediaMessage SentFile SentMedia AsyncDesk360.send_media",
    "Get WhatsApp Media": """
        Media MediaStream AsyncDesk360.open_media AsyncDesk360.read_media AsyncDesk360.save_media
        sandbox.StoredMedia""",
    "Send WhatsApp Interactive Message": """
        Button DocumentHeader ImageHeader InteractiveMessage TextHeader VideoHeader
        AsyncDesk360.send_interactive""",
    "Send WhatsApp Location Request Interactive Message": """
        LocationRequestMessage AsyncDesk360.send_location_request""",
    "Read WhatsApp Message": "AsyncDesk360.mark_read sandbox.ReceivedRead",
    "WhatsApp Webhooks": """
        sandbox.SentWebhook sandbox.Webhooks testing.webhook_sample
        webhooks.WebhookReceiver webhooks.parse""",
    "Received Messages Examples": "webhooks.MessageReceived",
    "Text Messages": "webhooks.TextReceived",
    "Location Messages": "webhooks.LocationReceived webhooks.Place",
    "Contact Messages": """
        webhooks.CardAddress webhooks.CardEmail webhooks.CardIm webhooks.CardName webhooks.CardOrganization
        webhooks.CardPhone webhooks.CardUrl webhooks.ContactCard webhooks.ContactsReceived""",
    "Media Messages": "webhooks.MediaReceived webhooks.ReceivedFile",
    "Messages Triggered by WhatsApp Ads": "webhooks.Referral",
    "Status Updates": "webhooks.StatusUpdate",
}  # fmt: skip
# What the vendor's document doesn't know, or what stands for several parts of it.
OUR_OWN = """
    Answer ClientStateError ConfigurationError ConnectionFailed Desk360Error InvalidMessage InvalidWebhook
    Lane Message Outcome Permit RateLimitWaitTooLong RateLimiter Results RetryPolicy SendResult TimedOut
    Timeouts Transport UnexpectedResponse redact_logs
    AsyncDesk360.aclose AsyncDesk360.for_integration AsyncDesk360.request AsyncDesk360.send
    AsyncDesk360.send_all AsyncDesk360.send_each AsyncDesk360.with_options
    campaigns.BatchResult campaigns.CampaignError campaigns.Counts campaigns.Done campaigns.Event
    campaigns.LedgerError campaigns.Paused campaigns.Plan campaigns.Progress campaigns.Recipient
    campaigns.Report campaigns.Run campaigns.campaigns_in
    sandbox.Fault sandbox.Faults sandbox.ReceivedFile sandbox.ReceivedMessage sandbox.ReceivedRequest
    sandbox.RunningServer sandbox.Sandbox sandbox.WebhookTarget sandbox.demo_account sandbox.load_account
    sandbox.parse_account sandbox.phone_of sandbox.run
    testing.ANSWERS testing.VirtualBucket testing.VirtualClock testing.VirtualSandbox testing.WEBHOOKS
    testing.answer_sample testing.sandbox_client
    webhooks.Answer webhooks.Event webhooks.ReceiverStats webhooks.ReplyReceived webhooks.SQLiteInbox
    webhooks.UnknownEvent
"""
# The JSON as it came, which `_replies` explains once for all.
UNSAID = {"raw"}
# Made by the package only; what they are made with is its own business.
MADE_BY_US = {"Integrations", "MediaStream", "Results", "Run", "Templates", "Webhooks"}
UNIT = re.compile(r"\b(seconds?|minutes?|degrees|share|clock|time|a minute)\b", re.IGNORECASE)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class itself has."""
    for name, found in vars(kind).items():
        inner = getattr(found, "fget", None) or getattr(found, "__func__", found)
        if not name.startswith("_") and inspect.isfunction(inner):
            yield name, inner


def public() -> Iterator[tuple[str, Any]]:
    """Yield each public name, and each public method and property of the classes that are ours."""
    for package, module in MODULES.items():
        for name in module.__all__:
            full, value = f"{package}.{name}".lstrip("."), getattr(module, name)
            yield full, value
            if is_ours(value) and inspect.isclass(value):
                yield from ((f"{full}.{member}", inner) for member, inner in members(value))


def is_ours(value: Any) -> bool:
    """Tell whether it is a class or a function of the package; an alias or a constant is neither."""
    described = inspect.isclass(value) or inspect.isfunction(value)
    return described and value.__module__.startswith("desk360_async")


NAMES = dict(public())
OURS = [pytest.param(value, id=name) for name, value in NAMES.items() if is_ours(value)]
FUNCTIONS = [parameter for parameter in OURS if inspect.isfunction(parameter.values[0])]
CLASSES = [parameter for parameter in OURS if inspect.isclass(parameter.values[0])]


def doc(value: Any) -> str:
    """Return a docstring, a class's with its constructor's, on one line."""
    texts = (value.__doc__, value.__init__.__doc__ if inspect.isclass(value) else None)
    return " ".join(" ".join(text or "" for text in texts).split())


def described(value: Any) -> dict[str, str]:
    """Return what the sections of a docstring, and of those of a class's bases, say of each name."""
    kinds = reversed(value.__mro__[:-1]) if inspect.isclass(value) else (value,)
    texts = "\n".join(
        inspect.cleandoc(text or "") for kind in kinds for text in (kind.__doc__, kind.__init__.__doc__)
    )
    lines = re.findall(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", texts, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in lines}


def parameters(value: Any) -> dict[str, str]:
    """Return the parameters of a function, or what a class is made of or shows, with their annotations."""
    if attrs.has(value):
        return {field.name: str(field.type) for field in attrs.fields(value) if field.name[0] != "_"}
    if inspect.isclass(value) and issubclass(value, tuple):
        return {name: str(kind) for name, kind in inspect.get_annotations(value).items()}
    if inspect.isclass(value) and (value.__name__ in MADE_BY_US or "__init__" not in vars(value)):
        return {}
    found = inspect.signature(value).parameters.values()
    taken = {p.name: str(p.annotation) for p in found if p.name not in ("self", "cls")}
    if inspect.isclass(value) and issubclass(value, Exception):
        # Nobody but the package makes errors; what counts is what `__init__` sets on them.
        return {name: kind for name, kind in taken.items() if name in value.__init__.__code__.co_names}
    return taken


@pytest.mark.parametrize("value", OURS)
def test_has_a_sentence(value: Any) -> None:
    """The first line is one sentence, of what it is or does."""
    first = inspect.cleandoc(value.__doc__ or "").partition("\n")[0]
    assert re.fullmatch(r"[A-Z0-9`].*\.", first)


def sources(module: ModuleType) -> Iterator[list[ast.stmt]]:
    """Yield the statements of each module of a package."""
    for path in Path(str(module.__file__)).parent.glob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8")).body


@pytest.mark.parametrize(
    "name", [name for name, value in NAMES.items() if not is_ours(value) and name[0] != "_"]
)
def test_what_can_have_no_docstring_has_a_text_beneath(name: str) -> None:
    """Aliases and constants are explained where they are defined, as the reference shows them."""
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
def test_a_section_leaves_nobody_out(value: Any) -> None:
    """Where parameters or fields are listed at all, all of them are."""
    if re.search(r"^ *(Args|Attributes):$", value.__doc__ or "", re.MULTILINE):
        assert set(parameters(value)) - set(described(value)) - UNSAID == set()


@pytest.mark.parametrize("value", OURS)
def test_a_number_is_of_something(value: Any) -> None:
    """Each int is described, unless it is an id, and each float has its unit."""
    said = described(value)
    for name, kind in parameters(value).items():
        if re.search(r"\b(int|float)\b", kind) and "str" not in kind and not re.search(r"(^|_)id$", name):
            assert "float" not in kind or UNIT.search(said[name]), name
            assert said[name], name


@pytest.mark.parametrize("value", FUNCTIONS)
def test_a_number_that_comes_back_has_its_unit(value: Any) -> None:
    """What returns a float says what it counts."""
    if "float" in str(inspect.signature(value).return_annotation):
        assert UNIT.search(doc(value))


@pytest.mark.parametrize("value", FUNCTIONS)
def test_says_what_it_raises_itself(value: Any) -> None:
    """Whatever raises itself has a section for it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    raises = any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))
    assert not raises or "Raises:" in doc(value)


ASKING = ("AsyncDesk360.", "Integrations.", "Templates.", "MediaStream.", "campaigns.Campaign.")


def fails_with_others(name: str, value: Any) -> bool:
    """Tell what makes requests or opens a ledger, and values that are checked when they are made."""
    if name.startswith(ASKING):
        returned = str(inspect.signature(value).return_annotation)
        return inspect.iscoroutinefunction(value) or "Async" in returned
    return attrs.has(value) and any(field.validator or field.converter for field in attrs.fields(value))


@pytest.mark.parametrize(
    "value", [pytest.param(v, id=name) for name, v in NAMES.items() if fails_with_others(name, v)]
)
def test_says_what_is_raised_in_it(value: Any) -> None:
    """So does whatever fails because of what it calls."""
    assert "Raises:" in doc(value)


@pytest.mark.parametrize(
    ("heading", "name"), [(heading, name) for heading, names in MIRRORS.items() for name in names.split()]
)
def test_names_the_vendors_heading(heading: str, name: str) -> None:
    """What mirrors a part of the vendor's document quotes its heading."""
    assert f'"{heading}"' in doc(NAMES[name])


def test_every_name_mirrors_the_vendor_or_is_our_own() -> None:
    """A new public name must be put in one table or the other, and in one only."""
    mirrors = [name for names in MIRRORS.values() for name in names.split()]
    placed = {name for name in NAMES if name[0] != "_" and name.count(".") <= (name.split(".")[0] in MODULES)}
    placed |= {name for name in NAMES if name.startswith("AsyncDesk360.")}
    assert sorted([*mirrors, *OUR_OWN.split()]) == sorted(placed)


@pytest.mark.parametrize("value", [p for p in CLASSES if issubclass(p.values[0], Enum)])
def test_members_of_an_enum_are_explained(value: type[Enum]) -> None:
    """Each of them."""
    assert set(value.__members__) == set(described(value))
