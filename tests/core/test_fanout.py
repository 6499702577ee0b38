"""Many sends: order, memory, stopping, and what never gets lost."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any
from weakref import WeakSet

import anyio
import httpx
import pytest

from desk360_async import (
    ClientStateError,
    ConfigurationError,
    Desk360Error,
    InvalidMessage,
    Outcome,
    Results,
    SendResult,
    ServerError,
    TextMessage,
    TokenBucket,
)
from tests.core.fakes import TO, Seen, Tokens, Wire, connect, sent

pytestmark = pytest.mark.anyio


def texts(count: int) -> list[TextMessage]:
    """Make so many messages, numbered."""
    return [TextMessage(TO, str(n)) for n in range(count)]


class ServerErrorOfBuild(Desk360Error):
    """One of ours, raised by the caller's `build`, such as by a read in it."""


async def slow_first(seen: Seen) -> httpx.Response:
    """Answer the first message last."""
    number = int(json.loads(seen.body)["text"])
    await anyio.sleep(number or 9)
    return sent()


async def forever() -> None:
    """Wait as for a token that never comes."""
    await anyio.sleep(1e6)


async def test_send_all_returns_the_order_of_the_input() -> None:
    """However they ended."""
    async with connect(Wire(slow_first)) as client:
        results = await client.send_all(texts(5))
    assert [(r.index, r.item.text, r.outcome) for r in results] == [
        (n, str(n), Outcome.ACCEPTED) for n in range(5)
    ]


async def test_send_each_yields_what_ends_first_first() -> None:
    """As they complete, not as they were given."""
    async with connect(Wire(slow_first)) as client, client.send_each(texts(3), concurrency=3) as results:
        assert [r.index async for r in results] == [1, 2, 0]


async def test_one_failed_send_stops_no_other() -> None:
    """It is a result like the others, and unwrapping it raises."""
    wire = Wire(httpx.Response(500), lambda _: sent())
    async with connect(wire) as client:
        first, *others = await client.send_all(texts(4), concurrency=1)
    assert (first.outcome, [o.outcome for o in others]) == (Outcome.UNKNOWN, [Outcome.ACCEPTED] * 3)
    with pytest.raises(ServerError):
        first.unwrap()
    assert others[0].unwrap() is others[0].reply


async def test_a_limiter_that_breaks_stops_no_other() -> None:
    """What isn't ours is told by the result, with its cause."""

    async def broken() -> None:
        raise OSError("redis is away")

    async with connect(Wire(), limiter=Tokens(wait=broken)) as client:
        results = await client.send_all(texts(3))
    assert [(r.outcome, type(r.error.__cause__)) for r in results if r.error] == [
        (Outcome.NOT_SENT, OSError)
    ] * 3


async def test_build_makes_messages_and_its_refusals_are_results(wire: Wire) -> None:
    """An InvalidMessage from build is that row's result, and costs no request."""
    heard: list[SendResult] = []
    async with connect(wire, on_result=heard.append) as client:
        results = await client.send_all([TO, "nonsense"], build=lambda phone: TextMessage(phone, "hi"))
    assert [(r.item, r.outcome, r.message is None) for r in results] == [
        (TO, Outcome.ACCEPTED, False),
        ("nonsense", Outcome.NOT_SENT, True),
    ]
    assert isinstance(results[1].error, InvalidMessage)
    assert sorted(r.index for r in heard) == [0, 1]
    assert len(wire.seen) == 1


async def test_what_is_no_message_is_a_result_too(wire: Wire) -> None:
    """One bad item among good ones."""
    async with connect(wire) as client:
        results = await client.send_all([42, *texts(1)])
    assert [r.outcome for r in results] == [Outcome.NOT_SENT, Outcome.ACCEPTED]


async def test_a_row_without_build_is_answered_with_it(wire: Wire) -> None:
    """A mistake of those who come from `csv.DictReader`."""
    async with connect(wire) as client:
        [result] = await client.send_all([{"phone": "+905551112233"}])
    assert "not dict; send_each and send_all make messages of rows with build=" in str(result.error)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("+905551112233"), KeyError("name"), ServerErrorOfBuild("gone")]
)
async def test_an_error_of_build_ends_its_own_row(wire: Wire, error: Exception) -> None:
    """One row without a column must not stop the list."""

    def build(n: int) -> TextMessage:
        if n == 1:
            raise error
        return TextMessage(TO, str(n))

    async with connect(wire) as client:
        first, refused, last = await client.send_all([0, 1, 2], build=build)
    assert [first.outcome, refused.outcome, last.outcome] == ["accepted", "not_sent", "accepted"]
    assert error in (refused.error, refused.error.__cause__ if refused.error else None)
    assert TO not in str(refused.error)


