"""What it costs, beside peers in one run: `nox -s benchmarks`, or `python -m benchmarks.NAME`."""
