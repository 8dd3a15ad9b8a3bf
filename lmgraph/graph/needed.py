"""What a run cannot complete without: nodes whose failure is that of the flow, unless a `catch` is around them.

Errs on the safe side: a node that is needed may count as one that is not, as those are that only some ways through the
flow need, and what loops carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from lmgraph.graph.expressions import Apply, Choose, Expr, Ref, ValueId
from lmgraph.graph.nodes import CheckNode, ExitIf, IfNode, LoopNode, Node, NodeId, Region
from lmgraph.graph.walk import inner_expressions, inner_regions, leaves, own_expressions, values_of


def needed_nodes(body: Region, must_succeed: Set[NodeId]) -> frozenset[NodeId]:
    """Nodes of the body, those of nested regions included: where one is run and fails, the region that it stands in
    fails or has not all its results, and so on up to the body. ``must_succeed`` fail their region in any case."""
    needs = _Needs(must_succeed)
    needs.region(body, (result.value for result in body.results))
    return frozenset(needs.found)


class _Needs:
    def __init__(self, must_succeed: Set[NodeId]) -> None:
        self.found: set[NodeId] = set()
        self._must_succeed = must_succeed

    def region(self, region: Region, results: Iterable[Expr]) -> None:
        """``results`` are those that are needed where the region is run."""
        needed = set(_always_read(results))
        for node in reversed(region.nodes):
            self._inside(node, needed)
            if leaves(node):
                needed.clear()  # what is needed behind it is not where control leaves
            elif node.id not in self._must_succeed and needed.isdisjoint(values_of(node)):
                continue
            self.found.add(node.id)
            needed.update(_always_read(_needed_by(node)))

    def _inside(self, node: Node, needed: Set[ValueId]) -> None:
        for inner in inner_regions(node):
            results = zip(values_of(node), inner.results, strict=False)
            known = not isinstance(node, LoopNode)  # of what a loop carries, a later round may need nothing
            self.region(inner, (result.value for value, result in results if known and value in needed))


def _needed_by(node: Node) -> tuple[Expr, ...]:
    """What the node has no value without, and fails its region where it must succeed."""
    match node:
        case ExitIf(condition=condition) | CheckNode(condition=condition) | IfNode(condition=condition):
            return (condition,)
        case LoopNode():
            return ()
        case _:
            return own_expressions(node)


def _always_read(expressions: Iterable[Expr]) -> Iterator[ValueId]:
    """Values that are read whenever the expressions are computed."""
    for expression in expressions:
        match expression:
            case Ref(value=value):
                yield value
            case Choose(condition=first) | Apply(operator="and" | "or", operands=(first, _)):
                yield from _always_read([first])
            case _:
                yield from _always_read(inner_expressions(expression))
