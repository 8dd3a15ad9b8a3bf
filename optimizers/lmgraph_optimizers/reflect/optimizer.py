"""The reflect optimizer: gepa's search over the instructions of all modules that the flow reaches.

Rows that reflections read are not those that choose: both are training rows, and the dev rows stay unseen.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraph.errors import BudgetExhausted
from lmgraph.evaluate import Task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult
from lmgraph.program import Program
from lmgraph_optimizers.prompt.grounding import private_fields
from lmgraph_optimizers.prompt.proposer import hidden_from
from lmgraph_optimizers.reflect.config import ReflectConfig
from lmgraph_optimizers.reflect.evaluations import Evaluations
from lmgraph_optimizers.reflect.evolve import Told, evolve, load_gepa
from lmgraph_optimizers.reflect.reflector import Reflector
from lmgraph_optimizers.scoring import divide, unscored_note

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
        reached: list[str] | None = None
        try:
            lab.status(f"the start on {len(scoring)} rows", 0.0)
            await evaluations.run({}, scoring)
            reached = [name for name in modules if name in evaluations.reached()]
            start = {name: program.params.modules[name].instruction for name in reached}
            if start:
                await evolve(start, evaluations, Reflector(program, task, lab, config), config, lab, told)
        except BudgetExhausted as stop:
            stopped = stop.message
        notes = []
        if len(rows) == 1:
            notes.append("There is one training row only: what is chosen on it says little about others.")
        if reached is None:
            notes.append(f"Stopped before anything was compared: {stopped}")
            return OptimizeResult(program, tuple(notes), stopped)
        if left := [name for name in modules if name not in reached]:
            notes.append(f"Never called on {len(scoring)} training rows, so left as it is: {', '.join(left)}.")
        return _result(evaluations, task.objective.high, notes, told, stopped)


def _result(evaluations: Evaluations, high: float, notes: list[str], told: Told, stopped: str | None) -> OptimizeResult:
    start = evaluations.score({}) or 0.0
    scored = evaluations.scored()
    best, score = evaluations.best()
    kept = len(told.origins)
    dropped = ", ".join(f"{number} {reason}" for reason, number in sorted(told.dropped.items()))
    notes.append(
        f"{told.steps} steps: {kept} of {told.asked} reflections gave a usable instruction"
        + (f" (dropped: {dropped})" if dropped else "")
        + f"; better on its minibatch, and so scored on all {len(evaluations.scoring)} rows: {len(scored) - 1}."
    )
    names = _names(evaluations, told)
    if start >= high:
        notes.append("The start has the highest score there is on the training rows: there is nothing to learn.")
    elif score <= start:
        best = {}
        notes.append("Nothing scored above the start on the training rows, so it stays as it is.")
    else:
        name = names[evaluations.key(best)]
        notes.append(f"Chosen: {name}. Training rows: {score:.3f}, the start {start:.3f}.")
    if unscored := unscored_note(evaluations.unscored):
        notes.append(unscored)
    ranked = sorted(scored, key=lambda one: -one[1])[:SHOWN]
    table = [
        {"name": names[evaluations.key(texts)], "score": score, "rows": len(evaluations.scoring)}
        for texts, score in ranked
    ]
    curve = [max(score for _, score in scored[: count + 1]) for count in range(len(scored))]
    details: dict[str, Any] = {"candidates": table, "curves": {"best on training rows": curve}}
    return OptimizeResult(evaluations.applied(best), tuple(notes), stopped, details)


def _names(evaluations: Evaluations, told: Told) -> dict[str, str]:
    """What candidates are called in the report, by their key."""
    names = {evaluations.key({}): "the start"}
    for number, (texts, parent, module) in enumerate(told.origins, 1):
        parent_name = names[evaluations.key(parent)].partition(":")[0]
        names.setdefault(evaluations.key(texts), f"reflection {number}: {module}, from {parent_name}")
    return names
