"""Critical paths: how much waits, one thing after another, for a node of a graph.

Measured in tokens that models may write, retries left out, and one for each call of Python. A loop takes all its
rounds, an `if` its longer side, and a map as long as one element.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExternCall, FlowCall, IfNode, LmCall, LoopNode, Node, NodeId, Region
from lmgraph.graph.walk import inner_regions

Waits = Callable[[Region], Sequence[Collection[int]]]
"""For each node of a region the earlier ones that it waits for."""


class CriticalPaths:
    """Of one graph, and of graphs whose regions hold the same nodes in another order."""

    def __init__(self, graph: Graph, waits: Waits) -> None:
        self._graph = graph
        self._waits = waits
        self._lengths: dict[NodeId, int] = {}
        self._flows: dict[str, int] = {}

    def behind(self, region: Region, after: int = 0) -> list[int]:
        """For each node the longest chain that waits for it, where one of ``after`` waits for the region."""
        found = [after] * len(region.nodes)
        waits = self._waits(region)
        for index in range(len(region.nodes) - 1, -1, -1):
            here = found[index] + self.length(region.nodes[index])
            for source in waits[index]:
                found[source] = max(found[source], here)
        return found

    def length(self, node: Node) -> int:
        """Of the longest chain inside the node."""
        if node.id not in self._lengths:
            self._lengths[node.id] = self._measured(node)
        return self._lengths[node.id]

    def _measured(self, node: Node) -> int:
        match node:
            case LmCall(module=module):
                return self._graph.module(module).max_tokens
            case ExternCall():
                return 1
            case FlowCall(flow=flow):
                if flow not in self._flows:
                    self._flows[flow] = self._longest(self._graph.flow(flow).body)
                return self._flows[flow]
            case LoopNode(limit=limit, body=body):
                return limit * self._longest(body)
            case IfNode():
                return max(map(self._longest, inner_regions(node)))
            case _:
                return sum(map(self._longest, inner_regions(node)))

    def _longest(self, region: Region) -> int:
        ways = zip(self.behind(region), region.nodes, strict=True)
        return max((after + self.length(node) for after, node in ways), default=0)
