"""Short ways to write parts of graphs by hand, and to change a node of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from lmgraph.graph.graph import ExternSpec, FlowSpec, Graph, ModuleSpec
from lmgraph.graph.nodes import (
    Apply,
    Expr,
    ExternCall,
    GetField,
    LmCall,
    Node,
    NodeId,
    Operand,
    Operator,
    Parameter,
    Ref,
    Region,
    ValueId,
)
from lmgraph.graph.types import Field, Type


def ref(value: str, *path: str) -> Expr:
    """The value, or a field of it."""
    found: Expr = Ref(ValueId(value))
    for name in path:
        found = GetField(found, name)
    return found


def apply(operator: Operator, *operands: Expr) -> Apply:
    return Apply(operator, operands)


def operands(**values: Expr) -> tuple[Operand, ...]:
    return tuple(Operand(name, value) for name, value in values.items())


def unnamed(value: Expr) -> tuple[Operand, ...]:
    return (Operand("", value),)


def parameter(id: str, type: Type, name: str | None = None) -> Parameter:
    """Named as the last part of its id where no name is given."""
    return Parameter(ValueId(id), Field(id.replace(":", "/").rpartition("/")[2] if name is None else name, type))


def region(*nodes: Node, results: tuple[Operand, ...] = (), parameters: tuple[Parameter, ...] = ()) -> Region:
    return Region(parameters, nodes, results)


def call(id: str, module: ModuleSpec, **arguments: Expr) -> LmCall:
    return LmCall(NodeId(id), module.name, operands(**arguments), module.output_type)


def extern_call(id: str, extern: ExternSpec, **arguments: Expr) -> ExternCall:
    match extern.kind:
        case "fn":
            return ExternCall(NodeId(id), extern.name, operands(**arguments), extern.result, "fn.call")
        case "retriever":
            return ExternCall(NodeId(id), extern.name, operands(**arguments), extern.result, "retrieve")
        case "tool":
            return ExternCall(NodeId(id), extern.name, operands(**arguments), extern.result, "tool.call")


def flow(
    name: str, inputs: tuple[Field, ...], outputs: tuple[Field, ...], *nodes: Node, results: tuple[Operand, ...]
) -> FlowSpec:
    given = tuple(Parameter(ValueId(f"{name}/{one.name}"), one) for one in inputs)
    return FlowSpec(name, inputs, outputs, Region(given, nodes, results))


# -- changes ---------------------------------------------------------------------------------------------------------


def changed(graph: Graph, id: str, change: Callable[[Any], Node | Sequence[Node]]) -> Graph:
    """The graph with the node of this id, which may stand at any depth, replaced by what ``change`` makes of it."""
    flows = tuple(replace(one, body=_changed(one.body, id, change)) for one in graph.flows)
    metrics = tuple(
        one if one.body is None else replace(one, body=_changed(one.body, id, change)) for one in graph.metrics
    )
    found = replace(graph, flows=flows, metrics=metrics)
    assert found != graph, f"no node {id} was changed"
    return found


def _changed(region: Region, id: str, change: Callable[[Any], Node | Sequence[Node]]) -> Region:
    nodes: list[Node] = []
    for node in region.nodes:
        if node.id == id:
            made = change(node)
            nodes += made if isinstance(made, Sequence) else [made]
            continue
        inner = {
            one.name: _changed(getattr(node, one.name), id, change)
            for one in fields(node)
            if isinstance(getattr(node, one.name), Region)
        }
        nodes.append(replace(node, **inner))  # type: ignore[arg-type]
    return replace(region, nodes=tuple(nodes))
