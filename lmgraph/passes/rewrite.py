"""Nodes, regions and graphs made anew with parts of them changed. What has not changed stays the same object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    Carried,
    CatchNode,
    CheckNode,
    ExitIf,
    Expr,
    ExprNode,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    Operand,
    Region,
    ReleaseNode,
    Return,
)

Change: TypeAlias = Callable[[Expr], Expr]


def each_body(graph: Graph, change: Callable[[str, Region], Region]) -> Graph:
    """The graph with other bodies of flows and metrics; ``change`` is given the name of each."""
    return replace(
        graph,
        flows=tuple(replace(flow, body=change(flow.name, flow.body)) for flow in graph.flows),
        metrics=tuple(
            metric if metric.body is None else replace(metric, body=change(metric.name, metric.body))
            for metric in graph.metrics
        ),
    )


def with_nodes(region: Region, nodes: Sequence[Node], change: Change = lambda expression: expression) -> Region:
    """The region with these nodes; ``change`` is asked for its results."""
    return Region(region.parameters, tuple(nodes), _operands(region.results, change))


def with_regions(node: Node, change: Callable[[Region], Region]) -> Node:
    """The node with other regions; ``change`` is asked for each in source order."""
    match node:
        case MapNode(condition=condition, body=body):
            kept = None if condition is None else change(condition)
            return replace(node, condition=kept, body=change(body))
        case IfNode(then=then, otherwise=otherwise):
            return replace(node, then=change(then), otherwise=change(otherwise))
        case LoopNode(body=body):
            return replace(node, body=change(body))
        case CatchNode(body=body, fallback=fallback):
            return replace(node, body=change(body), fallback=change(fallback))
        case _:
            return node


def with_expressions(node: Node, change: Change) -> Node:
    """The node with other expressions of its own. A check keeps what it says: its record names what it read."""
    match node:
        case LmCall() | ExternCall() | FlowCall():
            return replace(node, arguments=_operands(node.arguments, change))
        case ExprNode() | ReleaseNode():
            return replace(node, expression=change(node.expression))
        case IfNode():
            return replace(node, condition=change(node.condition))
        case MapNode():
            return replace(node, items=change(node.items))
        case LoopNode():
            return replace(node, carried=tuple(Carried(one.parameter, change(one.initial)) for one in node.carried))
        case ExitIf():
            return replace(node, condition=change(node.condition), results=_operands(node.results, change))
        case Return():
            return replace(node, results=_operands(node.results, change))
        case CheckNode() | CatchNode():
            return node


def _operands(operands: tuple[Operand, ...], change: Change) -> tuple[Operand, ...]:
    return tuple(Operand(one.name, change(one.value)) for one in operands)
