"""What makes a secret or a token usable, and how one is compared. No error here shows one."""

import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Any

from desk360_async._errors import ConfigurationError

# RFC 3986's `pchar` without escapes: servers decode a path before the receiver sees it, so that a secret
# with `%` in it would match nothing. Beyond ASCII there are only escapes.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
# RFC 9110: a field's name is a token; its value loses the blanks around it on the way.
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_SEVERAL: Any = (tuple, list)  # as Any: checkers would narrow to parts of unknown types


def checked(secret: str | Iterable[str]) -> list[bytes]:
    """Return one secret or several, ready to compare.

    Raises:
        ConfigurationError: there is none, or one isn't text or fits in no path.
    """
    given: Any = secret  # whatever it is said to be: a variable of the environment may be None
    if isinstance(given, str):
        given = [given]
    if isinstance(given, bytes | bytearray) or not hasattr(given, "__iter__"):
        raise ConfigurationError(f"secret must be text, or several texts, not {type(given).__name__}")
    secrets: list[Any] = list(given)
    if not secrets:
        raise ConfigurationError("secret is empty; make one with `secrets.token_urlsafe(32)`")
    return [_segment(secret) for secret in secrets]


def _segment(secret: object) -> bytes:
    if not isinstance(secret, str):
        raise ConfigurationError(f"secret must be text, or several texts, not {type(secret).__name__}")
    if not secret:
        raise ConfigurationError("secret is empty; make one with `secrets.token_urlsafe(32)`")
    if not _SEGMENT.fullmatch(secret) or not secret.strip("."):
        raise ConfigurationError(
            "secret must be one segment of a path, only of letters a to z, digits and -._~!$&'()*+,;=:@ (no"
            " slash, blank, `%`, `?` or `#`); make one with `secrets.token_urlsafe(32)`"
        )
    return secret.encode()


def checked_token(header_token: tuple[str, str] | None) -> tuple[str, bytes] | None:
    """Return a header's name in small letters, and the value that it must have, ready to compare.

    Raises:
        ConfigurationError: it is no pair of texts, or no header can be so: an empty value is what a
            request without the header would seem to have.
    """
    given: Any = header_token
    if given is None:
        return None
    parts: list[Any] = list(given) if isinstance(given, _SEVERAL) else []
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ConfigurationError("header_token must be a header's name and value: ('X-Token', 'abc')")
    name, value = parts
    if not _FIELD_NAME.fullmatch(name):
        raise ConfigurationError("header_token[0], the header's name, must be a word such as 'X-Token'")
    if not _FIELD_VALUE.fullmatch(value):
        raise ConfigurationError(
            "header_token[1], the header's value, must be printable ASCII, not empty and with no blanks"
            " around it; leave header_token out if no header is to be checked"
        )
    return name.lower(), value.encode()


def same(given: str, known: Sequence[bytes]) -> bool:
    """Whether a text is one of the secrets, in a time that doesn't tell (ruling 39)."""
    # All of them are compared, whichever fits.
    encoded = given.encode(errors="surrogatepass")
    compared = [hmac.compare_digest(encoded, secret) for secret in known]
    return any(compared)
