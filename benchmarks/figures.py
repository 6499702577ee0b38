"""The figures of all benchmarks: each is printed as it is found, and `nox -s benchmarks` ends with one table.

Run: python -m benchmarks.figures FILE, on the rows that the benchmarks wrote to $DESK360_BENCHMARKS.
"""

import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = "DESK360_BENCHMARKS"  # the environment variable with the path of the rows
COLUMNS = ("figure", "goal", "measured", "spread", "peer", "")


def note(
    name: str,
    values: Sequence[float],
    goal: float | None = None,
    *,
    peer: str = "",
    unit: str = "x",
    at_least: bool = False,
) -> bool:
    """Print one figure, and write it to the file of rows, if there is one.

    Args:
        name: the figure's name; its number in front, such as "P1".
        values: one value a run.
        goal: a bound of the median; None for a figure that is only measured.
        peer: the other side of a ratio.
        unit: "x" for ratios.
        at_least: whether the goal is a lower bound.

    Returns:
        Whether the goal is met.
    """
    median = statistics.median(values)
    met = goal is None or (median >= goal if at_least else median <= goal)
    row = {
        "figure": name,
        "goal": "" if goal is None else f"{'>=' if at_least else '<='} {goal:g}",
        "measured": f"{_short(median)} {unit}",
        "spread": "" if len(values) < 2 else f"{_short(min(values))}-{_short(max(values))}",
        "peer": peer,
        "": "" if goal is None else "ok" if met else "MISSED",
    }
    print("  ".join(cell for cell in row.values() if cell), flush=True)
    if path := os.environ.get(FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return met


def _short(value: float) -> str:
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table of text, and how many goals are missed."""
    cells = [COLUMNS, *(tuple(row[name] for name in COLUMNS) for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    missed = sum(row[""] == "MISSED" for row in rows)
    goals = sum(bool(row["goal"]) for row in rows)
    return "\n".join([*(line.rstrip() for line in lines), f"{missed} of {goals} goals missed"])


def main(path: str) -> None:
    """Print the table of a file of rows."""
    print(table([json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]))


def peak_memory() -> float:
    """Return the most memory of this process so far, in MB; `ru_maxrss` would begin with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
