"""Plots of a report as SVG images, drawn by matplotlib: no window, no file beside them, colors for light and dark.

matplotlib is imported when the first plot is drawn. What it keeps, such as its list of fonts, is in lmgraph's cache.
"""

from __future__ import annotations

import io
import math
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmgraph.engines.home import lmgraph_home

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = 640, 310
"""Pixels: of a plot that stands alone, of one beside others."""
STEPS_WITH_MARKERS = 40
OVERALL = "all"
"""The curve over everything, beside those of parts."""
_SETTINGS_FOLDER = "MPLCONFIGDIR"

# Stand-ins that matplotlib writes into the SVG; each becomes a variable of its style sheet.
_INK, _GRID, _STRONG, _WEAK, _PAGE = "#010101", "#020202", "#030303", "#040404", "#0a0a0a"
_SERIES = ("#030303", "#050505", "#060606", "#070707", "#080808", "#090909")
_DASHES = ("-", "--", ":")
_COLORS = {
    _INK: ("#57606a", "#9aa4af"),
    _GRID: ("#d8dee4", "#373e47"),
    _STRONG: ("#0969da", "#58a6ff"),
    _WEAK: ("#8c959f", "#6e7681"),
    _PAGE: ("#ffffff", "#0d1117"),
    "#050505": ("#bc4c00", "#f0883e"),
    "#060606": ("#1a7f37", "#3fb950"),
    "#070707": ("#8250df", "#bc8cff"),
    "#080808": ("#cf222e", "#ff7b72"),
    "#090909": ("#1b7c83", "#39c5cf"),
}
"""Stand-in to its color on a light page and on a dark one."""
_RC: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "lmgraph", "text.parse_math": False, "font.size": 11.0,
    "text.color": _INK, "axes.labelcolor": _INK, "axes.titlecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.edgecolor": _GRID, "grid.color": _GRID, "axes.grid": True, "axes.axisbelow": True, "axes.titlesize": 11.0,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "legend.frameon": False, "xtick.major.size": 0.0, "ytick.major.size": 0.0, "lines.linewidth": 1.6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plot:
    """One image. ``alt`` says in words what it shows."""

    svg: str
    alt: str
    width: int
    """Pixels."""

    @property
    def source(self) -> str:
        """For the `src` of an image."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Scored:
    """A stage: its score with an interval, and the calls that were made by then."""

    name: str
    calls: int
    score: float
    low: float
    high: float
    kept: bool


def scores_over_calls(stages: Sequence[Scored]) -> Plot:
    """Each stage's score with its interval at the calls made by then, and the best so far as a line."""
    kept = [stage for stage in stages if stage.kept]
    close = 0.2 * max(stage.calls for stage in stages)

    def draw(axes: Axes) -> None:
        ends = [*kept, stages[-1]]
        best = [*(stage.score for stage in kept), kept[-1].score] if kept else []
        if kept:
            axes.step([stage.calls for stage in ends], best, where="post", color=_STRONG, linewidth=1.2, alpha=0.6)
        above, before = False, -math.inf
        for stage in stages:
            color = _STRONG if stage.kept else _WEAK
            reach = [[max(stage.score - stage.low, 0.0)], [max(stage.high - stage.score, 0.0)]]
            face = color if stage.kept else "none"
            axes.errorbar(
                [stage.calls], [stage.score], yerr=reach, fmt="o", color=color, markerfacecolor=face, capsize=3
            )
            above = not above or stage.calls - before > close  # names of stages that stand close together
            before = stage.calls
            axes.annotate(
                f"{stage.name} {stage.score:.3f}",
                (stage.calls, stage.high if above else stage.low),
                xytext=(0, 5 if above else -5),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                bbox={"facecolor": _PAGE, "edgecolor": "none", "pad": 1, "alpha": 0.85},
            )
        axes.margins(x=0.12, y=0.2)
        axes.set_xlabel("calls")
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")

    told = "; ".join(
        f"{stage.name} {stage.score:.3f} ({stage.low:.3f} to {stage.high:.3f}) at {stage.calls:,} calls"
        + ("" if stage.kept else ", not kept")
        for stage in stages
    )
    return Plot(_svg(WIDE, 280, draw), f"Score with its interval over calls: {told}.", WIDE)


