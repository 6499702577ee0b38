"""What a user writes, for the type checkers; it is never run."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from desk360_async import (
    Answer,
    AsyncDesk360,
    Attachment,
    BulkSent,
    Button,
    Contact,
    ContactName,
    ContactPhone,
    Desk360Error,
    DocumentHeader,
    HostLimiter,
    Integration,
    InteractiveMessage,
    Lane,
    Location,
    Media,
    MediaMessage,
    Message,
    Outcome,
    Page,
    Permit,
    RateLimiter,
    RateLimitStatus,
    ReadMessage,
    Results,
    RetryPolicy,
    SendResult,
    Sent,
    SentMedia,
    Template,
    TemplateBatch,
    TemplateMessage,
    TextMessage,
    Timeouts,
    TokenBucket,
    Translation,
)
from desk360_async.webhooks import (
    LocationReceived,
    MediaReceived,
    StatusUpdate,
    TextReceived,
    WebhookReceiver,
    parse,
)

TO = "+905551112233"


def settings() -> list[AsyncDesk360]:
    def note(result: SendResult) -> None:
        print(result.outcome, result.error)

    return [
        AsyncDesk360(),
        AsyncDesk360("key", integration_id=11, base_url="https://example.com", timeout=5.0),
        AsyncDesk360(timeout=Timeouts(total=10.0, upload=60.0), retry=RetryPolicy(attempts=1)),
        AsyncDesk360(limiter=TokenBucket(limit=60, period=60.0, reserve=5), lane="bulk", max_wait=2),
        AsyncDesk360(limiter=HostLimiter(Path("limit.db")), on_result=note),
        AsyncDesk360(limiter=Mine()),
    ]


class Mine:
    """A limiter of one's own needs no base class."""

    async def acquire(self, lane: Lane, max_wait: float | None) -> Permit:
        raise NotImplementedError

    def snapshot(self) -> RateLimitStatus:
        raise NotImplementedError


def takes_a_limiter(limiter: RateLimiter) -> None:
    print(limiter.snapshot().free)


async def sends(client: AsyncDesk360) -> None:
    assert_type(await client.send_text(TO, "hi"), Sent)
    assert_type(await client.send_template(TO, 75, language=2, parameters={"body-1": "Ada"}), Sent)
    assert_type(await client.send_template(TO, "hello", language="English", attachment="a.pdf"), Sent)
    assert_type(
        await client.send_template_bulk([TO], "hello", language=1, attachment=Path("a.pdf")), BulkSent
    )
    assert_type(
        await client.send_location(TO, Location(longitude=29.0, latitude=41.0, name="Shop", address="Quay")),
        Sent,
    )
    card = Contact(ContactName("Ada L", "Ada", "L"), phones=[ContactPhone("0555")])
    assert_type(await client.send_contacts(TO, [card]), Sent)
    assert_type(await client.send_media(TO, ["a.pdf", Attachment.from_bytes("b", b"")]), SentMedia)
    header = DocumentHeader("https://example.com/a.pdf", "a.pdf")
    assert_type(await client.send_interactive(TO, "?", [Button("y", "Yes")], header=header), Sent)
    assert_type(await client.send_location_request(TO, "Where?"), Sent)
    assert_type(await client.mark_read(TO, ["id"]), tuple[str, ...])


async def values(client: AsyncDesk360, any_message: Message) -> None:
    assert_type(await client.send(TextMessage(TO, "hi")), Sent)
    assert_type(await client.send(TemplateMessage(TO, 1, language=1)), Sent)
    assert_type(await client.send(MediaMessage(TO, [Attachment.from_path("a")])), SentMedia)
    assert_type(await client.send(TemplateBatch([TO], 1, language=1)), BulkSent)
    assert_type(await client.send(InteractiveMessage(TO, "?", (Button("y", "Yes"),))), Sent)
    assert_type(await client.send(any_message), Sent | BulkSent | SentMedia)


async def reads(client: AsyncDesk360) -> None:
    assert_type(await client.integrations.list(), Page[Integration])
    assert_type((await client.templates.list(2))[0], Template)
    assert_type([t async for t in client.templates.iter()], list[Template])
    template = await client.templates.get("hello")
    assert_type(template.translation("English"), Translation)
    assert_type(template.translation(1).render({"body-1": "Ada"}), str)
    assert_type(await client.read_media("id"), Media)
    assert_type(await client.save_media("id", "folder"), Path)
    async with client.open_media("id") as media:
        assert_type(media.filename, str | None)
        async for chunk in media.aiter_bytes():
            assert_type(chunk, bytes)
    assert_type(await client.request("GET", "integrations", params={"page": 2}), Answer)
    assert_type(client.rate_limit, RateLimitStatus)
    assert_type(client.for_integration(22), AsyncDesk360)
    assert_type(client.with_options(lane="bulk", max_wait=None), AsyncDesk360)


async def fan_out(client: AsyncDesk360) -> None:
    async def rows() -> AsyncIterator[dict[str, str]]:
        yield {"phone": TO}

    def build(row: dict[str, str]) -> Message:
        return TextMessage(row["phone"], "hi")

    async with client.send_each(rows(), build=build, concurrency=4) as results:
        async for result in results:
            assert_type(result.outcome, Outcome)
            assert_type(result.error, Desk360Error | None)
            assert_type(result.item, dict[str, str])
    assert_type(results, Results[dict[str, str]])
    texts = [TextMessage(TO, "hi")]
    assert_type(await client.send_all(texts, lane="interactive"), list[SendResult[TextMessage]])
    mixed: list[Message] = [*texts, MediaMessage(TO, ["a.pdf"])]
    assert_type((await client.send_all(mixed))[0].message, Message | None)
    await client.send_all([TextMessage(TO, "hi"), MediaMessage(TO, ["a.pdf"])])
    await client.send_all([1, 2], build=lambda n: TextMessage(TO, str(n)), key=str)
    await client.send_all([1, 2])  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]  # messages
    client.send_each([1, 2])  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]  # messages
    await client.send_all([1], build=str)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]  # makes no message


def bare_annotations(result: SendResult, results: Results) -> tuple[SendResult[int], Outcome]:
    return result, results.rest[0].outcome


def failures(error: Desk360Error) -> bool:
    return error.outcome is Outcome.UNKNOWN


def webhooks(body: bytes) -> list[str | None]:
    told: list[str | None] = []
    for event in parse(body):
        match event:
            case TextReceived(text=text):
                told.append(text)
            case LocationReceived() | MediaReceived():
                told.append(event.phone)
            case StatusUpdate(status=status):
                told.append(status)
            case _:
                told.append(None)
    return told


receiver = WebhookReceiver(secret="long-enough-a-secret")


@receiver.on_message(TextReceived)
async def answer(message: TextReceived) -> None:
    print(message.text)


def refused_constructors() -> None:
    """Each line is an error for both type checkers; the comment is one too if the error is gone."""
    TextMessage(None, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a phone is text
    TextMessage(5, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a phone is text
    TextMessage(TO, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # so is a text
    MediaMessage(TO, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # files are a list
    ReadMessage(TO, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # and so are ids
    TemplateBatch(5, 1, language=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # and phones
    TemplateMessage(TO, 1, language=1, parameters=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a mapping
    Location(29.0, 41.0, "Shop", "Quay")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # by keyword
