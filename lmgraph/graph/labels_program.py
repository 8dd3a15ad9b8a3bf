"""Information flow in a whole program: every flow as it is declared, and as its objectives and metrics run it.

`information_flow` answers what leaks, what is released and who sees private values. In a graph without leaks, what a
public model, tool or retriever is asked follows from public values alone, or from released ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from lmgraph.graph.graph import FlowSpec, Graph, Knob, MetricSpec, ModuleSpec, ObjectiveSpec, TestSpec
from lmgraph.graph.labels import PUBLIC, Declared, Shape, Taint, at, make_record, under
from lmgraph.graph.labels_ends import FlowResult
from lmgraph.graph.labels_flow import FlowLabels
from lmgraph.graph.labels_found import Found, Given, Leak
from lmgraph.graph.nodes import ExprNode, ReleaseNode
from lmgraph.graph.types import Field, PrivacyLabel, RecordType
from lmgraph.graph.walk import walk

KNOBS: tuple[Knob, ...] = ("instruction", "demos", "weights")


@dataclass(frozen=True, slots=True)
class Channel:
    """A way by which optimizing may tell a public model or Python something private, and that is accepted: it sees what
    an objective's private scores choose, or outputs of a module that learned from private rows."""

    objective: str
    place: str
    """The module, or what the count is of: `Search.hop`."""
    seer: str | None
    """`lm cloud`, `retriever wiki`; None for whoever is given the module's outputs, which count as public."""
    knobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InformationFlow:
    leaks: tuple[Leak, ...] = ()
    releases: tuple[tuple[ReleaseNode, Taint | None], ...] = ()
    """Each release; None where nothing private is released."""
    given: tuple[Given, ...] = ()
    """Who is given private values, and may be."""
    channels: tuple[Channel, ...] = ()
    private: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By `flow F`, `module M` and `extern X`: those of its `in.NAME` and `out.NAME` that may hold private values, rows
    of a dataset that it is scored on included."""


def information_flow(graph: Graph, tests: Sequence[TestSpec] = ()) -> InformationFlow:
    """What becomes of the program's private values. Takes time linear in the graph's size, about."""
    flows = (*graph.flows, *(test.flow for test in tests))
    if not is_labelled(graph, flows):
        # Nothing is private, so nothing can leak; what is released all the same is listed.
        nodes = (node for flow in flows for node in walk(flow.body) if isinstance(node, ReleaseNode))
        return InformationFlow(releases=tuple((node, None) for node in nodes))
    types, found = Declared(), Found()
    labels = FlowLabels(replace(graph, flows=flows), types, found)
    for flow in flows:
        labels.flow(flow.name, {}, None)
    for metric in graph.metrics:
        _metric(metric, graph, labels)
    channels: list[Channel] = []
    for objective in graph.objectives:
        rows = _rows(types, graph.dataset(objective.data).record, objective.name)
        result = _on_rows(labels, objective.flow, rows)
        _demos(objective, graph, rows, types, found)
        if result.private is not None or any(shape is not PUBLIC for shape in rows.values()):
            channels += _channels(objective, graph, found)
    return InformationFlow(found.leaks, found.releases, found.given, tuple(channels), found.private)


def is_labelled(graph: Graph, flows: Sequence[FlowSpec]) -> bool:
    """Whether anything is declared private. Records stand for themselves, so types are not looked into."""
    fields: Iterator[Field] = chain.from_iterable(
        [
            *(record.fields for record in graph.records),
            *((*module.inputs, *module.outputs) for module in graph.modules),
            *((*flow.inputs, *flow.outputs) for flow in flows),
            *(extern.inputs for extern in graph.externs),
            *(extern.result.fields for extern in graph.externs if isinstance(extern.result, RecordType)),
        ]
    )
    if any(field.label == "private" for field in fields) or any(one.label == "private" for one in graph.externs):
        return True
    return any(isinstance(node, ExprNode) and node.label == "private" for flow in flows for node in walk(flow.body))


def _rows(types: Declared, record: RecordType, through: str) -> Mapping[str, Shape]:
    """The private fields of a row, on their way through an objective or metric."""
    return {name: at(shape, through, "rows") for name, shape in types.record(record).fields.items()}


def _on_rows(labels: FlowLabels, flow: str, rows: Mapping[str, Shape]) -> FlowResult:
    """The flow, given rows: an input of the name of a field gets it."""
    inputs = [one.name for one in labels.flows[flow].inputs]
    return labels.flow(flow, {name: rows[name] for name in inputs if name in rows}, None)


# -- scoring ---------------------------------------------------------------------------------------------------------


def _metric(metric: MetricSpec, graph: Graph, labels: FlowLabels) -> None:
    """The metric's body, asked by each objective's judge."""
    if metric.body is None or not isinstance(metric.gold.type, RecordType):
        return
    rows = _rows(labels.types, metric.gold.type, metric.name)
    result = _on_rows(labels, metric.flow, rows)
    seen = result.outputs
    if metric.reads == "trace" and isinstance(metric.pred.type, RecordType):
        # How many calls there were, and how long they took, may follow from anything that the run read.
        others = {one.name: under(PUBLIC, result.private) for one in metric.pred.type.fields}
        seen = make_record({**others, "out": result.outputs})
    given = {metric.gold.name: make_record(rows), metric.pred.name: seen}
    users = [one for one in graph.objectives if metric.name in one.metrics]
    for judge in dict.fromkeys([one.judge for one in users] or [None]):
        labels.region(metric.name, metric.body, given, judge)


# -- what optimizers do ----------------------------------------------------------------------------------------------


def _open(
    objective: ObjectiveSpec, graph: Graph, clearance: PrivacyLabel
) -> Iterator[tuple[ModuleSpec, tuple[Knob, ...]]]:
    """The modules of LMs with the clearance that optimizing for the objective may change, and what of them."""
    for name in graph.modules_of(objective.flow):
        module = graph.module(name)
        own = {name, module.derived_from}
        listed: tuple[Knob, ...] = tuple(knob for target, knob in objective.knobs if target in own)
        knobs = KNOBS if objective.is_open else listed
        free = module.optimize and (module.derived_from is None or graph.module(module.derived_from).optimize)
        if free and knobs and graph.lm(module.lm).clearance == clearance:
            yield module, knobs


def _demos(objective: ObjectiveSpec, graph: Graph, rows: Mapping[str, Shape], types: Declared, found: Found) -> None:
    """Rows that state a module's outputs may become demos, which every later prompt of the module shows."""
    for module, knobs in _open(objective, graph, "public"):
        for output in module.outputs if "demos" in knobs else ():
            taint = rows[output.name].any() if output.name in rows else None
            if taint is not None:
                found.leak(Leak("demos", objective.name, module.name, output.name, taint, module.lm))


def _channels(objective: ObjectiveSpec, graph: Graph, found: Found) -> Iterator[Channel]:
    for module, knobs in _open(objective, graph, "public"):
        yield Channel(objective.name, module.name, f"lm {module.lm}", knobs)
    lms = (graph.lm(graph.module(name).lm) for name in graph.modules_of(objective.flow))
    externs = (graph.extern(name) for name in graph.externs_of(objective.flow))
    seers = [f"lm {lm.name}" for lm in lms if lm.clearance == "public"]
    seers += [f"{one.kind} {one.name}" for one in externs if one.kind != "fn" and one.clearance == "public"]
    for module, knobs in _open(objective, graph, "private") if seers else ():
        if module.name in found.gives_public:
            yield Channel(objective.name, module.name, None, knobs)
    # A count says how often things are called and how much they are given, so all of them may tell it.
    for count in objective.counts:
        place, _, what = count.rpartition(".")
        for seer in dict.fromkeys(seers):
            yield Channel(objective.name, place, seer, (what,))
