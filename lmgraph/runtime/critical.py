"""Critical paths: how many calls of modules wait, one after another, for a node of a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import FlowCall, IfNode, LmCall, Node, Region
from lmgraph.graph.walk import inner_regions

Waits = Callable[[Region], Sequence[Collection[int]]]
"""For each node of a region the earlier ones that it waits for."""


class CriticalPaths:
    """Of one graph. A loop counts as one round, an `if` as its longer side, and a map as one element."""

    def __init__(self, graph: Graph, waits: Waits) -> None:
        self._graph = graph
        self._waits = waits
        self._known: dict[int, int] = {}
        """By the identity of a region, which lives as long as the graph."""

    def behind(self, region: Region, after: int) -> list[int]:
        """For each node the calls that wait for it, where ``after`` calls wait for the region."""
        found = [after] * len(region.nodes)
        waits = self._waits(region)
        for index in range(len(region.nodes) - 1, -1, -1):
            here = found[index] + self._within(region.nodes[index])
            for source in waits[index]:
                found[source] = max(found[source], here)
        return found

    def _within(self, node: Node) -> int:
        match node:
            case LmCall():
                return 1
            case FlowCall(flow=flow):
                return self._longest(self._graph.flow(flow).body)
            case IfNode(then=then, otherwise=otherwise):
                return max(self._longest(then), self._longest(otherwise))
            case _:
                return sum(map(self._longest, inner_regions(node)))

    def _longest(self, region: Region) -> int:
        found = self._known.get(id(region))
        if found is None:
            behind = self.behind(region, 0)
            ways = (here + self._within(node) for here, node in zip(behind, region.nodes, strict=True))
            found = self._known[id(region)] = max(ways, default=0)
        return found
