"""Schedule: of what can start at once, what the longest chain of calls waits for starts first.

A region's nodes are put into the order of list scheduling (Hu, Operations Research 9, 1961): a node's priority is the
longest chain from its start to the end of its region, as graph/critical.py measures it. Where engines have more
requests than room, those that came first go first.

What fails the region, acts, checks or leaves keeps its place among its like, so that the first cause is the same.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import add

from lmgraph.graph.critical import CriticalPaths
from lmgraph.graph.effects import holding
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import Region
from lmgraph.graph.walk import leaves, node_references, values_of
from lmgraph.passes.facts import is_felt
from lmgraph.passes.rewrite import each_body, with_nodes, with_regions


def schedule(graph: Graph) -> Graph:
    """Changes the order of nodes in regions, where two calls of one need not wait for each other, and nothing else."""
    scheduling = _Scheduling(graph)
    return each_body(graph, lambda name, body: scheduling.region(body))


class _Scheduling:
    def __init__(self, graph: Graph) -> None:
        self._felt = holding(graph, is_felt)
        self._paths = CriticalPaths(graph, self._waits)

    def region(self, region: Region) -> Region:
        region = with_nodes(region, [with_regions(node, self.region) for node in region.nodes])
        own = [self._paths.length(node) for node in region.nodes]
        if sum(length > 0 for length in own) < 2:
            return region
        to_the_end = list(map(add, own, self._paths.behind(region)))
        order = _by_priority(self._waits(region), to_the_end)
        return with_nodes(region, [region.nodes[index] for index in order])

    def _waits(self, region: Region) -> list[set[int]]:
        """For each node the earlier ones that it must stay behind."""
        position = {value: index for index, node in enumerate(region.nodes) for value in values_of(node)}
        waits: list[set[int]] = []
        fixed: int | None = None
        exit: int | None = None
        for index, node in enumerate(region.nodes):
            behind = {position[value] for value in node_references(node) if value in position}
            behind |= {one for one in (exit,) if one is not None}
            if leaves(node):
                behind, exit, fixed = set(range(index)), index, index
            elif node.id in self._felt:
                behind, fixed = behind | ({fixed} if fixed is not None else set()), index
            waits.append(behind)
        return waits


def _by_priority(waits: list[set[int]], priority: list[int]) -> list[int]:
    """A topological order: of the nodes that may come next the one of the highest priority, the first of equal ones."""
    missing = [len(behind) for behind in waits]
    followers: list[list[int]] = [[] for _ in waits]
    for index, behind in enumerate(waits):
        for before in behind:
            followers[before].append(index)
    ready: list[tuple[int, int]] = []
    for index, count in enumerate(missing):
        if count == 0:
            heappush(ready, (-priority[index], index))
    order: list[int] = []
    while ready:
        _, index = heappop(ready)
        order.append(index)
        for follower in followers[index]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heappush(ready, (-priority[follower], follower))
    return order
