"""Checks a whole program: every declaration is read once, every body against what its names mean."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraph.compiler.datasets import read_dataset
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.flows import check_flow
from lmgraph.compiler.metrics import MetricTypes, check_metric, runs_alone
from lmgraph.compiler.modules import read_lm, read_module
from lmgraph.compiler.objectives import read_objective
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.graph import DatasetSpec, LmSpec, ModuleSpec, ObjectiveSpec
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
    """What the declarations mean, in source order. Declarations that were reported may be missing."""

    enums: tuple[EnumType, ...]
    records: tuple[RecordType, ...]
    lms: tuple[LmSpec, ...]
    modules: tuple[ModuleSpec, ...]
    flows: tuple[CheckedFlow, ...]
    lone_module: SignatureTypes | None
    """The module of a file that has only this one and no flow."""
    datasets: tuple[DatasetSpec, ...]
    metrics: tuple[CheckedMetric, ...]
    objectives: tuple[ObjectiveSpec, ...]
    spans: dict[str, Span]
    """Where each name is declared."""


def check_program(
    declarations: Declarations, files: ProgramFiles, facts: Facts, reporter: Reporter
) -> CheckedProgram:
    """Reports every problem of names and types; what was found out about expressions is left in ``facts``."""
    names = declarations.names
    enums = [declarations.enum(one) for one in names.every(tree.Enum)]
    records = [declarations.record(one) for one in names.every(tree.Record)]
    lms = [read_lm(one, reporter) for one in names.every(tree.Lm)]
    modules = [read_module(one, declarations, reporter) for one in names.every(tree.Module)]
    for flow in names.every(tree.Flow):
        check_flow(flow, declarations, reporter, facts)
    datasets = [read_dataset(one, declarations, files, reporter) for one in names.every(tree.Dataset)]
    metrics = {
        one.name.text: check_metric(one, declarations, files, reporter, facts) for one in names.every(tree.Metric)
    }
    objectives = [read_objective(one, metrics, declarations, reporter) for one in names.every(tree.Objective)]
    alone = next((one for one in names.every(tree.Module) if runs_alone(one, declarations)), None)
    return CheckedProgram(
        enums=tuple(one for one in enums if isinstance(one, EnumType)),
        records=tuple(one for one in records if isinstance(one, RecordType)),
        lms=tuple(lms),
        modules=tuple(modules),
        flows=tuple(CheckedFlow(one, declarations.signature(one)) for one in names.every(tree.Flow)),
        lone_module=declarations.signature(alone) if alone is not None else None,
        datasets=tuple(one for one in datasets if one is not None),
        metrics=tuple(
            CheckedMetric(one, types) for one in names.every(tree.Metric) if (types := metrics[one.name.text])
        ),
        objectives=tuple(one for one in objectives if one is not None),
        spans={name: one.name.span for name, one in names.declared.items()},
    )
