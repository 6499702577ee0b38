"""A report as one HTML file: SVG plots beside tables of the same numbers, without scripts and phones."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from desk360_async._redaction import mask_numbers
from desk360_async.campaigns._values import Report, words_for

_WIDTH, _HEIGHT, _BELOW = 600, 130, 26
_DAY = 86_400
_STATES = ("accepted", "not_sent", "unknown", "skipped", "on_the_wire", "pending")
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head><body><main>
"""


def render(report: Report, limit: int) -> str:
    """Return a report as a self-contained HTML document.

    Args:
        report: the report.
        limit: requests per minute that the server allows; a line in the plot of recipients per minute.
    """
    title = mask_numbers(f"Campaign {report.name}")
    style = files("desk360_async.campaigns").joinpath("report.css").read_text(encoding="utf-8")
    parts = [
        _HEAD.format(title=escape(title), style=style),
        f"<h1>{escape(title)}</h1>",
        f"<p>{report.counts.total:,} recipients, {report.requests:,} requests{_times(report)}</p>",
        _section("States", _bar(_states(report)), _table("State", _states(report))),
        _section("Progress", _progress(report.timeline)),
        _section("Recipients a minute", _rate(report, limit)),
        _section("Deliveries", _funnel(_deliveries(report)), _table("Delivery", _deliveries(report))),
        _section("Reasons", _table("Reason", _reasons(report)) if report.reasons or report.left_out else ""),
        _section("Resolved by hand", _lines(report.resolutions)),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _times(report: Report) -> str:
    if report.started is None or report.ended is None:
        return ""
    return f", {report.started:%Y-%m-%d %H:%M:%S} to {report.ended:%Y-%m-%d %H:%M:%S} UTC"


def _states(report: Report) -> dict[str, int]:
    return {name: getattr(report.counts, name) for name in _STATES if getattr(report.counts, name)}


def in_words(state: str) -> str:
    """Return a state in words: "not sent" for "not_sent"."""
    return state.replace("_", " ")


def _deliveries(report: Report) -> dict[str, int]:
    return {
        "sent": report.counts.accepted,
        "delivered": report.delivered,
        "read": report.read,
        "failed": report.failed,
    }


def _reasons(report: Report) -> dict[str, int]:
    found = {
        f"{in_words(state)}: {words_for(reason)}": number
        for (state, reason), number in report.reasons.items()
    }
    return found | {f"left out: {words_for(reason)}": number for reason, number in report.left_out.items()}


def _section(title: str, *parts: str) -> str:
    content = "".join(parts)
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _table(head: str, rows: Mapping[str, int]) -> str:
    # A reason may quote an answer of the server, and the answer may contain a phone number.
    body = "".join(
        f'<tr><th scope="row">{escape(mask_numbers(in_words(name)))}</th><td>{number:,}</td></tr>'
        for name, number in rows.items()
    )
    heads = f'<th scope="col">{head}</th><th scope="col">Count</th>'
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _lines(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(mask_numbers(text))}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


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
            f"<title>{in_words(name)}: {number:,}</title></rect>"
        )
        x += width
    return _svg("Recipients by state", 26, *parts) if parts else ""


def _y(value: float, top: float) -> float:
    return _HEIGHT - (_HEIGHT - 24) * value / (top or 1.0)


def _axis(first: float, last: float) -> list[str]:
    """Return the line below a plot and its two times in UTC; with dates if a day or more is between them."""
    form = "%d %b %H:%M" if last - first >= _DAY else "%H:%M:%S"
    ends = [f"{datetime.fromtimestamp(at, UTC):{form}}" for at in (first, last)]
    return [
        f'<line class="base" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>',
        f'<text x="4" y="{_HEIGHT + 20}">{ends[0]}</text>',
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT + 20}" text-anchor="end">{ends[1]}</text>',
    ]


def _progress(timeline: Sequence[tuple[float, int]]) -> str:
    if not timeline:
        return ""
    first, last = timeline[0][0] - 1, timeline[-1][0]
    total, done = sum(recipients for _, recipients in timeline), 0
    points = [f"0.0,{_HEIGHT:.1f}"]
    for at, recipients in timeline:
        done += recipients
        points.append(f"{_WIDTH * (at - first) / (last - first):.1f},{_y(done, total):.1f}")
    parts = [
        f'<polyline class="line" points="{" ".join(points)}"/>',
        f'<text x="{_WIDTH - 4}" y="18" text-anchor="end">{total:,}</text>',
        *_axis(first, last),
    ]
    return _svg(f"Recipients with an outcome over time, {total:,} in the end", _HEIGHT + _BELOW, *parts)


def _rate(report: Report, limit: int) -> str:
    minutes = report.minutes()
    if not minutes:
        return ""
    most, cap = max(count for _, count in minutes), report.recipients_a_minute(limit)
    first, last, top = minutes[0][0], minutes[-1][0] + 60, max(most, cap)
    path, end = f"M0,{_HEIGHT}", first
    for at, count in minutes:
        gap = f"V{_HEIGHT}H{_WIDTH * (at - first) / (last - first):.1f}" if at > end else ""
        end = at + 60
        path += f"{gap}V{_y(count, top):.1f}H{_WIDTH * (end - first) / (last - first):.1f}"
    line = _y(cap, top)
    parts = [
        f'<path class="rate" d="{path}V{_HEIGHT}Z"/>',
        f'<line class="cap" x1="0" x2="{_WIDTH}" y1="{line:.1f}" y2="{line:.1f}"/>',
        f'<text x="4" y="{line - 5:.1f}">limit: {limit} requests a minute, about {cap:,} recipients</text>',
        f'<text x="{_WIDTH / 2:g}" y="{_HEIGHT + 20}" text-anchor="middle">at most {most:,.0f}</text>',
        *_axis(first, last),
    ]
    return _svg(
        f"Recipients a minute, {most:,.0f} at most; the limit allows about {cap:,}", _HEIGHT + _BELOW, *parts
    )


def _funnel(deliveries: Mapping[str, int]) -> str:
    top = max([*deliveries.values(), 1])
    parts: list[str] = []
    for row, (name, number) in enumerate(deliveries.items()):
        width = 400 * number / top
        parts.append(f'<text x="0" y="{row * 26 + 18}">{name}</text>')
        parts.append(f'<rect class="funnel" x="100" y="{row * 26 + 3}" width="{width:.1f}" height="20"/>')
        parts.append(f'<text x="{108 + width:.1f}" y="{row * 26 + 18}">{number:,}</text>')
    return _svg("Deliveries", len(deliveries) * 26, *parts)
