"""Metrics and the objective made of them: from a row and a run to one number in a declared range."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import reprlib
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from lmgraph.errors import ConfigError, DataError, LmgraphError
from lmgraph.evaluate.dataset import Example
from lmgraph.graph.graph import MetricSpec, ObjectiveSpec
from lmgraph.program.program import Program
from lmgraph.program.values import as_record
from lmgraph.runtime.expressions import NoValue, compile_expression
from lmgraph.runtime.trace import Trace

Measure: TypeAlias = Callable[[Example, Trace], float]


@dataclass(frozen=True, slots=True)
class Score:
    value: float
    parts: Mapping[str, float]
    """By metric; empty for a run that failed."""


class Scorer:
    """The objective of one program. A run that failed scores the low end of the range."""

    def __init__(self, program: Program, objective: ObjectiveSpec) -> None:
        self.objective = objective
        self._measures = {name: _measure(program.graph.metric(name), program.root) for name in objective.metrics}

    def score(self, example: Example, trace: Trace) -> Score:
        """Raises: DataError where a metric raises, or gives no finite number in the range."""
        if trace.failure is not None or trace.outputs is None:
            return Score(self.objective.low, {})
        parts = {name: measure(example, trace) for name, measure in self._measures.items()}
        value = sum(
            weight * parts[name] for name, weight in zip(self.objective.metrics, self.objective.weights, strict=True)
        )
        if not self.objective.low - 1e-9 <= value <= self.objective.high + 1e-9:
            raise DataError(
                f"Objective `{self.objective.name}` gave {value:g} on row {example.id}, outside its range"
                f" [{self.objective.low:g}, {self.objective.high:g}].",
                hint="declare the objective's range, or mend the metric",
            )
        return Score(min(max(value, self.objective.low), self.objective.high), parts)


def _measure(spec: MetricSpec, root: Path) -> Measure:
    if spec.expression is not None:
        evaluate = compile_expression(spec.expression)

        def by_expression(example: Example, trace: Trace) -> float:
            try:
                value = evaluate({spec.gold.name: example.values, spec.pred.name: trace.outputs})
            except NoValue as problem:
                raise DataError(f"Metric `{spec.name}` has no value on row {example.id}: {problem}.") from None
            return _number(spec, example, value)

        return by_expression
    assert spec.python is not None
    function = load_callable(spec.python, root)

    def by_python(example: Example, trace: Trace) -> float:
        pred = trace if spec.reads == "trace" else as_record(dict(trace.outputs or {}))
        try:
            value = function(as_record(dict(example.values)), pred)
        except LmgraphError:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = next((frame for frame in reversed(frames) if Path(frame.filename).is_relative_to(root)), frames[-1])
            raise DataError(
                f"Metric `{spec.name}` raised {type(error).__name__}: {error}"
                f" (at {where.filename}:{where.lineno}, on row {example.id}).",
                hint="mend the metric; it is called with the row and the flow's outputs",
            ) from error
        return _number(spec, example, value)

    return by_python


def _number(spec: MetricSpec, example: Example, value: Any) -> float:
    with contextlib.suppress(OverflowError):  # an int beyond every float
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
    got = "a huge number" if isinstance(value, int) else reprlib.repr(value)
    raise DataError(
        f"Metric `{spec.name}` gave {got} on row {example.id}, expected a finite number or a bool.",
        hint="mend the metric",
    )


def load_callable(reference: str, root: Path) -> Callable[..., Any]:
    """The callable of `pkg.module:name`, from the program's own folder only.

    Raises: ConfigError if the file or the name is not there, or importing it fails.
    """
    module_path, _, name = reference.partition(":")
    module = _load_module(module_path, root, reference)
    target = getattr(module, name, None)
    if not callable(target):
        raise ConfigError(f"`{reference}`: {module.__file__} has no callable `{name}`.", hint="check the name")
    return target  # type: ignore[no-any-return]


def _load_module(path: str, root: Path, reference: str) -> ModuleType:
    """Import ``path`` under a name of this root's own, so that two programs may both have a `metrics.py`."""
    prefix = f"lmgraph_program_{abs(hash(str(root))):x}"
    if prefix not in sys.modules:
        package = ModuleType(prefix)
        package.__path__ = [str(root)]
        sys.modules[prefix] = package
    full = f"{prefix}.{path}"
    try:
        found = importlib.util.find_spec(full)
        if found is None:
            raise ConfigError(
                f"`{reference}`: there is no {path.replace('.', '/')}.py in {root}.", hint="check the reference's path"
            )
        return importlib.import_module(full)
    except LmgraphError:
        raise
    except Exception as error:
        raise ConfigError(
            f"`{reference}`: importing it raised {type(error).__name__}: {error}.", hint="mend the Python file"
        ) from error