async def test_an_error_of_key_ends_its_own_row(wire: Wire) -> None:
    """As one of build does."""
    async with connect(wire) as client:
        (refused,) = await client.send_all(texts(1), key=lambda message: str(message.text[9]))
    assert (refused.outcome, wire.seen) == (Outcome.NOT_SENT, [])
    assert refused.error
    assert isinstance(refused.error.__cause__, IndexError)


@pytest.mark.parametrize("error", [LookupError("row 3"), SystemExit(3), KeyboardInterrupt()])
async def test_send_all_keeps_the_results_before_an_error_of_its_source(
    wire: Wire, error: BaseException
) -> None:
    """Who was sent to is in the error's `results`."""

    def rows() -> Iterator[TextMessage]:
        yield from texts(2)
        raise error

    async with aclosing(connect(wire)) as client:  # not entered: the first sends wait for its pool
        with pytest.raises(type(error)) as caught:
            await client.send_all(rows())
    assert caught.value is error
    assert [r.index for r in error.results] == [0, 1]  # type: ignore[attr-defined]  # set by send_all
    assert len(wire.seen) == (2 if isinstance(error, Exception) else 0)  # an exit stops waits as well
    assert "2 items" in error.__notes__[0]


@pytest.mark.parametrize("error", [LookupError("row 3"), SystemExit(3), KeyboardInterrupt()])
async def test_send_all_keeps_the_results_of_sends_that_are_on_the_wire(
    wire: Wire, error: BaseException
) -> None:
    """An entered client sends at once; what was under way ends, and is in the error's `results` too."""

    def rows() -> Iterator[TextMessage]:
        yield from texts(2)
        raise error

    async with connect(wire) as client:
        with pytest.raises(type(error)) as caught:
            await client.send_all(rows())
    ends = {r.index: r.outcome for r in error.results}  # type: ignore[attr-defined]  # set by send_all
    assert caught.value is error
    assert ends.keys() == {0, 1}
    assert list(ends.values()).count(Outcome.ACCEPTED) == len(wire.seen)


class Slotted(Exception):  # a name of the test's own
    """An exception that takes no further attribute."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


async def test_an_error_that_takes_no_attribute_comes_out_all_the_same(wire: Wire) -> None:
    """It isn't replaced by an AttributeError."""

    def rows() -> Iterator[TextMessage]:
        yield from texts(1)
        raise Slotted

    async with connect(wire) as client:
        with pytest.raises(Slotted):
            await client.send_all(rows())


async def test_an_error_of_the_iterator_is_raised_after_the_results_before_it(wire: Wire) -> None:
    """Nothing that was sent is kept back."""

    def rows() -> Iterator[TextMessage]:
        yield from texts(2)
        raise LookupError("row 3")

    async with connect(wire) as client, client.send_each(rows()) as results:
        ended = [await anext(results), await anext(results)]
        with pytest.raises(LookupError, match="row 3"):
            await anext(results)
    assert sorted(r.index for r in ended) == [0, 1]


async def test_an_async_iterator_is_pulled_by_one_worker_at_a_time(wire: Wire) -> None:
    """An async generator refuses to be asked twice at once."""

    async def rows() -> AsyncIterator[TextMessage]:
        for message in texts(20):
            await anyio.sleep(0.1)
            yield message

    async with connect(wire) as client:
        results = await client.send_all(rows(), concurrency=4)
    assert [r.index for r in results] == list(range(20))


async def test_a_slow_reader_stops_the_sending(wire: Wire) -> None:
    """Not more than twice the concurrency runs ahead of who reads, and everyone wakes up again."""
    async with connect(wire) as client, client.send_each(texts(100), concurrency=4) as results:
        await anyio.sleep(100)
        assert len(wire.seen) <= 8
        assert len([r async for r in results]) == 100


