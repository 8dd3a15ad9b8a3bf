"""Makes the graph of a checked program. Assumes that nothing was reported as an error; knows no diagnostics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from lmgraph.compiler.check import CheckedMetric, CheckedProgram
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.kept import Steps
from lmgraph.compiler.lower_flow import FlowLowering
from lmgraph.compiler.strategies import SAMPLING_TEMPERATURE, action_types, react_modules, step_type
from lmgraph.graph.graph import DEFAULT_LM, Graph, LmSpec, MetricSpec, ModuleSpec, TestSpec
from lmgraph.graph.types import Field, RecordType
from lmgraph.source.text import Span
from lmgraph.syntax import tree


def lower_program(
    name: str, program: CheckedProgram, facts: Facts, spans: dict[str, Span], steps: Steps
) -> tuple[Graph, tuple[TestSpec, ...]]:
    """The graph, and the tests beside it. Places of declarations, inputs and nodes are added to ``spans``."""
    return _ProgramLowering(program, facts, spans, steps).run(name)


class _ProgramLowering:
    def __init__(self, program: CheckedProgram, facts: Facts, spans: dict[str, Span], steps: Steps) -> None:
        self._steps = steps
        self._program = program
        self._facts = facts
        self._spans = spans
        self._declared = {module.name: module for module in program.modules}

    def run(self, name: str) -> tuple[Graph, tuple[TestSpec, ...]]:
        program = self._program
        self._spans.update(program.spans)
        flows = [
            self._steps.lower_flow(one.declaration, one.signature, self._lowering(one.signature))
            for one in program.flows
        ]
        root_flows = list(program.root_flows)
        if program.lone_module is not None:
            alone = self._lowering(program.lone_module).lone_module(program.lone_module)
            flows, root_flows = [*flows, alone], [alone.name]
        modules, records = self._modules()
        entry = root_flows[0] if len(root_flows) == 1 else None
        graph = Graph(
            name=name,
            enums=_by_name(program.enums),
            records=_by_name([*program.records, *records]),
            lms=_by_name(_with_default(program)),
            externs=_by_name(program.externs),
            modules=_by_name(modules),
            flows=_by_name(flows),
            datasets=_by_name(program.datasets),
            metrics=_by_name(self._metric(one) for one in program.metrics),
            objectives=_by_name(program.objectives),
            moved=program.moved,
            entry=program.objectives[0].flow if program.objectives else entry,
        )
        tests = tuple(self._lowering(None).test(one, number) for number, one in enumerate(program.tests, start=1))
        return graph, tests

    def _lowering(self, signature: SignatureTypes | None) -> FlowLowering:
        outputs: Sequence[Field] = signature.outputs if signature is not None else ()
        return FlowLowering(self._declared, self._program.signatures, self._facts, self._spans, outputs)

    def _modules(self) -> tuple[list[ModuleSpec], list[RecordType]]:
        """The modules as they run, with those that strategies derive, and the records that these use."""
        modules: list[ModuleSpec] = []
        records: list[RecordType] = []
        lms = {lm.name: lm for lm in self._program.lms}
        described = {extern.name: extern.description for extern in self._program.externs}
        for module in self._program.modules:
            match module.strategy:
                case "react":
                    tools = tuple(self._program.signatures[tool] for tool in module.tools)
                    told = {tool.name: f": {text}" if (text := described[tool.name]) else "" for tool in tools}
                    modules += react_modules(module, tools, told)
                    records += [step_type(module.name), *action_types(module.name, tools)]
                case "best_of":
                    lm = lms.get(module.lm)
                    modules.append(_sampled(module, lm.temperature if lm is not None else None))
                case _:
                    modules.append(module)
        return modules, records

    def _metric(self, metric: CheckedMetric) -> MetricSpec:
        types, body, name = metric.types, metric.declaration.body, metric.declaration.name.text
        gold, pred = Field(types.gold, types.row), Field(types.pred, types.seen)
        python, region = None, None
        if isinstance(body, tree.PythonReference):
            python = str(body.target.value)
        else:
            region = self._lowering(None).metric(name, body, gold, pred)
        return MetricSpec(name, gold, pred, types.flow, types.reads, types.result, region, python)


def _sampled(module: ModuleSpec, of_lm: float | None) -> ModuleSpec:
    """Samples of `best_of` must differ: where nobody set a temperature, or the lm's is 0, the module gets one."""
    if module.temperature is not None or of_lm:
        return module
    return replace(module, temperature=SAMPLING_TEMPERATURE)


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
