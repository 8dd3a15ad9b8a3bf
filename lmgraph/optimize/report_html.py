"""The report as one HTML page that needs nothing beside it: the Markdown report's content, with plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any

from lmgraph.optimize.difference import demo_data, instruction_diff
from lmgraph.optimize.records import StageRecord
from lmgraph.optimize.report import (
    FAILURE_HEADS,
    PAIRED_HEADS,
    SCORE_HEADS,
    Report,
    failure_rows,
    paired_rows,
    score_rows,
    settings_told,
    test_rows_told,
)
from lmgraph.optimize.svg import Bar, intervals, line, steps

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #1b1f24; }
table { border-collapse: collapse; margin: 1em 0; } th, td { border-bottom: 1px solid #d8dee4; padding: 4px 10px; }
th { text-align: left; } td { font-variant-numeric: tabular-nums; } pre { background: #f6f8fa; padding: 10px;
overflow-x: auto; white-space: pre-wrap; } .add { background: #dafbe1; } .del { background: #ffebe9; }
.warning { background: #fff8c5; padding: 6px 10px; } svg text { font-size: 12px; fill: #57606a; }
svg .grid { stroke: #d8dee4; } svg line.strong, svg polyline.strong { stroke: #0969da; stroke-width: 2; fill: none; }
svg line.weak { stroke: #8c959f; stroke-width: 2; } svg circle.strong { fill: #0969da; }
svg circle.weak { fill: #8c959f; }
"""


def render_html(report: Report) -> str:
    """A whole page. Everything a program or a model wrote is escaped."""
    objective = report.task.objective
    name = escape(report.best.graph.name)
    parts = [
        f"<h1>Optimizing {name}</h1>",
        f"<p>{escape(report.heading)}</p>",
    ]
    if report.stopped:
        parts.append(f'<p class="warning">Stopped early. {escape(report.stopped)}</p>')
    bars = [
        Bar(label, record.dev["score"], record.dev["low"], record.dev["high"], record.kept)
        for label, record in report.labelled
    ]
    parts += [
        "<h2>Scores on the dev rows</h2>",
        intervals(bars, objective.low, objective.high),
        _table(SCORE_HEADS, score_rows(report)),
        _paragraphs([report.score_note]),
        "<h2>Dev score over calls</h2>",
        steps(_over_calls(report), "calls"),
    ]
    if rows := paired_rows(report):
        parts += ["<h2>Against the start, row by row</h2>", _table(PAIRED_HEADS, rows)]
    parts.append(_paragraphs(report.doubts, "warning"))
    if rows := failure_rows(report):
        parts += ["<h2>Calls that failed on the dev rows, by module</h2>", _table(FAILURE_HEADS, rows)]
    if sentences := test_rows_told(report):
        parts += ["<h2>Test rows</h2>", _paragraphs(sentences)]
    for label, record in report.labelled[1:]:
        parts += [f"<h2>Stage {escape(label)}</h2>", *_stage(record)]
    parts.append("<h2>The program that was kept</h2>")
    for module in report.best.graph.modules:
        parts += _module(report, module.name, module.instruction)
    if report.command:
        parts += ["<h2>To repeat this run</h2>", f"<pre>{escape(report.command)}</pre>"]
    page = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><title>Optimizing {name}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{page}\n</body></html>\n'


def _over_calls(report: Report) -> list[tuple[float, float, str, bool]]:
    """The dev score of each stage at the calls that were made by then."""
    spent = accumulate(record.calls for record in report.records)
    return [
        (calls, record.dev["score"], label, record.kept)
        for calls, (label, record) in zip(spent, report.labelled, strict=True)
    ]


def _stage(record: StageRecord) -> list[str]:
    parts = []
    if record.notes:
        parts.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in record.notes) + "</ul>")
    curves: Mapping[str, Sequence[float]] = record.details.get("curves", {})
    parts += [line(values, name) for name, values in curves.items() if values]
    candidates: Sequence[Mapping[str, Any]] = record.details.get("candidates", ())
    if candidates:
        rows = [(str(item["name"]), f"{item['score']:.3f}", str(item["rows"])) for item in candidates]
        parts.append(_table(("candidate", "score", "rows"), rows))
    options = " ".join(f"{name}={json.dumps(value)}" for name, value in record.options.items())
    parts.append(f"<p>Options: <code>{escape(options)}</code></p>")
    return parts


def _module(report: Report, name: str, written: str) -> list[str]:
    params = report.best.params.modules[name]
    parts = [f"<h3>Module {escape(name)}</h3>"]
    if params.instruction != written:
        kinds = {"+": "add", "-": "del"}
        lines = [
            f'<span class="{kinds.get(text[:1], "")}">{escape(text)}</span>'
            for text in instruction_diff(written, params.instruction).splitlines()
        ]
        parts.append("<pre>" + "\n".join(lines) + "</pre>")
    else:
        parts.append("<p>Instruction: the author's, unchanged.</p>")
    if told := settings_told(params):
        parts.append(f"<p>{escape(told)}</p>")
    if params.adapter is not None:
        ref = report.best.params.adapters[params.adapter]
        parts.append(f"<p>Adapter <code>{escape(ref.key)}</code> on {escape(ref.base_model)}.</p>")
    if params.demos:
        lines = [json.dumps(demo_data(demo), ensure_ascii=False) for demo in params.demos]
        parts.append(f"<p>{len(params.demos)} demos:</p><pre>{escape(chr(10).join(lines))}</pre>")
    else:
        parts.append("<p>No demos.</p>")
    return parts


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _paragraphs(texts: Sequence[str], kind: str = "") -> str:
    return "".join(f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>" for text in texts)
