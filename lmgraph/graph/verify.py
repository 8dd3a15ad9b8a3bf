"""Checks that a graph holds together. A graph that does not is a bug of ours, never the author's fault.

Run after lowering, after every pass, and on graphs that were read from a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, Protocol, TypeVar

from lmgraph.errors import GraphInvariantError
from lmgraph.graph.graph import FlowSpec, Graph, ModuleSpec
from lmgraph.graph.nodes import Expr, ExprNode, LmCall, MapNode, Operand, Region, ValueId, references, walk
from lmgraph.graph.types import (
    EnumType,
    Field,
    ListType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
)


def verify(graph: Graph) -> None:
    """Raises: GraphInvariantError naming the first thing that is wrong."""
    for part in ("enums", "records", "lms", "modules", "flows", "datasets", "metrics", "objectives"):
        names = [one.name for one in getattr(graph, part)]
        if names != sorted(set(names)):
            _fail(f"{part} are not unique and ordered by name: {names}")
    _verify_types(graph)
    for module in graph.modules:
        _member(module.lm, graph.lms, f"lm of module {module.name}")
        _unique((field.name for field in module.inputs), f"inputs of module {module.name}")
        _unique((field.name for field in module.outputs), f"outputs of module {module.name}")
    seen: set[str] = set()
    for flow in graph.flows:
        _verify_flow(flow, graph, seen)
    _verify_scoring(graph)
    if graph.entry is not None:
        _member(graph.entry, graph.flows, "entry flow")


def _verify_flow(flow: FlowSpec, graph: Graph, seen: set[str]) -> None:
    expected = tuple((f"{flow.name}/{field.name}", field) for field in flow.inputs)
    if tuple((parameter.id, parameter.field) for parameter in flow.body.parameters) != expected:
        _fail(f"parameters of flow {flow.name} are not its inputs")
    _same_names(flow.body.results, flow.outputs, f"results of flow {flow.name}")
    _verify_region(flow.body, graph, frozenset(), seen)


def _verify_region(region: Region, graph: Graph, outer: frozenset[ValueId], seen: set[str]) -> None:
    scope = set(outer)
    for parameter in region.parameters:
        _new(parameter.id, seen)
        scope.add(parameter.id)
    for node in region.nodes:
        _new(node.id, seen)
        match node:
            case LmCall():
                module = _member(node.module, graph.modules, f"module of {node.id}")
                _same_names(node.arguments, module.inputs, f"arguments of {node.id}")
                for argument in node.arguments:
                    _in_scope(argument.value, scope, node.id)
                if node.type != module.output_type:
                    _fail(f"{node.id} does not have the type of its module's outputs")
            case ExprNode():
                _in_scope(node.expression, scope, node.id)
            case MapNode():
                _in_scope(node.items, scope, node.id)
                if len(node.body.parameters) != 1 or [result.name for result in node.body.results] != [""]:
                    _fail(f"the body of {node.id} must have one parameter and one unnamed result")
                if node.condition is not None:
                    _in_scope(node.condition, scope | {node.body.parameters[0].id}, node.id)
                _verify_region(node.body, graph, frozenset(scope), seen)
        scope.add(ValueId(node.id))
    for result in region.results:
        _in_scope(result.value, scope, f"result {result.name!r}")


def _verify_scoring(graph: Graph) -> None:
    for metric in graph.metrics:
        flow = _member(metric.flow, graph.flows, f"flow of metric {metric.name}")
        if metric.reads == "out" and metric.pred.type != flow.output_type:
            _fail(f"metric {metric.name} does not read the outputs of {flow.name}")
        if (metric.expression is None) == (metric.python is None):
            _fail(f"metric {metric.name} needs an expression or a Python reference, and not both")
        if metric.expression is not None:
            names = {ValueId(metric.gold.name), ValueId(metric.pred.name)}
            _in_scope(metric.expression, names, f"metric {metric.name}")
    for objective in graph.objectives:
        _member(objective.flow, graph.flows, f"flow of objective {objective.name}")
        _member(objective.data, graph.datasets, f"data of objective {objective.name}")
        for name in objective.metrics:
            if _member(name, graph.metrics, f"metric of objective {objective.name}").flow != objective.flow:
                _fail(f"metric {name} of objective {objective.name} scores another flow")
        if not objective.metrics or len(objective.metrics) != len(objective.weights):
            _fail(f"objective {objective.name} needs one weight for each metric")
        if not objective.low < objective.high:
            _fail(f"objective {objective.name} has an empty range")
        for module, _ in objective.knobs:
            _member(module, graph.modules, f"knob of objective {objective.name}")


# -- types -----------------------------------------------------------------------------------------------------------


def _verify_types(graph: Graph) -> None:
    """Enums and records anywhere in the graph are the declared ones, or outputs of a module or flow."""
    owners: list[ModuleSpec | FlowSpec] = [*graph.modules, *graph.flows]
    types: list[EnumType | RecordType] = [*graph.enums, *graph.records, *(owner.output_type for owner in owners)]
    declared: dict[str, EnumType | RecordType] = {one.name: one for one in types}
    for enum in graph.enums:
        _unique((member.name for member in enum.members), f"members of enum {enum.name}")
        _unique(enum.labels, f"labels of enum {enum.name}")
        if not enum.members:
            _fail(f"enum {enum.name} has no member")
    for record in graph.records:
        _known_fields(record.fields, declared, record.name)
    for owner in owners:
        _known_fields((*owner.inputs, *owner.outputs), declared, owner.name)
    for flow in graph.flows:
        for node in walk(flow.body):
            _known(node.type, declared, node.id)
    for dataset in graph.datasets:
        _known(dataset.record, declared, dataset.name)
    for metric in graph.metrics:
        _known_fields((metric.gold, metric.pred), declared, metric.name)


def _known_fields(fields: Iterable[Field], declared: dict[str, EnumType | RecordType], owner: str) -> None:
    for field in fields:
        _known(field.type, declared, f"{owner}.{field.name}")


def _known(found: Type, declared: dict[str, EnumType | RecordType], where: str) -> None:
    match found:
        case EnumType(name=name) | RecordType(name=name):
            if declared.get(name) != found:
                _fail(f"the type {name} of {where} is not declared, or differently")
        case ListType(element=inner) | OptionalType(inner=inner) | MapType(value=inner):
            _known(inner, declared, where)
        case UnionType(options=options):
            for option in options:
                _known(option, declared, where)
        case _:
            return


# -- parts -----------------------------------------------------------------------------------------------------------


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)


def _fail(message: str) -> NoReturn:
    raise GraphInvariantError(message)


def _member(name: str, parts: Iterable[_Part], what: str) -> _Part:
    for part in parts:
        if part.name == name:
            return part
    _fail(f"{what}: there is no {name!r}")


def _in_scope(expression: Expr, scope: Iterable[ValueId], where: str) -> None:
    for value in references(expression):
        if value not in scope:
            _fail(f"{where} reads {value}, which is not in scope there")


def _same_names(operands: tuple[Operand, ...], fields: tuple[Field, ...], what: str) -> None:
    if [operand.name for operand in operands] != [field.name for field in fields]:
        _fail(f"{what} are {[operand.name for operand in operands]}, not {[field.name for field in fields]}")


def _new(id: str, seen: set[str]) -> None:
    if id in seen:
        _fail(f"two values have the id {id}")
    seen.add(id)


def _unique(names: Iterable[str], what: str) -> None:
    listed = list(names)
    if len(set(listed)) != len(listed):
        _fail(f"{what} are not unique: {listed}")
