"""Who may talk to a listening sandbox: names in `Host`, foreign pages, and the speed of one connection."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from desk360_async.sandbox import RunningServer, Sandbox
from desk360_async.sandbox.access import HostCheck, host_name, is_loopback

KEY = {"Authorization": "Bearer sandbox-key"}
JSON = {"Content-Type": "application/json"}
FAULT = b'{"kind": "empty"}'


@pytest.fixture(scope="module")
def running() -> Iterator[RunningServer]:
    """A sandbox on a real socket; containers call it `sandbox`."""
    with Sandbox(limit=100_000).serve_in_thread(allow_hosts=("sandbox",)) as server:
        yield server


@pytest.mark.real
@pytest.mark.parametrize("path", ["/", "/v1/integrations", "/_sandbox/received", "/_sandbox/events"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8360", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]"]
)
def test_a_foreign_host_name_is_421_on_every_route(running: RunningServer, path: str, host: str) -> None:
    """A rebound name of a web page reads nothing."""
    answer = httpx.get(f"{running.url}{path}", headers={"Host": host} | KEY)
    assert (answer.status_code, "not" in answer.headers.get("content-type", "")) == (421, False)


@pytest.mark.real
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "sandbox:8360"])
def test_names_of_this_machine_and_allowed_names_pass(running: RunningServer, host: str) -> None:
    """Loopback in any spelling, and the name that `allow_hosts` gives."""
    assert httpx.get(f"{running.url}/_sandbox", headers={"Host": host}).status_code == 200


@pytest.mark.real
def test_the_address_that_a_connection_reached_passes() -> None:
    """A sandbox for other machines is asked by its address, which no foreign name can be."""
    with Sandbox().serve_in_thread("0.0.0.0", allow_remote=True) as server:
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel chooses an address of this machine
            address = probe.getsockname()[0]
        answer = httpx.get(f"http://{address}:{server.port}/_sandbox", headers=KEY)
    assert answer.status_code == 200


@pytest.mark.parametrize(("header", "name"), [("a.b:1", "a.b"), ("[::1]:80", "::1"), (" A. ", "a"), ("", "")])
def test_the_port_of_a_host_header_is_cut_off(header: str, name: str) -> None:
    """IPv6 brackets, a final dot and capitals go as well."""
    assert host_name(header) == name


@pytest.mark.parametrize(("host", "own"), [("localhost", True), ("[::1]", True), ("10.0.0.1", False)])
def test_only_loopback_names_are_this_machine(host: str, own: bool) -> None:
    """Another machine's address is not."""
    assert is_loopback(host) is own


@pytest.mark.anyio
async def test_in_process_no_host_is_checked() -> None:
    """An application called by ASGI takes any name; behind `HostCheck` it needs a right one."""
    app = Sandbox().app
    for wrapped, status in ((app, 200), (HostCheck(app), 421)):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(wrapped)) as client:
            answer = await client.get("http://anything.test/_sandbox")
        assert answer.status_code == status


@pytest.mark.real
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_sandbox/faults"),
        ("DELETE", "/_sandbox/faults"),
        ("POST", "/_sandbox/reset"),
        ("POST", "/_sandbox/reply"),
        ("PUT", "/_sandbox/limit"),
        ("PUT", "/_sandbox/webhooks"),
        ("PUT", "/_sandbox/seed"),
        ("POST", "/_sandbox/messages/gBEGkFBXUQRnAglW0luHY8xsrFk/status"),
        ("POST", "/_sandbox/webhooks/1/resend"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Origin": "https://evil.example", "Content-Type": "application/json"},
        {"Origin": "null", "Content-Type": "application/json"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"},
        {},
    ],
)
def test_a_foreign_page_changes_nothing(
    running: RunningServer, method: str, path: str, headers: dict[str, str]
) -> None:
    """A browser sends simple requests without asking; each of them is 403."""
    assert httpx.request(method, f"{running.url}{path}", headers=headers, content=FAULT).status_code == 403
    assert httpx.get(f"{running.url}/_sandbox/faults").json() == []


@pytest.mark.real
@pytest.mark.parametrize("path", ["/_sandbox/received", "/_sandbox/events", "/_sandbox/media/x"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}],
)
def test_a_foreign_page_reads_nothing(running: RunningServer, path: str, headers: dict[str, str]) -> None:
    """Neither by a script nor as an image."""
    assert httpx.get(f"{running.url}{path}", headers=headers).status_code == 403


@pytest.mark.real
def test_our_own_page_may_change_things(running: RunningServer) -> None:
    """Its Origin is the host that was asked; answers say that they belong to it."""
    headers = {"Origin": running.url, **JSON}
    answer = httpx.post(f"{running.url}/_sandbox/faults", headers=headers, content=FAULT)
    httpx.delete(f"{running.url}/_sandbox/faults", headers=headers)
    assert answer.status_code == 201
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.real
def test_an_answer_does_not_wait_for_a_delayed_ack(running: RunningServer) -> None:
    """Without TCP_NODELAY a request takes the 40 ms of Linux's delayed ACK; with it about 1 ms."""
    times = []
    with httpx.Client(base_url=running.url, headers=KEY) as client:
        for _ in range(40):
            start = time.perf_counter()
            client.get("/v1/integrations").raise_for_status()
            times.append(time.perf_counter() - start)
    assert min(times) < 0.03  # the delay would hit each of them; the median meets a busy machine's pauses
