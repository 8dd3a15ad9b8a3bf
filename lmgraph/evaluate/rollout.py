"""Rollouts: an example, sampled once or several times, through the flow and the scorer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.metric import Score
from lmgraph.evaluate.task import Task
from lmgraph.program.program import Program
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.trace import RunIdentity, Trace


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sample number ``index`` of one example."""

    example: Example
    index: int
    trace: Trace
    score: Score


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


async def rollouts(
    runtime: Runtime,
    program: Program,
    task: Task,
    examples: Sequence[Example],
    plan: RolloutPlan,
    progress: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """``plan.samples`` rollouts of each example, in the order of examples and samples whatever finished first.

    Raises: DataError where a metric fails; BudgetExhausted; what Runtime.run raises. The rest is in the traces.
    """
    jobs = [(example, index) for example in examples for index in range(plan.samples)]
    results: list[Rollout | None] = [None] * len(jobs)
    queue = iter(enumerate(jobs))
    await runtime.prepare(program, task.flow)

    async def work() -> None:
        for position, (example, index) in queue:
            identity = RunIdentity(plan.study, plan.phase, plan.step, example.id, index)
            options = RunOptions(plan.decoding, plan.temperature, plan.seed, identity)
            trace = await runtime.run(program, task.inputs(program, example), flow=task.flow, options=options)
            score = task.scorer.score(example, trace)
            trace.reward = score.value
            if runtime.store is not None:
                runtime.store.set_reward(trace.run_id, score.value)
            results[position] = rollout = Rollout(example, index, trace, score)
            if progress is not None:
                progress(rollout)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(plan.concurrency, len(jobs))):
                group.create_task(work())
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return [rollout for rollout in results if rollout is not None]
