"""The reflect optimizer: gepa's search over the instructions of all modules that the flow reaches.

Rows that reflections read are not those that choose: both are training rows, and the dev rows stay unseen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from lmgraph.errors import BudgetExhausted
from lmgraph.evaluate import Task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult
from lmgraph.program import Program
from lmgraph_optimizers.prompt.grounding import private_fields
from lmgraph_optimizers.prompt.proposer import hidden_from
from lmgraph_optimizers.reflect.config import ReflectConfig
from lmgraph_optimizers.reflect.evaluations import Evaluations, Texts
from lmgraph_optimizers.reflect.evolve import Told, evolve, load_gepa
from lmgraph_optimizers.reflect.reflector import Reflector
from lmgraph_optimizers.scoring import Reach, divide, left_notes, unscored_note

SHOWN = 8
"""Candidates in the report's table."""


class Reflect:
    """Registered as `reflect`."""

    name: ClassVar[str] = "reflect"
    asks: ClassVar[tuple[str, ...]] = ("reflector",)
    Config: ClassVar[type[OptimizerConfig]] = ReflectConfig

    def __init__(self, config: ReflectConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        load_gepa()  # before any call is made
        config = self.config
        modules = [name for name in program.graph.modules_of(task.flow) if task.allows(program, name, "instruction")]
        if not modules:
            return OptimizeResult(program, ("No module of the flow lets its instruction be changed.",))
        rows = list(task.train)
        lab.rng("rows").shuffle(rows)
        feedback, scoring = divide(rows, config.score_rows, config.feedback_rows)
        private = private_fields(program.graph, task.objective.data)
        hidden = {name: hidden_from(program.graph, config.reflector, name, private) for name in modules}
        evaluations = Evaluations(program, lab, feedback, scoring, hidden, lab.restore() or {})
        told = Told()
        stopped = None
        found: Reach | None = None
        try:
            lab.status(f"the start on {len(scoring)} rows", 0.0)
            await evaluations.run({}, scoring)
            found = evaluations.reach
            start = {name: program.params.modules[name].instruction for name in modules if name in found.answered}
            if start:
                await evolve(start, evaluations, Reflector(program, task, lab, config), config, lab, told)
        except BudgetExhausted as stop:
            stopped = stop.message
        notes = []
        if len(rows) == 1:
            notes.append("There is one training row only: what is chosen on it says little about others.")
        if found is None:
            notes.append(f"Stopped before anything was compared: {stopped}")
            return OptimizeResult(program, tuple(notes), stopped)
        notes += left_notes(modules, found, len(scoring))
        return _result(evaluations, task.objective.high, notes, told, stopped)


def _result(evaluations: Evaluations, high: float, notes: list[str], told: Told, stopped: str | None) -> OptimizeResult:
    start = evaluations.score({}) or 0.0
    scored = evaluations.scored()
    best, score = evaluations.best()
    reflected = {evaluations.key(texts) for texts, _, _ in told.origins}
    merged = sum(evaluations.key(texts) not in reflected for texts, _ in scored) - 1  # one is the start
    dropped = ", ".join(f"{number} {reason}" for reason, number in sorted(told.dropped.items()))
    notes.append(
        f"{told.steps} steps: {len(told.origins)} of {told.asked} reflections gave a usable instruction"
        + (f" (dropped: {dropped})" if dropped else "")
        + f"; better on its minibatch, and so scored on all {len(evaluations.scoring)} rows: {len(scored) - 1}"
        + (f" ({merged} of them merged)." if merged else ".")
    )
    name = _namer(evaluations, told)
    if start >= high:
        notes.append("The start has the highest score there is on the training rows: there is nothing to learn.")
    elif score <= start:
        best = {}
        notes.append("Nothing scored above the start on the training rows, so it stays as it is.")
    else:
        notes.append(f"Chosen: {name(best)}. Training rows: {score:.3f}, the start {start:.3f}.")
    if unscored := unscored_note(evaluations.unscored):
        notes.append(unscored)
    ranked = sorted(scored, key=lambda one: -one[1])[:SHOWN]
    table = [{"name": name(texts), "score": score, "rows": len(evaluations.scoring)} for texts, score in ranked]
    curve = [max(score for _, score in scored[: count + 1]) for count in range(len(scored))]
    details: dict[str, Any] = {"candidates": table, "curves": {"best on training rows": curve}}
    return OptimizeResult(evaluations.applied(best), tuple(notes), stopped, details)


def _namer(evaluations: Evaluations, told: Told) -> Callable[[Texts], str]:
    """Says what a candidate is called in the report."""
    start = evaluations.key({})
    origins: dict[str, tuple[int, Texts, str]] = {}
    written: dict[tuple[str, str], int] = {}
    for number, (texts, parent, module) in enumerate(told.origins, 1):
        origins.setdefault(evaluations.key(texts), (number, parent, module))
        written.setdefault((module, texts[module]), number)

    def name(texts: Texts) -> str:
        key = evaluations.key(texts)
        if key == start:
            return "the start"
        if key in origins:
            number, parent, module = origins[key]
            return f"reflection {number}: {module}, from {name(parent).partition(':')[0]}"
        numbers = sorted(written[part] for part in texts.items() if part in written)
        return f"reflections {' and '.join(map(str, numbers))} merged"

    return name
