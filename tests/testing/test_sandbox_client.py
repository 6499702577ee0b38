"""`sandbox_client` and `VirtualSandbox`: what a user's test sees, without network, port or waiting."""

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

from desk360_async import (
    AsyncDesk360,
    Attachment,
    ConfigurationError,
    ConnectionFailed,
    Desk360Error,
    Outcome,
    RateLimitWaitTooLong,
    RetryPolicy,
    TextMessage,
    TimedOut,
    Timeouts,
    UnexpectedResponse,
)
from desk360_async.sandbox import Fault, StoredMedia
from desk360_async.testing import VirtualSandbox, sandbox_client

pytestmark = pytest.mark.anyio

TO = "+905551112233"


@pytest.fixture
def sandbox() -> VirtualSandbox:
    """A sandbox of its own for each test."""
    return VirtualSandbox()


async def test_a_client_and_its_sandbox_come_together() -> None:
    """What the client sends, the sandbox has."""
    async with sandbox_client() as (client, sandbox):
        sent = await client.send_text(TO, "Hello!")
    assert [message.message_id for message in sandbox.sent(to=TO)] == [sent.message_id]


async def test_the_client_is_closed_at_the_end() -> None:
    """Like any other that was opened with `async with`."""
    async with sandbox_client() as (client, _):
        pass
    with pytest.raises(Desk360Error, match="closed"):
        await client.send_text(TO, "Hello!")


async def test_options_find_their_way() -> None:
    """The sandbox's own go there, all others to the client."""
    async with sandbox_client(limit=7, api_key="mine", integration_id=22, lane="bulk") as (client, sandbox):
        await client.send_text(TO, "Hello!")
    assert (sandbox.throttle.limit, sandbox.api_key) == (7, "mine")
    assert repr(client) == "<AsyncDesk360 sandbox.test integration_id=22 lane='bulk'>"


async def test_an_unknown_option_is_refused() -> None:
    """By name."""
    with pytest.raises(TypeError, match="limmit"):
        async with sandbox_client(limmit=7):
            pytest.fail("it was opened")


async def test_an_account_without_integrations_asks_for_one() -> None:
    """As the real client does."""
    from desk360_async.sandbox import Account

    async with sandbox_client(account=Account((), {})) as (client, _):
        with pytest.raises(ConfigurationError, match="integration_id"):
            await client.send_text(TO, "Hello!")


