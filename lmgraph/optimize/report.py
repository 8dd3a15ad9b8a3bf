"""The one-page report of an optimize run, in Markdown: scores, what changed, curves, cost, how to repeat it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmgraph.evaluate.task import Task
from lmgraph.graph.counts import counts_of
from lmgraph.graph.graph import ModuleSpec
from lmgraph.optimize.difference import demo_data, instruction_diff
from lmgraph.optimize.records import StageRecord
from lmgraph.program.params import NodeParams
from lmgraph.program.program import Program

_BARS = "▁▂▃▄▅▆▇█"
SCORE_HEADS = (
    "stage", "score", "95 % interval", "rows", "decoding", "failed runs", "calls", "tokens", "usd", "seconds", "kept",
)  # fmt: skip
FAILURE_HEADS = ("module", "start: calls", "failed", "kept: calls", "failed")
PAIRED_HEADS = ("stage", "difference", "95 % interval", "better", "worse", "p", "test")


@dataclass(frozen=True, slots=True)
class Report:
    """What an optimize run has to tell. It is rendered as Markdown here and as HTML in report_html.py."""

    best: Program
    task: Task
    records: Sequence[StageRecord]
    command: str
    seed: int
    models: str
    stopped: str | None
    test: Mapping[str, Any] | None = None
    """Scores of the start and of the best on the test rows, as `compose` keeps them in the study."""

    @property
    def heading(self) -> str:
        objective = self.task.objective
        return (
            f"Objective `{objective.name}`: {', '.join(objective.metrics)} of flow `{objective.flow}`, range"
            f" {objective.low:g} to {objective.high:g}. Model: {self.models}. Seed {self.seed}."
        )

    @property
    def kept(self) -> StageRecord:
        """The last stage that was kept: what the run ends with."""
        return [record for record in self.records if record.kept][-1]

    @property
    def labelled(self) -> list[tuple[str, StageRecord]]:
        """Stages with names that tell them apart: those that came up several times have their number before them."""
        names = [record.name for record in self.records]
        return [
            (f"{index} {record.name}" if names.count(record.name) > 1 else record.name, record)
            for index, record in enumerate(self.records)
        ]

    @property
    def score_note(self) -> str:
        note = (
            "A stage is kept where its dev score is above every one before it."
            " Calls include those that score the stage."
        )
        if self.best.params.counts:
            note += " One that chose other counts is also kept where it scores the same and takes fewer tokens."
        if reused := sum(record.reused for record in self.records):
            made = sum(record.calls for record in self.records)
            note += (
                f" {reused} more calls were answered by earlier runs of the same rows, because no change reached them:"
                f" {reused / (reused + made):.0%} of all."
            )
        if recovered := sum(record.recovered for record in self.records):
            note += f" Of them {recovered} were made before the run was interrupted, and not again."
        failed = sum(sum(record.dev.get("failed_metrics", {}).values()) for record in self.records)
        if failed:
            note += f" On {failed} scored rows a judge gave nothing usable: they score the low end of the range."
        return note

    @property
    def doubts(self) -> list[str]:
        """Warnings about gains that the rows do not show."""
        found = []
        for label, record in self.labelled:
            said = None if record.paired is None else record.paired.get("doubt")
            if said and record.kept:
                found.append(f"Stage {label}: {said}")
        return found


def render_report(report: Report) -> str:
    """Markdown."""
    parts = [f"# Optimizing {report.best.graph.name}", report.heading]
    if report.stopped:
        parts.append(f"**Stopped early.** {report.stopped} What was found until then is below.")
    parts += ["## Scores on the dev rows", _table(SCORE_HEADS, score_rows(report)), report.score_note]
    if rows := paired_rows(report):
        parts += ["## Against the start, row by row", _table(PAIRED_HEADS, rows)]
        if len(rows) > 1:
            parts.append(f"Each p is of one comparison; there are {len(rows)}, so one small p of them says less.")
    parts += [f"**Warning.** {doubt}" for doubt in report.doubts]
    if rows := failure_rows(report):
        parts += ["## Calls that failed on the dev rows, by module", _table(FAILURE_HEADS, rows)]
    if sentences := test_rows_told(report):
        parts += ["## Test rows", *sentences]
    for label, record in report.labelled[1:]:
        parts += [f"## Stage {label}", *_stage(record)]
    parts.append("## The program that was kept")
    parts += counts_told(report.best)
    for module in report.best.graph.modules:
        parts += _module(module, report.best.params.modules[module.name], report.best)
    if report.command:
        parts += ["## To repeat this run", f"```sh\n{report.command}\n```"]
    return "\n\n".join(parts) + "\n"


def score_rows(report: Report) -> list[tuple[str, ...]]:
    """Cells of the table of scores."""
    rows: list[tuple[str, ...]] = []
    for label, record in report.labelled:
        dev = record.dev
        rows.append(
            (
                label,
                f"{dev['score']:.3f}",
                f"{dev['low']:.3f} to {dev['high']:.3f}",
                str(dev["rows"]),
                str(dev["decoding"]),
                str(sum(dev["failures"].values())),
                str(record.calls),
                str(record.tokens),
                f"{record.usd:.4g}",
                f"{record.seconds:.0f}",
                "yes" if record.kept else "no",
            )
        )
    return rows


def paired_rows(report: Report) -> list[tuple[str, ...]]:
    """Cells of the table of paired tests; empty where there is none."""
    return [(label, *paired_cells(record.paired)) for label, record in report.labelled[1:] if record.paired is not None]


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Of one module."""

    calls: int = 0
    failed: int = 0

    @property
    def share(self) -> float:
        return self.failed / self.calls if self.calls else 0.0


