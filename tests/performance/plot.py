"""Latency against rate as an SVG: three panels, both axes logarithmic, one line per contestant."""

from collections.abc import Iterator
from math import ceil, floor, log10
from statistics import median
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 330, 300, 55, 50, 60
_COLOURS = ("#1f5fbf", "#444444", "#d9822b", "#2a9d5c", "#b03a7a")
_PANELS = ("p50", "p95", "p99")


def latency_plot(paced: dict[str, Any]) -> str:
    """Return the plot of the medians over the rounds; a line ends where its contestant falls behind."""
    lines = {
        title: [(float(rate), step) for rate, step in steps.items() if all(step["followed"])]
        for title, steps in paced.items()
    }
    rates = [rate for points in lines.values() for rate, _ in points]
    values = [median(step[name]) for points in lines.values() for _, step in points for name in _PANELS]
    if not rates:
        return '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
    x_range = _decades(min(rates), max(rates))
    y_range = _decades(max(min(values), 0.1), max(values))
    width = _LEFT + len(_PANELS) * (_WIDTH + _GAP)
    size = f'width="{width}" height="{_TOP + _HEIGHT + 110}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="white"/>',
    ]
    for number, name in enumerate(_PANELS):
        left = _LEFT + number * (_WIDTH + _GAP)
        parts += _panel(name, left, x_range, y_range)
        for colour, points in zip(_COLOURS, lines.values(), strict=False):
            at = [
                (_x(rate, left, x_range), _y(median(step[name]), y_range))
                for rate, step in sorted(points, key=_rate)
            ]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
    for number, (colour, title) in enumerate(zip(_COLOURS, lines, strict=False)):
        x, y = _LEFT + number % 3 * 330, _TOP + _HEIGHT + 65 + number // 3 * 22
        parts.append(f'<rect x="{x}" y="{y - 10}" width="22" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 30}" y="{y - 4}">{title}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(name: str, left: int, x_range: tuple[int, int], y_range: tuple[int, int]) -> Iterator[str]:
    yield f'<text x="{left}" y="{_TOP - 15}" font-weight="bold">{name}, ms from due to visible</text>'
    yield f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#999"/>'
    for value in _ticks(x_range):
        x = _x(value, left, x_range)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="#eee"/>'
        if f"{value:g}"[0] in "125":
            yield f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle" font-size="10">{_short(value)}</text>'
    yield f'<text x="{left + _WIDTH / 2}" y="{_TOP + _HEIGHT + 34}" text-anchor="middle">commands/s</text>'
    for value in _ticks(y_range):
        y = _y(value, y_range)
        yield f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>'
        if f"{value:g}"[0] in "125":
            yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="10">{_short(value)}</text>'


def _rate(point: tuple[float, Any]) -> float:
    return point[0]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _decades(low: float, high: float) -> tuple[int, int]:
    """Return the powers of ten around the values, one apart at least: there may be one rate only."""
    first = floor(log10(low))
    return first, max(ceil(log10(high)), first + 1)


def _ticks(decades: tuple[int, int]) -> Iterator[float]:
    for decade in range(*decades):
        yield from (step * 10.0**decade for step in (1, 2, 5))
    yield 10.0 ** decades[1]


def _x(value: float, left: int, decades: tuple[int, int]) -> float:
    return left + _WIDTH * (log10(value) - decades[0]) / (decades[1] - decades[0])


def _y(value: float, decades: tuple[int, int]) -> float:
    return _TOP + _HEIGHT * (
        1 - (log10(max(value, 10.0 ** decades[0])) - decades[0]) / (decades[1] - decades[0])
    )
