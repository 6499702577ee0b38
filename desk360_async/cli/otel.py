"""`desk360 otel`: the dashboard, which the package holds."""

from desk360_async.otel import dashboard as dashboard_text

from ._terminal import Terminal

__all__ = ["dashboard"]


def dashboard() -> int:
    """Print a Grafana dashboard of eight panels as JSON; import it, and choose a Prometheus data source."""
    Terminal().out.file.write(dashboard_text())
    return 0
