"""A sandbox in process and in virtual time, its clients, and the assertions that tests make about it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from inspect import signature
from typing import Any

from attrs import evolve

from desk360_async import AsyncDesk360, RetryPolicy
from desk360_async._errors import mask_phone
from desk360_async.sandbox import ReceivedMessage, Sandbox

from ._clock import VirtualBucket, VirtualClock
from ._transport import InProcess, sleeping_on

__all__ = ["VirtualSandbox", "sandbox_client"]

_SHOWN = 10  # number of the latest messages that a failed assertion lists
# `.test` is reserved for tests (RFC 6761): this name never resolves if a request leaves the process.
_URL = "https://sandbox.test"


class VirtualSandbox(Sandbox):
    """A sandbox without network and port, in virtual time: a wait takes no time, and moves the clock.

    It has all attributes of `Sandbox`: `.faults`, `.throttle`, `.sent()`, `.requests`, `.media` and so on.
    Its clients share one rate limit, like clients behind one address. The waits for the rate limit, for
    retries and for the faults' delays take no real time; they move `.clock` forward.

    Attributes:
        clock: the virtual time; `clock()` returns it in seconds, `advance(minutes=1)` moves it.
        limiter: the rate limiter of its clients.

    Args:
        options: the options of `Sandbox`, except `clock` and `sleep`.
    """

    clock: VirtualClock

    def __init__(self, **options: Any) -> None:
        clock = VirtualClock()
        super().__init__(**options, clock=clock, sleep=sleeping_on(clock))
        self.limiter: VirtualBucket = VirtualBucket(clock)

    def advance(self, *, hours: float = 0.0, minutes: float = 0.0, seconds: float = 0.0) -> None:
        """Move the sandbox's time forward, its wall clock `now` included.

        Args:
            hours: how many hours (≥ 0).
            minutes: how many minutes (≥ 0).
            seconds: how many seconds (≥ 0).

        Raises:
            ValueError: if one of them is negative.
        """
        if min(hours, minutes, seconds) < 0:
            raise ValueError(
                f"hours={hours!r}, minutes={minutes!r}, seconds={seconds!r}: 0 or more is needed"
            )
        self.clock.advance(hours * 3600 + minutes * 60 + seconds)

    def now(self) -> datetime:
        """Return the sandbox's wall clock, in UTC; stores under test take this method as `clock=`."""
        return datetime.fromtimestamp(self.throttle.wall_time(), UTC)

    def client(self, **options: Any) -> AsyncDesk360:
        """Make a client of this sandbox; it needn't be closed, since it holds no connection.

        Like every client it belongs to the event loop of its first await: make one client for each loop. With
        the TestClient of Starlette and FastAPI, write `with TestClient(app)`. Without `with`, each request
        runs in another loop.

        Args:
            options: the options of `AsyncDesk360`. Defaults: the sandbox's key and its first integration. The
                stores `customers` and `send_log` use the sandbox's clock, unless they have a clock.

        Raises:
            ConfigurationError: if an option is unusable.
        """
        # The client's pause between two attempts is real time; in a sandbox it would only make tests slow.
        retry = evolve(options.pop("retry", RetryPolicy()), backoff=0.0)
        defaults: dict[str, Any] = {
            "api_key": self.api_key,
            "base_url": _URL,
            "integration_id": self.account.integrations[0]["id"] if self.account.integrations else None,
            "limiter": self.limiter,
            "transport": InProcess(self.app, self.clock),
        }
        for store in (options.get("customers"), options.get("send_log")):
            use_clock = getattr(store, "use_clock", None)  # a store that the test wrote may lack it
            if use_clock is not None:
                use_clock(self.now)
        return AsyncDesk360(**defaults | options, retry=retry)

    def assert_sent(
        self,
        *,
        to: str | None = None,
        template: int | str | None = None,
        text: str | None = None,
        parameters: Mapping[str, str] | None = None,
        kind: str | None = None,
        times: int | None = None,
    ) -> list[ReceivedMessage]:
        """Check that the sandbox took a message with these values, and return all such messages.

        Args:
            to: its recipient, in any spelling that a send takes.
            template: its template's id or name.
            text: its whole text or body.
            parameters: all parameters of its template.
            kind: its `ReceivedMessage.kind`, such as "template" or "text".
            times: the expected number of messages (≥ 0); None for one or more.

        Raises:
            AssertionError: if the number of messages isn't the expected one; it lists the latest messages.
        """
        __tracebackhide__ = True
        wanted = {"text": text, "kind": kind, "parameters": None if parameters is None else dict(parameters)}
        found = [
            message
            for message in self.sent(to=to, template=template)
            if all(value is None or getattr(message, name) == value for name, value in wanted.items())
        ]
        if len(found) == times or (times is None and found):
            return found
        asked = {"to": to and mask_phone(to), "template": template} | wanted
        raise AssertionError(self._complaint(asked, len(found), times))

    def _complaint(self, asked: Mapping[str, Any], found: int, times: int | None) -> str:
        wanted = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
        number = "1 or more" if times is None else times
        there = f"expected {number} sent with {wanted or 'anything'}, found {found}"
        if not self.accepted:
            refused = [request for request in self.requests if request.problems]
            why = f"; the last refusal: {refused[-1].problems[0]}" if refused else ""
            return f"{there}; nothing was sent in {len(self.requests)} requests{why}"
        lines = [f"  {self._line(message)}" for message in self.received[-_SHOWN:]]
        left_out = [f"  … and {self.accepted - len(lines)} before"] if self.accepted > len(lines) else []
        return "\n".join([f"{there}; {self.accepted} were sent:", *left_out, *lines])

    def _line(self, message: ReceivedMessage) -> str:
        """Describe a message by the arguments of `assert_sent`; it is masked, since reports may be public."""
        names = {row["id"]: row["name"] for rows in self.account.templates.values() for row in rows}
        said = {
            "to": mask_phone(message.phone),
            "kind": message.kind,
            "template": names.get(message.template_id, message.template_id),
            "text": message.text,
            "parameters": message.parameters or None,
        }
        return ", ".join(f"{name}={value!r}" for name, value in said.items() if value is not None)


_OF_SANDBOX = frozenset(signature(Sandbox).parameters) - {"clock", "sleep"}


@asynccontextmanager
async def sandbox_client(**options: Any) -> AsyncGenerator[tuple[AsyncDesk360, VirtualSandbox]]:
    """Open a sandbox in process and in virtual time, and a client of it: no network, no port, no waiting.

    Args:
        options: the options of `Sandbox` (such as `limit`, `account`, `seed`) and of `AsyncDesk360`; each
            goes to its owner.

    Raises:
        ConfigurationError: if an option of the client is unusable.
        ValueError: if an option of the sandbox is unusable.
        TypeError: if neither of them has an option of this name.

    Example:
        ```python
        async with sandbox_client() as (client, sandbox):
            await client.send_text("+905551112233", "Hello!")
            sandbox.assert_sent(to="+905551112233", text="Hello!")
        ```
    """
    sandbox = VirtualSandbox(**{name: value for name, value in options.items() if name in _OF_SANDBOX})
    rest = {name: value for name, value in options.items() if name not in _OF_SANDBOX}
    async with sandbox.client(**rest) as client:
        yield client, sandbox
