"""A flow made ready to execute: closures for expressions, who waits for whom, and how call keys are formed.

Made once a graph and shared by all its runs; it holds no values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lmgraph.graph.graph import FlowSpec
from lmgraph.graph.nodes import ExprNode, LmCall, MapNode, Node, Operand, Region, node_references, references
from lmgraph.runtime.expressions import Evaluator, compile_expression


@dataclass(frozen=True, slots=True)
class PlannedOperand:
    name: str
    evaluate: Evaluator
    reads: tuple[str, ...]
    """Values whose failure is this operand's failure."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    id: str
    local: str
    """The last part of the id: call keys are the region's key, a slash, this."""
    module: str
    arguments: tuple[PlannedOperand, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedExpr:
    id: str
    local: str
    value: PlannedOperand
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedMap:
    id: str
    local: str
    items: PlannedOperand
    element: str
    """Value id of the body's parameter."""
    condition: PlannedOperand | None
    body: RegionPlan
    reads: tuple[str, ...]


PlannedNode: TypeAlias = PlannedCall | PlannedExpr | PlannedMap


@dataclass(frozen=True, slots=True)
class RegionPlan:
    nodes: tuple[PlannedNode, ...]
    waits_for: tuple[int, ...]
    """For each node, how many nodes of this region it waits for."""
    consumers: tuple[tuple[int, ...], ...]
    """For each node, the nodes of this region that wait for it."""
    results: tuple[PlannedOperand, ...]


def plan_flow(flow: FlowSpec) -> RegionPlan:
    return _plan_region(flow.body, flow.name)


def _plan_region(region: Region, path: str) -> RegionPlan:
    nodes = tuple(_plan_node(node, path) for node in region.nodes)
    position = {node.id: index for index, node in enumerate(nodes)}
    waits = [sorted({position[value] for value in node.reads if value in position}) for node in nodes]
    consumers: list[list[int]] = [[] for _ in nodes]
    for index, sources in enumerate(waits):
        for source in sources:
            consumers[source].append(index)
    return RegionPlan(
        nodes,
        tuple(len(sources) for sources in waits),
        tuple(tuple(indices) for indices in consumers),
        _operands(region.results),
    )


def _plan_node(node: Node, path: str) -> PlannedNode:
    local = node.id[len(path) + 1 :]
    reads = tuple(dict.fromkeys(node_references(node)))
    match node:
        case LmCall():
            return PlannedCall(node.id, local, node.module, _operands(node.arguments), reads)
        case ExprNode():
            return PlannedExpr(node.id, local, _operand(Operand("", node.expression)), reads)
        case MapNode():
            condition = None if node.condition is None else _operand(Operand("if", node.condition))
            return PlannedMap(
                node.id,
                local,
                _operand(Operand("in", node.items)),
                node.body.parameters[0].id,
                condition,
                _plan_region(node.body, node.id),
                reads,
            )


def _operands(operands: Sequence[Operand]) -> tuple[PlannedOperand, ...]:
    return tuple(_operand(operand) for operand in operands)


def _operand(operand: Operand) -> PlannedOperand:
    reads = tuple(dict.fromkeys(references(operand.value)))
    return PlannedOperand(operand.name, compile_expression(operand.value), reads)
