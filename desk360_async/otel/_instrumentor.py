"""The instrumentor for `opentelemetry-instrument`: it sets the default observers of the process."""

from collections.abc import Collection
from importlib import import_module
from typing import Any

from desk360_async import ConfigurationError, LogObserver
from desk360_async._observer import set_default_observers
from desk360_async.otel._telemetry import OpenTelemetry


def make_instrumentor() -> type[Any]:
    """Return the class `Desk360Instrumentor`, a `BaseInstrumentor`.

    Raises:
        ConfigurationError: if opentelemetry-instrumentation is missing.
    """
    try:
        base: Any = import_module("opentelemetry.instrumentation.instrumentor").BaseInstrumentor
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            "Desk360Instrumentor needs a package: pip install opentelemetry-instrumentation"
        ) from missing
    methods = {
        "__doc__": "Let clients and receivers that are given no observer report to OpenTelemetry as well.",
        "__module__": "desk360_async.otel",
        "instrumentation_dependencies": _dependencies,
        "_instrument": _instrument,
        "_uninstrument": _uninstrument,
    }
    return type("Desk360Instrumentor", (base,), methods)


def _dependencies(self: object) -> Collection[str]:
    """Return the packages that are instrumented: this one."""
    return ("desk360-async >= 0.2.0.dev0",)


def _instrument(self: object, **providers: Any) -> None:
    """Report to the global providers, or to those given, from the next client on."""
    telemetry = OpenTelemetry(providers.get("tracer_provider"), providers.get("meter_provider"))
    set_default_observers([LogObserver(), telemetry])


def _uninstrument(self: object, **_: Any) -> None:
    """Restore the default from the next client on."""
    set_default_observers([])
