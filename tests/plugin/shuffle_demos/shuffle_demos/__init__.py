"""Rows as demos, in the order that scores best on a few other rows."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lmgraph.evaluate import Task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult
from lmgraph.program import Demo, Program

__all__ = ["ShuffleConfig", "ShuffleDemos"]


class ShuffleConfig(OptimizerConfig):
    """Options of `shuffle`."""

    demos: int = Field(default=2, ge=1, description="demos in the prompt")
    orders: int = 3
    """orders that are tried"""


class ShuffleDemos:
    """Registered as `shuffle`."""

    name: ClassVar[str] = "shuffle"
    Config: ClassVar[type[OptimizerConfig]] = ShuffleConfig

    def __init__(self, config: ShuffleConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        (module,) = program.graph.modules
        rows = list(task.train)
        scored = lab.restore() or {"scores": []}
        candidates = []
        for index in range(self.config.orders):
            order = lab.rng("order", index).sample(rows, self.config.demos)
            demos = tuple(
                Demo(
                    {field.name: row.values[field.name] for field in module.inputs},
                    {field.name: row.values[field.name] for field in module.outputs},
                    "labelled",
                    row.id,
                )
                for row in order
            )
            candidates.append(program.with_params(program.params.with_module(module.name, demos=demos)))
        for index in range(len(scored["scores"]), len(candidates)):
            lab.status(f"order {index + 1} of {len(candidates)}", index / len(candidates))
            evaluation = await lab.evaluate(candidates[index], rows[:6], phase="orders")
            scored["scores"].append(evaluation.score)
            lab.checkpoint(scored)
        best = max(range(len(candidates)), key=lambda index: scored["scores"][index])
        return OptimizeResult(candidates[best], (f"Order {best + 1} was best.",), details=scored)
