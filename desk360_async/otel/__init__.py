"""OpenTelemetry for clients, webhook receivers and campaigns: spans and metrics (extra `otel`).

`AsyncDesk360(observer=[LogObserver(), OpenTelemetry()])` reports to the providers of the program. With
`opentelemetry-instrument python app.py` no code is needed: `Desk360Instrumentor` is an entry point.
"""

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from desk360_async import ConfigurationError

try:
    from desk360_async.otel._telemetry import OpenTelemetry
except ModuleNotFoundError as _missing:
    raise ConfigurationError(
        "desk360_async.otel needs opentelemetry-api: pip install 'desk360-async[otel]'"
    ) from _missing

if TYPE_CHECKING:
    Desk360Instrumentor: Any

__all__ = ["Desk360Instrumentor", "OpenTelemetry", "dashboard"]


def dashboard() -> str:
    """Return a Grafana dashboard of eight panels as JSON; `desk360 otel dashboard` prints it."""
    return files(__name__).joinpath("dashboard.json").read_text(encoding="utf-8")


if not TYPE_CHECKING:  # pragma: no branch  # at run time it never is

    def __getattr__(name: str) -> object:
        if name != "Desk360Instrumentor":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from desk360_async.otel._telemetry import make_instrumentor

        # The class is made once, since its base class stores the only instance on it.
        globals()[name] = made = make_instrumentor()
        return made
