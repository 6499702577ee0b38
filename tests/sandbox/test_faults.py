"""What goes wrong on purpose, in process: when it strikes, what becomes of the answer, what was taken."""

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
import trio.testing

from desk360_async.sandbox import Fault, Faults, Sandbox
from desk360_async.sandbox.faults import PRESETS

pytestmark = pytest.mark.anyio

TO = "+905551112233"
MESSAGES = "/integrations/11/conversations/messages"
BULK = "/integrations/11/conversations/templates/send/bulk"
TEXT = {"to": TO, "text": "x"}
Connect = Callable[..., httpx.AsyncClient]


async def send(client: httpx.AsyncClient, to: str = TO) -> httpx.Response:
    """Send a text."""
    return await client.post(MESSAGES, json={"to": to, "text": "x"})


async def test_a_status_takes_the_place_of_the_answer_and_nothing_is_taken(
    client: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """In the documented shape, and counted."""
    sandbox.faults.add(Fault("status", status=503))
    answer = await send(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "internal_server_error")
    assert (sandbox.accepted, sandbox.counted, "X-RateLimit-Limit" in answer.headers) == (0, 1, True)


async def test_an_accepted_status_hides_a_send_that_was_taken(
    client: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """A 504 proves nothing."""
    sandbox.faults.add(Fault("status", status=504, accepted=True))
    assert (await send(client)).status_code == 504
    assert sandbox.accepted == 1


@pytest.mark.parametrize(
    ("settings", "status", "text", "taken"),
    [
        ({"status": 400}, 400, '{"error":{"code":"failed_validation"', 0),
        ({"status": 200, "body": {"error": "no credit"}}, 200, '{"error":"no credit"}', 0),
        ({"status": 502, "body": b"Bad Gateway"}, 502, "Bad Gateway", 0),
        ({"status": 202}, 202, '{"message_id":"gBEG', 1),
        ({"status": 302, "headers": {"Location": "/login"}, "body": b""}, 302, "", 0),
    ],
)
async def test_a_status_may_bring_its_own_body(
    client: httpx.AsyncClient, sandbox: Sandbox, settings: dict[str, Any], status: int, text: str, taken: int
) -> None:
    """Bytes as they are, JSON encoded, None for the documented shape; a bare 2xx keeps the right answer."""
    sandbox.faults.add(Fault("status", **settings))
    answer = await send(client)
    assert (answer.status_code, answer.text[: len(text)], sandbox.accepted) == (status, text, taken)


@pytest.mark.parametrize(
    ("kind", "starts", "content_type"),
    [
        ("bad_json", '{"message_id":"gB', "application/json"),
        ("html", "<!DOCTYPE html>", "text/html"),
        ("wrong_type", '["message_id"]', "application/json"),
        ("empty", "", "application/json"),
        ("noise", "<br />\n<b>Warning</b>", "application/json"),
    ],
)
async def test_a_spoiled_answer_is_200_and_the_send_was_taken(
    client: httpx.AsyncClient, sandbox: Sandbox, kind: Any, starts: str, content_type: str
) -> None:
    """Whatever the body looks like."""
    sandbox.faults.add(Fault(kind))
    answer = await send(client)
    assert (answer.status_code, answer.headers["Content-Type"], sandbox.accepted) == (200, content_type, 1)
    assert answer.text.startswith(starts)
    with (
        pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter")
        if kind != "wrong_type"
        else anyio.CancelScope()
    ):
        answer.json()


async def test_lists_become_objects(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """The wrong type of a page."""
    sandbox.faults.add(Fault("wrong_type"))
    assert (await client.get("/integrations")).json() == {"rows": 2}


@pytest.mark.parametrize(("accepted", "taken"), [(True, 4), (False, 2)])
async def test_a_partial_bulk_answer_lists_a_share(
    client: httpx.AsyncClient, sandbox: Sandbox, accepted: bool, taken: int
) -> None:
    """Whether the rest was taken is the question that a client can't answer."""
    sandbox.faults.add(Fault("partial", share=0.5, accepted=accepted))
    rows = [{"phone": f"+9055511122{n:02}"} for n in range(4)]
    answer = await client.post(BULK, json={"template_id": 78, "language_id": 1, "destinations": rows})
    assert (answer.json()["phones"], sandbox.accepted) == (["+905551112200", "+905551112201"], taken)


async def test_partial_leaves_other_answers_alone(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Only a bulk answer lists phones."""
    sandbox.faults.add(Fault("partial", accepted=True))
    assert "message_id" in (await send(client)).json()


async def test_headers_are_replaced_and_removed(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Garbage in the rate headers, a Retry-After on a 200, beside a fault of the answer."""
    headers = {"X-RateLimit-Remaining": "-3", "Retry-After": "26", "X-RateLimit-Limit": None}
    sandbox.faults.add(Fault("headers", headers=headers))
    sandbox.faults.add(Fault("empty"))
    answer = await send(client)
    assert (answer.headers["X-RateLimit-Remaining"], answer.headers["Retry-After"]) == ("-3", "26")
    assert ("X-RateLimit-Limit" in answer.headers, answer.content) == (False, b"")


async def test_a_bad_link_is_what_it_says(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """For example one that never grows."""
    sandbox.faults.add(Fault("bad_link", link="<https://elsewhere.test/?page=1>; rel=next"))
    assert (await client.get("/integrations")).headers["Link"] == "<https://elsewhere.test/?page=1>; rel=next"


@pytest.mark.parametrize(
    ("kind", "counted", "taken", "verdict"),
    [
        ("reset_before", 0, 0, "dropped"),
        ("reset_after", 1, 1, "counted"),
        ("truncate", 1, 1, "counted"),
    ],
)
async def test_a_lost_connection_raises_in_process(
    client: httpx.AsyncClient, sandbox: Sandbox, kind: Any, counted: int, taken: int, verdict: str
) -> None:
    """Before the body is read nothing is counted; after it the send was taken."""
    sandbox.faults.add(Fault(kind))
    with pytest.raises(ConnectionResetError, match="as a fault says"):
        await send(client)
    assert (sandbox.counted, sandbox.accepted) == (counted, taken)
    assert (sandbox.requests[0].verdict, sandbox.requests[0].fault) == (verdict, kind)


def virtual(sandbox: Sandbox, connect: Connect, *sends: str) -> list[float]:
    """Send to each phone in turn, in virtual time; tell when each was over."""
    times: list[float] = []

    async def main() -> None:
        async with connect(sandbox) as client:
            for to in sends:
                try:
                    await send(client, to)
                except ConnectionResetError:
                    times.append(-anyio.current_time())
                else:
                    times.append(anyio.current_time())

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return times


@pytest.mark.parametrize(
    ("fault", "over", "received_at"),
    [
        (Fault("latency", delay=5.0), 5.0, 5.0),
        (Fault("slow", delay=5.0), 5.0, 0.0),
        (Fault("latency"), 1.0, 1.0),
        (Fault("slow"), 1.0, 0.0),
        (Fault("stall", delay=30.0), -30.0, 0.0),
    ],
)
def test_waits_take_virtual_time(connect: Connect, fault: Fault, over: float, received_at: float) -> None:
    """Before the request is counted or after it was processed; a stall ends in a reset."""
    sandbox = Sandbox(clock=anyio.current_time)
    sandbox.faults.add(fault)
    assert virtual(sandbox, connect, TO) == [over]
    assert sandbox.received[0].at == received_at


def test_a_drip_takes_its_time_for_each_byte(connect: Connect) -> None:
    """The answer is whole in the end."""
    sandbox = Sandbox(clock=anyio.current_time)
    sandbox.faults.add(Fault("drip", delay=0.5))
    size = len(b'{"message_id":"gBEGkFVRESIzAglZo4bk4hB83Fo"}')
    assert virtual(sandbox, connect, TO) == [size * 0.5]


def test_jitter_is_drawn_by_the_seed(connect: Connect) -> None:
    """Each strike waits differently, each run alike."""
    runs = []
    for _ in range(2):
        sandbox = Sandbox(clock=anyio.current_time, seed=7)
        sandbox.faults.add(Fault("latency", delay=1.0, jitter=2.0))
        runs.append(virtual(sandbox, connect, TO, TO))
    assert runs[0] == runs[1]
    assert 1 <= runs[0][0] <= 3
    assert runs[0][1] != runs[0][0] * 2


async def test_a_stall_without_end_lasts_until_the_caller_gives_up(
    client: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """The send was taken, and the log says that nothing was answered."""
    sandbox.faults.add(Fault("stall"))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, client)
            while not sandbox.requests:
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    assert (sandbox.accepted, sandbox.requests[0].status) == (1, None)


def struck(faults: Faults, *requests: tuple[str, str]) -> list[bool]:
    """Tell which requests are hit in the stage of the answer."""
    return [faults.strike("answer", *request) is not None for request in requests]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [True, True, True]),
        ({"times": 1}, [True, False, False]),
        ({"times": 0}, [False, False, False]),
        ({"after": 1}, [False, True, True]),
        ({"after": 1, "times": 1}, [False, True, False]),
        ({"method": "GET"}, [True, False, True]),
        ({"path": "/integrations"}, [True, False, False]),
        ({"path": "*/messages"}, [False, True, False]),
        ({"probability": 0.0}, [False, False, False]),
        ({"phone": TO}, [False, False, False]),
    ],
)
def test_a_rule_says_whom_it_hits(settings: dict[str, Any], expected: list[bool]) -> None:
    """Method, path, how many to spare, how often."""
    faults = Faults()
    faults.add(Fault("empty", **settings))
    assert struck(faults, ("GET", "/integrations"), ("POST", MESSAGES), ("GET", "/x")) == expected
    assert faults.struck == sum(expected)


async def test_a_rule_may_name_a_phone(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """In `to` or among the destinations."""
    sandbox.faults.add(Fault("status", phone=TO, status=500))
    other = {"template_id": 78, "language_id": 1, "destinations": [{"phone": "+1555123456"}]}
    answers = [await send(client), await send(client, "+1555123456"), await client.post(BULK, json=other)]
    answers.append(await client.post(BULK, json=other | {"destinations": [{"phone": TO}]}))
    assert [answer.status_code for answer in answers] == [500, 200, 200, 500]


def test_the_first_rule_that_fits_strikes() -> None:
    """One fault a stage; one that is removed no longer does."""
    faults = Faults()
    first, second = faults.add(Fault("empty")), faults.add(Fault("html"))
    assert faults.strike("answer", "GET", "/") is first
    faults.remove(first)
    assert faults.strike("answer", "GET", "/") is second
    faults.clear()
    assert list(faults) == []


def test_probability_is_met_and_repeats_with_the_seed() -> None:
    """30 % of 1,000, the same ones each time."""
    runs = []
    for _ in range(2):
        faults = Faults(seed=3)
        faults.add(Fault("empty", probability=0.3))
        runs.append(struck(faults, *[("GET", "/")] * 1000))
    assert runs[0] == runs[1]
    assert 250 < sum(runs[0]) < 350


def test_half_of_the_scattered_statuses_hide_an_accepted_send() -> None:
    """Else a client that takes each 500 for "not sent" would never be caught."""
    faults = Faults()
    faults.scatter(0.4, ("status", "empty"))
    assert [(fault.kind, fault.accepted, fault.probability) for fault in faults] == [
        ("status", True, 0.1),
        ("status", False, 0.1),
        ("empty", True, 0.2),
    ]


def test_scattered_faults_hit_about_their_rate() -> None:
    """Each kind its share; latency and resets before the body are drawn on arrival."""
    faults = Faults(seed=5)
    faults.scatter(0.2, ("empty", "html", "reset_before", "latency"))
    kinds = [faults.strike(stage, "GET", "/") for _ in range(1000) for stage in ("arrival", "answer")]
    hit = [fault.kind for fault in kinds if fault]
    assert 140 < len(hit) < 260
    assert set(hit) == {"empty", "html", "reset_before", "latency"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "gremlin"}, "kind: 'gremlin' is none of latency, "),
        ({"kind": "empty", "probability": 1.5}, "probability: 1.5 is not between 0 and 1"),
        ({"kind": "partial", "share": -1}, "share: -1 is not between 0 and 1"),
        ({"kind": "latency", "delay": -1.0}, "delay: -1.0 is negative"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    """With the field's name."""
    with pytest.raises(ValueError, match=message):
        Fault(**settings)


async def test_refused_requests_use_up_no_fault(connect: Connect) -> None:
    """A 429 comes before the fault of an answer."""
    sandbox = Sandbox(limit=1)
    sandbox.faults.add(Fault("status", status=500, times=1, after=1))
    async with connect(sandbox) as client:
        await send(client)
        assert (await send(client)).status_code == 429
    assert [fault.times for fault in sandbox.faults] == [1]


async def test_a_customers_json_file_is_not_rewritten(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Wrong types are for the API's own JSON."""
    files = {"attachments[]": ("a.pdf", b"%PDF", "application/pdf")}
    medias = (await client.post(f"{MESSAGES}/medias", data={"to": TO}, files=files)).json()["medias"]
    sandbox.faults.add(Fault("wrong_type"))
    path = f"{MESSAGES}/medias/{medias['documents'][0]['media_id']}"
    assert (await client.get(path)).content == b"%PDF"


CODES = (
    "authentication_exception", "method_not_allowed_exception", "not_found_exception",
    "model_not_found_exception", "internal_server_error", "insecure_request_exception",
    "too_many_requests_exception", "invalid_credentials", "too_many_attempts", "not_authorized", "not_found",
    "failed_validation",
)  # fmt: skip


@pytest.mark.parametrize("code", CODES)
async def test_an_error_in_a_200_carries_its_documented_code(
    client: httpx.AsyncClient, sandbox: Sandbox, code: str
) -> None:
    """The status is 200, and nothing was taken (ruling 25)."""
    sandbox.faults.add(Fault("error", code=code))
    answer = await send(client)
    assert (answer.status_code, answer.json()["error"]["code"], sandbox.accepted) == (200, code, 0)


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("maintenance", "<!DOCTYPE html>"),
        ("blank", ""),
        ("fail", '{"status":"fail","message":"Insufficient balance"}'),
    ],
)
async def test_a_200_that_is_not_the_reply_may_hide_either(
    client: httpx.AsyncClient, sandbox: Sandbox, kind: Any, text: str, accepted: bool
) -> None:
    """A page, nothing at all or a refusal with 200 prove neither (ruling 26)."""
    sandbox.faults.add(Fault(kind, accepted=accepted))
    answer = await send(client)
    assert (answer.status_code, answer.text[: len(text) or 1], sandbox.accepted) == (200, text, accepted)


@pytest.mark.parametrize(
    ("kind", "phones"),
    [
        (
            "failed_rows",
            [{"phone": "+905551112200", "status": "failed"}, {"phone": "+905551112201", "status": "sent"}],
        ),
        ("keyed_phones", {"+905551112200": {"status": "sent"}, "+905551112201": {"status": "sent"}}),
    ],
)
async def test_a_bulk_answer_may_have_another_shape(
    client: httpx.AsyncClient, sandbox: Sandbox, kind: Any, phones: Any
) -> None:
    """Rows with a status, or numbers as keys; other answers stay as they are (ruling 26)."""
    sandbox.faults.add(Fault(kind))
    rows = [{"phone": f"+9055511122{n:02}"} for n in range(2)]
    answer = await client.post(BULK, json={"template_id": 78, "language_id": 1, "destinations": rows})
    assert answer.json()["phones"] == phones
    assert "message_id" in (await send(client)).json()


async def test_a_media_answer_may_list_fewer_files(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Both files were taken, and one is listed (ruling 26)."""
    sandbox.faults.add(Fault("fewer_files"))
    files = [("attachments[]", (f"{n}.png", b"png", "image/png")) for n in range(2)]
    answer = await client.post(f"{MESSAGES}/medias", data={"to": TO}, files=files)
    assert (len(answer.json()["medias"]["images"]), sandbox.accepted) == (1, 2)
    assert "message_id" in (await send(client)).json()


@pytest.mark.parametrize("kind", ["failed_rows", "keyed_phones", "fewer_files", "partial"])
async def test_a_fault_of_a_bulk_or_media_answer_leaves_a_listing_as_it_is(
    client: httpx.AsyncClient, sandbox: Sandbox, kind: Any
) -> None:
    """A listing is a list, and has no field to change."""
    before = (await client.get("/integrations")).content
    sandbox.faults.add(Fault(kind, accepted=True))
    assert (await client.get("/integrations")).content == before


async def test_a_request_may_be_refused_before_its_body_is_read(
    client: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """As a proxy refuses an upload: 413, not counted, the connection ends."""
    sandbox.faults.add(Fault("refused_early"))
    answer = await send(client)
    assert (answer.status_code, answer.headers["Connection"], sandbox.counted) == (413, "close", 0)
    assert (sandbox.requests[-1].status, sandbox.requests[-1].size) == (413, 0)


async def test_surplus_bytes_are_left_out_in_process(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """There is no connection that could carry them."""
    sandbox.faults.add(Fault("surplus"))
    assert "message_id" in (await send(client)).json()


def test_each_preset_replaces_all_other_faults() -> None:
    """By its name; an unknown one is named."""
    faults = Faults()
    for name in PRESETS:
        assert [fault.kind for fault in faults.preset(name)] == [fault.kind for fault in faults]
    with pytest.raises(ValueError, match="preset: 'x' is none of slow, "):
        faults.preset("x")


def test_a_preset_can_be_used_again_after_its_faults_were_changed() -> None:
    """Each use gets copies."""
    faults = Faults()
    faults.preset("down")[0].status = 500
    assert faults.preset("down")[0].status == 503


def test_a_new_seed_begins_the_dice_anew() -> None:
    """Equal seeds strike equal requests."""
    faults = Faults()
    faults.add(Fault("empty", probability=0.5))
    runs = []
    for seed in (7, 8, 7):
        faults.reseed(seed)
        runs.append([faults.strike("answer", "GET", "/") is None for _ in range(40)])
    assert (runs[0] == runs[2], runs[0] == runs[1], faults.seed) == (True, False, 7)
