"""Reprs of values and stores whose constructor hasn't ended: tracebacks with local variables call them."""

import importlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import define, field

from desk360_async import AsyncDesk360, Desk360Error, HostLimiter, TemplateMessage, TextMessage, TokenBucket
from desk360_async._redaction import show_half_made
from desk360_async.campaigns import Campaign, Hours
from desk360_async.customers import Customers
from desk360_async.once import SendLog

PACKAGES = ["", ".campaigns", ".customers", ".doctor", ".once", ".sandbox", ".webhooks"]
PUBLIC = {
    kind
    for package in PACKAGES
    for kind in vars(importlib.import_module(f"desk360_async{package}")).values()
    if inspect.isclass(kind) and kind.__new__ is object.__new__
    # Nobody holds one of these.
    if not inspect.isabstract(kind) and not getattr(kind, "_is_protocol", False)
}


@pytest.mark.parametrize("kind", sorted(PUBLIC, key=lambda kind: kind.__qualname__))
def test_a_public_class_has_a_repr_before_its_attributes_are_set(kind: type) -> None:
    """Before Python 3.13 an exception there takes the place of the whole traceback."""
    assert kind.__name__ in repr(kind.__new__(kind))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TextMessage("+905551112233", ""),
        lambda: TemplateMessage("+905551112233", "", language="English"),
        lambda: AsyncDesk360("sandbox-key", lane="fast"),  # type: ignore[arg-type] # refused
        lambda: TokenBucket(limit=0),
        lambda: HostLimiter(Path("limit.db"), limit=0),
        lambda: Campaign("", template="a", language="b", ledger="c.db"),
        lambda: Hours("25:00-26:00", zone="UTC"),
        lambda: SendLog(""),
        lambda: Customers(""),
    ],
)
def test_a_refusal_can_be_shown_with_local_variables(make: Callable[[], object]) -> None:
    """And shows no phone."""
    with pytest.raises(Desk360Error) as caught:
        make()
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert type(caught.value).__name__ in "".join(shown.format())


@define
class Card:
    """A class with attrs' own repr."""

    name: str
    phone: str = field(repr=lambda text: f"<{text[-4:]}>")
    key: str = field(repr=False)
    inner: object = None


@define(repr=False)
class OurCard(Card):
    """The same, with the repr that our classes share."""


show_half_made(globals())


def test_the_shared_repr_shows_what_that_of_attrs_does() -> None:
    """Names, fields with a repr of their own or without one, and a value that holds itself."""
    theirs, ours = Card("Ada", "+905551112233", "secret"), OurCard("Ada", "+905551112233", "secret")
    theirs.inner, ours.inner = theirs, ours
    assert repr(theirs) == "Card(name='Ada', phone=<2233>, inner=...)"
    assert repr(ours) == f"Our{theirs!r}"
