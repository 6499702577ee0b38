"""The pytest plugin, run by pytest: the fixture, the guard before the vendor's host, and what it costs."""

import subprocess
import sys
from textwrap import dedent, indent

import pytest

FASTAPI = """
import pytest
from contextlib import asynccontextmanager
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from desk360_async import AsyncDesk360, Desk360Error, Outcome
from desk360_async.sandbox import Fault

def desk360() -> AsyncDesk360:
    return AsyncDesk360()

app = FastAPI()

@app.post("/orders/{order}/shipped")
async def shipped(order: str, phone: str, client: AsyncDesk360 = Depends(desk360)):
    try:
        await client.send_template(
            phone, "order_shipped", language="English", parameters={"body-1": "Ada", "body-2": order}
        )
    except Desk360Error as error:
        return {"outcome": error.outcome}
    return {"outcome": Outcome.ACCEPTED}

@pytest.fixture
def http(desk360_sandbox):
    client = desk360_sandbox.client()
    app.dependency_overrides[desk360] = lambda: client
    with TestClient(app) as http:
        yield http

def test_a_customer_is_told(http, desk360_sandbox):
    assert http.post("/orders/7/shipped?phone=%2B905551112233").json() == {"outcome": "accepted"}
    desk360_sandbox.assert_sent(to="+905551112233", template="order_shipped")

def test_a_lost_answer_is_unknown(http, desk360_sandbox):
    desk360_sandbox.faults.add(Fault("stall", path="*/send"))
    assert http.post("/orders/7/shipped?phone=%2B905551112233").json() == {"outcome": "unknown"}

def test_a_hundred_customers_wait_for_nothing(http, desk360_sandbox):
    for order in range(100):
        http.post(f"/orders/{order}/shipped?phone=%2B905551112233")
    desk360_sandbox.assert_sent(times=100)
    assert desk360_sandbox.clock() > 60
"""

REACHING = {
    "asyncio": """
        import asyncio
        async def look_up():
            await asyncio.get_running_loop().getaddrinfo("{host}", 443)
        asyncio.run(look_up())
    """,
    "anyio": """
        import anyio
        async def connect():
            await anyio.connect_tcp("{host}", 443)
        anyio.run(connect, backend="trio")
    """,
    "socket": """
        import socket
        socket.create_connection(("{host}", 443))
    """,
    "old": """
        import socket
        socket.gethostbyname("{host}")
    """,
    "bytes": """
        import socket
        socket.getaddrinfo(host=b"{host}", port=443)
    """,
    "httpx": """
        import httpx
        httpx.get("https://{host}/v1/integrations")
    """,
    "client": """
        import asyncio
        from desk360_async import AsyncDesk360
        asyncio.run(AsyncDesk360("key", base_url="https://{host}").integrations.list())
    """,
    "tls": """
        import ssl
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="{host}")
    """,
}


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run a test file with the plugin and no other, so that nothing else can fail it."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        ours = ("-p", "desk360_async.testing.plugin", "-p", "no:cacheprovider")
        # A warning in a user's run would be ours.
        return pytester.runpytest_inprocess(*ours, "-W", "error", "--strict-markers", *arguments)

    return run


def test_an_endpoint_is_tested(run) -> None:
    """A FastAPI app, its TestClient, its own event loop in another thread."""
    pytest.importorskip("fastapi")
    # Starlette would rather have the fork of httpx; that is between it and its user.
    run(FASTAPI, "-W", "ignore:Using `httpx` with").assert_outcomes(passed=3)


def test_options_are_a_fixture_of_their_own(run) -> None:
    """To be overridden where another sandbox is wanted."""
    run(
        """
        import pytest
        @pytest.fixture
        def desk360_sandbox_options():
            return {"limit": 5, "api_key": "mine"}
        def test_it(desk360_sandbox):
            assert (desk360_sandbox.throttle.limit, desk360_sandbox.api_key) == (5, "mine")
        """
    ).assert_outcomes(passed=1)


def test_async_tests_use_the_same_fixture(run) -> None:
    """Here under anyio's plugin."""
    result = run(
        """
        import pytest
        @pytest.mark.anyio
        async def test_it(desk360_sandbox):
            await desk360_sandbox.client().send_text("+905551112233", "Hello!")
            desk360_sandbox.assert_sent(text="Hello!")
        """,
        *("-p", "anyio.pytest_plugin"),
    )
    result.assert_outcomes(passed=2)


