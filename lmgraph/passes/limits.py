"""Limit pushdown: of a list of which only the first elements, or only the length, are read, no more is made.

    drafts = [(Write(topic).text catch "") for topic in topics]
    return (first=drafts[0], count=len(drafts))

Here `Write` is asked once. It is exact where no element can fail, which a `catch` sees to: one failed element fails the
whole map. A list that is too short for an index fails as before.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from lmgraph.graph.effects import holding
from lmgraph.graph.expressions import (
    Apply,
    Choose,
    Const,
    Expr,
    GetItem,
    MakeList,
    Ref,
    ValueId,
    references,
    with_parts,
)
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import CheckNode, MapNode, Node, NodeId, Region
from lmgraph.graph.walk import inner_expressions, inner_regions, own_expressions, walk
from lmgraph.passes.facts import Facts, is_call, is_felt
from lmgraph.passes.rewrite import each_body, with_expressions, with_nodes, with_regions

MOST_TAKEN = 8
"""More elements than these are not written out."""


def push_limits(graph: Graph) -> Graph:
    """Shortens what maps run over, and reads lengths off the lists that maps run over."""
    facts = Facts(graph)
    felt = holding(graph, is_felt)
    return each_body(graph, lambda name, body: body if name in facts.watched else _limited(body, facts, felt))


def _limited(body: Region, facts: Facts, felt: Set[NodeId]) -> Region:
    lengths: dict[ValueId, Expr] = {}
    limits: dict[ValueId, int] = {}
    found = {
        ValueId(node.id): node
        for node in walk(body)
        if isinstance(node, MapNode)
        and node.condition is None
        and isinstance(node.items, Ref | MakeList)
        and ValueId(node.id) in facts.sure
        and any(map(is_call, walk(node.body)))
        and node.id not in felt
    }
    if not found:
        return body
    uses = _Uses()
    uses.region(body)
    for value, node in found.items():
        if value in uses.otherwise:
            continue
        lengths[value] = node.items
        limits[value] = 1 + max(uses.indices.get(value, [-1]))

    def expression(part: Expr) -> Expr:
        match part:
            case Apply(operator="len", operands=(Ref(value=value),)) if value in lengths:
                return Apply("len", (lengths[value],))
            case _:
                return with_parts(part, expression)

    def region(part: Region) -> Region:
        return with_nodes(part, [changed(node) for node in part.nodes], expression)

    def changed(node: Node) -> Node:
        node = with_regions(with_expressions(node, expression), region)
        if isinstance(node, MapNode) and (limit := limits.get(ValueId(node.id))) is not None and limit <= MOST_TAKEN:
            return replace(node, items=_first(node.items, limit))
        return node

    return region(body)


def _first(items: Expr, limit: int) -> Expr:
    """The first elements of the list, or all where it has no more."""
    if isinstance(items, MakeList):
        return MakeList(items.items[:limit])
    longer = Apply(">", (Apply("len", (items,)), Const(limit)))
    return Choose(longer, MakeList(tuple(GetItem(items, Const(index)) for index in range(limit))), items)


class _Uses:
    """How values are read: at which fixed indices, and otherwise than by index or length."""

    def __init__(self) -> None:
        self.indices: dict[ValueId, list[int]] = {}
        self.otherwise: set[ValueId] = set()

    def region(self, region: Region) -> None:
        for node in region.nodes:
            for expression in own_expressions(node):
                if isinstance(node, CheckNode):  # its record holds what it read
                    self.otherwise.update(references(expression))
                else:
                    self._expression(expression)
            for inner in inner_regions(node):
                self.region(inner)
        for result in region.results:
            self._expression(result.value)

    def _expression(self, expression: Expr) -> None:
        match expression:
            case Ref(value=value):
                self.otherwise.add(value)
            case Apply(operator="len", operands=(Ref(),)):
                pass
            case GetItem(base=Ref(value=value), index=Const(value=int(index))) if index >= 0:
                self.indices.setdefault(value, []).append(index)
            case _:
                for part in inner_expressions(expression):
                    self._expression(part)
