"""A report as one HTML file: SVG plots beside tables of the same numbers, without scripts and phones."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from desk360_async._redaction import mask_numbers
from desk360_async.campaigns._values import Report

_WIDTH, _HEIGHT = 600, 130
_STATES = ("accepted", "not_sent", "unknown", "skipped", "on_the_wire", "pending")
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head><body><main>
"""


def render(report: Report, per_minute: int | None = None) -> str:
    """Return a report as a self-contained HTML document.

    Args:
        report: the report.
        per_minute: recipients a minute that the rate limit allows, drawn as a line; None draws none.
    """
    title = mask_numbers(f"Campaign {report.name}")
    style = files("desk360_async.campaigns").joinpath("report.css").read_text(encoding="utf-8")
    parts = [
        _HEAD.format(title=escape(title), style=style),
        f"<h1>{escape(title)}</h1>",
        f"<p>{report.counts.total:,} recipients, {report.requests:,} requests{_times(report)}</p>",
        _section("States", _bar(_states(report)), _table("State", _states(report))),
        _section("Progress", _progress(report.timeline)),
        _section("Recipients a minute", _rate(report.timeline, per_minute)),
        _section("Deliveries", _funnel(_deliveries(report)), _table("Delivery", _deliveries(report))),
        _section("Reasons", _table("Reason", _reasons(report))),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _times(report: Report) -> str:
    if report.started is None or report.ended is None:
        return ""
    return f", {report.started:%Y-%m-%d %H:%M:%S} to {report.ended:%Y-%m-%d %H:%M:%S} UTC"


def _states(report: Report) -> dict[str, int]:
    return {name: getattr(report.counts, name) for name in _STATES if getattr(report.counts, name)}


def _deliveries(report: Report) -> dict[str, int]:
    return {
        "sent": report.counts.accepted,
        "delivered": report.delivered,
        "read": report.read,
        "failed": report.failed,
    }


def _reasons(report: Report) -> dict[str, int]:
    found = {f"{state}: {reason}": number for (state, reason), number in report.reasons.items()}
    return found | {f"left out: {reason}": number for reason, number in report.left_out.items()}


def _section(title: str, *parts: str) -> str:
    content = "".join(parts)
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _table(head: str, rows: Mapping[str, int]) -> str:
    # A reason may quote an answer of the server, and the answer a number.
    body = "".join(
        f'<tr><th scope="row">{escape(mask_numbers(name))}</th><td>{number:,}</td></tr>'
        for name, number in rows.items()
    )
    return (
        f'<table><thead><tr><th scope="col">{head}</th><th scope="col">Count</th></tr></thead>{body}</table>'
    )


def _svg(label: str, height: float, *parts: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _bar(states: Mapping[str, int]) -> str:
    total, x, parts = sum(states.values()), 0.0, list[str]()
    for name, number in states.items():
        width = _WIDTH * number / total
        parts.append(
            f'<rect class="{name}" x="{x:.2f}" y="0" width="{width:.2f}" height="26">'
            f"<title>{name}: {number:,}</title></rect>"
        )
        x += width
    return _svg("Recipients by state", 26, *parts) if parts else ""


def _line(label: str, points: Sequence[tuple[float, float]], cap: float | None = None) -> str:
    top = max([y for _, y in points] + [cap or 0.0, 1.0]) * 1.05
    first, last = points[0][0], points[-1][0]
    span = (last - first) or 1.0
    path = " ".join(
        f"{_WIDTH * (x - first) / span:.1f},{_HEIGHT - (_HEIGHT - 4) * y / top:.1f}" for x, y in points
    )
    parts = [f'<polyline class="line" points="{path}"/>']
    if cap is not None:
        at = _HEIGHT - (_HEIGHT - 4) * cap / top
        parts.append(f'<line class="cap" x1="0" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="4" y="{at + 15:.1f}">limit: {cap:g} a minute</text>')
    parts.append(f'<text x="4" y="{_HEIGHT + 16}">{_clock(first)}</text>')
    parts.append(f'<text x="{_WIDTH - 4}" y="{_HEIGHT + 16}" text-anchor="end">{_clock(last)}</text>')
    return _svg(label, _HEIGHT + 22, *parts)


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def _progress(timeline: Sequence[tuple[float, int]]) -> str:
    if not timeline:
        return ""
    points, done = [(timeline[0][0] - 1, 0.0)], 0
    for at, recipients in timeline:
        done += recipients
        points.append((at, float(done)))
    return _line(f"Recipients with an outcome over time, {done:,} in the end", points)


def minutes_of(timeline: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Return the recipients of each minute of a timeline: (the minute's start, recipients)."""
    found: dict[float, float] = {}
    for at, recipients in timeline:
        minute = at - (at - timeline[0][0]) % 60
        found[minute] = found.get(minute, 0.0) + recipients
    return sorted(found.items())


def _rate(timeline: Sequence[tuple[float, int]], per_minute: int | None) -> str:
    return _line("Recipients a minute", minutes_of(timeline), per_minute) if timeline else ""


def _funnel(deliveries: Mapping[str, int]) -> str:
    top = max([*deliveries.values(), 1])
    parts: list[str] = []
    for row, (name, number) in enumerate(deliveries.items()):
        width = 400 * number / top
        parts.append(f'<text x="0" y="{row * 26 + 18}">{name}</text>')
        parts.append(f'<rect class="funnel" x="100" y="{row * 26 + 3}" width="{width:.1f}" height="20"/>')
        parts.append(f'<text x="{108 + width:.1f}" y="{row * 26 + 18}">{number:,}</text>')
    return _svg("Deliveries", len(deliveries) * 26, *parts)
