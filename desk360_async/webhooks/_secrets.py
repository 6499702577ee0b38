"""What makes a secret usable, and how one is compared."""

import hmac
from collections.abc import Sequence

from desk360_async._errors import ConfigurationError


def checked(secrets: Sequence[str]) -> list[bytes]:
    """Return the secrets ready to compare, or raise ConfigurationError for one that fits in no path."""
    if not secrets or not all(secrets):
        raise ConfigurationError("secret is empty; make one with `secrets.token_urlsafe(32)`")
    if any(set(secret) & set("/?#\\ \r\n\t") or secret.strip(".") == "" for secret in secrets):
        raise ConfigurationError("secret must be one segment of a path: no slashes, blanks, `?` or `#`")
    return [secret.encode() for secret in secrets]


def same(given: str, known: Sequence[bytes]) -> bool:
    """Whether a text is one of the secrets, in a time that doesn't tell (ruling 39)."""
    # All of them are compared, whichever fits.
    encoded = given.encode(errors="surrogatepass")
    compared = [hmac.compare_digest(encoded, secret) for secret in known]
    return any(compared)
