"""mmGRPO: sample groups through the whole program, compare calls, update LoRA adapters, repeat.

After Ziems et al. (arXiv:2508.04660, algorithm 1). docs/guide/mmgrpo.md says where and why this differs from the paper.
"""

from __future__ import annotations

from typing import ClassVar

from lmgraph.errors import BudgetExhausted, ConfigError
from lmgraph.evaluate import Task
from lmgraph.optimize import Lab, OptimizeResult
from lmgraph.program import Program
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.plan import plan_adapters


class MultiModuleGRPO:
    """Registered as `mmgrpo`."""

    name: ClassVar[str] = "mmgrpo"
    Config: ClassVar[type[MmgrpoConfig]] = MmgrpoConfig

    def __init__(self, config: MmgrpoConfig) -> None:
        self.config = config

    @property
    def trains_weights(self) -> bool:
        """Whether it trains on free samples, so that a study compares its programs under strict decoding."""
        return self.config.decoding == "strict"

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        modules = tuple(name for name in program.graph.modules_of(task.flow) if task.allows(program, name, "weights"))
        if not modules:
            return OptimizeResult(program, ("No module of the flow lets its weights be changed.",))
        planned = plan_adapters(program, modules, self.config.adapters)
        engines = {lm: await lab.trainable(program, lm) for lm in sorted({one.lm for one in planned})}
        for lm, engine in engines.items():
            if self.config.decoding == "constrained" and not engine.constrains:
                raise ConfigError(
                    f"LM `{lm}` runs on the engine {engine.name}, which cannot decode under constraints.",
                    hint="train with --mmgrpo.decoding strict",
                )
        from lmgraph_optimizers.mmgrpo.training import Training  # torch, and all that comes with it

        run = Training(self.config, program, modules, task, lab)
        await run.open(planned, engines)
        stopped: str | None = None
        while run.step < self.config.steps and not run.is_stuck:
            try:
                await run.one_step()
            except BudgetExhausted as stop:
                stopped = stop.message
                break
        return run.result(stopped)
