"""Buckets, tokens and answers for the tests of single transitions."""

from desk360_async._bucket import Bucket, Token

NOTHING: dict[str, str] = {}


def bucket(
    limit: int = 10, period: float = 60.0, *, reserve: int | None = 0, margin: float = 0.0, learn: bool = True
) -> Bucket:
    """Make a bucket, without a margin if nothing is said, whose tokens are held for 100 s."""
    return Bucket(limit, period, reserve, margin, 100.0, learn)


def taken(state: Bucket, tokens: int, now: float = 0.0) -> list[Token]:
    """Take so many tokens at one moment."""
    return [state.take(now, "interactive") for _ in range(tokens)]


def told(limit: int | str = "", remaining: int | str = "") -> dict[str, str]:
    """Make an answer's headers."""
    return {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(remaining)}
