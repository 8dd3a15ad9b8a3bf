"""The optimizer contract. An optimizer reads a Program and a Task, acts through a Lab, and returns another Program.

It never changes the graph. See optimizers/README.md for one in forty lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from lmgraph.evaluate.task import Task
from lmgraph.optimize.lab import Lab
from lmgraph.program.program import Program


class OptimizerConfig(BaseModel):
    """Base of optimizer options: unknown names are errors, so that a mistyped option is not silently ignored, and so
    are numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class OptimizeResult:
    """What one stage found."""

    program: Program
    notes: tuple[str, ...] = ()
    """Sentences for the report: what was chosen and why, what went wrong."""
    stopped: str | None = None
    """Why it ended before its own end (the budget), with ``program`` the best until then; None where it finished."""
    details: dict[str, Any] = field(default_factory=dict)
    """JSON-ready figures for the report: curves, candidates with scores."""


@runtime_checkable
class Optimizer(Protocol):
    """Registered through the entry-point group `lmgraph.optimizers`; constructed with one ``Config``.

    A class that trains on free samples may say so with ``trains_weights: ClassVar[bool] = True``: a study with such a
    stage compares its programs under strict decoding, unless a person chose another. One whose options name models
    says which, with ``asks: ClassVar[tuple[str, ...]] = ("teacher",)``: a place on another machine is refused before
    the first call where the program's private values would go there.
    """

    name: ClassVar[str]
    Config: ClassVar[type[OptimizerConfig]]

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        """Raises: BudgetExhausted when the Lab says so (what was checkpointed is kept); OptimizeError."""
        ...