async def test_leaving_stops_starting_and_lets_the_wire_finish() -> None:
    """What nobody read is in `rest`, with its outcome."""

    async def slow(_: Seen) -> httpx.Response:
        await anyio.sleep(2)
        return sent()

    wire = Wire(slow)
    async with connect(wire) as client:
        async with client.send_each(texts(100), concurrency=3) as results:
            await anext(results)
        assert [r.outcome for r in results.rest] == [Outcome.ACCEPTED] * (len(wire.seen) - 1)
    assert len(wire.seen) <= 6


async def test_waiting_for_a_token_is_not_under_way(wire: Wire) -> None:
    """Leaving ends it at once, as not sent."""
    async with connect(wire, limiter=Tokens(wait=forever)) as client:
        began = anyio.current_time()
        async with client.send_each(texts(5), concurrency=2) as results:
            await anyio.sleep(1)
    assert (anyio.current_time() - began, wire.seen) == (1.0, [])
    assert [(r.outcome, type(r.error)) for r in results.rest] == [(Outcome.NOT_SENT, ClientStateError)] * 2


async def test_leaving_does_not_wait_for_an_idle_source(wire: Wire) -> None:
    """A queue that never yields again can't hold the block."""

    async def queue() -> AsyncIterator[TextMessage]:
        yield texts(1)[0]
        await anyio.sleep(1e6)

    async with connect(wire) as client:
        began = anyio.current_time()
        async with client.send_each(queue()) as results:
            await anext(results)
    assert anyio.current_time() == began


async def test_a_full_house_can_be_left(wire: Wire) -> None:
    """Workers that wait for a reader wake up when there won't be one."""
    async with connect(wire) as client, client.send_each(texts(50), concurrency=5) as results:
        await anyio.sleep(10)
    assert len(results.rest) == len(wire.seen)


async def fail_inside(results: Results, error: BaseException) -> None:
    """Enter, let sends begin, fail."""
    async with results:
        await anyio.sleep(1)
        raise error


