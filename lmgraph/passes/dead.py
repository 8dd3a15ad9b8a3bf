"""Dead nodes: what nothing reads is not computed, nor variables of ifs and loops that nothing reads.

A node that fails without being read does no harm, so leaving it out changes no result. Kept are tools, asserts and
checks, exits and returns, what holds one of these, and calls that a metric may see (`F.trace`).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace

from lmgraph.graph.effects import holding
from lmgraph.graph.expressions import Expr, references
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    ExitIf,
    IfNode,
    LoopNode,
    Node,
    NodeId,
    Region,
    Return,
    ValueId,
)
from lmgraph.graph.walk import inner_regions, leaves, own_expressions, values_of, walk
from lmgraph.passes.facts import is_call, is_felt, watched
from lmgraph.passes.rewrite import each_body, with_nodes, with_regions


def remove_dead(graph: Graph) -> Graph:
    """Leaves regions in their order."""
    seen = watched(graph)
    felt, called = holding(graph, is_felt), holding(graph, is_call)

    def body(name: str, region: Region) -> Region:
        return _Living(region, felt | called if name in seen else felt).region(region)

    return each_body(graph, body)


class _Living:
    """What one body needs."""

    def __init__(self, body: Region, stays: Set[NodeId]) -> None:
        self._kept = {node.id for node in walk(body) if leaves(node) or node.id in stays}
        self._loops = {node.id: node for node in walk(body) if isinstance(node, LoopNode)}
        self._needed: set[ValueId] = set()
        self._read(result.value for result in body.results)
        before = -1
        while before != len(self._needed):  # variables of loops are needed by what comes before them as well
            before = len(self._needed)
            self._mark(body)

    def region(self, region: Region) -> Region:
        """With what it needs, and nothing else."""
        return with_nodes(region, [self._shortened(node) for node in region.nodes if self._lives(node)])

    # -- what is needed ----------------------------------------------------------------------------------------------

    def _lives(self, node: Node) -> bool:
        return node.id in self._kept or not self._needed.isdisjoint(values_of(node))

    def _read(self, expressions: Iterable[Expr]) -> None:
        for expression in expressions:
            self._needed.update(references(expression))

    def _mark(self, region: Region) -> None:
        """Notes what the living nodes of the region read, from the last one to the first."""
        for node in reversed(region.nodes):
            if self._lives(node):
                self._mark_node(node)

    def _mark_node(self, node: Node) -> None:
        match node:
            case IfNode(condition=condition, results=results):
                self._read([condition])
                for inner in inner_regions(node):
                    given = zip(inner.results, results, strict=True)
                    self._read(one.value for one, parameter in given if self._is_read(node, parameter.id))
                    self._mark(inner)
            case LoopNode(carried=carried, body=body):
                for position in self._carried(node):
                    self._read([carried[position].initial, body.results[position].value])
                self._mark(body)
            case ExitIf(condition=condition, results=results, loop=loop):
                needed = self._carried(self._loops[loop])
                self._read([condition, *(results[position].value for position in needed)])
            case _:
                self._read(own_expressions(node))
                for inner in inner_regions(node):
                    self._read(result.value for result in inner.results)
                    self._mark(inner)

    def _carried(self, loop: LoopNode) -> list[int]:
        """Positions of the variables that are needed: after the loop, or in a later round."""
        return [
            position
            for position, (one, result) in enumerate(zip(loop.carried, loop.results, strict=True))
            if one.parameter.id in self._needed or result.id in self._needed
        ]

    def _is_read(self, node: IfNode, result: ValueId) -> bool:
        """Whether the result stays. One without a name has the node's id, and stays as long as the node does."""
        return result in self._needed or result == ValueId(node.id)

    # -- what is left ------------------------------------------------------------------------------------------------

    def _shortened(self, node: Node) -> Node:
        match node:
            case IfNode(results=results):
                kept = [position for position, one in enumerate(results) if self._is_read(node, one.id)]
                inner = with_regions(node, lambda region: _only(self.region(region), kept))
                assert isinstance(inner, IfNode)
                return replace(inner, results=tuple(results[index] for index in kept))
            case LoopNode(carried=carried, results=results, index=index):
                kept = self._carried(node)
                body = _only(self.region(node.body), kept)
                carries = tuple(carried[position] for position in kept)
                given = (*(() if index is None else (index,)), *(one.parameter for one in carries))
                body = replace(body, parameters=given)
                return replace(node, carried=carries, body=body, results=tuple(results[one] for one in kept))
            case ExitIf(results=results, loop=loop):
                return replace(node, results=tuple(results[one] for one in self._carried(self._loops[loop])))
            case Return():
                return node
            case _:
                return with_regions(node, self.region)


def _only(region: Region, kept: list[int]) -> Region:
    return replace(region, results=tuple(region.results[position] for position in kept))
