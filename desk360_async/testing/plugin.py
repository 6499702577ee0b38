"""The pytest plugin: the fixture `desk360_sandbox`, and the guard that keeps tests from the vendor's host.

pytest loads this module in each run where the package is installed. So the module imports only the standard
library and pytest; the fixture imports the rest.
"""

import socket
import ssl
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from desk360_async.testing import VirtualSandbox

_MARKER = "desk360_live"
_VENDOR = "desk360.com"


@pytest.fixture
def desk360_sandbox_options() -> dict[str, Any]:
    """The options of `desk360_sandbox`; override this fixture to change them."""
    return {}


@pytest.fixture
def desk360_sandbox(desk360_sandbox_options: dict[str, Any]) -> "VirtualSandbox":
    """A sandbox of Desk360 for this test: in process, in virtual time; `.client()` makes clients of it."""
    from desk360_async.testing import VirtualSandbox

    return VirtualSandbox(**desk360_sandbox_options)


class VendorReached(socket.gaierror):
    """A test tried to reach the vendor's host. The code under test sees a failed look-up of the name."""


class Guard:
    """Lets no test reach the vendor, unless the test is marked.

    It checks names where they are resolved, and where TLS gets the expected name. So it sees also requests
    through a proxy, and on event loops that resolve names by themselves. It doesn't see requests that are
    mocked above that (by respx, or by the test's own transport).
    """

    def __init__(self) -> None:
        self._is_live = False
        self._reached: list[str] = []
        self._patches = pytest.MonkeyPatch()

    def install(self) -> None:
        """Begin to check names."""
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            self._watch(socket, name, lambda args, kwargs: args[0] if args else kwargs.get("host"))
        # The number is the position of `server_hostname` among the arguments, `self` included.
        self._watch(ssl.SSLContext, "wrap_bio", _server_hostname(4))
        self._watch(ssl.SSLContext, "wrap_socket", _server_hostname(5))

    def _watch(self, owner: object, name: str, host_of: Callable[[Any, Any], object]) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._check(host_of(args, kwargs))
            return real(*args, **kwargs)

        self._patches.setattr(owner, name, watched)

    def _check(self, host: object) -> None:
        if isinstance(host, bytes):
            host = host.decode("latin-1")
        if self._is_live or not isinstance(host, str):
            return
        name = host.lower().rstrip(".")
        if name == _VENDOR or name.endswith(f".{_VENDOR}"):
            self._reached.append(name)
            raise VendorReached(socket.EAI_NONAME, f"tests may not reach {name}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Allow a marked test to reach the vendor, from its set-up to its end."""
        self._is_live = item.get_closest_marker(_MARKER) is not None
        try:
            return (yield)
        finally:
            self._is_live = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Fail a set-up that tried to reach the vendor."""
        return (yield from self._guarded())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Fail a test that tried to reach the vendor, even if the code under test caught the error."""
        return (yield from self._guarded())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Fail a tear-down that tried to reach the vendor."""
        return (yield from self._guarded())

    def _guarded(self) -> Generator[None, object, object]:
        self._reached.clear()
        try:
            result = yield
        except Exception:
            self._fail_if_reached()
            raise
        self._fail_if_reached()
        return result

    def _fail_if_reached(self) -> None:
        if self._reached:
            pytest.fail(
                f"the test tried to reach {self._reached[0]}. Use the fixture desk360_sandbox, or a transport"
                f" of your own; where Desk360 itself is meant, mark the test: @pytest.mark.{_MARKER}",
                pytrace=False,
            )

    def pytest_unconfigure(self) -> None:
        """Stop checking names."""
        self._patches.undo()


def _server_hostname(position: int) -> Callable[[Any, Any], object]:
    def host_of(args: Any, kwargs: Any) -> object:
        return kwargs.get("server_hostname", args[position] if len(args) > position else None)

    return host_of


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and set up the guard."""
    config.addinivalue_line("markers", f"{_MARKER}: may reach Desk360 itself")
    guard = Guard()
    guard.install()
    config.pluginmanager.register(guard, "desk360-guard")
