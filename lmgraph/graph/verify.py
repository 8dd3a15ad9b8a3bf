"""Checks that a graph holds together. A graph that does not is a bug of ours, never the author's fault.

Run after lowering, after every pass, and on graphs that were read from a file. Takes time linear in the graph's size.
What a node must be is in verify_flow.py, what a type must be in verify_types.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.graph.graph import (
    DatasetSpec,
    ExternSpec,
    Graph,
    MetricSpec,
    ModuleSpec,
    ObjectiveSpec,
    StubSpec,
    TestSpec,
)
from lmgraph.graph.types import ListType, RecordType
from lmgraph.graph.verify_flow import FlowChecks
from lmgraph.graph.verify_parts import Parts, fail, in_scope, member, names, ordered, parts_of, unique
from lmgraph.graph.verify_types import KnownTypes


def verify(graph: Graph) -> None:
    """Raises: GraphInvariantError naming the first thing that is wrong."""
    for part in ("enums", "records", "lms", "externs", "modules", "flows", "datasets", "metrics", "objectives"):
        ordered((one.name for one in getattr(graph, part)), part)
    parts = parts_of(graph)
    types = KnownTypes(graph, parts)
    for extern in graph.externs:
        _extern(extern)
    for module in graph.modules:
        _module(module, parts)
    checks = FlowChecks(parts, types)
    for flow in graph.flows:
        checks.flow(flow)
    for metric in graph.metrics:
        _metric(metric, parts, types)
        checks.metric(metric)
    checks.no_cycle()
    for dataset in graph.datasets:
        _dataset(dataset, types)
    for objective in graph.objectives:
        _objective(objective, parts)
    ordered((moved.old for moved in graph.moved), "names that moved")
    for moved in graph.moved:
        member(moved.new, parts.modules, f"new name of {moved.old}")
        if moved.old in parts.modules:
            fail(f"{moved.old} moved, and is still there")
    if graph.entry is not None:
        member(graph.entry, parts.flows, "entry flow")


def verify_tests(graph: Graph, tests: Sequence[TestSpec]) -> None:
    """Raises: GraphInvariantError where a test does not fit the graph, which was verified before."""
    parts = parts_of(graph)
    types = KnownTypes(graph, parts)
    for test in tests:
        if test.flow.inputs or test.flow.outputs:
            fail(f"the flow of test {test.title!r} has inputs or outputs")
        FlowChecks(parts, types).flow(test.flow)
        for stub in test.stubs:
            _stub(stub, parts)


def verify_test(graph: Graph, test: TestSpec) -> None:
    """As `verify_tests`, for one."""
    verify_tests(graph, (test,))


# -- modules and externs ---------------------------------------------------------------------------------------------


def _module(module: ModuleSpec, parts: Parts) -> None:
    what = f"module {module.name}"
    member(module.lm, parts.lms, f"lm of {what}")
    told = {field.name for field in (*module.inputs, *module.outputs)}
    for check in module.checks:
        in_scope(check.condition, told, f"a check of {what}")
    for tool in module.tools:
        member(tool, parts.externs, f"tool of {what}")
    unique(module.tools, f"tools of {what}")
    if module.strategy == "react" and (not module.tools or module.max_steps < 1):
        fail(f"{what} reacts without tools or steps")
    if module.samples < 1 or (module.samples > 1 and module.strategy != "best_of"):
        fail(f"{what} draws {module.samples} samples as {module.strategy}")
    if module.select not in (None, "vote") and member(module.select, parts.externs, f"selector of {what}").kind != "fn":
        fail(f"the selector {module.select} of {what} is no fn")
    if module.max_tokens < 1 or module.retries < 0 or module.max_steps < 0:
        fail(f"{what} has a limit below what it may be")
    if module.derived_from is not None:
        member(module.derived_from, parts.modules, f"declared module of {what}")
        if not module.name.startswith(f"{module.derived_from}."):
            fail(f"{what} is not named after {module.derived_from}, which it is derived from")


def _extern(extern: ExternSpec) -> None:
    what = f"{extern.kind} {extern.name}"
    _python(extern.python, what)
    for path in extern.files:
        _path(path, what)
    if extern.timeout is not None and not extern.timeout > 0:
        fail(f"{what} has no time")
    if extern.returns_at_most is not None:
        in_scope(extern.returns_at_most, {field.name for field in extern.inputs}, f"the bound of {what}")
        if not isinstance(extern.result, ListType):
            fail(f"{what} gives back no list, and has a bound for it")


# -- scoring ---------------------------------------------------------------------------------------------------------


def _metric(metric: MetricSpec, parts: Parts, types: KnownTypes) -> None:
    what = f"metric {metric.name}"
    flow = member(metric.flow, parts.flows, f"flow of {what}")
    types.field(metric.gold, what)
    types.known(metric.result, f"the result of {what}")
    if metric.reads == "out":
        types.field(metric.pred, what)
        if metric.pred.type != parts.flow_outputs[flow.name]:
            fail(f"{what} does not read the outputs of {flow.name}")
    elif not isinstance(metric.pred.type, RecordType) or metric.pred.type.name != f"{flow.name}.trace":
        fail(f"{what} does not read the trace of {flow.name}")
    else:
        types.fields(metric.pred.type.fields, f"the trace that {what} reads")
    if (metric.body is None) == (metric.python is None):
        fail(f"{what} needs a body or a Python reference, and not both")
    if metric.python is not None:
        _python(metric.python, what)


def _dataset(dataset: DatasetSpec, types: KnownTypes) -> None:
    what = f"dataset {dataset.name}"
    types.known(dataset.record, what)
    _path(dataset.path, what)
    unique((split.name for split in dataset.splits), f"splits of {what}")
    for split in dataset.splits:
        if sum(one is not None for one in (split.share, split.count, split.path)) != 1:
            fail(f"split {split.name} of {what} needs one of a share, a count and a path")
        if split.share is not None and not 0 < split.share <= 1:
            fail(f"split {split.name} of {what} has a share outside its range")
        if split.path is not None:
            _path(split.path, f"split {split.name} of {what}")


def _objective(objective: ObjectiveSpec, parts: Parts) -> None:
    what = f"objective {objective.name}"
    member(objective.flow, parts.flows, f"flow of {what}")
    member(objective.data, parts.datasets, f"data of {what}")
    for name in objective.metrics:
        if member(name, parts.metrics, f"metric of {what}").flow != objective.flow:
            fail(f"metric {name} of {what} scores another flow")
    if not objective.metrics or len(objective.metrics) != len(objective.weights):
        fail(f"{what} needs one weight for each metric")
    if not objective.low < objective.high:
        fail(f"{what} has an empty range")
    for module, _ in objective.knobs:
        member(module, parts.modules, f"knob of {what}")
    for count in objective.counts:  # a pass may have removed the place
        member(count.partition(".")[0], parts.flows, f"flow of a count of {what}")
    unique(objective.counts, f"counts of {what}")
    if objective.judge is not None:
        member(objective.judge, parts.lms, f"judge of {what}")


# -- files -----------------------------------------------------------------------------------------------------------


def _path(path: str, what: str) -> None:
    if not path or path.startswith("/") or ".." in path.split("/"):
        fail(f"{what} names {path!r}, which is no path inside the program's folder")


def _python(reference: str, what: str) -> None:
    module, colon, function = reference.partition(":")
    if not (module and colon and function):
        fail(f"{what} names {reference!r}, which is no `module:callable`")


# -- tests -----------------------------------------------------------------------------------------------------------


def _stub(stub: StubSpec, parts: Parts) -> None:
    what = f"stub of {stub.target}"
    if stub.target in parts.modules:
        outputs: RecordType | None = parts.module_outputs[stub.target]
    elif stub.target in parts.flows:
        outputs = parts.flow_outputs[stub.target]
    else:
        result = member(stub.target, parts.externs, what).result
        outputs = result if isinstance(result, RecordType) else None
    if not stub.answers:
        fail(f"the {what} has no answer")
    for answer in stub.answers:
        for operand in answer:
            in_scope(operand.value, (), f"an answer of the {what}")
        if [operand.name for operand in answer] == [""]:
            continue
        if outputs is None:
            fail(f"an answer of the {what} names outputs, which it has none of")
        names(answer, tuple(field.name for field in outputs.fields), f"outputs of an answer of the {what}")