def test_a_failed_assertion_shows_its_message_and_no_insides(run) -> None:
    """The line of the test, and what was sent."""
    result = run("def test_it(desk360_sandbox):\n    desk360_sandbox.assert_sent(to='+905551112233')")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*AssertionError: expected 1 or more sent with to='…2233', found 0; nothing*"]
    )
    result.stdout.no_fnmatch_line("*_complaint*")


@pytest.mark.parametrize("way", REACHING)
def test_the_vendor_is_out_of_bounds(run, way: str) -> None:
    """However it is reached for, and even if the code under test swallows the failure."""
    host = "public-api.desk360.com"
    code = indent(dedent(REACHING[way].format(host=host)), " " * 8)
    result = run(f"import contextlib\ndef test_it():\n    with contextlib.suppress(Exception):\n{code}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"the test tried to reach {host}. Use the fixture desk360_sandbox*"])


def test_every_host_of_the_vendor_is(run) -> None:
    """Whatever its case."""
    run(
        """
        import socket, pytest
        HOSTS = ["desk360.com", "WWW.Desk360.COM", "api.desk360.com.", b"a.b.desk360.com"]
        @pytest.mark.parametrize("host", HOSTS)
        def test_it(host):
            socket.getaddrinfo(host, 443)
        """
    ).assert_outcomes(failed=4)


def test_other_hosts_are_not(run) -> None:
    """The guard is no firewall, and look-alikes are others."""
    run(
        """
        import socket, ssl, pytest
        @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", None, b"localhost"])
        def test_it(host):
            socket.getaddrinfo(host, 80)
        @pytest.mark.parametrize("host", ["notdesk360.com", "desk360.com.example.test"])
        def test_look_alike(host):
            ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=host)
        """
    ).assert_outcomes(passed=6)


@pytest.mark.desk360_live  # this run's own guard stands behind the one under test; nothing is connected
def test_a_marked_test_may(run) -> None:
    """With its fixtures; the next one may not."""
    result = run(
        """
        import ssl, pytest
        def reach():
            buffers = ssl.MemoryBIO(), ssl.MemoryBIO()
            ssl.create_default_context().wrap_bio(*buffers, server_hostname="desk360.com")
        @pytest.fixture
        def reached(): reach()
        @pytest.mark.desk360_live
        def test_live(reached): reach()
        def test_other(): reach()
        """
    )
    result.assert_outcomes(passed=1, failed=1)


def test_fixtures_are_guarded_too(run) -> None:
    """What a fixture reaches for is an error of its test, before it and after it."""
    result = run(
        """
        import contextlib, socket, pytest
        def reach():
            with contextlib.suppress(OSError):
                socket.getaddrinfo("desk360.com", 443)
        @pytest.fixture
        def before(): reach()
        @pytest.fixture
        def after():
            yield
            reach()
        def test_before(before): pass
        def test_after(after): pass
        """
    )
    result.assert_outcomes(passed=1, errors=2)


def test_what_is_mocked_reaches_nobody(run) -> None:
    """A transport of one's own may answer for the vendor's host."""
    result = run(
        """
        import asyncio, httpx
        from desk360_async import AsyncDesk360
        from desk360_async.testing import answer_sample
        def test_it():
            answer = httpx.Response(200, content=answer_sample("send_text"))
            transport = httpx.MockTransport(lambda request: answer)
            client = AsyncDesk360("key", integration_id=11, transport=transport)
            assert asyncio.run(client.send_text("+905551112233", "Hello!")).message_id
        """
    )
    result.assert_outcomes(passed=1)


def test_the_guard_goes_with_its_run(run) -> None:
    """What it watched is as it was."""
    import socket
    import ssl

    before = (socket.getaddrinfo, ssl.SSLContext.wrap_bio)
    run("def test_it(): pass")
    assert (socket.getaddrinfo, ssl.SSLContext.wrap_bio) == before


_LOADED = """
import sys
import desk360_async.testing.plugin
print(sorted(name for name in sys.modules if name.split(".")[0] in ("httpx", "httpcore", "cattrs", "attrs",
    "anyio", "starlette", "desk360_async")))
"""


@pytest.mark.real
def test_it_costs_nothing_where_it_is_not_used() -> None:
    """It is loaded in every run of pytest, so it loads nothing but itself."""
    output = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    ).stdout
    assert output == "['desk360_async', 'desk360_async.testing', 'desk360_async.testing.plugin']\n"