@pytest.mark.parametrize("count", [61, 200])
async def test_the_rate_limit_takes_no_time(sandbox: VirtualSandbox, count: int) -> None:
    """The clock jumps, the limit is kept, and the server refuses nothing."""
    client = sandbox.client()
    for _ in range(count):
        await client.send_text(TO, "Hello!")
    assert (sandbox.accepted, sandbox.refusals) == (count, 0)
    assert sandbox.clock() == pytest.approx(60 * ((count - 1) // 60), abs=1)


async def test_many_at_once_keep_the_limit(sandbox: VirtualSandbox) -> None:
    """As many tasks as there are messages, over two clients."""
    clients = [sandbox.client(), sandbox.client()]
    async with anyio.create_task_group() as tasks:
        for n in range(300):
            tasks.start_soon(clients[n % 2].send_text, TO, "Hello!")
    assert (sandbox.accepted, sandbox.refusals) == (300, 0)


async def test_a_fan_out_is_paced_by_the_virtual_clock(sandbox: VirtualSandbox) -> None:
    """Bulk's rules are the real bucket's: fifteen of forty go at once, and the rest are spread."""
    results = await sandbox.client().send_all([TextMessage(TO, str(n)) for n in range(40)])
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    assert sandbox.clock() == pytest.approx(35.4, abs=1)


async def test_interactive_goes_before_bulk(sandbox: VirtualSandbox) -> None:
    """A request in the foreground doesn't wait for the list behind it."""
    client = sandbox.client()
    async with client.send_each([TextMessage(TO, str(n)) for n in range(100)]) as results:
        await anext(aiter(results))
        await client.send_text(TO, "now")
        started = sandbox.clock()
        async for _ in results:
            pass
    assert started < 5 < sandbox.clock()


async def test_others_on_the_address_are_survived(sandbox: VirtualSandbox) -> None:
    """A refusal closes the gate; the clock jumps over its pause too."""
    sandbox.spend(60)
    await sandbox.client().send_text(TO, "Hello!")
    assert (sandbox.refusals, sandbox.accepted) == (1, 1)
    assert 60 <= sandbox.clock() <= 63


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
async def test_max_wait_counts_virtual_seconds(sandbox: VirtualSandbox, lane: Any) -> None:
    """And a wait that can't be short enough is refused at once, with nothing sent."""
    client = sandbox.client()
    for _ in range(60):
        await client.send_text(TO, "Hello!")
    with pytest.raises(RateLimitWaitTooLong) as caught:
        await client.with_options(max_wait=10.0, lane=lane).send_text(TO, "late")
    assert caught.value.eta == pytest.approx(60, abs=1)
    await client.with_options(max_wait=70.0, lane=lane).send_text(TO, "in time")


async def test_a_cancelled_wait_leaves_the_line(sandbox: VirtualSandbox) -> None:
    """Nobody waits behind someone who has gone."""
    client = sandbox.client()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await client.send_text(TO, "never")
    await client.send_text(TO, "Hello!")
    assert client.rate_limit.waiting == {"interactive": 0, "bulk": 0}


async def test_what_is_known_of_the_limit_is_shown(sandbox: VirtualSandbox) -> None:
    """`client.rate_limit` as ever, by the virtual clock."""
    client = sandbox.client()
    await client.send_text(TO, "Hello!")
    status = client.rate_limit
    assert (status.limit, status.free, status.in_flight, status.paused_until) == (60, 59, 0, None)


async def test_retries_take_no_time(sandbox: VirtualSandbox) -> None:
    """Whatever backoff the policy asks for."""
    sandbox.faults.add(Fault("status", status=503, times=2))
    client = sandbox.client(retry=RetryPolicy(backoff=3600.0, backoff_max=3600.0))
    assert len(await client.integrations.list()) == 2
    assert len(sandbox.requests) == 3


FAULTS: list[tuple[Fault, type[Desk360Error], Outcome, float, int]] = [
    (Fault("reset_before"), ConnectionFailed, Outcome.UNKNOWN, 0, 0),
    (Fault("reset_after"), ConnectionFailed, Outcome.UNKNOWN, 0, 1),
    (Fault("stall"), TimedOut, Outcome.UNKNOWN, 30, 1),
    (Fault("stall", delay=5), ConnectionFailed, Outcome.UNKNOWN, 5, 1),
    (Fault("latency", delay=100), TimedOut, Outcome.UNKNOWN, 30, 0),
    (Fault("slow", delay=100), TimedOut, Outcome.UNKNOWN, 30, 1),
    (Fault("truncate"), UnexpectedResponse, Outcome.UNKNOWN, 0, 1),
    (Fault("drip", delay=1), UnexpectedResponse, Outcome.UNKNOWN, 44, 1),
]


@pytest.mark.parametrize(
    ("fault", "kind", "outcome", "seconds", "accepted"), FAULTS, ids=[str(row[0].kind) for row in FAULTS]
)
async def test_faults_end_as_over_tcp(
    sandbox: VirtualSandbox,
    fault: Fault,
    kind: type[Desk360Error],
    outcome: Outcome,
    seconds: float,
    accepted: int,
) -> None:
    """The error, its outcome and the seconds that it took; only nobody waited for them."""
    sandbox.faults.add(fault)
    with pytest.raises(Desk360Error) as caught:
        await sandbox.client().send_text(TO, "Hello!")
    assert (type(caught.value), caught.value.outcome) == (kind, outcome)
    assert sandbox.clock() == pytest.approx(seconds, abs=0.5)
    assert sandbox.accepted == accepted


@pytest.mark.parametrize(
    "fault", [Fault("latency", delay=3), Fault("slow", delay=3), Fault("drip", delay=0.06)]
)
async def test_delays_within_the_timeout_are_only_delays(sandbox: VirtualSandbox, fault: Fault) -> None:
    """The clock moves on, and the answer is the right one."""
    sandbox.faults.add(fault)
    await sandbox.client().send_text(TO, "Hello!")
    assert 2 < sandbox.clock() < 4


async def test_the_timeout_is_the_clients_own(sandbox: VirtualSandbox) -> None:
    """A view's, too."""
    sandbox.faults.add(Fault("stall"))
    with pytest.raises(TimedOut, match="it may have gone out"):
        await sandbox.client().with_options(timeout=2.0).send_text(TO, "Hello!")
    assert sandbox.clock() == pytest.approx(2, abs=0.5)


async def test_delays_of_several_requests_pass_side_by_side(sandbox: VirtualSandbox) -> None:
    """Ten seconds each, ten in sum."""
    sandbox.faults.add(Fault("slow", delay=10))
    client = sandbox.client()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(client.send_text, TO, "Hello!")
    assert sandbox.clock() == pytest.approx(10)


@pytest.mark.parametrize(("gap", "comes"), [(1.0, True), (40.0, False)])
async def test_a_download_may_take_long_but_for_its_gaps(
    sandbox: VirtualSandbox, gap: float, comes: bool
) -> None:
    """`timeout.download` bounds the pause between two pieces, not the whole."""
    sandbox.media.put(StoredMedia("m", 11, "a.txt", "text/plain", b"x" * 100))
    sandbox.faults.add(Fault("drip", delay=gap))
    reading = sandbox.client(timeout=Timeouts(download=30.0)).read_media("m")
    if comes:
        assert (await reading).content == b"x" * 100
        assert sandbox.clock() == pytest.approx(100)
    else:
        with pytest.raises(ConnectionFailed):
            await reading


async def test_files_go_up(sandbox: VirtualSandbox, tmp_path: Path) -> None:
    """By path and from memory, read in worker threads as ever."""
    (tmp_path / "a.png").write_bytes(b"png" * 200_000)
    files = [tmp_path / "a.png", Attachment.from_bytes("b.txt", b"text")]
    await sandbox.client().send_media(TO, files)
    assert [file.size for message in sandbox.sent(to=TO) for file in message.files] == [600_000, 4]


async def test_a_message_that_was_sent_is_found(sandbox: VirtualSandbox) -> None:
    """By any part of it."""
    client = sandbox.client()
    await client.send_template(
        TO, "order_shipped", language="English", parameters={"body-1": "Ada", "body-2": "7"}
    )
    parameters = {"body-1": "Ada", "body-2": "7"}
    found = sandbox.assert_sent(
        to=TO, template="order_shipped", parameters=parameters, kind="template", times=1
    )
    assert found == sandbox.assert_sent(template=76) == sandbox.sent()


@pytest.mark.parametrize("written", ["+90 555 111 22 33", "+90-555-111-22-33", "905551112233"])
async def test_a_phone_is_found_however_it_is_written(sandbox: VirtualSandbox, written: str) -> None:
    """As the test wrote it to the client."""
    await sandbox.client().send_text("+90 555 111 22 33", "Hello!")
    assert sandbox.assert_sent(to=written, text="Hello!") == sandbox.sent(to=written) == sandbox.sent()
    assert sandbox.sent(to="+90 555 111 22 34") == sandbox.sent(to="") == []


async def test_a_failed_assertion_tells_what_was_sent(sandbox: VirtualSandbox) -> None:
    """With numbers masked, as test reports end in public logs."""
    client = sandbox.client()
    for n in range(11):
        await client.send_text(TO, f"number {n}")
    with pytest.raises(AssertionError) as caught:
        sandbox.assert_sent(to="+905551119999", template="hello")
    first, second, third, *rest = str(caught.value).splitlines()
    assert first == "expected 1 or more sent with to='…9999', template='hello', found 0; 11 were sent:"
    assert (second, third, len(rest)) == ("  … and 1 before", "  to='…2233', kind='text', text='number 1'", 9)


async def test_a_failed_assertion_tells_why_nothing_was_sent(sandbox: VirtualSandbox) -> None:
    """If the sandbox refused something, that is the likely reason."""
    with pytest.raises(Desk360Error):
        await sandbox.client().send_text("+905550000000", "Hello!")
    with pytest.raises(AssertionError) as caught:
        sandbox.assert_sent()
    assert str(caught.value) == (
        "expected 1 or more sent with anything, found 0; nothing was sent in 1 requests; the last refusal: "
        "The to field must be a valid WhatsApp number."
    )


async def test_too_many_are_wrong_as_well(sandbox: VirtualSandbox) -> None:
    """`times` is exact, and 0 means none."""
    sandbox.assert_sent(times=0)
    await sandbox.client().send_text(TO, "Hello!")
    with pytest.raises(AssertionError, match=r"^expected 0 sent with to='…2233', found 1; 1 were sent"):
        sandbox.assert_sent(to=TO, times=0)


async def test_a_wrong_key_is_noticed(sandbox: VirtualSandbox) -> None:
    """The kit gives the right one; whoever gives another gets the real answer."""
    with pytest.raises(Desk360Error, match="401"):
        await sandbox.client(api_key="other").send_text(TO, "Hello!")


async def test_nothing_is_logged_as_an_error(
    sandbox: VirtualSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A user's test that looks at the logs sees those of the real client."""
    caplog.set_level(logging.WARNING)
    await sandbox.client().send_text(TO, "Hello!")
    assert caplog.records == []


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_one_sandbox_serves_several_event_loops(sandbox: VirtualSandbox, library: Any) -> None:
    """Each with a client of its own; they share the limit."""

    async def send() -> AsyncDesk360:
        client = sandbox.client()
        for _ in range(40):
            await client.send_text(TO, "Hello!")
        return client

    anyio.run(send)
    client = anyio.run(send, backend=library)
    assert (sandbox.accepted, sandbox.refusals) == (80, 0)
    assert client.rate_limit.as_of == sandbox.clock() > 60


def test_time_advances_by_hours_minutes_and_seconds_on_both_clocks() -> None:
    """Statuses that are due come with it."""
    sandbox = VirtualSandbox()
    before = sandbox.now()
    sandbox.advance(hours=1, minutes=2, seconds=3)
    assert (sandbox.clock(), (sandbox.now() - before).total_seconds()) == (3723.0, 3723.0)


@pytest.mark.parametrize("unit", ["hours", "minutes", "seconds"])
def test_time_does_not_go_back(unit: str) -> None:
    """Even where the sum would be positive."""
    with pytest.raises(ValueError, match="0 or more is needed"):
        VirtualSandbox().advance(**{"hours": 5.0, unit: -1.0})
