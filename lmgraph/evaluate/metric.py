"""Metrics and the objective made of them: from a row and a run to one number in a declared range."""

from __future__ import annotations

import contextlib
import math
import reprlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lmgraph.errors import DataError, LmgraphError
from lmgraph.evaluate.dataset import Example
from lmgraph.graph.graph import MetricSpec, ObjectiveSpec
from lmgraph.program.program import Program
from lmgraph.program.values import as_record
from lmgraph.runtime.python import load_callable, place_of
from lmgraph.runtime.service import Runtime
from lmgraph.runtime.trace import Failure, Trace


@dataclass(frozen=True, slots=True)
class Score:
    value: float
    parts: Mapping[str, float]
    """By metric; empty for a run that failed."""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    """Metrics whose judge gave nothing usable: then ``value`` is the low end of the range."""
    feedback: Mapping[str, str] = field(default_factory=dict)
    """By metric: what it says of the run in words, for optimizers that read. Python metrics may give some."""


class Scorer:
    """The objective of one program. A run that failed scores the low end of the range.

    Judges are this program's modules with this program's parameters, whatever program is scored: an optimizer that
    changes what it is scored by would only fool itself.
    """

    def __init__(self, program: Program, objective: ObjectiveSpec) -> None:
        self.objective = objective
        self._program = program
        self._by_expression = [name for name in objective.metrics if program.graph.metric(name).body is not None]
        self._measures = {name: self._measure(program.graph.metric(name)) for name in objective.metrics}

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of the modules that its metrics call."""
        found = (name for metric in self._by_expression for name in self._program.graph.judges_of(metric))
        return tuple(dict.fromkeys(found))

    async def prepare(self, runtime: Runtime) -> None:
        """Open what the metrics need. Raises: ConfigError, EngineUnavailable, before any call is made."""
        for name in self._by_expression:
            await runtime.prepare_metric(self._program, name, self.objective.judge)

    async def score(
        self, runtime: Runtime, example: Example, trace: Trace, *, seed: int = 0, recorded: Sequence[Trace] = ()
    ) -> Score:
        """The score of one run on its row. What judges were asked is appended to ``trace.judged``; where those of
        ``recorded`` runs of the row were asked the very same, they answer.

        A judge whose output does not parse, or breaks its asserts, or whose engine fails, makes a failed metric: the
        score is the low end of the range, and ``Score.failed`` says why.
        Raises: DataError where a metric raises, has no value, or gives no finite number in the range; BudgetExhausted
        and EngineUnavailable where a judge cannot be asked.
        """
        if trace.failure is not None or trace.outputs is None:
            return Score(self.objective.low, {})
        parts: dict[str, float] = {}
        failed: dict[str, Failure] = {}
        feedback: dict[str, str] = {}
        for name, measure in self._measures.items():
            value = await measure(runtime, example, trace, seed, recorded)
            if isinstance(value, Failure):
                failed[name] = value
            elif isinstance(value, tuple):
                parts[name], feedback[name] = value
            else:
                parts[name] = value
        if failed:
            return Score(self.objective.low, parts, failed, feedback)
        return Score(self._weighed(parts, example), parts, feedback=feedback)

    def _weighed(self, parts: Mapping[str, float], example: Example) -> float:
        objective = self.objective
        value = sum(weight * parts[name] for name, weight in zip(objective.metrics, objective.weights, strict=True))
        if not objective.low - 1e-9 <= value <= objective.high + 1e-9:
            raise DataError(
                f"Objective `{objective.name}` gave {value:g} on row {example.id}, outside its range"
                f" [{objective.low:g}, {objective.high:g}].",
                hint="declare the objective's range, or mend the metric",
            )
        return min(max(value, objective.low), objective.high)

    def _measure(self, spec: MetricSpec) -> _Measure:
        return _by_python(spec, self._program.root) if spec.body is None else self._expression(spec)

    def _expression(self, spec: MetricSpec) -> _Measure:
        has_judges = bool(self._program.graph.judges_of(spec.name))

        async def measure(
            runtime: Runtime, example: Example, trace: Trace, seed: int, recorded: Sequence[Trace]
        ) -> float | Failure:
            pred = trace_record(trace) if spec.reads == "trace" else dict(trace.outputs or {})
            judge = self.objective.judge
            value = await runtime.measure(
                self._program, spec.name, example.values, pred, trace=trace, judge=judge, seed=seed, recorded=recorded
            )
            if not isinstance(value, Failure):
                return _number(spec, example, value)
            if has_judges and value.kind != "tool":
                return value
            raise DataError(
                f"Metric `{spec.name}` has no value on row {example.id}: {value.message}.", hint="mend the metric"
            )

        return measure


class _Measure(Protocol):
    """The value of one metric on a row and a run: a number, one with words, or why a judge gave none."""

    def __call__(
        self, runtime: Runtime, example: Example, trace: Trace, seed: int, recorded: Sequence[Trace], /
    ) -> Awaitable[float | tuple[float, str] | Failure]: ...


def trace_record(trace: Trace) -> dict[str, Any]:
    """`F.trace` as expressions see it: what came out and what it took."""
    return {
        "out": dict(trace.outputs or {}),
        "calls": len(trace.calls),
        "failed_calls": sum(call.failure is not None for call in trace.calls),
        "prompt_tokens": trace.prompt_tokens,
        "completion_tokens": trace.completion_tokens,
        "seconds": trace.seconds,
    }


def _by_python(spec: MetricSpec, root: Path) -> _Measure:
    assert spec.python is not None
    function: Callable[..., Any] = load_callable(spec.python, root)

    async def measure(
        runtime: Runtime, example: Example, trace: Trace, seed: int, recorded: Sequence[Trace]
    ) -> float | tuple[float, str]:
        pred = trace if spec.reads == "trace" else as_record(dict(trace.outputs or {}))
        try:
            value = function(as_record(dict(example.values)), pred)
        except LmgraphError:
            raise
        except Exception as error:
            raise DataError(
                f"Metric `{spec.name}` raised {type(error).__name__}: {error}"
                f" (at {place_of(error, root)}, on row {example.id}).",
                hint="mend the metric; it is called with the row and the flow's outputs",
            ) from error
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
            return _number(spec, example, value[0]), value[1]
        return _number(spec, example, value)

    return measure


def _number(spec: MetricSpec, example: Example, value: Any) -> float:
    with contextlib.suppress(OverflowError):  # an int beyond every float
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
    got = "a huge number" if isinstance(value, int) else reprlib.repr(value)
    raise DataError(
        f"Metric `{spec.name}` gave {got} on row {example.id}, expected a finite number or a bool.",
        hint="mend the metric",
    )
