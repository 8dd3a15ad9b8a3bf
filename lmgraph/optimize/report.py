"""The one-page report of an optimize run, in Markdown: scores, what changed, curves, cost, how to repeat it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraph.evaluate.task import Task
from lmgraph.graph.graph import ModuleSpec
from lmgraph.optimize.records import StageRecord
from lmgraph.program.params import Demo, NodeParams
from lmgraph.program.program import Program

_BARS = "▁▂▃▄▅▆▇█"


def render_report(
    best: Program,
    task: Task,
    records: Sequence[StageRecord],
    *,
    command: str,
    seed: int,
    models: str,
    stopped: str | None,
) -> str:
    """Markdown."""
    objective = task.objective
    parts = [
        f"# Optimizing {best.graph.name}",
        f"Objective `{objective.name}`: {', '.join(objective.metrics)} of flow `{objective.flow}`, range"
        f" {objective.low:g} to {objective.high:g}. Model: {models}. Seed {seed}.",
    ]
    if stopped:
        parts.append(f"**Stopped early.** {stopped} What was found until then is below.")
    parts += ["## Scores on the dev rows", _score_table(records)]
    for record in records[1:]:
        parts += [f"## Stage {record.name}", *_stage(record)]
    parts.append("## The program that was kept")
    for module in best.graph.modules:
        parts += _module(module, best.params.modules[module.name], best)
    if command:
        parts += ["## To repeat this run", f"```sh\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def _score_table(records: Sequence[StageRecord]) -> str:
    lines = [
        "| stage | score | 95 % interval | rows | decoding | failed runs | calls | tokens | seconds | kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in records:
        dev = record.dev
        lines.append(
            f"| {record.name} | {dev['score']:.3f} | {dev['low']:.3f} to {dev['high']:.3f} | {dev['rows']} |"
            f" {dev['decoding']} | {sum(dev['failures'].values())} | {record.calls} | {record.tokens} |"
            f" {record.seconds:.0f} | {'yes' if record.kept else 'no'} |"
        )
    note = "A stage is kept where its dev score is above every one before it. Calls include those that score the stage."
    failed = sum(sum(record.dev.get("failed_metrics", {}).values()) for record in records)
    if failed:
        note += f" On {failed} scored rows a judge gave nothing usable: they score the low end of the range."
    return "\n".join(lines) + "\n\n" + note


def _stage(record: StageRecord) -> list[str]:
    parts = ["\n".join(f"- {note}" for note in record.notes)] if record.notes else []
    curves: Mapping[str, Sequence[float]] = record.details.get("curves", {})
    rows = [
        f"| {name} | {values[0]:.3f} | {values[-1]:.3f} | {sparkline(values)} |"
        for name, values in curves.items()
        if values
    ]
    if rows:
        parts.append("\n".join(["| curve | first | last | over the steps |", "| --- | --- | --- | --- |", *rows]))
    candidates: Sequence[Mapping[str, Any]] = record.details.get("candidates", ())
    if candidates:
        lines = ["| candidate | score | rows |", "| --- | --- | --- |"]
        lines += [f"| {item['name']} | {item['score']:.3f} | {item['rows']} |" for item in candidates]
        parts.append("\n".join(lines))
    options = " ".join(f"{name}={json.dumps(value)}" for name, value in record.options.items())
    parts.append(f"Options: `{options}`")
    return parts


def _module(module: ModuleSpec, params: NodeParams, program: Program) -> list[str]:
    parts = [f"### Module {module.name}"]
    if params.instruction != module.instruction:
        diff = difflib.unified_diff(
            module.instruction.splitlines(), params.instruction.splitlines(), "author", "optimized", lineterm="", n=1
        )
        parts.append(_fence("\n".join(diff), "diff"))
    else:
        parts.append("Instruction: the author's, unchanged.")
    if params.adapter is not None:
        ref = program.params.adapters[params.adapter]
        parts.append(f"Adapter: `{ref.key}` on {ref.base_model}, sha256 `{ref.sha256[:16]}…`.")
    if params.demos:
        parts.append(f"{len(params.demos)} demos:")
        parts.append(_fence("\n".join(_demo_line(demo) for demo in params.demos), "json"))
    else:
        parts.append("No demos.")
    return parts


def _demo_line(demo: Demo) -> str:
    data = {"inputs": dict(demo.inputs), "outputs": dict(demo.outputs), "origin": demo.origin, "example": demo.example}
    return json.dumps(data, ensure_ascii=False)


def _fence(text: str, language: str) -> str:
    """A fenced block that no content can close early."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{language}\n{text}\n{ticks}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """One character a step, or a mean of steps where there are more than ``width``."""
    count = min(width, len(values))
    means = []
    for index in range(count):
        chunk = values[index * len(values) // count : (index + 1) * len(values) // count]
        means.append(sum(chunk) / len(chunk))
    low, high = min(means), max(means)
    if high == low:
        return _BARS[0] * count
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in means)
