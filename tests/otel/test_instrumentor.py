"""`opentelemetry-instrument python app.py`: the entry point, and the line where a package is missing."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from desk360_async import ConfigurationError, LogObserver, otel
from desk360_async._observer import parse_observers
from desk360_async.otel import OpenTelemetry
from desk360_async.sandbox import Sandbox

HOME = "opentelemetry.instrumentation.instrumentor"


class BaseInstrumentor:
    """As much of the real one as ours needs; it comes with a package that tests do without."""

    def instrument(self, **providers: Any) -> None:
        """Call ours."""
        self._instrument(**providers)  # type: ignore[attr-defined]  # the child's

    def uninstrument(self) -> None:
        """Call ours."""
        self._uninstrument()  # type: ignore[attr-defined]  # the child's


@pytest.fixture
def instrumentor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ours, on a stand-in for the base."""
    module = ModuleType(HOME)
    module.BaseInstrumentor = BaseInstrumentor  # type: ignore[attr-defined]  # a module of the test's own
    for name in ("opentelemetry.instrumentation", HOME):
        monkeypatch.setitem(sys.modules, name, module if name == HOME else ModuleType(name))
    yield otel.Desk360Instrumentor()
    vars(otel).pop("Desk360Instrumentor")


def test_instrumenting_lets_clients_without_an_observer_report(instrumentor: Any) -> None:
    instrumentor.instrument()
    during = parse_observers(None)._observers
    instrumentor.uninstrument()
    after = parse_observers(None)._observers
    assert [[type(each) for each in found] for found in (during, after)] == [
        [LogObserver, OpenTelemetry],
        [LogObserver],
    ]


def test_the_instrumentor_depends_on_this_package(instrumentor: Any) -> None:
    assert [name.partition(" ")[0] for name in instrumentor.instrumentation_dependencies()] == [
        "desk360-async"
    ]
    assert otel.Desk360Instrumentor is type(instrumentor)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, HOME, None)
    with pytest.raises(ConfigurationError, match="pip install opentelemetry-instrumentation"):
        otel.Desk360Instrumentor  # noqa: B018  # loaded when it is first asked for


def test_a_missing_api_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line that holds the command."""
    for name in [name for name in sys.modules if name.startswith("desk360_async.otel")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'desk360-async\[otel\]'"):
        import desk360_async.otel  # noqa: F401  # it raises


def test_the_module_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        otel.nonsense  # type: ignore[attr-defined]  # noqa: B018  # it raises


def test_the_entry_point_names_the_instrumentor() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["opentelemetry_instrumentor"]["desk360_async"]
    assert named == "desk360_async.otel:Desk360Instrumentor"


APP = """
import asyncio, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from desk360_async import AsyncDesk360

spans, reader = TracerProvider(), InMemoryMetricReader()
spans.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(spans)
metrics.set_meter_provider(MeterProvider([reader]))

async def main():
    async with AsyncDesk360("sandbox-key", base_url=sys.argv[1], integration_id=11) as client:
        await client.send_text("+905551112233", "Hello!")

asyncio.run(main())
print(reader.get_metrics_data().to_json())
"""


@pytest.mark.real
def test_the_instrument_command_needs_no_code_of_the_app(tmp_path: Path) -> None:
    """Its client reports to the SDK that the app sets up as for any other library; no phone is exported."""
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    if not command.exists():
        pytest.skip("opentelemetry-instrumentation is missing")
    (tmp_path / "app.py").write_text(APP)
    with Sandbox().serve_in_thread() as server:
        done = subprocess.run(
            [str(command), sys.executable, "app.py", server.url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert '"name": "desk360 send_text"' in done.stdout
    assert '"name": "desk360.client.messages"' in done.stdout
    assert '"desk360.outcome": "accepted"' in done.stdout
    assert "5551112233" not in done.stdout + done.stderr
