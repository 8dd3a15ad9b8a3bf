"""Makes the graph of a checked program. Assumes that nothing was reported as an error; knows no diagnostics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from lmgraph.compiler.check import CheckedMetric, CheckedProgram
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.lower_flow import lone_module, lower_flow, lower_metric
from lmgraph.graph.graph import DEFAULT_LM, Graph, LmSpec, MetricSpec
from lmgraph.graph.types import Field
from lmgraph.source.text import Span
from lmgraph.syntax import tree


def lower_program(name: str, program: CheckedProgram, facts: Facts, spans: dict[str, Span]) -> Graph:
    """The graph. The places of declarations, inputs and nodes are added to ``spans``."""
    spans.update(program.spans)
    flows = [lower_flow(one.declaration, one.signature, facts, spans) for one in program.flows]
    if program.lone_module is not None:
        flows = [lone_module(program.lone_module, spans)]
    entry = flows[0].name if len(flows) == 1 else None
    return Graph(
        name=name,
        enums=_by_name(program.enums),
        records=_by_name(program.records),
        lms=_by_name(_with_default(program)),
        modules=_by_name(program.modules),
        flows=_by_name(flows),
        datasets=_by_name(program.datasets),
        metrics=_by_name(_metric(one, facts) for one in program.metrics),
        objectives=_by_name(program.objectives),
        entry=program.objectives[0].flow if program.objectives else entry,
    )


def _metric(metric: CheckedMetric, facts: Facts) -> MetricSpec:
    types, body = metric.types, metric.declaration.body
    python, expression = None, None
    if isinstance(body, tree.PythonReference):
        python = str(body.target.value)
    else:
        expression = lower_metric(body, types.gold, types.pred, facts)
    return MetricSpec(
        name=metric.declaration.name.text,
        gold=Field(types.gold, types.row),
        pred=Field(types.pred, types.output),
        flow=types.flow,
        reads=types.reads,
        result=types.result,
        expression=expression,
        python=python,
    )


def _with_default(program: CheckedProgram) -> list[LmSpec]:
    """The LMs; the default one is among them where a module uses it, declared or not."""
    used = any(module.lm == DEFAULT_LM for module in program.modules)
    declared = any(lm.name == DEFAULT_LM for lm in program.lms)
    return [*program.lms, *([LmSpec(DEFAULT_LM)] if used and not declared else [])]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)


def _by_name(parts: Iterable[_Part]) -> tuple[_Part, ...]:
    return tuple(sorted(parts, key=lambda part: part.name))
