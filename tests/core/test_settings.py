"""Rulings 1 and 3: what is configured, and where it comes from."""

from typing import Any

import pytest

from desk360_async import ConfigurationError, RetryPolicy, Timeouts
from desk360_async._arguments import is_loopback, parse_api_key, parse_base_url
from desk360_async._settings import parse_integration_id, parse_timeouts

URLS = [
    (None, "https://public-api.desk360.com/v1"),
    ("https://api.example", "https://api.example/v1"),
    ("https://api.example/", "https://api.example/v1"),
    ("https://api.example/v1", "https://api.example/v1"),
    ("https://api.example/v1///", "https://api.example/v1"),
    ("https://api.example/proxy/desk", "https://api.example/proxy/desk/v1"),
    ("https://api.example/proxy/v1", "https://api.example/proxy/v1"),
    ("https://api.example/notv1", "https://api.example/notv1/v1"),
    (" HTTPS://API.example:8443 ", "https://api.example:8443/v1"),
    ("https://api.example:443", "https://api.example/v1"),
    ("http://localhost:80", "http://localhost/v1"),
    ("http://localhost:8000", "http://localhost:8000/v1"),
    ("http://127.8.9.1", "http://127.8.9.1/v1"),
    ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ("http://desk.localhost", "http://desk.localhost/v1"),
]


@pytest.mark.parametrize(("given", "used"), URLS)
def test_a_base_url_ends_in_v1(given: str | None, used: str) -> None:
    """Ruling 1: with or without, with a prefix, with slashes."""
    assert parse_base_url(given, allow_http=False) == used


def test_plain_http_is_for_loopback_or_on_request() -> None:
    """Ruling 1: the key would travel in the clear."""
    assert parse_base_url("http://sandbox:8000", allow_http=True) == "http://sandbox:8000/v1"
    with pytest.raises(ConfigurationError, match="in the clear to sandbox"):
        parse_base_url("http://sandbox:8000", allow_http=False)


def test_the_environment_gives_what_the_code_does_not() -> None:
    """And the code goes first."""
    environ = {
        "DESK360_API_KEY": "k\n",
        "DESK360_INTEGRATION_ID": " 7 ",
        "DESK360_BASE_URL": "https://e.example",
    }
    assert parse_api_key(None, environ) == "k"
    assert parse_api_key("mine", environ) == "mine"
    assert parse_integration_id(None, environ) == 7
    assert parse_integration_id(8, environ) == 8
    assert parse_integration_id(None, {}) is None
    assert parse_base_url(None, allow_http=False, environ=environ) == "https://e.example/v1"
    assert parse_base_url("https://c.example", allow_http=False, environ=environ) == "https://c.example/v1"


@pytest.mark.parametrize("text", ["0", "eleven", "\u0661\u0661", "1" * 30, "-1", "1.0"])
def test_a_bad_integration_in_the_environment_is_named(text: str) -> None:
    """By its variable."""
    with pytest.raises(ConfigurationError, match="DESK360_INTEGRATION_ID must be a whole number"):
        parse_integration_id(None, {"DESK360_INTEGRATION_ID": text})


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8360", "https://ü", "https://[", "http://far.example", "https://a@b"]
)
def test_a_bad_url_in_the_environment_is_named(text: str) -> None:
    """The caller passed no `base_url`."""
    environ = {"DESK360_BASE_URL": text}
    with pytest.raises(ConfigurationError, match=r"^DESK360_BASE_URL "):
        parse_base_url(None, allow_http=False, environ=environ)
    with pytest.raises(ConfigurationError, match=r"^base_url "):
        parse_base_url(text, allow_http=False, environ=environ)


@pytest.mark.parametrize("given", ["abc", " abc\n", "Bearer abc", "bearer  abc", "BEARER\tabc\r\n"])
def test_a_key_is_stripped_of_what_was_pasted_with_it(given: str) -> None:
    """Ruling 3: spaces, a key file's newline, the word Bearer."""
    assert parse_api_key(given, {}) == "abc"


def test_a_bare_number_is_the_total_timeout() -> None:
    """And bounds connecting."""
    assert parse_timeouts(2) == Timeouts(total=2, connect=2)
    assert parse_timeouts(60.0) == Timeouts(total=60.0, connect=5.0)
    assert parse_timeouts(Timeouts()) == Timeouts(total=30.0, connect=5.0, upload=120.0, download=30.0)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (Timeouts, {"connect": 0}, "Timeouts.connect must be at least 0.001"),
    (Timeouts, {"upload": float("inf")}, "Timeouts.upload must be a finite number"),
    (Timeouts, {"download": "5"}, "Timeouts.download must be a finite number"),
    (RetryPolicy, {"attempts": 0}, "RetryPolicy.attempts must be 1 or more"),
    (RetryPolicy, {"attempts": True}, "RetryPolicy.attempts"),
    (RetryPolicy, {"attempts": 1.5}, "RetryPolicy.attempts"),
    (RetryPolicy, {"backoff": -1}, "RetryPolicy.backoff must be at least 0"),
    (RetryPolicy, {"max_retry_after": True}, "RetryPolicy.max_retry_after"),
]


@pytest.mark.parametrize(("kind", "options", "problem"), BAD)
def test_a_bad_number_is_named(kind: Any, options: dict[str, Any], problem: str) -> None:
    """When it is given, not when it is used."""
    with pytest.raises(ConfigurationError, match=problem):
        kind(**options)


def test_the_defaults_are_the_contracts() -> None:
    """As documented."""
    assert RetryPolicy() == RetryPolicy(attempts=3, max_retry_after=120.0, backoff=0.5, backoff_max=8.0)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, answer: bool) -> None:
    """By name or address."""
    assert is_loopback(host) is answer
