"""Searches over prompts on the small program of support/scripted.py, one run of each as a test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmgraph.evaluate import Task, make_task
from lmgraph.optimize import Lab, OptimizeResult
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.runtime import Budget, Meter, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.demos import Demos, DemosConfig
from lmgraph_optimizers.prompt import Prompt, PromptConfig
from lmgraph_optimizers.reflect import Reflect, ReflectConfig
from support.scripted import KIND_OF, LABELS, SORT, sort_program

PYTHON_METRIC = SORT.replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:score"')
PROPOSE = "You improve one step"
REFLECT = "You improve the instruction of one step"
"""What the questions to a proposer and to a reflector begin with."""


def word_of(prompt: str) -> str:
    return last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]


def knows_half(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """The kinds of words of odd length."""
    word = word_of(prompt)
    return [KIND_OF.get(word, "Say what kind of thing the word is.") if len(word) % 2 else LABELS[0]]


def learns(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """What it says once it was told of its mistakes is right more often."""
    if REFLECT in prompt:
        return ["Look at the word closely and name its kind."]
    word = word_of(prompt)
    known = len(word) % 2 == 0 or "closely" in prompt
    return [KIND_OF.get(word, LABELS[0]) if known else LABELS[0]]


@dataclass(frozen=True)
class Search:
    """An optimizer, small options for it, and answers from which it can learn."""

    name: str
    optimizer: type[Any]
    config: type[Any]
    answer: Callable[[str, GenerateRequest], Any]
    small: dict[str, Any] = field(default_factory=dict)

    async def run(
        self,
        folder: Path,
        engine: ScriptedEngine | None = None,
        *,
        program: Program | None = None,
        rows: int | None = None,
        budget: Budget | None = None,
        **options: Any,
    ) -> OptimizeResult:
        """One stage in a study of its own, on ``program`` or the small one, with its first ``rows`` training rows."""
        program = program or sort_program(folder / "program")
        task = make_task(program)
        if rows is not None:
            task = Task(task.flow, task.objective, {**task.splits, "train": task.train[:rows]}, task.scorer)
        async with Runtime(everything=engine or ScriptedEngine(self.answer), meter=Meter(budget)) as runtime:
            lab = Lab(runtime=runtime, task=task, study=Study.open(folder / "study", "k"), stage=f"1-{self.name}")
            config = self.config(**{**self.small, **options})
            result: OptimizeResult = await self.optimizer(config).optimize(program, task, lab)
            return result


PROMPT = Search(
    "prompt", Prompt, PromptConfig, knows_half,
    {"trials": 6, "minibatch": 3, "full_every": 3, "demo_sets": 2, "max_demos": 2, "instructions": 4},
)  # fmt: skip
DEMOS = Search("demos", Demos, DemosConfig, knows_half)
REFLECTION = Search(
    "reflect", Reflect, ReflectConfig, learns, {"steps": 5, "minibatch": 2, "score_rows": 6, "feedback_rows": 6}
)


def notes(result: OptimizeResult) -> str:
    return " ".join(result.notes)
