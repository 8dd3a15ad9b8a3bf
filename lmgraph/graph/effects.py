"""Which flows and nodes may act or must succeed: they are such, or hold or call something that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import CheckNode, ExternCall, FlowCall, Node, NodeId, Region
from lmgraph.graph.walk import inner_regions, walk


def acts(node: Node) -> bool:
    """Whether it is a call of a tool."""
    return isinstance(node, ExternCall) and node.kind == "tool.call"


def guards(node: Node) -> bool:
    """Whether it is an assert or a call of a tool: where it fails, its region does."""
    return acts(node) or (isinstance(node, CheckNode) and node.kind == "assert")


def acting_flows(graph: Graph) -> frozenset[str]:
    """Names of the flows that may act."""
    return flows_with(graph, acts)


def acting_nodes(region: Region, flows: frozenset[str]) -> frozenset[NodeId]:
    """Ids of the nodes of the region, and of the regions inside it, that may act; ``flows`` are those that may."""
    return nodes_with(region, flows, acts)


def bodies(graph: Graph) -> Iterator[tuple[str, Region]]:
    """The bodies of flows and metrics, by name."""
    for flow in graph.flows:
        yield flow.name, flow.body
    for metric in graph.metrics:
        if metric.body is not None:
            yield metric.name, metric.body


def holding(graph: Graph, is_one: Callable[[Node], bool]) -> frozenset[NodeId]:
    """Ids of the nodes that are such, or hold one or a call of a flow that does."""
    flows = flows_with(graph, is_one)
    return frozenset[NodeId]().union(*(nodes_with(body, flows, is_one) for _, body in bodies(graph)))


def flows_with(graph: Graph, is_one: Callable[[Node], bool]) -> frozenset[str]:
    """Names of the flows that hold such a node, or call a flow that does."""
    callers: dict[str, list[str]] = {}
    found: dict[str, None] = {}
    for flow in graph.flows:
        for node in walk(flow.body):
            if isinstance(node, FlowCall):
                callers.setdefault(node.flow, []).append(flow.name)
            elif is_one(node):
                found[flow.name] = None
    waiting = list(found)
    while waiting:
        for caller in callers.get(waiting.pop(), ()):
            if caller not in found:
                found[caller] = None
                waiting.append(caller)
    return frozenset(found)


def nodes_with(region: Region, flows: frozenset[str], is_one: Callable[[Node], bool]) -> frozenset[NodeId]:
    """Ids of the nodes of the region, and of those inside it, that are such, hold one or call one of ``flows``."""
    found: set[NodeId] = set()
    _add(region, flows, is_one, found)
    return frozenset(found)


def _add(region: Region, flows: frozenset[str], is_one: Callable[[Node], bool], found: set[NodeId]) -> None:
    for node in region.nodes:
        before = len(found)
        for inner in inner_regions(node):
            _add(inner, flows, is_one, found)
        if is_one(node) or len(found) > before or (isinstance(node, FlowCall) and node.flow in flows):
            found.add(node.id)