def curves(title: str, series: Mapping[str, Sequence[float]]) -> Plot:
    """Lines over steps, one a name. Values that are no finite numbers leave a gap.

    That of `OVERALL` stands out, and the n-th of the others looks the same in all plots.
    """
    others = [name for name in series if name != OVERALL]

    def draw(axes: Axes) -> None:
        for name, values in series.items():
            turn, color = divmod(others.index(name), len(_SERIES)) if name in others else (0, 0)
            axes.plot(
                range(1, len(values) + 1),
                [value if math.isfinite(value) else math.nan for value in values],
                color=_SERIES[color] if name in others or not others else _INK,
                linestyle=_DASHES[turn % len(_DASHES)],
                linewidth=1.2 if name in others else 2.0,
                marker="o" if len(values) <= STEPS_WITH_MARKERS else "",
                markersize=2.5,
                label=name,
            )
        axes.set_title(title, loc="left")
        axes.locator_params(axis="x", integer=True)
        if len(series) > 1:
            axes.figure.legend(loc="outside lower left", ncols=2, fontsize=10)

    rows = math.ceil(len(series) / 2) if len(series) > 1 else 0
    told = "; ".join(f"{name} {_ends(values)}" for name, values in series.items())
    return Plot(_svg(NARROW, 170 + 17 * rows, draw), f"{title} over the steps: {told}.", NARROW)


def shares(title: str, names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> Plot:
    """Horizontal bars from 0 to 100 %: for each name one of each group, such as before and after."""
    thick = 0.8 / len(groups)
    colors = (_WEAK, *_SERIES)

    def draw(axes: Axes) -> None:
        for position, (group, values) in enumerate(groups.items()):
            places = [row + thick * (position - (len(groups) - 1) / 2) for row in range(len(names))]
            bars = axes.barh(places, values, height=thick, color=colors[position], label=group)
            axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=3, fontsize=10)
        _names(axes, names)
        axes.set_xlim(0.0, 1.08)
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
        axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
        axes.figure.legend(loc="outside lower left", ncols=len(groups), fontsize=10)

    told = "; ".join(
        f"{name} " + ", ".join(f"{group} {values[row]:.0%}" for group, values in groups.items())
        for row, name in enumerate(names)
    )
    return Plot(_svg(WIDE, 70 + 36 * len(names), draw), f"{title}: {told}.", WIDE)


def amounts(title: str, names: Sequence[str], values: Sequence[float], form: str) -> Plot:
    """A horizontal bar for each name, with its value in the format ``form``."""

    def draw(axes: Axes) -> None:
        bars = axes.barh(range(len(names)), values, height=0.6, color=_STRONG)
        axes.bar_label(bars, [format(value, form) for value in values], padding=3, fontsize=10)
        _names(axes, names)
        axes.set_title(title, loc="left")
        axes.set_xticks([])
        axes.margins(x=0.3)

    told = "; ".join(f"{name} {value:{form}}" for name, value in zip(names, values, strict=True))
    return Plot(_svg(NARROW, 40 + 24 * len(names), draw), f"{title}: {told}.", NARROW)


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Down the left side, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _ends(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    return f"from {known[0]:.3g} to {known[-1]:.3g}" if known else "without a number"


def _svg(width: int, height: int, draw: Callable[[Axes], None]) -> str:
    """What ``draw`` draws, as one image of this size in pixels. The same drawing is the same text.

    Raises: ImportError where matplotlib is missing.
    """
    with _own_settings():
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        draw(figure.add_subplot())
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    for color in _COLORS:
        text = text.replace(color, f"var(--{color[1:]})")
    return text.replace("<defs>", f"<defs><style>{_style()}</style>", 1)


def _style() -> str:
    light, dark = (
        "".join(f"--{stand_in[1:]}:{pair[which]};" for stand_in, pair in _COLORS.items()) for which in (0, 1)
    )
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "text{font-family:system-ui,sans-serif!important}"
    )


@contextmanager
def _own_settings() -> Iterator[None]:
    """matplotlib, where it is imported in here for the first time, keeps what it writes in lmgraph's cache."""
    if "matplotlib" in sys.modules or _SETTINGS_FOLDER in os.environ:
        yield
        return
    os.environ[_SETTINGS_FOLDER] = str(lmgraph_home() / "matplotlib")
    try:
        yield
    finally:
        del os.environ[_SETTINGS_FOLDER]
