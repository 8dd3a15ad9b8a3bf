"""One reflection: a language model reads a few calls with feedback on them, and rewrites the module's instruction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lmgraph.evaluate import Task
from lmgraph.optimize import Lab
from lmgraph.program import Program
from lmgraph_optimizers.prompt.grounding import role, signature
from lmgraph_optimizers.prompt.proposer import Subject, asked_lm, cleaned
from lmgraph_optimizers.prompt.rewrites import same
from lmgraph_optimizers.reflect.config import ReflectConfig
from lmgraph_optimizers.reflect.feedback import Record

TASK = """You improve the instruction of one step of a program. Each step is a language model.
You see the instruction as it is and examples: what the step read, what it wrote, and feedback on it.
Write a better instruction. Keep what works. Put in what the feedback teaches about the task and frequent mistakes.
Do not do the step's task yourself, and do not repeat the examples.
Write the instruction and nothing else."""
LONGEST_EXAMPLE = 700
"""Characters of one example: a small model has a short context."""
CHARACTERS_A_TOKEN = 6
"""More than English text has: a longer answer than its tokens allow was no text."""


class Reflector:
    """Asks for new instructions of a program's modules."""

    def __init__(self, program: Program, task: Task, lab: Lab, config: ReflectConfig) -> None:
        self._program = program
        self._task = task
        self._lab = lab
        self._config = config

    async def ask(
        self, module: str, current: str, examples: Sequence[Record], known: Collection[str], number: int
    ) -> tuple[str | None, str]:
        """A new instruction for ``module``, or None and why there is none. ``known`` are texts that it had already.

        Raises: BudgetExhausted; ConfigError, EngineUnavailable where the LM cannot be asked at all.
        """
        graph, config = self._program.graph, self._config
        lm, place = asked_lm(graph, config.reflector, module)
        inputs: Mapping[str, str] = {
            "step": f"{module}: {role(graph, self._task.flow, module)}; {signature(graph.module(module))}",
            "instruction_now": current or "(none)",
            "examples": "\n".join(_example(index, one) for index, one in enumerate(examples, 1)),
        }
        async with self._lab.bound_to(place) as bench:
            answer = await bench.ask(
                self._program,
                lm,
                instruction=TASK,
                inputs=inputs,
                output="instruction",
                phase="reflection",
                key=str(number),
                temperature=0.8,
                max_tokens=config.max_tokens,
            )
        if not isinstance(answer, str):
            return None, "failed"
        return cleaned(
            answer,
            {same(text) for text in known},
            Subject.of(graph.module(module)),
            [TASK, inputs["step"], *(f"{one['inputs']} {one['feedback']}" for one in examples)],
            CHARACTERS_A_TOKEN * config.max_tokens,
        )


def _example(index: int, record: Record) -> str:
    text = f"{index}. read {record['inputs']}; wrote {record['output']}; feedback: {record['feedback']}"
    return text if len(text) <= LONGEST_EXAMPLE else text[:LONGEST_EXAMPLE] + "…"
