"""The report as one HTML page that needs nothing beside it: the Markdown report's content, with plots."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lmgraph.optimize.difference import demo_data, instruction_diff
from lmgraph.optimize.plots import Plot
from lmgraph.optimize.records import StageRecord
from lmgraph.optimize.report import (
    FAILURE_HEADS,
    PAIRED_HEADS,
    SCORE_HEADS,
    Report,
    counts_told,
    failure_rows,
    paired_rows,
    score_rows,
    settings_told,
    test_rows_told,
)
from lmgraph.optimize.report_plots import ReportPlots, draw_plots

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --page: #ffffff; --line: #d8dee4; --block: #f6f8fa;
--add: #dafbe1; --del: #ffebe9; --warning: #fff8c5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --page: #0d1117; --line: #373e47; --block: #161b22;
--add: #12361f; --del: #4b1a1d; --warning: #3b2f0b; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: var(--ink);
background: var(--page); overflow-wrap: break-word; }
.wide { overflow-x: auto; margin: 1em 0; } table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: 4px 10px; text-align: left; }
td { font-variant-numeric: tabular-nums; }
pre { background: var(--block); padding: 10px; white-space: pre-wrap; } .add { background: var(--add); }
.del { background: var(--del); } .warning { background: var(--warning); padding: 6px 10px; }
.plots { display: flex; flex-wrap: wrap; gap: 8px 16px; overflow-x: auto; }
.plots img { flex: none; max-width: max(100%, 30em); height: auto; }
"""
NO_PLOTS = 'This page has no plots, because matplotlib is not installed: pip install "lmgraph[optimize]"'


def render_html(report: Report) -> str:
    """A whole page. Everything a program or a model wrote is escaped."""
    name = escape(report.best.graph.name)
    plots, problem = _drawn(report)
    page = "\n".join(part for part in (_paragraphs(problem), *_parts(report, plots)) if part)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Optimizing {name}</title><style>{STYLE}</style>"
    )
    body = f"<h1>Optimizing {name}</h1>\n{page}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _drawn(report: Report) -> tuple[ReportPlots, list[str]]:
    """The plots, and why there are none."""
    try:
        return draw_plots(report), []
    except ImportError:
        return ReportPlots(), [NO_PLOTS]
    except Exception as error:  # of another's library: what a run has found is not lost because of a plot
        return ReportPlots(), [f"This page has no plots, because matplotlib failed: {type(error).__name__}: {error}"]


def _parts(report: Report, plots: ReportPlots) -> list[str]:
    """The page below its title, from top to bottom."""
    parts = [_paragraphs([report.heading])]
    if report.stopped:
        parts.append(_paragraphs([f"Stopped early. {report.stopped}"], "warning"))
    parts += [
        "<h2>Scores on the dev rows</h2>",
        _figures(plots.scores),
        _table(SCORE_HEADS, score_rows(report)),
        _paragraphs([report.score_note]),
    ]
    if rows := paired_rows(report):
        parts += ["<h2>Against the start, row by row</h2>", _table(PAIRED_HEADS, rows)]
    parts.append(_paragraphs(report.doubts, "warning"))
    if plots.costs:
        parts += ["<h2>Cost by stage</h2>", _figures(plots.costs)]
    if rows := failure_rows(report):
        parts.append("<h2>Calls that failed on the dev rows, by module</h2>")
        parts += [_figures(plots.failures), _table(FAILURE_HEADS, rows)]
    if sentences := test_rows_told(report):
        parts += ["<h2>Test rows</h2>", _paragraphs(sentences)]
    for number, (label, record) in enumerate(report.labelled):
        if number:
            parts += [f"<h2>Stage {escape(label)}</h2>", *_stage(record, plots.stages.get(number, ()))]
    parts += ["<h2>The program that was kept</h2>", _paragraphs(counts_told(report.best))]
    for module in report.best.graph.modules:
        parts += _module(report, module.name, module.instruction)
    if report.command:
        parts += ["<h2>To repeat this run</h2>", f"<pre>{escape(report.command)}</pre>"]
    return parts


def _figures(plots: Sequence[Plot]) -> str:
    images = "".join(f'<img width="{plot.width}" alt="{escape(plot.alt)}" src="{plot.source}">' for plot in plots)
    return f'<div class="plots">{images}</div>' if images else ""


def _stage(record: StageRecord, plots: Sequence[Plot]) -> list[str]:
    parts = []
    if record.notes:
        parts.append("<ul>" + "".join(f"<li>{_prose(note)}</li>" for note in record.notes) + "</ul>")
    parts.append(_figures(plots))
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
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _paragraphs(texts: Sequence[str], kind: str = "") -> str:
    return "".join(f'<p class="{kind}">{_prose(text)}</p>' if kind else f"<p>{_prose(text)}</p>" for text in texts)


def _prose(text: str) -> str:
    """Names between backticks are set as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
