"""Fixtures of the campaigns' tests."""

from pathlib import Path

import pytest

from tests.campaigns.harness import Scene


@pytest.fixture
def scene(tmp_path: Path, anyio_backend: str) -> Scene:
    """A sandbox, a client and a folder, on each event loop."""
    return Scene(tmp_path, anyio_backend)
