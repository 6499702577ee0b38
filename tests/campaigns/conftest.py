"""Fixtures of the campaigns' tests."""

import os
from pathlib import Path

import pytest

from tests.campaigns.harness import Scene
from tests.postgres import dsn, postgres

__all__ = ["dsn", "postgres"]


@pytest.fixture
def scene(tmp_path: Path, anyio_backend: str, request: pytest.FixtureRequest) -> Scene:
    """A sandbox, a client and a folder, on each event loop.

    With DESK360_TESTS_LEDGER=postgresql the ledger is in PostgreSQL, for tests that need no file.
    """
    if os.environ.get("DESK360_TESTS_LEDGER") == "postgresql":
        return Scene(tmp_path, anyio_backend, dsn=request.getfixturevalue("dsn"))
    return Scene(tmp_path, anyio_backend)
