"""`lmgraph plan`: what an optimize run may change, whom it calls, and how much a row takes at most, before any call."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from lmgraph.cli import common

if TYPE_CHECKING:
    from lmgraph.compiler.bounds import Bounds
    from lmgraph.evaluate.task import Task
    from lmgraph.program.program import Program


def plan_command(
    path: common.ProgramArgument = None,
    objective: Annotated[str | None, typer.Option("--objective", help="Which of several objectives.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Rows instead of the dataset's.", metavar="FILE")] = None,
    as_json: common.JsonFlag = False,
) -> None:
    """Say what `lmgraph optimize` may touch and call. Nothing is run."""
    from lmgraph.evaluate.task import make_task

    program = common.load_program(path)
    task = make_task(program, objective, data=data)
    result = plan(program, task, common.settings_of(common.find_program(path)).passes_off)
    if as_json:
        common.print_json(result)
    else:
        common.print_text("\n".join(_lines(result)))


def plan(program: Program, task: Task, passes_off: Collection[str] = ()) -> dict[str, Any]:
    """JSON-ready. Bounds are those of the graph that runs, after the passes."""
    from lmgraph.compiler.bounds import NOTHING, ProgramBounds
    from lmgraph.graph.graph import Knob
    from lmgraph.optimize.affordable import a_row
    from lmgraph.passes import optimized

    graph, spec = program.graph, task.objective
    bounds = ProgramBounds(optimized(graph, passes_off))
    modules = [
        {
            "module": name,
            "lm": graph.module(name).lm,
            "clearance": graph.lm(graph.module(name).lm).clearance,
            "may_change": [knob for knob in get_args(Knob) if task.allows(program, name, knob)],
        }
        for name in graph.modules_of(spec.flow)
    ]
    judging = NOTHING
    for metric in spec.metrics:
        judging += bounds.metric(metric)
    externs = [graph.extern(name) for name in graph.externs_of(spec.flow)]
    return {
        "objective": spec.name,
        "flow": spec.flow,
        "data": spec.data,
        "rows": {name: len(rows) for name, rows in task.splits.items()},
        "modules": modules,
        "counts": [
            {"count": one.name, "now": program.params.counts.get(one.name, one.most), "at_most": one.most}
            for one in task.counts(program)
        ],
        "judges": [
            {"module": name, "lm": graph.module(name).lm if spec.judge is None else spec.judge}
            for metric in spec.metrics
            for name in graph.judges_of(metric)
        ],
        "python": [{"name": one.name, "kind": one.kind} for one in externs],
        "acts": [one.name for one in externs if one.kind == "tool"],
        "a_row_at_least": {"calls": a_row(program, task, passes_off)},
        "a_row_at_most": _figures(bounds.flow(spec.flow), spec.flow),
        "judging_a_row_at_most": _figures(judging, None),
    }


def figures_text(bounds: Bounds, owner: str | None) -> str:
    """ "3 calls, 520 tokens, 3 calls one after the other"."""
    return _told(_figures(bounds, owner))


def _figures(bounds: Bounds, owner: str | None) -> dict[str, Any]:
    """Numbers, or texts where they depend on lengths of lists; those of the owner's inputs go by the inputs' names."""
    from lmgraph.compiler.polynomials import symbol

    mine = {one: symbol(one.partition(".")[2]) for one in bounds.calls.symbols if one.partition(".")[0] == owner}
    told = bounds.with_values(mine)
    figures = {"calls": told.calls, "tokens": told.tokens, "calls_in_a_row": told.path}
    return {name: str(one) if one.symbols else one.value({}) for name, one in figures.items()}


def _told(figures: dict[str, Any]) -> str:
    calls, tokens, path = (_counted(figures[name], noun) for name, noun in _NOUNS.items())
    return f"{calls} of models, {tokens} written, {path} one after the other"


FURTHER_TRY = "an engine that cannot hold a model to a form asks a module without retries once more"
"""What bounds do not count."""
_NOUNS = {"calls": "call", "tokens": "token", "calls_in_a_row": "call"}


def _counted(figure: str | int, noun: str) -> str:
    return f"{figure} {noun}s" if isinstance(figure, str) else common.count(figure, noun)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    rows = ", ".join(f"{name} {number:,}" for name, number in result["rows"].items())
    yield f"objective {result['objective']}: flow {result['flow']} on {result['data']} ({rows})"
    yield "may change"
    for module in result["modules"]:
        changes = ", ".join(module["may_change"]) or "nothing"
        private = ", which may see private values" if module["clearance"] == "private" else ""
        yield f"  {module['module']}: {changes} (lm {module['lm']}{private})"
    for one in result["counts"]:
        yield f"  {one['count']}: from 1 to {one['at_most']}, now {one['now']}"
    for judge in result["judges"]:
        yield f"judge {judge['module']} (lm {judge['lm']})"
    for python in result["python"]:
        acts = ", which may act: needs --allow-effects" if python["kind"] == "tool" else ""
        yield f"calls {python['kind']} {python['name']}{acts}"
    least = result["a_row_at_least"]["calls"]
    dev = result["rows"].get("dev", 0)
    yield f"a row at least: {common.count(least, 'call')} of models, so scoring dev once: {least * dev:,}"
    yield f"a row at most: {_told(result['a_row_at_most'])}"
    if result["judges"]:
        yield f"judging it at most: {_told(result['judging_a_row_at_most'])}"
    yield FURTHER_TRY
