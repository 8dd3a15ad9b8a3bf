"""Schedule: of what can start at once, what the longest chain of calls waits for starts first.

A region's nodes are put into the order of list scheduling (Hu, Operations Research 9, 1961): a node's priority is the
longest chain from its start to the end of its region. A chain is measured in tokens that its models may write, retries
left out, and one for each call of Python. Where engines have more requests than room, those that came first go first.

What fails the region, acts, checks or leaves keeps its place among its like, so that the first cause is the same.
"""

from __future__ import annotations

from heapq import heappop, heappush

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    CatchNode,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    Region,
)
from lmgraph.graph.walk import inner_regions, leaves, node_references, values_of
from lmgraph.passes.facts import holding, is_felt
from lmgraph.passes.rewrite import each_body, with_nodes, with_regions


def schedule(graph: Graph) -> Graph:
    """Changes the order of nodes in regions, where two calls of one need not wait for each other, and nothing else."""
    scheduling = _Scheduling(graph)
    return each_body(graph, lambda name, body: scheduling.region(body))


class _Scheduling:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._felt = holding(graph, is_felt)
        self._flows: dict[str, int] = {}
        self._lengths: dict[str, int] = {}
        """Of nodes by id: a region's order does not change them."""

    def region(self, region: Region) -> Region:
        nodes = [with_regions(node, self.region) for node in region.nodes]
        own = [self._length(node) for node in nodes]
        if sum(length > 0 for length in own) < 2:
            return with_nodes(region, nodes)
        waits = self._waits(nodes)
        order = _by_priority(waits, _to_the_end(waits, own))
        return with_nodes(region, [nodes[index] for index in order])

    def _waits(self, nodes: list[Node]) -> list[set[int]]:
        """For each node the earlier ones that it must stay behind."""
        position = {value: index for index, node in enumerate(nodes) for value in values_of(node)}
        waits: list[set[int]] = []
        fixed: int | None = None
        exit: int | None = None
        for index, node in enumerate(nodes):
            behind = {position[value] for value in node_references(node) if value in position}
            behind |= {one for one in (exit,) if one is not None}
            if leaves(node):
                behind, exit, fixed = set(range(index)), index, index
            elif node.id in self._felt:
                behind, fixed = behind | ({fixed} if fixed is not None else set()), index
            waits.append(behind)
        return waits

    # -- lengths, in tokens ------------------------------------------------------------------------------------------

    def _length(self, node: Node) -> int:
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
            case MapNode() | CatchNode():
                return sum(map(self._longest, inner_regions(node)))
            case _:
                return 0

    def _longest(self, region: Region) -> int:
        nodes = list(region.nodes)
        return max(_to_the_end(self._waits(nodes), [self._length(node) for node in nodes]), default=0)


def _to_the_end(waits: list[set[int]], own: list[int]) -> list[int]:
    """For each node the length of the longest chain that starts with it."""
    longest = list(own)
    for index in range(len(waits) - 1, -1, -1):
        for before in waits[index]:
            longest[before] = max(longest[before], own[before] + longest[index])
    return longest


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
