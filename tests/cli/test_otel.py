"""`desk360 otel`: the dashboard as JSON."""

import json

from .conftest import Desk360


def test_the_dashboard_is_json_with_eight_panels(desk360: Desk360) -> None:
    """It can be piped into Grafana's import."""
    run = desk360("otel", "dashboard")
    assert (run.code, run.err, len(json.loads(run.out)["panels"])) == (0, "", 8)
