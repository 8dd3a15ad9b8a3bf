"""Small plots as SVG text, for the report: no library, no script, no file beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, RIGHT = 640, 150, 90
"""Pixels: of a plot, of the names on its left, of the figures on its right."""
ROW = 26
TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of an interval plot."""

    name: str
    value: float
    low: float
    high: float
    strong: bool = False


def intervals(bars: Sequence[Bar], low: float, high: float) -> str:
    """A point with its interval for each bar, on one scale from ``low`` to ``high``."""
    span = (high - low) or 1.0
    plot = WIDTH - LABELS - RIGHT

    def x(value: float) -> float:
        return LABELS + plot * (min(max(value, low), high) - low) / span

    bottom = ROW * len(bars) + 6
    parts = []
    for tick in range(TICKS + 1):
        value = low + span * tick / TICKS
        parts.append(_line(x(value), 4, x(value), bottom, "grid"))
        parts.append(_text(x(value), bottom + 14, f"{value:g}", "middle"))
    for index, bar in enumerate(bars):
        y = ROW * index + ROW / 2 + 4
        kind = "strong" if bar.strong else "weak"
        parts.append(_text(LABELS - 8, y + 4, bar.name, "end"))
        parts.append(_line(x(bar.low), y, x(bar.high), y, kind))
        parts.append(f'<circle class="{kind}" cx="{x(bar.value):.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(_text(WIDTH - RIGHT + 10, y + 4, f"{bar.value:.3f}", "start"))
    return _svg(bottom + 20, parts)


def line(values: Sequence[float], name: str) -> str:
    """One curve over its steps, with its least and greatest value. Values that are no numbers leave a gap."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    height = 90
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    plot = WIDTH - LABELS - RIGHT

    def at(index: int, value: float) -> str:
        across = index / (len(values) - 1) if len(values) > 1 else 0.5
        return f"{LABELS + plot * across:.1f},{8 + (height - 16) * (1 - (value - low) / span):.1f}"

    parts = [_line(LABELS, height - 8, LABELS + plot, height - 8, "grid"), _line(LABELS, 8, LABELS + plot, 8, "grid")]
    stretch: list[str] = []
    for index, value in enumerate([*values, math.nan]):
        if math.isfinite(value):
            stretch.append(at(index, value))
        elif stretch:
            if len(stretch) == 1:
                x, y = stretch[0].split(",")
                parts.append(f'<circle class="strong" cx="{x}" cy="{y}" r="3"/>')
            parts.append(f'<polyline class="strong" points="{" ".join(stretch)}"/>')
            stretch = []
    parts.append(_text(LABELS - 8, height / 2 + 4, name, "end"))
    parts.append(_text(WIDTH - RIGHT + 10, 12, f"{high:.3g}", "start"))
    parts.append(_text(WIDTH - RIGHT + 10, height - 4, f"{low:.3g}", "start"))
    return _svg(height, parts)


def steps(points: Sequence[tuple[float, float, str, bool]], across: str) -> str:
    """(x, y, name, strong) in order of x, joined by a line; x from 0, labelled ``across``."""
    height, plot = 150, WIDTH - LABELS - RIGHT
    widest = max(x for x, *_ in points) or 1.0
    low, high = min(y for _, y, *_ in points), max(y for _, y, *_ in points)
    span = (high - low) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return LABELS + plot * x / widest, 24 + (height - 66) * (1 - (y - low) / span)

    bottom = height - 34
    parts = [_line(LABELS, bottom, LABELS + plot, bottom, "grid")]
    joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in (at(x, y) for x, y, *_ in points))
    parts.append(f'<polyline class="strong" points="{joined}"/>')
    for x, y, name, strong in points:
        a, b = at(x, y)
        parts.append(f'<circle class="{"strong" if strong else "weak"}" cx="{a:.1f}" cy="{b:.1f}" r="4"/>')
        parts.append(_text(a, b - 8, f"{name} {y:.3f}", "middle"))
    parts.append(_text(LABELS, bottom + 16, "0", "middle"))
    parts.append(_text(LABELS + plot, bottom + 16, f"{widest:,.0f} {across}", "middle"))
    return _svg(height, parts)


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">' + "".join(parts) + "</svg>"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
