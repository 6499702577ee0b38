"""Fixtures of the campaigns' tests."""

import os
from pathlib import Path

import pytest

from tests.campaigns.harness import Harness


@pytest.fixture
def harness(tmp_path: Path, anyio_backend: str, request: pytest.FixtureRequest) -> Harness:
    """A sandbox, a client and a folder, on each event loop.

    With DESK360_TESTS_LEDGER=postgresql the ledger is in PostgreSQL, for tests that need no file.
    """
    if os.environ.get("DESK360_TESTS_LEDGER") == "postgresql":
        return Harness(tmp_path, anyio_backend, dsn=request.getfixturevalue("dsn"))
    return Harness(tmp_path, anyio_backend)
