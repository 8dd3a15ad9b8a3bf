"""Rollouts: an example, sampled once or several times, through the flow and the scorer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmgraph.errors import DataError
from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.metric import Score
from lmgraph.evaluate.resume import find_run, place_of
from lmgraph.evaluate.task import Task
from lmgraph.program.program import Program
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.run import EffectsPolicy
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.trace import Failure, RunIdentity, Trace


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sample number ``index`` of one example."""

    example: Example
    index: int
    trace: Trace
    score: Score
    resumed: bool = False
    """Whether the store had the run already: it was not made again."""


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How to sample. Seeds follow from these names, so equal plans give equal samples."""

    decoding: Decoding = "constrained"
    temperature: float | None = None
    samples: int = 1
    seed: int = 0
    study: str = ""
    phase: str = "eval"
    step: int = 0
    concurrency: int = 128
    """Runs under way at once; engines form their own batches from them."""
    effects: EffectsPolicy = "refuse"
    """Whether the flow may call tools: many runs of a tool that acts are rarely meant."""
    keep_unscored: bool = False
    """Where a metric raises or gives no finite number: whether the rollout is kept, with a score that is not a number
    and says why in ``Score.failed``, or the error is raised."""
    setting: str = ""
    """What else decides a run and its score (evaluate/resume.py). With it runs are kept so that they can be found."""
    resume: bool = False
    """Take runs of this setting from the store, with their scores, instead of making them again."""


async def rollouts(
    runtime: Runtime,
    program: Program,
    task: Task,
    examples: Sequence[Example],
    plan: RolloutPlan,
    progress: Callable[[Rollout], None] | None = None,
    *,
    recorded: Sequence[Trace] = (),
) -> list[Rollout]:
    """``plan.samples`` rollouts of each example, in the order of examples and samples whatever finished first.

    ``recorded`` are runs made before, of programs with other parameters: those of the same example and sample
    answer the calls that they made already (`Runtime.run`), those of judges too. Seeds follow from the plan, so above
    temperature 0 only those of the same study, phase and step do.
    Raises: DataError where a metric fails and the plan keeps no such rollout; BudgetExhausted; ConfigError before the
    first call where the flow may call a tool and the plan refuses it; what else Runtime.run raises. The rest is in the
    traces.
    """
    jobs = [(example, index) for example in examples for index in range(plan.samples)]
    results: list[Rollout | None] = [None] * len(jobs)
    queue = iter(enumerate(jobs))
    known: dict[tuple[str, int], list[Trace]] = {}
    for one in recorded:
        known.setdefault((one.identity.example, one.identity.rollout), []).append(one)
    await runtime.prepare(program, task.flow, RunOptions(effects=plan.effects))
    await task.scorer.prepare(runtime)

    async def work() -> None:
        for position, (example, index) in queue:
            identity = RunIdentity(plan.study, plan.phase, plan.step, example.id, index)
            place = place_of(plan.setting, example, index) if plan.setting else ""
            found = find_run(runtime.store, place) if plan.resume else None
            earlier = known.get((example.id, index), ())
            if found is None:
                options = RunOptions(plan.decoding, plan.temperature, plan.seed, identity, plan.effects, place=place)
                inputs = task.inputs(program, example)
                trace = await runtime.run(program, inputs, flow=task.flow, options=options, recorded=earlier)
            else:
                trace = found.trace
            try:
                scored = None if found is None else found.score
                score = scored or await task.scorer.score(runtime, example, trace, seed=plan.seed, recorded=earlier)
            except DataError as error:
                if not plan.keep_unscored:
                    raise
                name = task.objective.name
                score = Score(math.nan, {}, {name: Failure("value", error.message, name, name)})
            else:
                trace.reward = score.value
                if runtime.store is not None and scored is None:
                    runtime.store.set_reward(
                        trace.run_id, score.value, trace.judged, parts=score.parts, failed=score.failed
                    )
            results[position] = rollout = Rollout(example, index, trace, score, resumed=found is not None)
            if progress is not None:
                progress(rollout)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(plan.concurrency, len(jobs))):
                group.create_task(work())
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    if runtime.store is not None:
        runtime.store.flush()
    return [rollout for rollout in results if rollout is not None]