def failure_counts(report: Report) -> dict[str, tuple[CallCounts, CallCounts]]:
    """Calls of each module on the dev rows in the start and in what was kept; empty where none failed."""
    start, kept = (
        {name: CallCounts(**counts) for name, counts in record.dev.get("modules", {}).items()}
        for record in (report.records[0], report.kept)
    )
    if not any(counts.failed for counts in (*start.values(), *kept.values())):
        return {}
    return {name: (start.get(name, CallCounts()), kept.get(name, CallCounts())) for name in {**start, **kept}}


def failure_rows(report: Report) -> list[tuple[str, ...]]:
    """Cells of the table of failed calls; empty where none failed."""
    return [
        (name, *(cell for one in both for cell in (str(one.calls), f"{one.failed} ({one.share:.0%})")))
        for name, both in failure_counts(report).items()
    ]


def paired_cells(paired: Mapping[str, Any]) -> tuple[str, ...]:
    """A comparison's figures, as `PAIRED_HEADS` names them after the stage."""
    return (
        f"{paired['difference']:+.3f}",
        f"{paired['low']:+.3f} to {paired['high']:+.3f}",
        str(paired["better"]),
        str(paired["worse"]),
        "< 0.001" if paired["p"] < 0.001 else f"{paired['p']:.3f}",
        str(paired["test"]),
    )


def test_rows_told(report: Report) -> list[str]:
    """What the test rows say; empty where they were not scored."""
    if report.test is None:
        return []
    start, best, paired = (report.test[name] for name in ("start", "best", "paired"))
    told = [
        f"Scored once, at the end, on {start['rows']} rows that no stage read: the start"
        f" {start['score']:.3f} ({start['low']:.3f} to {start['high']:.3f}), what was kept"
        f" {best['score']:.3f} ({best['low']:.3f} to {best['high']:.3f})."
    ]
    if paired is not None:
        cells = dict(zip(PAIRED_HEADS[1:], paired_cells(paired), strict=True))
        told.append(
            f"Row by row the difference is {cells['difference']} ({cells['95 % interval']}), p {cells['p']}"
            f" ({cells['test']})."
        )
        if paired.get("doubt"):
            told.append(paired["doubt"])
    return told


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "| " + " | ".join("---" for _ in heads) + " |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _stage(record: StageRecord) -> list[str]:
    parts = ["\n".join(f"- {note}" for note in record.notes)] if record.notes else []
    curves: Mapping[str, Sequence[float]] = record.details.get("curves", {})
    rows = [
        f"| {name} | {_figure(values[0])} | {_figure(values[-1])} | {sparkline(values)} |"
        for name, values in curves.items()
        if values
    ]
    if rows:
        parts.append("\n".join(["| curve | first | last | over the steps |", "| --- | --- | --- | --- |", *rows]))
    candidates: Sequence[Mapping[str, Any]] = record.details.get("candidates", ())
    if candidates:
        cells = [(str(item["name"]), f"{item['score']:.3f}", str(item["rows"])) for item in candidates]
        parts.append(_table(("candidate", "score", "rows"), cells))
    options = " ".join(f"{name}={json.dumps(value)}" for name, value in record.options.items())
    parts.append(f"Options: `{options}`")
    return parts


def _module(module: ModuleSpec, params: NodeParams, program: Program) -> list[str]:
    parts = [f"### Module {module.name}"]
    if params.instruction != module.instruction:
        parts.append(_fence(instruction_diff(module.instruction, params.instruction), "diff"))
    else:
        parts.append("Instruction: the author's, unchanged.")
    if told := settings_told(params):
        parts.append(told)
    if params.adapter is not None:
        ref = program.params.adapters[params.adapter]
        parts.append(f"Adapter: `{ref.key}` on {ref.base_model}, sha256 `{ref.sha256[:16]}…`.")
    if params.demos:
        parts.append(f"{len(params.demos)} demos:")
        lines = [json.dumps(demo_data(demo), ensure_ascii=False) for demo in params.demos]
        parts.append(_fence("\n".join(lines), "json"))
    else:
        parts.append("No demos.")
    return parts


def counts_told(program: Program) -> list[str]:
    """The bounds of loops and the numbers of retrievals that are not the author's, a sentence each."""
    known = counts_of(program.graph) if program.params.counts else {}
    return [
        f"{name}: {value}, where the author says {known[name].most}." for name, value in program.params.counts.items()
    ]


def settings_told(params: NodeParams) -> str:
    """The settings that are not the author's, in a sentence; empty where there is none."""
    told = [] if params.temperature is None else [f"temperature {params.temperature:g}"]
    if params.reasons is not None:
        told.append("strategy cot" if params.reasons else "strategy predict")
    return f"Settings: {', '.join(told)}." if told else ""


def _fence(text: str, language: str) -> str:
    """A fenced block that no content can close early."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{language}\n{text}\n{ticks}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """One character a step, or a mean of steps where there are more than ``width``; blank where it is no number."""
    count = min(width, len(values))
    means = []
    for index in range(count):
        chunk = values[index * len(values) // count : (index + 1) * len(values) // count]
        means.append(sum(chunk) / len(chunk))
    known = [value for value in means if math.isfinite(value)]
    if not known:
        return " " * count
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(
        _BARS[round((value - low) / span * (len(_BARS) - 1))] if math.isfinite(value) else " " for value in means
    )


def _figure(value: float) -> str:
    """With three decimals, or where those would be zeros, with what there is."""
    return f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.1e}"