@pytest.mark.parametrize("error", [KeyError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_the_callers_error_comes_out_as_it_is_and_cancels_nothing(error: BaseException) -> None:
    """No exception group, and the sends on the wire finish."""

    async def slow(_: Seen) -> httpx.Response:
        await anyio.sleep(2)
        return sent()

    wire = Wire(slow)
    async with connect(wire) as client:
        results = client.send_each(texts(9), concurrency=3)
        with pytest.raises(type(error)) as caught:
            await fail_inside(results, error)
    assert caught.value is error
    assert [r.outcome for r in results.rest] == [Outcome.ACCEPTED] * 3


async def test_cancelling_the_block_cancels_the_sends() -> None:
    """What was on the wire is unknown; nothing is left out."""

    async def hanging(_: Seen) -> httpx.Response:
        await anyio.sleep(1e6)
        raise AssertionError

    async with connect(Wire(hanging), timeout=1e7) as client:
        with anyio.move_on_after(3):
            async with client.send_each(texts(9), concurrency=2) as results:
                await anext(results)
    assert [r.outcome for r in results.rest] == [Outcome.UNKNOWN] * 2


async def test_closing_the_client_ends_the_waits_and_loses_no_row(wire: Wire) -> None:
    """Each remaining row is told as not sent, at once."""
    client = connect(wire, limiter=Tokens(wait=forever))
    ended: list[SendResult] = []

    async def read() -> None:
        async with client.send_each(texts(6), concurrency=2) as results:
            ended.extend([r async for r in results])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(1)
        await client.aclose()
    assert anyio.current_time() < 10
    assert sorted((r.index, r.outcome) for r in ended) == [(n, Outcome.NOT_SENT) for n in range(6)]


async def test_memory_stays_flat() -> None:
    """Neither items nor results pile up behind the reader."""
    alive: WeakSet[TextMessage] = WeakSet()
    most = 0

    def rows() -> Iterator[TextMessage]:
        for n in range(600):
            message = TextMessage(TO, str(n))
            alive.add(message)
            yield message

    wire = Wire()
    async with connect(wire) as client, client.send_each(rows(), concurrency=4) as results:
        async for result in results:
            most = max(most, len(alive))
            assert result.outcome is Outcome.ACCEPTED
    assert len(wire.seen) == 600
    assert most < 20


async def iterated(count: int) -> AsyncIterator[TextMessage]:
    """Yield so many messages, without a length."""
    for message in texts(count):
        yield message


@pytest.mark.parametrize(
    ("messages", "options", "lane"),
    [
        (lambda: texts(30), {}, "interactive"),
        (lambda: texts(31), {}, "bulk"),
        (lambda: iter(texts(1)), {}, "bulk"),
        (lambda: iterated(1), {}, "bulk"),
        (lambda: texts(1), {"lane": "bulk"}, "bulk"),
        (lambda: texts(31), {"lane": "interactive"}, "interactive"),
    ],
)
async def test_short_lists_are_interactive_and_the_rest_is_bulk(
    wire: Wire, messages: Any, options: Any, lane: str
) -> None:
    """Half the limit of 60 goes at once; a longer list, or one of unknown length, stands back."""
    tokens = Tokens()
    async with connect(wire, limiter=tokens) as client, client.send_each(messages(), **options) as results:
        assert [r.outcome async for r in results]
    assert {*tokens.lanes} == {lane}


async def test_a_bulk_client_keeps_its_lane(wire: Wire) -> None:
    """Its owner chose it for everything."""
    tokens = Tokens()
    async with connect(wire, limiter=tokens, lane="bulk") as client:
        await client.send_all(texts(1))
    assert tokens.lanes == ["bulk"]


@pytest.mark.parametrize("count", [12, 30])
async def test_a_short_list_on_an_idle_account_is_sent_concurrently(count: int) -> None:
    """8 requests are on the wire at once, and 30 answers of 0.3 s take at most 2 s."""
    on_the_wire: list[int] = [0]

    async def slow(_: Seen) -> httpx.Response:
        on_the_wire.append(on_the_wire[-1] + 1)
        await anyio.sleep(0.3)
        on_the_wire.append(on_the_wire[-1] - 1)
        return sent()

    async with connect(Wire(slow), limiter=TokenBucket()) as client:
        began = anyio.current_time()
        results = await client.send_all(texts(count))
    assert [r.outcome for r in results] == [Outcome.ACCEPTED] * count
    assert max(on_the_wire) == 8
    assert anyio.current_time() - began <= 2.0


@pytest.mark.parametrize("exit_", [SystemExit(3), KeyboardInterrupt()])
async def test_an_exit_in_a_worker_is_raised_where_results_are_read(wire: Wire, exit_: BaseException) -> None:
    """Out of a worker's task it would end the loop, or come in a group."""

    def leave(_: SendResult) -> None:
        raise exit_

    async with connect(wire, on_result=leave) as client, client.send_each(texts(3), concurrency=1) as results:
        assert (await anext(results)).outcome is Outcome.ACCEPTED
        with pytest.raises(type(exit_)):
            await anext(results)


async def test_an_error_of_closing_the_source_is_raised_on_leaving(wire: Wire) -> None:
    """Its `finally` is the caller's own code."""

    async def rows() -> AsyncIterator[TextMessage]:
        try:
            for message in texts(9):
                yield message
        finally:
            raise SystemExit(3)

    async with connect(wire) as client:
        with pytest.raises(SystemExit):
            async with client.send_each(rows(), concurrency=1) as results:
                await anext(results)


@pytest.mark.parametrize("concurrency", [0, 1001, True, "8", None])
async def test_concurrency_has_bounds(wire: Wire, concurrency: Any) -> None:
    """1 to 1,000."""
    with pytest.raises(ConfigurationError, match="concurrency must be 1 to 1,000"):
        connect(wire).send_each([], concurrency=concurrency)


@pytest.mark.parametrize("messages", ["text", b"bytes", {"a": 1}, 5, TextMessage(TO, "alone")])
async def test_one_message_is_no_list(wire: Wire, messages: Any) -> None:
    """A lone one gets the right call in the message."""
    with pytest.raises(InvalidMessage, match="wrap one in a list"):
        connect(wire).send_each(messages)


async def test_results_are_entered_once_and_only_read_inside(wire: Wire) -> None:
    """A wrong use fails with the right use in its message."""
    async with connect(wire) as client:
        results = client.send_each(texts(1))
        with pytest.raises(RuntimeError, match=r"async with client\.send_each"):
            await anext(results)
        async with results:
            assert [r.index async for r in results] == [0]
        with pytest.raises(RuntimeError, match="call send_each again"):
            await results.__aenter__()
