"""The client's settings, checked by its constructor. The functions are pure, but may read the environment."""

import inspect
import math
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from attrs import Attribute, field, frozen

from ._arguments import parse_api_key, variable, whole
from ._bucket import Lane
from ._errors import ConfigurationError
from ._redaction import Secret, show_half_made


def _seconds(least: float) -> Any:
    def check(owner: object, attribute: "Attribute[float]", value: object) -> None:
        name = f"{type(owner).__name__}.{attribute.name}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigurationError(f"{name} must be a finite number of seconds, got {value!r}")
        if value < least:
            raise ConfigurationError(f"{name} must be at least {least:g} seconds, got {value!r}")

    return check


@frozen(kw_only=True, repr=False)
class Timeouts:
    """Time limits in seconds; each begins when the attempt has its token and a connection slot.

    Attributes:
        total: seconds for one attempt, from connecting to the last byte, even if bytes come one by one.
        connect: seconds for DNS, TCP and TLS.
        upload: seconds for one attempt that uploads files, in place of `total`.
        download: seconds between two chunks of a media download.

    Raises:
        ConfigurationError: if one isn't a finite number above zero.
    """

    total: float = field(default=30.0, validator=_seconds(0.001))
    connect: float = field(default=5.0, validator=_seconds(0.001))
    upload: float = field(default=120.0, validator=_seconds(0.001))
    download: float = field(default=30.0, validator=_seconds(0.001))


@frozen(kw_only=True, repr=False)
class RetryPolicy:
    """When the client repeats an attempt; a send that may have gone out is never repeated.

    Attributes:
        attempts: maximum number of attempts, including the first (≥ 1); attempts after a 429 don't count.
        max_retry_after: maximum sum of seconds that one call waits after 429s.
        backoff: seconds before the second attempt, doubled for each further one, with jitter.
        backoff_max: maximum number of seconds between two attempts.

    Raises:
        ConfigurationError: if attempts is below 1 or a number of seconds is negative.
    """

    attempts: int = 3
    max_retry_after: float = field(default=120.0, validator=_seconds(0))
    backoff: float = field(default=0.5, validator=_seconds(0))
    backoff_max: float = field(default=8.0, validator=_seconds(0))

    def __attrs_post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigurationError(f"RetryPolicy.attempts must be 1 or more, got {self.attempts!r}")


def parse_timeouts(value: object) -> Timeouts:
    """Return timeouts; a plain number becomes `total`, and `connect` is at most that number."""
    if isinstance(value, Timeouts):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"timeout must be seconds or Timeouts(...), not {type(value).__name__}")
    total = Timeouts(total=value).total
    return Timeouts(total=total, connect=min(total, 5.0))


class ApiKey:
    """The API key, and the function that returns the next key.

    Args:
        given: the key, or a function that returns it and doesn't block; None for DESK360_API_KEY.

    Raises:
        ConfigurationError: if the key is missing or unusable, or the function is a coroutine function.
    """

    def __init__(self, given: str | Callable[[], str] | None) -> None:
        if inspect.iscoroutinefunction(given):
            raise ConfigurationError("api_key must be a plain function that returns the key")
        self._ask = given if callable(given) else None
        self.current: Secret | None = None if callable(given) else parse_api_key(given)

    def renew(self) -> bool:
        """Call the function again; return True if the key has changed.

        Raises:
            ConfigurationError: if the function raises, or returns an unusable key.
        """
        if self._ask is None:
            return False
        before = self.current
        try:
            given = self._ask()
        except Exception as error:
            raise ConfigurationError(f"api_key() raised {type(error).__name__}") from error
        if not isinstance(given, str) or not given.strip():
            kind = "an empty text" if isinstance(given, str) else type(given).__name__
            raise ConfigurationError(f"api_key() must return the key as text, and returned {kind}")
        self.current = parse_api_key(Secret(given), {})
        return self.current != before


def parse_integration_id(value: object, environ: Mapping[str, str] | None = None) -> int | None:
    """Return the given id of an integration, else the id in DESK360_INTEGRATION_ID, else None.

    Raises:
        ConfigurationError: if the id is not a whole number of 1 or more.
    """
    name = "integration_id"
    if value is None:
        text = variable("DESK360_INTEGRATION_ID", environ)
        del environ  # it holds the key, and tracebacks may show it
        if not text:
            return None
        name, value = "DESK360_INTEGRATION_ID", text
    return whole(name, value, least=1, digits=True)


def check_settings(max_connections: object, user_agent: object) -> None:
    """Refuse unusable values of `max_connections` and `user_agent`."""
    if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
        raise ConfigurationError(f"max_connections must be 1 or more, got {max_connections!r}")
    if user_agent is not None and (
        not isinstance(user_agent, str) or not user_agent.isascii() or not user_agent.isprintable()
    ):
        raise ConfigurationError("user_agent must be printable ASCII text, such as 'shop/1.2'")


def check_parts(*, limiter: object, transport: object, verify: object, on_result: object) -> None:
    """Refuse an object of the wrong type when the client is made, and not at the first send."""
    if limiter is not None and not (hasattr(limiter, "acquire") and hasattr(limiter, "snapshot")):
        kind = type(limiter).__name__
        raise ConfigurationError(f"limiter must be a TokenBucket, a HostLimiter or a RateLimiter, not {kind}")
    if transport is not None and not hasattr(transport, "handle_async_request"):
        kind = type(transport).__name__
        raise ConfigurationError(f"transport must be an httpx.AsyncBaseTransport, not {kind}")
    if not isinstance(verify, bool | ssl.SSLContext):
        raise ConfigurationError(
            f"verify must be an ssl.SSLContext, True or False, not {type(verify).__name__}; "
            "for a file of certificates: ssl.create_default_context(cafile=...)"
        )
    if on_result is not None and not callable(on_result):
        raise ConfigurationError(f"on_result must be a function, not {type(on_result).__name__}")


def parse_retry(retry: RetryPolicy) -> RetryPolicy:
    """Return the retry policy, or refuse a value of another type."""
    if isinstance(retry, RetryPolicy):
        return retry
    raise ConfigurationError(f"retry must be a RetryPolicy, not {type(retry).__name__}")


def parse_lane(lane: Lane) -> Lane:
    """Return the lane, or refuse an unknown one."""
    if lane not in ("interactive", "bulk"):
        raise ConfigurationError(f"lane must be 'interactive' or 'bulk', got {lane!r}")
    return lane


def parse_max_wait(max_wait: float | None) -> float | None:
    """Return the maximum wait in seconds (None: no limit), or refuse an unusable value."""
    if max_wait is None or (
        isinstance(max_wait, int | float) and not isinstance(max_wait, bool) and max_wait >= 0
    ):
        return max_wait
    raise ConfigurationError(f"max_wait must be seconds of 0 or more, or None for no limit, got {max_wait!r}")


show_half_made(globals())
