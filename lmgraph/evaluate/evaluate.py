"""Score a program on rows, with an interval and one result a row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.evaluate.resume import setting_of
from lmgraph.evaluate.rollout import Rollout, RolloutPlan, rollouts
from lmgraph.evaluate.statistics import Interval, mean_interval
from lmgraph.evaluate.task import Task, make_task
from lmgraph.program.program import Program
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.trace import Failure, Trace


@dataclass(frozen=True, slots=True)
class RowResult:
    example: str
    """Id of the row: file and line."""
    score: float
    parts: dict[str, float]
    outputs: dict[str, Any] | None
    failure: str | None
    run_id: str
    failed_metrics: dict[str, str] = field(default_factory=dict)
    """By metric, why its judge gave nothing usable."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A score and all that led to it."""

    interval: Interval
    """Mean score over rows and its 95 % interval, in the objective's range."""
    split: str
    decoding: Decoding
    rows: list[RowResult] = field(repr=False)
    failures: dict[str, int]
    """Failed runs by kind."""
    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    judge_calls: int = 0
    """Calls that metrics made; they are not among ``calls``, and their tokens not among the tokens."""
    failed_metrics: dict[str, int] = field(default_factory=dict)
    """Rows on which a judge gave nothing usable, by metric: they score the low end of the range."""
    modules: dict[str, dict[str, int]] = field(default_factory=dict)
    """By module: its `calls`, and those that `failed`: their engine did, or their output did not parse or broke an
    assert."""

    @property
    def score(self) -> float:
        return self.interval.mean

    def to_data(self, *, rows: bool = True) -> dict[str, Any]:
        """JSON-ready."""
        data: dict[str, Any] = {
            "score": self.interval.mean,
            "low": self.interval.low,
            "high": self.interval.high,
            "rows": len(self.rows),
            "split": self.split,
            "decoding": self.decoding,
            "failures": self.failures,
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": round(self.seconds, 3),
            "judge_calls": self.judge_calls,
            "failed_metrics": self.failed_metrics,
            "modules": self.modules,
        }
        if rows:
            data["results"] = [
                {
                    "example": row.example, "score": row.score, "parts": row.parts, "outputs": row.outputs,
                    "failure": row.failure, "run_id": row.run_id, "failed_metrics": row.failed_metrics,
                }
                for row in self.rows
            ]  # fmt: skip
        return data


async def evaluate(
    program: Program,
    *,
    runtime: Runtime | None = None,
    task: Task | None = None,
    objective: str | None = None,
    data: Path | None = None,
    split: str = "dev",
    limit: int | None = None,
    decoding: Decoding = "constrained",
    seed: int = 0,
    allow_effects: bool = False,
    resume: bool = False,
    progress: Callable[[Rollout], None] | None = None,
) -> Evaluation:
    """Run every row of a split once at the program's own temperatures and score it.

    ``limit`` takes the first rows of the split. Without ``runtime`` one is opened with defaults and closed again.
    A flow that may call a tool is refused unless ``allow_effects``. With ``resume`` rows that the runtime's store has
    from the same program, parameters, data, decoding, seed and models are taken from it; it must have one.
    Raises: ConfigError, DataError (a row or a metric that does not fit), EngineUnavailable, BudgetExhausted.
    """
    task = task or make_task(program, objective, data=data)
    examples = task.split(split)[:limit]
    if not examples:
        raise ConfigError(f"There is no row to score: split `{split}`, limit {limit}.", hint="raise --limit")
    plan = RolloutPlan(decoding, seed=seed, phase="eval", effects="allow" if allow_effects else "refuse", resume=resume)
    if resume and (runtime is None or runtime.store is None):
        raise ConfigError("There is no trace store to resume from.", hint="give the runtime that of the first run")
    began = time.perf_counter()
    if runtime is None:
        async with Runtime() as own:
            done = await rollouts(own, program, task, examples, plan, progress)
    else:
        if runtime.store is not None:
            await runtime.prepare(program, task.flow, RunOptions(effects=plan.effects))  # refuses before engines open
            plan = replace(plan, setting=await setting_of(runtime, program, task, decoding, seed))
        done = await rollouts(runtime, program, task, examples, plan, progress)
    return summarize(done, task, split, decoding, time.perf_counter() - began)


def summarize(done: Sequence[Rollout], task: Task, split: str, decoding: Decoding, seconds: float) -> Evaluation:
    """The evaluation that rollouts amount to."""
    scores = [rollout.score.value for rollout in done]
    traces = [rollout.trace for rollout in done]
    return Evaluation(
        mean_interval(scores, low=task.objective.low, high=task.objective.high),
        split,
        decoding,
        [_row(rollout) for rollout in done],
        dict(Counter(trace.failure.kind for trace in traces if trace.failure is not None)),
        sum(len(trace.calls) for trace in traces),
        sum(trace.prompt_tokens for trace in traces),
        sum(trace.completion_tokens for trace in traces),
        seconds,
        sum(len(trace.judged) for trace in traces),
        dict(Counter(metric for rollout in done for metric in rollout.score.failed)),
        _by_module(traces),
    )


def _by_module(traces: Sequence[Trace]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}

    def count(module: str, failure: Failure | None) -> None:
        counts = found.setdefault(module, {"calls": 0, "failed": 0})
        counts["calls"] += 1
        counts["failed"] += failure is not None

    for trace in traces:
        for call in trace.calls:
            count(call.module, call.failure)
        for step in trace.steps:
            if step.kind == "lm":  # a call that its engine failed
                count(step.name, step.failure)
    return found


def _row(rollout: Rollout) -> RowResult:
    trace, score = rollout.trace, rollout.score
    outputs = None if trace.outputs is None else dict(trace.outputs)
    failure = None if trace.failure is None else _told(trace.failure)
    failed = {metric: _told(problem) for metric, problem in score.failed.items()}
    return RowResult(rollout.example.id, score.value, dict(score.parts), outputs, failure, trace.run_id, failed)


def _told(failure: Failure) -> str:
    return f"{failure.call_key}: {failure.message}"
