"""Which plots a report has: the score over calls, what it cost, failed calls by module, and the curves of stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from lmgraph.optimize.plots import OVERALL, Plot, Scored, amounts, curves, scores_over_calls, shares
from lmgraph.optimize.records import StageRecord
from lmgraph.optimize.report import Report, failure_counts


@dataclass(frozen=True, slots=True)
class ReportPlots:
    """Those of one report; all empty where nothing can draw them."""

    scores: Sequence[Plot] = ()
    costs: Sequence[Plot] = ()
    failures: Sequence[Plot] = ()
    stages: Mapping[int, Sequence[Plot]] = field(default_factory=dict)
    """Curves, by the number of the stage."""


def draw_plots(report: Report) -> ReportPlots:
    """Raises: ImportError where matplotlib is missing."""
    return ReportPlots(
        [_scores(report)],
        _costs(report),
        _failures(report),
        {number: _curves(record) for number, record in enumerate(report.records)},
    )


def _scores(report: Report) -> Plot:
    spent = accumulate(record.calls for record in report.records)
    stages = [
        Scored(label, calls, record.dev["score"], record.dev["low"], record.dev["high"], record.kept)
        for calls, (label, record) in zip(spent, report.labelled, strict=True)
    ]
    return scores_over_calls(stages)


def _costs(report: Report) -> list[Plot]:
    """Units of which something was spent."""
    names = [label for label, _ in report.labelled]
    units: dict[str, tuple[list[float], str]] = {
        "calls": ([record.calls for record in report.records], ",.0f"),
        "tokens": ([record.tokens for record in report.records], ",.0f"),
        "seconds": ([record.seconds for record in report.records], ",.0f"),
        "usd": ([record.usd for record in report.records], ".4g"),
    }
    return [amounts(unit, names, values, form) for unit, (values, form) in units.items() if any(values)]


def _failures(report: Report) -> list[Plot]:
    counts = failure_counts(report)
    if not counts:
        return []
    both: dict[str, list[float]] = {"start": [], "kept": []}
    for start, kept in counts.values():
        both["start"].append(start.share)
        both["kept"].append(kept.share)
    return [shares("Share of calls that failed on the dev rows", list(counts), both)]


def _curves(record: StageRecord) -> list[Plot]:
    """One plot a figure. Curves of single modules, `MODULE: FIGURE`, share it with that over all."""
    figures: dict[str, dict[str, Sequence[float]]] = {}
    data: Mapping[str, Sequence[float]] = record.details.get("curves", {})
    for name, values in data.items():
        if any(math.isfinite(value) for value in values):
            module, colon, figure = name.rpartition(": ")
            figures.setdefault(figure, {})[module if colon else OVERALL] = values
    return [curves(figure, series) for figure, series in figures.items()]
