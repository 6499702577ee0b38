"""What several of the limiter's tests need."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desk360_async import HostLimiter


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., HostLimiter]]:
    """Make limiters on one file."""
    made: list[HostLimiter] = []

    def make(limit: int = 60, **options: float) -> HostLimiter:
        made.append(HostLimiter(tmp_path / "limit.db", limit=limit, **options))  # type: ignore[arg-type] # any option
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()
