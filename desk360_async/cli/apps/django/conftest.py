"""The setting that the app reads when it is imported, and the place of its webhooks."""

import os
from typing import Any

import pytest

SECRET = "only-for-these-tests"
os.environ["WEBHOOK_SECRET"] = SECRET


@pytest.fixture
def desk360_sandbox_options() -> dict[str, Any]:
    from asgi import application

    return {"webhook": (application, f"/hooks/{SECRET}")}
