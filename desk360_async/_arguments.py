"""Checks of arguments from callers and from the environment, with one wording for all errors.

Numbers, choices and shares come first: the calling code gives the argument's name and bounds. The idempotency
key, the API key and the base URL follow, which several entry points take.
"""

import ipaddress
import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from . import _json
from ._errors import ConfigurationError, InvalidMessage
from ._redaction import Secret

T = TypeVar("T")

DEFAULT_BASE_URL = "https://public-api.desk360.com/v1"
LONGEST_KEY = 255

_DIGITS = re.compile(r"[0-9]{1,18}")


def whole(
    name: str,
    value: object,
    *,
    least: int = 0,
    most: int | None = None,
    digits: bool = False,
    meaning: str = "",
) -> int:
    """Return a whole number between two bounds; True and False are no numbers.

    Args:
        name: the argument's name, for the error.
        value: the number as the caller passed it.
        least: the lowest number allowed.
        most: the highest number allowed; None means no limit.
        digits: whether text of ASCII digits is a number too, as in an environment variable.
        meaning: the argument's unit or purpose, for the error.

    Raises:
        ConfigurationError: if the value is no whole number or breaks a bound.
    """
    if digits and isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and least <= value
        and (most is None or value <= most)
    ):
        return value
    bounds = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"
    raise _refusal(name, f"a whole number {bounds}", value, meaning)


def seconds(
    name: str,
    value: object,
    *,
    least: float = 0.0,
    most: float = math.inf,
    positive: bool = False,
    meaning: str = "",
) -> float:
    """Return a number of seconds between two bounds; NaN, True and False are no numbers.

    Args:
        name: the argument's name, for the error.
        value: the number as the caller passed it.
        least: the lowest number allowed, in seconds.
        most: the highest number allowed, in seconds; `math.inf` itself allows an endless time.
        positive: whether 0 is refused.
        meaning: the argument's purpose, for the error.

    Raises:
        ConfigurationError: if the value is no number or breaks a bound.
    """
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and least <= value <= most
        and (value > 0 or not positive)
    ):
        return value
    above = "of more than 0" if positive and least <= 0 else f"of {least:g} or more"
    bounds = above if most == math.inf else f"from {least:g} to {most:g}"
    raise _refusal(name, f"a number of seconds {bounds}", value, meaning)


def one_of(name: str, value: object, choices: Iterable[T]) -> T:
    """Return one of the choices.

    Args:
        name: the argument's name, for the error.
        value: the choice as the caller passed it.
        choices: the values allowed.

    Raises:
        ConfigurationError: if the value is no choice; the message lists the choices.
    """
    allowed = tuple(choices)
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return choice
    *others, last = map(repr, allowed)
    raise _refusal(name, f"{', '.join(others)} or {last}" if others else last, value, "")


def share(name: str, value: object) -> None:
    """Refuse a value that is neither a share of 0.0 to 1.0 nor None.

    Args:
        name: the argument's name, for the error.
        value: the share as the caller passed it.

    Raises:
        ConfigurationError: if it is neither.
    """
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    if not (value is None or usable):
        raise ConfigurationError(f"{name} must be a share of 0.0 to 1.0, got {value!r}")


def count_or_share(name: str, value: object) -> None:
    """Refuse a value that is neither a count (int), a share of 0.0 to 1.0 (float) nor None.

    Args:
        name: the argument's name, for the error.
        value: the count or share as the caller passed it.

    Raises:
        ConfigurationError: if it is none of these.
    """
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_share = isinstance(value, float) and 0 <= value <= 1
    if not (value is None or is_count or is_share):
        raise ConfigurationError(
            f"{name} must be a count (int) or a share of 0.0 to 1.0 (float), got {value!r}"
        )


def kind_of(name: str, value: object, kind: type[object], example: str) -> None:
    """Refuse a value that is neither None nor an instance of `kind`.

    Args:
        name: the argument's name, for the error.
        value: the value as the caller passed it.
        kind: the class.
        example: a call that makes such a value, for the error.

    Raises:
        ConfigurationError: if it is of another class.
    """
    if not (value is None or isinstance(value, kind)):
        raise ConfigurationError(f"{name} must be {example}, or None, got {value!r}")


def require_path(path: str | os.PathLike[str], name: str) -> None:
    """Refuse an empty path and ":memory:", SQLite's name for a store without a file.

    Raises:
        ConfigurationError: if the path is empty or ":memory:".
    """
    if os.fspath(path) in ("", ":memory:"):
        message = f"{name} needs a file's path, not {os.fspath(path)!r}: it has to outlive the process"
        raise ConfigurationError(message)


