"""What `lmgraph optimize` prints at its end: for people, and as data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # these would be imported by `lmgraph optimize --help`
    from lmgraph.evaluate.statistics import Interval
    from lmgraph.optimize.compose import OptimizeRun
    from lmgraph.optimize.records import StageRecord
    from lmgraph.optimize.seeds import SeedsRun


def result_data(run: OptimizeRun | SeedsRun, trace: Path | None) -> dict[str, Any]:
    """JSON-ready."""
    from lmgraph.optimize.seeds import SeedsRun

    if isinstance(run, SeedsRun):
        return {**run.to_data(), "runs": {str(seed): _data(one, trace) for seed, one in run.runs.items()}}
    return _data(run, trace)


def result_text(run: OptimizeRun | SeedsRun, trace: Path | None, command: str) -> str:
    """For people."""
    from lmgraph.optimize.seeds import SeedsRun

    if not isinstance(run, SeedsRun):
        return _summary(run, trace, command)
    lines = []
    for seed, one in run.runs.items():
        lines += [f"seed {seed}", _table(one.stages), *_told(one), ""]
        if one.stopped is not None:
            lines += [f"stopped early: {one.stopped}", ""]
    count = len(run.runs)
    lines += [f"dev score over {count} seeds: start {_interval(run.start)}, kept {_interval(run.best)}"]
    if run.test is not None:
        lines.append(f"test score over {count} seeds: kept {_interval(run.test)}")
    lines += ["", f"artifact  {run.artifact}  (seed {run.chosen}, the best on dev)"]
    lines.append(f"report    {run.artifact / 'report.md'}")
    return "\n".join(lines)


def _data(run: OptimizeRun, trace: Path | None) -> dict[str, Any]:
    from lmgraph.optimize.records import record_data

    stages = []
    for record in run.stages:
        data = record_data(record)
        stages.append({**data, "program": data.pop("artifact")})
    return {
        "stages": stages,
        "artifact": str(run.artifact),
        "report": str(run.report),
        "study": str(run.study),
        "trace": None if trace is None else str(trace),
        "stopped": run.stopped,
        "resumed": run.resumed,
        "test": run.test,
    }


def _summary(run: OptimizeRun, trace: Path | None, command: str) -> str:
    lines = ["This continued an interrupted run.", ""] if run.resumed else []
    lines += [_table(run.stages), "", *_told(run)]
    if run.stopped is not None:
        lines += [f"stopped early: {run.stopped} With a larger budget the same command goes on:", f"  {command}", ""]
    lines += [f"artifact  {run.artifact}", f"report    {run.report}", f"study     {run.study}"]
    if trace is not None:
        lines.append(f"trace     {trace}")
    return "\n".join(lines)


def _told(run: OptimizeRun) -> list[str]:
    """What the paired tests warn of, and the test scores."""
    lines = []
    last = [record for record in run.stages if record.kept][-1]
    doubt = None if last.paired is None else last.paired.get("doubt")
    if doubt:
        lines += [f"warning: {doubt}", ""]
    if run.test is not None:
        start, best = run.test["start"], run.test["best"]
        lines += [
            f"test      {start['rows']} rows: start {start['score']:.3f}, kept {best['score']:.3f}"
            f" [{best['low']:.3f}, {best['high']:.3f}]",
            "",
        ]
    return lines


def _interval(interval: Interval) -> str:
    return str(interval) if abs(interval.low) != float("inf") else f"{interval.mean:.3f}"


def _table(records: Sequence[StageRecord]) -> str:
    rows = [("stage", "dev score", "95 % interval", "calls", "seconds", "kept")]
    for record in records:
        dev = record.dev
        rows.append(
            (
                record.name,
                f"{dev['score']:.3f}",
                f"[{dev['low']:.3f}, {dev['high']:.3f}]",
                f"{record.calls:,}",
                f"{record.seconds:.0f}",
                "yes" if record.kept else "no",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
