"""Which flows and nodes may act: they call a tool, or hold or call something that does."""

from __future__ import annotations

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExternCall, FlowCall, Node, NodeId, Region
from lmgraph.graph.walk import inner_regions, walk


def acting_flows(graph: Graph) -> frozenset[str]:
    """Names of the flows that may act."""
    callers: dict[str, list[str]] = {}
    acting: dict[str, None] = {}
    for flow in graph.flows:
        for node in walk(flow.body):
            if isinstance(node, FlowCall):
                callers.setdefault(node.flow, []).append(flow.name)
            elif isinstance(node, ExternCall) and node.kind == "tool.call":
                acting[flow.name] = None
    waiting = list(acting)
    while waiting:
        for caller in callers.get(waiting.pop(), ()):
            if caller not in acting:
                acting[caller] = None
                waiting.append(caller)
    return frozenset(acting)


def acting_nodes(region: Region, flows: frozenset[str]) -> frozenset[NodeId]:
    """Ids of the nodes of the region, and of the regions inside it, that may act; ``flows`` are those that may."""
    found: set[NodeId] = set()
    _add_acting(region, flows, found)
    return frozenset(found)


def _add_acting(region: Region, flows: frozenset[str], found: set[NodeId]) -> None:
    for node in region.nodes:
        if _acts(node, flows, found):
            found.add(node.id)


def _acts(node: Node, flows: frozenset[str], found: set[NodeId]) -> bool:
    match node:
        case ExternCall(kind=kind):
            return kind == "tool.call"
        case FlowCall(flow=flow):
            return flow in flows
        case _:
            before = len(found)
            for region in inner_regions(node):
                _add_acting(region, flows, found)
            return len(found) > before
