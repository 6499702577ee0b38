"""What the tests of webhooks share: the samples, and servers for the tests on real sockets."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from desk360_async.testing import WEBHOOKS, webhook_sample

MALFORMED = Path(__file__).parent.parent / "samples" / "webhooks" / "malformed"


@pytest.fixture
def sample():
    """Return a documented body's bytes by its name."""
    return webhook_sample


@pytest.fixture(scope="session")
def hosts():
    """Return the module beside this one that serves applications; tests are no package to import it from."""
    return beside("hosts")


@pytest.fixture(scope="session")
def storm():
    """Return the module beside this one that sends a campaign's statuses to workers."""
    return beside("storm")


def beside(name):
    """Load a module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for `malformed` all the malformed bodies, with what is expected of them."""
    if "malformed" in metafunc.fixturenames:
        expected: dict[str, Any] = json.loads((MALFORMED / "expected.json").read_text())
        cases = [((MALFORMED / f"{name}.body").read_bytes(), case) for name, case in expected.items()]
        metafunc.parametrize("malformed", cases, ids=list(expected))
    if "documented" in metafunc.fixturenames:
        metafunc.parametrize("documented", [webhook_sample(name) for name in WEBHOOKS], ids=WEBHOOKS)