def shown(value: object) -> str:
    """Return a value's repr for an error, shortened if it has over 40 characters.

    Python refuses to write a huge integer; the error then describes the number.
    """
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} characters)"


def _refusal(name: str, wanted: str, value: object, meaning: str) -> ConfigurationError:
    purpose = f" ({meaning})" if meaning else ""
    return ConfigurationError(f"{name} must be {wanted}{purpose}, got {shown(value)}")


def check_key(key: object) -> str:
    """Return the key if it is 1 to 255 characters of text.

    Raises:
        InvalidMessage: if the key is no text, is blank, is too long, or can't be stored as UTF-8.
    """
    if not isinstance(key, str):
        kind = type(key).__name__
        raise InvalidMessage("idempotency_key", f"is text of 1 to {LONGEST_KEY} characters, not {kind}")
    if not key.strip():
        raise InvalidMessage(
            "idempotency_key", "is blank; pass a name of this send, such as 'order-4711-shipped'"
        )
    if len(key) > LONGEST_KEY:
        problem = f"has {len(key):,} characters, the limit is {LONGEST_KEY}; pass a shorter name of this send"
        raise InvalidMessage("idempotency_key", problem)
    if "\x00" in key or not _json.is_utf8(key):
        raise InvalidMessage("idempotency_key", "holds a NUL or a lone surrogate; pass plain text")
    return key


def parse_api_key(value: str | None, environ: Mapping[str, str] | None = None) -> Secret:
    """Return the API key given, else the key in DESK360_API_KEY.

    Blanks around the key and a pasted "Bearer " are dropped.

    Raises:
        ConfigurationError: if there is no key, or it holds a character that a header can't hold. No frame of
            the error shows the key.
    """
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"api_key must be text or a function, not {type(value).__name__}")
    value = Secret(variable("DESK360_API_KEY", environ) if value is None else value.strip())
    del environ  # a traceback that shows local variables would print the whole environment
    key = Secret(re.sub(r"\Abearer\s+", "", value, flags=re.IGNORECASE))
    if not key or key.lower() == "bearer":
        raise ConfigurationError(
            "no API key: pass AsyncDesk360(api_key=...) or set the environment variable DESK360_API_KEY"
        )
    if bad := re.search(r"[^\x21-\x7e]", key):
        kind = "a line break" if bad[0] in "\r\n" else "a space, a control character or a non-ASCII character"
        at = bad.start()
        del bad  # it holds the key
        raise ConfigurationError(f"the API key holds {kind} at position {at}; copy it again, in one piece")
    return key


def parse_base_url(value: str | None, *, allow_http: bool, environ: Mapping[str, str] | None = None) -> str:
    """Return the API's base URL, with `/v1` at its end: `value`, else DESK360_BASE_URL, else the vendor's.

    Raises:
        ConfigurationError: if the URL isn't https, or has a query, a fragment or user info. http is allowed
            to loopback hosts, and with `allow_http`.
    """
    name = "DESK360_BASE_URL" if value is None else "base_url"
    url = variable("DESK360_BASE_URL", environ) or DEFAULT_BASE_URL if value is None else value
    del environ  # it holds the key, and tracebacks may show it
    if not isinstance(url, str) or re.search(r"[^\x21-\x7e]|\\", url.strip()):
        raise ConfigurationError(f"{name} must be a plain ASCII URL, like 'https://public-api.desk360.com'")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ConfigurationError(
            f"{name} is no URL; it looks like 'https://public-api.desk360.com'"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{name} must start with https://, like 'https://public-api.desk360.com'")
    if parts.query or parts.fragment or "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(
            f"{name} must not hold a query, a fragment or a user; the key goes in api_key"
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"{name} with http:// would send the key in the clear to {parts.hostname}: "
            "write https://, or pass allow_http=True for a sandbox in a container"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port == {"https": 443, "http": 80}[parts.scheme]:
        port = None  # one host has one bucket, with or without its default port
    path = parts.path.rstrip("/")
    if not path.endswith("/v1"):
        path += "/v1"
    return f"{parts.scheme}://{host}{f':{port}' if port is not None else ''}{path}"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address can only be this machine."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Whether a host is a name, or an address of the public internet; names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        # inet_aton reads "0x7f.1", "2130706433" and "127.1" as addresses too.
        parts = host.lower().rstrip(".").split(".")
        numeric = all(re.fullmatch(r"0x[0-9a-f]*|[0-9]+", part) for part in parts)
        return not numeric and not is_loopback(host)


def variable(name: str, environ: Mapping[str, str] | None) -> str:
    """Return a variable of the environment, or "" if it isn't set."""
    return (os.environ if environ is None else environ).get(name, "").strip()
