"""Sharing: a call of an `fn` that one before it has made already, with the same arguments, is not made again.

An `fn` is declared pure, so the second call would give the same, or fail the same way. Models, retrievers and tools are
left alone: a model's answers are shared at run time, where a cache holds them. So are flows that a metric watches.
"""

from __future__ import annotations

from lmgraph.graph.expressions import Expr, Ref, substituted
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExprNode, ExternCall, Node, Region, ValueId
from lmgraph.passes.facts import watched
from lmgraph.passes.rewrite import each_body, with_expressions, with_nodes, with_regions


def share(graph: Graph) -> Graph:
    """Leaves a second name for the first call's value in place of the second call."""
    left_alone = watched(graph)
    return each_body(graph, lambda name, body: body if name in left_alone else _Sharing().region(body, {}))


class _Sharing:
    def __init__(self) -> None:
        self._same: dict[ValueId, Expr] = {}

    def region(self, region: Region, made: dict[str, ValueId]) -> Region:
        """``made`` are the calls before it, which run where it does."""
        made = dict(made)
        return with_nodes(region, [self._node(node, made) for node in region.nodes], self._expression)

    def _node(self, node: Node, made: dict[str, ValueId]) -> Node:
        node = with_regions(with_expressions(node, self._expression), lambda inner: self.region(inner, made))
        if not (isinstance(node, ExternCall) and node.kind == "fn.call"):
            return node
        call = repr((node.extern, node.arguments))  # as text: 1, 1.0 and true are equal in Python
        first = made.setdefault(call, ValueId(node.id))
        if first == ValueId(node.id):
            return node
        self._same[ValueId(node.id)] = Ref(first)
        return ExprNode(node.id, Ref(first), node.type)

    def _expression(self, expression: Expr) -> Expr:
        return substituted(expression, self._same)
