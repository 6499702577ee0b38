"""A client keeps WhatsApp's rules: windows, fallbacks and opt-outs, before a token is spent."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    Button,
    ConfigurationError,
    Contact,
    ContactName,
    InvalidMessage,
    Location,
    OptedOut,
    Outcome,
    SentMedia,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
    WindowClosed,
)
from desk360_async.customers import Customers
from desk360_async.once import SendLog
from desk360_async.testing import VirtualSandbox, sandbox_client
from desk360_async.webhooks import TextReceived

pytestmark = pytest.mark.anyio

TO = "+905551112233"
OTHER = "+905551112234"
TEMPLATE = TemplateMessage(TO, "welcome", language="English")
FREE: dict[str, Callable[..., Awaitable[Any]]] = {
    "text": lambda c, **more: c.send_text(TO, "x", **more),
    "location": lambda c, **more: c.send_location(
        TO, Location(latitude=41.0, longitude=29.0, name="Shop", address="İstanbul"), **more
    ),
    "contacts": lambda c, **more: c.send_contacts(TO, [Contact(ContactName("Ada L", "Ada", "L"))], **more),
    "media": lambda c, **more: c.send_media(TO, [Attachment.from_bytes("a.pdf", b"x")], **more),
    "interactive": lambda c, **more: c.send_interactive(TO, "Yes?", [Button("y", "Yes")], **more),
    "location request": lambda c, **more: c.send_location_request(TO, "Where?", **more),
}


def wrote(sandbox: VirtualSandbox, text: str = "Merhaba", phone: str = TO) -> TextReceived:
    """Return a text that the customer writes now."""
    return TextReceived(sender=phone.removeprefix("+"), text=text, sent_at=sandbox.now())


async def close_window(book: Customers, sandbox: VirtualSandbox) -> None:
    await book.feed(wrote(sandbox))
    sandbox.advance(hours=25)


@pytest.fixture
def book() -> Customers:
    return Customers(":memory:")


@pytest.mark.parametrize("name", FREE)
async def test_a_free_message_outside_the_window_is_refused_and_costs_no_token(
    name: str, book: Customers
) -> None:
    async with sandbox_client(customers=book, service_window="enforce") as (client, sandbox):
        await close_window(book, sandbox)
        free = client.rate_limit.free
        with pytest.raises(WindowClosed) as refused:
            await FREE[name](client)
        assert (refused.value.outcome, refused.value.phone) == (Outcome.NOT_SENT, "…2233")
        assert refused.value.since == (await book.window(TO)).ends
        assert (client.rate_limit.free, sandbox.requests) == (free, [])


@pytest.mark.parametrize("name", FREE)
async def test_the_fallback_goes_out_where_a_free_message_is_refused(name: str, book: Customers) -> None:
    async with sandbox_client(customers=book, service_window="enforce") as (client, sandbox):
        await close_window(book, sandbox)
        assert (await FREE[name](client, fallback=TEMPLATE)).message_id
        sandbox.assert_sent(to=TO, kind="template", times=1)
        await book.feed(wrote(sandbox))
        await FREE[name](client, fallback=TEMPLATE)
        sandbox.assert_sent(to=TO, kind="template", times=1)
        assert sandbox.accepted == 2


async def test_a_fallback_is_sent_once_under_the_same_key(book: Customers) -> None:
    options: dict[str, Any] = {"customers": book, "service_window": "enforce"}
    async with sandbox_client(send_log=SendLog(":memory:"), **options) as (client, sandbox):
        await close_window(book, sandbox)
        first = await client.send_text(TO, "x", idempotency_key="a", fallback=TEMPLATE)
        again = await client.send_text(TO, "x", idempotency_key="a", fallback=TEMPLATE)
        assert (again.message_id, again.replayed) == (first.message_id, True)
        assert sandbox.accepted == 1


async def test_a_refused_key_may_send_later(book: Customers) -> None:
    options: dict[str, Any] = {"customers": book, "service_window": "enforce"}
    async with sandbox_client(send_log=SendLog(":memory:"), **options) as (client, sandbox):
        await close_window(book, sandbox)
        with pytest.raises(WindowClosed):
            await client.send_text(TO, "x", idempotency_key="a")
        await book.feed(wrote(sandbox))
        assert not (await client.send_text(TO, "x", idempotency_key="a")).replayed


@pytest.mark.parametrize(
    ("message", "fallback", "problem"),
    [
        (TextMessage(TO, "x"), TextMessage(TO, "y"), "must be a TemplateMessage, not TextMessage"),
        (TextMessage(OTHER, "x"), TEMPLATE, "goes to …2233, the message to …2234"),
        (TEMPLATE, TEMPLATE, "is for free messages"),
    ],
)
async def test_an_unusable_fallback_is_refused(message: Any, fallback: Any, problem: str) -> None:
    async with sandbox_client() as (client, _):
        with pytest.raises(InvalidMessage, match=problem):
            await client.send(message, fallback=fallback)


async def test_warn_is_the_default_and_logs_once_a_phone_and_day(
    book: Customers, caplog: pytest.LogCaptureFixture
) -> None:
    async with sandbox_client(customers=book) as (client, sandbox):
        await close_window(book, sandbox)
        for _ in range(3):
            await client.send_text(TO, "x")
        assert [r.levelno for r in caplog.records if "may not arrive" in r.message] == [logging.WARNING]
        sandbox.advance(hours=24)
        await client.send_text(TO, "x")
        await client.send_text(OTHER, "x")
    lines = [r.message for r in caplog.records if "may not arrive" in r.message]
    assert len(lines) == 3
    assert "no message is stored" in lines[-1]
    assert not any("5551112233" in line for line in lines)


async def test_unknown_people_pass_with_the_warning_under_enforce(
    book: Customers, caplog: pytest.LogCaptureFixture
) -> None:
    async with sandbox_client(customers=book, service_window="enforce") as (client, sandbox):
        await client.send_text(TO, "x")
        assert sandbox.accepted == 1
    assert "no message is stored" in caplog.text


async def test_off_checks_no_window(book: Customers, caplog: pytest.LogCaptureFixture) -> None:
    async with sandbox_client(customers=book, service_window="off") as (client, sandbox):
        await close_window(book, sandbox)
        await client.send_text(TO, "x")
    assert "may not arrive" not in caplog.text


async def test_an_unknown_rule_is_refused(book: Customers) -> None:
    with pytest.raises(ConfigurationError, match="service_window"):
        AsyncDesk360("key", customers=book, service_window="always")  # type: ignore[arg-type]  # on purpose


async def test_a_template_to_an_opted_out_person_is_refused(book: Customers) -> None:
    async with sandbox_client(customers=book, service_window="off") as (client, sandbox):
        await book.feed(wrote(sandbox, "STOP"))
        with pytest.raises(OptedOut) as refused:
            await client.send(TEMPLATE)
        assert (refused.value.outcome, refused.value.phone) == (Outcome.NOT_SENT, "…2233")
        assert refused.value.since == sandbox.now()
        assert sandbox.requests == []


async def test_a_free_answer_to_an_opted_out_person_is_allowed_inside_the_window(book: Customers) -> None:
    async with sandbox_client(customers=book, service_window="enforce") as (client, sandbox):
        await book.feed(wrote(sandbox, "STOP"))
        await client.send_text(TO, "You won't hear from us again.")
        sandbox.advance(hours=25)
        with pytest.raises(OptedOut):
            await client.send_text(TO, "x", fallback=TEMPLATE)
        assert sandbox.accepted == 1


async def test_a_batch_leaves_opted_out_people_out_and_names_them(book: Customers) -> None:
    async with sandbox_client(customers=book) as (client, sandbox):
        await book.opt_out(TO)
        reply = await client.send_template_bulk([TO, OTHER], "welcome", language="English")
        assert (reply.opted_out, reply.unlisted) == ((TO,), ())
        assert [message.phone for message in sandbox.received] == [OTHER]


async def test_a_batch_without_anybody_left_is_refused(book: Customers) -> None:
    async with sandbox_client(customers=book) as (client, sandbox):
        await book.opt_out(TO)
        await book.opt_out(OTHER)
        with pytest.raises(OptedOut):
            await client.send_template_bulk([TO, OTHER], "welcome", language="English")
        assert sandbox.requests == []


async def test_a_destinations_file_leaves_opted_out_people_out(book: Customers, tmp_path: Any) -> None:
    path = tmp_path / "phones.csv"
    path.write_text(f"{TO}\n{OTHER}\n")
    async with sandbox_client(customers=book) as (client, sandbox):
        await book.opt_out(TO)
        reply = await client.send_template_bulk(None, "welcome", language="English", destinations_file=path)
        assert reply.opted_out == (TO,)
        assert [message.phone for message in sandbox.received] == [OTHER]


class Late:
    """A store that learns of an opt-out between the check and the token."""

    def __init__(self, book: Customers, phone: str) -> None:
        self.book, self.phone, self.asked = book, phone, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.book, name)

    async def opt_outs(self) -> Any:
        self.asked += 1
        if self.asked == 2:
            await self.book.opt_out(self.phone)
        return await self.book.opt_outs()


async def test_a_late_opt_out_is_left_out_of_a_batch(book: Customers) -> None:
    late: Any = Late(book, TO)
    async with sandbox_client(customers=late) as (client, sandbox):
        reply = await client.send(TemplateBatch([TO, OTHER], "welcome", language="English"))
        assert reply.opted_out == (TO,)
        assert [message.phone for message in sandbox.received] == [OTHER]


async def test_a_late_opt_out_gives_the_token_back(book: Customers) -> None:
    late: Any = Late(book, TO)
    async with sandbox_client(customers=late) as (client, sandbox):
        await client.templates.get("welcome")
        free = client.rate_limit.free
        with pytest.raises(OptedOut) as refused:
            await client.send(TEMPLATE)
        assert refused.value.outcome is Outcome.NOT_SENT
        assert (client.rate_limit.free, sandbox.accepted) == (free, 0)


async def test_a_view_without_customers_checks_nothing(book: Customers) -> None:
    async with sandbox_client(customers=book) as (client, sandbox):
        await book.opt_out(TO)
        view = client.with_options(customers=None)
        assert (client.customers, view.customers) == (book, None)
        await view.send(TEMPLATE)
        assert sandbox.accepted == 1


async def test_the_client_closes_the_store_that_it_holds(book: Customers) -> None:
    async with sandbox_client(customers=book) as (client, _):
        await client.send_text(TO, "x")
        assert book._users == 1
    assert book._users == 0


async def test_media_without_a_fallback_are_media() -> None:
    async with sandbox_client() as (client, _):
        assert isinstance(await client.send_media(TO, [Attachment.from_bytes("a.pdf", b"x")]), SentMedia)
