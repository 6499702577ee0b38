"""What the tests of webhooks share: the samples, and servers for the tests on real sockets."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parent.parent / "samples" / "webhooks"


@pytest.fixture
def sample():
    """Return a documented body's bytes by its name."""
    return lambda name: (SAMPLES / f"{name}.json").read_bytes()


@pytest.fixture(scope="session")
def hosts():
    """Return the module beside this one that serves applications; tests are no package to import it from."""
    spec = importlib.util.spec_from_file_location("hosts", Path(__file__).parent / "hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for `odd` all the odd bodies, with what is expected of them."""
    if "odd" in metafunc.fixturenames:
        expected: dict[str, Any] = json.loads((SAMPLES / "odd" / "expected.json").read_text())
        cases = [((SAMPLES / "odd" / f"{name}.body").read_bytes(), case) for name, case in expected.items()]
        metafunc.parametrize("odd", cases, ids=list(expected))
    if "documented" in metafunc.fixturenames:
        paths = sorted(SAMPLES.glob("*.json"))
        metafunc.parametrize("documented", [path.read_bytes() for path in paths], ids=[p.stem for p in paths])
