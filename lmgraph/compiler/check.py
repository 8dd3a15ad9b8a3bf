"""Checks a whole program: every declaration is read once, every body against what its names mean."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraph.compiler.constraints import Conditions
from lmgraph.compiler.datasets import read_dataset
from lmgraph.compiler.declare import Declarations, HasSignature
from lmgraph.compiler.externs import read_extern
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.flow_calls import calls_in, note_effects, refuse_recursion
from lmgraph.compiler.imports import Closure
from lmgraph.compiler.kept import Steps
from lmgraph.compiler.metrics import MetricTypes, check_metric
from lmgraph.compiler.modules import Modules, read_lm
from lmgraph.compiler.moved import read_moved
from lmgraph.compiler.objectives import read_objective
from lmgraph.compiler.program_tests import check_tests
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.graph import DatasetSpec, ExternSpec, LmSpec, ModuleSpec, Moved, ObjectiveSpec
from lmgraph.graph.types import EnumType, RecordType
from lmgraph.source.text import Span
from lmgraph.syntax import tree


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    declaration: tree.Flow
    signature: SignatureTypes


@dataclass(frozen=True, slots=True)
class CheckedMetric:
    declaration: tree.Metric
    types: MetricTypes


@dataclass(frozen=True, slots=True)
class CheckedProgram:
    """What the declarations mean, the root file's first. Declarations that were reported may be missing."""

    enums: tuple[EnumType, ...]
    records: tuple[RecordType, ...]
    lms: tuple[LmSpec, ...]
    externs: tuple[ExternSpec, ...]
    modules: tuple[ModuleSpec, ...]
    signatures: dict[str, SignatureTypes]
    """Of modules, flows and externs, by name."""
    flows: tuple[CheckedFlow, ...]
    root_flows: tuple[str, ...]
    """Those that the root file declares itself."""
    lone_module: SignatureTypes | None
    """The module of a file that has only this one and no flow."""
    datasets: tuple[DatasetSpec, ...]
    metrics: tuple[CheckedMetric, ...]
    objectives: tuple[ObjectiveSpec, ...]
    tests: tuple[tree.Test, ...]
    moved: tuple[Moved, ...]
    spans: dict[str, Span]
    """Where each name is declared."""


def check_program(
    closure: Closure,
    declarations: Declarations,
    files: ProgramFiles,
    facts: Facts,
    reporter: Reporter,
    steps: Steps,
) -> CheckedProgram:
    """Reports every problem of names and types; what was found out about expressions is left in ``facts``."""
    names = declarations.names
    conditions = Conditions(declarations, reporter, facts)
    declarations.read_constraint = conditions.constraint
    enums = [declarations.enum(one) for one in names.every(tree.Enum)]
    records = [declarations.record(one) for one in names.every(tree.Record)]
    lms = [read_lm(one, reporter) for one in names.every(tree.Lm)]
    externs = [read_extern(one, declarations, conditions, files, reporter) for one in names.every(tree.Extern)]
    reader = Modules(declarations, conditions, reporter)
    declared_modules: list[tree.Module | tree.Instance] = [*names.every(tree.Module), *names.every(tree.Instance)]
    modules = [reader.read(one) for one in declared_modules]
    tools = {one.name for one in externs if one.kind == "tool"}
    facts.acting.update(one.name for one in modules if one is not None and tools & set(one.tools))
    flows = list(names.every(tree.Flow))
    for flow in flows:
        steps.check_flow(flow, declarations, reporter, facts)
    made = {flow.name.text: [*calls_in(flow.body, facts)] for flow in flows}
    refuse_recursion(flows, made, reporter)
    note_effects(flows, made, facts)
    datasets = [read_dataset(one, declarations, files, reporter) for one in names.every(tree.Dataset)]
    metrics = {
        one.name.text: check_metric(one, declarations, files, reporter, facts) for one in names.every(tree.Metric)
    }
    objectives = [
        read_objective(one, metrics, declarations, facts, reporter)
        for one in names.every(tree.Objective, root_only=True)
    ]
    tests = tuple(one for one in closure.root.file.declarations if isinstance(one, tree.Test))
    check_tests(tests, declarations, reporter, facts)
    callables: list[HasSignature] = [*declared_modules, *flows, *names.every(tree.Extern)]
    return CheckedProgram(
        enums=tuple(one for one in enums if isinstance(one, EnumType)),
        records=tuple(one for one in records if isinstance(one, RecordType)),
        lms=tuple(lms),
        externs=tuple(externs),
        modules=tuple(one for one in modules if one is not None),
        signatures={one.name.text: declarations.signature(one) for one in callables},
        flows=tuple(CheckedFlow(one, declarations.signature(one)) for one in flows),
        root_flows=tuple(one.name.text for one in flows if one.name.span.file == names.root),
        lone_module=declarations.signature(names.alone) if names.alone is not None else None,
        datasets=tuple(one for one in datasets if one is not None),
        metrics=tuple(
            CheckedMetric(one, types) for one in names.every(tree.Metric) if (types := metrics[one.name.text])
        ),
        objectives=tuple(one for one in objectives if one is not None),
        tests=tests,
        moved=read_moved(closure, declarations, reporter),
        spans={name: one.name.span for name, one in names.declared.items()},
    )
