"""Hoisting: what no round of a loop changes is computed before it.

Out of loops go expressions, and calls of an `fn` that the first round makes in any case. Out of maps go expressions
that cannot fail: a map may have no element, and then a call would be one too many. Models, retrievers and tools stay:
each round asks anew. A call keeps its key, that of the first round; a value that fails, fails as it did there.
"""

from __future__ import annotations

from dataclasses import replace

from lmgraph.graph.expressions import Const, Ref
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExprNode, ExternCall, LoopNode, MapNode, Node, Region
from lmgraph.graph.walk import leaves, node_references, values_of
from lmgraph.passes.facts import Facts
from lmgraph.passes.rewrite import each_body, with_nodes, with_regions


def hoist(graph: Graph) -> Graph:
    """Regions keep the order of their nodes; what is taken out stands just before the loop or map."""
    facts = Facts(graph)
    return each_body(graph, lambda name, body: _Hoisting(facts, calls=name not in facts.watched).region(body))


class _Hoisting:
    def __init__(self, facts: Facts, *, calls: bool) -> None:
        self._facts = facts
        self._calls = calls
        """Whether calls may go."""

    def region(self, region: Region) -> Region:
        nodes: list[Node] = []
        for node in region.nodes:
            inner = with_regions(node, self.region)
            if isinstance(inner, LoopNode):
                inner = self._loop(inner, nodes)
            elif isinstance(inner, MapNode):
                inner = self._map(inner, nodes)
            nodes.append(inner)
        return with_nodes(region, nodes)

    def _loop(self, loop: LoopNode, before: list[Node]) -> LoopNode:
        # A loop that acts is not begun where an assert before it is false: its calls would not be made either.
        calls = self._calls and loop.limit > 0 and loop.id not in self._facts.acting
        changing = {one.id for one in loop.body.parameters}
        kept: list[Node] = []
        left = False
        for node in loop.body.nodes:
            # Behind an exit a value may be known to be there that is not there before it.
            same = not left and changing.isdisjoint(node_references(node))
            if same and (_is_work(node) or (_is_fn(node) and calls)):
                before.append(node)
                continue
            kept.append(node)
            changing.update(values_of(node))
            left = left or leaves(node)
        return replace(loop, body=with_nodes(loop.body, kept))

    def _map(self, each: MapNode, before: list[Node]) -> MapNode:
        def split(region: Region) -> Region:
            changing = {each.element.id}
            kept: list[Node] = []
            for node in region.nodes:
                same = changing.isdisjoint(node_references(node))
                if same and isinstance(node, ExprNode) and _is_work(node) and self._facts.is_total(node.expression):
                    before.append(node)
                else:
                    kept.append(node)
                    changing.update(values_of(node))
            return with_nodes(region, kept)

        if each.condition is None:
            return replace(each, body=split(each.body))
        return replace(each, condition=split(each.condition))  # its body is computed for what it keeps, or not at all


def _is_work(node: Node) -> bool:
    """Whether it computes something: a constant, or a second name, gains nothing elsewhere."""
    return isinstance(node, ExprNode) and not isinstance(node.expression, Const | Ref)


def _is_fn(node: Node) -> bool:
    return isinstance(node, ExternCall) and node.kind == "fn.call"
